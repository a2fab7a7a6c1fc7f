//! What stand-ins for AWS share: how they behave, and how they say it.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

/// How a stand-in answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conduct {
    /// It does what it is asked.
    #[default]
    Works,
    /// The call succeeds; none of its entries does.
    Refuses,
    /// The call fails.
    Fails,
    /// There is never an answer.
    Hangs,
}

/// The operation that a call of an AWS JSON protocol is for.
pub(crate) fn target(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-amz-target").and_then(|target| target.to_str().ok())
}

pub(crate) fn json_1_0(answer: &Value) -> Response {
    ([("content-type", "application/x-amz-json-1.0")], answer.to_string()).into_response()
}

pub(crate) fn json_1_1(answer: &Value) -> Response {
    ([("content-type", "application/x-amz-json-1.1")], answer.to_string()).into_response()
}

pub(crate) fn refuse(status: StatusCode, code: &str) -> Response {
    (status, Json(json!({ "__type": code, "Message": "as the test asked" }))).into_response()
}
