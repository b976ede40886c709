//! What can go wrong when a set is written.

use std::path::{Path, PathBuf};

/// An error of this crate, one line each.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option has a value that it cannot have.
    #[error("{field}: found {found}, expected {expected}")]
    Option {
        /// The option.
        field: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A file or folder cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A picture cannot be encoded.
    #[error("{}: {reason}", path.display())]
    Encode {
        /// The file it was meant for.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn encode(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Encode { path: path.to_owned(), reason: reason.to_string() }
    }
}
