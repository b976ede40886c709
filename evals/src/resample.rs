//! Bootstrap intervals (Efron 1979; for BLEU: Koehn 2004), reproducible on any number of threads.

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use rayon::iter::{ParallelExtend, ParallelIterator};
use rayon::slice::ParallelSlice;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::pcg64::Pcg64;

/// How to resample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// How many resamples.
    pub resamples: usize,
    /// The same seed gives the same interval.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { resamples: 1000, seed: 12345 }
    }
}

/// A 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Mean over the resamples.
    pub mean: f64,
    /// 2.5th percentile.
    pub low: f64,
    /// 97.5th percentile.
    pub high: f64,
}

impl Interval {
    /// Half the width: the number behind `±`.
    pub fn half_width(&self) -> f64 {
        0.5 * (self.high - self.low)
    }

    /// Percentiles as sacreBLEU takes them: the `n/40`-th value from either end.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let tail = values.len() / 40;
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Self { mean, low: values[tail], high: values[values.len() - tail - 1] }
    }
}

/// A generator for one numbered purpose under a seed.
pub(crate) fn generator(seed: u64, number: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&number.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// An index below `len`: the upper half of a product (Lemire 2019), whose bias of `len / 2^64` is nothing here.
pub(crate) fn below(rng: &mut impl Rng, len: usize) -> usize {
    ((u128::from(rng.next_u64()) * len as u128) >> 64) as usize
}

impl Bootstrap {
    /// Interval of `statistic` over resamples of `len` items with replacement. The statistic gets the indices of a
    /// resample and may be undefined for it (`None`), which leaves that resample out.
    ///
    /// # Errors
    /// [`Error::Input`] when there are no items; [`Error::Setting`] when there are no resamples, or none with a value.
    pub fn interval(
        &self,
        len: usize,
        statistic: impl Fn(&[usize]) -> Option<f64> + Sync,
    ) -> Result<Interval> {
        let values: Vec<f64> = self.map(len, statistic)?.into_iter().flatten().collect();
        if values.is_empty() {
            let message = format!("{}, but no resample has a value", self.resamples);
            return Err(Error::Setting { name: "resamples", message });
        }
        Ok(Interval::of(values))
    }

    /// What `statistic` is on each resample, in order: the indices of all resamples are one stream of NumPy's
    /// `default_rng(seed).choice`, as in sacreBLEU, on any number of threads.
    ///
    /// # Errors
    /// [`Error::Input`] when there are no items, or more than 32 bits count.
    pub fn map<T: Send>(&self, len: usize, statistic: impl Fn(&[usize]) -> T + Sync) -> Result<Vec<T>> {
        let count = u32::try_from(len).ok().filter(|&count| count > 0);
        let count = count.ok_or_else(|| Error::Input(format!("{len} items cannot be resampled")))?;
        let mut generator = Pcg64::new(self.seed);
        Ok(in_blocks(self.resamples, len, || generator.below(count) as usize, statistic))
    }
}

/// `statistic` of `count` rows of `len` draws each. Draws are made in order on this thread, a block of rows at a time;
/// the rows of a block are worked on in parallel.
pub(crate) fn in_blocks<D: Send + Sync, T: Send>(
    count: usize,
    len: usize,
    mut draw: impl FnMut() -> D,
    statistic: impl Fn(&[D]) -> T + Sync,
) -> Vec<T> {
    /// Draws in memory at a time, but for the longest rows: they stay in a core's cache.
    const DRAWS: usize = 1 << 17;
    let block = (DRAWS / len.max(1)).max(1);
    let mut results = Vec::with_capacity(count);
    let mut draws = Vec::new();
    while results.len() < count {
        let rows = block.min(count - results.len());
        draws.clear();
        draws.extend((0..rows * len).map(|_| draw()));
        results.par_extend(draws.par_chunks_exact(len).map(&statistic));
    }
    results
}
