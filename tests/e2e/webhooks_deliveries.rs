//! Deliveries: their log, attempt after attempt, what ends them, starting one anew, and replays of the past.

use crate::actions::eventually;
use crate::approvals::Person;
use crate::cases::Tool;
use crate::receiver::{Receiver, Reply};
use crate::server::{Server, send};
use crate::webhooks::{TENANT, path};
use countersign_domain::workflow::policy::Definition;
use countersign_domain::workflow::request::{Answers, Bound, By, Callback, New, Request, RequestId};
use countersign_domain::{Actor, Outcome};
use countersign_store::{Call, Key};
use countersign_testing::fault::Faults;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

const DELIVERIES: &str = "/webhooks/deliveries";
/// Waits that can be told exactly, and not many of them.
const SCHEDULE: [(&str, &str); 2] = [("COUNTERSIGN_RETRY_JITTER", "0"), ("COUNTERSIGN_RETRY_DELAYS", "1m")];
const ABSENT: &str = "dlv_00112233445566778899aabbccddeeff";

async fn punctual() -> Server {
    Server::with(Faults::none(), 0, &SCHEDULE).await
}

impl Person<'_> {
    /// Adds an endpoint that is told of new cases alone; its id.
    async fn endpoint_for_cases(&self, url: &str) -> String {
        let added = self.add(url, json!({ "events": ["case.created"] })).await;
        assert_eq!(added.status, 201, "{added:?}");
        added.json()["id"].as_str().unwrap().to_owned()
    }

    /// The deliveries that a filter lets through.
    async fn deliveries(&self, filter: &str) -> Vec<Value> {
        let listed = self.get(&format!("{DELIVERIES}{filter}")).await;
        assert_eq!(listed.status, 200, "{listed:?}");
        listed.json()["items"].as_array().unwrap().clone()
    }

    /// How far all deliveries of an endpoint are: status and number of attempts, newest first.
    async fn progress(&self, endpoint: &str) -> Vec<(String, u64)> {
        let deliveries = self.deliveries(&format!("?endpoint={endpoint}")).await;
        let progress = |delivery: &Value| {
            (delivery["status"].as_str().unwrap().to_owned(), delivery["attempts"].as_u64().unwrap())
        };
        deliveries.iter().map(progress).collect()
    }

    async fn until(&self, endpoint: &str, status: &str, attempts: u64) -> Value {
        eventually(vec![(status.to_owned(), attempts)], async || self.progress(endpoint).await).await;
        self.deliveries(&format!("?endpoint={endpoint}")).await.remove(0)
    }

    async fn retry(&self, delivery: &Value) -> crate::server::Answer {
        send(self.request(Method::POST, &format!("{DELIVERIES}/{}/retry", delivery["id"].as_str().unwrap()))).await
    }

    async fn set_status(&self, endpoint: &str, status: &str) {
        let set = self.call(Method::PATCH, &path(endpoint, ""), &json!({ "status": status })).await;
        assert_eq!(set.status, 200, "{set:?}");
    }
}

