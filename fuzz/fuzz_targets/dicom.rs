//! DICOM files: the first byte chooses the frame.
#![no_main]

use swinseek_vision::preprocess::{DecodeOptions, Limits, decode};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((frame, bytes)) = bytes.split_first() else { return };
    let limits = Limits { max_pixels: 1 << 20, ..Limits::default() };
    let _ = decode(bytes, &DecodeOptions { limits, frame: usize::from(*frame % 4) });
});
