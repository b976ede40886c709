//! What stands between a request and the engine: chat template, tokenizer, preprocessing. Shared by all requests.

use swinseek_kernels::Result;
use swinseek_language::constraint::Constraints;
use swinseek_language::prompt::Message;
use swinseek_language::tokenizer::Tokenizer;
use swinseek_vision::preprocess::Image;

use crate::engine::{self, PreparedImage};

/// The engine's front, with what the server must know of it beforehand.
pub(super) struct Frontend {
    inner: engine::Frontend,
    longest_token: usize,
    /// None for vocabularies that are not byte-level.
    constraints: Option<Constraints>,
}

impl Frontend {
    pub(super) fn new(inner: engine::Frontend) -> Self {
        let tokenizer = inner.prompts().tokenizer();
        let lengths =
            (0..tokenizer.vocab_size() as u32).filter_map(|id| tokenizer.token(id)).map(|t| t.len());
        let longest_token = lengths.max().unwrap_or(1).max(1);
        let constraints = Constraints::new(tokenizer, inner.prompts().stop_ids()).ok();
        Self { inner, longest_token, constraints }
    }

    pub(super) fn tokenizer(&self) -> &Tokenizer {
        self.inner.prompts().tokenizer()
    }

    /// What makes answers follow a form, if the vocabulary allows it.
    pub(super) fn constraints(&self) -> Option<&Constraints> {
        self.constraints.as_ref()
    }

    /// Whether a text of that many bytes must be longer than `context` tokens: told without encoding it.
    pub(super) fn is_surely_longer(&self, bytes: usize, context: usize) -> bool {
        bytes / self.longest_token > context
    }

    /// Ids of a conversation.
    pub(super) fn encode_chat(&self, messages: &[Message]) -> Result<Vec<u32>> {
        self.inner.prompts().encode_chat(messages)
    }

    /// Ids of a text to go on with.
    pub(super) fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        self.inner.prompts().encode_text(text)
    }

    /// Preprocesses a picture that was decoded from `bytes`.
    pub(super) fn prepare(&self, bytes: &[u8], image: &Image) -> anyhow::Result<PreparedImage> {
        self.inner.prepare(bytes, image)
    }
}
