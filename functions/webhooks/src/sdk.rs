//! The same endpoints as the agents' SDK calls them, in the words of the actions door.

use crate::caller::OrganizationAdmin;
use crate::manage::{self, New, Signer, all, endpoint_id, seal, subscription, url};
use axum::extract::State;
use countersign_api::{Answer, App, Call, Form, JsonBody, NoBody, PathText, Problem};
use countersign_domain::endpoint::{Edit, Endpoint, EndpointId, Status, Subscription};
use countersign_domain::rfc3339;
use serde::Serialize;
use serde_json::json;

/// The longest id of an agent, as it is submitted.
const AGENT: usize = 500;
/// How long a secret of the caller's own is, in characters.
const SHORTEST: usize = 16;
const LONGEST: usize = 256;

/// An endpoint as the SDK reads it; its secret only if it was minted here, and only then.
#[derive(Serialize)]
struct Shown<'a> {
    webhook_id: &'a EndpointId,
    url: &'a str,
    events: &'a Subscription,
    active: bool,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<Option<&'a str>>,
}

impl<'a> Shown<'a> {
    fn new(endpoint: &'a Endpoint) -> Self {
        Self {
            webhook_id: &endpoint.id,
            url: &endpoint.url,
            events: &endpoint.events,
            active: endpoint.status == Status::Enabled,
            created_at: rfc3339(endpoint.created_at),
            secret: None,
        }
    }
}

/// `POST /api/webhooks/configure`
pub(crate) async fn configure(
    State(app): State<App>,
    call: Call<OrganizationAdmin>,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let mut form = Form::json(body.clone())?;
    let url = form.required("url", url);
    let events = form.required("events", subscription(Subscription::of_sdk));
    let agent = form.optional("agent_id", Form::text_of(1, AGENT));
    let secret = form.optional("secret", Form::text_of(SHORTEST, LONGEST));
    let signer = secret.map_or(Signer::Minted, Signer::Given);
    let tenant = call.caller.organization().clone();
    let new = form.finish(|| Some(New { tenant, url: url?, events: events?, agent, description: None, signer }))?;
    manage::add(&app, &call, &body, new, |endpoint, secret| {
        let shown = |secret: Option<Option<_>>| Shown { secret, ..Shown::new(endpoint) };
        Answer::ok(&shown(secret.map(Some)))?.stored_as(&shown(secret.map(|_| None)))
    })
    .await
}

/// `GET /api/webhooks`
pub(crate) async fn list(State(app): State<App>, call: Call<OrganizationAdmin>) -> Result<Answer, Problem> {
    let endpoints = all(&app, &call, call.caller.organization()).await?;
    let webhooks = endpoints.iter().flat_map(|all| &all.endpoints).map(Shown::new);
    Ok(Answer::ok(&webhooks.collect::<Vec<_>>())?)
}

/// `PUT /api/webhooks/{id}`
pub(crate) async fn update(
    State(app): State<App>,
    call: Call<OrganizationAdmin>,
    PathText(id): PathText,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let mut form = Form::json(body)?;
    let url = form.optional("url", url);
    let events = form.optional("events", subscription(Subscription::of_sdk));
    let secret = form.optional("secret", Form::text_of(SHORTEST, LONGEST));
    let (url, events, secret) = form.finish(|| Some((url, events, secret)))?;
    let (organization, id) = (call.caller.organization(), endpoint_id(&id)?);
    let secret = match secret {
        Some(secret) => Some(seal(&app, organization, &id, secret.as_bytes()).await?),
        None => None,
    };
    let edit = Edit { url, events, secret, ..Edit::default() };
    manage::edit(&app, &call, organization, &id, &edit, |endpoint| Answer::ok(&Shown::new(endpoint))).await
}

/// `DELETE /api/webhooks/{id}`; the SDK reads a body.
pub(crate) async fn remove(
    State(app): State<App>,
    call: Call<OrganizationAdmin>,
    PathText(id): PathText,
) -> Result<Answer, Problem> {
    let answer = Answer::ok(&json!({}))?;
    manage::remove(&app, &call, call.caller.organization(), &endpoint_id(&id)?, answer).await
}

/// `POST /api/webhooks/{id}/test`
pub(crate) async fn test(
    State(app): State<App>,
    call: Call<OrganizationAdmin>,
    PathText(id): PathText,
    NoBody(_): NoBody,
) -> Result<Answer, Problem> {
    call.check_idempotency_key()?;
    manage::test(&app, &call, call.caller.organization(), &endpoint_id(&id)?).await
}
