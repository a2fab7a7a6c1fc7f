//! Everything that is not a success: one type, which becomes a response here and nowhere else.

use axum::response::{IntoResponse, Response};
use countersign_store::{Fault, InvalidCursor};
use http::StatusCode;
use serde::Serialize;

/// Seconds after which a caller may try again what the table or a secret was not there for.
const RETRY_AFTER: u32 = 1;

/// The code of a request that is malformed; each door has its own word and status for it.
pub(crate) const INVALID: &str = "invalid_request";

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
    /// Where the field is.
    #[serde(skip)]
    pub place: Place,
    /// The field's name; that of a header or of a part of the path, too.
    pub field: String,
    /// What it must be.
    pub message: String,
}

/// Where in a request a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the body, or the body itself.
    Body,
    /// In the text of a body that is no JSON.
    Text {
        /// Behind how many bytes.
        offset: usize,
    },
    /// In the query string.
    Query,
    /// In the path.
    Path,
    /// In the headers.
    Header,
}

impl Detail {
    /// What is wrong with `field` of the body.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::at(Place::Body, field, message)
    }

    /// What is wrong with `field` at this place.
    pub fn at(place: Place, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place, field: field.into(), message: message.into() }
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
        Self { details, ..Self::new(StatusCode::BAD_REQUEST, INVALID, message) }
    }

    /// 400: the body as a whole is not what it should be.
    #[must_use]
    pub fn invalid_body(message: impl Into<String>) -> Self {
        Self::invalid(vec![Detail::new("body", message)])
    }

    /// 401: nobody whom this door knows is calling.
    #[must_use]
    pub fn unauthorized(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, message)
    }

    /// 403: whoever is calling may not do this.
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
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

impl From<InvalidCursor> for Problem {
    fn from(error: InvalidCursor) -> Self {
        Self::invalid(vec![Detail::at(Place::Query, "cursor", error.to_string())])
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

impl IntoResponse for Problem {
    /// Only the status and the problem itself: the chassis writes the body, in the words of the door.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
