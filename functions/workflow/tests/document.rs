//! The OpenAPI document: that it says what the door does, and all that the documented API says.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use countersign_domain::workflow::Mode;
use countersign_domain::workflow::policy::{Kind, OnBreach, OnEmpty, RuleType};
use countersign_domain::workflow::request::Action;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const ROUTES: &str = include_str!("../src/lib.rs");

/// Where each body and each query is read, and what documents it: a schema, or the parameters of an operation.
const READERS: [(&str, &str, &str); 17] = [
    (include_str!("../src/definition.rs"), "fn read(", "PolicyCreate"),
    (include_str!("../src/definition.rs"), "fn stage(", "StageIn"),
    (include_str!("../src/definition.rs"), "fn rule(", "ApproverRuleIn"),
    (include_str!("../src/policies.rs"), "fn simulate(", "SimulateRequest"),
    (include_str!("../src/policies.rs"), "fn list(", "list_policies"),
    (include_str!("../src/requests.rs"), "fn read(", "CreateRequestIn"),
    (include_str!("../src/requests.rs"), "fn cancel(", "CancelRequest"),
    (include_str!("../src/requests.rs"), "fn list(", "list_requests"),
    (include_str!("../src/tasks.rs"), "fn decide(", "DecisionIn"),
    (include_str!("../src/tasks.rs"), "fn reassign(", "ReassignTaskIn"),
    (include_str!("../src/tasks.rs"), "fn list(", "list_tasks"),
    (include_str!("../src/delegations.rs"), "fn create(", "DelegationCreate"),
    (include_str!("../src/delegations.rs"), "fn list(", "list_delegations"),
    (include_str!("../src/admin.rs"), "fn deliveries(", "list_deliveries"),
    (include_str!("../src/admin.rs"), "fn audit(", "list_audit_actions"),
    // These take nothing but what is in their paths.
    (include_str!("../src/policies.rs"), "fn versions(", "list_policy_versions"),
    (include_str!("../src/requests.rs"), "fn events(", "list_request_events"),
];

/// The operations of the API that this door is compatible with: parameters that are not in the path, body, success.
const OPERATIONS: [(&str, &str, &str, &str); 27] = [
    ("GET /health", "", "", "200 HealthResponse"),
    ("GET /version", "", "", "200 VersionResponse"),
    ("GET /config", "", "", "200 ConfigResponse"),
    ("GET /policies", "", "", "200 [PolicyOut]"),
    ("POST /policies", "", "PolicyCreate", "201 PolicyOut"),
    ("GET /policies/{policy_key}/versions", "", "", "200 [PolicyVersionOut]"),
    ("GET /policies/{policy_key}/versions/{version}", "", "", "200 PolicyOut"),
    ("PATCH /policies/{policy_key}/versions/{version}", "", "PolicyCreate", "200 PolicyOut"),
    ("PUT /policies/{policy_key}", "", "PolicyCreate", "201 PolicyOut"),
    ("POST /policies/{policy_key}/versions/{version}/activate", "", "", "200 PolicyOut"),
    ("POST /policies/{policy_key}/versions/{version}/deactivate", "", "", "200 PolicyOut"),
    ("POST /policies/{policy_key}/versions/{version}/simulate", "", "SimulateRequest", "200 SimulateResponse"),
    ("POST /requests", "Idempotency-Key", "CreateRequestIn", "201 CreateRequestOut"),
    ("GET /requests", "artifact_type artifact_id status limit", "", "200 [RequestOut]"),
    ("GET /requests/{request_id}", "", "", "200 RequestOut"),
    ("POST /requests/{request_id}/cancel", "", "CancelRequest", "200 RequestOut"),
    ("GET /requests/{request_id}/events", "", "", "200 [EventOut]"),
    ("GET /tasks", "assignee request_id status limit", "", "200 [TaskOut]"),
    ("POST /tasks/{task_id}/claim", "", "", "200 TaskOut"),
    ("POST /tasks/{task_id}/decision", "", "DecisionIn", "201 DecisionOut"),
    ("POST /tasks/{task_id}/reassign", "", "ReassignTaskIn", "200 TaskOut"),
    ("GET /admin/deliveries", "status request_id limit", "", "200 [DeliveryOut]"),
    ("POST /admin/deliveries/{delivery_id}/retry", "", "", "200 DeliveryOut"),
    ("GET /admin/audit", "actor action resource_type resource_id since until limit", "", "200 [AuditActionOut]"),
    ("GET /delegations", "user_id limit", "", "200 [DelegationOut]"),
    ("POST /delegations", "", "DelegationCreate", "201 DelegationOut"),
    ("DELETE /delegations/{delegation_id}", "", "", "204"),
];

