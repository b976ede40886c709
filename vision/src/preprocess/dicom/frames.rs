//! The bytes of one frame inside the pixel data element.

use std::ops::Range;

use super::super::error::DecodeError;
use super::attributes::{Attributes, Photometric};
use super::structure::{PixelData, PixelKind};
use super::{malformed, truncated};

/// Where one frame is in the data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// Uncompressed; `first_bit` counts bits of the first byte that belong to the frame before.
    Native { bytes: Range<usize>, first_bit: usize, kind: PixelKind, words: Words },
    /// Compressed; the fragments together are one codestream.
    Compressed { fragments: Vec<Range<usize>> },
}

/// The 16-bit words that pixel data is written in, where byte order moves 8-bit samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Words {
    /// Offset of the first word, `None` for a value of single bytes (OB).
    pub(super) start: Option<usize>,
}

/// Finds frame `index`.
pub(super) fn extract(
    bytes: &[u8],
    pixel_data: &PixelData,
    attributes: &Attributes,
    index: usize,
) -> Result<Frame, DecodeError> {
    match pixel_data {
        PixelData::Native { value, kind, words } => {
            let (bytes, first_bit) = native(value, attributes, index)?;
            let words = Words { start: words.then_some(value.start) };
            Ok(Frame::Native { bytes, first_bit, kind: *kind, words })
        }
        PixelData::Encapsulated { offset_table, fragments } => {
            let fragments = compressed(bytes, offset_table, fragments, attributes.frames, index)?;
            Ok(Frame::Compressed { fragments })
        }
    }
}

/// Bytes of a frame, and how many bits of the first belong to the frame before.
fn native(
    value: &Range<usize>,
    attributes: &Attributes,
    index: usize,
) -> Result<(Range<usize>, usize), DecodeError> {
    let pixels = attributes.rows * attributes.columns;
    // Two pixels of YBR_FULL_422 share their chroma: four samples instead of six.
    let samples = match attributes.photometric {
        Photometric::Ybr { subsampled: true, .. } => pixels * 2,
        _ => attributes.samples_per_frame(),
    };
    let frame_bits = samples as u64 * u64::from(attributes.bits_allocated);
    let first = frame_bits * index as u64;
    let end = (first + frame_bits).div_ceil(8);
    if end > value.len() as u64 {
        let (frames, found) = (attributes.frames, value.len());
        let expected = (frame_bits * frames as u64).div_ceil(8);
        let message = format!("pixel data of {found} bytes, {frames} frame(s) need {expected}");
        return Err(truncated(message));
    }
    let bytes = value.start + (first / 8) as usize..value.start + end as usize;
    Ok((bytes, (first % 8) as usize))
}

/// Fragments of frame `index`: one each, or as the offset table says (PS3.5 A.4).
fn compressed(
    bytes: &[u8],
    offset_table: &Range<usize>,
    fragments: &[Range<usize>],
    frames: usize,
    index: usize,
) -> Result<Vec<Range<usize>>, DecodeError> {
    let found = fragments.len();
    if found < frames {
        return Err(truncated(format!("{found} fragments, {frames} frame(s) need at least as many")));
    }
    if frames == 1 {
        return Ok(fragments.to_vec());
    }
    if found == frames {
        return Ok(vec![fragments[index].clone()]);
    }
    // Several fragments a frame: offsets count from the first item header, 8 bytes before its value.
    let table: Vec<usize> = bytes[offset_table.clone()]
        .chunks_exact(4)
        .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize)
        .collect();
    if table.len() != frames {
        let entries = table.len();
        let message = format!("{found} fragments, {frames} frames and {entries} frame offsets");
        return Err(malformed(message));
    }
    let base = fragments[0].start;
    let after = table.get(index + 1).copied().unwrap_or(usize::MAX);
    let inside = |fragment: &&Range<usize>| (table[index]..after).contains(&(fragment.start - base));
    let own: Vec<_> = fragments.iter().filter(inside).cloned().collect();
    if own.is_empty() {
        return Err(malformed(format!("the offset table has no fragment for frame {index}")));
    }
    Ok(own)
}
