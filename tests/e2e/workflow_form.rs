//! How the workflow door is to be called: by whom, in which form, and which of several faults is told.

use crate::server::{Answer, Server, send};
use crate::workflow::{ABSENT, TENANT, locs, policy, refusal, refused, request, stage};
use reqwest::Method;
use serde_json::{Value, json};

/// Who may call an endpoint.
#[derive(Clone, Copy, PartialEq)]
enum Need {
    Anyone,
    Viewer,
    Admin,
}

/// An endpoint, called for something that is not there.
struct Endpoint {
    method: Method,
    path: String,
    need: Need,
    /// A body that is right, if one is needed.
    body: Option<Value>,
    /// What is said of what is not there; lists just say what is.
    absent: Option<(u16, &'static str)>,
}

fn endpoints() -> Vec<Endpoint> {
    use Need::{Admin, Anyone, Viewer};
    let (get, post) = (Method::GET, Method::POST);
    let end = |method: &Method, path: &str, need, body, absent| {
        let path = path.replace("ID", ABSENT);
        Endpoint { method: method.clone(), path, need, body, absent }
    };
    let whole = |key: &str| Some(policy(key, json!([]), json!({})));
    let version = "/policies/none/versions/1";
    let window = json!({
        "user_id": "a", "delegate_to": "b", "starts_at": "2026-11-21T00:00:00Z", "ends_at": "2026-11-22T00:00:00Z",
    });
    vec![
        end(&post, "/policies", Admin, whole("new"), None),
        end(&get, "/policies", Viewer, None, None),
        end(&Method::PUT, "/policies/none", Admin, whole("none"), Some((404, "001"))),
        end(&get, "/policies/none/versions", Viewer, None, Some((404, "001"))),
        end(&get, version, Viewer, None, Some((404, "001"))),
        end(&Method::PATCH, version, Admin, whole("none"), Some((404, "001"))),
        end(&post, &format!("{version}/activate"), Admin, None, Some((404, "001"))),
        end(&post, &format!("{version}/deactivate"), Admin, None, Some((404, "001"))),
        end(&post, &format!("{version}/simulate"), Viewer, Some(json!({})), Some((404, "001"))),
        end(&post, "/requests", Anyone, Some(request("none", json!({}))), Some((404, "001"))),
        end(&get, "/requests", Anyone, None, None),
        end(&get, "/requests/ID", Anyone, None, Some((404, "003"))),
        end(&get, "/requests/any%20text", Anyone, None, Some((404, "003"))),
        end(&post, "/requests/ID/cancel", Admin, Some(json!({})), Some((404, "003"))),
        end(&get, "/requests/ID/events", Anyone, None, Some((404, "003"))),
        end(&get, "/tasks", Anyone, None, None),
        end(&post, "/tasks/ID/claim", Anyone, None, Some((404, "004"))),
        end(&post, "/tasks/any%20text/claim", Anyone, None, Some((404, "004"))),
        end(&post, "/tasks/ID/decision", Anyone, Some(json!({ "action": "approve" })), Some((404, "004"))),
        end(&post, "/tasks/ID/reassign", Admin, Some(json!({ "new_assignee": "b" })), Some((404, "004"))),
        end(&get, "/delegations", Viewer, None, None),
        end(&post, "/delegations", Admin, Some(window), None),
        end(&Method::DELETE, "/delegations/ID", Admin, None, Some((404, "004"))),
        end(&Method::DELETE, "/delegations/any%20text", Admin, None, Some((404, "004"))),
        end(&get, "/admin/deliveries", Viewer, None, None),
        end(&post, "/admin/deliveries/ID/retry", Admin, None, Some((404, "007"))),
        end(&post, "/admin/deliveries/00112233-4455-6677-8899-aabbccddeeff/retry", Admin, None, Some((404, "007"))),
        end(&get, "/admin/audit", Viewer, None, None),
    ]
}

impl Endpoint {
    /// The endpoint called with a token, and with this body if there is one.
    async fn call(&self, server: &Server, token: &str, body: Option<&str>) -> Answer {
        self.call_as(server, token, body, "application/json").await
    }

    async fn call_as(&self, server: &Server, token: &str, body: Option<&str>, content_type: &str) -> Answer {
        let request = server.public(self.method.clone(), &format!("/v1/awe{}", self.path)).bearer_auth(token);
        send(match body {
            Some(body) => request.header("Content-Type", content_type).body(body.to_owned()),
            None => request,
        })
        .await
    }

