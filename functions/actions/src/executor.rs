//! What the agent does with its action afterwards: takes it back, or reports how it went.

use crate::caller::{Member, Submit, doer};
use crate::words::{id_in_text, only_id, word};
use axum::extract::State;
use countersign_api::{Answer, App, Call, Form, NoBody, PathText, Problem};
use countersign_domain::action::{ActionId, Refusal, Report};
use countersign_domain::rfc3339;
use serde::Serialize;
use serde_json::{Value, json};

#[derive(Serialize)]
struct Recorded {
    action_id: ActionId,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    recorded_at: String,
}

/// `POST /api/v1/actions/{id}/cancel`
pub(crate) async fn cancel(
    State(app): State<App>,
    call: Call<Member<Submit>>,
    PathText(id): PathText,
    NoBody(body): NoBody,
) -> Result<Answer, Problem> {
    let id = only_id(&id)?;
    call.check_idempotency_key()?;
    let id = id.ok_or_else(|| word(Refusal::NotFound))?;
    let doer = doer(&call);
    app.change(
        &call,
        &body,
        &call.caller.key(id),
        |action, now| action.ok_or(Refusal::NotFound)?.cancel(&doer, now),
        |action| {
            let recorded_at = rfc3339(action.updated_at);
            Answer::ok(&Recorded { action_id: id, status: "denied", outcome: Some("cancelled"), recorded_at })
        },
    )
    .await
    .map_err(|refused| refused.or(word))
}

/// `POST /api/agent-action/{id}/complete`
pub(crate) async fn complete(
    State(app): State<App>,
    call: Call<Member<Submit>>,
    PathText(id): PathText,
    NoBody(body): NoBody,
) -> Result<Answer, Problem> {
    report(&app, &call, Report::Completed, &id, body).await
}

/// `POST /api/agent-action/{id}/fail`
pub(crate) async fn fail(
    State(app): State<App>,
    call: Call<Member<Submit>>,
    PathText(id): PathText,
    NoBody(body): NoBody,
) -> Result<Answer, Problem> {
    report(&app, &call, Report::Failed, &id, body).await
}

async fn report(
    app: &App,
    call: &Call<Member<Submit>>,
    result: Report,
    id: &str,
    body: Value,
) -> Result<Answer, Problem> {
    let mut form = Form::optional_json(body.clone())?;
    let id = form.path("action_id", id, id_in_text);
    // What the executor says is its own; it is kept as a whole if it is not too large.
    if let Err(error) = Form::object(&if body.is_null() { json!({}) } else { body.clone() }) {
        form.refuse("body", error);
    }
    let id = form.finish(|| id)?;
    call.check_idempotency_key()?;
    let id = id.ok_or_else(|| word(Refusal::NotFound))?;
    let (doer, details) = (doer(call), body.to_string());
    app.change(
        call,
        &body,
        &call.caller.key(id),
        |action, now| action.ok_or(Refusal::NotFound)?.report(result, &details, &doer, now),
        |action| {
            let recorded_at = rfc3339(action.updated_at);
            Answer::ok(&Recorded { action_id: id, status: result.as_str(), outcome: None, recorded_at })
        },
    )
    .await
    .map_err(|refused| refused.or(word))
}
