//! [`SwinSeek`] behind the engine, and what stays in front of it: tokenizer, template, preprocessing.

use std::ops::Range;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use candle_core::Device;
use swinseek_fusion::config::FusionMode;
use swinseek_fusion::pipeline::Pipeline;
use swinseek_fusion::projector::MemoryLayout;
use swinseek_fusion::prompt_encoder::PromptEncoder;
use swinseek_fusion::session::{self, DecodeRow, Prediction};
use swinseek_fusion::{ImageMemory, ModelConfig, SwinSeek, TokenModel};
use swinseek_kernels::device::path_names;
use swinseek_kernels::{Compute, Trace};
use swinseek_language::Cache;
use swinseek_language::text_stream::TextStream;
use swinseek_vision::preprocess::{Image, Preprocessor};

use super::{EngineModel, ModelInfo, PreparedImage};

/// The joined model.
pub struct JoinedModel {
    pipeline: Pipeline,
    info: ModelInfo,
}

/// What requests need before they become jobs. Cheap to clone; used on any thread.
#[derive(Clone)]
pub struct Frontend {
    prompts: PromptEncoder,
    preprocessor: Preprocessor,
    config: ModelConfig,
    digest: String,
}

/// One or more images of a sequence.
#[derive(Debug, Clone)]
pub struct SeenImages {
    memory: ImageMemory,
    /// Of one image; all are of one size.
    layout: MemoryLayout,
}

impl JoinedModel {
    /// Loads a model directory; its last component is the name it is served under.
    ///
    /// # Errors
    /// As [`Pipeline::open`].
    pub fn open(dir: &Path, compute: impl Into<Compute>) -> Result<Self> {
        let name =
            dir.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned());
        Ok(Self::new(Pipeline::open(dir, compute)?, name))
    }

    /// Serves a loaded model under that name.
    pub fn new(pipeline: Pipeline, name: impl Into<String>) -> Self {
        let config = pipeline.model().config();
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let info = ModelInfo {
            name: name.into(),
            digest: pipeline.digest().to_owned(),
            context_length: config.language.max_position_embeddings,
            vocab_size: config.language.vocab_size,
            created,
            images_in_context: config.fusion.mode == FusionMode::Prefix,
            kernels: path_names(pipeline.model().device()),
        };
        Self { pipeline, info }
    }

    /// What requests need before they become jobs.
    pub fn frontend(&self) -> Frontend {
        Frontend::new(
            self.pipeline.prompts().clone(),
            self.pipeline.preprocessor().clone(),
            self.model().config().clone(),
            self.info.digest.clone(),
        )
    }

    fn model(&self) -> &SwinSeek {
        self.pipeline.model()
    }
}

impl Frontend {
    /// From parts; `digest` is the model's.
    pub fn new(
        prompts: PromptEncoder,
        preprocessor: Preprocessor,
        config: ModelConfig,
        digest: String,
    ) -> Self {
        Self { prompts, preprocessor, config, digest }
    }

    /// Tokenizer and template.
    pub fn prompts(&self) -> &PromptEncoder {
        &self.prompts
    }

    /// What turns pictures into model input.
    pub fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }

    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// A decoded picture as model input; `file` are the bytes it was decoded from.
    ///
    /// # Errors
    /// The picture cannot be preprocessed (pixels that are no squares by far, for one).
    pub fn prepare(&self, file: &[u8], image: &Image) -> Result<PreparedImage> {
        let pixels = self.preprocessor.apply(image)?;
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(self.digest.as_bytes());
        part(file);
        let (width, height) = pixels.geometry.original_size();
        for size in [width, height, pixels.width, pixels.height] {
            part(&(size as u64).to_le_bytes());
        }
        // The pixels stand for whatever preprocessing did, and for the frame of a file of many.
        part(&pixels.data.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
        let tokens = MemoryLayout::new(&self.config, pixels.height, pixels.width).len();
        Ok(PreparedImage { digest: *hasher.finalize().as_bytes(), tokens, pixels })
    }
}

impl EngineModel for JoinedModel {
    type Image = SeenImages;
    type Memory = SeenImages;
    type Cache = Cache;

    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn stop_ids(&self) -> &[u32] {
        self.pipeline.prompts().stop_ids()
    }

    fn text_stream(&self, stop: &[String]) -> Result<TextStream> {
        Ok(TextStream::new(self.pipeline.tokenizer(), stop)?)
    }

    fn encode(&self, image: &PreparedImage) -> Result<SeenImages> {
        let pixels = image.pixels.to_tensor(&Device::Cpu)?;
        let encoded = self.model().encode_images(&pixels, &mut Trace::off())?;
        Ok(SeenImages { memory: self.model().image_memory(&encoded, &[1])?, layout: encoded.layout })
    }

    fn image_bytes(&self, image: &SeenImages) -> usize {
        image.memory.bytes()
    }

    fn memory(&self, images: &[SeenImages]) -> Result<SeenImages> {
        let layout = images.first().map_or(MemoryLayout { maps: Vec::new() }, |image| image.layout.clone());
        anyhow::ensure!(
            images.iter().all(|image| image.layout == layout),
            "the images are of different sizes after preprocessing, expected one size"
        );
        let parts: Vec<&ImageMemory> = images.iter().map(|image| &image.memory).collect();
        Ok(SeenImages { memory: ImageMemory::join(&parts)?, layout })
    }

    fn layout<'a>(&self, memory: &'a SeenImages) -> Option<&'a MemoryLayout> {
        Some(&memory.layout)
    }

    fn new_cache(&self) -> Cache {
        self.model().session(None).new_cache()
    }

    fn cache_len(&self, cache: &Cache) -> usize {
        cache.len()
    }

    fn copy(&self, cache: &Cache, range: Range<usize>) -> Result<Cache> {
        Ok(cache.copy(range)?)
    }

    fn append(&self, cache: &mut Cache, tokens: &Cache) -> Result<()> {
        Ok(cache.append(tokens)?)
    }

    fn cache_bytes(&self, cache: &Cache) -> usize {
        cache.bytes()
    }

    fn prefill(&self, ids: &[u32], memory: Option<&SeenImages>, cache: &mut Cache) -> Result<()> {
        Ok(session::read(&self.model().session(memory.map(|seen| &seen.memory)), ids, cache)?)
    }

    fn prefill_last(
        &self,
        ids: &[u32],
        memory: Option<&SeenImages>,
        cache: &mut Cache,
        attention: bool,
    ) -> Result<Prediction> {
        let session = self.model().session(memory.map(|seen| &seen.memory));
        Ok(session::predict(&session, ids, cache, attention)?)
    }

    fn decode(&self, rows: &mut [DecodeRow<'_, SeenImages, Cache>]) -> Result<Vec<Prediction>> {
        let mut rows: Vec<DecodeRow> = rows
            .iter_mut()
            .map(|row| DecodeRow {
                token: row.token,
                memory: row.memory.map(|seen| &seen.memory),
                cache: &mut *row.cache,
                attention: row.attention,
            })
            .collect();
        Ok(self.model().decode(&mut rows)?)
    }
}
