//! Agents' actions: submitted and scored, followed in every vocabulary, and listed.

use crate::server::{Answer, Server, send};
use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub(crate) const ORGANIZATION: &str = "7";
pub(crate) const OTHER_ORGANIZATION: &str = "8";
/// The user who decides, unless a story needs another one.
pub(crate) const HUMAN: u64 = 42;
/// What asks a human with the default settings: score 45, hence level 2.
pub(crate) const MEDIUM: &str = "data_modification";

/// An organization with an agent and a human, and the server that it is on.
pub(crate) struct Organization {
    pub(crate) server: Server,
    pub(crate) key: String,
    pub(crate) admin: String,
}

impl Answer {
    /// Status and error code, of an answer that is exactly the door's envelope.
    pub(crate) fn coded(&self) -> (u16, String) {
        let body = self.json();
        let fields: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["detail", "error_code", "status"], "{self:?}");
        assert_eq!(body["status"], self.status, "{self:?}");
        assert!(!body["detail"].as_str().unwrap().is_empty(), "{self:?}");
        (self.status, body["error_code"].as_str().unwrap().to_owned())
    }

    pub(crate) fn detail(&self) -> String {
        self.json()["detail"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }
}

pub(crate) fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// Asks until the answer is the expected one.
pub(crate) async fn eventually<T: PartialEq + std::fmt::Debug>(expected: T, mut ask: impl AsyncFnMut() -> T) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = ask().await;
        if answer == expected {
            return;
        }
        assert!(Instant::now() < until, "expected {expected:?}, still {answer:?}");
        tokio::task::yield_now().await;
    }
}

impl Organization {
    pub(crate) async fn new() -> Self {
        Self::on(Server::start().await).await
    }

    pub(crate) async fn doors_only() -> Self {
        Self::on(Server::doors_only().await).await
    }

    pub(crate) async fn on(server: Server) -> Self {
        let key = server.key(ORGANIZATION, &["actions:submit", "actions:read"]).await;
        let admin = server.token(ORGANIZATION, &HUMAN.to_string(), &["admin"]);
        Self { server, key, admin }
    }

    /// A JWT of a user with a role.
    pub(crate) fn human(&self, user: u64, role: &str) -> String {
        self.server.token(ORGANIZATION, &user.to_string(), &[role])
    }

