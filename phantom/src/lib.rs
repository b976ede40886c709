//! Synthetic chest radiographs with findings, reports and questions.
//!
//! A study is drawn from `(seed, index)` alone: a chest of three-dimensional bodies, findings of known place and size, the
//! choices of whoever took the picture, the X-ray projection through all of it, and words for what can be seen. Nothing
//! here is data of a person. The pictures are for training, testing and showing software; they are simplified and no
//! substitute for radiographs where a claim about patients is to be made.

mod anatomy;
mod boxes;
mod error;
mod exposure;
mod facts;
mod finding;
pub mod grammar;
mod hardware;
mod lesion;
mod organs;
mod profile;
mod projection;
mod rng;
mod sample;
mod scene;
mod shapes;
mod skeleton;
mod study;
mod technique;
mod vessels;
mod write;

pub use error::{Error, Result};
pub use facts::{AreaFact, DeviceFact, Facts, HeartFact, NoduleFact};
pub use finding::{Device, Finding, Kind, Severity, Side, Tip, View, Zone};
pub use study::{Description, REFERENCES, Study, StudyOptions, WINDOW, report_variant};
pub use write::{Entry, Format, Options, Split, encode, write_dataset};

#[cfg(test)]
mod cover;
