//! What an administrator sees: callbacks on their way, and who changed what.

use crate::caller::{Admin, Member, Viewer};
use crate::delegations::time;
use crate::document::ErrorResponse;
use crate::requests::{filter, find_key, told};
use crate::words::DeliveryStatus;
use axum::extract::State;
use countersign_api::{Answer, App, Call, Form, NoBody, PathText, Problem, QueryText};
use countersign_domain::delivery::{self, AUDITED, CALLBACKS, Delivery, DeliveryId, Target};
use countersign_domain::event::Source;
use countersign_domain::workflow::request::{CANCELLED, REASSIGNED, Request};
use countersign_domain::workflow::{delegation, policy};
use countersign_domain::workflow::{delegation::Delegations, policy::Policy};
use countersign_domain::{Entry, Record, Tenant, Timestamp, rfc3339_micros};
use countersign_store::{By, Fault, Found, Key, LogQuery, Order, Query, Store, StoredChange};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

const LARGEST_PAGE: usize = 500;
const LARGEST_AUDIT_PAGE: usize = 1000;
const PAGE: usize = 100;
/// How many changes of one kind are looked at when a filter drops most of them.
const LOOKED_AT: usize = 10_000;

/// Something written as it is sent.
pub(crate) fn row(shown: &impl Serialize) -> Result<Box<RawValue>, Fault> {
    to_raw_value(shown).map_err(|error| Fault::Corrupt(format!("a row cannot be written: {error}")))
}

/// A callback on its way.
#[derive(Debug, Serialize, ToSchema)]
struct DeliveryOut<'a> {
    id: Uuid,
    event_id: Uuid,
    #[schema(format = Uuid)]
    request_id: &'a str,
    #[schema(example = "request_approved")]
    event_type: String,
    url: &'a str,
    #[schema(value_type = DeliveryStatus)]
    status: &'static str,
    /// How many were begun.
    attempt: u32,
    /// Once there is none, when the last one ended.
    #[schema(format = DateTime)]
    next_attempt_at: String,
    #[schema(format = DateTime)]
    last_attempt_at: Option<String>,
    #[schema(value_type = Option<i32>)]
    last_status_code: Option<u16>,
    /// Of an answer that was none, its status and how it begins.
    last_error: Option<&'a str>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

