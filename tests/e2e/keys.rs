//! Customers' signing keys and their rotation.

use crate::server::{CUSTOMER, OTHER_CUSTOMER, Server};
use serde_json::json;
use std::time::Duration;

impl Server {
    async fn kids(&self) -> Vec<String> {
        let set = self.get(&format!("/keys/public/{CUSTOMER}")).await.json();
        set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn a_customer_has_one_active_key() {
    let server = Server::start().await;
    let created = server.post("/keys/signing", &json!({ "customer_id": CUSTOMER })).await;
    assert_eq!(created.status, 201);
    let created = created.json();
    let id = format!("{CUSTOMER}.1");
    assert_eq!(
        created,
        json!({
            "key_id": id, "customer_id": CUSTOMER, "algorithm": "ES256", "created_at": "2026-11-21T12:00:00Z",
            "public_key": created["public_key"],
        })
    );
    let jwk = &created["public_key"];
    assert_eq!(
        (&jwk["kty"], &jwk["crv"], &jwk["alg"], &jwk["use"], &jwk["kid"]),
        (&json!("EC"), &json!("P-256"), &json!("ES256"), &json!("sig"), &json!(id))
    );
    assert!(jwk.get("d").is_none(), "the private half stays here");
    let again = server.post("/keys/signing", &json!({ "customer_id": CUSTOMER })).await;
    assert_eq!(again.refusal(), (409, "key_exists".to_owned()));
    assert_eq!(server.get(&format!("/keys/public/{CUSTOMER}")).await.json(), json!({ "keys": [jwk] }));
}

#[tokio::test]
async fn the_first_token_mints_the_key_and_nothing_else_does() {
    let server = Server::start().await;
    assert_eq!(server.kids().await, Vec::<String>::new());
    server.mint(json!({})).await;
    server.mint(json!({})).await;
    assert_eq!(server.kids().await, [format!("{CUSTOMER}.1")]);
    let other = server.get(&format!("/keys/public/{OTHER_CUSTOMER}")).await;
    assert_eq!((other.status, other.text.as_str()), (200, r#"{"keys":[]}"#));
}

#[tokio::test]
async fn a_rotated_key_verifies_until_its_last_token_has_expired() {
    let server = Server::start().await;
    server.mint(json!({ "ttl_minutes": 1440 })).await;
    let rotated =
        crate::server::send(server.request(reqwest::Method::POST, &format!("/keys/{CUSTOMER}.1/rotate"))).await;
    assert_eq!(rotated.status, 201);
    assert_eq!(rotated.json()["key_id"], format!("{CUSTOMER}.2"));
    assert_eq!(server.kids().await, [format!("{CUSTOMER}.2"), format!("{CUSTOMER}.1")]);
    let minted = server.post("/tokens/override", &json!({ "customer_id": CUSTOMER, "event_id": "e" })).await.json();
    let token = minted["token"].as_str().unwrap().strip_prefix("qt_override_").unwrap();
    let kid = jsonwebtoken::decode_header(token).unwrap().kid;
    assert_eq!(kid, Some(format!("{CUSTOMER}.2")));
    server.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(server.kids().await.len(), 2, "a token that was minted just before still verifies");
    server.clock.advance(Duration::from_secs(60));
    assert_eq!(server.kids().await, [format!("{CUSTOMER}.2")]);
}

#[tokio::test]
async fn only_the_active_key_can_be_rotated() {
    let server = Server::start().await;
    server.mint(json!({})).await;
    let rotate = async |id: &str| server.post(&format!("/keys/{id}/rotate"), &json!({})).await;
    assert_eq!(rotate(&format!("{CUSTOMER}.1")).await.status, 201);
    for id in [
        &format!("{CUSTOMER}.1"),
        &format!("{CUSTOMER}.3"),
        &format!("{CUSTOMER}.02"),
        &format!("{OTHER_CUSTOMER}.1"),
        "nonsense",
        "a%23b.1",
        CUSTOMER,
    ] {
        assert_eq!(rotate(id).await.refusal(), (404, "key_not_found".to_owned()), "{id}");
    }
    assert_eq!(rotate(&format!("{CUSTOMER}.2")).await.status, 201);
}

#[tokio::test]
async fn of_simultaneous_rotations_of_one_key_one_acts() {
    let server = Server::start().await;
    server.mint(json!({})).await;
    let path = format!("/keys/{CUSTOMER}.1/rotate");
    let nothing = json!({});
    let answers = futures_util::future::join_all((0..16).map(|_| server.post(&path, &nothing))).await;
    let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![201], vec![404; 15]].concat());
    assert_eq!(server.kids().await.len(), 2);
}

#[tokio::test]
async fn malformed_key_requests_are_refused() {
    let server = Server::start().await;
    for body in [json!({}), json!({ "customer_id": "acme" }), json!([]), json!("x"), json!(null)] {
        let refused = server.post("/keys/signing", &body).await;
        assert_eq!(refused.refusal(), (400, "invalid_request".to_owned()), "{body}");
    }
    assert_eq!(server.get("/keys/public/acme").await.refusal(), (400, "invalid_request".to_owned()));
    assert_eq!(server.get("/keys/signing").await.status, 405);
}
