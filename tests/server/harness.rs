//! A server in this process, on a free port.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use swinseek::engine::{Engine, EngineConfig};
use swinseek::server::{Server, Settings};
use tokio::sync::watch;

use super::client::{Connection, Response};
use super::mock::{ANSWER, Mock, Pace, frontend};

pub(super) struct Harness {
    pub(super) address: SocketAddr,
    pub(super) engine: Engine,
    pub(super) pace: Pace,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<bool>>,
}

impl Harness {
    pub(super) fn new() -> Self {
        Self::with(|_, _| {})
    }

    /// With a model that writes another text.
    pub(super) fn writing(answer: &str) -> Self {
        Self::start(answer, |_, _| {})
    }

    /// With other settings than the default ones.
    pub(super) fn with(change: impl FnOnce(&mut Settings, &mut EngineConfig)) -> Self {
        Self::start(ANSWER, change)
    }

    fn start(answer: &str, change: impl FnOnce(&mut Settings, &mut EngineConfig)) -> Self {
        let (mut settings, mut config) = (Settings::default(), EngineConfig::default());
        settings.address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        change(&mut settings, &mut config);
        let pace = Pace::default();
        let frontend = frontend();
        let mock = Mock::new(frontend.prompts(), answer, pace.clone());
        let engine = Engine::start(mock, config).expect("an engine");
        let (stop, stopped) = watch::channel(false);
        let (bound, address) = mpsc::channel();
        let for_server = engine.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .expect("runtime");
            runtime.block_on(async {
                let server = Server::bind(settings, for_server, frontend).await.expect("binds");
                bound.send(server.address()).expect("the test waits");
                server.run(stopped).await
            })
        });
        let address = address.recv().expect("an address");
        let harness = Self { address, engine, pace, stop, thread: Some(thread) };
        harness.wait_for("ready", |h| h.get("/health/ready").status == 200);
        harness
    }

    /// Looks again and again until `condition` holds.
    #[track_caller]
    pub(super) fn wait_for(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(start.elapsed() < Duration::from_mins(1), "never: {what}");
            std::thread::yield_now();
        }
    }

    pub(super) fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    pub(super) fn request(&self, head: &str, body: &[u8]) -> Response {
        let mut connection = self.connect();
        connection.send(head.as_bytes()).send(b"host: test\r\nconnection: close\r\n\r\n").send(body);
        connection.response()
    }

    pub(super) fn get(&self, path: &str) -> Response {
        self.request(&format!("GET {path} HTTP/1.1\r\n"), b"")
    }

    pub(super) fn post_bytes(&self, path: &str, body: &[u8]) -> Response {
        self.request(&post_head(path, body.len(), ""), body)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Response {
        self.post_bytes(path, body.to_string().as_bytes())
    }

    pub(super) fn chat(&self, body: &Value) -> Response {
        self.post("/v1/chat/completions", body)
    }

    /// A request that is sent and not waited for.
    pub(super) fn begin_chat(&self, body: &Value) -> Connection {
        let body = body.to_string();
        let mut connection = self.connect();
        let head = post_head("/v1/chat/completions", body.len(), "host: test\r\nconnection: close\r\n\r\n");
        connection.send(head.as_bytes()).send(body.as_bytes());
        connection
    }

    /// Asks the server to stop.
    pub(super) fn stop(&self) {
        let _ = self.stop.send(true);
    }

    /// Waits until it has; whether all requests were answered.
    pub(super) fn join(mut self) -> bool {
        self.thread.take().expect("not joined yet").join().expect("no panic")
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.pace.go();
        self.stop();
    }
}

pub(super) fn post_head(path: &str, length: usize, more: &str) -> String {
    format!("POST {path} HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{more}")
}

/// A question, with further parameters.
pub(super) fn ask(more: &Value) -> Value {
    let mut body = json!({ "model": "mock", "messages": [{ "role": "user", "content": "What is seen?" }] });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

/// A question about an image given as a URL.
pub(super) fn ask_about(url: &str) -> Value {
    let parts = json!([{ "type": "text", "text": "What is seen?" }, { "type": "image_url", "image_url": { "url": url } }]);
    json!({ "messages": [{ "role": "user", "content": parts }] })
}
