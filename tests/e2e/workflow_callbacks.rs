//! Callbacks: what whoever made a request is told, signed with what, and how often it is tried.

use crate::actions::eventually;
use crate::receiver::{Received, Receiver, Reply};
use crate::server::Server;
use crate::workflow::{ABSENT, Asked, refusal, refused, request, stage, text};
use countersign_testing::fault::Faults;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const DEPLOYMENTS: &str = "the-secret-of-the-deployment";
const KEYS: [&str; 9] = [
    "event_id",
    "event_type",
    "request_id",
    "artifact_type",
    "artifact_id",
    "status",
    "stage_order",
    "actor",
    "occurred_at",
];

/// A server with a secret that is known, and waits that can be told exactly.
async fn punctual() -> Server {
    let variables = [
        ("COUNTERSIGN_RETRY_JITTER", "0"),
        ("COUNTERSIGN_RETRY_DELAYS", "1m,5m"),
        ("COUNTERSIGN_CALLBACK_SECRET", DEPLOYMENTS),
    ];
    Server::with(Faults::none(), 0, &variables).await
}

impl Server {
    async fn set_secret(&self, id: &str, value: &str) {
        let body = json!({ "tenant": crate::workflow::TENANT, "value": value });
        let set = crate::server::send(self.request(Method::PUT, &format!("/secrets/{id}")).json(&body)).await;
        assert_eq!(set.status, 204, "{set:?}");
    }

    /// Makes a request that is called back there.
    async fn ask_back(&self, policy_key: &str, receiver: &Receiver) -> Asked {
        self.ask_with(policy_key, json!({ "callback_url": receiver.url })).await
    }

    /// The rows of the deliveries that a filter lets through.
    async fn sent(&self, filter: &str) -> Vec<Value> {
        self.viewer().list(&format!("/admin/deliveries{filter}")).await
    }

    /// How far the deliveries are: status and attempts, newest first.
    async fn progress(&self, filter: &str) -> Vec<(String, u64)> {
        let sent = self.sent(filter).await;
        sent.iter().map(|one| (text(&one["status"]), one["attempt"].as_u64().unwrap())).collect()
    }
}

fn progress(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
    pairs.iter().map(|(status, attempts)| ((*status).to_owned(), *attempts)).collect()
}

/// What a callback said, but for its id and time.
fn said(received: &Received) -> (String, Value, Value, Value) {
    let body = received.json();
    (text(&body["event_type"]), body["status"].clone(), body["stage_order"].clone(), body["actor"].clone())
}

