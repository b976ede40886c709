//! What a score does not show: whether a system says the same to everything. See also [`crate::floors::verbatim_share`].

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::tokenize::words;

/// Variety of a system's outputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diversity {
    /// How many outputs there are.
    pub outputs: usize,
    /// How many different ones.
    pub distinct_outputs: usize,
    /// Share of outputs that repeat an earlier one exactly, 0 to 1.
    pub duplicate_rate: f64,
    /// Distinct-n (Li et al. 2016): different n-grams by all n-grams, order 1 first, 0 to 1.
    pub distinct: Vec<f64>,
    /// Words per output.
    pub mean_words: f64,
}

impl Diversity {
    /// Of outputs with words between white space, for orders 1 to `max_order`.
    pub fn of(outputs: &[&str], max_order: usize) -> Self {
        let distinct_outputs = outputs.iter().collect::<HashSet<_>>().len();
        let texts: Vec<Vec<&str>> = outputs.iter().map(|output| words(output).collect()).collect();
        let distinct = (1..=max_order).map(|order| {
            let all = || texts.iter().flat_map(|words| words.windows(order));
            share(all().collect::<HashSet<_>>().len(), all().count())
        });
        Self {
            outputs: outputs.len(),
            distinct_outputs,
            duplicate_rate: share(outputs.len() - distinct_outputs, outputs.len()),
            distinct: distinct.collect(),
            mean_words: share(texts.iter().map(Vec::len).sum(), outputs.len()),
        }
    }
}

/// 0 of nothing is 0.
fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
