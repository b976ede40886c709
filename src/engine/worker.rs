//! The thread that owns the model.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use rayon::prelude::*;
use swinseek_fusion::session::{DecodeRow, Prediction};

use super::byte_lru::ByteLru;
use super::queue::{Phase, Shared};
use super::sequence::{Failure, Outcome, Sequence, guarded};
use super::{EngineConfig, EngineModel, Event, FailKind, Stats};

/// How much one more job counts in the average time a job takes.
const AVERAGE_WEIGHT: f64 = 0.1;

/// Works until the engine is shut down.
pub(super) fn run<M: EngineModel>(model: M, config: &EngineConfig, shared: &Shared) {
    let _end = End(shared);
    let mut worker = Worker {
        features: ByteLru::new(config.feature_cache_bytes),
        prefixes: ByteLru::new(config.prefix_cache_bytes),
        preparing: VecDeque::new(),
        running: Vec::new(),
        model,
        config,
        shared,
    };
    // Calls into the model are guarded one by one; this is for whatever else may go wrong.
    while catch_unwind(AssertUnwindSafe(|| worker.turn())).unwrap_or_else(|_| {
        worker.fail_all(FailKind::Internal, "internal error");
        true
    }) {}
}

/// Whatever ends the worker, nobody waits for it in vain.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.enter(Phase::Stopped);
        self.0.lock().clear();
    }
}

/// Keys and values of one chunk of a prompt, behind everything that its key covers.
struct PrefixBlock<C> {
    cache: C,
    /// What follows, if the prompt ends with this chunk.
    prediction: Option<Prediction>,
}

struct Worker<'a, M: EngineModel> {
    model: M,
    config: &'a EngineConfig,
    shared: &'a Shared,
    features: ByteLru<M::Image>,
    prefixes: ByteLru<PrefixBlock<M::Cache>>,
    /// Jobs whose images and prompt are being read, each a unit in turn.
    preparing: VecDeque<Sequence<M>>,
    /// Jobs that decode.
    running: Vec<Sequence<M>>,
}

