//! Images from http(s) URLs, for an operator who allows it.
//!
//! A name is resolved once, every address it has must be global (unless the host is listed), and the connection goes to
//! exactly these addresses. Redirects are followed by hand, each checked like the first URL. Time and bytes are bounded
//! for all of it together. No proxy, no cookies, no compression, no other schemes.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use axum::http::{StatusCode, Uri};
use ureq::Agent;
use ureq::config::Config;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use super::address::is_global;
use super::source::{Source, too_large};
use crate::server::error::{ApiError, ApiResult};
use crate::server::settings::UrlPolicy;

const REDIRECTS: usize = 3;

/// Reads image URLs as the policy allows.
#[derive(Debug, Clone)]
pub(crate) struct Fetcher {
    policy: UrlPolicy,
    timeout: Duration,
    max_bytes: u64,
}

impl Fetcher {
    pub(crate) fn new(policy: UrlPolicy, timeout: Duration, max_bytes: u64) -> Self {
        Self { policy, timeout, max_bytes }
    }

    /// The bytes of an image, wherever they are. Blocks.
    pub(crate) fn read(&self, source: Source, param: &str, deadline: Instant) -> ApiResult<Vec<u8>> {
        if Instant::now() > deadline {
            return Err(ApiError::deadline());
        }
        match source {
            Source::Bytes(bytes) => Ok(bytes),
            Source::Url(url) => self.fetch(&url, param, deadline),
        }
    }

    fn fetch(&self, url: &str, param: &str, deadline: Instant) -> ApiResult<Vec<u8>> {
        let end = deadline.min(Instant::now() + self.timeout);
        let mut uri = self.allowed(url, param)?;
        for _ in 0..=REDIRECTS {
            let left = end.saturating_duration_since(Instant::now());
            let response = self.agent(&uri, left).get(&uri).call();
            let response = response.map_err(|error| failed(&error, param))?;
            let status = response.status();
            if status.is_redirection() {
                let location = response.headers().get("location").and_then(|v| v.to_str().ok());
                let target = location.and_then(|location| join(&uri, location));
                let target = target.ok_or_else(|| upstream("the image URL redirects to nowhere", param))?;
                uri = self.allowed(&target, param)?;
                continue;
            }
            if !status.is_success() {
                return Err(upstream(format!("the image URL answers {}", status.as_u16()), param));
            }
            let mut bytes = Vec::new();
            let reader = response.into_body().into_reader();
            let read = reader.take(self.max_bytes + 1).read_to_end(&mut bytes);
            read.map_err(|_| upstream("the image URL broke off or was too slow", param))?;
            if bytes.len() as u64 > self.max_bytes {
                return Err(too_large(self.max_bytes, param));
            }
            return Ok(bytes);
        }
        Err(upstream(format!("the image URL redirects more than {REDIRECTS} times"), param))
    }

    /// Whether the host may be asked at all; its addresses are checked when they are known.
    fn allowed(&self, url: &str, param: &str) -> ApiResult<Uri> {
        let invalid = |message: &str| ApiError::invalid(param, message).code("invalid_image_url");
        if !self.policy.enabled && self.policy.hosts.is_empty() {
            let message = "image URLs are not read by this server: send the image as a data URI";
            return Err(ApiError::invalid(param, message).code("image_url_disabled"));
        }
        // What programs read differently is not read at all.
        if url.contains(['\\', '@', '\t', '\n', '\r', ' ']) {
            return Err(invalid("the image URL holds a character that does not belong there"));
        }
        let uri: Uri = url.parse().map_err(|_| invalid("the image URL cannot be read"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(invalid("only http and https URLs are read"));
        }
        let host =
            uri.host().filter(|host| !host.is_empty()).ok_or_else(|| invalid("the image URL has no host"))?;
        if !self.policy.enabled && !self.is_listed(host) {
            return Err(forbidden(param));
        }
        Ok(uri)
    }

    fn is_listed(&self, host: &str) -> bool {
        let plain = |host: &str| host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        self.policy.hosts.iter().any(|listed| plain(listed) == plain(host))
    }

    /// A client for one request: it connects to checked addresses only and follows nothing.
    fn agent(&self, uri: &Uri, left: Duration) -> Agent {
        let config = Config::builder()
            .timeout_global(Some(left.max(Duration::from_millis(1))))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .proxy(None)
            .user_agent(concat!("swinseek/", env!("CARGO_PKG_VERSION")))
            .build();
        let resolver = Checked { any_address: uri.host().is_some_and(|host| self.is_listed(host)) };
        Agent::with_parts(config, DefaultConnector::default(), resolver)
    }
}

/// Resolves a name and refuses it when any of its addresses is not global.
#[derive(Debug)]
struct Checked {
    any_address: bool,
}

impl Resolver for Checked {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let addresses = DefaultResolver::default().resolve(uri, config, timeout)?;
        if !self.any_address && addresses.iter().any(|address| !is_global(address.ip())) {
            let refused = io::Error::new(io::ErrorKind::PermissionDenied, "not a global address");
            return Err(ureq::Error::Io(refused));
        }
        Ok(addresses)
    }
}

fn forbidden(param: &str) -> ApiError {
    let message = "the image URL leads to an address that this server does not read from";
    ApiError::new(StatusCode::FORBIDDEN, message).param(param).code("image_url_forbidden")
}

fn upstream(message: impl Into<String>, param: &str) -> ApiError {
    ApiError::invalid(param, message).code("image_url_failed")
}

/// Says nothing of names, addresses or ports: a caller must not learn of networks through us.
fn failed(error: &ureq::Error, param: &str) -> ApiError {
    match error {
        ureq::Error::Io(io) if io.kind() == io::ErrorKind::PermissionDenied => forbidden(param),
        ureq::Error::Timeout(_) => upstream("the image URL was too slow", param),
        _ => upstream("the image URL could not be read", param),
    }
}

/// The target of a redirect: absolute, or a path on the same host.
fn join(base: &Uri, location: &str) -> Option<String> {
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    if location.starts_with("//") {
        Some(format!("{scheme}:{location}"))
    } else if location.starts_with('/') {
        Some(format!("{scheme}://{authority}{location}"))
    } else if location.contains("://") {
        Some(location.to_owned())
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        Some(format!("{scheme}://{authority}{folder}/{location}"))
    }
}
