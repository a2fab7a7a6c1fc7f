//! Submitting an action.

use crate::caller::{Member, Submit, doer};
use crate::words::word;
use axum::extract::State;
use countersign_api::{Answer, App, Call, Form, JsonBody, Problem, Refused};
use countersign_domain::action::{Action, ActionId, IDS, Refusal, State as ActionState, Status, Submission};
use countersign_domain::actions_policy::ActionsPolicy;
use countersign_domain::risk::{Factor, RiskLevel};
use countersign_domain::{Outcome, Timestamp, rfc3339};
use countersign_store::Fault;
use serde::Serialize;
use serde_json::{Map, Value, json};

const TEXT: usize = 500;
const DESCRIPTION: usize = 5000;
/// What the caller's own objects may have together, in bytes as they are kept.
const LARGEST_INPUT: usize = 300_000;
/// How often another id is drawn for one that is taken, which is next to impossible.
const DRAWS: usize = 3;

#[derive(Serialize)]
struct Submitted<'a> {
    id: ActionId,
    action_id: ActionId,
    status: &'static str,
    decision: &'static str,
    risk_score: i64,
    risk_level: &'static str,
    risk_factors: &'a [Factor],
    reason: String,
    requires_approval: bool,
    required_approval_level: u8,
    approval_request_id: Option<String>,
    expires_at: Option<String>,
    thresholds: Value,
    correlation_id: &'a str,
}

/// A status and the decision that it stands for, in the words that the agents' SDK waits for.
pub(crate) fn as_decision(status: Status) -> (&'static str, &'static str) {
    match status {
        Status::Pending => ("pending_approval", "pending"),
        Status::Approved => ("approved", "allowed"),
        Status::Denied | Status::Timeout => ("denied", "denied"),
    }
}

impl<'a> Submitted<'a> {
    fn answer(action: &'a Action, policy: &ActionsPolicy, now: Timestamp) -> Result<Answer, Fault> {
        let (status, decision) = as_decision(action.status(now));
        let expires_at = match &action.state {
            ActionState::Pending { expires_at } => Some(rfc3339(*expires_at)),
            ActionState::Approved { .. }
            | ActionState::Denied { .. }
            | ActionState::Cancelled { .. }
            | ActionState::TimedOut { .. } => None,
        };
        let levels: Vec<_> = RiskLevel::ALL
            .into_iter()
            .map(|tier| {
                json!({
                    "risk_level": tier.as_str(),
                    "from": tier.least_score(),
                    "required_approval_level": tier.approval_level(),
                })
            })
            .collect();
        Answer::ok(&Submitted {
            id: action.id,
            action_id: action.id,
            status,
            decision,
            risk_score: action.risk_score,
            risk_level: RiskLevel::of(action.risk_score).as_str(),
            risk_factors: &action.risk_factors,
            reason: action.reason(now),
            requires_approval: expires_at.is_some(),
            required_approval_level: action.required_level,
            approval_request_id: expires_at.is_some().then(|| action.approval_request_id()),
            expires_at,
            thresholds: json!({ "auto_approve_below": policy.auto_approve_below, "levels": levels }),
            correlation_id: &action.correlation_id,
        })
    }
}

/// `POST /api/v1/actions/submit`
pub(crate) async fn submit(
    State(app): State<App>,
    call: Call<Member<Submit>>,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let mut submission = read(&call, body.clone())?;
    let policy = app.policies.of(&app.store, call.caller.tenant_of(), call.deadline()).await?;
    let doer = doer(&call);
    for _ in 0..DRAWS {
        let submitted = app
            .change(
                &call,
                &body,
                &call.caller.key(submission.id),
                |action, now| match action {
                    None => Ok(Outcome::Change(Action::submit(&submission, &policy, &doer, now))),
                    Some(_) => Err(Refusal::Exists),
                },
                |action| Submitted::answer(action, &policy, action.created_at),
            )
            .await;
        match submitted {
            Err(Refused::Rule(Refusal::Exists)) => {
                submission.id = ActionId::from_random(countersign_api::random_bits()?)
            }
            submitted => return submitted.map_err(|refused| refused.or(word)),
        }
    }
    Err(word(Refusal::Exists))
}

fn read(call: &Call<Member<Submit>>, body: Value) -> Result<Submission, Problem> {
    let mut form = Form::json(body)?;
    let agent_id = form.required("agent_id", Form::text_of(1, TEXT));
    let agent_name = form.optional("agent_name", Form::text(TEXT));
    let action_type = form.required("action_type", Form::text_of(1, TEXT));
    let resource = form.optional("resource", Form::text(TEXT));
    let resource_id = form.optional("resource_id", Form::text(TEXT));
    let tool_name = form.optional("tool_name", Form::text(TEXT));
    let description = form.optional("description", Form::text(DESCRIPTION));
    let action_details = form.optional("action_details", Form::object);
    // The agents' SDK sends these two among the details; what a rule is to see must not depend on the client.
    let among_details = |name: &str, limit: usize| {
        let text = action_details.as_ref()?.get(name)?;
        Form::text(limit)(text).ok()
    };
    let tool_name = tool_name.or_else(|| among_details("tool_name", TEXT));
    let description = description.or_else(|| among_details("description", DESCRIPTION));
    let context = form.optional("context", Form::object);
    let risk_indicators = form.optional("risk_indicators", Form::object);
    let on_behalf_of = form.optional("on_behalf_of", Form::integer(0, IDS as i64 - 1));
    let sizes =
        [&action_details, &context, &risk_indicators].map(|object| object.as_ref().map_or(0, |o| o.to_string().len()));
    if sizes.iter().sum::<usize>() > LARGEST_INPUT {
        form.refuse(
            "action_details",
            format!("must have at most {LARGEST_INPUT} bytes together with the other objects"),
        );
    }
    let random = countersign_api::random_bits()?;
    form.finish(|| {
        Some(Submission {
            id: ActionId::from_random(countersign_api::random_bits().ok()?),
            random: format!("{:08x}", random as u32),
            organization: call.caller.tenant_of().clone(),
            agent_id: agent_id?,
            agent_name,
            action_type: action_type?,
            resource,
            resource_id,
            tool_name,
            description,
            action_details: fields(action_details),
            context: fields(context),
            risk_indicators: fields(risk_indicators),
            on_behalf_of: on_behalf_of.and_then(|user| user.try_into().ok()),
        })
    })
}

fn fields(object: Option<Value>) -> Map<String, Value> {
    match object {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}
