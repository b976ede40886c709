//! Term files, TSV or RRF.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = swinseek_language::constraint::Lexicon::from_bytes(bytes);
});
