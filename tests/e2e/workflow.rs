//! Workflows over HTTP: one request from its policy to its approval, and what the workflow door says of itself.

use crate::approvals::Person;
use crate::server::{Answer, Server, send};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

pub(crate) const TENANT: &str = "acme";
/// A UUID that is nobody's.
pub(crate) const ABSENT: &str = "f4a5b6c7-d8e9-4123-a012-456789000000";

/// Someone who calls the workflow door.
#[derive(Clone)]
pub(crate) struct User<'a>(pub(crate) Person<'a>);

impl Server {
    /// Somebody of the tenant with no role: a service that makes requests, or who is asked.
    pub(crate) fn user(&self, subject: &str) -> User<'_> {
        User(self.person(TENANT, subject, &[]))
    }

    /// An administrator of its workflows.
    pub(crate) fn root(&self) -> User<'_> {
        User(self.person(TENANT, "root", &["AWE_ADMIN"]))
    }

    /// Somebody who may look at its workflows.
    pub(crate) fn viewer(&self) -> User<'_> {
        User(self.person(TENANT, "viewer", &["AWE_VIEWER"]))
    }

    /// Adds a policy with these stages, and fields, and activates it.
    pub(crate) async fn policy(&self, key: &str, stages: Value, fields: Value) {
        let made = self.root().post("/policies", &policy(key, stages, fields)).await;
        assert_eq!(made.status, 201, "{made:?}");
        let activated = self.root().order(&format!("/policies/{key}/versions/1/activate")).await;
        assert_eq!(activated.status, 200, "{activated:?}");
    }

    /// Makes a request by a policy with no more than it needs.
    pub(crate) async fn ask(&self, policy_key: &str) -> Asked {
        self.ask_with(policy_key, json!({})).await
    }

    /// The same with these fields on top.
    pub(crate) async fn ask_with(&self, policy_key: &str, fields: Value) -> Asked {
        let made = self.user("svc").post("/requests", &request(policy_key, fields)).await;
        assert_eq!(made.status, 201, "{made:?}");
        Asked::of(&made.json())
    }

    /// Decides as the one who is asked.
    pub(crate) async fn answer(&self, request: &str, assignee: &str, action: &str) -> Answer {
        let task = self.task(request, assignee).await;
        self.user(assignee).decide(&task, action).await
    }

    /// The id of the pending task that somebody has of a request.
    pub(crate) async fn task(&self, request: &str, assignee: &str) -> String {
        let tasks = self.root().list(&format!("/tasks?request_id={request}&assignee={assignee}")).await;
        let pending = tasks.iter().filter(|task| is_pending(task)).collect::<Vec<_>>();
        let [task] = pending[..] else { panic!("{assignee} has not one pending task: {tasks:?}") };
        text(&task["id"])
    }

    /// The request as it is now.
    pub(crate) async fn status(&self, request: &str) -> String {
        let shown = self.root().get(&format!("/requests/{request}")).await;
        assert_eq!(shown.status, 200, "{shown:?}");
        text(&shown.json()["status"])
    }

    /// Its events, oldest first.
    pub(crate) async fn events(&self, request: &str) -> Vec<Value> {
        self.root().list(&format!("/requests/{request}/events")).await
    }

    /// The types of its events, with the stage each is about.
    pub(crate) async fn story(&self, request: &str) -> Vec<String> {
        let named = |event: &Value| format!("{}({})", text(&event["event_type"]), event["payload"]["stage_order"]);
        self.events(request).await.iter().map(named).collect()
    }

    /// Assignee and status of all its tasks, in the order of their names.
    pub(crate) async fn standing(&self, request: &str) -> Vec<(String, String)> {
        let tasks = self.root().list(&format!("/tasks?request_id={request}&assignee=*&limit=500")).await;
        let mut tasks: Vec<_> = tasks.iter().map(|task| (text(&task["assignee"]), text(&task["status"]))).collect();
        tasks.sort();
        tasks
    }

    /// What always holds: the proof is whole, and what has ended waits for nobody.
    pub(crate) async fn is_sound(&self, request: &str) {
        let shown = self.root().get(&format!("/requests/{request}")).await.json();
        let tasks = self.root().list(&format!("/tasks?request_id={request}&assignee=*&limit=500")).await;
        let approvers = tasks.iter().filter(|task| is_pending(task) && task["kind"] == "approver").count();
        let events = self.events(request).await;
        let ends = ["request_approved", "request_rejected", "request_cancelled"];
        let of_end = events.iter().filter(|event| ends.contains(&event["event_type"].as_str().unwrap())).count();
        if shown["status"] == "in_review" {
            assert!(approvers > 0, "nobody can end it: {tasks:?}");
            assert_eq!((of_end, &shown["completed_at"]), (0, &Value::Null), "{events:?}");
        } else {
            assert!(!tasks.iter().any(is_pending), "it has ended: {tasks:?}");
            let last = events.last().unwrap();
            assert_eq!(text(&last["event_type"]), format!("request_{}", text(&shown["status"])), "{events:?}");
            assert_eq!((of_end, shown["completed_at"].is_string()), (1, true), "{events:?}");
        }
        assert_eq!(events[0]["event_type"], "request_created");
        let ids: BTreeSet<_> = events.iter().map(|event| text(&event["id"])).collect();
        assert_eq!(ids.len(), events.len());
        assert!(events.is_sorted_by_key(|event| text(&event["created_at"])), "{events:?}");
    }

    pub(crate) async fn chains_are_whole(&self) {
        let verified = countersign::verify::tenant(&self.app.store, &TENANT.parse().unwrap()).await.unwrap();
        assert_eq!(verified.broken, None);
        assert!(verified.records > 0);
    }
}

