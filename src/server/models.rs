//! `GET /v1/models`

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{ApiResult, ErrorBody};
use super::state::App;

/// All models of this server: one.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelList {
    object: &'static str,
    data: Vec<ModelCard>,
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelCard {
    /// The name that requests use.
    id: String,
    object: &'static str,
    /// When it was loaded, seconds since 1970.
    created: u64,
    owned_by: &'static str,
    /// Most tokens of prompt and answer together.
    max_model_len: usize,
    /// BLAKE3 of configuration and weights.
    digest: String,
    /// What it reads.
    modalities: [&'static str; 2],
}

fn card(app: &App) -> ModelCard {
    let info = app.engine.info();
    ModelCard {
        id: app.model_name.clone(),
        object: "model",
        created: info.created,
        owned_by: "swinseek",
        max_model_len: info.context_length,
        digest: info.digest.clone(),
        modalities: ["text", "image"],
    }
}

/// The model of this server.
#[utoipa::path(
    get, path = "/v1/models", tag = "openai",
    responses(
        (status = 200, description = "The models", body = ModelList),
        (status = 401, description = "No key, or an unknown one", body = ErrorBody),
        (status = 429, description = "Too many requests of this key", body = ErrorBody),
    )
)]
pub(super) async fn list(State(app): State<App>) -> Json<ModelList> {
    Json(ModelList { object: "list", data: vec![card(&app)] })
}

/// One model.
#[utoipa::path(
    get, path = "/v1/models/{model}", tag = "openai",
    params(("model" = String, Path, description = "Name of the model")),
    responses(
        (status = 200, description = "The model", body = ModelCard),
        (status = 400, description = "The name is not UTF-8", body = ErrorBody),
        (status = 401, description = "No key, or an unknown one", body = ErrorBody),
        (status = 404, description = "No such model", body = ErrorBody),
        (status = 429, description = "Too many requests of this key", body = ErrorBody),
    )
)]
pub(super) async fn get(State(app): State<App>, Path(model): Path<String>) -> ApiResult<Json<ModelCard>> {
    app.check_model(Some(&model))?;
    Ok(Json(card(&app)))
}
