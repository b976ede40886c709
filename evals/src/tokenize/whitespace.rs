//! White space as Python's `str.split` and `str.strip` see it.

/// Python's `str.isspace`: Unicode white space and the separators U+001C to U+001F, which Rust leaves out.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Python's `str.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Python's `str.rstrip()`.
pub fn strip_end(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// Python's `str.split()`.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// Length of the white-space character at the front of `text` (UTF-8), 0 when there is none.
pub(super) fn space_len(text: &[u8]) -> usize {
    match text {
        [0x09..=0x0d | 0x1c..=0x20, ..] => 1,
        [0xc2, 0x85 | 0xa0, ..] => 2,
        [0xe1, 0x9a, 0x80, ..]
        | [0xe2, 0x80, 0x80..=0x8a | 0xa8 | 0xa9 | 0xaf, ..]
        | [0xe2, 0x81, 0x9f, ..]
        | [0xe3, 0x80, 0x80, ..] => 3,
        _ => 0,
    }
}

/// Spans of the pieces between white space.
pub(super) fn split(text: &[u8], spans: &mut Vec<(usize, usize)>) {
    spans.clear();
    let (mut at, mut begin) = (0, 0);
    while at < text.len() {
        let space = space_len(&text[at..]);
        if space == 0 {
            at += 1;
            continue;
        }
        if begin < at {
            spans.push((begin, at));
        }
        at += space;
        begin = at;
    }
    if begin < at {
        spans.push((begin, at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_characters_agree_on_white_space() {
        for c in '\0'..=char::MAX {
            let mut buffer = [0; 4];
            let bytes = c.encode_utf8(&mut buffer).as_bytes();
            assert_eq!(space_len(bytes), if is_space(c) { bytes.len() } else { 0 }, "{c:?}");
        }
    }
}
