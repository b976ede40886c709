//! Sequences that decode together: each keeps its own cache and its own images, and gets what it would get alone.

/// What the model says of the token after the last one.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// One logit for each id of the vocabulary.
    pub logits: Vec<f32>,
    /// Attention of the last token over the memory, mean over cross layers and heads: sums to 1. Empty unless asked
    /// for.
    pub attention: Vec<f32>,
}
