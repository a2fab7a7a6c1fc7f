//! The wall between tenants, on every route of every door: another tenant's id is answered exactly like one that never
//! existed.

use crate::actions::eventually;
use crate::server::{Answer, Server, send};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The sources that the doors' routes are read from, so that none can be forgotten, and what these stand under.
const DOORS: [(&str, &str); 6] = [
    ("", include_str!("../../functions/actions/src/lib.rs")),
    ("", include_str!("../../functions/approvals/src/lib.rs")),
    ("", include_str!("../../functions/cases/src/lib.rs")),
    ("", include_str!("../../functions/overrides/src/lib.rs")),
    ("", include_str!("../../functions/webhooks/src/lib.rs")),
    ("/v1/awe", include_str!("../../functions/workflow/src/lib.rs")),
];

const OWNER: &str = "1";
const STRANGER: &str = "2";
const CUSTOMER: &str = "550e8400-e29b-41d4-a716-446655440000";
const OTHER_CUSTOMER: &str = "660e8400-e29b-41d4-a716-446655440000";

/// The paths of a door, as its router has them.
fn routes((base, source): (&'static str, &'static str)) -> impl Iterator<Item = String> {
    let paths = source.split("route(").skip(1).filter_map(|rest| rest.split('"').nth(1));
    paths.map(move |path| format!("{base}{path}"))
}

/// How a route is asked for one id.
struct Ask {
    route: &'static str,
    method: Method,
    /// The path with `ID` where the id stands.
    path: &'static str,
    body: Option<Value>,
    owned: Owned,
}

/// What an id is of, and who asks for it.
#[derive(Clone, Copy, PartialEq)]
enum Owned {
    Token,
    Remediation,
    Action,
    ApprovalRequest,
    Case,
    Endpoint,
    Delivery,
    Policy,
    Request,
    Task,
    Delegation,
    Callback,
}

impl Owned {
    /// An id of this form that is nobody's.
    fn absent(self) -> &'static str {
        match self {
            Self::Token | Self::Case => "f4a5b6c7-d8e9-0123-f012-456789012cde",
            Self::Remediation => "01HX9VTPQR3KF8MZWBYD5N6JCE",
            Self::Action => "12345",
            Self::ApprovalRequest => "appr_12345",
            Self::Endpoint => "ep_01HX9VTPQR3KF8MZWBYD5N6JCE",
            Self::Delivery => "dlv_00112233445566778899aabbccddeeff",
            Self::Callback => "00112233-4455-6677-8899-aabbccddeeff",
            Self::Policy => "nobodys",
            Self::Request | Self::Task | Self::Delegation => "f4a5b6c7-d8e9-8123-b012-456789000000",
        }
    }
}

