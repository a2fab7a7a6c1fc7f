//! A success: its status and its exact body, which an idempotency entry can keep and give again.

use crate::sealing::Sealer;
use axum::response::{IntoResponse, Response};
use countersign_store::{Fault, Page};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The largest answer that an idempotency entry keeps, in bytes; an item has at most 400 KB.
const LARGEST_KEPT: usize = 350_000;
/// What a stored answer is sealed as.
const SEALED_AS: &str = "answer";

/// A success on its way to the caller.
#[derive(Clone, Debug)]
pub struct Answer {
    status: StatusCode,
    body: String,
    replayed: bool,
    content_type: &'static str,
    /// Where the next part of a list is, for one that has no place for a cursor.
    next: Option<String>,
    stored: StoredAs,
}

/// What an idempotency entry keeps of an answer.
#[derive(Clone, Debug)]
enum StoredAs {
    /// The body as it is.
    Itself,
    /// The body, which holds a token, sealed.
    Sealed(Sealer),
    /// Another body, without the secret that is shown once.
    Without(String),
}

/// The first line of a stored answer; the body follows as it is, so that the largest fits into an item.
#[derive(Serialize, Deserialize)]
struct Stored {
    status: u16,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    sealed: bool,
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

    /// 202 with this body.
    ///
    /// # Errors
    /// The body cannot be written as JSON.
    pub fn accepted(body: &impl Serialize) -> Result<Self, Fault> {
        Self::with(StatusCode::ACCEPTED, body)
    }

    /// 204.
    #[must_use]
    pub fn no_content() -> Self {
        Self::text(StatusCode::NO_CONTENT, String::new())
    }

    /// An answer that is put together from the table afterwards, because it may be too large to be kept.
    #[must_use]
    pub fn later() -> Self {
        Self::no_content()
    }

    /// The same answer, or [`Answer::later`] if it is too large to be kept under an idempotency key.
    #[must_use]
    pub fn if_it_can_be_kept(self) -> Self {
        if self.body.len() <= LARGEST_KEPT { self } else { Self::later() }
    }

    /// Whether it is still to be put together.
    #[must_use]
    pub fn is_later(&self) -> bool {
        self.status == StatusCode::NO_CONTENT
    }

    /// 200 with this text, of a type other than JSON.
    #[must_use]
    pub fn document(content_type: &'static str, body: String) -> Self {
        Self { content_type, ..Self::text(StatusCode::OK, body) }
    }

    /// The same answer, with a link to the next part of the list.
    #[must_use]
    pub fn with_next(self, next: Option<String>) -> Self {
        Self { next, ..self }
    }

    /// The same answer, marked as one that was given before.
    #[must_use]
    pub fn replayed_if(self, replayed: bool) -> Self {
        Self { replayed, ..self }
    }

    fn text(status: StatusCode, body: String) -> Self {
        Self { status, body, replayed: false, content_type: "application/json", next: None, stored: StoredAs::Itself }
    }

    fn with(status: StatusCode, body: &impl Serialize) -> Result<Self, Fault> {
        Ok(Self::text(status, written(body)?))
    }

    /// Says that the body holds a token: wherever it is stored, it is sealed.
    #[must_use]
    pub fn sealed_with(self, sealer: &Sealer) -> Self {
        Self { stored: StoredAs::Sealed(sealer.clone()), ..self }
    }

    /// Says what is stored instead: the same body without a secret that is shown once.
    ///
    /// # Errors
    /// The body cannot be written as JSON.
    pub fn stored_as(self, body: &impl Serialize) -> Result<Self, Fault> {
        Ok(Self { stored: StoredAs::Without(written(body)?), ..self })
    }

    /// The answer as an idempotency entry at `pk` keeps it.
    pub(crate) fn to_stored(&self, pk: &str) -> Result<String, Fault> {
        let body = match &self.stored {
            StoredAs::Itself => self.body.clone(),
            StoredAs::Sealed(sealer) => sealer.seal(pk, SEALED_AS, self.body.as_bytes())?.0,
            StoredAs::Without(body) => body.clone(),
        };
        let sealed = matches!(self.stored, StoredAs::Sealed(_));
        Ok(format!("{}\n{body}", written(&Stored { status: self.status.as_u16(), sealed })?))
    }

    /// The answer that an idempotency entry kept; `None` if it is sealed and no `sealer` is given.
    pub(crate) fn from_stored(stored: &str, pk: &str, sealer: Option<&Sealer>) -> Result<Option<Self>, Fault> {
        let corrupt = || Fault::Corrupt("a stored answer cannot be read".to_owned());
        let (head, body) = stored.split_once('\n').ok_or_else(corrupt)?;
        let head: Stored = serde_json::from_str(head).map_err(|_| corrupt())?;
        let body = match (head.sealed, sealer) {
            (false, _) => body.to_owned(),
            (true, None) => return Ok(None),
            (true, Some(sealer)) => {
                let opened = sealer.open(pk, SEALED_AS, body).ok_or_else(corrupt)?;
                String::from_utf8(opened).map_err(|_| corrupt())?
            }
        };
        let status = StatusCode::from_u16(head.status).map_err(|_| corrupt())?;
        Ok(Some(Self { replayed: true, ..Self::text(status, body) }))
    }

    /// The body, for an answer that becomes a part of another.
    #[must_use]
    pub fn into_body(self) -> String {
        self.body
    }

    /// Whether it was given before.
    #[must_use]
    pub fn is_replayed(&self) -> bool {
        self.replayed
    }
}

fn written(body: &impl Serialize) -> Result<String, Fault> {
    serde_json::to_string(body).map_err(|error| Fault::Corrupt(error.to_string()))
}

/// A page of a listing: `{"items": [...], "cursor"?}`.
#[derive(Serialize)]
pub struct Listed {
    items: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

impl From<Page<String>> for Listed {
    fn from(page: Page<String>) -> Self {
        Self { items: page.rows, cursor: page.next }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = if self.status == StatusCode::NO_CONTENT {
            self.status.into_response()
        } else {
            (self.status, [(header::CONTENT_TYPE, self.content_type)], self.body).into_response()
        };
        if let Some(link) = self.next.and_then(|next| HeaderValue::try_from(format!("<{next}>; rel=\"next\"")).ok()) {
            response.headers_mut().insert(header::LINK, link);
        }
        if self.replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}
