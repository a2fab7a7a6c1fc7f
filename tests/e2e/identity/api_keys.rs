//! Hostile API keys, and how soon one that was revoked stops working.

use super::{KIT, PATH, refusal};
use crate::server::{Server, send};
use countersign_domain::api_key::{KeyHash, KeyId};
use countersign_testing::issuer::base64url;
use countersign_testing::tokens::Kit;
use reqwest::Method;
use serde_json::json;
use std::collections::HashSet;
use std::time::Duration;

/// Texts that are nobody's key, most of them made from one that is somebody's.
pub(super) fn hostile(key: &str) -> Vec<(String, Vec<u8>)> {
    let (front, secret) = key.rsplit_once('_').unwrap();
    let last = if key.ends_with('A') { 'B' } else { 'A' };
    let without_last = &key[..key.len() - 1];
    let jwt = KIT.p256.token(r#"{"alg":"ES256","kid":"ec"}"#, Kit::claims(0).text());
    [
        ("nothing", String::new()),
        ("the prefix", "cs_live_".to_owned()),
        ("no secret", format!("{front}_")),
        ("no name", format!("cs_live__{secret}")),
        ("the secret alone", secret.to_owned()),
        ("another secret", format!("{front}_{}", base64url([7; 32]))),
        ("another name", format!("cs_live_00000000_{secret}")),
        ("the last character changed", format!("{without_last}{last}")),
        ("the last character missing", without_last.to_owned()),
        ("the first character missing", key[1..].to_owned()),
        ("a character more", format!("{key}A")),
        ("padded", format!("{key}=")),
        ("in capitals", key.to_ascii_uppercase()),
        ("in small letters", key.to_ascii_lowercase()),
        ("backwards", key.chars().rev().collect()),
        ("its id", KeyId::of(key).to_string()),
        ("its hash", String::from(KeyHash::of(key))),
        ("in base64", base64url(key)),
        ("quoted", format!("\"{key}\"")),
        ("with a scheme", format!("Bearer {key}")),
        ("twice", format!("{key}, {key}")),
        ("percent-encoded", key.replace('_', "%5F")),
        ("a blank inside", format!("{front} _{secret}")),
        ("a tab inside", format!("{front}\t_{secret}")),
        ("another environment", key.replace("live", "test")),
        ("200 characters and one", "k".repeat(201)),
        ("5000 characters", format!("{key}{}", "k".repeat(5000))),
        ("SQL", "' OR '1'='1".to_owned()),
        ("a pattern", "cs_live_*".to_owned()),
        ("a path", "../apikey#_#x".to_owned()),
        ("a JWT", jwt),
        ("an override token", "qt_override_a.b.c".to_owned()),
        ("null", "null".to_owned()),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), text.into_bytes()))
    .chain([("not ASCII".to_owned(), [key.as_bytes(), &[0xff]].concat())])
    .collect()
}

