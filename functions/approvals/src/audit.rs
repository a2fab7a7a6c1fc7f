//! The audit log of a tenant's remediations, and whether it is still what was written.

use crate::caller::Admin;
use crate::remediations::page;
use axum::extract::State;
use countersign_api::{Answer, App, Call, Form, Listed, Problem, QueryText};
use countersign_domain::remediation::{IncidentId, Remediation, RemediationId};
use countersign_domain::{Entry, Record, rfc3339};
use countersign_store::{BrokenRecord, By, Cursor, Order, Query, StoredChange};
use serde::Serialize;
use serde_json::{Map, Value};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    entry_id: String,
    event: String,
    actor: String,
    at: String,
    incident_id: Option<Value>,
    remediation_id: String,
    approval_id: Option<Value>,
    details: Map<String, Value>,
    prev_hash: String,
    hash: String,
}

/// An entry's id: the remediation's, the number of its change, and the entry's own in this change, both from 1.
fn entry_id(remediation_id: &str, change: u64, entry: usize) -> String {
    format!("{remediation_id}.{change}.{entry}")
}

impl Row {
    fn new(change: &StoredChange, number: usize, entry: &Entry) -> Self {
        // The ids that every entry has stand beside its details.
        let mut details = entry.data.as_object().cloned().unwrap_or_default();
        let [incident_id, approval_id, _] = ["incidentId", "approvalId", "remediationId"].map(|id| details.remove(id));
        Self {
            entry_id: entry_id(&entry.subject.id, change.body.version, number),
            event: entry.name.clone(),
            actor: entry.actor.to_string(),
            at: rfc3339(entry.at),
            incident_id,
            remediation_id: entry.subject.id.clone(),
            approval_id,
            details,
            prev_hash: change.prev_hash.clone(),
            hash: change.hash.clone(),
        }
    }
}

/// `GET /v1/audit`
pub(crate) async fn list(
    State(app): State<App>,
    call: Call<Admin>,
    QueryText(query): QueryText,
) -> Result<Answer, Problem> {
    let mut form = Form::query(&query);
    let incident: Option<IncidentId> = form.optional("incidentId", Form::parsed);
    let (limit, cursor) = page(&mut form);
    form.finish(|| Some(()))?;
    let keys = app.cursor_keys().await?;
    let by = incident.as_ref().map_or(By::All, |incident| By::Subject(incident.as_str()));
    let query = Query { tenant: &call.caller.tenant, by, order: Order::OldestFirst, limit, with_input: false };
    let cursor = Cursor { text: cursor.as_deref(), keys: &keys };
    let rows = |change: &StoredChange| {
        let entries = (1..).zip(&change.body.entries);
        entries.map(|(number, entry)| Row::new(change, number, entry)).collect()
    };
    let page = app.store.histories::<Remediation, Row>(query, cursor, call.deadline(), rows).await??;
    Ok(Answer::ok(&Listed::from(page))?)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    valid: bool,
    entries: u64,
    first_broken: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// The first entry of the change to look at.
fn first_broken(broken: &BrokenRecord) -> String {
    let id = broken.id();
    let id = id.parse().map_or_else(|_| id.to_owned(), |id: RemediationId| id.remediation());
    entry_id(&id, broken.broken.look_at(), 1)
}

/// `GET /v1/audit/verify`
pub(crate) async fn verify(
    State(app): State<App>,
    call: Call<Admin>,
    QueryText(query): QueryText,
) -> Result<Answer, Problem> {
    let (verified, cursor) = app.verify(&call, Remediation::KIND, &call.caller.tenant, &query).await?;
    let first_broken = verified.broken.as_ref().map(first_broken);
    Ok(Answer::ok(&Verdict { valid: first_broken.is_none(), entries: verified.entries, first_broken, cursor })?)
}