impl<'a> DeliveryOut<'a> {
    fn new(delivery: &'a Delivery) -> Self {
        let last = delivery.last.as_ref();
        Self {
            id: delivery.id.uuid(),
            event_id: delivery.event_id,
            request_id: &delivery.source.id,
            event_type: delivery.event.replacen('.', "_", 1),
            url: delivery.url.as_deref().unwrap_or_default(),
            status: delivery.status(),
            attempt: delivery.attempts_of_round(),
            // Once there is no next one, when the last one ended.
            next_attempt_at: rfc3339_micros(delivery.next_attempt_at().unwrap_or(delivery.updated_at)),
            last_attempt_at: last.map(|last| rfc3339_micros(last.at)),
            last_status_code: last.and_then(|last| last.status_code),
            last_error: last.and_then(|last| last.error.as_deref()),
            created_at: rfc3339_micros(delivery.created_at),
            updated_at: rfc3339_micros(delivery.updated_at),
        }
    }
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the document's; `deliveries` reads it one by one")]
struct DeliveryFilters {
    status: Option<String>,
    request_id: Option<String>,
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u32>,
}

/// `GET /admin/deliveries`, newest first.
#[utoipa::path(
    get,
    path = "/v1/awe/admin/deliveries",
    operation_id = "list_deliveries",
    tag = "admin",
    summary = "List callbacks",
    description = "Callbacks and what became of them, newest first. For `AWE_VIEWER` or `AWE_ADMIN`.",
    params(DeliveryFilters),
    responses(
        (status = 200, description = "The callbacks", body = Vec<DeliveryOut<'static>>),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn deliveries(
    State(app): State<App>,
    call: Call<Member<Viewer>>,
    QueryText(query): QueryText,
) -> Result<Answer, Problem> {
    let mut form = Form::query(&query);
    let status = filter(&mut form, "status");
    let request = filter(&mut form, "request_id");
    let limit = form.optional("limit", Form::digits(1, LARGEST_PAGE)).unwrap_or(PAGE);
    form.finish(|| Some(()))?;
    let tenant = &call.caller.tenant;
    let is_wanted = |delivery: &Delivery| status.as_ref().is_none_or(|status| status == delivery.status());
    let rows = match request {
        Some(id) => {
            let mut deliveries = of_request(&app.store, tenant, &id, call.deadline()).await?;
            deliveries.retain(is_wanted);
            deliveries.iter().take(limit).map(|delivery| row(&DeliveryOut::new(delivery))).collect::<Result<_, _>>()?
        }
        None => {
            let by = By::Subject(CALLBACKS);
            let query = Query { tenant, by, order: Order::NewestFirst, limit, with_input: false };
            let narrows = status.is_some().then_some(is_wanted);
            let shown = |found: Found<Delivery>| row(&DeliveryOut::new(&found.record)).map(Some);
            app.store.list_at(query, 0, call.deadline(), narrows, shown).await?.rows
        }
    };
    Ok(Answer::ok(&rows)?)
}

/// The deliveries of a request's events to its callback, newest first. What they are called follows from the events.
async fn of_request(store: &Store, tenant: &Tenant, id: &str, deadline: Instant) -> Result<Vec<Delivery>, Fault> {
    let Ok(key) = find_key(tenant, id) else { return Ok(Vec::new()) };
    let Some(found) = store.load(&key, deadline).await? else { return Ok(Vec::new()) };
    let Some(callback) = &found.record.callback else { return Ok(Vec::new()) };
    let target = Target::callback(tenant, callback);
    let history = store.history(&key, deadline).await?;
    let ids = history.iter().flat_map(told).map(|(source, _)| source.event_id(tenant));
    let keys: Vec<Key<Delivery>> =
        ids.map(|event| Key::new(tenant, DeliveryId::of(tenant, event, &target, None).as_str())).collect();
    let mut found = store.load_all(&keys, deadline).await?;
    let made = keys.iter().rev().filter_map(|key| found.remove(key.as_str()));
    made.map(|found| found.map(|found| found.record)).collect()
}

/// `POST /admin/deliveries/{delivery_id}/retry`
#[utoipa::path(
    post,
    path = "/v1/awe/admin/deliveries/{delivery_id}/retry",
    operation_id = "retry_delivery",
    tag = "admin",
    summary = "Start a callback anew",
    description = "The next attempt is made at once, and it is the first again. For `AWE_ADMIN`.",
    params(("delivery_id" = String, Path, description = "The id of the callback")),
    responses(
        (status = 200, description = "The callback", body = DeliveryOut<'static>),
        (status = 404, description = "AWE-007: there is no such callback", body = ErrorResponse),
        (status = 409, description = "AWE-007: it was delivered", body = ErrorResponse),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn retry(
    State(app): State<App>,
    call: Call<Member<Admin>>,
    PathText(id): PathText,
    _: NoBody,
) -> Result<Answer, Problem> {
    let word = |refusal: delivery::Refusal| {
        let status = match refusal {
            delivery::Refusal::NotFound => StatusCode::NOT_FOUND,
            delivery::Refusal::AlreadyDelivered | delivery::Refusal::NoEndpoint => StatusCode::CONFLICT,
        };
        Problem::new(status, "AWE-007", refusal.to_string())
    };
    let id = Uuid::try_parse(&id).map_err(|_| word(delivery::Refusal::NotFound))?;
    let key: Key<Delivery> = Key::new(&call.caller.tenant, DeliveryId::from(id).as_str());
    let rule = |found: Option<&Delivery>, now: Timestamp| {
        // An endpoint's deliveries are not this door's.
        let found = found.filter(|delivery| delivery.target.is_callback()).ok_or(delivery::Refusal::NotFound)?;
        found.retry(&call.actor, &app.schedule, now)
    };
    let answer = |delivery: &Delivery| Answer::ok(&DeliveryOut::new(delivery));
    let changed = app.change(&call.without_idempotency_key(), &Value::Null, &key, rule, answer).await;
    changed.map_err(|refused| refused.or(word))
}

/// Who changed what.
#[derive(Debug, Serialize, ToSchema)]
struct AuditActionOut<'a> {
    id: Uuid,
    #[schema(format = DateTime)]
    occurred_at: String,
    /// The `sub` of the token.
    actor: &'a str,
    actor_email: Option<&'a str>,
    #[schema(example = "policy.activate")]
    action: &'a str,
    resource_type: &'a str,
    /// Of a version, `<key>:v<number>`.
    resource_id: &'a str,
    #[schema(value_type = Option<String>)]
    summary: String,
    #[schema(value_type = Option<Object>)]
    before: Option<&'a Value>,
    #[schema(value_type = Option<Object>)]
    after: Option<&'a Value>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<&'a Value>,
}

impl<'a> AuditActionOut<'a> {
    fn new(tenant: &Tenant, source: &Source, action: &'a str, entry: &'a Entry) -> Self {
        let object = |name: &str| Some(&entry.data[name]).filter(|value| value.is_object());
        // What is done is named by what it is done to: `policy.create`.
        let resource_type = action.split('.').next().unwrap_or_default();
        let resource_id = entry.data["resource_id"].as_str().unwrap_or(&entry.subject.id);
        Self {
            id: source.event_id(tenant),
            occurred_at: rfc3339_micros(entry.at),
            actor: entry.actor.name(),
            actor_email: entry.data["actor_email"].as_str(),
            action,
            resource_type,
            resource_id,
            summary: format!("{action} {resource_id}"),
            before: object("before"),
            after: object("after"),
            metadata: object("metadata"),
        }
    }
}

/// What is in the audit log.
const ACTIONS: [&str; 10] = [
    policy::CREATED,
    policy::ADDED,
    policy::EDITED,
    policy::ACTIVATED,
    policy::DEACTIVATED,
    CANCELLED,
    REASSIGNED,
    delegation::CREATED,
    delegation::DELETED,
    AUDITED,
];

/// Which rows are asked for.
struct Wanted {
    actor: Option<String>,
    action: Option<String>,
    resource_type: Option<String>,
    resource_id: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    limit: usize,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the document's; `audit` reads it one by one")]
struct AuditFilters {
    actor: Option<String>,
    action: Option<String>,
    resource_type: Option<String>,
    resource_id: Option<String>,
    /// At this time or later; without an offset, in UTC.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Before this time; without an offset, in UTC.
    #[param(format = DateTime)]
    until: Option<String>,
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// `GET /admin/audit`, newest first.
#[utoipa::path(
    get,
    path = "/v1/awe/admin/audit",
    operation_id = "list_audit_actions",
    tag = "admin",
    summary = "List what administrators did",
    description = "Who changed what, newest first. For `AWE_VIEWER` or `AWE_ADMIN`.",
    params(AuditFilters),
    responses(
        (status = 200, description = "The changes", body = Vec<AuditActionOut<'static>>),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn audit(
    State(app): State<App>,
    call: Call<Member<Viewer>>,
    QueryText(query): QueryText,
) -> Result<Answer, Problem> {
    let mut form = Form::query(&query);
    let wanted = Wanted {
        actor: filter(&mut form, "actor"),
        action: filter(&mut form, "action"),
        resource_type: filter(&mut form, "resource_type"),
        resource_id: filter(&mut form, "resource_id"),
        since: form.optional("since", time),
        until: form.optional("until", time),
        limit: form.optional("limit", Form::digits(1, LARGEST_AUDIT_PAGE)).unwrap_or(PAGE),
    };
    form.finish(|| Some(()))?;
    let mut rows = Vec::new();
    for action in ACTIONS {
        let of_type = wanted.resource_type.as_ref().is_none_or(|wanted| action.split('.').next() == Some(wanted));
        if of_type && wanted.action.as_ref().is_none_or(|wanted| wanted == action) {
            match action {
                CANCELLED | REASSIGNED => collect::<Request>(&app, &call, &wanted, action, &mut rows).await?,
                delegation::CREATED | delegation::DELETED => {
                    collect::<Delegations>(&app, &call, &wanted, action, &mut rows).await?;
                }
                AUDITED => collect::<Delivery>(&app, &call, &wanted, action, &mut rows).await?,
                _ => collect::<Policy>(&app, &call, &wanted, action, &mut rows).await?,
            }
        }
    }
    rows.sort_by(|(one, _), (other, _)| other.cmp(one));
    let rows: Vec<_> = rows.into_iter().take(wanted.limit).map(|(_, row)| row).collect();
    Ok(Answer::ok(&rows)?)
}

/// The newest rows of one action.
async fn collect<R: Record>(
    app: &App,
    call: &Call<Member<Viewer>>,
    wanted: &Wanted,
    action: &str,
    rows: &mut Vec<((Timestamp, Uuid), Box<RawValue>)>,
) -> Result<(), Problem> {
    let tenant = &call.caller.tenant;
    let (since, until) = (wanted.since, wanted.until);
    let query = LogQuery { tenant, by: None, name: Some(action), since, until };
    let narrows = wanted.actor.is_some() || wanted.resource_id.is_some();
    let look_for = if narrows { LOOKED_AT } else { wanted.limit };
    let log = app.store.log::<R>(query, look_for, call.deadline()).await?;
    let (mut found, mut failed) = (0, None);
    let take = |change: StoredChange| {
        let Some((entry, place)) = change.body.entries.iter().zip(0..).last() else { return true };
        let source =
            Source { kind: R::KIND.to_owned(), id: change.id.clone(), version: change.body.version, entry: place };
        let shown = AuditActionOut::new(tenant, &source, action, entry);
        let is_wanted = wanted.actor.as_ref().is_none_or(|actor| *actor == shown.actor)
            && wanted.resource_id.as_ref().is_none_or(|id| id == shown.resource_id);
        if is_wanted {
            match row(&shown) {
                Ok(written) => rows.push(((entry.at, shown.id), written)),
                Err(fault) => failed = Some(fault),
            }
            found += 1;
        }
        found < wanted.limit && failed.is_none()
    };
    app.store.read_log(&log, 0, look_for, call.deadline(), take).await?;
    failed.map_or(Ok(()), |fault| Err(fault.into()))
}
