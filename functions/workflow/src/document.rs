//! The door's API as an OpenAPI document, put together from what stands beside its handlers and types.

use crate::service::{ConfigPayload, HealthPayload, VersionPayload};
use crate::words::RequestStatus;
use crate::{admin, delegations, policies, requests, service, tasks};
use serde::Serialize;
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AdditionalProperties, Schema};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    Components, Content, Object, PathItem, PathsBuilder, Ref, RefOr, Required, Response, ResponseBuilder, Type,
};
use utoipa::{OpenApi, ToSchema};

/// What callers show: a JWT as a bearer.
const BEARER: &str = "HTTPBearer";
/// What every answer that is a refusal is, but for those that are [`HttpValidationError`]s.
const ENVELOPE: &str = "ErrorResponse";
const VALIDATION: &str = "HTTPValidationError";
/// What callers send; of everything else, all fields are always there.
const BODIES: [&str; 9] = [
    "ApproverRuleIn",
    "CancelRequest",
    "CreateRequestIn",
    "DecisionIn",
    "DelegationCreate",
    "PolicyCreate",
    "ReassignTaskIn",
    "SimulateRequest",
    "StageIn",
];

#[derive(OpenApi)]
#[openapi(
    info(
        title = "countersign: approval workflows",
        description = "Requests for approval go through the stages of a policy; in each, people are asked by tasks. \
            What happens to a request is told to its `callback_url` by signed callbacks.\n\n\
            Every call needs a JWT as `Authorization: Bearer`, but for those about the service itself. Refusals are \
            checked in this order: 401, 403, 422, 404, 409.",
    ),
    paths(
        policies::create,
        policies::list,
        policies::add_version,
        policies::versions,
        policies::show,
        policies::edit,
        policies::activate,
        policies::deactivate,
        policies::simulate,
        requests::create,
        requests::list,
        requests::show,
        requests::cancel,
        requests::events,
        tasks::list,
        tasks::claim,
        tasks::decide,
        tasks::reassign,
        delegations::list,
        delegations::create,
        delegations::delete,
        admin::deliveries,
        admin::retry,
        admin::audit,
        service::health,
        service::version,
        service::config,
    ),
    components(schemas(ErrorResponse, HttpValidationError, WebhookEvent)),
    tags(
        (name = "policies", description = "Which stages requests go through, and who is asked in each"),
        (name = "requests", description = "What needs approval: made, followed, called off"),
        (name = "tasks", description = "What people are asked: taken on, decided, given to somebody else"),
        (name = "delegations", description = "Who stands in for whom, and when"),
        (name = "webhooks", description = "What is sent to the `callback_url` of a request"),
        (name = "admin", description = "Callbacks on their way, and who changed what"),
        (name = "health", description = "The service itself; no token is needed"),
    ),
)]
struct Document;

/// What every answer about the service itself is wrapped in.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's; the chassis writes it")]
pub(crate) struct HealthResponse {
    #[schema(example = "openg2p.awe")]
    id: String,
    #[schema(example = "1.0")]
    version: String,
    /// When it was answered.
    #[schema(format = DateTime)]
    responsetime: String,
    response: HealthPayload,
    /// None.
    errors: Vec<ErrorDetail>,
}

/// What every answer about the service itself is wrapped in.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's; the chassis writes it")]
pub(crate) struct VersionResponse {
    #[schema(example = "openg2p.awe")]
    id: String,
    #[schema(example = "1.0")]
    version: String,
    /// When it was answered.
    #[schema(format = DateTime)]
    responsetime: String,
    response: VersionPayload,
    /// None.
    errors: Vec<ErrorDetail>,
}

/// What every answer about the service itself is wrapped in.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's; the chassis writes it")]
pub(crate) struct ConfigResponse {
    #[schema(example = "openg2p.awe")]
    id: String,
    #[schema(example = "1.0")]
    version: String,
    /// When it was answered.
    #[schema(format = DateTime)]
    responsetime: String,
    response: ConfigPayload,
    /// None.
    errors: Vec<ErrorDetail>,
}

/// Why a call was refused.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's; the chassis writes it")]
pub(crate) struct ErrorResponse {
    #[schema(example = "openg2p.awe")]
    id: String,
    #[schema(example = "1.0")]
    version: String,
    /// When it was answered.
    #[schema(format = DateTime)]
    responsetime: String,
    /// Always null.
    #[schema(value_type = Option<Object>)]
    response: (),
    /// One.
    #[schema(min_items = 1, max_items = 1)]
    errors: Vec<ErrorDetail>,
}

/// A reason with its code.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the document's; the chassis writes it")]
struct ErrorDetail {
    #[schema(example = "AWE-003")]
    error_code: String,
    message: String,
}

/// What is wrong with a body, a query or a path.
#[derive(ToSchema)]
#[schema(as = HTTPValidationError)]
#[expect(dead_code, reason = "the document's; the chassis writes it")]
struct HttpValidationError {
    detail: Vec<ValidationError>,
}

