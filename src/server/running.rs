//! From a prepared request to answers under way: recorded, submitted, measured.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use futures_util::future::join_all;
use futures_util::stream::{Stream, select_all, unfold};
use swinseek_fusion::FinishReason;
use swinseek_fusion::evidence::Sentence;
use swinseek_language::constraint::Constraint;

use super::admission::Ticket;
use super::audit::Record;
use super::auth::Caller;
use super::error::{ApiError, ApiResult};
use super::observe::RequestId;
use super::sampling::Plan;
use super::state::App;
use crate::engine::{Event, FailKind, Job, PreparedImage, Refusal};

/// The engine is told the deadline; this much later nobody waits for it any more.
const GRACE: Duration = Duration::from_secs(2);

/// A request that has passed all checks.
pub(super) struct Prepared {
    /// One entry for each prompt, with what it may generate.
    pub(super) prompts: Vec<Prompt>,
    pub(super) images: Vec<PreparedImage>,
    /// BLAKE3 of each image's file.
    pub(super) digests: Vec<String>,
    pub(super) plan: Plan,
    pub(super) evidence: bool,
    /// BLAKE3 of the `user` parameter.
    pub(super) user: Option<String>,
}

/// A prompt and what is wanted after it.
pub(super) struct Prompt {
    pub(super) ids: Vec<u32>,
    pub(super) max_new_tokens: usize,
    /// One for each choice, or none at all.
    pub(super) constraints: Vec<Box<dyn Constraint>>,
}

/// BLAKE3 of the `user` parameter: what the audit file keeps of it.
pub(super) fn user_digest(user: Option<&str>) -> Option<String> {
    user.map(|user| blake3::hash(user.as_bytes()).to_hex().to_string())
}

/// Where a request came from.
pub(super) struct Origin {
    pub(super) endpoint: &'static str,
    pub(super) caller: Caller,
    pub(super) id: RequestId,
}

/// Answers under way, prompt by prompt and choice by choice. Dropping it cancels them.
pub(super) struct Running {
    pub(super) answers: Vec<Answer>,
    /// Seed of each answer.
    pub(super) seeds: Vec<u64>,
}

/// One answer under way.
pub(super) struct Answer {
    stream: crate::engine::Stream,
    app: App,
    /// Keeps the key's place taken for as long as it runs.
    _caller: Caller,
    started: Instant,
    deadline: Instant,
    last_token: Option<Instant>,
    ended: bool,
}

/// A token with what the API says of it.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) id: u32,
    pub(super) logprob: f32,
    pub(super) top_logprobs: Vec<(u32, f32)>,
}

/// An answer that has ended well.
#[derive(Debug, Clone)]
pub(super) struct Finished {
    pub(super) text: String,
    pub(super) tokens: Vec<Token>,
    pub(super) reason: FinishReason,
    pub(super) sentences: Vec<Sentence>,
    pub(super) counts: Counts,
}

/// What `usage` is made of.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) prompt: usize,
    pub(super) cached: usize,
    pub(super) image: usize,
    pub(super) completion: usize,
}

impl App {
    /// Records the request and gives all its jobs to the engine: all are taken, or the request is refused.
    pub(super) async fn launch(
        &self,
        prepared: Prepared,
        ticket: Ticket,
        origin: Origin,
    ) -> ApiResult<Running> {
        let started =
            ticket.deadline.checked_sub(self.settings.timeouts.request).unwrap_or_else(Instant::now);
        let Origin { endpoint, caller, id } = origin;
        self.record(Record {
            request_id: id.0.to_string(),
            caller: caller.name().map(str::to_owned),
            user: prepared.user.clone(),
            endpoint,
            model: self.engine.info().digest.clone(),
            images: prepared.digests.clone(),
        })
        .await?;
        let mut running = Running { answers: Vec::new(), seeds: Vec::new() };
        for (job, seed) in jobs(prepared, ticket.deadline) {
            let stream = self.engine.submit(job).map_err(|refusal| refused(&refusal))?;
            running.seeds.push(seed);
            running.answers.push(Answer {
                stream,
                app: self.clone(),
                _caller: caller.clone(),
                started,
                deadline: ticket.deadline,
                last_token: None,
                ended: false,
            });
        }
        Ok(running)
    }
}

/// The jobs of a request with their seeds: choice `i` draws with `seed + i`.
fn jobs(prepared: Prepared, deadline: Instant) -> Vec<(Job, u64)> {
    let Prepared { prompts, images, plan, evidence, .. } = prepared;
    let mut jobs = Vec::new();
    for prompt in prompts {
        let mut constraints = prompt.constraints.into_iter();
        for choice in 0..plan.choices {
            let mut sampling = plan.sampling.clone();
            sampling.seed = sampling.seed.wrapping_add(choice as u64);
            let seed = sampling.seed;
            let job = Job {
                prompt: prompt.ids.clone(),
                images: images.clone(),
                sampling,
                max_new_tokens: prompt.max_new_tokens,
                stop: plan.stop.clone(),
                constraint: constraints.next(),
                evidence,
                deadline: Some(deadline),
            };
            jobs.push((job, seed));
        }
    }
    jobs
}

