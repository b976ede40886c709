//! mteval-v14 (`intl`): punctuation and symbols of all scripts.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// What the expressions ask about a character: `\p{P}`, `\p{N}`, `\p{S}`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Punctuation,
    Number,
    Symbol,
    Other,
}

fn class(c: char) -> Class {
    // Most text is letters and blanks; the table behind the general category is a binary search.
    if c.is_ascii_alphabetic() || c == ' ' {
        return Class::Other;
    }
    match c.general_category_group() {
        GeneralCategoryGroup::Punctuation => Class::Punctuation,
        GeneralCategoryGroup::Number => Class::Number,
        GeneralCategoryGroup::Symbol => Class::Symbol,
        _ => Class::Other,
    }
}

/// `(\P{N})(\p{P})` to `\1 \2 `, then `(\p{P})(\P{N})` to ` \1 \2`, then `(\p{S})` to ` \1 `. There is no padding, so
/// that the full stop of a final "2019." stays where it is.
pub(super) fn prepare(line: &str, out: &mut Vec<u8>) {
    let line =
        split_pairs(line, |a, b| a != Class::Number && b == Class::Punctuation, |a, b| [a, ' ', b, ' ']);
    let line =
        split_pairs(&line, |a, b| a == Class::Punctuation && b != Class::Number, |a, b| [' ', a, ' ', b]);
    for c in line.chars() {
        let symbol = class(c) == Class::Symbol;
        if symbol {
            out.push(b' ');
        }
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        if symbol {
            out.push(b' ');
        }
    }
}

/// Replaces each pair of neighbours that `matches`, from left to right without overlap.
fn split_pairs(
    text: &str,
    matches: impl Fn(Class, Class) -> bool,
    replacement: impl Fn(char, char) -> [char; 4],
) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(&next) if matches(class(c), class(next)) => {
                out.extend(replacement(c, next));
                chars.next();
            }
            _ => out.push(c),
        }
    }
    out
}
