//! Deciding on many actions at once: each on its own.

use crate::caller::{Decide, Member, approver};
use crate::decisions::REASON;
use crate::words::{BodyId, id_in_body, word};
use axum::extract::State;
use countersign_api::{Answer, App, Call, Form, JsonBody, Problem, Refused};
use countersign_domain::action::{Action, Approver, Decision, Refusal};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

const MOST: usize = 100;
/// How many decisions of one call are under way at the same time.
const AT_ONCE: usize = 8;

/// `POST /api/v1/actions/bulk-approve`
pub(crate) async fn approve(
    State(app): State<App>,
    call: Call<Member<Decide>>,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    decide(&app, &call, Decision::Approve, body).await
}

/// `POST /api/v1/actions/bulk-reject`
pub(crate) async fn reject(
    State(app): State<App>,
    call: Call<Member<Decide>>,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    decide(&app, &call, Decision::Reject, body).await
}

#[derive(Serialize)]
struct Results {
    results: Vec<Box<RawValue>>,
    succeeded: usize,
    failed: usize,
}

#[derive(Serialize)]
struct ItemResult<'a> {
    action_id: &'a Value,
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Box<RawValue>>,
}

/// What became of one item.
enum Item {
    /// It was decided now, or by the same call before.
    Decided {
        result: Box<RawValue>,
        replayed: bool,
    },
    Failed(Box<RawValue>),
}

async fn decide(app: &App, call: &Call<Member<Decide>>, decision: Decision, body: Value) -> Result<Answer, Problem> {
    let mut form = Form::json(body.clone())?;
    let ids = form.required("action_ids", Form::list(1, MOST, id_in_body));
    let reason = form.optional("reason", Form::text(REASON));
    let sent = form.finish(|| ids)?;
    app.take_key(call, &body).await?;
    let mut ids: Vec<BodyId> = Vec::new();
    for id in sent {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let approver = approver(call)?;
    let decided = ids.into_iter().map(|id| decide_item(app, call, decision, &reason, &approver, &body, id));
    let items: Vec<Item> = stream::iter(decided).buffered(AT_ONCE).collect().await;

    let (mut results, mut acted, mut replayed, mut failed) = (Vec::new(), 0, 0, 0);
    for item in items {
        match item {
            Item::Decided { result, replayed: again } => {
                acted += usize::from(!again);
                replayed += usize::from(again);
                results.push(result);
            }
            Item::Failed(result) => {
                failed += 1;
                results.push(result);
            }
        }
    }
    let answer = Results { results, succeeded: acted + replayed, failed };
    Ok(Answer::ok(&answer)?.replayed_if(acted == 0 && replayed > 0))
}

async fn decide_item(
    app: &App,
    call: &Call<Member<Decide>>,
    decision: Decision,
    reason: &Option<String>,
    approver: &Approver,
    body: &Value,
    BodyId { sent, id }: BodyId,
) -> Item {
    let decided = match id {
        None => Err(Refused::Rule(Refusal::NotFound)),
        Some(id) => {
            let rule = |action: Option<&Action>, now| {
                action.ok_or(Refusal::NotFound)?.decide(decision, reason.clone(), approver, now)
            };
            let answer = |action: &Action| {
                Answer::ok(&ItemResult {
                    action_id: &sent,
                    success: true,
                    status: Some(action.status(action.updated_at).as_str()),
                    correlation_id: Some(&action.correlation_id),
                    error: None,
                })
            };
            app.change_item(call, body, &id.to_string(), &call.caller.key(id), rule, answer).await
        }
    };
    match decided {
        Ok(answer) => {
            let replayed = answer.is_replayed();
            let result = RawValue::from_string(answer.into_body());
            result.map_or_else(|_| failed(&sent, &Problem::internal()), |result| Item::Decided { result, replayed })
        }
        Err(refused) => failed(&sent, &refused.or(word)),
    }
}

fn failed(sent: &Value, problem: &Problem) -> Item {
    let error = Some(problem.as_bulk_item());
    let result = ItemResult { action_id: sent, success: false, status: None, correlation_id: None, error };
    Item::Failed(to_raw_value(&result).unwrap_or_default())
}
