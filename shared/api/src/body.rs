//! Request bodies: bounded, of the right type, and read once by a visitor that checks what serde_json does not.

use crate::problem::{Detail, Place, Problem};
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// The longest body that is read, in bytes.
const LIMIT: usize = 256 * 1024;
/// How much more is taken and thrown away, so that a client that is still sending gets to read its 413.
const DRAINED: usize = 16 * 1024 * 1024;
const DRAINED_WITHIN: Duration = Duration::from_secs(5);
/// How long a body may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(10);
/// How many objects and lists may stand in each other.
const DEPTH: usize = 128;

/// A JSON body, already checked: at most 256 KiB, at most 128 levels, no key twice in one object.
#[derive(Debug)]
pub struct JsonBody(pub Value);

/// The body of an endpoint that takes none: nothing, or JSON that is ignored.
#[derive(Debug)]
pub struct NoBody(pub Value);

impl<S: Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let type_problem = check_type(&parts.headers);
        let bytes = read(&parts.headers, body).await?;
        type_problem?;
        if bytes.is_empty() {
            return Err(Problem::invalid_body("is required"));
        }
        Ok(Self(parse(&bytes)?))
    }
}

impl<S: Sync> FromRequest<S> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let type_problem = check_type(&parts.headers);
        let bytes = read(&parts.headers, body).await?;
        if bytes.is_empty() {
            return Ok(Self(Value::Null));
        }
        type_problem?;
        Ok(Self(parse(&bytes)?))
    }
}

/// A missing content type means JSON.
fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let unsupported =
        |message: &str| Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
    for encoding in headers.get_all(header::CONTENT_ENCODING) {
        if !encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity") {
            return unsupported("bodies must be sent without a content encoding");
        }
    }
    for content_type in headers.get_all(header::CONTENT_TYPE) {
        let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
        let essence = essence.trim().to_ascii_lowercase();
        let json = essence == "application/json" || (essence.contains('/') && essence.ends_with("+json"));
        if !json {
            return unsupported("the content type must be application/json");
        }
    }
    Ok(())
}

async fn read(headers: &HeaderMap, mut body: Body) -> Result<Bytes, Problem> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let mut bytes = Vec::with_capacity(announced.unwrap_or_default().min(LIMIT));
    if announced.is_some_and(|length| length > LIMIT) {
        return Err(too_large());
    }
    let late = tokio::time::Instant::now() + ARRIVES_WITHIN;
    loop {
        let frame = tokio::time::timeout_at(late, body.frame()).await;
        let Some(frame) = frame.map_err(|_| Problem::invalid_body("did not arrive in time"))? else { break };
        let frame = frame.map_err(|_| Problem::invalid_body("was cut off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > LIMIT {
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}

fn too_large() -> Problem {
    let message = format!("the body must have at most {LIMIT} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", message)
}

/// A body that is handed on, and what is left of it once there is an answer.
///
/// A connection can only be used again when the request on it has been read to its end; a client that is refused
/// before its body was looked at would lose its next request.
#[derive(Clone, Debug)]
pub(crate) struct Rest(Arc<Mutex<Body>>);

impl Rest {
    /// Keeps hold of a request's body. One whose client waits to be asked for it is left alone: nothing was sent yet.
    pub(crate) fn of(request: Request) -> (Request, Option<Self>) {
        let (parts, body) = request.into_parts();
        if body.is_end_stream() || parts.headers.contains_key(header::EXPECT) {
            return (Request::from_parts(parts, body), None);
        }
        let rest = Self(Arc::new(Mutex::new(body)));
        (Request::from_parts(parts, Body::new(rest.clone())), Some(rest))
    }

    /// Takes what is left and throws it away; whether that was all of it.
    pub(crate) async fn drain(mut self) -> bool {
        let drain = async {
            let mut drained = 0;
            while let Some(frame) = self.frame().await {
                let Ok(frame) = frame else { return false };
                drained += frame.data_ref().map_or(0, Bytes::len);
                if drained > DRAINED {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(DRAINED_WITHIN, drain).await.unwrap_or(false)
    }

    fn body(&self) -> MutexGuard<'_, Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for Rest {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut *self.body()).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body().is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body().size_hint()
    }
}

/// Parses the JSON of a body.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    read_json(bytes).map_err(|error| {
        let lines = bytes.split_inclusive(|b| *b == b'\n').take(error.line().saturating_sub(1));
        let offset = (lines.map(<[u8]>::len).sum::<usize>() + error.column().saturating_sub(1)).min(bytes.len());
        let message = format!("is not acceptable JSON: {error}");
        Problem::invalid(vec![Detail::at(Place::Text { offset }, "body", message)])
    })
}

/// Parses JSON, refusing what is nested too deeply or names a key twice, at every level, also where it is ignored.
///
/// # Errors
/// What is wrong and where.
pub fn read_json(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    // The depth is counted below: serde_json's own limit is one level less than ours.
    deserializer.disable_recursion_limit();
    let value = Checked { depth: 0 }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Builds a value that stands inside `depth` others.
#[derive(Clone, Copy)]
struct Checked {
    depth: usize,
}

impl Checked {
    fn inner<E: Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH {
            return Err(E::custom(format_args!("nested beyond {DEPTH} levels")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Checked {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut fields = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            let value = object.next_value_seed(inner)?;
            if fields.insert(key, value).is_some() {
                return Err(A::Error::custom("a key stands twice in one object"));
            }
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> String {
        format!("{}{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn depth_ends_at_128_levels_wherever_it_is() {
        assert!(parse(nested(128).as_bytes()).is_ok());
        for text in [nested(129), nested(10_000), format!(r#"{{"ignored":{}}}"#, nested(128)), "[".repeat(100_000)] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().code, "invalid_request");
        }
    }

    #[test]
    fn a_key_twice_is_an_error_at_every_level() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"b":{"a":1,"a":2}}]"#, r#"{"a":1,"\u0061":1}"#] {
            assert!(parse(text.as_bytes()).unwrap_err().message.contains("twice"), "{text}");
        }
        assert!(parse(br#"{"a":{"a":1},"b":{"a":1}}"#).is_ok());
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in ["", "{", "{}{}", "nul", "{'a':1}", "[1,]", r#""\ud800""#, "1e999", "\u{feff}{}", "NaN"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"\"\xff\"").is_err());
        assert!(parse(b" {\"a\": [1, -2, 2.5, \"x\", true, null]} ").is_ok());
    }
}
