//! Values of `image_url.url`.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| swinseek::server::fuzzing::image_url(text));
