//! The errors of this room: a model room's error, or a file that is not what it should be.

use std::path::Path;

/// Anything that can go wrong while a model is loaded, joined, run or saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file is missing, unreadable, damaged or holds something unexpected.
    #[error("{path}: {message}")]
    File {
        /// The file or directory.
        path: String,
        /// What was found and what was expected.
        message: String,
    },
    /// The weights or the configuration in a directory do not make a model.
    #[error("{path}: {source}")]
    Model {
        /// The model directory.
        path: String,
        /// What is wrong with it.
        source: swinseek_kernels::Error,
    },
    /// A request does not fit (an image that cannot be read, for one).
    #[error("{0}")]
    Input(String),
    /// A model refused its input, or a tensor operation failed.
    #[error(transparent)]
    Kernel(#[from] swinseek_kernels::Error),
}

impl Error {
    /// A [`Error::File`] from its two parts.
    pub fn file(path: &Path, message: impl std::fmt::Display) -> Self {
        Self::File { path: path.display().to_string(), message: message.to_string() }
    }

    /// Says which directory a model room complains about.
    pub fn model(path: &Path, source: swinseek_kernels::Error) -> Self {
        Self::Model { path: path.display().to_string(), source }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Kernel(error.into())
    }
}

/// Result of the calls that touch files; the model itself returns [`swinseek_kernels::Result`].
pub type Result<T> = std::result::Result<T, Error>;
