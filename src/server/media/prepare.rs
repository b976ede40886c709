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

/// A decoded image with what goes into the answer about it.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    /// For the engine.
    pub(crate) prepared: PreparedImage,
    /// BLAKE3 of the file's bytes, hexadecimal.
    pub(crate) digest: String,
    /// Width and height in pixels.
    pub(crate) size: (usize, usize),
    /// What a DICOM file says beside its pixels.
    pub(crate) dicom: Option<Box<DicomFacts>>,
    /// The decoded pixels, where something is drawn on them later.
    pub(crate) image: Option<Image>,
}

impl Picture {
    /// The file says that its pixels name the patient.
    pub(crate) fn burned_in(&self) -> bool {
        self.dicom.as_ref().is_some_and(|facts| facts.burned_in_annotation == BurnedInAnnotation::Yes)
    }
}

/// Decodes and preprocesses one file. Takes long: call it on a thread that may. `keep` holds on to the decoded pixels.
pub(crate) fn prepare(
    frontend: &Frontend,
    settings: &Settings,
    bytes: &[u8],
    (frame, keep): (usize, bool),
    param: &str,
) -> ApiResult<Picture> {
    if bytes.is_empty() {
        return Err(ApiError::invalid(param, "the image is empty").code("invalid_image"));
    }
    let options = DecodeOptions { limits: settings.limits.image, frame };
    let image = decode(bytes, &options).map_err(|error| refused(&error, param))?;
    let (width, height) = (image.width(), image.height());
    if width.min(height) < MIN_SIDE {
        let message = format!("the image is {width} x {height} pixels, expected at least {MIN_SIDE} on each side");
        return Err(ApiError::unusable(param, message));
    }
    if width.max(height) > MAX_ASPECT * width.min(height) {
        let message = format!("the image is {width} x {height} pixels: more than {MAX_ASPECT} times as long as wide");
        return Err(ApiError::unusable(param, message));
    }
    let dicom = image.source().dicom.clone();
    let prepared = frontend.prepare(bytes, &image).map_err(|error| ApiError::unusable(param, error.to_string()))?;
    let picture = Picture {
        prepared,
        digest: blake3::hash(bytes).to_hex().to_string(),
        size: (width, height),
        dicom,
        image: keep.then_some(image),
    };
    if settings.refuse_burned_in && picture.burned_in() {
        let message = "the DICOM file says that its pixels hold identifying text (BurnedInAnnotation YES)";
        return Err(ApiError::unusable(param, message).code("burned_in_annotation"));
    }
    Ok(picture)
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
