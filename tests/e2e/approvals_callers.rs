//! Who may call the approvals door, what a tenant sees of another, and what is refused before anything is looked at.

use crate::approvals::{ABSENT, PENDING, Person, TENANT, proposal, refused, respond_path, ulid};
use crate::server::{Answer, Server, send};
use countersign_testing::fault::Faults;
use futures_util::future::join_all;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// Every route with the least role that it needs, and a body that it takes.
fn routes(ulid: &str) -> Vec<(Method, String, &'static str, Option<Value>)> {
    let body = |body: Value| Some(body);
    vec![
        (Method::POST, respond_path(ulid), "admin", body(json!({ "decision": "approve" }))),
        (Method::GET, PENDING.to_owned(), "member", None),
        (Method::POST, "/v1/remediation".to_owned(), "member", body(proposal(json!({})))),
        (Method::GET, "/v1/remediation".to_owned(), "member", None),
        (Method::GET, format!("/v1/remediation/rem_{ulid}"), "member", None),
        (Method::POST, format!("/v1/remediation/rem_{ulid}/approve"), "admin", body(json!({}))),
        (Method::POST, format!("/v1/remediation/rem_{ulid}/reject"), "admin", body(json!({}))),
        (
            Method::POST,
            format!("/v1/remediation/rem_{ulid}/steps/step_1"),
            "member",
            body(json!({ "status": "running" })),
        ),
        (Method::GET, "/v1/audit".to_owned(), "admin", None),
        (Method::GET, "/v1/audit/verify".to_owned(), "admin", None),
    ]
}

async fn call(person: &Person<'_>, method: &Method, path: &str, body: Option<&Value>) -> Answer {
    let request = person.request(method.clone(), path);
    send(match body {
        Some(body) => request.json(body),
        None => request,
    })
    .await
}

fn anyone(server: &Server, token: String) -> Person<'_> {
    Person { server, token }
}

