//! Health, metrics, limits, cancellation, shutdown.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::json;

use super::harness::{Harness, ask, post_head};
use super::mock::{ANSWER, PANIC_WORD};

#[test]
fn health_and_metrics_are_there() {
    let server = Harness::new();
    assert_eq!(server.get("/health/live").json()["object"], "health.response");
    assert_eq!(server.chat(&ask(&json!({}))).status, 200);
    let metrics = server.get("/metrics");
    let text = metrics.text();
    for line in [
        "vllm:request_success_total{finished_reason=\"stop\",model_name=\"mock\"} 1",
        "vllm:time_to_first_token_seconds_count{model_name=\"mock\"} 1",
        "vllm:num_requests_running{model_name=\"mock\"} 0",
    ] {
        assert!(text.contains(line), "no {line} in {text}");
    }
    server.chat(&ask(&json!({ "n": 0 })));
    assert!(
        server
            .get("/metrics")
            .text()
            .contains("swinseek:request_refused_total{reason=\"invalid_request\",model_name=\"mock\"} 1")
    );
}

#[test]
fn a_request_id_comes_back_if_it_is_one() {
    let server = Harness::new();
    let id = |line: &str| {
        let head = format!("GET /health/live HTTP/1.1\r\n{line}");
        server.request(&head, b"").header("x-request-id").map(str::to_owned)
    };
    assert_eq!(id("x-request-id: trace-1.a_B\r\n").as_deref(), Some("trace-1.a_B"));
    for bad in ["x-request-id: a b\r\n", "x-request-id: \"quoted\"\r\n", ""] {
        assert!(id(bad).is_some_and(|id| id.starts_with("req-")), "{bad}");
    }
}

#[test]
fn paths_and_methods_that_are_not_there_get_error_objects() {
    let server = Harness::new();
    let missing = server.get("/v1/nothing");
    assert_eq!((missing.status, missing.error().1.as_deref()), (404, Some("not_found")));
    let wrong = server.get("/v1/chat/completions");
    assert_eq!((wrong.status, wrong.error().1.as_deref()), (405, Some("method_not_allowed")));
    assert!(wrong.header("allow").is_some_and(|allow| allow.contains("POST")));
}

#[test]
fn every_operation_of_openapi_answers_with_a_declared_status() {
    let server = Harness::new();
    let api = server.get("/openapi.json").json();
    let paths = api["paths"].as_object().expect("paths");
    assert!(paths.len() >= 7, "{}", paths.len());
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().expect("methods") {
            let path = path.replace("{model}", "none");
            let response = match method.as_str() {
                "post" => server.post(&path, &json!({})),
                _ => server.get(&path),
            };
            let declared = operation["responses"].get(response.status.to_string());
            assert!(declared.is_some(), "{method} {path}: {} is not declared", response.status);
        }
    }
    let page = server.get("/docs");
    assert!(page.text().contains("/docs/docs.js") && page.header("content-security-policy").is_some());
    assert_eq!((server.get("/docs/docs.js").status, server.get("/docs/docs.css").status), (200, 200));
}

#[test]
fn a_full_queue_is_refused_at_once_and_the_accepted_are_served() {
    let server = Harness::with(|_, config| (config.max_queue, config.max_batch) = (2, 1));
    server.pace.hold();
    let running = server.begin_chat(&ask(&json!({})));
    server.wait_for("running", |s| s.engine.stats().running == 1);
    let waiting: Vec<_> = (1..=2)
        .map(|count| {
            let connection = server.begin_chat(&ask(&json!({})));
            server.wait_for("queued", |s| s.engine.stats().queued == count);
            connection
        })
        .collect();
    let start = Instant::now();
    let refused = server.chat(&ask(&json!({ "stream": true })));
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!((refused.status, refused.error().1.as_deref()), (503, Some("overloaded")));
    assert!(refused.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok_and(|s| s > 0)));
    server.pace.go();
    for connection in waiting.into_iter().chain([running]) {
        assert_eq!(connection.response().json()["choices"][0]["message"]["content"], ANSWER);
    }
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let server = Harness::with(|settings, _| settings.limits.body_bytes = 1 << 20);
    // More than the sockets' buffers hold, so that the server has answered long before all is sent.
    let body = vec![b' '; 24 << 20];
    for _ in 0..8 {
        let refused = server.post_bytes("/v1/chat/completions", &body);
        assert_eq!((refused.status, refused.header("connection")), (413, Some("close")));
    }
}

#[test]
fn a_client_that_leaves_frees_its_place() {
    let server = Harness::with(|_, config| config.max_batch = 1);
    for stream in [true, false] {
        server.pace.hold();
        let mut connection = server.begin_chat(&ask(&json!({ "stream": stream })));
        if stream {
            connection.read_until("assistant");
        }
        server.wait_for("running", |s| s.engine.stats().running == 1);
        let before = server.engine.stats().cancelled;
        drop(connection);
        let line = format!("swinseek:request_cancelled_total{{model_name=\"mock\"}} {}", before + 1);
        server.wait_for("it is noticed", |s| s.get("/metrics").text().contains(&line));
        server.wait_for("the place is free", |s| {
            s.pace.step();
            let stats = s.engine.stats();
            stats.running == 0 && stats.cancelled == before + 1
        });
        server.pace.go();
        assert_eq!(server.chat(&ask(&json!({}))).status, 200);
    }
}

#[test]
fn a_panic_of_the_model_is_a_500_and_the_next_request_is_served() {
    let server = Harness::new();
    let body = json!({ "messages": [{ "role": "user", "content": PANIC_WORD }] });
    let failed = server.chat(&body);
    assert_eq!(failed.status, 500);
    assert!(!failed.text().contains("as asked"), "the cause stays in the log");
    assert_eq!(server.chat(&ask(&json!({}))).json()["choices"][0]["message"]["content"], ANSWER);
}

