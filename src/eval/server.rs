//! An OpenAI-compatible server as a candidate.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use swinseek_evals::dataset::{Item, image_bytes};
use swinseek_evals::runner::{Candidate, CandidateError, Sight};
use swinseek_vision::preprocess::{DecodeOptions, Format, decode, sniff};
use ureq::http::{HeaderMap, StatusCode};

use super::{Ask, noise};

/// Longest wait that a `Retry-After` can ask for.
const LONGEST_WAIT: Duration = Duration::from_mins(2);
/// First wait before trying again; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// An answer is text: one that is longer than this is none.
const LARGEST_ANSWER: u64 = 16 << 20;

/// How to reach a server.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// `http://host:port`, with or without `/v1`.
    pub url: String,
    /// Name of the served model; the first that the server lists when `None`.
    pub model: Option<String>,
    /// Sent as a bearer token.
    pub key: Option<String>,
    /// Requests at a time.
    pub concurrency: usize,
    /// Longest time for one request.
    pub timeout: Duration,
    /// How often a request is tried again when the server is busy or out of reach.
    pub retries: u32,
}

/// A server that answers `/v1/chat/completions`.
pub struct Server {
    agent: ureq::Agent,
    base: String,
    model: String,
    key: Option<String>,
    retries: u32,
    ask: Ask,
    gone: AtomicBool,
}

/// What came back: a body, or why not.
enum Reply {
    Body(Value),
    /// This request failed for good.
    Refused(String),
    /// Worth another try, after this time if the server says so.
    Busy(String, Option<Duration>),
    /// The connection failed.
    Unreachable(String),
    /// The server wants nothing of this kind from us: no key, no such model.
    Shut(String),
}

impl Server {
    /// Asks the server for its models when none is named; nothing else is sent yet.
    pub fn connect(options: &ServerOptions, ask: Ask) -> Result<Self> {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(options.timeout.min(Duration::from_secs(10))))
            .timeout_global(Some(options.timeout))
            .max_idle_connections_per_host(options.concurrency)
            .user_agent(concat!("swinseek/", env!("CARGO_PKG_VERSION")))
            .build();
        let trimmed = options.url.trim_end_matches('/').trim_end_matches("/chat/completions");
        let base = format!("{}/v1", trimmed.trim_end_matches("/v1"));
        let mut server = Self {
            agent: config.into(),
            base,
            model: String::new(),
            key: options.key.clone(),
            retries: options.retries,
            ask,
            gone: AtomicBool::new(false),
        };
        server.model = match &options.model {
            Some(model) => model.clone(),
            None => server.first_model()?,
        };
        Ok(server)
    }

    fn first_model(&self) -> Result<String> {
        let url = format!("{}/models", self.base);
        let body = self.patiently(&url, || self.send(&url, None)).map_err(anyhow::Error::from)?;
        match body.pointer("/data/0/id").and_then(Value::as_str) {
            Some(model) => Ok(model.to_owned()),
            None => bail!("{url}: no model is listed; name one with --served-model"),
        }
    }

    /// One request; `body` makes it a POST.
    fn send(&self, url: &str, body: Option<&str>) -> Reply {
        let key = self.key.as_ref().map(|key| format!("Bearer {key}"));
        let response = if let Some(body) = body {
            let request = self.agent.post(url).header("content-type", "application/json");
            let request = key.iter().fold(request, |request, key| request.header("authorization", key));
            request.send(body)
        } else {
            let request = self.agent.get(url);
            key.iter().fold(request, |request, key| request.header("authorization", key)).call()
        };
        let mut response = match response {
            Ok(response) => response,
            Err(error) => return failure(&error),
        };
        let (status, wait) = (response.status(), retry_after(response.headers()));
        match response.body_mut().with_config().limit(LARGEST_ANSWER).read_to_string() {
            Ok(text) => reply(status, wait, &text),
            Err(error) => failure(&error),
        }
    }

    /// Tries again while the server is busy or out of reach.
    fn patiently(&self, url: &str, send: impl Fn() -> Reply) -> Result<Value, CandidateError> {
        let mut wait = FIRST_WAIT;
        for tried in 0.. {
            let last = tried >= self.retries;
            let asked_for = match send() {
                Reply::Body(body) => return Ok(body),
                Reply::Refused(message) => return Err(CandidateError::Item(format!("{url}: {message}"))),
                Reply::Shut(message) => return Err(CandidateError::Gone(format!("{url}: {message}"))),
                Reply::Busy(message, _) if last => {
                    return Err(CandidateError::Item(format!("{url}: {message}, after {} tries", tried + 1)));
                }
                Reply::Unreachable(message) if last || self.gone.load(Ordering::Relaxed) => {
                    // Requests that are still waiting need not all find out for themselves.
                    self.gone.store(true, Ordering::Relaxed);
                    return Err(CandidateError::Gone(format!("{url}: {message}")));
                }
                Reply::Busy(_, asked_for) => asked_for,
                Reply::Unreachable(_) => None,
            };
            pause(asked_for.unwrap_or(wait).min(LONGEST_WAIT));
            wait *= 2;
        }
        Err(CandidateError::Item(format!("{url}: no answer")))
    }

    fn body(&self, item: &Item, sight: Sight) -> Result<String> {
        let mut content = Vec::new();
        for (place, path) in item.images.iter().enumerate() {
            let mut bytes = image_bytes(path)?;
            if sight == Sight::Noise {
                let picture =
                    decode(&bytes, &DecodeOptions::default()).with_context(|| path.display().to_string())?;
                bytes = noise::png_like(&picture, self.ask.seed, &item.id, place)?;
            }
            let mime = mime(&bytes).with_context(|| format!("{}: is no picture", path.display()))?;
            let url = format!("data:{mime};base64,{}", STANDARD.encode(&bytes));
            content.push(json!({ "type": "image_url", "image_url": { "url": url } }));
        }
        content.push(json!({ "type": "text", "text": self.ask.prompt_of(item) }));
        let body = json!({
            "model": self.model,
            "messages": [{ "role": "user", "content": content }],
            "max_tokens": self.ask.max_tokens,
            "temperature": 0,
            "seed": self.ask.seed,
        });
        Ok(body.to_string())
    }
}

