//! A human approves or rejects an action.

use crate::caller::{Decide, Member, approver};
use crate::words::{id_in_text, word};
use axum::extract::State;
use countersign_api::{Answer, App, Call, Form, NoBody, PathText, Problem};
use countersign_domain::action::{Action, ActionId, Decision, Refusal, State as ActionState};
use countersign_domain::rfc3339;
use countersign_store::Fault;
use serde::Serialize;
use serde_json::Value;

/// The longest reason, in characters.
pub(crate) const REASON: usize = 2000;

/// `POST /api/v1/actions/{id}/approve`
pub(crate) async fn approve(
    State(app): State<App>,
    call: Call<Member<Decide>>,
    PathText(id): PathText,
    NoBody(body): NoBody,
) -> Result<Answer, Problem> {
    decide(&app, &call, Decision::Approve, &id, body).await
}

/// `POST /api/v1/actions/{id}/reject`
pub(crate) async fn reject(
    State(app): State<App>,
    call: Call<Member<Decide>>,
    PathText(id): PathText,
    NoBody(body): NoBody,
) -> Result<Answer, Problem> {
    decide(&app, &call, Decision::Reject, &id, body).await
}

async fn decide(
    app: &App,
    call: &Call<Member<Decide>>,
    decision: Decision,
    id: &str,
    body: Value,
) -> Result<Answer, Problem> {
    let mut form = Form::optional_json(body.clone())?;
    let id = form.path("action_id", id, id_in_text);
    let reason = form.optional("reason", Form::text(REASON));
    let id = form.finish(|| id)?;
    call.check_idempotency_key()?;
    let id = id.ok_or_else(|| word(Refusal::NotFound))?;
    let approver = approver(call)?;
    app.change(
        call,
        &body,
        &call.caller.key(id),
        |action, now| action.ok_or(Refusal::NotFound)?.decide(decision, reason.clone(), &approver, now),
        decided,
    )
    .await
    .map_err(|refused| refused.or(word))
}

#[derive(Serialize)]
struct Approved<'a> {
    action_id: ActionId,
    status: &'static str,
    approved_by: Option<u64>,
    approved_at: String,
    correlation_id: &'a str,
}

#[derive(Serialize)]
struct Rejected<'a> {
    action_id: ActionId,
    status: &'static str,
    rejected_by: Option<u64>,
    rejected_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    correlation_id: &'a str,
}

/// What the approver is told.
fn decided(action: &Action) -> Result<Answer, Fault> {
    let Action { id: action_id, correlation_id, state, .. } = action;
    match state {
        ActionState::Approved { by, at, .. } => Answer::ok(&Approved {
            action_id: *action_id,
            status: "approved",
            approved_by: *by,
            approved_at: rfc3339(*at),
            correlation_id,
        }),
        ActionState::Denied { by, at, reason } => Answer::ok(&Rejected {
            action_id: *action_id,
            status: "denied",
            rejected_by: *by,
            rejected_at: rfc3339(*at),
            reason: reason.as_deref(),
            correlation_id,
        }),
        ActionState::Pending { .. } | ActionState::Cancelled { .. } | ActionState::TimedOut { .. } => {
            Err(Fault::Corrupt("a decision left an action undecided".to_owned()))
        }
    }
}
