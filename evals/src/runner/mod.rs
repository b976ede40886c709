//! Runs a candidate (a model, a server, anything that answers) over a data set and keeps what it wrote.
//!
//! A result directory holds:
//!
//! | file | what |
//! |---|---|
//! | `run.json` | the [`Header`]: data, model and settings that the answers depend on |
//! | `hypotheses.jsonl` | one [`Line`] an item, written as the answers come, in item order once the run is over |
//! | `blind.jsonl` | the same, with noise in place of the pictures |
//! | `shard.json` | the [`Statistics`]: rows of numbers by item, of which every score is a function |
//! | `result.json` | scores, intervals, floors |
//! | `report.html` | the page that shows them ([`crate::report`]) |
//!
//! A run that was killed goes on where it was: lines that are there are not asked for again.

mod compare;
mod header;
mod log;
mod measure;
mod merge;
mod result;
mod run;
mod shard;
mod statistics;

use serde_json::{Map, Value};

use crate::dataset::Item;

pub use compare::{Comparison, compare};
pub use header::{DataFacts, Header, images_digest};
pub use log::{Line, Log, encode_all, write_file};
pub use measure::{Measure, MetricName};
pub use merge::{Merged, merge};
pub use result::{Environment, result};
pub use run::{Job, Outcome, answer_all};
pub use shard::Shard;
pub use statistics::{Floor, Floors, Statistics, floors};

/// The file of the header.
pub const RUN: &str = "run.json";
/// The file of the answers.
pub const HYPOTHESES: &str = "hypotheses.jsonl";
/// The file of the answers to noise.
pub const BLIND: &str = "blind.jsonl";
/// The file of the statistics.
pub const SHARD: &str = "shard.json";
/// The file of the page.
pub const PAGE: &str = "report.html";
/// The file of the scores.
pub const RESULT: &str = "result.json";

/// What the candidate is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// The item's pictures.
    Pictures,
    /// Noise of the same sizes: what is still right was not seen.
    Noise,
}

/// Something that answers items; it is asked from several threads at once.
pub trait Candidate: Sync {
    /// What it is (kind, digest, precision or address): all that its answers depend on. A run is only resumed by a
    /// candidate with the same description.
    fn describe(&self) -> Value;

    /// The text it writes about an item.
    ///
    /// # Errors
    /// [`CandidateError`]
    fn answer(&self, item: &Item, sight: Sight) -> Result<String, CandidateError>;

    /// What it measured of its own speed, for `speed` in `result.json`.
    fn measured(&self) -> Map<String, Value> {
        Map::new()
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CandidateError {
    /// This item failed; the others may not.
    #[error("{0}")]
    Item(String),
    /// The candidate is gone, such as a server that was stopped: the run ends here and can be resumed.
    #[error("{0}")]
    Gone(String),
}