impl User<'_> {
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.0.request(method, &format!("/v1/awe{path}"))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, body).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: &Value) -> Answer {
        send(self.request(method, path).json(body)).await
    }

    /// A call that has no body.
    pub(crate) async fn order(&self, path: &str) -> Answer {
        send(self.request(Method::POST, path)).await
    }

    pub(crate) async fn post_once(&self, path: &str, key: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).header("Idempotency-Key", key).json(body)).await
    }

    /// The rows of a list.
    pub(crate) async fn list(&self, path: &str) -> Vec<Value> {
        let listed = self.get(path).await;
        assert_eq!(listed.status, 200, "{path}: {listed:?}");
        listed.json().as_array().unwrap().clone()
    }

    pub(crate) async fn decide(&self, task: &str, action: &str) -> Answer {
        self.post(&format!("/tasks/{task}/decision"), &json!({ "action": action })).await
    }

    pub(crate) async fn claim(&self, task: &str) -> Answer {
        self.order(&format!("/tasks/{task}/claim")).await
    }

    pub(crate) async fn reassign(&self, task: &str, to: &str) -> Answer {
        self.post(&format!("/tasks/{task}/reassign"), &json!({ "new_assignee": to })).await
    }

    pub(crate) async fn cancel(&self, request: &str) -> Answer {
        self.post(&format!("/requests/{request}/cancel"), &json!({ "reason": "not needed" })).await
    }
}

/// What the maker of a request was told.
pub(crate) struct Asked {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) tasks: Vec<Value>,
}

impl Asked {
    pub(crate) fn of(made: &Value) -> Self {
        let tasks = made["tasks"].as_array().unwrap().clone();
        Self { id: text(&made["request_id"]), status: text(&made["status"]), tasks }
    }

    /// Somebody's task.
    pub(crate) fn task(&self, assignee: &str) -> String {
        let task = self.tasks.iter().find(|task| task["assignee"] == assignee);
        text(&task.unwrap_or_else(|| panic!("{assignee} is not asked: {:?}", self.tasks))["id"])
    }

