//! What this door works with beside the table: who is asked in a stage, and what policies say.

use crate::caller::{Member, Right};
use countersign_api::{Call, Problem};
use countersign_approvers::{Asking, Inquiry, Unanswered, Workflow};
use countersign_domain::workflow::MAX_OPENED;
use countersign_domain::workflow::policy::{Definition, Policy};
use countersign_domain::workflow::request::{Asked, Refusal};
use countersign_store::{Fault, Key, Store};
use http::StatusCode;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What the door works with beside the table; cheap to clone.
#[derive(Clone, Debug)]
pub struct Door {
    pub(crate) workflow: Workflow,
    pub(crate) sla_interval: Duration,
}

impl Door {
    /// A door on this; `sla_interval` is how often the clock looks, as callers are told.
    #[must_use]
    pub fn new(workflow: Workflow, sla_interval: Duration) -> Self {
        Self { workflow, sla_interval }
    }

    /// What a version of a policy says.
    pub(crate) async fn definition(
        &self,
        store: &Store,
        key: &Key<Policy>,
        policy: &Policy,
        number: u32,
        deadline: Instant,
    ) -> Result<Arc<Definition>, Fault> {
        let absent = || Fault::Corrupt(format!("a policy has no version {number}"));
        self.workflow.definitions.read(store, key, &policy.item(number).ok_or_else(absent)?, deadline).await
    }

    /// Who is asked for this context.
    pub(crate) fn asking<R: Right>(
        &self,
        call: &Call<Member<R>>,
        definition: &Arc<Definition>,
        context: Value,
    ) -> Asking {
        let deadline = call.within(countersign_approvers::WITHIN);
        self.workflow.approvers.asking(&call.caller.tenant, Arc::clone(definition), Arc::new(context), deadline)
    }

    /// What a change of a request may have to know.
    pub(crate) fn inquiry<R: Right>(&self, call: &Call<Member<R>>) -> Inquiry {
        self.workflow.inquiry(call.caller.tenant.clone(), call.within(countersign_approvers::WITHIN))
    }
}

/// That it cannot be said who is asked: nothing was changed, and the call can be repeated.
pub(crate) fn unanswered(unanswered: Unanswered) -> Problem {
    match unanswered {
        Unanswered::Fault(fault) => fault.into(),
        Unanswered::Rule { .. } | Unanswered::TooManyUsers(_) => failed(format!("Resolver failed: {unanswered}")),
    }
}

/// 503 for a step that cannot be taken now.
pub(crate) fn failed(message: String) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "AWE-007", message)
}

/// Whether each group of stages could be begun, were all of these asked.
pub(crate) fn limits(definition: &Definition, asked: &[Asked]) -> Result<(), Problem> {
    for (first, group) in definition.groups() {
        let asked = asked.iter().skip(first).take(group.len()).filter(|asked| !asked.skipped);
        let tasks: usize = asked.map(|asked| asked.approvers.len() + asked.observers.len()).sum();
        if tasks > MAX_OPENED {
            return Err(failed(Refusal::TooManyTasks { stage: group[0].name.clone(), tasks }.to_string()));
        }
    }
    Ok(())
}
