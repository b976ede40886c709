//! The tokeniser of the COCO caption evaluation: Stanford CoreNLP 3.4.1's `PTBTokenizer -preserveLines -lowerCase` without
//! its punctuation, as `pycocoevalcap` runs it (Chen et al. 2015; Marcus et al. 1993 for the conventions).
//!
//! The grammar is written anew in `rules.rs`; its automaton accepts, for every text of UTF-16 code units, what the
//! original's does, with the same rule. Texts go to the original as the lines of one file, so an abbreviation at the end of a
//! caption looks at the beginning of the next one: [`tokenize_all`] does the same.
//!
//! Not reproduced, because it would give captions to the wrong images: a line break inside a caption other than `\n` (CR, VT, FF,
//! U+2028, U+2029) makes two lines of it in the original and moves all captions after it; here it is white space. A tag whose
//! attribute is in quotation marks that close in the next caption swallows the line break; here it ends with its caption.
//!
//! ```
//! use swinseek_evals::tokenize::ptb;
//!
//! assert_eq!(ptb::tokenize("A man's hat isn't red, it's blue."), "a man 's hat is n't red it 's blue");
//! ```

mod grammar;
mod normal;
mod rules;
mod scanner;

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};

use super::strip_end;
use scanner::SCANNER;

/// Tokens that `pycocoevalcap` leaves out. The brackets of the list are in upper case and the tokens in lower case, so that
/// `-lrb-` and `-rrb-` stay.
pub const PUNCTUATION: [&str; 17] = [
    "''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";",
];

/// The tokens of one caption in a file of its own, joined by single spaces, in lower case, without punctuation.
pub fn tokenize(caption: &str) -> String {
    drop_punctuation(&treebank(caption))
}

/// The tokens of a caption in the middle of a file whose next line is empty.
pub fn tokenize_line(caption: &str) -> String {
    drop_punctuation(&line_of(caption, &[""]))
}

/// The tokens of captions that follow each other in one file, as [`tokenize`] joins them. Computed in parallel.
pub fn tokenize_all(captions: &[&str]) -> Vec<String> {
    treebank_all(captions).iter().map(|line| drop_punctuation(line)).collect()
}

/// The line that the original prints for a caption in a file of its own: all tokens in lower case.
pub fn treebank(caption: &str) -> String {
    line_of(caption, &[])
}

/// The lines that the original prints for captions that follow each other in one file.
pub fn treebank_all(captions: &[&str]) -> Vec<String> {
    let lines = captions.par_iter().enumerate();
    lines.map(|(index, caption)| line_of(caption, &captions[index + 1..])).collect()
}

/// The tokens of `caption`, looking at those that `follow` it in the file.
fn line_of(caption: &str, follow: &[&str]) -> String {
    let mut text = flat(caption);
    let line = text.len();
    if !follow.is_empty() {
        text.push('\n');
        // Only what stands behind a full stop can depend on the next words.
        if strip_end(&text).ends_with('.') {
            for next in follow {
                text.push_str(&flat(next));
                text.push('\n');
                if !strip_end(next).is_empty() {
                    break;
                }
            }
        }
    }
    let mut out = String::with_capacity(line + line / 8);
    SCANNER.scan(&text, line, |rule, token| {
        if let Some(token) = normal::normal(rule.action, token) {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(&token.to_lowercase());
        }
    });
    out
}

/// The caption as one line.
fn flat(caption: &str) -> String {
    caption.replace(['\n', '\r', '\u{b}', '\u{c}', '\u{2028}', '\u{2029}'], " ")
}

fn drop_punctuation(line: &str) -> String {
    let words: Vec<&str> = strip_end(line).split(' ').filter(|word| !PUNCTUATION.contains(word)).collect();
    words.join(" ")
}