    pub(crate) fn assignees(&self) -> Vec<String> {
        self.tasks.iter().map(|task| text(&task["assignee"])).collect()
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not text")).to_owned()
}

pub(crate) fn is_pending(task: &Value) -> bool {
    ["open", "claimed"].contains(&task["status"].as_str().unwrap())
}

/// One object with the fields of another on top.
pub(crate) fn with(mut object: Value, fields: &Value) -> Value {
    object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    object
}

pub(crate) fn policy(key: &str, stages: Value, fields: Value) -> Value {
    with(json!({ "policy_key": key, "name": "A policy", "artifact_type": "change", "stages": stages }), &fields)
}

/// A stage that asks these users, with these fields on top.
pub(crate) fn stage(order: u32, users: &[&str], fields: Value) -> Value {
    let rules: Vec<_> = users.iter().map(|user| by_name(user)).collect();
    with(json!({ "name": format!("stage {order}"), "stage_order": order, "rules": rules }), &fields)
}

/// A rule that asks one user.
pub(crate) fn by_name(user: &str) -> Value {
    json!({ "rule_type": "user", "rule_value": { "user_id": user } })
}

pub(crate) fn request(policy_key: &str, fields: Value) -> Value {
    with(json!({ "policy_key": policy_key, "artifact_type": "change", "artifact_id": "cr-1" }), &fields)
}

/// The status and the code of a refusal, in the envelope and nothing else.
pub(crate) fn refusal(answer: &Answer) -> (u16, String) {
    let body = answer.json();
    let names: Vec<_> = body.as_object().unwrap_or_else(|| panic!("{answer:?}")).keys().cloned().collect();
    let expected: BTreeSet<_> = ["id", "version", "responsetime", "response", "errors"].into();
    assert_eq!(names.iter().map(String::as_str).collect::<BTreeSet<_>>(), expected, "{answer:?}");
    assert_eq!((&body["id"], &body["version"]), (&json!("openg2p.awe"), &json!("1.0")));
    assert_eq!(body["response"], Value::Null);
    let time = text(&body["responsetime"]);
    assert_eq!((time.len(), &time[19..20], &time[23..]), (24, ".", "Z"), "{time}");
    let [error] = &body["errors"].as_array().unwrap()[..] else { panic!("{answer:?}") };
    assert!(!text(&error["message"]).is_empty());
    (answer.status, text(&error["errorCode"]))
}

pub(crate) fn refused(status: u16, code: &str) -> (u16, String) {
    (status, format!("AWE-{code}"))
}

/// Where something is wrong, as a bare 422 says it.
pub(crate) fn locs(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 422, "{answer:?}");
    let body = answer.json();
    assert_eq!(body.as_object().unwrap().len(), 1, "{answer:?}");
    let details = body["detail"].as_array().unwrap();
    assert!(details.iter().all(|detail| detail["msg"].is_string() && detail["type"].is_string()), "{answer:?}");
    details.iter().map(|detail| detail["loc"].clone()).collect()
}

