//! How an image is written in a JSON body.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use axum::http::StatusCode;

use crate::server::error::{ApiError, ApiResult};

/// Standard alphabet; padding may be left out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Where the bytes of an image are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Here.
    Bytes(Vec<u8>),
    /// Behind an http(s) URL.
    Url(String),
}

impl Source {
    /// Reads the value of `image_url.url`: a data URI, an http(s) URL, or base64 alone. The size is checked before
    /// anything is decoded.
    pub(crate) fn parse(text: &str, max_bytes: u64, param: &str) -> ApiResult<Self> {
        let invalid = |message: &str| ApiError::invalid(param, message).code("invalid_image_url");
        if text.trim().is_empty() {
            return Err(invalid("the image is empty"));
        }
        if let Some(rest) = strip_scheme(text, "data:") {
            let (media, data) =
                rest.split_once(',').ok_or_else(|| invalid("the data URI has no comma before its data"))?;
            check_media_type(media).map_err(|message| invalid(&message))?;
            return Ok(Self::Bytes(decode(data, max_bytes, param)?));
        }
        if strip_scheme(text, "http://").is_some() || strip_scheme(text, "https://").is_some() {
            return Ok(Self::Url(text.to_owned()));
        }
        // A colon is in no base64 text, and begins every URL's scheme.
        if text.get(..64.min(text.len())).unwrap_or(text).contains(':') {
            return Err(invalid("only data URIs, base64 and http(s) URLs are read"));
        }
        Ok(Self::Bytes(decode(text, max_bytes, param)?))
    }
}

/// Schemes are written in any case.
fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let head = text.get(..scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then(|| &text[scheme.len()..])
}

/// `image/png;base64`, `application/dicom;base64`, `;base64`. What the bytes are is told by content later.
fn check_media_type(media: &str) -> Result<(), String> {
    let mut parts = media.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
    if !parts.any(|part| part.eq_ignore_ascii_case("base64")) {
        return Err("the data URI is not base64: write `data:image/png;base64,...`".to_owned());
    }
    let known = ["", "application/dicom", "application/octet-stream"];
    if kind.starts_with("image/") || known.contains(&kind.as_str()) {
        return Ok(());
    }
    Err("the data URI is neither image/* nor application/dicom".to_owned())
}

fn decode(text: &str, max_bytes: u64, param: &str) -> ApiResult<Vec<u8>> {
    let invalid = |message: &str| ApiError::invalid(param, message).code("invalid_base64");
    // Four characters are three bytes; line breaks and padding are few.
    if text.len() as u64 / 4 * 3 > max_bytes.saturating_add(max_bytes / 16 + 64) {
        return Err(too_large(max_bytes, param));
    }
    let folded: String;
    let text = if text.bytes().any(|b| b.is_ascii_whitespace()) {
        folded = text.split_ascii_whitespace().collect();
        &folded
    } else {
        text
    };
    let bytes = BASE64.decode(text).map_err(|_| invalid("the image is not valid base64"))?;
    if bytes.is_empty() {
        return Err(invalid("the image is empty"));
    }
    if bytes.len() as u64 > max_bytes {
        return Err(too_large(max_bytes, param));
    }
    Ok(bytes)
}

pub(super) fn too_large(max_bytes: u64, param: &str) -> ApiError {
    let message = format!("the image is larger than {max_bytes} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message).param(param).code("image_too_large")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_and_what_is_refused() {
        let parse = |text: &str| Source::parse(text, 100, "p");
        let bytes = |text: &str| Ok(Source::Bytes(text.as_bytes().to_vec()));
        assert_eq!(parse("data:image/png;base64,aGVsbG8="), bytes("hello"));
        assert_eq!(parse("DATA:application/dicom;BASE64,aGVsbG8"), bytes("hello"));
        assert_eq!(parse("data:;base64,aGVs\r\nbG8="), bytes("hello"));
        assert_eq!(parse("aGVsbG8="), bytes("hello"));
        assert_eq!(parse("HTTPS://host/x"), Ok(Source::Url("HTTPS://host/x".to_owned())));
        for bad in [
            "",
            " ",
            "data:image/png;base64",
            "data:image/png,abc",
            "data:text/html;base64,aGVsbG8=",
            "data:;base64,",
            "file:///etc/passwd",
            "gopher://x",
            "ftp://x/y",
            "a!b=",
            "data:image/png;base64,a",
            "blob:http://x",
            "javascript:alert(1)",
        ] {
            let error = parse(bad).expect_err(bad);
            assert_eq!((error.status.as_u16(), error.param.as_deref()), (400, Some("p")), "{bad}");
        }
        assert_eq!(parse(&"A".repeat(400)).expect_err("too large").status.as_u16(), 413);
        assert_eq!(parse(&"A".repeat(136)).expect_err("102 bytes").status.as_u16(), 413);
    }
}
