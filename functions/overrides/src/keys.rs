//! Customers' signing keys: minting, rotating, and the JWK sets that others verify tokens with.

use axum::extract::State;
use countersign_api::{
    Answer, App, Call, Form, JsonBody, NoBody, PathText, Problem, Refused, Sealer, SigningKey, TokenSigner,
};
use countersign_domain::key_ring::{ActiveKey, KeyRing, PublicKey, Refusal};
use countersign_domain::{Outcome, Tenant, rfc3339};
use countersign_store::{Fault, Key};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

/// Where a customer's key ring is.
fn key(customer: &Tenant) -> Key<KeyRing> {
    Key::new(customer, "keys")
}

/// A refusal as this door says it.
fn word(refusal: Refusal) -> Problem {
    let (status, code) = match refusal {
        Refusal::KeyExists => (StatusCode::CONFLICT, "key_exists"),
        Refusal::KeyNotFound => (StatusCode::NOT_FOUND, "key_not_found"),
        Refusal::TooManyKeys => (StatusCode::CONFLICT, "too_many_keys"),
    };
    Problem::new(status, code, refusal.to_string())
}

#[derive(Serialize)]
struct Created<'a> {
    key_id: String,
    customer_id: &'a Tenant,
    algorithm: &'static str,
    public_key: Value,
    created_at: String,
}

impl Created<'_> {
    fn answer(ring: &KeyRing) -> Result<Answer, Fault> {
        let ActiveKey { number, public, created_at, .. } = &ring.active;
        Answer::created(&Created {
            key_id: ring.key_id(*number),
            customer_id: &ring.customer,
            algorithm: "ES256",
            public_key: jwk(ring, *number, public),
            created_at: rfc3339(*created_at),
        })
    }
}

/// A public key as a JWK (RFC 7517).
fn jwk(ring: &KeyRing, number: u32, key: &PublicKey) -> Value {
    json!({
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig",
        "kid": ring.key_id(number), "x": key.x, "y": key.y,
    })
}

/// `POST /keys/signing`
pub(crate) async fn create(State(app): State<App>, call: Call, JsonBody(body): JsonBody) -> Result<Answer, Problem> {
    let mut form = Form::json(body.clone())?;
    let customer = form.required("customer_id", Form::uuid);
    let customer = form.finish(|| Some(customer?.into()))?;
    call.about(&customer);
    let sealer = app.secrets.sealer().await?;
    start(&app, &call, &body, &sealer, &customer).await.map_err(|refused| refused.or(word))
}

/// Starts a customer's key ring; refused if there is one.
async fn start(
    app: &App,
    call: &Call,
    body: &Value,
    sealer: &Sealer,
    customer: &Tenant,
) -> Result<Answer, Refused<Refusal>> {
    let key = key(customer);
    let fresh = SigningKey::generate()?.seal(sealer, key.as_str())?;
    app.change(
        call,
        body,
        &key,
        |ring, now| match ring {
            None => Ok(Outcome::Change(KeyRing::start(customer.clone(), fresh.clone(), &call.actor, now))),
            Some(_) => Err(Refusal::KeyExists),
        },
        Created::answer,
    )
    .await
}

/// `POST /keys/{id}/rotate`
pub(crate) async fn rotate(
    State(app): State<App>,
    call: Call,
    PathText(id): PathText,
    NoBody(body): NoBody,
) -> Result<Answer, Problem> {
    call.check_idempotency_key()?;
    let (customer, number) = KeyRing::parse_key_id(&id).ok_or_else(|| word(Refusal::KeyNotFound))?;
    call.about(&customer);
    let key = key(&customer);
    let sealer = app.secrets.sealer().await?;
    let fresh = SigningKey::generate()?.seal(&sealer, key.as_str())?;
    app.change(
        &call,
        &body,
        &key,
        |ring, now| ring.ok_or(Refusal::KeyNotFound)?.rotate(number, fresh.clone(), &call.actor, now),
        Created::answer,
    )
    .await
    .map_err(|refused| refused.or(word))
}

/// `GET /keys/public/{customer_id}`
pub(crate) async fn public(
    State(app): State<App>,
    call: Call,
    PathText(customer): PathText,
) -> Result<Answer, Problem> {
    let mut form = Form::query("");
    let customer = form.path("customer_id", &customer, Form::uuid);
    let customer: Tenant = form.finish(|| Some(customer?.into()))?;
    call.about(&customer);
    let found = app.store.load(&key(&customer), call.deadline()).await?;
    // A customer without keys and one that does not exist look alike.
    let keys = found.map_or_else(Vec::new, |found| {
        let ring = found.record;
        let active = std::iter::once(jwk(&ring, ring.active.number, &ring.active.public));
        let verifying = ring.verifying(app.clock.now()).map(|key| jwk(&ring, key.number, &key.public));
        active.chain(verifying).collect()
    });
    Ok(Answer::ok(&json!({ "keys": keys }))?)
}

/// What signs a customer's tokens. The ring is read anew each time, so that a rotation holds at once; a customer's
/// first token starts the ring.
pub(crate) async fn signer(app: &App, call: &Call, sealer: &Sealer, customer: &Tenant) -> Result<TokenSigner, Problem> {
    let key = key(customer);
    let mut found = app.store.load(&key, call.deadline()).await?;
    if found.is_none() {
        match start(app, &call.without_idempotency_key(), &Value::Null, sealer, customer).await {
            // Another call may have started it meanwhile.
            Ok(_) | Err(Refused::Rule(Refusal::KeyExists)) => {}
            Err(refused) => return Err(refused.or(word)),
        }
        found = app.store.load(&key, call.deadline()).await?;
    }
    let ring = found.ok_or_else(|| Fault::Corrupt("a key ring that was just started is gone".to_owned()))?.record;
    let ActiveKey { number, private, .. } = &ring.active;
    Ok(TokenSigner::open(sealer, key.as_str(), &private.0, ring.key_id(*number))?)
}
