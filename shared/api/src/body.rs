//! Request bodies: bounded, of the right type, and read once by a visitor that checks what serde_json does not.

use crate::problem::Problem;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;
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
        // Who asks before sending has sent nothing yet that would have to be taken.
        let waits = headers.contains_key(header::EXPECT);
        return Err(too_large(if waits { Body::empty() } else { body }).await);
    }
    let late = tokio::time::Instant::now() + ARRIVES_WITHIN;
    loop {
        let frame = tokio::time::timeout_at(late, body.frame()).await;
        let Some(frame) = frame.map_err(|_| Problem::invalid_body("did not arrive in time"))? else { break };
        let frame = frame.map_err(|_| Problem::invalid_body("was cut off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > LIMIT {
            return Err(too_large(body).await);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}

async fn too_large(mut body: Body) -> Problem {
    let drain = async {
        let mut drained = 0;
        while let Some(Ok(frame)) = body.frame().await {
            drained += frame.data_ref().map_or(0, Bytes::len);
            if drained > DRAINED {
                break;
            }
        }
    };
    // Whatever comes of it, the answer is the same.
    let _ = tokio::time::timeout(DRAINED_WITHIN, drain).await;
    let message = format!("the body must have at most {LIMIT} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", message)
}

/// Parses JSON, refusing what is nested too deeply or names a key twice, at every level, also where it is ignored.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    // The depth is counted below: serde_json's own limit is one level less than ours.
    deserializer.disable_recursion_limit();
    let value = Checked { depth: 0 }.deserialize(&mut deserializer).and_then(|value| {
        deserializer.end()?;
        Ok(value)
    });
    value.map_err(|error| Problem::invalid_body(format!("is not acceptable JSON: {error}")))
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
