//! Requests: made, followed, listed, called off.

use crate::admin::row;
use crate::asking::{Door, failed, unanswered};
use crate::caller::{Admin, Anyone, Member};
use crate::definition::{bad_value, text};
use crate::document::ErrorResponse;
use crate::policies::{key as policy_key, not_found as policy_not_found};
use crate::shown::{CreateRequestOut, EventOut, RequestOut};
use axum::Extension;
use axum::extract::State;
use countersign_api::{Answer, App, Call, Form, JsonBody, PathText, Problem, Refused, Target};
use countersign_domain::callback_secret::SecretId;
use countersign_domain::event::Source;
use countersign_domain::workflow::policy::Policy;
use countersign_domain::workflow::request::{Bound, Callback, INPUT, New, Question, Refusal, Request, RequestId};
use countersign_domain::workflow::{MAX_NAME, MAX_REASON};
use countersign_domain::{Entry, EntryClass, Outcome, Record, Tenant};
use countersign_store::{By, Fault, Found, Key, Order, Query, StoredChange};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

const LARGEST_PAGE: usize = 500;
const PAGE: usize = 50;
/// How far down a list can be asked for.
pub(crate) const FURTHEST: usize = 10_000;

/// Where a request is; any text may be asked for.
pub(crate) fn key(tenant: &Tenant, id: RequestId) -> Key<Request> {
    Key::new(tenant, &id.to_string())
}

pub(crate) fn find_key(tenant: &Tenant, id: &str) -> Result<Key<Request>, Problem> {
    id.parse().map(|id| key(tenant, id)).map_err(|_| word(Refusal::NotFound))
}

/// A refusal as this door says it.
pub(crate) fn word(refusal: Refusal) -> Problem {
    let (status, code) = match &refusal {
        Refusal::NotFound => (StatusCode::NOT_FOUND, "AWE-003"),
        Refusal::TaskNotFound => (StatusCode::NOT_FOUND, "AWE-004"),
        Refusal::NotTheAssignee | Refusal::Excluded(_) => (StatusCode::FORBIDDEN, "AWE-008"),
        Refusal::TooManyTasks { .. } => return failed(refusal.to_string()),
        Refusal::Ended(_)
        | Refusal::TaskIs(_)
        | Refusal::SameAssignee(_)
        | Refusal::HasTask(_)
        | Refusal::AssigneeExcluded(_)
        | Refusal::TooManyEver
        | Refusal::StageEnded(_) => (StatusCode::CONFLICT, "AWE-007"),
        // Whoever changes a request answers this instead.
        Refusal::Ask(_) => return Problem::internal(),
    };
    Problem::new(status, code, refusal.to_string())
}

/// Something that needs approval.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's; `Wanted::read` reads it field by field")]
struct CreateRequestIn {
    /// Of a policy with an active version.
    #[schema(max_length = 128, example = "registry.change_request.v1")]
    policy_key: String,
    /// What kind of thing it is about.
    #[schema(max_length = 128, example = "registry.change_request")]
    artifact_type: String,
    /// Which one; several requests may be about the same.
    #[schema(max_length = 128, example = "cr-42")]
    artifact_id: String,
    /// What stages and rules look at; it never changes.
    #[schema(value_type = Object, required = false, example = json!({ "amount": 15000, "district": "D1" }))]
    context: Value,
    /// Who is told of each event of the request.
    callback_url: Option<String>,
    /// Which of the tenant's secrets signs what is sent there.
    callback_secret_id: Option<String>,
    /// For whom; the caller if it is left out. Whoever it is may be kept from approving.
    #[schema(max_length = 128)]
    requester: Option<String>,
}

/// The body of a new request.
struct Wanted {
    policy_key: String,
    artifact_type: String,
    artifact_id: String,
    context: Value,
    callback_url: Option<String>,
    callback_secret: Option<String>,
    requester: Option<String>,
}

impl Wanted {
    fn read(body: Value) -> Result<Self, Problem> {
        let mut form = Form::json(body)?;
        let policy_key = form.required("policy_key", text(MAX_NAME));
        let artifact_type = form.required("artifact_type", text(MAX_NAME));
        let artifact_id = form.required("artifact_id", text(MAX_NAME));
        let context = form.given("context", Form::object);
        let context = context.unwrap_or_else(|| Value::Object(Map::new()));
        // What they may be is said as bad values.
        let callback_url = form.optional("callback_url", text(usize::MAX));
        let callback_secret = form.optional("callback_secret_id", text(usize::MAX));
        let requester = form.optional("requester", text(MAX_NAME)).filter(|requester| !requester.is_empty());
        form.finish(|| {
            let (policy_key, artifact_type, artifact_id) = (policy_key?, artifact_type?, artifact_id?);
            Some(Self { policy_key, artifact_type, artifact_id, context, callback_url, callback_secret, requester })
        })
    }