impl Candidate for Server {
    fn describe(&self) -> Value {
        json!({ "kind": "server", "name": self.model, "url": self.base })
    }

    fn answer(&self, item: &Item, sight: Sight) -> Result<String, CandidateError> {
        let body =
            self.body(item, sight).map_err(|error| CandidateError::Item(crate::cli::one_line(&error)))?;
        let url = format!("{}/chat/completions", self.base);
        let reply = self.patiently(&url, || self.send(&url, Some(&body)))?;
        text(&reply).ok_or_else(|| {
            CandidateError::Item(format!("{url}: the answer has no text at choices[0].message.content"))
        })
    }
}

/// The answer's text; some servers give it in parts.
fn text(reply: &Value) -> Option<String> {
    match reply.pointer("/choices/0/message/content")? {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => parts.iter().map(|part| part.get("text")?.as_str()).collect(),
        _ => None,
    }
}

fn reply(status: StatusCode, wait: Option<Duration>, text: &str) -> Reply {
    let body: Option<Value> = serde_json::from_str(text).ok();
    if status.is_success() {
        return match body {
            Some(body) => Reply::Body(body),
            None => Reply::Refused(format!("the answer is not JSON: {}", beginning(text))),
        };
    }
    let message = body.as_ref().and_then(|body| {
        let error = body.get("error")?;
        error.as_str().or_else(|| error.get("message")?.as_str())
    });
    let reason = format!("HTTP {}: {}", status.as_u16(), beginning(message.unwrap_or(text)));
    match status.as_u16() {
        429 | 503 => Reply::Busy(reason, wait),
        401 | 403 | 404 => Reply::Shut(reason),
        _ => Reply::Refused(reason),
    }
}

fn failure(error: &ureq::Error) -> Reply {
    match error {
        ureq::Error::Io(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => {
            Reply::Unreachable(format!("the server cannot be reached: {error}"))
        }
        _ => Reply::Refused(error.to_string()),
    }
}

/// The first line, shortened: errors are one line.
fn beginning(text: &str) -> String {
    text.trim().lines().next().unwrap_or("no body").chars().take(200).collect()
}

/// `Retry-After` in seconds; its other form, a date, is left to our own waiting.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Waits; parked threads may wake early.
fn pause(length: Duration) {
    let end = Instant::now() + length;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// The type of a picture, by content.
pub(crate) fn mime(bytes: &[u8]) -> Option<&'static str> {
    Some(match sniff(bytes)? {
        Format::Png => "image/png",
        Format::Jpeg => "image/jpeg",
        Format::Gif => "image/gif",
        Format::WebP => "image/webp",
        Format::Bmp => "image/bmp",
        Format::Tiff => "image/tiff",
        Format::Dicom => "application/dicom",
        _ => return None,
    })
}
