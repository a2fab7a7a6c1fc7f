//! Stored items of released schemas, never edited: every later version must load them, decide on them and verify them.

use crate::server::{CUSTOMER, Server, send};
use reqwest::Method;
use serde_json::{Value, json};

/// A token for the documented event, minted at the moment at which the test's clock stands, for 24 hours.
const TOKEN: &str = include_str!("../records/override-v1.json");
const JTI: &str = "d8057d2d-ac69-4638-9a69-e5e584a5d503";
/// The same customer's key ring, its private key sealed with the test's root key.
const KEY_RING: &str = include_str!("../records/keyring-v1.json");

/// A server on a table that an earlier version has written.
async fn server() -> Server {
    let server = Server::start().await;
    for items in [TOKEN, KEY_RING] {
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
