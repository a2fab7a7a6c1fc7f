//! Answering approvals: the documented answer, every refusal in its order, and those that still wait.

use crate::server::{Answer, Server, send};
use countersign_domain::chain::ChangeBody;
use countersign_domain::remediation::Remediation;
use countersign_domain::{EntryClass, Record};
use countersign_store::Key;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) const TENANT: &str = "acme";
pub(crate) const PENDING: &str = "/v1/notifications/approvals/pending";
/// A ULID that is nobody's.
pub(crate) const ABSENT: &str = "01HX9VTPQR3KF8MZWBYD5N6JCE";

/// Someone with a JWT.
#[derive(Clone)]
pub(crate) struct Person<'a> {
    pub(crate) server: &'a Server,
    pub(crate) token: String,
}

impl Server {
    pub(crate) fn person(&self, tenant: &str, subject: &str, roles: &[&str]) -> Person<'_> {
        Person { server: self, token: self.token(tenant, subject, roles) }
    }

    pub(crate) fn admin(&self) -> Person<'_> {
        self.person(TENANT, "alice", &["admin"])
    }

    pub(crate) fn member(&self) -> Person<'_> {
        self.person(TENANT, "agent-7", &["member"])
    }

    /// Proposes a remediation, with these fields on top; the object.
    pub(crate) async fn propose(&self, fields: Value) -> Value {
        let proposed = self.member().post("/v1/remediation", &proposal(fields)).await;
        assert_eq!(proposed.status, 201, "{proposed:?}");
        proposed.json()
    }

    /// Proposes one that waits for an approval; its ULID.
    pub(crate) async fn wait(&self) -> String {
        ulid(&self.propose(json!({})).await)
    }

    pub(crate) async fn respond(&self, ulid: &str, decision: &str) -> Answer {
        self.admin().post(&respond_path(ulid), &json!({ "decision": decision })).await
    }

    pub(crate) async fn remediation(&self, ulid: &str) -> Value {
        let shown = self.member().get(&format!("/v1/remediation/rem_{ulid}")).await;
        assert_eq!(shown.status, 200, "{shown:?}");
        shown.json()
    }

    pub(crate) async fn remediation_history(&self, ulid: &str) -> Vec<ChangeBody> {
        self.history(&Key::<Remediation>::new(&TENANT.parse().unwrap(), ulid)).await
    }

    /// The names of the entries of a remediation.
    pub(crate) async fn told(&self, ulid: &str) -> Vec<String> {
        let history = self.remediation_history(ulid).await;
        history.into_iter().flat_map(|change| change.entries).map(|entry| entry.name).collect()
    }

    /// Takes a remediation out of the clock's sight: a clock that never comes by.
    pub(crate) async fn hide_from_the_clock(&self, ulid: &str) {
        let dump: Value = serde_json::from_str(&self.table.dump("countersign").await).unwrap();
        let pk = format!("{}#{TENANT}#{ulid}", Remediation::KIND);
        let items = dump["Items"].as_array().unwrap();
        let mut item = items.iter().find(|item| item["pk"]["S"] == pk && item["sk"]["S"] == "@").unwrap().clone();
        let item = item.as_object_mut().unwrap();
        assert!(item.remove("due_pk").is_some() && item.remove("due_sk").is_some());
        self.table.put_items("countersign", &[json!(item)]).await.unwrap();
    }

    /// Waits for an entry that only the clock writes.
    pub(crate) async fn until_told(&self, ulid: &str, event: &str) {
        for _ in 0..600 {
            if self.told(ulid).await.iter().any(|name| name == event) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the clock never came by {ulid}");
    }
}

