//! Everything that is not a success: one type, which becomes a response here and nowhere else.

use axum::response::{IntoResponse, Response};
use countersign_store::Fault;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// Seconds after which a caller may try again what the table or a secret was not there for.
const RETRY_AFTER: u32 = 1;

/// A refusal or failure on its way to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// The documented code, e.g. `token_not_found`.
    pub code: &'static str,
    /// A sentence that says what to do.
    pub message: String,
    /// Which fields are wrong and why.
    pub details: Vec<Detail>,
    /// After how many seconds it may work.
    pub retry_after: Option<u32>,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Detail {
    /// The field's name; that of a header or of a part of the path, too.
    pub field: String,
    /// What it must be.
    pub message: String,
}

impl Detail {
    /// What is wrong with `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl Problem {
    /// A problem with neither details nor a time to wait.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), details: Vec::new(), retry_after: None }
    }

    /// 400: the request is malformed; `details` say where.
    #[must_use]
    pub fn invalid(details: Vec<Detail>) -> Self {
        let message = match details.as_slice() {
            [] => "the request is malformed".to_owned(),
            [only] => format!("{} {}", only.field, only.message),
            _ => "several fields are missing or ill-formed; see details".to_owned(),
        };
        Self { details, ..Self::new(StatusCode::BAD_REQUEST, "invalid_request", message) }
    }

    /// 400: the body as a whole is not what it should be.
    #[must_use]
    pub fn invalid_body(message: impl Into<String>) -> Self {
        Self::invalid(vec![Detail::new("body", message)])
    }

    /// 404: no door has such a path.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
    }

    /// 500, without a story: what happened is in the log under the request's id.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong; it has been logged")
    }

    /// 503: something that this answer needs is not there now.
    #[must_use]
    pub fn unavailable() -> Self {
        let message = "temporarily unavailable; try again with the same idempotency key";
        Self { retry_after: Some(RETRY_AFTER), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message) }
    }

    /// 422: the key came before with another body.
    #[must_use]
    pub fn idempotency_key_reused() -> Self {
        let message = "this Idempotency-Key was used with another body; use a new one";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", message)
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        // The one place where faults of the table meet the log; the request's span says which request it was.
        match &fault {
            Fault::Unavailable(_) => {
                tracing::warn!(%fault, "table unavailable");
                Self::unavailable()
            }
            Fault::Corrupt(_) => {
                tracing::error!(%fault, "stored item unreadable");
                Self::internal()
            }
        }
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    details: &'a [Detail],
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Envelope { error: self.code, message: &self.message, details: &self.details };
        let body = serde_json::to_string(&body).unwrap_or_default();
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // What the request's log line says of it.
        response.extensions_mut().insert(Outcome(self.code));
        response
    }
}

/// The code of the problem that a response carries, for the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome(pub(crate) &'static str);
