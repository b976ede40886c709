//! ROUGE-L (Lin 2004) as `pycocoevalcap` computes it: F with beta 1.2 of the best precision and the best recall over the
//! references, each taken on its own; the corpus score is the mean.
//!
//! Words stand between single spaces, as Python's `split(" ")` sees them: two spaces in a row hold an empty word, and so
//! does an empty text.

use std::collections::HashMap;

use crate::metric::{Count, Metric};

/// Weight of recall.
const BETA: f64 = 1.2;

/// ROUGE-L of one text, 0 to 1; 0 without references. Texts are tokenised already.
pub fn rouge_l(hypothesis: &str, references: &[&str]) -> f64 {
    let words: Vec<&str> = hypothesis.split(' ').collect();
    let places = Places::new(&words);
    let (mut precision, mut recall) = (0.0, 0.0);
    for reference in references {
        let common = places.common(reference.split(' ')) as f64;
        precision = f64::max(precision, common / words.len() as f64);
        recall = f64::max(recall, common / reference.split(' ').count() as f64);
    }
    if precision == 0.0 || recall == 0.0 {
        return 0.0;
    }
    let weight = BETA * BETA;
    (1.0 + weight) * precision * recall / (recall + weight * precision)
}

/// Where each word stands in a text, as bits.
struct Places<'a> {
    of: HashMap<&'a str, Vec<u64>>,
    len: usize,
}

impl<'a> Places<'a> {
    fn new(words: &[&'a str]) -> Self {
        let mut of: HashMap<&str, Vec<u64>> = HashMap::new();
        for (place, word) in words.iter().enumerate() {
            of.entry(word).or_insert_with(|| vec![0; words.len().div_ceil(64)])[place / 64] |=
                1 << (place % 64);
        }
        Self { of, len: words.len() }
    }

    /// Length of the longest common subsequence with `words`, 64 columns of the table at a time (Hyyrö 2004): a zero in
    /// `row` is a column where the table grows.
    fn common<'b>(&self, words: impl Iterator<Item = &'b str>) -> usize {
        let mut row = vec![u64::MAX; self.len.div_ceil(64)];
        for word in words {
            let Some(places) = self.of.get(word) else { continue };
            let mut carry = false;
            for (row, places) in row.iter_mut().zip(places) {
                let matched = *row & places;
                let (sum, first) = row.overflowing_add(matched);
                let (sum, second) = sum.overflowing_add(u64::from(carry));
                carry = first || second;
                *row = sum | (*row & !places);
            }
        }
        (0..self.len).filter(|place| row[place / 64] >> (place % 64) & 1 == 0).count()
    }
}

/// The metric. A row is the score of the segment and 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct RougeL;

impl Metric for RougeL {
    fn name(&self) -> String {
        "ROUGE-L".to_owned()
    }

    fn validate(&self) -> crate::Result<()> {
        Ok(())
    }

    fn width(&self) -> usize {
        2
    }

    fn counter(&self) -> Count<'_> {
        Box::new(|segment, row| row.copy_from_slice(&[rouge_l(segment.hypothesis, segment.references), 1.0]))
    }

    fn score_sum(&self, sum: &[f64]) -> f64 {
        100.0 * sum[0] / sum[1]
    }

    fn settings(&self) -> Vec<(&'static str, &'static str, String)> {
        vec![("arith", "a", "pycocoevalcap".to_owned())]
    }
}
