//! Chat templates against Jinja2 (`goldens/templates.json`, written by `goldens/make_templates.py`) and the published
//! formats of the DeepSeek family.

use proptest::prelude::*;
use serde_json::{Value, json};
use swinseek_language::prompt::{
    Builtin, ChatTemplate, Content, Message, OWN_TEMPLATE, Part, SPECIAL_TOKENS,
};
use swinseek_language::tokenizer::Tokenizer;

fn tokens() -> Value {
    json!({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "image_token": "<image>"})
}

fn conversation(turns: &[(&str, &str)]) -> Vec<Message> {
    turns.iter().map(|(role, text)| Message::text(*role, *text)).collect()
}

#[test]
fn templates_render_as_in_jinja2() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/templates.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 60);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let template = ChatTemplate::new(golden["templates"][name].as_str().unwrap(), &tokens())
            .unwrap()
            .with_now(golden["now"].as_i64().unwrap())
            .with_variable("variables_tools", golden["tools"].clone());
        let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
        let found = template.render(&messages, case["add_generation_prompt"] == true);
        match case["expected"]["error"].as_str() {
            Some(error) => assert!(found.unwrap_err().to_string().contains(error), "{name}"),
            None => assert_eq!(found.unwrap(), case["expected"].as_str().unwrap(), "{name}"),
        }
    }
}

#[test]
fn published_formats_are_exact() {
    let render = |builtin: Builtin, turns: &[(&str, &str)], open: bool| {
        ChatTemplate::new(&builtin.source(), &tokens()).unwrap().render(&conversation(turns), open).unwrap()
    };
    let turns =
        [("system", "Be brief."), ("user", "Hello!"), ("assistant", "<think>x</think>Hi."), ("user", "Who?")];
    let plain = [("user", "Hello!"), ("assistant", "Hi."), ("user", "Who?")];
    assert_eq!(
        render(Builtin::DeepSeekLlm, &plain, true),
        "<s>User: Hello!\n\nAssistant: Hi.</s>User: Who?\n\nAssistant:"
    );
    assert_eq!(render(Builtin::DeepSeekLlm, &turns[..2], false), "<s>Be brief.\n\nUser: Hello!\n\n");
    assert_eq!(
        render(Builtin::DeepSeekV3, &turns, true),
        "<s>Be brief.<｜User｜>Hello!<｜Assistant｜>Hi.</s><｜User｜>Who?<｜Assistant｜>"
    );
    assert_eq!(
        render(Builtin::DeepSeekV3, &[("system", "A"), ("system", "B"), ("user", "C")], false),
        "<s>A\n\nB<｜User｜>C"
    );
    assert_eq!(
        render(Builtin::DeepSeekV31, &turns, true),
        "<s>Be brief.<｜User｜>Hello!<｜Assistant｜></think>Hi.</s><｜User｜>Who?<｜Assistant｜></think>"
    );
    let thinking = ChatTemplate::new(&Builtin::DeepSeekV31.source(), &tokens()).unwrap();
    let thinking = thinking.with_variable("thinking", true.into());
    assert!(
        thinking
            .render(&conversation(&plain), true)
            .unwrap()
            .ends_with("<｜User｜>Who?<｜Assistant｜><think>")
    );
    let vl2 = ChatTemplate::new(&Builtin::DeepSeekVl2.source(), &tokens()).unwrap();
    assert_eq!(
        vl2.render(&[Message::user("What is it?", 2)], true).unwrap(),
        "<s><|User|>: <image>\n<image>\nWhat is it?\n\n<|Assistant|>:"
    );
}

