//! What a request must pass before anything is done for it: places in the queue, memory for its body, its body in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::{ApiError, ApiResult};
use super::settings::{Limits, Timeouts};
use crate::engine::Engine;

/// Body memory is handed out in pieces of this size.
const PIECE: u64 = 1024;

/// Counts what is under way.
#[derive(Debug)]
pub(super) struct Gate {
    limits: Limits,
    timeouts: Timeouts,
    draining: AtomicBool,
    /// Requests that were let in and have not reached the engine yet.
    preparing: Arc<AtomicUsize>,
    body_memory: Arc<Semaphore>,
    decoding: Arc<Semaphore>,
}

/// A request that was let in; dropping it makes room for the next.
#[derive(Debug)]
pub(super) struct Ticket {
    preparing: Arc<AtomicUsize>,
    /// When the answer is of no use any more.
    pub(super) deadline: Instant,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.preparing.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body with the memory it was promised.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) bytes: Bytes,
    _memory: OwnedSemaphorePermit,
}

impl Gate {
    pub(super) fn new(limits: &Limits, timeouts: &Timeouts) -> Self {
        let pieces = (limits.inflight_bytes.div_ceil(PIECE) as usize).min(Semaphore::MAX_PERMITS);
        Self {
            limits: limits.clone(),
            timeouts: timeouts.clone(),
            draining: AtomicBool::new(false),
            preparing: Arc::default(),
            body_memory: Arc::new(Semaphore::new(pieces)),
            decoding: Arc::new(Semaphore::new(limits.decode_threads)),
        }
    }

    /// From now on nothing is let in.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Requests between the door and the engine.
    pub(super) fn preparing(&self) -> usize {
        self.preparing.load(Ordering::Relaxed)
    }

    /// The first thing that happens to a request, before its body is read: overload is answered at once.
    pub(super) fn enter(&self, engine: &Engine) -> ApiResult<Ticket> {
        if self.is_draining() {
            return Err(ApiError::shutting_down());
        }
        let ticket = Ticket {
            preparing: Arc::clone(&self.preparing),
            deadline: Instant::now() + self.timeouts.request,
        };
        let before = self.preparing.fetch_add(1, Ordering::Relaxed);
        let stats = engine.stats();
        let under_way = before + stats.queued + stats.running;
        if under_way >= engine.capacity() {
            return Err(ApiError::busy(format!("{under_way} requests are under way already"), 1));
        }
        Ok(ticket)
    }

    /// Reads a body, within its size, its time and the memory of all bodies.
    pub(super) async fn body(&self, headers: &HeaderMap, body: Body) -> ApiResult<Received> {
        if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            let message = "compressed bodies are not read: send it without Content-Encoding";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let limit = self.limits.body_bytes;
        let too_large = || {
            let message = format!("the body is larger than {limit} bytes");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message).code("body_too_large")
        };
        let stated = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if stated.is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        // A body of unknown length may become as large as any.
        let pieces = stated.unwrap_or(limit).div_ceil(PIECE).max(1) as u32;
        let memory = Arc::clone(&self.body_memory).try_acquire_many_owned(pieces);
        let memory = memory.map_err(|_| ApiError::busy("too many large requests are being read", 1))?;
        let read = async {
            let mut bytes = Vec::with_capacity(stated.unwrap_or(0) as usize);
            let mut chunks = body.into_data_stream();
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(|_| {
                    ApiError::new(StatusCode::BAD_REQUEST, "the body ended before its stated length")
                })?;
                if bytes.len() as u64 + chunk.len() as u64 > limit {
                    return Err(too_large());
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(Bytes::from(bytes))
        };
        if let Ok(bytes) = timeout(self.timeouts.body, read).await {
            Ok(Received { bytes: bytes?, _memory: memory })
        } else {
            let message = "the body did not arrive in time";
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message).code("body_timeout"))
        }
    }

    /// Runs `work` (parsing, decoding, tokenising) on a thread that may take long; only so many run at once, and those
    /// who wait hold a [`Ticket`].
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        let place = Arc::clone(&self.decoding).acquire_owned();
        let place =
            tokio::time::timeout_at(deadline.into(), place).await.map_err(|_| ApiError::deadline())?;
        let place = place.map_err(|_| ApiError::shutting_down())?;
        // The place goes with the work: a client that leaves does not let another thread start beside it.
        let work = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        work.await.unwrap_or_else(|error| {
            tracing::error!(%error, "preparing a request panicked");
            Err(ApiError::internal())
        })
    }
}
