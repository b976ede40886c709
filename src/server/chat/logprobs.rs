//! Log-probabilities in OpenAI's form.

use serde::Serialize;
use swinseek_language::tokenizer::Tokenizer;
use utoipa::ToSchema;

use crate::server::running::Token;

/// Log-probabilities of an answer's tokens.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Logprobs {
    content: Vec<TokenLogprob>,
    /// Always `null`.
    #[schema(value_type = Option<String>)]
    refusal: (),
}

/// A token that was chosen.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct TokenLogprob {
    #[serde(flatten)]
    chosen: TokenChance,
    /// The likeliest tokens at its place.
    top_logprobs: Vec<TokenChance>,
}

/// A token and how likely it was.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct TokenChance {
    /// Its text; a part of a character shows as U+FFFD.
    token: String,
    /// Under the model, before temperature, filters and penalties.
    logprob: f32,
    /// Its bytes.
    bytes: Vec<u8>,
}

impl Logprobs {
    pub(super) fn new(tokens: &[Token], tokenizer: &Tokenizer) -> Self {
        let content = tokens.iter().map(|token| TokenLogprob {
            chosen: TokenChance::new((token.id, token.logprob), tokenizer),
            top_logprobs: token.top_logprobs.iter().map(|&top| TokenChance::new(top, tokenizer)).collect(),
        });
        Self { content: content.collect(), refusal: () }
    }
}

impl TokenChance {
    fn new((id, logprob): (u32, f32), tokenizer: &Tokenizer) -> Self {
        let bytes = token_bytes(tokenizer, id);
        // JSON has no infinity; OpenAI writes -9999 for what cannot happen.
        let logprob = if logprob.is_finite() { logprob } else { -9999.0 };
        Self { token: String::from_utf8_lossy(&bytes).into_owned(), logprob, bytes }
    }
}

fn token_bytes(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    match tokenizer.token_bytes(id) {
        Some(bytes) if !bytes.is_empty() => bytes,
        // Special tokens have no bytes of their own, and some vocabularies none at all: their name stands for them.
        _ => tokenizer.token(id).unwrap_or_default().into_bytes(),
    }
}

/// A token's text alone.
pub(crate) fn token_text(tokenizer: &Tokenizer, id: u32) -> String {
    String::from_utf8_lossy(&token_bytes(tokenizer, id)).into_owned()
}
