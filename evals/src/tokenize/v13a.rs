//! mteval-v13a: the default tokeniser of WMT, and what `zh` and Tercom share with it.
//!
//! Four expressions make it, each over the result of the one before:
//!
//! 1. ``([\{-\~\[-\` -\&\(-\+\:-\@\/])`` to ` \1 `: everything in ASCII but letters, digits and `' , - .` stands alone;
//! 2. `([^0-9])([\.,])` to `\1 \2 `;
//! 3. `([\.,])([^0-9])` to ` \1 \2`;
//! 4. `([0-9])(-)` to `\1 \2 `.
//!
//! They only insert spaces, so that every token is a piece of the line, and [`split`] finds the pieces in one pass. The
//! expressions speak of characters; the bytes of a multi-byte character behave as the character does, because only the
//! neighbour of an ASCII partner takes part.

use std::borrow::Cow;

use super::whitespace::space_len;

/// What SGML escapes, replaced one after the other: `&amp;lt;` becomes `<`.
const ENTITIES: [(&str, &str); 4] = [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")];

/// The line with `<skipped>`, end-of-line hyphens and entities resolved.
pub(super) fn prepare(line: &str, out: &mut Vec<u8>) {
    let mut line = Cow::Borrowed(line);
    if line.contains('<') {
        replace(&mut line, "<skipped>", "");
    }
    if line.contains('\n') {
        replace(&mut line, "-\n", "");
        replace(&mut line, "\n", " ");
    }
    resolve_entities(&mut line);
    out.extend_from_slice(line.as_bytes());
}

pub(super) fn resolve_entities(line: &mut Cow<'_, str>) {
    if line.contains('&') {
        for (entity, character) in ENTITIES {
            replace(line, entity, character);
        }
    }
}

fn replace(line: &mut Cow<'_, str>, from: &str, to: &str) {
    if line.contains(from) {
        *line = Cow::Owned(line.replace(from, to));
    }
}

/// What [`split`] asks about a byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Part of a word, digits included.
    Word,
    /// White space of one byte.
    Space,
    /// Perhaps the first byte of white space of several bytes.
    Lead,
    /// Stands alone.
    Punctuation,
    /// `.` or `,`
    Stop,
    Dash,
    Apostrophe,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Word; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            0x09..=0x0d | 0x1c..=0x20 => Class::Space,
            0xc2 | 0xe1..=0xe3 => Class::Lead,
            b'{'..=b'~' | b'['..=b'`' | b'!'..=b'&' | b'('..=b'+' | b':'..=b'@' | b'/' => Class::Punctuation,
            b'.' | b',' => Class::Stop,
            b'-' => Class::Dash,
            b'\'' => Class::Apostrophe,
            _ => Class::Word,
        };
        byte += 1;
    }
    classes
};

/// Whose expressions they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rules {
    /// A blank stands before and after the line.
    V13a,
    /// The line as it is.
    Zh,
    /// As `V13a`, and after the first expression `'s ` becomes ` 's `.
    Tercom,
}

/// Spans of the tokens of `text`.
pub(super) fn split(text: &[u8], rules: Rules, spans: &mut Vec<(usize, usize)>) {
    spans.clear();
    let (mut at, mut begin) = (0, 0);
    let padded = rules != Rules::Zh;
    // End of the last stop that the second expression has taken as its second character.
    let mut taken = usize::MAX;
    while let Some(&byte) = text.get(at) {
        let class = CLASSES[byte as usize];
        let (length, alone) = match class {
            Class::Word => {
                at += 1;
                continue;
            }
            Class::Space => (1, false),
            Class::Lead => (space_len(&text[at..]), false),
            Class::Punctuation => (1, true),
            Class::Stop => {
                let after_digit = if at == 0 { !padded } else { text[at - 1].is_ascii_digit() };
                let second = !after_digit && taken != at;
                if second {
                    taken = at + 1;
                }
                let before_digit = text.get(at + 1).map_or(!padded, u8::is_ascii_digit);
                (usize::from(second || !before_digit), true)
            }
            Class::Dash => (usize::from(at > 0 && text[at - 1].is_ascii_digit()), true),
            Class::Apostrophe => {
                if rules == Rules::Tercom && is_possessive(&text[at..]) && begin < at {
                    spans.push((begin, at));
                    begin = at;
                }
                (0, false)
            }
        };
        if length == 0 {
            at += 1;
            continue;
        }
        if begin < at {
            spans.push((begin, at));
        }
        if alone {
            spans.push((at, at + 1));
        }
        at += length;
        begin = at;
    }
    if begin < at {
        spans.push((begin, at));
    }
}

/// `'s` before a blank, which stands before punctuation and at the end too.
fn is_possessive(text: &[u8]) -> bool {
    let next = text.get(2).map(|&byte| (byte, CLASSES[byte as usize]));
    text.get(1) == Some(&b's') && next.is_none_or(|(byte, class)| byte == b' ' || class == Class::Punctuation)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{CLASSES, Class, Rules, split};

    /// The expressions, one after the other.
    fn plainly(line: &str, rules: Rules) -> Vec<String> {
        let pad = if rules == Rules::Zh { "" } else { " " };
        let mut text = String::new();
        for c in format!("{pad}{line}{pad}").chars() {
            let alone = c == ' ' || c.is_ascii() && CLASSES[c as usize] == Class::Punctuation;
            let pad = if alone { " " } else { "" };
            text.extend([pad, c.encode_utf8(&mut [0; 4]), pad]);
        }
        if rules == Rules::Tercom {
            text = text.replace("'s ", " 's ");
        }
        let stop = |c: char| matches!(c, '.' | ',');
        let digit = |c: char| c.is_ascii_digit();
        text = pairs(&text, |a, b| !digit(a) && stop(b), |a, b| format!("{a} {b} "));
        text = pairs(&text, |a, b| stop(a) && !digit(b), |a, b| format!(" {a} {b}"));
        text = pairs(&text, |a, b| digit(a) && b == '-', |a, b| format!("{a} {b} "));
        text.split(super::super::is_space).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    /// Replaces each pair of neighbours that `matches`, from left to right without overlap.
    fn pairs(text: &str, matches: impl Fn(char, char) -> bool, to: impl Fn(char, char) -> String) -> String {
        let chars: Vec<char> = text.chars().collect();
        let (mut out, mut at) = (String::new(), 0);
        while at < chars.len() {
            if at + 1 < chars.len() && matches(chars[at], chars[at + 1]) {
                out += &to(chars[at], chars[at + 1]);
                at += 2;
            } else {
                out.push(chars[at]);
                at += 1;
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn one_pass_equals_the_expressions(
            line in "[-.,5as'/ é\u{2009}\u{85}\u{1f}—]{0,24}",
            rules in prop::sample::select(vec![Rules::V13a, Rules::Zh, Rules::Tercom]),
        ) {
            let mut spans = Vec::new();
            split(line.as_bytes(), rules, &mut spans);
            let found: Vec<&str> = spans.iter().map(|&(begin, end)| &line[begin..end]).collect();
            prop_assert_eq!(found, plainly(&line, rules));
        }
    }
}
