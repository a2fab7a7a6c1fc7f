//! Deciding on agents' actions: the documented answers, every refusal in its order, and who may decide on what.

use crate::actions::{HUMAN, MEDIUM, ORGANIZATION, OTHER_ORGANIZATION, Organization, code, eventually};
use crate::server::{Answer, Server, send};
use countersign_api::LocalIssuer;
use countersign_domain::action::{Action, ActionId};
use countersign_domain::{EntryClass, Tenant};
use countersign_store::Key;
use countersign_testing::fault::Faults;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

const VERBS: [&str; 2] = ["approve", "reject"];
const ONLY_HUMANS: &str = "API keys cannot approve or reject actions";

fn path(id: u64, verb: &str) -> String {
    format!("/api/v1/actions/{id}/{verb}")
}

impl Organization {
    /// The names of the events and entries of an action, as the table has them.
    async fn entries(&self, id: u64) -> Vec<(String, EntryClass)> {
        let tenant: Tenant = ORGANIZATION.parse().unwrap();
        let key = Key::<Action>::new(&tenant, &ActionId::new(id.try_into().unwrap()).unwrap().to_string());
        let changes = self.server.history(&key).await;
        changes.into_iter().flat_map(|change| change.entries).map(|entry| (entry.name, entry.class)).collect()
    }

    /// A level 1 action: score 35.
    async fn low(&self) -> u64 {
        self.submitted(json!({ "action_type": "api_call" })).await
    }

    async fn once(&self, bearer: &str, path: &str, key: &str, body: &Value) -> Answer {
        send(self.with(bearer, Method::POST, path).header("Idempotency-Key", key).json(body)).await
    }
}