fn refused(refusal: &Refusal) -> ApiError {
    let message = refusal.to_string();
    match refusal {
        Refusal::QueueFull { retry_after, .. } => ApiError::busy(message, retry_after.as_secs()),
        Refusal::TooLong { .. } => {
            ApiError::new(StatusCode::BAD_REQUEST, message).code("context_length_exceeded")
        }
        Refusal::Invalid(_) => ApiError::new(StatusCode::BAD_REQUEST, message).code("invalid_value"),
        Refusal::ShuttingDown => ApiError::shutting_down(),
    }
}

/// What a failed job is to the client.
pub(super) fn failure(kind: FailKind, message: &str) -> ApiError {
    match kind {
        FailKind::Deadline => ApiError::deadline(),
        FailKind::Shutdown => ApiError::shutting_down(),
        FailKind::Internal | FailKind::Model => {
            tracing::error!(?kind, message, "a job failed");
            ApiError::internal()
        }
    }
}

impl Answer {
    /// The next event; `None` after the last. A stream that breaks off without a last event counts as failed.
    pub(super) async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        let failed = |kind, message: &str| Event::Failed { kind, message: message.to_owned() };
        let event = match tokio::time::timeout_at((self.deadline + GRACE).into(), self.stream.next()).await {
            Ok(Some(event)) => event,
            Ok(None) => failed(FailKind::Internal, "the engine dropped the job"),
            Err(_) => failed(FailKind::Deadline, "the engine did not end the job in time"),
        };
        self.measure(&event);
        Some(event)
    }

    fn measure(&mut self, event: &Event) {
        let metrics = &self.app.metrics;
        let now = Instant::now();
        match event {
            Event::Started { .. } => {}
            Event::Token { .. } => {
                match self.last_token {
                    None => metrics.first_token.observe((now - self.started).as_secs_f64()),
                    Some(last) => metrics.between_tokens.observe((now - last).as_secs_f64()),
                }
                self.last_token = Some(now);
            }
            Event::Finished { reason, .. } => {
                self.ended = true;
                metrics.whole.observe((now - self.started).as_secs_f64());
                metrics.success.with_label_values(&[finish_name(*reason)]).inc();
            }
            Event::Failed { kind, .. } => {
                self.ended = true;
                let reason = match kind {
                    FailKind::Deadline => "deadline_exceeded",
                    FailKind::Shutdown => "shutting_down",
                    FailKind::Internal | FailKind::Model => "failed",
                };
                metrics.refused.with_label_values(&[reason]).inc();
            }
        }
    }

    /// Waits for the whole answer.
    async fn finish(mut self) -> ApiResult<Finished> {
        let mut tokens = Vec::new();
        let mut counts = Counts::default();
        while let Some(event) = self.next().await {
            match event {
                Event::Started { prompt_tokens, cached_tokens, image_tokens } => {
                    counts = Counts::of_prompt(prompt_tokens, cached_tokens, image_tokens);
                }
                Event::Token { id, logprob, top_logprobs, .. } => {
                    tokens.push(Token { id, logprob, top_logprobs });
                }
                Event::Finished { reason, text, sentences, .. } => {
                    counts.completion = tokens.len();
                    return Ok(Finished { text, tokens, reason, sentences, counts });
                }
                Event::Failed { kind, message } => return Err(failure(kind, &message)),
            }
        }
        Err(ApiError::internal())
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.ended {
            self.app.metrics.cancelled.inc();
        }
    }
}

impl Running {
    /// Waits for all answers.
    pub(super) async fn finish(self) -> ApiResult<Vec<Finished>> {
        join_all(self.answers.into_iter().map(Answer::finish)).await.into_iter().collect()
    }

    /// The events of all answers as they come, each with the answer's index.
    pub(super) fn merged(self) -> impl Stream<Item = (usize, Event)> + Send + Unpin {
        select_all(self.answers.into_iter().enumerate().map(|(index, answer)| {
            Box::pin(unfold(answer, move |mut answer| async move {
                answer.next().await.map(|event| ((index, event), answer))
            }))
        }))
    }
}

impl Counts {
    /// As an answer starts.
    pub(super) fn of_prompt(prompt: usize, cached: usize, image: usize) -> Self {
        Self { prompt, cached, image, completion: 0 }
    }

    /// Choices of one prompt share its tokens.
    pub(super) fn of(answers: &[Finished], choices: usize) -> Self {
        let mut sum = Self::default();
        for (index, answer) in answers.iter().enumerate() {
            sum.add(index % choices == 0, answer.counts);
        }
        sum
    }

    pub(super) fn add(&mut self, first_of_prompt: bool, other: Self) {
        if first_of_prompt {
            self.prompt += other.prompt;
            self.cached += other.cached;
            self.image += other.image;
        }
        self.completion += other.completion;
    }
}

/// As OpenAI calls it.
pub(super) fn finish_name(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::Cancelled => "cancelled",
    }
}
