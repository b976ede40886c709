//! Baseline JPEG (ITU-T T.81), as cameras, scanners and browsers write it: the pixels of libjpeg bit for bit, and faster.
//!
//! Everything else (progressive scans, rare samplings, damaged files) is left to the general decoder: `None` is no error.
//!
//! [`Reader`] takes coefficients from the one chain of bits, [`Painter`] makes pixels of them, a row of MCUs after the other.
#![allow(clippy::inline_always, reason = "`vectorised` compiles what is inlined into it")]

mod color;
mod huffman;
mod idct;

use std::ops::Range;
use std::sync::mpsc;
use std::thread;

use swinseek_kernels::vectorised;

use super::shared;
use huffman::{Bits, Table};
use idct::{Group, LANES};

/// Width of a strip of [`LANES`] blocks.
const STRIP: usize = 8 * LANES;

/// A decoded picture: `(height, width, channels)`, one channel or three.
pub(super) struct Picture {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) channels: usize,
    pub(super) samples: Vec<u8>,
}

/// What the headers say.
#[derive(Default)]
struct Header {
    width: usize,
    height: usize,
    components: Vec<Component>,
    steps: [Option<[i32; 64]>; 4],
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    /// MCUs between restart markers, 0 without.
    restart: usize,
    jfif: bool,
    /// Transform of the Adobe segment.
    adobe: Option<u8>,
    /// Entropy-coded bytes, and what follows them.
    scan: Range<usize>,
}

struct Component {
    id: u8,
    /// Blocks of an MCU across and down.
    across: usize,
    down: usize,
    /// Indices of tables.
    steps: usize,
    dc: usize,
    ac: usize,
}

/// The latest two rows of MCUs of a component, padded to whole strips: pixels lie between rows of chroma.
struct Plane {
    stride: usize,
    rows: usize,
    samples: Vec<u8>,
}

impl Plane {
    /// The samples from row `y` of the picture on, as far as they are kept next to each other.
    #[inline(always)]
    fn kept_from(&self, y: usize) -> &[u8] {
        &self.samples[y % self.rows * self.stride..]
    }
}

/// Decodes `bytes` if they are a baseline file of the common kind, sound to the last bit.
pub(super) fn decode(bytes: &[u8]) -> Option<Picture> {
    let header = read_header(bytes)?;
    let samples = read_scan(&header, &bytes[header.scan.clone()])?;
    Some(Picture { width: header.width, height: header.height, channels: header.components.len(), samples })
}

fn read_header(bytes: &[u8]) -> Option<Header> {
    let mut header = Header::default();
    let mut rest = bytes.strip_prefix(&[0xFF, 0xD8])?;
    loop {
        let [0xFF, marker, high, low, after @ ..] = rest else { return None };
        let length = usize::from(u16::from_be_bytes([*high, *low])).checked_sub(2)?;
        let (segment, after) = after.split_at_checked(length)?;
        rest = after;
        match marker {
            0xC0 | 0xC1 => header.read_frame(segment)?,
            0xC4 => header.read_huffman(segment)?,
            0xDB => header.read_steps(segment)?,
            0xDD => header.restart = usize::from(u16::from_be_bytes(*segment.first_chunk()?)),
            0xE0 => header.jfif |= segment.starts_with(b"JFIF\0"),
            0xEE if segment.starts_with(b"Adobe") => header.adobe = segment.get(11).copied(),
            0xE1..=0xEF | 0xFE => {}
            0xDA => {
                header.read_scan_header(segment)?;
                header.scan = bytes.len() - rest.len()..bytes.len();
                return header.is_common().then_some(header);
            }
            _ => return None,
        }
    }
}

impl Header {
    fn read_frame(&mut self, segment: &[u8]) -> Option<()> {
        let [8, h1, h0, w1, w0, count, rest @ ..] = segment else { return None };
        self.height = usize::from(u16::from_be_bytes([*h1, *h0]));
        self.width = usize::from(u16::from_be_bytes([*w1, *w0]));
        let (components, []) = rest.as_chunks::<3>() else { return None };
        if components.len() != usize::from(*count) || !self.components.is_empty() {
            return None;
        }
        self.components = components
            .iter()
            .map(|&[id, factors, steps]| Component {
                id,
                across: usize::from(factors >> 4),
                down: usize::from(factors & 15),
                steps: usize::from(steps),
                dc: 0,
                ac: 0,
            })
            .collect();
        Some(())
    }

    fn read_huffman(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [class, rest @ ..] = segment {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let (symbols, rest) = rest.split_at_checked(counts.iter().map(|&n| usize::from(n)).sum())?;
            let tables = if class >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            *tables.get_mut(usize::from(class & 15))? = Some(Table::new(counts, symbols)?);
            segment = rest;
        }
        Some(())
    }