impl Person<'_> {
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.server.public(method, path).bearer_auth(&self.token)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn post_once(&self, path: &str, key: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).header("Idempotency-Key", key).json(body)).await
    }

    /// The rows of a listing, page by page, by following its cursors.
    pub(crate) async fn pages(&self, path: &str) -> Vec<Vec<Value>> {
        let mut pages = Vec::new();
        let mut next = path.to_owned();
        loop {
            let page = self.get(&next).await;
            assert_eq!(page.status, 200, "{page:?}");
            let mut page = page.json();
            pages.push(page["items"].as_array_mut().map(std::mem::take).unwrap());
            let Some(cursor) = page.get("cursor") else { return pages };
            let and = if path.contains('?') { '&' } else { '?' };
            next = format!("{path}{and}cursor={}", cursor.as_str().unwrap());
        }
    }
}

pub(crate) fn proposal(fields: Value) -> Value {
    let mut body = json!({
        "incidentId": "inc_1",
        "incidentTitle": "Checkout answers 503",
        "title": "Scale the connection pool",
        "steps": [{ "description": "set DB_POOL_SIZE to 150" }, { "description": "roll out" }],
    });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

pub(crate) fn ulid(remediation: &Value) -> String {
    remediation["remediationId"].as_str().unwrap().strip_prefix("rem_").unwrap().to_owned()
}

pub(crate) fn respond_path(ulid: &str) -> String {
    format!("/v1/notifications/approvals/apr_{ulid}/respond")
}

pub(crate) fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn ids(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["approvalId"].as_str().unwrap().strip_prefix("apr_").unwrap()).collect()
}

#[tokio::test]
async fn an_answer_has_the_documented_fields_and_nothing_else() {
    let server = Server::start().await;
    for (decision, status) in [("approve", "executing"), ("reject", "rejected")] {
        let ulid = server.wait().await;
        server.clock.advance(Duration::from_secs(60));
        let at = countersign_domain::rfc3339(server.clock.now());
        let answered = server.respond(&ulid, decision).await;
        assert_eq!((answered.status, answered.header("content-type")), (200, Some("application/json")));
        let expected = format!(
            r#"{{"approvalId":"apr_{ulid}","decision":"{decision}","remediationId":"rem_{ulid}","remediationStatus":"{status}","decidedAt":"{at}"}}"#
        );
        assert_eq!(answered.text, expected);
        assert_eq!(server.remediation(&ulid).await["status"], status);
    }
}

#[tokio::test]
async fn a_decision_may_be_called_action_and_who_gave_it_is_the_tokens_subject() {
    let server = Server::start().await;
    let ulid = server.wait().await;
    let body = json!({ "action": "approve", "respondedBy": "mallory", "else": [{}], "notes": null });
    assert_eq!(server.admin().post(&respond_path(&ulid), &body).await.status, 200);
    let shown = server.remediation(&ulid).await;
    assert_eq!((&shown["approvedBy"], &shown["notes"]), (&json!("alice"), &Value::Null));
    // The documented name counts if both are there.
    let ulid = server.wait().await;
    let both = json!({ "decision": "reject", "action": "approve" });
    assert_eq!(server.admin().post(&respond_path(&ulid), &both).await.json()["decision"], "reject");
}

#[tokio::test]
async fn state_audit_entry_and_event_are_one_change() {
    let server = Server::start().await;
    let notes = "Confirmed with DBA — safe to scale pool.\n\tProceed.";
    for (decision, name) in [("approve", "remediation.approved"), ("reject", "remediation.rejected")] {
        let ulid = server.wait().await;
        let answered =
            server.admin().post(&respond_path(&ulid), &json!({ "decision": decision, "notes": notes })).await;
        let history = server.remediation_history(&ulid).await;
        let [_, change] = &history[..] else { panic!("{history:?}") };
        let [entry] = &change.entries[..] else { panic!("{change:?}") };
        assert_eq!((entry.name.as_str(), entry.class), (name, EntryClass::Public));
        let data = json!({
            "approvalId": format!("apr_{ulid}"), "remediationId": format!("rem_{ulid}"), "incidentId": "inc_1",
            "decision": decision, "decidedBy": "alice", "decidedAt": answered.json()["decidedAt"], "notes": notes,
        });
        assert_eq!(entry.data, data);
        assert_eq!(entry.actor.to_string(), "user:countersign-local:alice");
        assert_eq!(server.remediation(&ulid).await["notes"], notes);
    }
}

