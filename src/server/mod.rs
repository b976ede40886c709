//! The service: images and prompts over HTTP.
//!
//! ```text
//! listen -> observe (id, log, metrics) -> authenticate -> admission (queue, body size and time)
//!        -> read, on a bounded pool (parse, check, decode, preprocess, tokenise)
//!        -> record (audit) -> engine -> answer, whole or as events
//! ```
//!
//! What is checked is checked before the work it would cost. No text, pixels or tag values reach a log.

mod admission;
mod audit;
mod auth;
mod chat;
mod completions;
mod error;
mod flags;
mod format;
mod frontend;
#[cfg(fuzzing)]
pub mod fuzzing;
mod health;
mod json;
mod listen;
mod media;
mod metrics;
mod models;
mod observe;
mod openapi;
#[cfg(feature = "otlp")]
pub(crate) mod otlp;
mod page;
mod reports;
mod running;
mod sampling;
mod settings;
mod slow_writer;
mod sse;
mod state;

use std::net::SocketAddr;

use anyhow::{Context, Result};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use audit::{ChainEnd, verify as verify_audit};
pub(crate) use auth::new_key;
use error::ApiError;
pub use flags::{Flags, LogFormat, PrecisionFlag};
pub use settings::{Limits, Settings, Timeouts, UrlPolicy};
use state::App;

use crate::engine::{Engine, Frontend};

/// A server with its socket open.
pub struct Server {
    app: App,
    listener: listen::Listener,
    address: SocketAddr,
}

impl Server {
    /// Opens the socket, the key file and the audit file. Nothing is answered yet.
    ///
    /// # Errors
    /// Names the file or the address that cannot be used.
    pub async fn bind(settings: Settings, engine: Engine, frontend: Frontend) -> Result<Self> {
        let tls = settings.tls.as_ref().map(|(cert, key)| listen::tls(cert, key)).transpose()?;
        let wanted = settings.address;
        let (connections, timeouts) = (settings.limits.connections, settings.timeouts.clone());
        let app = App::new(settings, engine, frontend)?;
        let socket = TcpListener::bind(wanted).await.with_context(|| format!("{wanted}: cannot listen"))?;
        let address = socket.local_addr()?;
        let listener = listen::Listener { socket, tls, connections, timeouts };
        Ok(Self { app, listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is true, then drains: accepted requests are answered, new ones refused. Returns whether all
    /// were answered within the drain timeout.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> bool {
        let Self { app, listener, .. } = self;
        let router = router(app.clone());
        tokio::spawn(health::warm_up(app.clone()));
        let (close, closed) = watch::channel(false);
        let drain = async {
            // A sender that is gone cannot ask to stop: serve on.
            if stop.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
            tracing::info!("draining: accepted requests are answered, new ones refused");
            app.gate.drain();
            app.engine.shutdown(true);
            let _ = close.send(true);
            std::future::pending::<()>().await;
        };
        let all = tokio::select! {
            all = listener.serve(router, closed) => all,
            () = drain => false,
        };
        app.engine.shutdown(false);
        app.log_audit_head();
        all
    }
}

fn router(app: App) -> Router {
    let mut router = Router::new();
    for asset in page::ASSETS {
        let head = [
            (header::CONTENT_TYPE, asset.media_type),
            (header::CONTENT_SECURITY_POLICY, page::POLICY),
            (header::CACHE_CONTROL, "no-cache"),
        ];
        router = router.route(asset.path, get(move || async move { (head, asset.body) }));
    }
    router
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(metrics::metrics))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{model}", get(models::get))
        .route("/v1/chat/completions", post(chat::chat_completions))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/reports", post(reports::reports))
        .route("/openapi.json", get(openapi::json))
        .route("/docs", get(openapi::page))
        .route("/docs/docs.js", get(openapi::script))
        .route("/docs/docs.css", get(openapi::style))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app.clone(), auth::authenticate))
        .layer(map_response(error::as_object))
        .layer(from_fn_with_state(app.clone(), observe::observe))
        .with_state(app)
}

async fn not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "there is nothing at this path; see /docs").code("not_found")
}

async fn wrong_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this path is asked with another method; see /docs")
        .code("method_not_allowed")
}
