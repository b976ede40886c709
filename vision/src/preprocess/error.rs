//! What can be wrong with the bytes of a picture; every message is one line.

use super::sniff::Format;

/// Why bytes did not become an [`Image`](super::Image).
///
/// Messages name the format, what was found and what was expected. They never hold patient data:
/// from DICOM files only pixel attributes (sizes, bit depths, UIDs of classes) are quoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are no picture format that is read here.
    #[error("not an image: found {found}, expected PNG, JPEG, GIF, WebP, BMP, TIFF or DICOM")]
    Unrecognized {
        /// What the bytes look like.
        found: String,
    },
    /// A size stated by the file or the file itself is over a limit; checked before allocating.
    #[error("{format}: {what} is {found}, the limit is {limit}")]
    Limit {
        /// Format of the file, or `None` when it was refused by its length alone.
        format: FormatName,
        /// Which size.
        what: &'static str,
        /// The size found.
        found: u64,
        /// The largest size allowed.
        limit: u64,
    },
    /// The file ends too early.
    #[error("{format}: truncated: {message}")]
    Truncated {
        /// Format of the file.
        format: Format,
        /// Where it ends and what should follow.
        message: String,
    },
    /// The file contradicts its format.
    #[error("{format}: damaged: {message}")]
    Malformed {
        /// Format of the file.
        format: Format,
        /// What is wrong.
        message: String,
    },
    /// The file may be right but uses something that is not read here.
    #[error("{format}: not supported: {message}")]
    Unsupported {
        /// Format of the file.
        format: Format,
        /// What it uses and what is read instead.
        message: String,
    },
    /// The frame asked for does not exist.
    #[error("{format}: frame {frame} was asked for, frames 0 to {last} can be read")]
    Frame {
        /// Format of the file.
        format: Format,
        /// Frame asked for, counted from 0.
        frame: usize,
        /// Index of the last frame.
        last: usize,
    },
    /// Samples handed to [`Image::new`](super::Image::new) do not fill the picture.
    #[error("image of {width} x {height} x {channels} needs {expected} samples, found {found}")]
    Samples {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Channels per pixel.
        channels: usize,
        /// Samples needed.
        expected: usize,
        /// Samples found.
        found: usize,
    },
}

/// Name of a format in a limit message; the length of a file is checked before it is sniffed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatName(pub Option<Format>);

impl std::fmt::Display for FormatName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(format) => format.fmt(f),
            None => f.write_str("image"),
        }
    }
}

impl DecodeError {
    pub(super) fn limit(format: Format, what: &'static str, found: u64, limit: u64) -> Self {
        Self::Limit { format: FormatName(Some(format)), what, found, limit }
    }

    pub(super) fn truncated(format: Format, message: impl Into<String>) -> Self {
        Self::Truncated { format, message: one_line(message) }
    }

    pub(super) fn malformed(format: Format, message: impl Into<String>) -> Self {
        Self::Malformed { format, message: one_line(message) }
    }

    pub(super) fn unsupported(format: Format, message: impl Into<String>) -> Self {
        Self::Unsupported { format, message: one_line(message) }
    }
}

/// Messages of foreign decoders may span lines.
fn one_line(message: impl Into<String>) -> String {
    message.into().split_whitespace().collect::<Vec<_>>().join(" ")
}
