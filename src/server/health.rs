//! Whether the process lives, and whether it wants requests.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use swinseek_language::prompt::Message;
use swinseek_language::sampler::SamplingParams;
use swinseek_vision::preprocess::{Channels, Image, Samples};
use utoipa::ToSchema;

use super::error::{ApiError, ApiResult, ErrorBody};
use super::state::App;
use crate::engine::{Event, Job};

/// As NVIDIA NIM answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    object: &'static str,
    message: &'static str,
}

/// The process answers.
#[utoipa::path(
    get, path = "/health/live", tag = "operations",
    responses((status = 200, description = "Alive", body = Health))
)]
pub(super) async fn live() -> Json<Health> {
    Json(Health { object: "health.response", message: "Service is live." })
}

/// The model has answered once, and the server is not shutting down.
#[utoipa::path(
    get, path = "/health/ready", tag = "operations",
    responses(
        (status = 200, description = "Ready", body = Health),
        (status = 503, description = "Warming up or shutting down", body = ErrorBody),
    )
)]
pub(super) async fn ready(State(app): State<App>) -> ApiResult<Json<Health>> {
    if app.is_ready() {
        return Ok(Json(Health { object: "health.response", message: "Service is ready." }));
    }
    Err(ApiError::busy("the server is warming up or shutting down", 1).code("not_ready"))
}

/// Runs the model once, with a picture: all its weights are read and packed before the first client comes.
pub(super) async fn warm_up(app: App) {
    let started = Instant::now();
    match run_once(&app).await {
        Ok(()) => {
            app.set_warm();
            let [kernels, few_bits] = app.engine.info().kernels;
            let threads = rayon::current_num_threads();
            tracing::info!(ms = started.elapsed().as_millis() as u64, kernels, few_bits, threads, "ready");
        }
        Err(error) => tracing::error!(%error, "the warm-up run failed: the server will not be ready"),
    }
}

async fn run_once(app: &App) -> anyhow::Result<()> {
    let prompt = app.frontend.encode_chat(&[Message::user("Hello.", 1)])?;
    let gray = Image::new(64, 64, Channels::Luma, Samples::U8(vec![128; 64 * 64]))?;
    let job = Job {
        prompt,
        images: vec![app.frontend.prepare(&[], &gray)?],
        sampling: SamplingParams::default(),
        max_new_tokens: 2,
        stop: Vec::new(),
        constraint: None,
        evidence: false,
        deadline: Some(Instant::now() + Duration::from_mins(5)),
    };
    let mut stream = app.engine.submit(job)?;
    while let Some(event) = stream.next().await {
        match event {
            Event::Finished { .. } => return Ok(()),
            Event::Failed { message, .. } => anyhow::bail!(message),
            Event::Started { .. } | Event::Token { .. } => {}
        }
    }
    anyhow::bail!("the engine dropped the run")
}
