//! Webhook endpoints on both planes: every documented answer and refusal, secrets and their rotation, and the wall
//! between tenants.

use crate::approvals::Person;
use crate::receiver::{Receiver, Reply, key_of};
use crate::server::{Answer, Server, send};
use countersign_testing::fault::Faults;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) const ENDPOINTS: &str = "/webhooks/endpoints";
/// A tenant that is an organization as well.
pub(crate) const TENANT: &str = "7";
const OTHER: &str = "8";
const ABSENT: &str = "ep_01HX9VTPQR3KF8MZWBYD5N6JCE";

impl Server {
    /// Someone who sees to the webhooks of the tenant.
    pub(crate) fn manager(&self) -> Person<'_> {
        self.person(TENANT, "42", &["admin"])
    }

    /// A call of the management plane, with a body unless that is `null`.
    pub(crate) async fn operate(&self, method: Method, path: &str, body: &Value) -> Answer {
        let request = self.request(method, path);
        send(if body.is_null() { request } else { request.json(body) }).await
    }

    /// Registers a secret.
    async fn register(&self, tenant: &str, id: &str, value: &str) -> Answer {
        let body = json!({ "tenant": tenant, "value": value });
        self.operate(Method::PUT, &format!("/secrets/{id}"), &body).await
    }
}

impl Person<'_> {
    /// A call with a body, unless that is `null`.
    pub(crate) async fn call(&self, method: Method, path: &str, body: &Value) -> Answer {
        let request = self.request(method, path);
        send(if body.is_null() { request } else { request.json(body) }).await
    }

    /// Adds an endpoint for all events, with these fields on top.
    pub(crate) async fn add(&self, url: &str, fields: Value) -> Answer {
        let mut body = json!({ "url": url, "events": ["*"] });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.post(ENDPOINTS, &body).await
    }

    /// Adds an endpoint for all events; its id and the bytes that sign.
    pub(crate) async fn endpoint(&self, url: &str) -> (String, Vec<u8>) {
        let added = self.add(url, json!({})).await;
        assert_eq!(added.status, 201, "{added:?}");
        let text = |field: &str| added.json()[field].as_str().unwrap().to_owned();
        (text("id"), key_of(&text("secret")))
    }
}

