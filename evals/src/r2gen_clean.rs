//! The report cleaners of R2Gen (Chen et al. 2020), which most chest X-ray papers score with: lower case, no punctuation but a
//! full stop between sentences, which counts as a word.
//!
//! R2Gen also cuts references to 60 words (IU X-Ray) or 100 (MIMIC-CXR) and writes words that are rare in its training set as
//! one unknown word; that belongs to its model and is not done here.

use crate::tokenize::strip;

/// Which data set a report comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cleaner {
    /// IU X-Ray.
    IuXray,
    /// MIMIC-CXR: also line breaks, runs of underscores and spaces.
    MimicCxr,
    /// MIMIC-CXR in R2GenGPT (Wang et al. 2023): colons stay, as words of their own.
    MimicCxrColon,
}

/// Numbers of a list, for all data sets.
const LIST: [(&str, &str); 9] = [
    ("1. ", ""),
    (". 2. ", ". "),
    (". 3. ", ". "),
    (". 4. ", ". "),
    (". 5. ", ". "),
    (" 2. ", ". "),
    (" 3. ", ". "),
    (" 4. ", ". "),
    (" 5. ", ". "),
];

impl Cleaner {
    /// The report as R2Gen scores it. An empty report is a single full stop.
    pub fn clean(self, report: &str) -> String {
        let mut text = report.to_owned();
        let mut replace = |from: &str, to: &str, times: usize| {
            for _ in 0..times {
                text = text.replace(from, to);
            }
        };
        if self == Self::IuXray {
            replace("..", ".", 3);
        } else {
            replace("\n", " ", 1);
            replace("__", "_", 7);
            replace("  ", " ", 6);
            replace("..", ".", 8);
        }
        for (from, to) in LIST {
            replace(from, to, 1);
        }
        if self == Self::MimicCxrColon {
            replace(":", " :", 1);
        }
        let text = strip(&text).to_lowercase();
        let sentences: Vec<String> = text.split(". ").map(|sentence| self.sentence(sentence)).collect();
        sentences.join(" . ") + " ."
    }

    fn sentence(self, text: &str) -> String {
        let text = text.replace(['"', '/', '\\', '\''], "");
        strip(&text).to_lowercase().chars().filter(|&c| !self.drops(c)).collect()
    }

    /// The class is written `[.,?;*!%^&_+():-\[\]{}]`: `:-\[` in it is a range, so the hyphen stays.
    fn drops(self, c: char) -> bool {
        match c {
            ':'..='[' => self != Self::MimicCxrColon || matches!(c, ';' | '?' | '['),
            _ => {
                matches!(c, '.' | ',' | '*' | '!' | '%' | '^' | '&' | '_' | '+' | '(' | ')' | ']' | '{' | '}')
            }
        }
    }
}