/// Parameters that are ours alone.
const OUR_PARAMETERS: [(&str, &str); 3] =
    [("GET /policies", "offset"), ("GET /requests", "offset"), ("GET /tasks", "offset")];

/// The fields of each schema of that API, those that callers must send marked with a star.
const SCHEMAS: [(&str, &str); 28] = [
    ("ApproverRuleIn", "*rule_type *rule_value kind required"),
    ("ApproverRuleOut", "rule_type rule_value kind required id"),
    // The original writes `metadata_`.
    (
        "AuditActionOut",
        "id occurred_at actor actor_email action resource_type resource_id summary before after metadata",
    ),
    ("CancelRequest", "reason actor"),
    ("CreateRequestIn", "*policy_key *artifact_type *artifact_id context callback_url callback_secret_id requester"),
    ("CreateRequestOut", "request_id status current_stage_order tasks"),
    ("DecisionIn", "*action comment attachments_ref"),
    ("DecisionOut", "id request_id task_id stage_order actor action comment attachments_ref created_at"),
    ("DelegationCreate", "*user_id *delegate_to *starts_at *ends_at reason"),
    ("DelegationOut", "id user_id delegate_to starts_at ends_at reason created_by created_at updated_at"),
    (
        "DeliveryOut",
        "id event_id request_id event_type url status attempt next_attempt_at last_attempt_at last_status_code last_error \
         created_at updated_at",
    ),
    ("ErrorDetail", "errorCode message"),
    ("EventOut", "id request_id event_type payload created_at"),
    ("HTTPValidationError", "detail"),
    ("HealthPayload", "status"),
    ("HealthResponse", "id version responsetime response errors"),
    (
        "PolicyCreate",
        "*policy_key *name description *artifact_type forbid_self_approval forbid_repeat_approvers stages",
    ),
    (
        "PolicyOut",
        "id policy_key version name description status artifact_type forbid_self_approval forbid_repeat_approvers \
         created_by created_at updated_at stages",
    ),
    ("PolicyVersionOut", "id policy_key version status created_at"),
    ("ReassignTaskIn", "*new_assignee reason"),
    (
        "RequestOut",
        "id policy_id policy_key policy_version artifact_type artifact_id source_service requester context status \
         current_stage_order callback_url completed_at created_at updated_at",
    ),
    ("SimulateRequest", "context"),
    ("SimulateResponse", "policy_id policy_version stages"),
    ("SimulateStageOut", "stage_order name mode mode_value resolved_approvers skipped skip_reason"),
    (
        "StageIn",
        "*name *stage_order mode mode_value sla_hours skip_if on_empty parallel_group on_breach escalation_rules rules",
    ),
    (
        "StageOut",
        "name stage_order mode mode_value sla_hours skip_if on_empty parallel_group on_breach escalation_rules rules id",
    ),
    (
        "TaskOut",
        "id request_id stage_id stage_order assignee kind delegated_from reassigned_from status claimed_at completed_at \
         due_at decision_id created_at",
    ),
    // The original may also tell what was sent, which nobody needs to hear again.
    ("ValidationError", "loc msg type"),
];

/// The same for schemas that stand apart: wrapped, or sent by us.
const MORE_SCHEMAS: [(&str, &str); 3] = [
    ("VersionPayload", "service_version build_time git_commit"),
    ("VersionResponse", "id version responsetime response errors"),
    ("WebhookEvent", "event_id event_type request_id artifact_type artifact_id status stage_order actor occurred_at"),
];

