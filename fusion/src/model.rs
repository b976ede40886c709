//! The joined model: pixels and ids in, logits out. Differentiable throughout; the trainer runs this same code.

use candle_core::{Device, Tensor};
use swinseek_kernels::{Error, Init, Result, Trace, Weights, layers::Linear, ops::gather};
use swinseek_language::{Cache, Context, Decoder};
use swinseek_vision::Encoder;

use crate::{
    config::{FusionMode, ModelConfig},
    cross_attention::{CrossAttention, CrossMemory},
    generate::TokenModel,
    projector::{MemoryLayout, Projector},
};

/// Swin encoder, projector, cross layers and DeepSeek decoder.
#[derive(Debug)]
pub struct SwinSeek {
    config: ModelConfig,
    encoder: Encoder,
    projector: Projector,
    cross: CrossAttention,
    decoder: Decoder,
    findings_head: Option<Linear>,
}

/// A batch of encoded images.
#[derive(Debug, Clone)]
pub struct EncodedImages {
    /// `(images, tokens, hidden)` in the decoder's width.
    pub tokens: Tensor,
    /// Where each token comes from.
    pub layout: MemoryLayout,
}

/// The images of a batch of samples, as the decoder reads them. Computed once, used for every token.
#[derive(Debug, Clone)]
pub enum ImageMemory {
    /// Keys and values of the cross layers.
    Cross(CrossMemory),
    /// Tokens that stand before the prompt.
    Prefix(PrefixMemory),
}

/// Image tokens before the prompt.
#[derive(Debug, Clone)]
pub struct PrefixMemory {
    /// `(batch, tokens, hidden)`
    tokens: Tensor,
    /// Image tokens of each sample, where they differ; the rest of a row is padding.
    lengths: Option<Vec<usize>>,
}

impl SwinSeek {
    /// Reads `vision.*`, `language.*` and `fusion.{projector,cross_layers,findings_head}.*`.
    pub fn new(config: &ModelConfig, w: &Weights) -> Result<Self> {
        let hidden_size = config.language.hidden_size;
        let widths: Vec<usize> = (0..config.vision.stages()).map(|stage| config.vision.dim(stage)).collect();
        let fusion = w.pp("fusion");
        let cross_layers = fusion.pp("cross_layers");
        let head = config.fusion.findings_classes.as_ref();
        let head = head.map(|classes| findings_head(hidden_size, classes.len(), &fusion.pp("findings_head")));
        Ok(Self {
            encoder: Encoder::new(&config.vision, &w.pp("vision"))?,
            projector: Projector::new(&config.fusion, &widths, hidden_size, &fusion.pp("projector"))?,
            cross: CrossAttention::new(
                &config.cross_attention(),
                &config.fusion.cross_attention_layers,
                |i, _| cross_layers.pp(i),
            )?,
            decoder: Decoder::new(&config.language, &w.pp("language"))?,
            findings_head: head.transpose()?,
            config: config.clone(),
        })
    }

