//! Constraints: what random models write under them, against `serde_json`, the `regex` crate and plain word lists; the
//! places that errors name; input that means harm.

mod forms;
mod hostile;
mod report;
mod support;