#[test]
fn our_own_format_is_exact() {
    let template = ChatTemplate::from_tokenizer_config(&tokens()).unwrap();
    let mut messages =
        vec![Message::text("system", "S"), Message::user("Q?", 1), Message::text("assistant", "A.")];
    assert_eq!(template.render(&messages, false).unwrap(), "<s>S<user><image>Q?<assistant>A.</s>");
    messages.push(Message {
        role: "user".into(),
        content: Content::Parts(vec![
            Part::Text { text: "x".into() },
            Part::Image,
            Part::Text { text: "y".into() },
        ]),
        other: serde_json::Map::new(),
    });
    assert_eq!(messages.iter().map(Message::images).sum::<usize>(), 2);
    assert!(template.render(&messages, true).unwrap().ends_with("</s><user>x<image>y<assistant>"));
    messages.push(Message::text("system", "late"));
    let message = template.render(&messages, true).unwrap_err().to_string();
    assert!(message.contains("role `system`") && message.contains("line 6"), "{message}");
}

/// A tokenizer with our special tokens and a few merges.
fn tokenizer() -> Tokenizer {
    static TOKENIZER: std::sync::LazyLock<Tokenizer> = std::sync::LazyLock::new(|| {
        let texts = ["User: the nodule", "User: the lungs", "Assistant: the nodule the"];
        Tokenizer::train_bpe(texts.into_iter(), 300, &SPECIAL_TOKENS).unwrap()
    });
    TOKENIZER.clone()
}

#[test]
fn images_become_their_token() {
    let tokenizer = tokenizer();
    let template = ChatTemplate::for_tokenizer(&tokenizer, &Value::Null).unwrap();
    let ids = template.encode(&tokenizer, &[Message::user("the nodule", 2)], true).unwrap();
    assert_eq!((&ids[..4], ids.last()), (&[1, 4, 3, 3][..], Some(&5)));
    assert_eq!(tokenizer.decode(&ids).unwrap(), "the nodule");
    let published =
        ChatTemplate::new(&Builtin::DeepSeekLlm.source(), &json!({"image_token": "<image>"})).unwrap();
    let ids = published.encode(&tokenizer, &[Message::user("the nodule", 1)], false).unwrap();
    assert_eq!(ids.iter().filter(|id| **id == 3).count(), 1);
    // Without an image token the prompt does not mention the image.
    let silent = ChatTemplate::new(&Builtin::DeepSeekLlm.source(), &Value::Null).unwrap();
    assert_eq!(silent.render(&[Message::user("Q", 1)], false).unwrap(), "User: Q\n\n");
}

#[test]
fn tokens_span_from_template_to_message() {
    let tokenizer = tokenizer();
    let template = ChatTemplate::new(&Builtin::DeepSeekLlm.source(), &Value::Null).unwrap();
    let ids = template.encode(&tokenizer, &conversation(&[("user", "the nodule")]), false).unwrap();
    assert_eq!(ids, tokenizer.encode("User: the nodule\n\n", false).unwrap());
}

/// Reasoning is left out of an earlier answer, and is text when a user writes it.
#[test]
fn reasoning_belongs_to_answers() {
    let special = ["<bos>", "<eos>", "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"];
    let tokenizer = Tokenizer::train_bpe(["x"].into_iter(), 300, &special).unwrap();
    let template = ChatTemplate::for_tokenizer(&tokenizer, &Value::Null).unwrap();
    let messages = conversation(&[("user", "a</think>b"), ("assistant", "<think>c</think>d")]);
    let ids = template.encode(&tokenizer, &messages, false).unwrap();
    assert_eq!(
        tokenizer.decode_with_special(&ids).unwrap(),
        "<bos><｜User｜>a</think>b<｜Assistant｜>d<eos>"
    );
    assert_eq!(ids.iter().filter(|id| **id < 6).count(), 4);
}

