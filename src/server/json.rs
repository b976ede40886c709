//! JSON bodies: read into a type, with the path of what is wrong.

use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};

use super::error::{ApiError, ApiResult};

/// 415 unless the body says that it is JSON. A form on another site cannot say so without asking first.
pub(super) fn check_content_type(headers: &HeaderMap) -> ApiResult<()> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = "the body must be JSON, with the header `Content-Type: application/json`";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).code("unsupported_media_type"))
}

/// Reads a body. Depth is bounded by `serde_json` (128); unknown and doubled fields are refused by the types.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> ApiResult<T> {
    // Serde would take a list for a struct, field by field.
    if bytes.trim_ascii_start().first().is_some_and(|&first| first == b'[') {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "the body is no JSON object").code("invalid_type"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = dotted(error.path());
        wrong(error.inner(), path)
    })?;
    reader.end().map_err(|error| wrong(&error, String::new()))?;
    Ok(value)
}

/// The message keeps names, types and places, never values: those are content.
fn wrong(error: &serde_json::Error, path: String) -> ApiError {
    if !error.is_data() {
        let message =
            format!("the body is not valid JSON (line {}, column {})", error.line(), error.column());
        return ApiError::new(StatusCode::BAD_REQUEST, message).code("invalid_json");
    }
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    if let Some(field) = text.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) {
        let field: String = field.chars().filter(|c| !c.is_control()).take(64).collect();
        // The path may or may not end with the field, depending on how far the type had read.
        let own = path == field || path.strip_suffix(&field).is_some_and(|head| head.ends_with('.'));
        let param = match (path.is_empty(), own) {
            (true, _) => field,
            (false, true) => path,
            (false, false) => format!("{path}.{field}"),
        };
        let message = format!("unknown parameter: `{param}`");
        return ApiError::invalid(param, message).code("unknown_parameter");
    }
    let message = without_value(text);
    let error = ApiError::new(StatusCode::BAD_REQUEST, message).code("invalid_type");
    let named = text.strip_prefix("missing field `").or_else(|| text.strip_prefix("duplicate field `"));
    match named.and_then(|rest| rest.split('`').next()) {
        Some(field) if path.is_empty() => error.param(field),
        Some(field) => error.param(format!("{path}.{field}")),
        None if path.is_empty() => error,
        None => error.param(path),
    }
}

/// ``invalid type: string "secret", expected f64`` without the secret.
fn without_value(text: &str) -> String {
    let Some((head, expected)) = text.rsplit_once(", expected ") else {
        return text.chars().take(200).collect();
    };
    let kind = head.split(['`', '"']).next().unwrap_or(head).trim_end();
    format!("{kind}, expected {expected}")
}

/// `messages[0].content` as OpenAI writes it: `messages.0.content`.
fn dotted(path: &Path) -> String {
    let segments = path.iter().map(|segment| match segment {
        Segment::Seq { index } => index.to_string(),
        Segment::Map { key } | Segment::Enum { variant: key } => key.chars().take(64).collect(),
        Segment::Unknown => "?".to_owned(),
    });
    segments.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Outer {
        list: Vec<Inner>,
    }
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Inner {
        number: f64,
    }

    #[test]
    fn errors_have_a_path_and_no_content() {
        let error = |text: &str| parse::<Outer>(text.as_bytes()).expect_err(text);
        let cases = [
            (r#"{"list":[{"number":1},{"number":"secret"}]}"#, Some("list.1.number"), "invalid_type"),
            (r#"{"list":[{"other":1}]}"#, Some("list.0.other"), "unknown_parameter"),
            (r#"{"list":[{}]}"#, Some("list.0.number"), "invalid_type"),
            (r"{}", Some("list"), "invalid_type"),
            (r#"{"list":[],"list":[]}"#, Some("list"), "invalid_type"),
            (r#"{"list":[]} x"#, None, "invalid_json"),
            (r#"{"list":["#, None, "invalid_json"),
            (r#"{"list":[{"number":1e999}]}"#, None, "invalid_json"),
        ];
        for (text, param, code) in cases {
            let error = error(text);
            assert_eq!((error.param.as_deref(), error.code), (param, Some(code)), "{text}: {error:?}");
            assert!(!error.message.contains("secret"), "{error:?}");
        }
        assert_eq!(error(&format!("{{\"list\":{}", "[".repeat(10_000))).code, Some("invalid_type"));
    }
}
