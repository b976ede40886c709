//! Bytes to what the encoder takes, with every size checked on the way.

use axum::http::StatusCode;
use swinseek_vision::preprocess::dicom::{BurnedInAnnotation, DicomFacts};
use swinseek_vision::preprocess::{DecodeError, DecodeOptions, Image, decode};

use crate::engine::PreparedImage;
use crate::server::error::{ApiError, ApiResult};
use crate::server::frontend::Frontend;
use crate::server::settings::Settings;

/// A picture with fewer pixels on a side shows nothing.
const MIN_SIDE: usize = 8;
/// Beyond this ratio a picture is a line.
const MAX_ASPECT: usize = 32;

/// What is wanted of a file.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Want {
    /// Frame of a multi-frame file, from 0.
    pub(crate) frame: usize,
    /// Hold on to the bytes: something is drawn on the picture later.
    pub(crate) keep: bool,
}

/// An image for the engine, and what goes into the answer about it.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) prepared: PreparedImage,
    pub(crate) sight: Sight,
}

/// What an answer says about an image.
#[derive(Debug)]
pub(crate) struct Sight {
    /// BLAKE3 of the file's bytes, hexadecimal.
    pub(crate) digest: String,
    /// Width and height in pixels.
    pub(crate) size: (usize, usize),
    /// The frame that was read, from 0.
    pub(crate) frame: usize,
    /// Frames of the file.
    pub(crate) frames: usize,
    /// What a DICOM file says beside its pixels.
    pub(crate) dicom: Option<Box<DicomFacts>>,
    /// The file, if it was to be kept.
    bytes: Option<Vec<u8>>,
}

impl Sight {
    /// The file says that its pixels name the patient.
    pub(crate) fn burned_in(&self) -> bool {
        self.dicom.as_ref().is_some_and(|facts| facts.burned_in_annotation == BurnedInAnnotation::Yes)
    }

    /// The pixels, decoded again from the bytes that were kept: pixels in memory for as long as an answer takes would
    /// cost far more than a second decoding.
    pub(crate) fn image(&self, settings: &Settings) -> ApiResult<Image> {
        let bytes = self.bytes.as_deref().unwrap_or_default();
        let options = DecodeOptions { limits: settings.limits.image, frame: self.frame };
        decode(bytes, &options).map_err(|error| {
            tracing::error!(%error, "an image cannot be decoded again");
            ApiError::internal()
        })
    }
}

/// Decodes and preprocesses one file. Takes long: call it on a thread that may.
pub(crate) fn prepare(
    frontend: &Frontend,
    settings: &Settings,
    bytes: Vec<u8>,
    want: Want,
    param: &str,
) -> ApiResult<Picture> {
    if bytes.is_empty() {
        return Err(ApiError::invalid(param, "the image is empty").code("invalid_image"));
    }
    let options = DecodeOptions { limits: settings.limits.image, frame: want.frame };
    let image = decode(&bytes, &options).map_err(|error| refused(&error, param))?;
    let (width, height) = (image.width(), image.height());
    if width.min(height) < MIN_SIDE {
        let message =
            format!("the image is {width} x {height} pixels, expected at least {MIN_SIDE} on each side");
        return Err(ApiError::unusable(param, message));
    }
    if width.max(height) > MAX_ASPECT * width.min(height) {
        let message =
            format!("the image is {width} x {height} pixels: more than {MAX_ASPECT} times as long as wide");
        return Err(ApiError::unusable(param, message));
    }
    let prepared = frontend.prepare(&bytes, &image);
    let prepared = prepared.map_err(|error| ApiError::unusable(param, error.to_string()))?;
    let sight = Sight {
        digest: blake3::hash(&bytes).to_hex().to_string(),
        size: (width, height),
        frame: image.source().frame,
        frames: image.source().frames,
        dicom: image.source().dicom.clone(),
        bytes: want.keep.then_some(bytes),
    };
    if settings.refuse_burned_in && sight.burned_in() {
        let message = "the DICOM file says that its pixels hold identifying text (BurnedInAnnotation YES)";
        return Err(ApiError::unusable(param, message).code("burned_in_annotation"));
    }
    Ok(Picture { prepared, sight })
}

fn refused(error: &DecodeError, param: &str) -> ApiError {
    let message = error.to_string();
    match error {
        DecodeError::Limit { .. } => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message).param(param).code("image_too_large")
        }
        DecodeError::Unsupported { .. } => ApiError::unusable(param, message).code("unsupported_image"),
        _ => ApiError::invalid(param, message).code("invalid_image"),
    }
}
