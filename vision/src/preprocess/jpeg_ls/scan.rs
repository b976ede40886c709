//! One JPEG-LS scan: prediction, regular mode and run mode (T.87 annex A).

use super::bits::BitReader;
use super::context::{Interruption, Regular};
use super::{Expected, Preset};

/// Run lengths that one code bit stands for, as powers of two (T.87 A.2.1).
const RUN_ORDER: [u32; 32] =
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interleave {
    /// One line of each component in turn; a scan of one component is the same.
    Line,
    /// One sample of each component in turn.
    Sample,
}

/// Coding parameters of a scan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coding {
    maxval: i32,
    near: i32,
    thresholds: [i32; 3],
    reset: i32,
    /// Number of distinct quantised errors.
    range: i32,
    /// Bits of an error coded without Golomb coding.
    qbpp: u32,
    /// Longest code word in bits.
    limit: u32,
}

impl Coding {
    pub(super) fn new(precision: u8, near: i32, preset: &Preset) -> Result<Self, String> {
        let full = (1 << precision) - 1;
        let maxval = if preset.maxval == 0 { full } else { preset.maxval };
        let reset = if preset.reset == 0 { 64 } else { preset.reset };
        if maxval > full || near > 255.min(maxval / 2) || reset < 3 {
            return Err(format!("MAXVAL {maxval}, NEAR {near}, RESET {reset} are out of range"));
        }
        let mut thresholds = default_thresholds(maxval, near);
        for (threshold, given) in thresholds.iter_mut().zip(preset.thresholds) {
            if given != 0 {
                *threshold = given;
            }
        }
        let [t1, t2, t3] = thresholds;
        if !(near < t1 && t1 <= t2 && t2 <= t3 && t3 <= maxval) {
            return Err(format!("thresholds {t1}, {t2}, {t3} are out of order"));
        }
        let range = (maxval + 2 * near) / (2 * near + 1) + 1;
        let bpp = bits_for(maxval + 1).max(2);
        let limit = 2 * (bpp + bpp.max(8));
        Ok(Self { maxval, near, thresholds, reset, range, qbpp: bits_for(range), limit })
    }

    /// Quantises a local gradient to -4..=4 (A.3.3).
    fn quantize(&self, gradient: i32) -> i32 {
        let [t1, t2, t3] = self.thresholds;
        let size = gradient.abs();
        let level = if size <= self.near {
            0
        } else if size < t1 {
            1
        } else if size < t2 {
            2
        } else if size < t3 {
            3
        } else {
            4
        };
        level * gradient.signum()
    }

    /// Reconstructs a sample from its prediction and signed error, modulo the range (A.4.5).
    fn reconstruct(&self, prediction: i32, error: i32) -> i32 {
        let step = 2 * self.near + 1;
        let mut value = prediction + error * step;
        if value < -self.near {
            value += self.range * step;
        } else if value > self.maxval + self.near {
            value -= self.range * step;
        }
        value.clamp(0, self.maxval)
    }

    /// Limited-length Golomb code (A.5.3) with at most `limit` bits.
    fn golomb(&self, bits: &mut BitReader, k: u32, limit: u32) -> Result<i32, String> {
        let escape = limit - self.qbpp - 1;
        let zeros = bits.zeros(escape)?;
        let value = if zeros < escape {
            (u64::from(zeros) << k) | u64::from(bits.bits(k)?)
        } else {
            u64::from(bits.bits(self.qbpp)?) + 1
        };
        // A correct error is below the range, at most 2^16; more is damage and must not overflow.
        if value > 2 * self.range as u64 {
            return Err("a prediction error is out of range".into());
        }
        Ok(value as i32)
    }
}

