//! Foreign text and numbers, made safe and short.

use std::fmt::{self, Display, Formatter, Write};

/// Shows text as HTML, for content and quoted attributes alike. Control characters and those that turn the reading
/// direction around get a visible name: a report must not be able to rearrange the page, and its reader should see
/// them.
#[derive(Clone, Copy)]
pub(super) struct Text<'a>(pub(super) &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(c)?,
                '\r' => f.write_char(' ')?,
                // The control pictures, such as U+2400 for NUL.
                '\0'..='\u{1f}' => f.write_char(char::from_u32(0x2400 + u32::from(c)).unwrap_or(' '))?,
                '\u{7f}' => f.write_char('\u{2421}')?,
                _ if is_hidden(c) => write!(f, "\u{27e8}U+{:04X}\u{27e9}", u32::from(c))?,
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// C1 controls, bidirectional embeddings, overrides and isolates, line separators, and what is no character at all.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{80}'..='\u{9f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fdd0}'..='\u{fdef}')
        || u32::from(c) & 0xfffe == 0xfffe
}

/// What `piece` makes of each item, one after the other.
pub(super) fn each<T>(items: impl IntoIterator<Item = T>, piece: impl FnMut(T) -> String) -> String {
    items.into_iter().map(piece).collect()
}

/// A number with at most four significant digits and no needless zeros: `67.53`, `0.151`, `1234567`.
pub(super) fn short(value: f64) -> String {
    if !value.is_finite() {
        return "undefined".into();
    }
    let digits = value.abs().max(f64::MIN_POSITIVE).log10().floor() as i32;
    let decimals = (3 - digits).clamp(0, 6) as usize;
    fixed(value, decimals)
}

/// A number with at most so many decimals and no needless zeros.
pub(super) fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".into() } else { text.into() }
}

/// A count with a narrow space between groups of three digits.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// Standard base64 with padding (RFC 4648, section 4).
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for sextet in 0..4 {
            let letter = ALPHABET[(group >> (18 - 6 * sextet)) as usize & 63];
            out.push(if sextet > chunk.len() { '=' } else { char::from(letter) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_rfc() {
        let vectors = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (bytes, expected) in vectors {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
    }

    #[test]
    fn numbers_are_short() {
        let cases = [(67.534, "67.53"), (0.15104, "0.151"), (100.0, "100"), (-0.00000001, "0"), (0.0, "0")];
        for (value, expected) in cases {
            assert_eq!(short(value), expected);
        }
        assert_eq!(short(1_234_567.0), "1234567");
        assert_eq!(short(f64::NAN), "undefined");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(count(123), "123");
    }
}
