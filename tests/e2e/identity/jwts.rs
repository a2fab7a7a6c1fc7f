//! Hostile tokens and their neighbours that are right, one per class, spelling and place.

use super::{KIT, PATH, Trusting, refusal};
use crate::process::Process;
use crate::server::{CUSTOMER, EVENT, Server, send};
use countersign_testing::issuer::JwksAddress;
use countersign_testing::tokens::{Kit, SECRET_ID};
use reqwest::Method;
use serde_json::json;
use std::collections::{BTreeMap, HashSet};

#[tokio::test]
async fn every_hostile_token_gets_one_401_and_every_expired_one_another() {
    let trusting = Trusting::start().await;
    let cases = KIT.hostile(trusting.now());
    let mut bodies: BTreeMap<&str, HashSet<String>> = BTreeMap::new();
    let (mut names, mut wrong) = (HashSet::new(), Vec::new());
    for case in &cases {
        if !names.insert(&case.name) {
            wrong.push(format!("two cases are called {}", case.name));
        }
        let answer = trusting.server.with_token(&case.token).await;
        let code = if case.expired { "EXPIRED_TOKEN" } else { "INVALID_TOKEN" };
        if answer.status != 401 || refusal(&answer).1 != code {
            wrong.push(format!("{}: {}", case.name, answer.status));
        }
        assert_eq!(answer.header("www-authenticate"), (answer.status == 401).then_some("Bearer"));
        bodies.entry(code).or_default().insert(answer.text);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(bodies.values().all(|bodies| bodies.len() == 1), "one body per code: {bodies:?}");
    assert!(cases.len() >= 60, "{}", cases.len());
    // None of all the unknown key ids made anybody ask again.
    assert_eq!((trusting.issuer.fetches(), trusting.narrow.fetches()), (1, 1));
}

#[tokio::test]
async fn every_neighbour_of_a_hostile_token_that_is_right_is_let_in() {
    let trusting = Trusting::start().await;
    let mut wrong = Vec::new();
    for case in KIT.believed(trusting.now()) {
        let answer = trusting.server.with_token(&case.token).await;
        if answer.status != 200 {
            wrong.push(format!("{}: {}", case.name, answer.text));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_hostile_token_decides_nothing_either() {
    let trusting = Trusting::start().await;
    for case in KIT.hostile(trusting.now()).iter().step_by(10) {
        for path in ["/api/v1/actions/1/approve", "/api/v1/actions/bulk-approve", "/api/v1/actions/submit"] {
            let request = trusting.server.public(Method::POST, path).body("not even JSON");
            let answer = send(request.header("Authorization", format!("Bearer {}", case.token))).await;
            assert_eq!(answer.status, 401, "{path}: {}", case.name);
        }
    }
}

#[tokio::test]
async fn an_override_token_is_no_ticket_to_a_door() {
    let server = Server::start().await;
    let minted = server.post("/tokens/override", &json!({ "customer_id": CUSTOMER, "event_id": EVENT })).await;
    let minted = minted.json();
    let token = minted["token"].as_str().unwrap();
    let bare = token.strip_prefix("qt_override_").unwrap();
    for token in [token, bare, minted["jti"].as_str().unwrap()] {
        assert_eq!(refusal(&server.with_token(token).await), (401, "INVALID_TOKEN".to_owned()), "{token}");
        assert_eq!(refusal(&server.with_key(token).await), (401, "INVALID_TOKEN".to_owned()), "{token}");
    }
}

#[tokio::test]
async fn where_issuers_are_configured_the_local_one_is_not_trusted() {
    let trusting = Trusting::start().await;
    let local = trusting.server.token("42", "7", &["admin"]);
    assert_eq!(refusal(&trusting.server.with_token(&local).await), (401, "INVALID_TOKEN".to_owned()));
    let nobody = [("COUNTERSIGN_ISSUERS", "[]")];
    let server = Server::with(countersign_testing::fault::Faults::none(), 0, &nobody).await;
    let local = server.token("42", "7", &["admin"]);
    assert_eq!(refusal(&server.with_token(&local).await), (401, "INVALID_TOKEN".to_owned()));
    let server = Server::start().await;
    let local = server.token("42", "7", &["admin"]);
    assert_eq!(server.with_token(&local).await.status, 200, "the same token, where nobody else is configured");
}

#[tokio::test]
async fn how_a_token_is_sent_matters_little() {
    let trusting = Trusting::start().await;
    let token = trusting.token(&KIT.p256, "ec");
    let ask = async |values: &[String]| {
        let request = trusting.server.public(Method::GET, PATH);
        let request = values.iter().fold(request, |request, value| request.header("Authorization", value));
        let answer = send(request).await;
        (answer.status, answer.json()["error_code"].as_str().unwrap_or_default().to_owned())
    };
    for scheme in ["Bearer ", "bearer ", "BEARER ", "Bearer   "] {
        assert_eq!(ask(&[format!("{scheme}{token}")]).await.0, 200, "{scheme}");
    }
    for values in [vec![], vec!["Basic dTpw".to_owned()], vec!["Bearer".to_owned()], vec![token.clone()]] {
        assert_eq!(ask(&values).await, (401, "MISSING_AUTH".to_owned()), "{values:?}");
    }
    let twice = vec![format!("Bearer {token}"), format!("Bearer {token}")];
    assert_eq!(ask(&twice).await, (401, "INVALID_TOKEN".to_owned()));
}

#[tokio::test]
async fn no_credential_is_logged_however_wrong_it_is() {
    let data = tempfile::tempdir().unwrap();
    let issuer = JwksAddress::start(&KIT.jwks()).await.unwrap();
    let narrow = JwksAddress::start(&KIT.narrow_jwks()).await.unwrap();
    super::configuration::with_secrets(data.path(), &json!({ SECRET_ID: KIT.secret_text() }));
    let issuers = Kit::configuration(&issuer.url(), &narrow.url());
    let mut process = Process::with(data.path(), &[("COUNTERSIGN_ISSUERS", &issuers)]);
    let now = countersign_domain::Timestamp::now().as_second();
    let minted = json!({ "domain": "42", "name": "n", "scopes": ["actions:read"] });
    let minted = send(process.client.post(format!("{}/api-keys", process.management)).json(&minted)).await.json();
    let key = minted["key"].as_str().unwrap().to_owned();

    let url = format!("{}{PATH}", process.public);
    let credentials = [KIT.hostile(now), KIT.believed(now)].concat();
    for case in &credentials {
        send(process.client.get(&url).header("Authorization", format!("Bearer {}", case.token))).await;
    }
    let mut keys = super::api_keys::hostile(&key);
    keys.push(("right".to_owned(), key.into_bytes()));
    for (_, key) in &keys {
        let key = reqwest::header::HeaderValue::from_bytes(key).unwrap();
        send(process.client.get(&url).header("X-API-Key", key)).await;
    }
    let (ended, log) = process.stop();
    assert!(ended);
    assert!(log.matches("answered").count() > credentials.len() + keys.len(), "one line per request: {log}");
    let texts = credentials.into_iter().map(|case| case.token);
    let texts = texts.chain(keys.into_iter().map(|(_, key)| String::from_utf8_lossy(&key).into_owned()));
    for text in texts {
        // What is shorter could stand there for another reason.
        for part in text.split(['.', ' ']).filter(|part| part.len() >= 12) {
            assert!(!log.contains(part), "{part} in {log}");
        }
    }
    assert!(!log.contains(&KIT.secret_text()));
}
