//! The tokenisers of sacreBLEU 2.6.0, to the byte: `13a`, `none`, `char`, `intl`, `zh`.
//!
//! sacreBLEU runs regular expressions over the line and splits the result on white space. The expressions only insert
//! spaces, so that tokens are pieces of the line, found here in linear passes over reused buffers.

mod intl;
pub mod ptb;
mod tercom;
mod v13a;
mod whitespace;
mod zh;

use std::borrow::Cow;
use std::str::FromStr;

pub use tercom::Tercom;
pub use whitespace::{is_space, strip, strip_end, words};

use crate::error::Error;
use v13a::Rules;

/// How a line becomes tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tokenizer {
    /// mteval-v13a, the default of WMT: ASCII punctuation is split off, entities are resolved.
    #[default]
    V13a,
    /// White space only.
    None,
    /// Every character is a token.
    Char,
    /// mteval-v14: Unicode punctuation and symbols are split off.
    Intl,
    /// Every Chinese character is a token, the rest as `13a` without its entities.
    Zh,
}

impl Tokenizer {
    /// All tokenisers, in the order in which messages list them.
    pub const ALL: [Self; 5] = [Self::V13a, Self::None, Self::Char, Self::Intl, Self::Zh];

    /// Its name on the command line and in signatures.
    pub fn name(self) -> &'static str {
        match self {
            Self::V13a => "13a",
            Self::None => "none",
            Self::Char => "char",
            Self::Intl => "intl",
            Self::Zh => "zh",
        }
    }

    /// The tokens of `line` joined by single spaces.
    pub fn tokenize(self, line: &str) -> String {
        let mut tokens = Tokens::default();
        tokens.set(self, line);
        tokens.joined()
    }
}

impl FromStr for Tokenizer {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|tokenizer| tokenizer.name() == name).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.into_iter().map(Self::name).collect();
            Error::Setting {
                name: "tokenizer",
                message: format!("`{name}`, expected one of {}", known.join(", ")),
            }
        })
    }
}

/// The tokens of one line. Reusing the value reuses its buffers.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    /// The line after the tokeniser, in UTF-8.
    text: Vec<u8>,
    /// Begin and end of each token in `text`.
    spans: Vec<(usize, usize)>,
    spare_spans: Vec<(usize, usize)>,
}

impl Tokens {
    /// Replaces the content by the tokens of `line`.
    pub(crate) fn set(&mut self, tokenizer: Tokenizer, line: &str) {
        self.text.clear();
        match tokenizer {
            Tokenizer::Char => return self.set_characters(line, false),
            Tokenizer::None => self.text.extend_from_slice(line.as_bytes()),
            Tokenizer::Intl => intl::prepare(line, &mut self.text),
            Tokenizer::V13a => v13a::prepare(line, &mut self.text),
            Tokenizer::Zh => zh::prepare(line, &mut self.text),
        }
        match tokenizer {
            Tokenizer::V13a => v13a::split(&self.text, Rules::V13a, &mut self.spans),
            Tokenizer::Zh => v13a::split(&self.text, Rules::Zh, &mut self.spans),
            _ => whitespace::split(&self.text, &mut self.spans),
        }
    }

    /// Replaces the content by the words of `line` as TER sees them.
    pub(crate) fn set_tercom(&mut self, tokenizer: Tercom, line: &str) {
        tokenizer.prepare(line, &mut self.text, &mut self.spans);
        whitespace::split(&self.text, &mut self.spans);
    }

    /// Every character of `line`; white space only when asked for.
    pub(crate) fn set_characters(&mut self, line: &str, whitespace: bool) {
        self.text.clear();
        self.text.extend_from_slice(line.as_bytes());
        self.spans.clear();
        let characters = line.char_indices().filter(|&(_, c)| whitespace || !is_space(c));
        self.spans.extend(characters.map(|(at, c)| (at, at + c.len_utf8())));
    }

    /// The words of chrF++: between white space, with one ASCII punctuation mark split off at the end or else in front.
    pub(crate) fn set_punctuated_words(&mut self, line: &str) {
        self.text.clear();
        self.text.extend_from_slice(line.as_bytes());
        whitespace::split(&self.text, &mut self.spare_spans);
        self.spans.clear();
        for &(begin, end) in &self.spare_spans {
            let word = &self.text[begin..end];
            let cut = if word.len() == 1 {
                None
            } else if word[word.len() - 1].is_ascii_punctuation() {
                Some(end - 1)
            } else {
                word[0].is_ascii_punctuation().then_some(begin + 1)
            };
            match cut {
                Some(cut) => self.spans.extend([(begin, cut), (cut, end)]),
                None => self.spans.push((begin, end)),
            }
        }
    }

    /// The tokens with single spaces between them.
    pub(crate) fn joined(&self) -> String {
        let words: Vec<Cow<'_, str>> = self.iter().map(String::from_utf8_lossy).collect();
        words.join(" ")
    }

    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(crate) fn get(&self, index: usize) -> &[u8] {
        let (begin, end) = self.spans[index];
        &self.text[begin..end]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().map(|&(begin, end)| &self.text[begin..end])
    }
}
