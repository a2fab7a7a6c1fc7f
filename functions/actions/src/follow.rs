//! Following actions: one, many, and whether an approval has been given.

use crate::audit::trail;
use crate::caller::{Member, See};
use crate::submit::as_decision;
use crate::words::{only_id, word};
use axum::extract::State;
use countersign_api::{Answer, App, Call, Form, PathText, Problem, Target};
use countersign_domain::action::{Action, ActionId, Refusal, State as ActionState, Status};
use countersign_domain::risk::Factor;
use countersign_domain::{Timestamp, rfc3339};
use countersign_store::{By, Found, Order, Query};
use serde::Serialize;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

pub(crate) const LARGEST_PAGE: usize = 1000;
pub(crate) const PAGE: usize = 50;
/// How far into a list an offset may go.
pub(crate) const FURTHEST: usize = 10_000;

/// An action as lists and details show it, in the vocabulary that the agents' SDK reads.
#[derive(Serialize)]
struct Shown<'a> {
    id: ActionId,
    action_id: ActionId,
    agent_id: &'a str,
    agent_name: Option<&'a str>,
    action_type: &'a str,
    resource: Option<&'a str>,
    resource_id: Option<&'a str>,
    status: &'static str,
    outcome: Option<&'static str>,
    risk_score: i64,
    risk_factors: &'a [Factor],
    created_at: String,
    updated_at: String,
    correlation_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_trail: Option<Vec<Value>>,
}

impl<'a> Shown<'a> {
    fn new(action: &'a Action, now: Timestamp) -> Self {
        Self {
            id: action.id,
            action_id: action.id,
            agent_id: &action.agent_id,
            agent_name: action.agent_name.as_deref(),
            action_type: &action.action_type,
            resource: action.resource.as_deref(),
            resource_id: action.resource_id.as_deref(),
            status: action.status(now).as_str(),
            outcome: action.outcome(),
            risk_score: action.risk_score,
            risk_factors: &action.risk_factors,
            created_at: rfc3339(action.created_at),
            updated_at: rfc3339(action.updated_at),
            correlation_id: &action.correlation_id,
            audit_trail: None,
        }
    }
}

async fn load(app: &App, call: &Call<Member<See>>, id: Option<ActionId>) -> Result<Action, Problem> {
    let not_found = || word(Refusal::NotFound);
    let found = app.store.load(&call.caller.key(id.ok_or_else(not_found)?), call.deadline()).await?;
    Ok(found.ok_or_else(not_found)?.record)
}

/// `GET /api/v1/actions/{id}`
pub(crate) async fn details(
    State(app): State<App>,
    call: Call<Member<See>>,
    PathText(id): PathText,
) -> Result<Answer, Problem> {
    let action = load(&app, &call, only_id(&id)?).await?;
    let history = app.store.history(&call.caller.key(action.id), call.deadline()).await?;
    let audit_trail = Some(trail(&call.caller, &history));
    Ok(Answer::ok(&Shown { audit_trail, ..Shown::new(&action, app.clock.now()) })?)
}

/// `GET /api/v1/actions/{id}/status`
pub(crate) async fn status(
    State(app): State<App>,
    call: Call<Member<See>>,
    PathText(id): PathText,
) -> Result<Answer, Problem> {
    let action = load(&app, &call, only_id(&id)?).await?;
    let now = app.clock.now();
    let (status, decision) = as_decision(action.status(now));
    let mut body = json!({
        "action_id": action.id,
        "status": status,
        "decision": decision,
        "risk_score": action.risk_score,
        "timestamp": rfc3339(action.updated_at),
        "decision_ready": action.status(now) != Status::Pending,
        "reason": action.reason(now),
    });
    if let ActionState::Approved { by: Some(user), at, reason, .. } = &action.state {
        body["approved_by"] = (*user).into();
        body["approved_at"] = rfc3339(*at).into();
        if let Some(reason) = reason {
            body["comments"] = reason.as_str().into();
        }
    }
    Ok(Answer::ok(&body)?)
}