#[tokio::test]
async fn a_request_goes_through_its_stages_and_is_approved() {
    let server = Server::start().await;
    let anyone = json!({ "mode": "any-n", "mode_value": 1, "sla_hours": 24 });
    let observer = with(by_name("u-olga"), &json!({ "kind": "observer" }));
    let required = with(by_name("u-carol"), &json!({ "required": true }));
    let stages =
        json!([stage(1, &["u-bob", "u-alice"], anyone), stage(5, &[], json!({ "rules": [required, observer] })),]);
    server.policy("main", stages, json!({})).await;
    let fields = json!({ "context": { "amount": 5 }, "requester": "u-dora" });
    let made = server.user("svc").post("/requests", &request("main", fields)).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let names: BTreeSet<_> = made.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["current_stage_order", "request_id", "status", "tasks"]));
    assert_eq!((&made["status"], &made["current_stage_order"]), (&json!("in_review"), &json!(1)));
    let asked = Asked::of(&made);
    assert_eq!(asked.assignees(), ["u-bob", "u-alice"], "in the order of the rules");
    let policy = server.root().get("/policies/main/versions/1").await.json();
    let bobs = json!({
        "id": asked.task("u-bob"), "request_id": asked.id, "stage_id": policy["stages"][0]["id"], "stage_order": 1,
        "assignee": "u-bob", "kind": "approver", "delegated_from": null, "reassigned_from": null, "status": "open",
        "claimed_at": null, "completed_at": null, "due_at": "2026-11-22T12:00:00.250000Z", "decision_id": null,
        "created_at": "2026-11-21T12:00:00.250000Z",
    });
    assert_eq!(asked.tasks[0], bobs);
    server.is_sound(&asked.id).await;

    server.clock.advance(Duration::from_secs(60));
    let body = json!({ "action": "approve", "comment": "fine\r\nby me", "attachments_ref": "s3://a" });
    let decided = server.user("u-bob").post(&format!("/tasks/{}/decision", asked.task("u-bob")), &body).await;
    assert_eq!(decided.status, 201, "{decided:?}");
    let decision = json!({
        "id": decided.json()["id"], "request_id": asked.id, "task_id": asked.task("u-bob"), "stage_order": 1,
        "actor": "u-bob", "action": "approve", "comment": "fine\r\nby me", "attachments_ref": "s3://a",
        "created_at": "2026-11-21T12:01:00.250000Z",
    });
    assert_eq!(decided.json(), decision);
    let shown = server.user("anyone").get(&format!("/requests/{}", asked.id)).await.json();
    let expected = json!({
        "id": asked.id, "policy_id": policy["id"], "policy_key": "main", "policy_version": 1,
        "artifact_type": "change", "artifact_id": "cr-1", "source_service": "svc", "requester": "u-dora",
        "context": { "amount": 5 }, "status": "in_review", "current_stage_order": 5, "callback_url": null,
        "completed_at": null, "created_at": "2026-11-21T12:00:00.250000Z",
        "updated_at": "2026-11-21T12:01:00.250000Z",
    });
    assert_eq!(shown, expected);
    let standing = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(assignee, status)| ((*assignee).to_owned(), (*status).to_owned())).collect::<Vec<_>>()
    };
    let now = [("u-alice", "skipped"), ("u-bob", "completed"), ("u-carol", "open"), ("u-olga", "open")];
    assert_eq!(server.standing(&asked.id).await, standing(&now));

    server.clock.advance(Duration::from_secs(60));
    assert_eq!(server.answer(&asked.id, "u-carol", "approve").await.status, 201);
    let shown = server.root().get(&format!("/requests/{}", asked.id)).await.json();
    let at = json!("2026-11-21T12:02:00.250000Z");
    assert_eq!((&shown["status"], &shown["completed_at"], &shown["updated_at"]), (&json!("approved"), &at, &at));
    let now = [("u-alice", "skipped"), ("u-bob", "completed"), ("u-carol", "completed"), ("u-olga", "skipped")];
    assert_eq!(server.standing(&asked.id).await, standing(&now));
    server.is_sound(&asked.id).await;

    let events = server.events(&asked.id).await;
    let event = |order: u32, status: &str, more: Value| {
        let always = json!({
            "request_id": asked.id, "artifact_type": "change", "artifact_id": "cr-1", "stage_order": order,
            "status": status,
        });
        with(always, &more)
    };
    let expected = [
        ("request_created", event(1, "pending", json!({ "policy_key": "main", "policy_version": 1 }))),
        (
            "stage_started",
            event(
                1,
                "in_review",
                json!({
                    "name": "stage 1", "mode": "any-n", "mode_value": 1, "approvers": ["u-bob", "u-alice"],
                    "observers": [], "required_approvers": [],
                }),
            ),
        ),
        ("stage_completed", event(1, "in_review", json!({ "outcome": "approved" }))),
        (
            "stage_started",
            event(
                5,
                "in_review",
                json!({
                    "name": "stage 5", "mode": "all", "mode_value": null, "approvers": ["u-carol"],
                    "observers": ["u-olga"], "required_approvers": ["u-carol"],
                }),
            ),
        ),
        ("stage_completed", event(5, "in_review", json!({ "outcome": "approved" }))),
        ("request_approved", event(5, "approved", json!({ "actor": "u-carol" }))),
    ];
    for (event, (name, payload)) in events.iter().zip(&expected) {
        let names: Vec<_> = event.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["created_at", "event_type", "id", "payload", "request_id"]);
        assert_eq!((event["event_type"].as_str().unwrap(), &event["request_id"]), (*name, &json!(asked.id)));
        assert_eq!(&event["payload"], payload, "{name}");
    }
    assert_eq!(events.len(), expected.len());
    assert_eq!(server.events(&asked.id).await, events, "the ids of events stay what they are");
    server.chains_are_whole().await;
}

