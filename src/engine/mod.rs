//! Many requests at once on one model, each getting bit for bit what it would get alone.
//!
//! One worker thread owns the model. Jobs join and leave between decoding steps (continuous batching); prompts are read
//! in chunks between steps, so that running answers keep flowing; encoded images and the keys and values of shared
//! prompts are kept in caches of bounded size. A client that goes away frees its place at the next step.
//!
//! ```text
//! submit -> queue -> [encode images -> prefill] -> decode, one step for all -> Stream
//!                     one unit between steps       sampler, text stream and caches per job
//! ```

mod byte_lru;
mod job;
mod joined;
mod model;
mod queue;
mod sequence;
mod stats;
mod worker;

use std::sync::Arc;

use anyhow::{Context, Result};
use swinseek_fusion::generate::PREFILL_CHUNK;
use swinseek_kernels::threads::in_pool;

pub use job::{Event, FailKind, Job, PreparedImage, Refusal, Stream};
pub use joined::{Frontend, JoinedModel};
pub use model::{EngineModel, ModelInfo};
use queue::{Phase, Queued, Shared};
pub use stats::Stats;

/// Sizes of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Most jobs that run together.
    pub max_batch: usize,
    /// Most jobs that wait while all places are taken. Whoever waits longer than a reader would is better told at once.
    pub max_queue: usize,
    /// Tokens of a prompt that are read between two decoding steps. Results are those of
    /// [`generate`](swinseek_fusion::generate()) with the same `prefill_chunk`.
    pub prefill_chunk: usize,
    /// Most bytes of encoded images.
    pub feature_cache_bytes: usize,
    /// Most bytes of keys and values of prompts; 0 turns the prefix cache off.
    pub prefix_cache_bytes: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_batch: 32,
            max_queue: 2,
            prefill_chunk: PREFILL_CHUNK,
            feature_cache_bytes: 256 << 20,
            prefix_cache_bytes: 64 << 20,
        }
    }
}

/// A handle to the worker. The worker stops when the last handle is gone.
#[derive(Clone)]
pub struct Engine {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    info: ModelInfo,
    capacity: usize,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.enter(Phase::Stopping);
    }
}

impl Engine {
    /// Starts the worker thread, which owns `model` from now on.
    ///
    /// # Errors
    /// A size in `config` is 0, or the system gives no thread.
    pub fn start(model: impl EngineModel + 'static, config: EngineConfig) -> Result<Self> {
        let sizes = [
            ("max_batch", config.max_batch),
            ("max_queue", config.max_queue),
            ("prefill_chunk", config.prefill_chunk),
        ];
        for (name, value) in sizes {
            anyhow::ensure!(value > 0, "{name} is 0, expected at least 1");
        }
        let shared = Arc::new(Shared::new(config.max_queue, config.max_batch));
        let capacity = config.max_batch.saturating_add(config.max_queue);
        let handle = Arc::new(Handle { shared: Arc::clone(&shared), info: model.info(), capacity });
        std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || in_pool(|| worker::run(model, &config, &shared)))
            .context("cannot start the engine's thread")?;
        Ok(Self { handle })
    }

    /// Takes a job, or says at once why not. Never waits.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn submit(&self, job: Job) -> Result<Stream, Refusal> {
        if let Err(refusal) = self.check(&job) {
            let stats = &mut self.handle.shared.lock().stats;
            match refusal {
                Refusal::TooLong { .. } => stats.refused_length += 1,
                _ => stats.refused_other += 1,
            }
            return Err(refusal);
        }
        let (events, stream) = Stream::channel();
        self.handle.shared.push(Queued { job, events })?;
        Ok(stream)
    }

    /// What clients may know of the model.
    pub fn info(&self) -> &ModelInfo {
        &self.handle.info
    }

    /// Most jobs that run and wait together.
    pub fn capacity(&self) -> usize {
        self.handle.capacity
    }

    /// The counters now.
    pub fn stats(&self) -> Stats {
        self.handle.shared.lock().stats
    }

    /// Takes no more jobs. With `drain` all accepted jobs finish; without it they fail at the next step. Returns at
    /// once; see [`Engine::wait`].
    pub fn shutdown(&self, drain: bool) {
        self.handle.shared.enter(if drain { Phase::Draining } else { Phase::Stopping });
    }

    /// Waits until the worker has returned after [`Engine::shutdown`].
    pub fn wait(&self) {
        self.handle.shared.wait_for_end();
    }

    /// What can be seen to be wrong without computing anything.
    fn check(&self, job: &Job) -> Result<(), Refusal> {
        let info = self.info();
        let invalid = |message: String| Err(Refusal::Invalid(message));
        if job.prompt.is_empty() {
            return invalid("the prompt has no tokens, expected at least one".to_owned());
        }
        if job.max_new_tokens == 0 {
            return invalid("max_tokens is 0, expected at least 1".to_owned());
        }
        if job.stop.iter().any(String::is_empty) {
            return invalid("stop holds an empty text, which would end every answer".to_owned());
        }
        let biased = job.sampling.logit_bias.iter().map(|(id, _)| id);
        if let Some(id) = job.prompt.iter().chain(biased).find(|&&id| id as usize >= info.vocab_size) {
            return invalid(format!("token id {id} is outside of the vocabulary of {}", info.vocab_size));
        }
        if let Err(error) = job.sampling.validate() {
            return invalid(error.to_string());
        }
        let context = info.context_beside(&job.images);
        let tokens = job.prompt.len().saturating_add(job.max_new_tokens);
        if tokens > context {
            let images = info.context_length - context;
            let tokens = tokens.saturating_add(images);
            return Err(Refusal::TooLong { tokens, context: info.context_length });
        }
        Ok(())
    }
}