    fn read_steps(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [index, rest @ ..] = segment {
            let (steps, rest) = rest.split_first_chunk::<64>()?;
            // An index of 16 or more means steps of 16 bits.
            *self.steps.get_mut(usize::from(*index))? = Some(steps.map(i32::from));
            segment = rest;
        }
        Some(())
    }

    fn read_scan_header(&mut self, segment: &[u8]) -> Option<()> {
        let [count, selectors @ .., 0, 63, 0] = segment else { return None };
        let (selectors, []) = selectors.as_chunks::<2>() else { return None };
        if selectors.len() != usize::from(*count) || selectors.len() != self.components.len() {
            return None;
        }
        for (component, &[id, tables]) in self.components.iter_mut().zip(selectors) {
            if component.id != id {
                return None;
            }
            (component.dc, component.ac) = (usize::from(tables >> 4), usize::from(tables & 15));
        }
        Some(())
    }

    /// Gray, or YCbCr with chroma at full or half width and height.
    fn is_common(&self) -> bool {
        let factors: Vec<_> = self.components.iter().map(|c| (c.across, c.down)).collect();
        let ids: Vec<u8> = self.components.iter().map(|c| c.id).collect();
        let ycbcr = match self.adobe {
            Some(transform) => transform == 1,
            None => self.jfif || ids == [1, 2, 3],
        };
        // libjpeg repeats samples of very narrow chroma instead.
        let wide = factors.first().is_some_and(|&(across, _)| across == 1 || self.width > 4);
        self.height > 0
            && self.width > 0
            && match factors[..] {
                [(1, 1)] => true,
                [(1 | 2, 1) | (2, 2), (1, 1), (1, 1)] => ycbcr && wide,
                _ => false,
            }
    }

    /// MCUs in a row and in a column.
    fn mcus(&self) -> (usize, usize) {
        let largest = &self.components[0];
        (self.width.div_ceil(8 * largest.across), self.height.div_ceil(8 * largest.down))
    }
}

/// The strips of a row of MCUs: for each component, `down · across` groups a strip.
type McuRow = Vec<Vec<Group>>;

/// Reads coefficients, a row of MCUs after the other.
struct Reader<'a> {
    header: &'a Header,
    channels: Vec<Channel<'a>>,
    bits: Bits<'a>,
    /// MCUs before the next restart marker, and its number.
    left: usize,
    restarts: u8,
}

/// What a component's blocks are read with.
struct Channel<'a> {
    component: &'a Component,
    tables: (&'a Table, &'a Table),
    steps: &'a [i32; 64],
    prediction: i32,
}

impl<'a> Reader<'a> {
    fn new(header: &'a Header, scan: &'a [u8]) -> Option<Self> {
        let channel = |component: &'a Component| {
            Some(Channel {
                component,
                tables: (header.dc.get(component.dc)?.as_ref()?, header.ac.get(component.ac)?.as_ref()?),
                steps: header.steps.get(component.steps)?.as_ref()?,
                prediction: 0,
            })
        };
        let channels = header.components.iter().map(channel).collect::<Option<_>>()?;
        Some(Self { header, channels, bits: Bits::new(scan), left: header.restart, restarts: 0 })
    }

    /// Reads the next row into `groups`, which are empty.
    fn read(&mut self, groups: &mut McuRow) -> Option<()> {
        for mcu in 0..self.header.mcus().0 {
            if self.header.restart > 0 {
                if self.left == 0 {
                    self.bits.restart(self.restarts)?;
                    self.channels.iter_mut().for_each(|channel| channel.prediction = 0);
                    (self.left, self.restarts) = (self.header.restart, self.restarts.wrapping_add(1));
                }
                self.left -= 1;
            }
            for (Channel { component, tables, steps, prediction }, groups) in
                self.channels.iter_mut().zip(&mut *groups)
            {
                let Component { across, down, .. } = **component;
                let strip = &mut groups[mcu / LANES * across * down..][..across * down];
                for y in 0..down {
                    for x in 0..across {
                        let block = mcu % LANES * across + x;
                        let group = &mut strip[y * across + block / LANES];
                        self.bits.block(*tables, steps, prediction, group, block % LANES)?;
                    }
                }
            }
        }
        self.bits.is_sound().then_some(())
    }
}

/// Makes pixels of coefficients, a row of MCUs after the other.
struct Painter<'a> {
    header: &'a Header,
    planes: Vec<Plane>,
    /// Rows of MCUs that the planes hold.
    rows: usize,
    /// Rows of pixels in `samples`.
    painted: usize,
    chroma: [color::Row; 2],
    samples: Vec<u8>,
}

impl<'a> Painter<'a> {
    fn new(header: &'a Header) -> Self {
        let columns = header.mcus().0;
        let plane = |component: &Component| {
            let (stride, rows) = (columns.div_ceil(LANES) * component.across * STRIP, 2 * 8 * component.down);
            Plane { stride, rows, samples: vec![0; stride * rows] }
        };
        let (width, channels) = (header.width, header.components.len());
        let chroma = || color::Row::new(width.div_ceil(header.components[0].across));
        Self {
            header,
            planes: header.components.iter().map(plane).collect(),
            rows: 0,
            painted: 0,
            chroma: [chroma(), chroma()],
            samples: Vec::with_capacity(width * header.height * channels),
        }
    }

