//! One job in the worker's hands.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use anyhow::Result;
use swinseek_fusion::FinishReason;
use swinseek_fusion::evidence;
use swinseek_fusion::generate::Token;
use swinseek_fusion::session::Prediction;
use swinseek_language::constraint::Constraint;
use swinseek_language::sampler::Sampler;
use swinseek_language::text_stream::TextStream;
use swinseek_vision::preprocess::Geometry;
use tokio::sync::mpsc::UnboundedSender;

use super::byte_lru::Key;
use super::queue::Queued;
use super::{EngineModel, Event, FailKind, PreparedImage};

/// A job that has a place.
pub(super) struct Sequence<M: EngineModel> {
    events: UnboundedSender<Event>,
    /// When it got its place.
    pub(super) since: Instant,
    deadline: Option<Instant>,
    prompt_len: usize,
    /// Prompt and answer.
    history: Vec<u32>,
    sampler: Sampler,
    constraint: Option<Box<dyn Constraint>>,
    text: TextStream,
    tokens: Vec<Token>,
    max_new_tokens: usize,
    pub(super) evidence: bool,
    /// Images that are not encoded yet, the first one last.
    pub(super) images: Vec<PreparedImage>,
    pub(super) encoded: Vec<M::Image>,
    geometry: Vec<Geometry>,
    image_tokens: usize,
    /// BLAKE3 of the images' digests, and of the prompt tokens that were read.
    prefix: blake3::Hasher,
    pub(super) memory: Option<M::Memory>,
    pub(super) cache: M::Cache,
    /// Prompt tokens that were read.
    read: usize,
    /// Those of them that came from the prefix cache.
    cached: usize,
    /// Tokens of the answer that have been counted.
    counted: usize,
}

/// Why a sequence cannot go on.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: FailKind,
    pub(super) message: String,
}

/// What became of a sequence when a token was predicted.
#[derive(Debug)]
pub(super) enum Outcome {
    GoesOn,
    Ends(FinishReason),
    Fails(Failure),
}

/// Calls `call`; a panic inside of it is a [`Failure`] like any other.
pub(super) fn guarded<T>(what: &str, call: impl FnOnce() -> Result<T>) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure { kind: FailKind::Model, message: format!("{what}: {error:#}") }),
        // The panic's own words may hold anything; they are on standard error.
        Err(_) => Err(Failure { kind: FailKind::Internal, message: format!("{what}: internal error") }),
    }
}

impl<M: EngineModel> Sequence<M> {
    pub(super) fn new(model: &M, queued: Queued) -> Result<Self> {
        let Queued { job, events } = queued;
        let mut prefix = blake3::Hasher::new();
        prefix.update(&(job.images.len() as u64).to_le_bytes());
        job.images.iter().for_each(|image| {
            prefix.update(&image.digest);
        });
        Ok(Self {
            events,
            since: Instant::now(),
            deadline: job.deadline,
            prompt_len: job.prompt.len(),
            sampler: Sampler::new(job.sampling)?.with_prompt_len(job.prompt.len()),
            constraint: job.constraint,
            text: model.text_stream(&job.stop)?,
            tokens: Vec::new(),
            max_new_tokens: job.max_new_tokens,
            evidence: job.evidence,
            geometry: job.images.iter().map(|image| image.pixels.geometry.clone()).collect(),
            image_tokens: job.images.iter().map(|image| image.tokens).sum(),
            images: job.images.into_iter().rev().collect(),
            encoded: Vec::new(),
            history: job.prompt,
            prefix,
            memory: None,
            cache: model.new_cache(),
            read: 0,
            cached: 0,
            counted: 0,
        })
    }

    /// Whether its client went away.
    pub(super) fn is_cancelled(&self) -> bool {
        self.events.is_closed()
    }

    /// Whether its time is up.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// The next at most `chunk` tokens of the prompt.
    pub(super) fn next_chunk(&self, chunk: usize) -> &[u32] {
        let rest = &self.history[self.read..self.prompt_len];
        &rest[..rest.len().min(chunk)]
    }

    /// Whether a chunk of that length ends the prompt.
    pub(super) fn is_last(&self, length: usize) -> bool {
        self.read + length == self.prompt_len
    }

