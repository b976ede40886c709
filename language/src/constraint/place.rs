//! Where in a JSON schema something is wrong, as a JSON pointer (RFC 6901).

use serde_json::{Map, Value};

/// Parts that are tried at most before the search settles for the place it has.
const MAX_TRIES: usize = 64;
/// Keywords whose value is a schema, a list of schemas, or (the last four) schemas by name.
const OF_ONE: [&str; 4] = ["items", "additionalItems", "additionalProperties", "not"];
const OF_LIST: [&str; 5] = ["prefixItems", "anyOf", "oneOf", "allOf", "items"];
const OF_NAMED: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];

/// The smallest part of `schema` that fails by itself with the message of the whole; `fault_of` says how a schema
/// fails. Gives the pointer (empty for the whole) and the message.
pub(super) fn fault(
    schema: &Value,
    message: String,
    fault_of: impl Fn(&Value) -> Option<String>,
) -> (String, String) {
    let (mut pointer, mut message, mut part) = (String::new(), message, schema);
    let mut tries = 0;
    'deeper: loop {
        for (step, child) in children(part) {
            tries += 1;
            if tries > MAX_TRIES {
                return (pointer, message);
            }
            if let Some(found) =
                fault_of(&with_definitions(child, schema)).filter(|f| message.contains(f.as_str()))
            {
                (part, message) = (child, found);
                pointer.push_str(&step);
                continue 'deeper;
            }
        }
        return (pointer, message);
    }
}

fn children(schema: &Value) -> Vec<(String, &Value)> {
    let Some(object) = schema.as_object() else { return Vec::new() };
    let mut found = Vec::new();
    for name in OF_ONE {
        found.extend(
            object.get(name).filter(|value| value.is_object()).map(|value| (format!("/{name}"), value)),
        );
    }
    for name in OF_LIST {
        let items = object.get(name).and_then(Value::as_array).into_iter().flatten();
        found.extend(items.enumerate().map(|(index, value)| (format!("/{name}/{index}"), value)));
    }
    for name in OF_NAMED {
        let entries = object.get(name).and_then(Value::as_object).into_iter().flatten();
        found.extend(entries.map(|(key, value)| (format!("/{name}/{}", escape(key)), value)));
    }
    found
}

/// A part keeps the definitions of the whole, so that its references still lead somewhere.
fn with_definitions(part: &Value, whole: &Value) -> Value {
    let Some(object) = part.as_object() else { return part.clone() };
    let mut object: Map<String, Value> = object.clone();
    for name in ["$defs", "definitions", "$schema"] {
        if let Some(definitions) = whole.get(name) {
            object.entry(name).or_insert_with(|| definitions.clone());
        }
    }
    Value::Object(object)
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// Pointer to a value that lies deeper than `limit` levels, if there is one.
pub(super) fn deeper_than(value: &Value, limit: usize) -> Option<String> {
    let children: Vec<(String, &Value)> = match value {
        Value::Array(items) => items.iter().enumerate().map(|(index, v)| (index.to_string(), v)).collect(),
        Value::Object(object) => object.iter().map(|(key, v)| (escape(key), v)).collect(),
        _ => return None,
    };
    if limit == 0 {
        return Some(String::new());
    }
    children
        .into_iter()
        .find_map(|(step, child)| deeper_than(child, limit - 1).map(|rest| format!("/{step}{rest}")))
}
