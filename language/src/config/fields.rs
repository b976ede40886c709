//! Typed reading of a JSON object, with errors that name the field, what was found and what was expected.

use serde_json::{Map, Value};
use swinseek_kernels::{Error, Result};

/// Sizes above this are a damaged file, not a model.
const MAX_SIZE: u64 = 1 << 24;

/// One object of a `config.json`.
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    /// Reads `value`, which stands at the dotted `path` (empty for the whole file).
    pub(crate) fn new(value: &'a Value, path: &str) -> Result<Self> {
        match value.as_object() {
            Some(object) => Ok(Self { object, path: path.to_owned() }),
            None => Err(Error::config(path, format!("found {}, expected an object", brief(value)))),
        }
    }

    /// Dotted path of the field `name`.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// An error about the field `name`, quoting what stands there.
    pub(crate) fn error(&self, name: &str, expected: &str) -> Error {
        let found = self.object.get(name).map_or_else(|| "nothing".to_owned(), brief);
        Error::config(self.path(name), format!("found {found}, expected {expected}"))
    }

    /// Whether the field is written down, be it as `null`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    /// The value, unless it is missing or `null`.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A positive size that must be there.
    pub(crate) fn size(&self, name: &str) -> Result<usize> {
        self.optional_size(name)?.ok_or_else(|| self.error(name, "a positive integer"))
    }

    /// A positive size, or `default` when it is missing or `null`.
    pub(crate) fn size_or(&self, name: &str, default: usize) -> Result<usize> {
        Ok(self.optional_size(name)?.unwrap_or(default))
    }

    /// A positive size; `None` for `null`, `default` when it is missing.
    pub(crate) fn nullable_size(&self, name: &str, default: Option<usize>) -> Result<Option<usize>> {
        if self.has(name) { self.optional_size(name) } else { Ok(default) }
    }

    /// A positive size, if it is there.
    pub(crate) fn optional_size(&self, name: &str) -> Result<Option<usize>> {
        match self.count(name)? {
            Some(0) => Err(self.error(name, "a positive integer")),
            other => Ok(other),
        }
    }

    /// An integer of at least 0, if it is there.
    pub(crate) fn count(&self, name: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match integer(value) {
            Some(n) if n <= MAX_SIZE => Ok(Some(n as usize)),
            _ => Err(self.error(name, &format!("an integer from 0 to {MAX_SIZE}"))),
        }
    }

    /// A finite number, if it is there.
    pub(crate) fn number(&self, name: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(self.error(name, "a number")),
        }
    }

    /// A number above 0, or `default` when it is missing or `null`.
    pub(crate) fn positive_or(&self, name: &str, default: f64) -> Result<f64> {
        match self.number(name)? {
            Some(number) if number <= 0.0 => Err(self.error(name, "a number above 0")),
            other => Ok(other.unwrap_or(default)),
        }
    }

    /// `true` or `false`, or `default` when it is missing or `null`.
    pub(crate) fn flag_or(&self, name: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(name) else {
            return Ok(default);
        };
        value.as_bool().ok_or_else(|| self.error(name, "true or false"))
    }

    /// One of the named values, if the field is there.
    pub(crate) fn choice<T: Copy>(&self, name: &str, known: &[(&str, T)]) -> Result<Option<T>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let found = value.as_str().and_then(|text| known.iter().find(|(word, _)| *word == text));
        found.map(|&(_, meaning)| Some(meaning)).ok_or_else(|| {
            let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
            self.error(name, &format!("one of {}", words.join(", ")))
        })
    }

    /// A list, if the field is there.
    pub(crate) fn list(&self, name: &str) -> Result<Option<&'a Vec<Value>>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value.as_array().map(Some).ok_or_else(|| self.error(name, "a list"))
    }

    /// A list of integers of at least 0; a single integer stands for a list of one.
    pub(crate) fn integers(&self, name: &str) -> Result<Option<Vec<usize>>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let items = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
        let read = |item: &Value| integer(item).filter(|&n| n <= MAX_SIZE).map(|n| n as usize);
        let numbers: Option<Vec<usize>> = items.iter().map(read).collect();
        numbers.map(Some).ok_or_else(|| self.error(name, "integers of at least 0"))
    }
}

/// Some writers store integers as `4096.0`.
fn integer(value: &Value) -> Option<u64> {
    let float = || value.as_f64().filter(|x| x.fract() == 0.0 && *x >= 0.0 && *x <= MAX_SIZE as f64);
    value.as_u64().or_else(|| float().map(|x| x as u64))
}

/// The value as it may stand in an error message of one line.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 {
        return text;
    }
    text.chars().take(57).collect::<String>() + "..."
}