#[tokio::test]
async fn a_remediation_is_approved_or_rejected_by_its_own_id_with_the_same_answer() {
    let server = Server::start().await;
    for (decision, status) in [("approve", "executing"), ("reject", "rejected")] {
        for body in [Some(json!({ "notes": "n" })), Some(json!({})), None] {
            let ulid = server.wait().await;
            let request = server.admin();
            let request = request.request(Method::POST, &format!("/v1/remediation/rem_{ulid}/{decision}"));
            let answered = send(match &body {
                Some(body) => request.json(body),
                None => request,
            })
            .await;
            let expected = json!({
                "approvalId": format!("apr_{ulid}"), "decision": decision, "remediationId": format!("rem_{ulid}"),
                "remediationStatus": status, "decidedAt": "2026-11-21T12:00:00Z",
            });
            assert_eq!((answered.status, answered.json()), (200, expected));
            let notes = body.map_or(Value::Null, |body| body["notes"].clone());
            assert_eq!(server.remediation(&ulid).await["notes"], notes);
            assert_eq!(server.respond(&ulid, decision).await.refusal(), refused(409, "already_decided"));
        }
    }
}

#[tokio::test]
async fn an_answer_stands_whatever_is_asked_and_for_ever() {
    let server = Server::start().await;
    let ulid = server.wait().await;
    assert_eq!(server.respond(&ulid, "approve").await.status, 200);
    let again = async || {
        for decision in ["approve", "reject"] {
            assert_eq!(server.respond(&ulid, decision).await.refusal(), refused(409, "already_decided"));
            let path = format!("/v1/remediation/rem_{ulid}/{decision}");
            assert_eq!(server.admin().post(&path, &json!({})).await.refusal(), refused(409, "already_decided"));
        }
    };
    again().await;
    // Decided comes before expired.
    server.clock.advance(Duration::from_hours(24 * 366));
    again().await;
    assert_eq!(server.told(&ulid).await, ["remediation.proposed", "remediation.approved"]);
}

#[tokio::test]
async fn a_deadline_has_passed_at_its_very_second_though_no_clock_has_come_by() {
    let server = Server::start().await;
    let mut ulids = Vec::new();
    for _ in 0..4 {
        let ulid = ulid(&server.propose(json!({ "timeoutMinutes": 1 })).await);
        server.hide_from_the_clock(&ulid).await;
        ulids.push(ulid);
    }
    // Proposed at a quarter past the second, to be answered until the minute after that second began.
    server.clock.advance(Duration::from_micros(59_749_999));
    assert_eq!(server.admin().get(PENDING).await.json()["total"], 4);
    assert_eq!(server.respond(&ulids[0], "approve").await.status, 200);
    server.clock.advance(Duration::from_micros(1));
    for decision in ["approve", "reject"] {
        let late = server.respond(&ulids[1], decision).await;
        assert_eq!(late.refusal(), refused(409, "approval_expired"));
        assert!(late.json()["message"].as_str().unwrap().contains("create a new remediation"), "{late:?}");
        let late = server.admin().post(&format!("/v1/remediation/rem_{}/{decision}", ulids[2]), &json!({})).await;
        assert_eq!(late.refusal(), refused(409, "approval_expired"));
    }
    // Nobody sees them waiting any more, and they do not show as proposed.
    assert_eq!(server.admin().get(PENDING).await.json(), json!({ "items": [], "total": 0 }));
    assert_eq!(server.admin().get("/v1/remediation?status=proposed").await.json(), json!({ "items": [], "count": 0 }));
    for ulid in &ulids[1..] {
        let shown = server.remediation(ulid).await;
        assert_eq!((&shown["status"], &shown["outcome"]), (&json!("expired"), &json!("expired")));
        assert_eq!(server.told(ulid).await, ["remediation.proposed"], "the clock has not come by");
    }
    let listed = server.admin().get("/v1/remediation").await.json();
    let statuses: Vec<_> = listed["items"].as_array().unwrap().iter().map(|item| item["status"].clone()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == "expired").count(), 3, "{statuses:?}");
}

