//! The one error that leaves the server: OpenAI's object, with the right status.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Why a request was not answered. Messages name what was wrong and never hold what a client or a file said beyond
/// names and sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    /// The field that was wrong, dotted: `messages.0.content.1.image_url`.
    pub(crate) param: Option<String>,
    /// A stable name for programs.
    pub(crate) code: Option<&'static str>,
    /// Seconds after which to try again.
    pub(crate) retry_after: Option<u64>,
}

/// Body of every error response.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorObject,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorObject {
    /// One sentence for a person.
    message: String,
    /// `invalid_request_error`, `requests` (a limit of the key) or `server_error`.
    #[schema(example = "invalid_request_error")]
    r#type: &'static str,
    /// The field that was wrong, dotted.
    #[schema(example = "messages.0.content.1.image_url")]
    param: Option<String>,
    /// A stable name for programs.
    #[schema(example = "context_length_exceeded")]
    code: Option<&'static str>,
}

pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: None, retry_after: None }
    }

    /// 400 about one field.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message).param(param)
    }

    /// 422: well-formed, but of no use to the model.
    pub(crate) fn unusable(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message).param(param).code("unusable_image")
    }

    /// 400: the parameter exists in the field, and we do not have it.
    pub(crate) fn unsupported(param: &str, message: impl Into<String>) -> Self {
        Self::invalid(param, message).code("unsupported_parameter")
    }

    /// 503: nothing wrong with the request.
    pub(crate) fn busy(message: impl Into<String>, retry_after: u64) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, message).code("overloaded");
        Self { retry_after: Some(retry_after.max(1)), ..error }
    }

    /// 429: the caller asks too much.
    pub(crate) fn too_many(message: impl Into<String>, retry_after: u64) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, message).code("rate_limit_exceeded");
        Self { retry_after: Some(retry_after.max(1)), ..error }
    }

    pub(crate) fn shutting_down() -> Self {
        Self::busy("the server is shutting down and takes no new requests", 5).code("shutting_down")
    }

    pub(crate) fn deadline() -> Self {
        let message = "the request was not finished within the server's time limit";
        Self::new(StatusCode::GATEWAY_TIMEOUT, message).code("deadline_exceeded")
    }

    /// 500; what happened goes to the log only.
    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the server failed; the request id names the log entry")
    }

    pub(crate) fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub(crate) fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            429 => "requests",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The object as it stands in a body or in a stream.
    pub(crate) fn body(&self) -> ErrorBody {
        let Self { message, param, code, .. } = self.clone();
        ErrorBody { error: ErrorObject { message, r#type: self.kind(), param, code } }
    }
}

/// What the metrics call a refused request; travels with the response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RefusalReason(pub(crate) &'static str);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(RefusalReason(self.code.unwrap_or("invalid_request")));
        response
    }
}

/// Errors that the framework answers in its own words become our object, too.
pub(crate) async fn as_object(response: Response) -> Response {
    let status = response.status();
    let ours = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if ours
        || !(status.is_client_error() || status.is_server_error())
        || status == StatusCode::METHOD_NOT_ALLOWED
    {
        return response;
    }
    let message = status.canonical_reason().unwrap_or("the request failed").to_lowercase();
    ApiError::new(status, message).into_response()
}