    /// Takes the next row; its groups are empty after.
    fn paint(&mut self, groups: &mut McuRow) {
        let row = self.rows;
        self.rows += 1;
        vectorised(
            #[inline(always)]
            || {
                for ((component, plane), groups) in
                    self.header.components.iter().zip(&mut self.planes).zip(groups)
                {
                    let Component { across, down, .. } = *component;
                    for (index, group) in groups.iter_mut().enumerate() {
                        let (strip, index) = (index / (across * down), index % (across * down));
                        let (y, x) = (row * down + index / across, strip * across + index % across);
                        let at = 8 * y % plane.rows * plane.stride + x * STRIP;
                        group.transform(&mut plane.samples[at..], plane.stride);
                    }
                }
            },
        );
        if self.header.components.len() == 1 {
            self.paint_gray();
        } else {
            self.paint_color();
        }
    }

    fn paint_gray(&mut self) {
        let end = self.header.height.min(8 * self.rows);
        for y in self.painted..end {
            self.samples.extend_from_slice(&self.planes[0].kept_from(y)[..self.header.width]);
        }
        self.painted = end;
    }

    /// Paints the rows whose chroma is known, above and below.
    fn paint_color(&mut self) {
        let Header { width, height, .. } = *self.header;
        let Component { across, down, .. } = self.header.components[0];
        let last = height.div_ceil(down) - 1;
        let [luma, planes @ ..] = &self.planes[..] else { return };
        while self.painted < height {
            let y = self.painted;
            let near = y / down;
            // The other row that a pixel lies between; at the edges it is the same one.
            let far = if down == 1 {
                near
            } else if y.is_multiple_of(2) {
                near.saturating_sub(1)
            } else {
                (near + 1).min(last)
            };
            if near.max(far) >= 8 * self.rows {
                return;
            }
            vectorised(
                #[inline(always)]
                || {
                    for (upsampled, plane) in self.chroma.iter_mut().zip(planes) {
                        let line = |y: usize| &plane.kept_from(y)[..width.div_ceil(across)];
                        match (across, down) {
                            (2, 2) => upsampled.both(line(near), line(far)),
                            (2, _) => upsampled.wide(line(near)),
                            _ => upsampled.samples[..width].copy_from_slice(line(near)),
                        }
                    }
                    let [cb, cr] = &self.chroma;
                    let line = self.samples.len();
                    self.samples.resize(line + 3 * width, 0);
                    color::to_rgb(
                        &luma.kept_from(y)[..width],
                        &cb.samples,
                        &cr.samples,
                        &mut self.samples[line..],
                    );
                },
            );
            self.painted += 1;
        }
    }
}

fn read_scan(header: &Header, scan: &[u8]) -> Option<Vec<u8>> {
    let (columns, rows) = header.mcus();
    // Each block takes two bits at least: a short file takes no memory for a large picture.
    let blocks: usize = header.components.iter().map(|c| c.across * c.down).sum();
    if columns * rows * blocks > 4 * scan.len() {
        return None;
    }
    let mut reader = Reader::new(header, scan)?;
    let mut painter = Painter::new(header);
    let row = || -> McuRow {
        let groups = |c: &Component| (0..columns.div_ceil(LANES) * c.across * c.down).map(|_| Group::new());
        header.components.iter().map(|component| groups(component).collect()).collect()
    };
    if shared(header.width * header.height) {
        read_and_paint(&mut reader, &mut painter, rows, [row(), row(), row()])?;
    } else {
        let mut groups = row();
        for _ in 0..rows {
            reader.read(&mut groups)?;
            painter.paint(&mut groups);
        }
    }
    reader.bits.at_end().then_some(painter.samples)
}

/// Paints each row on a thread of its own, while the next is read here: reading is one chain of bits.
fn read_and_paint(reader: &mut Reader, painter: &mut Painter, rows: usize, spare: [McuRow; 3]) -> Option<()> {
    let (read, to_paint) = mpsc::channel::<McuRow>();
    let (painted, to_read) = mpsc::channel();
    for row in spare {
        painted.send(row).ok()?;
    }
    thread::scope(|scope| {
        let work = move || {
            for mut row in to_paint {
                painter.paint(&mut row);
                if painted.send(row).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new().name("jpeg".into()).spawn_scoped(scope, work).ok()?;
        for _ in 0..rows {
            let mut row = to_read.recv().ok()?;
            reader.read(&mut row)?;
            read.send(row).ok()?;
        }
        // Closing the channel ends the thread, and the scope waits for it.
        drop(read);
        Some(())
    })
}
