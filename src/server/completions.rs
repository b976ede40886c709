//! `POST /v1/completions`: texts to go on with, without a conversation around them.

use std::collections::BTreeMap;
use std::fmt;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response, sse::Event as SseEvent};
use axum::{Extension, Json};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::auth::Caller;
use super::chat::response::{Head, UsageField};
use super::chat::{StreamOptions, room, token_text};
use super::error::{ApiError, ApiResult, ErrorBody};
use super::json;
use super::observe::RequestId;
use super::running::{Counts, Finished, Origin, Prepared, Prompt, Token, failure, finish_name, user_digest};
use super::sampling::{Stop, Wishes, too_long};
use super::sse::{self, Writer, data};
use super::state::App;
use crate::engine::Event;

/// OpenAI's default here; conversations have another one.
const DEFAULT_MAX_TOKENS: u64 = 16;
const MAX_PROMPTS: usize = 16;
/// More than any context holds.
const MAX_ENTRIES: usize = 1 << 20;
const MAX_LOGPROBS: u64 = 5;

/// Texts to go on with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CompletionRequest {
    /// Name of the model; may be left out.
    model: Option<String>,
    /// A text, several texts, token ids, or several lists of token ids.
    #[schema(value_type = String)]
    prompt: PromptField,
    /// 0 is greedy.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// Choose among the likeliest tokens that together reach this probability.
    #[schema(exclusive_minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// Choose among that many of the likeliest tokens; -1 or 0 for all.
    #[schema(minimum = -1)]
    top_k: Option<i64>,
    /// Leave out tokens less likely than this times the likeliest.
    #[schema(minimum = 0, maximum = 1)]
    min_p: Option<f64>,
    /// Above 1, tokens that were already written become less likely.
    #[schema(exclusive_minimum = 0, maximum = 10)]
    repetition_penalty: Option<f64>,
    /// Subtracted for every occurrence in the answer.
    #[schema(minimum = -2, maximum = 2)]
    frequency_penalty: Option<f64>,
    /// Subtracted once from tokens in the answer.
    #[schema(minimum = -2, maximum = 2)]
    presence_penalty: Option<f64>,
    /// Added to the logits of token ids, -100 to 100.
    logit_bias: Option<BTreeMap<String, f64>>,
    /// Most new tokens; 16 by default.
    #[schema(minimum = 1)]
    max_tokens: Option<u64>,
    /// Texts that end the answer.
    stop: Option<Stop>,
    /// The same seed gives the same answer; choice `i` uses `seed + i`.
    seed: Option<i64>,
    /// Number of answers to each prompt.
    #[schema(minimum = 1)]
    n: Option<u64>,
    /// Return the log-probabilities of that many likeliest tokens at each place.
    #[schema(maximum = 5)]
    logprobs: Option<u64>,
    /// Send the answer as server-sent events while it is written.
    stream: Option<bool>,
    /// Only with `stream`.
    stream_options: Option<StreamOptions>,
    /// The end user, as the client calls them; only its hash is kept, in the audit record.
    user: Option<String>,
    /// Only `false`.
    echo: Option<bool>,
    /// Only `null`.
    #[serde(rename = "suffix")]
    #[schema(value_type = Option<String>)]
    _suffix: Option<()>,
    /// Only 1 or `n`.
    best_of: Option<u64>,
}

/// `prompt` in its four forms.
#[derive(Debug)]
enum PromptField {
    Texts(Vec<String>),
    Ids(Vec<Vec<u32>>),
}

/// A list's element: its form decides what the list is.
#[derive(Deserialize)]
#[serde(untagged)]
enum Element {
    Text(String),
    Id(u32),
    Ids(Vec<u32>),
}