/// The path of an endpoint, or of what can be done with it.
pub(crate) fn path(id: &str, what: &str) -> String {
    format!("{ENDPOINTS}/{id}{what}")
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// The fields that an answer finds wrong.
fn wrong_fields(answer: &Answer) -> Vec<String> {
    let details = answer.json()["details"].as_array().cloned().unwrap_or_default();
    details.iter().map(|detail| detail["field"].as_str().unwrap().to_owned()).collect()
}

fn replayed(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == Some("true")
}

#[tokio::test]
async fn an_endpoint_is_shown_as_documented_and_its_secret_once() {
    let server = Server::start().await;
    let admin = server.manager();
    let fields = json!({ "events": ["case.created", "action.denied", "case.created"], "description": "ours", "x": 1 });
    let added = admin.add("http://127.0.0.1:9/hook?a=b", fields).await;
    assert_eq!((added.status, added.header("content-type")), (201, Some("application/json")));
    let text = |field: &str| added.json()[field].as_str().unwrap().to_owned();
    let (id, secret) = (text("id"), text("secret"));
    key_of(&secret);
    let shown = |status: &str, secret: &str| {
        format!(
            r#"{{"id":"{id}","tenant":"7","url":"http://127.0.0.1:9/hook?a=b","events":["case.created","action.denied"],"#
        ) + &format!(r#""status":"{status}","description":"ours",{secret}"created_at":"2026-11-21T12:00:00Z"}}"#)
    };
    assert_eq!(added.text, shown("enabled", &format!(r#""secret":"{secret}","#)));
    let one = admin.get(&path(&id, "")).await;
    assert_eq!((one.status, one.text), (200, shown("enabled", "")));
    let all = admin.get(ENDPOINTS).await;
    assert_eq!((all.status, all.text), (200, format!(r#"{{"items":[{}]}}"#, shown("enabled", ""))));

    let operators = server.get(&format!("{}?tenant=7", path(&id, ""))).await;
    assert_eq!((operators.status, operators.text), (200, shown("enabled", "")));
    let disabled = admin.call(Method::PATCH, &path(&id, ""), &json!({ "status": "disabled" })).await;
    assert_eq!((disabled.status, disabled.text), (200, shown("disabled", "")));
    let gone = admin.call(Method::DELETE, &path(&id, ""), &Value::Null).await;
    assert_eq!((gone.status, &*gone.text), (204, ""));
    let again = admin.call(Method::DELETE, &path(&id, ""), &Value::Null).await;
    assert_eq!(again.refusal(), refused(404, "endpoint_not_found"));
    assert_eq!(admin.get(ENDPOINTS).await.text, r#"{"items":[]}"#);
    assert!(!server.table.dump("countersign").await.contains(&secret), "it is kept sealed");
}

#[tokio::test]
async fn an_operator_sees_to_the_endpoints_of_any_tenant() {
    let server = Server::start().await;
    let body = json!({ "tenant": "acme", "url": "http://127.0.0.1:9/hook", "events": ["*"] });
    let added = server.post(ENDPOINTS, &body).await;
    assert_eq!((added.status, &added.json()["tenant"]), (201, &json!("acme")));
    let id = added.json()["id"].as_str().unwrap().to_owned();
    let tenant = json!({ "tenant": "acme" });
    let of_acme = |path: String| format!("{path}?tenant=acme");
    for (method, path, body, status) in [
        (Method::GET, of_acme(ENDPOINTS.to_owned()), Value::Null, 200),
        (Method::GET, of_acme(path(&id, "")), Value::Null, 200),
        (Method::PATCH, of_acme(path(&id, "")), json!({ "description": "d" }), 200),
        (Method::POST, path(&id, "/rotate-secret"), tenant.clone(), 200),
        (Method::POST, path(&id, "/test"), tenant.clone(), 200),
        (
            Method::POST,
            path(&id, "/replay"),
            json!({ "tenant": "acme", "since": "2026-11-20T00:00:00Z", "until": "2026-11-22T00:00:00Z" }),
            202,
        ),
        (Method::GET, of_acme("/webhooks/deliveries".to_owned()), Value::Null, 200),
        (Method::DELETE, of_acme(path(&id, "")), Value::Null, 204),
    ] {
        let without = path.replace("?tenant=acme", "");
        let mut untold = body.clone();
        if let Some(fields) = untold.as_object_mut() {
            fields.remove("tenant");
        }
        let untold = server.operate(method.clone(), &without, &untold).await;
        assert_eq!(untold.refusal(), refused(400, "invalid_request"), "{method} {path}");
        assert_eq!(wrong_fields(&untold), ["tenant"], "{method} {path}");
        // To say it twice is once too often, to say it wrong too.
        let foreign = path.replace("=acme", "=rival");
        let mut foreigners = body.clone();
        if foreigners.get("tenant").is_some() {
            foreigners["tenant"] = "rival".into();
        }
        if path.contains(&id) {
            let foreign = server.operate(method.clone(), &foreign, &foreigners).await;
            assert_eq!(foreign.refusal(), refused(404, "endpoint_not_found"), "{method} {path}");
        }
        let answer = server.operate(method.clone(), &path, &body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
    }
}

#[tokio::test]
async fn only_admins_and_keys_made_for_it_see_to_webhooks() {
    let server = Server::start().await;
    let ask = async |request: reqwest::RequestBuilder| send(request).await.refusal();
    let get = || server.public(Method::GET, ENDPOINTS);
    let person = |roles: &[&str], claims: Value| server.token_with(TENANT, "42", roles, &claims);
    assert_eq!(ask(get()).await, refused(401, "unauthorized"));
    assert_eq!(ask(get().bearer_auth("a.b.c")).await, refused(401, "unauthorized"));
    assert_eq!(ask(get().header("X-API-Key", "cs_live_00000000_nobodys")).await, refused(401, "unauthorized"));
    let expired = person(&["admin"], json!({ "exp": 1_700_000_000, "iat": 1_600_000_000 }));
    assert_eq!(ask(get().bearer_auth(expired)).await, refused(401, "unauthorized"));
    for (roles, claims) in [
        (vec!["member"], json!({})),
        (vec![], json!({})),
        (vec!["admin"], json!({ "role": "manager" })),
        (vec![], json!({ "realm_access": { "roles": ["admin"] } })),
        (vec![], json!({ "role": null, "roles": "admin" })),
        (vec![], json!({ "role": ["admin"] })),
    ] {
        let token = person(&roles, claims.clone());
        assert_eq!(ask(get().bearer_auth(token)).await, refused(403, "forbidden"), "{roles:?} {claims}");
    }
    for claims in [json!({ "role": "admin" }), json!({ "role": null, "roles": ["member", "admin"] })] {
        let allowed = send(get().bearer_auth(person(&["member"], claims.clone()))).await;
        assert_eq!(allowed.status, 200, "{claims}");
    }
    let others = server.key(TENANT, &["actions:submit", "actions:read", "cases:read", "cases:write"]).await;
    assert_eq!(ask(get().header("X-API-Key", others)).await, refused(403, "forbidden"));
    let key = server.key(TENANT, &["webhooks:manage"]).await;
    assert_eq!(send(get().header("X-API-Key", &key)).await.status, 200);
    assert_eq!(send(get().bearer_auth(&key)).await.status, 200);
    // Who is calling comes before everything else.
    let nobody = server.public(Method::POST, &path("x", "/replay")).body("{");
    assert_eq!(ask(nobody).await, refused(401, "unauthorized"));
}

#[tokio::test]
async fn what_is_no_endpoint_is_malformed() {
    let server = Server::start().await;
    let admin = server.manager();
    let (id, _) = admin.endpoint("http://127.0.0.1:9/").await;
    for (field, value, wrong) in [
        ("url", json!(null), "url"),
        ("url", json!(1), "url"),
        ("events", json!(null), "events"),
        ("events", json!("*"), "events"),
        ("events", json!([]), "events"),
        ("events", json!(["case.closed"]), "events"),
        ("events", json!(["webhook.test"]), "events"),
        ("events", json!(["policy.violation"]), "events"),
        ("events", json!(["*", "case.created"]), "events"),
        ("events", json!([1]), "events"),
        ("events", json!(vec!["case.created"; 51]), "events"),
        ("description", json!("x".repeat(301)), "description"),
        ("description", json!("a\u{7}"), "description"),
        ("secret", json!("whsec_abc"), "secret"),
        ("secret", json!({}), "secret.id"),
        ("secret", json!({ "id": "" }), "secret.id"),
        ("secret", json!({ "id": "a/b" }), "secret.id"),
        ("secret", json!({ "id": "nobodys" }), "secret.id"),
    ] {
        let answer = admin.add("http://127.0.0.1:9/", json!({ field: value })).await;
        assert_eq!(answer.refusal(), refused(400, "invalid_request"), "{field}: {value}");
        assert_eq!(wrong_fields(&answer), [wrong], "{value}: {answer:?}");
        // null takes nothing back here but the description.
        if !["secret", "secret.id"].contains(&wrong) && !value.is_null() {
            let answer = admin.call(Method::PATCH, &path(&id, ""), &json!({ field: value })).await;
            assert_eq!(wrong_fields(&answer), [wrong], "{value}: {answer:?}");
        }
    }
    for body in [json!({ "status": "paused" }), json!({ "status": true })] {
        let answer = admin.call(Method::PATCH, &path(&id, ""), &body).await;
        assert_eq!(wrong_fields(&answer), ["status"], "{answer:?}");
    }
    for body in [json!([]), json!("x")] {
        assert_eq!(admin.post(ENDPOINTS, &body).await.refusal(), refused(400, "invalid_request"));
        let edited = admin.call(Method::PATCH, &path(&id, ""), &body).await;
        assert_eq!(edited.refusal(), refused(400, "invalid_request"));
    }
    let everything = admin.post(ENDPOINTS, &json!({ "events": [], "secret": 1, "description": 1 })).await;
    assert_eq!(wrong_fields(&everything), ["url", "events", "secret", "description"]);
    for query in ["?cursor=x", "?cursor=", "?cursor=x&cursor=x"] {
        let refused_cursor = admin.get(&format!("{ENDPOINTS}{query}")).await;
        assert_eq!(refused_cursor.refusal(), refused(400, "invalid_request"), "{query}");
    }
    let names: Vec<_> = countersign_domain::event::EVENTS.into_iter().collect();
    let all = admin.add("http://127.0.0.1:9/", json!({ "events": names, "description": "ü".repeat(300) })).await;
    assert_eq!((all.status, &all.json()["events"]), (201, &json!(names)));
}

#[tokio::test]
async fn an_edit_changes_what_it_names_and_nothing_else() {
    let server = Server::start().await;
    let admin = server.manager();
    let (id, _) = admin.endpoint("http://127.0.0.1:9/").await;
    let edit = async |body: Value| {
        let edited = admin.call(Method::PATCH, &path(&id, ""), &body).await;
        assert_eq!(edited.status, 200, "{edited:?}");
        assert_eq!(edited.json().get("secret"), None);
        edited.json()
    };
    let before = edit(json!({})).await;
    assert_eq!(before, admin.get(&path(&id, "")).await.json());
    let described = edit(json!({ "description": "d", "url": null, "events": null, "status": null, "id": "x" })).await;
    assert_eq!(described["description"], "d");
    assert_eq!((&described["url"], &described["id"]), (&before["url"], &before["id"]));
    assert_eq!(edit(json!({ "events": ["case.created"] })).await["description"], "d");
    assert_eq!(edit(json!({ "description": null })).await["description"], Value::Null);
    assert_eq!(edit(json!({ "url": "http://127.0.0.1:10/" })).await["url"], "http://127.0.0.1:10/");
    assert_eq!(edit(json!({ "status": "disabled" })).await["status"], "disabled");
    let enabled = edit(json!({ "status": "enabled" })).await;
    assert_eq!(enabled["status"], "enabled");
    let refused_url = admin.call(Method::PATCH, &path(&id, ""), &json!({ "url": "http://10.0.0.1/" })).await;
    assert_eq!(refused_url.refusal(), refused(422, "target_refused"));
    assert_eq!(admin.get(&path(&id, "")).await.json(), enabled, "a refusal changes nothing");
}

#[tokio::test]
async fn a_url_that_may_not_be_called_is_refused() {
    let server = Server::start().await;
    let admin = server.manager();
    let (id, _) = admin.endpoint("http://127.0.0.1:9/").await;
    let own = [server.public_url.clone(), server.management.clone()];
    for url in [
        "",
        "x",
        "ftp://example.com/",
        "http://93.184.216.34/",
        "https://93.184.216.34:8080/",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://example.com/#f",
        "https://example.com\\@127.0.0.1/",
        " https://example.com/",
        "https://example.com/a b",
        "https://169.254.169.254/latest/meta-data/",
        "http://169.254.170.2/",
        "https://[fd00:ec2::254]/",
        "https://10.0.0.1/",
        "https://192.168.1.1/",
        "https://0.0.0.0/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://[fe80::1%25lo]/",
        "https://example.com./",
        &format!("https://example.com/{}", "x".repeat(2048)),
        &own[0],
        &own[1],
    ] {
        for answer in [
            admin.add(url, json!({})).await,
            admin.call(Method::PATCH, &path(&id, ""), &json!({ "url": url })).await,
            server.post(ENDPOINTS, &json!({ "tenant": TENANT, "url": url, "events": ["*"] })).await,
        ] {
            assert_eq!(answer.refusal(), refused(422, "target_refused"), "{url}");
            assert!(answer.json()["message"].as_str().unwrap().starts_with("the url "), "{answer:?}");
        }
    }
    assert_eq!(admin.get(ENDPOINTS).await.json()["items"].as_array().unwrap().len(), 1);
    // What is wrong with the form comes first; what does not resolve now may do so later.
    for wrong in [json!({ "events": [] }), json!({ "secret": { "id": "nobodys" } })] {
        assert_eq!(admin.add("ftp://x", wrong).await.status, 400);
    }
    assert_eq!(admin.add("https://does-not-resolve.invalid/", json!({})).await.status, 201);

    let nowhere = Server::with(Faults::none(), 0, &[("COUNTERSIGN_WEBHOOK_ALLOW", "")]).await;
    let local = nowhere.manager().add("http://127.0.0.1:9/", json!({})).await;
    assert_eq!(local.refusal(), refused(422, "target_refused"));
}

#[tokio::test]
async fn a_tenant_has_at_most_fifty_endpoints() {
    let server = Server::start().await;
    let admin = server.manager();
    for _ in 0..50 {
        admin.endpoint("http://127.0.0.1:9/").await;
    }
    let more = admin.add("http://127.0.0.1:9/", json!({})).await;
    assert_eq!(more.refusal(), refused(409, "too_many_endpoints"));
    let others = server.person(OTHER, "42", &["admin"]);
    assert_eq!(others.add("http://127.0.0.1:9/", json!({})).await.status, 201);
    let items = admin.get(ENDPOINTS).await.json();
    let id = items["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!((items["items"].as_array().unwrap().len(), items.get("cursor")), (50, None));
    assert_eq!(admin.call(Method::DELETE, &path(&id, ""), &Value::Null).await.status, 204);
    assert_eq!(admin.add("http://127.0.0.1:9/", json!({})).await.status, 201);
}

#[tokio::test]
async fn a_repeated_call_is_answered_as_the_first_one_without_the_secret() {
    let server = Server::start().await;
    let admin = server.manager();
    let body = json!({ "url": "http://127.0.0.1:9/", "events": ["*"] });
    let first = admin.post_once(ENDPOINTS, "k", &body).await;
    assert_eq!((first.status, replayed(&first)), (201, false));
    let again = admin.post_once(ENDPOINTS, "k", &body).await;
    let mut expected = first.json();
    expected["secret"] = Value::Null;
    assert_eq!((again.status, replayed(&again), again.json()), (201, true, expected));
    let id = first.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(admin.get(ENDPOINTS).await.json()["items"].as_array().unwrap().len(), 1);

    let mut other = body.clone();
    other["url"] = "http://10.0.0.1/".into();
    let reused = admin.post_once(ENDPOINTS, "k", &other).await;
    assert_eq!(reused.refusal(), refused(422, "idempotency_key_reused"), "before the target is judged");

    let rotate = path(&id, "/rotate-secret");
    let rotated = admin.post_once(&rotate, "r", &json!({})).await;
    let again = admin.post_once(&rotate, "r", &json!({})).await;
    assert_eq!((rotated.status, again.status, replayed(&again)), (200, 200, true));
    assert_eq!((rotated.json()["secret"].is_string(), &again.json()["secret"]), (true, &Value::Null));

    let window = json!({ "since": "2026-11-20T00:00:00Z", "until": "2026-11-22T00:00:00Z" });
    let replay = path(&id, "/replay");
    assert_eq!(admin.post_once(&replay, "w", &window).await.status, 202);
    assert_eq!(admin.call(Method::DELETE, &path(&id, ""), &Value::Null).await.status, 204);
    for (path, key, body, status) in
        [(ENDPOINTS, "k", &body, 201), (&rotate, "r", &json!({}), 200), (&replay, "w", &window, 202)]
    {
        let again = admin.post_once(path, key, body).await;
        assert_eq!((again.status, replayed(&again)), (status, true), "{path}: what was done stays answered");
    }
    // The key is judged before anything that could be wrong otherwise.
    for (path, body) in
        [(path("x", "/test"), json!({})), (path("x", "/replay"), window), (path("x", "/rotate-secret"), json!({}))]
    {
        let request = admin.request(Method::POST, &path).header("Idempotency-Key", "x".repeat(256)).json(&body);
        assert_eq!(send(request).await.refusal(), refused(400, "invalid_request"), "{path}");
        assert_eq!(admin.post(&path, &body).await.refusal(), refused(404, "endpoint_not_found"), "{path}");
    }
}

#[tokio::test]
async fn a_test_is_signed_and_told_as_it_went() {
    let server = Server::start().await;
    let (admin, receiver) = (server.manager(), Receiver::start().await);
    let (id, key) = admin.endpoint(&receiver.url).await;
    let test = async || {
        let tested = send(admin.request(Method::POST, &path(&id, "/test"))).await;
        assert_eq!(tested.status, 200, "{tested:?}");
        let mut tested = tested.json();
        assert!(tested["response_time_ms"].take().is_u64());
        tested
    };
    let told = |success: bool, status: Value, error: Value| json!({ "success": success, "status_code": status, "response_time_ms": null, "error": error });
    assert_eq!(test().await, told(true, json!(200), Value::Null));
    let received = receiver.after(1).await.remove(0);
    assert!(received.is_signed_by(&key) && received.is_approved_by(&key));
    let body = received.json();
    let event_id = received.header("webhook-id");
    assert_eq!(received.header("x-approval-event-id"), event_id);
    assert_eq!(received.header("content-type"), "application/json");
    let subject = json!({ "kind": "webhook_endpoint", "id": id });
    assert_eq!(
        body,
        json!({ "event_id": event_id, "event_type": "webhook.test", "tenant": TENANT,
            "occurred_at": "2026-11-21T12:00:00Z", "subject": subject, "actor": "42", "data": {} })
    );
    for (status, headers, error) in [
        (500, vec![], json!("HTTP 500")),
        (410, vec![], json!("HTTP 410")),
        (302, vec![("location", "http://127.0.0.1:9/")], json!("HTTP 302: redirects are not followed")),
    ] {
        receiver.answers(Reply::With(status, headers));
        assert_eq!(test().await, told(false, json!(status), error));
    }
    assert_eq!(admin.get(&path(&id, "")).await.json()["status"], "enabled", "nothing is learnt from a test");
    assert_eq!(admin.call(Method::PATCH, &path(&id, ""), &json!({ "status": "disabled" })).await.status, 200);
    receiver.answers(Reply::With(204, Vec::new()));
    assert_eq!(test().await, told(true, json!(204), Value::Null), "also while it is disabled");
    drop(receiver);
    assert_eq!(test().await["success"], false);
    assert_eq!(admin.get("/webhooks/deliveries").await.text, r#"{"items":[]}"#, "a test is no delivery");
}

#[tokio::test]
async fn a_test_ends_with_the_time_of_an_attempt() {
    let server = Server::with(Faults::none(), 0, &[("COUNTERSIGN_WEBHOOK_TIMEOUT", "1s")]).await;
    let (admin, receiver) = (server.manager(), Receiver::start().await);
    let (id, _) = admin.endpoint(&receiver.url).await;
    receiver.answers(Reply::Never);
    let tested = admin.post(&path(&id, "/test"), &json!({})).await;
    assert_eq!(tested.json()["error"], "no complete answer within 1 s", "{tested:?}");
}

#[tokio::test]
async fn a_rotated_secret_signs_along_for_a_day() {
    let server = Server::start().await;
    let (admin, receiver) = (server.manager(), Receiver::start().await);
    let (id, first) = admin.endpoint(&receiver.url).await;
    let rotate = async || {
        let rotated = send(admin.request(Method::POST, &path(&id, "/rotate-secret"))).await;
        assert_eq!((rotated.status, &rotated.json()["id"]), (200, &json!(id)));
        key_of(rotated.json()["secret"].as_str().unwrap())
    };
    let received = async || {
        let count = receiver.all().len();
        assert_eq!(send(admin.request(Method::POST, &path(&id, "/test"))).await.json()["success"], true);
        receiver.after(count + 1).await.remove(count)
    };
    let second = rotate().await;
    assert_ne!(first, second);
    let both = received().await;
    assert_eq!(both.signatures(), 2);
    assert!(both.is_signed_by(&first) && both.is_signed_by(&second));
    assert!(both.is_approved_by(&second) && !both.is_approved_by(&first), "one place has the newest alone");

    server.clock.advance(Duration::from_secs(24 * 3600 - 1));
    assert!(received().await.is_signed_by(&first));
    server.clock.advance(Duration::from_secs(1));
    let one = received().await;
    assert_eq!((one.signatures(), one.is_signed_by(&second), one.is_signed_by(&first)), (1, true, false));

    let third = rotate().await;
    let fourth = rotate().await;
    let both = received().await;
    assert_eq!((both.signatures(), both.is_signed_by(&second)), (2, false), "only the last one signs along");
    assert!(both.is_signed_by(&third) && both.is_signed_by(&fourth) && both.is_approved_by(&fourth));
}

#[tokio::test]
async fn a_registered_secret_signs_for_endpoints_that_name_it() {
    let server = Server::start().await;
    let (admin, receiver) = (server.manager(), Receiver::start().await);
    let value = "a shared secret of ours, ü";
    let registered = server.register(TENANT, "shared", value).await;
    assert_eq!((registered.status, &*registered.text), (204, ""));
    assert!(!server.table.dump("countersign").await.contains(value), "it is kept sealed");
    let added = admin.add(&receiver.url, json!({ "secret": { "id": "shared" } })).await;
    assert_eq!((added.status, &added.json()["secret"]), (201, &Value::Null));
    let id = added.json()["id"].as_str().unwrap().to_owned();
    let received = async || {
        let count = receiver.all().len();
        let tested = admin.post(&path(&id, "/test"), &json!({})).await;
        assert_eq!(tested.json()["success"], true, "{tested:?}");
        receiver.after(count + 1).await.remove(count)
    };
    let signed = received().await;
    assert!(signed.is_signed_by(value.as_bytes()) && signed.is_approved_by(value.as_bytes()));
    // What stands for bytes is those bytes, as everywhere.
    assert_eq!(server.register(TENANT, "shared", "whsec_MDEyMzQ1Njc4OWFiY2RlZg==").await.status, 204);
    assert!(received().await.is_signed_by(b"0123456789abcdef"));
    let rotated = admin.post(&path(&id, "/rotate-secret"), &json!({})).await;
    let own = key_of(rotated.json()["secret"].as_str().unwrap());
    let signed = received().await;
    assert_eq!((signed.signatures(), signed.is_signed_by(&own)), (1, true));

    // Another tenant's is nobody's.
    assert_eq!(server.register(OTHER, "theirs", "0123456789abcdef").await.status, 204);
    let foreign = admin.add(&receiver.url, json!({ "secret": { "id": "theirs" } })).await;
    let absent = admin.add(&receiver.url, json!({ "secret": { "id": "absent" } })).await;
    assert_eq!((foreign.status, &foreign.text), (400, &absent.text));
}

#[tokio::test]
async fn what_is_no_secret_cannot_be_registered() {
    let server = Server::start().await;
    let good = json!({ "tenant": "acme", "value": "0123456789abcdef" });
    for (id, field, value, wrong) in [
        ("a%2Fb", "tenant", json!("acme"), "id"),
        ("%20", "tenant", json!("acme"), "id"),
        (&"x".repeat(65), "tenant", json!("acme"), "id"),
        ("s", "tenant", json!(null), "tenant"),
        ("s", "tenant", json!("a#b"), "tenant"),
        ("s", "value", json!(null), "value"),
        ("s", "value", json!("x".repeat(15)), "value"),
        ("s", "value", json!("x".repeat(257)), "value"),
        ("s", "value", json!("0123456789abcde\u{7}"), "value"),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let answer = server.operate(Method::PUT, &format!("/secrets/{id}"), &body).await;
        assert_eq!(answer.refusal(), refused(400, "invalid_request"), "{id} {body}");
        assert_eq!(wrong_fields(&answer), [wrong], "{answer:?}");
        assert!(!answer.text.contains("0123456789"), "a secret is never repeated: {answer:?}");
    }
    for value in ["x".repeat(16), "ü".repeat(256)] {
        assert_eq!(server.register("acme", "A.b_c-9", &value).await.status, 204);
    }
}

#[tokio::test]
async fn what_a_window_cannot_be_is_said() {
    let server = Server::start().await;
    let admin = server.manager();
    let (id, _) = admin.endpoint("http://127.0.0.1:9/").await;
    let (noon, later) = ("2026-11-21T12:00:00Z", "2026-11-21T12:00:01Z");
    for (since, until, wrong) in [
        (json!(noon), json!(noon), "until"),
        (json!(later), json!(noon), "until"),
        (json!(null), json!(noon), "since"),
        (json!("yesterday"), json!(noon), "since"),
        (json!(noon), json!(1), "until"),
    ] {
        let answer = admin.post(&path(&id, "/replay"), &json!({ "since": since, "until": until })).await;
        assert_eq!(answer.refusal(), refused(400, "invalid_request"), "{since} {until}");
        assert_eq!(wrong_fields(&answer), [wrong], "{answer:?}");
    }
    let window = json!({ "since": noon, "until": later });
    assert_eq!(admin.post(&path(ABSENT, "/replay"), &window).await.refusal(), refused(404, "endpoint_not_found"));
    let disable = json!({ "status": "disabled" });
    assert_eq!(admin.call(Method::PATCH, &path(&id, ""), &disable).await.status, 200);
    let answer = admin.post(&path(&id, "/replay"), &window).await;
    assert_eq!(answer.refusal(), refused(409, "endpoint_not_enabled"));
}
