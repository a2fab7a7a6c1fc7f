//! Policies: their versions, which of them is active, and who would be asked in each stage.

use crate::admin::row;
use crate::asking::{Door, limits, unanswered};
use crate::caller::{Admin, Member, Right, Viewer};
use crate::definition::{PolicyCreate, Written, bad_value};
use crate::document::ErrorResponse;
use crate::shown::{PolicyOut, PolicyVersionOut};
use crate::words::ModeWord;
use axum::Extension;
use axum::extract::State;
use countersign_api::{Answer, App, Call, Form, JsonBody, NoBody, PathText, Problem, Target};
use countersign_domain::workflow::policy::{Definition, Policy, Refusal, Who};
use countersign_domain::{Change, Outcome, Timestamp};
use countersign_store::{Fault, Key, PAGE_BYTES};
use futures_util::future::try_join_all;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

/// How many policies' definitions are read at the same time.
const AT_ONCE: usize = 32;

/// The path of a version.
type OfVersion = PathText<(String, String)>;

/// Where a policy of the caller's tenant is.
pub(crate) fn key<R>(caller: &Member<R>, policy_key: &str) -> Key<Policy> {
    Key::new(&caller.tenant, policy_key)
}

/// A refusal as this door says it.
fn word(refusal: Refusal) -> Problem {
    let (status, code) = match refusal {
        Refusal::NotFound => (StatusCode::NOT_FOUND, "AWE-001"),
        Refusal::Exists => (StatusCode::CONFLICT, "AWE-002"),
        Refusal::NotDraft(_) | Refusal::NotActive(_) | Refusal::TooManyVersions => (StatusCode::CONFLICT, "AWE-007"),
    };
    Problem::new(status, code, refusal.to_string())
}

/// That there is no such policy.
pub(crate) fn not_found() -> Problem {
    word(Refusal::NotFound)
}

/// Reads the number of a version; one that no version has is not found.
fn number(text: &str) -> Result<u32, Problem> {
    let mut form = Form::query("");
    let number = form.path("version", text, |value| {
        let number = value.as_str().and_then(|text| text.parse::<i64>().ok());
        number.ok_or_else(|| "must be a whole number".to_owned())
    });
    form.finish(|| number).map(|number| u32::try_from(number).unwrap_or_default())
}

fn absent() -> Fault {
    Fault::Corrupt("a policy lacks the version that was just written".to_owned())
}

/// Whether the services that a policy names may be called.
async fn check_services(door: &Door, definition: &Definition) -> Result<(), Problem> {
    let rules = definition.stages.iter().flat_map(|stage| stage.rules.iter().chain(&stage.escalation_rules));
    let mut urls: Vec<&str> =
        rules.filter_map(|rule| if let Who::Http(url) = &rule.who { Some(&**url) } else { None }).collect();
    urls.sort_unstable();
    urls.dedup();
    for url in urls {
        if let Err(refused) = door.workflow.approvers.check(url).await? {
            return Err(bad_value(format!("the url of an http rule {refused}")));
        }
    }
    Ok(())
}