#[tokio::test]
async fn an_approval_is_answered_as_documented_and_with_nothing_else() {
    let org = Organization::new().await;
    let id = org.pending().await;
    let correlation = org.details(id).await["correlation_id"].clone();
    org.server.clock.advance(Duration::from_secs(7));
    let body = json!({ "reason": "Approved for quarterly data analysis project", "unknown": [1] });
    let approved = org.post(&org.admin, &path(id, "approve"), &body).await;
    assert_eq!((approved.status, approved.header("content-type")), (200, Some("application/json")));
    let fields = r#""approved_by":42,"approved_at":"2026-11-21T12:00:07Z""#;
    assert_eq!(
        approved.text,
        format!(r#"{{"action_id":{id},"status":"approved",{fields},"correlation_id":{correlation}}}"#)
    );
    let public = |name: &str| (name.to_owned(), EntryClass::Public);
    let audit = |name: &str| (name.to_owned(), EntryClass::Audit);
    assert_eq!(
        org.entries(id).await,
        [public("action.pending"), audit("action_submitted"), public("action.approved"), audit("action_approved")]
    );
}

#[tokio::test]
async fn a_rejection_is_answered_with_its_reason_if_there_was_one() {
    let org = Organization::new().await;
    for (body, reason) in [
        (
            json!({ "reason": "Action violates data retention policy" }),
            r#""reason":"Action violates data retention policy","#,
        ),
        (json!({}), ""),
        (json!({ "reason": null }), ""),
    ] {
        let id = org.pending().await;
        let correlation = org.details(id).await["correlation_id"].clone();
        let rejected = org.post(&org.admin, &path(id, "reject"), &body).await;
        let fields = r#""rejected_by":42,"rejected_at":"2026-11-21T12:00:00Z""#;
        assert_eq!(
            rejected.text,
            format!(r#"{{"action_id":{id},"status":"denied",{fields},{reason}"correlation_id":{correlation}}}"#)
        );
        assert_eq!(org.trail(id).await, ["action_submitted", "action_denied"]);
    }
}

#[tokio::test]
async fn a_body_is_not_needed_whatever_its_content_type() {
    let org = Organization::new().await;
    let bodies: [(Option<&str>, &str); 6] = [
        (None, ""),
        (Some("application/json"), ""),
        (Some("text/plain"), ""),
        (None, "{}"),
        (Some("application/json"), " null "),
        (None, r#"{"reason":"r","other":1}"#),
    ];
    for verb in VERBS {
        for (content_type, body) in bodies {
            let id = org.pending().await;
            let mut request = org.with(&org.admin, Method::POST, &path(id, verb)).body(body.to_owned());
            if let Some(content_type) = content_type {
                request = request.header("Content-Type", content_type);
            }
            assert_eq!(send(request).await.status, 200, "{verb} {content_type:?} {body:?}");
        }
        let id = org.pending().await;
        for (content_type, body, expected) in [
            ("application/json", "[]".to_owned(), code(422, "VALIDATION_ERROR")),
            ("application/json", "{".to_owned(), code(422, "VALIDATION_ERROR")),
            ("application/json", r#"{"reason":5}"#.to_owned(), code(422, "VALIDATION_ERROR")),
            ("application/json", r#"{"reason":"a","reason":"b"}"#.to_owned(), code(422, "VALIDATION_ERROR")),
            ("application/json", r#"{"reason":"\u0000"}"#.to_owned(), code(422, "VALIDATION_ERROR")),
            ("application/json", json!({ "reason": "r".repeat(2001) }).to_string(), code(422, "VALIDATION_ERROR")),
            ("text/plain", "{}".to_owned(), code(415, "UNSUPPORTED_MEDIA_TYPE")),
            ("application/json", " ".repeat(256 * 1024 + 1), code(413, "PAYLOAD_TOO_LARGE")),
        ] {
            let request = org.with(&org.admin, Method::POST, &path(id, verb)).header("Content-Type", content_type);
            let start: String = body.chars().take(40).collect();
            assert_eq!(send(request.body(body)).await.coded(), expected, "{verb} {start}");
        }
        let longest = json!({ "reason": "ü".repeat(2000) });
        org.post(&org.admin, &path(id, verb), &longest).await.ok();
    }
}

/// What is wrong with a request; its bearer, id, body and idempotency key; and what it is told.
type Request<'a> = (&'a str, Option<&'a str>, &'a str, &'a Value, &'a str, (u16, &'a str));

/// Requests with several faults are told the earliest; afterwards nothing has changed.
#[tokio::test]
async fn of_several_faults_the_earliest_is_told() {
    let org = Organization::doors_only().await;
    let critical =
        json!({ "action_type": "transaction", "risk_indicators": { "destructive": true, "production": true } });
    // Submitted by user 5 herself; level 4, which a manager does not have.
    let own = org.human(5, "manager");
    let mut body = json!({ "agent_id": "bot" });
    body.as_object_mut().unwrap().extend(critical.as_object().unwrap().clone());
    let submit =
        async |bearer: &str| org.post(bearer, "/api/v1/actions/submit", &body).await.ok()["id"].as_u64().unwrap();
    let [open, done] = [submit(&own).await, submit(&own).await];
    org.act(&org.admin, done, "approve").await.ok();
    let expired = org.server.token_with(ORGANIZATION, "5", &["user"], &json!({ "exp": 1_700_000_000 }));
    let user = org.human(5, "user");
    let own_admin = org.human(5, "admin");
    let wrong = json!({ "reason": 5 });
    let fine = json!({});
    let (open, done, absent) = (open.to_string(), done.to_string(), "4711".to_owned());
    let long_key = "k".repeat(256);
    let table: [Request<'_>; 13] = [
        ("no bearer, no id, wrong body", None, "abc", &wrong, &long_key, (401, "MISSING_AUTH")),
        ("a key, no id, wrong body", Some(&org.key), "abc", &wrong, &long_key, (401, "INVALID_TOKEN")),
        ("garbage, no id", Some("garbage"), "abc", &wrong, &long_key, (401, "INVALID_TOKEN")),
        ("expired, role user, no id", Some(&expired), "abc", &wrong, &long_key, (401, "EXPIRED_TOKEN")),
        ("role user, no id, wrong body", Some(&user), "abc", &wrong, &long_key, (403, "FORBIDDEN")),
        ("no id, wrong body", Some(&own), "abc", &fine, "k", (422, "VALIDATION_ERROR")),
        ("wrong body, absent", Some(&own), &absent, &wrong, "k", (422, "VALIDATION_ERROR")),
        ("no idempotency key, absent", Some(&own), &absent, &fine, &long_key, (422, "VALIDATION_ERROR")),
        ("absent", Some(&own), &absent, &fine, "k", (404, "ACTION_NOT_FOUND")),
        ("too low, own, decided", Some(&own), &done, &fine, "k", (403, "INSUFFICIENT_APPROVAL_LEVEL")),
        ("too low, own", Some(&own), &open, &fine, "k", (403, "INSUFFICIENT_APPROVAL_LEVEL")),
        ("own, decided", Some(&own_admin), &done, &fine, "k", (403, "SELF_APPROVAL")),
        ("decided", Some(&org.admin), &done, &fine, "k", (400, "INVALID_STATE")),
    ];
    let before = org.server.table.dump("countersign").await;
    for verb in VERBS {
        for (what, bearer, id, body, key, (status, error)) in &table {
            let request = org.server.public(Method::POST, &format!("/api/v1/actions/{id}/{verb}"));
            let mut request = request.header("Idempotency-Key", *key).json(body);
            if let Some(bearer) = bearer {
                request = request.bearer_auth(bearer);
            }
            assert_eq!(send(request).await.coded(), code(*status, error), "{verb}: {what}");
        }
    }
    assert_eq!(org.server.table.dump("countersign").await, before, "a refused request changes nothing");
    let low = org.act(&own, open.parse().unwrap(), "approve").await;
    assert_eq!(low.detail(), "Approval level 4 is required for this action; yours is 1");
    let decided = org.act(&org.admin, done.parse().unwrap(), "reject").await;
    assert_eq!(decided.detail(), "Action is not pending approval (current status: approved)");
    // Only the idempotency key is wrong: it comes before the refusals.
    let refused = org.once(&own, &path(open.parse().unwrap(), "approve"), &long_key, &fine).await;
    assert_eq!(refused.coded(), code(422, "VALIDATION_ERROR"));
}

/// How an API key comes along, in which headers, and what it is told.
type Presented = (&'static str, Vec<(&'static str, String)>, (u16, &'static str, &'static str));

/// Every way in which an API key can come along, and what is said of it.
#[tokio::test]
async fn an_api_key_never_decides() {
    let org = Organization::new().await;
    let server = &org.server;
    let every = ["actions:submit", "actions:read", "cases:read", "cases:write", "webhooks:manage"];
    let key = server.key(ORGANIZATION, &every).await;
    let other_key = server.key(ORGANIZATION, &every).await;
    let owned = json!({ "domain": ORGANIZATION, "name": "owned", "scopes": every, "owner": 99 });
    let owned = server.post("/api-keys", &owned).await.json()["key"].as_str().unwrap().to_owned();
    let foreign = server.key(OTHER_ORGANIZATION, &every).await;
    let revoked =
        server.post("/api-keys", &json!({ "domain": ORGANIZATION, "name": "r", "scopes": every })).await.json();
    assert_eq!(server.delete(&format!("/api-keys/{}", revoked["id"].as_str().unwrap())).await.status, 204);
    let revoked = revoked["key"].as_str().unwrap().to_owned();
    let expiring =
        json!({ "domain": ORGANIZATION, "name": "e", "scopes": every, "expires_at": "2026-11-21T12:00:01Z" });
    let expiring = server.post("/api-keys", &expiring).await.json()["key"].as_str().unwrap().to_owned();
    server.clock.advance(Duration::from_secs(1));
    let nobodys = "cs_live_00000000_nobodys";
    let jwt = org.admin.as_str();
    let expired = server.token_with(ORGANIZATION, "42", &["admin"], &json!({ "exp": 1_700_000_000 }));
    let elsewhere = server.token(OTHER_ORGANIZATION, "42", &["admin"]);
    let user = org.human(HUMAN, "user");
    let bearer = |text: &str| ("Authorization", format!("Bearer {text}"));
    let header = |text: &str| ("X-API-Key", text.to_owned());
    let (invalid, humans) = ((401, "INVALID_TOKEN", ""), (401, "INVALID_TOKEN", ONLY_HUMANS));
    let table: Vec<Presented> = vec![
        ("the key alone", vec![header(&key)], humans),
        ("as bearer", vec![bearer(&key)], humans),
        ("as a bearer in other letters", vec![("authorization", format!("bEaReR   {key}"))], humans),
        ("both", vec![header(&key), bearer(&key)], humans),
        ("with an owner", vec![header(&owned)], humans),
        ("without bearer scheme", vec![("Authorization", key.clone())], (401, "MISSING_AUTH", "")),
        ("two keys", vec![header(&key), bearer(&other_key)], invalid),
        ("and basic", vec![header(&key), ("Authorization", "Basic dTpw".to_owned())], humans),
        ("and an empty bearer", vec![header(&key), ("Authorization", "Bearer".to_owned())], humans),
        ("and garbage", vec![header(&key), bearer("garbage")], invalid),
        ("and three garbage parts", vec![header(&key), bearer("a.b.c")], invalid),
        ("and an expired JWT", vec![header(&key), bearer(&expired)], (401, "EXPIRED_TOKEN", "")),
        ("and a JWT of another organization", vec![header(&key), bearer(&elsewhere)], invalid),
        ("of another organization, and a JWT", vec![header(&foreign), bearer(jwt)], invalid),
        ("revoked", vec![header(&revoked)], humans),
        ("revoked, and a JWT", vec![header(&revoked), bearer(jwt)], invalid),
        ("expired", vec![bearer(&expiring)], humans),
        ("expired, and a JWT", vec![header(&expiring), bearer(jwt)], invalid),
        ("nobody's", vec![header(nobodys)], humans),
        ("nobody's, and a JWT", vec![header(nobodys), bearer(jwt)], invalid),
        ("no key at all, and a JWT", vec![header(""), bearer(jwt)], invalid),
        ("a JWT as a key", vec![header(jwt)], humans),
        ("a JWT as a key and as a bearer", vec![header(jwt), bearer(jwt)], invalid),
        ("twice", vec![header(&key), header(&key)], invalid),
        ("twice, and a JWT", vec![header(&key), header(&key), bearer(jwt)], invalid),
        ("and two JWTs", vec![header(&key), bearer(jwt), bearer(jwt)], invalid),
        ("as one of two bearers", vec![bearer(&key), bearer(jwt)], invalid),
        ("and a JWT of who cannot decide", vec![header(&key), bearer(&user)], (403, "FORBIDDEN", "")),
    ];
    let id = org.pending().await;
    for (what, headers, (status, error, detail)) in table {
        for (route, body) in [
            (path(id, "approve"), json!({})),
            (path(id, "reject"), json!({})),
            ("/api/v1/actions/bulk-approve".to_owned(), json!({ "action_ids": [id] })),
            ("/api/v1/actions/bulk-reject".to_owned(), json!({ "action_ids": [id] })),
        ] {
            let request = server.public(Method::POST, &route).json(&body);
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
            let refused = send(request).await;
            assert_eq!(refused.coded(), code(status, error), "{what}: {route}");
            assert!(refused.detail().contains(detail), "{what}: {route}: {}", refused.detail());
        }
    }
    assert_eq!(org.status(id).await["decision"], "pending");
    assert_eq!(org.trail(id).await, ["action_submitted"]);
    // Of both the JWT decides, and is named.
    for (key, verb, word) in [(&key, "approve", "approved_by"), (&owned, "reject", "rejected_by")] {
        let id = org.pending().await;
        let request = org.with(jwt, Method::POST, &path(id, verb)).header("X-API-Key", key);
        assert_eq!(send(request).await.ok()[word], HUMAN);
    }
}

#[tokio::test]
async fn each_role_decides_up_to_its_level_for_both_verbs() {
    let org = Organization::new().await;
    let scores = [(0, 1), (39, 1), (40, 2), (69, 2), (70, 3), (84, 3), (85, 4), (100, 4)];
    let points: serde_json::Map<_, _> = scores.iter().map(|(score, _)| (format!("s{score}"), json!(score))).collect();
    org.set_policy(json!({ "auto_approve_below": 0, "base_points": points })).await;
    for (role, held) in [("admin", 4), ("security_manager", 3), ("manager", 1)] {
        let human = org.human(HUMAN, role);
        for (score, needed) in scores {
            for verb in VERBS {
                let submitted = org.submit(json!({ "action_type": format!("s{score}") })).await.ok();
                assert_eq!(submitted["required_approval_level"], needed, "{score}");
                let answer = org.act(&human, submitted["id"].as_u64().unwrap(), verb).await;
                if held >= needed {
                    assert_eq!(answer.status, 200, "{role} {score} {verb}");
                } else {
                    assert_eq!(answer.coded(), code(403, "INSUFFICIENT_APPROVAL_LEVEL"), "{role} {score} {verb}");
                    let detail = format!("Approval level {needed} is required for this action; yours is {held}");
                    assert_eq!(answer.detail(), detail);
                }
            }
        }
    }
}

#[tokio::test]
async fn the_role_is_read_from_role_or_else_from_roles() {
    let org = Organization::new().await;
    let none = (403, "FORBIDDEN");
    for (claims, expected) in [
        (json!({ "role": "manager", "roles": ["admin"] }), None),
        (json!({ "role": "user", "roles": ["admin"] }), Some(none)),
        (json!({ "role": "Admin" }), Some(none)),
        (json!({ "role": "" }), Some(none)),
        (json!({ "role": ["admin"] }), Some(none)),
        (json!({ "role": 4 }), Some(none)),
        (json!({ "roles": ["user", "manager"] }), None),
        (json!({ "roles": ["user"] }), Some(none)),
        (json!({ "roles": [] }), Some(none)),
        (json!({ "roles": "admin" }), Some(none)),
        (json!({ "roles": [["admin"], 1] }), Some(none)),
        (json!({ "realm_access": { "roles": ["admin"] } }), Some(none)),
        (json!({}), Some(none)),
    ] {
        let mut token = claims_of(json!({ "sub": "42", "organization_id": 7 }));
        token.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let answer = org.act(&org.server.signed(&token), org.low().await, "approve").await;
        match expected {
            None => assert_eq!(answer.status, 200, "{claims}"),
            Some((status, error)) => assert_eq!(answer.coded(), code(status, error), "{claims}"),
        }
    }
}

/// The claims that every token has, and these.
fn claims_of(own: Value) -> Value {
    let now = "2026-11-21T12:00:00Z".parse::<countersign_domain::Timestamp>().unwrap().as_second();
    let mut claims =
        json!({ "iss": LocalIssuer::NAME, "aud": LocalIssuer::AUDIENCE, "iat": now, "exp": now + 1_000_000 });
    claims.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    claims
}

#[tokio::test]
async fn an_approval_level_overrides_that_of_the_role() {
    let org = Organization::new().await;
    org.set_policy(json!({ "rules": [
        { "name": "board", "when": { "==": [{ "var": "resource" }, "board"] }, "then": "require_approval", "level": 5 },
    ] }))
    .await;
    let level = async |role: &str, level: Value, action: u64| {
        let token = org.server.token_with(ORGANIZATION, "42", &[role], &json!({ "approval_level": level }));
        org.act(&token, action, "approve").await
    };
    let (medium, board) = (json!({}), json!({ "resource": "board" }));
    for (role, held, action, allowed) in [
        ("manager", 2, &medium, true),
        ("manager", 5, &board, true),
        ("manager", 6, &board, true),
        ("manager", 1_000_000, &board, true),
        ("admin", 4, &board, false),
        ("admin", 1, &medium, false),
        ("security_manager", 5, &board, true),
    ] {
        let answer = level(role, held.into(), org.submitted(action.clone()).await).await;
        if allowed {
            assert_eq!(answer.status, 200, "{role} {held}: {answer:?}");
        } else {
            assert_eq!(answer.coded(), code(403, "INSUFFICIENT_APPROVAL_LEVEL"), "{role} {held}");
            assert!(answer.detail().ends_with(&format!("yours is {held}")), "{}", answer.detail());
        }
    }
    let id = org.submitted(board).await;
    assert!(org.act(&org.admin, id, "reject").await.detail().contains("Approval level 5 is required"));
    // It gives nobody the right who has no role for it.
    for role in ["user", "nobody"] {
        assert_eq!(level(role, 5.into(), id).await.coded(), code(403, "FORBIDDEN"), "{role}");
    }
    for wrong in [json!(0), json!(-1), json!(1.5), json!("3"), json!([3]), json!(true), json!({})] {
        assert_eq!(level("admin", wrong.clone(), id).await.coded(), code(401, "INVALID_TOKEN"), "{wrong}");
    }
    // Null says nothing: the role's own level.
    let refused = level("admin", json!(null), id).await;
    assert_eq!(refused.coded(), code(403, "INSUFFICIENT_APPROVAL_LEVEL"));
    assert!(refused.detail().ends_with("yours is 4"), "{}", refused.detail());
}

#[tokio::test]
async fn a_user_is_a_number_in_user_id_or_else_in_sub() {
    let org = Organization::new().await;
    let decide = async |claims: Value| {
        let mut claims = claims_of(claims);
        claims["organization_id"] = 7.into();
        claims["role"] = "admin".into();
        org.act(&org.server.signed(&claims), org.pending().await, "approve").await
    };
    for (claims, user) in [
        (json!({ "sub": "auth0|x", "user_id": 43 }), 43),
        (json!({ "sub": "44", "user_id": 43 }), 43),
        (json!({ "sub": "44" }), 44),
        (json!({ "sub": "0" }), 0),
        (json!({ "sub": "x", "user_id": 9_007_199_254_740_991_u64 }), 9_007_199_254_740_991_u64),
    ] {
        assert_eq!(decide(claims.clone()).await.ok()["approved_by"], user, "{claims}");
    }
    for claims in [
        json!({ "sub": "alice" }),
        json!({ "sub": "-1" }),
        json!({ "sub": "007" }),
        json!({ "sub": "+7" }),
        json!({ "sub": "4.0" }),
        json!({ "sub": "9007199254740992" }),
        json!({ "sub": "42", "user_id": "42" }),
        json!({ "sub": "42", "user_id": -1 }),
        json!({ "sub": "42", "user_id": 1.5 }),
        json!({ "sub": "42", "user_id": 9_007_199_254_740_992_u64 }),
        json!({ "sub": "42", "user_id": [42] }),
        json!({ "user_id": 42 }),
        json!({ "sub": 42 }),
    ] {
        assert_eq!(decide(claims.clone()).await.coded(), code(401, "INVALID_TOKEN"), "{claims}");
    }
}

#[tokio::test]
async fn an_organization_is_named_by_its_number_and_never_by_two_names() {
    let org = Organization::new().await;
    let list = async |claims: Value| {
        let mut claims = claims_of(claims);
        claims["sub"] = "42".into();
        send(org.with(&org.server.signed(&claims), Method::GET, "/api/v1/actions")).await
    };
    for claims in [
        json!({ "organization_id": 7 }),
        json!({ "tenant_id": "7" }),
        json!({ "tenant_id": "7", "organization_id": 7 }),
        json!({ "tenant_id": "0" }),
        json!({ "organization_id": 9_007_199_254_740_991_u64 }),
    ] {
        assert_eq!(list(claims.clone()).await.status, 200, "{claims}");
    }
    for claims in [
        json!({}),
        json!({ "tenant_id": "8", "organization_id": 7 }),
        json!({ "tenant_id": "07", "organization_id": 7 }),
        json!({ "tenant_id": "acme", "organization_id": 7 }),
        json!({ "tenant_id": null, "organization_id": 7 }),
        json!({ "tenant_id": 7 }),
        json!({ "tenant_id": "acme" }),
        json!({ "tenant_id": "07" }),
        json!({ "tenant_id": "9007199254740992" }),
        json!({ "tenant_id": "550e8400-e29b-41d4-a716-446655440000" }),
        json!({ "organization_id": "7" }),
        json!({ "organization_id": -7 }),
        json!({ "organization_id": 7.5 }),
        json!({ "organization_id": 9_007_199_254_740_992_u64 }),
        json!({ "organization_id": null }),
    ] {
        assert_eq!(list(claims.clone()).await.coded(), code(401, "INVALID_TOKEN"), "{claims}");
    }
}

#[tokio::test]
async fn whoever_asked_cannot_decide_by_whichever_way_they_asked() {
    let org = Organization::new().await;
    let owned = json!({ "domain": ORGANIZATION, "name": "owned", "scopes": ["actions:submit"], "owner": HUMAN });
    let owned = org.server.post("/api-keys", &owned).await.json()["key"].as_str().unwrap().to_owned();
    let colleague = org.human(43, "admin");
    // The same user, vouched for under another subject.
    let alias = org.server.token_with(ORGANIZATION, "alice", &["admin"], &json!({ "user_id": HUMAN }));
    let submissions = |by_other: Value| {
        [
            ("by herself", org.admin.clone(), json!({})),
            ("by her key", owned.clone(), json!({})),
            ("on her behalf", org.key.clone(), json!({ "on_behalf_of": HUMAN })),
            ("by a colleague on her behalf", colleague.clone(), json!({ "on_behalf_of": HUMAN })),
            ("by her key on another's behalf", owned.clone(), by_other),
        ]
    };
    let submit = async |bearer: &str, fields: &Value| {
        let mut body = json!({ "agent_id": "bot", "action_type": MEDIUM });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        org.post(bearer, "/api/v1/actions/submit", &body).await.ok()["id"].as_u64().unwrap()
    };
    for (how, bearer, fields) in submissions(json!({ "on_behalf_of": 77 })) {
        let id = submit(&bearer, &fields).await;
        for verb in VERBS {
            for token in [&org.admin, &alias] {
                let refused = org.act(token, id, verb).await;
                assert_eq!(refused.coded(), code(403, "SELF_APPROVAL"), "{how} {verb}");
            }
            let bulk = format!("/api/v1/actions/bulk-{verb}");
            let bulk = org.post(&org.admin, &bulk, &json!({ "action_ids": [id] })).await.ok();
            assert_eq!(bulk["results"][0]["error"]["error_code"], "SELF_APPROVAL", "{how} {verb}");
        }
        assert_eq!(org.trail(id).await, ["action_submitted"], "{how}");
        // A colleague may, unless it was their own doing too.
        let decided = org.act(&org.human(44, "admin"), id, "approve").await;
        assert_eq!(decided.status, 200, "{how}");
    }
    let both = submit(&colleague, &json!({ "on_behalf_of": HUMAN })).await;
    assert_eq!(org.act(&colleague, both, "approve").await.coded(), code(403, "SELF_APPROVAL"));
    // The rule is the one of the moment of submission.
    let before = submit(&org.admin, &json!({})).await;
    org.set_policy(json!({ "forbid_self_approval": false })).await;
    assert_eq!(org.act(&org.admin, before, "approve").await.coded(), code(403, "SELF_APPROVAL"));
    for (how, bearer, fields) in submissions(json!({ "on_behalf_of": 77 })) {
        let id = submit(&bearer, &fields).await;
        assert_eq!(org.act(&org.admin, id, "approve").await.status, 200, "{how}");
    }
}

#[tokio::test]
async fn nobody_decides_from_the_deadline_on_and_the_clock_records_it() {
    let org = Organization::new().await;
    org.set_policy(json!({ "approval_ttl_minutes": 1 })).await;
    let submitted = org.submit(json!({})).await.ok();
    assert_eq!(submitted["expires_at"], "2026-11-21T12:01:00Z");
    let (last, late) = (submitted["id"].as_u64().unwrap(), org.pending().await);
    // Submitted at a quarter past the second; the minute counts from that second's start.
    org.server.clock.advance(Duration::from_micros(59_749_999));
    org.act(&org.admin, last, "approve").await.ok();
    org.server.clock.advance(Duration::from_micros(1));
    for verb in ["approve", "reject"] {
        let refused = org.act(&org.admin, late, verb).await;
        assert_eq!(refused.coded(), code(400, "INVALID_STATE"));
        assert_eq!(refused.detail(), "Action is not pending approval (current status: timeout)");
    }
    assert_eq!(org.act(&org.key, late, "cancel").await.coded(), code(400, "INVALID_STATE"));
    assert_eq!(org.report(late, "complete", &json!({})).await.coded(), code(400, "INVALID_STATE"));
    assert_eq!(org.status(late).await["decision"], "denied");
    assert_eq!(org.details(late).await["status"], "timeout");

    let expired = ["action.pending", "action_submitted", "action.denied", "action_expired"];
    let names = async || org.entries(late).await.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    eventually(expired.map(str::to_owned).to_vec(), names).await;
    let line = org.get(&format!("/api/admin/audit-logs?action_id={late}&limit=1")).await.ok()["logs"][0].clone();
    assert_eq!((&line["action_type"], &line["user_id"]), (&json!("action_expired"), &Value::Null));
    assert_eq!(line["details"], format!("Action {late} expired: nobody decided in time"));
    assert_eq!(org.trail(last).await, ["action_submitted", "action_approved"], "what was decided does not expire");
    assert_eq!(org.act(&org.admin, late, "approve").await.coded(), code(400, "INVALID_STATE"));
}

#[tokio::test]
async fn a_repeated_decision_with_its_key_is_a_success_for_its_own_caller_only() {
    let org = Organization::new().await;
    for verb in VERBS {
        let id = org.pending().await;
        let body = json!({ "reason": "r" });
        let first = org.once(&org.admin, &path(id, verb), "k", &body).await;
        assert_eq!((first.status, first.header("idempotency-replayed")), (200, None));
        org.server.clock.advance(Duration::from_secs(60));
        let again = org.once(&org.admin, &path(id, verb), "k", &body).await;
        assert_eq!((again.status, &again.text, again.header("idempotency-replayed")), (200, &first.text, Some("true")));
        let reused = org.once(&org.admin, &path(id, verb), "k", &json!({ "reason": "other" })).await;
        assert_eq!(reused.coded(), code(422, "IDEMPOTENCY_KEY_REUSED"));
        let other = org.once(&org.human(43, "admin"), &path(id, verb), "k", &body).await;
        assert_eq!(other.coded(), code(400, "INVALID_STATE"));
        let opposite = if verb == "approve" { "reject" } else { "approve" };
        let other = org.once(&org.admin, &path(id, opposite), "k", &body).await;
        assert_eq!(other.coded(), code(400, "INVALID_STATE"), "another path is another call");
        assert_eq!(org.trail(id).await.len(), 2);
    }
}

#[tokio::test]
async fn cancelling_and_reporting_honour_the_key_too() {
    let org = Organization::new().await;
    let waiting = org.pending().await;
    let [done, failed] = [
        org.submitted(json!({ "action_type": "query" })).await,
        org.submitted(json!({ "action_type": "query" })).await,
    ];
    for (path, body) in [
        (path(waiting, "cancel"), json!({})),
        (format!("/api/agent-action/{done}/complete"), json!({ "result": 1 })),
        (format!("/api/agent-action/{failed}/fail"), json!({ "error": {} })),
    ] {
        let first = org.once(&org.key, &path, "k", &body).await;
        assert_eq!((first.status, first.header("idempotency-replayed")), (200, None), "{path}");
        let again = org.once(&org.key, &path, "k", &body).await;
        assert_eq!((again.status, &again.text, again.header("idempotency-replayed")), (200, &first.text, Some("true")));
        let reused = org.once(&org.key, &path, "k", &json!({ "other": true })).await;
        assert_eq!(reused.coded(), code(422, "IDEMPOTENCY_KEY_REUSED"), "{path}");
    }
}

/// 64 callers decide one action at once, approve and reject mixed.
async fn race(org: &Organization) -> Vec<Answer> {
    let id = org.pending().await;
    let humans: Vec<_> = (100..164).map(|user| org.human(user, "admin")).collect();
    let callers = humans.iter().enumerate().map(|(n, human)| org.act(human, id, VERBS[n % 2]));
    let answers = join_all(callers).await;
    let winners: Vec<_> = answers.iter().enumerate().filter(|(_, answer)| answer.status == 200).collect();
    let [(winner, answer)] = &winners[..] else { panic!("{answers:?}") };
    let answer = answer.json();
    let by = if answer["status"] == "approved" { "approved_by" } else { "rejected_by" };
    assert_eq!(answer[by], 100 + winner, "the winner is told of their own decision");
    let approval = org.get(&format!("/api/sdk/approval/appr_{id}")).await.ok();
    assert_eq!((&approval["status"], &approval[by]), (&answer["status"], &answer[by]), "and it stands");
    assert_eq!(org.trail(id).await.len(), 2);
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_simultaneous_decisions_exactly_one_wins() {
    let org = Organization::new().await;
    for _ in 0..20 {
        for refused in race(&org).await.iter().filter(|answer| answer.status != 200) {
            assert_eq!(refused.coded(), code(400, "INVALID_STATE"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_bad_day_exactly_one_of_64_decisions_wins_and_nobody_gets_a_500() {
    let org = bad_day(21).await;
    for _ in 0..5 {
        for answer in race(&org).await {
            // 503 asks to come again: a caller whose time was up before the table let it through.
            assert!([200, 400, 503].contains(&answer.status), "{answer:?}");
        }
    }
}

pub(crate) async fn bad_day(seed: u64) -> Organization {
    Organization::on(Server::with(Faults::many(), seed, &[]).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_and_a_cancellation_at_once_end_in_one_of_the_two() {
    let org = Organization::new().await;
    for _ in 0..20 {
        let id = org.pending().await;
        let (decided, cancelled) =
            futures_util::join!(org.act(&org.admin, id, "approve"), org.act(&org.key, id, "cancel"));
        let last = match (decided.status, cancelled.status) {
            (200, 400) => "action_approved",
            (400, 200) => "action_cancelled",
            both => panic!("{both:?}"),
        };
        assert_eq!(org.trail(id).await, ["action_submitted", last]);
    }
}

#[tokio::test]
async fn a_decision_costs_one_read_and_one_transaction() {
    let org = Organization::doors_only().await;
    let cost = || {
        let calls = org.server.table.take_calls();
        calls.into_iter().map(|call| (call.operation, call.items)).collect::<Vec<_>>()
    };
    let plain = [("GetItem".to_owned(), 0), ("TransactWriteItems".to_owned(), 2)];
    for verb in VERBS {
        let [alone, both, keyed] = [org.pending().await, org.pending().await, org.pending().await];
        cost();
        org.act(&org.admin, alone, verb).await.ok();
        assert_eq!(cost(), plain);
        // The key was seen just now, when it submitted.
        send(org.with(&org.admin, Method::POST, &path(both, verb)).header("X-API-Key", &org.key)).await.ok();
        assert_eq!(cost(), plain);
        org.once(&org.admin, &path(keyed, verb), "k", &json!({})).await.ok();
        assert_eq!(cost(), [("GetItem".to_owned(), 0), ("TransactWriteItems".to_owned(), 3)]);
    }
}