/// T.87 C.2.4.1.1.1.
fn default_thresholds(maxval: i32, near: i32) -> [i32; 3] {
    let bound = |value: i32, low: i32| {
        if value > maxval || value < low { low } else { value }
    };
    let raw = if maxval >= 128 {
        let factor = (maxval.min(4095) + 128) / 256;
        [factor + 2 + 3 * near, 4 * factor + 3 + 5 * near, 17 * factor + 4 + 7 * near]
    } else {
        let factor = 256 / (maxval + 1);
        [(3 / factor + 3 * near).max(2), (7 / factor + 5 * near).max(3), (21 / factor + 7 * near).max(4)]
    };
    let t1 = bound(raw[0], near + 1);
    let t2 = bound(raw[1], t1);
    [t1, t2, bound(raw[2], t2)]
}

/// Bits needed to count to `values`: the rounded-up binary logarithm.
fn bits_for(values: i32) -> u32 {
    (values as u32).next_power_of_two().trailing_zeros()
}

/// One scan of a picture.
pub(super) struct Scan {
    pub(super) coding: Coding,
    pub(super) interleave: Interleave,
    pub(super) picture: Expected,
}

/// Adaptive state shared by the components of a scan.
struct State<'a> {
    bits: BitReader<'a>,
    regular: Vec<Regular>,
    interruptions: [Interruption; 2],
}

/// The previous and the current line of a component, with one sample of border on both sides.
struct Lines {
    previous: Vec<i32>,
    current: Vec<i32>,
    run_index: usize,
}

impl Lines {
    fn new(width: usize) -> Self {
        Self { previous: vec![0; width + 2], current: vec![0; width + 2], run_index: 0 }
    }

    /// Starts a line: `Ra` of its first sample is the one above, `Rd` of the last is `Rb` (A.2.1).
    fn start(&mut self) {
        let last = self.previous.len() - 1;
        self.previous[last] = self.previous[last - 1];
        self.current[0] = self.previous[1];
    }

    /// `Ra`, `Rb`, `Rc`, `Rd` around sample `x`, counted from 1.
    fn neighbours(&self, x: usize) -> [i32; 4] {
        let previous = &self.previous;
        [self.current[x - 1], previous[x], previous[x - 1], previous[x + 1]]
    }
}

impl Scan {
    /// Decodes the scan in `bytes` into the planes `indices` of `samples`; returns the bytes used.
    pub(super) fn decode(
        &self,
        bytes: &[u8],
        indices: &[usize],
        samples: &mut [u16],
    ) -> Result<usize, String> {
        let Expected { width, height, components } = self.picture;
        let initial_a = ((self.coding.range + 32) / 64).max(2);
        let mut state = State {
            bits: BitReader::new(bytes),
            regular: vec![Regular::new(initial_a); 365],
            interruptions: [Interruption::new(initial_a, 0), Interruption::new(initial_a, 1)],
        };
        let mut lines: Vec<Lines> = indices.iter().map(|_| Lines::new(width)).collect();
        for y in 0..height {
            lines.iter_mut().for_each(Lines::start);
            match self.interleave {
                Interleave::Line => {
                    for component in &mut lines {
                        self.line(&mut state, std::slice::from_mut(component))?;
                    }
                }
                Interleave::Sample => self.line(&mut state, &mut lines)?,
            }
            for (component, &index) in lines.iter_mut().zip(indices) {
                let row = &mut samples[y * width * components..][..width * components];
                let targets = row.iter_mut().skip(index).step_by(components);
                for (target, &value) in targets.zip(&component.current[1..]) {
                    *target = value as u16;
                }
                std::mem::swap(&mut component.previous, &mut component.current);
            }
        }
        Ok(state.bits.used())
    }

    /// Decodes one line of components that share their runs.
    fn line(&self, state: &mut State, lines: &mut [Lines]) -> Result<(), String> {
        let width = self.picture.width;
        let mut x = 1;
        while x <= width {
            if lines.iter().all(|line| self.gradients(line, x) == [0; 3]) {
                x = self.run(state, lines, x)?;
            } else {
                for line in lines.iter_mut() {
                    let quantized = self.gradients(line, x);
                    line.current[x] = self.regular(state, line.neighbours(x), quantized)?;
                }
                x += 1;
            }
        }
        Ok(())
    }

