//! A tenant's endpoints: adding, changing, deleting and testing them, and giving them a new secret.

use crate::caller::Manager;
use crate::manage::{self, New, Signer, all, endpoint_id, mint, one, subscription, url};
use axum::extract::State;
use countersign_api::{Answer, App, Call, Form, JsonBody, NoBody, PathText, Problem, QueryText};
use countersign_domain::callback_secret::SecretId;
use countersign_domain::endpoint::{Edit, Endpoint, EndpointId, Endpoints, MAX_DESCRIPTION, Subscription};
use countersign_domain::{Tenant, rfc3339};
use countersign_store::{Fault, InvalidCursor};
use serde::Serialize;
use serde_json::Value;

/// An endpoint as callers see it; its secret only as it is minted, `null` if it has none to show then or when that
/// answer is repeated.
#[derive(Serialize)]
struct Shown<'a> {
    id: &'a EndpointId,
    tenant: &'a Tenant,
    url: &'a str,
    events: &'a Subscription,
    status: &'static str,
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<Option<&'a str>>,
    created_at: String,
}

impl<'a> Shown<'a> {
    fn new(tenant: &'a Tenant, endpoint: &'a Endpoint) -> Self {
        Self {
            id: &endpoint.id,
            tenant,
            url: &endpoint.url,
            events: &endpoint.events,
            status: endpoint.status.as_str(),
            description: endpoint.description.as_deref(),
            secret: None,
            created_at: rfc3339(endpoint.created_at),
        }
    }

    fn with_secret(self, secret: Option<&'a str>) -> Self {
        Self { secret: Some(secret), ..self }
    }
}

/// All endpoints of a tenant.
#[derive(Serialize)]
struct All<'a> {
    items: Vec<Shown<'a>>,
}

/// `POST /webhooks/endpoints`
pub(crate) async fn create<C: Manager>(
    State(app): State<App>,
    call: Call<C>,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let mut form = Form::json(body.clone())?;
    let tenant = call.caller.tenant_in(&mut form);
    let url = form.required("url", url);
    let events = form.required("events", subscription(Subscription::of));
    let signer = signer(&mut form);
    let description = form.optional("description", Form::text(MAX_DESCRIPTION));
    let new = form.finish(|| {
        Some(New { tenant: tenant?, url: url?, events: events?, agent: None, description, signer: signer? })
    })?;
    let tenant = new.tenant.clone();
    manage::add(&app, &call, &body, new, |endpoint, secret| {
        let shown = || Shown::new(&tenant, endpoint);
        Answer::created(&shown().with_secret(secret))?.stored_as(&shown().with_secret(None))
    })
    .await
}

/// What signs: a secret that is registered by the id in the field `secret`, else one of ours.
fn signer(form: &mut Form) -> Option<Signer> {
    // One that is no object is a mistake that the form remembers.
    let Some(secret) = form.optional("secret", Form::object) else { return Some(Signer::Minted) };
    let id = match secret.get("id") {
        None => Err("is required".to_owned()),
        Some(id) => Form::parsed::<SecretId>(id),
    };
    id.map(Signer::Named).map_err(|error| form.refuse("secret.id", error)).ok()
}

/// `GET /webhooks/endpoints`; all of them, oldest first.
pub(crate) async fn list<C: Manager>(
    State(app): State<App>,
    call: Call<C>,
    QueryText(query): QueryText,
) -> Result<Answer, Problem> {
    let mut form = Form::query(&query);
    let tenant = call.caller.tenant_in(&mut form);
    let cursor = form.optional("cursor", Form::text(4096));
    let tenant = form.finish(|| tenant)?;
    // All fit on one page: no cursor was ever given.
    if cursor.is_some() {
        return Err(InvalidCursor.into());
    }
    let endpoints = all(&app, &call, &tenant).await?;
    let items = endpoints.iter().flat_map(|all| &all.endpoints).map(|endpoint| Shown::new(&tenant, endpoint));
    Ok(Answer::ok(&All { items: items.collect() })?)
}