    /// The configuration this was built from.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        self.decoder.device()
    }

    /// The decoder alone.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The cross layers alone.
    pub(crate) fn cross(&self) -> &CrossAttention {
        &self.cross
    }

    /// The encoder alone.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// `pixels (images, 3, height, width)` to memory tokens. Records the encoder's tensors behind `vision.`.
    pub fn encode_images(&self, pixels: &Tensor, trace: &mut Trace) -> Result<EncodedImages> {
        trace.set_prefix("vision.");
        let features = self.encoder.forward(pixels, trace);
        trace.set_prefix("");
        let (tokens, layout) = self.projector.forward(&features?.stages)?;
        Ok(EncodedImages { tokens, layout })
    }

    /// Where the memory tokens of an image of that size come from, without running anything.
    pub fn memory_layout(&self, height: usize, width: usize) -> MemoryLayout {
        MemoryLayout::new(&self.config, height, width)
    }

    /// Logits `(images, tokens, classes)` of the findings head on the tokens of the finest chosen stage, the first
    /// `tokens` of the memory; `None` for a model without the head.
    pub fn grounding_logits(&self, images: &EncodedImages) -> Result<Option<Tensor>> {
        let Some(head) = &self.findings_head else {
            return Ok(None);
        };
        // Stages ascend, so the first map is the finest.
        let finest = images.layout.maps.first().map_or(0, |map| map.height * map.width);
        Ok(Some(head.forward(&images.tokens.narrow(1, 0, finest)?.contiguous()?)?))
    }

    /// The memory of a batch of samples: sample `i` has the next `images_per_sample[i]` of `images`, in order, one
    /// behind the other. A sample without an image is untouched by the others' images.
    pub fn image_memory(&self, images: &EncodedImages, images_per_sample: &[usize]) -> Result<ImageMemory> {
        let (count, per_image, hidden) = images.tokens.dims3()?;
        let total: usize = images_per_sample.iter().sum();
        if total != count || count == 0 {
            return Err(Error::Input(format!(
                "{count} images for samples that have {total}, expected as many and at least one"
            )));
        }
        let most = images_per_sample.iter().copied().max().unwrap_or(0);
        let uneven = images_per_sample.iter().any(|&n| n != most);
        let tokens = if uneven {
            let index = sample_rows(images_per_sample, most, per_image);
            gather::gather_rows(&images.tokens.reshape((1, count * per_image, hidden))?, &index)?
        } else {
            images.tokens.clone()
        };
        let tokens = tokens.reshape((images_per_sample.len(), most * per_image, hidden))?;
        let lengths: Option<Vec<usize>> =
            uneven.then(|| images_per_sample.iter().map(|n| n * per_image).collect());
        Ok(match self.config.fusion.mode {
            FusionMode::CrossAttention => ImageMemory::Cross(self.cross.memory(&tokens, lengths.as_deref())?),
            FusionMode::Prefix => ImageMemory::Prefix(PrefixMemory { tokens, lengths }),
        })
    }

    /// `ids (batch, tokens)` to hidden states `(batch, tokens, hidden)` after the final norm.
    ///
    /// `attention_mask (batch, tokens)` is 1 on real tokens. With a cache, `ids` are the tokens after those it
    /// holds, and prefix tokens enter with the first of them. Records the decoder's tensors and `cross.I.weights`.
    pub fn hidden_states(
        &self,
        ids: &Tensor,
        attention_mask: Option<&Tensor>,
        memory: Option<&ImageMemory>,
        cache: Option<&mut Cache>,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        match memory {
            Some(ImageMemory::Prefix(prefix)) if cache.as_ref().is_none_or(|cache| cache.is_empty()) => {
                let context = prefix.context(ids.dims2()?, attention_mask)?;
                let hidden = Tensor::cat(&[&prefix.tokens, &self.decoder.embed(ids)?], 1)?;
                let hook = self.cross.hook(None, None);
                let hidden = self.decoder.forward(&hidden, &context, cache, &hook, trace)?;
                let text = hidden.narrow(1, prefix.tokens.dim(1)?, ids.dim(1)?)?;
                Ok(text.contiguous()?)
            }
            _ => {
                let context = attention_mask.map_or_else(|| Ok(Context::causal()), Context::masked)?;
                self.text_states(ids, &context, memory, cache, trace)
            }
        }
    }

    /// A pass in which no prefix enters.
    fn text_states(
        &self,
        ids: &Tensor,
        context: &Context,
        memory: Option<&ImageMemory>,
        cache: Option<&mut Cache>,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        let cross = match memory {
            Some(ImageMemory::Cross(memory)) => Some(memory),
            _ => None,
        };
        let hook = self.cross.hook(cross, None);
        self.decoder.forward(&self.decoder.embed(ids)?, context, cache, &hook, trace)
    }

    /// Logits `(.., vocab)` of hidden states `(.., hidden)`.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.decoder.lm_head(hidden)
    }

    /// The model with its image in place, for [`crate::generate()`].
    pub fn session<'a>(&'a self, memory: Option<&'a ImageMemory>) -> SwinSeekSession<'a> {
        SwinSeekSession { model: self, memory }
    }
}

/// A fresh head says 'absent' with 99 %: the many empty cells teach nothing then, and the few findings all
/// (Lin et al. 2017, focal loss, section 4.1).
fn findings_head(hidden_size: usize, classes: usize, w: &Weights) -> Result<Linear> {
    let bias = w.get_init(&[classes], "bias", Init::Const(-4.6))?;
    Ok(Linear::no_bias(hidden_size, classes, w)?.with_bias(bias))
}

