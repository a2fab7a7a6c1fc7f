//! What became of events on their way: the log of deliveries, and starting one anew.

use crate::caller::Manager;
use crate::endpoints::{in_body, in_query};
use crate::manage::all;
use crate::replay::not_enabled;
use axum::extract::State;
use countersign_api::{Answer, App, Call, Form, Listed, NoBody, PathText, Problem, QueryText};
use countersign_domain::delivery::{ATTEMPTED, Delivery, DeliveryId, Refusal, Target};
use countersign_domain::endpoint::{EndpointId, Endpoints, Status};
use countersign_domain::event::EventName;
use countersign_domain::{Entry, Timestamp, rfc3339};
use countersign_store::{By, Cursor, Found, Key, Order, Query, StoredChange};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::to_raw_value;
use uuid::Uuid;

const LARGEST_PAGE: usize = 100;
const PAGE: usize = 50;
const STATUSES: [&str; 4] = ["pending", "delivered", "exhausted", "cancelled"];

/// A delivery as callers see it.
#[derive(Serialize)]
struct Shown<'a> {
    id: &'a DeliveryId,
    event_id: Uuid,
    event_type: &'a str,
    endpoint: Option<&'a EndpointId>,
    url: Option<&'a str>,
    status: &'static str,
    attempts: u32,
    next_attempt_at: Option<String>,
    created_at: String,
    updated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt_log: Option<Vec<Attempt<'a>>>,
}

/// One attempt, as the history tells of it.
#[derive(Serialize)]
struct Attempt<'a> {
    n: &'a Value,
    at: Option<String>,
    status_code: &'a Value,
    duration_ms: &'a Value,
    error: &'a Value,
    excerpt: &'a Value,
}

impl<'a> Shown<'a> {
    fn new(delivery: &'a Delivery) -> Self {
        Self {
            id: &delivery.id,
            event_id: delivery.event_id,
            event_type: &delivery.event,
            endpoint: delivery.target.endpoint(),
            url: delivery.url.as_deref(),
            status: delivery.status(),
            attempts: delivery.attempts(),
            next_attempt_at: delivery.next_attempt_at().map(rfc3339),
            created_at: rfc3339(delivery.created_at),
            updated_at: rfc3339(delivery.updated_at),
            attempt_log: None,
        }
    }
}

impl<'a> Attempt<'a> {
    fn new(entry: &'a Entry) -> Self {
        let data = &entry.data;
        let at = data["at"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        Self {
            n: &data["n"],
            at: at.map(rfc3339),
            status_code: &data["status_code"],
            duration_ms: &data["duration_ms"],
            error: &data["error"],
            excerpt: &data["excerpt"],
        }
    }

    fn all(history: &'a [StoredChange]) -> Vec<Self> {
        let entries = history.iter().flat_map(|change| &change.body.entries);
        entries.filter(|entry| entry.name == ATTEMPTED).map(Self::new).collect()
    }
}

/// A refusal as this door says it.
fn word(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::NotFound => Problem::new(StatusCode::NOT_FOUND, "delivery_not_found", refusal.to_string()),
        Refusal::AlreadyDelivered => Problem::new(StatusCode::CONFLICT, "already_delivered", refusal.to_string()),
        Refusal::NoEndpoint => not_enabled(refusal.to_string()),
    }
}

fn delivery_id(text: &str) -> Result<DeliveryId, Problem> {
    text.parse().map_err(|_| word(Refusal::NotFound))
}

fn status(value: &Value) -> Result<&'static str, String> {
    let known = STATUSES.into_iter().find(|status| value == status);
    known.ok_or_else(|| format!("must be one of {}", STATUSES.join(", ")))
}

/// `GET /webhooks/deliveries`, newest first.
pub(crate) async fn list<C: Manager>(
    State(app): State<App>,
    call: Call<C>,
    QueryText(query): QueryText,
) -> Result<Answer, Problem> {
    let mut form = Form::query(&query);
    let tenant = call.caller.tenant_in(&mut form);
    let endpoint: Option<EndpointId> = form.optional("endpoint", Form::parsed);
    let status = form.optional("status", status);
    let event: Option<EventName> = form.optional("event", Form::parsed);
    let limit = form.optional("limit", Form::digits(1, LARGEST_PAGE)).unwrap_or(PAGE);
    let cursor = form.optional("cursor", Form::text(4096));
    let tenant = form.finish(|| tenant)?;
    call.about(&tenant);
    let by = match (&endpoint, status) {
        (Some(endpoint), _) => By::Subject(endpoint.as_str()),
        (None, Some(status)) => By::State(status),
        (None, None) => By::All,
    };
    let keys = app.cursor_keys().await?;
    let query = Query { tenant: &tenant, by, order: Order::NewestFirst, limit, with_input: false };
    let cursor = Cursor { text: cursor.as_deref(), keys: &keys };
    let wanted = |delivery: &Delivery| {
        status.is_none_or(|status| delivery.status() == status)
            && event.is_none_or(|event| delivery.event == event.as_str())
    };
    let shown = |found: Found<Delivery>| {
        let delivery = Some(found.record).filter(wanted)?;
        to_raw_value(&Shown::new(&delivery)).ok()
    };
    let page = app.store.list(query, cursor, call.deadline(), shown).await?;
    Ok(Answer::ok(&Listed::from(page?))?)
}

/// `GET /webhooks/deliveries/{id}`
pub(crate) async fn show<C: Manager>(
    State(app): State<App>,
    call: Call<C>,
    PathText(id): PathText,
    QueryText(query): QueryText,
) -> Result<Answer, Problem> {
    let tenant = in_query(&call, &query)?;
    call.about(&tenant);
    let key: Key<Delivery> = Key::new(&tenant, delivery_id(&id)?.as_str());
    let delivery = app.store.load(&key, call.deadline()).await?.ok_or_else(|| word(Refusal::NotFound))?.record;
    let history = app.store.history(&key, call.deadline()).await?;
    Ok(Answer::ok(&Shown { attempt_log: Some(Attempt::all(&history)), ..Shown::new(&delivery) })?)
}

/// `POST /webhooks/deliveries/{id}/retry`
pub(crate) async fn retry<C: Manager>(
    State(app): State<App>,
    call: Call<C>,
    PathText(id): PathText,
    NoBody(body): NoBody,
) -> Result<Answer, Problem> {
    let tenant = in_body(&call, &body)?;
    let key = Key::new(&tenant, delivery_id(&id)?.as_str());
    let endpoints = all(&app, &call, &tenant).await?;
    let retried = app
        .change(
            &call,
            &body,
            &key,
            |delivery: Option<&Delivery>, now| {
                let delivery = delivery.ok_or(Refusal::NotFound)?;
                let outcome = delivery.retry(&call.actor, &app.schedule, now)?;
                if can_be_called(&delivery.target, endpoints.as_ref()) { Ok(outcome) } else { Err(Refusal::NoEndpoint) }
            },
            |delivery| Answer::ok(&Shown::new(delivery)),
        )
        .await;
    retried.map_err(|refused| refused.or(word))
}

fn can_be_called(target: &Target, endpoints: Option<&Endpoints>) -> bool {
    match target {
        Target::Bus { .. } | Target::Callback { .. } => true,
        Target::Endpoint { id } => {
            let endpoint = endpoints.and_then(|endpoints| endpoints.get(id));
            endpoint.is_some_and(|endpoint| endpoint.status == Status::Enabled)
        }
    }
}