    /// What the keys and values of the next `length` tokens depend on: images, all tokens before, and these.
    pub(super) fn prefix_key(&self, length: usize) -> Key {
        let mut prefix = self.prefix.clone();
        for id in &self.history[self.read..self.read + length] {
            prefix.update(&id.to_le_bytes());
        }
        *prefix.finalize().as_bytes()
    }

    /// Counts the next `length` tokens as read.
    pub(super) fn advance_prompt(&mut self, length: usize, cached: bool) {
        for id in &self.history[self.read..self.read + length] {
            self.prefix.update(&id.to_le_bytes());
        }
        self.read += length;
        self.cached += if cached { length } else { 0 };
    }

    /// Prompt tokens, and those from the prefix cache.
    pub(super) fn prompt_counts(&self) -> (usize, usize) {
        (self.prompt_len, self.cached)
    }

    /// A remembered prediction as this sequence would have got it, if it holds what is needed.
    pub(super) fn usable(&self, prediction: Option<&Prediction>) -> Option<Prediction> {
        let prediction = prediction?;
        if !self.evidence {
            return Some(Prediction { logits: prediction.logits.clone(), attention: Vec::new() });
        }
        (self.memory.is_none() || !prediction.attention.is_empty()).then(|| prediction.clone())
    }

    /// Says that the prompt has been read.
    pub(super) fn announce(&self) {
        self.send(Event::Started {
            prompt_tokens: self.prompt_len,
            cached_tokens: self.cached,
            image_tokens: self.image_tokens,
        });
    }

    /// Tokens chosen since the last call.
    pub(super) fn take_new_tokens(&mut self) -> usize {
        self.tokens.len() - std::mem::replace(&mut self.counted, self.tokens.len())
    }

    /// The token to run next.
    pub(super) fn last_token(&self) -> u32 {
        self.history.last().copied().unwrap_or_default()
    }

    /// Chooses the next token, exactly as [`generate`](swinseek_fusion::generate()) does, and tells the client.
    pub(super) fn advance(&mut self, prediction: Prediction, stop_ids: &[u32]) -> Outcome {
        match guarded("sampling", || self.choose(prediction, stop_ids)) {
            Ok(None) => Outcome::GoesOn,
            Ok(Some(reason)) => Outcome::Ends(reason),
            Err(failure) => Outcome::Fails(failure),
        }
    }

    fn choose(&mut self, prediction: Prediction, stop_ids: &[u32]) -> Result<Option<FinishReason>> {
        let Prediction { logits, attention } = prediction;
        let allowed = self.constraint.as_mut().map(|constraint| constraint.allowed()).transpose()?;
        let sampled = match &allowed {
            Some(mask) => self.sampler.sample_allowed(&logits, &self.history, mask)?,
            None => self.sampler.sample(&logits, &self.history)?,
        };
        if stop_ids.contains(&sampled.id) {
            return Ok(Some(FinishReason::Stop));
        }
        if let Some(constraint) = &mut self.constraint {
            constraint.accept(sampled.id)?;
        }
        self.history.push(sampled.id);
        let text = self.text.push(sampled.id)?.to_owned();
        let top_logprobs = sampled.top_logprobs;
        self.send(Event::Token {
            id: sampled.id,
            text,
            logprob: sampled.logprob,
            top_logprobs: top_logprobs.clone(),
        });
        self.tokens.push(Token { id: sampled.id, logprob: sampled.logprob, top_logprobs, attention });
        let done = self.constraint.as_ref().is_some_and(|constraint| constraint.is_done());
        Ok(if done || self.text.stopped().is_some() {
            Some(FinishReason::Stop)
        } else if self.tokens.len() >= self.max_new_tokens {
            Some(FinishReason::Length)
        } else {
            None
        })
    }

    /// The last event of an answer.
    pub(super) fn finish(&mut self, model: &M, reason: FinishReason) -> Result<Event, Failure> {
        guarded("the answer's text", || {
            let rest = self.text.finish()?.to_owned();
            let layout = self.memory.as_ref().and_then(|memory| model.layout(memory));
            let sentences = evidence::sentences(&self.text.sentences(), &self.tokens, layout, &self.geometry);
            // A held-back end may have turned out to be a stop string.
            let reason = if self.text.stopped().is_some() { FinishReason::Stop } else { reason };
            Ok(Event::Finished { reason, rest, text: self.text.text().to_owned(), sentences })
        })
    }

    /// Tells the client, if it is still there.
    pub(super) fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }
}