/// `GET /webhooks/endpoints/{id}`
pub(crate) async fn show<C: Manager>(
    State(app): State<App>,
    call: Call<C>,
    PathText(id): PathText,
    QueryText(query): QueryText,
) -> Result<Answer, Problem> {
    let tenant = in_query(&call, &query)?;
    let endpoint = one(&app, &call, &tenant, &endpoint_id(&id)?).await?;
    Ok(Answer::ok(&Shown::new(&tenant, &endpoint))?)
}

/// The tenant that a call with nothing else in its query string is about.
pub(crate) fn in_query<C: Manager>(call: &Call<C>, query: &str) -> Result<Tenant, Problem> {
    let mut form = Form::query(query);
    let tenant = call.caller.tenant_in(&mut form);
    form.finish(|| tenant)
}

/// The tenant that a call with nothing else in its body is about.
pub(crate) fn in_body<C: Manager>(call: &Call<C>, body: &Value) -> Result<Tenant, Problem> {
    let mut form = Form::optional_json(body.clone())?;
    let tenant = call.caller.tenant_in(&mut form);
    let tenant = form.finish(|| tenant)?;
    call.check_idempotency_key()?;
    Ok(tenant)
}

/// `PATCH /webhooks/endpoints/{id}`
pub(crate) async fn edit<C: Manager>(
    State(app): State<App>,
    call: Call<C>,
    PathText(id): PathText,
    QueryText(query): QueryText,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let tenant = in_query(&call, &query)?;
    let without_description = body.get("description").is_some_and(Value::is_null);
    let mut form = Form::json(body)?;
    let url = form.optional("url", url);
    let events = form.optional("events", subscription(Subscription::of));
    let description = form.optional("description", Form::text(MAX_DESCRIPTION));
    let enabled = form.optional("status", is_enabled);
    let description = if without_description { Some(None) } else { description.map(Some) };
    let edit = form.finish(|| Some(Edit { url, events, description, enabled, secret: None }))?;
    let id = endpoint_id(&id)?;
    manage::edit(&app, &call, &tenant, &id, &edit, |endpoint| Answer::ok(&Shown::new(&tenant, endpoint))).await
}

fn is_enabled(value: &Value) -> Result<bool, String> {
    match value.as_str() {
        Some("enabled") => Ok(true),
        Some("disabled") => Ok(false),
        Some(_) | None => Err("must be enabled or disabled".to_owned()),
    }
}

/// `DELETE /webhooks/endpoints/{id}`
pub(crate) async fn remove<C: Manager>(
    State(app): State<App>,
    call: Call<C>,
    PathText(id): PathText,
    QueryText(query): QueryText,
) -> Result<Answer, Problem> {
    let tenant = in_query(&call, &query)?;
    manage::remove(&app, &call, &tenant, &endpoint_id(&id)?, Answer::no_content()).await
}

/// `POST /webhooks/endpoints/{id}/rotate-secret`
pub(crate) async fn rotate<C: Manager>(
    State(app): State<App>,
    call: Call<C>,
    PathText(id): PathText,
    NoBody(body): NoBody,
) -> Result<Answer, Problem> {
    let tenant = in_body(&call, &body)?;
    let id = endpoint_id(&id)?;
    let (sealed, secret) = mint(&app, &tenant, &id).await?;
    let rule = |endpoints: &Endpoints, now| endpoints.rotate(&id, sealed.clone(), &call.actor, now);
    let show = |endpoint: &Endpoint| -> Result<Answer, Fault> {
        let shown = || Shown::new(&tenant, endpoint);
        Answer::ok(&shown().with_secret(Some(&secret)))?.stored_as(&shown().with_secret(None))
    };
    manage::change(&app, &call, &body, &tenant, rule, |endpoints| manage::shown(endpoints, &id, show)).await
}

/// `POST /webhooks/endpoints/{id}/test`
pub(crate) async fn test<C: Manager>(
    State(app): State<App>,
    call: Call<C>,
    PathText(id): PathText,
    NoBody(body): NoBody,
) -> Result<Answer, Problem> {
    let tenant = in_body(&call, &body)?;
    manage::test(&app, &call, &tenant, &endpoint_id(&id)?).await
}
