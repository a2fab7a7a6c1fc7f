//! Delegations: while they are open, a user's new tasks go to somebody else.

use crate::caller::{Admin, Member, Viewer};
use crate::definition::text;
use crate::document::ErrorResponse;
use crate::requests::filter;
use crate::shown::DelegationOut;
use crate::tasks::name;
use axum::extract::State;
use countersign_api::{Answer, App, Call, Detail, Form, JsonBody, PathText, Problem, QueryText};
use countersign_approvers::delegations_key;
use countersign_domain::workflow::MAX_REASON;
use countersign_domain::workflow::delegation::{Delegation, Delegations, DelegatorId, New, Refusal};
use countersign_domain::{Outcome, Timestamp};
use countersign_store::{Fault, Key};
use http::StatusCode;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

const LARGEST_PAGE: usize = 500;
const PAGE: usize = 100;

/// A refusal as this door says it.
fn word(refusal: Refusal) -> Problem {
    let invalid = |field| Problem::invalid(vec![Detail::new(field, refusal.to_string())]);
    match refusal {
        Refusal::NotFound => Problem::new(StatusCode::NOT_FOUND, "AWE-004", refusal.to_string()),
        Refusal::EndsBeforeItStarts => invalid("ends_at"),
        Refusal::ToOneself => invalid("delegate_to"),
        Refusal::TooMany => Problem::new(StatusCode::CONFLICT, "AWE-007", refusal.to_string()),
    }
}

/// Reads a time; one without an offset is in UTC.
pub(crate) fn time(value: &Value) -> Result<Timestamp, String> {
    Form::time(value).or_else(|wrong| {
        let text = value.as_str().ok_or(&wrong)?;
        Form::time(&format!("{text}Z").into()).map_err(|_| wrong)
    })
}

/// Who stands in for whom.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's; `create` reads it field by field")]
struct DelegationCreate {
    /// Whose new tasks go to somebody else.
    #[schema(min_length = 1, max_length = 128, example = "u-alice")]
    user_id: String,
    /// Somebody else.
    #[schema(min_length = 1, max_length = 128, example = "u-bob")]
    delegate_to: String,
    /// Without an offset, in UTC.
    #[schema(format = DateTime)]
    starts_at: String,
    /// After `starts_at`; without an offset, in UTC.
    #[schema(format = DateTime)]
    ends_at: String,
    #[schema(max_length = 2000)]
    reason: Option<String>,
}

/// `POST /delegations`
#[utoipa::path(
    post,
    path = "/v1/awe/delegations",
    operation_id = "create_delegation",
    tag = "delegations",
    summary = "Delegate",
    description = "From `starts_at` up to `ends_at`, new tasks of a user go to somebody else. For `AWE_ADMIN`.",
    request_body = DelegationCreate,
    responses(
        (status = 201, description = "The delegation", body = DelegationOut<'static>),
        (status = 409, description = "AWE-007: the user has too many delegations", body = ErrorResponse),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn create(
    State(app): State<App>,
    call: Call<Member<Admin>>,
    JsonBody(body): JsonBody,
) -> Result<Answer, Problem> {
    let mut form = Form::json(body)?;
    let user = form.required("user_id", name);
    let delegate_to = form.required("delegate_to", name);
    let starts_at = form.required("starts_at", time);
    let ends_at = form.required("ends_at", time);
    let reason = form.optional("reason", text(MAX_REASON));
    let new = form.finish(|| {
        let (user, delegate_to) = (user?, delegate_to?);
        Some(New { user, delegate_to, starts_at: starts_at?, ends_at: ends_at?, reason })
    })?;
    let tenant = &call.caller.tenant;
    let key = delegations_key(tenant, &new.user);
    let by = call.caller.editor();
    let rule =
        |found: Option<&Delegations>, now| Delegations::add(found, tenant, new.clone(), &by, now).map(Outcome::Change);
    let answer = |delegations: &Delegations| {
        let newest = delegations.delegations.last();
        let newest = newest.ok_or_else(|| Fault::Corrupt("a delegation was not kept".to_owned()))?;
        Answer::created(&DelegationOut::new(delegations, newest))
    };
    let changed = app.change(&call.without_idempotency_key(), &Value::Null, &key, rule, answer).await;
    changed.map_err(|refused| refused.or(word))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the document's; `list` reads it one by one")]
struct DelegationFilters {
    /// Whose tasks go to somebody else.
    user_id: Option<String>,
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u32>,
}

/// `GET /delegations`, the one that starts last first.
#[utoipa::path(
    get,
    path = "/v1/awe/delegations",
    operation_id = "list_delegations",
    tag = "delegations",
    summary = "List delegations",
    description = "Delegations, the one that starts last first. For `AWE_VIEWER` or `AWE_ADMIN`.",
    params(DelegationFilters),
    responses(
        (status = 200, description = "The delegations", body = Vec<DelegationOut<'static>>),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn list(
    State(app): State<App>,
    call: Call<Member<Viewer>>,
    QueryText(query): QueryText,
) -> Result<Answer, Problem> {
    let mut form = Form::query(&query);
    let user = filter(&mut form, "user_id");
    let limit = form.optional("limit", Form::digits(1, LARGEST_PAGE)).unwrap_or(PAGE);
    form.finish(|| Some(()))?;
    let tenant = &call.caller.tenant;
    let all: Vec<Delegations> = match user {
        Some(user) => {
            let found = app.store.load(&delegations_key(tenant, &user), call.deadline()).await?;
            found.map(|found| found.record).into_iter().collect()
        }
        None => app.store.all(tenant, call.deadline()).await?,
    };
    let mut rows: Vec<(&Delegations, &Delegation)> =
        all.iter().flat_map(|of| of.delegations.iter().map(move |delegation| (of, delegation))).collect();
    rows.sort_by_key(|(_, delegation)| std::cmp::Reverse((delegation.starts_at, delegation.created_at, delegation.id)));
    let rows: Vec<_> =
        rows.into_iter().take(limit).map(|(of, delegation)| DelegationOut::new(of, delegation)).collect();
    Ok(Answer::ok(&rows)?)
}

/// `DELETE /delegations/{delegation_id}`
#[utoipa::path(
    delete,
    path = "/v1/awe/delegations/{delegation_id}",
    operation_id = "delete_delegation",
    tag = "delegations",
    summary = "End a delegation",
    description = "New tasks are the user's own again; those that went to somebody else stay there. For `AWE_ADMIN`.",
    params(("delegation_id" = String, Path, description = "The id of the delegation")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "AWE-004: there is no such delegation", body = ErrorResponse),
    ),
    security(("HTTPBearer" = [])),
)]
pub(crate) async fn delete(
    State(app): State<App>,
    call: Call<Member<Admin>>,
    PathText(id): PathText,
) -> Result<Answer, Problem> {
    let id = Uuid::try_parse(&id).map_err(|_| word(Refusal::NotFound))?;
    let (delegator, _) = DelegatorId::of_delegation(id);
    let key: Key<Delegations> = Key::new(&call.caller.tenant, &delegator.to_string());
    let by = call.caller.editor();
    let rule =
        |found: Option<&Delegations>, now| found.ok_or(Refusal::NotFound)?.delete(id, &by, now).map(Outcome::Change);
    let changed = app.change(&call, &Value::Null, &key, rule, |_| Ok(Answer::no_content())).await;
    changed.map_err(|refused| refused.or(word))
}
