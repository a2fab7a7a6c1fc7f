//! Cases: bringing them in, listing them, and showing one with all that happened to it.

use crate::caller::{Reader, Writer};
use crate::history::History;
use axum::extract::State;
use countersign_api::{Answer, App, Call, Form, Holder, JsonBody, PathText, Problem, QueryText};
use countersign_domain::case::{
    Case, EventIds, INPUT, Ingest, Input, MAX_EVENT_IDS, Refusal, Severity, Status, VerdictOutcome,
};
use countersign_domain::{Outcome, rfc3339};
use countersign_store::{By, Cursor, Fault, Found, Key, Order, PAGE_BYTES, Query};
use http::StatusCode;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::Instant;
use uuid::Uuid;

const TITLE: usize = 300;
const DESCRIPTION: usize = 10_000;
const LARGEST_PAGE: usize = 200;
const USUAL_PAGE: usize = 50;
/// How far back a case's history can be asked for.
const LARGEST_OFFSET: usize = 10_000;

/// Something as it is sent, already JSON.
pub(crate) type Row = Box<RawValue>;

/// Where a case of the holder's tenant is.
pub(crate) fn key(holder: &Holder, case_id: Uuid) -> Key<Case> {
    Key::new(&holder.tenant, &case_id.to_string())
}

/// A refusal as this door says it.
pub(crate) fn word(refusal: Refusal) -> Problem {
    let (status, code) = match refusal {
        Refusal::NotFound => (StatusCode::NOT_FOUND, "case_not_found"),
        Refusal::Exists => (StatusCode::CONFLICT, "case_exists"),
        Refusal::NotInDiscover => (StatusCode::CONFLICT, "not_in_discover"),
        Refusal::AlreadyResolved { .. } => (StatusCode::CONFLICT, "already_resolved"),
    };
    Problem::new(status, code, refusal.to_string())
}

/// A case as callers see it.
#[derive(Serialize)]
pub(crate) struct Shown<'a> {
    case_id: Uuid,
    title: &'a str,
    severity: Severity,
    description: Option<&'a str>,
    state: &'static str,
    outcome: Option<VerdictOutcome>,
    resolved: bool,
    event_ids: &'a EventIds,
    metadata: Option<&'a Map<String, Value>>,
    created_at: String,
    updated_at: String,
}

impl<'a> Shown<'a> {
    pub(crate) fn new(case: &'a Case, input: &'a Input) -> Self {
        Self {
            case_id: case.id,
            title: &case.title,
            severity: case.severity,
            description: input.description.as_deref(),
            state: case.status().as_str(),
            outcome: case.outcome(),
            resolved: case.is_resolved(),
            event_ids: &input.event_ids,
            metadata: input.metadata.as_ref(),
            created_at: rfc3339(case.created_at),
            updated_at: rfc3339(case.updated_at),
        }
    }
}

/// Something written as it is sent.
pub(crate) fn row(shown: &impl Serialize) -> Result<Row, Fault> {
    to_raw_value(shown).map_err(|error| Fault::Corrupt(format!("a row cannot be written: {error}")))
}

/// What a case is about at length, from what is stored beside it, if anything is.
fn input(stored: Option<&str>) -> Result<Input, Fault> {
    let read = stored.map(Input::from_text).transpose();
    read.map(Option::unwrap_or_default).map_err(|error| Fault::Corrupt(format!("an input cannot be read: {error}")))
}

/// What the case with this key is about at length.
pub(crate) async fn read_input(app: &App, key: &Key<Case>, deadline: Instant) -> Result<Input, Fault> {
    input(app.store.item(key, INPUT, deadline).await?.as_deref())
}

/// A page of cases.
#[derive(Serialize)]
pub(crate) struct Cases {
    pub(crate) cases: Vec<Row>,
    pub(crate) next_cursor: Option<String>,
}

/// How many cases a page may have.
pub(crate) fn page_size(form: &mut Form) -> usize {
    form.optional("page_size", Form::digits(1, LARGEST_PAGE)).unwrap_or(USUAL_PAGE)
}

/// Reads ids of events.
///
/// # Errors
/// They are too many, or not ids.
pub(crate) fn event_ids(value: &Value) -> Result<EventIds, String> {
    let ids = Form::list(0, MAX_EVENT_IDS, Form::uuid)(value)?;
    EventIds::try_from(ids).map_err(|error| error.to_string())
}

fn metadata(value: &Value) -> Result<Map<String, Value>, String> {
    Form::object(value)?;
    Ok(value.as_object().cloned().unwrap_or_default())
}

