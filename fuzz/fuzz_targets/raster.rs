//! PNG, JPEG, GIF, WebP, BMP, TIFF, told apart by content.
#![no_main]

use swinseek_vision::preprocess::{DecodeOptions, Limits, decode};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { max_pixels: 1 << 20, ..Limits::default() };
    let _ = decode(bytes, &DecodeOptions { limits, frame: 0 });
});
