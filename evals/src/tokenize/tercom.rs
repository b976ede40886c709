//! The normaliser of Tercom (Snover et al. 2006) as sacreBLEU 2.6.0 has it.

use std::borrow::Cow;

use super::v13a::Rules;
use super::whitespace::strip_end;
use super::{Tokens, v13a};

/// How TER sees a line; the default only lowers case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the published tool")]
pub struct Tercom {
    /// Resolve entities, split off ASCII punctuation and the possessive `'s`.
    pub normalized: bool,
    /// Drop `. , ? : ; ! " ( )`.
    pub no_punct: bool,
    /// With `normalized` split Chinese and Japanese into characters; with `no_punct` drop their punctuation.
    pub asian_support: bool,
    /// Keep the case.
    pub case_sensitive: bool,
}

impl Tercom {
    /// The words of `line` joined by single spaces.
    pub fn tokenize(self, line: &str) -> String {
        let mut tokens = Tokens::default();
        tokens.set_tercom(self, line);
        tokens.joined()
    }

    /// Puts the line into `text` such that white space separates its words. `spans` is a buffer.
    pub(super) fn prepare(self, line: &str, text: &mut Vec<u8>, spans: &mut Vec<(usize, usize)>) {
        let line = strip_end(line);
        let mut line =
            if self.case_sensitive { Cow::Borrowed(line) } else { Cow::Owned(line.to_lowercase()) };
        if self.normalized {
            line = Cow::Owned(normalize(&line, spans));
        }
        text.clear();
        for c in line.chars() {
            if self.no_punct && (is_punctuation(c) || self.asian_support && is_asian_punctuation(c)) {
                continue;
            }
            let alone = self.normalized && self.asian_support && (is_asian(c) || is_asian_punctuation(c));
            let blank: &[u8] = if alone { b" " } else { b"" };
            text.extend_from_slice(blank);
            text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            text.extend_from_slice(blank);
        }
    }
}

/// Tercom's general and western expressions. Those about Hiragana and Katakana are left out: they are anchored to the
/// front of the line, where a blank stands.
fn normalize(line: &str, spans: &mut Vec<(usize, usize)>) -> String {
    let mut line = Cow::Owned(line.replace("\n-", "").replace('\n', " "));
    v13a::resolve_entities(&mut line);
    v13a::split(line.as_bytes(), Rules::Tercom, spans);
    let words: Vec<&str> = spans.iter().map(|&(begin, end)| &line[begin..end]).collect();
    words.join(" ")
}

fn is_punctuation(c: char) -> bool {
    matches!(c, '.' | ',' | '?' | ':' | ';' | '!' | '"' | '(' | ')')
}

/// Asian and full-width punctuation.
fn is_asian_punctuation(c: char) -> bool {
    matches!(c,
        '\u{3001}' | '\u{3002}' | '\u{3008}'..='\u{3011}' | '\u{3014}'..='\u{301f}' | '\u{ff61}'..='\u{ff65}' | '\u{30fb}'
        | '\u{ff0e}' | '\u{ff0c}' | '\u{ff1f}' | '\u{ff1a}' | '\u{ff1b}' | '\u{ff01}' | '\u{ff02}' | '\u{ff08}' | '\u{ff09}')
}

/// Characters that stand alone. The fourth range is meant to end at U+32FF, but is spelled U+3F22.
fn is_asian(c: char) -> bool {
    matches!(c,
        '\u{4e00}'..='\u{9fff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{31c0}'..='\u{31ef}'
        | '\u{2e80}'..='\u{2eff}'
        | '\u{3300}'..='\u{33ff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe4f}'
        | '\u{3200}'..='\u{3f22}')
}
