//! A report as plain text.

use std::fmt::Write;

use super::Report;

/// Media type of [`render`].
pub const MEDIA_TYPE: &str = "text/plain; charset=utf-8";

/// Both sections under their headings, the notice, and the line of origin. Empty sections are left out.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    for (heading, words) in [("FINDINGS", &report.findings), ("IMPRESSION", &report.impression)] {
        if !words.is_empty() {
            let _ = write!(text, "{heading}\n{words}\n\n"); // writing to a String cannot fail
        }
    }
    let _ = write!(text, "{}\n{}\n", report.notice, origin(report));
    text
}

/// Model, images and seed in one line, digests in full.
pub(super) fn origin(report: &Report) -> String {
    let images: Vec<&str> = report.images.iter().map(|image| image.digest.as_str()).collect();
    let images = if images.is_empty() { "none".to_owned() } else { images.join(" ") };
    format!("model {} · image {images} · seed {}", report.model, report.seed)
}