    fn shown(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

fn token(server: &Server, roles: &[&str]) -> String {
    server.token(TENANT, "somebody", roles)
}

#[tokio::test]
async fn whoever_has_no_valid_token_is_told_so_before_anything_else() {
    let server = Server::start().await;
    let expired = server.token_with(TENANT, "a", &["AWE_ADMIN"], &json!({ "exp": 1_000_000_000 }));
    let nobody = server.token_with(TENANT, "", &["AWE_ADMIN"], &json!({}));
    let key = server.key(TENANT, &["actions:read", "webhooks:manage"]).await;
    let good = token(&server, &["AWE_ADMIN"]);
    let forged = format!("{}x", &good[..good.len() - 5]);
    for endpoint in endpoints() {
        let path = format!("/v1/awe{}", endpoint.path);
        let request = || server.public(endpoint.method.clone(), &path).body("{").header("Content-Type", "text/plain");
        for request in [
            request(),
            request().header("Authorization", format!("Basic {good}")),
            request().header("Authorization", "Bearer"),
            request().bearer_auth("x.y.z"),
            request().bearer_auth(&expired),
            request().bearer_auth(&nobody),
            request().bearer_auth(&forged),
            request().header("X-API-Key", &key),
        ] {
            let answer = send(request).await;
            assert_eq!(refusal(&answer), refused(401, "008"), "{}", endpoint.shown());
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
}

#[tokio::test]
async fn whoever_lacks_the_role_is_told_so_before_the_body_is_looked_at() {
    let server = Server::start().await;
    let (anyone, viewer, admin) =
        (token(&server, &[]), token(&server, &["AWE_VIEWER"]), token(&server, &["AWE_ADMIN"]));
    let client = json!({ "resource_access": { "portal": { "roles": ["AWE_ADMIN"] } } });
    let of_client = server.token_with(TENANT, "somebody", &[], &client);
    // Roles of other doors, and roles that stand where no role stands, are none here.
    let foreign = server.token_with(TENANT, "somebody", &["admin", "awe_admin"], &json!({ "roles": ["AWE_ADMIN"] }));
    for endpoint in endpoints() {
        let with_role = match endpoint.need {
            Need::Anyone => vec![&anyone, &viewer, &admin, &of_client, &foreign],
            Need::Viewer => vec![&viewer, &admin, &of_client],
            Need::Admin => vec![&admin, &of_client],
        };
        for token in [&anyone, &viewer, &admin, &of_client, &foreign] {
            let malformed = endpoint.call(&server, token, Some("{")).await;
            let fits = endpoint.call(&server, token, endpoint.body.as_ref().map(Value::to_string).as_deref()).await;
            if with_role.contains(&token) {
                assert!(![401, 403].contains(&fits.status), "{}: {fits:?}", endpoint.shown());
                assert!(![401, 403].contains(&malformed.status), "{}: {malformed:?}", endpoint.shown());
            } else {
                assert_eq!(refusal(&malformed), refused(403, "008"), "{}", endpoint.shown());
                assert_eq!(refusal(&fits), refused(403, "008"), "{}", endpoint.shown());
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_told_before_anything_is_looked_up() {
    let server = Server::start().await;
    let admin = token(&server, &["AWE_ADMIN"]);
    for endpoint in endpoints() {
        let shown = endpoint.shown();
        let Some(body) = endpoint.body.as_ref().map(Value::to_string) else { continue };
        for (malformed, offset) in [("{\"a\":", 5), ("nonsense", 1), ("{}{}", 2), ("{\n\"a\":1,\n\"a\":2}", 11)] {
            let answer = endpoint.call(&server, &admin, Some(malformed)).await;
            let [loc] = &locs(&answer)[..] else { panic!("{answer:?}") };
            assert_eq!((&loc[0], &answer.json()["detail"][0]["type"]), (&json!("body"), &json!("json_invalid")));
            let told = loc[1].as_u64().unwrap_or_else(|| panic!("{shown}: {loc}"));
            assert!(told.abs_diff(offset) <= 4, "{shown}: {malformed} at {told}");
        }
        for nothing in [None, Some("")] {
            let missing = endpoint.call(&server, &admin, nothing).await;
            assert_eq!(locs(&missing), [json!(["body"])], "{shown}");
            assert_eq!(missing.json()["detail"][0]["type"], "missing", "{shown}");
        }
        for other in ["[]", "\"text\"", "5", "null"] {
            let wrong = endpoint.call(&server, &admin, Some(other)).await;
            assert_eq!(locs(&wrong), [json!(["body"])], "{shown}: {other}");
        }
        for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/xml", "json"] {
            let wrong = endpoint.call_as(&server, &admin, Some(&body), content_type).await;
            assert_eq!(locs(&wrong), [json!(["body"])], "{shown}: {content_type}");
        }
        let large = format!("{{\"a\":\"{}\"}}", "a".repeat(256 * 1024));
        let answer = endpoint.call(&server, &admin, Some(&large)).await;
        assert_eq!(refusal(&answer), refused(413, "010"), "{shown}");
    }
}

#[tokio::test]
async fn json_may_be_called_by_its_other_names_and_hold_what_nobody_asks_for() {
    let server = Server::start().await;
    let admin = token(&server, &["AWE_ADMIN"]);
    for (n, content_type) in
        ["application/json; charset=utf-8", "Application/JSON", "application/vnd.awe+json"].into_iter().enumerate()
    {
        let body = policy(&format!("p{n}"), json!([stage(1, &["a"], json!({ "x": 1 }))]), json!({ "y": [1] }));
        let request = server.public(Method::POST, "/v1/awe/policies?z=1&z=2").bearer_auth(&admin);
        let made = send(request.header("Content-Type", content_type).body(body.to_string())).await;
        assert_eq!((made.status, made.header("content-type")), (201, Some("application/json")), "{made:?}");
        assert_eq!(made.json().get("y"), None);
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_with_its_code_whatever_its_name_looks_like() {
    let server = Server::start().await;
    let admin = token(&server, &["AWE_ADMIN"]);
    for endpoint in endpoints() {
        let Some((status, code)) = endpoint.absent else { continue };
        let body = endpoint.body.as_ref().map(Value::to_string);
        let answer = endpoint.call(&server, &admin, body.as_deref()).await;
        assert_eq!(refusal(&answer), refused(status, code), "{}", endpoint.shown());
    }
    for id in ["x", "%23", "%00", "..%2F", "me", "*", &"9".repeat(300), &ABSENT[1..]] {
        for (method, path, code) in [
            (Method::GET, format!("/policies/{id}/versions"), "001"),
            (Method::GET, format!("/requests/{id}"), "003"),
            (Method::GET, format!("/requests/{id}/events"), "003"),
            (Method::POST, format!("/tasks/{id}/claim"), "004"),
            (Method::DELETE, format!("/delegations/{id}"), "004"),
            (Method::POST, format!("/admin/deliveries/{id}/retry"), "007"),
        ] {
            let asked = server.public(method, &format!("/v1/awe{path}")).bearer_auth(&admin);
            assert_eq!(refusal(&send(asked).await), refused(404, code), "{path}");
        }
    }
    for version in ["x", "1.0", "%20", "0x1", "1e3", "--1"] {
        let asked = server.root().get(&format!("/policies/p/versions/{version}")).await;
        assert_eq!(locs(&asked), [json!(["path", "version"])], "{version}");
    }
    for version in ["0", "-1", "7", "2147483648", "4294967297", "9223372036854775807"] {
        let asked = server.root().get(&format!("/policies/p/versions/{version}")).await;
        assert_eq!(refusal(&asked), refused(404, "001"), "{version}");
    }
}

#[tokio::test]
async fn urls_and_methods_that_are_not_there_are_told_without_an_envelope() {
    let server = Server::start().await;
    let admin = token(&server, &["AWE_ADMIN"]);
    for path in ["", "/", "/policies/", "/nothing", "/policies/p/versions/1/publish", "/tasks/x", "/admin", "/healthy"]
    {
        for token in ["", &admin] {
            let asked = server.public(Method::GET, &format!("/v1/awe{path}")).bearer_auth(token);
            let answer = send(asked).await;
            // A task alone cannot be asked for, but there might be such a URL: it has none.
            assert_eq!((answer.status, answer.text.as_str()), (404, r#"{"detail":"Not Found"}"#), "{path}");
        }
    }
    for (method, path) in [
        (Method::POST, "/health"),
        (Method::DELETE, "/policies"),
        (Method::POST, "/policies/p"),
        (Method::PUT, "/policies/p/versions/1"),
        (Method::GET, "/policies/p/versions/1/activate"),
        (Method::DELETE, "/requests"),
        (Method::POST, "/requests/x"),
        (Method::POST, "/tasks"),
        (Method::GET, "/tasks/x/claim"),
        (Method::GET, "/delegations/x"),
        (Method::POST, "/admin/audit"),
    ] {
        for token in ["", &admin] {
            let asked = server.public(method.clone(), &format!("/v1/awe{path}")).bearer_auth(token);
            let answer = send(asked).await;
            assert_eq!((answer.status, answer.text.as_str()), (405, r#"{"detail":"Method Not Allowed"}"#), "{path}");
        }
    }
}

#[tokio::test]
async fn every_field_that_is_wrong_is_named_with_the_way_to_it() {
    let server = Server::start().await;
    let root = server.root();
    let long = |length: usize| "😀".repeat(length + 1);
    let window = |fields: Value| {
        let always = json!({ "user_id": "a", "delegate_to": "b", "starts_at": "2026-11-21T00:00:00", "ends_at": "2026-11-22T00:00:00Z" });
        crate::workflow::with(always, &fields)
    };
    let decision = format!("/tasks/{ABSENT}/decision");
    let reassign = format!("/tasks/{ABSENT}/reassign");
    let cancel = format!("/requests/{ABSENT}/cancel");
    let ask = |fields: Value| ("/requests".to_owned(), request("p", fields));
    let decide = |fields: Value| (decision.clone(), crate::workflow::with(json!({ "action": "approve" }), &fields));
    let give = |fields: Value| (reassign.clone(), crate::workflow::with(json!({ "new_assignee": "b" }), &fields));
    let delegate = |fields: Value| ("/delegations".to_owned(), window(fields));
    for ((path, body), field) in [
        (ask(json!({ "policy_key": null })), "policy_key"),
        (ask(json!({ "policy_key": 1 })), "policy_key"),
        (ask(json!({ "policy_key": long(128) })), "policy_key"),
        (ask(json!({ "artifact_type": long(128) })), "artifact_type"),
        (ask(json!({ "artifact_id": long(128) })), "artifact_id"),
        (ask(json!({ "artifact_id": "a\u{0}" })), "artifact_id"),
        (ask(json!({ "context": [] })), "context"),
        (ask(json!({ "context": null })), "context"),
        (ask(json!({ "context": "{}" })), "context"),
        (ask(json!({ "callback_url": 1 })), "callback_url"),
        (ask(json!({ "callback_secret_id": {} })), "callback_secret_id"),
        (ask(json!({ "requester": long(128) })), "requester"),
        (ask(json!({ "requester": 5 })), "requester"),
        (("/requests".to_owned(), json!({ "policy_key": "p", "artifact_type": "t" })), "artifact_id"),
        (decide(json!({ "action": "Approve" })), "action"),
        (decide(json!({ "action": "approved" })), "action"),
        (decide(json!({ "action": null })), "action"),
        (decide(json!({ "action": true })), "action"),
        (decide(json!({ "comment": long(2000) })), "comment"),
        (decide(json!({ "comment": "\u{0}" })), "comment"),
        (decide(json!({ "attachments_ref": long(1024) })), "attachments_ref"),
        (decide(json!({ "attachments_ref": [] })), "attachments_ref"),
        ((decision.clone(), json!({})), "action"),
        (give(json!({ "new_assignee": "" })), "new_assignee"),
        (give(json!({ "new_assignee": null })), "new_assignee"),
        (give(json!({ "new_assignee": long(128) })), "new_assignee"),
        (give(json!({ "reason": long(2000) })), "reason"),
        ((reassign.clone(), json!({})), "new_assignee"),
        ((cancel.clone(), json!({ "reason": long(2000) })), "reason"),
        ((cancel.clone(), json!({ "reason": 1 })), "reason"),
        (delegate(json!({ "user_id": "" })), "user_id"),
        (delegate(json!({ "user_id": long(128) })), "user_id"),
        (delegate(json!({ "delegate_to": "" })), "delegate_to"),
        (delegate(json!({ "delegate_to": "a" })), "delegate_to"),
        (delegate(json!({ "starts_at": "tomorrow" })), "starts_at"),
        (delegate(json!({ "ends_at": "2026-11-21T00:00:00Z" })), "ends_at"),
        (delegate(json!({ "ends_at": 5 })), "ends_at"),
        (delegate(json!({ "reason": long(2000) })), "reason"),
    ] {
        let answer = root.post(&path, &body).await;
        assert_eq!(locs(&answer), [json!(["body", field])], "{path} {body}");
    }
    let several = root.post("/requests", &json!({ "policy_key": 1, "context": 1 })).await;
    let expected = [
        json!(["body", "policy_key"]),
        json!(["body", "artifact_type"]),
        json!(["body", "artifact_id"]),
        json!(["body", "context"]),
    ];
    assert_eq!(locs(&several), expected);
    assert_eq!(several.json()["detail"][1]["type"], "missing");
    let key = root.post_once("/requests", &"k".repeat(256), &request("p", json!({}))).await;
    assert_eq!(locs(&key), [json!(["header", "Idempotency-Key"])]);
    // As long as can be, and it is only the policy that is not there.
    let long = |length: usize| "😀".repeat(length);
    let longest = json!({ "artifact_type": long(128), "artifact_id": long(128), "requester": long(128) });
    assert_eq!(refusal(&root.post("/requests", &request(&long(128), longest)).await), refused(404, "001"));
    let longest = json!({ "action": "abstain", "comment": long(2000), "attachments_ref": long(1024) });
    assert_eq!(refusal(&root.post(&decision, &longest).await), refused(404, "004"));
}

#[tokio::test]
async fn a_list_is_asked_for_with_bounded_numbers_and_any_other_filter() {
    let server = Server::start().await;
    for (path, largest) in
        [("/requests", 500), ("/tasks", 500), ("/delegations", 500), ("/admin/deliveries", 500), ("/admin/audit", 1000)]
    {
        for limit in ["0", "-1", "x", "1.5", "%20", "99999999999999999999", &(largest + 1).to_string()] {
            let answer = server.root().get(&format!("{path}?limit={limit}")).await;
            assert_eq!(locs(&answer), [json!(["query", "limit"])], "{path} {limit}");
        }
        for query in ["limit=1", &format!("limit={largest}"), "unknown=1", "status=&artifact_id=", "status=%20"] {
            let answer = server.root().get(&format!("{path}?{query}")).await;
            assert_eq!((answer.status, answer.text.as_str()), (200, "[]"), "{path} {query}");
        }
        let answer = server.root().get(&format!("{path}?unknown=1&unknown=2")).await;
        assert_eq!(answer.status, 200, "{path}: nobody asks for it");
        let answer = server.root().get(&format!("{path}?limit=1&limit=2&unknown=1&unknown=1")).await;
        assert_eq!(locs(&answer), [json!(["query", "limit"])], "{path}: which one is meant");
    }
    for path in ["/requests", "/tasks", "/policies"] {
        for offset in ["-1", "x", "1.0", "99999999999999999999"] {
            let answer = server.root().get(&format!("{path}?offset={offset}")).await;
            assert_eq!(locs(&answer), [json!(["query", "offset"])], "{path} {offset}");
        }
    }
    for name in ["since", "until"] {
        for time in ["now", "2026-11-21", "5", ""] {
            let answer = server.root().get(&format!("/admin/audit?{name}={time}")).await;
            assert_eq!(locs(&answer), [json!(["query", name])], "{name} {time}");
        }
    }
}

#[tokio::test]
async fn a_token_without_a_tenant_is_of_the_default_tenant_here_and_of_none_elsewhere() {
    let server = Server::start().await;
    let token = {
        let claims: Value = {
            let whole = server.token(TENANT, "u-bob", &["AWE_ADMIN"]);
            let payload = whole.split('.').nth(1).unwrap();
            let bytes = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, payload).unwrap();
            serde_json::from_slice(&bytes).unwrap()
        };
        let mut claims = claims;
        claims.as_object_mut().unwrap().retain(|name, _| !["tenant_id", "organization_id"].contains(&name.as_str()));
        server.signed(&claims)
    };
    let post = async |token: &str, path: &str, body: &Value| {
        send(server.public(Method::POST, &format!("/v1/awe{path}")).bearer_auth(token).json(body)).await
    };
    let body = policy("p", json!([stage(1, &["u-bob"], json!({}))]), json!({}));
    assert_eq!(post(&token, "/policies", &body).await.status, 201);
    assert_eq!(post(&token, "/policies/p/versions/1/activate", &json!({})).await.status, 200);
    let made = post(&token, "/requests", &request("p", json!({}))).await;
    assert_eq!(made.status, 201, "{made:?}");
    // A token that names the tenant is of the same one; any other is not.
    let named = server.token("default", "u-bob", &[]);
    let task = made.json()["tasks"][0]["id"].as_str().unwrap().to_owned();
    let decide = format!("/tasks/{task}/decision");
    let stranger = server.token(TENANT, "u-bob", &["AWE_ADMIN"]);
    let action = json!({ "action": "approve" });
    assert_eq!(refusal(&post(&stranger, &decide, &action).await), refused(404, "004"));
    assert_eq!(post(&named, &decide, &action).await.status, 201);
    for path in ["/v1/remediation", "/api/v1/actions", "/webhooks/endpoints", "/v1/audit", "/v1/awesome"] {
        let answer = send(server.public(Method::GET, path).bearer_auth(&token)).await;
        assert_eq!(answer.status, if path == "/v1/awesome" { 404 } else { 401 }, "{path}: {answer:?}");
    }
}