#[tokio::test]
async fn only_a_jwt_of_now_lets_anyone_in() {
    let server = Server::start().await;
    let key = server.key(TENANT, &["actions:submit", "cases:write"]).await;
    let token = |claims: Value| server.token_with(TENANT, "alice", &["admin"], &claims);
    let now = server.clock.now().as_second();
    let good = token(json!({}));
    let (message, _) = good.rsplit_once('.').unwrap();
    let unsigned = format!("{message}.");
    for (method, path, _, _) in routes(ABSENT) {
        let bare = server.public(method.clone(), &path);
        assert_eq!(send(bare).await.refusal(), refused(401, "unauthorized"), "{method} {path}");
        let with_key = server.public(method.clone(), &path).header("X-API-Key", &key);
        assert_eq!(send(with_key).await.refusal(), refused(401, "unauthorized"), "{method} {path}");
        for wrong in [
            &key,
            "",
            "nonsense",
            "a.b.c",
            &unsigned,
            &token(json!({ "exp": now - 30 })),
            &token(json!({ "nbf": now + 3600 })),
            &token(json!({ "aud": "others" })),
            &token(json!({ "iss": "others" })),
            &token(json!({ "sub": "" })),
            &token(json!({ "tenant_id": "a|b" })),
            &token(json!({ "tenant_id": 5 })),
            &token(json!({ "tenant_id": null })),
            &token(json!({ "organization_id": 42 })),
        ] {
            let answer = call(&anyone(&server, wrong.to_owned()), &method, &path, None).await;
            assert_eq!(answer.refusal(), refused(401, "unauthorized"), "{method} {path} {wrong}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            let fields: Vec<_> = answer.json().as_object().unwrap().keys().cloned().collect();
            assert_eq!(fields, ["error", "message"]);
        }
    }
    let basic = server.public(Method::GET, PENDING).header("Authorization", "Basic YTpi");
    assert_eq!(send(basic).await.status, 401);
    let leeway = anyone(&server, token(json!({ "exp": now - 29 })));
    assert_eq!(leeway.get(PENDING).await.status, 200, "clocks may be 30 s apart");
}

#[tokio::test]
async fn with_a_key_beside_it_the_jwt_is_the_caller() {
    let server = Server::start().await;
    let [own, foreign] = [server.key(TENANT, &["actions:read"]).await, server.key("other", &["actions:read"]).await];
    let with = async |key: &str| send(server.admin().request(Method::GET, PENDING).header("X-API-Key", key)).await;
    assert_eq!(with(&own).await.status, 200);
    assert_eq!(with(&foreign).await.refusal(), refused(401, "unauthorized"));
    assert_eq!(with("cs_live_none_such").await.refusal(), refused(401, "unauthorized"));
}

#[tokio::test]
async fn a_role_is_what_the_list_roles_says_and_nothing_else() {
    let server = Server::start().await;
    let waiting = server.wait().await;
    let no_role = [
        json!({}),
        json!({ "roles": "admin" }),
        json!({ "roles": { "admin": true } }),
        json!({ "roles": ["Admin", "admins", "viewer", 5, null, ["admin"]] }),
        json!({ "roles": null, "role": "admin" }),
        json!({ "roles": [], "role": "admin", "realm_access": { "roles": ["admin", "member"] } }),
    ];
    for claims in no_role {
        let nobody = anyone(&server, server.token_with(TENANT, "alice", &[], &claims));
        for (method, path, _, body) in routes(&waiting) {
            let answer = call(&nobody, &method, &path, body.as_ref()).await;
            assert_eq!(answer.refusal(), refused(403, "forbidden"), "{method} {path} {claims}");
        }
    }
    for (method, path, least, body) in routes(&waiting) {
        if least == "admin" {
            let answer = call(&server.member(), &method, &path, body.as_ref()).await;
            assert_eq!(answer.refusal(), refused(403, "forbidden"), "{method} {path}");
        }
    }
    assert_eq!(server.told(&waiting).await, ["remediation.proposed"]);
    for (method, path, _, body) in routes(&server.wait().await) {
        let both = server.person(TENANT, "carol", &["viewer", "admin"]);
        let answer = call(&both, &method, &path, body.as_ref()).await;
        assert_ne!(answer.status, 403, "an admin may do everything: {method} {path}");
    }
}

#[tokio::test]
async fn an_issuer_whose_keys_cannot_be_had_is_503_rather_than_401() {
    let issuers = json!([{
        "issuer": "countersign-local", "audience": "countersign", "jwks_url": "http://127.0.0.1:9/jwks",
        "algorithms": ["ES256"], "tenants": "*",
    }]);
    let server = Server::with(Faults::none(), 0, &[("COUNTERSIGN_ISSUERS", &issuers.to_string())]).await;
    for (method, path, _, body) in routes(ABSENT) {
        let answer = call(&server.admin(), &method, &path, body.as_ref()).await;
        assert_eq!(answer.refusal(), refused(503, "unavailable"), "{method} {path}");
        assert!(answer.header("retry-after").is_some());
    }
}

#[tokio::test]
async fn a_table_that_does_not_answer_is_503_and_changes_nothing() {
    let server = Server::start().await;
    let waiting = server.wait().await;
    server.table.cut_off(true);
    let admin = server.admin();
    let routes = routes(&waiting);
    let answers =
        join_all(routes.iter().map(|(method, path, _, body)| call(&admin, method, path, body.as_ref()))).await;
    for ((method, path, ..), answer) in routes.iter().zip(answers) {
        assert_eq!(answer.refusal(), refused(503, "unavailable"), "{method} {path}");
    }
    server.table.cut_off(false);
    assert_eq!(server.told(&waiting).await, ["remediation.proposed"]);
    assert_eq!(server.respond(&waiting, "approve").await.status, 200);
}

/// What an answer says, without what differs from call to call.
fn said(answer: &Answer) -> (u16, String, HeaderMap) {
    let mut headers = answer.headers.clone();
    for own in ["x-request-id", "date"] {
        headers.remove(own);
    }
    (answer.status, answer.text.clone(), headers)
}

#[tokio::test]
async fn of_another_tenant_nothing_is_seen_on_any_route() {
    let server = Server::start().await;
    let waiting = server.wait().await;
    let executing = ulid(&server.propose(json!({ "requiresApproval": false })).await);
    let decided = server.wait().await;
    assert_eq!(server.respond(&decided, "reject").await.status, 200);
    let stranger = server.person("other", "alice", &["admin"]);
    for id in [&waiting, &executing, &decided] {
        for ((method, path, _, body), (_, absent, _, _)) in routes(id).into_iter().zip(routes(ABSENT)) {
            if !path.contains(id.as_str()) {
                continue;
            }
            let foreign = call(&stranger, &method, &path, body.as_ref()).await;
            let never = call(&stranger, &method, &absent, body.as_ref()).await;
            assert_eq!(foreign.status, 404, "{method} {path}");
            assert_eq!(said(&foreign), said(&never), "{method} {path}");
        }
    }
    for (path, empty) in [
        (PENDING, r#"{"items":[],"total":0}"#),
        ("/v1/remediation", r#"{"items":[],"count":0}"#),
        ("/v1/remediation?status=proposed", r#"{"items":[],"count":0}"#),
        ("/v1/audit", r#"{"items":[]}"#),
        ("/v1/audit?incidentId=inc_1", r#"{"items":[]}"#),
        ("/v1/audit/verify", r#"{"valid":true,"entries":0,"firstBroken":null}"#),
    ] {
        assert_eq!(stranger.get(path).await.text, empty, "{path}");
    }
    assert_eq!(server.told(&waiting).await, ["remediation.proposed"]);
    assert_eq!(server.told(&executing).await, ["remediation.proposed"]);
}

#[tokio::test]
async fn one_name_of_a_tenant_is_one_tenant() {
    let server = Server::start().await;
    let upper = "550E8400-E29B-41D4-A716-446655440000";
    let person = server.person(upper, "alice", &["admin"]);
    let id = ulid(&person.post("/v1/remediation", &proposal(json!({}))).await.json());
    let lower = server.person(&upper.to_lowercase(), "alice", &["admin"]);
    assert_eq!(lower.get(&format!("/v1/remediation/rem_{id}")).await.status, 200);
    // A tenant that is a number is named by either claim.
    let numbered = server.person("42", "bob", &["admin"]);
    let id = ulid(&numbered.post("/v1/remediation", &proposal(json!({}))).await.json());
    let by_number = anyone(&server, server.token_with("42", "bob", &["admin"], &json!({ "organization_id": 42 })));
    assert_eq!(by_number.get(&format!("/v1/remediation/rem_{id}")).await.status, 200);
}

#[tokio::test]
async fn a_cursor_is_good_for_its_own_tenant_and_listing_only() {
    let server = Server::start().await;
    let stranger = server.person("other", "eve", &["admin"]);
    for _ in 0..3 {
        server.wait().await;
        assert_eq!(stranger.post("/v1/remediation", &proposal(json!({}))).await.status, 201);
    }
    let listings =
        [PENDING, "/v1/remediation", "/v1/remediation?status=proposed", "/v1/audit", "/v1/audit?incidentId=inc_1"];
    let limited = |path: &str| format!("{path}{}limit=1", if path.contains('?') { '&' } else { '?' });
    let mut cursors = Vec::new();
    for path in listings {
        let page = server.admin().get(&limited(path)).await.json();
        cursors.push((path, page["cursor"].as_str().unwrap().to_owned()));
    }
    let others = ["/v1/remediation?status=executing", "/v1/remediation?status=approved", "/v1/audit?incidentId=inc_2"];
    let others: Vec<_> = listings.into_iter().chain(others).chain(["/v1/audit/verify"]).collect();
    for (path, cursor) in &cursors {
        for other in &others {
            let and = if other.contains('?') { '&' } else { '?' };
            let answer = server.admin().get(&format!("{other}{and}cursor={cursor}")).await;
            if other == path {
                assert_eq!(answer.status, 200, "{path}");
            } else {
                assert_eq!(answer.refusal(), refused(400, "validation_error"), "{path} in {other}");
                assert_eq!(answer.json()["details"][0]["field"], "cursor");
            }
        }
        let foreign = stranger.get(&format!("{}&cursor={cursor}", limited(path))).await;
        assert_eq!(foreign.refusal(), refused(400, "validation_error"), "{path}");
        for forged in ["", "x", "AAAA", &format!("{cursor}A"), &"A".repeat(4097)] {
            let answer = server.admin().get(&format!("{}&cursor={forged}", limited(path))).await;
            assert_eq!(answer.refusal(), refused(400, "validation_error"), "{path} {forged}");
        }
    }
}

#[tokio::test]
async fn a_query_out_of_range_is_malformed_never_clamped() {
    let server = Server::start().await;
    for path in [PENDING, "/v1/remediation", "/v1/audit"] {
        for wrong in ["limit=0", "limit=101", "limit=-1", "limit=1.0", "limit=", "limit=a", "limit=1&limit=1"] {
            let answer = server.admin().get(&format!("{path}?{wrong}")).await;
            assert_eq!(answer.refusal(), refused(400, "validation_error"), "{path} {wrong}");
            assert_eq!(answer.json()["details"][0]["field"], "limit");
        }
        for right in ["limit=1", "limit=100", "unknown=1"] {
            assert_eq!(server.admin().get(&format!("{path}?{right}")).await.status, 200, "{path} {right}");
        }
    }
    for wrong in ["Proposed", "", "pending", "all", "proposed,executed"] {
        let answer = server.admin().get(&format!("/v1/remediation?status={wrong}")).await;
        assert_eq!(answer.refusal(), refused(400, "validation_error"), "{wrong}");
    }
    for wrong in ["", "a%20b", "a%23", &"a".repeat(65), "%FF"] {
        let answer = server.admin().get(&format!("/v1/audit?incidentId={wrong}")).await;
        assert_eq!(answer.refusal(), refused(400, "validation_error"), "{wrong}");
    }
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused_in_the_doors_own_words() {
    let server = Server::start().await;
    let deep = format!(r#"{{"x":{}1{}}}"#, "[".repeat(128), "]".repeat(128));
    for (method, path, _, body) in routes(ABSENT) {
        let Some(body) = body else { continue };
        let raw = |body: Vec<u8>| server.admin().request(method.clone(), &path).body(body);
        let twice = body.to_string().replacen('{', r#"{"x":1,"x":1,"#, 1).replace(",}", "}");
        for malformed in ["{", "nul", "[1,]", "\u{feff}{}", &deep, &twice, "\"\u{0}\"", "1e999"] {
            let answer = send(raw(malformed.as_bytes().to_vec())).await;
            assert_eq!(answer.refusal(), refused(400, "validation_error"), "{path} {malformed}");
        }
        assert_eq!(send(raw(b"\"\xff\"".to_vec())).await.status, 400);
        let large = send(raw(vec![b' '; 256 * 1024 + 1])).await;
        assert_eq!(large.refusal(), refused(413, "payload_too_large"), "{path}");
        let typed = raw(body.to_string().into()).header("Content-Type", "text/plain");
        assert_eq!(send(typed).await.refusal(), refused(415, "unsupported_media_type"), "{path}");
        let packed = raw(body.to_string().into()).header("Content-Encoding", "gzip");
        assert_eq!(send(packed).await.refusal(), refused(415, "unsupported_media_type"), "{path}");
    }
    for (method, path, allow) in [
        (Method::GET, respond_path(ABSENT), "POST"),
        (Method::POST, PENDING.to_owned(), "GET,HEAD"),
        (Method::DELETE, format!("/v1/remediation/rem_{ABSENT}"), "GET,HEAD"),
    ] {
        let answer = send(server.admin().request(method, &path)).await;
        assert_eq!(answer.refusal(), refused(405, "method_not_allowed"), "{path}");
        assert_eq!(answer.header("allow"), Some(allow), "{path}");
    }
    for path in ["/v1", "/v1/remediations", "/v1/remediation/a/b", "/v1/notifications/approvals", "/v1/audit/x"] {
        assert_eq!(server.admin().get(path).await.refusal(), refused(404, "not_found"), "{path}");
    }
}

#[tokio::test]
async fn every_change_is_repeated_by_its_idempotency_key_without_acting_again() {
    let server = Server::start().await;
    let admin = server.admin();
    let [responded, approved, rejected] = [server.wait().await, server.wait().await, server.wait().await];
    let executing = ulid(&server.propose(json!({ "requiresApproval": false })).await);
    let changes = [
        (
            respond_path(&responded),
            json!({ "decision": "reject", "notes": "n" }),
            json!({ "decision": "approve" }),
            200,
        ),
        (format!("/v1/remediation/rem_{approved}/approve"), json!({}), json!({ "notes": "other" }), 200),
        (format!("/v1/remediation/rem_{rejected}/reject"), json!({ "notes": "n" }), json!({}), 200),
        ("/v1/remediation".to_owned(), proposal(json!({})), proposal(json!({ "title": "other" })), 201),
        (
            format!("/v1/remediation/rem_{executing}/steps/step_1"),
            json!({ "status": "running", "output": "o" }),
            json!({ "status": "completed" }),
            200,
        ),
    ];
    for (path, body, other, status) in &changes {
        let first = admin.post_once(path, "k", body).await;
        assert_eq!((first.status, first.header("idempotency-replayed")), (*status, None), "{path}");
        let again = admin.post_once(path, "k", body).await;
        assert_eq!((again.status, again.header("idempotency-replayed")), (*status, Some("true")), "{path}");
        assert_eq!(again.text, first.text, "{path}");
        let reused = admin.post_once(path, "k", other).await;
        assert_eq!(reused.refusal(), refused(422, "idempotency_key_reused"), "{path}");
        // Another caller's key is another key.
        let someone = server.person(TENANT, "bob", &["admin"]).post_once(path, "k", body).await;
        assert_eq!(someone.header("idempotency-replayed"), None, "{path}");
    }
    for (id, entries) in [(&responded, 2), (&approved, 2), (&rejected, 2), (&executing, 2)] {
        assert_eq!(server.told(id).await.len(), entries, "{id}");
    }
    assert_eq!(server.member().get("/v1/remediation").await.json()["count"], 6, "4, and one of each proposer");
    // A day later the key is free again, and the rule is asked.
    server.clock.advance(std::time::Duration::from_hours(24));
    let (path, body, ..) = &changes[0];
    assert_eq!(admin.post_once(path, "k", body).await.refusal(), refused(409, "already_decided"));
}

#[tokio::test]
async fn a_refusal_is_judged_afresh_under_the_same_key() {
    let server = Server::start().await;
    let waiting = server.wait().await;
    let path = format!("/v1/remediation/rem_{waiting}/steps/step_1");
    let running = json!({ "status": "running" });
    assert_eq!(server.admin().post_once(&path, "k", &running).await.refusal(), refused(409, "invalid_state"));
    assert_eq!(server.respond(&waiting, "approve").await.status, 200);
    assert_eq!(server.admin().post_once(&path, "k", &running).await.status, 200);
}
