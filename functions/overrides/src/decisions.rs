//! Deciding with an override token, and checking the co-signature of a decision.

use crate::tokens;
use axum::extract::State;
use axum::response::IntoResponse;
use countersign_api::{Answer, App, Call, Form, JsonBody, PathText, Problem};
use countersign_domain::cosignature;
use countersign_domain::override_token::{Decide, Decision, EventId, OverrideToken, Refusal};
use serde::Serialize;

/// The longest reason, in characters.
pub(crate) const REASON: usize = 2000;

#[derive(Serialize)]
struct Decided<'a> {
    event_id: &'a EventId,
    decision: &'a Decision,
    cosignature: String,
}

/// `POST /overrides/{event_id}/decide`
pub(crate) async fn decide(
    State(app): State<App>,
    call: Call,
    PathText(event_id): PathText,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let mut form = Form::json(body.clone())?;
    let event_id = form.path("event_id", &event_id, Form::parsed);
    let jti = form.required("override_jti", Form::uuid);
    let customer = form.required("customer_id", Form::uuid);
    let decision = form.required("decision", Form::parsed);
    let reason = form.optional("reason", Form::text(REASON));
    let (jti, customer, decide) =
        form.finish(|| Some((jti?, customer?.into(), Decide { event_id: event_id?, decision: decision?, reason })))?;

    call.about(&customer);

    // Before the decision: one that stands can always be answered with its co-signature.
    let secret = app.secrets.override_secret().await?;
    app.change(
        &call,
        &body,
        &tokens::key(&customer, jti),
        |token, now| token.ok_or(Refusal::NotFound)?.decide(&decide, &call.actor, now),
        |token: &OverrideToken| {
            let Decide { event_id, decision, .. } = &decide;
            let cosignature = cosignature::sign(secret.current.as_bytes(), event_id, decision, token.jti);
            Answer::ok(&Decided { event_id, decision, cosignature })
        },
    )
    .await
    .map_err(|refused| refused.or(tokens::word))
}

/// `POST /overrides/verify`
pub(crate) async fn verify(
    State(app): State<App>,
    _call: Call,
    JsonBody(body): JsonBody,
) -> Result<impl IntoResponse, Problem> {
    let mut form = Form::json(body)?;
    let event_id = form.required("event_id", Form::parsed);
    let decision = form.required("decision", Form::parsed);
    let jti = form.required("override_jti", Form::uuid);
    // Any text may be asked about; only one is right.
    let cosignature =
        form.required("cosignature", |value| value.as_str().map(str::to_owned).ok_or("must be text".into()));
    let (event_id, decision, jti, cosignature) = form.finish(|| Some((event_id?, decision?, jti?, cosignature?)))?;

    let secret = app.secrets.override_secret().await?;
    let secrets = [Some(&secret.current), secret.previous.as_ref()].into_iter().flatten();
    let secrets = secrets.map(countersign_api::SecretText::as_bytes);
    let valid = cosignature::verify(secrets, &event_id, &decision, jti, &cosignature);
    Ok(Answer::ok(&serde_json::json!({ "valid": valid }))?)
}
