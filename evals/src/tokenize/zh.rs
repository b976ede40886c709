//! Chinese: each character stands alone.

use super::whitespace::strip;

/// The line with spaces around every character that counts as Chinese.
pub(super) fn prepare(line: &str, out: &mut Vec<u8>) {
    for c in strip(line).chars() {
        let chinese = is_chinese(c);
        if chinese {
            out.push(b' ');
        }
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        if chinese {
            out.push(b' ');
        }
    }
}

/// The ranges of sacreBLEU's `tokenizer_zh.py`. Two of them are meant to be U+20000..U+2A6D6 and U+2F800..U+2FA1D but
/// are spelled with four digits, so that they compare as the strings U+2000 "0" to U+2A6D "6" and U+2F80 "0" to
/// U+2FA1 "d". Scores depend on it: general punctuation, arrows and mathematics are split, Extension B is not.
fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{2001}'..='\u{2a6d}'
        | '\u{2e80}'..='\u{2eff}'
        | '\u{2f00}'..='\u{2fdf}'
        | '\u{2ff0}'..='\u{2fff}'
        | '\u{3000}'..='\u{303f}'
        | '\u{3100}'..='\u{312f}'
        | '\u{31a0}'..='\u{31bf}'
        | '\u{31c0}'..='\u{31ef}'
        | '\u{3200}'..='\u{33ff}'
        | '\u{3400}'..='\u{4db5}'
        | '\u{4e00}'..='\u{9fbb}'
        | '\u{f900}'..='\u{fa2d}'
        | '\u{fa30}'..='\u{fa6a}'
        | '\u{fa70}'..='\u{fad9}'
        | '\u{fe10}'..='\u{fe1f}'
        | '\u{fe30}'..='\u{fe4f}'
        | '\u{ff00}'..='\u{ffef}')
}
