//! `Idempotency-Key`: a repeated call is answered as the first one was, and acts no more.

use crate::server::{Answer, CUSTOMER, EVENT, OTHER_CUSTOMER, Server, decision_body, send};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

impl Server {
    async fn post_once(&self, path: &str, key: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).header("Idempotency-Key", key).json(body)).await
    }
}

fn replayed(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == Some("true")
}

#[tokio::test]
async fn a_repeated_mint_gives_the_same_token_whole() {
    let server = Server::start().await;
    let body = json!({ "customer_id": CUSTOMER, "event_id": EVENT, "ttl_minutes": 5 });
    let first = server.post_once("/tokens/override", "k", &body).await;
    assert_eq!((first.status, replayed(&first)), (201, false));
    server.clock.advance(Duration::from_secs(60));
    // The same JSON value in another spelling.
    let spelled = format!(r#"{{ "ttl_minutes": 5.0, "event_id": "{EVENT}", "customer_id": "{CUSTOMER}" }}"#);
    let again = server.request(Method::POST, "/tokens/override").header("Idempotency-Key", "k").body(spelled);
    let again = send(again).await;
    assert_eq!((again.status, replayed(&again)), (201, true));
    assert_eq!(again.text, first.text);
    let other = server.post("/tokens/override", &body).await;
    assert_ne!(other.json()["jti"], first.json()["jti"]);
}

#[tokio::test]
async fn a_repeated_decision_is_a_success_for_its_own_caller_only() {
    let server = Server::start().await;
    let jti = server.mint(json!({})).await;
    let path = format!("/overrides/{EVENT}/decide");
    let first = server.post_once(&path, "k", &decision_body(&jti, "approve")).await;
    assert_eq!(first.status, 200);
    let again = server.post_once(&path, "k", &decision_body(&jti, "approve")).await;
    assert_eq!((again.status, &again.text, replayed(&again)), (200, &first.text, true));
    let other = server.post_once(&path, "other", &decision_body(&jti, "approve")).await;
    assert_eq!(other.refusal(), (409, "token_already_used".to_owned()));
    assert_eq!(server.entries(&jti).await, ["override.created", "override.decided"]);
}

#[tokio::test]
async fn a_key_that_comes_with_another_body_is_refused() {
    let server = Server::start().await;
    let [jti, fresh] = [server.mint(json!({})).await, server.mint(json!({})).await];
    let path = format!("/overrides/{EVENT}/decide");
    assert_eq!(server.post_once(&path, "k", &decision_body(&jti, "approve")).await.status, 200);
    let mut foreign = decision_body(&jti, "approve");
    foreign["customer_id"] = OTHER_CUSTOMER.into();
    for body in [decision_body(&jti, "reject"), decision_body(&fresh, "approve"), foreign] {
        let refused = server.post_once(&path, "k", &body).await;
        assert_eq!(refused.refusal(), (422, "idempotency_key_reused".to_owned()), "{body}");
    }
    assert_eq!(server.show(&fresh).await["status"], "active");
    // Malformed is malformed first.
    assert_eq!(server.post_once(&path, "k", &json!({})).await.status, 400);
    // Another path is another call.
    let minted = json!({ "customer_id": CUSTOMER, "event_id": EVENT });
    assert_eq!(server.post_once("/tokens/override", "k", &minted).await.status, 201);
}

#[tokio::test]
async fn a_refusal_is_judged_afresh() {
    let server = Server::start().await;
    let jti = server.mint(json!({ "allowed_decisions": ["approve"] })).await;
    let path = format!("/overrides/{EVENT}/decide");
    assert_eq!(server.post_once(&path, "k", &decision_body(&jti, "reject")).await.status, 422);
    let accepted = server.post_once(&path, "k", &decision_body(&jti, "approve")).await;
    assert_eq!((accepted.status, replayed(&accepted)), (200, false));
}

#[tokio::test]
async fn an_answer_is_kept_for_a_day() {
    let server = Server::start().await;
    let body = json!({ "customer_id": CUSTOMER, "event_id": EVENT });
    let first = server.post_once("/tokens/override", "k", &body).await;
    server.clock.advance(Duration::from_secs(24 * 3600 - 1));
    assert_eq!(server.post_once("/tokens/override", "k", &body).await.text, first.text);
    server.clock.advance(Duration::from_secs(1));
    let fresh = server.post_once("/tokens/override", "k", &body).await;
    assert!(!replayed(&fresh));
    assert_ne!(fresh.text, first.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_simultaneous_calls_with_one_key_one_acts_and_the_others_replay() {
    let server = Server::start().await;
    let body = json!({ "customer_id": CUSTOMER, "event_id": EVENT });
    let calls = (0..32).map(|_| server.post_once("/tokens/override", "k", &body));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| answer.status == 201 && answer.text == answers[0].text), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| !replayed(answer)).count(), 1);
}

#[tokio::test]
async fn keys_and_rotations_honour_the_key_too() {
    let server = Server::start().await;
    let body = json!({ "customer_id": CUSTOMER });
    let first = server.post_once("/keys/signing", "k", &body).await;
    let again = server.post_once("/keys/signing", "k", &body).await;
    assert_eq!((again.status, &again.text, replayed(&again)), (201, &first.text, true));
    let path = format!("/keys/{CUSTOMER}.1/rotate");
    let rotate = async || send(server.request(Method::POST, &path).header("Idempotency-Key", "k")).await;
    let first = rotate().await;
    let again = rotate().await;
    assert_eq!((first.status, replayed(&first)), (201, false));
    assert_eq!((again.status, &again.text, replayed(&again)), (201, &first.text, true));
}

