//! Keys, the audit file, image URLs.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use swinseek::server::verify_audit;

use super::chat::{data_uri, png};
use super::client::Response;
use super::harness::{Harness, ask, ask_about, post_head};

/// Keys `alpha` and `beta`; what more is said of `alpha`.
fn key_file(dir: &Path, more: &str) -> PathBuf {
    let hash = |key: &str| blake3::hash(key.as_bytes()).to_hex().to_string();
    let text = format!(
        "[[key]]\nname = \"clinic\"\nhash = \"{}\"\n{more}\n[[key]]\nname = \"lab\"\nhash = \"{}\"\n",
        hash("alpha"),
        hash("beta")
    );
    let path = dir.join("keys.toml");
    std::fs::write(&path, text).expect("written");
    path
}

fn chat_as(server: &Harness, key: &str) -> Response {
    let body = ask(&json!({})).to_string();
    let head = post_head("/v1/chat/completions", body.len(), &format!("authorization: Bearer {key}\r\n"));
    server.request(&head, body.as_bytes())
}

#[test]
fn without_a_key_only_health_and_pages_are_open() {
    let dir = tempfile::tempdir().expect("a folder");
    let keys = key_file(dir.path(), "");
    let server = Harness::with(|settings, _| settings.api_keys = Some(keys));
    for path in ["/health/live", "/health/ready", "/docs", "/openapi.json"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    for path in ["/v1/models", "/v1/models/mock", "/metrics", "/v1/nothing", "/health", "/docs/../metrics"] {
        let response = server.get(path);
        assert_eq!(
            (response.status, response.error().1.as_deref()),
            (401, Some("invalid_api_key")),
            "{path}"
        );
        assert_eq!(response.header("www-authenticate"), Some("Bearer"));
    }
    for wrong in ["", "Alpha", "alpha2", "alph", "clinic", "beta alpha"] {
        assert_eq!(chat_as(&server, wrong).status, 401, "{wrong}");
    }
    let basic = server.request("GET /v1/models HTTP/1.1\r\nauthorization: Basic alpha\r\n", b"");
    assert_eq!(basic.status, 401);
    assert_eq!((chat_as(&server, "alpha").status, chat_as(&server, "beta").status), (200, 200));
}

#[test]
fn a_key_has_its_rate_and_its_places() {
    let dir = tempfile::tempdir().expect("a folder");
    let keys = key_file(dir.path(), "requests_per_minute = 2");
    let server = Harness::with(|settings, _| settings.api_keys = Some(keys));
    assert_eq!((chat_as(&server, "alpha").status, chat_as(&server, "alpha").status), (200, 200));
    let refused = chat_as(&server, "alpha");
    assert_eq!((refused.status, refused.error().1.as_deref()), (429, Some("rate_limit_exceeded")));
    let wait: u64 = refused.header("retry-after").and_then(|s| s.parse().ok()).expect("seconds");
    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(chat_as(&server, "beta").status, 200, "another key has its own");

    let keys = key_file(dir.path(), "concurrent = 1");
    let server = Harness::with(|settings, _| settings.api_keys = Some(keys));
    server.pace.hold();
    let body = ask(&json!({ "stream": true })).to_string();
    let head =
        post_head("/v1/chat/completions", body.len(), "host: t\r\nauthorization: Bearer alpha\r\n\r\n");
    let mut running = server.connect();
    running.send(head.as_bytes()).send(body.as_bytes()).read_until("assistant");
    assert_eq!(chat_as(&server, "alpha").status, 429, "the stream holds the place");
    server.pace.go();
    running.read_until("[DONE]");
    server.wait_for("the place is free", |s| chat_as(s, "alpha").status == 200);
}

#[test]
fn every_request_leaves_a_record_without_content() {
    let dir = tempfile::tempdir().expect("a folder");
    let (keys, audit) = (key_file(dir.path(), ""), dir.path().join("audit.jsonl"));
    let settings = |settings: &mut swinseek::server::Settings, _: &mut _| {
        (settings.api_keys, settings.audit) = (Some(keys.clone()), Some(audit.clone()));
    };
    let server = Harness::with(settings);
    assert_eq!(chat_as(&server, "alpha").status, 200);
    let image = png(40, 30);
    let mut body = ask_about(&data_uri("image/png", &image));
    body["user"] = "Mrs Example".into();
    let body = body.to_string();
    let head =
        post_head("/v1/chat/completions", body.len(), "authorization: Bearer beta\r\nx-request-id: r-2\r\n");
    assert_eq!(server.request(&head, body.as_bytes()).status, 200);
    server.stop();
    assert!(server.join());

    let text = std::fs::read_to_string(&audit).expect("the file");
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(records.len(), 2);
    assert_eq!((&records[0]["caller"], &records[1]["caller"]), (&json!("clinic"), &json!("lab")));
    assert_eq!(records[1]["request_id"], "r-2");
    assert_eq!(records[1]["images"], json!([blake3::hash(&image).to_hex().to_string()]));
    for content in ["What is seen", "lungs", "Mrs", "data:", "alpha"] {
        assert!(!text.contains(content), "`{content}` is in the audit file");
    }
    assert_eq!(verify_audit(&audit).expect("whole").seq, 2);

    // Another server goes on with the chain; a torn last line was never answered.
    let torn = std::fs::OpenOptions::new()
        .append(true)
        .open(&audit)
        .and_then(|mut f| f.write_all(b"{\"seq\":3,\"ti"));
    torn.expect("written");
    let server = Harness::with(settings);
    assert_eq!(chat_as(&server, "alpha").status, 200);
    let end = verify_audit(&audit).expect("whole");
    assert_eq!(end.seq, 3);
    let mut command = Command::new(env!("CARGO_BIN_EXE_swinseek"));
    command.arg("verify-audit").arg(&audit).args(["--head", &end.head]);
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn tampering_with_the_audit_file_shows() {
    let dir = tempfile::tempdir().expect("a folder");
    let audit = dir.path().join("audit.jsonl");
    let server = Harness::with(|settings, _| settings.audit = Some(audit.clone()));
    for _ in 0..4 {
        assert_eq!(server.chat(&ask(&json!({}))).status, 200);
    }
    let text = std::fs::read_to_string(&audit).expect("the file");
    let lines: Vec<&str> = text.lines().collect();
    let join = |lines: &[&str]| lines.join("\n") + "\n";
    let changed = lines[1].replacen("/v1/chat", "/v1/chap", 1);
    let broken = [
        ("changed", join(&[lines[0], &changed, lines[2], lines[3]]), "line 2: was changed"),
        ("removed", join(&[lines[0], lines[2], lines[3]]), "line 2: does not follow"),
        ("first removed", join(&lines[1..]), "line 1: does not follow"),
        ("swapped", join(&[lines[0], lines[2], lines[1], lines[3]]), "line 2: does not follow"),
        ("doubled", join(&[lines[0], lines[1], lines[1], lines[2]]), "line 3: does not follow"),
        ("no hash", format!("{}{{}}\n", join(&lines)), "line 5: has no hash"),
        ("cut off", text[..text.len() - 5].to_owned(), "line 4: is cut off"),
    ];
    let copy = dir.path().join("copy.jsonl");
    for (name, text, expected) in broken {
        std::fs::write(&copy, text).expect("written");
        let error = format!("{:#}", verify_audit(&copy).expect_err(name));
        assert!(error.contains(expected), "{name}: {error}");
    }
    std::fs::write(&copy, join(&lines[..2])).expect("written");
    let shorter = verify_audit(&copy).expect("a shorter chain is a chain");
    assert_ne!(shorter.head, verify_audit(&audit).expect("whole").head, "but its head is another");
}

/// `/dev/full` takes nothing, as a full disk does.
#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_recorded_is_not_answered() {
    let server = Harness::with(|settings, _| settings.audit = Some("/dev/full".into()));
    let before = server.engine.stats().accepted;
    for stream in [false, true] {
        let response = server.chat(&ask(&json!({ "stream": stream })));
        assert_eq!((response.status, response.error().1.as_deref()), (503, Some("audit_unavailable")));
    }
    assert_eq!(server.engine.stats().accepted, before, "the engine saw nothing");
    assert_eq!(server.get("/v1/models").status, 200);
}

/// Answers every connection with the same bytes; counts them.
fn web_server(answer: impl Fn(u16) -> Vec<u8> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(&answer(port));
        }
    });
    port
}

