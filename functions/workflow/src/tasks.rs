//! Tasks: listed by who is asked and how they stand, taken on, decided, given to somebody else.

use crate::admin::row;
use crate::asking::{Door, unanswered};
use crate::caller::{Admin, Anyone, Member, Right};
use crate::definition::{one_of, text};
use crate::document::ErrorResponse;
use crate::requests::{FURTHEST, filter, key, word};
use crate::shown::{DecisionOut, TaskOut};
use crate::words::ActionWord;
use axum::Extension;
use axum::extract::State;
use countersign_api::{Answer, App, Call, Form, JsonBody, NoBody, PathText, Problem, Refused, Target};
use countersign_domain::workflow::request::{
    Action, By, Decision, Ended, Refusal, Request, RequestId, Running, Task, TaskId,
};
use countersign_domain::workflow::{MAX_NAME, MAX_REASON, MAX_REFERENCE};
use countersign_domain::{Change, Outcome, Tenant, Timestamp, rfc3339_micros};
use countersign_store::{Fault, Key, Parts, Store};
use futures_util::future::try_join_all;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

const LARGEST_PAGE: usize = 500;
const PAGE: usize = 100;
/// What the inboxes of tasks are called.
const TASK: &str = "task";
/// Whose tasks are asked for: the caller's own.
const ME: &str = "me";
/// Everybody's.
const EVERYONE: &str = "*";

/// Where a task is.
struct Place {
    key: Key<Request>,
    task: TaskId,
    id: Uuid,
}

impl Place {
    fn of(tenant: &Tenant, id: &str) -> Result<Self, Problem> {
        let id = Uuid::try_parse(id).map_err(|_| word(Refusal::TaskNotFound))?;
        let (request, task) = TaskId::read(id);
        Ok(Self { key: key(tenant, request), task, id })
    }

    /// The refusal as this door says it; what has become of a task of a stage that has ended stands beside its request.
    async fn word(&self, app: &App, by: &By, refusal: Refusal, deadline: Instant) -> Problem {
        let Refusal::StageEnded(ended) = refusal else { return word(refusal) };
        match self.read_ended(app, ended, deadline).await {
            Ok(Some(task)) => word(task.check_assignee(by).err().unwrap_or(Refusal::TaskIs(task.state.as_str()))),
            Ok(None) => word(Refusal::TaskNotFound),
            Err(fault) => fault.into(),
        }
    }

    async fn read_ended(&self, app: &App, ended: Ended, deadline: Instant) -> Result<Option<Task>, Fault> {
        let stage = ended_stage(&app.store, &self.key, ended, deadline).await?;
        Ok(stage.task(self.task.number).cloned())
    }
}

/// A stage that has ended, as it was then.
async fn ended_stage(store: &Store, key: &Key<Request>, ended: Ended, deadline: Instant) -> Result<Running, Fault> {
    let lost = || Fault::Corrupt("a stage that has ended cannot be read".to_owned());
    let text = store.item(key, &ended.item(), deadline).await?.ok_or_else(lost)?;
    serde_json::from_str(&text).map_err(|_| lost())
}