/// `POST /cases`
pub(crate) async fn create(
    State(app): State<App>,
    call: Call<Writer>,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let holder = &call.caller.0;
    let mut form = Form::json(body.clone())?;
    let case_id = form.optional("case_id", Form::uuid).unwrap_or_else(Uuid::new_v4);
    let title = form.required("title", Form::text_of(1, TITLE));
    let severity = form.required("severity", Form::parsed);
    let input = Input {
        description: form.optional("description", Form::text(DESCRIPTION)),
        event_ids: form.optional("event_ids", event_ids).unwrap_or_default(),
        metadata: form.optional("metadata", metadata),
    };
    let ingest = form.finish(|| {
        Some(Ingest { case_id, tenant: holder.tenant.clone(), title: title?, severity: severity?, input })
    })?;
    let known = AtomicBool::new(false);
    app.change(
        &call,
        &body,
        &key(holder, case_id),
        |case: Option<&Case>, now| {
            known.store(case.is_some(), Ordering::Relaxed);
            match case {
                None => Ok(Outcome::Change(Case::ingest(ingest.clone(), &call.actor, now))),
                Some(case) => case.ingest_again(&ingest),
            }
        },
        |case| {
            let shown = Shown::new(case, &ingest.input);
            if known.load(Ordering::Relaxed) { Answer::ok(&shown) } else { Answer::created(&shown) }
        },
    )
    .await
    .map_err(|refused| refused.or(word))
}

/// `GET /cases?state=&outcome=&page_size=&cursor=`
pub(crate) async fn list(
    State(app): State<App>,
    call: Call<Reader>,
    QueryText(query): QueryText,
) -> Result<Answer, Problem> {
    let mut form = Form::query(&query);
    let state: Option<Status> = form.optional("state", Form::parsed);
    let outcome: Option<VerdictOutcome> = form.optional("outcome", Form::parsed);
    let limit = page_size(&mut form);
    let cursor = form.optional("cursor", Form::text(4096));
    form.finish(|| Some(()))?;
    let by = match (outcome, state) {
        // An outcome leads to one state: that filter then drops nothing, unless the two contradict each other.
        (Some(outcome), _) => By::Subject(outcome.as_str()),
        (None, Some(state)) => By::State(state.as_str()),
        (None, None) => By::All,
    };
    let keys = app.cursor_keys().await?;
    let tenant = &call.caller.0.tenant;
    let query = Query { tenant, by, order: Order::OldestFirst, limit, with_input: true };
    let cursor = Cursor { text: cursor.as_deref(), keys: &keys };
    let shown = |found: Found<Case>| {
        let wanted = state.is_none_or(|state| found.record.status() == state);
        let shown = || row(&Shown::new(&found.record, &input(found.input.as_deref())?));
        ready(wanted.then(shown).transpose())
    };
    let page = app.store.list_reading(query, cursor, call.deadline(), shown).await??;
    Ok(Answer::ok(&Cases { cases: page.rows, next_cursor: page.next })?)
}

#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    case: &'a Shown<'a>,
    verdicts: Vec<Row>,
    timeline: Vec<Row>,
}

/// `GET /cases/{case_id}`; of a history that is longer than an answer may be, the latest, with a link to what was
/// before.
pub(crate) async fn show(
    State(app): State<App>,
    call: Call<Reader>,
    PathText(case_id): PathText,
    QueryText(query): QueryText,
) -> Result<Answer, Problem> {
    let mut form = Form::query(&query);
    let case_id = form.path("case_id", &case_id, Form::uuid);
    let offset = form.optional("offset", Form::digits(0, LARGEST_OFFSET)).unwrap_or_default();
    let case_id = form.finish(|| case_id)?;
    let key = key(&call.caller.0, case_id);
    let found = app.store.load(&key, call.deadline()).await?.ok_or_else(|| word(Refusal::NotFound))?;
    let input = read_input(&app, &key, call.deadline()).await?;
    let case = Shown::new(&found.record, &input);
    let room = PAGE_BYTES.saturating_sub(row(&case)?.get().len());
    let History { verdicts, timeline, next } =
        History::read(&app.store, &key, found.version, offset, room, call.deadline()).await?;
    let next = next.filter(|offset| *offset <= LARGEST_OFFSET);
    let next = next.map(|offset| format!("/api/v1/external/cases/{case_id}?offset={offset}"));
    Ok(Answer::ok(&Told { case: &case, verdicts, timeline })?.with_next(next))
}