fn asks() -> Vec<Ask> {
    let ask = |route, method, path, body, owned| Ask { route, method, path, body, owned };
    let (get, post) = (Method::GET, Method::POST);
    let decide = json!({ "override_jti": "ID", "customer_id": OTHER_CUSTOMER, "decision": "approve" });
    let token = "/tokens/ID?customer_id=660e8400-e29b-41d4-a716-446655440000";
    let respond = Some(json!({ "decision": "approve" }));
    let verdict = Some(json!({ "outcome": "SAFE" }));
    let report = Some(json!({ "status": "running" }));
    let window = Some(json!({ "since": "2026-11-20T00:00:00Z", "until": "2026-11-22T00:00:00Z" }));
    let (put, patch, delete) = (Method::PUT, Method::PATCH, Method::DELETE);
    let endpoint = "/webhooks/endpoints/{id}";
    let edit = Some(json!({ "url": "https://10.0.0.1/" }));
    let policy = Some(json!({ "policy_key": "ID", "name": "n", "artifact_type": "t" }));
    let (version, decision) = ("/v1/awe/policies/{policy_key}/versions/{version}", json!({ "action": "approve" }));
    use Owned::{Action, ApprovalRequest, Callback, Case, Delegation, Delivery, Endpoint, Policy, Remediation};
    use Owned::{Request, Task, Token};
    let of_version = |method: &Method, end: &'static str, body| {
        let (route, path) = match end {
            "activate" => ("/v1/awe/policies/{}/versions/{}/activate", "/v1/awe/policies/ID/versions/1/activate"),
            "deactivate" => ("/v1/awe/policies/{}/versions/{}/deactivate", "/v1/awe/policies/ID/versions/1/deactivate"),
            "simulate" => ("/v1/awe/policies/{}/versions/{}/simulate", "/v1/awe/policies/ID/versions/1/simulate"),
            _ => (version, "/v1/awe/policies/ID/versions/1"),
        };
        ask(route, method.clone(), path, body, Policy)
    };
    vec![
        ask("/v1/awe/policies/{}", put.clone(), "/v1/awe/policies/ID", policy.clone(), Policy),
        ask("/v1/awe/policies/{}/versions", get.clone(), "/v1/awe/policies/ID/versions", None, Policy),
        of_version(&get, "", None),
        of_version(&patch, "", policy),
        of_version(&post, "activate", None),
        of_version(&post, "deactivate", None),
        of_version(&post, "simulate", Some(json!({}))),
        ask("/v1/awe/requests/{}", get.clone(), "/v1/awe/requests/ID", None, Request),
        ask("/v1/awe/requests/{}/events", get.clone(), "/v1/awe/requests/ID/events", None, Request),
        ask("/v1/awe/requests/{}/cancel", post.clone(), "/v1/awe/requests/ID/cancel", Some(json!({})), Request),
        ask("/v1/awe/tasks/{}/claim", post.clone(), "/v1/awe/tasks/ID/claim", None, Task),
        ask("/v1/awe/tasks/{}/decision", post.clone(), "/v1/awe/tasks/ID/decision", Some(decision), Task),
        ask(
            "/v1/awe/tasks/{}/reassign",
            post.clone(),
            "/v1/awe/tasks/ID/reassign",
            Some(json!({ "new_assignee": "43" })),
            Task,
        ),
        ask("/v1/awe/delegations/{}", delete.clone(), "/v1/awe/delegations/ID", None, Delegation),
        ask("/v1/awe/admin/deliveries/{}/retry", post.clone(), "/v1/awe/admin/deliveries/ID/retry", None, Callback),
        ask(endpoint, get.clone(), "/webhooks/endpoints/ID", None, Endpoint),
        ask(endpoint, patch, "/webhooks/endpoints/ID", edit.clone(), Endpoint),
        ask(endpoint, delete.clone(), "/webhooks/endpoints/ID", None, Endpoint),
        ask(
            "/webhooks/endpoints/{id}/rotate-secret",
            post.clone(),
            "/webhooks/endpoints/ID/rotate-secret",
            None,
            Endpoint,
        ),
        ask("/webhooks/endpoints/{id}/test", post.clone(), "/webhooks/endpoints/ID/test", None, Endpoint),
        ask("/webhooks/endpoints/{id}/replay", post.clone(), "/webhooks/endpoints/ID/replay", window, Endpoint),
        ask("/webhooks/deliveries/{id}", get.clone(), "/webhooks/deliveries/ID", None, Delivery),
        ask("/webhooks/deliveries/{id}/retry", post.clone(), "/webhooks/deliveries/ID/retry", None, Delivery),
        ask("/api/webhooks/{id}", put, "/api/webhooks/ID", edit, Endpoint),
        ask("/api/webhooks/{id}", delete, "/api/webhooks/ID", None, Endpoint),
        ask("/api/webhooks/{id}/test", post.clone(), "/api/webhooks/ID/test", None, Endpoint),
        ask("/overrides/{event_id}/decide", post.clone(), "/overrides/evt-1/decide", Some(decide), Token),
        ask("/tokens/{jti}", get.clone(), token, None, Token),
        ask("/tokens/{jti}", Method::DELETE, token, None, Token),
        ask(
            "/v1/notifications/approvals/{approvalId}/respond",
            post.clone(),
            "/v1/notifications/approvals/apr_ID/respond",
            respond,
            Remediation,
        ),
        ask("/v1/remediation/{id}", get.clone(), "/v1/remediation/rem_ID", None, Remediation),
        ask("/v1/remediation/{id}/approve", post.clone(), "/v1/remediation/rem_ID/approve", None, Remediation),
        ask("/v1/remediation/{id}/reject", post.clone(), "/v1/remediation/rem_ID/reject", None, Remediation),
        ask(
            "/v1/remediation/{id}/steps/{stepId}",
            post.clone(),
            "/v1/remediation/rem_ID/steps/step_1",
            report,
            Remediation,
        ),
        ask("/api/v1/actions/{id}", get.clone(), "/api/v1/actions/ID", None, Action),
        ask("/api/v1/actions/{id}/status", get.clone(), "/api/v1/actions/ID/status", None, Action),
        ask("/api/v1/actions/{id}/approve", post.clone(), "/api/v1/actions/ID/approve", None, Action),
        ask("/api/v1/actions/{id}/reject", post.clone(), "/api/v1/actions/ID/reject", None, Action),
        ask("/api/v1/actions/{id}/cancel", post.clone(), "/api/v1/actions/ID/cancel", None, Action),
        ask("/api/agent-action/{id}/complete", post.clone(), "/api/agent-action/ID/complete", None, Action),
        ask("/api/agent-action/{id}/fail", post.clone(), "/api/agent-action/ID/fail", None, Action),
        ask("/api/sdk/approval/{id}", get.clone(), "/api/sdk/approval/ID", None, ApprovalRequest),
        ask("/api/v1/external/cases/{case_id}", get, "/api/v1/external/cases/ID", None, Case),
        ask("/api/v1/external/cases/{case_id}/verdict", post, "/api/v1/external/cases/ID/verdict", verdict, Case),
    ]
}

