//! Proposing remediations, and looking at them.

use crate::caller::Member;
use crate::shown::{self, Outputs, Shown};
use axum::extract::State;
use countersign_api::{Answer, App, Call, Form, JsonBody, PathText, Problem, QueryText};
use countersign_domain::remediation::{
    IncidentId, Input, MAX_DESCRIPTION, MAX_STEPS, MAX_TIMEOUT_MINUTES, MAX_TITLE, Propose, Refusal, Remediation,
    RemediationId, Status,
};
use countersign_domain::{Outcome, Tenant};
use countersign_store::{By, Cursor, Fault, Found, Key, Order, Query};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// How long an approval can be answered unless it is said otherwise, in minutes.
const DEFAULT_TIMEOUT_MINUTES: i64 = 30;
/// How many rows a page has at most, and unless it is said otherwise.
const LARGEST_PAGE: usize = 100;
const DEFAULT_PAGE: usize = 50;
/// A documented status in which no remediation stays: an approval goes straight to `executing`.
const APPROVED: &str = "approved";

/// Where a tenant's remediation is.
pub(crate) fn key(tenant: &Tenant, id: &RemediationId) -> Key<Remediation> {
    Key::new(tenant, id.as_str())
}

/// The id in a path. Any other text is the id of no remediation.
pub(crate) fn id(path: Result<PathText, Problem>) -> Result<RemediationId, Problem> {
    let id = path.ok().and_then(|PathText(id)| RemediationId::of_remediation(&id));
    id.ok_or_else(|| word(Refusal::NotFound))
}

/// A refusal, to a caller who named the remediation.
pub(crate) fn word(refusal: Refusal) -> Problem {
    let (status, code) = match refusal {
        Refusal::NotFound => (StatusCode::NOT_FOUND, "remediation_not_found"),
        Refusal::StepNotFound => (StatusCode::NOT_FOUND, "step_not_found"),
        Refusal::AlreadyDecided => (StatusCode::CONFLICT, "already_decided"),
        Refusal::Expired => (StatusCode::CONFLICT, "approval_expired"),
        Refusal::NeedsNoApproval | Refusal::InvalidState => (StatusCode::CONFLICT, "invalid_state"),
    };
    Problem::new(status, code, refusal.to_string())
}

/// Reads the item that a remediation was proposed with.
pub(crate) fn input_of(item: Option<&str>) -> Result<Input, Fault> {
    let input = item.and_then(|item| serde_json::from_str(item).ok());
    input.ok_or_else(|| Fault::Corrupt("a remediation's input is missing or cannot be read".to_owned()))
}

/// Reads how many rows a page may have, and its cursor.
pub(crate) fn page(query: &mut Form) -> (usize, Option<String>) {
    let limit = query.optional("limit", Form::digits(1, LARGEST_PAGE)).unwrap_or(DEFAULT_PAGE);
    (limit, query.optional("cursor", Form::text(4096)))
}

/// Reads a step as it is proposed: its description.
fn description(step: &Value) -> Result<String, String> {
    let description = step.get("description").ok_or("must be an object with a description")?;
    Form::text_of(1, MAX_DESCRIPTION)(description).map_err(|error| format!("has a description that {error}"))
}

/// `POST /v1/remediation`
pub(crate) async fn propose(
    State(app): State<App>,
    call: Call<Member>,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let mut form = Form::json(body.clone())?;
    let incident_id = form.optional("incidentId", Form::parsed);
    let incident_title = form.required("incidentTitle", Form::text_of(1, MAX_TITLE));
    let title = form.required("title", Form::text_of(1, MAX_TITLE));
    let steps = form.required("steps", Form::list(1, MAX_STEPS, description));
    let timeout_minutes = form.optional("timeoutMinutes", Form::integer(1, MAX_TIMEOUT_MINUTES));
    let requires_approval = form.optional("requiresApproval", Form::boolean).unwrap_or(true);
    let id = RemediationId::new(app.ulid()?);
    let minted = IncidentId::new(app.ulid()?);
    let propose = form.finish(|| {
        Some(Propose {
            id,
            tenant: call.caller.tenant.clone(),
            incident_id: incident_id.unwrap_or(minted),
            incident_title: incident_title?,
            title: title?,
            steps: steps?,
            timeout_minutes: timeout_minutes.unwrap_or(DEFAULT_TIMEOUT_MINUTES),
            requires_approval,
        })
    })?;
    app.change(
        &call,
        &body,
        &key(&propose.tenant, &propose.id),
        // 80 random bits: one that exists is refused rather than overwritten.
        |remediation, now| match remediation {
            None => Ok(Outcome::Change(Remediation::propose(propose.clone(), &call.actor, now))),
            Some(_) => Err(Refusal::InvalidState),
        },
        |remediation| {
            let input = Input { steps: propose.steps.clone() };
            let now = remediation.proposed_at;
            Answer::created(&Shown::new(remediation.clone(), input, Outputs::new(), now)?)
        },
    )
    .await
    .map_err(|refused| refused.or(word))
}

/// `GET /v1/remediation/{id}`
pub(crate) async fn show(
    State(app): State<App>,
    call: Call<Member>,
    path: Result<PathText, Problem>,
) -> Result<Answer, Problem> {
    let id = id(path)?;
    let shown = shown::load(&app.store, &call.caller.tenant, &id, app.clock.now(), call.deadline()).await?;
    Ok(Answer::ok(&shown.ok_or_else(|| word(Refusal::NotFound))?)?)
}

/// Reads the status that is asked for.
fn status(value: &Value) -> Result<&'static str, String> {
    if value == APPROVED { Ok(APPROVED) } else { Form::parsed(value).map(Status::as_str) }
}

#[derive(Serialize)]
struct Remediations {
    items: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    count: usize,
}

/// `GET /v1/remediation`
pub(crate) async fn list(
    State(app): State<App>,
    call: Call<Member>,
    QueryText(query): QueryText,
) -> Result<Answer, Problem> {
    let mut form = Form::query(&query);
    let status = form.optional("status", status);
    let (limit, cursor) = page(&mut form);
    form.finish(|| Some(()))?;
    let keys = app.cursor_keys().await?;
    let (store, tenant, deadline, now) = (&app.store, &call.caller.tenant, call.deadline(), app.clock.now());
    let query =
        Query { tenant, by: status.map_or(By::All, By::State), order: Order::NewestFirst, limit, with_input: true };
    let cursor = Cursor { text: cursor.as_deref(), keys: &keys };
    let row = |Found { record, input }: Found<Remediation>| async move {
        // The deadline may have passed without the clock having come by.
        if status.is_some_and(|status| status != record.status(now).as_str()) {
            return Ok(None);
        }
        let outputs = shown::outputs(store, tenant, &record, deadline).await?;
        Shown::new(record, input_of(input.as_deref())?, outputs, now).map(Some)
    };
    let page = store.list_reading(query, cursor, deadline, row).await??;
    Ok(Answer::ok(&Remediations { count: page.rows.len(), items: page.rows, cursor: page.next })?)
}