/// For each sample the rows of its images' tokens, padded to the most that a sample has.
fn sample_rows(images_per_sample: &[usize], most: usize, per_image: usize) -> Vec<u32> {
    let mut index = Vec::with_capacity(images_per_sample.len() * most * per_image);
    let mut next = 0u32;
    for &images in images_per_sample {
        let tokens = (images * per_image) as u32;
        index.extend(next..next + tokens);
        index.resize(index.len() + (most - images) * per_image, gather::ZERO_ROW);
        next += tokens;
    }
    index
}

impl ImageMemory {
    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Cross(memory) => memory.bytes(),
            Self::Prefix(prefix) => prefix.tokens.elem_count() * prefix.tokens.dtype().size_in_bytes(),
        }
    }

    /// The memories of single images as that of one sample that has them all, one behind the other: bit for bit what
    /// [`SwinSeek::image_memory`] gives for the images together.
    pub fn join(parts: &[&Self]) -> Result<Self> {
        let mixed = || Error::Input("memories of two kinds cannot be joined".to_owned());
        if let [one] = parts {
            return Ok((*one).clone());
        }
        match parts.first() {
            Some(Self::Cross(_)) => {
                let part = |part: &&Self| match part {
                    Self::Cross(memory) => Some(memory.clone()),
                    Self::Prefix(_) => None,
                };
                let memories = parts.iter().map(part).collect::<Option<Vec<_>>>().ok_or_else(mixed)?;
                Ok(Self::Cross(CrossMemory::join(&memories.iter().collect::<Vec<_>>())?))
            }
            Some(Self::Prefix(_)) => {
                let part = |part: &&Self| match part {
                    Self::Prefix(prefix) if prefix.lengths.is_none() => Some(prefix.tokens.clone()),
                    _ => None,
                };
                let tokens = parts.iter().map(part).collect::<Option<Vec<_>>>().ok_or_else(mixed)?;
                Ok(Self::Prefix(PrefixMemory { tokens: Tensor::cat(&tokens, 1)?, lengths: None }))
            }
            None => Err(Error::Input("there are no images to join".to_owned())),
        }
    }
}

impl PrefixMemory {
    /// Padding of prefix and text together; positions count the real tokens of both.
    fn context(&self, (batch, tokens): (usize, usize), attention_mask: Option<&Tensor>) -> Result<Context> {
        if self.lengths.is_none() && attention_mask.is_none() {
            return Ok(Context::causal());
        }
        let prefix = self.tokens.dim(1)?;
        let lengths = self.lengths.clone().unwrap_or_else(|| vec![prefix; batch]);
        let real = lengths.iter().flat_map(|&n| (0..prefix).map(move |j| u32::from(j < n))).collect();
        let real = Tensor::from_vec(real, (batch, prefix), &Device::Cpu)?;
        let text = match attention_mask {
            Some(mask) => mask.to_dtype(real.dtype())?,
            None => Tensor::ones((batch, tokens), real.dtype(), &Device::Cpu)?,
        };
        Context::masked(&Tensor::cat(&[real, text], 1)?)
    }
}

/// A [`SwinSeek`] with the image of one prompt.
#[derive(Debug, Clone, Copy)]
pub struct SwinSeekSession<'a> {
    model: &'a SwinSeek,
    memory: Option<&'a ImageMemory>,
}

impl TokenModel for SwinSeekSession<'_> {
    type Cache = Cache;

    fn context_length(&self) -> usize {
        let prefix = match self.memory {
            Some(ImageMemory::Prefix(prefix)) => prefix.tokens.dim(1).unwrap_or(0),
            _ => 0,
        };
        self.model.config.language.max_position_embeddings.saturating_sub(prefix)
    }

    fn new_cache(&self) -> Cache {
        Cache::new(&self.model.config.language)
    }

    /// `context` is not used where a prefix enters: its padding is for [`SwinSeek::hidden_states`].
    fn forward(
        &self,
        ids: &Tensor,
        context: &Context,
        cache: Option<&mut Cache>,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        match self.memory {
            Some(ImageMemory::Prefix(_)) => self.model.hidden_states(ids, None, self.memory, cache, trace),
            _ => self.model.text_states(ids, context, self.memory, cache, trace),
        }
    }

    fn head(&self, hidden: &Tensor) -> Result<Tensor> {
        self.model.logits(hidden)
    }

    fn select_rows(&self, cache: &mut Cache, rows: &[usize]) -> Result<()> {
        cache.select_rows(rows)
    }
}
