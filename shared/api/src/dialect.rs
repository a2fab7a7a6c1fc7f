//! The envelopes of the doors: how each says that something went wrong. The only place where a problem becomes a body.

use crate::problem::{Detail, INVALID, Place, Problem};
use axum::body::Body;
use axum::response::Response;
use countersign_domain::Timestamp;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// How the codes of the workflow door begin.
const OF_WORKFLOW: &str = "AWE-";

/// How a door words its problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `{error, message, details?}`: overrides, and everything on the management plane.
    Standard,
    /// The same, where a malformed request is a `validation_error`.
    Approvals,
    /// `{detail, error_code, status}` with codes in upper case; a malformed request is 422.
    Actions,
    /// `{detail}`, a sentence, or for a malformed request, 422, a list as FastAPI writes it.
    Cases,
    /// An envelope with a code, except for what FastAPI itself would say: a malformed request, a path or method that
    /// there is none of.
    Workflow,
}

impl Dialect {
    /// The dialect of the public door that owns the path.
    pub(crate) fn of(path: &str) -> Self {
        let under =
            |prefix| path.strip_prefix(prefix).is_some_and(|rest: &str| rest.is_empty() || rest.starts_with('/'));
        if under("/api/v1/external") {
            Self::Cases
        } else if under("/api") || under("/audit") {
            Self::Actions
        } else if under("/v1/awe") {
            Self::Workflow
        } else if under("/v1") {
            Self::Approvals
        } else {
            Self::Standard
        }
    }

    /// The response, given at `now`, with the problem that it carries, if it does, in this dialect.
    pub(crate) fn word(self, mut response: Response, now: Timestamp) -> Response {
        let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
        let (status, body) = self.render(&problem, now);
        *response.status_mut() = status;
        *response.body_mut() = Body::from(body.get().to_owned());
        // What the request's log line says of it.
        response.extensions_mut().insert(Outcome(problem.code));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = problem.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    fn render(self, problem: &Problem, now: Timestamp) -> (StatusCode, Box<RawValue>) {
        let invalid = problem.code == INVALID;
        let message = &problem.message;
        match self {
            Self::Standard | Self::Approvals => {
                let code = if invalid && self == Self::Approvals { "validation_error" } else { problem.code };
                let details = (!problem.details.is_empty()).then_some(problem.details.as_slice());
                (problem.status, written(&Standard { error: code, message, details }))
            }
            Self::Actions => for_actions(problem),
            Self::Cases | Self::Workflow if invalid => {
                let detail: Vec<_> = problem.details.iter().map(|detail| FastApi::new(detail, self)).collect();
                (StatusCode::UNPROCESSABLE_ENTITY, written(&Bare { detail }))
            }
            Self::Cases => (problem.status, written(&Bare { detail: message })),
            Self::Workflow => for_workflow(problem, now),
        }
    }
}

/// An answer of the workflow door that says how it is, or what went wrong.
#[derive(Debug, Serialize)]
pub struct Envelope<T> {
    id: &'static str,
    version: &'static str,
    responsetime: String,
    response: Option<T>,
    errors: Vec<Coded>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Coded {
    error_code: &'static str,
    message: String,
}

impl<T> Envelope<T> {
    /// A success, at `now`.
    #[must_use]
    pub fn new(response: T, now: Timestamp) -> Self {
        Self { response: Some(response), ..Self::empty(now) }
    }

    fn empty(now: Timestamp) -> Self {
        let responsetime = now.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
        Self { id: "openg2p.awe", version: "1.0", responsetime, response: None, errors: Vec::new() }
    }
}

/// The codes of the workflow door; what it has none for is an internal fault.
fn for_workflow(problem: &Problem, now: Timestamp) -> (StatusCode, Box<RawValue>) {
    let (status, code) = match problem.code {
        "not_found" => return (problem.status, written(&Bare { detail: "Not Found" })),
        "method_not_allowed" => return (problem.status, written(&Bare { detail: "Method Not Allowed" })),
        "unsupported_media_type" => {
            let detail = Detail::new("body", problem.message.clone());
            let detail = [FastApi { kind: "value_error", ..FastApi::new(&detail, Dialect::Workflow) }];
            return (StatusCode::UNPROCESSABLE_ENTITY, written(&Bare { detail }));
        }
        "idempotency_key_reused" => (StatusCode::CONFLICT, "AWE-009"),
        "payload_too_large" => (problem.status, "AWE-010"),
        "unavailable" => (problem.status, "AWE-006"),
        code if code.starts_with(OF_WORKFLOW) => (problem.status, code),
        _ if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&problem.status) => (problem.status, "AWE-008"),
        _ => (problem.status, "AWE-000"),
    };
    let errors = vec![Coded { error_code: code, message: problem.message.clone() }];
    (status, written(&Envelope::<()> { errors, ..Envelope::empty(now) }))
}

#[derive(Serialize)]
struct Standard<'a> {
    error: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a [Detail]>,
}

