//! Tokens to text as they come: whole characters only, stop strings held back, sentences with their tokens.

use std::ops::Range;

use swinseek_kernels::{Error, Result};

use crate::tokenizer::Tokenizer;

/// Decodes one answer token by token.
///
/// The text of all pushes and of [`TextStream::finish`] together is [`Tokenizer::decode`] of all ids, cut before the
/// first stop string.
#[derive(Debug)]
pub struct TextStream {
    tokenizer: Tokenizer,
    stop: Vec<String>,
    /// Decoded so far, stop strings included.
    text: String,
    /// How much of `text` the caller has seen.
    shown: usize,
    /// For each token the length of `text` after it.
    token_ends: Vec<usize>,
    pending: Pending,
    /// Where the text ends and which stop string it was.
    stopped: Option<(usize, usize)>,
}

/// Tokens whose text is not certain yet.
#[derive(Debug)]
enum Pending {
    /// Byte-level vocabulary: the bytes of a character that is not complete.
    Bytes(Vec<u8>),
    /// Any other: the ids since the last certain position, the first `settled` of which are context only.
    Window { ids: Vec<u32>, settled: usize },
}

impl TextStream {
    /// A stream that ends before the first of the `stop` strings.
    ///
    /// # Errors
    /// [`Error::Config`] when a stop string is empty.
    pub fn new(tokenizer: &Tokenizer, stop: &[String]) -> Result<Self> {
        if stop.iter().any(String::is_empty) {
            return Err(Error::config(
                "stop",
                "an empty stop string would end every answer before it begins",
            ));
        }
        let pending = match tokenizer.token_bytes(0) {
            Some(_) => Pending::Bytes(Vec::new()),
            None => Pending::Window { ids: Vec::new(), settled: 0 },
        };
        Ok(Self {
            tokenizer: tokenizer.clone(),
            stop: stop.to_vec(),
            text: String::new(),
            shown: 0,
            token_ends: Vec::new(),
            pending,
            stopped: None,
        })
    }

    /// Takes the next token and returns the text that is certain to be part of the answer. After a stop string
    /// tokens are ignored.
    ///
    /// # Errors
    /// [`Error::Input`] when the tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<&str> {
        if self.stopped.is_some() {
            return Ok("");
        }
        match &mut self.pending {
            Pending::Bytes(bytes) => {
                bytes.extend(self.tokenizer.token_bytes(id).unwrap_or_default());
                take_characters(bytes, &mut self.text);
            }
            Pending::Window { ids, settled } => {
                ids.push(id);
                let context = self.tokenizer.decode(&ids[..*settled])?;
                let whole = self.tokenizer.decode(ids)?;
                // A character in the making decodes to U+FFFD; tokens before it may still change form with it.
                if !whole.ends_with(char::REPLACEMENT_CHARACTER)
                    && let Some(new) = whole.strip_prefix(&context)
                    && !new.is_empty()
                {
                    self.text.push_str(new);
                    ids.drain(..*settled);
                    *settled = ids.len();
                }
            }
        }
        self.token_ends.push(self.text.len());
        Ok(self.show(false))
    }

    /// Ends the stream and returns the text that was held back.
    ///
    /// # Errors
    /// [`Error::Input`] when the tokenizer's decoder fails.
    pub fn finish(&mut self) -> Result<&str> {
        if self.stopped.is_none() {
            match &mut self.pending {
                Pending::Bytes(bytes) => {
                    self.text.push_str(&String::from_utf8_lossy(bytes));
                    bytes.clear();
                }
                Pending::Window { ids, settled } => {
                    let context = self.tokenizer.decode(&ids[..*settled])?;
                    let whole = self.tokenizer.decode(ids)?;
                    self.text.push_str(whole.strip_prefix(&context).unwrap_or(&whole));
                    ids.clear();
                    *settled = 0;
                }
            }
        }
        Ok(self.show(true))
    }

    /// The stop string that ended the answer.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.map(|(_, which)| self.stop[which].as_str())
    }

    /// The answer so far, without a stop string; may end with text that is still held back.
    pub fn text(&self) -> &str {
        &self.text[..self.stopped.map_or(self.text.len(), |(end, _)| end)]
    }

    /// For each pushed token the length of the decoded text after it.
    pub fn token_ends(&self) -> &[usize] {
        &self.token_ends
    }

    /// Sentences of [`TextStream::text`] with the tokens that wrote them.
    pub fn sentences(&self) -> Vec<Sentence> {
        sentences(self.text(), &self.token_ends)
    }

    /// Moves `shown` as far as no stop string can begin any more.
    fn show(&mut self, last: bool) -> &str {
        let from = self.shown;
        let end = match self.stopped {
            Some((end, _)) => end,
            None => match find_stop(&self.text[from..], &self.stop) {
                Some((at, which)) => {
                    self.stopped = Some((from + at, which));
                    from + at
                }
                None if last => self.text.len(),
                None => self.text.len() - open_prefix(&self.text[from..], &self.stop),
            },
        };
        self.shown = end.max(from);
        &self.text[from..self.shown]
    }
}

