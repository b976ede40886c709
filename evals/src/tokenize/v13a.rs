//! mteval-v13a: the default tokeniser of WMT.

use std::borrow::Cow;

/// What SGML escapes, replaced one after the other: `&amp;lt;` becomes `<`.
pub(super) const ENTITIES: [(&str, &str); 4] =
    [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")];

/// The line with `<skipped>`, end-of-line hyphens and entities resolved, between two spaces.
pub(super) fn prepare(line: &str, out: &mut Vec<u8>) {
    let mut line = Cow::Borrowed(line);
    let mut replace = |from: &str, to: &str| {
        if line.contains(from) {
            line = Cow::Owned(line.replace(from, to));
        }
    };
    replace("<skipped>", "");
    replace("-\n", "");
    replace("\n", " ");
    for (entity, character) in ENTITIES {
        replace(entity, character);
    }
    out.push(b' ');
    out.extend_from_slice(line.as_bytes());
    out.push(b' ');
}

/// The four expressions of mteval-v13a in turn, each over the result of the one before. `spare` is a buffer.
pub(super) fn split_punctuation(text: &mut Vec<u8>, spare: &mut Vec<u8>) {
    isolate_punctuation(text, spare);
    std::mem::swap(text, spare);
    split_stops_and_dashes(text, spare);
}

/// The three expressions about neighbours.
pub(super) fn split_stops_and_dashes(text: &mut Vec<u8>, spare: &mut Vec<u8>) {
    split_pairs(text, spare, |a, b| !a.is_ascii_digit() && is_stop(b), |a, b| [a, b' ', b, b' ']);
    split_pairs(spare, text, |a, b| is_stop(a) && !b.is_ascii_digit(), |a, b| [b' ', a, b' ', b]);
    split_pairs(text, spare, |a, b| a.is_ascii_digit() && b == b'-', |a, b| [a, b' ', b, b' ']);
    std::mem::swap(text, spare);
}

fn is_stop(byte: u8) -> bool {
    matches!(byte, b'.' | b',')
}

/// `([\{-\~\[-\` -\&\(-\+\:-\@\/])` to ` \1 `: everything in ASCII but letters, digits and `' , - .`.
pub(super) fn isolate_punctuation(text: &[u8], out: &mut Vec<u8>) {
    out.clear();
    for &byte in text {
        match byte {
            b'{'..=b'~' | b'['..=b'`' | b' '..=b'&' | b'('..=b'+' | b':'..=b'@' | b'/' => {
                out.extend_from_slice(&[b' ', byte, b' ']);
            }
            _ => out.push(byte),
        }
    }
}

/// Replaces each pair of neighbours that `matches`, from left to right without overlap. The expressions speak of
/// characters; the bytes of a multi-byte character behave as the character does, because only the byte next to the
/// ASCII partner takes part.
fn split_pairs(
    text: &[u8],
    out: &mut Vec<u8>,
    matches: impl Fn(u8, u8) -> bool,
    replacement: impl Fn(u8, u8) -> [u8; 4],
) {
    out.clear();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match text.get(at + 1) {
            Some(&next) if matches(byte, next) => {
                out.extend_from_slice(&replacement(byte, next));
                at += 2;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
}
