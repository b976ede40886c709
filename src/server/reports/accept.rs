//! Which form of a report a client wants.

use axum::http::{HeaderMap, StatusCode, header};

use crate::formats::{fhir, sr, text};
use crate::server::error::{ApiError, ApiResult};

/// A form in which a report leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The report with its evidence.
    Json,
    /// For people.
    Text,
    /// A DiagnosticReport.
    Fhir,
    /// A Basic Text SR.
    Dicom,
    /// Events while it is written, then the JSON form.
    Events,
}

const FORMS: [(&str, Form); 6] = [
    ("application/json", Form::Json),
    ("text/plain", Form::Text),
    (fhir::MEDIA_TYPE, Form::Fhir),
    ("application/json+fhir", Form::Fhir),
    (sr::MEDIA_TYPE, Form::Dicom),
    ("text/event-stream", Form::Events),
];

impl Form {
    /// Its `Content-Type`.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Text => text::MEDIA_TYPE,
            Self::Fhir => fhir::MEDIA_TYPE,
            Self::Dicom => sr::MEDIA_TYPE,
            Self::Events => "text/event-stream",
        }
    }

    /// The form that `Accept` likes best; JSON when it says nothing. 406 when it likes none.
    pub(super) fn accepted(headers: &HeaderMap) -> ApiResult<Self> {
        let lists: Vec<&str> =
            headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
        let wishes = lists.join(",");
        if wishes.trim().is_empty() {
            return Ok(Self::Json);
        }
        let mut best: Option<(f32, Self)> = None;
        for range in wishes.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
            let matches = |media: &str| {
                kind == "*/*"
                    || kind == media
                    || kind.strip_suffix("/*").is_some_and(|t| media.split('/').next() == Some(t))
            };
            if let Some((_, form)) = FORMS.iter().find(|(media, _)| matches(media))
                && quality > 0.0
                && best.is_none_or(|(found, _)| quality > found)
            {
                best = Some((quality, *form));
            }
        }
        best.map(|(_, form)| form).ok_or_else(|| {
            let message = "a report comes as application/json, text/plain, application/fhir+json, application/dicom or \
                text/event-stream";
            ApiError::new(StatusCode::NOT_ACCEPTABLE, message).code("not_acceptable")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_liked_form_wins() {
        let accepted = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, text.parse().expect("a value"));
            Form::accepted(&headers).ok()
        };
        for (text, form) in [
            ("", Some(Form::Json)),
            ("*/*", Some(Form::Json)),
            ("application/*", Some(Form::Json)),
            ("text/*", Some(Form::Text)),
            ("Application/FHIR+JSON; fhirVersion=4.0", Some(Form::Fhir)),
            ("application/json;q=0.5, application/dicom", Some(Form::Dicom)),
            ("text/html, text/plain;q=0.9, */*;q=0.1", Some(Form::Text)),
            ("text/event-stream", Some(Form::Events)),
            ("image/png", None),
            ("application/json;q=0", None),
        ] {
            assert_eq!(accepted(text), form, "{text}");
        }
    }
}
