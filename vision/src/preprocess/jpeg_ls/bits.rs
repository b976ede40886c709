//! Bits of a JPEG-LS scan: after a byte FF the next byte carries only seven bits (T.87 9.1).

/// Reads bits, most significant first, up to the next marker.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Bits not yet handed out, right-aligned.
    buffer: u64,
    available: u32,
    after_ff: bool,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, buffer: 0, available: 0, after_ff: false }
    }

    /// Fills the buffer to more than 32 bits where the data allows it.
    fn refill(&mut self) {
        while self.available <= 48 {
            let Some(&byte) = self.bytes.get(self.position) else {
                return;
            };
            // FF before a byte with its high bit set starts a marker, not data.
            if byte == 0xFF && self.bytes.get(self.position + 1).is_none_or(|&b| b >= 0x80) {
                return;
            }
            let bits = if self.after_ff { 7 } else { 8 };
            self.after_ff = byte == 0xFF;
            self.buffer = (self.buffer << bits) | u64::from(byte);
            self.available += bits;
            self.position += 1;
        }
    }

    /// The next `count` bits, at most 32.
    pub(super) fn bits(&mut self, count: u32) -> Result<u32, String> {
        if self.available < count {
            self.refill();
            if self.available < count {
                return Err("the scan ends inside the picture".into());
            }
        }
        self.available -= count;
        let value = (self.buffer >> self.available) & ((1 << count) - 1);
        Ok(value as u32)
    }

    /// Number of zero bits before the next one bit, which is consumed; at most `limit` zeros.
    pub(super) fn zeros(&mut self, limit: u32) -> Result<u32, String> {
        let mut zeros = 0;
        while self.bits(1)? == 0 {
            zeros += 1;
            if zeros > limit {
                return Err("a code word is longer than its limit".into());
            }
        }
        Ok(zeros)
    }

    /// Bytes of the scan up to the next marker.
    pub(super) fn used(&self) -> usize {
        let rest = &self.bytes[self.position..];
        let marker = rest.windows(2).position(|pair| pair[0] == 0xFF && pair[1] >= 0x80);
        self.position + marker.unwrap_or(rest.len())
    }
}
