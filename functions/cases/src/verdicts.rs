//! Verdicts: what an investigator says happened.

use crate::caller::Writer;
use crate::cases::{event_ids, key, word};
use axum::extract::State;
use countersign_api::{Answer, App, Call, Form, JsonBody, PathText, Problem};
use countersign_domain::case::{Case, Refusal, Verdict, VerdictOutcome};
use countersign_domain::rfc3339;
use serde::Serialize;
use uuid::Uuid;

const COMMENT: usize = 2000;

#[derive(Serialize)]
struct Accepted {
    success: bool,
    case_id: Uuid,
    outcome: VerdictOutcome,
    resolved: bool,
    processed_at: String,
}

/// `POST /cases/{case_id}/verdict`
pub(crate) async fn submit(
    State(app): State<App>,
    call: Call<Writer>,
    PathText(case_id): PathText,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let holder = &call.caller.0;
    let mut form = Form::json(body.clone())?;
    let case_id = form.path("case_id", &case_id, Form::uuid);
    let outcome = form.required("outcome", Form::parsed);
    let comment = form.optional("comment", Form::text(COMMENT));
    let event_ids = form.optional("event_ids", event_ids).unwrap_or_default();
    let verdict_id = Uuid::new_v4();
    let (case_id, verdict) =
        form.finish(|| Some((case_id?, Verdict { verdict_id, outcome: outcome?, comment, event_ids })))?;
    app.change(
        &call,
        &body,
        &key(holder, case_id),
        |case: Option<&Case>, now| case.ok_or(Refusal::NotFound)?.verdict(&verdict, &holder.id, now),
        |case| {
            Answer::ok(&Accepted {
                success: true,
                case_id,
                outcome: verdict.outcome,
                resolved: case.is_resolved(),
                processed_at: rfc3339(case.updated_at),
            })
        },
    )
    .await
    .map_err(|refused| refused.or(word))
}
