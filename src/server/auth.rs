//! API keys: who asks, how often, how much at once.
//!
//! The key file holds BLAKE3 hashes, never keys. Keys are random 256-bit values, so a fast hash is enough.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{ApiError, ApiResult};
use super::state::App;
use crate::toml_file;

/// The keys of a server; none means that everyone may ask.
#[derive(Debug, Default)]
pub(super) struct Keys {
    keys: Option<Vec<Arc<Key>>>,
}

/// One `[[key]]` of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    /// BLAKE3 of the key, hexadecimal.
    hash: String,
    /// Requests that may start in a minute; no number, no limit.
    requests_per_minute: Option<u32>,
    /// Requests at the same time.
    concurrent: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Entry>,
}

#[derive(Debug)]
struct Key {
    name: String,
    hash: blake3::Hash,
    bucket: Option<Bucket>,
    concurrent: Option<Arc<Semaphore>>,
}

/// Who a request belongs to. Holds a place among the key's concurrent requests until it is dropped.
#[derive(Debug, Clone, Default)]
pub(super) struct Caller {
    name: Option<Arc<str>>,
    _place: Option<Arc<OwnedSemaphorePermit>>,
}

impl Caller {
    /// The key's name; `None` where no key is needed.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

impl Keys {
    /// Reads a key file.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let name = path.display();
        let file: File = toml_file::read(path)?;
        ensure!(!file.key.is_empty(), "{name}: has no [[key]], so nobody could ask; add one with --new-key");
        let keys = file.key.into_iter().map(|entry| Key::new(entry).map(Arc::new));
        Ok(Self { keys: Some(keys.collect::<Result<_>>().with_context(|| name.to_string())?) })
    }

    /// Finds the caller and takes its place.
    fn admit(&self, headers: &HeaderMap) -> ApiResult<Caller> {
        let Some(keys) = &self.keys else {
            return Ok(Caller::default());
        };
        let key = find(keys, bearer(headers)?)?;
        if let Some(wait) = key.bucket.as_ref().and_then(|bucket| bucket.take(Instant::now())) {
            return Err(ApiError::too_many("this key has used up its requests per minute", wait));
        }
        let place = match &key.concurrent {
            None => None,
            Some(places) => Some(Arc::new(Arc::clone(places).try_acquire_owned().map_err(|_| {
                ApiError::too_many("this key has as many requests running as it may have", 1)
            })?)),
        };
        Ok(Caller { name: Some(key.name.as_str().into()), _place: place })
    }
}

fn bearer(headers: &HeaderMap) -> ApiResult<&str> {
    let unauthorized = |message| ApiError::new(StatusCode::UNAUTHORIZED, message).code("invalid_api_key");
    let value = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| unauthorized("no API key: send it in the header `Authorization: Bearer KEY`"))?;
    let text = value.to_str().unwrap_or_default();
    let (scheme, key) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unauthorized("the Authorization header has no Bearer key"));
    }
    Ok(key.trim())
}

/// Looks at every key, and compares in constant time: timing tells nothing of the keys or their order.
fn find<'a>(keys: &'a [Arc<Key>], presented: &str) -> ApiResult<&'a Key> {
    let hash = blake3::hash(presented.as_bytes());
    let mut found = None;
    for key in keys {
        // blake3::Hash compares in constant time.
        if key.hash == hash {
            found = Some(key.as_ref());
        }
    }
    found.ok_or_else(|| {
        ApiError::new(StatusCode::UNAUTHORIZED, "the API key is not known here").code("invalid_api_key")
    })
}

impl Key {
    fn new(entry: Entry) -> Result<Self> {
        let Entry { name, hash, requests_per_minute, concurrent } = entry;
        let hash = blake3::Hash::from_hex(&hash)
            .ok()
            .with_context(|| format!("key `{name}`: hash is not 64 hexadecimal digits"))?;
        ensure!(requests_per_minute != Some(0), "key `{name}`: requests_per_minute is 0");
        ensure!(concurrent != Some(0), "key `{name}`: concurrent is 0");
        Ok(Self {
            name,
            hash,
            bucket: requests_per_minute.map(Bucket::new),
            concurrent: concurrent.map(|places| Arc::new(Semaphore::new(places as usize))),
        })
    }
}

/// A token bucket that holds a minute's worth. Runs on the monotonic clock: setting the time changes nothing.
#[derive(Debug)]
struct Bucket {
    per_minute: f64,
    level: Mutex<(f64, Option<Instant>)>,
}

impl Bucket {
    fn new(per_minute: u32) -> Self {
        let per_minute = f64::from(per_minute);
        Self { per_minute, level: Mutex::new((per_minute, None)) }
    }

    /// Takes one token, or says in how many seconds there will be one.
    fn take(&self, now: Instant) -> Option<u64> {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, last) = &mut *level;
        let elapsed = last.map_or(0.0, |last| now.saturating_duration_since(last).as_secs_f64());
        *tokens = (*tokens + elapsed * self.per_minute / 60.0).min(self.per_minute);
        *last = Some(now);
        if *tokens >= 1.0 {
            *tokens -= 1.0;
            return None;
        }
        Some(((1.0 - *tokens) * 60.0 / self.per_minute).ceil() as u64)
    }
}

/// A fresh key and the `[[key]]` section that goes into the file.
///
/// # Errors
/// The system has no random numbers.
pub(crate) fn new_key(name: &str) -> Result<(String, String)> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let key = format!("sk-{}", blake3::Hash::from_bytes(secret).to_hex());
    let hash = blake3::hash(key.as_bytes()).to_hex();
    let name = toml::Value::String(name.to_owned());
    Ok((
        key,
        format!("[[key]]\nname = {name}\nhash = \"{hash}\"\nrequests_per_minute = 600\nconcurrent = 16\n"),
    ))
}

/// What anyone may see: whether the server lives, and the pages, which hold no data.
fn is_open(method: &Method, path: &str) -> bool {
    let open =
        ["/", "/docs", "/docs/docs.js", "/docs/docs.css", "/openapi.json", "/health/live", "/health/ready"];
    matches!(*method, Method::GET | Method::HEAD) && (open.contains(&path) || path.starts_with("/page/"))
}

/// Puts the [`Caller`] into the request, or answers 401 or 429.
pub(super) async fn authenticate(State(app): State<App>, mut request: Request, next: Next) -> Response {
    if is_open(request.method(), request.uri().path()) {
        return next.run(request).await;
    }
    match app.keys.admit(request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_refills_with_time_and_never_beyond_a_minute() {
        let bucket = Bucket::new(2);
        let start = Instant::now();
        assert_eq!((bucket.take(start), bucket.take(start)), (None, None));
        assert_eq!(bucket.take(start), Some(30));
        assert_eq!(bucket.take(start + Duration::from_secs(31)), None);
        let later = start + Duration::from_hours(1);
        assert_eq!((bucket.take(later), bucket.take(later)), (None, None));
        assert!(bucket.take(later).is_some());
    }

    #[test]
    fn a_new_key_is_found_by_its_section_and_others_are_not() {
        let (key, section) = new_key("a \"quoted\" name").expect("a key");
        let file: File = toml::from_str(&section).expect("a section");
        let keys: Vec<_> = file.key.into_iter().map(|e| Arc::new(Key::new(e).expect("valid"))).collect();
        assert_eq!(find(&keys, &key).expect("found").name, "a \"quoted\" name");
        assert!(find(&keys, &key[1..]).is_err());
        assert!(find(&keys, "").is_err());
    }
}
