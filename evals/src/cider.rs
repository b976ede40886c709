//! CIDEr-D (Vedantam et al. 2015) as the class `Cider` of `pycocoevalcap` computes it: tf-idf vectors of n-grams of orders 1
//! to 4, clipped cosine, a Gaussian penalty on the difference in length (sigma 6), ten times the mean over orders and
//! references.
//!
//! An n-gram is rare when few images have it among their references; these counts come from the references of the whole
//! corpus that is scored ([`Frequencies`]). The constant in front is the logarithm of the number of images, so tiny sets give
//! odd values and a single image gives 0. Lengths are numbers of bigrams. A score therefore depends on the set: a shard
//! is scored with the frequencies of the whole set.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::metric::{Count, Metric, Segment};
use crate::tokenize::words;

/// Longest n-gram.
const ORDERS: usize = 4;
const SIGMA: f64 = 6.0;
/// The end of an n-gram that is shorter than [`ORDERS`].
const END: u32 = u32::MAX;

/// Word ids, filled up with [`END`].
type NGram = [u32; ORDERS];
type Map<K, V> = HashMap<K, V, FixedState>;

/// In how many images' references each n-gram occurs.
#[derive(Clone, Debug, Default)]
pub struct Frequencies {
    images: usize,
    words: Map<Box<str>, u32>,
    counts: Map<NGram, u32>,
}

impl Frequencies {
    /// Counts the references of all images; texts are tokenised already.
    pub fn new<R: AsRef<str>>(references: &[impl AsRef<[R]>]) -> Self {
        let mut all = Self { images: references.len(), ..Self::default() };
        let mut seen: Map<NGram, usize> = Map::default();
        for (image, references) in references.iter().enumerate() {
            for reference in references.as_ref() {
                let ids: Vec<u32> = words(reference.as_ref()).map(|word| all.learn(word)).collect();
                for gram in ngrams(&ids) {
                    // Once an image.
                    if seen.insert(gram, image) != Some(image) {
                        *all.counts.entry(gram).or_default() += 1;
                    }
                }
            }
        }
        all
    }

    fn learn(&mut self, word: &str) -> u32 {
        if let Some(&id) = self.words.get(word) {
            return id;
        }
        let id = self.words.len() as u32;
        self.words.insert(word.into(), id);
        id
    }

    /// Ids of a text; words that no reference has get ids of their own in `others`.
    fn ids<'a>(&self, text: &'a str, others: &mut Map<&'a str, u32>) -> Vec<u32> {
        let known = self.words.len() as u32;
        words(text)
            .map(|word| {
                let next = known + others.len() as u32;
                self.words.get(word).copied().unwrap_or_else(|| *others.entry(word).or_insert(next))
            })
            .collect()
    }

    fn vector(&self, ids: &[u32]) -> Vector {
        let mut vector = Vector { length: ids.len().saturating_sub(1), ..Vector::default() };
        let mut places: Map<NGram, usize> = Map::default();
        for gram in ngrams(ids) {
            let place = *places.entry(gram).or_insert(vector.weights.len());
            if place == vector.weights.len() {
                vector.weights.push((gram, 0.0));
            }
            vector.weights[place].1 += 1.0;
        }
        let images = (self.images as f64).ln();
        for (gram, weight) in &mut vector.weights {
            let found = self.counts.get(gram).map_or(1.0, |&count| f64::from(count));
            *weight *= images - found.ln();
            vector.norms[order(gram)] += *weight * *weight;
        }
        vector.norms = vector.norms.map(f64::sqrt);
        vector.places = places;
        vector
    }
}

/// A text as tf-idf weights.
#[derive(Default)]
struct Vector {
    /// In order of first occurrence, so that sums come out as in the original.
    weights: Vec<(NGram, f64)>,
    places: Map<NGram, usize>,
    norms: [f64; ORDERS],
    /// Bigrams.
    length: usize,
}

impl Vector {
    fn weight(&self, gram: &NGram) -> f64 {
        self.places.get(gram).map_or(0.0, |&place| self.weights[place].1)
    }

    /// Sum over orders of the clipped cosine with a reference, with the penalty on the length.
    fn similarity(&self, reference: &Self) -> [f64; ORDERS] {
        let mut values = [0.0; ORDERS];
        for (gram, weight) in &self.weights {
            let other = reference.weight(gram);
            values[order(gram)] += weight.min(other) * other;
        }
        let delta = self.length as f64 - reference.length as f64;
        let penalty = (-(delta * delta) / (2.0 * SIGMA * SIGMA)).exp();
        for (order, value) in values.iter_mut().enumerate() {
            if self.norms[order] != 0.0 && reference.norms[order] != 0.0 {
                *value /= self.norms[order] * reference.norms[order];
            }
            *value *= penalty;
        }
        values
    }
}

/// All n-grams, the short ones first.
fn ngrams(ids: &[u32]) -> impl Iterator<Item = NGram> {
    (1..=ORDERS).flat_map(|order| {
        ids.windows(order).map(move |window| {
            let mut gram = [END; ORDERS];
            gram[..order].copy_from_slice(window);
            gram
        })
    })
}

/// Order of an n-gram, from 0.
fn order(gram: &NGram) -> usize {
    gram.iter().skip(1).filter(|&&id| id != END).count()
}

/// The metric. A row is the score of the segment (0 to 10) and 1.
#[derive(Clone, Copy, Debug)]
pub struct Cider<'a> {
    /// The counts of the whole set.
    pub frequencies: &'a Frequencies,
}

impl Cider<'_> {
    /// Score of one text, 0 to 10; 0 without references. Texts are tokenised already.
    pub fn segment(&self, segment: Segment<'_>) -> f64 {
        let mut others = Map::default();
        let hypothesis = self.frequencies.vector(&self.frequencies.ids(segment.hypothesis, &mut others));
        let mut sums = [0.0; ORDERS];
        for reference in segment.references {
            let reference = self.frequencies.vector(&self.frequencies.ids(reference, &mut others));
            for (sum, value) in sums.iter_mut().zip(hypothesis.similarity(&reference)) {
                *sum += value;
            }
        }
        let mean = sums.iter().sum::<f64>() / ORDERS as f64;
        10.0 * mean / segment.references.len().max(1) as f64
    }

    /// Scores of all segments, in order; computed in parallel.
    pub fn segments(&self, segments: &[Segment<'_>]) -> Vec<f64> {
        segments.par_iter().map(|segment| self.segment(*segment)).collect()
    }
}

impl Metric for Cider<'_> {
    fn name(&self) -> String {
        "CIDEr-D".to_owned()
    }

    fn validate(&self) -> crate::Result<()> {
        Ok(())
    }

    fn width(&self) -> usize {
        2
    }

    fn counter(&self) -> Count<'_> {
        Box::new(|segment, row| row.copy_from_slice(&[self.segment(segment), 1.0]))
    }

    /// In hundredths, as tables print it.
    fn score_sum(&self, sum: &[f64]) -> f64 {
        100.0 * sum[0] / sum[1]
    }

    fn settings(&self) -> Vec<(&'static str, &'static str, String)> {
        vec![("arith", "a", "pycocoevalcap".to_owned()), ("images", "i", self.frequencies.images.to_string())]
    }
}
