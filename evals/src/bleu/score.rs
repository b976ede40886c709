//! From statistics to the score.

use std::fmt;

use serde::Serialize;

use super::{Bleu, BleuStats};
use crate::error::{Error, Result};

/// What happens to orders without a match (Chen and Cherry 2014).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Smoothing {
    /// Nothing: the score is 0.
    None,
    /// This value instead of 0 matches; 0.1 by default.
    Floor(f64),
    /// This value added to matches and totals of every order above 1; 1 by default.
    AddK(f64),
    /// Half a match, then a quarter, and so on (NIST, mteval).
    #[default]
    Exp,
}

impl Smoothing {
    /// The method by its name on the command line, with its value or the default one.
    ///
    /// # Errors
    /// [`Error::Setting`] when there is no such method, or when it takes no value or not this one.
    pub fn from_name(name: &str, value: Option<f64>) -> Result<Self> {
        let smoothing = match (name, value) {
            ("none", None) => Self::None,
            ("exp", None) => Self::Exp,
            ("floor", value) => Self::Floor(value.unwrap_or(0.1)),
            ("add-k", value) => Self::AddK(value.unwrap_or(1.0)),
            ("none" | "exp", Some(value)) => {
                return Err(Error::Setting {
                    name: "smoothing",
                    message: format!("`{name}` takes no value, found {value}"),
                });
            }
            _ => {
                let message = format!("`{name}`, expected one of exp, floor, add-k, none");
                return Err(Error::Setting { name: "smoothing", message });
            }
        };
        smoothing.validate().map(|()| smoothing)
    }

    pub(super) fn validate(self) -> Result<()> {
        match self {
            Self::Floor(value) | Self::AddK(value) if !(value.is_finite() && value >= 0.0) => {
                Err(Error::Setting {
                    name: "smoothing value",
                    message: format!("{value}, expected a number from 0"),
                })
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Smoothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Floor(value) => write!(f, "floor[{value:.2}]"),
            Self::AddK(value) => write!(f, "add-k[{value:.2}]"),
            Self::Exp => f.write_str("exp"),
        }
    }
}

/// A score with its parts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BleuScore {
    /// 0 to 100.
    pub score: f64,
    /// Smoothed precision of each order, 0 to 100.
    pub precisions: Vec<f64>,
    /// 1, or less when the hypotheses are shorter than the references.
    pub brevity_penalty: f64,
    /// The counts, before smoothing.
    #[serde(flatten)]
    pub stats: BleuStats,
}

impl BleuScore {
    /// Hypothesis length by reference length; 0 without references.
    pub fn length_ratio(&self) -> f64 {
        if self.stats.ref_len == 0 { 0.0 } else { self.stats.hyp_len as f64 / self.stats.ref_len as f64 }
    }

    /// What stands behind the score on the line that researchers know:
    /// `82.4/50.0/45.5/37.5 (BP = 0.943 ratio = 0.944 hyp_len = 17 ref_len = 18)`.
    pub fn detail(&self) -> String {
        let precisions: Vec<String> = self.precisions.iter().map(|p| format!("{p:.1}")).collect();
        format!(
            "{} (BP = {:.3} ratio = {:.3} hyp_len = {} ref_len = {})",
            precisions.join("/"),
            self.brevity_penalty,
            self.length_ratio(),
            self.stats.hyp_len,
            self.stats.ref_len,
        )
    }
}

/// The score to two digits or the precision asked for, and [`BleuScore::detail`].
impl fmt::Display for BleuScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.*} {}", f.precision().unwrap_or(2), self.score, self.detail())
    }
}

/// sacreBLEU's `compute_bleu`, step by step.
pub(super) fn score(bleu: &Bleu, stats: &BleuStats) -> BleuScore {
    let (hyp_len, ref_len) = (stats.hyp_len as f64, stats.ref_len as f64);
    let brevity_penalty = match stats.hyp_len {
        hyp if hyp >= stats.ref_len => 1.0,
        0 => 0.0,
        _ => (1.0 - ref_len / hyp_len).exp(),
    };
    let mut precisions = vec![0.0; stats.correct.len()];
    let mut score = 0.0;
    // Without a single match the score is 0 under any smoothing.
    if stats.correct.iter().any(|&correct| correct > 0) {
        let mut order = precisions.len();
        let mut halving = 1.0;
        for (n, precision) in precisions.iter_mut().enumerate() {
            let added = match bleu.smoothing {
                Smoothing::AddK(k) if n > 0 => k,
                _ => 0.0,
            };
            let (correct, total) = (stats.correct[n] as f64 + added, stats.total[n] as f64 + added);
            if total == 0.0 {
                break;
            }
            if bleu.effective_order {
                order = n + 1;
            }
            *precision = match bleu.smoothing {
                _ if correct != 0.0 => 100.0 * correct / total,
                Smoothing::Exp => {
                    halving *= 2.0;
                    100.0 / (halving * total)
                }
                Smoothing::Floor(value) => 100.0 * value / total,
                _ => 0.0,
            };
        }
        let logs: f64 = precisions[..order].iter().map(|&precision| log(precision)).sum();
        score = brevity_penalty * (logs / order as f64).exp();
    }
    BleuScore { score, precisions, brevity_penalty, stats: stats.clone() }
}

/// A precision of 0 makes the score 0 without an infinity on the way.
fn log(precision: f64) -> f64 {
    if precision == 0.0 { -9_999_999_999.0 } else { precision.ln() }
}
