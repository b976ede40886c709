//! The crate's own random numbers: xoshiro256++ seeded by SplitMix64.
//!
//! A study must be the same bytes for the same `(seed, index)` in every release, which the generators of
//! the `rand` crate do not promise across versions; the two published algorithms used here are fixed
//! (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021).

/// One stream of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Rng {
    state: [u64; 4],
}

/// SplitMix64's output function: a bijection of `u64` that scatters neighbouring inputs.
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    /// The stream `stream` of study `index` under `seed`; streams of one study are independent, so that
    /// drawing more numbers for the anatomy does not change the words of its report.
    pub(crate) fn new(seed: u64, index: u64, stream: u64) -> Self {
        let base = mix(mix(mix(seed) ^ index) ^ stream.rotate_left(32));
        Self { state: [mix(base), mix(base ^ 1), mix(base ^ 2), mix(base ^ 3)] }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in `[0, 1)`, 24 bits.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in `[low, high)`.
    pub(crate) fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Uniform in `[-half, half)`.
    pub(crate) fn spread(&mut self, half: f32) -> f32 {
        self.range(-half, half)
    }

    /// True with probability `p`.
    pub(crate) fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }

    /// An index below `n`, `n > 0`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// An index drawn with the given weights, which must have a positive sum.
    pub(crate) fn weighted(&mut self, weights: &[f32]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f32>();
        for (index, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return index;
            }
        }
        weights.len() - 1
    }

    /// Nearly normal: the sum of twelve uniforms less six, bounded to plus or minus six; bounded is what
    /// anatomy wants.
    pub(crate) fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }

    /// Fisher-Yates.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn streams_and_indices_differ_and_repeat() {
        let draw = |seed, index, stream| Rng::new(seed, index, stream).next_u64();
        assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
        assert_ne!(draw(1, 2, 3), draw(1, 2, 4));
        assert_ne!(draw(1, 2, 3), draw(1, 3, 3));
        assert_ne!(draw(1, 2, 3), draw(2, 2, 3));
    }

    #[test]
    fn unit_has_the_moments_of_the_uniform_law() {
        let mut rng = Rng::new(7, 0, 0);
        let draws: Vec<f32> = (0..20_000).map(|_| rng.unit()).collect();
        let mean = draws.iter().sum::<f32>() / draws.len() as f32;
        // Four standard errors of the mean of 20,000 uniforms: 4 * 0.2887 / sqrt(20000).
        assert!((mean - 0.5).abs() < 0.0082, "{mean}");
        assert!(draws.iter().all(|v| (0.0..1.0).contains(v)));
    }

    #[test]
    fn weighted_never_draws_a_zero_weight() {
        let mut rng = Rng::new(7, 1, 0);
        assert!((0..2_000).all(|_| rng.weighted(&[1.0, 0.0, 2.0]) != 1));
    }
}
