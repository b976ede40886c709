//! `POST /v1/chat/completions`: the body.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::server::sampling::{Stop, Wishes};

/// A conversation to be continued.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChatRequest {
    /// Name of the model; may be left out.
    pub(super) model: Option<String>,
    /// The conversation so far.
    pub(super) messages: Vec<ChatMessage>,
    /// 0 is greedy.
    #[schema(minimum = 0, maximum = 2)]
    pub(super) temperature: Option<f64>,
    /// Choose among the likeliest tokens that together reach this probability.
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub(super) top_p: Option<f64>,
    /// Choose among that many of the likeliest tokens; -1 or 0 for all.
    #[schema(minimum = -1)]
    pub(super) top_k: Option<i64>,
    /// Leave out tokens less likely than this times the likeliest.
    #[schema(minimum = 0, maximum = 1)]
    pub(super) min_p: Option<f64>,
    /// Above 1, tokens that were already written become less likely.
    #[schema(exclusive_minimum = 0, maximum = 10)]
    pub(super) repetition_penalty: Option<f64>,
    /// Subtracted for every occurrence in the answer.
    #[schema(minimum = -2, maximum = 2)]
    pub(super) frequency_penalty: Option<f64>,
    /// Subtracted once from tokens in the answer.
    #[schema(minimum = -2, maximum = 2)]
    pub(super) presence_penalty: Option<f64>,
    /// Added to the logits of token ids, -100 to 100.
    pub(super) logit_bias: Option<BTreeMap<String, f64>>,
    /// Most new tokens.
    #[schema(minimum = 1)]
    pub(super) max_tokens: Option<u64>,
    /// The newer name of `max_tokens`.
    #[schema(minimum = 1)]
    pub(super) max_completion_tokens: Option<u64>,
    /// Texts that end the answer.
    pub(super) stop: Option<Stop>,
    /// The same seed gives the same answer; choice `i` uses `seed + i`.
    pub(super) seed: Option<i64>,
    /// Number of answers.
    #[schema(minimum = 1)]
    pub(super) n: Option<u64>,
    /// Return the log-probability of each token.
    pub(super) logprobs: Option<bool>,
    /// And of that many likeliest tokens at each place.
    #[schema(maximum = 20)]
    pub(super) top_logprobs: Option<u64>,
    /// Send the answer as server-sent events while it is written.
    pub(super) stream: Option<bool>,
    /// Only with `stream`.
    pub(super) stream_options: Option<StreamOptions>,
    /// What the answer must look like.
    pub(super) response_format: Option<ResponseFormat>,
    /// The end user, as the client calls them; only its hash is kept, in the audit record.
    pub(super) user: Option<String>,
    /// Only `["text"]`.
    pub(super) modalities: Option<Vec<String>>,
    /// Only `false`: nothing is stored here.
    pub(super) store: Option<bool>,
}

/// A turn.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChatMessage {
    /// `system` (or `developer`), `user` or `assistant`.
    #[schema(example = "user")]
    pub(super) role: String,
    /// What was said and shown.
    pub(super) content: Option<Content>,
    /// Clients send an assistant's turn back as they got it; only `null` is taken.
    #[serde(rename = "refusal")]
    #[schema(value_type = Option<String>)]
    _refusal: Option<()>,
}

/// A text, or texts and images.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
pub(crate) enum Content {
    /// Text alone.
    Text(String),
    /// Pieces in order.
    Parts(Vec<Part>),
}

/// A text or an image.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    /// `text` or `image_url`.
    #[schema(example = "text")]
    pub(super) r#type: String,
    /// Of a `text` part.
    pub(super) text: Option<String>,
    /// Of an `image_url` part.
    pub(super) image_url: Option<ImageUrl>,
}

/// Where an image is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageUrl {
    /// A data URI (`data:image/png;base64,...`, `data:application/dicom;base64,...`), base64 alone, or an http(s) URL
    /// where the server allows it.
    pub(super) url: String,
    /// `auto`, `low` or `high`; the model sees the same in each case.
    pub(super) detail: Option<String>,
}

/// How to stream.
#[derive(Debug, Default, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamOptions {
    /// End with a chunk that has the usage.
    pub(crate) include_usage: Option<bool>,
}

/// What the answer must look like.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResponseFormat {
    /// `text`, `json_object`, `json_schema`, `regex` or `grammar`.
    #[schema(example = "text")]
    pub(crate) r#type: String,
    /// With `json_schema`.
    pub(crate) json_schema: Option<JsonSchema>,
    /// With `regex`: the whole answer matches it.
    pub(crate) regex: Option<String>,
    /// With `grammar`: a Lark grammar.
    pub(crate) grammar: Option<String>,
}

/// A schema with its name.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JsonSchema {
    /// Any name; the answer does not depend on it.
    pub(crate) name: Option<String>,
    /// For the client's own use.
    pub(crate) description: Option<String>,
    /// JSON Schema of the answer.
    #[schema(value_type = Object)]
    pub(crate) schema: Option<Value>,
    /// Schemas are always followed strictly.
    pub(crate) strict: Option<bool>,
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Not `untagged`, which would forget where in the parts an error was.
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Content;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string or a list of parts")
            }
            fn visit_str<E>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }
            fn visit_string<E>(self, text: String) -> Result<Content, E> {
                Ok(Content::Text(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Content, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Content::Parts)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl ChatRequest {
    /// The sampling part of the request.
    pub(super) fn wishes(&mut self) -> Wishes {
        let newer = self.max_completion_tokens.map(|most| ("max_completion_tokens", most));
        Wishes {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            logit_bias: self.logit_bias.take(),
            seed: self.seed,
            stop: self.stop.take(),
            n: self.n,
            top_logprobs: self.top_logprobs,
            max_tokens: newer.or(self.max_tokens.map(|most| ("max_tokens", most))),
        }
    }
}
