//! DICOM files to pictures (PS3.3 C.7.6.3, C.11; PS3.5; PS3.10).
//!
//! The data set is read by dicom-rs after `structure` has checked every length in it, so that no
//! header can ask for memory that the file does not fill. Frames are decoded by `codec`, and one
//! pipeline turns stored values into a picture, in this order:
//!
//! 1. mask and sign-extend by BitsStored, HighBit and PixelRepresentation,
//! 2. Modality LUT Sequence, or rescale slope and intercept,
//! 3. VOI LUT Sequence, or the first window; without either, the range of the frame,
//! 4. MONOCHROME1 or PresentationLUTShape INVERSE: flipped once.
//!
//! PALETTE COLOR is looked up, YBR becomes RGB, and colour skips steps 2 to 4. Gray comes out as
//! `f32` between 0 (black) and 1 (white).

mod adapter;
mod attributes;
mod codec;
mod color;
mod element;
mod facts;
mod file;
mod frames;
mod grayscale;
mod j2k;
mod lut;
mod rle;
mod stored;
mod structure;
mod values;

pub use facts::{BurnedInAnnotation, Contrast, DicomFacts, Grayscale, Identity, WindowFunction};
pub(super) use file::looks_like_data_set;

use super::DecodeOptions;
use super::error::DecodeError;
use super::image::{Channels, Image, Samples, Source};
use super::sniff::Format;
use attributes::{Attributes, Photometric};
use stored::Stored;
use values::DataSet;

/// Decodes one frame.
pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Image, DecodeError> {
    let data = file::data_set(bytes, &options.limits)?;
    let layout = structure::read(&data)?;
    let set = DataSet::parse(&data, &layout)?;
    attributes::refuse_non_images(&set)?;
    let Some(pixel_data) = &layout.pixel_data else {
        return Err(unsupported("no Pixel Data element, so no picture"));
    };
    let attributes = Attributes::read(&set, options)?;
    let frame = frames::extract(&data.bytes, pixel_data, &attributes, options.frame)?;
    let decoded = codec::decode(&frame, &attributes, &data)?;
    let stored = Stored::new(&decoded, &attributes)?;

    let mut facts = DicomFacts::read(&set, &data.transfer_syntax, &attributes);
    let (channels, samples) = match attributes.photometric {
        Photometric::Monochrome { white_is_zero } => {
            let groups = set.frame_groups(options.frame);
            let (gray, how) = grayscale::render(&stored, &set, &groups, white_is_zero)?;
            facts.grayscale = Some(how);
            (Channels::Luma, Samples::F32(gray))
        }
        Photometric::Palette => (Channels::Rgb, color::palette(&stored, &set)?),
        Photometric::Rgb | Photometric::Ybr { .. } => {
            (Channels::Rgb, color::render(&decoded, &stored, &attributes)?)
        }
    };
    let image = Image::new(attributes.columns, attributes.rows, channels, samples)?;
    let source = Source {
        frame: options.frame,
        frames: attributes.frames,
        pixel_aspect: attributes::pixel_aspect(&set, options.frame),
        dicom: Some(Box::new(facts)),
        ..Source::of(Format::Dicom)
    };
    Ok(image.with_source(source))
}

fn unsupported(message: impl Into<String>) -> DecodeError {
    DecodeError::unsupported(Format::Dicom, message)
}

fn malformed(message: impl Into<String>) -> DecodeError {
    DecodeError::malformed(Format::Dicom, message)
}

fn truncated(message: impl Into<String>) -> DecodeError {
    DecodeError::truncated(Format::Dicom, message)
}