#[tokio::test]
async fn a_deadline_passes_without_anyones_call() {
    let server = Server::start().await;
    let ulid = server.wait().await;
    server.clock.advance(Duration::from_secs(30 * 60));
    server.until_told(&ulid, "remediation.expired").await;
    assert_eq!(server.told(&ulid).await, ["remediation.proposed", "remediation.expired"]);
    let history = server.remediation_history(&ulid).await;
    let entry = &history[1].entries[0];
    assert_eq!((entry.actor.to_string().as_str(), entry.class), ("clock", EntryClass::Public));
    assert_eq!(server.respond(&ulid, "approve").await.refusal(), refused(409, "approval_expired"));
    let listed = server.member().get("/v1/remediation?status=expired").await.json();
    assert_eq!(listed["items"][0], server.remediation(&ulid).await);
    assert_eq!(listed["items"][0]["expiresAt"], "2026-11-21T12:30:00Z");
}

#[tokio::test]
async fn of_several_faults_the_first_documented_one_is_told() {
    let server = Server::start().await;
    let (admin, member) = (server.admin(), server.member());
    let decided = server.wait().await;
    assert_eq!(server.respond(&decided, "approve").await.status, 200);
    let expired = server.wait().await;
    server.hide_from_the_clock(&expired).await;
    server.clock.advance(Duration::from_secs(30 * 60));
    let invalid = json!({ "decision": "maybe" });
    let valid = json!({ "decision": "approve" });
    let no_approval = ulid(&server.propose(json!({ "requiresApproval": false })).await);
    for id in [ABSENT, &decided, &expired, &no_approval] {
        let anonymous = server.public(Method::POST, &respond_path(id)).json(&invalid);
        assert_eq!(send(anonymous).await.refusal(), refused(401, "unauthorized"), "{id}");
        assert_eq!(member.post(&respond_path(id), &invalid).await.refusal(), refused(403, "forbidden"), "{id}");
        assert_eq!(member.post(&respond_path(id), &valid).await.refusal(), refused(403, "forbidden"), "{id}");
        assert_eq!(admin.post(&respond_path(id), &invalid).await.refusal(), refused(400, "validation_error"), "{id}");
        let long_key = admin.post_once(&respond_path(id), &"k".repeat(256), &valid).await;
        assert_eq!(long_key.refusal(), refused(400, "validation_error"), "{id}");
    }
    for (id, status, code) in [
        (ABSENT, 404, "approval_not_found"),
        (&no_approval, 404, "approval_not_found"),
        (&decided, 409, "already_decided"),
        (&expired, 409, "approval_expired"),
    ] {
        assert_eq!(admin.post(&respond_path(id), &valid).await.refusal(), refused(status, code), "{id}");
    }
    for (id, status, code) in [
        (ABSENT, 404, "remediation_not_found"),
        (&no_approval, 409, "invalid_state"),
        (&decided, 409, "already_decided"),
        (&expired, 409, "approval_expired"),
    ] {
        for decision in ["approve", "reject"] {
            let path = format!("/v1/remediation/rem_{id}/{decision}");
            let invalid = json!({ "notes": 1 });
            let anonymous = server.public(Method::POST, &path).json(&invalid);
            assert_eq!(send(anonymous).await.refusal(), refused(401, "unauthorized"), "{path}");
            assert_eq!(member.post(&path, &invalid).await.refusal(), refused(403, "forbidden"), "{path}");
            assert_eq!(admin.post(&path, &invalid).await.refusal(), refused(400, "validation_error"), "{path}");
            assert_eq!(admin.post(&path, &json!({})).await.refusal(), refused(status, code), "{path}");
        }
    }
    assert_eq!(server.told(&expired).await, ["remediation.proposed"], "a refused call changes nothing");
    assert_eq!(server.told(&no_approval).await, ["remediation.proposed"]);
}