/// What is wrong with one field.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's; the chassis writes it")]
struct ValidationError {
    /// `body`, `query`, `path` or `header`, and the way to the field from there.
    loc: Vec<Step>,
    msg: String,
    #[schema(example = "missing")]
    r#type: String,
}

/// The name of a field, or a place in a list.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the document's; the chassis writes it")]
enum Step {
    Name(String),
    Place(u32),
}

/// An event of a request, as its `callback_url` is told of it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's; the worker behind the queue writes it")]
struct WebhookEvent {
    /// The same at each attempt.
    #[schema(format = Uuid)]
    event_id: String,
    #[schema(example = "request_approved")]
    event_type: String,
    #[schema(format = Uuid)]
    request_id: String,
    artifact_type: String,
    artifact_id: String,
    /// Of the request, as the event left it.
    status: RequestStatus,
    /// Of the stage that the event is about.
    stage_order: Option<u32>,
    /// Who did it, where somebody did.
    actor: Option<String>,
    #[schema(format = DateTime)]
    occurred_at: String,
}

/// The whole API of the door.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    document.webhooks =
        Some(PathsBuilder::new().path("approval-event", PathItem::new(HttpMethod::Post, callback())).build());
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        operations.into_iter().flatten().for_each(add_common_refusals);
    }
    let components = document.components.get_or_insert_default();
    let bearer = RefOr::T(SecurityScheme::Http(
        Http::builder()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some("The roles `AWE_ADMIN` and `AWE_VIEWER` are those of the realm or of any client."))
            .build(),
    ));
    components.security_schemes.insert(BEARER.to_owned(), bearer);
    complete(components);
    document
}

/// What every call with a token may be answered.
fn add_common_refusals(operation: &mut Operation) {
    if operation.security.is_none() {
        return;
    }
    let takes_something = operation.parameters.is_some() || operation.request_body.is_some();
    let invalid = takes_something.then_some(("422", "Something about the request is not as documented", VALIDATION));
    let too_large = operation.request_body.is_some().then_some(("413", "AWE-010: more than 256 KiB", ENVELOPE));
    let common = [
        ("401", "AWE-008: no token, or not a valid one", ENVELOPE),
        ("403", "AWE-008: the token lacks the role", ENVELOPE),
        ("429", "Too many calls; see `Retry-After`", ENVELOPE),
        ("503", "AWE-006: not now; see `Retry-After`", ENVELOPE),
    ];
    for (status, description, schema) in common.into_iter().chain(invalid).chain(too_large) {
        let refusal = RefOr::T(refusal(description, schema));
        operation.responses.responses.entry(status.to_owned()).or_insert(refusal);
    }
}

fn refusal(description: &str, schema: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name(schema)));
    ResponseBuilder::new().description(description).content("application/json", content).build()
}

/// Says of all that is answered that its fields are always there, and of whatever is the callers' own that it may hold
/// anything.
fn complete(components: &mut Components) {
    for (name, schema) in &mut components.schemas {
        let RefOr::T(Schema::Object(object)) = schema else { continue };
        if !BODIES.contains(&name.as_str()) {
            object.required = object.properties.keys().cloned().collect();
        }
        for property in object.properties.values_mut() {
            if let RefOr::T(Schema::Object(inner)) = property
                && inner.properties.is_empty()
                && is_object(inner)
            {
                inner.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(true)));
            }
        }
    }
}

fn is_object(object: &Object) -> bool {
    use utoipa::openapi::schema::SchemaType;
    match &object.schema_type {
        SchemaType::Type(of) => *of == Type::Object,
        SchemaType::Array(of) => of.contains(&Type::Object),
        SchemaType::AnyValue => false,
    }
}

/// What a receiver of callbacks is sent.
fn callback() -> Operation {
    let content = Content::new(Some(Ref::from_schema_name("WebhookEvent")));
    let body = RequestBodyBuilder::new().content("application/json", content).required(Some(Required::True)).build();
    OperationBuilder::new()
        .tag("webhooks")
        .operation_id(Some("approval_event"))
        .summary(Some("Take an event of a request"))
        .description(Some(
            "Sent for each event, attempt after attempt over more than seven hours until one is answered by a 2xx within \
             10 s. It can arrive more than once, and out of order: drop ids that you have, and sort by `occurred_at`.",
        ))
        .parameter(header("X-Approval-Event-Id", "The `event_id` of the body"))
        .parameter(header("X-Approval-Timestamp", "When this attempt was made, in Unix seconds"))
        .parameter(header(
            "X-Approval-Signature",
            "`sha256=` and the HMAC-SHA256, in lower-case hex, of the timestamp, a full stop and the body as it arrived, \
             under the secret of the request's `callback_secret_id`. Compare it in constant time",
        ))
        .request_body(Some(body))
        .response("2XX", ResponseBuilder::new().description("It was taken").build())
        .response("default", ResponseBuilder::new().description("It was not: it is sent again").build())
        .build()
}

fn header(name: &str, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(Object::with_type(Type::String)))
        .build()
}
