//! Webhooks as the agents' SDK calls them: the same endpoints in the words of the actions door.

use crate::actions::{ORGANIZATION, Organization, code};
use crate::approvals::Person;
use crate::receiver::{Receiver, key_of};
use crate::server::send;
use crate::webhooks::{ENDPOINTS, path};
use reqwest::Method;
use serde_json::{Value, json};

const WEBHOOKS: &str = "/api/webhooks";
const CONFIGURE: &str = "/api/webhooks/configure";
const SECRET: &str = "whsec_a text of sixteen and more";

impl Organization {
    /// Adds a webhook, with these fields on top; what the SDK reads.
    async fn webhook(&self, url: &str, fields: Value) -> Value {
        let mut body = json!({ "url": url, "events": ["*"] });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.post(&self.admin, CONFIGURE, &body).await.ok()
    }

    fn manager(&self) -> Person<'_> {
        Person { server: &self.server, token: self.admin.clone() }
    }
}

#[tokio::test]
async fn a_webhook_is_shown_as_the_sdk_reads_it() {
    let org = Organization::new().await;
    let events = json!(["action.approved", "policy.violation", "agent.trust_changed"]);
    let body = json!({ "url": "http://127.0.0.1:9/", "events": events, "agent_id": "bot" });
    let added = org.post(&org.admin, CONFIGURE, &body).await;
    assert_eq!((added.status, added.header("content-type")), (200, Some("application/json")));
    let text = |field: &str| added.json()[field].as_str().unwrap().to_owned();
    let (id, secret) = (text("webhook_id"), text("secret"));
    key_of(&secret);
    let shown = |url: &str, secret: &str| {
        format!(r#"{{"webhook_id":"{id}","url":"http://127.0.0.1:{url}/","events":{events},"active":true,"#)
            + &format!(r#""created_at":"2026-11-21T12:00:00Z"{secret}}}"#)
    };
    assert_eq!(added.text, shown("9", &format!(r#","secret":"{secret}""#)));
    assert_eq!(org.get(WEBHOOKS).await.text, format!("[{}]", shown("9", "")));
    let one = format!("{WEBHOOKS}/{id}");
    let changed = org.manager().call(Method::PUT, &one, &json!({ "url": "http://127.0.0.1:10/" })).await;
    assert_eq!((changed.status, changed.text), (200, shown("10", "")));
    let unchanged = org.manager().call(Method::PUT, &one, &json!({})).await;
    assert_eq!((unchanged.status, unchanged.text), (200, shown("10", "")));
    // The same record, called otherwise.
    let endpoint = org.get(&path(&id, "")).await.ok();
    assert_eq!((&endpoint["events"], &endpoint["status"]), (&events, &json!("enabled")));
    assert_eq!(org.manager().call(Method::PATCH, &path(&id, ""), &json!({ "status": "disabled" })).await.status, 200);
    assert_eq!(org.get(WEBHOOKS).await.ok()[0]["active"], false);
    let gone = org.manager().call(Method::DELETE, &one, &Value::Null).await;
    assert_eq!((gone.status, &*gone.text), (200, "{}"));
    let again = org.manager().call(Method::DELETE, &one, &Value::Null).await;
    assert_eq!(again.coded(), code(404, "ENDPOINT_NOT_FOUND"));
    assert_eq!(org.get(WEBHOOKS).await.text, "[]");
    assert_eq!(org.get(ENDPOINTS).await.text, r#"{"items":[]}"#);
}

#[tokio::test]
async fn refusals_are_in_the_words_of_the_actions_door() {
    let org = Organization::new().await;
    let bare = org.server.public(Method::GET, WEBHOOKS);
    assert_eq!(send(bare).await.coded(), code(401, "MISSING_AUTH"));
    let coded = async |bearer: &str| send(org.with(bearer, Method::GET, WEBHOOKS)).await.coded();
    assert_eq!(coded("a.b.c").await, code(401, "INVALID_TOKEN"));
    assert_eq!(coded("cs_live_00000000_nobodys").await, code(401, "INVALID_TOKEN"));
    assert_eq!(coded(&org.key).await, code(403, "FORBIDDEN"), "a key for other things");
    assert_eq!(coded(&org.human(42, "security_manager")).await, code(403, "FORBIDDEN"));
    assert_eq!(coded(&org.server.token("acme", "42", &["admin"])).await, code(401, "INVALID_TOKEN"));
    assert_eq!(coded(&org.server.key("acme", &["webhooks:manage"]).await).await, code(401, "INVALID_TOKEN"));
    let key = org.server.key(ORGANIZATION, &["webhooks:manage"]).await;
    assert_eq!(send(org.with(&key, Method::GET, WEBHOOKS)).await.status, 200);

    for fields in [
        json!({ "url": null }),
        json!({ "events": [] }),
        json!({ "events": ["case.closed"] }),
        json!({ "agent_id": "" }),
        json!({ "agent_id": "x".repeat(501) }),
        json!({ "secret": "x".repeat(15) }),
        json!({ "secret": "x".repeat(257) }),
        json!({ "secret": { "id": "shared" } }),
    ] {
        let mut body = json!({ "url": "http://127.0.0.1:9/", "events": ["*"] });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        assert_eq!(org.post(&org.admin, CONFIGURE, &body).await.coded(), code(422, "VALIDATION_ERROR"), "{fields}");
    }
    let hostile = json!({ "url": "https://169.254.169.254/", "events": ["*"] });
    assert_eq!(org.post(&org.admin, CONFIGURE, &hostile).await.coded(), code(422, "TARGET_REFUSED"));
    let id = org.webhook("http://127.0.0.1:9/", json!({})).await["webhook_id"].as_str().unwrap().to_owned();
    let put =
        async |id: &str, body: Value| org.manager().call(Method::PUT, &format!("{WEBHOOKS}/{id}"), &body).await.coded();
    assert_eq!(put(&id, json!({ "url": "https://10.0.0.1/" })).await, code(422, "TARGET_REFUSED"));
    assert_eq!(put(&id, json!({ "secret": "short" })).await, code(422, "VALIDATION_ERROR"));
    assert_eq!(put("x", json!({})).await, code(404, "ENDPOINT_NOT_FOUND"));
    let test = |id: &str| format!("{WEBHOOKS}/{id}/test");
    assert_eq!(org.post(&org.admin, &test("x"), &json!({})).await.coded(), code(404, "ENDPOINT_NOT_FOUND"));
    let stranger = org.server.token("8", "42", &["admin"]);
    let foreign = org.post(&stranger, &test(&id), &json!({})).await;
    let absent = org.post(&stranger, &test("ep_01HX9VTPQR3KF8MZWBYD5N6JCE"), &json!({})).await;
    assert_eq!((foreign.status, foreign.text), (404, absent.text));
}

#[tokio::test]
async fn a_secret_of_ones_own_signs_with_all_its_bytes_and_is_never_shown() {
    let org = Organization::new().await;
    let receiver = Receiver::start().await;
    let added = org.webhook(&receiver.url, json!({ "secret": SECRET })).await;
    assert_eq!(added.get("secret"), None, "{added}");
    assert!(!org.server.table.dump("countersign").await.contains(SECRET), "it is kept sealed");
    let one = format!("{WEBHOOKS}/{}", added["webhook_id"].as_str().unwrap());
    let tested = send(org.with(&org.admin, Method::POST, &format!("{one}/test"))).await.ok();
    assert_eq!((&tested["success"], &tested["status_code"]), (&json!(true), &json!(200)));
    assert!(receiver.after(1).await[0].is_approved_by(SECRET.as_bytes()));
    let next = "another text of sixteen and more";
    let changed = org.manager().call(Method::PUT, &one, &json!({ "secret": next })).await.ok();
    assert_eq!(changed.get("secret"), None);
    assert_eq!(org.manager().post(&format!("{one}/test"), &json!({})).await.ok()["success"], true);
    let received = receiver.after(2).await.remove(1);
    assert_eq!((received.is_approved_by(next.as_bytes()), received.signatures()), (true, 1));
}

#[tokio::test]
async fn a_repeated_configuration_is_answered_without_the_secret() {
    let org = Organization::new().await;
    let body = json!({ "url": "http://127.0.0.1:9/", "events": ["*"] });
    let first = org.manager().post_once(CONFIGURE, "k", &body).await;
    let again = org.manager().post_once(CONFIGURE, "k", &body).await;
    let mut expected = first.json();
    assert!(expected["secret"].take().is_string());
    assert_eq!((again.status, again.header("idempotency-replayed")), (200, Some("true")));
    assert_eq!(again.json(), expected);
}

#[tokio::test]
async fn a_webhook_of_one_agent_hears_of_its_actions_alone() {
    let org = Organization::new().await;
    let (receiver, all) = (Receiver::start().await, Receiver::start().await);
    org.webhook(&receiver.url, json!({ "agent_id": "bot" })).await;
    org.webhook(&all.url, json!({})).await;
    org.submitted(json!({ "agent_id": "other" })).await;
    let id = org.submitted(json!({ "agent_id": "bot" })).await;
    assert_eq!(org.act(&org.admin, id, "reject").await.status, 200);
    let heard: Vec<_> = receiver.after(2).await.iter().map(|one| one.json()["data"]["agent_id"].clone()).collect();
    assert_eq!(heard, ["bot", "bot"]);
    assert_eq!(all.after(3).await.len(), 3);
    assert_eq!(receiver.all().len(), 2);
}
