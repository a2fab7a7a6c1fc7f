//! What can be done with endpoints, whichever way it is asked for.

use countersign_api::{
    Answer, App, Call, Caller, Detail, Problem, Read, Unsent, endpoints_key, random_bytes, seal_endpoint_secret,
    secret_key,
};
use countersign_domain::callback_secret::{SecretId, whsec};
use countersign_domain::endpoint::{
    Add, Edit, Endpoint, EndpointId, Endpoints, InvalidSubscription, Refusal, Secret, Subscription,
};
use countersign_domain::event::{Event, TEST};
use countersign_domain::key_ring::Sealed;
use countersign_domain::{Outcome, Subject, Tenant, Timestamp};
use countersign_store::Fault;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// How many random bytes a secret of ours has.
const SECRET_BYTES: usize = 32;
/// How long a test may take at most: API Gateway waits for 29 s.
const LONGEST_TEST: Duration = Duration::from_secs(25);

/// What is to sign for a new endpoint.
pub(crate) enum Signer {
    /// A secret of ours, shown once.
    Minted,
    /// The bytes of this text.
    Given(String),
    /// The secret that is registered by this id.
    Named(SecretId),
}

/// What a new endpoint is made of.
pub(crate) struct New {
    pub(crate) tenant: Tenant,
    pub(crate) url: String,
    pub(crate) events: Subscription,
    pub(crate) agent: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) signer: Signer,
}

/// How a test went.
#[derive(Serialize)]
struct Tested {
    success: bool,
    status_code: Option<u16>,
    response_time_ms: u64,
    error: Option<String>,
}

/// A refusal as this door says it.
pub(crate) fn word(refusal: Refusal) -> Problem {
    let (status, code) = match refusal {
        Refusal::NotFound => (StatusCode::NOT_FOUND, "endpoint_not_found"),
        Refusal::TooMany => (StatusCode::CONFLICT, "too_many_endpoints"),
    };
    Problem::new(status, code, refusal.to_string())
}

/// Reads an endpoint's id; what is none is nobody's.
pub(crate) fn endpoint_id(text: &str) -> Result<EndpointId, Problem> {
    text.parse().map_err(|_| word(Refusal::NotFound))
}

/// Reads a URL, which is judged as a target later on.
pub(crate) fn url(value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| "must be text".to_owned())
}

/// Reads a subscription in the spelling that `read` takes.
pub(crate) fn subscription(
    read: fn(&[String]) -> Result<Subscription, InvalidSubscription>,
) -> impl Read<Subscription> {
    move |value| {
        let names = value.as_array().ok_or_else(|| InvalidSubscription::Count.to_string())?;
        let names: Option<Vec<String>> = names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
        read(&names.ok_or("must be a list of texts")?).map_err(|error| error.to_string())
    }
}

/// Whether the target may be called.
async fn check_target(app: &App, url: &str) -> Result<(), Problem> {
    app.outgoing.client()?.check(url).await.map_err(|refused| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "target_refused", format!("the url {refused}"))
    })
}

/// All endpoints of a tenant, if it ever had one.
pub(crate) async fn all<C: Caller>(app: &App, call: &Call<C>, tenant: &Tenant) -> Result<Option<Endpoints>, Problem> {
    call.about(tenant);
    let found = app.store.load(&endpoints_key(tenant), call.deadline()).await?;
    Ok(found.map(|found| found.record))
}

/// One endpoint of a tenant.
pub(crate) async fn one<C: Caller>(
    app: &App,
    call: &Call<C>,
    tenant: &Tenant,
    id: &EndpointId,
) -> Result<Endpoint, Problem> {
    let endpoints = all(app, call, tenant).await?;
    endpoints.as_ref().and_then(|all| all.get(id)).cloned().ok_or_else(|| word(Refusal::NotFound))
}

/// What an answer makes of an endpoint as it is now.
pub(crate) fn shown(
    endpoints: &Endpoints,
    id: &EndpointId,
    show: impl Fn(&Endpoint) -> Result<Answer, Fault>,
) -> Result<Answer, Fault> {
    show(endpoints.get(id).ok_or_else(|| Fault::Corrupt(format!("{id} was changed and is not there")))?)
}

/// Adds an endpoint; `show` is given the secret, if it was minted here.
pub(crate) async fn add<C: Caller>(
    app: &App,
    call: &Call<C>,
    body: &Value,
    new: New,
    show: impl Fn(&Endpoint, Option<&str>) -> Result<Answer, Fault>,
) -> Result<Answer, Problem> {
    call.about(&new.tenant);
    // Before the target is judged: what a name resolves to now is no matter of a call that was answered.
    if let Some(answer) = app.answered_before(call, body).await? {
        return Ok(answer);
    }
    let id = EndpointId::from_u128(app.ulid()?);
    let (secret, minted) = match new.signer {
        Signer::Minted => {
            let (sealed, text) = mint(app, &new.tenant, &id).await?;
            (own(sealed), Some(text))
        }
        Signer::Given(text) => (own(seal(app, &new.tenant, &id, text.as_bytes()).await?), None),
        Signer::Named(secret) => {
            let registered = app.store.load(&secret_key(&new.tenant, &secret), call.deadline()).await?;
            if registered.is_none() {
                return Err(Problem::invalid(vec![Detail::new("secret.id", "is not the id of a registered secret")]));
            }
            (Secret::Named { id: secret }, None)
        }
    };
    // After everything that is wrong with the form, of which an unknown secret is a part.
    check_target(app, &new.url).await?;
    let (url, events, agent, description) = (new.url, new.events, new.agent, new.description);
    let add = Add { id: id.clone(), url, events, agent, description, secret };
    app.change(
        call,
        body,
        &endpoints_key(&new.tenant),
        |endpoints, now| Endpoints::add(endpoints, &new.tenant, add.clone(), &call.actor, now),
        |endpoints| shown(endpoints, &id, |endpoint| show(endpoint, minted.as_deref())),
    )
    .await
    .map_err(|refused| refused.or(word))
}

