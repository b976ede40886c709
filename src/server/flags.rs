//! Every setting of `serve`, once: the same list is the flags, the `SWINSEEK_*` variables and the keys of the TOML file.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use swinseek_kernels::Precision;

use crate::toml_file;

/// Settings as given, by flag, variable or file; a flag wins over a variable, a variable over the file.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flags {
    /// Address to listen on; anything but loopback wants --api-keys [default: 127.0.0.1].
    #[arg(long, value_name = "ADDRESS", env = "SWINSEEK_HOST", help_heading = "Listening")]
    pub host: Option<IpAddr>,
    /// Port; 0 takes a free one [default: 8080].
    #[arg(long, value_name = "PORT", env = "SWINSEEK_PORT", help_heading = "Listening")]
    pub port: Option<u16>,
    /// PEM file of the certificate chain: serve HTTPS.
    #[arg(long, value_name = "FILE", env = "SWINSEEK_TLS_CERT", help_heading = "Listening")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file of its private key.
    #[arg(long, value_name = "FILE", env = "SWINSEEK_TLS_KEY", help_heading = "Listening")]
    pub tls_key: Option<PathBuf>,
    /// Most connections at once [default: 512].
    #[arg(long, value_name = "N", env = "SWINSEEK_MAX_CONNECTIONS", help_heading = "Listening")]
    pub max_connections: Option<usize>,

    /// Model directory; without it the default model.
    #[arg(long, short = 'm', value_name = "DIR", env = "SWINSEEK_MODEL", help_heading = "Model")]
    pub model: Option<PathBuf>,
    /// How matrices are multiplied [default: bf16].
    #[arg(long, value_enum, value_name = "P", env = "SWINSEEK_PRECISION", help_heading = "Model")]
    pub precision: Option<PrecisionFlag>,
    /// Where the model computes: cpu, cuda or cuda:N [default: cpu].
    #[arg(long, value_name = "NAME", env = "SWINSEEK_DEVICE", help_heading = "Model")]
    pub device: Option<String>,
    /// Name of the model in the API; by default that of its directory.
    #[arg(long, value_name = "NAME", env = "SWINSEEK_SERVED_MODEL_NAME", help_heading = "Model")]
    pub served_model_name: Option<String>,
    /// Temperature of a request that names none; 0 is greedy [default: 0].
    #[arg(long, value_name = "T", env = "SWINSEEK_DEFAULT_TEMPERATURE", help_heading = "Model")]
    pub default_temperature: Option<f64>,
    /// Most new tokens of a request that names no number, as far as the context goes [default: 256].
    #[arg(long, value_name = "N", env = "SWINSEEK_DEFAULT_MAX_TOKENS", help_heading = "Model")]
    pub default_max_tokens: Option<usize>,

    /// Terms that reports may be held to, by request: a TSV file, or RRF as the UMLS has it.
    #[arg(long, value_name = "FILE", env = "SWINSEEK_LEXICON", help_heading = "Model")]
    pub lexicon: Option<PathBuf>,

    /// File of API keys (TOML); without it anyone who reaches the port may ask.
    #[arg(long, value_name = "FILE", env = "SWINSEEK_API_KEYS", help_heading = "Safety")]
    pub api_keys: Option<PathBuf>,
    /// Write a hash-chained record of each request (who, which images' digests, when; no content) to this file.
    #[arg(long, value_name = "FILE", env = "SWINSEEK_AUDIT", help_heading = "Safety")]
    pub audit: Option<PathBuf>,
    /// Read images from http(s) URLs: global addresses only, re-checked at each redirect [default: false].
    #[arg(
        long,
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL",
        env = "SWINSEEK_IMAGE_URLS",
        help_heading = "Safety"
    )]
    pub image_urls: Option<bool>,
    /// A host whose URLs are read even at a private address; may be given several times.
    #[arg(
        long,
        value_name = "HOST",
        env = "SWINSEEK_IMAGE_URL_HOSTS",
        value_delimiter = ',',
        help_heading = "Safety"
    )]
    pub image_url_hosts: Option<Vec<String>>,
    /// Refuse DICOM files that say their pixels name the patient (BurnedInAnnotation YES) instead of flagging them [default: false].
    #[arg(
        long,
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL",
        env = "SWINSEEK_REFUSE_BURNED_IN",
        help_heading = "Safety"
    )]
    pub refuse_burned_in: Option<bool>,

    /// Largest request body in bytes [default: 64 MiB].
    #[arg(long, value_name = "BYTES", env = "SWINSEEK_MAX_BODY_BYTES", help_heading = "Limits")]
    pub max_body_bytes: Option<u64>,
    /// Most bytes of request bodies in memory at once [default: 256 MiB].
    #[arg(long, value_name = "BYTES", env = "SWINSEEK_MAX_INFLIGHT_BYTES", help_heading = "Limits")]
    pub max_inflight_bytes: Option<u64>,
    /// Most images in a request [default: 8].
    #[arg(long, value_name = "N", env = "SWINSEEK_MAX_IMAGES", help_heading = "Limits")]
    pub max_images: Option<usize>,
    /// Largest image file in bytes [default: 32 MiB].
    #[arg(long, value_name = "BYTES", env = "SWINSEEK_MAX_IMAGE_BYTES", help_heading = "Limits")]
    pub max_image_bytes: Option<u64>,
    /// Most pixels of an image; checked in its header, before it is decoded [default: 32 Mi].
    #[arg(long, value_name = "N", env = "SWINSEEK_MAX_PIXELS", help_heading = "Limits")]
    pub max_pixels: Option<u64>,
    /// Most answers to one request (`n`) [default: 8].
    #[arg(long, value_name = "N", env = "SWINSEEK_MAX_CHOICES", help_heading = "Limits")]
    pub max_choices: Option<usize>,
    /// Requests that may decode images at the same time [default: 2].
    #[arg(long, value_name = "N", env = "SWINSEEK_DECODE_THREADS", help_heading = "Limits")]
    pub decode_threads: Option<usize>,

    /// Sequences that are decoded together [default: 32].
    #[arg(long, value_name = "N", env = "SWINSEEK_MAX_BATCH", help_heading = "Engine")]
    pub max_batch: Option<usize>,
    /// Requests that may wait; more are refused with 503 [default: 2].
    #[arg(long, value_name = "N", env = "SWINSEEK_MAX_QUEUE", help_heading = "Engine")]
    pub max_queue: Option<usize>,
    /// Prompt tokens that are run between two decode steps [default: 128].
    #[arg(long, value_name = "N", env = "SWINSEEK_PREFILL_CHUNK", help_heading = "Engine")]
    pub prefill_chunk: Option<usize>,
    /// Size of the cache of image features [default: 256 MiB].
    #[arg(long, value_name = "BYTES", env = "SWINSEEK_FEATURE_CACHE_BYTES", help_heading = "Engine")]
    pub feature_cache_bytes: Option<usize>,
    /// Size of the cache of shared prompts [default: 64 MiB].
    #[arg(long, value_name = "BYTES", env = "SWINSEEK_PREFIX_CACHE_BYTES", help_heading = "Engine")]
    pub prefix_cache_bytes: Option<usize>,

    /// Seconds for the headers of a request, also between two requests of a connection [default: 10].
    #[arg(long, value_name = "S", env = "SWINSEEK_HEADER_TIMEOUT", help_heading = "Time")]
    pub header_timeout: Option<f64>,
    /// Seconds for the body of a request [default: 30].
    #[arg(long, value_name = "S", env = "SWINSEEK_BODY_TIMEOUT", help_heading = "Time")]
    pub body_timeout: Option<f64>,
    /// Seconds that a client may take no bytes before its connection is closed [default: 30].
    #[arg(long, value_name = "S", env = "SWINSEEK_WRITE_TIMEOUT", help_heading = "Time")]
    pub write_timeout: Option<f64>,
    /// Seconds from a request's headers to its last token [default: 120].
    #[arg(long, value_name = "S", env = "SWINSEEK_REQUEST_TIMEOUT", help_heading = "Time")]
    pub request_timeout: Option<f64>,
    /// Seconds to finish accepted requests after SIGTERM [default: 60].
    #[arg(long, value_name = "S", env = "SWINSEEK_DRAIN_TIMEOUT", help_heading = "Time")]
    pub drain_timeout: Option<f64>,
    /// Seconds of silence in a stream before a keep-alive comment [default: 15].
    #[arg(long, value_name = "S", env = "SWINSEEK_KEEP_ALIVE", help_heading = "Time")]
    pub keep_alive: Option<f64>,
    /// Seconds for reading an image from a URL, redirects included [default: 10].
    #[arg(long, value_name = "S", env = "SWINSEEK_IMAGE_URL_TIMEOUT", help_heading = "Time")]
    pub image_url_timeout: Option<f64>,

    /// Form of the log on standard error [default: text].
    #[arg(long, value_enum, value_name = "FORM", env = "SWINSEEK_LOG_FORMAT", help_heading = "Log")]
    pub log_format: Option<LogFormat>,
    /// What is logged: a level, or a filter such as `swinseek=debug,warn` [default: info].
    #[arg(long, value_name = "FILTER", env = "SWINSEEK_LOG", help_heading = "Log")]
    pub log: Option<String>,
    /// Send spans of requests to this OpenTelemetry collector, such as http://127.0.0.1:4318/v1/traces (feature `otlp`).
    #[arg(long, value_name = "URL", env = "SWINSEEK_OTLP_ENDPOINT", help_heading = "Log")]
    pub otlp_endpoint: Option<String>,
}

