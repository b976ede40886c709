//! `response_format`, and the form of reports: constraints on what an answer looks like.

use swinseek_kernels::Error;
use swinseek_language::constraint::{Constraint, Constraints};

use super::chat::ResponseFormat;
use super::error::{ApiError, ApiResult};
use super::state::App;

/// Longest schema, expression or grammar, in bytes.
const MAX_SOURCE: usize = 64 << 10;

/// A constraint for each choice; none for plain text.
pub(super) fn constraints(
    format: Option<&ResponseFormat>,
    choices: usize,
    app: &App,
) -> ApiResult<Vec<Box<dyn Constraint>>> {
    let Some(format) = format else {
        return Ok(Vec::new());
    };
    check_fields(format)?;
    if format.r#type == "text" {
        return Ok(Vec::new());
    }
    let makers = makers(app, "response_format")?;
    (0..choices).map(|_| constraint(format, makers)).collect()
}

/// The constraint on reports: their sections and, by choice, the words of the server's term file.
pub(super) fn report(app: &App, lexicon: bool) -> ApiResult<Box<dyn Constraint>> {
    let makers = makers(app, "images")?;
    if lexicon && app.lexicon.is_none() {
        let message = "this server has no term file (it is started with --lexicon FILE)";
        return Err(ApiError::unsupported("lexicon", message));
    }
    Ok(makers.report(app.lexicon.as_ref().filter(|_| lexicon)))
}

fn makers<'a>(app: &'a App, param: &str) -> ApiResult<&'a Constraints> {
    app.frontend.constraints().ok_or_else(|| {
        ApiError::unsupported(
            param,
            "answers of this model cannot be constrained: its vocabulary is not byte-level",
        )
    })
}

fn constraint(format: &ResponseFormat, makers: &Constraints) -> ApiResult<Box<dyn Constraint>> {
    let (param, made) = match format.r#type.as_str() {
        "json_object" => ("response_format", makers.json_object()),
        "regex" => {
            let regex = source("response_format.regex", format.regex.as_deref())?;
            ("response_format.regex", makers.regex(regex))
        }
        "grammar" => {
            let grammar = source("response_format.grammar", format.grammar.as_deref())?;
            ("response_format.grammar", makers.lark(grammar))
        }
        "json_schema" => {
            let param = "response_format.json_schema.schema";
            let schema = format.json_schema.as_ref().and_then(|schema| schema.schema.as_ref());
            let schema = schema.ok_or_else(|| ApiError::invalid(param, "the schema is missing"))?;
            let size = serde_json::to_string(schema).map_or(usize::MAX, |text| text.len());
            check_size(param, size)?;
            (param, makers.json_schema(schema))
        }
        _ => {
            let message = "the type is unknown, expected text, json_object, json_schema, regex or grammar";
            return Err(ApiError::invalid("response_format.type", message));
        }
    };
    made.map_err(|error| refused(&error, param))
}

/// What a format says of another format is a mistake, not to be passed over.
fn check_fields(format: &ResponseFormat) -> ApiResult<()> {
    let fields = [
        ("json_schema", format.json_schema.is_some()),
        ("regex", format.regex.is_some()),
        ("grammar", format.grammar.is_some()),
    ];
    match fields.iter().find(|(name, given)| *given && *name != format.r#type) {
        Some((name, _)) => {
            let message = format!("{name} belongs to the type `{name}`");
            Err(ApiError::invalid(format!("response_format.{name}"), message))
        }
        None => Ok(()),
    }
}

fn source<'a>(param: &str, text: Option<&'a str>) -> ApiResult<&'a str> {
    let text = text.filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| ApiError::invalid(param, "is missing or empty"))?;
    check_size(param, text.len())?;
    Ok(text)
}

fn check_size(param: &str, size: usize) -> ApiResult<()> {
    if size > MAX_SOURCE {
        return Err(ApiError::invalid(param, format!("has {size} bytes, at most {MAX_SOURCE} are read")));
    }
    Ok(())
}

fn refused(error: &Error, param: &str) -> ApiError {
    let message: String = error.to_string().chars().take(300).collect();
    ApiError::invalid(param, message).code("invalid_constraint")
}
