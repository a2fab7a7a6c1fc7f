//! A human approves or rejects an action.

use crate::caller::{Decide, Member, approver};
use crate::words::{id_in_path, word};
use axum::extract::State;
use countersign_api::{Answer, App, Call, Form, NoBody, PathText, Problem};
use countersign_domain::action::{Action, Decision, Refusal, State as ActionState};
use countersign_domain::rfc3339;
use countersign_store::Fault;
use serde_json::json;

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
    body: serde_json::Value,
) -> Result<Answer, Problem> {
    let mut form = Form::optional_json(body.clone())?;
    let id = form.path("action_id", id, id_in_path);
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

/// What the approver is told.
fn decided(action: &Action) -> Result<Answer, Fault> {
    let mut body = match &action.state {
        ActionState::Approved { by, at, .. } => {
            json!({ "action_id": action.id, "status": "approved", "approved_by": by, "approved_at": rfc3339(*at) })
        }
        ActionState::Denied { by, at, reason } => {
            let mut body =
                json!({ "action_id": action.id, "status": "denied", "rejected_by": by, "rejected_at": rfc3339(*at) });
            if let Some(reason) = reason {
                body["reason"] = reason.as_str().into();
            }
            body
        }
        ActionState::Pending { .. } | ActionState::Cancelled { .. } | ActionState::TimedOut { .. } => {
            return Err(Fault::Corrupt("a decision left an action undecided".to_owned()));
        }
    };
    body["correlation_id"] = action.correlation_id.as_str().into();
    Answer::ok(&body)
}
