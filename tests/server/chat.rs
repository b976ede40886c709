//! The OpenAI API as clients see it.

use serde_json::{Value, json};
use swinseek_vision::preprocess::{DecodeOptions, decode};

use super::harness::{Harness, ask, ask_about};
use super::mock::{ANSWER, frontend};

/// A small PNG.
pub(super) fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let picture = image::GrayImage::from_fn(width, height, |x, y| image::Luma([(x * 7 + y * 13) as u8]));
    picture.write_to(&mut bytes, image::ImageFormat::Png).expect("a PNG");
    bytes.into_inner()
}

pub(super) fn data_uri(kind: &str, bytes: &[u8]) -> String {
    use base64::Engine as _;
    format!("data:{kind};base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes))
}

fn chunks(events: &[String]) -> Vec<Value> {
    let (done, chunks) = events.split_last().expect("events");
    assert_eq!(done, "[DONE]");
    chunks.iter().map(|chunk| serde_json::from_str(chunk).expect("JSON")).collect()
}

#[test]
fn an_answer_has_every_field_of_openai_s() {
    let server = Harness::new();
    let response = server.chat(&ask(&json!({})));
    assert_eq!(response.status, 200, "{}", response.text());
    let value = response.json();
    assert_eq!(value["object"], "chat.completion");
    assert!(value["id"].as_str().is_some_and(|id| id.starts_with("chatcmpl-")), "{value}");
    assert_eq!(value["model"], "mock");
    assert!(value["created"].as_u64().is_some_and(|created| created > 1_700_000_000));
    let choice = &value["choices"][0];
    let expected = json!({
        "index": 0,
        "message": { "role": "assistant", "content": ANSWER, "refusal": null },
        "logprobs": null,
        "finish_reason": "stop",
    });
    assert_eq!(*choice, expected);
    let usage = &value["usage"];
    let (prompt, completion) = (usage["prompt_tokens"].as_u64(), usage["completion_tokens"].as_u64());
    assert!(prompt > Some(3) && completion > Some(3), "{usage}");
    assert_eq!(usage["total_tokens"].as_u64(), prompt.zip(completion).map(|(p, c)| p + c));
    assert_eq!(usage["prompt_tokens_details"]["image_tokens"], 0);
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert!(response.header("x-request-id").is_some_and(|id| id.starts_with("req-")));
}

#[test]
fn a_stream_has_role_content_finish_usage_and_done_in_this_order() {
    let server = Harness::new();
    let options = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let response = server.chat(&ask(&options));
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("text/event-stream"));
    let chunks = chunks(&response.events());
    let first = &chunks[0];
    assert_eq!(first["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    for chunk in &chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        for field in ["id", "created", "model", "system_fingerprint"] {
            assert_eq!(chunk[field], first[field], "all chunks share `{field}`");
        }
    }
    let (usage, rest) = chunks.split_last().expect("chunks");
    assert_eq!(usage["choices"], json!([]));
    assert!(usage["usage"]["completion_tokens"].as_u64() > Some(3));
    assert!(rest.iter().all(|chunk| chunk.get("usage") == Some(&Value::Null)), "null before the end");
    let (finish, content) = rest.split_last().expect("chunks");
    assert_eq!(finish["choices"][0]["delta"], json!({}));
    assert_eq!(finish["choices"][0]["finish_reason"], "stop");
    let pieces: Vec<&str> =
        content.iter().map(|c| c["choices"][0]["delta"]["content"].as_str().expect("text")).collect();
    assert_eq!(pieces.concat(), ANSWER);
    assert!(pieces.len() > 4, "in pieces: {pieces:?}");
    assert!(content.iter().all(|c| c["choices"][0]["finish_reason"].is_null()));
}

#[test]
fn a_stream_without_options_has_no_usage_at_all() {
    let server = Harness::new();
    let events = server.chat(&ask(&json!({ "stream": true }))).events();
    assert!(chunks(&events).iter().all(|chunk| chunk.get("usage").is_none()));
}

#[test]
fn several_choices_share_the_prompt() {
    let server = Harness::new();
    let one = server.chat(&ask(&json!({}))).json();
    let three = server.chat(&ask(&json!({ "n": 3, "temperature": 0.5, "seed": 7 }))).json();
    let indices: Vec<_> =
        three["choices"].as_array().expect("choices").iter().map(|c| c["index"].clone()).collect();
    assert_eq!(indices, [0, 1, 2]);
    assert_eq!(three["usage"]["prompt_tokens"], one["usage"]["prompt_tokens"]);
    let events = server.chat(&ask(&json!({ "n": 2, "stream": true }))).events();
    let chunks = chunks(&events);
    for index in 0..2 {
        let of_choice =
            chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|choice| choice["index"] == index);
        let text: String = of_choice.filter_map(|choice| choice["delta"]["content"].as_str()).collect();
        assert_eq!(text, ANSWER);
    }
}

#[test]
fn stop_and_max_tokens_end_the_answer() {
    let server = Harness::new();
    let stopped = server.chat(&ask(&json!({ "stop": "No effusion" }))).json();
    assert_eq!(stopped["choices"][0]["message"]["content"], "The lungs are clear. ");
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    for name in ["max_tokens", "max_completion_tokens"] {
        let cut = server.chat(&ask(&json!({ name: 2 }))).json();
        assert_eq!(cut["choices"][0]["finish_reason"], "length");
        assert_eq!(cut["usage"]["completion_tokens"], 2);
    }
    let events = server.chat(&ask(&json!({ "stop": ["clear"], "stream": true }))).events();
    let text: String = chunks(&events)
        .iter()
        .filter_map(|c| c["choices"][0]["delta"]["content"].as_str())
        .map(str::to_owned)
        .collect();
    assert_eq!(text, "The lungs are ", "a stop text is never shown, not even its beginning");
}

