//! Who gets to the cases: holders of a working key with the scope, and only to their own tenant's.

use crate::cases::{ABSENT, CASES, NOT_FOUND, Tool, case_ids};
use crate::server::{Answer, CUSTOMER, Server, send};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// Each route, with a body if it takes one.
fn routes(case_id: &str) -> [(Method, String, Option<Value>); 5] {
    [
        (Method::POST, CASES.to_owned(), Some(json!({ "case_id": case_id, "title": "t", "severity": "low" }))),
        (Method::GET, CASES.to_owned(), None),
        (Method::GET, format!("{CASES}/{case_id}"), None),
        (Method::GET, format!("{CASES}/feed"), None),
        (Method::POST, format!("{CASES}/{case_id}/verdict"), Some(json!({ "outcome": "SAFE" }))),
    ]
}

async fn ask(server: &Server, route: &(Method, String, Option<Value>), headers: &[(&str, &str)]) -> Answer {
    let (method, path, body) = route;
    let mut request = server.public(method.clone(), path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(match body {
        Some(body) => request.json(body),
        None => request,
    })
    .await
}

/// The answer without what differs between any two.
pub(crate) fn bare(mut answer: Answer) -> Answer {
    for name in ["x-request-id", "date"] {
        answer.headers.remove(name);
    }
    answer
}

#[tokio::test]
async fn a_key_is_taken_in_either_header() {
    let server = Server::start().await;
    let key = server.key("acme", &["cases:read", "cases:write"]).await;
    let route = &routes(ABSENT)[1];
    let bearer = format!("Bearer {key}");
    for headers in [
        vec![("X-API-Key", key.as_str())],
        vec![("Authorization", &bearer)],
        vec![("Authorization", &bearer), ("X-API-Key", &key)],
    ] {
        assert_eq!(ask(&server, route, &headers).await.status, 200, "{headers:?}");
    }
}

#[tokio::test]
async fn whoever_has_no_working_key_gets_one_and_the_same_answer() {
    let server = Server::start().await;
    let scopes = ["cases:read", "cases:write"];
    let (key, other) = (server.key("acme", &scopes).await, server.key("acme", &scopes).await);
    let revoked = server.key("acme", &scopes).await;
    let id = countersign_domain::api_key::KeyId::of(&revoked);
    assert_eq!(server.delete(&format!("/api-keys/{id}")).await.status, 204);
    let body = json!({ "domain": "acme", "name": "n", "scopes": scopes, "expires_at": "2026-11-21T12:01:00Z" });
    let expired = server.post("/api-keys", &body).await.json()["key"].as_str().unwrap().to_owned();
    server.clock.advance(Duration::from_secs(60));
    let unknown = format!("{}*", &key[..key.len() - 1]);
    let token = server.token("acme", "alice", &["admin"]);
    let (bearer, bearer_other) = (format!("Bearer {token}"), format!("Bearer {other}"));
    for route in routes(ABSENT) {
        let none = bare(ask(&server, &route, &[]).await);
        assert_eq!((none.status, none.header("www-authenticate")), (401, Some("Bearer")));
        assert!(none.json()["detail"].is_string());
        for headers in [
            vec![("X-API-Key", unknown.as_str())],
            vec![("X-API-Key", &revoked)],
            vec![("X-API-Key", &expired)],
            vec![("X-API-Key", "")],
            vec![("X-API-Key", &token)],
            vec![("X-API-Key", &key), ("X-API-Key", &key)],
            vec![("X-API-Key", &key), ("Authorization", &bearer_other)],
            vec![("X-API-Key", &key), ("Authorization", &bearer)],
            vec![("X-API-Key", &key), ("Authorization", "Bearer nonsense")],
            vec![("Authorization", &bearer)],
            vec![("Authorization", &key)],
            vec![("Authorization", "Basic dTpw")],
            vec![("api-key", &key)],
        ] {
            assert_eq!(bare(ask(&server, &route, &headers).await), none, "{route:?} {headers:?}");
        }
    }
    let tool = Tool { server: &server, key };
    assert_eq!(tool.ids("").await, Vec::<String>::new(), "none of this did anything");
}

#[tokio::test]
async fn each_route_needs_its_own_scope() {
    let server = Server::start().await;
    let writes = [true, false, false, true, true];
    for (scopes, may_write, may_read) in [
        (vec!["cases:write"], true, false),
        (vec!["cases:read"], false, true),
        (vec!["actions:submit", "actions:read", "webhooks:manage"], false, false),
    ] {
        let key = server.key("acme", &scopes).await;
        for (route, writes) in routes(ABSENT).iter().zip(writes) {
            let answer = ask(&server, route, &[("X-API-Key", &key)]).await;
            if if writes { may_write } else { may_read } {
                assert!([200, 201].contains(&answer.status), "{scopes:?} {route:?} {answer:?}");
            } else {
                let scope = if writes { "cases:write" } else { "cases:read" };
                assert_eq!(answer.status, 403, "{scopes:?} {route:?}");
                assert_eq!(answer.json(), json!({ "detail": format!("This API key lacks the scope {scope}") }));
            }
        }
    }
}

#[tokio::test]
async fn another_tenants_case_looks_like_one_that_never_was() {
    let server = Server::start().await;
    let (mine, theirs) = (Tool::of(&server, "acme").await, Tool::of(&server, "rival").await);
    let (waiting, closed) = (theirs.create(json!({})).await, theirs.create(json!({})).await);
    theirs.verdict(&closed, &json!({ "outcome": "SAFE" })).await;
    for id in [&waiting, &closed] {
        for path in [format!("/{id}"), format!("/{id}?offset=1")] {
            let absent = bare(mine.get(&path.replace(id, ABSENT)).await);
            assert_eq!((absent.status, absent.text.as_str()), (404, NOT_FOUND));
            assert_eq!(bare(mine.get(&path).await), absent);
        }
        let verdict = json!({ "outcome": "TRUE_POSITIVE" });
        let absent = bare(mine.verdict(ABSENT, &verdict).await);
        assert_eq!((absent.status, absent.text.as_str()), (404, NOT_FOUND));
        assert_eq!(bare(mine.verdict(id, &verdict).await), absent);
    }
    assert_eq!(mine.get("").await.text, r#"{"cases":[],"next_cursor":null}"#);
    assert_eq!(mine.get("/feed").await.text, r#"{"cases":[],"next_cursor":null}"#);
    for query in ["state=discover", "state=closed", "outcome=SAFE"] {
        assert_eq!(mine.ids(query).await, Vec::<String>::new());
    }
    // The same id is a case of one's own.
    let body = |id: &str| json!({ "case_id": id, "title": "mine", "severity": "low" });
    let (fresh, taken) = (mine.post("", &body(ABSENT)).await, mine.post("", &body(&closed)).await);
    assert_eq!((fresh.status, taken.status), (201, 201));
    assert_eq!(bare(taken).text, bare(fresh).text.replace(ABSENT, &closed));
    assert_eq!(theirs.show(&closed).await["title"], "Impossible travel");
    assert_eq!(case_ids(&theirs.get("/feed").await), [waiting]);
}

#[tokio::test]
async fn both_spellings_of_a_uuid_are_one_domain() {
    let server = Server::start().await;
    let (lower, upper) = (Tool::of(&server, CUSTOMER).await, Tool::of(&server, &CUSTOMER.to_uppercase()).await);
    let id = lower.create(json!({})).await;
    assert_eq!(upper.ids("").await, [id]);
}

#[tokio::test]
async fn an_idempotency_key_is_its_callers_own() {
    let server = Server::start().await;
    let (mine, theirs) = (Tool::of(&server, "acme").await, Tool::of(&server, "rival").await);
    let body = json!({ "case_id": ABSENT, "title": "t", "severity": "low" });
    for tool in [mine, theirs] {
        let created = send(tool.request(Method::POST, "").header("Idempotency-Key", "k").json(&body)).await;
        assert_eq!((created.status, created.header("idempotency-replayed")), (201, None));
    }
}

#[tokio::test]
async fn a_table_that_does_not_answer_is_no_reason_to_call_a_key_unknown() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    server.table.cut_off(true);
    let refused = tool.get("").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    server.table.cut_off(false);
    assert_eq!(tool.get("").await.status, 200);
}