/// Moves all complete characters from `bytes` to `text`; what can never become UTF-8 turns into U+FFFD exactly as
/// in [`String::from_utf8_lossy`].
fn take_characters(bytes: &mut Vec<u8>, text: &mut String) {
    loop {
        match std::str::from_utf8(bytes) {
            Ok(valid) => {
                text.push_str(valid);
                bytes.clear();
                return;
            }
            Err(error) => {
                let (valid, rest) = bytes.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                let Some(invalid) = error.error_len() else {
                    *bytes = rest.to_vec();
                    return;
                };
                text.push(char::REPLACEMENT_CHARACTER);
                *bytes = rest[invalid..].to_vec();
            }
        }
    }
}

/// Earliest stop string in `text` and which one (the longest of those that begin there).
fn find_stop(text: &str, stop: &[String]) -> Option<(usize, usize)> {
    let hits = stop.iter().enumerate().filter_map(|(which, s)| text.find(s.as_str()).map(|at| (at, which)));
    hits.min_by_key(|&(at, which)| (at, usize::MAX - stop[which].len()))
}

/// Length of the longest end of `text` that is a proper beginning of a stop string.
fn open_prefix(text: &str, stop: &[String]) -> usize {
    let longest = |s: &String| {
        let most = text.len().min(s.len() - 1);
        (1..=most).rev().find(|&n| text.as_bytes()[text.len() - n..] == s.as_bytes()[..n]).unwrap_or(0)
    };
    stop.iter().map(longest).max().unwrap_or(0)
}

/// A sentence of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// The sentence without surrounding white space.
    pub text: String,
    /// Where `text` stands in the answer, in bytes.
    pub bytes: Range<usize>,
    /// The tokens that begin inside the sentence; every token of the answer is in at most one sentence.
    pub tokens: Range<usize>,
}

/// Splits `text` and assigns tokens; `token_ends[i]` is the length of the text after token `i`.
pub fn sentences(text: &str, token_ends: &[usize]) -> Vec<Sentence> {
    let start_of = |token: usize| if token == 0 { 0 } else { token_ends[token - 1] };
    let mut token = 0;
    let mut found = Vec::new();
    for span in split_sentences(text) {
        let first = token;
        while token < token_ends.len() && start_of(token) < span.end {
            token += 1;
        }
        let trimmed = text[span.clone()].trim();
        if !trimmed.is_empty() {
            let begin = span.start + (text[span.clone()].len() - text[span].trim_start().len());
            found.push(Sentence {
                text: trimmed.to_owned(),
                bytes: begin..begin + trimmed.len(),
                tokens: first..token,
            });
        }
    }
    found
}

/// Spans that cover `text` without gaps, one per sentence. A span ends behind `.`, `!` or `?` (and closing quotes or
/// brackets) when white space follows, behind the full-width marks, and at line ends; not behind usual abbreviations
/// and the number of a list item.
pub fn split_sentences(text: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let mut end = at + c.len_utf8();
        let over = match c {
            '\n' => true,
            '.' | '!' | '?' | '。' | '！' | '？' => {
                while let Some(&(next, close)) = chars.peek()
                    && matches!(
                        close,
                        '.' | '!' | '?' | '"' | '\'' | ')' | ']' | '”' | '’' | '»' | '」' | '』'
                    )
                {
                    end = next + close.len_utf8();
                    chars.next();
                }
                let follows = chars.peek().map(|&(_, next)| next);
                let apart = !c.is_ascii() || follows.is_none_or(char::is_whitespace);
                apart && !(c == '.' && is_abbreviation(&text[start..=at], &text[end..]))
            }
            _ => false,
        };
        if over {
            spans.push(start..end);
            start = end;
        }
    }
    if start < text.len() {
        spans.push(start..text.len());
    }
    spans
}

/// Whether the full stop that ends `sentence` belongs to its last word.
fn is_abbreviation(sentence: &str, rest: &str) -> bool {
    const ALWAYS: [&str; 13] =
        ["dr", "mr", "mrs", "ms", "prof", "st", "vs", "e.g", "i.e", "cf", "approx", "resp", "incl"];
    const BEFORE_NUMBER: [&str; 6] = ["no", "nr", "fig", "figs", "vol", "ca"];
    let body = sentence.trim_start();
    let Some(body) = body.strip_suffix('.') else {
        return false;
    };
    let word =
        body.rsplit(char::is_whitespace).next().unwrap_or(body).trim_start_matches(['(', '[', '"', '\'']);
    let lower = word.to_lowercase();
    let list_item = body == word && !word.is_empty() && word.chars().all(|c| c.is_ascii_digit());
    let number_next = rest.trim_start().starts_with(|c: char| c.is_ascii_digit());
    ALWAYS.contains(&lower.as_str())
        || (BEFORE_NUMBER.contains(&lower.as_str()) && number_next)
        || (list_item && !rest.trim().is_empty())
}