/// Schemas that are ours alone: what the original leaves open, words, and envelopes.
const OUR_SCHEMAS: [&str; 16] = [
    "Action",
    "ConfigPayload",
    "ConfigResponse",
    "DeliveryStatus",
    "ErrorResponse",
    "Kind",
    "Mode",
    "OnBreach",
    "OnEmpty",
    "PolicyStatus",
    "RequestStatus",
    "RuleType",
    "SlaConfig",
    "Step",
    "TaskStatus",
    "WebhookConfig",
];

fn document() -> Value {
    serde_json::from_str(&countersign_workflow::document().to_json().unwrap()).unwrap()
}

/// The operations of the document, by method and path.
fn operations(document: &Value) -> BTreeMap<String, &Value> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            let path = path.strip_prefix("/v1/awe").unwrap();
            let methods = item.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (format!("{} {path}", method.to_uppercase()), operation))
        })
        .collect()
}

fn names<'a>(values: impl IntoIterator<Item = &'a Value>) -> BTreeSet<String> {
    values.into_iter().map(|value| value.as_str().unwrap().to_owned()).collect()
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// The parameters of an operation in one place.
fn parameters(operation: &Value, places: &[&str]) -> BTreeSet<String> {
    let all = operation["parameters"].as_array().into_iter().flatten();
    names(all.filter(|one| places.contains(&one["in"].as_str().unwrap())).map(|one| &one["name"]))
}

/// What a body or an answer is, by the name of its schema.
fn shape(content: &Value) -> String {
    let name = |schema: &Value| schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()).map(str::to_owned);
    let schema = &content["content"]["application/json"]["schema"];
    name(schema).or_else(|| name(&schema["items"]).map(|name| format!("[{name}]"))).unwrap_or_default()
}

/// The names that a function reads from a body or a query.
fn read_by(source: &str, function: &str) -> BTreeSet<String> {
    let (before, body) = source.split_once(function).unwrap();
    let is_method = before.lines().next_back().unwrap().starts_with(' ');
    let body = body.split(if is_method { "\n    }\n" } else { "\n}\n" }).next().unwrap();
    let mut read = BTreeSet::new();
    for (place, _) in body.match_indices('"') {
        let before = body[..place].trim_end();
        let calls =
            ["required(", "optional(", "given(", "objects(", "filter(&mut form,", "flag(&mut form,", "flag(form,"];
        if calls.iter().any(|call| before.ends_with(call)) {
            read.insert(body[place + 1..].split('"').next().unwrap().to_owned());
        }
    }
    read
}

