//! The envelopes of the doors: how each says that something went wrong. The only place where a problem becomes a body.

use crate::problem::{Detail, INVALID, Place, Problem};
use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

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
        } else if under("/v1") {
            Self::Approvals
        } else {
            Self::Standard
        }
    }

    /// The response with the problem that it carries, if it does, in this dialect.
    pub(crate) fn word(self, mut response: Response) -> Response {
        let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
        let (status, body) = self.render(&problem);
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

    fn render(self, problem: &Problem) -> (StatusCode, Box<RawValue>) {
        let invalid = problem.code == INVALID;
        let message = &problem.message;
        match self {
            Self::Standard | Self::Approvals => {
                let code = if invalid && self == Self::Approvals { "validation_error" } else { problem.code };
                let details = (!problem.details.is_empty()).then_some(problem.details.as_slice());
                (problem.status, written(&Standard { error: code, message, details }))
            }
            Self::Actions => for_actions(problem),
            Self::Cases if invalid => {
                let detail: Vec<_> = problem.details.iter().map(FastApi::new).collect();
                (StatusCode::UNPROCESSABLE_ENTITY, written(&OfCases { detail }))
            }
            Self::Cases => (problem.status, written(&OfCases { detail: message })),
        }
    }
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

#[derive(Serialize)]
struct OfCases<D> {
    detail: D,
}

/// What is wrong with one field, as FastAPI says it.
#[derive(Serialize)]
struct FastApi<'a> {
    loc: Vec<&'a str>,
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

impl<'a> FastApi<'a> {
    fn new(detail: &'a Detail) -> Self {
        let place = match detail.place {
            Place::Body => "body",
            Place::Query => "query",
            Place::Path => "path",
            Place::Header => "header",
        };
        let whole_body = detail.place == Place::Body && detail.field == "body";
        let kind = match (whole_body, detail.message.as_str()) {
            (true, _) => "json_invalid",
            (false, "is required") => "missing",
            (false, _) => "value_error",
        };
        let loc = if whole_body { vec![place] } else { vec![place, &detail.field] };
        Self { loc, msg: format!("{} {}", detail.field, detail.message), kind }
    }
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
            let (status, body) = dialect.render(problem);
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
        assert_eq!(said(Dialect::Cases, &Problem::invalid_body("was cut off")), (422, body));
    }
}
