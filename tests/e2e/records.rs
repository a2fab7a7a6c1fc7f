//! Stored items of released schemas, never edited: every later version must load them, decide on them and verify them.

use crate::server::{CUSTOMER, Server, send};
use reqwest::Method;
use serde_json::{Value, json};

/// A token for the documented event, minted at the moment at which the test's clock stands, for 24 hours.
const TOKEN: &str = include_str!("../records/override-v1.json");
const JTI: &str = "d8057d2d-ac69-4638-9a69-e5e584a5d503";
/// The same customer's key ring, its private key sealed with the test's root key.
const KEY_RING: &str = include_str!("../records/keyring-v1.json");

/// Records of tenant 1, all made at the moment at which the test's clock stands.
const REMEDIATION: &str = include_str!("../records/remediation-v1.json");
const APPROVAL: &str = "apr_01M7YZMHQTAPBZSZ5KBM138PQW";
const ACTION: &str = include_str!("../records/action-v1.json");
const ACTION_ID: u64 = 7_039_446_576_985_040;
/// Settings under which transfers are denied.
const ACTIONS_POLICY: &str = include_str!("../records/actionspolicy-v1.json");
/// A case that waits in the feed.
const CASE: &str = include_str!("../records/case-v1.json");
const CASE_ID: &str = "3c90c3cc-0d44-4b50-8888-8dd25736052a";
/// A key for every public door, which has been nobody's secret since it is written here.
const API_KEY: &str = include_str!("../records/apikey-v1.json");
const KEY: &str = "cs_live_2e67e178_8Pvys1QOMMtywpWiwCfY0l6b0xfjZVWTSfoMNE2xI34";

/// A server on a table that an earlier version has written.
async fn server() -> Server {
    let server = Server::start().await;
    for items in [TOKEN, KEY_RING, REMEDIATION, ACTION, ACTIONS_POLICY, CASE, API_KEY] {
        let items: Vec<Value> = serde_json::from_str(items).unwrap();
        server.table.put_items("countersign", &items).await.unwrap();
    }
    server
}

async fn verified(server: &Server) -> (u64, u64) {
    let verified = countersign::verify::tenant(&server.app.store, &CUSTOMER.parse().unwrap()).await.unwrap();
    assert_eq!(verified.broken, None);
    (verified.records, verified.entries)
}

#[tokio::test]
async fn a_stored_token_of_schema_1_is_decided_on_and_verifies() {
    let server = server().await;
    assert_eq!(verified(&server).await, (2, 2));
    assert_eq!(server.show(JTI).await["status"], "active");
    assert_eq!(server.decide(JTI, "approve").await.status, 200);
    assert_eq!(server.entries(JTI).await, ["override.created", "override.decided"]);
    assert_eq!(verified(&server).await, (2, 3));
}

#[tokio::test]
async fn a_stored_key_ring_of_schema_1_signs_rotates_and_verifies() {
    let server = server().await;
    let minted = server.post("/tokens/override", &json!({ "customer_id": CUSTOMER, "event_id": "evt-2" })).await;
    let token = minted.json()["token"].as_str().unwrap().strip_prefix("qt_override_").unwrap().to_owned();
    assert_eq!(jsonwebtoken::decode_header(&token).unwrap().kid, Some(format!("{CUSTOMER}.1")));
    let rotated = send(server.request(Method::POST, &format!("/keys/{CUSTOMER}.1/rotate"))).await;
    assert_eq!(rotated.json()["key_id"], format!("{CUSTOMER}.2"));
    assert_eq!(verified(&server).await, (3, 4));
}

async fn verified_tenant(server: &Server) -> (u64, u64) {
    let verified = countersign::verify::tenant(&server.app.store, &"1".parse().unwrap()).await.unwrap();
    assert_eq!(verified.broken, None);
    (verified.records, verified.entries)
}

