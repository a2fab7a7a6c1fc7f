//! A remediation as callers see it, put together from its record and the items beside it.

use crate::remediations::{input_of, key};
use countersign_domain::remediation::{
    Decision, INPUT, IncidentId, Input, Remediation, RemediationId, Status, StepState,
};
use countersign_domain::{Tenant, Timestamp, rfc3339};
use countersign_store::{Fault, Store};
use serde::Serialize;
use std::collections::HashMap;
use tokio::time::Instant;

/// What the names of the items with the steps' outputs start with.
pub(crate) const OUTPUTS: &str = "output#";

/// The outputs of a remediation's steps, by the name of the item that each lies in.
pub(crate) type Outputs = HashMap<String, String>;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shown {
    remediation_id: String,
    incident_id: IncidentId,
    incident_title: String,
    title: String,
    status: &'static str,
    requires_approval: bool,
    approval_id: Option<String>,
    approved_by: Option<String>,
    approved_at: Option<String>,
    rejected_by: Option<String>,
    rejected_at: Option<String>,
    notes: Option<String>,
    steps: Vec<ShownStep>,
    outcome: Option<&'static str>,
    proposed_at: String,
    expires_at: Option<String>,
    executed_at: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownStep {
    step_id: String,
    description: String,
    status: &'static str,
    /// When it ended, whichever way.
    completed_at: Option<String>,
    output: Option<String>,
}

impl Shown {
    /// The remediation as it is at `now`.
    ///
    /// # Errors
    /// The items beside the record are not those that it speaks of.
    pub(crate) fn new(
        remediation: Remediation,
        input: Input,
        mut outputs: Outputs,
        now: Timestamp,
    ) -> Result<Self, Fault> {
        if input.steps.len() != remediation.steps.len() {
            return Err(Fault::Corrupt(format!("{} does not have its steps' descriptions", remediation.id)));
        }
        let mut steps = Vec::with_capacity(input.steps.len());
        for (step, description) in remediation.steps.iter().zip(input.steps) {
            let missing = |name| Fault::Corrupt(format!("{} has no item {name}", remediation.id));
            let output = step.output_item().map(|name| outputs.remove(&name).ok_or_else(|| missing(name)));
            steps.push(ShownStep {
                step_id: step.id(),
                description,
                status: step.state.as_str(),
                completed_at: ended_at(step.state).map(rfc3339),
                output: output.transpose()?,
            });
        }
        let status = remediation.status(now);
        let answered = remediation.answered();
        let given = |wanted| answered.filter(|(decision, _)| *decision == wanted).map(|(_, answered)| answered);
        let (approved, rejected) = (given(Decision::Approve), given(Decision::Reject));
        Ok(Self {
            remediation_id: remediation.id.remediation(),
            status: status.as_str(),
            requires_approval: remediation.requires_approval(),
            approval_id: remediation.approval_id(),
            approved_by: approved.map(|answered| answered.by.name().to_owned()),
            approved_at: approved.map(|answered| rfc3339(answered.at)),
            rejected_by: rejected.map(|answered| answered.by.name().to_owned()),
            rejected_at: rejected.map(|answered| rfc3339(answered.at)),
            notes: answered.and_then(|(_, answered)| answered.notes.clone()),
            steps,
            outcome: outcome(status),
            proposed_at: rfc3339(remediation.proposed_at),
            expires_at: remediation.deadline().map(rfc3339),
            executed_at: remediation.executed_at().map(rfc3339),
            incident_id: remediation.incident_id,
            incident_title: remediation.incident_title,
            title: remediation.title,
        })
    }
}

fn ended_at(state: StepState) -> Option<Timestamp> {
    match state {
        StepState::Pending | StepState::Running => None,
        StepState::Completed { at } | StepState::Failed { at } => Some(at),
    }
}

/// How the remediation ended, if it has.
fn outcome(status: Status) -> Option<&'static str> {
    match status {
        Status::Proposed | Status::Executing => None,
        Status::Executed => Some("resolved"),
        Status::Rejected => Some("rejected"),
        Status::Failed => Some("failed"),
        Status::Expired => Some("expired"),
    }
}

/// The outputs of a remediation's steps; no read if it has none.
pub(crate) async fn outputs(
    store: &Store,
    tenant: &Tenant,
    remediation: &Remediation,
    deadline: Instant,
) -> Result<Outputs, Fault> {
    if remediation.steps.iter().all(|step| step.output.is_none()) {
        return Ok(Outputs::new());
    }
    store.items(&key(tenant, &remediation.id), OUTPUTS, deadline).await
}

/// The remediation with this id, as it is in the table; `None` if there is none.
pub(crate) async fn load(
    store: &Store,
    tenant: &Tenant,
    id: &RemediationId,
    now: Timestamp,
    deadline: Instant,
) -> Result<Option<Shown>, Fault> {
    let key = key(tenant, id);
    let Some(found) = store.load(&key, deadline).await? else { return Ok(None) };
    let (input, outputs) =
        tokio::try_join!(store.item(&key, INPUT, deadline), outputs(store, tenant, &found.record, deadline))?;
    Shown::new(found.record, input_of(input.as_deref())?, outputs, now).map(Some)
}
