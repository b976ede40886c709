//! Reading a JSON object field by field, with errors that name the field.

use serde_json::{Map, Value};
use swinseek_kernels::{Error, Result};

/// Bound on every size in a configuration: far above any published model, low enough that products stay in range.
const MAX_SIZE: u64 = 65_536;

/// A JSON object and its dotted path inside `config.json`.
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    /// The top-level object.
    pub(crate) fn new(value: &'a Value) -> Result<Self> {
        let object = value
            .as_object()
            .ok_or_else(|| Error::config("vision", format!("found {}, expected an object", brief(value))))?;
        Ok(Self { object, path: String::new() })
    }

    /// The object inside field `name`, if there is one.
    pub(crate) fn child(&self, name: &str) -> Result<Option<Fields<'a>>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let object = value.as_object().ok_or_else(|| self.wrong(name, value, "an object"))?;
        Ok(Some(Fields { object, path: format!("{}{name}.", self.path) }))
    }

    /// The field's value; `null` counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Names of all fields.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.object.keys().map(String::as_str)
    }

    /// An error about field `name`.
    pub(crate) fn error(&self, name: &str, message: impl Into<String>) -> Error {
        Error::config(format!("{}{name}", self.path), message)
    }

    fn wrong(&self, name: &str, found: &Value, expected: &str) -> Error {
        self.error(name, format!("found {}, expected {expected}", brief(found)))
    }

    /// Reads field `name` by `read`, or gives `None` when it is absent.
    fn read<T>(&self, name: &str, expected: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        read(value).map(Some).ok_or_else(|| self.wrong(name, value, expected))
    }

    /// A whole number from 1 on.
    pub(crate) fn size(&self, name: &str) -> Result<Option<usize>> {
        self.read(name, "a whole number from 1 to 65536", |v| count(v, 1))
    }

    /// A whole number from 0 on.
    pub(crate) fn count(&self, name: &str) -> Result<Option<usize>> {
        self.read(name, "a whole number from 0 to 65536", |v| count(v, 0))
    }

    /// A list of whole numbers from 1 on.
    pub(crate) fn sizes(&self, name: &str) -> Result<Option<Vec<usize>>> {
        self.read(name, "a list of whole numbers from 1 to 65536", |v| {
            v.as_array()?.iter().map(|item| count(item, 1)).collect()
        })
    }

    /// One whole number from 1 on for both axes, or `[height, width]`.
    pub(crate) fn pair(&self, name: &str) -> Result<Option<(usize, usize)>> {
        self.read(name, "a whole number from 1 to 65536 or [height, width]", |v| pair(v, 1))
    }

    /// One entry per stage, each a number or `[height, width]`; 0 is allowed.
    pub(crate) fn stage_pairs(&self, name: &str) -> Result<Option<Vec<(usize, usize)>>> {
        self.read(name, "a list of whole numbers, one per stage", |v| {
            v.as_array()?.iter().map(|item| pair(item, 0)).collect()
        })
    }

    /// A finite number above 0.
    pub(crate) fn positive(&self, name: &str) -> Result<Option<f64>> {
        self.read(name, "a number above 0", |v| v.as_f64().filter(|x| x.is_finite() && *x > 0.0))
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>> {
        self.read(name, "true or false", Value::as_bool)
    }

    /// A string.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value.as_str().map(Some).ok_or_else(|| self.wrong(name, value, "a string"))
    }

    /// A list of strings.
    pub(crate) fn texts(&self, name: &str) -> Result<Option<Vec<&'a str>>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let list = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        list.map(Some).ok_or_else(|| self.wrong(name, value, "a list of strings"))
    }
}

/// `value` as a whole number from `least` to the bound.
pub(crate) fn count(value: &Value, least: u64) -> Option<usize> {
    value.as_u64().filter(|n| (least..=MAX_SIZE).contains(n)).map(|n| n as usize)
}

/// `value` as one number for both axes, or as `[height, width]`.
pub(crate) fn pair(value: &Value, least: u64) -> Option<(usize, usize)> {
    match value.as_array().map(Vec::as_slice) {
        None => count(value, least).map(|n| (n, n)),
        Some([height, width]) => Some((count(height, least)?, count(width, least)?)),
        Some(_) => None,
    }
}

/// The value as it stands in the file, cut to a readable length.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
