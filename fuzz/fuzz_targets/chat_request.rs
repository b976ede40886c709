//! Bodies of `/v1/chat/completions`: parsing, then every check that needs no model.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| swinseek::server::fuzzing::chat_request(body));
