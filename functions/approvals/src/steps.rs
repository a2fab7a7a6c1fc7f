//! Reporting how far the steps of a remediation are.

use crate::caller::Member;
use crate::remediations::{key, word};
use crate::shown;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use countersign_api::{Answer, App, Call, Form, JsonBody, Problem};
use countersign_domain::remediation::{MAX_OUTPUT, Refusal, RemediationId, Report};
use countersign_store::Fault;

/// `POST /v1/remediation/{id}/steps/{step_id}`
pub(crate) async fn report(
    State(app): State<App>,
    call: Call<Member>,
    path: Result<Path<(String, String)>, PathRejection>,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let mut form = Form::json(body.clone())?;
    let progress = form.required("status", Form::parsed);
    let output = form.optional("output", Form::text(MAX_OUTPUT));
    let progress = form.finish(|| progress)?;
    call.check_idempotency_key()?;
    let named = path.ok().and_then(|Path((id, step_id))| Some((RemediationId::of_remediation(&id)?, step_id)));
    let (id, step_id) = named.ok_or_else(|| word(Refusal::NotFound))?;
    let report = Report { step_id, progress, output };
    let tenant = &call.caller.tenant;
    let replayed = app
        .commit(&call, &body, &key(tenant, &id), |remediation, now| {
            remediation.ok_or(Refusal::NotFound)?.report(&report, &call.actor, now)
        })
        .await
        .map_err(|refused| refused.or(word))?;
    // With all outputs it may be too large to be kept under an idempotency key.
    let shown = shown::load(&app.store, tenant, &id, app.clock.now(), call.deadline()).await?;
    let shown = shown.ok_or_else(|| Fault::Corrupt("a remediation that was just reported on is gone".to_owned()))?;
    Ok(Answer::ok(&shown)?.replayed_if(replayed))
}
