//! Prometheus metrics, under vLLM's names where vLLM has one, so that its dashboards work.

use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

use super::error::{ApiError, ErrorBody};
use super::state::App;
use crate::engine::Stats;

/// vLLM's bucket edges, in seconds.
const FIRST_TOKEN: [f64; 16] =
    [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const BETWEEN_TOKENS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.5, 1.0, 2.5];
const WHOLE: [f64; 14] = [0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0];

/// The metrics of one server.
pub(super) struct Metrics {
    registry: Registry,
    pub(super) first_token: Histogram,
    pub(super) between_tokens: Histogram,
    pub(super) whole: Histogram,
    /// By finish reason.
    pub(super) success: IntCounterVec,
    /// Answers without 2xx, by reason.
    pub(super) refused: IntCounterVec,
    /// By method, route and status.
    pub(super) http: HistogramVec,
    pub(super) cancelled: IntCounter,
    engine: EngineMetrics,
}

/// One of the engine's counters.
type Count = fn(&Stats) -> u64;

/// What the engine counts; read when somebody asks.
struct EngineMetrics {
    running: IntGauge,
    waiting: IntGauge,
    feature_bytes: IntGauge,
    prefix_bytes: IntGauge,
    counters: Vec<(IntCounter, Count)>,
    last: Mutex<Stats>,
}

impl Metrics {
    pub(super) fn new(model_name: &str) -> Result<Self> {
        let labels = [("model_name".to_owned(), model_name.to_owned())].into();
        let registry = Registry::new_custom(None, Some(labels))?;
        let histogram = |name: &str, help: &str, buckets: &[f64]| -> Result<Histogram> {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        let family = |name: &str, help: &str, label: &str| -> Result<IntCounterVec> {
            let family = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let http = HistogramOpts::new("swinseek:http_request_seconds", "Time to the response's headers.");
        let http = HistogramVec::new(http.buckets(WHOLE.to_vec()), &["method", "route", "status"])?;
        registry.register(Box::new(http.clone()))?;
        let cancelled = IntCounter::new(
            "swinseek:request_cancelled_total",
            "Answers whose client went away before the end.",
        )?;
        registry.register(Box::new(cancelled.clone()))?;
        Ok(Self {
            first_token: histogram(
                "vllm:time_to_first_token_seconds",
                "From the request's headers to the first token.",
                &FIRST_TOKEN,
            )?,
            between_tokens: histogram(
                "vllm:inter_token_latency_seconds",
                "Between two tokens of an answer.",
                &BETWEEN_TOKENS,
            )?,
            whole: histogram("vllm:e2e_request_latency_seconds", "From headers to the last token.", &WHOLE)?,
            success: family("vllm:request_success_total", "Answers by how they ended.", "finished_reason")?,
            refused: family(
                "swinseek:request_refused_total",
                "Requests without an answer, by reason.",
                "reason",
            )?,
            http,
            cancelled,
            engine: EngineMetrics::new(&registry)?,
            registry,
        })
    }

    fn text(&self, stats: &Stats) -> Result<Vec<u8>> {
        self.engine.update(stats);
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

impl EngineMetrics {
    fn new(registry: &Registry) -> Result<Self> {
        let gauge = |name: &str, help: &str| -> Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let table: [(&str, &str, Count); 12] = [
            ("vllm:prompt_tokens_total", "Prompt tokens.", |s| s.prompt_tokens),
            ("vllm:generation_tokens_total", "Generated tokens.", |s| s.generated_tokens),
            ("vllm:prefix_cache_queries", "Prompts looked up in the prefix cache.", |s| {
                s.prefix_hits + s.prefix_misses
            }),
            ("vllm:prefix_cache_hits", "Prompts of which a beginning was found.", |s| s.prefix_hits),
            ("swinseek:prefix_cached_tokens_total", "Prompt tokens from the prefix cache.", |s| {
                s.cached_tokens
            }),
            ("swinseek:feature_cache_hits_total", "Images found encoded.", |s| s.image_hits),
            ("swinseek:feature_cache_misses_total", "Images that had to be encoded.", |s| s.image_misses),
            ("swinseek:engine_steps_total", "Decoding steps.", |s| s.steps),
            ("swinseek:jobs_accepted_total", "Answers begun.", |s| s.accepted),
            ("swinseek:jobs_cancelled_total", "Answers dropped because their client went away.", |s| {
                s.cancelled
            }),
            ("swinseek:jobs_late_total", "Answers that passed their deadline.", |s| s.deadlines),
            ("swinseek:jobs_failed_total", "Answers that failed.", |s| s.failed),
        ];
        let mut counters = Vec::new();
        for (name, help, read) in table {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            counters.push((counter, read));
        }
        Ok(Self {
            running: gauge("vllm:num_requests_running", "Answers being written.")?,
            waiting: gauge("vllm:num_requests_waiting", "Requests that wait for a place.")?,
            feature_bytes: gauge("swinseek:feature_cache_bytes", "Size of the cache of encoded images.")?,
            prefix_bytes: gauge("swinseek:prefix_cache_bytes", "Size of the prefix cache.")?,
            counters,
            last: Mutex::default(),
        })
    }

    fn update(&self, stats: &Stats) {
        self.running.set(stats.running as i64);
        self.waiting.set(stats.queued as i64);
        self.feature_bytes.set(stats.image_bytes as i64);
        self.prefix_bytes.set(stats.prefix_bytes as i64);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for (counter, read) in &self.counters {
            counter.inc_by(read(stats).saturating_sub(read(&last)));
        }
        *last = *stats;
    }
}

/// Metrics in Prometheus' text form.
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses(
        (status = 200, description = "Prometheus text", body = String, content_type = "text/plain"),
        (status = 401, description = "No key, or an unknown one", body = ErrorBody),
        (status = 429, description = "Too many requests of this key", body = ErrorBody),
        (status = 500, description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn metrics(State(app): State<App>) -> Response {
    let mut stats = app.engine.stats();
    stats.queued += app.gate.preparing();
    match app.metrics.text(&stats) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            ApiError::internal().into_response()
        }
    }
}
