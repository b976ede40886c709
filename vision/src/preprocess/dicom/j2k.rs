//! The markers of JPEG 2000 codestreams (ITU-T T.800 annex A), checked before OpenJPEG runs.
//!
//! OpenJPEG reports success with no samples when tiles are missing, and takes memory by the sizes
//! of the codestream: both are ruled out here.

/// What the SIZ segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Codestream<'a> {
    /// The codestream without a JP2 file around it.
    pub(super) bytes: &'a [u8],
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) components: usize,
    /// Bits per sample, the same for all components.
    pub(super) precision: u32,
}

/// Finds and checks the codestream in a fragment.
pub(super) fn check(fragment: &[u8]) -> Result<Codestream<'_>, String> {
    const START: [u8; 4] = [0xFF, 0x4F, 0xFF, 0x51];
    let start = fragment.windows(4).position(|window| window == START);
    let bytes = &fragment[start.ok_or("no JPEG 2000 codestream in the fragment")?..];
    let (codestream, tiles) = size_segment(bytes)?;
    check_tiles(bytes, tiles)?;
    Ok(codestream)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    let b = bytes.get(at..at + 2)?;
    Some(usize::from(u16::from_be_bytes([b[0], b[1]])))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16_at(bytes, at)? << 16 | u16_at(bytes, at + 2)?)
}

/// Reads SIZ (A.5.1), which follows SOC; returns the sizes and the number of tiles.
fn size_segment(bytes: &[u8]) -> Result<(Codestream<'_>, usize), String> {
    let short = "the SIZ segment is too short";
    let field = |i: usize| u32_at(bytes, 8 + 4 * i).ok_or(short);
    let [x1, y1, x0, y0] = [field(0)?, field(1)?, field(2)?, field(3)?];
    let [tile_w, tile_h, tile_x, tile_y] = [field(4)?, field(5)?, field(6)?, field(7)?];
    let count = u16_at(bytes, 40).ok_or(short)?;
    let components = bytes.get(42..42 + 3 * count).ok_or(short)?;
    if x1 <= x0 || y1 <= y0 || tile_w == 0 || tile_h == 0 || tile_x > x0 || tile_y > y0 {
        return Err("the SIZ segment states an empty picture".into());
    }
    let Some(first) = components.first() else {
        return Err("no components".into());
    };
    if components.chunks_exact(3).any(|c| c[0] != *first || c[1..] != [1, 1]) {
        return Err("components of different depth or sub-sampled".into());
    }
    let (width, height) = (x1 - x0, y1 - y0);
    let tiles = (x1 - tile_x).div_ceil(tile_w).saturating_mul((y1 - tile_y).div_ceil(tile_h));
    let precision = u32::from(first & 0x7F) + 1;
    Ok((Codestream { bytes, width, height, components: count, precision }, tiles))
}

/// Every tile must have data inside the file (A.4.2).
fn check_tiles(bytes: &[u8], tiles: usize) -> Result<(), String> {
    // Each tile needs a tile-part header of 12 bytes: more tiles than that are damage.
    if tiles > bytes.len() / 12 {
        return Err(format!("{tiles} tiles in {} bytes", bytes.len()));
    }
    let mut seen = vec![false; tiles];
    let mut at = first_tile_part(bytes)?;
    while bytes.get(at..at + 2) == Some(&[0xFF, 0x90]) {
        let short = "the codestream ends inside a tile-part header";
        let tile = u16_at(bytes, at + 4).ok_or(short)?;
        let stated = u32_at(bytes, at + 6).ok_or(short)?;
        let end = if stated == 0 { bytes.len() } else { at + stated };
        let part = bytes.get(at..end).ok_or(format!("tile {tile} runs past the end of the data"))?;
        let slot = seen.get_mut(tile).ok_or(format!("tile {tile} of {tiles}"))?;
        *slot |= has_data(part);
        if end <= at + 12 {
            return Err(format!("a tile-part of {stated} bytes"));
        }
        at = end;
    }
    match seen.iter().position(|&seen| !seen) {
        Some(tile) => Err(format!("the codestream ends before tile {tile} of {tiles}")),
        None => Ok(()),
    }
}

/// Skips the segments of the main header.
fn first_tile_part(bytes: &[u8]) -> Result<usize, String> {
    let mut at = 2;
    while bytes.get(at..at + 2) != Some(&[0xFF, 0x90]) {
        let length = u16_at(bytes, at + 2).ok_or("the codestream ends in its main header")?;
        at += 2 + length.max(2);
    }
    Ok(at)
}

/// True when bytes follow the start-of-data marker of a tile-part.
fn has_data(part: &[u8]) -> bool {
    let mut at = 12;
    while let Some(marker) = part.get(at..at + 2) {
        if marker == [0xFF, 0x93] {
            return part.len() > at + 2;
        }
        let Some(length) = u16_at(part, at + 2) else {
            return false;
        };
        at += 2 + length.max(2);
    }
    false
}
