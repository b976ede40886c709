//! Settings with every default filled in and every range checked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use swinseek_language::constraint::Lexicon;
use swinseek_vision::preprocess;

use super::auth::Keys;
use super::flags::Flags;
use super::listen;
use crate::engine::EngineConfig;

/// What a server runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Certificate chain and private key, PEM files.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The key file.
    pub api_keys: Option<PathBuf>,
    /// The audit file.
    pub audit: Option<PathBuf>,
    /// Name of the model in the API; `None` is the engine's.
    pub model_name: Option<String>,
    /// Temperature of a request that names none.
    pub default_temperature: f64,
    /// Most new tokens of a request that names no number.
    pub default_max_tokens: usize,
    /// Terms that reports may be held to.
    pub lexicon: Option<PathBuf>,
    /// Refuse DICOM files whose pixels name the patient.
    pub refuse_burned_in: bool,
    /// Which image URLs are read.
    pub urls: UrlPolicy,
    /// Sizes.
    pub limits: Limits,
    /// Times.
    pub timeouts: Timeouts,
}

/// Which image URLs are read.
#[derive(Debug, Clone, Default)]
pub struct UrlPolicy {
    /// Any host at a global address.
    pub enabled: bool,
    /// Hosts that are read at any address.
    pub hosts: Vec<String>,
}

/// Sizes that are checked before work.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Bytes of a request body.
    pub body_bytes: u64,
    /// Bytes of all bodies in memory.
    pub inflight_bytes: u64,
    /// Images in a request.
    pub images: usize,
    /// Of one image file.
    pub image: preprocess::Limits,
    /// Answers to one request.
    pub choices: usize,
    /// Requests that decode at once.
    pub decode_threads: usize,
}

/// How long things may take.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// The headers of a request.
    pub header: Duration,
    /// Its body.
    pub body: Duration,
    /// A client that takes no bytes.
    pub write: Duration,
    /// From headers to the last token.
    pub request: Duration,
    /// After a signal to stop.
    pub drain: Duration,
    /// Silence in a stream before a comment.
    pub keep_alive: Duration,
    /// An image from a URL.
    pub image_url: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 8080),
            tls: None,
            api_keys: None,
            audit: None,
            model_name: None,
            default_temperature: 0.0,
            default_max_tokens: 256,
            lexicon: None,
            refuse_burned_in: false,
            urls: UrlPolicy::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            body_bytes: 64 << 20,
            inflight_bytes: 256 << 20,
            images: 8,
            // A mammogram has about 20 Mi pixels.
            image: preprocess::Limits { max_bytes: 32 << 20, max_pixels: 32 << 20, max_frames: 16_384 },
            choices: 8,
            decode_threads: 2,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
            request: Duration::from_mins(2),
            drain: Duration::from_mins(1),
            keep_alive: Duration::from_secs(15),
            image_url: Duration::from_secs(10),
        }
    }
}