#[derive(Serialize)]
struct OfActions {
    detail: String,
    error_code: String,
    status: u16,
}

/// As FastAPI says that something is wrong.
#[derive(Serialize)]
struct Bare<D> {
    detail: D,
}

/// What is wrong with one field, as FastAPI says it.
#[derive(Serialize)]
struct FastApi {
    loc: Vec<Value>,
    msg: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

fn for_actions(problem: &Problem) -> (StatusCode, Box<RawValue>) {
    let (status, detail, code) = if problem.code == INVALID {
        let details: Vec<_> = problem.details.iter().map(|d| format!("{} {}", d.field, d.message)).collect();
        let detail = if details.is_empty() { problem.message.clone() } else { details.join("; ") };
        (StatusCode::UNPROCESSABLE_ENTITY, detail, "VALIDATION_ERROR".to_owned())
    } else {
        (problem.status, problem.message.clone(), problem.code.to_ascii_uppercase())
    };
    (status, written(&OfActions { detail, error_code: code, status: status.as_u16() }))
}

impl FastApi {
    fn new(detail: &Detail, dialect: Dialect) -> Self {
        let place = match detail.place {
            Place::Body | Place::Text { .. } => "body",
            Place::Query => "query",
            Place::Path => "path",
            Place::Header => "header",
        };
        let is_workflow = dialect == Dialect::Workflow;
        let is_whole = detail.place == Place::Body && detail.field == "body";
        let inside = match detail.place {
            Place::Text { offset } if is_workflow => vec![offset.into()],
            Place::Text { .. } => Vec::new(),
            Place::Body if is_whole => Vec::new(),
            Place::Body | Place::Query | Place::Path | Place::Header if is_workflow => parts(&detail.field),
            Place::Body | Place::Query | Place::Path | Place::Header => vec![detail.field.as_str().into()],
        };
        let kind = match detail.message.as_str() {
            // The cases door has always said of a missing body what it says of one that is no JSON.
            "is required" if is_workflow || !is_whole => "missing",
            _ if is_whole || matches!(detail.place, Place::Text { .. }) => "json_invalid",
            _ => "value_error",
        };
        let loc = std::iter::once(place.into()).chain(inside).collect();
        Self { loc, msg: format!("{} {}", detail.field, detail.message), kind }
    }
}

/// The way to a field that may stand in lists and objects: `stages.0.name`.
fn parts(field: &str) -> Vec<Value> {
    field.split('.').map(|part| part.parse::<usize>().map_or_else(|_| part.into(), Value::from)).collect()
}

/// Texts and numbers alone: nothing that could not be written.
fn written(body: &impl Serialize) -> Box<RawValue> {
    to_raw_value(body).unwrap_or_default()
}

impl Problem {
    /// The problem as one item of a bulk answer of the actions door says it.
    #[must_use]
    pub fn as_bulk_item(&self) -> Box<RawValue> {
        for_actions(self).1
    }
}

/// The code of the problem that a response carries, for the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome(pub(crate) &'static str);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_path_is_worded_by_the_door_that_owns_its_prefix() {
        for (path, dialect) in [
            ("/api/v1/external/cases", Dialect::Cases),
            ("/api/v1/external", Dialect::Cases),
            ("/api/v1/externals", Dialect::Actions),
            ("/api", Dialect::Actions),
            ("/api/anything", Dialect::Actions),
            ("/audit/logs", Dialect::Actions),
            ("/v1/awe", Dialect::Workflow),
            ("/v1/awe/tasks", Dialect::Workflow),
            ("/v1/awesome", Dialect::Approvals),
            ("/v1/audit", Dialect::Approvals),
            ("/v1", Dialect::Approvals),
            ("/v10", Dialect::Standard),
            ("/apis", Dialect::Standard),
            ("/health", Dialect::Standard),
        ] {
            assert_eq!(Dialect::of(path), dialect, "{path}");
        }
    }

    #[test]
    fn each_dialect_says_the_same_in_its_own_words() {
        let wrong = Problem::invalid(vec![Detail::new("a", "is required"), Detail::at(Place::Query, "b", "must be c")]);
        let said = |dialect: Dialect, problem: &Problem| {
            let (status, body) = dialect.render(problem, "2026-04-23T10:00:00.0009Z".parse().unwrap());
            (status.as_u16(), serde_json::from_str::<Value>(body.get()).unwrap())
        };
        let message = "several fields are missing or ill-formed; see details";
        let details = json!([{ "field": "a", "message": "is required" }, { "field": "b", "message": "must be c" }]);
        let standard = json!({ "error": "invalid_request", "message": message, "details": details });
        assert_eq!(said(Dialect::Standard, &wrong), (400, standard));
        let approvals = json!({ "error": "validation_error", "message": message, "details": details });
        assert_eq!(said(Dialect::Approvals, &wrong), (400, approvals));
        let actions =
            json!({ "detail": "a is required; b must be c", "error_code": "VALIDATION_ERROR", "status": 422 });
        assert_eq!(said(Dialect::Actions, &wrong), (422, actions));
        let cases = json!({ "detail": [
            { "loc": ["body", "a"], "msg": "a is required", "type": "missing" },
            { "loc": ["query", "b"], "msg": "b must be c", "type": "value_error" },
        ] });
        assert_eq!(said(Dialect::Cases, &wrong), (422, cases));

        let gone = Problem::not_found();
        assert_eq!(said(Dialect::Cases, &gone), (404, json!({ "detail": gone.message })));
        let actions = json!({ "detail": gone.message, "error_code": "NOT_FOUND", "status": 404 });
        assert_eq!(said(Dialect::Actions, &gone), (404, actions));
        let body = json!({ "detail": [{ "loc": ["body"], "msg": "body was cut off", "type": "json_invalid" }] });
        assert_eq!(said(Dialect::Cases, &Problem::invalid_body("was cut off")), (422, body.clone()));
        assert_eq!(said(Dialect::Workflow, &Problem::invalid_body("was cut off")), (422, body));
    }

    fn of_workflow(problem: &Problem) -> (u16, Value) {
        let (status, body) = Dialect::Workflow.render(problem, "2026-04-23T10:00:00.0009Z".parse().unwrap());
        (status.as_u16(), serde_json::from_str(body.get()).unwrap())
    }

    #[test]
    fn the_workflow_door_has_an_envelope_for_what_fastapi_does_not_say() {
        let bare = |status, code, message| of_workflow(&Problem::new(status, code, message));
        for (problem, status, code) in [
            (Problem::new(StatusCode::NOT_FOUND, "AWE-003", "m"), 404, "AWE-003"),
            (Problem::unauthorized("invalid_token", "m"), 401, "AWE-008"),
            (Problem::forbidden("m"), 403, "AWE-008"),
            (Problem::idempotency_key_reused(), 409, "AWE-009"),
            (Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "m"), 413, "AWE-010"),
            (Problem::unavailable(), 503, "AWE-006"),
            (Problem::internal(), 500, "AWE-000"),
        ] {
            let errors = json!([{ "errorCode": code, "message": problem.message }]);
            let body = json!({
                "id": "openg2p.awe",
                "version": "1.0",
                "responsetime": "2026-04-23T10:00:00.000Z",
                "response": null,
                "errors": errors,
            });
            assert_eq!(of_workflow(&problem), (status, body));
        }
        assert_eq!(of_workflow(&Problem::not_found()), (404, json!({ "detail": "Not Found" })));
        let wrong_method = bare(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "m");
        assert_eq!(wrong_method, (405, json!({ "detail": "Method Not Allowed" })));
        let (status, wrong_type) = bare(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "m");
        assert_eq!((status, &wrong_type["detail"][0]["loc"]), (422, &json!(["body"])));
    }

    #[test]
    fn the_workflow_door_says_where_in_lists_and_texts_something_is_wrong() {
        let loc = |detail| of_workflow(&Problem::invalid(vec![detail])).1["detail"][0].take();
        assert_eq!(
            loc(Detail::new("stages.0.rules.11.kind", "m"))["loc"],
            json!(["body", "stages", 0, "rules", 11, "kind"])
        );
        assert_eq!(loc(Detail::at(Place::Path, "version", "m"))["loc"], json!(["path", "version"]));
        assert_eq!(loc(Detail::at(Place::Header, "Idempotency-Key", "m"))["loc"], json!(["header", "Idempotency-Key"]));
        let cut = loc(Detail::at(Place::Text { offset: 7 }, "body", "is cut off"));
        assert_eq!((&cut["loc"], &cut["type"]), (&json!(["body", 7]), &json!("json_invalid")));
        let missing = loc(Detail::new("body", "is required"));
        assert_eq!((&missing["loc"], &missing["type"]), (&json!(["body"]), &json!("missing")));
    }
}