#[tokio::test]
async fn the_service_says_how_it_is_to_everybody_in_the_envelope() {
    let variables = [("COUNTERSIGN_RETRY_DELAYS", "1m,5m"), ("COUNTERSIGN_SLA_INTERVAL", "7s")];
    let server = Server::with(countersign_testing::fault::Faults::none(), 0, &variables).await;
    let ask = async |path: &str| send(server.public(Method::GET, &format!("/v1/awe{path}"))).await;
    let health = ask("/health").await;
    let up = r#"{"id":"openg2p.awe","version":"1.0","responsetime":"2026-11-21T12:00:00.250Z","response":{"status":"UP"},"errors":[]}"#;
    assert_eq!((health.status, health.text.as_str()), (200, up));
    let version = ask("/version").await.json();
    let names: Vec<_> = version["response"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["build_time", "git_commit", "service_version"]);
    let config = json!({
        "service_id": "openg2p.awe", "api_version": "1.0", "module": "default",
        "webhook": { "max_attempts": 3, "backoff_seconds": [60, 300], "timeout_seconds": 10 },
        "sla": { "check_interval_seconds": 7 },
    });
    assert_eq!(ask("/config").await.json()["response"], config);
    server.table.cut_off(true);
    assert_eq!(refusal(&ask("/health").await), refused(503, "006"));
    server.table.cut_off(false);
}

#[tokio::test]
async fn a_decision_among_60_tasks_costs_one_read_and_one_transaction() {
    let server = Server::doors_only().await;
    let users: Vec<_> = (0..60).map(|n| format!("u-{n}")).collect();
    let users: Vec<_> = users.iter().map(String::as_str).collect();
    let any = json!({ "mode": "any-n", "mode_value": 3 });
    server.policy("many", json!([stage(1, &users, any), stage(2, &users, json!({}))]), json!({})).await;
    let asked = server.ask("many").await;
    assert_eq!(asked.tasks.len(), 60);
    for (n, action) in ["approve", "reject", "abstain"].into_iter().enumerate() {
        let (user, task) = (server.user(users[n]), asked.task(users[n]));
        let _ = server.table.take_calls();
        assert_eq!(user.decide(&task, action).await.status, 201);
        let calls = server.table.take_calls();
        let calls: Vec<_> = calls.iter().map(|call| (call.operation.as_str(), call.items)).collect();
        // The request, its change, and the one pointer of the task's assignee.
        assert_eq!(calls, [("GetItem", 0), ("TransactWriteItems", 3)]);
    }
    let _ = server.table.take_calls();
    assert_eq!(server.user(users[9]).claim(&asked.task(users[9])).await.status, 200);
    let calls: Vec<_> = server.table.take_calls().into_iter().map(|call| (call.operation, call.items)).collect();
    assert_eq!(calls, [("GetItem".to_owned(), 0), ("TransactWriteItems".to_owned(), 3)]);
}
