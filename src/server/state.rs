//! What all handlers share.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use axum::http::StatusCode;
use swinseek_language::constraint::Lexicon;

use super::admission::Gate;
use super::audit::{Audit, Record};
use super::auth::Keys;
use super::error::{ApiError, ApiResult};
use super::frontend::Frontend;
use super::media::Fetcher;
use super::metrics::Metrics;
use super::settings::Settings;
use crate::engine::{self, Engine};

/// A handle to the server's state.
#[derive(Clone)]
pub(super) struct App(Arc<Inner>);

pub(super) struct Inner {
    pub(super) settings: Settings,
    pub(super) engine: Engine,
    pub(super) frontend: Frontend,
    pub(super) keys: Keys,
    pub(super) gate: Gate,
    pub(super) fetcher: Fetcher,
    pub(super) metrics: Metrics,
    pub(super) model_name: String,
    pub(super) lexicon: Option<Arc<Lexicon>>,
    audit: Option<Arc<Audit>>,
    warm: AtomicBool,
}

impl Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl App {
    pub(super) fn new(settings: Settings, engine: Engine, frontend: engine::Frontend) -> Result<Self> {
        let model_name = settings.model_name.clone().unwrap_or_else(|| engine.info().name.clone());
        let max_bytes = settings.limits.image.max_bytes;
        Ok(Self(Arc::new(Inner {
            keys: settings.api_keys.as_deref().map(Keys::open).transpose()?.unwrap_or_default(),
            audit: settings.audit.as_deref().map(Audit::open).transpose()?.map(Arc::new),
            gate: Gate::new(&settings.limits, &settings.timeouts),
            fetcher: Fetcher::new(settings.urls.clone(), settings.timeouts.image_url, max_bytes),
            lexicon: settings.lexicon()?,
            metrics: Metrics::new(&model_name)?,
            warm: AtomicBool::new(false),
            model_name,
            settings,
            engine,
            frontend: Frontend::new(frontend),
        })))
    }

    /// The model has answered once.
    pub(super) fn set_warm(&self) {
        self.warm.store(true, Ordering::Release);
    }

    /// Requests are welcome.
    pub(super) fn is_ready(&self) -> bool {
        self.warm.load(Ordering::Acquire) && !self.gate.is_draining()
    }

    /// The model's digest as OpenAI's field has it.
    pub(super) fn fingerprint(&self) -> String {
        let digest = &self.engine.info().digest;
        format!("swinseek-{}", digest.get(..16).unwrap_or(digest))
    }

    /// `model` of a request must be ours, or not be there.
    pub(super) fn check_model(&self, asked: Option<&str>) -> ApiResult<()> {
        if asked.is_none_or(|asked| asked == self.model_name) {
            return Ok(());
        }
        let message = format!("there is no such model here; this server has `{}`", self.model_name);
        Err(ApiError::new(StatusCode::NOT_FOUND, message).param("model").code("model_not_found"))
    }

    /// Writes the audit record; nothing is answered that is not recorded.
    pub(super) async fn record(&self, record: Record) -> ApiResult<()> {
        let Some(audit) = self.audit.clone() else {
            return Ok(());
        };
        let written = tokio::task::spawn_blocking(move || audit.append(&record)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                tracing::error!(error = %format!("{error:#}"), "the audit file cannot be written");
                Err(ApiError::busy("the request cannot be recorded for audit", 30).code("audit_unavailable"))
            }
            Err(error) => {
                tracing::error!(%error, "writing the audit file panicked");
                Err(ApiError::internal())
            }
        }
    }

    /// Notes the end of the audit chain in the log, to compare the file with later.
    pub(super) fn log_audit_head(&self) {
        if let Some(audit) = &self.audit {
            let (records, head) = audit.head();
            tracing::info!(records, head, "audit file");
        }
    }
}