/// `POST /tasks/{task_id}/claim`
#[utoipa::path(
    post,
    path = "/v1/awe/tasks/{task_id}/claim",
    operation_id = "claim_task",
    tag = "tasks",
    summary = "Mark a task as taken on",
    description = "A mark for others to see: it takes the task from nobody, and a decision does not need it. For the assignee, or `AWE_ADMIN`.",
    params(("task_id" = String, Path, description = "The id of the task")),
    responses(
        (status = 200, description = "The task", body = TaskOut<'static>),
        (status = 403, description = "AWE-008: the task is somebody else's and the caller no administrator", body = ErrorResponse),
        (status = 404, description = "AWE-004: there is no such task", body = ErrorResponse),
        (status = 409, description = "AWE-007: the task is not open", body = ErrorResponse),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn claim(
    State(app): State<App>,
    call: Call<Member<Anyone>>,
    PathText(id): PathText,
    _: NoBody,
) -> Result<Answer, Problem> {
    let place = Place::of(&call.caller.tenant, &id)?;
    let by = call.caller.by();
    change(&app, &call, &place, &by, |request, now| Ok((request.claim(place.task, &by, now)?, place.task))).await
}

/// Whose task it is to be.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's; `reassign` reads it field by field")]
struct ReassignTaskIn {
    #[schema(min_length = 1, max_length = 128, example = "u-bob")]
    new_assignee: String,
    #[schema(max_length = 2000)]
    reason: Option<String>,
}

/// `POST /tasks/{task_id}/reassign`
#[utoipa::path(
    post,
    path = "/v1/awe/tasks/{task_id}/reassign",
    operation_id = "reassign_task",
    tag = "tasks",
    summary = "Give a task to somebody else",
    description = "Closes the task and opens one like it for another person. For `AWE_ADMIN`.",
    params(("task_id" = String, Path, description = "The id of the task")),
    request_body = ReassignTaskIn,
    responses(
        (status = 200, description = "The new task", body = TaskOut<'static>),
        (status = 404, description = "AWE-004: there is no such task", body = ErrorResponse),
        (status = 409, description = "AWE-007: the task is closed, the request has ended, or the new assignee has a task of this stage already or may not decide about this request", body = ErrorResponse),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn reassign(
    State(app): State<App>,
    call: Call<Member<Admin>>,
    PathText(id): PathText,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let mut form = Form::json(body)?;
    let to = form.required("new_assignee", name);
    let reason = form.optional("reason", text(MAX_REASON));
    let to = form.finish(|| to)?;
    let place = Place::of(&call.caller.tenant, &id)?;
    let by = call.caller.by();
    change(&app, &call, &place, &by, |request, now| {
        let change = request.reassign(place.task, &to, reason.as_deref(), &by, now)?;
        let stage = change.record.running.iter().find(|stage| stage.place == place.task.stage);
        let newest = stage.and_then(|stage| stage.tasks.last()).map_or(place.task.number, |task| task.number);
        Ok((change, TaskId { number: newest, ..place.task }))
    })
    .await
}

/// Reads the name of a user.
pub(crate) fn name(value: &Value) -> Result<String, String> {
    let name = text(MAX_NAME)(value)?;
    if name.is_empty() { Err("must not be empty".to_owned()) } else { Ok(name) }
}

/// Changes a request; the answer is the task that the rule names.
async fn change<R: Right>(
    app: &App,
    call: &Call<Member<R>>,
    place: &Place,
    by: &By,
    rule: impl Fn(&Request, Timestamp) -> Result<(Change<Request>, TaskId), Refusal>,
) -> Result<Answer, Problem> {
    let shown = Mutex::new(place.task);
    let rule = |request: Option<&Request>, now| {
        let (change, task) = rule(request.ok_or(Refusal::TaskNotFound)?, now)?;
        *shown.lock().unwrap_or_else(PoisonError::into_inner) = task;
        Ok(Outcome::Change(change))
    };
    let answer = |request: &Request| {
        let id = *shown.lock().unwrap_or_else(PoisonError::into_inner);
        let stage = request.running.iter().find(|stage| stage.place == id.stage);
        let found = stage.and_then(|stage| Some((stage, stage.task(id.number)?)));
        let (stage, task) = found.ok_or_else(|| Fault::Corrupt("a request has lost a task".to_owned()))?;
        Answer::ok(&TaskOut::new(request, stage, task))
    };
    match app.change(&call.without_idempotency_key(), &Value::Null, &place.key, rule, answer).await {
        Ok(answer) => Ok(answer),
        Err(Refused::Problem(problem)) => Err(problem),
        Err(Refused::Rule(refusal)) => Err(place.word(app, by, refusal, call.deadline()).await),
    }
}

/// What is decided.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's; `decide` reads it field by field")]
struct DecisionIn {
    action: ActionWord,
    #[schema(max_length = 2000)]
    comment: Option<String>,
    /// Where what belongs to the decision can be found.
    #[schema(max_length = 1024)]
    attachments_ref: Option<String>,
}

/// `POST /tasks/{task_id}/decision`
#[utoipa::path(
    post,
    path = "/v1/awe/tasks/{task_id}/decision",
    operation_id = "decide_task",
    tag = "tasks",
    summary = "Decide",
    description = "Decides a task, once. If that ends its stages, the next ones have begun when this is answered. For the assignee, or `AWE_ADMIN`.",
    params(("task_id" = String, Path, description = "The id of the task")),
    request_body = DecisionIn,
    responses(
        (status = 201, description = "The decision", body = DecisionOut<'static>),
        (status = 403, description = "AWE-008: the task is somebody else's and the caller no administrator, or the caller may not decide about this request", body = ErrorResponse),
        (status = 404, description = "AWE-004: there is no such task", body = ErrorResponse),
        (status = 409, description = "AWE-007: the task is closed, or the request has ended", body = ErrorResponse),
        (status = 503, description = "AWE-007: it cannot be said who is asked next; nothing was decided, so repeat the call", body = ErrorResponse),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn decide(
    State(app): State<App>,
    Extension(door): Extension<Door>,
    call: Call<Member<Anyone>>,
    PathText(id): PathText,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let mut form = Form::json(body)?;
    let action = form.required("action", one_of("approve, reject or abstain", Action::named));
    let comment = form.optional("comment", text(MAX_REASON));
    let attachments_ref = form.optional("attachments_ref", text(MAX_REFERENCE));
    let action = form.finish(|| action)?;
    let decision = Decision { id: Uuid::new_v4(), action, comment, attachments_ref };
    let place = Place::of(&call.caller.tenant, &id)?;
    let by = call.caller.by();
    let call = call.without_idempotency_key();
    let mut inquiry = door.inquiry(&call);
    let order = AtomicU32::new(0);
    loop {
        let rule = |request: Option<&Request>, now| {
            let request = request.ok_or(Refusal::TaskNotFound)?;
            let change = request.decide(place.task, &decision, inquiry.answers(), &by, now)?;
            // The stage may not be in the record any more.
            let stage = request.running.iter().find(|stage| stage.place == place.task.stage);
            order.store(stage.map_or(0, |stage| stage.order), Ordering::Relaxed);
            Ok(Outcome::Change(change))
        };
        let answer = |request: &Request| {
            Answer::created(&DecisionOut {
                id: decision.id,
                request_id: request.id.to_string(),
                task_id: place.id,
                stage_order: order.load(Ordering::Relaxed),
                actor: by.actor.name(),
                action: decision.action.as_str(),
                comment: decision.comment.as_deref(),
                attachments_ref: decision.attachments_ref.as_deref(),
                created_at: rfc3339_micros(request.updated_at),
            })
        };
        match app.change(&call, &Value::Null, &place.key, rule, answer).await {
            Ok(answer) => return Ok(answer),
            Err(Refused::Rule(Refusal::Ask(question))) => {
                inquiry.ask(&app.store, &place.key, question).await.map_err(unanswered)?;
            }
            Err(Refused::Problem(problem)) => return Err(problem),
            Err(Refused::Rule(refusal)) => return Err(place.word(&app, &by, refusal, call.deadline()).await),
        }
    }
}

/// Which tasks are asked for.
struct Wanted {
    assignee: Option<String>,
    status: Option<String>,
}

impl Wanted {
    fn takes(&self, task: &Task) -> bool {
        self.assignee.as_ref().is_none_or(|assignee| *assignee == task.assignee)
            && self.status.as_ref().is_none_or(|status| status == task.state.as_str())
    }
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the document's; `list` reads it one by one")]
struct TaskFilters {
    /// `me`, `*` for everybody, or a user.
    #[param(default = "me")]
    assignee: Option<String>,
    request_id: Option<String>,
    status: Option<String>,
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u32>,
    /// How many of the newest are left out.
    #[param(minimum = 0, maximum = 10_000, default = 0)]
    offset: Option<u32>,
}

/// `GET /tasks`, newest first.
#[utoipa::path(
    get,
    path = "/v1/awe/tasks",
    operation_id = "list_tasks",
    tag = "tasks",
    summary = "List tasks",
    description = "Tasks, newest first; without filters, the caller's own. For any valid token.",
    params(TaskFilters),
    responses(
        (status = 200, description = "The tasks", body = Vec<TaskOut<'static>>, headers(("Link" = String, description = "Where the next part of the list is, with `rel=\"next\"`, if there is one"))),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn list(
    State(app): State<App>,
    call: Call<Member<Anyone>>,
    target: Target,
) -> Result<Answer, Problem> {
    let mut form = Form::query(&target.query);
    let assignee = form.optional("assignee", text(usize::MAX)).unwrap_or_else(|| ME.to_owned());
    let request_id = filter(&mut form, "request_id");
    let status = filter(&mut form, "status");
    let limit = form.optional("limit", Form::digits(1, LARGEST_PAGE)).unwrap_or(PAGE);
    let offset = form.optional("offset", Form::digits(0, FURTHEST)).unwrap_or(0);
    form.finish(|| Some(()))?;
    let assignee = match assignee.as_str() {
        ME => Some(call.caller.subject.clone()),
        EVERYONE | "" => None,
        _ => Some(assignee),
    };
    let wanted = Wanted { assignee, status };
    let tenant = &call.caller.tenant;
    let rows = match request_id {
        Some(id) => {
            let mut rows = of_request(&app.store, tenant, &id, &wanted, call.deadline()).await?;
            rows.drain(..offset.min(rows.len()));
            rows.truncate(limit);
            rows
        }
        None => {
            let (holder, state) = (wanted.assignee.as_deref(), wanted.status.as_deref());
            let parts = Parts { tenant, kind: TASK, holder, state, offset, limit };
            let read = |ids: Vec<String>| read(&app.store, tenant, ids, &wanted, call.deadline());
            app.store.list_parts(parts, call.deadline(), read).await?
        }
    };
    let next = (rows.len() == limit && offset + limit <= FURTHEST).then(|| target.with_offset(offset + limit));
    Ok(Answer::ok(&rows)?.with_next(next))
}

/// The tasks of a request, newest first.
async fn of_request(
    store: &Store,
    tenant: &Tenant,
    id: &str,
    wanted: &Wanted,
    deadline: Instant,
) -> Result<Vec<Box<RawValue>>, Fault> {
    let Ok(id) = id.parse::<RequestId>() else { return Ok(Vec::new()) };
    let key = key(tenant, id);
    let Some(found) = store.load(&key, deadline).await? else { return Ok(Vec::new()) };
    let request = found.record;
    let ended = request.ended.iter().map(|ended| ended_stage(store, &key, *ended, deadline));
    let ended = try_join_all(ended).await?;
    let stages = ended.iter().chain(&request.running);
    let mut tasks: Vec<(&Running, &Task)> =
        stages.flat_map(|stage| stage.tasks.iter().map(move |task| (stage, task))).collect();
    tasks.retain(|(_, task)| wanted.takes(task));
    tasks.sort_by_key(|(stage, task)| std::cmp::Reverse((task.created_at, stage.place, task.number)));
    tasks.into_iter().map(|(stage, task)| row(&TaskOut::new(&request, stage, task))).collect()
}

/// Rows of the tasks with these ids, as their requests have them now.
async fn read(
    store: &Store,
    tenant: &Tenant,
    ids: Vec<String>,
    wanted: &Wanted,
    deadline: Instant,
) -> Result<Vec<Option<Box<RawValue>>>, Fault> {
    let places: Vec<Option<(Key<Request>, TaskId)>> = ids
        .iter()
        .map(|id| {
            let (request, task) = TaskId::read(Uuid::try_parse(id).ok()?);
            Some((key(tenant, request), task))
        })
        .collect();
    let mut seen = HashSet::new();
    let keys: Vec<Key<Request>> =
        places.iter().flatten().filter(|(key, _)| seen.insert(key.as_str())).map(|(key, _)| key.clone()).collect();
    let mut requests = HashMap::new();
    for (pk, loaded) in store.load_all(&keys, deadline).await? {
        requests.insert(pk, loaded?.record);
    }
    // Tasks of stages that have ended stand beside their requests.
    let mut ended: HashMap<(&str, u8), Ended> = HashMap::new();
    for (key, task) in places.iter().flatten() {
        let request = requests.get(key.as_str());
        let stage = request.and_then(|request| request.ended.iter().find(|ended| ended.place == task.stage));
        ended.extend(stage.map(|stage| ((key.as_str(), task.stage), *stage)));
    }
    let keys: HashMap<&str, &Key<Request>> = keys.iter().map(|key| (key.as_str(), key)).collect();
    let read = ended.into_iter().map(async |((pk, place), ended)| {
        let key = keys.get(pk).ok_or_else(|| Fault::Corrupt("a request was not read".to_owned()))?;
        Ok::<_, Fault>(((pk, place), ended_stage(store, key, ended, deadline).await?))
    });
    let ended: HashMap<(&str, u8), Running> = try_join_all(read).await?.into_iter().collect();
    let shown = |place: &Option<(Key<Request>, TaskId)>| {
        let Some((key, id)) = place else { return Ok(None) };
        let Some(request) = requests.get(key.as_str()) else { return Ok(None) };
        let running = request.running.iter().find(|stage| stage.place == id.stage);
        let Some(stage) = running.or_else(|| ended.get(&(key.as_str(), id.stage))) else { return Ok(None) };
        let Some(task) = stage.task(id.number).filter(|task| wanted.takes(task)) else { return Ok(None) };
        row(&TaskOut::new(request, stage, task)).map(Some)
    };
    places.iter().map(shown).collect()
}
