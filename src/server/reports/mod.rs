//! `POST /v1/reports`

mod accept;
mod render;
pub(super) mod request;
mod sections;
mod stream;

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use swinseek_fusion::pipeline::REPORT_PROMPT;
use swinseek_language::prompt::Message;

use accept::Form;
use render::{Drawn, Origins, ReportBody};
use request::{Images, ReportForm, ReportRequest};

use super::auth::Caller;
use super::chat::room;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::media::{Picture, Want, prepare};
use super::observe::RequestId;
use super::running::{Origin, Prepared, Prompt, user_digest};
use super::sampling::{Wishes, too_long};
use super::state::App;
use super::{format, sse};

/// Most bytes of indication and earlier report.
const MAX_HISTORY: usize = 16 << 10;

/// Writes a draft report of a study.
///
/// `Accept` chooses the form: JSON with evidence, text, a FHIR DiagnosticReport (preliminary), a DICOM Basic Text SR
/// (unverified), or events: `delta` with `section` and `text`, then `report` with the whole object.
#[utoipa::path(
    post, path = "/v1/reports", tag = "reports",
    request_body(content(
        (ReportRequest = "application/json"),
        (ReportForm = "multipart/form-data"),
        (Vec<u8> = "application/dicom"),
        (Vec<u8> = "image/*"),
    )),
    responses(
        (status = 200, description = "The report", content(
            (ReportBody = "application/json"),
            (String = "text/plain"),
            (Object = "application/fhir+json"),
            (Vec<u8> = "application/dicom"),
            (String = "text/event-stream"),
        )),
        (status = 400, description = "A parameter is wrong, unknown or not supported", body = ErrorBody),
        (status = 401, description = "No key, or an unknown one", body = ErrorBody),
        (status = 403, description = "An image URL that is not read", body = ErrorBody),
        (status = 404, description = "No such model", body = ErrorBody),
        (status = 406, description = "Accept names no form that we have", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time", body = ErrorBody),
        (status = 413, description = "Body or image too large", body = ErrorBody),
        (status = 415, description = "Neither JSON nor a form nor an image", body = ErrorBody),
        (status = 422, description = "Images that are of no use, or of two patients", body = ErrorBody),
        (status = 429, description = "Too many requests of this key; see Retry-After", body = ErrorBody),
        (status = 500, description = "Failed", body = ErrorBody),
        (status = 503, description = "Overloaded or shutting down; see Retry-After", body = ErrorBody),
        (status = 504, description = "Not finished in time", body = ErrorBody),
    )
)]
pub(super) async fn reports(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<Response> {
    let mut form = Form::accepted(&headers)?;
    let ticket = app.gate.enter(&app.engine)?;
    let received = app.gate.body(&headers, body).await?;
    let deadline = ticket.deadline;
    let (request, images) = request::read(&headers, received.bytes.clone(), &app.settings.limits).await?;
    if request.stream == Some(true) {
        form = Form::Events;
    }
    let for_work = app.clone();
    let work = move || read(&for_work, &request, images, deadline);
    let (prepared, mut origins) = app.gate.blocking(deadline, work).await?;
    // What the overlay needs again stays within the memory of all bodies.
    origins.memory = Some(Arc::new(received));
    let running = app.launch(prepared, ticket, Origin { endpoint: "/v1/reports", caller, id }).await?;
    origins.seed = running.seeds.first().copied().unwrap_or_default();
    if form == Form::Events {
        let writer = stream::ReportWriter::new(app.clone(), origins, deadline);
        return Ok(sse::respond(running, writer, app.settings.timeouts.keep_alive));
    }
    let answer = running.finish().await?.pop().ok_or_else(ApiError::internal)?;
    let for_work = app.clone();
    let body =
        app.gate.blocking(deadline, move || render::render(&for_work, &origins, &answer, form)).await?;
    Ok(([(axum::http::header::CONTENT_TYPE, form.media_type())], body).into_response())
}

/// Everything before the engine.
fn read(
    app: &App,
    request: &ReportRequest,
    images: Images,
    deadline: Instant,
) -> ApiResult<(Prepared, Origins)> {
    app.check_model(request.model.as_deref())?;
    let drawn = Drawn::wanted(request)?;
    let user = user_digest(request.user.as_deref());
    let plan = Wishes {
        // A report is greedy unless a client asks otherwise, whatever the server's default for conversations.
        temperature: request.temperature.or(Some(0.0)),
        seed: request.seed,
        max_tokens: request.max_tokens.map(|most| ("max_tokens", most)),
        ..Wishes::default()
    }
    .check(&app.settings, app.engine.info().vocab_size)?;
    let constraint = format::report(app, request.lexicon == Some(true))?;
    let message = Message::user(instruction(request)?, images.len());
    let ids = app
        .frontend
        .encode_chat(&[message])
        .map_err(|error| ApiError::invalid("images", error.to_string()))?;
    let context = app.engine.info().context_length;
    if ids.len() >= context {
        return Err(too_long("indication", ids.len(), context));
    }
    let pictures = images.into_iter().map(|(source, frame, param)| {
        let bytes = app.fetcher.read(source, &param, deadline)?;
        prepare(&app.frontend, &app.settings, bytes, Want { frame, keep: drawn.any() }, &param)
    });
    let pictures: Vec<Picture> = pictures.collect::<ApiResult<_>>()?;
    let (images, sights): (Vec<_>, Vec<_>) = pictures.into_iter().map(|p| (p.prepared, p.sight)).unzip();
    let max_new_tokens = room(app, &plan, ids.len(), &images, "indication")?;
    let prompt = Prompt { ids, max_new_tokens, constraints: vec![constraint] };
    let origins = Origins::new(sights, drawn)?;
    let digests = origins.digests();
    Ok((Prepared { prompts: vec![prompt], images, digests, plan, evidence: true, user }, origins))
}

/// The words that ask for a report, behind what is known of the case.
fn instruction(request: &ReportRequest) -> ApiResult<String> {
    let mut text = String::new();
    let fields = [
        ("indication", "Indication", &request.indication),
        ("prior_report", "Prior report", &request.prior_report),
    ];
    for (param, title, field) in fields {
        let Some(field) = field.as_deref().map(str::trim).filter(|field| !field.is_empty()) else {
            continue;
        };
        if field.len() > MAX_HISTORY {
            let message = format!("{param} has {} bytes, at most {MAX_HISTORY} are read", field.len());
            return Err(ApiError::invalid(param, message));
        }
        text.extend([title, ": ", field, "\n"]);
    }
    text.push_str(REPORT_PROMPT);
    Ok(text)
}
