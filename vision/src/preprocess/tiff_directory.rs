//! The first directory of a TIFF file (TIFF 6.0 section 2), checked before the decoder runs.
//!
//! The decoder takes memory for a tag by the count that the tag states.

/// Checks that the value of every entry lies inside the file; the message says which does not.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let big_endian = bytes.starts_with(b"MM");
    let u16_at = |at: usize| {
        let b: [u8; 2] = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if big_endian { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) })
    };
    let u32_at = |at: usize| {
        let b: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if big_endian { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) } as usize)
    };
    let short = "the file ends inside its directory";
    let directory = u32_at(4).ok_or(short)?;
    let entries = usize::from(u16_at(directory).ok_or(short)?);
    for entry in 0..entries {
        let at = directory + 2 + 12 * entry;
        let (Some(tag), Some(kind), Some(count), Some(offset)) =
            (u16_at(at), u16_at(at + 2), u32_at(at + 4), u32_at(at + 8))
        else {
            return Err(short.into());
        };
        let size = count.saturating_mul(type_size(kind));
        // Values of up to four bytes stand in the entry itself.
        if size > 4 && offset.saturating_add(size) > bytes.len() {
            return Err(format!("tag {tag} needs {size} bytes at {offset} of {}", bytes.len()));
        }
    }
    Ok(())
}

/// Bytes of one value of a field type.
fn type_size(kind: u16) -> usize {
    match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        _ => 8,
    }
}