    /// A request with a bearer, which may be a JWT or an API key.
    pub(crate) fn with(&self, bearer: &str, method: Method, path: &str) -> RequestBuilder {
        self.server.public(method, path).bearer_auth(bearer)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.with(&self.admin, Method::GET, path)).await
    }

    pub(crate) async fn post(&self, bearer: &str, path: &str, body: &Value) -> Answer {
        send(self.with(bearer, Method::POST, path).json(body)).await
    }

    /// What the agent's key is answered.
    pub(crate) async fn submit(&self, fields: Value) -> Answer {
        let mut body = json!({ "agent_id": "bot", "action_type": MEDIUM });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.post(&self.key, "/api/v1/actions/submit", &body).await
    }

    /// A new action with these fields; its id.
    pub(crate) async fn submitted(&self, fields: Value) -> u64 {
        self.submit(fields).await.ok()["id"].as_u64().unwrap()
    }

    /// A new action that waits for a human of level 2.
    pub(crate) async fn pending(&self) -> u64 {
        self.submitted(json!({})).await
    }

    /// `approve`, `reject` or `cancel`, without a body.
    pub(crate) async fn act(&self, bearer: &str, id: u64, verb: &str) -> Answer {
        send(self.with(bearer, Method::POST, &format!("/api/v1/actions/{id}/{verb}"))).await
    }

    /// `complete` or `fail`.
    pub(crate) async fn report(&self, id: u64, verb: &str, body: &Value) -> Answer {
        self.post(&self.key, &format!("/api/agent-action/{id}/{verb}"), body).await
    }

    pub(crate) async fn details(&self, id: u64) -> Value {
        self.get(&format!("/api/v1/actions/{id}")).await.ok()
    }

    pub(crate) async fn status(&self, id: u64) -> Value {
        self.get(&format!("/api/v1/actions/{id}/status")).await.ok()
    }

    /// What the audit log says of an action, oldest first.
    pub(crate) async fn trail(&self, id: u64) -> Vec<String> {
        let details = self.details(id).await;
        let trail = details["audit_trail"].as_array().unwrap();
        trail.iter().map(|line| line["action_type"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) async fn set_policy(&self, policy: Value) -> Value {
        let path = format!("/organizations/{ORGANIZATION}/actions-policy");
        send(self.server.request(Method::PUT, &path).json(&policy)).await.ok()
    }
}

fn ids(rows: &Value) -> Vec<u64> {
    rows.as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn an_action_of_low_risk_is_approved_at_once() {
    let org = Organization::new().await;
    let answer = org.submit(json!({ "action_type": "data_access" })).await.ok();
    let id = answer["id"].as_u64().unwrap();
    assert_eq!(
        answer,
        json!({
            "id": id, "action_id": id, "status": "approved", "decision": "allowed", "risk_score": 20,
            "risk_level": "low", "risk_factors": [{ "factor": "action_type: data_access", "points": 20 }],
            "reason": "Risk score 20 is below 30: approved automatically", "requires_approval": false,
            "required_approval_level": 1, "approval_request_id": null, "expires_at": null,
            "thresholds": thresholds(30), "correlation_id": answer["correlation_id"],
        })
    );
}

fn thresholds(auto_approve_below: u64) -> Value {
    let level = |name: &str, from: u64, level: u64| json!({ "risk_level": name, "from": from, "required_approval_level": level });
    let levels = [level("low", 0, 1), level("medium", 40, 2), level("high", 70, 3), level("critical", 85, 4)];
    json!({ "auto_approve_below": auto_approve_below, "levels": levels })
}

#[tokio::test]
async fn a_riskier_action_waits_for_a_human() {
    let org = Organization::new().await;
    let indicators = json!({ "production": true, "unheard_of": true, "pii_involved": false });
    let answer = org.submit(json!({ "action_type": "system_operation", "risk_indicators": indicators })).await.ok();
    let id = answer["id"].as_u64().unwrap();
    assert_eq!(
        answer,
        json!({
            "id": id, "action_id": id, "status": "pending_approval", "decision": "pending", "risk_score": 75,
            "risk_level": "high",
            "risk_factors": [
                { "factor": "action_type: system_operation", "points": 60 },
                { "factor": "indicator: production", "points": 15 },
            ],
            "reason": "Risk score 75 is high: approval of level 3 is required", "requires_approval": true,
            "required_approval_level": 3, "approval_request_id": format!("appr_{id}"),
            "expires_at": "2026-11-22T12:00:00Z", "thresholds": thresholds(30),
            "correlation_id": answer["correlation_id"],
        })
    );
}

#[tokio::test]
async fn an_unknown_type_scores_in_the_middle_and_what_the_agent_says_of_the_score_is_ignored() {
    let org = Organization::new().await;
    for fields in [
        json!({ "action_type": "unheard_of" }),
        json!({ "action_type": "Query", "risk_score": 0 }),
        json!({ "action_type": "x", "risk_score": "none", "risk_level": "low", "risk_indicators": { "risk_score": -50 } }),
        json!({ "action_type": "x", "context": { "risk_score": 1 }, "status": "approved", "decision": "allowed" }),
    ] {
        let answer = org.submit(fields.clone()).await.ok();
        assert_eq!((&answer["risk_score"], &answer["decision"]), (&json!(50), &json!("pending")), "{fields}");
    }
}

#[tokio::test]
async fn every_wrong_field_of_a_submission_is_named() {
    let org = Organization::new().await;
    let text = |length: usize| Value::from("ü".repeat(length));
    let controls = [json!("a\u{0}b"), json!("a\rb"), json!("\u{85}")];
    for field in ["agent_id", "agent_name", "action_type", "resource", "resource_id", "tool_name", "description"] {
        let longest = if field == "description" { 5000 } else { 500 };
        let mut wrong = vec![text(longest + 1), json!(5), json!([]), json!({}), json!(true)];
        wrong.extend(controls.clone());
        if ["agent_id", "action_type"].contains(&field) {
            wrong.extend([json!(null), json!("")]);
        }
        for value in wrong {
            let refused = org.submit(json!({ field: value })).await;
            assert_eq!(refused.coded(), code(422, "VALIDATION_ERROR"), "{field}: {value}");
            assert!(refused.detail().starts_with(field), "{}", refused.detail());
        }
        org.submitted(json!({ field: text(longest) })).await;
        org.submitted(json!({ field: "a\n\tb" })).await;
    }
    for field in ["action_details", "context", "risk_indicators"] {
        for value in [json!("{}"), json!([]), json!(1), json!(true)] {
            let refused = org.submit(json!({ field: value })).await;
            assert_eq!(refused.coded(), code(422, "VALIDATION_ERROR"), "{field}: {value}");
            assert!(refused.detail().starts_with(field), "{}", refused.detail());
        }
        org.submitted(json!({ field: null })).await;
    }
    for value in [json!(-1), json!(1.5), json!("42"), json!(9_007_199_254_740_992_u64), json!(1e300), json!([])] {
        let refused = org.submit(json!({ "on_behalf_of": value })).await;
        assert_eq!(refused.coded(), code(422, "VALIDATION_ERROR"), "{value}");
        assert!(refused.detail().starts_with("on_behalf_of"), "{}", refused.detail());
    }
    org.submitted(json!({ "on_behalf_of": 9_007_199_254_740_991_u64, "unknown": { "is": ["ignored"] } })).await;
    let two = org.post(&org.key, "/api/v1/actions/submit", &json!({ "resource": 1 })).await;
    assert_eq!(two.detail(), "agent_id is required; action_type is required; resource must be text");
}

#[tokio::test]
async fn what_would_not_fit_into_an_item_is_refused_and_not_an_error() {
    let org = Organization::new().await;
    // Written as 1000000000000000.0 each time.
    let long = format!(r#"{{"agent_id":"a","action_type":"query","context":{{"n":[1{}]}}}}"#, ",1e15".repeat(40_000));
    let request = org.with(&org.key, Method::POST, "/api/v1/actions/submit").body(long);
    assert_eq!(send(request).await.coded(), code(422, "VALIDATION_ERROR"));
    let half = json!({ "text": "x".repeat(120_000) });
    org.submitted(json!({ "context": half, "action_details": half })).await;
}

#[tokio::test]
async fn ids_are_whole_numbers_that_every_reader_holds_and_correlation_ids_say_when() {
    let org = Organization::new().await;
    let mut seen = std::collections::BTreeSet::new();
    for answer in join_all((0..40).map(|_| org.submit(json!({})))).await {
        let answer = answer.ok();
        let id = answer["id"].as_u64().unwrap();
        assert!((1..1 << 53).contains(&id), "{id}");
        let correlation = answer["correlation_id"].as_str().unwrap().to_owned();
        let random = correlation.strip_prefix("action_20261121_120000_").unwrap();
        assert_eq!(random.len(), 8);
        assert!(random.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{correlation}");
        assert_eq!(org.details(id).await["correlation_id"], correlation);
        seen.insert((id, correlation));
    }
    assert_eq!(seen.len(), 40);
    assert!(seen.iter().any(|(id, _)| *id > 1 << 48), "they are spread over all that fits");
}

/// What an action came to, in the words of each place that shows it.
struct Shown {
    id: u64,
    /// Of the status: status, decision, reason.
    status: (&'static str, &'static str, String),
    /// Of the details: status, outcome.
    details: (&'static str, Option<&'static str>),
    /// Of the approval; `None` if no human was ever asked.
    approval: Option<Value>,
}

impl Organization {
    async fn assert_shown(&self, shown: Shown) {
        let Shown { id, status: (status, decision, reason), details: (word, outcome), approval } = shown;
        let told = self.status(id).await;
        let told = (&told["status"], &told["decision"], &told["reason"], &told["decision_ready"]);
        let ready = json!(decision != "pending");
        assert_eq!(told, (&json!(status), &json!(decision), &json!(reason), &ready), "{id}");
        let details = self.details(id).await;
        assert_eq!((&details["status"], &details["outcome"]), (&json!(word), &json!(outcome)), "{reason}");
        let asked = self.get(&format!("/api/sdk/approval/appr_{id}")).await;
        match approval {
            Some(approval) => assert_eq!(asked.ok(), approval, "{reason}"),
            None => assert_eq!(asked.coded(), code(404, "ACTION_NOT_FOUND"), "{reason}"),
        }
        for (path, filter) in [("/api/v1/actions", "status_filter"), ("/api/agent-activity", "status")] {
            for filtered in ["pending", "approved", "denied", "timeout"] {
                let listed = self.get(&format!("{path}?{filter}={filtered}&limit=1000")).await.ok();
                assert_eq!(ids(&listed).contains(&id), filtered == word, "{path} {filtered} {reason}");
            }
        }
        let mut row = details.clone();
        row.as_object_mut().unwrap().remove("audit_trail").unwrap();
        let all = self.get("/api/v1/actions?limit=1000").await.ok();
        assert!(all.as_array().unwrap().contains(&row), "a listing has the details without the trail");
    }
}

#[tokio::test]
async fn every_state_is_told_in_the_words_of_each_place() {
    let org = Organization::new().await;
    let rules = json!([{ "name": "never", "when": { "==": [{ "var": "agent_id" }, "evil"] }, "then": "deny" }]);
    org.set_policy(json!({ "rules": rules })).await;
    let [waiting, approved, plain, denied, unsaid, cancelled, completed, failed, late] =
        join_all((0..9).map(|_| org.pending())).await.try_into().unwrap();
    let by_score = org.submitted(json!({ "action_type": "query" })).await;
    let by_rule = org.submitted(json!({ "agent_id": "evil" })).await;
    org.server.clock.advance(Duration::from_secs(5));
    let (at, told_at) = ("2026-11-21T12:00:05Z", "2026-11-21T12:00:00Z");
    let because = json!({ "reason": "reviewed" });
    for (id, verb, body) in [
        (approved, "approve", &because),
        (plain, "approve", &json!({})),
        (denied, "reject", &because),
        (unsaid, "reject", &json!({})),
        (completed, "approve", &json!({})),
        (failed, "approve", &json!({})),
        (cancelled, "cancel", &json!({})),
    ] {
        assert_eq!(org.post(&org.admin, &format!("/api/v1/actions/{id}/{verb}"), body).await.status, 200);
    }
    org.report(completed, "complete", &json!({})).await.ok();
    org.report(failed, "fail", &json!({})).await.ok();

    let yes = |id, reason: &str, outcome| Shown {
        id,
        status: ("approved", "allowed", reason.to_owned()),
        details: ("approved", outcome),
        approval: Some(json!({ "status": "approved", "approved_by": HUMAN, "decided_at": at })),
    };
    let no = |id, reason: &str, outcome| Shown {
        id,
        status: ("denied", "denied", reason.to_owned()),
        details: ("denied", outcome),
        approval: Some(json!({ "status": "denied", "decided_at": at, "rejection_reason": reason })),
    };
    let rejected = |id, reason: &str| {
        let mut shown = no(id, reason, None);
        shown.approval.as_mut().unwrap()["rejected_by"] = HUMAN.into();
        shown
    };
    let pending = |id| Shown {
        id,
        status: ("pending_approval", "pending", "Risk score 45 is medium: approval of level 2 is required".to_owned()),
        details: ("pending", None),
        approval: Some(json!({ "status": "pending" })),
    };
    for shown in [
        pending(waiting),
        pending(late),
        yes(approved, "reviewed", None),
        yes(plain, "Approved by user 42", None),
        yes(completed, "Approved by user 42", Some("completed")),
        yes(failed, "Approved by user 42", Some("failed")),
        rejected(denied, "reviewed"),
        rejected(unsaid, "Denied by user 42"),
        no(cancelled, "Cancelled before anybody decided", Some("cancelled")),
        Shown { approval: None, ..yes(by_score, "Risk score 5 is below 30: approved automatically", None) },
        Shown { approval: None, ..no(by_rule, "Rule never: denied", None) },
    ] {
        org.assert_shown(shown).await;
    }
    assert_eq!(
        org.status(approved).await,
        json!({
            "action_id": approved, "status": "approved", "decision": "allowed", "risk_score": 45, "timestamp": at,
            "decision_ready": true, "reason": "reviewed", "approved_by": HUMAN, "approved_at": at,
            "comments": "reviewed",
        })
    );
    assert_eq!(org.status(by_score).await["timestamp"], told_at);
    assert!(org.status(by_score).await.get("approved_by").is_none());
    assert!(org.status(denied).await.get("comments").is_none());

    org.server.clock.advance(Duration::from_hours(24));
    eventually(vec!["action_submitted".to_owned(), "action_expired".to_owned()], async || org.trail(late).await).await;
    let mut expired = no(late, "Timed out: nobody decided in time", None);
    expired.details = ("timeout", None);
    expired.approval.as_mut().unwrap()["decided_at"] = "2026-11-22T12:00:00Z".into();
    org.assert_shown(expired).await;
}

#[tokio::test]
async fn details_have_every_documented_field() {
    let org = Organization::new().await;
    let id = org
        .submitted(json!({
            "agent_name": "Bot", "resource": "db", "resource_id": "17", "tool_name": "psql", "description": "d",
            "context": { "a": 1 },
        }))
        .await;
    let details = org.details(id).await;
    let trail = details["audit_trail"].clone();
    assert_eq!(
        details,
        json!({
            "id": id, "action_id": id, "agent_id": "bot", "agent_name": "Bot", "action_type": MEDIUM, "resource": "db",
            "resource_id": "17", "status": "pending", "outcome": null, "risk_score": 45,
            "risk_factors": [{ "factor": "action_type: data_modification", "points": 45 }],
            "created_at": "2026-11-21T12:00:00Z", "updated_at": "2026-11-21T12:00:00Z",
            "correlation_id": details["correlation_id"], "audit_trail": trail,
        })
    );
    assert_eq!(
        trail,
        json!([{
            "audit_id": trail[0]["audit_id"], "action_type": "action_submitted", "user_id": null,
            "timestamp": "2026-11-21T12:00:00Z",
            "details": format!(
                "Action {id} submitted by agent bot: Risk score 45 is medium: approval of level 2 is required"
            ),
        }])
    );
}

#[tokio::test]
async fn only_approved_actions_are_reported_on_and_only_once() {
    let org = Organization::doors_only().await;
    let refused = async |id, verb: &str, current: &str| {
        let refused = org.report(id, verb, &json!({})).await;
        assert_eq!(refused.coded(), code(400, "INVALID_STATE"), "{verb} {current}");
        assert!(refused.detail().ends_with(&format!("(current status: {current})")), "{}", refused.detail());
    };
    let [waiting, denied, cancelled] = [org.pending().await, org.pending().await, org.pending().await];
    org.act(&org.admin, denied, "reject").await.ok();
    org.act(&org.key, cancelled, "cancel").await.ok();
    for verb in ["complete", "fail"] {
        for (id, current) in [(waiting, "pending"), (denied, "denied"), (cancelled, "cancelled")] {
            refused(id, verb, current).await;
        }
    }
    for (verb, word, other) in [("complete", "completed", "fail"), ("fail", "failed", "complete")] {
        let id = org.submitted(json!({ "action_type": "query" })).await;
        org.server.clock.advance(Duration::from_secs(1));
        let details = json!({ "result": { "rows": 3 }, "duration_ms": 12 });
        let reported = org.report(id, verb, &details).await;
        let body = reported.clone().ok();
        assert_eq!(body, json!({ "action_id": id, "status": word, "recorded_at": body["recorded_at"] }));
        org.server.clock.advance(Duration::from_secs(1));
        assert_eq!(org.report(id, verb, &details).await.text, reported.text, "the same report again changes nothing");
        refused(id, other, word).await;
        assert_eq!(org.trail(id).await, ["action_submitted".to_owned(), format!("action_{word}")]);
        // What it reported is kept, in the item that the log vouches for.
        assert!(org.server.table.dump("countersign").await.contains("duration_ms"));
    }
    for wrong in [json!([]), json!("done"), json!(5)] {
        let id = org.submitted(json!({ "action_type": "query" })).await;
        assert_eq!(org.report(id, "complete", &wrong).await.coded(), code(422, "VALIDATION_ERROR"), "{wrong}");
    }
}

#[tokio::test]
async fn an_action_is_taken_back_by_any_key_with_the_scope_until_it_is_decided() {
    let org = Organization::new().await;
    let other_key = org.server.key(ORGANIZATION, &["actions:submit"]).await;
    let user = org.human(5, "user");
    for credential in [&org.key, &other_key, &user, &org.admin] {
        let id = org.pending().await;
        let body = org.act(credential, id, "cancel").await.ok();
        let at = "2026-11-21T12:00:00Z";
        assert_eq!(body, json!({ "action_id": id, "status": "denied", "outcome": "cancelled", "recorded_at": at }));
        assert_eq!(org.trail(id).await, ["action_submitted", "action_cancelled"]);
        for verb in ["approve", "reject", "cancel"] {
            let refused = org.act(&org.admin, id, verb).await;
            assert_eq!(refused.coded(), code(400, "INVALID_STATE"));
            assert_eq!(refused.detail(), "Action is not pending approval (current status: cancelled)");
        }
    }
    let approved = org.submitted(json!({ "action_type": "query" })).await;
    let refused = org.act(&org.key, approved, "cancel").await;
    assert_eq!(refused.coded(), code(400, "INVALID_STATE"));
    assert_eq!(refused.detail(), "Action is not pending approval (current status: approved)");
}

#[tokio::test]
async fn each_route_wants_its_scope_or_a_jwt() {
    let org = Organization::new().await;
    let id = org.pending().await;
    let reader = org.server.key(ORGANIZATION, &["actions:read", "cases:read", "webhooks:manage"]).await;
    let submitter = org.server.key(ORGANIZATION, &["actions:submit", "cases:write"]).await;
    let homeless = org.server.key("acme", &["actions:submit", "actions:read"]).await;
    let none = org.server.token(ORGANIZATION, "9", &[]);
    for (method, path, submits) in [
        (Method::POST, "/api/v1/actions/submit".to_owned(), true),
        (Method::POST, format!("/api/v1/actions/{id}/cancel"), true),
        (Method::POST, format!("/api/agent-action/{id}/complete"), true),
        (Method::POST, format!("/api/agent-action/{id}/fail"), true),
        (Method::GET, format!("/api/v1/actions/{id}"), false),
        (Method::GET, format!("/api/v1/actions/{id}/status"), false),
        (Method::GET, "/api/v1/actions".to_owned(), false),
        (Method::GET, "/api/agent-activity".to_owned(), false),
        (Method::GET, format!("/api/sdk/approval/appr_{id}"), false),
        (Method::GET, "/audit/logs".to_owned(), false),
    ] {
        let ask = async |bearer: &str| send(org.with(bearer, method.clone(), &path)).await;
        let (lacks, has) = if submits { (&reader, &submitter) } else { (&submitter, &reader) };
        assert_eq!(ask(lacks).await.coded(), code(403, "FORBIDDEN"), "{path}");
        for allowed in [has.as_str(), &org.key, &org.admin] {
            assert!(![401, 403].contains(&ask(allowed).await.status), "{path}");
        }
        let expected = if path == "/audit/logs" { 403 } else { ask(&org.admin).await.status };
        assert_eq!(ask(&none).await.status, expected, "{path}");
        assert_eq!(ask(&homeless).await.coded(), code(401, "INVALID_TOKEN"), "{path}");
        let nobody = send(org.server.public(method.clone(), &path)).await;
        assert_eq!(nobody.coded(), code(401, "MISSING_AUTH"), "{path}");
        // Clients send both.
        let both = send(org.with(has, method.clone(), &path).header("X-API-Key", has)).await;
        assert!(![401, 403].contains(&both.status), "{path}");
    }
    let open = send(org.server.public(Method::GET, "/api/deployment-info")).await.ok();
    assert_eq!(open, json!({ "version": env!("CARGO_PKG_VERSION"), "environment": "local" }));
}

#[tokio::test]
async fn a_list_is_newest_first_and_read_by_offset() {
    let org = Organization::new().await;
    let mut newest_first = Vec::new();
    for _ in 0..7 {
        newest_first.insert(0, org.pending().await);
        org.server.clock.advance(Duration::from_secs(1));
    }
    for path in ["/api/v1/actions", "/api/agent-activity"] {
        let ask = async |query: &str| org.get(&format!("{path}{query}")).await;
        assert_eq!(ids(&ask("").await.ok()), newest_first);
        assert_eq!(ids(&ask("?limit=1000&offset=0&unknown=ignored").await.ok()), newest_first);
        assert_eq!(ids(&ask("?offset=5").await.ok()), newest_first[5..]);
        for past in ["?offset=7", "?offset=10000", "?offset=8&limit=1"] {
            let end = ask(past).await;
            assert_eq!((end.text.as_str(), end.header("link")), ("[]", None), "{past}");
        }
        let mut next = format!("{path}?limit=3");
        let mut followed = Vec::new();
        loop {
            let page = org.get(&next).await;
            followed.push(ids(&page.clone().ok()));
            let Some(link) = page.header("link") else { break };
            next = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
        }
        assert_eq!(followed, [&newest_first[..3], &newest_first[3..6], &newest_first[6..]]);
        let status = if path == "/api/v1/actions" { "status_filter" } else { "status" };
        let wrong_status = [format!("?{status}=done"), format!("?{status}="), format!("?{status}=PENDING")];
        for wrong in [
            "?limit=0",
            "?limit=1001",
            "?limit=-1",
            "?limit=1.5",
            "?limit=a",
            "?limit=",
            "?limit=+1",
            "?limit=1&limit=1",
            "?offset=-1",
            "?offset=10001",
            "?offset=a",
            "?offset=99999999999999999999",
        ]
        .into_iter()
        .chain(wrong_status.iter().map(String::as_str))
        {
            assert_eq!(ask(wrong).await.coded(), code(422, "VALIDATION_ERROR"), "{path}{wrong}");
        }
        assert_eq!(ids(&ask(&format!("?{status}=pending_approval")).await.ok()), newest_first);
        // The other list's name for it is nobody's here.
        let foreign = if status == "status" { "status_filter" } else { "status" };
        assert_eq!(ids(&ask(&format!("?{foreign}=denied")).await.ok()), newest_first);
    }
}

#[tokio::test]
async fn an_agents_activity_is_narrowed_by_agent_and_status_together() {
    let org = Organization::new().await;
    let mut wanted = Vec::new();
    for n in 0..12 {
        let id = org.submitted(json!({ "agent_id": if n % 2 == 0 { "a/b #1" } else { "other" } })).await;
        if n % 3 == 0 {
            org.act(&org.admin, id, "approve").await.ok();
        }
        if n % 6 == 0 {
            wanted.insert(0, id);
        }
        org.server.clock.advance(Duration::from_secs(1));
    }
    let ask = async |query: &str| {
        let page = org.get(&format!("/api/agent-activity?agent_id=a%2Fb%20%231{query}")).await;
        (ids(&page.clone().ok()), page.header("link").map(str::to_owned))
    };
    assert_eq!(ask("").await.0.len(), 6);
    assert_eq!(ask("&status=approved").await, (wanted.clone(), None));
    let (first, link) = ask("&status=approved&limit=1").await;
    assert_eq!(first, wanted[..1]);
    assert!(link.unwrap().contains("offset=1"));
    assert_eq!(ask("&status=approved&limit=1&offset=1").await.0, wanted[1..]);
    assert_eq!(ask("&status=approved&offset=2").await, (Vec::new(), None));
    assert_eq!(ask("&status=timeout&limit=1").await, (Vec::new(), None));
    assert_eq!(org.get("/api/agent-activity?agent_id=nobody").await.text, "[]");
}

/// A list that is narrowed asks the table a few times, however few of the rows match.
#[tokio::test]
async fn a_rare_status_does_not_cost_a_call_for_each_other_action() {
    let org = Organization::doors_only().await;
    let rare = org.pending().await;
    org.server.clock.advance(Duration::from_secs(1));
    join_all((0..150).map(|_| org.submit(json!({ "action_type": "query" })))).await;
    drop(org.server.table.take_calls());
    let page = org.get("/api/agent-activity?agent_id=bot&status=pending&limit=1").await;
    assert_eq!(ids(&page.ok()), [rare]);
    let calls = org.server.table.take_calls().len();
    assert!(calls <= 8, "{calls} calls");
}

#[tokio::test]
async fn an_id_is_a_whole_number_and_what_no_action_can_have_is_not_found() {
    let org = Organization::new().await;
    let routes = [
        (Method::GET, "/api/v1/actions/{}"),
        (Method::GET, "/api/v1/actions/{}/status"),
        (Method::POST, "/api/v1/actions/{}/approve"),
        (Method::POST, "/api/v1/actions/{}/reject"),
        (Method::POST, "/api/v1/actions/{}/cancel"),
        (Method::POST, "/api/agent-action/{}/complete"),
        (Method::POST, "/api/agent-action/{}/fail"),
    ];
    for (method, route) in routes {
        let ask = async |id: &str| send(org.with(&org.admin, method.clone(), &route.replace("{}", id))).await;
        for wrong in ["abc", "1.5", "1e3", "%2B5", "5%20", "0x10", "-", "--1", "%EF%BC%91", "5,6", "null", "%ff", "%00"]
        {
            let refused = ask(wrong).await;
            assert_eq!(refused.coded(), code(422, "VALIDATION_ERROR"), "{route} {wrong}");
        }
        for absent in
            ["0", "1", "-1", "9007199254740991", "9007199254740992", "99999999999999999999999", "-99999999999999999999"]
        {
            let refused = ask(absent).await;
            assert_eq!(refused.coded(), code(404, "ACTION_NOT_FOUND"), "{route} {absent}");
            assert_eq!(refused.detail(), "Action not found");
        }
        // A key that is none is found after the form and before the action.
        if method == Method::POST {
            let request = |id: &str| {
                let request = org.with(&org.admin, Method::POST, &route.replace("{}", id));
                request.header("Idempotency-Key", "k".repeat(256))
            };
            assert!(send(request("abc")).await.detail().starts_with("action_id"), "{route}");
            for absent in ["1", "0"] {
                assert!(send(request(absent)).await.detail().starts_with("Idempotency-Key"), "{route}");
            }
        }
    }
    for absent in ["abc", "1", "appr_", "appr_x", "appr_01", "appr_0", "APPR_1", "appr_1", "appr_9007199254740992"] {
        let refused = org.get(&format!("/api/sdk/approval/{absent}")).await;
        assert_eq!(refused.coded(), code(404, "ACTION_NOT_FOUND"), "{absent}");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_apart_in_the_doors_own_words() {
    let org = Organization::new().await;
    for path in ["/api", "/api/v1/actions/1/unknown", "/api/v2/actions", "/audit", "/api/v1/actions/", "/api/webhookz"]
    {
        assert_eq!(org.get(path).await.coded(), code(404, "NOT_FOUND"), "{path}");
    }
    for (method, path, allow) in [
        (Method::GET, "/api/v1/actions/submit", "POST"),
        (Method::GET, "/api/v1/actions/bulk-approve", "POST"),
        (Method::POST, "/api/v1/actions", "GET,HEAD"),
        (Method::PUT, "/api/v1/actions/5/approve", "POST"),
        (Method::DELETE, "/api/v1/actions/5", "GET,HEAD"),
        (Method::DELETE, "/api/admin/audit-logs", "GET,HEAD"),
        (Method::POST, "/audit/logs", "GET,HEAD"),
    ] {
        let refused = send(org.with(&org.admin, method.clone(), path)).await;
        assert_eq!(refused.coded(), code(405, "METHOD_NOT_ALLOWED"), "{method} {path}");
        assert_eq!(refused.header("allow"), Some(allow), "{method} {path}");
    }
}

#[tokio::test]
async fn a_repeated_submission_with_its_key_is_the_same_action() {
    let org = Organization::new().await;
    let path = "/api/v1/actions/submit";
    let body = json!({ "agent_id": "bot", "action_type": MEDIUM });
    let once = async |bearer: &str, body: &Value| {
        send(org.with(bearer, Method::POST, path).header("Idempotency-Key", "k").json(body)).await
    };
    let first = once(&org.key, &body).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (200, None));
    org.server.clock.advance(Duration::from_secs(60));
    let again = once(&org.key, &body).await;
    assert_eq!((again.status, &again.text, again.header("idempotency-replayed")), (200, &first.text, Some("true")));
    let reused = once(&org.key, &json!({ "agent_id": "bot", "action_type": "query" })).await;
    assert_eq!(reused.coded(), code(422, "IDEMPOTENCY_KEY_REUSED"));
    // Another caller's key is another key.
    assert_ne!(once(&org.admin, &body).await.ok()["id"], first.json()["id"]);
    assert_eq!(ids(&org.get("/api/v1/actions").await.ok()).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_simultaneous_submissions_with_one_key_one_acts() {
    let org = Organization::new().await;
    let body = json!({ "agent_id": "bot", "action_type": MEDIUM });
    let answers = join_all((0..16).map(|_| {
        send(org.with(&org.key, Method::POST, "/api/v1/actions/submit").header("Idempotency-Key", "k").json(&body))
    }));
    let answers = answers.await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.text == answers[0].text), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer.header("idempotency-replayed").is_none()).count(), 1);
    assert_eq!(ids(&org.get("/api/v1/actions").await.ok()).len(), 1);
}

/// Everything that another organization's caller can ask about an action, and what it is answered about one that
/// never was.
#[tokio::test]
async fn another_organizations_action_does_not_exist() {
    let org = Organization::new().await;
    let id = org.submitted(json!({ "agent_id": "ours" })).await;
    let approved = org.submitted(json!({ "agent_id": "ours" })).await;
    org.act(&org.admin, approved, "approve").await.ok();
    let before = [org.details(id).await, org.details(approved).await];
    let key = org.server.key(OTHER_ORGANIZATION, &["actions:submit", "actions:read"]).await;
    // The same subject and user, elsewhere.
    let admin = org.server.token(OTHER_ORGANIZATION, &HUMAN.to_string(), &["admin"]);
    let ask = async |method: &Method, path: &str, bearer: &str, body: &Value| {
        let mut request = org.with(bearer, method.clone(), path).header("X-Request-Id", "r");
        if *method == Method::POST {
            request = request.json(body);
        }
        let mut answer = send(request).await;
        answer.headers.remove("date");
        answer
    };
    let absent = 4711;
    for (method, path, humans) in [
        (Method::GET, "/api/v1/actions/{}", false),
        (Method::GET, "/api/v1/actions/{}/status", false),
        (Method::GET, "/api/sdk/approval/appr_{}", false),
        (Method::POST, "/api/v1/actions/{}/cancel", false),
        (Method::POST, "/api/agent-action/{}/complete", false),
        (Method::POST, "/api/agent-action/{}/fail", false),
        (Method::POST, "/api/v1/actions/{}/approve", true),
        (Method::POST, "/api/v1/actions/{}/reject", true),
    ] {
        for bearer in [&admin, &key].into_iter().take(if humans { 1 } else { 2 }) {
            let never = ask(&method, &path.replace("{}", &absent.to_string()), bearer, &json!({})).await;
            assert_eq!(never.coded(), code(404, "ACTION_NOT_FOUND"), "{path}");
            for foreign in [id, approved] {
                let foreign = ask(&method, &path.replace("{}", &foreign.to_string()), bearer, &json!({})).await;
                assert_eq!(foreign, never, "{path}");
            }
        }
    }
    for verb in ["approve", "reject"] {
        let path = format!("/api/v1/actions/bulk-{verb}");
        let text = async |id: u64| {
            let answer = ask(&Method::POST, &path, &admin, &json!({ "action_ids": [id] })).await;
            answer.text.replace(&id.to_string(), "ID")
        };
        assert_eq!(text(id).await, text(absent).await);
        assert_eq!(text(approved).await, text(absent).await);
    }
    for (with, without) in [
        ("/api/v1/actions", "/api/v1/actions?offset=0"),
        ("/api/v1/actions?status_filter=pending", "/api/v1/actions?status_filter=timeout"),
        ("/api/agent-activity?agent_id=ours", "/api/agent-activity?agent_id=nobody"),
        ("/api/agent-activity?agent_id=ours&status=pending", "/api/agent-activity?agent_id=nobody&status=pending"),
        ("/api/admin/audit-logs", "/api/admin/audit-logs?action_type=action_failed"),
        ("/api/admin/audit-logs?user_id=42", "/api/admin/audit-logs?user_id=43"),
        (&format!("/api/admin/audit-logs?action_id={id}"), "/api/admin/audit-logs?action_id=4711"),
        (&format!("/api/admin/audit-logs/export?format=csv&action_id={id}"), "/api/admin/audit-logs/export?format=csv"),
        ("/audit/logs", "/audit/logs?offset=0"),
        ("/api/admin/audit-logs/verify", "/api/admin/audit-logs/verify"),
    ] {
        let [seen, nothing] =
            [ask(&Method::GET, with, &admin, &json!({})).await, ask(&Method::GET, without, &admin, &json!({})).await];
        assert_eq!(seen, nothing, "{with}");
        assert!(!seen.text.contains("ours") && !seen.text.contains(&id.to_string()), "{with}");
    }
    assert_eq!([org.details(id).await, org.details(approved).await], before);
    assert_eq!(ids(&org.get("/api/v1/actions").await.ok()).len(), 2);
}

#[tokio::test]
async fn idempotency_keys_are_an_organizations_own() {
    let org = Organization::new().await;
    let body = json!({ "agent_id": "bot", "action_type": MEDIUM });
    let stranger = org.server.token(OTHER_ORGANIZATION, &HUMAN.to_string(), &["admin"]);
    let mut ids = Vec::new();
    for bearer in [&org.admin, &stranger] {
        let request = org.with(bearer, Method::POST, "/api/v1/actions/submit").header("Idempotency-Key", "k");
        let answer = send(request.json(&body)).await;
        assert_eq!((answer.status, answer.header("idempotency-replayed")), (200, None));
        ids.push(answer.json()["id"].clone());
    }
    assert_ne!(ids[0], ids[1]);
}
