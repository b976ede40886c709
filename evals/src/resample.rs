//! Bootstrap intervals (Efron 1979; for BLEU: Koehn 2004), reproducible on any number of threads.

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

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
        if len == 0 {
            return Err(Error::Input("there is nothing to resample".into()));
        }
        let values: Vec<f64> = (0..self.resamples)
            .into_par_iter()
            .map_init(Vec::new, |indices, resample| {
                let mut rng = generator(self.seed, resample as u64);
                indices.clear();
                indices.extend((0..len).map(|_| below(&mut rng, len)));
                statistic(indices)
            })
            .flatten_iter()
            .collect();
        if values.is_empty() {
            let message = format!("{}, but no resample has a value", self.resamples);
            return Err(Error::Setting { name: "resamples", message });
        }
        Ok(Interval::of(values))
    }
}
