//! What stands between a request and the engine: chat template, tokenizer, preprocessing. Shared by all requests.

use std::sync::Arc;

use swinseek_fusion::pipeline::Pipeline;
use swinseek_fusion::projector::MemoryLayout;
use swinseek_fusion::prompt_encoder::PromptEncoder;
use swinseek_kernels::Result;
use swinseek_language::prompt::Message;
use swinseek_language::tokenizer::Tokenizer;
use swinseek_vision::preprocess::{Image, Preprocessor};

use crate::engine::PreparedImage;

/// Everything of a model but its weights.
#[derive(Clone)]
pub struct Frontend {
    prompts: PromptEncoder,
    preprocessor: Preprocessor,
    model_digest: String,
    image_tokens: ImageTokens,
    longest_token: usize,
}

/// Memory tokens of an image of that height and width.
pub type ImageTokens = Arc<dyn Fn(usize, usize) -> usize + Send + Sync>;

impl Frontend {
    /// From parts. `image_tokens` says how many memory tokens an image of a preprocessed height and width has.
    pub fn new(
        prompts: PromptEncoder,
        preprocessor: Preprocessor,
        model_digest: String,
        image_tokens: ImageTokens,
    ) -> Self {
        let tokenizer = prompts.tokenizer();
        let lengths = (0..tokenizer.vocab_size() as u32).filter_map(|id| tokenizer.token(id)).map(|t| t.len());
        let longest_token = lengths.max().unwrap_or(1);
        Self { prompts, preprocessor, model_digest, image_tokens, longest_token }
    }

    /// The front of a loaded model.
    pub fn of(pipeline: &Pipeline) -> Self {
        let config = pipeline.model().config().clone();
        let image_tokens = Arc::new(move |height, width| MemoryLayout::new(&config, height, width).len());
        let (prompts, preprocessor) = (pipeline.prompts().clone(), pipeline.preprocessor().clone());
        Self::new(prompts, preprocessor, pipeline.digest().to_owned(), image_tokens)
    }

    /// The tokenizer.
    pub(super) fn tokenizer(&self) -> &Tokenizer {
        self.prompts.tokenizer()
    }

    /// Whether a text of that many bytes must be longer than `context` tokens: told without encoding it.
    pub(super) fn is_surely_longer(&self, bytes: usize, context: usize) -> bool {
        bytes / self.longest_token > context
    }

    /// Ids of a conversation.
    pub(super) fn encode_chat(&self, messages: &[Message]) -> Result<Vec<u32>> {
        self.prompts.encode_chat(messages)
    }

    /// Ids of a text to go on with.
    pub(super) fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        self.prompts.encode_text(text)
    }

    /// Preprocesses a decoded picture, and names what it is made of.
    pub(super) fn prepare(&self, bytes: &[u8], image: &Image) -> Result<PreparedImage> {
        let pixels = self.preprocessor.apply(image)?;
        let mut hasher = blake3::Hasher::new();
        // Lengths first: no two different inputs may run into the same bytes.
        for part in [self.model_digest.as_bytes(), bytes] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        for side in [image.width(), image.height(), image.source().frame, pixels.height, pixels.width] {
            hasher.update(&(side as u64).to_le_bytes());
        }
        for value in &pixels.data {
            hasher.update(&value.to_le_bytes());
        }
        let tokens = (self.image_tokens)(pixels.height, pixels.width);
        Ok(PreparedImage { pixels, digest: *hasher.finalize().as_bytes(), tokens })
    }
}
