//! Counters of the engine. Plain numbers; who serves them gives them their names and forms.

/// A look at the engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Jobs that wait.
    pub queued: usize,
    /// Jobs that have a place: their images and prompts are being read, or they decode.
    pub running: usize,
    /// Jobs taken since the start.
    pub accepted: u64,
    /// Jobs that ended with an answer.
    pub finished: u64,
    /// Jobs whose client went away.
    pub cancelled: u64,
    /// Jobs that failed by their deadline.
    pub deadlines: u64,
    /// Jobs that failed otherwise.
    pub failed: u64,
    /// Jobs refused because the queue was full.
    pub refused_queue: u64,
    /// Jobs refused because they would not fit the context.
    pub refused_length: u64,
    /// Jobs refused because a value made no sense, or during shutdown.
    pub refused_other: u64,
    /// Prompt tokens of started jobs.
    pub prompt_tokens: u64,
    /// Those of them that came from the prefix cache.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Decoding steps.
    pub steps: u64,
    /// Images found encoded.
    pub image_hits: u64,
    /// Images that had to be encoded.
    pub image_misses: u64,
    /// Bytes of the image cache.
    pub image_bytes: usize,
    /// Prompts of which at least the beginning was found.
    pub prefix_hits: u64,
    /// Prompts of which nothing was found.
    pub prefix_misses: u64,
    /// Bytes of the prefix cache.
    pub prefix_bytes: usize,
}
