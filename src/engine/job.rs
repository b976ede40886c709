//! What goes into the engine and what comes out of it.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use swinseek_fusion::FinishReason;
use swinseek_fusion::evidence::Sentence;
use swinseek_language::constraint::Constraint;
use swinseek_language::sampler::SamplingParams;
use swinseek_vision::preprocess::PixelValues;
use tokio::sync::mpsc;

/// One answer to be generated.
pub struct Job {
    /// Token ids up to where the answer begins.
    pub prompt: Vec<u32>,
    /// The images, in the order the prompt refers to them.
    pub images: Vec<PreparedImage>,
    /// How tokens are chosen; the logit bias and the seed are part of it.
    pub sampling: SamplingParams,
    /// Most new tokens.
    pub max_new_tokens: usize,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// What the answer must look like.
    pub constraint: Option<Box<dyn Constraint>>,
    /// Record where each sentence looked.
    pub evidence: bool,
    /// When the answer is of no use any more.
    pub deadline: Option<Instant>,
}

/// An image as the encoder wants it.
#[derive(Debug, Clone)]
pub struct PreparedImage {
    /// Model input and its geometry.
    pub pixels: PixelValues,
    /// BLAKE3 of the file's bytes, the model's digest, the preprocessed pixels and their shape: two images share a
    /// cached feature only when all of these are equal.
    pub digest: [u8; 32],
    /// Memory tokens the decoder will see of it.
    pub tokens: usize,
}

/// What happens to a job, in this order: `Started`, any number of `Token`s, then `Finished` or `Failed`. A job may fail
/// before it starts. After the last event the stream ends.
#[derive(Debug, Clone)]
pub enum Event {
    /// The prompt has been read.
    Started {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// How many of them came from the prefix cache.
        cached_tokens: usize,
        /// Memory tokens of all images.
        image_tokens: usize,
    },
    /// A token was chosen.
    Token {
        /// Its id.
        id: u32,
        /// Text that is certain now; may be empty while a character or a stop string may be in the making.
        text: String,
        /// Its log-probability under the model.
        logprob: f32,
        /// The most probable ids with their log-probabilities, as many as the sampling asks for.
        top_logprobs: Vec<(u32, f32)>,
    },
    /// The answer is complete.
    Finished {
        /// [`FinishReason::Stop`] or [`FinishReason::Length`].
        reason: FinishReason,
        /// Text that was held back: what the `Token`s' texts lack.
        rest: String,
        /// The whole answer, up to a stop string.
        text: String,
        /// Its sentences with their evidence.
        sentences: Vec<Sentence>,
    },
    /// There is no (more of an) answer.
    Failed {
        /// Whose fault it was.
        kind: FailKind,
        /// What went wrong, without anything of the prompt or the images.
        message: String,
    },
}

/// Why a job failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailKind {
    /// Its deadline passed.
    Deadline,
    /// The engine was shut down without draining.
    Shutdown,
    /// A panic: a bug.
    Internal,
    /// The model refused its input, or its constraint could not be followed.
    Model,
}

/// The events of one job. Dropping it cancels the job at the next step.
#[derive(Debug)]
pub struct Stream {
    events: mpsc::UnboundedReceiver<Event>,
}

impl Stream {
    /// A stream and the end that fills it. It holds at most the job's tokens, so it needs no other bound.
    pub fn channel() -> (mpsc::UnboundedSender<Event>, Self) {
        let (sender, events) = mpsc::unbounded_channel();
        (sender, Self { events })
    }

    /// The next event; `None` after the last one.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// As [`Stream::next`], for a `futures` stream.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_recv(context)
    }

    /// The next event, on a thread that may wait.
    pub fn blocking_next(&mut self) -> Option<Event> {
        self.events.blocking_recv()
    }
}

/// Why a job was not taken. Nothing has been computed for it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Too many jobs wait.
    #[error("{queued} requests are waiting already; try again in {} s", retry_after.as_secs())]
    QueueFull {
        /// Jobs in the queue.
        queued: usize,
        /// When a place is likely to be free.
        retry_after: Duration,
    },
    /// Prompt, images and answer do not fit.
    #[error("prompt and answer may have {tokens} tokens together, the context holds {context}")]
    TooLong {
        /// Tokens of the prompt, of images that stand in the context, and `max_new_tokens`.
        tokens: usize,
        /// Tokens the context holds.
        context: usize,
    },
    /// A value that no model could work with.
    #[error("{0}")]
    Invalid(String),
    /// The engine takes no more jobs.
    #[error("the engine is shutting down")]
    ShuttingDown,
}
