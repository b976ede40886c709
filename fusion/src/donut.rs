//! Donut (Kim et al. 2022, arXiv 2111.15664) as `transformers` publishes it: a `VisionEncoderDecoderModel` of a
//! Donut-Swin encoder and an mBART decoder that attends to the image in every layer.

use candle_core::Tensor;
use serde_json::Value;
use swinseek_kernels::{Error, Result, Trace, Weights, layers::Linear};
use swinseek_language::{
    Context,
    mbart::{MbartCache, MbartConfig, MbartDecoder, MbartMemory},
};
use swinseek_vision::{Encoder, VisionConfig};

use crate::{config::below, generate::TokenModel};

/// Both halves' configurations.
#[derive(Debug, Clone)]
pub struct DonutConfig {
    /// The image encoder.
    pub encoder: VisionConfig,
    /// The text decoder.
    pub decoder: MbartConfig,
    /// Whether `enc_to_dec_proj` maps the encoder's width to the decoder's.
    pub projects: bool,
}

impl DonutConfig {
    /// Reads a `vision-encoder-decoder` configuration.
    pub fn from_json(json: &Value) -> Result<Self> {
        let part =
            |name: &str| json.get(name).ok_or_else(|| Error::config(name, "is missing, expected an object"));
        let decoder_json = part("decoder")?;
        let kind = decoder_json.get("model_type").and_then(Value::as_str).unwrap_or("nothing");
        if kind != "mbart" {
            return Err(Error::config("decoder.model_type", format!("is {kind}, expected mbart")));
        }
        let encoder = VisionConfig::from_json(part("encoder")?).map_err(|error| below("encoder", error))?;
        let decoder = MbartConfig::from_json(decoder_json).map_err(|error| below("decoder", error))?;
        let cross = decoder_json.get("cross_attention_hidden_size").and_then(Value::as_u64);
        let projects = encoder.hidden_size() != decoder.hidden_size && cross.is_none();
        Ok(Self { encoder, decoder, projects })
    }
}

/// The model.
#[derive(Debug)]
pub struct Donut {
    encoder: Encoder,
    projection: Option<Linear>,
    /// The decoder.
    pub decoder: MbartDecoder,
}

impl Donut {
    /// Reads `encoder.*`, `decoder.*` and, where the widths differ, `enc_to_dec_proj.*`.
    pub fn new(config: &DonutConfig, w: &Weights) -> Result<Self> {
        let (from, to) = (config.encoder.hidden_size(), config.decoder.hidden_size);
        let projection = config.projects.then(|| Linear::new(from, to, &w.pp("enc_to_dec_proj")));
        Ok(Self {
            encoder: Encoder::new(&config.encoder, &w.pp("encoder"))?,
            projection: projection.transpose()?,
            decoder: MbartDecoder::new(&config.decoder, &w.pp("decoder"))?,
        })
    }

    /// `pixels (batch, 3, height, width)` to what the decoder attends to. Records the encoder's tensors behind
    /// `encoder.`.
    pub fn memory(&self, pixels: &Tensor, trace: &mut Trace) -> Result<MbartMemory> {
        trace.set_prefix("encoder.");
        let encoded = self.encoder.forward(pixels, trace);
        trace.set_prefix("");
        let encoded = encoded?.last_hidden_state;
        let memory = match &self.projection {
            Some(projection) => projection.forward(&encoded)?,
            None => encoded,
        };
        self.decoder.memory(&memory)
    }
}

/// A page in place, ready to be read.
#[derive(Debug)]
pub struct DonutSession<'a> {
    /// The model.
    pub model: &'a Donut,
    /// The page.
    pub memory: MbartMemory,
}

/// The tokens so far, and the memory repeated for as many rows.
#[derive(Debug)]
pub struct DonutCache {
    tokens: MbartCache,
    memory: MbartMemory,
}

impl TokenModel for DonutSession<'_> {
    type Cache = DonutCache;

    fn context_length(&self) -> usize {
        self.model.decoder.config().max_positions
    }

    fn new_cache(&self) -> DonutCache {
        DonutCache { tokens: MbartCache::default(), memory: self.memory.clone() }
    }

    /// `context` is not used: padding stands on the right, where a causal decoder does not see it.
    fn forward(
        &self,
        ids: &Tensor,
        _context: &Context,
        cache: Option<&mut DonutCache>,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        let decoder = &self.model.decoder;
        match cache {
            Some(cache) => decoder.forward(ids, &cache.memory, Some(&mut cache.tokens), trace),
            None => decoder.forward(ids, &self.memory, None, trace),
        }
    }

    fn head(&self, hidden: &Tensor) -> Result<Tensor> {
        self.model.decoder.lm_head(hidden)
    }

    fn select_rows(&self, cache: &mut DonutCache, rows: &[usize]) -> Result<()> {
        cache.memory = cache.memory.select_rows(rows)?;
        cache.tokens.select_rows(rows)
    }
}
