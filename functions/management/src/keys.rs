//! Tenants' API keys: minting, listing, rotating and revoking.

use axum::extract::State;
use countersign_api::{Answer, App, Call, Detail, Form, JsonBody, Keys, Listed, NoBody, PathText, Problem, QueryText};
use countersign_domain::api_key::{ApiKey, KeyHash, KeyId, MAX_GRACE_MINUTES, Mint, Refusal, Scope, Scopes};
use countersign_domain::text::EXACT_NUMBERS;
use countersign_domain::{Outcome, Tenant, Timestamp, With, rfc3339, whole_second};
use countersign_store::{By, Cursor, Fault, Found, Order, Query};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::to_raw_value;
use std::sync::{Mutex, PoisonError};

/// How long a rotated key goes on working unless it is said otherwise, in minutes.
const DEFAULT_GRACE_MINUTES: i64 = 1440;
/// The largest whole number that every JSON reader holds exactly.
const LARGEST_ID: i64 = EXACT_NUMBERS as i64 - 1;
const LARGEST_PAGE: usize = 1000;

/// A refusal as this door says it.
fn word(refusal: Refusal) -> Problem {
    let (status, code) = match refusal {
        Refusal::NotFound => (StatusCode::NOT_FOUND, "key_not_found"),
        Refusal::AlreadyRotated => (StatusCode::CONFLICT, "already_rotated"),
    };
    Problem::new(status, code, refusal.to_string())
}

/// A key as callers see it; its text only at its birth, `null` when that answer is repeated.
#[derive(Serialize)]
struct Shown<'a> {
    id: &'a KeyId,
    domain: &'a Tenant,
    name: &'a str,
    scopes: &'a Scopes,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Option<&'a str>>,
    expires_at: Option<String>,
    created_at: String,
}

impl<'a> Shown<'a> {
    fn new(key: &'a ApiKey, text: Option<Option<&'a str>>) -> Self {
        Self {
            id: &key.id,
            domain: &key.domain,
            name: &key.name,
            scopes: &key.scopes,
            key: text,
            expires_at: key.expires_at.map(rfc3339),
            created_at: rfc3339(key.created_at),
        }
    }

    fn newborn(key: &ApiKey, text: &str) -> Result<Answer, Fault> {
        Answer::created(&Shown::new(key, Some(Some(text))))?.stored_as(&Shown::new(key, Some(None)))
    }
}

/// Reads the scopes of a key.
///
/// # Errors
/// They are not a key's scopes.
fn scopes(value: &Value) -> Result<Scopes, String> {
    let words = Form::distinct::<Scope>(1, Scope::ALL.len())(value)?;
    Scopes::try_from(words).map_err(|error| error.to_string())
}

fn tenant_of(query: &mut Form) -> Option<Tenant> {
    query.required("domain", Form::parsed)
}

/// `POST /api-keys`
pub(crate) async fn mint(State(app): State<App>, call: Call, JsonBody(body): JsonBody) -> Result<Answer, Problem> {
    let mut form = Form::json(body.clone())?;
    let domain = tenant_of(&mut form);
    let name = form.required("name", Form::text_of(1, 100));
    let owner = form.optional("owner", Form::integer(0, LARGEST_ID)).and_then(|owner| u64::try_from(owner).ok());
    let scopes = form.required("scopes", scopes);
    let expires_at: Option<Timestamp> = form.optional("expires_at", Form::time);
    let text = Keys::generate()?;
    let hash = KeyHash::of(&text);
    // In whole seconds, as it is shown.
    let expires_at = expires_at.map(whole_second);
    let mint = form.finish(|| Some(Mint { hash, domain: domain?, name: name?, owner, scopes: scopes?, expires_at }))?;
    call.about(&mint.domain);
    // Judged after the idempotency key: what was in the future may be past when the call is repeated.
    if let Some(answer) = app.answered_before(&call, &body).await? {
        return Ok(answer);
    }
    if expires_at.is_some_and(|expires_at| expires_at <= app.clock.now()) {
        return Err(Problem::invalid(vec![Detail::new("expires_at", "must be in the future")]));
    }
    app.change(
        &call,
        &body,
        &Keys::key(&hash.id()),
        // 256 random bits: one that exists is refused rather than overwritten.
        |key, now| match key {
            None => Ok(Outcome::Change(ApiKey::mint(mint.clone(), &call.actor, now))),
            Some(_) => Err(Refusal::AlreadyRotated),
        },
        |key| Shown::newborn(key, &text),
    )
    .await
    .map_err(|refused| refused.or(word))
}

