//! What an answer must look like, token by token: a mask of the tokens that may come next.

use swinseek_kernels::Result;

/// A set of token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u32>,
}

impl TokenMask {
    /// The empty set over a vocabulary of that size.
    pub fn none(vocab_size: usize) -> Self {
        Self { words: vec![0; vocab_size.div_ceil(32)] }
    }

    /// From 32 ids a word, the lowest bit first.
    pub fn from_words(words: Vec<u32>) -> Self {
        Self { words }
    }

    /// Adds `id`; ids outside of the vocabulary are left out.
    pub fn allow(&mut self, id: u32) {
        if let Some(word) = self.words.get_mut(id as usize / 32) {
            *word |= 1 << (id % 32);
        }
    }

    /// Whether `id` is in the set.
    pub fn contains(&self, id: u32) -> bool {
        self.words.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
    }
}

/// Follows one answer and says which tokens may come next.
pub trait Constraint: Send {
    /// The tokens that may come next, end tokens included where the answer may end.
    fn allowed(&mut self) -> Result<TokenMask>;

    /// Takes the token that was chosen.
    fn accept(&mut self, id: u32) -> Result<()>;

    /// Whether the answer is complete: nothing may follow.
    fn is_done(&self) -> bool;
}