#[tokio::test]
async fn a_stored_remediation_of_schema_1_is_answered_reported_on_and_verifies() {
    let server = server().await;
    assert_eq!(verified_tenant(&server).await, (5, 6));
    let admin = server.token("1", "42", &["admin"]);
    let post = async |path: &str, body: Value| {
        let answer = send(server.public(Method::POST, path).bearer_auth(&admin).json(&body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let respond = format!("/v1/notifications/approvals/{APPROVAL}/respond");
    assert_eq!(post(&respond, json!({ "decision": "approve" })).await["remediationStatus"], "executing");
    let step = format!("/v1/remediation/{}/steps/step_1", APPROVAL.replace("apr_", "rem_"));
    let reported = post(&step, json!({ "status": "completed", "output": "done" })).await;
    assert_eq!(reported["steps"][0]["description"], "Set it to 400");
    assert_eq!(verified_tenant(&server).await, (5, 8));
}

#[tokio::test]
async fn a_stored_action_of_schema_1_is_decided_on_under_stored_settings_and_verifies() {
    let server = server().await;
    let human = server.token("1", "7", &["security_manager"]);
    let approve = server.public(Method::POST, &format!("/api/v1/actions/{ACTION_ID}/approve")).bearer_auth(&human);
    assert_eq!(send(approve).await.json()["status"], "approved");
    let transfer = json!({ "agent_id": "bot", "action_type": "transfer" });
    let submit = server.public(Method::POST, "/api/v1/actions/submit").header("X-API-Key", KEY);
    assert_eq!(send(submit.json(&transfer)).await.json()["decision"], "denied");
    let details = server.public(Method::GET, &format!("/api/v1/actions/{ACTION_ID}")).header("X-API-Key", KEY);
    assert_eq!(send(details).await.json()["audit_trail"].as_array().unwrap().len(), 2);
    verified_tenant(&server).await;
}

#[tokio::test]
async fn a_stored_case_of_schema_1_is_handed_out_judged_and_verifies() {
    let server = server().await;
    let fed = send(server.public(Method::GET, "/api/v1/external/cases/feed").header("X-API-Key", KEY)).await.json();
    let case = &fed["cases"][0];
    assert_eq!((&case["case_id"], &case["metadata"]), (&json!(CASE_ID), &json!({ "user": "alice" })));
    let path = format!("/api/v1/external/cases/{CASE_ID}/verdict");
    let verdict = server.public(Method::POST, &path).header("X-API-Key", KEY).json(&json!({ "outcome": "SAFE" }));
    assert_eq!(send(verdict).await.json()["resolved"], true);
    assert_eq!(verified_tenant(&server).await, (5, 9));
}

#[tokio::test]
async fn a_stored_api_key_of_schema_1_opens_is_rotated_and_revoked() {
    let server = server().await;
    let listed = server.get("/api-keys?domain=1").await.json();
    let id = listed["items"][0]["id"].as_str().unwrap().to_owned();
    let rotate = format!("/api-keys/{id}/rotate");
    assert_eq!(server.post(&rotate, &json!({})).await.status, 201);
    assert_eq!(server.delete(&format!("/api-keys/{id}")).await.status, 204);
    let refused = send(server.public(Method::GET, "/api/v1/external/cases").header("X-API-Key", KEY)).await;
    assert_eq!(refused.status, 401);
    assert_eq!(verified_tenant(&server).await, (6, 9));
}

/// Endpoints, their secrets, deliveries to them, and what these deliver; `functions/delivery` goes on with them.
const OF_WEBHOOKS: [&str; 5] = [
    include_str!("../records/endpoints-v1.json"),
    include_str!("../records/secret-v1.json"),
    include_str!("../records/event-v1.json"),
    include_str!("../records/delivery-v1.json"),
    include_str!("../records/replay-v1.json"),
];

#[tokio::test]
async fn stored_endpoints_secrets_deliveries_and_replays_of_schema_1_verify_and_what_was_changed_is_found() {
    let server = Server::start().await;
    for (kind, from, to) in [
        ("endpoints#", "127.0.0.1:9/one", "127.0.0.1:9/six"),
        ("secret#", "callback", "callforth"),
        ("delivery#", "case.created", "case.resolved"),
        ("replay#", "running", "walking"),
    ] {
        for items in OF_WEBHOOKS {
            let items: Vec<Value> = serde_json::from_str(items).unwrap();
            server.table.put_items("countersign", &items).await.unwrap();
        }
        assert_eq!(verified_tenant(&server).await, (7, 17));
        assert!(server.table.tamper("countersign", kind, from, to).await > 0, "{kind}");
        let verified = countersign::verify::tenant(&server.app.store, &"1".parse().unwrap()).await.unwrap();
        assert!(verified.broken.unwrap().key.starts_with(kind));
    }
}

/// A policy of two stages, the delegation of whoever the second one asks, and a request that waits in the first.
const OF_WORKFLOWS: [&str; 3] = [
    include_str!("../records/policy-v1.json"),
    include_str!("../records/delegation-v1.json"),
    include_str!("../records/request-v1.json"),
];

#[tokio::test]
async fn a_stored_request_of_schema_1_goes_on_by_its_stored_policy_and_verifies() {
    let server = Server::start().await;
    for items in OF_WORKFLOWS {
        let items: Vec<Value> = serde_json::from_str(items).unwrap();
        server.table.put_items("countersign", &items).await.unwrap();
    }
    assert_eq!(verified_tenant(&server).await.0, 3);
    for (subject, delegated_from) in [("42", Value::Null), ("7", json!("99"))] {
        let person = server.person("1", subject, &[]);
        let tasks = person.get("/v1/awe/tasks?status=open").await.json();
        let [task] = &tasks.as_array().unwrap()[..] else { panic!("{subject}: {tasks}") };
        assert_eq!(task["delegated_from"], delegated_from);
        let path = format!("/v1/awe/tasks/{}/decision", task["id"].as_str().unwrap());
        let decided = person.post(&path, &json!({ "action": "approve" })).await;
        assert_eq!(decided.status, 201, "{decided:?}");
    }
    let shown = server.person("1", "42", &[]).get("/v1/awe/requests").await.json();
    assert_eq!((&shown[0]["status"], &shown[0]["context"]), (&json!("approved"), &json!({ "amount": 5 })));
    let admin = server.person("1", "42", &["AWE_ADMIN"]);
    let again = admin.post("/v1/awe/requests", &crate::workflow::request("release", json!({}))).await;
    assert_eq!(again.status, 201, "{again:?}");
    assert_eq!(verified_tenant(&server).await.0, 4);
    assert!(server.table.tamper("countersign", "request#", "cr-1", "cr-2").await > 0);
    let verified = countersign::verify::tenant(&server.app.store, &"1".parse().unwrap()).await.unwrap();
    assert!(verified.broken.unwrap().key.starts_with("request#"));
}
