//! Deciding with an override token: the documented answer, every refusal in its order, and the co-signature.

use crate::server::{CUSTOMER, EVENT, OTHER_CUSTOMER, PREVIOUS, SECRET, Server, decision_body};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::time::Duration;

const ABSENT: &str = "f4a5b6c7-d8e9-0123-f012-456789012cde";

/// The co-signature as the override API documents it, computed without the domain crate.
fn cosignature(secret: &str, decision: &str, jti: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("override|{EVENT}|{decision}|{jti}").as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_decision_is_answered_with_its_cosignature_and_nothing_else() {
    let server = Server::start().await;
    let jti = server.mint(json!({})).await;
    let mut body = decision_body(&jti, "approve");
    body["reason"] = "Verified by security team after manual review".into();
    let decided = server.post(&format!("/overrides/{EVENT}/decide"), &body).await;
    assert_eq!(decided.status, 200);
    assert_eq!(decided.header("content-type"), Some("application/json"));
    let cosignature = cosignature(SECRET, "approve", &jti);
    assert_eq!(decided.text, format!(r#"{{"event_id":"{EVENT}","decision":"approve","cosignature":"{cosignature}"}}"#));
    assert_eq!(server.entries(&jti).await, ["override.created", "override.decided"]);
}

#[tokio::test]
async fn the_reason_is_kept_in_the_audit_log_and_the_token_is_not() {
    let server = Server::start().await;
    let jti = server.mint(json!({ "reason": "blocked by mistake" })).await;
    let mut body = decision_body(&jti, "reject");
    body["reason"] = "no".into();
    server.post(&format!("/overrides/{EVENT}/decide"), &body).await;
    let key = countersign_store::Key::<countersign_domain::override_token::OverrideToken>::new(
        &CUSTOMER.parse().unwrap(),
        &jti,
    );
    let history = server.history(&key).await;
    let [created, decided] = &history[..] else { panic!("{history:?}") };
    let created = &created.entries[0];
    assert_eq!(created.data["reason"], "blocked by mistake");
    assert!(!serde_json::to_string(created).unwrap().contains(&jti), "who knows the jti could decide");
    let decided = &decided.entries[0];
    assert_eq!(decided.data, json!({ "event_id": EVENT, "jti": jti, "decision": "reject", "reason": "no" }));
    assert_eq!((decided.subject.kind.as_str(), decided.subject.id.as_str()), ("override", EVENT));
    assert_eq!(decided.actor.to_string(), "operator:local");
}

#[tokio::test]
async fn ids_are_taken_in_either_case() {
    let server = Server::start().await;
    let jti = server.mint(json!({})).await;
    let body =
        json!({ "override_jti": jti.to_uppercase(), "customer_id": CUSTOMER.to_uppercase(), "decision": "approve" });
    let decided = server.post(&format!("/overrides/{EVENT}/decide"), &body).await;
    assert_eq!(decided.json()["cosignature"], cosignature(SECRET, "approve", &jti));
}

#[tokio::test]
async fn unknown_foreign_and_mismatched_tokens_are_one_answer() {
    let server = Server::start().await;
    let jti = server.mint(json!({})).await;
    let decide = async |event: &str, jti: &str, customer: &str| {
        let body = json!({ "override_jti": jti, "customer_id": customer, "decision": "approve" });
        let answer = server.post(&format!("/overrides/{event}/decide"), &body).await;
        (answer.refusal(), answer.text)
    };
    let unknown = decide(EVENT, ABSENT, CUSTOMER).await;
    assert_eq!(unknown.0, (404, "token_not_found".to_owned()));
    assert_eq!(decide(EVENT, &jti, OTHER_CUSTOMER).await, unknown);
    assert_eq!(decide("evt-another", &jti, CUSTOMER).await, unknown);
    // The event id is compared as it stands.
    assert_eq!(decide(&EVENT.to_uppercase(), &jti, CUSTOMER).await, unknown);
    assert_eq!(server.decide(&jti, "approve").await.status, 200, "none of these used it up");
}

#[tokio::test]
async fn a_revoked_token_says_so_even_when_it_has_expired_too() {
    let server = Server::start().await;
    let jti = server.mint(json!({})).await;
    assert_eq!(server.delete(&format!("/tokens/{jti}?customer_id={CUSTOMER}")).await.status, 204);
    assert_eq!(server.decide(&jti, "nonsense").await.refusal(), (410, "token_revoked".to_owned()));
    server.clock.advance(Duration::from_secs(3600));
    assert_eq!(server.decide(&jti, "approve").await.refusal(), (410, "token_revoked".to_owned()));
}

#[tokio::test]
async fn a_used_token_says_so_whatever_is_asked_and_for_ever() {
    let server = Server::start().await;
    let jti = server.mint(json!({})).await;
    assert_eq!(server.decide(&jti, "approve").await.status, 200);
    for decision in ["approve", "reject", "not_allowed"] {
        assert_eq!(server.decide(&jti, decision).await.refusal(), (409, "token_already_used".to_owned()));
    }
    server.clock.advance(Duration::from_hours(24 * 366));
    assert_eq!(server.decide(&jti, "approve").await.refusal(), (409, "token_already_used".to_owned()));
    assert_eq!(server.entries(&jti).await, ["override.created", "override.decided"]);
}

#[tokio::test]
async fn a_token_expires_at_its_very_second() {
    let server = Server::start().await;
    let [before, at] = [server.mint(json!({ "ttl_minutes": 1 })).await, server.mint(json!({ "ttl_minutes": 1 })).await];
    // Minted at a quarter past the second, valid until the minute after that second began.
    server.clock.advance(Duration::from_micros(59_749_999));
    assert_eq!(server.decide(&before, "approve").await.status, 200);
    server.clock.advance(Duration::from_micros(1));
    assert_eq!(server.decide(&at, "not_allowed").await.refusal(), (410, "token_expired".to_owned()));
    assert_eq!(server.show(&at).await["status"], "expired");
    assert_eq!(server.entries(&at).await, ["override.created"]);
}

#[tokio::test]
async fn a_decision_that_the_token_does_not_allow_is_told_which_are() {
    let server = Server::start().await;
    let jti = server.mint(json!({ "allowed_decisions": ["release", "keep_blocked"] })).await;
    let refused = server.decide(&jti, "approve").await;
    assert_eq!(refused.refusal(), (422, "decision_not_allowed".to_owned()));
    assert_eq!(
        refused.json()["details"],
        json!([{ "field": "decision", "message": "must be one of: release, keep_blocked" }])
    );
    assert_eq!(server.decide(&jti, "keep_blocked").await.status, 200);
}

#[tokio::test]
async fn a_malformed_request_names_every_wrong_field_before_anything_is_looked_up() {
    let server = Server::start().await;
    let wrong: Value =
        json!({ "override_jti": "x", "customer_id": 5, "decision": "APPROVE", "reason": "r".repeat(2001) });
    let refused = server.post("/overrides/a%7Cb/decide", &wrong).await;
    assert_eq!(refused.refusal(), (400, "invalid_request".to_owned()));
    let details = refused.json()["details"].clone();
    let fields: Vec<_> = details.as_array().unwrap().iter().map(|detail| detail["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["event_id", "override_jti", "customer_id", "decision", "reason"]);
    let missing = server.post(&format!("/overrides/{EVENT}/decide"), &json!({})).await;
    assert_eq!(missing.json()["details"][0], json!({ "field": "override_jti", "message": "is required" }));
}

/// After every refusal in the table the token is still usable and nothing was written.
#[tokio::test]
async fn refusals_leave_no_trace() {
    let server = Server::start().await;
    let jti = server.mint(json!({})).await;
    let path = format!("/overrides/{EVENT}/decide");
    let mut foreign = decision_body(&jti, "approve");
    foreign["customer_id"] = OTHER_CUSTOMER.into();
    let refusals = [
        (path.as_str(), json!({ "override_jti": jti, "customer_id": CUSTOMER, "decision": 1 }), 400),
        (&path, json!([]), 400),
        (&path, foreign, 404),
        ("/overrides/evt-2/decide", decision_body(&jti, "approve"), 404),
        (&path, decision_body(&jti, "escalate"), 422),
    ];
    for (path, body, status) in refusals {
        assert_eq!(server.post(path, &body).await.status, status, "{body}");
        assert_eq!(server.show(&jti).await["status"], "active", "{body}");
        assert_eq!(server.entries(&jti).await, ["override.created"], "{body}");
    }
    assert_eq!(server.decide(&jti, "approve").await.status, 200);
}

#[tokio::test]
async fn cosignatures_of_the_current_and_the_previous_secret_verify() {
    let server = Server::start().await;
    let verify = async |decision: &str, jti: &str, cosignature: &str| {
        let body = json!({ "event_id": EVENT, "decision": decision, "override_jti": jti, "cosignature": cosignature });
        let verified = server.post("/overrides/verify", &body).await;
        assert_eq!(verified.status, 200);
        verified.text
    };
    let (valid, invalid) = (r#"{"valid":true}"#, r#"{"valid":false}"#);
    // The documented vectors.
    let approve = "ba64b344c0bef66492bf70050252b41fc90d7a8dd375a52e1c1371900de84582";
    let reject = "fa359ccd80532322dfee09e98aad95b263189d1a0ce833da152cfad1ee838843";
    assert_eq!(verify("approve", ABSENT, approve).await, valid);
    assert_eq!(verify("reject", ABSENT, reject).await, valid);
    assert_eq!(verify("approve", &ABSENT.to_uppercase(), approve).await, valid);
    assert_eq!(verify("approve", ABSENT, &cosignature(PREVIOUS, "approve", ABSENT)).await, valid);
    for forged in [reject, "", &approve[1..], &approve.to_uppercase(), &cosignature("other", "approve", ABSENT)] {
        assert_eq!(verify("approve", ABSENT, forged).await, invalid, "{forged}");
    }
}

#[tokio::test]
async fn what_cannot_be_verified_is_malformed() {
    let server = Server::start().await;
    let whole = json!({ "event_id": EVENT, "decision": "approve", "override_jti": ABSENT, "cosignature": "00" });
    for field in ["event_id", "decision", "override_jti", "cosignature"] {
        let mut body = whole.clone();
        body[field] = json!(1);
        let refused = server.post("/overrides/verify", &body).await;
        assert_eq!(refused.refusal(), (400, "invalid_request".to_owned()));
        assert_eq!(refused.json()["details"][0]["field"], field);
    }
}

#[tokio::test]
async fn a_decision_costs_one_read_and_one_transaction() {
    let server = Server::doors_only().await;
    let [plain, keyed] = [server.mint(json!({})).await, server.mint(json!({})).await];
    let cost = || {
        let calls = server.table.take_calls();
        calls.into_iter().map(|call| (call.operation, call.items)).collect::<Vec<_>>()
    };
    cost();
    assert_eq!(server.decide(&plain, "approve").await.status, 200);
    assert_eq!(cost(), [("GetItem".to_owned(), 0), ("TransactWriteItems".to_owned(), 2)]);
    let request = server.request(reqwest::Method::POST, &format!("/overrides/{EVENT}/decide"));
    let request = request.header("Idempotency-Key", "k").json(&decision_body(&keyed, "approve"));
    assert_eq!(crate::server::send(request).await.status, 200);
    assert_eq!(cost(), [("GetItem".to_owned(), 0), ("TransactWriteItems".to_owned(), 3)]);
}
