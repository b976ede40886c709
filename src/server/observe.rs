//! Around every request: its id, its line in the log, its place in the metrics. Neither bodies nor queries are logged.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tracing::Instrument;

use super::error::{ApiError, RefusalReason};
use super::state::App;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What may be answered before the body was read.
const BEFORE_BODY: [u16; 7] = [401, 408, 413, 415, 429, 503, 504];

/// The request's id: the client's, if it sent a usable one.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) Arc<str>);

impl RequestId {
    fn of(request: &Request) -> Self {
        let given = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
        let usable = |id: &&str| {
            (1..=128).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        Self(given.filter(usable).map_or_else(|| random_id("req-").into(), Into::into))
    }
}

/// A name that nobody else has.
pub(super) fn random_id(prefix: &str) -> String {
    let mut bytes = [0; 12];
    // Without random numbers ids repeat, which confuses logs and nothing else.
    let _ = getrandom::fill(&mut bytes);
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let hex = digits.filter_map(|digit| char::from_digit(u32::from(digit), 16));
    prefix.chars().chain(hex).collect()
}

/// The outermost layer.
pub(super) async fn observe(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::of(&request);
    request.extensions_mut().insert(id.clone());
    let method = request.method().clone();
    // The route, never the path: a path is the client's text.
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", id = %id.0, %method, route);
    let answered = std::panic::AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone());
    let mut response = answered.await.unwrap_or_else(|_| {
        span.in_scope(|| tracing::error!("a handler panicked"));
        ApiError::internal().into_response()
    });
    let status = response.status();
    let elapsed = started.elapsed();
    let label = method_label(method.as_str());
    app.metrics.http.with_label_values(&[label, &route, status.as_str()]).observe(elapsed.as_secs_f64());
    if let Some(RefusalReason(reason)) = response.extensions().get() {
        app.metrics.refused.with_label_values(&[reason]).inc();
    }
    span.in_scope(|| tracing::info!(status = status.as_u16(), ms = elapsed.as_millis() as u64, "answered"));
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if BEFORE_BODY.contains(&status.as_u16()) {
        // The rest of the body is not read, so the connection cannot be used again; clients must know.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Methods may be any word; labels may not.
fn method_label(method: &str) -> &'static str {
    match method {
        "GET" => "GET",
        "POST" => "POST",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