/// Makes a request by a policy without stages, so that it is approved at once, that is called back here.
async fn request(server: &Server, url: &str) {
    let definition = Definition {
        name: "Nobody is asked".to_owned(),
        description: None,
        artifact_type: "change".to_owned(),
        forbid_self_approval: false,
        forbid_repeat_approvers: false,
        stages: Vec::new(),
    };
    let policy = Bound {
        key: "nobody".to_owned(),
        version: 1,
        id: Uuid::from_u128(1),
        item: "version#1".to_owned(),
        forbid_self_approval: false,
        forbid_repeat_approvers: false,
    };
    let new = New {
        id: RequestId::new([1; 13]),
        policy,
        artifact_type: "change".to_owned(),
        artifact_id: "cr-1".to_owned(),
        source_service: "svc".to_owned(),
        requester: "svc".to_owned(),
        context: json!({}),
        callback: Some(Callback { url: url.to_owned(), secret: None }),
    };
    let actor = Actor::User { issuer: "test".to_owned(), subject: "svc".to_owned() };
    let by = By { actor, email: None, is_admin: false };
    let answers = Answers { definition: Some(Arc::new(definition)), ..Answers::default() };
    let key = Key::new(&TENANT.parse().unwrap(), &new.id.to_string());
    let call = Call { deadline: Instant::now() + Duration::from_secs(30), once: None };
    let rule = |_: Option<&Request>, now| Request::create(new.clone(), &answers, &by, now).map(Outcome::Change);
    let made = server.app.store.change(&key, call, rule, |_| Ok(()), |()| Ok(String::new())).await.unwrap();
    server.app.tell(&made.work).await;
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_failed_attempt_is_told_and_made_again_when_it_is_due() {
    let server = punctual().await;
    let (admin, tool, receiver) = (server.manager(), Tool::of(&server, TENANT).await, Receiver::start().await);
    let endpoint = admin.endpoint_for_cases(&receiver.url).await;
    receiver.answers(Reply::With(500, Vec::new()));
    tool.create(json!({})).await;
    let pending = admin.until(&endpoint, "pending", 1).await;
    let (id, event_id) = (pending["id"].as_str().unwrap(), pending["event_id"].as_str().unwrap());
    let shown = |state: &str, next: &str, updated: &str| {
        format!(r#"{{"id":"{id}","event_id":"{event_id}","event_type":"case.created","endpoint":"{endpoint}","#)
            + &format!(
                r#""url":"{}",{state},"next_attempt_at":{next},"created_at":"2026-11-21T12:00:00Z","#,
                receiver.url
            )
            + &format!(r#""updated_at":"2026-11-21T12:0{updated}Z""#)
    };
    let waiting = shown(r#""status":"pending","attempts":1"#, r#""2026-11-21T12:01:00Z""#, "0:00");
    let listed = admin.get(DELIVERIES).await;
    assert_eq!(listed.text, format!(r#"{{"items":[{waiting}}}]}}"#));

    receiver.answers(Reply::With(204, Vec::new()));
    server.clock.advance(Duration::from_secs(60));
    let received = receiver.after(2).await;
    admin.until(&endpoint, "delivered", 2).await;
    let one = admin.get(&format!("{DELIVERIES}/{id}")).await;
    let log = one.json()["attempt_log"].clone();
    let attempt = |n: usize, at: &str, status: u16, error: &str, excerpt: &str| {
        format!(
            r#"{{"n":{},"at":"2026-11-21T12:0{at}Z","status_code":{status},"duration_ms":{},"error":{error},"excerpt":{excerpt}}}"#,
            n,
            log[n - 1]["duration_ms"].as_u64().unwrap()
        )
    };
    let attempts = [attempt(1, "0:00", 500, r#""HTTP 500""#, r#""as told""#), attempt(2, "1:00", 204, "null", "null")];
    let delivered = shown(r#""status":"delivered","attempts":2"#, "null", "1:00");
    assert_eq!(one.text, format!(r#"{delivered},"attempt_log":[{}]}}"#, attempts.join(",")));
    let operators = server.get(&format!("{DELIVERIES}/{id}?tenant={TENANT}")).await;
    assert_eq!((operators.status, operators.text), (200, one.text));
    // The same event, signed anew at its time.
    assert_eq!((received[0].body == received[1].body, received.len()), (true, 2));
    for name in ["webhook-id", "x-approval-event-id"] {
        assert!(received.iter().all(|one| one.header(name) == event_id), "{name}");
    }
    let seconds = |one: usize| received[one].header("webhook-timestamp").parse::<u64>().unwrap();
    assert_eq!(seconds(1) - seconds(0), 60);
    assert_eq!(admin.retry(&pending).await.refusal(), refused(409, "already_delivered"));
}

#[tokio::test]
async fn a_delivery_that_is_given_up_is_told_and_can_be_started_anew() {
    let server = punctual().await;
    let (admin, tool) = (server.manager(), Tool::of(&server, TENANT).await);
    let (receiver, watcher) = (Receiver::start().await, Receiver::start().await);
    let endpoint = admin.endpoint_for_cases(&receiver.url).await;
    let told = admin.add(&watcher.url, json!({ "events": ["delivery.exhausted"] })).await;
    assert_eq!(told.status, 201, "{told:?}");
    receiver.answers(Reply::With(503, Vec::new()));
    tool.create(json!({})).await;
    admin.until(&endpoint, "pending", 1).await;
    server.clock.advance(Duration::from_secs(60));
    let exhausted = admin.until(&endpoint, "exhausted", 2).await;
    assert_eq!(exhausted["next_attempt_at"], Value::Null);
    let event = watcher.after(1).await.remove(0).json();
    assert_eq!(event["event_type"], "delivery.exhausted");
    assert_eq!((&event["data"]["delivery_id"], &event["data"]["endpoint"]), (&exhausted["id"], &json!(endpoint)));
    assert_eq!((&event["data"]["attempts"], &event["data"]["last_error"]), (&json!(2), &json!("HTTP 503")));

    receiver.answers(Reply::With(200, Vec::new()));
    let retried = admin.retry(&exhausted).await;
    assert_eq!((retried.status, &retried.json()["status"]), (200, &json!("pending")), "{retried:?}");
    assert_eq!((&retried.json()["id"], &retried.json()["attempts"]), (&exhausted["id"], &json!(2)));
    admin.until(&endpoint, "delivered", 3).await;
    let log = admin.get(&format!("{DELIVERIES}/{}", exhausted["id"].as_str().unwrap())).await.json();
    let numbers: Vec<_> = log["attempt_log"].as_array().unwrap().iter().map(|one| one["n"].clone()).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(receiver.all().len(), 3);
}

#[tokio::test]
async fn deliveries_to_the_callback_of_a_request_are_shown_without_an_endpoint_and_can_be_started_anew() {
    let server = punctual().await;
    let (admin, receiver) = (server.manager(), Receiver::start().await);
    receiver.answers(Reply::With(410, Vec::new()));
    request(&server, &receiver.url).await;
    let count = async |filter: &str, attempts: u64| {
        admin.deliveries(filter).await.iter().filter(|delivery| delivery["attempts"] == attempts).count()
    };
    eventually(2, async || count("?status=pending", 1).await).await;
    server.clock.advance(Duration::from_secs(60));
    eventually(2, async || count("?status=exhausted", 2).await).await;
    let given_up = admin.deliveries("?status=exhausted").await;
    let types: BTreeSet<_> = given_up.iter().map(|delivery| delivery["event_type"].as_str().unwrap()).collect();
    assert_eq!(types, BTreeSet::from(["request.approved", "request.created"]));
    assert!(given_up.iter().all(|delivery| delivery["endpoint"].is_null() && delivery["url"] == receiver.url));

    receiver.answers(Reply::With(200, Vec::new()));
    for delivery in &given_up {
        let retried = admin.retry(delivery).await;
        assert_eq!((retried.status, &retried.json()["status"]), (200, &json!("pending")), "{retried:?}");
    }
    eventually(2, async || count("?status=delivered", 3).await).await;
    assert_eq!(admin.retry(&given_up[0]).await.refusal(), refused(409, "already_delivered"));
    let log = admin.get(&format!("{DELIVERIES}/{}", given_up[0]["id"].as_str().unwrap())).await.json();
    let codes: Vec<_> = log["attempt_log"].as_array().unwrap().iter().map(|one| one["status_code"].clone()).collect();
    assert_eq!(codes, [410, 410, 200]);
}

#[tokio::test]
async fn a_repeated_retry_is_answered_as_the_first_one() {
    let server = punctual().await;
    let (admin, tool, receiver) = (server.manager(), Tool::of(&server, TENANT).await, Receiver::start().await);
    let endpoint = admin.endpoint_for_cases(&receiver.url).await;
    receiver.answers(Reply::With(500, Vec::new()));
    tool.create(json!({})).await;
    let pending = admin.until(&endpoint, "pending", 1).await;
    let retry = format!("{DELIVERIES}/{}/retry", pending["id"].as_str().unwrap());
    receiver.answers(Reply::With(200, Vec::new()));
    let first = admin.post_once(&retry, "k", &json!({})).await;
    assert_eq!(first.status, 200, "a retry does not wait for the next attempt: {first:?}");
    admin.until(&endpoint, "delivered", 2).await;
    assert_eq!(admin.call(Method::DELETE, &path(&endpoint, ""), &Value::Null).await.status, 204);
    let again = admin.post_once(&retry, "k", &json!({})).await;
    assert_eq!((again.status, again.header("idempotency-replayed"), &again.text), (200, Some("true"), &first.text));
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_disabled_until_it_is_enabled_again() {
    let server = punctual().await;
    let (admin, tool, receiver) = (server.manager(), Tool::of(&server, TENANT).await, Receiver::start().await);
    let endpoint = admin.endpoint_for_cases(&receiver.url).await;
    receiver.answers(Reply::With(410, Vec::new()));
    tool.create(json!({})).await;
    let gone = admin.until(&endpoint, "cancelled", 1).await;
    eventually(json!("disabled"), async || admin.get(&path(&endpoint, "")).await.json()["status"].clone()).await;
    tool.create(json!({})).await;
    assert_eq!(admin.retry(&gone).await.refusal(), refused(409, "endpoint_not_enabled"));
    assert_eq!(admin.progress(&endpoint).await, [("cancelled".to_owned(), 1)]);
    receiver.answers(Reply::With(200, Vec::new()));
    admin.set_status(&endpoint, "enabled").await;
    assert_eq!(admin.retry(&gone).await.status, 200);
    admin.until(&endpoint, "delivered", 2).await;
}

#[tokio::test]
async fn what_waits_for_an_endpoint_is_cancelled_when_it_is_disabled_or_deleted() {
    let server = punctual().await;
    let (admin, tool, receiver) = (server.manager(), Tool::of(&server, TENANT).await, Receiver::start().await);
    let disabled = admin.endpoint_for_cases(&receiver.url).await;
    let deleted = admin.endpoint_for_cases(&receiver.url).await;
    receiver.answers(Reply::With(500, Vec::new()));
    tool.create(json!({})).await;
    admin.until(&disabled, "pending", 1).await;
    admin.until(&deleted, "pending", 1).await;
    admin.set_status(&disabled, "disabled").await;
    assert_eq!(admin.call(Method::DELETE, &path(&deleted, ""), &Value::Null).await.status, 204);
    for endpoint in [&disabled, &deleted] {
        let cancelled = admin.until(endpoint, "cancelled", 1).await;
        assert_eq!(cancelled["next_attempt_at"], Value::Null);
        assert_eq!(admin.retry(&cancelled).await.refusal(), refused(409, "endpoint_not_enabled"));
        let body = json!({ "tenant": TENANT });
        let operators = format!("{DELIVERIES}/{}/retry", cancelled["id"].as_str().unwrap());
        assert_eq!(server.post(&operators, &body).await.refusal(), refused(409, "endpoint_not_enabled"));
    }
    server.clock.advance(Duration::from_secs(120));
    admin.set_status(&disabled, "enabled").await;
    tool.create(json!({})).await;
    eventually(2, async || admin.progress(&disabled).await.len()).await;
    eventually(3, async || receiver.all().len()).await;
}

#[tokio::test]
async fn deliveries_are_listed_newest_first_and_found_by_what_they_are() {
    let server = punctual().await;
    let (admin, tool) = (server.manager(), Tool::of(&server, TENANT).await);
    let (well, ill) = (Receiver::start().await, Receiver::start().await);
    ill.answers(Reply::With(500, Vec::new()));
    let (a, b) = (admin.endpoint_for_cases(&well.url).await, admin.endpoint(&ill.url).await.0);
    for number in 1..=3 {
        let case = tool.create(json!({})).await;
        if number == 3 {
            assert_eq!(tool.verdict(&case, &json!({ "outcome": "SAFE" })).await.status, 200);
        }
        eventually(number, async || admin.progress(&a).await.len()).await;
        server.clock.advance(Duration::from_secs(1));
    }
    eventually(5, async || admin.deliveries(&format!("?endpoint={b}")).await.len()).await;
    eventually(3, async || admin.deliveries("?status=delivered").await.len()).await;
    eventually(5, async || admin.deliveries("?status=pending").await.iter().filter(|d| d["attempts"] == 1).count())
        .await;
    let all = admin.deliveries("").await;
    assert_eq!(all.len(), 8);
    let times: Vec<_> = all.iter().map(|delivery| delivery["created_at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    for (filter, count) in [
        ("?status=exhausted".to_owned(), 0),
        ("?event=case.created".to_owned(), 6),
        ("?event=case.resolved".to_owned(), 1),
        ("?event=action.denied&status=pending".to_owned(), 0),
        (format!("?endpoint={a}&status=delivered"), 3),
        (format!("?endpoint={a}&status=pending"), 0),
        (format!("?endpoint={b}&event=case.created"), 3),
        (format!("?endpoint={b}&event=case.created&status=pending&limit=100"), 3),
        ("?endpoint=ep_01HX9VTPQR3KF8MZWBYD5N6JCE".to_owned(), 0),
    ] {
        let found = admin.deliveries(&filter).await;
        assert_eq!(found.len(), count, "{filter}");
        assert!(found.iter().all(|one| all.contains(one)), "{filter}");
    }
    let pages = admin.pages(&format!("{DELIVERIES}?limit=3")).await;
    assert_eq!(pages.concat(), all);
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 2]);
    let cursor = admin.get(&format!("{DELIVERIES}?limit=3")).await.json()["cursor"].as_str().unwrap().to_owned();
    for query in [
        "?status=failed",
        "?status=",
        "?event=case.closed",
        "?event=*",
        "?endpoint=x",
        "?endpoint=bus",
        "?limit=0",
        "?limit=101",
        "?limit=ten",
        "?cursor=x",
        "?status=pending&status=pending",
        &format!("?status=pending&cursor={cursor}"),
    ] {
        let answer = admin.get(&format!("{DELIVERIES}{query}")).await;
        assert_eq!(answer.refusal(), refused(400, "invalid_request"), "{query}");
    }
    let stranger = server.person("8", "42", &["admin"]);
    assert_eq!(stranger.get(DELIVERIES).await.text, r#"{"items":[]}"#);
    assert_eq!(stranger.get(&format!("{DELIVERIES}?cursor={cursor}")).await.status, 400);
    let foreign = server.get(&format!("{DELIVERIES}?tenant=8&endpoint={a}")).await;
    assert_eq!((foreign.status, &*foreign.text), (200, r#"{"items":[]}"#));
    assert_eq!(server.get(&format!("{DELIVERIES}?tenant={TENANT}")).await.json()["items"], json!(all));
}

#[tokio::test]
async fn another_tenants_delivery_is_answered_like_one_that_never_existed() {
    let server = punctual().await;
    let (admin, tool, receiver) = (server.manager(), Tool::of(&server, TENANT).await, Receiver::start().await);
    let endpoint = admin.endpoint_for_cases(&receiver.url).await;
    tool.create(json!({})).await;
    let delivery = admin.until(&endpoint, "delivered", 1).await;
    let id = delivery["id"].as_str().unwrap();
    for of in [ABSENT, "x", "dlv_", id] {
        let get = server.get(&format!("{DELIVERIES}/{of}?tenant=8")).await;
        assert_eq!(get.refusal(), refused(404, "delivery_not_found"), "{of}");
        let retry = server.post(&format!("{DELIVERIES}/{of}/retry"), &json!({ "tenant": "8" })).await;
        assert_eq!((retry.status, retry.text), (404, get.text), "{of}");
    }
    let malformed = admin.request(Method::POST, &format!("{DELIVERIES}/x/retry")).header("Idempotency-Key", "");
    assert_eq!(send(malformed).await.refusal(), refused(400, "invalid_request"));
}

#[tokio::test]
async fn a_replay_sends_the_past_again_also_from_before_the_endpoint() {
    let server = punctual().await;
    let (admin, tool, receiver) = (server.manager(), Tool::of(&server, TENANT).await, Receiver::start().await);
    for _ in 0..3 {
        tool.create(json!({})).await;
        server.clock.advance(Duration::from_secs(60));
    }
    server.all_told().await;
    let endpoint = admin.endpoint_for_cases(&receiver.url).await;
    tool.create(json!({})).await;
    admin.until(&endpoint, "delivered", 1).await;
    // The second and the third, at 12:01 and 12:02: since counts, until does not.
    let window = json!({ "since": "2026-11-21T12:01:00.25Z", "until": "2026-11-21T12:03:00.25Z" });
    let replay = async |fields: &Value| {
        let replayed = admin.post(&path(&endpoint, "/replay"), fields).await;
        assert_eq!(replayed.status, 202, "{replayed:?}");
        replayed.text
    };
    assert_eq!(replay(&window).await, r#"{"events":2}"#);
    let received = receiver.after(3).await;
    eventually(vec![("delivered".to_owned(), 1); 3], async || admin.progress(&endpoint).await).await;
    assert_eq!(replay(&window).await, r#"{"events":2}"#);
    let again = receiver.after(5).await;
    eventually(vec![("delivered".to_owned(), 1); 5], async || admin.progress(&endpoint).await).await;
    let ids = |received: &[crate::receiver::Received]| {
        received.iter().map(|one| one.header("webhook-id").to_owned()).collect::<BTreeSet<_>>()
    };
    assert_eq!(ids(&again[3..]), ids(&received[1..]), "their own ids, again");
    assert!(!ids(&again[1..]).contains(again[0].header("webhook-id")));
    let deliveries = admin.deliveries(&format!("?endpoint={endpoint}")).await;
    let distinct: BTreeSet<_> = deliveries.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(distinct.len(), 5, "under deliveries of their own");
    assert_eq!(again.len(), 5);

    let nothing = json!({ "since": "2020-01-01T00:00:00Z", "until": "2020-01-02T00:00:00Z" });
    assert_eq!(replay(&nothing).await, r#"{"events":0}"#);
    let mut everything = json!({ "since": "2020-01-01T00:00:00Z", "until": "2030-01-01T00:00:00+01:00" });
    assert_eq!(replay(&everything).await, r#"{"events":4}"#);
    receiver.after(9).await;
    everything["tenant"] = TENANT.into();
    let operators = server.post(&path(&endpoint, "/replay"), &everything).await;
    assert_eq!((operators.status, &*operators.text), (202, r#"{"events":4}"#));
    receiver.after(13).await;
}
