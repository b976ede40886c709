//! PNG, JPEG, GIF, WebP, BMP and TIFF through the `image` crate; the common kind of JPEG by our own decoder.
//!
//! Colour follows Pillow's `convert("RGB")`: alpha is dropped, not composited, and palettes are
//! applied. Unlike Pillow, 16-bit samples keep their precision. Gray stays one channel.

use std::io::Cursor;

use image::{DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage};

use super::error::DecodeError;
use super::image::{Channels, Image, Samples, Source};
use super::sniff::Format;
use super::{DecodeOptions, Limits, jpeg, jpeg_marker, tiff_directory};

/// Decodes the first frame of a raster file; EXIF orientation is applied.
pub(super) fn decode(bytes: &[u8], format: Format, options: &DecodeOptions) -> Result<Image, DecodeError> {
    if options.frame != 0 {
        return Err(DecodeError::Frame { format, frame: options.frame, last: 0 });
    }
    match format {
        Format::Jpeg => check_jpeg(bytes, &options.limits)?,
        Format::Png => check_png(bytes, &options.limits)?,
        Format::Tiff => {
            tiff_directory::check(bytes).map_err(|m| DecodeError::truncated(format, m))?;
        }
        _ => {}
    }
    let fail = |error| foreign(format, error);
    let mut decoder =
        ImageReader::with_format(Cursor::new(bytes), crate_format(format)).into_decoder().map_err(fail)?;
    let (width, height) = decoder.dimensions();
    options.limits.check_pixels(format, u64::from(width), u64::from(height))?;
    decoder.set_limits(foreign_limits(&options.limits)).map_err(fail)?;
    let orientation = decoder.orientation().map_err(fail)?;
    let common = if format == Format::Jpeg { jpeg::decode(bytes) } else { None };
    let mut picture = match common.and_then(jpeg_picture) {
        Some(picture) => picture,
        None => DynamicImage::from_decoder(decoder).map_err(fail)?,
    };
    picture.apply_orientation(orientation);
    let image = from_dynamic(picture, format)?;
    Ok(image.with_source(Source::of(format)))
}

fn jpeg_picture(picture: jpeg::Picture) -> Option<DynamicImage> {
    let jpeg::Picture { width, height, channels, samples } = picture;
    let (width, height) = (width as u32, height as u32);
    if channels == 1 {
        GrayImage::from_raw(width, height, samples).map(DynamicImage::ImageLuma8)
    } else {
        RgbImage::from_raw(width, height, samples).map(DynamicImage::ImageRgb8)
    }
}

fn crate_format(format: Format) -> ImageFormat {
    match format {
        Format::Png => ImageFormat::Png,
        Format::Gif => ImageFormat::Gif,
        Format::WebP => ImageFormat::WebP,
        Format::Bmp => ImageFormat::Bmp,
        Format::Tiff => ImageFormat::Tiff,
        // DICOM never comes here.
        Format::Jpeg | Format::Dicom => ImageFormat::Jpeg,
    }
}

/// Limits of the `image` crate: its decoders may hold the picture twice at 16 bits RGBA.
fn foreign_limits(limits: &Limits) -> image::Limits {
    const BYTES_PER_PIXEL: u64 = 16;
    const SLACK: u64 = 16 << 20;
    let mut foreign = image::Limits::default();
    foreign.max_alloc = Some(limits.max_pixels.saturating_mul(BYTES_PER_PIXEL) + SLACK);
    foreign
}

/// The PNG decoder takes memory for a row before it tells the size; IHDR comes first in every file.
fn check_png(bytes: &[u8], limits: &Limits) -> Result<(), DecodeError> {
    let number =
        |at: usize| bytes.get(at..at.checked_add(4)?).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
    match (bytes.get(12..16), number(16), number(20)) {
        (Some(b"IHDR"), Some(width), Some(height)) => {
            limits.check_pixels(Format::Png, u64::from(width), u64::from(height))?;
        }
        _ => return Err(DecodeError::truncated(Format::Png, "the file ends inside its header")),
    }
    // A palette of broken colours makes the decoder panic (png 0.18.1).
    let mut at = 8;
    while let (Some(length), Some(kind)) = (number(at), bytes.get(at.saturating_add(4)..at.saturating_add(8)))
    {
        if kind == b"PLTE" && (length % 3 != 0 || length > 768) {
            let message =
                format!("the palette has {length} bytes, expected 3 for each of at most 256 colours");
            return Err(DecodeError::malformed(Format::Png, message));
        }
        if kind == b"IDAT" {
            break;
        }
        at = at.saturating_add(12).saturating_add(length as usize);
    }
    Ok(())
}

/// The JPEG decoder fills what is missing with gray; here a missing end is an error.
fn check_jpeg(bytes: &[u8], limits: &Limits) -> Result<(), DecodeError> {
    let format = Format::Jpeg;
    let header = jpeg_marker::parse(bytes).map_err(|m| DecodeError::malformed(format, m))?;
    limits.check_pixels(format, header.width as u64, header.height as u64)?;
    if !matches!(header.process, 0xC0..=0xC2) || header.precision != 8 {
        let (process, bits) = (header.process_name(), header.precision);
        let message = format!("{process} JPEG of {bits} bits, expected 8-bit baseline or progressive");
        return Err(DecodeError::unsupported(format, message));
    }
    if !header.complete {
        let message = format!("no end-of-image marker in {} bytes", bytes.len());
        return Err(DecodeError::truncated(format, message));
    }
    Ok(())
}

fn foreign(format: Format, error: ImageError) -> DecodeError {
    match error {
        ImageError::Unsupported(e) => DecodeError::unsupported(format, e.to_string()),
        ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::truncated(format, "the file ends inside the picture data")
        }
        other => DecodeError::malformed(format, other.to_string()),
    }
}

fn from_dynamic(picture: DynamicImage, format: Format) -> Result<Image, DecodeError> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let (channels, samples) = match picture {
        DynamicImage::ImageLuma8(p) => (Channels::Luma, Samples::U8(p.into_raw())),
        DynamicImage::ImageLumaA8(p) => (Channels::Luma, Samples::U8(drop_last(&p.into_raw(), 2))),
        DynamicImage::ImageRgb8(p) => (Channels::Rgb, Samples::U8(p.into_raw())),
        DynamicImage::ImageRgba8(p) => (Channels::Rgb, Samples::U8(drop_last(&p.into_raw(), 4))),
        DynamicImage::ImageLuma16(p) => (Channels::Luma, Samples::U16(p.into_raw())),
        DynamicImage::ImageLumaA16(p) => (Channels::Luma, Samples::U16(drop_last(&p.into_raw(), 2))),
        DynamicImage::ImageRgb16(p) => (Channels::Rgb, Samples::U16(p.into_raw())),
        DynamicImage::ImageRgba16(p) => (Channels::Rgb, Samples::U16(drop_last(&p.into_raw(), 4))),
        other => {
            let message = format!("samples of type {:?}, expected 8 or 16 bit", other.color());
            return Err(DecodeError::unsupported(format, message));
        }
    };
    Image::new(width, height, channels, samples)
}

/// Removes the last of every `stride` samples: the alpha channel.
fn drop_last<T: Copy>(samples: &[T], stride: usize) -> Vec<T> {
    samples.chunks_exact(stride).flat_map(|pixel| &pixel[..stride - 1]).copied().collect()
}
