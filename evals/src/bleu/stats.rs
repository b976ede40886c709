//! Sufficient statistics: integers that add up.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Everything that a BLEU score depends on, of one segment or of any number of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BleuStats {
    /// Tokens of the hypotheses.
    pub hyp_len: u64,
    /// Tokens of the references that are nearest in length.
    pub ref_len: u64,
    /// Matched n-grams, clipped by the references; order 1 first.
    pub correct: Vec<u64>,
    /// N-grams of the hypotheses; order 1 first.
    pub total: Vec<u64>,
}

impl BleuStats {
    /// No text at all.
    pub fn zero(max_order: usize) -> Self {
        Self { hyp_len: 0, ref_len: 0, correct: vec![0; max_order], total: vec![0; max_order] }
    }

    /// From a row, or a sum of rows, of [`crate::metric::rows`]; every number is whole.
    pub(crate) fn from_row(row: &[f64]) -> Self {
        let whole: Vec<u64> = row.iter().map(|&count| count as u64).collect();
        let (correct, total) = whole[2..].split_at((whole.len() - 2) / 2);
        Self { hyp_len: whole[0], ref_len: whole[1], correct: correct.to_vec(), total: total.to_vec() }
    }
}

impl AddAssign<&Self> for BleuStats {
    fn add_assign(&mut self, other: &Self) {
        self.hyp_len += other.hyp_len;
        self.ref_len += other.ref_len;
        for (own, others) in [(&mut self.correct, &other.correct), (&mut self.total, &other.total)] {
            own.resize(own.len().max(others.len()), 0);
            for (own, other) in own.iter_mut().zip(others) {
                *own += other;
            }
        }
    }
}

/// The statistics of every segment of a corpus, kept apart so that they can be resampled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentStats {
    max_order: usize,
    /// Row per segment: hypothesis length, reference length, matches and totals per order.
    rows: Vec<u32>,
    references: Option<usize>,
}

impl SegmentStats {
    pub(super) fn new(max_order: usize, rows: Vec<u32>, references: Option<usize>) -> Self {
        Self { max_order, rows, references }
    }

    fn width(&self) -> usize {
        2 + 2 * self.max_order
    }

    /// Number of segments.
    pub fn len(&self) -> usize {
        self.rows.len() / self.width()
    }

    /// Whether there is no segment.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// References per segment, `None` when that varies.
    pub fn references(&self) -> Option<usize> {
        self.references
    }

    /// Statistics of one segment.
    ///
    /// # Panics
    /// When there is no such segment.
    pub fn get(&self, segment: usize) -> BleuStats {
        self.sum_of(&[segment])
    }

    /// Statistics of the whole corpus.
    pub fn sum(&self) -> BleuStats {
        self.sum_rows(self.rows.chunks_exact(self.width()))
    }

    /// Statistics of some segments, which may repeat.
    ///
    /// # Panics
    /// When there is no such segment.
    pub fn sum_of(&self, segments: &[usize]) -> BleuStats {
        let width = self.width();
        self.sum_rows(segments.iter().map(|segment| &self.rows[segment * width..][..width]))
    }

    fn sum_rows<'a>(&self, rows: impl Iterator<Item = &'a [u32]>) -> BleuStats {
        let mut sum = vec![0_u64; self.width()];
        for row in rows {
            for (sum, value) in sum.iter_mut().zip(row) {
                *sum += u64::from(*value);
            }
        }
        let (correct, total) = sum[2..].split_at(self.max_order);
        BleuStats { hyp_len: sum[0], ref_len: sum[1], correct: correct.to_vec(), total: total.to_vec() }
    }
}
