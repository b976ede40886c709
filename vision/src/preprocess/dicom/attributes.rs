//! The attributes that say how pixel data is laid out (PS3.3 C.7.6.3), checked before use.

use dicom_dictionary_std::tags;

use super::super::DecodeOptions;
use super::super::error::DecodeError;
use super::super::sniff::Format;
use super::values::{self, DataSet, number, numbers, required, unsigned};
use super::{malformed, unsupported};

/// How colours are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Photometric {
    Monochrome { white_is_zero: bool },
    Palette,
    Rgb,
    Ybr { subsampled: bool, inside_jpeg_2000: bool },
}

impl Photometric {
    fn parse(text: &str) -> Result<Self, DecodeError> {
        Ok(match text {
            "MONOCHROME1" => Self::Monochrome { white_is_zero: true },
            "MONOCHROME2" => Self::Monochrome { white_is_zero: false },
            "PALETTE COLOR" => Self::Palette,
            "RGB" => Self::Rgb,
            "YBR_FULL" => Self::Ybr { subsampled: false, inside_jpeg_2000: false },
            "YBR_FULL_422" => Self::Ybr { subsampled: true, inside_jpeg_2000: false },
            "YBR_ICT" | "YBR_RCT" => Self::Ybr { subsampled: false, inside_jpeg_2000: true },
            other => {
                let other: String = other.chars().take(16).collect();
                return Err(unsupported(format!("PhotometricInterpretation {other:?}")));
            }
        })
    }

    /// Samples per pixel that go with the interpretation.
    fn samples(self) -> u32 {
        match self {
            Self::Monochrome { .. } | Self::Palette => 1,
            Self::Rgb | Self::Ybr { .. } => 3,
        }
    }
}

/// The layout of a frame.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attributes {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) samples: usize,
    pub(super) frames: usize,
    pub(super) photometric: Photometric,
    pub(super) photometric_name: String,
    pub(super) planar: bool,
    pub(super) bits_allocated: u32,
    pub(super) bits_stored: u32,
    pub(super) high_bit: u32,
    pub(super) signed: bool,
}

impl Attributes {
    /// Reads and checks the layout; sizes are held against the limits.
    pub(super) fn read(set: &DataSet, options: &DecodeOptions) -> Result<Self, DecodeError> {
        let root = set.root();
        let rows = required(root, tags::ROWS)?;
        let columns = required(root, tags::COLUMNS)?;
        options.limits.check_pixels(Format::Dicom, columns.into(), rows.into())?;
        let frames = frames(set, options)?;
        let photometric_name = values::text(root, tags::PHOTOMETRIC_INTERPRETATION)
            .ok_or_else(|| malformed("PhotometricInterpretation is missing"))?;
        let photometric = Photometric::parse(&photometric_name)?;
        let samples = unsigned(root, tags::SAMPLES_PER_PIXEL)?.unwrap_or(photometric.samples());
        if samples != photometric.samples() {
            let expected = photometric.samples();
            let message = format!("SamplesPerPixel is {samples}, {photometric_name} has {expected}");
            return Err(malformed(message));
        }
        let bits_allocated = required(root, tags::BITS_ALLOCATED)?;
        if !matches!(bits_allocated, 1 | 8 | 16 | 32 | 64) {
            let message = format!("BitsAllocated {bits_allocated}, expected 1, 8, 16, 32 or 64");
            return Err(unsupported(message));
        }
        let bits_stored = unsigned(root, tags::BITS_STORED)?.unwrap_or(bits_allocated);
        let high_bit = unsigned(root, tags::HIGH_BIT)?.unwrap_or(bits_stored.max(1) - 1);
        if bits_stored == 0 || bits_stored > high_bit + 1 || high_bit >= bits_allocated {
            return Err(malformed(format!(
                "BitsStored {bits_stored} and HighBit {high_bit} do not fit BitsAllocated \
                 {bits_allocated}"
            )));
        }
        Ok(Self {
            rows: rows as usize,
            columns: columns as usize,
            samples: samples as usize,
            frames,
            photometric,
            photometric_name,
            planar: unsigned(root, tags::PLANAR_CONFIGURATION)?.unwrap_or(0) == 1,
            bits_allocated,
            bits_stored,
            high_bit,
            signed: unsigned(root, tags::PIXEL_REPRESENTATION)?.unwrap_or(0) == 1,
        })
    }

