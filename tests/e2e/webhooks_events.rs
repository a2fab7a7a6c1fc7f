//! What receivers hear: the events of every door, each in its envelope, signed, and with nothing in it that opens
//! anything.

use crate::actions::Organization;
use crate::approvals::{proposal, respond_path, ulid};
use crate::cases::Tool;
use crate::receiver::{Received, Receiver};
use crate::server::{CUSTOMER, EVENT, Server};
use crate::webhooks::{ENDPOINTS, TENANT};
use serde_json::{Value, json};

/// The fields of a body.
fn fields(body: &Value) -> Vec<&str> {
    body.as_object().unwrap().keys().map(String::as_str).collect()
}

fn names(received: &[Received]) -> Vec<String> {
    let mut names: Vec<_> = received.iter().map(Received::event).collect();
    names.sort();
    names
}

fn one<'a>(received: &'a [Received], name: &str) -> &'a Received {
    received.iter().find(|one| one.event() == name).unwrap()
}

#[tokio::test]
async fn an_override_is_told_without_what_would_decide_it() {
    let server = Server::start().await;
    let receiver = Receiver::start().await;
    let endpoint = json!({ "tenant": CUSTOMER, "url": receiver.url, "events": ["*"] });
    let secret = server.post(ENDPOINTS, &endpoint).await.json()["secret"].as_str().unwrap().to_owned();
    let key = crate::receiver::key_of(&secret);
    let mint = json!({ "customer_id": CUSTOMER, "event_id": EVENT });
    let minted = server.post("/tokens/override", &mint).await.json();
    let jti = minted["jti"].as_str().unwrap();
    let decided = server.decide(jti, "approve").await.json();
    let other = server.mint(json!({})).await;
    assert_eq!(server.delete(&format!("/tokens/{other}?customer_id={CUSTOMER}")).await.status, 204);
    let received = receiver.after(4).await;
    let told = ["override.created", "override.created", "override.decided", "override.revoked"];
    assert_eq!(names(&received), told);
    for received in &received {
        assert!(received.is_signed_by(&key) && received.is_approved_by(&key) && received.signatures() == 1);
        let body = received.json();
        let expected = ["actor", "data", "event_id", "event_type", "occurred_at", "subject", "tenant"];
        assert_eq!((fields(&body), &body["tenant"]), (expected.to_vec(), &json!(CUSTOMER)));
        assert_eq!(body["event_id"], received.header("webhook-id"));
        for unwanted in [&minted["token"], &decided["cosignature"], &json!(secret)] {
            assert!(!received.body.contains(unwanted.as_str().unwrap()), "{received:?}");
        }
    }
    let body = &one(&received, "override.decided").body;
    assert!(body.starts_with(r#"{"event_id":"#) && body.contains(r#""occurred_at":"2026-11-21T12:00:00Z""#), "{body}");
}

#[tokio::test]
async fn a_remediation_is_told_in_the_envelope_of_the_approvals() {
    let server = Server::start().await;
    let (admin, receiver) = (server.manager(), Receiver::start().await);
    let (_, key) = admin.endpoint(&receiver.url).await;
    let proposed = admin.post("/v1/remediation", &proposal(json!({}))).await;
    let id = ulid(&proposed.json());
    assert_eq!(admin.post(&respond_path(&id), &json!({ "decision": "approve" })).await.status, 200);
    for step in ["step_1", "step_2"] {
        let report = json!({ "status": "completed" });
        assert_eq!(admin.post(&format!("/v1/remediation/rem_{id}/steps/{step}"), &report).await.status, 200);
    }
    let received = receiver.after(3).await;
    assert_eq!(names(&received), ["remediation.approved", "remediation.executed", "remediation.proposed"]);
    for received in &received {
        assert!(received.is_signed_by(&key));
        let body = received.json();
        assert_eq!(fields(&body), ["data", "event", "tenantId", "timestamp"]);
        assert_eq!(body["tenantId"], TENANT);
        assert!(!received.body.contains(&admin.token));
    }
}

#[tokio::test]
async fn actions_and_cases_are_told_to_whom_they_concern() {
    let org = Organization::new().await;
    let admin = org.server.manager();
    let (receiver, denials) = (Receiver::start().await, Receiver::start().await);
    let (_, key) = admin.endpoint(&receiver.url).await;
    assert_eq!(admin.add(&denials.url, json!({ "events": ["action.denied", "case.resolved"] })).await.status, 201);
    let id = org.pending().await;
    assert_eq!(org.act(&org.admin, id, "approve").await.status, 200);
    assert_eq!(org.report(id, "complete", &json!({})).await.status, 200);
    let failing = org.submitted(json!({ "action_type": "query" })).await;
    assert_eq!(org.report(failing, "fail", &json!({})).await.status, 200);
    let denied = org.pending().await;
    assert_eq!(org.act(&org.admin, denied, "reject").await.status, 200);
    let tool = Tool::of(&org.server, TENANT).await;
    let case = tool.create(json!({})).await;
    assert_eq!(tool.verdict(&case, &json!({ "outcome": "SAFE" })).await.status, 200);
    let all = [
        "action.approved",
        "action.approved",
        "action.completed",
        "action.denied",
        "action.failed",
        "action.pending",
        "action.pending",
        "case.created",
        "case.resolved",
        "case.verdict_submitted",
    ];
    let received = receiver.after(all.len()).await;
    assert_eq!(names(&received), all);
    for received in &received {
        assert!(received.is_signed_by(&key));
        for unwanted in [&org.key, &org.admin, &tool.key, &admin.token] {
            assert!(!received.body.contains(unwanted.as_str()), "{received:?}");
        }
    }
    assert_eq!(names(&denials.after(2).await), ["action.denied", "case.resolved"]);
    let ids: std::collections::BTreeSet<_> = received.iter().map(|one| one.header("webhook-id")).collect();
    assert_eq!(ids.len(), all.len());
    // The same event has the same id wherever it goes.
    let denial = denials.all().into_iter().find(|one| one.event() == "action.denied").unwrap();
    assert_eq!(denial.body, one(&received, "action.denied").body);
}

#[tokio::test]
async fn a_refused_decision_is_told_to_nobody() {
    let org = Organization::new().await;
    let (admin, receiver) = (org.server.manager(), Receiver::start().await);
    let id = org.pending().await;
    assert_eq!(org.act(&org.admin, id, "approve").await.status, 200);
    org.server.all_told().await;
    admin.endpoint(&receiver.url).await;
    assert_eq!(org.act(&org.admin, id, "reject").await.status, 400);
    // What comes after it arrives, and nothing before.
    assert_eq!(org.report(id, "complete", &json!({})).await.status, 200);
    assert_eq!(names(&receiver.after(1).await), ["action.completed"]);
}
