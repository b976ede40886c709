//! Whether a text keeps to the words of a lexicon. That says that words are valid, not that they are right.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::words::sentences;
use crate::detection::Proportion;
use crate::error::{Error, Result};

/// Terms of one or several words.
#[derive(Clone, Debug, Default)]
pub struct Lexicon {
    /// Terms by their first word, longest first.
    terms: HashMap<String, Vec<Vec<String>>>,
}

/// How many words of a text are in the lexicon, and how many are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LexiconCounts {
    /// Words, numbers left out.
    pub words: u64,
    /// Words within a term of the lexicon.
    pub valid: u64,
    /// Terms of several words.
    pub terms: u64,
}

impl std::ops::AddAssign for LexiconCounts {
    fn add_assign(&mut self, other: Self) {
        self.words += other.words;
        self.valid += other.valid;
        self.terms += other.terms;
    }
}

impl LexiconCounts {
    /// Share of the words that are valid; one less it is the out-of-lexicon rate. `None` without words.
    pub fn validity(&self) -> Option<Proportion> {
        Proportion::new(self.valid, self.words)
    }
}

impl Lexicon {
    /// Reads a table with tabs between its columns: the term is the first one. Empty lines and those that begin with `#`
    /// are left out; so is the case of letters. `origin` names the table in errors.
    ///
    /// # Errors
    /// [`Error::Data`] with the line when it is not UTF-8, has no word in its first column, or when there are no terms.
    pub fn from_tsv(bytes: &[u8], origin: &str) -> Result<Self> {
        let fail = |message: String| Error::Data { origin: origin.to_owned(), message };
        let mut lexicon = Self::default();
        for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
            let line = std::str::from_utf8(line).map_err(|error| {
                fail(format!("line {number}: invalid UTF-8 at byte {} of the line", error.valid_up_to() + 1))
            })?;
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let words = words_of(line.split('\t').next().unwrap_or_default());
            let first = words.first().ok_or_else(|| fail(format!("line {number}: there is no term")))?;
            lexicon.terms.entry(first.clone()).or_default().push(words);
        }
        if lexicon.terms.is_empty() {
            return Err(fail("there are no terms".into()));
        }
        lexicon.terms.values_mut().for_each(|terms| terms.sort_by_key(|term| usize::MAX - term.len()));
        Ok(lexicon)
    }

    /// Counts the words of a text; at each the longest term is taken. Terms end with sentences.
    pub fn counts(&self, text: &str) -> LexiconCounts {
        let mut counts = LexiconCounts::default();
        for sentence in sentences(text) {
            let words: Vec<String> = sentence.into_iter().filter(|word| is_word(word)).collect();
            let mut at = 0;
            while at < words.len() {
                let term = self
                    .terms
                    .get(&words[at])
                    .and_then(|terms| terms.iter().find(|term| words[at..].starts_with(term)).map(Vec::len));
                let taken = term.unwrap_or(1);
                counts.words += taken as u64;
                counts.valid += term.unwrap_or(0) as u64;
                counts.terms += u64::from(taken > 1);
                at += taken;
            }
        }
        counts
    }
}

/// Commas and numbers are no words.
fn is_word(word: &str) -> bool {
    word.chars().any(char::is_alphabetic)
}

fn words_of(term: &str) -> Vec<String> {
    sentences(term).into_iter().flatten().filter(|word| is_word(word)).collect()
}