/// A route with the names of its variables left out: doors may call them as they like.
fn shape(route: &str) -> String {
    route.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect::<Vec<_>>().join("/")
}

/// Routes that are the operator's, who acts for all tenants: they name a customer in their path instead.
const OF_THE_OPERATOR: [&str; 2] = ["/keys/{id}/rotate", "/keys/public/{customer_id}"];

struct Tenants {
    server: Server,
    /// The owner's ids.
    jti: String,
    remediation: String,
    incident: String,
    action: String,
    case: String,
    endpoint: String,
    delivery: String,
    workflow: Workflow,
    /// The stranger's credentials.
    token: String,
    key: String,
}

/// The policy that the owner has.
const POLICY: &str = "owned-policy";

/// What the owner has at the workflow door, beside its policy.
struct Workflow {
    request: String,
    task: String,
    delegation: String,
    callback: String,
}

impl Workflow {
    async fn new(server: &Server, token: &str) -> Self {
        let post = async |path: &str, body: Value| {
            let request = server.public(Method::POST, &format!("/v1/awe{path}")).bearer_auth(token);
            let answer = send(request.json(&body)).await;
            assert!([200, 201].contains(&answer.status), "{answer:?}");
            answer.json()
        };
        let stage = json!({
            "name": "s", "stage_order": 1, "rules": [{ "rule_type": "user", "rule_value": { "user_id": "42" } }],
        });
        let policy = json!({ "policy_key": POLICY, "name": "n", "artifact_type": "t", "stages": [stage] });
        post("/policies", policy).await;
        post(&format!("/policies/{POLICY}/versions/1/activate"), json!({})).await;
        let request = json!({
            "policy_key": POLICY, "artifact_type": "t", "artifact_id": "owned-artifact",
            "callback_url": "http://127.0.0.1:9/",
        });
        let request = post("/requests", request).await;
        let window = json!({
            "user_id": "owned-user", "delegate_to": "42", "starts_at": "2026-01-01T00:00:00Z",
            "ends_at": "2027-01-01T00:00:00Z",
        });
        let delegation = post("/delegations", window).await;
        let mut callbacks = Value::Null;
        eventually(2, async || {
            let listed = server.public(Method::GET, "/v1/awe/admin/deliveries").bearer_auth(token);
            callbacks = send(listed).await.json();
            callbacks.as_array().unwrap().len()
        })
        .await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self {
            request: text(&request["request_id"]),
            task: text(&request["tasks"][0]["id"]),
            delegation: text(&delegation["id"]),
            callback: text(&callbacks[0]["id"]),
        }
    }
}

