//! `POST /v1/chat/completions`: the answer, whole or in chunks.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use utoipa::ToSchema;

use super::logprobs::Logprobs;
use super::request::ChatRequest;
use crate::server::observe::random_id;
use crate::server::running::{Counts, Finished, Token, finish_name};
use crate::server::state::App;

/// What the answer looks like.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) logprobs: bool,
    pub(super) head: Head,
}

/// What all chunks of an answer share.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Head {
    /// Of this answer.
    #[schema(example = "chatcmpl-0123456789abcdef01234567")]
    pub(crate) id: String,
    /// `chat.completion`, `chat.completion.chunk` or `text_completion`.
    pub(crate) object: &'static str,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// Name of the model.
    pub(crate) model: String,
    /// The first digits of the model's digest.
    pub(crate) system_fingerprint: String,
}

/// A whole answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatCompletion {
    #[serde(flatten)]
    head: Head,
    choices: Vec<Choice>,
    usage: Usage,
}

/// One of the answers.
#[derive(Debug, Serialize, ToSchema)]
struct Choice {
    index: usize,
    message: AssistantMessage,
    logprobs: Option<Logprobs>,
    /// `stop` or `length`.
    finish_reason: &'static str,
}

/// What the model wrote.
#[derive(Debug, Serialize, ToSchema)]
struct AssistantMessage {
    role: &'static str,
    content: String,
    /// Always `null`.
    #[schema(value_type = Option<String>)]
    refusal: (),
}

/// Tokens of a request.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptDetails,
}

/// What the prompt was made of.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
struct PromptDetails {
    /// Prompt tokens that were not computed again.
    cached_tokens: usize,
    /// Tokens of the images, which stand beside the prompt.
    image_tokens: usize,
}

/// `usage` of a chunk, where it was asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(in crate::server) enum UsageField {
    /// Before the last chunk: `null`.
    Later,
    /// In the last one.
    Now(Usage),
}

/// A piece of an answer.
#[derive(Debug, Serialize)]
pub(super) struct Chunk<'a> {
    #[serde(flatten)]
    pub(super) head: &'a Head,
    pub(super) choices: Vec<ChunkChoice>,
    /// Absent without `include_usage`, `null` before the last chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<UsageField>,
}

/// A piece of one of the answers.
#[derive(Debug, Serialize)]
pub(super) struct ChunkChoice {
    pub(super) index: usize,
    pub(super) delta: Delta,
    pub(super) logprobs: Option<Logprobs>,
    pub(super) finish_reason: Option<&'static str>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<String>,
}

impl Head {
    pub(crate) fn new(app: &App, prefix: &str, object: &'static str) -> Self {
        Self {
            id: random_id(prefix),
            object,
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            model: app.model_name.clone(),
            system_fingerprint: app.fingerprint(),
        }
    }
}

impl Shape {
    pub(super) fn new(request: &ChatRequest, app: &App) -> Self {
        let stream = request.stream == Some(true);
        let object = if stream { "chat.completion.chunk" } else { "chat.completion" };
        Self {
            stream,
            include_usage: request.stream_options.unwrap_or_default().include_usage == Some(true),
            logprobs: request.logprobs == Some(true),
            head: Head::new(app, "chatcmpl-", object),
        }
    }

    /// Log-probabilities, if they were asked for.
    pub(super) fn logprobs_of(&self, tokens: &[Token], app: &App) -> Option<Logprobs> {
        self.logprobs.then(|| Logprobs::new(tokens, app.frontend.tokenizer()))
    }

    /// The whole answer.
    pub(super) fn completion(self, app: &App, answers: &[Finished], choices: usize) -> ChatCompletion {
        let choice = |(index, answer): (usize, &Finished)| Choice {
            index,
            message: AssistantMessage { role: "assistant", content: answer.text.clone(), refusal: () },
            logprobs: self.logprobs_of(&answer.tokens, app),
            finish_reason: finish_name(answer.reason),
        };
        ChatCompletion {
            choices: answers.iter().enumerate().map(choice).collect(),
            usage: Counts::of(answers, choices).into(),
            head: self.head.clone(),
        }
    }
}

impl From<Counts> for Usage {
    fn from(counts: Counts) -> Self {
        Self {
            prompt_tokens: counts.prompt,
            completion_tokens: counts.completion,
            total_tokens: counts.prompt + counts.completion,
            prompt_tokens_details: PromptDetails { cached_tokens: counts.cached, image_tokens: counts.image },
        }
    }
}