fn own(current: Sealed) -> Secret {
    Secret::Own { current, previous: None }
}

/// A new secret for an endpoint: sealed, and as its owner is shown it.
pub(crate) async fn mint(app: &App, tenant: &Tenant, id: &EndpointId) -> Result<(Sealed, String), Problem> {
    let bytes: [u8; SECRET_BYTES] = random_bytes()?;
    Ok((seal(app, tenant, id, &bytes).await?, whsec(&bytes)))
}

/// Seals the bytes that sign for an endpoint.
pub(crate) async fn seal(app: &App, tenant: &Tenant, id: &EndpointId, bytes: &[u8]) -> Result<Sealed, Problem> {
    Ok(seal_endpoint_secret(&app.secrets.sealer().await?, tenant, id, bytes)?)
}

/// Edits an endpoint.
pub(crate) async fn edit<C: Caller>(
    app: &App,
    call: &Call<C>,
    tenant: &Tenant,
    id: &EndpointId,
    edit: &Edit,
    show: impl Fn(&Endpoint) -> Result<Answer, Fault>,
) -> Result<Answer, Problem> {
    if let Some(url) = &edit.url
        && one(app, call, tenant, id).await?.url != *url
    {
        check_target(app, url).await?;
    }
    let rule = |endpoints: &Endpoints, now| endpoints.edit(id, edit, &call.actor, now);
    change(app, call, &Value::Null, tenant, rule, |endpoints| shown(endpoints, id, &show)).await
}

/// Deletes an endpoint.
pub(crate) async fn remove<C: Caller>(
    app: &App,
    call: &Call<C>,
    tenant: &Tenant,
    id: &EndpointId,
    answer: Answer,
) -> Result<Answer, Problem> {
    let rule = |endpoints: &Endpoints, now| endpoints.remove(id, &call.actor, now);
    change(app, call, &Value::Null, tenant, rule, |_| Ok(answer.clone())).await
}

/// Changes the endpoints of a tenant; one that never had any has none of them.
pub(crate) async fn change<C: Caller>(
    app: &App,
    call: &Call<C>,
    body: &Value,
    tenant: &Tenant,
    mut rule: impl FnMut(&Endpoints, Timestamp) -> Result<Outcome<Endpoints>, Refusal>,
    answer: impl FnMut(&Endpoints) -> Result<Answer, Fault>,
) -> Result<Answer, Problem> {
    call.about(tenant);
    let rule = |endpoints: Option<&Endpoints>, now| rule(endpoints.ok_or(Refusal::NotFound)?, now);
    let changed = app.change(call, body, &endpoints_key(tenant), rule, answer).await;
    changed.map_err(|refused| refused.or(word))
}

/// Sends an endpoint an event that nothing else comes of, and says what became of it.
pub(crate) async fn test<C: Caller>(
    app: &App,
    call: &Call<C>,
    tenant: &Tenant,
    id: &EndpointId,
) -> Result<Answer, Problem> {
    let endpoint = one(app, call, tenant, id).await?;
    let event = Event {
        id: Uuid::new_v4(),
        name: TEST.to_owned(),
        tenant: tenant.clone(),
        at: app.clock.now(),
        actor: call.actor.clone(),
        subject: Subject { kind: "webhook_endpoint".to_owned(), id: id.to_string() },
        data: json!({}),
    };
    let timeout = Duration::try_from(app.schedule.timeout).unwrap_or_default().min(LONGEST_TEST);
    let sent = async {
        let signers = app.signers(tenant, &endpoint, call.deadline()).await?;
        app.send(&endpoint, &event, &signers, call.at_most(timeout)).await
    };
    let tested = match sent.await {
        Ok(attempted) => Tested {
            success: attempted.succeeded(),
            status_code: attempted.status,
            response_time_ms: u64::try_from(attempted.took.as_millis()).unwrap_or(u64::MAX),
            error: attempted.error,
        },
        Err(Unsent::Unsigned(reason)) => {
            Tested { success: false, status_code: None, response_time_ms: 0, error: Some(reason) }
        }
        Err(Unsent::Ours(reason)) => {
            tracing::warn!(reason, "the test was not sent");
            return Err(Problem::unavailable());
        }
    };
    Ok(Answer::ok(&tested)?)
}