/// Changes a policy by what was written; the answer is the version with the number that `number` gives.
async fn write<R: Right>(
    app: &App,
    call: &Call<Member<R>>,
    key: &Key<Policy>,
    definition: &Definition,
    number: impl Fn(&Policy) -> u32,
    answer: impl Fn(&PolicyOut<'_>) -> Result<Answer, Fault>,
    rule: impl FnMut(Option<&Policy>, Timestamp) -> Result<Change<Policy>, Refusal>,
) -> Result<Answer, Problem> {
    let mut rule = rule;
    app.change(
        // Only requests are made under an idempotency key.
        &call.without_idempotency_key(),
        &Value::Null,
        key,
        |policy, now| rule(policy, now).map(Outcome::Change),
        |policy| answer(&PolicyOut::new(policy, number(policy), definition).ok_or_else(absent)?),
    )
    .await
    .map_err(|refused| refused.or(word))
}

/// `POST /policies`
#[utoipa::path(
    post,
    path = "/v1/awe/policies",
    operation_id = "create_policy",
    tag = "policies",
    summary = "Make a policy",
    description = "Makes the first version of a policy, a draft. For `AWE_ADMIN`.",
    request_body = PolicyCreate,
    responses(
        (status = 201, description = "The draft", body = PolicyOut<'static>),
        (status = 400, description = "AWE-010: stages that make no policy, a service that may not be called, or, where the path has a key, another one", body = ErrorResponse),
        (status = 409, description = "AWE-002: there is a policy with this key", body = ErrorResponse),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(door): Extension<Door>,
    call: Call<Member<Admin>>,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let Written { key: policy_key, definition } = Written::read(body)?;
    check_services(&door, &definition).await?;
    let (id, editor) = (Uuid::new_v4(), call.caller.editor());
    let key = key(&call.caller, &policy_key);
    write(
        &app,
        &call,
        &key,
        &definition,
        Policy::newest,
        |shown| Answer::created(shown),
        |policy, now| Policy::create(policy, &policy_key, id, &definition, &editor, now),
    )
    .await
}

/// What was written for the policy of this path.
async fn written_for(door: &Door, policy_key: &str, body: Value) -> Result<Definition, Problem> {
    let written = Written::read(body)?;
    if written.key != policy_key {
        return Err(bad_value("the policy_key of the body is not that of the path"));
    }
    check_services(door, &written.definition).await?;
    Ok(written.definition)
}

/// `PUT /policies/{policy_key}`
#[utoipa::path(
    put,
    path = "/v1/awe/policies/{policy_key}",
    operation_id = "add_policy_version",
    tag = "policies",
    summary = "Add a version",
    description = "Makes the next version of a policy, a draft; the others stay as they are. For `AWE_ADMIN`.",
    params(("policy_key" = String, Path, description = "The key of the policy")),
    request_body = PolicyCreate,
    responses(
        (status = 201, description = "The draft", body = PolicyOut<'static>),
        (status = 400, description = "AWE-010: stages that make no policy, a service that may not be called, or, where the path has a key, another one", body = ErrorResponse),
        (status = 404, description = "AWE-001: there is no such policy, or no such version of it", body = ErrorResponse),
        (status = 409, description = "AWE-007: the policy has too many versions", body = ErrorResponse),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn add_version(
    State(app): State<App>,
    Extension(door): Extension<Door>,
    call: Call<Member<Admin>>,
    PathText(policy_key): PathText,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let definition = written_for(&door, &policy_key, body).await?;
    let (id, editor) = (Uuid::new_v4(), call.caller.editor());
    let key = key(&call.caller, &policy_key);
    write(
        &app,
        &call,
        &key,
        &definition,
        Policy::newest,
        |shown| Answer::created(shown),
        |policy, now| policy.ok_or(Refusal::NotFound)?.add_version(id, &definition, &editor, now),
    )
    .await
}

/// `PATCH /policies/{policy_key}/versions/{version}`
#[utoipa::path(
    patch,
    path = "/v1/awe/policies/{policy_key}/versions/{version}",
    operation_id = "edit_policy_version",
    tag = "policies",
    summary = "Rewrite a draft",
    description = "Replaces all that a draft says: what is left out is not kept. For `AWE_ADMIN`.",
    params(
        ("policy_key" = String, Path, description = "The key of the policy"),
        ("version" = u32, Path, description = "The number of the version"),
    ),
    request_body = PolicyCreate,
    responses(
        (status = 200, description = "The draft", body = PolicyOut<'static>),
        (status = 400, description = "AWE-010: stages that make no policy, a service that may not be called, or, where the path has a key, another one", body = ErrorResponse),
        (status = 404, description = "AWE-001: there is no such policy, or no such version of it", body = ErrorResponse),
        (status = 409, description = "AWE-007: the version is no draft", body = ErrorResponse),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn edit(
    State(app): State<App>,
    Extension(door): Extension<Door>,
    call: Call<Member<Admin>>,
    PathText((policy_key, version)): OfVersion,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let number = number(&version)?;
    let definition = written_for(&door, &policy_key, body).await?;
    let editor = call.caller.editor();
    let key = key(&call.caller, &policy_key);
    write(
        &app,
        &call,
        &key,
        &definition,
        |_| number,
        |shown| Answer::ok(shown),
        |policy, now| policy.ok_or(Refusal::NotFound)?.edit(number, &definition, &editor, now),
    )
    .await
}

/// `POST /policies/{policy_key}/versions/{version}/activate`
#[utoipa::path(
    post,
    path = "/v1/awe/policies/{policy_key}/versions/{version}/activate",
    operation_id = "activate_policy_version",
    tag = "policies",
    summary = "Make a version the active one",
    description = "New requests go through it from now on, those that are on their way through theirs. The version that was active is archived. For `AWE_ADMIN`.",
    params(
        ("policy_key" = String, Path, description = "The key of the policy"),
        ("version" = u32, Path, description = "The number of the version"),
    ),
    responses(
        (status = 200, description = "The active version", body = PolicyOut<'static>),
        (status = 404, description = "AWE-001: there is no such policy, or no such version of it", body = ErrorResponse),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn activate(
    State(app): State<App>,
    Extension(door): Extension<Door>,
    call: Call<Member<Admin>>,
    PathText((policy_key, version)): OfVersion,
    _: NoBody,
) -> Result<Answer, Problem> {
    let number = number(&version)?;
    let editor = call.caller.editor();
    set(&app, &door, &call, &policy_key, number, |policy, now| policy.activate(number, &editor, now)).await
}

/// `POST /policies/{policy_key}/versions/{version}/deactivate`
#[utoipa::path(
    post,
    path = "/v1/awe/policies/{policy_key}/versions/{version}/deactivate",
    operation_id = "deactivate_policy_version",
    tag = "policies",
    summary = "Archive the active version",
    description = "The policy takes no new requests until a version is made active again. For `AWE_ADMIN`.",
    params(
        ("policy_key" = String, Path, description = "The key of the policy"),
        ("version" = u32, Path, description = "The number of the version"),
    ),
    responses(
        (status = 200, description = "The archived version", body = PolicyOut<'static>),
        (status = 404, description = "AWE-001: there is no such policy, or no such version of it", body = ErrorResponse),
        (status = 409, description = "AWE-007: the version is not active", body = ErrorResponse),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn deactivate(
    State(app): State<App>,
    Extension(door): Extension<Door>,
    call: Call<Member<Admin>>,
    PathText((policy_key, version)): OfVersion,
    _: NoBody,
) -> Result<Answer, Problem> {
    let number = number(&version)?;
    let editor = call.caller.editor();
    let rule = |policy: &Policy, now| policy.deactivate(number, &editor, now).map(Outcome::Change);
    set(&app, &door, &call, &policy_key, number, rule).await
}

/// Changes the status of a version. What it says may be edited until then, and is read afterwards.
async fn set(
    app: &App,
    door: &Door,
    call: &Call<Member<Admin>>,
    policy_key: &str,
    number: u32,
    rule: impl Fn(&Policy, Timestamp) -> Result<Outcome<Policy>, Refusal>,
) -> Result<Answer, Problem> {
    let key = key(&call.caller, policy_key);
    let call = call.without_idempotency_key();
    let mut changed = None;
    app.change(
        &call,
        &Value::Null,
        &key,
        |policy, now| rule(policy.ok_or(Refusal::NotFound)?, now),
        |policy| {
            changed = Some(policy.clone());
            Ok(Answer::later())
        },
    )
    .await
    .map_err(|refused| refused.or(word))?;
    let policy = changed.ok_or_else(Problem::internal)?;
    let definition = door.definition(&app.store, &key, &policy, number, call.deadline()).await?;
    Ok(Answer::ok(&PolicyOut::new(&policy, number, &definition).ok_or_else(absent)?)?)
}

/// A policy of the caller's tenant with what one of its versions says.
async fn find<R: Right>(
    app: &App,
    door: &Door,
    call: &Call<Member<R>>,
    policy_key: &str,
    number: u32,
) -> Result<(Policy, Arc<Definition>), Problem> {
    let key = key(&call.caller, policy_key);
    let policy = app.store.load(&key, call.deadline()).await?.ok_or_else(not_found)?.record;
    if policy.version(number).is_none() {
        return Err(not_found());
    }
    let definition = door.definition(&app.store, &key, &policy, number, call.deadline()).await?;
    Ok((policy, definition))
}

/// `GET /policies`: the newest version of each, by key.
#[utoipa::path(
    get,
    path = "/v1/awe/policies",
    operation_id = "list_policies",
    tag = "policies",
    summary = "List policies",
    description = "The newest version of each policy, whatever its status, by key; all of them, or as many as have room in 4 MB. For `AWE_VIEWER` or `AWE_ADMIN`.",
    params(("offset" = Option<usize>, Query, description = "How many of the first are left out; 0 by default")),
    responses(
        (status = 200, description = "The policies", body = Vec<PolicyOut<'static>>, headers(("Link" = String, description = "Where the next part of the list is, with `rel=\"next\"`, if there is one"))),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(door): Extension<Door>,
    call: Call<Member<Viewer>>,
    target: Target,
) -> Result<Answer, Problem> {
    let mut form = Form::query(&target.query);
    let offset = form.optional("offset", Form::digits(0, u32::MAX as usize)).unwrap_or(0);
    form.finish(|| Some(()))?;
    let mut policies = app.store.all::<Policy>(&call.caller.tenant, call.deadline()).await?;
    policies.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for some in policies.get(offset..).unwrap_or_default().chunks(AT_ONCE) {
        let read = some.iter().map(async |policy: &Policy| {
            let key = key(&call.caller, &policy.key);
            door.definition(&app.store, &key, policy, policy.newest(), call.deadline()).await
        });
        for (policy, definition) in some.iter().zip(&try_join_all(read).await?) {
            let shown = PolicyOut::new(policy, policy.newest(), definition);
            let row = row(&shown.ok_or_else(|| Fault::Corrupt("a policy has lost its newest version".to_owned()))?)?;
            bytes += row.get().len() + 1;
            if bytes > PAGE_BYTES && !rows.is_empty() {
                return Ok(Answer::ok(&rows)?.with_next(Some(target.with_offset(offset + rows.len()))));
            }
            rows.push(row);
        }
    }
    Ok(Answer::ok(&rows)?)
}

/// `GET /policies/{policy_key}/versions`
#[utoipa::path(
    get,
    path = "/v1/awe/policies/{policy_key}/versions",
    operation_id = "list_policy_versions",
    tag = "policies",
    summary = "List the versions of a policy",
    description = "All versions of a policy, newest first. For `AWE_VIEWER` or `AWE_ADMIN`.",
    params(("policy_key" = String, Path, description = "The key of the policy")),
    responses(
        (status = 200, description = "The versions", body = Vec<PolicyVersionOut<'static>>),
        (status = 404, description = "AWE-001: there is no such policy, or no such version of it", body = ErrorResponse),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn versions(
    State(app): State<App>,
    call: Call<Member<Viewer>>,
    PathText(policy_key): PathText,
) -> Result<Answer, Problem> {
    let found = app.store.load(&key(&call.caller, &policy_key), call.deadline()).await?.ok_or_else(not_found)?;
    Ok(Answer::ok(&PolicyVersionOut::all(&found.record))?)
}

/// `GET /policies/{policy_key}/versions/{version}`
#[utoipa::path(
    get,
    path = "/v1/awe/policies/{policy_key}/versions/{version}",
    operation_id = "get_policy_version",
    tag = "policies",
    summary = "Read a version",
    description = "A version of a policy with its stages. For `AWE_VIEWER` or `AWE_ADMIN`.",
    params(
        ("policy_key" = String, Path, description = "The key of the policy"),
        ("version" = u32, Path, description = "The number of the version"),
    ),
    responses(
        (status = 200, description = "The version", body = PolicyOut<'static>),
        (status = 404, description = "AWE-001: there is no such policy, or no such version of it", body = ErrorResponse),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn show(
    State(app): State<App>,
    Extension(door): Extension<Door>,
    call: Call<Member<Viewer>>,
    PathText((policy_key, version)): OfVersion,
) -> Result<Answer, Problem> {
    let number = number(&version)?;
    let (policy, definition) = find(&app, &door, &call, &policy_key, number).await?;
    Ok(Answer::ok(&PolicyOut::new(&policy, number, &definition).ok_or_else(absent)?)?)
}

/// For whom to see who would be asked.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's; `simulate` reads it field by field")]
struct SimulateRequest {
    /// As that of a request.
    #[schema(value_type = Object, required = false, example = json!({ "amount": 15000, "district": "D1" }))]
    context: Value,
}

/// Who would be asked.
#[derive(Debug, Serialize, ToSchema)]
struct SimulateResponse<'a> {
    /// The version's id.
    policy_id: Uuid,
    policy_version: u32,
    stages: Vec<SimulateStageOut<'a>>,
}

/// Who would be asked in a stage.
#[derive(Debug, Serialize, ToSchema)]
struct SimulateStageOut<'a> {
    stage_order: u32,
    name: &'a str,
    #[schema(value_type = ModeWord)]
    mode: &'static str,
    mode_value: Option<u32>,
    /// Approvers only, no observers.
    resolved_approvers: Vec<&'a str>,
    skipped: bool,
    /// `skip_if`, if it would be left out.
    skip_reason: Option<&'static str>,
}

/// `POST /policies/{policy_key}/versions/{version}/simulate`
#[utoipa::path(
    post,
    path = "/v1/awe/policies/{policy_key}/versions/{version}/simulate",
    operation_id = "simulate_policy_version",
    tag = "policies",
    summary = "See who would be asked",
    description = "Who would be asked in each stage of a request with this context, before delegations and before anybody is excluded. Nothing is written. For `AWE_VIEWER` or `AWE_ADMIN`.",
    params(
        ("policy_key" = String, Path, description = "The key of the policy"),
        ("version" = u32, Path, description = "The number of the version"),
    ),
    request_body = SimulateRequest,
    responses(
        (status = 200, description = "Each stage", body = SimulateResponse<'static>),
        (status = 404, description = "AWE-001: there is no such policy, or no such version of it", body = ErrorResponse),
        (status = 503, description = "AWE-007: it cannot be said who would be asked; nothing was changed", body = ErrorResponse),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn simulate(
    State(app): State<App>,
    Extension(door): Extension<Door>,
    call: Call<Member<Viewer>>,
    PathText((policy_key, version)): OfVersion,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let number = number(&version)?;
    let mut form = Form::json(body)?;
    let context = form.given("context", Form::object).unwrap_or_else(|| Value::Object(Map::new()));
    form.finish(|| Some(()))?;
    let (policy, definition) = find(&app, &door, &call, &policy_key, number).await?;
    let mut asking = door.asking(&call, &definition, context);
    let asked = asking.stages().await.map_err(unanswered)?;
    limits(&definition, &asked)?;
    let stages = definition.stages.iter().zip(&asked).map(|(stage, asked)| SimulateStageOut {
        stage_order: stage.order,
        name: &stage.name,
        mode: stage.mode.as_str(),
        mode_value: stage.mode_value,
        resolved_approvers: asked.approvers.iter().map(|approver| approver.user.as_str()).collect(),
        skipped: asked.skipped,
        skip_reason: asked.skipped.then_some("skip_if"),
    });
    let policy_id = policy.version(number).map(|version| version.id).ok_or_else(absent)?;
    Ok(Answer::ok(&SimulateResponse { policy_id, policy_version: number, stages: stages.collect() })?)
}