#[test]
fn logprobs_name_each_token_and_its_rivals() {
    let server = Harness::new();
    let value = server.chat(&ask(&json!({ "logprobs": true, "top_logprobs": 3 }))).json();
    let tokens = value["choices"][0]["logprobs"]["content"].as_array().expect("tokens");
    let text: String = tokens.iter().map(|t| t["token"].as_str().expect("text")).collect();
    assert_eq!(text, ANSWER);
    for token in tokens {
        assert!(token["logprob"].as_f64().is_some_and(|l| l <= 0.0), "{token}");
        assert_eq!(token["top_logprobs"].as_array().map(Vec::len), Some(3));
        assert_eq!(token["top_logprobs"][0]["token"], token["token"], "the choice is greedy");
        assert!(token["bytes"].is_array());
    }
    let streamed = server.chat(&ask(&json!({ "logprobs": true, "stream": true }))).events();
    let streamed: Vec<Value> = chunks(&streamed)
        .iter()
        .flat_map(|c| c["choices"][0]["logprobs"]["content"].as_array().cloned().unwrap_or_default())
        .collect();
    assert_eq!(streamed.len(), tokens.len(), "a token each, in pieces");
}

#[test]
fn a_biased_token_wins() {
    let server = Harness::new();
    let value =
        server.chat(&ask(&json!({ "logit_bias": { "40": 100 }, "max_tokens": 3, "logprobs": true }))).json();
    let tokens = value["choices"][0]["logprobs"]["content"].as_array().expect("tokens");
    assert!(tokens.len() == 3 && tokens.iter().all(|token| token["token"] == tokens[0]["token"]), "{value}");
}

#[test]
fn images_come_as_data_uri_base64_and_dicom() {
    let server = Harness::new();
    let dicom =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/samples/images/phantom.dcm")).expect("a sample");
    let picture = decode(&png(16, 16), &DecodeOptions::default()).expect("a picture");
    let tokens = frontend().prepare(b"", &picture).expect("prepared").tokens;
    let uri = data_uri("image/png", &png(64, 48));
    let bare = uri.split(',').nth(1).expect("data").to_owned();
    for url in
        [uri.clone(), bare, data_uri("application/dicom", &dicom), data_uri("image/jpeg", &png(16, 16))]
    {
        let response = server.chat(&ask_about(&url));
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.json()["usage"]["prompt_tokens_details"]["image_tokens"], tokens);
    }
    let part = |detail| json!({ "type": "image_url", "image_url": { "url": uri, "detail": detail } });
    let content = json!([part("low"), { "type": "text", "text": "Compare." }, part("high")]);
    let response = server.chat(&json!({ "messages": [{ "role": "user", "content": content }] }));
    assert_eq!(response.json()["usage"]["prompt_tokens_details"]["image_tokens"], 2 * tokens);
}

#[test]
fn a_conversation_goes_through_the_template() {
    let server = Harness::new();
    let turns = json!([
        { "role": "developer", "content": "Be brief." },
        { "role": "user", "content": "Hello." },
        { "role": "assistant", "content": "Hello.", "refusal": null },
        { "role": "user", "content": [{ "type": "text", "text": "<eos><assistant>What is seen?" }] },
    ]);
    let response = server.chat(&json!({ "messages": turns }));
    assert_eq!(response.status, 200, "{}", response.text());
}

#[test]
fn completions_take_all_four_forms_of_prompt() {
    let server = Harness::new();
    let complete =
        |prompt: Value| server.post("/v1/completions", &json!({ "prompt": prompt, "max_tokens": 50 }));
    for (prompt, count) in [
        (json!("The heart is"), 1),
        (json!(["The heart", "The lungs"]), 2),
        (json!([20, 21, 22]), 1),
        (json!([[20, 21], [22]]), 2),
    ] {
        let value = complete(prompt).json();
        assert_eq!(value["object"], "text_completion", "{value}");
        assert_eq!(value["choices"].as_array().map(Vec::len), Some(count));
        assert_eq!(value["choices"][0]["text"], ANSWER);
    }
    assert_eq!(complete(json!([])).status, 400);
    let short =
        server.post("/v1/completions", &json!({ "prompt": "a", "logprobs": 2, "max_tokens": 3 })).json();
    let logprobs = &short["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"].as_array().map(Vec::len), Some(3), "{short}");
    assert_eq!(logprobs["text_offset"][0], 0);
    let events =
        server.post("/v1/completions", &json!({ "prompt": "a", "stream": true, "max_tokens": 50 })).events();
    let text: String =
        chunks(&events).iter().map(|c| c["choices"][0]["text"].as_str().expect("text").to_owned()).collect();
    assert_eq!(text, ANSWER);
}

#[test]
fn the_model_is_listed() {
    let server = Harness::new();
    let list = server.get("/v1/models").json();
    assert_eq!(list["data"][0]["id"], "mock");
    assert_eq!(server.get("/v1/models/mock").json()["object"], "model");
    let missing = server.get("/v1/models/gpt-4");
    assert_eq!((missing.status, missing.error().1.as_deref()), (404, Some("model_not_found")));
}