/// The one delivery that the owner has, as soon as it is there.
async fn delivery(server: &Server, token: &str) -> String {
    let mut deliveries = Vec::new();
    eventually(1, async || {
        let listed = send(server.public(Method::GET, "/webhooks/deliveries").bearer_auth(token)).await;
        deliveries.clone_from(listed.json()["items"].as_array().unwrap());
        deliveries.len()
    })
    .await;
    deliveries[0]["id"].as_str().unwrap().to_owned()
}

impl Tenants {
    async fn new() -> Self {
        let server = Server::start().await;
        let token = server.token(OWNER, "42", &["admin", "AWE_ADMIN"]);
        let scopes = ["actions:submit", "actions:read", "cases:read", "cases:write"];
        let key = server.key(OWNER, &scopes).await;
        let minted = server.post("/tokens/override", &json!({ "customer_id": CUSTOMER, "event_id": "evt-1" })).await;
        let proposal = json!({ "incidentTitle": "i", "title": "t", "steps": [{ "description": "d" }] });
        let proposed = send(server.public(Method::POST, "/v1/remediation").bearer_auth(&token).json(&proposal)).await;
        let hook = json!({ "url": "http://127.0.0.1:9/", "events": ["action.pending"] });
        let hooked = send(server.public(Method::POST, "/webhooks/endpoints").bearer_auth(&token).json(&hook)).await;
        let action = json!({ "agent_id": "owned-agent", "action_type": "transaction" });
        let submit = server.public(Method::POST, "/api/v1/actions/submit").header("X-API-Key", &key);
        let submitted = send(submit.json(&action)).await;
        let create = server.public(Method::POST, "/api/v1/external/cases").header("X-API-Key", &key);
        let created = send(create.json(&json!({ "title": "t", "severity": "low" }))).await;
        let text = |answer: &Answer, name: &str| answer.json()[name].as_str().unwrap().to_owned();
        Self {
            jti: text(&minted, "jti"),
            remediation: text(&proposed, "remediationId").strip_prefix("rem_").unwrap().to_owned(),
            incident: text(&proposed, "incidentId"),
            action: submitted.json()["action_id"].to_string(),
            case: text(&created, "case_id"),
            endpoint: text(&hooked, "id"),
            delivery: delivery(&server, &token).await,
            workflow: Workflow::new(&server, &token).await,
            token: server.token(STRANGER, "43", &["admin", "AWE_ADMIN"]),
            key: server.key(STRANGER, &scopes).await,
            server,
        }
    }

    fn owned(&self, owned: Owned) -> String {
        match owned {
            Owned::Token => self.jti.clone(),
            Owned::Remediation => self.remediation.clone(),
            Owned::Action => self.action.clone(),
            Owned::ApprovalRequest => format!("appr_{}", self.action),
            Owned::Case => self.case.clone(),
            Owned::Endpoint => self.endpoint.clone(),
            Owned::Delivery => self.delivery.clone(),
            Owned::Policy => POLICY.to_owned(),
            Owned::Request => self.workflow.request.clone(),
            Owned::Task => self.workflow.task.clone(),
            Owned::Delegation => self.workflow.delegation.clone(),
            Owned::Callback => self.workflow.callback.clone(),
        }
    }

    /// A request of the stranger.
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        if path.starts_with("/overrides") || path.starts_with("/tokens") {
            self.server.request(method, path)
        } else if path.starts_with("/api/v1/external") {
            self.server.public(method, path).header("X-API-Key", &self.key)
        } else {
            self.server.public(method, path).bearer_auth(&self.token)
        }
    }

    /// Everything of an answer but what is different each time.
    async fn ask(&self, request: RequestBuilder) -> (u16, String, String) {
        let answer = send(request).await;
        let headers = answer.headers.iter().filter(|(name, _)| !["x-request-id", "date"].contains(&name.as_str()));
        (answer.status, format!("{:?}", headers.collect::<Vec<_>>()), answer.text)
    }

    async fn get(&self, path: &str) -> (u16, String, String) {
        self.ask(self.request(Method::GET, path)).await
    }
}

