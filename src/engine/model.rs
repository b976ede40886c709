//! The model as the worker sees it. A mock of it drives the scheduler's tests.

use std::ops::Range;

use anyhow::Result;
use swinseek_fusion::projector::MemoryLayout;
use swinseek_fusion::session::{DecodeRow, Prediction};
use swinseek_language::text_stream::TextStream;

use super::PreparedImage;

/// What clients may know of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Name under which it is served.
    pub name: String,
    /// BLAKE3 of configuration and weights, hexadecimal.
    pub digest: String,
    /// Most tokens of prompt and answer together.
    pub context_length: usize,
    /// Token ids are below this.
    pub vocab_size: usize,
    /// When it was loaded, in seconds since 1970.
    pub created: u64,
    /// Whether image tokens take up room in the context (a prefix) or none (cross-attention).
    pub images_in_context: bool,
    /// What multiplies its matrices, in `bf16` and in few bits.
    pub kernels: [&'static str; 2],
}

impl ModelInfo {
    /// Tokens of the context that images leave over.
    pub fn context_beside(&self, images: &[PreparedImage]) -> usize {
        let tokens: usize = images.iter().map(|image| image.tokens).sum();
        self.context_length.saturating_sub(if self.images_in_context { tokens } else { 0 })
    }
}

/// A model that many sequences share. Results for a sequence must not depend on the others in a step.
pub trait EngineModel: Send {
    /// One image, encoded.
    type Image: Clone + Send + Sync;
    /// All images of a sequence, as the decoder reads them.
    type Memory: Send + Sync;
    /// What the model keeps of the tokens of one sequence.
    type Cache: Send + Sync;

    /// What clients may know.
    fn info(&self) -> ModelInfo;

    /// Ids that end an answer.
    fn stop_ids(&self) -> &[u32];

    /// Decodes an answer that ends before the first of `stop`.
    fn text_stream(&self, stop: &[String]) -> Result<TextStream>;

    /// Encodes an image.
    fn encode(&self, image: &PreparedImage) -> Result<Self::Image>;

    /// Memory an encoded image takes.
    fn image_bytes(&self, image: &Self::Image) -> usize;

    /// One or more images, one behind the other.
    fn memory(&self, images: &[Self::Image]) -> Result<Self::Memory>;

    /// Where the memory's tokens come from.
    fn layout<'a>(&self, memory: &'a Self::Memory) -> Option<&'a MemoryLayout>;

    /// An empty cache.
    fn new_cache(&self) -> Self::Cache;

    /// Tokens that a cache holds, those of images in the context included.
    fn cache_len(&self, cache: &Self::Cache) -> usize;

    /// A copy of tokens `range` of the cache alone, for [`append`](Self::append).
    fn copy(&self, cache: &Self::Cache, range: Range<usize>) -> Result<Self::Cache>;

    /// Puts tokens that were run behind the same tokens before behind those of `cache`.
    fn append(&self, cache: &mut Self::Cache, tokens: &Self::Cache) -> Result<()>;

    /// Memory a cache takes.
    fn cache_bytes(&self, cache: &Self::Cache) -> usize;

    /// Reads `ids` after what the cache holds.
    fn prefill(&self, ids: &[u32], memory: Option<&Self::Memory>, cache: &mut Self::Cache) -> Result<()>;

    /// As [`prefill`](Self::prefill), and predicts the token after the last of `ids`.
    fn prefill_last(
        &self,
        ids: &[u32],
        memory: Option<&Self::Memory>,
        cache: &mut Self::Cache,
        attention: bool,
    ) -> Result<Prediction>;

    /// One step of many sequences: a prediction for each row, in their order.
    fn decode(&self, rows: &mut [DecodeRow<'_, Self::Memory, Self::Cache>]) -> Result<Vec<Prediction>>;
}
