//! JSON, regular expressions, grammars, choices.

use regex::Regex;
use serde_json::{Value, json};
use swinseek_language::sampler::{Sampler, SamplingParams, log_softmax};
use swinseek_language::{Constraint, TokenMask};

use crate::support::{EOS, constraints, masks_agree, write};

const SEEDS: u64 = 12;

/// Texts of a noisy model, all of which ended.
fn texts(new: impl Fn() -> Box<dyn Constraint>) -> Vec<String> {
    let (tokenizer, _) = constraints();
    (0..SEEDS)
        .map(|seed| write(&tokenizer, &mut *new(), seed).unwrap_or_else(|| panic!("seed {seed}")))
        .collect()
}

type Check = fn(&Value) -> bool;

#[test]
fn schemas_give_json_that_they_accept() {
    let (_, constraints) = constraints();
    let cases: [(Value, Check); 7] = [
        (json!({"type": "object"}), Value::is_object),
        (json!({"type": "integer", "minimum": 3, "maximum": 120}), |v| {
            v.as_i64().is_some_and(|n| (3..=120).contains(&n))
        }),
        (json!({"enum": ["yes", "no", 7, null]}), |v| {
            [json!("yes"), json!("no"), json!(7), json!(null)].contains(v)
        }),
        (json!({"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4}), |v| {
            v.as_array().is_some_and(|a| (2..=4).contains(&a.len()) && a.iter().all(Value::is_boolean))
        }),
        (json!({"type": "string", "pattern": "^[a-f]{2,5}$"}), |v| {
            v.as_str()
                .is_some_and(|s| (2..=5).contains(&s.len()) && s.bytes().all(|b| (b'a'..=b'f').contains(&b)))
        }),
        (
            json!({"type": "object", "properties": {
                "findings": {"type": "array", "items": {"type": "string", "maxLength": 30}, "maxItems": 3},
                "normal": {"type": "boolean"}},
                "required": ["findings", "normal"], "additionalProperties": false}),
            |v| {
                let object = v.as_object().unwrap();
                object.len() == 2
                    && v["normal"].is_boolean()
                    && v["findings"].as_array().is_some_and(|a| {
                        a.len() <= 3 && a.iter().all(|s| s.as_str().is_some_and(|s| s.chars().count() <= 30))
                    })
            },
        ),
        (
            json!({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object",
                "properties": {"value": {"type": "integer"}, "next": {"$ref": "#/$defs/tree"}},
                "required": ["value"], "additionalProperties": false}}}),
            |v| {
                let mut node = v;
                while let Some(next) = node.get("next") {
                    node = next;
                }
                node["value"].is_i64() || node["value"].is_u64() || node["value"].is_number()
            },
        ),
    ];
    for (schema, check) in cases {
        for text in texts(|| constraints.json_schema(&schema).unwrap()) {
            let value: Value =
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("{schema}: {text:?}: {e}"));
            assert!(check(&value), "{schema} does not accept {text}");
        }
    }
    let string = Regex::new(r#""(\\.|[^"\\])*""#).unwrap();
    for text in texts(|| constraints.json_object().unwrap()) {
        assert!(serde_json::from_str::<Value>(&text).unwrap().is_object());
        // Outside of texts there is a space at most: blanks never run on.
        let bare = string.replace_all(&text, "s");
        assert!(!bare.contains("  ") && !bare.contains('\n'), "{text:?}");
    }
}

#[test]
fn expressions_give_text_that_they_match() {
    let (_, constraints) = constraints();
    for expression in [
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
        r"^(yes|no|maybe)$",
        r"(?i)normal|abnormal( [a-z]{1,9}){0,3}\.",
        r"\w{3,8}/\d+ (cm|mm)\n?",
        r"[äöüß心]{2}[^\x00-\x7f]",
    ] {
        let whole = Regex::new(&format!("^(?:{expression})$")).unwrap();
        for text in texts(|| constraints.regex(expression).unwrap()) {
            assert!(whole.is_match(&text), "{expression} does not match {text:?}");
        }
    }
}

#[test]
fn grammars_and_choices_give_what_they_list() {
    let (_, constraints) = constraints();
    let grammar = "start: side \" lung\" (\" and \" side \" hilum\")?\nside: \"left\" | \"right\"\n";
    let matching = Regex::new("^(left|right) lung( and (left|right) hilum)?$").unwrap();
    for text in texts(|| constraints.lark(grammar).unwrap()) {
        assert!(matching.is_match(&text), "{text:?}");
    }
    // One is the beginning of another; others hold what an expression would read as a sign.
    let choices = ["no", "no effusion", "a.b/c", "(x|y)*", "“naïve”\n"].map(String::from);
    let written = texts(|| constraints.choice(&choices).unwrap());
    assert!(written.iter().all(|text| choices.contains(text)), "{written:?}");
    assert!(written.iter().any(|text| text != &written[0]), "{written:?}");
}

#[test]
fn masks_are_what_is_accepted() {
    let (tokenizer, constraints) = constraints();
    let vocab_size = tokenizer.vocab_size() as u32;
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
    for steps in [0, 3, 7] {
        masks_agree(&|| constraints.json_schema(&schema).unwrap(), vocab_size, 5 + steps as u64, steps);
    }
}