    /// Who is to be told, if that is somebody who may be called with a secret that is there.
    async fn callback(&self, app: &App, call: &Call<Member<Anyone>>) -> Result<Option<Callback>, Problem> {
        let tenant = &call.caller.tenant;
        let unknown = || bad_value("there is no secret with this callback_secret_id");
        let secret: Option<SecretId> = match &self.callback_secret {
            None => None,
            Some(id) => Some(id.parse().map_err(|_| unknown())?),
        };
        if let Some(url) = &self.callback_url
            && let Err(refused) = app.outgoing.client()?.check(url).await
        {
            return Err(bad_value(format!("callback_url {refused}")));
        }
        let is_needed = self.callback_url.is_some() || secret.is_some();
        if is_needed && !app.callback_can_be_signed(tenant, secret.as_ref(), call.deadline()).await? {
            return Err(match secret {
                Some(_) => unknown(),
                None => bad_value(
                    "a callback_url needs a secret that signs, and none is configured; see callback_secret_id",
                ),
            });
        }
        Ok(self.callback_url.clone().map(|url| Callback { url, secret }))
    }
}

/// `POST /requests`
#[utoipa::path(
    post,
    path = "/v1/awe/requests",
    operation_id = "create_request",
    tag = "requests",
    summary = "Make a request",
    description = "Sends something through the stages of a policy. The first stages have begun when this is answered. For any valid token.",
    params(
        ("Idempotency-Key" = Option<String>, Header, max_length = 255, description = "Repeated with the same body within 24 h, the call is answered as the first one was, with `Idempotency-Replayed: true`; with another body it is 409"),
    ),
    request_body = CreateRequestIn,
    responses(
        (status = 201, description = "What has become of it already", body = CreateRequestOut<'static>),
        (status = 400, description = "AWE-010: a `callback_url` that may not be called, or no secret that signs it", body = ErrorResponse),
        (status = 404, description = "AWE-001: there is no such policy, or none of its versions is active", body = ErrorResponse),
        (status = 409, description = "AWE-009: the `Idempotency-Key` came with another body before", body = ErrorResponse),
        (status = 503, description = "AWE-007: it cannot be said who is asked; nothing was made, so repeat the call", body = ErrorResponse),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(door): Extension<Door>,
    call: Call<Member<Anyone>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let wanted = Wanted::read(body.clone())?;
    // An empty key is none here.
    let is_empty = headers.get("idempotency-key").is_some_and(HeaderValue::is_empty);
    let call = if is_empty { call.without_idempotency_key() } else { call };
    // Whoever repeats a call gets its answer, whatever has become of the policy or its resolvers since.
    if let Some(answer) = app.answered_before(&call, &body).await? {
        return Ok(answer);
    }
    let callback = wanted.callback(&app, &call).await?;
    let policies = policy_key(&call.caller, &wanted.policy_key);
    let policy = app.store.load(&policies, call.deadline()).await?.ok_or_else(policy_not_found)?.record;
    let number = policy.active.ok_or_else(policy_not_found)?;
    let definition = door.definition(&app.store, &policies, &policy, number, call.deadline()).await?;
    // The time and then 50 random bits: what is made at the same time lies together in the table at home.
    let [id @ .., _, _, _] = app.ulid()?.to_be_bytes();
    let new = New {
        id: RequestId::new(id),
        policy: bound(&policy, number, definition.forbid_self_approval, definition.forbid_repeat_approvers)?,
        artifact_type: wanted.artifact_type,
        artifact_id: wanted.artifact_id,
        source_service: call.caller.subject.clone(),
        requester: wanted.requester.unwrap_or_else(|| call.caller.subject.clone()),
        context: wanted.context,
        callback,
    };
    let key = key(&call.caller.tenant, new.id);
    let by = call.caller.by();
    let mut inquiry = door.inquiry(&call).about(definition, new.context.clone());
    // The first group is always asked about.
    inquiry.ask(&app.store, &key, Question::Group(0)).await.map_err(unanswered)?;
    loop {
        let rule =
            |_: Option<&Request>, now| Request::create(new.clone(), inquiry.answers(), &by, now).map(Outcome::Change);
        let created = |request: &Request| Answer::created(&CreateRequestOut::new(request));
        match app.change(&call, &body, &key, rule, created).await {
            Err(Refused::Rule(Refusal::Ask(question))) => {
                inquiry.ask(&app.store, &key, question).await.map_err(unanswered)?;
            }
            created => return created.map_err(|refused| refused.or(word)),
        }
    }
}

fn bound(policy: &Policy, version: u32, forbid_self: bool, forbid_repeat: bool) -> Result<Bound, Fault> {
    let found = policy.version(version).map(|found| found.id).zip(policy.item(version));
    let (id, item) = found.ok_or_else(|| Fault::Corrupt("a policy lacks its active version".to_owned()))?;
    let key = policy.key.clone();
    Ok(Bound { key, version, id, item, forbid_self_approval: forbid_self, forbid_repeat_approvers: forbid_repeat })
}

/// The context of a request, from what is stored beside it.
fn context(stored: Option<&str>) -> Result<Value, Fault> {
    match stored {
        None => Ok(Value::Object(Map::new())),
        Some(text) => serde_json::from_str(text).map_err(|_| Fault::Corrupt("a context cannot be read".to_owned())),
    }
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the document's; `list` reads it one by one")]
struct RequestFilters {
    artifact_type: Option<String>,
    artifact_id: Option<String>,
    status: Option<String>,
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// How many of the newest are left out.
    #[param(minimum = 0, maximum = 10_000, default = 0)]
    offset: Option<u32>,
}

/// `GET /requests`, newest first.
#[utoipa::path(
    get,
    path = "/v1/awe/requests",
    operation_id = "list_requests",
    tag = "requests",
    summary = "List requests",
    description = "Requests, newest first. A filter that is empty is none. For any valid token.",
    params(RequestFilters),
    responses(
        (status = 200, description = "The requests", body = Vec<RequestOut<'static>>, headers(("Link" = String, description = "Where the next part of the list is, with `rel=\"next\"`, if there is one"))),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn list(
    State(app): State<App>,
    call: Call<Member<Anyone>>,
    target: Target,
) -> Result<Answer, Problem> {
    let mut form = Form::query(&target.query);
    let artifact_type = filter(&mut form, "artifact_type");
    let artifact_id = filter(&mut form, "artifact_id");
    let status = filter(&mut form, "status");
    let limit = form.optional("limit", Form::digits(1, LARGEST_PAGE)).unwrap_or(PAGE);
    let offset = form.optional("offset", Form::digits(0, FURTHEST)).unwrap_or(0);
    form.finish(|| Some(()))?;
    let by = match (&artifact_id, &status) {
        (Some(artifact_id), _) => By::Subject(artifact_id),
        (None, Some(status)) => By::State(status),
        (None, None) => By::All,
    };
    let query = Query { tenant: &call.caller.tenant, by, order: Order::NewestFirst, limit, with_input: true };
    let is_wanted = |request: &Request| {
        artifact_type.as_ref().is_none_or(|wanted| *wanted == request.artifact_type)
            && artifact_id.as_ref().is_none_or(|wanted| *wanted == request.artifact_id)
            && status.as_ref().is_none_or(|wanted| wanted == request.status.as_str())
    };
    let narrows = artifact_type.is_some() || artifact_id.is_some() && status.is_some();
    let shown = |found: Found<Request>| {
        if !is_wanted(&found.record) {
            return Ok(None);
        }
        let context = context(found.input.as_deref())?;
        row(&RequestOut::new(&found.record, &context)).map(Some)
    };
    let page = app.store.list_at(query, offset, call.deadline(), narrows.then_some(is_wanted), shown).await?;
    let next = page.next.filter(|next| *next <= FURTHEST).map(|next| target.with_offset(next));
    Ok(Answer::ok(&page.rows)?.with_next(next))
}

/// A filter of a list; an empty one is none.
pub(crate) fn filter(form: &mut Form, name: &str) -> Option<String> {
    form.optional(name, text(usize::MAX)).filter(|value| !value.is_empty())
}

/// `GET /requests/{request_id}`
#[utoipa::path(
    get,
    path = "/v1/awe/requests/{request_id}",
    operation_id = "get_request",
    tag = "requests",
    summary = "Read a request",
    description = "A request as it stands. For any valid token.",
    params(("request_id" = String, Path, description = "The id of the request")),
    responses(
        (status = 200, description = "The request", body = RequestOut<'static>),
        (status = 404, description = "AWE-003: there is no such request", body = ErrorResponse),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn show(
    State(app): State<App>,
    call: Call<Member<Anyone>>,
    PathText(id): PathText,
) -> Result<Answer, Problem> {
    let key = find_key(&call.caller.tenant, &id)?;
    let found = app.store.load(&key, call.deadline()).await?.ok_or_else(|| word(Refusal::NotFound))?;
    shown(&app, &call, &key, &found.record).await
}

async fn shown<R: crate::caller::Right>(
    app: &App,
    call: &Call<Member<R>>,
    key: &Key<Request>,
    request: &Request,
) -> Result<Answer, Problem> {
    let context = context(app.store.item(key, INPUT, call.deadline()).await?.as_deref())?;
    Ok(Answer::ok(&RequestOut::new(request, &context))?)
}

/// Why a request is called off.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's; `cancel` reads it field by field")]
struct CancelRequest {
    #[schema(max_length = 2000)]
    reason: Option<String>,
    /// Ignored: whoever calls is the actor.
    actor: Option<String>,
}

/// `POST /requests/{request_id}/cancel`
#[utoipa::path(
    post,
    path = "/v1/awe/requests/{request_id}/cancel",
    operation_id = "cancel_request",
    tag = "requests",
    summary = "Call a request off",
    description = "Nobody is asked any more. For `AWE_ADMIN`.",
    params(("request_id" = String, Path, description = "The id of the request")),
    request_body = CancelRequest,
    responses(
        (status = 200, description = "The request", body = RequestOut<'static>),
        (status = 404, description = "AWE-003: there is no such request", body = ErrorResponse),
        (status = 409, description = "AWE-007: the request has ended", body = ErrorResponse),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn cancel(
    State(app): State<App>,
    call: Call<Member<Admin>>,
    PathText(id): PathText,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let mut form = Form::json(body)?;
    let reason = form.optional("reason", text(MAX_REASON));
    // Whoever calls is the actor, whatever the body says.
    form.optional("actor", text(usize::MAX));
    form.finish(|| Some(()))?;
    let key = find_key(&call.caller.tenant, &id)?;
    let by = call.caller.by();
    let mut cancelled = None;
    let rule = |request: Option<&Request>, now| {
        request.ok_or(Refusal::NotFound)?.cancel(reason.as_deref(), &by, now).map(Outcome::Change)
    };
    let keep = |request: &Request| {
        cancelled = Some(request.clone());
        Ok(Answer::later())
    };
    let changed = app.change(&call.without_idempotency_key(), &Value::Null, &key, rule, keep).await;
    changed.map_err(|refused: Refused<Refusal>| refused.or(word))?;
    shown(&app, &call, &key, &cancelled.ok_or_else(Problem::internal)?).await
}

/// `GET /requests/{request_id}/events`, oldest first.
#[utoipa::path(
    get,
    path = "/v1/awe/requests/{request_id}/events",
    operation_id = "list_request_events",
    tag = "requests",
    summary = "Read the history of a request",
    description = "All that happened to a request, oldest first. For any valid token.",
    params(("request_id" = String, Path, description = "The id of the request")),
    responses(
        (status = 200, description = "The events", body = Vec<EventOut<'static>>),
        (status = 404, description = "AWE-003: there is no such request", body = ErrorResponse),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn events(
    State(app): State<App>,
    call: Call<Member<Anyone>>,
    PathText(id): PathText,
) -> Result<Answer, Problem> {
    let tenant = &call.caller.tenant;
    let key = find_key(tenant, &id)?;
    let history = app.store.history(&key, call.deadline()).await?;
    if history.is_empty() {
        return Err(word(Refusal::NotFound));
    }
    let mut rows = Vec::new();
    for (source, entry) in history.iter().flat_map(told) {
        rows.push(row(&EventOut::new(tenant, &source, entry))?);
    }
    Ok(Answer::ok(&rows)?)
}

/// The events in a change of a request.
pub(crate) fn told(change: &StoredChange) -> impl Iterator<Item = (Source, &Entry)> {
    let public = change.body.entries.iter().zip(0..).filter(|(entry, _)| entry.class == EntryClass::Public);
    public.map(|(entry, place)| {
        let (kind, id) = (Request::KIND.to_owned(), change.id.clone());
        (Source { kind, id, version: change.body.version, entry: place }, entry)
    })
}