    fn gradients(&self, line: &Lines, x: usize) -> [i32; 3] {
        let [ra, rb, rc, rd] = line.neighbours(x);
        [rd - rb, rb - rc, rc - ra].map(|gradient| self.coding.quantize(gradient))
    }

    /// Regular mode (A.4 to A.6).
    fn regular(&self, state: &mut State, around: [i32; 4], q: [i32; 3]) -> Result<i32, String> {
        let coding = &self.coding;
        let [ra, rb, rc, _] = around;
        let id = (q[0] * 9 + q[1]) * 9 + q[2];
        let sign = if id < 0 { -1 } else { 1 };
        let context = &mut state.regular[id.unsigned_abs() as usize];
        let median = if rc >= ra.max(rb) {
            ra.min(rb)
        } else if rc <= ra.min(rb) {
            ra.max(rb)
        } else {
            ra + rb - rc
        };
        let prediction = (median + sign * context.bias()).clamp(0, coding.maxval);
        let k = context.k();
        let mapped = coding.golomb(&mut state.bits, k, coding.limit)?;
        let error = context.unmap(mapped, k, coding.near);
        context.update(error, coding.near, coding.reset);
        Ok(coding.reconstruct(prediction, sign * error))
    }

    /// Run mode from sample `x` (A.7); returns the next sample to decode.
    fn run(&self, state: &mut State, lines: &mut [Lines], x: usize) -> Result<usize, String> {
        let width = self.picture.width;
        let end = self.run_end(state, &mut lines[0].run_index, x)?;
        for line in lines.iter_mut() {
            let value = line.current[x - 1];
            line.current[x..end].fill(value);
        }
        if end > width {
            return Ok(end);
        }
        let run_index = lines[0].run_index;
        let together = lines.len() > 1;
        for line in lines.iter_mut() {
            let [ra, rb, ..] = line.neighbours(end);
            line.current[end] = self.interruption(state, ra, rb, run_index, together)?;
        }
        lines[0].run_index = run_index.saturating_sub(1);
        Ok(end + 1)
    }

    /// Reads the length of a run (A.7.1.2): the index after its last sample.
    fn run_end(&self, state: &mut State, index: &mut usize, x: usize) -> Result<usize, String> {
        let after_line = self.picture.width + 1;
        let mut end = x;
        while state.bits.bits(1)? == 1 {
            let length = 1 << RUN_ORDER[*index];
            if end + length <= after_line {
                *index = (*index + 1).min(RUN_ORDER.len() - 1);
            }
            end = (end + length).min(after_line);
            if end == after_line {
                return Ok(end);
            }
        }
        let rest = state.bits.bits(RUN_ORDER[*index])? as usize;
        if end + rest >= after_line {
            return Err("a run is longer than its line".into());
        }
        Ok(end + rest)
    }

    /// The sample that ends a run (A.7.2). Components that run `together` always use RItype 0.
    fn interruption(
        &self,
        state: &mut State,
        ra: i32,
        rb: i32,
        run_index: usize,
        together: bool,
    ) -> Result<i32, String> {
        let coding = &self.coding;
        let same = !together && (ra - rb).abs() <= coding.near;
        let context = &mut state.interruptions[usize::from(same)];
        let k = context.k();
        let limit = coding.limit - RUN_ORDER[run_index] - 1;
        let mapped = coding.golomb(&mut state.bits, k, limit)?;
        let error = context.unmap_and_update(mapped, k, coding.reset);
        let (prediction, sign) = match (same, ra > rb) {
            (true, _) => (ra, 1),
            (false, true) => (rb, -1),
            (false, false) => (rb, 1),
        };
        Ok(coding.reconstruct(prediction, sign * error))
    }
}