/// `GET /api/v1/actions`
pub(crate) async fn list(State(app): State<App>, call: Call<Member<See>>, target: Target) -> Result<Answer, Problem> {
    page(&app, &call, &target, "status_filter", None).await
}

/// `GET /api/agent-activity`
pub(crate) async fn activity(
    State(app): State<App>,
    call: Call<Member<See>>,
    target: Target,
) -> Result<Answer, Problem> {
    page(&app, &call, &target, "status", Some("agent_id")).await
}

/// A bare array of actions, newest first, under the names that the filters have at this URL.
async fn page(
    app: &App,
    call: &Call<Member<See>>,
    target: &Target,
    status_filter: &str,
    agent_filter: Option<&str>,
) -> Result<Answer, Problem> {
    let mut form = Form::query(&target.query);
    let limit = form.optional("limit", Form::digits(1, LARGEST_PAGE)).unwrap_or(PAGE);
    let offset = form.optional("offset", Form::digits(0, FURTHEST)).unwrap_or(0);
    let status: Option<Status> = form.optional(status_filter, Form::parsed);
    let agent = agent_filter.and_then(|name| form.optional(name, Form::text(500)));
    form.finish(|| Some(()))?;
    let by = match (&agent, status) {
        (Some(agent), _) => By::Subject(agent),
        (None, Some(status)) => By::State(status.as_str()),
        (None, None) => By::All,
    };
    let query = Query { tenant: call.caller.tenant_of(), by, order: Order::NewestFirst, limit, with_input: false };
    let now = app.clock.now();
    let wanted = |action: &Action| status.is_none_or(|status| action.status(now) == status);
    // Of one agent's actions those of one status: only the actions themselves tell.
    let narrow = (agent.is_some() && status.is_some()).then_some(wanted);
    let row = |found: Found<Action>| {
        let action = found.record;
        Ok(wanted(&action).then(|| to_raw_value(&Shown::new(&action, now)).ok()).flatten())
    };
    let page = app.store.list_at(query, offset, call.deadline(), narrow, row).await?;
    let next = page.next.filter(|next| *next <= FURTHEST).map(|next| target.with_offset(next));
    Ok(Answer::ok(&page.rows)?.with_next(next))
}

/// `GET /api/sdk/approval/{id}`
pub(crate) async fn approval(
    State(app): State<App>,
    call: Call<Member<See>>,
    PathText(id): PathText,
) -> Result<Answer, Problem> {
    let not_found = || word(Refusal::NotFound);
    let number = id.strip_prefix("appr_").and_then(|number| number.parse().ok()).and_then(ActionId::new);
    let number = number.filter(|number| format!("appr_{number}") == id);
    let action = load(&app, &call, number).await?;
    let reason = action.reason(app.clock.now());
    let body = match (&action.state, action.status(app.clock.now())) {
        (ActionState::Pending { .. }, Status::Pending) => json!({ "status": "pending" }),
        (ActionState::Approved { by: Some(user), at, .. }, _) => {
            json!({ "status": "approved", "approved_by": user, "decided_at": rfc3339(*at) })
        }
        (ActionState::Denied { by: Some(user), at, .. }, _) => {
            json!({
                "status": "denied", "rejected_by": user, "decided_at": rfc3339(*at), "rejection_reason": reason,
            })
        }
        (ActionState::Cancelled { at } | ActionState::TimedOut { at } | ActionState::Pending { expires_at: at }, _) => {
            json!({ "status": "denied", "decided_at": rfc3339(*at), "rejection_reason": reason })
        }
        // Decided by rule: nobody was ever asked.
        (ActionState::Approved { by: None, .. } | ActionState::Denied { by: None, .. }, _) => return Err(not_found()),
    };
    Ok(Answer::ok(&body)?)
}

/// `GET /api/deployment-info`
pub(crate) async fn deployment(State(app): State<App>) -> Result<Answer, Problem> {
    Ok(Answer::ok(&json!({ "version": env!("CARGO_PKG_VERSION"), "environment": app.environment }))?)
}