proptest! {
    /// Whatever a user writes, the control tokens of the prompt are those of the template.
    #[test]
    fn messages_cannot_spell_control_tokens(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "<eos>", "<image>", "<", "eos>", "<user", ">", "<assistant>", "\u{FDD0}", "<<bos>", " the nodule ", "<pad", "\n",
        ]), 0..12),
        images in 0_usize..3,
    ) {
        let tokenizer = tokenizer();
        let template = ChatTemplate::for_tokenizer(&tokenizer, &Value::Null).unwrap();
        let text: String = pieces.concat();
        let mut messages =
            vec![Message::text("system", &text), Message::user("", images), Message::text("assistant", &text)];
        if let Content::Parts(parts) = &mut messages[1].content {
            // Pieces that only together spell a token.
            parts.extend(pieces.iter().map(|piece| Part::Text { text: (*piece).to_owned() }));
        }
        let ids = template.encode(&tokenizer, &messages, true).unwrap();
        let control: Vec<u32> = ids.iter().copied().filter(|id| *id < SPECIAL_TOKENS.len() as u32).collect();
        let expected = [vec![1, 4], vec![3; images], vec![5, 2, 5]].concat();
        prop_assert_eq!(control, expected);
        prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text.replace('\u{FDD0}', "").repeat(3));

        // Nested fields are as harmless as the content.
        messages[1].other.insert("name".into(), json!({"a": [text]}));
        let named = ChatTemplate::new("{{ messages[1].name.a[0] }}", &Value::Null).unwrap();
        prop_assert!(named.encode(&tokenizer, &messages, true).unwrap().iter().all(|id| *id >= 6));
    }

    #[test]
    fn any_source_compiles_or_names_its_line(source in "[{}%#a-z'\" \n]{0,40}") {
        if let Err(error) = ChatTemplate::new(&source, &Value::Null) {
            prop_assert!(error.to_string().contains("`chat_template`: line "), "{}", error);
        }
    }
}

#[test]
fn templates_come_from_the_tokenizer_config() {
    let mut config = tokens();
    config["chat_template"] = "A{{ messages[0].content }}".into();
    let message = conversation(&[("user", "!")]);
    assert_eq!(ChatTemplate::from_tokenizer_config(&config).unwrap().render(&message, true).unwrap(), "A!");
    config["chat_template"] =
        json!([{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]);
    assert_eq!(ChatTemplate::from_tokenizer_config(&config).unwrap().render(&message, true).unwrap(), "D");
    let named = ChatTemplate::named(&config, "tool_use").unwrap().unwrap();
    assert_eq!(named.render(&message, true).unwrap(), "T");
    let message_of = |result: Result<Option<ChatTemplate>, _>| -> String {
        let error: swinseek_kernels::Error = result.unwrap_err();
        error.to_string()
    };
    let unknown = message_of(ChatTemplate::named(&config, "rag"));
    assert!(unknown.contains("`rag`") && unknown.contains("default, tool_use"), "{unknown}");
    assert!(
        message_of(ChatTemplate::named(&json!({"chat_template": 3}), "default")).contains("expected text")
    );
    let syntax = message_of(ChatTemplate::named(&json!({"chat_template": "a\nb\n{% fro %}"}), "default"));
    assert!(syntax.contains("`chat_template`: line 3"), "{syntax}");
    assert!(ChatTemplate::new("", &json!({"bos_token": 1})).unwrap_err().to_string().contains("bos_token"));
    let date = ChatTemplate::new("{{ strftime_now('%Y') }}", &Value::Null).unwrap();
    assert!(date.render(&message, true).unwrap_err().to_string().contains("asks for the date"));
    assert!(date.with_now(0).render(&message, true).unwrap() == "1970");
    assert_eq!(Builtin::SwinSeek.source(), OWN_TEMPLATE);
}

/// The format of a vocabulary without a template is known by its markers.
#[test]
fn formats_are_known_by_their_markers() {
    let train = |special: &[&str]| Tokenizer::train_bpe(["x"].into_iter(), 300, special).unwrap();
    assert_eq!(Builtin::of(&tokenizer()), Builtin::SwinSeek);
    assert_eq!(Builtin::of(&train(&["<｜User｜>"])), Builtin::DeepSeekV3);
    assert_eq!(Builtin::of(&train(&["<|User|>"])), Builtin::DeepSeekVl2);
    assert_eq!(Builtin::of(&train(&[])), Builtin::DeepSeekLlm);
}
