//! Annotation files of data sets, as values.

mod r2gen;

pub use r2gen::{Annotations, Entry, Split};