#[test]
fn the_end_comes_where_the_text_is_complete_and_only_there() {
    let (tokenizer, constraints) = constraints();
    let mut constraint = constraints.choice(&["no".to_owned(), "no effusion".to_owned()]).unwrap();
    assert!(!constraint.allowed().unwrap().contains(EOS));
    assert!(constraint.accept(EOS).is_err());
    for id in tokenizer.encode("no", false).unwrap() {
        constraint.accept(id).unwrap();
    }
    assert!(!constraint.is_done());
    assert!(constraint.allowed().unwrap().contains(EOS));
    constraint.accept(EOS).unwrap();
    assert!(constraint.is_done());
    assert_eq!(constraint.allowed().unwrap().ids(), [EOS]);

    let mut constraint = constraints.choice(&["no".to_owned()]).unwrap();
    for id in tokenizer.encode("no", false).unwrap() {
        constraint.accept(id).unwrap();
    }
    assert!(constraint.is_done(), "nothing can follow");
    assert!(constraint.accept(5).is_err());
}

#[test]
fn control_tokens_are_out_of_reach_of_any_grammar() {
    let (_, constraints) = constraints();
    // By spelling, by any character, by number.
    for grammar in ["start: /(.|\\n)*/", "start: \"<image>\" | \"<bos>\""] {
        let ids = constraints.lark(grammar).unwrap().allowed().unwrap().ids();
        assert!(!ids.contains(&0) && !ids.contains(&2), "{grammar}");
    }
    if let Ok(mut constraint) = constraints.lark("start: <[2]>") {
        assert!(constraint.allowed().is_err());
    }
}

#[test]
fn errors_name_the_place() {
    let (_, constraints) = constraints();
    let message = |result: swinseek_kernels::Result<Box<dyn Constraint>>| match result {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    };
    let schema =
        json!({"type": "object", "properties": {"list": {"type": "array", "items": {"type": "strnig"}}}});
    let found = message(constraints.json_schema(&schema));
    assert!(found.contains("`json_schema`: /properties/list/items: ") && found.contains("strnig"), "{found}");
    let schema = json!({"type": "object", "properties": {"a/b": {"type": "string", "if": true}}});
    let found = message(constraints.json_schema(&schema));
    assert!(found.contains("`json_schema`: /properties/a~1b: ") && found.contains("\"if\""), "{found}");
    for (schema, expected) in [
        (json!(false), "/: accepts nothing"),
        (json!("string"), "/: "),
        (json!({"x-guidance": {"lenient": true}}), "x-guidance is no keyword"),
        (json!({"$ref": "https://example.org/schema.json"}), "/: "),
        (json!({"allOf": [{"type": "string"}, {"type": "integer"}]}), "/: "),
    ] {
        let found = message(constraints.json_schema(&schema));
        assert!(found.contains(expected), "{schema}: {found}");
    }
    let found = message(constraints.regex("ab(c|d"));
    assert!(found.contains("`regex`: line 1, column 3: unclosed group"), "{found}");
    let found = message(constraints.regex(r"a\bc"));
    assert!(found.contains("`regex`: the expression cannot be used: look"), "{found}");
    let found = message(constraints.lark("start: \"a\"\nrule: (\"b\" | \n"));
    assert!(found.contains("`grammar`: line "), "{found}");
    let found = message(constraints.lark("start: missing_rule\n"));
    assert!(found.contains("missing_rule"), "{found}");
    assert!(message(constraints.choice(&[])).contains("`choice`: the list is empty"));
    assert!(
        message(constraints.choice(&["a".into(), String::new()])).contains("`choice[1]`: the text is empty")
    );
}

#[test]
fn a_mask_changes_the_choice_and_nothing_else() {
    let logits = [3.0_f32, 2.0, 1.0, 0.0, -1.0];
    let exact = log_softmax(&logits);
    let sample = |temperature: f64, mask: Option<&TokenMask>| {
        let params = SamplingParams { temperature, seed: 9, top_logprobs: 2, ..SamplingParams::default() };
        let mut sampler = Sampler::new(params).unwrap();
        match mask {
            Some(mask) => sampler.sample_allowed(&logits, &[], mask).unwrap(),
            None => sampler.sample(&logits, &[]).unwrap(),
        }
    };
    let greedy = sample(0.0, Some(&TokenMask::of(5, &[2, 4])));
    assert_eq!((greedy.id, greedy.logprob), (2, exact[2]), "the log-probability is the model's own");
    assert_eq!(greedy.top_logprobs, [(0, exact[0]), (1, exact[1])], "and so are those of the others");
    let all = TokenMask::of(5, &[0, 1, 2, 3, 4]);
    for temperature in [0.0, 0.7, 2.0] {
        assert_eq!(sample(temperature, Some(&all)), sample(temperature, None));
    }
    // Filters work on what the mask leaves over: with top-k 1 the best allowed token.
    let params = SamplingParams { temperature: 1.0, top_k: 1, top_p: 0.5, ..SamplingParams::default() };
    let mut sampler = Sampler::new(params).unwrap();
    assert_eq!(sampler.sample_allowed(&logits, &[], &TokenMask::of(4, &[3])).unwrap().id, 3);
    // Ids past the mask's end, the padding of a vocabulary, are not allowed.
    assert_eq!(sampler.sample_allowed(&logits, &[], &TokenMask::of(2, &[1, 4])).unwrap().id, 1);
    assert!(sampler.sample_allowed(&logits, &[], &TokenMask::of(5, &[])).is_err());
}