#[tokio::test]
async fn every_event_of_a_request_is_told_in_order_with_nine_keys() {
    let server = punctual().await;
    let receiver = Receiver::start().await;
    server.policy("p", json!([stage(1, &["u-bob"], json!({})), stage(3, &["u-carol"], json!({}))]), json!({})).await;
    let asked = server.ask_back("p", &receiver).await;
    receiver.after(2).await;
    server.clock.advance(Duration::from_secs(1));
    assert_eq!(server.root().reassign(&asked.task("u-bob"), "u-dora").await.status, 200);
    receiver.after(3).await;
    server.clock.advance(Duration::from_secs(1));
    assert_eq!(server.answer(&asked.id, "u-dora", "approve").await.status, 201);
    receiver.after(5).await;
    server.clock.advance(Duration::from_secs(1));
    assert_eq!(server.answer(&asked.id, "u-carol", "reject").await.status, 201);
    let received = receiver.after(7).await;
    let nobody = Value::Null;
    let told = [
        ("request_created", "pending", 1, nobody.clone()),
        ("stage_started", "in_review", 1, nobody.clone()),
        ("task_reassigned", "in_review", 1, json!("root")),
        ("stage_completed", "in_review", 1, nobody.clone()),
        ("stage_started", "in_review", 3, nobody.clone()),
        ("stage_completed", "in_review", 3, nobody),
        ("request_rejected", "rejected", 3, json!("u-carol")),
    ];
    let told = told.map(|(name, status, order, actor)| (name.to_owned(), json!(status), json!(order), actor));
    assert_eq!(received.iter().map(said).collect::<Vec<_>>(), told);
    let events = server.events(&asked.id).await;
    for (received, event) in received.iter().zip(&events) {
        let body = received.json();
        let keys: BTreeSet<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, BTreeSet::from(KEYS));
        assert!(received.body.starts_with(r#"{"event_id":""#) && !received.body.contains(": "), "{}", received.body);
        for (name, of_event) in [("event_id", "id"), ("event_type", "event_type"), ("occurred_at", "created_at")] {
            assert_eq!(body[name], event[of_event], "{name}");
        }
        assert_eq!((&body["request_id"], &body["artifact_id"]), (&json!(asked.id), &json!("cr-1")));
        assert_eq!(received.header("content-type"), "application/json");
        assert_eq!(received.header("x-approval-event-id"), body["event_id"].as_str().unwrap());
        assert!(received.is_approved_by(DEPLOYMENTS.as_bytes()), "{received:?}");
        assert!(received.is_signed_by(DEPLOYMENTS.as_bytes()), "{received:?}");
    }
    eventually(7, async || server.sent("?status=delivered").await.len()).await;
    assert_eq!(receiver.all().len(), 7);
}

#[tokio::test]
async fn a_callback_is_signed_with_the_named_secret_else_the_tenants_else_the_deployments() {
    let server = punctual().await;
    let receiver = Receiver::start().await;
    server.policy("p", json!([]), json!({})).await;
    let signed_by = async |fields: Value| {
        let before = receiver.all().len();
        let fields = crate::workflow::with(json!({ "callback_url": receiver.url }), &fields);
        server.ask_with("p", fields).await;
        let received = receiver.after(before + 2).await;
        let keys = [DEPLOYMENTS, "the-secret-of-the-tenant", "the-secret-by-its-name"];
        let signers =
            |one: &Received| keys.into_iter().filter(|key| one.is_approved_by(key.as_bytes())).collect::<Vec<_>>();
        assert_eq!(signers(&received[before]), signers(&received[before + 1]));
        signers(&received[before])
    };
    server.set_secret("named.1", "the-secret-by-its-name").await;
    let named = json!({ "callback_secret_id": "named.1" });
    assert_eq!(signed_by(json!({})).await, [DEPLOYMENTS]);
    assert_eq!(signed_by(named.clone()).await, ["the-secret-by-its-name"]);
    server.set_secret("default", "the-secret-of-the-tenant").await;
    assert_eq!(signed_by(json!({})).await, ["the-secret-of-the-tenant"]);
    assert_eq!(signed_by(named).await, ["the-secret-by-its-name"]);
    for request in server.root().list("/requests").await {
        assert_eq!((&request["callback_url"], request.get("callback_secret_id")), (&json!(receiver.url), None));
    }
}

#[tokio::test]
async fn a_callback_that_could_not_be_made_or_signed_makes_no_request() {
    let server = punctual().await;
    server.policy("p", json!([]), json!({})).await;
    let svc = server.user("svc");
    for url in [
        "http://8.8.8.8/hook",
        "https://10.0.0.1/",
        "https://192.168.1.1:8443/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/hook",
        "https://[fd00::1]/",
        "https://0.0.0.0/",
        "ftp://example.com/",
        "javascript:alert(1)",
        "not a url",
        "",
        "/hook",
        "https://",
        "https://user:password@example.com/",
    ] {
        let made = svc.post("/requests", &request("p", json!({ "callback_url": url }))).await;
        assert_eq!(refusal(&made), refused(400, "010"), "{url}");
    }
    for id in ["unknown", "", "not an id", &"x".repeat(65)] {
        for url in [Value::Null, json!("https://callback.invalid/hook")] {
            let fields = json!({ "callback_url": url, "callback_secret_id": id });
            let made = svc.post("/requests", &request("p", fields)).await;
            assert_eq!(refusal(&made), refused(400, "010"), "{id}");
        }
    }
    // Another tenant's secret is none of theirs.
    let foreign = json!({ "tenant": "other", "value": "the-secret-of-others" });
    let set = crate::server::send(server.request(Method::PUT, "/secrets/theirs").json(&foreign)).await;
    assert_eq!(set.status, 204);
    let fields = json!({ "callback_url": "http://127.0.0.1:9/", "callback_secret_id": "theirs" });
    assert_eq!(refusal(&svc.post("/requests", &request("p", fields)).await), refused(400, "010"));
    assert_eq!(server.root().list("/requests").await, Vec::<Value>::new());
    // A name that cannot be resolved now may be later.
    let fields = json!({ "callback_url": "https://callback.invalid/hook" });
    assert_eq!(svc.post("/requests", &request("p", fields)).await.status, 201);
}

#[tokio::test]
async fn a_failing_receiver_is_tried_again_on_schedule_and_started_anew_by_an_administrator() {
    let server = punctual().await;
    let receiver = Receiver::start().await;
    receiver.answers(Reply::With(500, Vec::new()));
    server.policy("p", json!([stage(1, &["u-bob"], json!({}))]), json!({})).await;
    let asked = server.ask_back("p", &receiver).await;
    eventually(progress(&[("pending", 1), ("pending", 1)]), async || server.progress("").await).await;
    let one = server.sent("").await.into_iter().find(|one| one["event_type"] == "request_created").unwrap();
    let created = server.events(&asked.id).await[0].clone();
    let expected = json!({
        "id": one["id"], "event_id": created["id"], "request_id": asked.id, "event_type": "request_created",
        "url": receiver.url, "status": "pending", "attempt": 1, "next_attempt_at": "2026-11-21T12:01:00.250000Z",
        "last_attempt_at": "2026-11-21T12:00:00.250000Z", "last_status_code": 500, "last_error": "HTTP 500: as told",
        "created_at": "2026-11-21T12:00:00.250000Z", "updated_at": "2026-11-21T12:00:00.250000Z",
    });
    assert_eq!(one, expected);
    server.clock.advance(Duration::from_secs(60));
    eventually(progress(&[("pending", 2), ("pending", 2)]), async || server.progress("").await).await;
    server.clock.advance(Duration::from_secs(300));
    eventually(progress(&[("exhausted", 3), ("exhausted", 3)]), async || server.progress("").await).await;
    let received = receiver.all();
    assert_eq!(received.len(), 6);
    let of_one: Vec<_> = received.iter().filter(|got| got.json()["event_id"] == one["event_id"]).collect();
    assert!(of_one.iter().all(|got| got.body == of_one[0].body && got.is_approved_by(DEPLOYMENTS.as_bytes())));
    let seconds: Vec<u64> = of_one.iter().map(|got| got.header("x-approval-timestamp").parse().unwrap()).collect();
    assert_eq!([seconds[1] - seconds[0], seconds[2] - seconds[1]], [60, 300], "each signed at its own time");

    let retry = format!("/admin/deliveries/{}/retry", text(&one["id"]));
    assert_eq!(refusal(&server.viewer().order(&retry).await), refused(403, "008"));
    receiver.answers(Reply::With(204, Vec::new()));
    let again = server.root().order(&retry).await;
    assert_eq!(again.status, 200, "{again:?}");
    let again = again.json();
    assert_eq!((&again["status"], &again["attempt"], &again["id"]), (&json!("pending"), &json!(0), &one["id"]));
    assert_eq!((&again["last_status_code"], &again["last_error"]), (&Value::Null, &Value::Null));
    assert_eq!(again["next_attempt_at"], "2026-11-21T12:06:00.250000Z", "now");
    assert_eq!(again["last_attempt_at"], "2026-11-21T12:06:00.250000Z", "as it was");
    eventually(progress(&[("delivered", 1)]), async || server.progress("?status=delivered").await).await;
    assert_eq!(refusal(&server.root().order(&retry).await), refused(409, "007"));
    assert_eq!(server.progress("?status=exhausted").await, progress(&[("exhausted", 3)]));
    let others = crate::workflow::User(server.person("other", "root", &["AWE_ADMIN"]));
    assert_eq!(refusal(&others.order(&retry).await), refused(404, "007"));
    assert_eq!(others.list("/admin/deliveries").await, Vec::<Value>::new());
}

#[tokio::test]
async fn deliveries_are_listed_newest_first_and_found_by_request_and_status() {
    let server = punctual().await;
    let (well, ill) = (Receiver::start().await, Receiver::start().await);
    ill.answers(Reply::With(503, Vec::new()));
    server.policy("p", json!([]), json!({})).await;
    let one = server.ask_back("p", &well).await.id;
    eventually(2, async || server.sent("?status=delivered").await.len()).await;
    server.clock.advance(Duration::from_secs(1));
    let other = server.ask_back("p", &ill).await.id;
    eventually(2, async || server.progress("?status=pending").await.iter().filter(|one| one.1 == 1).count()).await;
    // Endpoints of the tenant are told, too, but that is not shown here.
    let all = server.sent("").await;
    assert_eq!(all.len(), 4);
    let times: Vec<_> = all.iter().map(|one| text(&one["created_at"])).collect();
    assert!(times.is_sorted_by(|one, next| one >= next), "{times:?}");
    for (filter, count) in [
        (format!("?request_id={one}"), 2),
        (format!("?request_id={other}&status=pending"), 2),
        (format!("?request_id={other}&status=delivered"), 0),
        (format!("?request_id={ABSENT}"), 0),
        ("?status=failed".to_owned(), 0),
        ("?status=&request_id=".to_owned(), 4),
        ("?limit=3".to_owned(), 3),
        ("?status=delivered&limit=1".to_owned(), 1),
    ] {
        let found = server.sent(&filter).await;
        assert_eq!(found.len(), count, "{filter}");
        assert!(found.iter().all(|one| all.contains(one)), "{filter}");
    }
    assert_eq!(server.sent("?limit=3").await, all[..3]);
}

#[tokio::test]
async fn a_slow_or_failing_receiver_holds_up_nobody_else() {
    let server = punctual().await;
    let (well, never) = (Receiver::start().await, Receiver::start().await);
    never.answers(Reply::Never);
    server.policy("p", json!([]), json!({})).await;
    server.ask_back("p", &never).await;
    never.after(1).await;
    for _ in 0..5 {
        server.ask_back("p", &well).await;
    }
    well.after(10).await;
    never.answers(Reply::With(200, Vec::new()));
}

#[tokio::test]
async fn lateness_and_cancelling_are_told_with_their_actors() {
    let server = punctual().await;
    let receiver = Receiver::start().await;
    let late =
        json!({ "sla_hours": 1, "on_breach": "escalate", "escalation_rules": [crate::workflow::by_name("u-boss")] });
    server.policy("p", json!([stage(1, &["u-bob"], late)]), json!({})).await;
    let asked = server.ask_back("p", &receiver).await;
    receiver.after(2).await;
    server.clock.advance(Duration::from_hours(1));
    receiver.after(4).await;
    assert_eq!(server.root().cancel(&asked.id).await.status, 200);
    let received = receiver.after(5).await;
    let told: Vec<_> = received[2..].iter().map(said).collect();
    let expected = [
        ("task_expired", "in_review", Value::Null),
        ("stage_escalated", "in_review", json!("sla-monitor")),
        ("request_cancelled", "cancelled", json!("root")),
    ];
    let expected = expected.map(|(name, status, actor)| (name.to_owned(), json!(status), json!(1), actor));
    assert_eq!(told, expected);
}