#[test]
fn every_route_is_documented_and_nothing_else_is() {
    let mut routes = BTreeSet::new();
    for route in ROUTES.split(".route(").skip(1) {
        let path = route.split('"').nth(1).unwrap();
        for method in ["get", "put", "post", "patch", "delete"] {
            if route.lines().next().unwrap().contains(&format!("{method}(")) {
                routes.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    let document = document();
    assert_eq!(operations(&document).into_keys().collect::<BTreeSet<_>>(), routes);
}

#[test]
fn what_is_read_is_what_is_documented() {
    let document = document();
    let operations = operations(&document);
    for (source, function, documented) in READERS {
        let schema = &document["components"]["schemas"][documented];
        let written = match schema.as_object() {
            Some(_) => schema["properties"].as_object().unwrap().keys().cloned().collect(),
            None => {
                let mut operations = operations.values();
                parameters(operations.find(|operation| operation["operationId"] == documented).unwrap(), &["query"])
            }
        };
        assert_eq!(read_by(source, function), written, "{documented}");
    }
}

#[test]
fn no_reader_is_forgotten() {
    let document = document();
    let known: BTreeSet<_> = READERS.into_iter().map(|(_, _, documented)| documented.to_owned()).collect();
    for (name, operation) in operations(&document) {
        let body = shape(&operation["requestBody"]);
        assert!(body.is_empty() || known.contains(&body), "{name}");
        let id = operation["operationId"].as_str().unwrap();
        assert!(parameters(operation, &["query"]).is_empty() || known.contains(id), "{name}");
    }
}

#[test]
fn every_documented_operation_is_there_and_takes_and_answers_the_same() {
    let document = document();
    let operations = operations(&document);
    assert_eq!(operations.len(), OPERATIONS.len());
    for (name, takes, body, answer) in OPERATIONS {
        let operation = operations[name];
        let mut parameters = parameters(operation, &["query", "header"]);
        for (of, ours) in OUR_PARAMETERS {
            assert!(of != name || parameters.remove(ours), "{name}");
        }
        assert_eq!(parameters, words(takes), "{name}");
        assert_eq!(shape(&operation["requestBody"]), body, "{name}");
        assert_eq!(operation["requestBody"]["required"] == true, !body.is_empty(), "{name}");
        let (status, answer) = answer.split_once(' ').unwrap_or((answer, ""));
        assert_eq!(shape(&operation["responses"][status]), answer, "{name}");
        // All else that is answered is a refusal.
        let answers = operation["responses"].as_object().unwrap();
        assert!(answers.keys().all(|answered| answered == status || answered.as_str() >= "400"), "{name}");
    }
}

#[test]
fn what_stands_in_a_path_is_documented_with_it() {
    let document = document();
    for (name, operation) in operations(&document) {
        let variables = name.split('{').skip(1).map(|rest| rest.split('}').next().unwrap().to_owned());
        assert_eq!(parameters(operation, &["path"]), variables.collect(), "{name}");
    }
}

#[test]
fn every_documented_schema_is_there_with_its_fields() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut expected: BTreeSet<_> = OUR_SCHEMAS.into_iter().collect();
    for (name, fields) in SCHEMAS.into_iter().chain(MORE_SCHEMAS) {
        assert!(expected.insert(name), "{name}");
        let schema = &schemas[name];
        let all: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(all, words(&fields.replace('*', "")), "{name}");
        let needed = names(schema["required"].as_array().into_iter().flatten());
        // A field that is answered is always there.
        let is_sent = ["In", "Create", "CancelRequest", "SimulateRequest"].iter().any(|end| name.ends_with(end));
        let stars = words(fields).iter().filter_map(|field| field.strip_prefix('*')).map(str::to_owned).collect();
        assert_eq!(needed, if is_sent { stars } else { all }, "{name}");
    }
    assert_eq!(schemas.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected);
}

#[test]
fn the_words_are_those_of_the_rules() {
    let document = document();
    type IsKnown = fn(&str) -> bool;
    let known: [(&str, IsKnown); 6] = [
        ("Action", |word| Action::named(word).is_some()),
        ("Kind", |word| Kind::named(word).is_some()),
        ("Mode", |word| Mode::named(word).is_some()),
        ("OnBreach", |word| OnBreach::named(word).is_some()),
        ("OnEmpty", |word| OnEmpty::named(word).is_some()),
        ("RuleType", |word| RuleType::named(word).is_some()),
    ];
    for (name, is_known) in known {
        let words = names(document["components"]["schemas"][name]["enum"].as_array().unwrap());
        assert!(words.iter().all(|word| is_known(word)), "{name}: {words:?}");
    }
}

#[test]
fn whoever_needs_a_token_is_told_so() {
    let document = document();
    for (name, operation) in operations(&document) {
        let is_open = ["GET /health", "GET /version", "GET /config"].contains(&name.as_str());
        assert_eq!(operation["security"].is_null(), is_open, "{name}");
        assert_eq!(operation["responses"]["401"].is_null(), is_open, "{name}");
    }
    assert_eq!(document["components"]["securitySchemes"]["HTTPBearer"]["scheme"], "bearer");
}

#[test]
fn it_is_openapi_3_1_with_the_callback_and_names_that_stay() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let callback = &document["webhooks"]["approval-event"]["post"];
    assert_eq!(shape(&callback["requestBody"]), "WebhookEvent");
    let headers = words("X-Approval-Event-Id X-Approval-Timestamp X-Approval-Signature");
    assert_eq!(parameters(callback, &["header"]), headers);
    let ids: BTreeSet<_> = operations(&document).values().map(|one| one["operationId"].to_string()).collect();
    assert_eq!(ids.len(), OPERATIONS.len());
    let tags = names(document["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]));
    assert_eq!(tags, words("policies requests tasks delegations webhooks admin health"));
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| walk(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| walk(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    walk(&document, &mut found);
    for reference in found {
        assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
    }
}