#[tokio::test]
async fn what_is_no_key_is_malformed() {
    let server = Server::start().await;
    let body = json!({ "customer_id": CUSTOMER, "event_id": EVENT });
    for key in [b"".as_slice(), &[b'k'; 256], b"a\tb", "schlüssel".as_bytes(), b"\xff"] {
        let header = reqwest::header::HeaderValue::from_bytes(key).unwrap();
        let refused = server.request(Method::POST, "/tokens/override").header("Idempotency-Key", header).json(&body);
        let refused = send(refused).await;
        assert_eq!(refused.refusal(), (400, "invalid_request".to_owned()), "{key:?}");
        assert_eq!(refused.json()["details"][0]["field"], "Idempotency-Key");
    }
    let twice = server.request(Method::POST, "/tokens/override").header("Idempotency-Key", "a");
    assert_eq!(send(twice.header("Idempotency-Key", "b").json(&body)).await.status, 400);
    let longest = server.post_once("/tokens/override", &format!("{} ~", "k".repeat(253)), &body).await;
    assert_eq!(longest.status, 201);
}

#[tokio::test]
async fn a_stored_answer_does_not_show_the_token_to_who_reads_the_table() {
    let server = Server::doors_only().await;
    let body = json!({ "customer_id": CUSTOMER, "event_id": EVENT });
    let minted = server.post_once("/tokens/override", "k", &body).await.json();
    let dump = server.table.dump("countersign").await;
    assert!(dump.contains("fingerprint"), "the dump has the idempotency entry");
    assert!(!dump.contains(minted["token"].as_str().unwrap()), "the token is sealed");
    assert!(!dump.contains("qt_override_"));
}

#[tokio::test]
async fn a_mint_that_its_key_refuses_starts_no_key_ring() {
    let server = Server::start().await;
    let body = |customer: &str| json!({ "customer_id": customer, "event_id": EVENT });
    let malformed = server.post_once("/tokens/override", &"k".repeat(256), &body(CUSTOMER)).await;
    assert_eq!(malformed.status, 400);
    assert_eq!(server.post_once("/tokens/override", "k", &body(CUSTOMER)).await.status, 201);
    assert_eq!(server.post_once("/tokens/override", "k", &body(OTHER_CUSTOMER)).await.status, 422);
    let keys = server.get(&format!("/keys/public/{OTHER_CUSTOMER}")).await;
    assert_eq!(keys.text, r#"{"keys":[]}"#);
    let rotate = server.post_once("/keys/nonsense/rotate", &"k".repeat(256), &json!({})).await;
    assert_eq!(rotate.status, 400, "the form of a request comes before what it asks for");
}

/// An answer that changed nothing is an answer all the same.
#[tokio::test]
async fn a_success_that_changed_nothing_is_stored_under_its_key() {
    let server = Server::start().await;
    let key = server.key("1", &["cases:write"]).await;
    let id = "3c90c3cc-0d44-4b50-8888-8dd25736052a";
    let post = async |once: &str, title: &str| {
        let body = json!({ "case_id": id, "title": title, "severity": "low" });
        let request = server.public(Method::POST, "/api/v1/external/cases").header("X-API-Key", &key);
        send(request.header("Idempotency-Key", once).json(&body)).await
    };
    assert_eq!(post("first", "one").await.status, 201);
    let kept = post("second", "one").await;
    assert_eq!((kept.status, kept.header("idempotency-replayed")), (200, None));
    let replayed = post("second", "one").await;
    assert_eq!((replayed.status, replayed.header("idempotency-replayed")), (200, Some("true")));
    assert_eq!(replayed.text, kept.text);
    assert_eq!(post("second", "two").await.status, 422);
}

#[tokio::test]
async fn a_repeated_report_is_answered_as_it_was_then() {
    let server = Server::start().await;
    let token = server.token("acme", "agent", &["admin"]);
    let post = async |path: &str, once: &str, body: Value| {
        let request = server.public(Method::POST, path).bearer_auth(&token).header("Idempotency-Key", once);
        send(request.json(&body)).await
    };
    let proposal = json!({
        "incidentTitle": "i", "title": "t", "steps": [{ "description": "d" }], "requiresApproval": false,
    });
    let proposed = post("/v1/remediation", "p", proposal).await.json();
    let step = format!("/v1/remediation/{}/steps/step_1", proposed["remediationId"].as_str().unwrap());
    let running = post(&step, "s1", json!({ "status": "running", "output": "so far" })).await;
    assert_eq!(running.json()["steps"][0]["output"], "so far");
    let completed = post(&step, "s2", json!({ "status": "completed", "output": "done" })).await;
    assert_eq!(
        (&completed.json()["status"], &completed.json()["steps"][0]["output"]),
        (&json!("executed"), &json!("done"))
    );
    let again = post(&step, "s1", json!({ "status": "running", "output": "so far" })).await;
    assert_eq!((again.header("idempotency-replayed"), &again.text), (Some("true"), &running.text));
}
