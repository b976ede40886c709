//! DICOM RLE (PS3.5 annex G): PackBits segments, one for each byte of each sample.

/// Decodes a frame to planes of `sample_bytes`-wide little-endian samples, plane after plane.
pub(super) fn decode(
    bytes: &[u8],
    pixels: usize,
    samples: usize,
    sample_bytes: usize,
) -> Result<Vec<u8>, String> {
    let expected = samples * sample_bytes;
    let word = |i: usize| {
        let b: Option<[u8; 4]> = bytes.get(4 * i..4 * i + 4).and_then(|b| b.try_into().ok());
        b.map(|b| u32::from_le_bytes(b) as usize).ok_or("the RLE header is too short")
    };
    let count = word(0)?;
    if count != expected || count > 15 {
        return Err(format!("{count} RLE segments, expected {expected}"));
    }
    let mut out = vec![0; pixels * expected];
    for segment in 0..count {
        let start = word(segment + 1)?;
        let end = if segment + 1 < count { word(segment + 2)? } else { bytes.len() };
        let packed = bytes.get(start..end).ok_or(format!("RLE segment {segment} is out of place"))?;
        // Segments go from the most to the least significant byte of a sample.
        let (sample, byte) = (segment / sample_bytes, segment % sample_bytes);
        let plane = &mut out[sample * pixels * sample_bytes..][..pixels * sample_bytes];
        let targets = plane.iter_mut().skip(sample_bytes - 1 - byte).step_by(sample_bytes);
        let filled = unpack(packed, targets);
        if filled < pixels {
            return Err(format!("RLE segment {segment} has {filled} of {pixels} bytes"));
        }
    }
    Ok(out)
}

/// Unpacks into `targets` until either side ends; returns how many were written.
fn unpack<'a>(packed: &[u8], mut targets: impl Iterator<Item = &'a mut u8>) -> usize {
    let mut filled = 0;
    let mut put = |value: u8| {
        let target = targets.next();
        target.map(|target| *target = value).inspect(|()| filled += 1).is_some()
    };
    let mut rest = packed;
    while let [control, tail @ ..] = rest {
        let control = *control as i8;
        if control >= 0 {
            let (literal, after) = tail.split_at(tail.len().min(control as usize + 1));
            if !literal.iter().all(|&value| put(value)) {
                break;
            }
            rest = after;
        } else if control == i8::MIN {
            rest = tail;
        } else {
            let [value, after @ ..] = tail else { break };
            if !(0..=control.unsigned_abs()).all(|_| put(*value)) {
                break;
            }
            rest = after;
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::decode;

    /// The PackBits example of the TIFF 6.0 specification, as one segment.
    #[test]
    fn packbits_of_the_tiff_specification() {
        let mut frame = vec![0; 64];
        frame[0] = 1;
        frame[4] = 64;
        let packed =
            [0xFE, 0xAA, 0x02, 0x80, 0x00, 0x2A, 0xFD, 0xAA, 0x03, 0x80, 0x00, 0x2A, 0x22, 0xF7, 0xAA];
        frame.extend(packed);
        let expected = [
            0xAA, 0xAA, 0xAA, 0x80, 0x00, 0x2A, 0xAA, 0xAA, 0xAA, 0xAA, 0x80, 0x00, 0x2A, 0x22, 0xAA, 0xAA,
            0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA,
        ];
        assert_eq!(decode(&frame, 24, 1, 1).unwrap(), expected);
        assert_eq!(decode(&frame, 25, 1, 1).unwrap_err(), "RLE segment 0 has 24 of 25 bytes");
        assert_eq!(decode(&frame, 24, 1, 2).unwrap_err(), "1 RLE segments, expected 2");
    }
}
