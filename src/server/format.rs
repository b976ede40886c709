//! `response_format`: constraints on what an answer looks like.

use swinseek_language::constraint::Constraint;

use super::chat::ResponseFormat;
use super::error::{ApiError, ApiResult};
use super::state::App;

/// A constraint for each choice; none for plain text.
pub(super) fn constraints(
    format: Option<&ResponseFormat>,
    _choices: usize,
    _app: &App,
) -> ApiResult<Vec<Box<dyn Constraint>>> {
    match format.map(|format| format.r#type.as_str()) {
        None | Some("text") => Ok(Vec::new()),
        Some("json_object" | "json_schema" | "regex" | "grammar") => {
            Err(ApiError::unsupported("response_format", "answers cannot be constrained here"))
        }
        Some(_) => {
            let message = "the type is unknown, expected text, json_object, json_schema, regex or grammar";
            Err(ApiError::invalid("response_format.type", message))
        }
    }
}
