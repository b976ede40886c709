//! NumPy's default generator: PCG64 (O'Neill 2014) seeded through `SeedSequence`, with the integers and flags that
//! `default_rng(seed)` draws. sacreBLEU resamples with it, so that the same seed here means the same resamples.

/// 128-bit linear congruential state with the XSL-RR output of 64 bits.
#[derive(Clone, Debug)]
pub(crate) struct Pcg64 {
    state: u128,
    increment: u128,
    /// The upper half of the last output, when only its lower half was asked for.
    half: Option<u32>,
    /// Flags of a word not handed out yet, and how many.
    flags: (u32, u32),
}

impl Pcg64 {
    const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;

    pub(crate) fn new(seed: u64) -> Self {
        let [a, b, c, d] = seed_sequence(seed);
        let wide = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
        let increment = wide(c, d) << 1 | 1;
        let state = increment.wrapping_add(wide(a, b));
        let mut generator = Self { state, increment, half: None, flags: (0, 0) };
        generator.step();
        generator
    }

    fn step(&mut self) {
        self.state = self.state.wrapping_mul(Self::MULTIPLIER).wrapping_add(self.increment);
    }

    fn next_u64(&mut self) -> u64 {
        self.step();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    fn next_u32(&mut self) -> u32 {
        if let Some(half) = self.half.take() {
            return half;
        }
        let word = self.next_u64();
        self.half = Some((word >> 32) as u32);
        word as u32
    }

    /// An index below `len` (at least 1) without bias, by 32-bit products (Lemire 2019).
    pub(crate) fn below(&mut self, len: u32) -> u32 {
        let mut product = u64::from(self.next_u32()) * u64::from(len);
        if (product as u32) < len {
            let threshold = len.wrapping_neg() % len;
            while (product as u32) < threshold {
                product = u64::from(self.next_u32()) * u64::from(len);
            }
        }
        (product >> 32) as u32
    }

    /// A fair coin; 32 of them share a word, lowest bit first.
    pub(crate) fn flag(&mut self) -> bool {
        let (word, left) = self.flags;
        self.flags = if left == 0 { (self.next_u32(), 31) } else { (word >> 1, left - 1) };
        self.flags.0 & 1 == 1
    }
}

/// NumPy's `SeedSequence(seed).generate_state(4, uint64)`.
fn seed_sequence(seed: u64) -> [u64; 4] {
    const MIX: (u32, u32) = (0xca01_f9dd, 0x4973_f715);
    let mut constant = 0x43b0_d7e5_u32;
    let mut hash = |value: u32| {
        let value = value ^ constant;
        constant = constant.wrapping_mul(0x931e_8875);
        let value = value.wrapping_mul(constant);
        value ^ value >> 16
    };
    let mut pool = [seed as u32, (seed >> 32) as u32, 0, 0].map(&mut hash);
    for source in 0..4 {
        for target in (0..4).filter(|&target| target != source) {
            let mixed = MIX.0.wrapping_mul(pool[target]).wrapping_sub(MIX.1.wrapping_mul(hash(pool[source])));
            pool[target] = mixed ^ mixed >> 16;
        }
    }
    let mut constant = 0x8b51_f9dd_u32;
    let mut word = |index: usize| {
        let value = pool[index % 4] ^ constant;
        constant = constant.wrapping_mul(0x58f3_8ded);
        let value = value.wrapping_mul(constant);
        u64::from(value ^ value >> 16)
    };
    std::array::from_fn(|index| word(2 * index) | word(2 * index + 1) << 32)
}

#[cfg(test)]
mod tests {
    use super::Pcg64;

    /// `default_rng(seed).integers(len, size=...)` and `.integers(2, size=..., dtype=bool)` of NumPy 2.4.6.
    #[test]
    fn draws_are_those_of_numpy() {
        let indices = |seed, len| {
            let mut generator = Pcg64::new(seed);
            (0..9).map(|_| generator.below(len)).collect::<Vec<u32>>()
        };
        assert_eq!(indices(12345, 3004), [2100, 682, 2369, 951, 613, 2395, 1930, 2031, 2969]);
        assert_eq!(indices(0, 7), [5, 4, 3, 1, 2, 0, 0, 0, 1]);
        // A seed of two words; every third or so draw is rejected.
        assert_eq!(
            indices((1 << 40) + 3, 3_000_000_000),
            [
                2320968254, 1334032640, 1141922330, 1419536743, 194552075, 2358795727, 586955668, 1697236867,
                1996938572
            ],
        );
        let mut generator = Pcg64::new(12345);
        let flags: String = (0..70).map(|_| if generator.flag() { '1' } else { '0' }).collect();
        assert_eq!(flags, "1011100110000011111111110100110110110001100011010100110001011100011110");
    }
}
