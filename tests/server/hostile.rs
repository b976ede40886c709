//! What no client should send: each gets its status and the name of what was wrong, and the next request is served.

use serde_json::{Value, json};

use super::chat::{data_uri, png};
use super::harness::{Harness, ask, ask_about, post_head};

const CHAT: &str = "/v1/chat/completions";

/// A body, the status, the error's `param` and `code`.
type Case = (&'static str, Vec<u8>, u16, Option<&'static str>, Option<&'static str>);

#[track_caller]
fn check(server: &Harness, path: &str, cases: Vec<Case>) {
    for (name, body, status, param, code) in cases {
        let response = server.post_bytes(path, &body);
        assert_eq!(response.status, status, "{name}: {}", response.text());
        let found = response.error();
        assert_eq!((found.0.as_deref(), found.1.as_deref()), (param, code), "{name}: {}", response.text());
    }
    assert_eq!(server.chat(&ask(&json!({}))).status, 200, "the next request is served");
}

fn chat(name: &'static str, more: &Value, param: &'static str, code: Option<&'static str>) -> Case {
    (name, ask(more).to_string().into_bytes(), 400, Some(param), code)
}

#[test]
fn bodies_that_are_no_requests() {
    let server = Harness::new();
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let schema =
        format!(r#"{{"messages":[],"response_format":{{"type":"x","json_schema":{{"schema":{deep}}}}}}}"#);
    let raw = |text: &str| text.as_bytes().to_vec();
    let bad = |name, body: Vec<u8>, param, code| (name, body, 400, param, Some(code));
    check(
        &server,
        CHAT,
        vec![
            bad("empty", raw(""), None, "invalid_json"),
            bad("cut off", raw(r#"{"messages":["#), None, "invalid_json"),
            bad("two values", raw(r#"{"messages":[]}{}"#), None, "invalid_json"),
            bad("not UTF-8", b"{\"model\":\"\xff\xfe\"}".to_vec(), None, "invalid_json"),
            bad("NaN", raw(r#"{"messages":[],"temperature":NaN}"#), None, "invalid_json"),
            bad("1e999", raw(r#"{"messages":[],"temperature":1e999}"#), None, "invalid_json"),
            bad("an array", raw("[]"), None, "invalid_type"),
            bad("deep", deep.clone().into_bytes(), None, "invalid_type"),
            bad(
                "deep inside",
                format!(r#"{{"messages":{deep}}}"#).into_bytes(),
                Some("messages.0.0"),
                "invalid_type",
            ),
            bad("deep schema", schema.into_bytes(), None, "invalid_json"),
            bad("twice", raw(r#"{"model":"mock","model":"mock"}"#), Some("model"), "invalid_type"),
            bad("nothing", raw("{}"), Some("messages"), "invalid_type"),
            bad("null", raw(r#"{"messages":null}"#), Some("messages"), "invalid_type"),
        ],
    );
    let form = server.request(
        "POST /v1/chat/completions HTTP/1.1\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n",
        b"{}",
    );
    assert_eq!((form.status, form.error().1.as_deref()), (415, Some("unsupported_media_type")));
    let packed = server.request(&post_head(CHAT, 2, "content-encoding: gzip\r\n"), b"{}");
    assert_eq!(packed.status, 415);
    let huge = server.request(&post_head(CHAT, 1 << 40, ""), b"");
    assert_eq!((huge.status, huge.error().1.as_deref()), (413, Some("body_too_large")));
}

#[test]
fn a_body_of_unstated_length_is_cut_at_the_limit() {
    let server = Harness::with(|settings, _| {
        (settings.limits.body_bytes, settings.limits.inflight_bytes) = (10_000, 10_000);
    });
    let head = "POST /v1/chat/completions HTTP/1.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n";
    let chunk = format!("1000\r\n{}\r\n", "[".repeat(0x1000));
    let response = server.request(head, chunk.repeat(3).as_bytes());
    assert_eq!((response.status, response.error().1.as_deref()), (413, Some("body_too_large")));
    assert_eq!(server.chat(&ask(&json!({}))).status, 200);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn parameters_out_of_range_unknown_or_not_supported() {
    let server = Harness::new();
    let biases: serde_json::Map<String, Value> = (0..2000).map(|id| (id.to_string(), json!(1))).collect();
    let unknown = Some("unknown_parameter");
    let kind = Some("invalid_type");
    check(
        &server,
        CHAT,
        vec![
            chat("negative", &json!({ "temperature": -0.1 }), "temperature", None),
            chat("hot", &json!({ "temperature": 2.1 }), "temperature", None),
            chat("huge", &json!({ "temperature": 1e300 }), "temperature", None),
            chat("a text", &json!({ "temperature": "0.5" }), "temperature", kind),
            chat("top_p 0", &json!({ "top_p": 0 }), "top_p", None),
            chat("top_p 2", &json!({ "top_p": 2 }), "top_p", None),
            chat("top_k", &json!({ "top_k": -2 }), "top_k", None),
            chat("min_p", &json!({ "min_p": 1.5 }), "min_p", None),
            chat("repetition", &json!({ "repetition_penalty": 0 }), "repetition_penalty", None),
            chat("frequency", &json!({ "frequency_penalty": 3 }), "frequency_penalty", None),
            chat("presence", &json!({ "presence_penalty": -3 }), "presence_penalty", None),
            chat("bias", &json!({ "logit_bias": { "5": 101 } }), "logit_bias.5", None),
            chat("bias id", &json!({ "logit_bias": { "4000000000": 1 } }), "logit_bias", None),
            chat("bias word", &json!({ "logit_bias": { "word": 1 } }), "logit_bias", None),
            chat("biases", &json!({ "logit_bias": biases }), "logit_bias", None),
            chat("n 0", &json!({ "n": 0 }), "n", None),
            chat("n", &json!({ "n": 1_000_000 }), "n", None),
            chat("n -1", &json!({ "n": -1 }), "n", kind),
            chat("no tokens", &json!({ "max_tokens": 0 }), "max_tokens", None),
            chat("2^63", &json!({ "max_tokens": 1u64 << 63 }), "max_tokens", Some("context_length_exceeded")),
            chat(
                "2^63 new",
                &json!({ "max_completion_tokens": 1u64 << 63 }),
                "max_completion_tokens",
                Some("context_length_exceeded"),
            ),
            chat("a half", &json!({ "max_tokens": 1.5 }), "max_tokens", kind),
            chat("both", &json!({ "max_tokens": 1, "max_completion_tokens": 2 }), "max_tokens", None),
            chat("seed", &json!({ "seed": 1.5 }), "seed", kind),
            chat("empty stop", &json!({ "stop": ["a", ""] }), "stop.1", None),
            chat("stops", &json!({ "stop": vec!["a"; 17] }), "stop", None),
            chat("stop kind", &json!({ "stop": 5 }), "stop", kind),
            chat("top_logprobs", &json!({ "logprobs": true, "top_logprobs": 21 }), "top_logprobs", None),
            chat("top alone", &json!({ "top_logprobs": 2 }), "top_logprobs", None),
            chat("options", &json!({ "stream_options": { "include_usage": true } }), "stream_options", None),
            chat(
                "option",
                &json!({ "stream": true, "stream_options": { "x": 1 } }),
                "stream_options.x",
                unknown,
            ),
            chat("stream kind", &json!({ "stream": "yes" }), "stream", kind),
            chat("tools", &json!({ "tools": [] }), "tools", unknown),
            chat("unknown", &json!({ "best_effort": 1 }), "best_effort", unknown),
            chat("format", &json!({ "response_format": { "type": "yaml" } }), "response_format.type", None),
            chat(
                "modalities",
                &json!({ "modalities": ["audio"] }),
                "modalities",
                Some("unsupported_parameter"),
            ),
            chat("store", &json!({ "store": true }), "store", Some("unsupported_parameter")),
            chat("user", &json!({ "user": "x".repeat(600) }), "user", None),
        ],
    );
    let other = server.chat(&ask(&json!({ "model": "gpt-4o" })));
    assert_eq!((other.status, other.error().0.as_deref()), (404, Some("model")));
    let complete = |name, more: Value, param| {
        let mut body = json!({ "prompt": "a" });
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        (name, body.to_string().into_bytes(), 400, Some(param))
    };
    let cases = [
        complete("echo", json!({ "echo": true }), "echo"),
        complete("suffix", json!({ "suffix": "x" }), "suffix"),
        complete("best_of", json!({ "best_of": 3 }), "best_of"),
        complete("logprobs", json!({ "logprobs": 6 }), "logprobs"),
        complete("prompt", json!({ "prompt": {} }), "prompt"),
        complete("mixed", json!({ "prompt": ["a", 1] }), "prompt"),
        complete("id", json!({ "prompt": [4_000_000_000u64] }), "prompt"),
        complete("prompts", json!({ "prompt": vec!["a"; 17] }), "prompt"),
        complete("long", json!({ "prompt": "word ".repeat(3000) }), "prompt"),
        complete("images", json!({ "images": [] }), "images"),
    ];
    for (name, body, status, param) in cases {
        let response = server.post_bytes("/v1/completions", &body);
        assert_eq!(response.status, status, "{name}: {}", response.text());
        assert_eq!(response.error().0.as_deref(), param, "{name}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn conversations_that_cannot_be_answered() {
    let server = Harness::new();
    let image = json!({ "type": "image_url", "image_url": { "url": data_uri("image/png", &png(16, 16)) } });
    let body = |messages: Value| json!({ "messages": messages }).to_string().into_bytes();
    let one = |role: &str, content: Value| body(json!([{ "role": role, "content": content }]));
    let bad = |name, body: Vec<u8>, param, code| (name, body, 400, Some(param), code);
    let content = "messages.0.content";
    check(
        &server,
        CHAT,
        vec![
            bad("none", body(json!([])), "messages", None),
            bad("no content", one("user", Value::Null), content, None),
            bad("no parts", one("user", json!([])), content, None),
            bad("role", one("robot", json!("x")), "messages.0.role", None),
            bad("tool", one("tool", json!("x")), "messages.0.role", Some("unsupported_parameter")),
            bad("number", one("user", json!(5)), content, Some("invalid_type")),
            bad("system last", one("system", json!("x")), "messages", None),
            bad(
                "late system",
                body(json!([{ "role": "user", "content": "x" }, { "role": "system", "content": "x" }])),
                "messages.1.role",
                None,
            ),
            bad(
                "image in system",
                body(json!([{ "role": "system", "content": [image] }, { "role": "user", "content": "x" }])),
                "messages.0.content.0.image_url",
                None,
            ),
            bad(
                "image in answer",
                body(
                    json!([{ "role": "assistant", "content": [image] }, { "role": "user", "content": "x" }]),
                ),
                "messages.0.content.0.image_url",
                None,
            ),
            bad(
                "name",
                body(json!([{ "role": "user", "content": "x", "name": "n" }])),
                "messages.0.name",
                Some("unknown_parameter"),
            ),
            bad(
                "part type",
                one("user", json!([{ "type": "poem", "text": "x" }])),
                "messages.0.content.0.type",
                None,
            ),
            bad(
                "audio",
                one("user", json!([{ "type": "input_audio" }])),
                "messages.0.content.0.type",
                Some("unsupported_parameter"),
            ),
            bad(
                "text and image",
                one("user", json!([{ "type": "text", "text": "x", "image_url": { "url": "x" } }])),
                "messages.0.content.0",
                None,
            ),
            bad(
                "detail",
                one("user", json!([{ "type": "image_url", "image_url": { "url": "x", "detail": "max" } }])),
                "messages.0.content.0.image_url.detail",
                None,
            ),
            bad(
                "no url",
                one("user", json!([{ "type": "image_url", "image_url": {} }])),
                "messages.0.content.0.image_url.url",
                Some("invalid_type"),
            ),
            bad(
                "1000 images",
                one("user", json!(vec![image.clone(); 1000])),
                "messages",
                Some("too_many_images"),
            ),
            bad(
                "long",
                one("user", json!("word ".repeat(100_000))),
                "messages",
                Some("context_length_exceeded"),
            ),
            bad(
                "too long",
                one("user", json!("word ".repeat(300))),
                "messages",
                Some("context_length_exceeded"),
            ),
        ],
    );
}

/// A PNG that claims a size it does not have.
fn lying_png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = png(16, 16);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    };
    !bytes.iter().fold(u32::MAX, step)
}

#[test]
fn images_that_are_none() {
    let server = Harness::with(|settings, _| settings.limits.image.max_bytes = 1 << 20);
    let uri = |bytes: &[u8]| data_uri("image/png", bytes);
    let dicom =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/samples/images/phantom.dcm")).expect("a sample");
    let svg = b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>";
    let invalid = (400, "invalid_image");
    let cases = [
        ("empty", "data:image/png;base64,".to_owned(), (400, "invalid_base64")),
        ("no comma", "data:image/png;base64".to_owned(), (400, "invalid_image_url")),
        ("no base64", "data:image/png;base64,@@@@".to_owned(), (400, "invalid_base64")),
        ("file", "file:///etc/passwd".to_owned(), (400, "invalid_image_url")),
        ("large", format!("data:image/png;base64,{}", "A".repeat(3 << 20)), (413, "image_too_large")),
        ("svg", data_uri("image/svg+xml", svg), invalid),
        ("text", uri(b"hello"), invalid),
        ("1x1", uri(&png(1, 1)), (422, "unusable_image")),
        ("1xN", uri(&png(1, 3000)), (422, "unusable_image")),
        ("Nx1", uri(&png(3000, 1)), (422, "unusable_image")),
        ("line", uri(&png(3000, 9)), (422, "unusable_image")),
        ("65535x65535", uri(&lying_png(65535, 65535)), (413, "image_too_large")),
        ("2^31", uri(&lying_png(0x7fff_ffff, 0x7fff_ffff)), (413, "image_too_large")),
        ("0x0", uri(&lying_png(0, 0)), invalid),
        ("cut off", uri(&png(64, 64)[..60]), invalid),
        ("pdf", uri(b"%PDF-1.7"), invalid),
        ("DICOM cut off", data_uri("application/dicom", &dicom[..dicom.len() / 2]), invalid),
        ("DICOM header", data_uri("application/dicom", &dicom[..200]), invalid),
    ];
    for (name, url, (status, code)) in cases {
        let response = server.chat(&ask_about(&url));
        assert_eq!(response.status, status, "{name}: {}", response.text());
        let (param, found) = response.error();
        assert_eq!(param.as_deref(), Some("messages.0.content.1.image_url"), "{name}");
        assert_eq!(found.as_deref(), Some(code), "{name}: {}", response.text());
        assert!(response.text().len() < 1000, "{name}: no input comes back");
    }
    assert_eq!(server.chat(&ask_about(&uri(&png(16, 16)))).status, 200);
}
