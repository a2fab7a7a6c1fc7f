//! Answering approvals, by either of their two ids, and those that still wait for an answer.

use crate::caller::{Admin, Member};
use crate::remediations::{self, input_of, key};
use axum::extract::State;
use countersign_api::{Answer, App, Call, Form, JsonBody, NoBody, PathText, Problem, QueryText, Refused};
use countersign_domain::remediation::{
    Decision, IncidentId, Input, MAX_NOTES, Refusal, Remediation, RemediationId, Respond, Status,
};
use countersign_domain::rfc3339;
use countersign_store::{By, Cursor, Fault, Found, Order, Query};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::future::ready;

/// A refusal, to a caller who named the approval. One that never was needed does not exist.
fn word(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::NotFound | Refusal::NeedsNoApproval => {
            Problem::new(StatusCode::NOT_FOUND, "approval_not_found", "there is no approval with this id")
        }
        Refusal::AlreadyDecided | Refusal::Expired | Refusal::StepNotFound | Refusal::InvalidState => {
            remediations::word(refusal)
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Decided {
    approval_id: String,
    decision: &'static str,
    remediation_id: String,
    remediation_status: &'static str,
    decided_at: String,
}

impl Decided {
    fn answer(remediation: &Remediation) -> Result<Answer, Fault> {
        let undecided = || Fault::Corrupt("a remediation that was just decided is not".to_owned());
        let (decision, answered) = remediation.answered().ok_or_else(undecided)?;
        Answer::ok(&Self {
            approval_id: remediation.id.approval(),
            decision: decision.as_str(),
            remediation_id: remediation.id.remediation(),
            remediation_status: remediation.status(answered.at).as_str(),
            decided_at: rfc3339(answered.at),
        })
    }
}

/// `POST /v1/notifications/approvals/{approval_id}/respond`
pub(crate) async fn respond(
    State(app): State<App>,
    call: Call<Admin>,
    path: Result<PathText, Problem>,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let mut form = Form::json(body.clone())?;
    let decision = form.required_as("decision", "action", Form::parsed);
    let notes = form.optional("notes", Form::text(MAX_NOTES));
    let respond = form.finish(|| Some(Respond { decision: decision?, notes }))?;
    call.check_idempotency_key()?;
    // Any other text is the id of no approval.
    let id = path.ok().and_then(|PathText(id)| RemediationId::of_approval(&id));
    let id = id.ok_or_else(|| word(Refusal::NotFound))?;
    decide(&app, &call, &body, &id, &respond).await.map_err(|refused| refused.or(word))
}

/// `POST /v1/remediation/{id}/approve`
pub(crate) async fn approve(
    State(app): State<App>,
    call: Call<Admin>,
    path: Result<PathText, Problem>,
    NoBody(body): NoBody,
) -> Result<Answer, Problem> {
    respond_to_remediation(&app, &call, path, &body, Decision::Approve).await
}

/// `POST /v1/remediation/{id}/reject`
pub(crate) async fn reject(
    State(app): State<App>,
    call: Call<Admin>,
    path: Result<PathText, Problem>,
    NoBody(body): NoBody,
) -> Result<Answer, Problem> {
    respond_to_remediation(&app, &call, path, &body, Decision::Reject).await
}

async fn respond_to_remediation(
    app: &App,
    call: &Call<Admin>,
    path: Result<PathText, Problem>,
    body: &Value,
    decision: Decision,
) -> Result<Answer, Problem> {
    let mut form = Form::optional_json(body.clone())?;
    let notes = form.optional("notes", Form::text(MAX_NOTES));
    let respond = form.finish(|| Some(Respond { decision, notes }))?;
    call.check_idempotency_key()?;
    let id = remediations::id(path)?;
    decide(app, call, body, &id, &respond).await.map_err(|refused| refused.or(remediations::word))
}

/// The one rule behind every spelling.
async fn decide(
    app: &App,
    call: &Call<Admin>,
    body: &Value,
    id: &RemediationId,
    respond: &Respond,
) -> Result<Answer, Refused<Refusal>> {
    app.change(
        call,
        body,
        &key(&call.caller.tenant, id),
        |remediation, now| remediation.ok_or(Refusal::NotFound)?.respond(respond, &call.actor, now),
        Decided::answer,
    )
    .await
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Waiting {
    approval_id: String,
    remediation_id: String,
    incident_id: IncidentId,
    incident_title: String,
    remediation_title: String,
    steps: Vec<String>,
    requested_at: String,
    expires_at: String,
}

impl Waiting {
    fn new(remediation: Remediation, Input { steps }: Input) -> Self {
        Self {
            approval_id: remediation.id.approval(),
            remediation_id: remediation.id.remediation(),
            incident_id: remediation.incident_id,
            incident_title: remediation.incident_title,
            remediation_title: remediation.title,
            steps,
            requested_at: rfc3339(remediation.proposed_at),
            expires_at: rfc3339(remediation.expires_at),
        }
    }
}

#[derive(Serialize)]
struct Pending {
    items: Vec<Box<RawValue>>,
    total: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// `GET /v1/notifications/approvals/pending`
pub(crate) async fn pending(
    State(app): State<App>,
    call: Call<Member>,
    QueryText(query): QueryText,
) -> Result<Answer, Problem> {
    let mut form = Form::query(&query);
    let (limit, cursor) = remediations::page(&mut form);
    form.finish(|| Some(()))?;
    let keys = app.cursor_keys().await?;
    let by = By::State(Status::Proposed.as_str());
    let query = Query { tenant: &call.caller.tenant, by, order: Order::OldestFirst, limit, with_input: true };
    let cursor = Cursor { text: cursor.as_deref(), keys: &keys };
    let now = app.clock.now();
    let waiting = |Found { record, input }: Found<Remediation>| {
        // The clock may not have come by yet.
        let waits = record.status(now) == Status::Proposed;
        let row = waits.then(|| Ok(Waiting::new(record, input_of(input.as_deref())?)));
        ready(row.transpose())
    };
    let page = app.store.list_reading(query, cursor, call.deadline(), waiting).await??;
    Ok(Answer::ok(&Pending { total: page.rows.len(), items: page.rows, cursor: page.next })?)
}
