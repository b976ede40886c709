//! `/openapi.json`, and a page that shows it.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{chat, completions, health, metrics, models, reports};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "swinseek",
        description = "Images and DICOM in, draft reports, answers and captions out. Every text is a draft; a physician \
            must verify it. Requests of hosts with API keys carry `Authorization: Bearer KEY`."
    ),
    paths(
        chat::chat_completions,
        completions::completions,
        reports::reports,
        models::list,
        models::get,
        health::live,
        health::ready,
        metrics::metrics,
    ),
    security((), ("key" = [])),
    modifiers(&Key),
)]
struct Api;

struct Key;

impl Modify for Key {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        api.components.get_or_insert_default().add_security_scheme("key", scheme);
    }
}

/// Written once: it never changes, and anyone may ask for it.
static DOCUMENT: LazyLock<String> =
    LazyLock::new(|| Api::openapi().to_json().unwrap_or_else(|_| "{}".to_owned()));

pub(super) async fn json() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str())
}

/// A page without anything from elsewhere: it reads `/openapi.json` and lists what is there.
pub(super) async fn page() -> Response {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
        form-action 'none'; frame-ancestors 'none'";
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(include_str!("docs/index.html"))).into_response()
}

pub(super) async fn script() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("docs/docs.js")).into_response()
}

pub(super) async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("docs/docs.css")).into_response()
}
