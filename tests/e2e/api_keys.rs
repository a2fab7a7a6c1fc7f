//! API keys: minted once, shown once, rotated with a grace, revoked at once, and never readable in the table.

use crate::cases::{CASES, Tool};
use crate::cases_access::bare;
use crate::server::{Answer, Server, send};
use countersign_domain::api_key::KeyId;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use std::time::Duration;

const ABSENT: &str = "key_00112233445566778899aabbccddeeff";

/// What a key is minted from, with these fields on top.
fn mint(fields: Value) -> Value {
    let mut body = json!({ "domain": "acme", "name": "soc", "scopes": ["cases:read"] });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// The text of a key and its id.
fn key_of(minted: &Answer) -> (String, String) {
    assert_eq!(minted.status, 201, "{minted:?}");
    let text = |field: &str| minted.json()[field].as_str().unwrap().to_owned();
    (text("key"), text("id"))
}

impl Server {
    /// With what status a key is let in.
    async fn opened_by(&self, key: &str) -> u16 {
        Tool { server: self, key: key.to_owned() }.get("").await.status
    }

    async fn key_once(&self, path: &str, once: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).header("Idempotency-Key", once).json(body)).await
    }

    async fn key_ids(&self, domain: &str) -> Vec<String> {
        let listed = self.get(&format!("/api-keys?domain={domain}")).await.json();
        listed["items"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn a_key_is_shown_once_with_its_documented_fields() {
    let server = Server::start().await;
    let body = mint(json!({
        "owner": 42, "scopes": ["webhooks:manage", "cases:read"], "expires_at": "2027-01-01T01:00:00+01:00",
    }));
    let minted = server.post("/api-keys", &body).await;
    let (key, id) = key_of(&minted);
    let fields = |key: &str| {
        format!(r#"{{"id":"{id}","domain":"acme","name":"soc","scopes":["cases:read","webhooks:manage"],{key}"#)
            + r#""expires_at":"2027-01-01T00:00:00Z","created_at":"2026-11-21T12:00:00Z"}"#
    };
    assert_eq!(minted.text, fields(&format!(r#""key":"{key}","#)));
    assert_eq!(id, KeyId::of(&key).to_string());
    let parts: Vec<_> = key.splitn(4, '_').collect();
    let [cs, live, prefix, secret] = parts[..] else { panic!("{parts:?}") };
    assert_eq!((cs, live, prefix.len(), secret.len()), ("cs", "live", 8, 43), "256 bits in base64");
    let listed = server.get("/api-keys?domain=acme").await;
    assert_eq!((listed.status, listed.text), (200, format!(r#"{{"items":[{}]}}"#, fields(""))));
    assert_eq!(server.opened_by(&key).await, 200);
}

#[tokio::test]
async fn keys_are_listed_by_domain_oldest_first_without_the_revoked() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for domain in ["acme", "rival", "acme", "acme"] {
        ids.push(key_of(&server.post("/api-keys", &mint(json!({ "domain": domain }))).await).1);
        server.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(server.key_ids("acme").await, [&*ids[0], &ids[2], &ids[3]]);
    assert_eq!(server.key_ids("rival").await, [&*ids[1]]);
    assert_eq!(server.get("/api-keys?domain=nobody").await.text, r#"{"items":[]}"#);
    assert_eq!(server.delete(&format!("/api-keys/{}", ids[2])).await.status, 204);
    assert_eq!(server.key_ids("acme").await, [&*ids[0], &ids[3]]);
    let page = server.get("/api-keys?domain=acme&limit=1").await.json();
    let cursor = page["cursor"].as_str().unwrap();
    let next = server.get(&format!("/api-keys?domain=acme&limit=1&cursor={cursor}")).await.json();
    assert_eq!(next["items"][0]["id"], *ids[3]);
    for query in [
        "",
        "?domain=",
        "?domain=a%20b",
        "?domain=acme&domain=acme",
        "?domain=acme&limit=0",
        "?domain=acme&cursor=x",
        &format!("?domain=rival&cursor={cursor}"),
    ] {
        let refused = server.get(&format!("/api-keys{query}")).await;
        assert_eq!(refused.refusal(), (400, "invalid_request".to_owned()), "{query}");
    }
}

#[tokio::test]
async fn what_is_no_key_to_be_minted_is_malformed() {
    let server = Server::start().await;
    for (field, value) in [
        ("domain", json!(null)),
        ("domain", json!("a#b")),
        ("domain", json!("")),
        ("name", json!("")),
        ("name", json!("x".repeat(101))),
        ("name", json!("a\u{7}")),
        ("name", json!(null)),
        ("owner", json!(-1)),
        ("owner", json!("alice")),
        ("owner", json!(1.5)),
        ("scopes", json!([])),
        ("scopes", json!(null)),
        ("scopes", json!("cases:read")),
        ("scopes", json!(["cases:read", "cases:read"])),
        ("scopes", json!(["cases:delete"])),
        ("scopes", json!(["*"])),
        ("expires_at", json!("2026-11-21T12:00:00Z")),
        ("expires_at", json!("2020-01-01T00:00:00Z")),
        ("expires_at", json!("tomorrow")),
        ("expires_at", json!(1_900_000_000)),
    ] {
        let mut body = mint(json!({}));
        body[field] = value;
        let refused = server.post("/api-keys", &body).await;
        assert_eq!(refused.refusal(), (400, "invalid_request".to_owned()), "{body}");
        assert_eq!(refused.json()["details"][0]["field"], field, "{body}");
    }
    let empty = server.post("/api-keys", &json!({})).await.json();
    assert_eq!(empty["details"].as_array().unwrap().len(), 3);
    assert_eq!(server.key_ids("acme").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_repeated_mint_shows_the_key_no_more() {
    let server = Server::start().await;
    let first = server.key_once("/api-keys", "k", &mint(json!({}))).await;
    let (key, id) = key_of(&first);
    let again = server.key_once("/api-keys", "k", &mint(json!({}))).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, Some("true")));
    assert_eq!(again.text, first.text.replace(&format!("\"{key}\""), "null"));
    assert_eq!(server.key_ids("acme").await, [id]);
    let reused = server.key_once("/api-keys", "k", &mint(json!({ "name": "other" }))).await;
    assert_eq!(reused.refusal(), (422, "idempotency_key_reused".to_owned()));
}

#[tokio::test]
async fn a_rotated_key_works_until_its_grace_has_passed() {
    let server = Server::start().await;
    let (old, id) = key_of(&server.post("/api-keys", &mint(json!({ "name": "n" }))).await);
    server.clock.advance(Duration::from_secs(60));
    let rotated = send(server.request(Method::POST, &format!("/api-keys/{id}/rotate"))).await;
    let (new, new_id) = key_of(&rotated);
    assert_ne!((&new, &new_id), (&old, &id));
    let text = format!(r#"{{"id":"{new_id}","domain":"acme","name":"n","scopes":["cases:read"],"key":"{new}","#)
        + r#""expires_at":null,"created_at":"2026-11-21T12:01:00Z"}"#;
    assert_eq!(rotated.text, text);
    server.clock.advance(Duration::from_secs(1440 * 60 - 1));
    assert_eq!((server.opened_by(&old).await, server.opened_by(&new).await), (200, 200));
    server.clock.advance(Duration::from_secs(1));
    assert_eq!((server.opened_by(&old).await, server.opened_by(&new).await), (401, 200));
}

#[tokio::test]
async fn without_grace_a_rotated_key_is_refused_at_once() {
    let server = Server::start().await;
    let (old, id) = key_of(&server.post("/api-keys", &mint(json!({}))).await);
    assert_eq!(server.opened_by(&old).await, 200, "now this process knows it");
    let rotated = server.post(&format!("/api-keys/{id}/rotate"), &json!({ "grace_minutes": 0 })).await;
    assert_eq!(server.opened_by(&old).await, 401);
    assert_eq!(server.opened_by(&key_of(&rotated).0).await, 200);
}

#[tokio::test]
async fn a_grace_ends_in_its_very_minute_and_prolongs_nothing() {
    let server = Server::start().await;
    let (old, id) = key_of(&server.post("/api-keys", &mint(json!({ "expires_at": "2026-11-21T12:10:00Z" }))).await);
    let rotated = server.post(&format!("/api-keys/{id}/rotate"), &json!({ "grace_minutes": 10_080 })).await;
    assert_eq!(rotated.json()["expires_at"], "2026-11-21T12:10:00Z");
    let (new, new_id) = key_of(&rotated);
    let newest = server.post(&format!("/api-keys/{new_id}/rotate"), &json!({ "grace_minutes": 5 })).await;
    let (newest, _) = key_of(&newest);
    server.clock.advance(Duration::from_secs(300));
    assert_eq!((server.opened_by(&old).await, server.opened_by(&new).await), (200, 401));
    server.clock.advance(Duration::from_secs(300));
    assert_eq!((server.opened_by(&old).await, server.opened_by(&newest).await), (401, 401));
}

#[tokio::test]
async fn rotations_are_refused_in_their_order() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(key_of(&server.post("/api-keys", &mint(json!({}))).await).1);
    }
    let path = |id: &str| format!("/api-keys/{id}/rotate");
    for grace in [json!(-1), json!(10_081), json!(1.5), json!("1"), json!([])] {
        let refused = server.post(&path("nonsense"), &json!({ "grace_minutes": grace })).await;
        assert_eq!(refused.refusal(), (400, "invalid_request".to_owned()), "{grace}");
    }
    let malformed = server.key_once(&path("nonsense"), &"k".repeat(256), &json!({})).await;
    assert_eq!(malformed.status, 400);
    for id in ["nonsense", ABSENT, &ABSENT.to_uppercase(), &ids[0][..ids[0].len() - 1]] {
        assert_eq!(server.post(&path(id), &json!({})).await.refusal(), (404, "key_not_found".to_owned()), "{id}");
        let revoked = server.delete(&format!("/api-keys/{id}")).await;
        assert_eq!(revoked.refusal(), (404, "key_not_found".to_owned()), "{id}");
    }
    assert_eq!(server.post(&path(&ids[0]), &json!(null)).await.status, 201);
    let again = server.post(&path(&ids[0]), &json!({})).await;
    assert_eq!(again.refusal(), (409, "already_rotated".to_owned()));
    assert_eq!(server.delete(&format!("/api-keys/{}", ids[1])).await.status, 204);
    assert_eq!(server.post(&path(&ids[1]), &json!({})).await.refusal(), (404, "key_not_found".to_owned()));
}

#[tokio::test]
async fn a_repeated_rotation_says_what_was_said_then_without_the_key() {
    let server = Server::start().await;
    let (_, id) = key_of(&server.post("/api-keys", &mint(json!({}))).await);
    let path = format!("/api-keys/{id}/rotate");
    let first = server.key_once(&path, "k", &json!({ "grace_minutes": 0 })).await;
    let (key, new_id) = key_of(&first);
    // The key that took its place has changed since.
    let next = server.post(&format!("/api-keys/{new_id}/rotate"), &json!({ "grace_minutes": 5 })).await;
    assert_eq!(next.status, 201);
    let again = server.key_once(&path, "k", &json!({ "grace_minutes": 0 })).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, Some("true")));
    assert_eq!(again.text, first.text.replace(&format!("\"{key}\""), "null"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_simultaneous_rotations_one_mints_a_key() {
    let server = Server::start().await;
    let (_, id) = key_of(&server.post("/api-keys", &mint(json!({}))).await);
    let (path, nothing) = (format!("/api-keys/{id}/rotate"), json!({}));
    let answers = futures_util::future::join_all((0..16).map(|_| server.post(&path, &nothing))).await;
    let with = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((with(201), with(409)), (1, 15), "{answers:?}");
    assert_eq!(server.key_ids("acme").await.len(), 2);
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once() {
    let server = Server::start().await;
    let (key, id) = key_of(&server.post("/api-keys", &mint(json!({}))).await);
    assert_eq!(server.opened_by(&key).await, 200, "now this process knows it");
    for _ in 0..2 {
        let revoked = server.delete(&format!("/api-keys/{id}")).await;
        assert_eq!((revoked.status, revoked.text.as_str()), (204, ""), "revoking it again changes nothing");
        assert_eq!(server.opened_by(&key).await, 401);
    }
}

#[tokio::test]
async fn a_key_expires_at_its_very_moment_though_it_is_cached() {
    let server = Server::start().await;
    let (key, _) = key_of(&server.post("/api-keys", &mint(json!({ "expires_at": "2026-11-21T12:00:01Z" }))).await);
    server.clock.advance(Duration::from_micros(749_999));
    assert_eq!(server.opened_by(&key).await, 200);
    server.clock.advance(Duration::from_micros(1));
    assert_eq!(server.opened_by(&key).await, 401);
}

#[tokio::test]
async fn what_only_resembles_a_key_is_nobodys() {
    let server = Server::doors_only().await;
    let (key, id) = key_of(&server.post("/api-keys", &mint(json!({}))).await);
    let (other, _) = key_of(&server.post("/api-keys", &mint(json!({}))).await);
    assert_eq!(server.opened_by(&key).await, 200);
    let (prefix, secret) = key.split_at(key.rfind('_').unwrap_or(key.len()).min(16));
    let hash = server.table.dump("countersign").await;
    let hash = hash.split("hash\\\":\\\"").nth(1).unwrap()[..64].to_owned();
    let texts: Vec<Vec<u8>> = [
        key[..key.len() - 1].to_owned(),
        key[1..].to_owned(),
        key[..20].to_owned(),
        format!("{key}A"),
        format!("{key}="),
        key.to_uppercase(),
        key.to_lowercase(),
        key.replacen("cs_live", "CS_LIVE", 1),
        key.replacen("live", "test", 1),
        key.replacen("cs_live_", "", 1),
        format!("{prefix} {secret}"),
        format!("{prefix}\t{secret}"),
        format!("cs_live_ {}", &key[8..]),
        format!("{}{}", &other[..16], &key[16..]),
        format!("{key},{key}"),
        format!("{key} {key}"),
        format!("\"{key}\""),
        key.replace('_', "%5F"),
        key.replacen('_', "\u{ff3f}", 1),
        format!("{key}\u{a0}"),
        format!("\u{feff}{key}"),
        format!("cs_live_{}", "x".repeat(20_000)),
        "cs_live_".to_owned(),
        "cs_live__".to_owned(),
        id,
        hash,
        "*".to_owned(),
        "null".to_owned(),
        "a.b.c".to_owned(),
    ]
    .into_iter()
    .map(String::into_bytes)
    .chain([b"cs_live_\xff\xfe".to_vec(), key.bytes().map(|b| b | 0x80).collect()])
    .collect();
    let refused = bare(send(server.public(Method::GET, CASES)).await);
    assert_eq!(refused.status, 401);
    for text in texts {
        for (name, value) in [("X-API-Key", text.clone()), ("Authorization", [b"Bearer ", &*text].concat())] {
            let request = server.public(Method::GET, CASES).header(name, HeaderValue::from_bytes(&value).unwrap());
            assert_eq!(bare(send(request).await), refused, "{name}: {}", String::from_utf8_lossy(&value));
        }
    }
    assert_eq!(server.opened_by(&key).await, 200);
}

#[tokio::test]
async fn nothing_of_a_key_is_readable_in_the_table() {
    let server = Server::doors_only().await;
    let (first, id) = key_of(&server.key_once("/api-keys", "k", &mint(json!({}))).await);
    let path = format!("/api-keys/{id}/rotate");
    let (second, _) = key_of(&server.key_once(&path, "k", &json!({})).await);
    let tool = Tool { server: &server, key: server.key("acme", &["cases:read", "cases:write"]).await };
    let created = send(
        tool.request(Method::POST, "").header("Idempotency-Key", "k").json(&json!({ "title": "t", "severity": "low" })),
    );
    assert_eq!(created.await.status, 201);
    let dump = server.table.dump("countersign").await;
    assert!(dump.contains("fingerprint") && dump.contains(&id), "the dump has entries and keys");
    assert!(!dump.contains("cs_live"));
    for key in [&first, &second, &tool.key] {
        for part in key.splitn(4, '_').skip(2) {
            assert!(!dump.contains(part), "{part}");
        }
    }
}

#[tokio::test]
async fn what_happened_to_a_key_is_in_a_whole_audit_log() {
    let server = Server::start().await;
    let (key, id) = key_of(&server.post("/api-keys", &mint(json!({}))).await);
    let rotated = server.post(&format!("/api-keys/{id}/rotate"), &json!({})).await;
    assert_eq!(server.delete(&format!("/api-keys/{id}")).await.status, 204);
    let history = server.history(&countersign_api::Keys::key(&KeyId::of(&key))).await;
    let entries: Vec<_> = history.iter().flat_map(|change| &change.entries).collect();
    let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["key.minted", "key.rotated", "key.revoked"]);
    assert!(entries.iter().all(|entry| entry.actor.to_string() == "operator:local"));
    let verified = countersign::verify::tenant(&server.app.store, &"acme".parse().unwrap()).await.unwrap();
    assert_eq!((verified.broken, verified.records, verified.entries), (None, 2, 4));
    assert_eq!(server.opened_by(&key_of(&rotated).0).await, 200, "its place was taken before");
}

#[tokio::test]
async fn api_keys_are_managed_on_the_management_plane_only() {
    let server = Server::start().await;
    for (method, path) in [
        (Method::POST, "/api-keys".to_owned()),
        (Method::GET, "/api-keys?domain=acme".to_owned()),
        (Method::DELETE, format!("/api-keys/{ABSENT}")),
        (Method::POST, format!("/api-keys/{ABSENT}/rotate")),
    ] {
        let public = send(server.public(method.clone(), &path)).await;
        assert_eq!(public.refusal(), (404, "not_found".to_owned()), "{method} {path}");
        let management = send(server.request(method.clone(), &path)).await;
        assert_ne!(management.refusal().1, "not_found", "{method} {path}");
        let cases = send(server.request(method, &format!("{CASES}{path}"))).await;
        assert_eq!(cases.refusal(), (404, "not_found".to_owned()), "and the door is not there");
    }
}