/// `GET /api-keys?domain=`; revoked keys are not shown.
pub(crate) async fn list(State(app): State<App>, call: Call, QueryText(query): QueryText) -> Result<Answer, Problem> {
    let mut form = Form::query(&query);
    let domain = tenant_of(&mut form);
    let limit = form.optional("limit", Form::digits(1, LARGEST_PAGE)).unwrap_or(LARGEST_PAGE);
    let cursor = form.optional("cursor", Form::text(4096));
    let tenant = form.finish(|| domain)?;
    call.about(&tenant);
    let keys = app.cursor_keys().await?;
    let query = Query { tenant: &tenant, by: By::All, order: Order::OldestFirst, limit, with_input: false };
    let cursor = Cursor { text: cursor.as_deref(), keys: &keys };
    let shown = |found: Found<ApiKey>| {
        let key = Some(found.record).filter(|key| key.revoked_at.is_none())?;
        to_raw_value(&Shown::new(&key, None)).ok()
    };
    let page = app.store.list(query, cursor, call.deadline(), shown).await?;
    Ok(Answer::ok(&Listed::from(page?))?)
}

fn key_id(text: &str) -> Result<KeyId, Problem> {
    text.parse().map_err(|_| word(Refusal::NotFound))
}

/// `DELETE /api-keys/{id}`
pub(crate) async fn revoke(State(app): State<App>, call: Call, PathText(id): PathText) -> Result<Answer, Problem> {
    let id = key_id(&id)?;
    let revoked = app
        .change(
            &call,
            &Value::Null,
            &Keys::key(&id),
            |key, now| Ok(key.ok_or(Refusal::NotFound)?.revoke(&call.actor, now)),
            |_| Ok(Answer::no_content()),
        )
        .await;
    // Whatever came of it: from now on this process looks.
    app.keys.forget(&id);
    revoked.map_err(|refused| refused.or(word))
}

/// `POST /api-keys/{id}/rotate`
pub(crate) async fn rotate(
    State(app): State<App>,
    call: Call,
    PathText(id): PathText,
    NoBody(body): NoBody,
) -> Result<Answer, Problem> {
    let mut form = Form::optional_json(body.clone())?;
    let grace = form.optional("grace_minutes", Form::integer(0, MAX_GRACE_MINUTES)).unwrap_or(DEFAULT_GRACE_MINUTES);
    form.finish(|| Some(()))?;
    call.check_idempotency_key()?;
    let id = key_id(&id)?;
    let text = Keys::generate()?;
    let hash = KeyHash::of(&text);
    // The answer is about the key that the rule mints beside the one that it changes.
    let next = Mutex::new(None);
    let rotated = app
        .change(
            &call,
            &body,
            &Keys::key(&id),
            |key, now| {
                let outcome = key.ok_or(Refusal::NotFound)?.rotate(hash, grace, &call.actor, now)?;
                *next.lock().unwrap_or_else(PoisonError::into_inner) = newborn(&outcome);
                Ok(outcome)
            },
            |_| match &*next.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(next) => Shown::newborn(next, &text),
                None => Err(Fault::Corrupt(format!("{id} was rotated to no key"))),
            },
        )
        .await;
    app.keys.forget(&id);
    rotated.map_err(|refused| refused.or(word))
}

/// The key that a rotation mints.
fn newborn(rotated: &Outcome<ApiKey>) -> Option<ApiKey> {
    let Outcome::Change(change) = rotated else { return None };
    change.with.iter().find_map(|with| match with {
        With::Born { record, .. } => Some(ApiKey::clone(record)),
        With::Item { .. } | With::Pointer(_) => None,
    })
}
