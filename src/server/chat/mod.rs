//! `POST /v1/chat/completions`

mod conversation;
mod logprobs;
pub(super) mod request;
pub(super) mod response;
mod stream;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::{Extension, http::StatusCode};

use conversation::Conversation;
pub(super) use logprobs::token_text;
use request::ChatRequest;
pub(super) use request::{ResponseFormat, StreamOptions};
use response::Shape;

use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::media::{Want, prepare};
use super::observe::RequestId;
use super::running::{Origin, Prepared, Prompt, user_digest};
use super::sampling::{Plan, too_long};
use super::state::App;
use super::{format, json, sse};
use crate::engine::PreparedImage;

/// Continues a conversation about images.
#[utoipa::path(
    post, path = "/v1/chat/completions", tag = "openai", request_body = ChatRequest,
    responses(
        (status = 200, description = "The answer; server-sent events with `stream`", content(
            (response::ChatCompletion = "application/json"),
            (String = "text/event-stream"),
        )),
        (status = 400, description = "A parameter is wrong, unknown or not supported", body = ErrorBody),
        (status = 401, description = "No key, or an unknown one", body = ErrorBody),
        (status = 403, description = "An image URL that is not read", body = ErrorBody),
        (status = 404, description = "No such model", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time", body = ErrorBody),
        (status = 413, description = "Body or image too large", body = ErrorBody),
        (status = 415, description = "Not JSON", body = ErrorBody),
        (status = 422, description = "An image that is of no use", body = ErrorBody),
        (status = 429, description = "Too many requests of this key; see Retry-After", body = ErrorBody),
        (status = 500, description = "Failed", body = ErrorBody),
        (status = 503, description = "Overloaded or shutting down; see Retry-After", body = ErrorBody),
        (status = 504, description = "Not finished in time", body = ErrorBody),
    )
)]
pub(super) async fn chat_completions(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<Response> {
    json::check_content_type(&headers)?;
    let ticket = app.gate.enter(&app.engine)?;
    let received = app.gate.body(&headers, body).await?;
    let deadline = ticket.deadline;
    let for_work = app.clone();
    let (prepared, shape) =
        app.gate.blocking(deadline, move || read(&for_work, &received.bytes, deadline)).await?;
    let running =
        app.launch(prepared, ticket, Origin { endpoint: "/v1/chat/completions", caller, id }).await?;
    if shape.stream {
        let writer = stream::ChatWriter::new(shape, app.clone(), running.answers.len());
        return Ok(sse::respond(running, writer, app.settings.timeouts.keep_alive));
    }
    let choices = running.answers.len();
    let answers = running.finish().await?;
    Ok((StatusCode::OK, Json(shape.completion(&app, &answers, choices))).into_response())
}

/// Everything before the engine: parsing, checks from cheap to dear, then decoding.
fn read(app: &App, bytes: &[u8], deadline: std::time::Instant) -> ApiResult<(Prepared, Shape)> {
    let mut request: ChatRequest = json::parse(bytes)?;
    app.check_model(request.model.as_deref())?;
    check_fixed(&request)?;
    let plan = request.wishes().check(&app.settings, app.engine.info().vocab_size)?;
    let shape = Shape::new(&request, app);
    let constraints = format::constraints(request.response_format.as_ref(), plan.choices, app)?;
    let user = user_digest(request.user.as_deref());
    let conversation = Conversation::new(request.messages, &app.settings.limits)?;
    let context = app.engine.info().context_length;
    if app.frontend.is_surely_longer(conversation.bytes, context) {
        let message = format!(
            "the texts have {} bytes, far more than a context of {context} tokens holds",
            conversation.bytes
        );
        return Err(ApiError::invalid("messages", message).code("context_length_exceeded"));
    }
    let ids = app.frontend.encode_chat(&conversation.messages).map_err(|_| template())?;
    if ids.len() >= context {
        return Err(too_long("messages", ids.len(), context));
    }
    let (mut images, mut digests) = (Vec::new(), Vec::new());
    for (source, param) in conversation.images {
        let file = app.fetcher.read(source, &param, deadline)?;
        let picture = prepare(&app.frontend, &app.settings, file, Want::default(), &param)?;
        images.push(picture.prepared);
        digests.push(picture.sight.digest);
    }
    let max_new_tokens = room(app, &plan, ids.len(), &images, "messages")?;
    let prompts = vec![Prompt { ids, max_new_tokens, constraints }];
    Ok((Prepared { prompts, images, digests, plan, evidence: false, user }, shape))
}

/// New tokens that fit behind a prompt and its images.
pub(super) fn room(
    app: &App,
    plan: &Plan,
    prompt: usize,
    images: &[PreparedImage],
    param: &str,
) -> ApiResult<usize> {
    let context = app.engine.info().context_beside(images);
    plan.max_new_tokens(prompt, context, app.settings.default_max_tokens, param)
}

/// A template refuses some orders of turns; its own words may quote them, and go nowhere.
fn template() -> ApiError {
    ApiError::invalid("messages", "the model's chat template does not take these messages in this order")
}

/// Parameters with one value only.
fn check_fixed(request: &ChatRequest) -> ApiResult<()> {
    if request.max_tokens.is_some() && request.max_completion_tokens.is_some() {
        let message = "max_tokens and max_completion_tokens are the same: send one of them";
        return Err(ApiError::invalid("max_tokens", message));
    }
    if request.modalities.as_ref().is_some_and(|modalities| modalities.iter().any(|m| m != "text")) {
        return Err(ApiError::unsupported("modalities", "this model writes text only"));
    }
    if request.store == Some(true) {
        return Err(ApiError::unsupported("store", "nothing is stored here"));
    }
    if request.user.as_ref().is_some_and(|user| user.len() > 512) {
        return Err(ApiError::invalid("user", "user has more than 512 bytes"));
    }
    if request.stream_options.is_some() && request.stream != Some(true) {
        return Err(ApiError::invalid("stream_options", "stream_options needs stream: true"));
    }
    if request.top_logprobs.is_some_and(|n| n > 0) && request.logprobs != Some(true) {
        return Err(ApiError::invalid("top_logprobs", "top_logprobs needs logprobs: true"));
    }
    Ok(())
}

/// What [`read`] does before it needs a model.
#[cfg(fuzzing)]
pub(super) fn read_without_model(body: &[u8], settings: &super::settings::Settings) -> ApiResult<()> {
    let mut request: ChatRequest = json::parse(body)?;
    check_fixed(&request)?;
    request.wishes().check(settings, 1000)?;
    Conversation::new(request.messages, &settings.limits)?;
    Ok(())
}
