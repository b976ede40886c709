//! Answers as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::unfold;
use serde::Serialize;

use super::error::{ApiError, ApiResult};
use super::running::Running;
use crate::engine::Event;

/// Turns the events of a request's answers into those of its stream.
pub(super) trait Writer: Send + 'static {
    /// Before anything has happened.
    fn begin(&mut self) -> Vec<sse::Event>;
    /// `event` happened to answer `index`. An error ends the stream.
    fn on(&mut self, index: usize, event: Event) -> impl Future<Output = ApiResult<Vec<sse::Event>>> + Send;
    /// After all answers have ended well.
    fn end(&mut self) -> Vec<sse::Event>;
}

/// `data: {json}`
pub(super) fn data(value: &impl Serialize) -> sse::Event {
    sse::Event::default().data(json(value))
}

/// `event: name`, `data: {json}`
pub(super) fn named(name: &str, value: &impl Serialize) -> sse::Event {
    sse::Event::default().event(name).data(json(value))
}

/// Our own types always serialise; an empty object would show if one did not.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}

struct State<S, W> {
    events: Option<S>,
    writer: W,
    ready: VecDeque<sse::Event>,
}

/// The response. Comments keep the connection alive while images are read; when the client goes away the answers are
/// dropped with the body.
pub(super) fn respond(running: Running, mut writer: impl Writer, keep_alive: Duration) -> Response {
    let ready = writer.begin().into();
    let state = State { events: Some(running.merged()), writer, ready };
    let events = unfold(state, |mut state| async move {
        loop {
            if let Some(event) = state.ready.pop_front() {
                return Some((Ok::<_, Infallible>(event), state));
            }
            let events = state.events.as_mut()?;
            if let Some((index, event)) = events.next().await {
                match state.writer.on(index, event).await {
                    Ok(more) => state.ready.extend(more),
                    Err(error) => {
                        state.events = None;
                        state.ready.extend([failed(&error), done()]);
                    }
                }
            } else {
                state.events = None;
                state.ready.extend(state.writer.end());
                state.ready.push_back(done());
            }
        }
    });
    let stream = Sse::new(events).keep_alive(KeepAlive::new().interval(keep_alive).text("ping"));
    let mut response = stream.into_response();
    // Proxies that collect a response before they pass it on would defeat the purpose.
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

fn failed(error: &ApiError) -> sse::Event {
    data(&error.body())
}

fn done() -> sse::Event {
    sse::Event::default().data("[DONE]")
}
