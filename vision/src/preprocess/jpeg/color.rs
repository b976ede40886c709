//! From components to pixels, with libjpeg's arithmetic: "fancy" (triangle) upsampling and the JFIF conversion.

/// A row of a component at half width between its neighbours: samples of both edges are repeated.
pub(super) struct Row {
    /// `3 · near + far` rows, or four times the one row; one more sample at each end.
    sums: Vec<u16>,
    /// The row at full width.
    pub(super) samples: Vec<u8>,
}

impl Row {
    pub(super) fn new(width: usize) -> Self {
        Self { sums: vec![0; width + 2], samples: vec![0; 2 * width] }
    }

    /// Twice the width and height: the row between `near` and `far`, three quarters near.
    #[inline(always)]
    pub(super) fn both(&mut self, near: &[u8], far: &[u8]) {
        let width = self.sums.len() - 2;
        let (near, far) = (&near[..width], &far[..width]);
        for ((sum, &near), &far) in self.sums[1..].iter_mut().zip(near).zip(far) {
            *sum = 3 * u16::from(near) + u16::from(far);
        }
        self.across::<8, 7, 4>();
    }

    /// Twice the width.
    #[inline(always)]
    pub(super) fn wide(&mut self, row: &[u8]) {
        for (sum, &sample) in self.sums[1..].iter_mut().zip(row) {
            *sum = u16::from(sample);
        }
        self.across::<1, 2, 2>();
    }

    #[inline(always)]
    fn across<const LEFT: u16, const RIGHT: u16, const SHIFT: u16>(&mut self) {
        let width = self.sums.len() - 2;
        self.sums[0] = self.sums[1];
        self.sums[width + 1] = self.sums[width];
        let (left, middle, right) = (&self.sums[..width], &self.sums[1..][..width], &self.sums[2..][..width]);
        let (pairs, _) = self.samples.as_chunks_mut::<2>();
        for (((pair, &left), &middle), &right) in pairs.iter_mut().zip(left).zip(middle).zip(right) {
            // Rounded up and down in turn, so that no brightness is added on average.
            *pair =
                [((3 * middle + left + LEFT) >> SHIFT) as u8, ((3 * middle + right + RIGHT) >> SHIFT) as u8];
        }
    }
}

/// `x · FACTOR / 2^16`, rounded, of which processors compute the floor in one instruction.
#[inline(always)]
fn times<const FACTOR: i32>(x: i16) -> i16 {
    let twice = ((i32::from(2 * x) * FACTOR) >> 16) as i16;
    (twice + 1) >> 1
}

/// Pixels that are converted at once.
const CHUNK: usize = 64;

/// Y, Cb, Cr to red, green, blue (JFIF 1.02), in 16-bit fixed point.
#[inline(always)]
pub(super) fn to_rgb(y: &[u8], cb: &[u8], cr: &[u8], pixels: &mut [u8]) {
    let chunks = y.chunks(CHUNK).zip(cb.chunks(CHUNK)).zip(cr.chunks(CHUNK));
    for (((y, cb), cr), pixels) in chunks.zip(pixels.chunks_mut(3 * CHUNK)) {
        // Plane by plane, and then woven together: in one loop the compiler would weave numbers of four bytes.
        let (mut red, mut green, mut blue) = ([0u8; CHUNK], [0u8; CHUNK], [0u8; CHUNK]);
        for (((((y, cb), cr), red), green), blue) in
            y.iter().zip(cb).zip(cr).zip(&mut red).zip(&mut green).zip(&mut blue)
        {
            let (y, cb, cr) = (i16::from(*y), i16::from(*cb) - 128, i16::from(*cr) - 128);
            let byte = |v: i16| v.clamp(0, 255) as u8;
            // 1.402 cr, -0.344 cb - 0.714 cr and 1.772 cb; whole parts go beside products of 16 bits.
            *red = byte(y + cr + times::<26345>(cr));
            let sum = 18734 * i32::from(cr) - 22554 * i32::from(cb);
            *green = byte(y - cr + ((sum + (1 << 15)) >> 16) as i16);
            *blue = byte(y + 2 * cb + times::<{ -14942 }>(cb));
        }
        let (pixels, _) = pixels.as_chunks_mut::<3>();
        for (((pixel, &red), &green), &blue) in pixels.iter_mut().zip(&red).zip(&green).zip(&blue) {
            *pixel = [red, green, blue];
        }
    }
}
