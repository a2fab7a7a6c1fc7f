//! A success: its status and its exact body, which an idempotency entry can keep and give again.

use crate::sealing::Sealer;
use axum::response::{IntoResponse, Response};
use countersign_store::Fault;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// What a stored answer is sealed as.
const SEALED_AS: &str = "answer";

/// A success on its way to the caller.
#[derive(Clone, Debug)]
pub struct Answer {
    status: StatusCode,
    body: String,
    replayed: bool,
    /// Set if the body holds a token, which is only stored sealed.
    sealer: Option<Sealer>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
}

impl Answer {
    /// 200 with this body.
    ///
    /// # Errors
    /// The body cannot be written as JSON.
    pub fn ok(body: &impl Serialize) -> Result<Self, Fault> {
        Self::with(StatusCode::OK, body)
    }

    /// 201 with this body.
    ///
    /// # Errors
    /// The body cannot be written as JSON.
    pub fn created(body: &impl Serialize) -> Result<Self, Fault> {
        Self::with(StatusCode::CREATED, body)
    }

    /// 204.
    #[must_use]
    pub fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: String::new(), replayed: false, sealer: None }
    }

    fn with(status: StatusCode, body: &impl Serialize) -> Result<Self, Fault> {
        let body = serde_json::to_string(body).map_err(|error| Fault::Corrupt(error.to_string()))?;
        Ok(Self { status, body, replayed: false, sealer: None })
    }

    /// Says that the body holds a token: wherever it is stored, it is sealed.
    #[must_use]
    pub fn sealed_with(self, sealer: &Sealer) -> Self {
        Self { sealer: Some(sealer.clone()), ..self }
    }

    /// The answer as an idempotency entry at `pk` keeps it.
    pub(crate) fn to_stored(&self, pk: &str) -> Result<String, Fault> {
        let (body, sealed) = match &self.sealer {
            None => (Some(self.body.clone()), None),
            Some(sealer) => (None, Some(sealer.seal(pk, SEALED_AS, self.body.as_bytes())?.0)),
        };
        let stored = Stored { status: self.status.as_u16(), body, sealed };
        serde_json::to_string(&stored).map_err(|error| Fault::Corrupt(error.to_string()))
    }

    /// The answer that an idempotency entry kept; `None` if it is sealed and no `sealer` is given.
    pub(crate) fn from_stored(stored: &str, pk: &str, sealer: Option<&Sealer>) -> Result<Option<Self>, Fault> {
        let corrupt = || Fault::Corrupt("a stored answer cannot be read".to_owned());
        let stored: Stored = serde_json::from_str(stored).map_err(|_| corrupt())?;
        let body = match (stored.body, stored.sealed, sealer) {
            (Some(body), _, _) => body,
            (None, None, _) => return Err(corrupt()),
            (None, Some(_), None) => return Ok(None),
            (None, Some(sealed), Some(sealer)) => {
                let opened = sealer.open(pk, SEALED_AS, &sealed).ok_or_else(corrupt)?;
                String::from_utf8(opened).map_err(|_| corrupt())?
            }
        };
        let status = StatusCode::from_u16(stored.status).map_err(|_| corrupt())?;
        Ok(Some(Self { status, body, replayed: true, sealer: None }))
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = if self.status == StatusCode::NO_CONTENT {
            self.status.into_response()
        } else {
            (self.status, [(header::CONTENT_TYPE, "application/json")], self.body).into_response()
        };
        if self.replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}