impl<M: EngineModel> Worker<'_, M> {
    /// Everything between two decoding steps, and the step. False when the engine is to stop.
    fn turn(&mut self) -> bool {
        let idle = self.preparing.is_empty() && self.running.is_empty();
        if idle {
            self.shared.wait_for_work();
        }
        let phase = self.admit();
        if phase == Phase::Stopping {
            self.fail_all(FailKind::Shutdown, "the engine is shutting down");
            return false;
        }
        self.sweep();
        self.prepare();
        self.decode();
        let (images, prefixes) = (self.features.bytes(), self.prefixes.bytes());
        self.count(|stats| (stats.image_bytes, stats.prefix_bytes) = (images, prefixes));
        let idle = self.preparing.is_empty() && self.running.is_empty();
        phase == Phase::Open || !idle || !self.shared.lock().queue.is_empty()
    }

    /// Gives free places to jobs that wait, first come, first served.
    fn admit(&mut self) -> Phase {
        loop {
            let mut state = self.shared.lock();
            state.purge(Instant::now());
            let active = self.preparing.len() + self.running.len();
            state.stats.running = active;
            if state.phase == Phase::Stopping || active >= self.config.max_batch {
                return state.phase;
            }
            let Some(queued) = state.queue.pop_front() else {
                return state.phase;
            };
            state.stats.queued = state.queue.len();
            state.stats.running += 1;
            drop(state);
            let events = queued.events.clone();
            match guarded("the request", || Sequence::new(&self.model, queued)) {
                Ok(sequence) => self.preparing.push_back(sequence),
                Err(Failure { kind, message }) => {
                    self.count(|stats| stats.failed += 1);
                    let _ = events.send(Event::Failed { kind, message });
                }
            }
        }
    }

    /// Frees the places of jobs whose client is gone or whose time is up.
    fn sweep(&mut self) {
        let now = Instant::now();
        let over = |sequence: &Sequence<M>| sequence.is_cancelled() || sequence.is_late(now);
        let mut ended: Vec<Sequence<M>> = self.running.extract_if(.., |sequence| over(sequence)).collect();
        for _ in 0..self.preparing.len() {
            let Some(sequence) = self.preparing.pop_front() else { break };
            if over(&sequence) { ended.push(sequence) } else { self.preparing.push_back(sequence) }
        }
        for sequence in ended {
            if sequence.is_cancelled() {
                self.release(&sequence, |stats| stats.cancelled += 1);
            } else {
                let message = "the deadline passed before the answer was complete".to_owned();
                self.fail(&sequence, Failure { kind: FailKind::Deadline, message });
            }
        }
    }

    /// Reads images and prompts, about as much as a chunk, so that those who decode do not wait for long.
    fn prepare(&mut self) {
        let mut budget = self.config.prefill_chunk;
        while budget > 0
            && let Some(mut sequence) = self.preparing.pop_front()
        {
            // An image that has to be encoded is much work: one between two steps.
            let cost = match sequence.images.last() {
                Some(image) if self.features.contains(&image.digest) => 1,
                Some(_) => budget,
                None => sequence.next_chunk(budget).len(),
            };
            budget = budget.saturating_sub(cost.max(1));
            let image = !sequence.images.is_empty();
            let mut outcome = self.unit(&mut sequence);
            if image && sequence.images.is_empty() && matches!(outcome, Ok(None)) {
                // The words behind an image are few: their answer need not wait for another step of the others.
                outcome = self.unit(&mut sequence);
            }
            match outcome {
                Ok(None) => self.preparing.push_back(sequence),
                Ok(Some(prediction)) => self.start(sequence, prediction),
                Err(failure) => self.fail(&sequence, failure),
            }
        }
    }

    /// Encodes an image, or reads a chunk of the prompt; the prediction when it was the last one.
    fn unit(&mut self, sequence: &mut Sequence<M>) -> Result<Option<Prediction>, Failure> {
        if let Some(image) = sequence.images.last() {
            let found = self.features.get(&image.digest).cloned();
            self.count(|stats| if found.is_some() { stats.image_hits += 1 } else { stats.image_misses += 1 });
            let encoded = if let Some(encoded) = found {
                encoded
            } else {
                let encoded = guarded("the image", || self.model.encode(image))?;
                self.features.insert(image.digest, encoded.clone(), self.model.image_bytes(&encoded));
                encoded
            };
            sequence.encoded.push(encoded);
            sequence.images.pop();
            return Ok(None);
        }
        if sequence.memory.is_none() && !sequence.encoded.is_empty() {
            sequence.memory = Some(guarded("the images", || self.model.memory(&sequence.encoded))?);
            sequence.encoded.clear();
        }
        match self.recall(sequence)? {
            Some(prediction) => Ok(Some(prediction)),
            None => self.read_chunk(sequence),
        }
    }

    /// Takes as many chunks as there are from the prefix cache; the prediction if that was all of the prompt.
    fn recall(&mut self, sequence: &mut Sequence<M>) -> Result<Option<Prediction>, Failure> {
        while self.prefixes.is_on() {
            let length = sequence.next_chunk(self.config.prefill_chunk).len();
            let Some(block) = self.prefixes.get(&sequence.prefix_key(length)) else { break };
            let prediction = sequence.is_last(length).then(|| sequence.usable(block.prediction.as_ref()));
            if let Some(None) = prediction {
                break;
            }
            guarded("the prefix cache", || self.model.append(&mut sequence.cache, &block.cache))?;
            sequence.advance_prompt(length, true);
            if let Some(prediction) = prediction {
                return Ok(prediction);
            }
        }
        Ok(None)
    }

    /// Runs the next chunk of the prompt and remembers it.
    fn read_chunk(&mut self, sequence: &mut Sequence<M>) -> Result<Option<Prediction>, Failure> {
        let (model, evidence) = (&self.model, sequence.evidence);
        let at = model.cache_len(&sequence.cache);
        let ids = sequence.next_chunk(self.config.prefill_chunk).to_vec();
        let last = sequence.is_last(ids.len());
        let (memory, cache) = (sequence.memory.as_ref(), &mut sequence.cache);
        let prediction = guarded("reading the prompt", || {
            if last {
                return model.prefill_last(&ids, memory, cache, evidence).map(Some);
            }
            model.prefill(&ids, memory, cache).map(|()| None)
        })?;
        if self.prefixes.is_on() {
            let cache = guarded("the prefix cache", || {
                model.copy(&sequence.cache, at..model.cache_len(&sequence.cache))
            })?;
            let floats = prediction.as_ref().map_or(0, |p| p.logits.len() + p.attention.len());
            let bytes = model.cache_bytes(&cache) + floats * size_of::<f32>();
            let block = PrefixBlock { cache, prediction: prediction.clone() };
            self.prefixes.insert(sequence.prefix_key(ids.len()), block, bytes);
        }
        sequence.advance_prompt(ids.len(), false);
        Ok(prediction)
    }

    /// The prompt has been read: the first token.
    fn start(&mut self, mut sequence: Sequence<M>, prediction: Prediction) {
        let (prompt, cached) = sequence.prompt_counts();
        self.count(|stats| {
            stats.prompt_tokens += prompt as u64;
            stats.cached_tokens += cached as u64;
            if cached > 0 { stats.prefix_hits += 1 } else { stats.prefix_misses += 1 }
        });
        sequence.announce();
        let outcome = sequence.advance(prediction, self.model.stop_ids());
        self.settle(vec![(sequence, outcome)]);
    }

    /// One step of all jobs that decode.
    fn decode(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let mut running = std::mem::take(&mut self.running);
        let mut rows: Vec<_> = running
            .iter_mut()
            .map(|sequence| DecodeRow {
                token: sequence.last_token(),
                memory: sequence.memory.as_ref(),
                attention: sequence.evidence,
                cache: &mut sequence.cache,
            })
            .collect();
        let wanted = rows.len();
        let predictions = guarded("decoding", || {
            let predictions = self.model.decode(&mut rows)?;
            anyhow::ensure!(predictions.len() == wanted, "{} results for {wanted} rows", predictions.len());
            Ok(predictions)
        });
        match predictions {
            Ok(predictions) => {
                let stop_ids = self.model.stop_ids();
                let advance = |(mut sequence, prediction): (Sequence<M>, Prediction)| {
                    let outcome = sequence.advance(prediction, stop_ids);
                    (sequence, outcome)
                };
                let advanced = running.into_par_iter().zip(predictions).map(advance).collect();
                self.count(|stats| stats.steps += 1);
                self.settle(advanced);
            }
            // What the caches hold after a failure is not known: they go with their jobs.
            Err(Failure { kind, message }) => {
                for sequence in running {
                    self.fail(&sequence, Failure { kind, message: message.clone() });
                }
            }
        }
    }

    /// Keeps jobs that go on and ends the others.
    fn settle(&mut self, advanced: Vec<(Sequence<M>, Outcome)>) {
        for (mut sequence, outcome) in advanced {
            let new = sequence.take_new_tokens();
            self.count(|stats| stats.generated_tokens += new as u64);
            match outcome {
                Outcome::GoesOn => self.running.push(sequence),
                Outcome::Ends(reason) => match sequence.finish(&self.model, reason) {
                    Ok(event) => {
                        self.release(&sequence, |stats| stats.finished += 1);
                        sequence.send(event);
                    }
                    Err(failure) => self.fail(&sequence, failure),
                },
                Outcome::Fails(failure) => self.fail(&sequence, failure),
            }
        }
    }

    /// Ends a job without an answer.
    fn fail(&mut self, sequence: &Sequence<M>, Failure { kind, message }: Failure) {
        if kind == FailKind::Internal {
            // A bug may have left anything behind.
            self.features.clear();
            self.prefixes.clear();
        }
        self.release(sequence, |stats| match kind {
            FailKind::Deadline => stats.deadlines += 1,
            _ => stats.failed += 1,
        });
        sequence.send(Event::Failed { kind, message });
    }

    /// Counts the end of a job before its client hears of it.
    fn release(&self, sequence: &Sequence<M>, count: impl FnOnce(&mut Stats)) {
        let mut state = self.shared.lock();
        let seconds = sequence.since.elapsed().as_secs_f64();
        state.job_seconds += AVERAGE_WEIGHT * (seconds - state.job_seconds);
        state.stats.running = state.stats.running.saturating_sub(1);
        count(&mut state.stats);
    }

    /// Fails every job that has a place.
    fn fail_all(&mut self, kind: FailKind, message: &str) {
        let sequences: Vec<_> = self.preparing.drain(..).chain(self.running.drain(..)).collect();
        for sequence in sequences {
            self.fail(&sequence, Failure { kind, message: message.to_owned() });
        }
    }

    fn count(&self, count: impl FnOnce(&mut Stats)) {
        count(&mut self.shared.lock().stats);
    }
}
