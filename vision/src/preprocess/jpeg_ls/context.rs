//! Adaptive statistics of JPEG-LS contexts (T.87 annex A.2, A.6, A.7.2).

/// Statistics of one of the 365 regular contexts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Regular {
    /// Wide, because RESET may let it grow over 65535 errors.
    a: i64,
    b: i32,
    c: i32,
    n: i32,
}

impl Regular {
    pub(super) fn new(initial_a: i32) -> Self {
        Self { a: i64::from(initial_a), b: 0, c: 0, n: 1 }
    }

    /// Prediction correction.
    pub(super) fn bias(&self) -> i32 {
        self.c
    }

    /// Golomb parameter.
    pub(super) fn k(&self) -> u32 {
        golomb(self.n, self.a)
    }

    /// Undoes the error mapping of A.5.2.
    pub(super) fn unmap(&self, mapped: i32, k: u32, near: i32) -> i32 {
        let half = mapped >> 1;
        let inverted = near == 0 && k == 0 && 2 * self.b <= -self.n;
        match (mapped & 1 == 0, inverted) {
            (true, false) | (false, true) => half,
            (false, false) | (true, true) => -half - 1,
        }
    }

    /// A.6.1 and A.6.2: accumulates the error and adapts the bias.
    pub(super) fn update(&mut self, error: i32, near: i32, reset: i32) {
        self.b += error * (2 * near + 1);
        self.a += i64::from(error.abs());
        if self.n == reset {
            self.a >>= 1;
            self.b >>= 1;
            self.n >>= 1;
        }
        self.n += 1;
        if self.b <= -self.n {
            self.b = (self.b + self.n).max(1 - self.n);
            self.c = (self.c - 1).max(-128);
        } else if self.b > 0 {
            self.b = (self.b - self.n).min(0);
            self.c = (self.c + 1).min(127);
        }
    }
}

/// Statistics of one of the two run-interruption contexts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interruption {
    a: i64,
    n: i32,
    negative: i32,
    /// RItype: 1 when the run value and the sample above agree.
    kind: i32,
}

impl Interruption {
    pub(super) fn new(initial_a: i32, kind: i32) -> Self {
        Self { a: i64::from(initial_a), n: 1, negative: 0, kind }
    }

    /// Golomb parameter.
    pub(super) fn k(&self) -> u32 {
        golomb(self.n, self.a + if self.kind == 1 { i64::from(self.n >> 1) } else { 0 })
    }

    /// Undoes the error mapping of A.7.2 and updates the statistics.
    pub(super) fn unmap_and_update(&mut self, mapped: i32, k: u32, reset: i32) -> i32 {
        let value = mapped + self.kind;
        let map = value & 1;
        let magnitude = (value + map) >> 1;
        let expects_negative = k != 0 || 2 * self.negative >= self.n;
        let error = if expects_negative == (map == 1) { -magnitude } else { magnitude };
        if error < 0 {
            self.negative += 1;
        }
        self.a += i64::from((mapped + 1 - self.kind) >> 1);
        if self.n == reset {
            self.a >>= 1;
            self.n >>= 1;
            self.negative >>= 1;
        }
        self.n += 1;
        error
    }
}

/// Smallest `k` with `n << k >= a`.
fn golomb(n: i32, a: i64) -> u32 {
    let mut k = 0;
    while k < 24 && (i64::from(n) << k) < a {
        k += 1;
    }
    k
}
