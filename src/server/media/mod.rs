//! Images of a request: from a data URI, base64, a URL or an upload to what the encoder takes.

mod address;
mod fetch;
mod prepare;
mod source;

pub(super) use fetch::Fetcher;
pub(super) use prepare::{Picture, Sight, Want, prepare};
pub(super) use source::Source;