/// `--precision`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionFlag {
    /// Operands rounded to bf16, products summed in f32: fast.
    #[default]
    Bf16,
    /// Operands in f32, for comparison with other implementations.
    F32,
    /// As bf16, with the decoder's weights, on a CPU those of an encoder's blocks, and what they multiply in 8 bits.
    Int8,
    /// As int8, with the decoder's weights in 4 bits.
    Int4,
}

impl From<PrecisionFlag> for Precision {
    fn from(flag: PrecisionFlag) -> Self {
        match flag {
            PrecisionFlag::Bf16 => Self::Bf16,
            PrecisionFlag::F32 => Self::F32,
            PrecisionFlag::Int8 => Self::Int8,
            PrecisionFlag::Int4 => Self::Int4,
        }
    }
}

/// `--log-format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line for a person.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

impl Flags {
    /// These flags over what the TOML file says.
    ///
    /// # Errors
    /// Names the file and the key that is unknown or has a wrong value.
    pub fn over_file(&self, path: &Path) -> Result<Self> {
        let file: Self = toml_file::read(path)?;
        let mut merged = serde_json::to_value(file)?;
        let given = serde_json::to_value(self)?;
        if let (Some(merged), Some(given)) = (merged.as_object_mut(), given.as_object()) {
            merged.extend(
                given.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())),
            );
        }
        Ok(serde_json::from_value(merged)?)
    }
}
