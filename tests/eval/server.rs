//! A live server, here a small one that plays its part by a script.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::*;

/// What came in: the head's lines and the body.
struct Received {
    head: Vec<String>,
    body: Value,
}

/// What goes out: a status line's end, further head lines, a body. None closes the connection without a word.
type Answer = Option<(&'static str, &'static str, String)>;

struct Mock {
    url: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Mock {
    /// Answers the requests by their number, from 0; closes its port when `play` says so by [`None`].
    fn start(play: impl Fn(usize, &Received) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let received = Arc::new(Mutex::new(Vec::new()));
        let seen = received.clone();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                let request = read_request(&stream);
                let answer = play(number, &request);
                seen.lock().expect("a lock").push(request);
                let Some((status, head, body)) = answer else { return };
                let length = body.len();
                let mut stream = stream;
                let text = format!(
                    "HTTP/1.1 {status}\r\n{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                stream.write_all(text.as_bytes()).expect("a reader");
            }
        });
        Self { url, received }
    }

    fn received(&self) -> std::sync::MutexGuard<'_, Vec<Received>> {
        self.received.lock().expect("a lock")
    }
}

fn read_request(stream: &TcpStream) -> Received {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a head");
        if line.trim_end().is_empty() {
            break;
        }
        head.push(line.trim_end().to_lowercase());
    }
    let length =
        head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    Received { head, body: serde_json::from_slice(&body).unwrap_or_default() }
}

#[expect(clippy::unnecessary_wraps, reason = "None is a server that hangs up")]
fn says(text: &str) -> Answer {
    let body = json!({ "choices": [{ "message": { "role": "assistant", "content": text } }] });
    Some(("200 OK", "", body.to_string()))
}

/// The picture's name is not sent; its bytes are, and their length tells studies apart.
fn by_picture(request: &Received) -> Answer {
    let url = request.body["messages"][0]["content"][0]["image_url"]["url"].as_str().unwrap_or_default();
    says(&format!("FINDINGS: {} letters.", url.len()))
}

#[test]
fn a_server_is_asked_as_openai_clients_ask() {
    let folder = Folder::with_phantoms(5, &[]);
    let mock = Mock::start(|_, request| {
        if request.head[0].starts_with("get /v1/models ") {
            return Some(("200 OK", "", json!({ "data": [{ "id": "served" }] }).to_string()));
        }
        by_picture(request)
    });
    let output = folder
        .command(&[
            "--data",
            "data",
            "--url",
            &mock.url,
            "--api-key-env",
            "TEST_KEY",
            "--out",
            "out",
            "--json",
        ])
        .env("TEST_KEY", "secret-123")
        .output()
        .expect("runs");
    assert!(output.status.success(), "{}", errors(&output));
    let result: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        result["model"],
        json!({ "kind": "server", "name": "served", "url": format!("{}/v1", mock.url) })
    );
    let received = mock.received();
    assert_eq!(received.len(), 6);
    let request = &received[1];
    assert!(request.head[0].starts_with("post /v1/chat/completions "), "{}", request.head[0]);
    assert!(request.head.contains(&"authorization: bearer secret-123".to_owned()), "{:?}", request.head);
    assert_eq!((&request.body["model"], &request.body["temperature"]), (&json!("served"), &json!(0)));
    let content = &request.body["messages"][0]["content"];
    let picture = content[0]["image_url"]["url"].as_str().expect("a picture");
    assert!(picture.starts_with("data:image/png;base64,iVBOR"), "{}", &picture[..40]);
    assert_eq!(content[1], json!({ "type": "text", "text": "Write the report." }));
    let lines = String::from_utf8(folder.read("out/hypotheses.jsonl")).expect("UTF-8");
    let indices =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["index"].clone());
    assert!(indices.eq((0..5).map(Value::from)), "item order");
    for file in ["run.json", "result.json", "shard.json"] {
        assert!(
            !String::from_utf8(folder.read(&format!("out/{file}"))).expect("UTF-8").contains("secret-123")
        );
    }
}