    /// Samples of one frame.
    pub(super) fn samples_per_frame(&self) -> usize {
        self.rows * self.columns * self.samples
    }
}

fn frames(set: &DataSet, options: &DecodeOptions) -> Result<usize, DecodeError> {
    let frames = unsigned(set.root(), tags::NUMBER_OF_FRAMES)?.unwrap_or(1).max(1);
    let limit = options.limits.max_frames;
    if u64::from(frames) > limit {
        let what = "number of frames";
        return Err(DecodeError::limit(Format::Dicom, what, frames.into(), limit));
    }
    let (frame, last) = (options.frame, frames as usize - 1);
    if frame > last {
        return Err(DecodeError::Frame { format: Format::Dicom, frame, last });
    }
    Ok(frames as usize)
}

/// SOP classes whose objects are no pictures to look at, though some hold pixel data.
const NON_IMAGES: [(&str, &str); 8] = [
    ("1.2.840.10008.5.1.4.1.1.88.", "a structured report"),
    ("1.2.840.10008.5.1.4.1.1.11.", "a presentation state"),
    ("1.2.840.10008.5.1.4.1.1.66.", "a segmentation, registration or fiducial object"),
    ("1.2.840.10008.5.1.4.1.1.104.", "an encapsulated document"),
    ("1.2.840.10008.5.1.4.1.1.481.2", "an RT dose"),
    ("1.2.840.10008.5.1.4.1.1.481.", "a radiotherapy object"),
    ("1.2.840.10008.5.1.4.1.1.9.", "a waveform"),
    ("1.2.840.10008.5.1.4.1.1.30", "a parametric map"),
];
/// RT Image is a radiograph, the one picture among the radiotherapy classes.
const RT_IMAGE: &str = "1.2.840.10008.5.1.4.1.1.481.1";

/// Refuses objects by their SOP class.
pub(super) fn refuse_non_images(set: &DataSet) -> Result<(), DecodeError> {
    let Some(class) = values::text(set.root(), tags::SOP_CLASS_UID) else {
        return Ok(());
    };
    if class == RT_IMAGE {
        return Ok(());
    }
    match NON_IMAGES.iter().find(|(prefix, _)| class.starts_with(prefix)) {
        Some((_, kind)) => Err(unsupported(format!("{kind} (SOP class {class}), not an image"))),
        None => Ok(()),
    }
}

/// Height of a pixel over its width, from PixelAspectRatio or PixelSpacing (C.7.6.3.1.7).
///
/// Both list the vertical value first. Values that make no sense count as square.
pub(super) fn pixel_aspect(set: &DataSet, frame: usize) -> f64 {
    let groups = set.frame_groups(frame);
    let measures = values::find_group(&groups, tags::PIXEL_MEASURES_SEQUENCE);
    let root = Some(set.root());
    let places = [
        (measures, tags::PIXEL_SPACING),
        (root, tags::PIXEL_SPACING),
        (root, tags::IMAGER_PIXEL_SPACING),
        (root, tags::PIXEL_ASPECT_RATIO),
    ];
    places
        .into_iter()
        .filter_map(|(item, tag)| numbers(item?, tag).ok().flatten())
        .find_map(|pair| match pair[..] {
            [vertical, horizontal, ..] if vertical > 0.0 && horizontal > 0.0 => Some(vertical / horizontal),
            _ => None,
        })
        .filter(|ratio| ratio.is_finite())
        .unwrap_or(1.0)
}

/// PixelPaddingValue and its range limit, in stored values, lowest first.
pub(super) fn padding(set: &DataSet) -> Result<Option<(f64, f64)>, DecodeError> {
    let root = set.root();
    let Some(value) = number(root, tags::PIXEL_PADDING_VALUE)? else {
        return Ok(None);
    };
    let limit = number(root, tags::PIXEL_PADDING_RANGE_LIMIT)?.unwrap_or(value);
    Ok(Some((value.min(limit), value.max(limit))))
}
