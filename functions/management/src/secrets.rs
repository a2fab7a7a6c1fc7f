//! Secrets that a tenant registers by id, for whatever signs with one that it names.

use axum::extract::State;
use countersign_api::{Answer, App, Call, Form, JsonBody, PathText, Problem, seal_named_secret, secret_key};
use countersign_domain::callback_secret::{NamedSecret, SecretId, WHSEC, signing_bytes};
use countersign_domain::{Outcome, Tenant};

/// How long a secret is, in characters.
const SHORTEST: usize = 16;
const LONGEST: usize = 256;

/// `PUT /secrets/{id}`
pub(crate) async fn set(
    State(app): State<App>,
    call: Call,
    PathText(id): PathText,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let mut form = Form::json(body.clone())?;
    let id: Option<SecretId> = form.path("id", &id, Form::parsed);
    let tenant: Option<Tenant> = form.required("tenant", Form::parsed);
    let value = form.required("value", Form::text_of(SHORTEST, LONGEST)).filter(|value| {
        let means_bytes = value.starts_with(WHSEC);
        let wrong = means_bytes && !(SHORTEST..value.len()).contains(&signing_bytes(value).len());
        if wrong {
            form.refuse("value", format!("must have base64 of at least {SHORTEST} bytes after {WHSEC}"));
        }
        !wrong
    });
    let (id, tenant, value) = form.finish(|| Some((id?, tenant?, value?)))?;
    call.about(&tenant);
    let sealed = seal_named_secret(&app.secrets.sealer().await?, &tenant, &id, &value)?;
    let set = app
        .change(
            &call,
            &body,
            &secret_key(&tenant, &id),
            |before, now| Ok(Outcome::Change(NamedSecret::set(before, id.clone(), sealed.clone(), &call.actor, now))),
            |_| Ok(Answer::no_content()),
        )
        .await;
    set.map_err(|refused| refused.or(|never| match never {}))
}
