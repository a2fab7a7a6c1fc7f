//! Sending an endpoint the events of a window of time once more.

use crate::caller::Manager;
use crate::manage::{endpoint_id, one};
use axum::extract::State;
use countersign_api::{Answer, App, Call, Detail, Form, JsonBody, PathText, Problem};
use countersign_domain::Outcome;
use countersign_domain::endpoint::{Endpoint, Status};
use countersign_domain::event::KINDS;
use countersign_domain::replay::{Replay, ReplayId, Start};
use countersign_store::{Key, Window};
use http::StatusCode;
use serde_json::json;

/// How many events can be sent once more at a time.
const MOST: usize = 10_000;

/// 409: nothing is sent to this endpoint.
pub(crate) fn not_enabled(message: impl Into<String>) -> Problem {
    Problem::new(StatusCode::CONFLICT, "endpoint_not_enabled", message)
}

/// `POST /webhooks/endpoints/{id}/replay`
pub(crate) async fn start<C: Manager>(
    State(app): State<App>,
    call: Call<C>,
    PathText(id): PathText,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let mut form = Form::json(body.clone())?;
    let tenant = call.caller.tenant_in(&mut form);
    let since = form.required("since", Form::time);
    let until = form.required("until", Form::time);
    if since.zip(until).is_some_and(|(since, until)| until <= since) {
        form.refuse("until", "must be later than since");
    }
    let (tenant, since, until) = form.finish(|| Some((tenant?, since?, until?)))?;
    call.about(&tenant);
    // What is counted now may be another number than what the same call was answered with.
    if let Some(answer) = app.answered_before(&call, &body).await? {
        return Ok(answer);
    }
    let endpoint = one(&app, &call, &tenant, &endpoint_id(&id)?).await?;
    if endpoint.status != Status::Enabled {
        return Err(not_enabled("the endpoint is disabled; enable it before you replay"));
    }
    let window = Window { tenant: &tenant, kinds: &KINDS, since, until };
    let events = app.store.count_events(window, |name| may_want(&endpoint, name), MOST, call.deadline()).await?;
    if events > MOST {
        let message = format!("must be closer to since: there are more than {MOST} events between them");
        return Err(Problem::invalid(vec![Detail::new("until", message)]));
    }
    let id = ReplayId::from_u128(app.ulid()?);
    let key = Key::new(&tenant, id.as_str());
    let events = u64::try_from(events).unwrap_or(u64::MAX);
    let start = Start { id, endpoint: endpoint.id, since, until, events };
    let started = app
        .change(
            &call,
            &body,
            &key,
            |_: Option<&Replay>, now| Ok(Outcome::Change(Replay::start(start.clone(), &call.actor, now))),
            |replay| Answer::accepted(&json!({ "events": replay.events })),
        )
        .await;
    started.map_err(|refused| refused.or(|never| match never {}))
}

/// Whether the endpoint is told of events with this name; of one that hears of one agent alone, perhaps not of all.
fn may_want(endpoint: &Endpoint, name: &str) -> bool {
    endpoint.events.contains(name) && (endpoint.agent.is_none() || name.starts_with("action."))
}
