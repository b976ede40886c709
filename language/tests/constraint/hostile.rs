//! Requests that mean harm: refused or bounded, never a crash.

use serde_json::{Value, json};
use swinseek_language::Constraint;

use crate::support::constraints;

/// Drives a constraint that was accepted for some steps, always with the last of the allowed ids.
fn drive(constraint: &mut dyn Constraint) {
    for _ in 0..20 {
        let Ok(mask) = constraint.allowed() else { return };
        let Some(&id) = mask.ids().last() else { return };
        if constraint.is_done() || constraint.accept(id).is_err() {
            return;
        }
    }
}

#[test]
fn expressions_that_explode_are_bounded() {
    let (_, constraints) = constraints();
    let nested = format!("{}a{}", "(".repeat(400), ")".repeat(400));
    let long = "a?".repeat(4000) + &"a".repeat(4000);
    for expression in [
        "(a{1,1000}){1,1000}",
        "((((a{1,100}){1,100}){1,100}){1,100})",
        "((a*)*)*b",
        "(a|aa)+$",
        r"(\w{0,500}\d{0,500}){0,500}x",
        r"\p{L}{1,2000}\p{N}{1,2000}",
        nested.as_str(),
        long.as_str(),
    ] {
        if let Ok(mut constraint) = constraints.regex(expression) {
            drive(&mut *constraint);
        }
    }
    assert!(constraints.regex(&"a".repeat(20_000)).is_err());
}

#[test]
fn schemas_that_explode_are_bounded() {
    let (_, constraints) = constraints();
    let nest = |levels: usize| {
        (0..levels).fold(json!({"type": "string"}), |inner, _| json!({"type": "array", "items": inner}))
    };
    assert!(constraints.json_schema(&nest(60)).is_err() || constraints.json_schema(&nest(20)).is_ok());
    let deep = match constraints.json_schema(&nest(100)) {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    };
    assert!(deep.contains("/items/items/items") && deep.contains("nested deeper than 64"), "{deep}");
    let doubling: Vec<Value> = (0..12)
        .map(|n| json!({"properties": {format!("p{n}"): {"anyOf": [{"type": "string"}, {"type": "null"}]}}, "required": [format!("p{n}")]}))
        .collect();
    let wide: serde_json::Map<String, Value> = (0..2000)
        .map(|n| (format!("property_{n}"), json!({"type": "string", "pattern": "(a|b)*c{1,50}"})))
        .collect();
    for schema in [
        json!({"$ref": "#"}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
        json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}),
        json!({"allOf": doubling}),
        json!({"type": "object", "properties": wide}),
        json!({"type": "array", "items": {"type": "string"}, "minItems": 1_000_000}),
        json!({"type": "array", "minItems": 18446744073709551615u64}),
        json!({"type": "string", "minLength": 1_000_000, "maxLength": 2_000_000}),
        json!({"type": "number", "multipleOf": 1e-300}),
        json!({"type": "integer", "minimum": -1e308, "maximum": 1e308}),
        json!({"type": "string", "pattern": "(a{1,1000}){1,1000}"}),
        json!({"enum": [], "type": []}),
    ] {
        if let Ok(mut constraint) = constraints.json_schema(&schema) {
            drive(&mut *constraint);
        }
    }
}

#[test]
fn grammars_that_explode_are_bounded() {
    let (_, constraints) = constraints();
    let deep = format!("start: {}\"a\"{}", "(".repeat(5000), ")".repeat(5000));
    let chain = (0..500).map(|n| format!("r{n}: r{0} r{0}\n", n + 1)).collect::<Vec<_>>().concat();
    let chain = format!("start: r0\n{chain}r500: \"a\"?\n");
    for grammar in [
        "start: start start | \"a\" | ",
        "start: a\na: b\nb: a\n",
        "start: /(a{1,1000}){1,1000}/",
        "start: \"a\"{1000000}",
        "start: (\"a\"?){5000}",
        "%import common.NOTHING\nstart: NOTHING",
        "start: %json {\"type\": ",
        "\u{0}",
        deep.as_str(),
        chain.as_str(),
    ] {
        if let Ok(mut constraint) = constraints.lark(grammar) {
            drive(&mut *constraint);
        }
    }
}
