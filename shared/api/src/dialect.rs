//! The envelopes of the doors: how each says that something went wrong. The only place where a problem becomes a body.

use crate::problem::{Detail, INVALID, Place, Problem};
use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

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
        *response.body_mut() = Body::from(body.to_string());
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

    fn render(self, problem: &Problem) -> (StatusCode, Value) {
        let invalid = problem.code == INVALID;
        match self {
            Self::Standard | Self::Approvals => {
                let code = if invalid && self == Self::Approvals { "validation_error" } else { problem.code };
                let mut body = json!({ "error": code, "message": problem.message });
                if !problem.details.is_empty() {
                    body["details"] = json!(problem.details);
                }
                (problem.status, body)
            }
            Self::Actions => (Self::status(problem), self.for_action(problem)),
            Self::Cases if invalid => {
                let details: Vec<_> = problem.details.iter().map(fastapi_detail).collect();
                (StatusCode::UNPROCESSABLE_ENTITY, json!({ "detail": details }))
            }
            Self::Cases => (problem.status, json!({ "detail": problem.message })),
        }
    }

    fn status(problem: &Problem) -> StatusCode {
        if problem.code == INVALID { StatusCode::UNPROCESSABLE_ENTITY } else { problem.status }
    }

    fn for_action(self, problem: &Problem) -> Value {
        let (detail, code) = if problem.code == INVALID {
            let details: Vec<_> = problem.details.iter().map(|d| format!("{} {}", d.field, d.message)).collect();
            let detail = if details.is_empty() { problem.message.clone() } else { details.join("; ") };
            (detail, "VALIDATION_ERROR".to_owned())
        } else {
            (problem.message.clone(), problem.code.to_ascii_uppercase())
        };
        json!({ "detail": detail, "error_code": code, "status": Self::status(problem).as_u16() })
    }
}

impl Problem {
    /// The problem as one item of a bulk answer of the actions door says it.
    #[must_use]
    pub fn as_bulk_item(&self) -> Value {
        Dialect::Actions.for_action(self)
    }
}

/// What is wrong with one field, as FastAPI says it.
fn fastapi_detail(detail: &Detail) -> Value {
    let place = match detail.place {
        Place::Body => "body",
        Place::Query => "query",
        Place::Path => "path",
        Place::Header => "header",
    };
    let whole_body = detail.place == Place::Body && detail.field == "body";
    let location = if whole_body { json!([place]) } else { json!([place, detail.field]) };
    let kind = match (whole_body, detail.message.as_str()) {
        (true, _) => "json_invalid",
        (false, "is required") => "missing",
        (false, _) => "value_error",
    };
    json!({ "loc": location, "msg": format!("{} {}", detail.field, detail.message), "type": kind })
}

/// The code of the problem that a response carries, for the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome(pub(crate) &'static str);

#[cfg(test)]
mod tests {
    use super::*;

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
            (status.as_u16(), body)
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