impl<'de> Deserialize<'de> for PromptField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = PromptField;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string, a list of strings, a list of token ids or a list of such lists")
            }
            fn visit_str<E>(self, text: &str) -> Result<PromptField, E> {
                Ok(PromptField::Texts(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<PromptField, A::Error> {
                let (mut texts, mut ids, mut lists) = (Vec::new(), Vec::new(), Vec::new());
                while let Some(element) = seq.next_element::<Element>()? {
                    if texts.len() + ids.len() + lists.len() >= MAX_ENTRIES {
                        return Err(serde::de::Error::invalid_length(MAX_ENTRIES, &"fewer entries"));
                    }
                    match element {
                        Element::Text(text) => texts.push(text),
                        Element::Id(id) => ids.push(id),
                        Element::Ids(list) => lists.push(list),
                    }
                }
                match (texts.is_empty(), ids.is_empty(), lists.is_empty()) {
                    (false, true, true) => Ok(PromptField::Texts(texts)),
                    (true, false, true) => Ok(PromptField::Ids(vec![ids])),
                    (true, true, false) => Ok(PromptField::Ids(lists)),
                    _ => Err(serde::de::Error::invalid_length(0, &self)),
                }
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

/// A whole answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Completion {
    #[serde(flatten)]
    head: Head,
    choices: Vec<TextChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageField>,
}

/// One of the answers, or a piece of one.
#[derive(Debug, Serialize, ToSchema)]
struct TextChoice {
    index: usize,
    text: String,
    logprobs: Option<TextLogprobs>,
    /// `stop` or `length`; `null` before the end of a stream.
    finish_reason: Option<&'static str>,
}

/// Lists of one entry a token.
#[derive(Debug, Default, Serialize, ToSchema)]
struct TextLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<f32>,
    top_logprobs: Vec<BTreeMap<String, f32>>,
    /// Where the token begins in the answer, in characters.
    text_offset: Vec<usize>,
}

/// What the answer looks like.
struct Shape {
    stream: bool,
    include_usage: bool,
    logprobs: bool,
    choices: usize,
    head: Head,
}

/// Goes on with texts.
#[utoipa::path(
    post, path = "/v1/completions", tag = "openai", request_body = CompletionRequest,
    responses(
        (status = 200, description = "The answer; server-sent events with `stream`", content(
            (Completion = "application/json"),
            (String = "text/event-stream"),
        )),
        (status = 400, description = "A parameter is wrong, unknown or not supported", body = ErrorBody),
        (status = 401, description = "No key, or an unknown one", body = ErrorBody),
        (status = 404, description = "No such model", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time", body = ErrorBody),
        (status = 413, description = "Body too large", body = ErrorBody),
        (status = 415, description = "Not JSON", body = ErrorBody),
        (status = 429, description = "Too many requests of this key; see Retry-After", body = ErrorBody),
        (status = 500, description = "Failed", body = ErrorBody),
        (status = 503, description = "Overloaded or shutting down; see Retry-After", body = ErrorBody),
        (status = 504, description = "Not finished in time", body = ErrorBody),
    )
)]
pub(super) async fn completions(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<Response> {
    json::check_content_type(&headers)?;
    let ticket = app.gate.enter(&app.engine)?;
    let received = app.gate.body(&headers, body).await?;
    let for_work = app.clone();
    let read = move || read(&for_work, &received.bytes);
    let (prepared, shape) = app.gate.blocking(ticket.deadline, read).await?;
    let running = app.launch(prepared, ticket, Origin { endpoint: "/v1/completions", caller, id }).await?;
    if shape.stream {
        let offsets = vec![0; running.answers.len()];
        let writer = TextWriter { shape, app: app.clone(), counts: Counts::default(), offsets };
        return Ok(sse::respond(running, writer, app.settings.timeouts.keep_alive));
    }
    let answers = running.finish().await?;
    Ok(Json(shape.completion(&app, &answers)).into_response())
}

fn read(app: &App, bytes: &[u8]) -> ApiResult<(Prepared, Shape)> {
    let request: CompletionRequest = json::parse(bytes)?;
    app.check_model(request.model.as_deref())?;
    check_fixed(&request)?;
    let include_usage = request.stream_options.unwrap_or_default().include_usage == Some(true);
    let user = user_digest(request.user.as_deref());
    let plan = Wishes {
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        min_p: request.min_p,
        repetition_penalty: request.repetition_penalty,
        frequency_penalty: request.frequency_penalty,
        presence_penalty: request.presence_penalty,
        logit_bias: request.logit_bias,
        seed: request.seed,
        stop: request.stop,
        n: request.n,
        top_logprobs: request.logprobs,
        max_tokens: Some(("max_tokens", request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS))),
    }
    .check(&app.settings, app.engine.info().vocab_size)?;
    let shape = Shape {
        stream: request.stream == Some(true),
        include_usage,
        logprobs: request.logprobs.is_some(),
        choices: plan.choices,
        head: Head::new(app, "cmpl-", "text_completion"),
    };
    let mut prompts = Vec::new();
    for ids in encode(app, request.prompt)? {
        let max_new_tokens = room(app, &plan, ids.len(), &[], "prompt")?;
        prompts.push(Prompt { ids, max_new_tokens, constraints: Vec::new() });
    }
    Ok((Prepared { prompts, images: Vec::new(), digests: Vec::new(), plan, evidence: false, user }, shape))
}

fn check_fixed(request: &CompletionRequest) -> ApiResult<()> {
    if request.echo == Some(true) {
        return Err(ApiError::unsupported("echo", "the prompt is not repeated here"));
    }
    if request.best_of.is_some_and(|best| best != request.n.unwrap_or(1)) {
        return Err(ApiError::unsupported("best_of", "answers are not ranked here: best_of must be n"));
    }
    if let Some(n) = request.logprobs.filter(|&n| n > MAX_LOGPROBS) {
        let message = format!("logprobs is {n}, expected at most {MAX_LOGPROBS}");
        return Err(ApiError::invalid("logprobs", message));
    }
    if request.user.as_ref().is_some_and(|user| user.len() > 512) {
        return Err(ApiError::invalid("user", "user has more than 512 bytes"));
    }
    if request.stream_options.is_some() && request.stream != Some(true) {
        return Err(ApiError::invalid("stream_options", "stream_options needs stream: true"));
    }
    Ok(())
}

/// Ids of each prompt.
fn encode(app: &App, prompt: PromptField) -> ApiResult<Vec<Vec<u32>>> {
    let info = app.engine.info();
    let prompts = match prompt {
        PromptField::Texts(texts) => {
            check_count(texts.len())?;
            let bytes: usize = texts.iter().map(String::len).max().unwrap_or(0);
            if app.frontend.is_surely_longer(bytes, info.context_length) {
                let message = format!("the prompt has {bytes} bytes, far more than the context holds");
                return Err(ApiError::invalid("prompt", message).code("context_length_exceeded"));
            }
            let encode = |text: String| {
                app.frontend
                    .encode_text(&text)
                    .map_err(|error| ApiError::invalid("prompt", error.to_string()))
            };
            texts.into_iter().map(encode).collect::<ApiResult<Vec<_>>>()?
        }
        PromptField::Ids(lists) => {
            check_count(lists.len())?;
            lists
        }
    };
    for ids in &prompts {
        if ids.is_empty() {
            return Err(ApiError::invalid("prompt", "the prompt has no tokens, expected at least one"));
        }
        if ids.iter().any(|&id| id as usize >= info.vocab_size) {
            let message = format!("a token id is not below {}", info.vocab_size);
            return Err(ApiError::invalid("prompt", message));
        }
        if ids.len() >= info.context_length {
            return Err(too_long("prompt", ids.len(), info.context_length));
        }
    }
    Ok(prompts)
}

fn check_count(count: usize) -> ApiResult<()> {
    if count > MAX_PROMPTS {
        let message = format!("prompt has {count} entries, expected at most {MAX_PROMPTS}");
        return Err(ApiError::invalid("prompt", message));
    }
    Ok(())
}

impl Shape {
    fn completion(self, app: &App, answers: &[Finished]) -> Completion {
        let choice = |(index, answer): (usize, &Finished)| TextChoice {
            index,
            text: answer.text.clone(),
            logprobs: self.logprobs.then(|| TextLogprobs::new(&answer.tokens, app, &mut 0)),
            finish_reason: Some(finish_name(answer.reason)),
        };
        Completion {
            choices: answers.iter().enumerate().map(choice).collect(),
            usage: Some(UsageField::Now(Counts::of(answers, self.choices).into())),
            head: self.head.clone(),
        }
    }
}

impl TextLogprobs {
    /// `offset` counts the characters of the answer so far.
    fn new(tokens: &[Token], app: &App, offset: &mut usize) -> Self {
        let tokenizer = app.frontend.tokenizer();
        let finite = |logprob: f32| if logprob.is_finite() { logprob } else { -9999.0 };
        let mut lists = Self::default();
        for token in tokens {
            let text = token_text(tokenizer, token.id);
            let top = token.top_logprobs.iter().map(|&(id, l)| (token_text(tokenizer, id), finite(l)));
            lists.top_logprobs.push(top.collect());
            lists.token_logprobs.push(finite(token.logprob));
            lists.text_offset.push(*offset);
            *offset += text.chars().count();
            lists.tokens.push(text);
        }
        lists
    }
}

/// Writes the chunks of a request's answers.
struct TextWriter {
    shape: Shape,
    app: App,
    counts: Counts,
    /// Characters of each answer so far.
    offsets: Vec<usize>,
}

impl TextWriter {
    fn chunk(
        &mut self,
        index: usize,
        text: String,
        token: Option<&Token>,
        finish: Option<&'static str>,
    ) -> SseEvent {
        let offset = &mut self.offsets[index];
        let logprobs = token.filter(|_| self.shape.logprobs);
        let logprobs =
            logprobs.map(|token| TextLogprobs::new(std::slice::from_ref(token), &self.app, offset));
        let choice = TextChoice { index, text, logprobs, finish_reason: finish };
        let usage = self.shape.include_usage.then_some(UsageField::Later);
        data(&Completion { head: self.shape.head.clone(), choices: vec![choice], usage })
    }
}

impl Writer for TextWriter {
    fn begin(&mut self) -> Vec<SseEvent> {
        Vec::new()
    }

    async fn on(&mut self, index: usize, event: Event) -> ApiResult<Vec<SseEvent>> {
        Ok(match event {
            Event::Started { prompt_tokens, cached_tokens, image_tokens } => {
                self.counts.add(
                    index.is_multiple_of(self.shape.choices),
                    Counts::of_prompt(prompt_tokens, cached_tokens, image_tokens),
                );
                Vec::new()
            }
            Event::Token { id, text, logprob, top_logprobs } => {
                self.counts.completion += 1;
                if text.is_empty() && !self.shape.logprobs {
                    return Ok(Vec::new());
                }
                vec![self.chunk(index, text, Some(&Token { id, logprob, top_logprobs }), None)]
            }
            Event::Finished { reason, rest, .. } => {
                vec![self.chunk(index, rest, None, Some(finish_name(reason)))]
            }
            Event::Failed { kind, message } => return Err(failure(kind, &message)),
        })
    }

    fn end(&mut self) -> Vec<SseEvent> {
        if !self.shape.include_usage {
            return Vec::new();
        }
        let usage = Some(UsageField::Now(self.counts.into()));
        vec![data(&Completion { head: self.shape.head.clone(), choices: Vec::new(), usage })]
    }
}
