//! The marker segments of JPEG and JPEG-LS codestreams (ITU-T T.81 annex B).
//!
//! Read before any decoder runs: sizes are checked before memory is taken, and a missing end
//! marker is found, which lenient decoders fill with gray.

/// What the frame header and the end of a codestream say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JpegHeader {
    /// Low byte of the start-of-frame marker, 0xC0 to 0xCF, or 0xF7 for JPEG-LS.
    pub(super) process: u8,
    /// Bits per sample.
    pub(super) precision: u8,
    pub(super) width: usize,
    pub(super) height: usize,
    /// Component identifiers in frame order.
    pub(super) components: Vec<u8>,
    /// Offsets of the bytes that hold component identifiers: in the frame and in every scan header.
    pub(super) identifier_offsets: Vec<usize>,
    /// A JFIF segment was seen: three components are YCbCr.
    pub(super) jfif: bool,
    /// Transform byte of an Adobe segment: 0 = none, 1 = YCbCr, 2 = YCCK.
    pub(super) adobe_transform: Option<u8>,
    /// The end-of-image marker is there.
    pub(super) complete: bool,
}

impl JpegHeader {
    /// Name of the coding process for messages.
    pub(super) fn process_name(&self) -> &'static str {
        match self.process {
            0xC0 => "baseline",
            0xC1 => "extended sequential",
            0xC2 => "progressive",
            0xC3 => "lossless",
            0xF7 => "JPEG-LS",
            _ => "hierarchical or arithmetic",
        }
    }
}

/// Reads the markers of `bytes` up to the end of the image; the message says what is wrong.
pub(super) fn parse(bytes: &[u8]) -> Result<JpegHeader, String> {
    if !bytes.starts_with(&[0xFF, 0xD8]) {
        return Err("no start-of-image marker".into());
    }
    let mut header: Option<JpegHeader> = None;
    let (mut jfif, mut adobe_transform) = (false, None);
    let mut position = 2;
    loop {
        let Some((marker, after)) = next_marker(bytes, position) else {
            return match header {
                Some(header) => Ok(JpegHeader { jfif, adobe_transform, ..header }),
                None => Err("the file ends before the frame header".into()),
            };
        };
        position = after;
        match marker {
            0xD9 => {
                let header = header.ok_or("end of image before a frame header")?;
                return Ok(JpegHeader { jfif, adobe_transform, complete: true, ..header });
            }
            0x01 | 0xD0..=0xD8 => continue,
            _ => {}
        }
        let Some(segment) = segment(bytes, position) else {
            return match header {
                Some(header) => Ok(JpegHeader { jfif, adobe_transform, ..header }),
                None => Err(format!("segment FF{marker:02X} runs past the end of the file")),
            };
        };
        match marker {
            0xE0 => jfif |= segment.starts_with(b"JFIF\0"),
            0xEE if segment.starts_with(b"Adobe") => adobe_transform = segment.get(11).copied(),
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF | 0xF7 => {
                if header.is_some() {
                    return Err("two frame headers".into());
                }
                header = Some(frame_header(marker, segment, position + 2)?);
            }
            0xDA => {
                if let Some(header) = &mut header {
                    let count = segment.first().map_or(0, |&n| usize::from(n));
                    header.identifier_offsets.extend((0..count).map(|i| position + 3 + 2 * i));
                }
            }
            _ => {}
        }
        position += 2 + segment.len();
    }
}

/// Body of the segment at `position` (which points at its length).
fn segment(bytes: &[u8], position: usize) -> Option<&[u8]> {
    let length = bytes.get(position..position + 2)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    bytes.get(position + 2..position + length.max(2))
}

/// The next marker at or after `position`, skipping entropy-coded data, with the offset after it.
fn next_marker(bytes: &[u8], mut position: usize) -> Option<(u8, usize)> {
    loop {
        let rest = bytes.get(position..)?;
        position += rest.iter().position(|&b| b == 0xFF)?;
        match *bytes.get(position + 1)? {
            // 00 stuffs a data byte FF, FF is fill; below 80 are the bit-stuffed bytes of JPEG-LS.
            0xFF => position += 1,
            marker @ (0x01 | 0xC0..=0xFE) => return Some((marker, position + 2)),
            _ => position += 2,
        }
    }
}

fn frame_header(process: u8, segment: &[u8], offset: usize) -> Result<JpegHeader, String> {
    let [precision, h1, h0, w1, w0, count, rest @ ..] = segment else {
        return Err("frame header is too short".into());
    };
    let count = usize::from(*count);
    if rest.len() < 3 * count || count == 0 {
        return Err(format!("frame header lists {count} components in {} bytes", rest.len()));
    }
    Ok(JpegHeader {
        process,
        precision: *precision,
        height: usize::from(u16::from_be_bytes([*h1, *h0])),
        width: usize::from(u16::from_be_bytes([*w1, *w0])),
        components: rest.chunks_exact(3).take(count).map(|c| c[0]).collect(),
        identifier_offsets: (0..count).map(|i| offset + 6 + 3 * i).collect(),
        jfif: false,
        adobe_transform: None,
        complete: false,
    })
}
