//! The error of this room.

/// What made an evaluation impossible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of range or unknown.
    #[error("{name}: {message}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What was found and what was expected.
        message: String,
    },
    /// The texts or numbers to be scored do not fit together.
    #[error("{0}")]
    Input(String),
    /// A data file cannot be read.
    #[error("{origin}: {message}")]
    Data {
        /// The file, as the caller named it.
        origin: String,
        /// Line, field and what was expected.
        message: String,
    },
}

/// Result of the calls in this room.
pub type Result<T> = std::result::Result<T, Error>;