#[test]
fn a_busy_server_is_asked_again_after_the_time_it_names() {
    let folder = Folder::with_phantoms(2, &[]);
    let busy =
        |status| Some((status, "Retry-After: 0\r\n", json!({ "error": { "message": "later" } }).to_string()));
    let mock = Mock::start(move |number, request| match number {
        0 => busy("429 Too Many Requests"),
        1 => busy("503 Service Unavailable"),
        _ => by_picture(request),
    });
    let base = ["--data", "data", "--url", &mock.url, "--served-model", "m", "--concurrency", "1", "--json"];
    let result = folder.result(&base);
    assert_eq!((mock.received().len(), &result["errors"]), (4, &json!(0)));
}

#[test]
fn errors_of_a_server_are_named_by_item() {
    let folder = Folder::with_phantoms(4, &[]);
    let mock = Mock::start(|number, request| match number {
        0 => {
            Some(("400 Bad Request", "", json!({ "error": { "message": "the picture is odd" } }).to_string()))
        }
        1 => Some(("200 OK", "", "not JSON".into())),
        2 => Some(("200 OK", "", json!({ "choices": [] }).to_string())),
        _ => by_picture(request),
    });
    let base =
        ["--data", "data", "--url", &mock.url, "--served-model", "m", "--concurrency", "1", "--out", "out"];
    let output = folder.eval(&base);
    assert_eq!(output.status.code(), Some(1));
    let error = errors(&output);
    let lines: Vec<&str> = error.trim_end().lines().collect();
    let parts =
        ["HTTP 400: the picture is odd", "the answer is not JSON: not JSON", "choices[0].message.content"];
    assert_eq!(lines.len(), 3, "{error}");
    for (index, (line, part)) in lines.iter().zip(parts).enumerate() {
        assert!(line.contains(&format!("phantom-77-{index:06}: ")) && line.contains(part), "{line}");
    }
    // The same command asks the three again, and nothing else.
    assert_eq!(folder.eval(&base).status.code(), Some(0));
    assert_eq!(mock.received().len(), 7);
}

#[test]
fn a_server_that_dies_loses_nothing() {
    let folder = Folder::with_phantoms(4, &[]);
    let dying = Mock::start(|number, request| if number < 2 { by_picture(request) } else { None });
    let arguments = |url: &str| -> Vec<String> {
        let base = "--data data --served-model m --concurrency 1 --retries 0 --out out --url";
        base.split(' ').chain([url]).map(str::to_owned).collect()
    };
    let own = arguments(&dying.url);
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    folder.fails(
        1,
        &own,
        &["cannot be reached", "2 of 4 answers are kept in out", "the same command goes on"],
    );
    let kept = folder.read("out/hypotheses.jsonl");
    assert_eq!(kept.split(|&byte| byte == b'\n').count() - 1, 2);
    // Its port is closed now.
    folder.fails(1, &own, &["cannot be reached", "2 of 4"]);
    assert_eq!(folder.read("out/hypotheses.jsonl"), kept);
}

#[test]
fn a_server_that_wants_a_key_or_lists_no_model_is_named() {
    let folder = Folder::with_phantoms(1, &[]);
    let closed = Mock::start(|_, _| Some(("401 Unauthorized", "", json!({ "error": "no key" }).to_string())));
    folder.fails(1, &["--data", "data", "--url", &closed.url], &["/v1/models", "HTTP 401: no key"]);
    let empty = Mock::start(|_, _| Some(("200 OK", "", "{}".into())));
    folder.fails(1, &["--data", "data", "--url", &empty.url], &["no model is listed", "--served-model"]);
    let unset = ["--data", "data", "--url", &empty.url, "--api-key-env", "SWINSEEK_NO_SUCH_KEY"];
    folder.fails(1, &unset, &["SWINSEEK_NO_SUCH_KEY", "no key"]);
    folder.fails(1, &["--data", "data", "--url", "nonsense"], &["nonsense"]);
}
