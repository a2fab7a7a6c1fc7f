//! Minting, showing and revoking override tokens.

use crate::decisions::REASON;
use crate::keys;
use axum::extract::State;
use countersign_api::{Answer, App, Call, Detail, Form, JsonBody, PathText, Problem, QueryText};
use countersign_domain::override_token::{
    Decision, EventId, MAX_TTL_MINUTES, Mint, OverrideToken, Refusal, State as TokenState,
};
use countersign_domain::{Outcome, Tenant, rfc3339};
use countersign_store::Key;
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

/// The life of a token that is minted without one, in minutes.
const DEFAULT_TTL_MINUTES: i64 = 5;
const PREFIX: &str = "qt_override_";

/// Where a customer's token is.
pub(crate) fn key(customer: &Tenant, jti: Uuid) -> Key<OverrideToken> {
    Key::new(customer, &jti.to_string())
}

/// A refusal as this door says it.
pub(crate) fn word(refusal: Refusal) -> Problem {
    let (status, code) = match &refusal {
        Refusal::NotFound => (StatusCode::NOT_FOUND, "token_not_found"),
        Refusal::Revoked => (StatusCode::GONE, "token_revoked"),
        Refusal::AlreadyUsed => (StatusCode::CONFLICT, "token_already_used"),
        Refusal::Expired => (StatusCode::GONE, "token_expired"),
        Refusal::DecisionNotAllowed { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "decision_not_allowed"),
    };
    let problem = Problem::new(status, code, refusal.to_string());
    match refusal {
        Refusal::DecisionNotAllowed { allowed } => {
            let allowed: Vec<_> = allowed.iter().map(Decision::as_str).collect();
            let message = format!("must be one of: {}", allowed.join(", "));
            Problem { details: vec![Detail::new("decision", message)], ..problem }
        }
        Refusal::NotFound | Refusal::Revoked | Refusal::AlreadyUsed | Refusal::Expired => problem,
    }
}

/// The claims of a token's signed form.
#[derive(Serialize)]
struct Claims<'a> {
    jti: Uuid,
    sub: &'a Tenant,
    typ: &'static str,
    iat: i64,
    exp: i64,
    event_id: &'a EventId,
    allowed_decisions: &'a [Decision],
}

#[derive(Serialize)]
struct Minted<'a> {
    token: String,
    jti: Uuid,
    event_id: &'a EventId,
    expires_at: String,
}

/// `POST /tokens/override`
pub(crate) async fn mint(State(app): State<App>, call: Call, JsonBody(body): JsonBody) -> Result<Answer, Problem> {
    let mut form = Form::json(body.clone())?;
    let customer = form.required("customer_id", Form::uuid);
    let event_id = form.required("event_id", Form::parsed);
    let allowed = form.optional("allowed_decisions", Form::distinct(1, 8));
    let reason = form.optional("reason", Form::text(REASON));
    let ttl_minutes = form.optional("ttl_minutes", Form::integer(1, MAX_TTL_MINUTES)).unwrap_or(DEFAULT_TTL_MINUTES);
    let allowed_decisions = match allowed {
        Some(allowed) => allowed,
        None => ["approve", "reject"].iter().filter_map(|name| name.parse().ok()).collect(),
    };
    let mint = form.finish(|| {
        let customer = customer?.into();
        Some(Mint { jti: Uuid::new_v4(), customer, event_id: event_id?, allowed_decisions, reason, ttl_minutes })
    })?;

    call.about(&mint.customer);
    // First of all: a customer's first token starts its key ring, and a refused call must not.
    if let Some(answer) = app.answered_before(&call, &body).await? {
        return Ok(answer);
    }
    let sealer = app.secrets.sealer().await?;
    let signer = keys::signer(&app, &call, &sealer, &mint.customer).await?;
    app.change(
        &call,
        &body,
        &key(&mint.customer, mint.jti),
        // A jti is 122 random bits; one that exists is refused like a used one rather than overwritten.
        |token, now| match token {
            None => Ok(Outcome::Change(OverrideToken::mint(mint.clone(), &call.actor, now))),
            Some(_) => Err(Refusal::AlreadyUsed),
        },
        |token| {
            let claims = Claims {
                jti: token.jti,
                sub: &token.customer,
                typ: "override",
                iat: token.created_at.as_second(),
                exp: token.expires_at.as_second(),
                event_id: &token.event_id,
                allowed_decisions: &token.allowed_decisions,
            };
            let answer = Answer::created(&Minted {
                token: format!("{PREFIX}{}", signer.sign(&claims)?),
                jti: token.jti,
                event_id: &token.event_id,
                expires_at: rfc3339(token.expires_at),
            })?;
            Ok(answer.sealed_with(&sealer))
        },
    )
    .await
    .map_err(|refused| refused.or(word))
}

#[derive(Serialize)]
struct Shown<'a> {
    jti: Uuid,
    customer_id: &'a Tenant,
    event_id: &'a EventId,
    allowed_decisions: &'a [Decision],
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'a Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_at: Option<String>,
    expires_at: String,
    created_at: String,
}

/// `GET /tokens/{jti}?customer_id=`
pub(crate) async fn show(
    State(app): State<App>,
    call: Call,
    PathText(jti): PathText,
    QueryText(query): QueryText,
) -> Result<Answer, Problem> {
    let (jti, customer) = addressed(&jti, &query)?;
    call.about(&customer);
    let found = app.store.load(&key(&customer, jti), call.deadline()).await?;
    let token = found.ok_or_else(|| word(Refusal::NotFound))?.record;
    let (decision, decided_at) = match &token.state {
        TokenState::Used { decision, at, by: _ } => (Some(decision), Some(rfc3339(*at))),
        TokenState::Active | TokenState::Revoked { .. } => (None, None),
    };
    Ok(Answer::ok(&Shown {
        jti: token.jti,
        customer_id: &token.customer,
        event_id: &token.event_id,
        allowed_decisions: &token.allowed_decisions,
        status: token.status(app.clock.now()).as_str(),
        decision,
        decided_at,
        expires_at: rfc3339(token.expires_at),
        created_at: rfc3339(token.created_at),
    })?)
}

/// `DELETE /tokens/{jti}?customer_id=`
pub(crate) async fn revoke(
    State(app): State<App>,
    call: Call,
    PathText(jti): PathText,
    QueryText(query): QueryText,
) -> Result<Answer, Problem> {
    let (jti, customer) = addressed(&jti, &query)?;
    call.about(&customer);
    app.change(
        &call,
        &Value::Null,
        &key(&customer, jti),
        |token, now| token.ok_or(Refusal::NotFound)?.revoke(&call.actor, now),
        |_| Ok(Answer::no_content()),
    )
    .await
    .map_err(|refused| refused.or(word))
}

fn addressed(jti: &str, query: &str) -> Result<(Uuid, Tenant), Problem> {
    let mut form = Form::query(query);
    let jti = form.path("jti", jti, Form::uuid);
    let customer = form.required("customer_id", Form::uuid);
    form.finish(|| Some((jti?, customer?.into())))
}