fn with_body(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn image_urls_are_off_unless_enabled() {
    let server = Harness::new();
    let response = server.chat(&ask_about("http://127.0.0.1:1/x.png"));
    assert_eq!((response.status, response.error().1.as_deref()), (400, Some("image_url_disabled")));
}

#[test]
fn an_enabled_server_reads_no_local_address_however_it_is_written() {
    let server = Harness::with(|settings, _| settings.urls.enabled = true);
    let port = web_server(|_| panic!("nobody may come here"));
    for host in [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "0.0.0.0",
        "169.254.169.254",
        "10.0.0.1",
    ] {
        let response = server.chat(&ask_about(&format!("http://{host}:{port}/x.png")));
        assert!([400, 403].contains(&response.status), "{host}: {}", response.text());
        let (param, code) = response.error();
        assert_eq!(param.as_deref(), Some("messages.0.content.1.image_url"), "{host}");
        assert!(
            matches!(code.as_deref(), Some("image_url_forbidden" | "image_url_failed")),
            "{host}: {code:?}"
        );
    }
    for bad in
        ["http://user@127.0.0.1/", "http://example.com\\@127.0.0.1/", "http:///x", "https://", "http://a b/"]
    {
        let response = server.chat(&ask_about(bad));
        assert_eq!(
            (response.status, response.error().1.as_deref()),
            (400, Some("invalid_image_url")),
            "{bad}"
        );
    }
}

#[test]
fn a_listed_host_is_read_within_time_size_and_redirects() {
    let good = web_server(|_| with_body("200 OK", "content-type: image/png\r\n", &png(32, 32)));
    let large = web_server(|_| with_body("200 OK", "", &vec![7; 300_000]));
    let lying = web_server(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\nabc".to_vec());
    let missing = web_server(|_| with_body("404 Not Found", "", b""));
    let there = web_server(move |_| {
        with_body("302 Found", &format!("location: http://127.0.0.1:{good}/y.png\r\n"), b"")
    });
    let elsewhere = web_server(move |_| {
        with_body("302 Found", &format!("location: http://localhost:{good}/y.png\r\n"), b"")
    });
    let file = web_server(|_| with_body("302 Found", "location: file:///etc/passwd\r\n", b""));
    let round =
        web_server(|port| with_body("302 Found", &format!("location: http://127.0.0.1:{port}/\r\n"), b""));
    let text = web_server(|_| with_body("200 OK", "", b"<svg xmlns='http://www.w3.org/2000/svg'/>"));
    let server = Harness::with(|settings, _| {
        settings.urls.hosts = vec!["127.0.0.1".to_owned()];
        settings.limits.image.max_bytes = 200_000;
    });
    for (port, status, code) in [
        (good, 200, None),
        (there, 200, None),
        (large, 413, Some("image_too_large")),
        (lying, 400, Some("image_url_failed")),
        (missing, 400, Some("image_url_failed")),
        (elsewhere, 403, Some("image_url_forbidden")),
        (file, 400, Some("invalid_image_url")),
        (round, 400, Some("image_url_failed")),
        (text, 400, Some("invalid_image")),
    ] {
        let response = server.chat(&ask_about(&format!("http://127.0.0.1:{port}/x.png")));
        assert_eq!(response.status, status, "{code:?}: {}", response.text());
        if code.is_some() {
            assert_eq!(response.error().1.as_deref(), code);
        }
    }
}

#[test]
fn an_image_url_that_drips_is_given_up() {
    let dripping = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = dripping.local_addr().expect("an address").port();
    let server = Harness::with(|settings, _| {
        settings.urls.hosts = vec!["127.0.0.1".to_owned()];
        settings.timeouts.image_url = std::time::Duration::from_millis(200);
    });
    // The connection waits in the backlog: nobody ever answers.
    let response = server.chat(&ask_about(&format!("http://127.0.0.1:{port}/x.png")));
    assert_eq!((response.status, response.error().1.as_deref()), (400, Some("image_url_failed")));
}
