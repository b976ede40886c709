//! A question as token ids, through the model's chat template. What a user wrote can never become a special token.

use serde_json::Value;
use swinseek_kernels::{Error, Result};
use swinseek_language::prompt::{ChatTemplate, Message};
use swinseek_language::tokenizer::Tokenizer;

/// Tokenizer and template of one model.
#[derive(Clone)]
pub struct PromptEncoder {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    stop_ids: Vec<u32>,
    pad_id: u32,
    bos_id: Option<u32>,
}

impl PromptEncoder {
    /// From the model's files; [`Value::Null`] stands for one that does not exist. Without a `chat_template` our own is used.
    pub fn new(tokenizer: Tokenizer, tokenizer_config: &Value, generation_config: &Value) -> Result<Self> {
        let special = tokenizer.special_ids(generation_config, tokenizer_config)?;
        if special.eos.is_empty() {
            return Err(Error::config("eos_token", "is missing, expected the token that ends an answer"));
        }
        let template = ChatTemplate::for_tokenizer(&tokenizer, tokenizer_config)?;
        let pad_id = special.pad.unwrap_or(special.eos[0]);
        Ok(Self { tokenizer, template, stop_ids: special.eos, pad_id, bos_id: special.bos })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Ids that end an answer.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stop_ids
    }

    /// Fills a batch.
    pub fn pad_id(&self) -> u32 {
        self.pad_id
    }

    /// Ids of a conversation of one question about `images` pictures, up to where the answer begins.
    pub fn encode(&self, question: &str, images: usize) -> Result<Vec<u32>> {
        self.template.encode(&self.tokenizer, &[Message::user(question, images)], true)
    }

    /// Ids of a conversation, up to where the answer begins.
    pub fn encode_chat(&self, messages: &[Message]) -> Result<Vec<u32>> {
        self.template.encode(&self.tokenizer, messages, true)
    }

    /// Ids of a text that the model is to go on with: the first token of a sequence, then the text.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::from_iter(self.bos_id);
        ids.extend(self.tokenizer.encode_untrusted(text)?);
        Ok(ids)
    }

    /// Ids of an answer as the model writes it, the end token included.
    pub fn encode_answer(&self, answer: &str) -> Result<Vec<u32>> {
        let mut ids = self.tokenizer.encode_untrusted(answer)?;
        ids.push(self.stop_ids[0]);
        Ok(ids)
    }
}
