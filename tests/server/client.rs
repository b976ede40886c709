//! A client that sends exactly what a test says, and reads what comes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// A connection whose response is read as it comes.
pub(super) struct Connection {
    pub(super) reader: BufReader<TcpStream>,
}

impl Connection {
    pub(super) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
        Self { reader: BufReader::new(stream) }
    }

    /// A server that answers early may close before all is sent.
    pub(super) fn send(&mut self, bytes: &[u8]) -> &mut Self {
        let _ = self.reader.get_mut().write_all(bytes);
        self
    }

    /// A line without its end; `None` at the end of the stream.
    pub(super) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
        }
    }

    /// Reads up to the first line that holds `mark`.
    pub(super) fn read_until(&mut self, mark: &str) -> String {
        std::iter::from_fn(|| self.line())
            .find(|line| line.contains(mark))
            .unwrap_or_else(|| panic!("no `{mark}`"))
    }

    /// The whole response of a connection that closes.
    pub(super) fn response(mut self) -> Response {
        let status = self.line().expect("a status line");
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        let mut headers = Vec::new();
        while let Some(line) = self.line().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').expect("a header");
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut body = Vec::new();
        let _ = self.reader.read_to_end(&mut body);
        let response = Response { status, headers, body };
        if response.header("transfer-encoding") == Some("chunked") {
            let body = unchunk(&response.body);
            return Response { body, ..response };
        }
        response
    }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        let size =
            std::str::from_utf8(&bytes[..end]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let Some(size) = size.filter(|&size| size > 0 && end + 2 + size <= bytes.len()) else {
            break;
        };
        body.extend_from_slice(&bytes[end + 2..][..size]);
        bytes = bytes.get(end + 2 + size + 2..).unwrap_or_default();
    }
    body
}

impl Response {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{}: {e}: {}", self.status, self.text()))
    }

    /// `data:` of each event.
    pub(super) fn events(&self) -> Vec<String> {
        self.text().lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
    }

    /// The error object's `param` and `code`; the object has OpenAI's four fields.
    #[track_caller]
    pub(super) fn error(&self) -> (Option<String>, Option<String>) {
        let value = self.json();
        let error = value["error"].as_object().unwrap_or_else(|| panic!("no error object in {value}"));
        let mut fields: Vec<&str> = error.keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["code", "message", "param", "type"], "{value}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{value}");
        let text = |field: &str| error[field].as_str().map(str::to_owned);
        (text("param"), text("code"))
    }
}