#[test]
fn every_route_that_names_a_record_is_walked() {
    let walked: BTreeSet<_> = asks().iter().map(|ask| shape(ask.route)).collect();
    let operators: BTreeSet<_> = OF_THE_OPERATOR.into_iter().map(shape).collect();
    let all = DOORS.into_iter().flat_map(routes).filter(|route| route.contains('{'));
    let all: BTreeSet<_> = all.map(|route| shape(&route)).collect();
    assert_eq!(all.difference(&operators).cloned().collect::<BTreeSet<_>>(), walked);
}

#[tokio::test]
async fn another_tenants_id_is_answered_like_one_that_never_existed() {
    let tenants = Tenants::new().await;
    for Ask { method, path, body, owned, .. } in asks() {
        let ask = async |id: &str| {
            let request = tenants.request(method.clone(), &path.replace("ID", id));
            let body = body.as_ref().map(|body| body.to_string().replace("ID", id));
            let request = request.header("Content-Type", "application/json");
            tenants.ask(request.body(body.unwrap_or_default())).await
        };
        let foreign = ask(&tenants.owned(owned)).await;
        assert_eq!(foreign.0, 404, "{method} {path}: {foreign:?}");
        assert_eq!(foreign, ask(owned.absent()).await, "{method} {path}");
    }
    // Nothing came of it: whoever owns them still can.
    let token = tenants.server.token(OWNER, "42", &["admin"]);
    let approve = format!("/api/v1/actions/{}/approve", tenants.action);
    assert_eq!(send(tenants.server.public(Method::POST, &approve).bearer_auth(&token)).await.status, 200);
    let approve = format!("/v1/remediation/rem_{}/approve", tenants.remediation);
    assert_eq!(send(tenants.server.public(Method::POST, &approve).bearer_auth(&token)).await.status, 200);
    let decide = format!("/v1/awe/tasks/{}/decision", tenants.workflow.task);
    let decide = tenants.server.public(Method::POST, &decide).bearer_auth(&token);
    assert_eq!(send(decide.json(&json!({ "action": "approve" }))).await.status, 201);
}

