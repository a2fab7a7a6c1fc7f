//! The audit log of remediations: every entry once, in order, and whatever was changed behind its back is found.

use crate::approvals::{TENANT, refused, ulid};
use crate::server::Server;
use countersign_domain::remediation::Remediation;
use countersign_store::Key;
use serde_json::{Value, json};
use std::time::Duration;

fn column(rows: &[Value], field: &str) -> Vec<String> {
    rows.iter().map(|row| row[field].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_entry_is_shown_with_who_what_and_when() {
    let server = Server::start().await;
    let id = server.wait().await;
    server.clock.advance(Duration::from_secs(60));
    let path = crate::approvals::respond_path(&id);
    let decided = server.admin().post(&path, &json!({ "decision": "approve", "notes": "go" })).await;
    assert_eq!(decided.status, 200);
    let log = server.admin().get("/v1/audit").await;
    let log = (log.status, log.json());
    let tenant = TENANT.parse().unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let history = server.app.store.history(&Key::<Remediation>::new(&tenant, &id), deadline).await.unwrap();
    let expected = json!({ "items": [
        {
            "entryId": format!("rem_{id}.1.1"), "event": "remediation.proposed",
            "actor": "user:countersign-local:agent-7", "at": "2026-11-21T12:00:00Z", "incidentId": "inc_1",
            "remediationId": format!("rem_{id}"), "approvalId": format!("apr_{id}"),
            "details": {
                "incidentTitle": "Checkout answers 503", "title": "Scale the connection pool", "stepCount": 2,
                "requiresApproval": true, "proposedAt": "2026-11-21T12:00:00Z", "expiresAt": "2026-11-21T12:30:00Z",
            },
            "prevHash": "0".repeat(64), "hash": history[0].hash,
        },
        {
            "entryId": format!("rem_{id}.2.1"), "event": "remediation.approved",
            "actor": "user:countersign-local:alice", "at": "2026-11-21T12:01:00Z", "incidentId": "inc_1",
            "remediationId": format!("rem_{id}"), "approvalId": format!("apr_{id}"),
            "details": {
                "decision": "approve", "decidedBy": "alice", "decidedAt": "2026-11-21T12:01:00Z", "notes": "go",
            },
            "prevHash": history[0].hash, "hash": history[1].hash,
        },
    ] });
    assert_eq!(log, (200, expected));
}

#[tokio::test]
async fn the_log_is_read_page_by_page_and_by_incident() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for incident in ["inc_1", "inc:2", "inc_1"] {
        ids.push(ulid(&server.propose(json!({ "incidentId": incident, "requiresApproval": false })).await));
        server.clock.advance(Duration::from_secs(1));
    }
    for step in ["step_1", "step_2"] {
        let path = format!("/v1/remediation/rem_{}/steps/{step}", ids[0]);
        assert_eq!(server.member().post(&path, &json!({ "status": "completed" })).await.status, 200);
    }
    let id = |n: usize, entry: &str| format!("rem_{}.{entry}", ids[n]);
    // Completing the last step ends the remediation in the same change, whose entries share a hash.
    let first = [id(0, "1.1"), id(0, "2.1"), id(0, "3.1"), id(0, "3.2")].to_vec();
    let all = [first.clone(), vec![id(1, "1.1"), id(2, "1.1")]].concat();
    for limit in [1, 2, 3, 4, 5, 6, 100] {
        let pages = server.admin().pages(&format!("/v1/audit?limit={limit}")).await;
        assert_eq!(column(&pages.concat(), "entryId"), all, "{limit}");
        assert_eq!(pages.len(), all.len().div_ceil(limit), "{limit}");
    }
    let rows = server.admin().pages("/v1/audit").await.concat();
    assert_eq!(rows[2]["hash"], rows[3]["hash"]);
    assert_eq!(rows[0]["approvalId"], Value::Null);
    let events =
        ["remediation.proposed", "remediation.step_completed", "remediation.step_completed", "remediation.executed"];
    assert_eq!(column(&rows[..4], "event"), events);

    let of_incident = server.admin().pages("/v1/audit?incidentId=inc_1&limit=2").await.concat();
    assert_eq!(column(&of_incident, "entryId"), [first, vec![id(2, "1.1")]].concat());
    let of_other = server.admin().pages("/v1/audit?incidentId=inc:2").await.concat();
    assert_eq!(column(&of_other, "entryId"), [id(1, "1.1")]);
    assert_eq!(server.admin().get("/v1/audit?incidentId=none").await.text, r#"{"items":[]}"#);
}

#[tokio::test]
async fn a_chain_is_whole_until_someone_changes_what_is_stored() {
    let server = Server::start().await;
    let verify = async || server.admin().get("/v1/audit/verify").await;
    assert_eq!(verify().await.text, r#"{"valid":true,"entries":0,"firstBroken":null}"#);
    let first = server.wait().await;
    server.clock.advance(Duration::from_secs(1));
    let second = ulid(&server.propose(json!({ "title": "marked" })).await);
    assert_eq!(server.respond(&first, "approve").await.status, 200);
    assert_eq!(verify().await.text, r#"{"valid":true,"entries":3,"firstBroken":null}"#);

    // A field of a record: what its last change says is not so.
    assert_eq!(server.table.tamper("countersign", "remediation#acme#", "marked", "market").await, 1);
    let broken = verify().await;
    assert_eq!((broken.status, broken.json()["valid"].clone()), (200, json!(false)));
    assert_eq!(broken.json()["firstBroken"], format!("rem_{second}.1.1"));
    assert_eq!(server.table.tamper("countersign", "remediation#acme#", "market", "marked").await, 1);
    assert_eq!(verify().await.json()["valid"], true);

    // A change: who decided.
    edit(&server, &first, "change#0000000002", "alice", "malice").await;
    assert_eq!(
        verify().await.json(),
        json!({ "valid": false, "entries": 0, "firstBroken": format!("rem_{first}.2.1") })
    );
    edit(&server, &first, "change#0000000002", "malice", "alice").await;
    assert_eq!(verify().await.json()["valid"], true);

    // What lies beside a record.
    edit(&server, &first, "@input", "roll out", "roll over").await;
    assert_eq!(verify().await.json()["firstBroken"], format!("rem_{first}.1.1"));
}

/// Replaces a text in an item of a remediation behind the store's back.
async fn edit(server: &Server, ulid: &str, sk: &str, from: &str, to: &str) {
    let dump: Value = serde_json::from_str(&server.table.dump("countersign").await).unwrap();
    let pk = format!("remediation#{TENANT}#{ulid}");
    let items = dump["Items"].as_array().unwrap();
    let mut item = items.iter().find(|item| item["pk"]["S"] == pk && item["sk"]["S"] == sk).unwrap().clone();
    let body = item["body"]["S"].as_str().unwrap();
    assert!(body.contains(from), "{body}");
    item["body"]["S"] = body.replace(from, to).into();
    server.table.put_items("countersign", &[item]).await.unwrap();
}

#[tokio::test]
async fn a_refused_call_leaves_no_entry() {
    let server = Server::start().await;
    let id = server.wait().await;
    assert_eq!(server.respond(&id, "reject").await.status, 200);
    let before = server.admin().get("/v1/audit").await.text;
    assert_eq!(server.respond(&id, "approve").await.refusal(), refused(409, "already_decided"));
    assert_eq!(server.respond(&id, "maybe").await.refusal(), refused(400, "validation_error"));
    let path = format!("/v1/remediation/rem_{id}/steps/step_1");
    let report = server.member().post(&path, &json!({ "status": "running" })).await;
    assert_eq!(report.refusal(), refused(409, "invalid_state"));
    assert_eq!(server.admin().get("/v1/audit").await.text, before);
}
