//! The one error of the model rooms: what was wrong, where, and what was expected.

/// Anything that can go wrong while a model is built or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration field has a value that no implementation here understands.
    #[error("config field `{field}`: {message}")]
    Config {
        /// Dotted path of the field inside `config.json`.
        field: String,
        /// What was found and what was expected.
        message: String,
    },
    /// The checkpoint has no tensor of this name.
    #[error("tensor `{name}` is missing from the checkpoint")]
    MissingTensor {
        /// Name as it would stand on disk.
        name: String,
    },
    /// The checkpoint has the tensor in another shape.
    #[error("tensor `{name}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// Name as it stands on disk.
        name: String,
        /// Shape that the configuration asks for.
        expected: Vec<usize>,
        /// Shape on disk.
        found: Vec<usize>,
    },
    /// An input does not fit the model (too long, wrong channels, id out of range).
    #[error("{0}")]
    Input(String),
    /// A tensor operation failed; with checked inputs this is a bug.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// A [`Error::Config`] from its two parts.
    pub fn config(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config { field: field.into(), message: message.into() }
    }
}

/// Result of every fallible call in the model rooms.
pub type Result<T> = std::result::Result<T, Error>;