#[tokio::test]
async fn every_hostile_key_gets_the_same_401() {
    let server = Server::start().await;
    let key = server.key("42", &["actions:read"]).await;
    let mut bodies = HashSet::new();
    for (name, text) in hostile(&key) {
        let answer = server.with_key(&text).await;
        assert_eq!(refusal(&answer), (401, "INVALID_TOKEN".to_owned()), "{name}: {answer:?}");
        bodies.insert(answer.text);
    }
    for changed in [revoked(&server).await, expired(&server).await, rotated(&server).await] {
        let answer = server.with_key(&changed).await;
        assert_eq!(refusal(&answer), (401, "INVALID_TOKEN".to_owned()), "{answer:?}");
        bodies.insert(answer.text);
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(server.with_key(&key).await.status, 200, "the key itself");
    let bearer = server.public(Method::GET, PATH).header("Authorization", format!("Bearer {key}"));
    assert_eq!(send(bearer).await.status, 200, "the key as a bearer");
}

async fn revoked(server: &Server) -> String {
    let key = server.key("42", &["actions:read"]).await;
    assert_eq!(server.with_key(&key).await.status, 200);
    assert_eq!(server.delete(&format!("/api-keys/{}", KeyId::of(&key))).await.status, 204);
    key
}

async fn expired(server: &Server) -> String {
    let body = json!({
        "domain": "42", "name": "brief", "scopes": ["actions:read"], "expires_at": "2026-11-21T12:01:00Z",
    });
    let minted = server.post("/api-keys", &body).await.json();
    let key = minted["key"].as_str().unwrap().to_owned();
    server.clock.advance(Duration::from_millis(59_749));
    assert_eq!(server.with_key(&key).await.status, 200);
    server.clock.advance(Duration::from_millis(1));
    key
}

async fn rotated(server: &Server) -> String {
    let key = server.key("42", &["actions:read"]).await;
    assert_eq!(server.with_key(&key).await.status, 200);
    let rotated = server.post(&format!("/api-keys/{}/rotate", KeyId::of(&key)), &json!({ "grace_minutes": 0 })).await;
    assert_eq!(rotated.status, 201);
    assert_eq!(server.with_key(rotated.json()["key"].as_str().unwrap()).await.status, 200);
    key
}

#[tokio::test]
async fn two_credentials_in_one_request_must_agree() {
    let server = Server::start().await;
    let key = server.key("42", &["actions:read"]).await;
    let twin = server.key("42", &["actions:read"]).await;
    let foreign = server.key("43", &["actions:read"]).await;
    let token = server.token("42", "7", &["admin"]);
    let ask = async |bearer: &str, keys: &[&str]| {
        let request = server.public(Method::GET, PATH).header("Authorization", format!("Bearer {bearer}"));
        let answer = send(keys.iter().fold(request, |request, key| request.header("X-API-Key", *key))).await;
        (answer.status, answer.json()["error_code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(ask(&key, &[&key]).await.0, 200, "the same key twice");
    assert_eq!(ask(&token, &[&key]).await.0, 200, "a token and a key of one tenant");
    let wrong = (401, "INVALID_TOKEN".to_owned());
    for (bearer, keys) in [
        (&key, vec![&twin]),
        (&key, vec![&foreign]),
        (&token, vec![&foreign]),
        (&token, vec![&key, &key]),
        (&token, vec![&token]),
    ] {
        let keys: Vec<_> = keys.into_iter().map(String::as_str).collect();
        assert_eq!(ask(bearer, &keys).await, wrong, "{bearer} {keys:?}");
    }
    assert_eq!(ask("a.b.c", &[&key]).await, wrong, "a wrong token beside a right key");
    assert_eq!(ask(&token, &["cs_live_x"]).await, wrong, "a wrong key beside a right token");
}

#[tokio::test]
async fn a_revoked_key_stops_at_once_here_and_within_five_seconds_elsewhere() {
    let here = Server::start().await;
    let elsewhere = here.beside().await;
    let key = here.key("42", &["actions:read"]).await;
    for server in [&here, &elsewhere] {
        assert_eq!(server.with_key(&key).await.status, 200);
    }
    assert_eq!(here.delete(&format!("/api-keys/{}", KeyId::of(&key))).await.status, 204);
    assert_eq!(refusal(&here.with_key(&key).await), (401, "INVALID_TOKEN".to_owned()));
    assert_eq!(elsewhere.with_key(&key).await.status, 200, "or the rest of this story would show nothing");
    here.clock.advance(Duration::from_secs(5));
    assert_eq!(refusal(&elsewhere.with_key(&key).await), (401, "INVALID_TOKEN".to_owned()));
}

#[tokio::test]
async fn a_new_key_works_at_once_in_every_process() {
    let here = Server::start().await;
    let elsewhere = here.beside().await;
    let key = here.key("42", &["actions:read"]).await;
    assert_eq!(elsewhere.with_key(&key).await.status, 200, "no process has to hear of it first");
    assert_eq!(here.with_key(&key).await.status, 200);
}
