//! The inverse DCT, on eight blocks at once: libjpeg's accurate integer transform (Loeffler, Ligtenberg and Moschytz 1989,
//! 13-bit constants), bit for bit.
//!
//! Lane `b` of everything is block `b`, so neither pass needs a transpose.

/// Blocks that are transformed together.
pub(super) const LANES: usize = 8;

/// Dequantised coefficients of [`LANES`] neighbouring blocks.
pub(super) struct Group {
    /// By place in the block, row by row.
    pub(super) coefficients: [[i32; LANES]; 64],
    /// Places that some block filled, a bit each.
    pub(super) seen: u64,
}

impl Group {
    pub(super) fn new() -> Self {
        Self { coefficients: [[0; LANES]; 64], seen: 0 }
    }

    /// Pixels of the blocks, side by side: row `y` of block `b` at `rows[y * stride + 8 * b..]`. The group is empty after.
    #[inline(always)]
    pub(super) fn transform(&mut self, rows: &mut [u8], stride: usize) {
        // Most pictures are smooth: the lower and the right half of nearly all blocks are empty.
        let (short, narrow) = (self.seen >> 32 == 0, self.seen & 0xF0F0_F0F0_F0F0_F0F0 == 0);
        let mut work = [[0i32; LANES]; 64];
        for column in 0..8 {
            if self.seen >> column & 0x0101_0101_0101_0100 != 0 {
                let column = |row: usize| 8 * row + column;
                if short {
                    pass::<11, 4>(&self.coefficients, &mut work, column);
                } else {
                    pass::<11, 8>(&self.coefficients, &mut work, column);
                }
            } else if self.seen >> column & 1 != 0 {
                for row in 0..8 {
                    for lane in 0..LANES {
                        work[8 * row + column][lane] = self.coefficients[column][lane] << 2;
                    }
                }
            }
        }
        for y in 0..8 {
            let mut row = [[0i32; LANES]; 8];
            let line: &[[i32; LANES]; 8] = work[8 * y..].first_chunk().expect("eight of 64");
            if narrow {
                pass::<18, 4>(line, &mut row, |x| x);
            } else {
                pass::<18, 8>(line, &mut row, |x| x);
            }
            let mut bytes = [[0u8; LANES]; 8];
            for x in 0..8 {
                for lane in 0..LANES {
                    bytes[x][lane] = (row[x][lane] + 128).clamp(0, 255) as u8;
                }
            }
            let blocks = transpose(bytes.map(u64::from_le_bytes));
            let (to, _) = rows[y * stride..][..8 * LANES].as_chunks_mut::<8>();
            for (to, block) in to.iter_mut().zip(blocks) {
                *to = block.to_le_bytes();
            }
        }
        if self.seen.count_ones() < 16 {
            let mut seen = self.seen;
            while seen != 0 {
                self.coefficients[seen.trailing_zeros() as usize] = [0; LANES];
                seen &= seen - 1;
            }
        } else {
            self.coefficients = [[0; LANES]; 64];
        }
        self.seen = 0;
    }
}

/// Eight words of eight bytes, rows for columns. Written out, because a loop would go through memory.
#[inline(always)]
fn transpose([a, b, c, d, e, f, g, h]: [u64; 8]) -> [u64; 8] {
    let pairs = swap::<8, 0x00FF_00FF_00FF_00FF>;
    let ([a, b], [c, d], [e, f], [g, h]) = (pairs(a, b), pairs(c, d), pairs(e, f), pairs(g, h));
    let fours = swap::<16, 0x0000_FFFF_0000_FFFF>;
    let ([a, c], [b, d], [e, g], [f, h]) = (fours(a, c), fours(b, d), fours(e, g), fours(f, h));
    let halves = swap::<32, 0x0000_0000_FFFF_FFFF>;
    let ([a, e], [b, f], [c, g], [d, h]) = (halves(a, e), halves(b, f), halves(c, g), halves(d, h));
    [a, b, c, d, e, f, g, h]
}

/// Exchanges the upper parts of `low` with the lower parts of `high`.
#[inline(always)]
fn swap<const SHIFT: u32, const MASK: u64>(low: u64, high: u64) -> [u64; 2] {
    [low & MASK | (high & MASK) << SHIFT, low >> SHIFT & MASK | high & !MASK]
}

/// One dimension of all lanes, along the places `at(0)` to `at(7)`, of which the first `USED` are not zero.
#[inline(always)]
fn pass<const SHIFT: i32, const USED: usize>(
    from: &[[i32; LANES]],
    to: &mut [[i32; LANES]],
    at: impl Fn(usize) -> usize,
) {
    for lane in 0..LANES {
        let x = |i: usize| if i < USED { from[at(i)][lane] } else { 0 };
        let y = butterfly::<SHIFT>([x(0), x(1), x(2), x(3), x(4), x(5), x(6), x(7)]);
        for i in 0..8 {
            to[at(i)][lane] = y[i];
        }
    }
}

/// One dimension, scaled by sqrt(8) · 2^13 and rounded to `SHIFT` bits fewer. Damaged files overflow, and wrap.
#[inline(always)]
fn butterfly<const SHIFT: i32>(x: [i32; 8]) -> [i32; 8] {
    let mul = i32::wrapping_mul;
    let add = i32::wrapping_add;
    let sub = i32::wrapping_sub;
    // The even half: a rotation of 2 and 6, sums and differences of 0 and 4.
    let z = mul(add(x[2], x[6]), 4433);
    let (low, high) = (sub(z, mul(x[6], 15137)), add(z, mul(x[2], 6270)));
    let (sum, difference) = (add(x[0], x[4]) << 13, sub(x[0], x[4]) << 13);
    let even = [add(sum, high), add(difference, low), sub(difference, low), sub(sum, high)];
    // The odd half.
    let (z1, z2, z3, z4) = (add(x[7], x[1]), add(x[5], x[3]), add(x[7], x[3]), add(x[5], x[1]));
    let z5 = mul(add(z3, z4), 9633);
    let (z1, z2) = (mul(z1, -7373), mul(z2, -20995));
    let (z3, z4) = (add(mul(z3, -16069), z5), add(mul(z4, -3196), z5));
    let odd = [
        add(mul(x[1], 12299), add(z1, z4)),
        add(mul(x[3], 25172), add(z2, z3)),
        add(mul(x[5], 16819), add(z2, z4)),
        add(mul(x[7], 2446), add(z1, z3)),
    ];
    let round = |v: i32| add(v, 1 << (SHIFT - 1)) >> SHIFT;
    let up = |i: usize| round(add(even[i], odd[i]));
    let down = |i: usize| round(sub(even[i], odd[i]));
    [up(0), up(1), up(2), up(3), down(3), down(2), down(1), down(0)]
}
