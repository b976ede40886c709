//! Records of JSON files, with the line each begins on.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// What a field or record has wrong.
pub(super) type Checked<T> = std::result::Result<T, String>;

/// A record, not yet looked into.
pub(super) type Raw<'a> = &'a RawValue;

/// Reads a whole file.
pub(super) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], file: &Path) -> Result<T> {
    // Editors on Windows put a mark in front.
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    serde_json::from_slice(bytes)
        .map_err(|error| Error::Data { origin: file.display().to_string(), message: error.to_string() })
}

/// Where a record stands: the line it begins on, counted only when it is asked for, and its JSON pointer.
pub(super) struct Place<'a> {
    pub(super) file: &'a [u8],
    pub(super) raw: Raw<'a>,
    pub(super) pointer: fmt::Arguments<'a>,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The record is a slice of the file.
        let start = (self.raw.get().as_ptr() as usize).saturating_sub(self.file.as_ptr() as usize);
        let before = self.file.get(..start).unwrap_or_default();
        let line = before.split(|&byte| byte == b'\n').count();
        write!(f, "line {line}: {}", self.pointer)
    }
}

/// The value of a record. What is wrong in it (a number out of range, half a surrogate pair) has no place of its own.
pub(super) fn value(raw: Raw<'_>) -> Checked<Value> {
    serde_json::from_str(raw.get()).map_err(|error| without_place(&error))
}

/// The fields of a record.
pub(super) fn record(raw: Raw<'_>) -> Checked<Map<String, Value>> {
    object(value(raw)?)
}

/// The message of an error without line and column, which count from the record.
pub(super) fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message).to_owned()
}

/// What a value is, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A record must be an object.
pub(super) fn object(value: Value) -> Checked<Map<String, Value>> {
    match value {
        Value::Object(record) => Ok(record),
        other => Err(format!("found {}, expected an object", kind(&other))),
    }
}

/// Takes the first of `names` that is there and not null out of a record.
pub(super) fn take<'a>(record: &mut Map<String, Value>, names: &[&'a str]) -> Option<(&'a str, Value)> {
    names.iter().find_map(|name| {
        record.get(*name).filter(|value| !value.is_null())?;
        record.shift_remove(*name).map(|value| (*name, value))
    })
}

/// The same, of a field that must be there.
pub(super) fn need<'a>(record: &mut Map<String, Value>, names: &[&'a str]) -> Checked<(&'a str, Value)> {
    take(record, names).ok_or_else(|| format!("field `{}` is missing", names.join("` or `")))
}

/// Text; a number counts as its digits.
pub(super) fn as_text(name: &str, value: Value) -> Checked<String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("field `{name}`: found {}, expected text", kind(&other))),
    }
}

/// A text, or a list of them.
pub(super) fn as_texts(name: &str, value: Value) -> Checked<Vec<String>> {
    match value {
        Value::Array(values) => values.into_iter().map(|value| as_text(name, value)).collect(),
        other => Ok(vec![as_text(name, other)?]),
    }
}

/// A list of at least one.
pub(super) fn as_list(name: &str, value: Value) -> Checked<Vec<Value>> {
    match value {
        Value::Array(values) if values.is_empty() => Err(format!("field `{name}`: the list is empty")),
        Value::Array(values) => Ok(values),
        other => Err(format!("field `{name}`: found {}, expected a list", kind(&other))),
    }
}

/// A text that must be there.
pub(super) fn text(record: &mut Map<String, Value>, names: &[&str]) -> Checked<String> {
    let (name, value) = need(record, names)?;
    as_text(name, value)
}

/// A text that may be left out.
pub(super) fn optional(record: &mut Map<String, Value>, names: &[&str]) -> Checked<Option<String>> {
    take(record, names).map(|(name, value)| as_text(name, value)).transpose()
}
