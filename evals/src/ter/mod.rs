//! TER (Snover et al. 2006): edits and shifts of word blocks by reference length, with the arithmetic, the limits and the
//! heuristics of sacreBLEU 2.6.0, which follows Tercom.
//!
//! ```
//! use swinseek_evals::metric::{Metric, Segment, rows};
//! use swinseek_evals::ter::Ter;
//!
//! let references = ["a b c d e f g h"];
//! let ter = Ter::default();
//! let row = rows(&ter, &[Segment { hypothesis: "d e f g h a b c", references: &references }]).unwrap();
//! assert_eq!(row, [1.0, 8.0], "one shift, eight words");
//! assert_eq!(ter.score_sum(&row), 12.5);
//! ```

mod distance;
mod shift;

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::error::Result;
use crate::metric::{self, Count, Metric};
use crate::tokenize::{Tercom, Tokens};

/// TER; its settings are those of its tokeniser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ter(pub Tercom);

impl Metric for Ter {
    fn name(&self) -> String {
        "TER".to_owned()
    }

    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// Fewest edits to any reference, mean length of the references.
    fn width(&self) -> usize {
        2
    }

    fn counter(&self) -> Count<'_> {
        let mut tokens = Tokens::default();
        let mut words = Words::default();
        let (mut hypothesis, mut reference) = (Vec::new(), Vec::new());
        Box::new(move |segment, row| {
            words.0.clear();
            tokens.set_tercom(self.0, segment.hypothesis);
            words.number(&tokens, &mut hypothesis);
            let (mut edits, mut length) = (usize::MAX, 0);
            for line in segment.references {
                tokens.set_tercom(self.0, line);
                if self.0.normalized {
                    // sacreBLEU normalises references twice, which shows: white space that was not a blank is one now.
                    let once = tokens.joined();
                    tokens.set_tercom(self.0, &once);
                }
                words.number(&tokens, &mut reference);
                edits = edits.min(shift::edits(&hypothesis, &reference));
                length += reference.len();
            }
            row[0] = edits as f64;
            row[1] = length as f64 / segment.references.len() as f64;
        })
    }

    fn score_sum(&self, sum: &[f64]) -> f64 {
        match (sum[0], sum[1]) {
            (edits, length) if length > 0.0 => 100.0 * (edits / length),
            // Empty references.
            (edits, _) if edits > 0.0 => 100.0,
            _ => 0.0,
        }
    }

    fn settings(&self) -> Vec<(&'static str, &'static str, String)> {
        vec![
            ("case", "c", metric::case(!self.0.case_sensitive)),
            ("tok", "t", "tercom".to_owned()),
            ("norm", "nr", metric::yes_no(self.0.normalized)),
            ("punct", "pn", metric::yes_no(!self.0.no_punct)),
            ("asian", "as", metric::yes_no(self.0.asian_support)),
        ]
    }
}

/// Numbers for the words of a segment.
#[derive(Default)]
struct Words(HashMap<Vec<u8>, u32, FixedState>);

impl Words {
    /// Replaces `ids` by the numbers of the tokens; equal words have equal numbers.
    fn number(&mut self, tokens: &Tokens, ids: &mut Vec<u32>) {
        ids.clear();
        for token in tokens.iter() {
            let known = self.0.get(token).copied();
            ids.push(known.unwrap_or_else(|| {
                let id = self.0.len() as u32;
                self.0.insert(token.to_vec(), id);
                id
            }));
        }
    }
}