#[tokio::test]
async fn what_is_no_answer_is_malformed() {
    let server = Server::start().await;
    let ulid = server.wait().await;
    for (body, fields) in [
        (json!({}), &["decision"][..]),
        (json!({ "decision": null }), &["decision"]),
        (json!({ "decision": "Approve" }), &["decision"]),
        (json!({ "decision": "approve " }), &["decision"]),
        (json!({ "decision": "" }), &["decision"]),
        (json!({ "decision": true }), &["decision"]),
        (json!({ "decision": ["approve"] }), &["decision"]),
        (json!({ "action": "approved" }), &["action"]),
        (json!({ "action": null }), &["action"]),
        (json!({ "decision": null, "action": "approve" }), &["decision"]),
        (json!({ "decision": "approve", "notes": 5 }), &["notes"]),
        (json!({ "decision": "approve", "notes": "a\u{0}" }), &["notes"]),
        (json!({ "decision": "approve", "notes": "a\r" }), &["notes"]),
        (json!({ "decision": "approve", "notes": "😀".repeat(2001) }), &["notes"]),
        (json!({ "decision": "maybe", "notes": {} }), &["decision", "notes"]),
        (json!([]), &["body"]),
        (json!("approve"), &["body"]),
    ] {
        let wrong = server.admin().post(&respond_path(&ulid), &body).await;
        assert_eq!(wrong.refusal(), refused(400, "validation_error"), "{body}");
        let details = wrong.json()["details"].as_array().unwrap().clone();
        let named: Vec<_> = details.iter().map(|detail| detail["field"].as_str().unwrap()).collect();
        assert_eq!(named, fields, "{body}");
    }
    assert_eq!(server.told(&ulid).await, ["remediation.proposed"]);
    let longest = json!({ "decision": "approve", "notes": "😀".repeat(2000) });
    assert_eq!(server.admin().post(&respond_path(&ulid), &longest).await.status, 200);
}

#[tokio::test]
async fn ids_that_were_never_given_are_not_found_whatever_they_look_like() {
    let server = Server::start().await;
    let ulid = server.wait().await;
    let approve = json!({ "decision": "approve" });
    let id = async |id: &str| server.admin().post(&format!("/v1/notifications/approvals/{id}/respond"), &approve).await;
    let never = id(&format!("apr_{ABSENT}")).await;
    assert_eq!(never.refusal(), refused(404, "approval_not_found"));
    let (lower, short, long) = (ulid.to_lowercase(), &ulid[1..], format!("{ulid}0"));
    for wrong in [
        &ulid,
        &format!("rem_{ulid}"),
        &format!("APR_{ulid}"),
        &format!("apr_{lower}"),
        &format!("apr_{short}"),
        &format!("apr_{long}"),
        &format!("apr_{ulid}%20"),
        &format!("apr_8{short}"),
        "apr_",
        "pending",
        "%FF",
        "%00",
        "a%23b",
        "%2F",
    ] {
        let answer = id(wrong).await;
        assert_eq!((answer.status, &answer.text), (never.status, &never.text), "{wrong}");
        // The form of the request comes first, also then.
        let path = format!("/v1/notifications/approvals/{wrong}/respond");
        assert_eq!(server.admin().post(&path, &json!({})).await.status, 400, "{wrong}");
        assert_eq!(server.admin().post_once(&path, &"k".repeat(256), &approve).await.status, 400, "{wrong}");
    }
    let never = server.member().get(&format!("/v1/remediation/rem_{ABSENT}")).await;
    assert_eq!(never.refusal(), refused(404, "remediation_not_found"));
    for wrong in [&ulid, &format!("apr_{ulid}"), &format!("rem_{lower}"), "%FF", "%2F", "rem_"] {
        let answer = server.member().get(&format!("/v1/remediation/{wrong}")).await;
        assert_eq!((answer.status, &answer.text), (never.status, &never.text), "{wrong}");
        for action in ["approve", "reject"] {
            let answer = server.admin().post(&format!("/v1/remediation/{wrong}/{action}"), &json!({})).await;
            assert_eq!((answer.status, &answer.text), (never.status, &never.text), "{wrong}");
        }
    }
    assert_eq!(id(&format!("apr_{ulid}")).await.status, 200, "none of these used it up");
}

