//! JPEG-LS (ITU-T T.87, ISO 14495-1): lossless and near-lossless, 2 to 16 bits.
//!
//! Written from the recommendation, because the usual decoder is C++. Names in the code are those
//! of T.87 (`Ra`, `Rb`, `Rc`, `Rd`, `MAXVAL`, `NEAR`, `RItype`). All three interleave modes and
//! preset coding parameters (LSE type 1) are read; mapping tables, restart intervals, sub-sampling
//! and the colour transforms of the HP extension are refused.

mod bits;
mod context;
mod scan;

use scan::{Coding, Interleave, Scan};

/// A decoded picture: samples are pixel-interleaved, `(height, width, components)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) components: usize,
    pub(super) precision: u8,
    pub(super) samples: Vec<u16>,
}

/// What the caller knows about the picture; a codestream that says otherwise is refused before
/// memory is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) components: usize,
}

struct Frame {
    precision: u8,
    identifiers: Vec<u8>,
}

/// Decodes one codestream; the message says what is wrong with it.
pub(super) fn decode(bytes: &[u8], expected: Expected) -> Result<Picture, String> {
    let mut reader = Segments { bytes, position: 2 };
    if !bytes.starts_with(&[0xFF, 0xD8]) {
        return Err("no start-of-image marker".into());
    }
    let mut frame: Option<Frame> = None;
    let mut preset = Preset::default();
    let mut samples = Vec::new();
    let mut decoded = Vec::new();
    loop {
        let (marker, body) = reader.next()?;
        match marker {
            0xF7 if frame.is_some() => return Err("two frame headers".into()),
            0xF7 => {
                frame = Some(frame_header(body, expected)?);
                samples = vec![0; expected.width * expected.height * expected.components];
            }
            0xF8 => preset = Preset::parse(body)?,
            0xDA => {
                let frame = frame.as_ref().ok_or("scan before the frame header")?;
                let (scan, indices) = scan_header(body, frame, &preset, expected)?;
                if let Some(again) = indices.iter().find(|index| decoded.contains(*index)) {
                    return Err(format!("component {again} is coded twice"));
                }
                let used = scan.decode(reader.rest(), &indices, &mut samples)?;
                reader.position += used;
                decoded.extend(indices);
                if decoded.len() == expected.components {
                    let Expected { width, height, components } = expected;
                    let precision = frame.precision;
                    return Ok(Picture { width, height, components, precision, samples });
                }
            }
            0xDD if body.iter().any(|&b| b != 0) => return Err("restart intervals".into()),
            // "mrfx" and its transform number: the HP extension for reversible colour transforms.
            0xE8 if body.starts_with(b"mrfx") && body.get(4).is_some_and(|&t| t != 0) => {
                return Err("HP colour transform".into());
            }
            0xD9 => return Err("end of image before every component was coded".into()),
            _ => {}
        }
    }
}

/// Walks the marker segments between scans.
struct Segments<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Segments<'a> {
    /// The next marker and its body; markers without a body have an empty one.
    fn next(&mut self) -> Result<(u8, &'a [u8]), String> {
        let ended = || "the codestream ends between markers".to_string();
        loop {
            let pair = self.bytes.get(self.position..self.position + 2).ok_or_else(ended)?;
            if pair[0] != 0xFF {
                return Err(format!("expected a marker at byte {}", self.position));
            }
            match pair[1] {
                0xFF => self.position += 1,
                marker @ (0xD8 | 0xD9) => {
                    self.position += 2;
                    return Ok((marker, &[]));
                }
                marker => {
                    let length = self.bytes.get(self.position + 2..self.position + 4);
                    let length = length.ok_or_else(ended)?;
                    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                    let start = self.position + 4;
                    let end = self.position + 2 + length.max(2);
                    let body = self.bytes.get(start..end).ok_or_else(ended)?;
                    self.position = end;
                    return Ok((marker, body));
                }
            }
        }
    }

    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.position..]
    }
}

fn frame_header(body: &[u8], expected: Expected) -> Result<Frame, String> {
    let [precision, h1, h0, w1, w0, count, components @ ..] = body else {
        return Err("frame header is too short".into());
    };
    let height = usize::from(u16::from_be_bytes([*h1, *h0]));
    let width = usize::from(u16::from_be_bytes([*w1, *w0]));
    let count = usize::from(*count);
    if (width, height, count) != (expected.width, expected.height, expected.components) {
        let Expected { width: w, height: h, components: c } = expected;
        return Err(format!("codestream of {width} x {height} x {count}, expected {w} x {h} x {c}"));
    }
    if !(2..=16).contains(precision) {
        return Err(format!("{precision} bits per sample, expected 2 to 16"));
    }
    let components: Vec<&[u8]> = components.chunks_exact(3).take(count).collect();
    if components.len() < count {
        return Err("frame header is too short".into());
    }
    if components.iter().any(|c| c[1] != 0x11) {
        return Err("sub-sampled components".into());
    }
    Ok(Frame { precision: *precision, identifiers: components.iter().map(|c| c[0]).collect() })
}

/// Preset coding parameters (T.87 C.2.4.1.1); zero means the default.
#[derive(Debug, Clone, Copy, Default)]
struct Preset {
    maxval: i32,
    thresholds: [i32; 3],
    reset: i32,
}

impl Preset {
    fn parse(body: &[u8]) -> Result<Self, String> {
        match body.first() {
            Some(1) if body.len() >= 11 => {
                let field = |i: usize| i32::from(u16::from_be_bytes([body[1 + 2 * i], body[2 + 2 * i]]));
                let thresholds = [field(1), field(2), field(3)];
                Ok(Self { maxval: field(0), thresholds, reset: field(4) })
            }
            Some(1) => Err("preset parameters are too short".into()),
            Some(2 | 3) => Err("mapping tables".into()),
            Some(kind) => Err(format!("preset segment of type {kind}, expected 1")),
            None => Err("empty preset segment".into()),
        }
    }
}

fn scan_header(
    body: &[u8],
    frame: &Frame,
    preset: &Preset,
    expected: Expected,
) -> Result<(Scan, Vec<usize>), String> {
    let count = usize::from(*body.first().ok_or("empty scan header")?);
    let (Some(selectors), Some(&[near, interleave, transform])) =
        (body.get(1..1 + 2 * count), body.get(1 + 2 * count..4 + 2 * count))
    else {
        return Err("scan header is too short".into());
    };
    let mut indices = Vec::new();
    for selector in selectors.chunks_exact(2) {
        let index = frame.identifiers.iter().position(|&id| id == selector[0]);
        let index = index.ok_or_else(|| format!("scan of unknown component {}", selector[0]))?;
        if selector[1] != 0 {
            return Err("mapping tables".into());
        }
        if indices.contains(&index) {
            return Err(format!("component {index} is coded twice"));
        }
        indices.push(index);
    }
    let interleave = match (interleave, count) {
        (_, 0) => return Err("scan of no component".into()),
        (0, 1) | (1, _) => Interleave::Line,
        (2, _) => Interleave::Sample,
        (mode, _) => return Err(format!("interleave mode {mode} with {count} components")),
    };
    if transform != 0 {
        return Err("point transform".into());
    }
    let coding = Coding::new(frame.precision, i32::from(near), preset)?;
    Ok((Scan { coding, interleave, picture: expected }, indices))
}

#[cfg(test)]
mod tests;
