//! A set of token ids.

use std::sync::Arc;

use llguidance::toktrie::SimpleVob;

/// Token ids that may come next: one bit an id. Cloning shares the bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenMask {
    words: Arc<Vec<u32>>,
}

impl TokenMask {
    /// The empty set over a vocabulary of that size (rounded up to whole words).
    pub fn none(vocab_size: usize) -> Self {
        Self::from_words(vec![0; vocab_size.div_ceil(32)])
    }

    /// From 32 ids a word, the lowest bit first.
    pub fn from_words(words: Vec<u32>) -> Self {
        Self { words: Arc::new(words) }
    }

    /// The set of `ids` over a vocabulary of that size; those outside are left out.
    pub fn of(vocab_size: usize, ids: &[u32]) -> Self {
        let mut mask = Self::none(vocab_size);
        ids.iter().filter(|&&id| (id as usize) < vocab_size).for_each(|&id| mask.allow(id));
        mask
    }

    pub(super) fn from_bits(bits: &SimpleVob) -> Self {
        Self::from_words(bits.as_slice().to_vec())
    }

    /// Adds `id`; ids outside of the vocabulary are left out.
    pub fn allow(&mut self, id: u32) {
        if let Some(word) = Arc::make_mut(&mut self.words).get_mut(id as usize / 32) {
            *word |= 1 << (id % 32);
        }
    }

    /// Whether `id` is in the set.
    pub fn contains(&self, id: u32) -> bool {
        self.words.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
    }

    /// The ids of the set in ascending order.
    pub fn ids(&self) -> Vec<u32> {
        (0..self.words.len() as u32 * 32).filter(|&id| self.contains(id)).collect()
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }
}
