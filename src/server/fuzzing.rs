//! Doors for the fuzzer (`fuzz/`); compiled only for it.

use super::chat;
use super::media::Source;
use super::settings::Settings;

/// A body of `/v1/chat/completions`, up to where the model is needed.
pub fn chat_request(body: &[u8]) {
    let _ = chat::read_without_model(body, &Settings::default());
}

/// A value of `image_url.url`.
pub fn image_url(text: &str) {
    let _ = Source::parse(text, 1 << 20, "image_url");
}