#[tokio::test]
async fn waiting_approvals_are_listed_the_oldest_first() {
    let server = Server::start().await;
    let empty = server.member().get(PENDING).await;
    assert_eq!((empty.status, empty.text.as_str()), (200, r#"{"items":[],"total":0}"#));
    let mut ulids = Vec::new();
    for n in 0..7 {
        ulids.push(ulid(&server.propose(json!({ "title": format!("t{n}") })).await));
        server.clock.advance(Duration::from_secs(1));
    }
    server.propose(json!({ "requiresApproval": false })).await;
    let all = server.member().get(PENDING).await;
    let first = format!(
        r#"{{"items":[{{"approvalId":"apr_{0}","remediationId":"rem_{0}","incidentId":"inc_1","incidentTitle":"Checkout answers 503","remediationTitle":"t0","steps":["set DB_POOL_SIZE to 150","roll out"],"requestedAt":"2026-11-21T12:00:00Z","expiresAt":"2026-11-21T12:30:00Z"}},"#,
        ulids[0]
    );
    assert!(all.text.starts_with(&first), "{}", all.text);
    let all = all.json();
    assert_eq!((&all["total"], all.get("cursor")), (&json!(7), None));
    assert_eq!(ids(all["items"].as_array().unwrap()), ulids);

    let pages = server.admin().pages(&format!("{PENDING}?limit=3")).await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1]);
    assert_eq!(ids(&pages.concat()), ulids);
    let page = server.admin().get(&format!("{PENDING}?limit=3")).await.json();
    assert_eq!(page["total"], 3, "it counts what is on the page");

    assert_eq!(server.respond(&ulids[2], "approve").await.status, 200);
    assert_eq!(server.respond(&ulids[4], "reject").await.status, 200);
    let left = server.member().get(PENDING).await.json();
    let waiting: Vec<_> = ulids.iter().enumerate().filter(|(n, _)| ![2, 4].contains(n)).map(|(_, id)| id).collect();
    assert_eq!(ids(left["items"].as_array().unwrap()), waiting);
}

#[tokio::test]
async fn an_answer_costs_one_read_and_one_transaction() {
    let server = Server::doors_only().await;
    let ulids = [server.wait().await, server.wait().await, server.wait().await];
    let paths = [respond_path(&ulids[0]), format!("/v1/remediation/rem_{}/approve", ulids[1]), respond_path(&ulids[2])];
    for (path, key, items) in [(&paths[0], None, 2), (&paths[1], None, 2), (&paths[2], Some("k"), 3)] {
        let _ = server.table.take_calls();
        let body = json!({ "decision": "approve" });
        let answered = match key {
            None => server.admin().post(path, &body).await,
            Some(key) => server.admin().post_once(path, key, &body).await,
        };
        assert_eq!(answered.status, 200);
        let calls = server.table.take_calls();
        let calls: Vec<_> = calls.iter().map(|call| (call.operation.as_str(), call.items)).collect();
        assert_eq!(calls, [("GetItem", 0), ("TransactWriteItems", items)]);
    }
}