#[test]
fn slow_headers_slow_bodies_and_silence_are_cut_off() {
    let server = Harness::with(|settings, _| {
        settings.timeouts.header = Duration::from_millis(150);
        settings.timeouts.body = Duration::from_millis(150);
    });
    let mut silent = server.connect();
    assert_eq!(silent.line(), None, "a connection without a request");
    let mut headers = server.connect();
    headers.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: t\r\nx-slow: ");
    let mut rest = Vec::new();
    let _ = headers.reader.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains("200"), "headers that never end");
    let mut body = server.connect();
    body.send(post_head("/v1/chat/completions", 1000, "host: t\r\nconnection: close\r\n\r\n").as_bytes())
        .send(b"{\"a\"");
    let response = body.response();
    assert_eq!((response.status, response.error().1.as_deref()), (408, Some("body_timeout")));
}

#[test]
fn a_deadline_is_504_and_in_a_stream_an_error_event() {
    let server = Harness::with(|settings, _| settings.timeouts.request = Duration::from_millis(200));
    server.pace.hold();
    let waiting = server.begin_chat(&ask(&json!({})));
    let mut streaming = server.begin_chat(&ask(&json!({ "stream": true })));
    streaming.read_until("assistant");
    assert_eq!(waiting.response().status, 504);
    let error = streaming.read_until("error");
    assert!(error.contains("deadline_exceeded"), "{error}");
    streaming.read_until("[DONE]");
}

#[test]
fn silence_in_a_stream_is_filled_with_comments() {
    let server = Harness::with(|settings, _| settings.timeouts.keep_alive = Duration::from_millis(20));
    server.pace.hold();
    let mut streaming = server.begin_chat(&ask(&json!({ "stream": true })));
    let comment = streaming.read_until("ping");
    assert!(comment.starts_with(':'), "{comment}");
}

#[test]
fn connections_beyond_the_limit_wait_for_a_place() {
    let server = Harness::with(|settings, _| settings.limits.connections = 1);
    let mut first = server.connect();
    first.send(b"GET /health/live HTTP/1.1\r\nhost: t\r\n\r\n").read_until("200 OK");
    let mut second = server.connect();
    second.send(b"GET /health/live HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
    second.reader.get_mut().set_read_timeout(Some(Duration::from_millis(100))).expect("timeout");
    assert_eq!(second.line(), None, "no place yet");
    drop(first);
    second.reader.get_mut().set_read_timeout(Some(Duration::from_mins(1))).expect("timeout");
    assert_eq!(second.response().status, 200);
}

#[test]
fn a_client_that_reads_nothing_is_cut_off() {
    let server = Harness::with(|settings, _| {
        settings.limits.connections = 1;
        settings.timeouts.write = Duration::from_millis(150);
    });
    let mut silent = server.connect();
    // Far more than the sockets' buffers hold.
    silent.send("GET /openapi.json HTTP/1.1\r\nhost: t\r\n\r\n".repeat(2000).as_bytes());
    assert_eq!(server.get("/health/live").status, 200, "its place is free again");
}

/// What a hostile client does in round `round`; it waits for nothing that it does not get.
fn mischief(server: &Harness, round: usize) {
    let head =
        |length: usize| post_head("/v1/chat/completions", length, "host: t\r\nconnection: close\r\n\r\n");
    let mut connection = server.connect();
    match round % 6 {
        0 => drop(connection.send(head(100_000).as_bytes()).send(b"{\"messages\":")),
        1 => drop(connection.send(head(2 << 30).as_bytes())),
        2 => drop(connection.send(b"\0\xff\r\n\r\nGET")),
        3 => assert_eq!(server.post_bytes("/v1/chat/completions", b"[[[[").status, 400),
        4 => {
            let body = json!({ "messages": [{ "role": "user", "content": PANIC_WORD }] });
            assert_eq!(server.chat(&body).status, 500);
        }
        _ => {
            let mut leaving = server.begin_chat(&ask(&json!({ "stream": true })));
            leaving.read_until("assistant");
        }
    }
}

#[test]
fn every_good_request_is_served_among_hostile_ones() {
    let server = Harness::new();
    std::thread::scope(|scope| {
        for client in 0..6 {
            let server = &server;
            scope.spawn(move || {
                for round in 0..12 {
                    mischief(server, client + round);
                    let answer = server.chat(&ask(&json!({ "seed": round })));
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    assert_eq!(answer.json()["choices"][0]["message"]["content"], ANSWER);
                }
            });
        }
    });
    server.wait_for("nothing is left over", |s| {
        let stats = s.engine.stats();
        stats.running + stats.queued == 0
    });
}

#[test]
fn draining_answers_what_was_accepted_and_refuses_the_rest() {
    let server = Harness::new();
    let mut idle = server.connect();
    idle.send(b"GET /health/ready HTTP/1.1\r\nhost: t\r\n\r\n").read_until("ready");
    server.pace.hold();
    let waiting = server.begin_chat(&ask(&json!({})));
    let mut streaming = server.begin_chat(&ask(&json!({ "stream": true })));
    streaming.read_until("assistant");
    server.wait_for("both are taken", |s| {
        let stats = s.engine.stats();
        stats.running + stats.queued == 2
    });
    server.stop();
    server.wait_for("no new connections", |s| std::net::TcpStream::connect(s.address).is_err());
    server.pace.go();
    assert_eq!(waiting.response().json()["choices"][0]["message"]["content"], ANSWER);
    streaming.read_until("[DONE]");
    drop(idle);
    assert!(server.join(), "all were answered");
}