impl Settings {
    /// From flags, variables and file.
    ///
    /// # Errors
    /// Names the setting that is out of range, or that needs another one.
    pub fn resolve(flags: &Flags) -> Result<Self> {
        let default = Self::default();
        let host: IpAddr = flags.host.unwrap_or(default.address.ip());
        let tls = match (&flags.tls_cert, &flags.tls_key) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            (Some(_), None) => bail!("tls_cert needs tls_key"),
            (None, Some(_)) => bail!("tls_key needs tls_cert"),
        };
        let default_temperature = flags.default_temperature.unwrap_or(default.default_temperature);
        ensure!(
            (0.0..=2.0).contains(&default_temperature),
            "default_temperature is {default_temperature}, expected a number in [0, 2]"
        );
        let default_max_tokens = at_least_one("default_max_tokens", flags.default_max_tokens)?;
        Ok(Self {
            address: SocketAddr::new(host, flags.port.unwrap_or(default.address.port())),
            tls,
            api_keys: flags.api_keys.clone(),
            audit: flags.audit.clone(),
            model_name: flags.served_model_name.clone(),
            default_temperature,
            default_max_tokens: default_max_tokens.unwrap_or(default.default_max_tokens),
            lexicon: flags.lexicon.clone(),
            refuse_burned_in: flags.refuse_burned_in.unwrap_or(false),
            urls: UrlPolicy {
                enabled: flags.image_urls.unwrap_or(false),
                hosts: flags.image_url_hosts.clone().unwrap_or_default(),
            },
            limits: Limits::resolve(flags)?,
            timeouts: Timeouts::resolve(flags)?,
        })
    }

    /// Reads key file, certificate and terms, to find mistakes early.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn check_files(&self) -> Result<()> {
        if let Some(keys) = &self.api_keys {
            Keys::open(keys)?;
        }
        if let Some((cert, key)) = &self.tls {
            listen::tls(cert, key)?;
        }
        self.lexicon().map(drop)
    }

    /// Reads the term file.
    pub(super) fn lexicon(&self) -> Result<Option<Arc<Lexicon>>> {
        let Some(path) = &self.lexicon else {
            return Ok(None);
        };
        let name = path.display();
        let bytes = std::fs::read(path).with_context(|| format!("{name}: cannot be read"))?;
        Ok(Some(Arc::new(Lexicon::from_bytes(&bytes).with_context(|| name.to_string())?)))
    }

    /// The engine's part of the settings.
    ///
    /// # Errors
    /// Names the setting that is out of range.
    pub fn engine(flags: &Flags) -> Result<EngineConfig> {
        let default = EngineConfig::default();
        Ok(EngineConfig {
            max_batch: at_least_one("max_batch", flags.max_batch)?.unwrap_or(default.max_batch),
            max_queue: at_least_one("max_queue", flags.max_queue)?.unwrap_or(default.max_queue),
            prefill_chunk: at_least_one("prefill_chunk", flags.prefill_chunk)?
                .unwrap_or(default.prefill_chunk),
            feature_cache_bytes: flags.feature_cache_bytes.unwrap_or(default.feature_cache_bytes),
            prefix_cache_bytes: flags.prefix_cache_bytes.unwrap_or(default.prefix_cache_bytes),
        })
    }
}

impl Limits {
    fn resolve(flags: &Flags) -> Result<Self> {
        let default = Self::default();
        let body_bytes = at_least_one("max_body_bytes", flags.max_body_bytes)?.unwrap_or(default.body_bytes);
        let inflight_bytes = flags.max_inflight_bytes.unwrap_or(default.inflight_bytes.max(body_bytes));
        ensure!(
            inflight_bytes >= body_bytes,
            "max_inflight_bytes is {inflight_bytes}, expected at least max_body_bytes, {body_bytes}"
        );
        let image = preprocess::Limits {
            max_bytes: at_least_one("max_image_bytes", flags.max_image_bytes)?
                .unwrap_or(default.image.max_bytes),
            max_pixels: at_least_one("max_pixels", flags.max_pixels)?.unwrap_or(default.image.max_pixels),
            ..default.image
        };
        Ok(Self {
            connections: at_least_one("max_connections", flags.max_connections)?
                .unwrap_or(default.connections),
            body_bytes,
            inflight_bytes,
            images: flags.max_images.unwrap_or(default.images),
            image,
            choices: at_least_one("max_choices", flags.max_choices)?.unwrap_or(default.choices),
            decode_threads: at_least_one("decode_threads", flags.decode_threads)?
                .unwrap_or(default.decode_threads),
        })
    }
}

impl Timeouts {
    fn resolve(flags: &Flags) -> Result<Self> {
        let default = Self::default();
        Ok(Self {
            header: seconds("header_timeout", flags.header_timeout, default.header)?,
            body: seconds("body_timeout", flags.body_timeout, default.body)?,
            write: seconds("write_timeout", flags.write_timeout, default.write)?,
            request: seconds("request_timeout", flags.request_timeout, default.request)?,
            drain: seconds("drain_timeout", flags.drain_timeout, default.drain)?,
            keep_alive: seconds("keep_alive", flags.keep_alive, default.keep_alive)?,
            image_url: seconds("image_url_timeout", flags.image_url_timeout, default.image_url)?,
        })
    }
}

fn at_least_one<N: Copy + Default + PartialEq>(name: &str, value: Option<N>) -> Result<Option<N>> {
    ensure!(value != Some(N::default()), "{name} is 0, expected at least 1");
    Ok(value)
}

fn seconds(name: &str, value: Option<f64>, default: Duration) -> Result<Duration> {
    let Some(value) = value else {
        return Ok(default);
    };
    ensure!((0.01..=86_400.0).contains(&value), "{name} is {value}, expected seconds in [0.01, 86400]");
    Ok(Duration::from_secs_f64(value))
}
