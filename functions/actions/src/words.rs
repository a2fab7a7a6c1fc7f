//! How this door words refusals, and reads what its URLs have in common.

use countersign_api::{Form, Problem};
use countersign_domain::action::{ActionId, IDS, Refusal};
use http::StatusCode;
use serde_json::Value;

/// A refusal as this door says it.
pub(crate) fn word(refusal: Refusal) -> Problem {
    let (status, code) = match refusal {
        Refusal::NotFound => (StatusCode::NOT_FOUND, "action_not_found"),
        Refusal::Exists => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        Refusal::InsufficientLevel { .. } => (StatusCode::FORBIDDEN, "insufficient_approval_level"),
        Refusal::SelfApproval => (StatusCode::FORBIDDEN, "self_approval"),
        Refusal::NotPending(_) | Refusal::NotExecutable(_) => (StatusCode::BAD_REQUEST, "invalid_state"),
    };
    Problem::new(status, code, refusal.to_string())
}

/// Reads a whole number in a path or a query string; `None` if it is too large for any id.
///
/// # Errors
/// It is something else.
pub(crate) fn whole_number(value: &Value) -> Result<Option<i64>, String> {
    let text = value.as_str().unwrap_or_default();
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err("must be a whole number".to_owned());
    }
    Ok(text.parse().ok())
}

/// Reads an action's id in a path or a query string: a whole number, although not every one can be an action's.
///
/// # Errors
/// It is something else.
pub(crate) fn id_in_text(value: &Value) -> Result<Option<ActionId>, String> {
    Ok(whole_number(value)?.and_then(ActionId::new))
}

/// Reads an action's id in a body, likewise.
///
/// # Errors
/// It is something else.
pub(crate) fn id_in_body(value: &Value) -> Result<BodyId, String> {
    let number = value.as_number().filter(|n| n.is_i64() || n.is_u64() || n.as_f64().is_some_and(|n| n.fract() == 0.0));
    let number = number.ok_or("must be a whole number")?;
    let whole = number.as_i64().or_else(|| number.as_f64().filter(|n| n.abs() < IDS as f64).map(|n| n as i64));
    Ok(BodyId { id: whole.and_then(ActionId::new), sent: whole.map_or_else(|| value.clone(), Value::from) })
}

/// An id as it was sent, and the action that it can be of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BodyId {
    /// The number, in one spelling.
    pub(crate) sent: Value,
    /// `None` if no action can have it.
    pub(crate) id: Option<ActionId>,
}

/// The one id in a path; `None` if no action can have it.
///
/// # Errors
/// It is no number.
pub(crate) fn only_id(id: &str) -> Result<Option<ActionId>, Problem> {
    let mut form = Form::query("");
    let id = form.path("action_id", id, id_in_text);
    form.finish(|| id)
}
