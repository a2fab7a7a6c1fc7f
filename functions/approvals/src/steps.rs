//! Reporting how far the steps of a remediation are.

use crate::caller::Member;
use crate::remediations::{input_of, key, word};
use crate::shown::{self, Outputs, Shown};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use countersign_api::{Answer, App, Call, Form, JsonBody, Problem};
use countersign_domain::Timestamp;
use countersign_domain::remediation::{INPUT, MAX_OUTPUT, Refusal, Remediation, RemediationId, Report, Step};
use countersign_store::{Fault, Key, Store};
use tokio::time::Instant;

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
    let (tenant, key) = (&call.caller.tenant, key(&call.caller.tenant, &id));
    // Read before, so that the answer can be kept under the idempotency key as it is then.
    let beside = Beside::read(&app.store, &key, call.deadline()).await?;
    let answer = app
        .change(
            &call,
            &body,
            &key,
            |remediation, now| remediation.ok_or(Refusal::NotFound)?.report(&report, &call.actor, now),
            |remediation| beside.answer(remediation, &report, app.clock.now()),
        )
        .await
        .map_err(|refused| refused.or(word))?;
    if !answer.is_later() {
        return Ok(answer);
    }
    let shown = shown::load(&app.store, tenant, &id, app.clock.now(), call.deadline()).await?;
    let shown = shown.ok_or_else(|| Fault::Corrupt("a remediation that was just reported on is gone".to_owned()))?;
    Ok(Answer::ok(&shown)?.replayed_if(answer.is_replayed()))
}

/// What lies beside a remediation, as it was before a report.
struct Beside {
    input: Option<String>,
    outputs: Outputs,
}

impl Beside {
    async fn read(store: &Store, key: &Key<Remediation>, deadline: Instant) -> Result<Self, Fault> {
        let (input, outputs) =
            tokio::try_join!(store.item(key, INPUT, deadline), store.items(key, shown::OUTPUTS, deadline))?;
        Ok(Self { input, outputs })
    }

    /// The remediation after the report; later, if another report has come between, or if it is too large to be kept.
    fn answer(&self, remediation: &Remediation, report: &Report, now: Timestamp) -> Result<Answer, Fault> {
        let mut outputs = self.outputs.clone();
        let reported = remediation.steps.iter().find(|step| step.id() == report.step_id);
        if let (Some(name), Some(output)) = (reported.and_then(Step::output_item), &report.output) {
            outputs.entry(name).or_insert_with(|| output.clone());
        }
        let there = |step: &Step| step.output_item().is_none_or(|name| outputs.contains_key(&name));
        if !remediation.steps.iter().all(there) {
            return Ok(Answer::later());
        }
        let shown = Shown::new(remediation.clone(), input_of(self.input.as_deref())?, outputs, now)?;
        Ok(Answer::ok(&shown)?.if_it_can_be_kept())
    }
}