#[tokio::test]
async fn a_filter_by_what_is_another_tenants_finds_what_a_filter_by_nothing_finds() {
    let tenants = Tenants::new().await;
    let Tenants { incident, action, .. } = &tenants;
    for (foreign, absent) in [
        (format!("/v1/audit?incidentId={incident}"), "/v1/audit?incidentId=inc_nobodys".to_owned()),
        ("/api/agent-activity?agent_id=owned-agent".to_owned(), "/api/agent-activity?agent_id=nobodys".to_owned()),
        (format!("/api/admin/audit-logs?action_id={action}"), "/api/admin/audit-logs?action_id=12345".to_owned()),
        (
            format!("/webhooks/deliveries?endpoint={}", tenants.endpoint),
            format!("/webhooks/deliveries?endpoint={}", Owned::Endpoint.absent()),
        ),
        (
            format!("/v1/awe/tasks?assignee=*&request_id={}", tenants.workflow.request),
            format!("/v1/awe/tasks?assignee=*&request_id={}", Owned::Request.absent()),
        ),
        ("/v1/awe/tasks?assignee=42".to_owned(), "/v1/awe/tasks?assignee=99".to_owned()),
        ("/v1/awe/requests?artifact_id=owned-artifact".to_owned(), "/v1/awe/requests?artifact_id=nobodys".to_owned()),
        ("/v1/awe/delegations?user_id=owned-user".to_owned(), "/v1/awe/delegations?user_id=nobodys".to_owned()),
        (
            format!("/v1/awe/admin/deliveries?request_id={}", tenants.workflow.request),
            format!("/v1/awe/admin/deliveries?request_id={}", Owned::Request.absent()),
        ),
        (
            format!("/v1/awe/admin/audit?resource_id={POLICY}:v1"),
            "/v1/awe/admin/audit?resource_id=nobodys:v1".to_owned(),
        ),
        ("/api/admin/audit-logs?user_id=42".to_owned(), "/api/admin/audit-logs?user_id=99".to_owned()),
    ] {
        let found = tenants.get(&foreign).await;
        assert_eq!(found.0, 200, "{foreign}");
        assert_eq!(found, tenants.get(&absent).await, "{foreign}");
    }
    for list in [
        "/v1/remediation",
        "/v1/remediation?status=proposed",
        "/v1/notifications/approvals/pending",
        "/v1/audit",
        "/v1/audit/verify",
        "/api/v1/actions",
        "/api/v1/actions?status_filter=pending",
        "/api/admin/audit-logs",
        "/api/admin/audit-logs/export?format=ndjson",
        "/api/admin/audit-logs/verify",
        "/audit/logs",
        "/api/v1/external/cases",
        "/api/v1/external/cases?state=discover",
        "/api/v1/external/cases/feed",
        "/webhooks/endpoints",
        "/webhooks/deliveries",
        "/webhooks/deliveries?status=pending",
        "/api/webhooks",
        "/v1/awe/policies",
        "/v1/awe/requests",
        "/v1/awe/requests?status=in_review",
        "/v1/awe/tasks?assignee=*",
        "/v1/awe/tasks?assignee=*&status=open",
        "/v1/awe/delegations",
        "/v1/awe/admin/deliveries",
        "/v1/awe/admin/audit",
    ] {
        let (status, _, text) = tenants.get(list).await;
        assert_eq!(status, 200, "{list}");
        let Tenants { remediation, case, endpoint, delivery, .. } = &tenants;
        let Workflow { request, task, delegation, callback } = &tenants.workflow;
        let policy = &POLICY.to_owned();
        let of_workflow = [request, task, delegation, callback, policy];
        for owned in [remediation, incident, action, case, endpoint, delivery].into_iter().chain(of_workflow) {
            assert!(!text.contains(owned.as_str()), "{list}: {text}");
        }
        assert!(!text.contains("\"entries\":1"), "{list}: {text}");
    }
    let ids = |id: &str| json!({ "action_ids": [id.parse::<u64>().unwrap()] });
    let bulk = async |id: &str| {
        let request = tenants.request(Method::POST, "/api/v1/actions/bulk-approve").json(&ids(id));
        let (status, _, text) = tenants.ask(request).await;
        (status, text.replace(id, "ID"))
    };
    assert_eq!(bulk(action).await, bulk(Owned::Action.absent()).await);
}

#[tokio::test]
async fn a_cursor_or_an_idempotency_key_of_another_tenant_is_worth_nothing() {
    let tenants = Tenants::new().await;
    let owner = tenants.server.token(OWNER, "42", &["admin"]);
    let proposal = json!({ "incidentTitle": "i", "title": "t", "steps": [{ "description": "d" }] });
    let propose = |token: &str| {
        let request = tenants.server.public(Method::POST, "/v1/remediation").bearer_auth(token);
        send(request.header("Idempotency-Key", "the-same").json(&proposal))
    };
    let owners = propose(&owner).await;
    let strangers = propose(&tenants.token).await;
    assert_eq!((owners.status, strangers.status), (201, 201));
    assert_eq!(strangers.header("idempotency-replayed"), None);
    assert_ne!(owners.json()["remediationId"], strangers.json()["remediationId"]);
    propose(&owner).await;

    for list in ["/v1/remediation", "/v1/notifications/approvals/pending", "/v1/audit"] {
        let first = send(tenants.server.public(Method::GET, &format!("{list}?limit=1")).bearer_auth(&owner)).await;
        let cursor = first.json()["cursor"].as_str().unwrap_or_else(|| panic!("{list}: {first:?}")).to_owned();
        let foreign = tenants.get(&format!("{list}?limit=1&cursor={cursor}")).await;
        assert_eq!(foreign.0, 400, "{list}");
        assert_eq!(foreign, tenants.get(&format!("{list}?limit=1&cursor=forged")).await, "{list}");
    }
}
