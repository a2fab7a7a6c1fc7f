//! The audit log of agents' actions: listed, narrowed, exported, verified, and as the agents' SDK reads it.

use crate::actions::{HUMAN, MEDIUM, ORGANIZATION, OTHER_ORGANIZATION, Organization, code, eventually};
use crate::server::{Answer, send};
use futures_util::future::join_all;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use std::time::Duration;

const LOGS: &str = "/api/admin/audit-logs";
const COLUMNS: [&str; 9] = [
    "audit_id",
    "action_type",
    "user_id",
    "organization_id",
    "timestamp",
    "details",
    "ip_address",
    "user_agent",
    "correlation_id",
];

impl Organization {
    async fn logs(&self, query: &str) -> Value {
        self.get(&format!("{LOGS}{query}")).await.ok()
    }

    async fn export(&self, query: &str) -> Answer {
        let answer = self.get(&format!("{LOGS}/export?{query}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer
    }

    /// Submits with this `User-Agent`; the action's id.
    async fn submitted_by(&self, user_agent: &[u8]) -> u64 {
        let request = self.with(&self.key, Method::POST, "/api/v1/actions/submit");
        let request = request.header("User-Agent", HeaderValue::from_bytes(user_agent).unwrap());
        let answer = send(request.json(&json!({ "agent_id": "bot", "action_type": MEDIUM }))).await;
        answer.ok()["id"].as_u64().unwrap()
    }
}

fn names(logs: &Value) -> Vec<&str> {
    logs["logs"].as_array().unwrap().iter().map(|line| line["action_type"].as_str().unwrap()).collect()
}

/// A log with every kind of line: five actions, eleven lines, three days.
struct History {
    org: Organization,
    approved: u64,
    expired: u64,
}

impl History {
    async fn new() -> Self {
        let org = Organization::new().await;
        let approved = org.pending().await;
        org.server.clock.advance(Duration::from_secs(1));
        org.act(&org.admin, approved, "approve").await.ok();
        org.report(approved, "complete", &json!({})).await.ok();
        let failed = org.submitted(json!({ "action_type": "query" })).await;
        org.report(failed, "fail", &json!({})).await.ok();
        let rejected = org.pending().await;
        org.server.clock.advance(Duration::from_hours(12));
        org.act(&org.human(43, "manager"), rejected, "reject").await.coded();
        org.act(&org.human(43, "admin"), rejected, "reject").await.ok();
        let cancelled = org.post(&org.human(43, "user"), "/api/v1/actions/submit", &agent_of(43)).await.ok();
        org.act(&org.key, cancelled["id"].as_u64().unwrap(), "cancel").await.ok();
        let expired = org.pending().await;
        org.server.clock.advance(Duration::from_hours(24));
        eventually(2, async || org.trail(expired).await.len()).await;
        Self { org, approved, expired }
    }
}

fn agent_of(user: u64) -> Value {
    json!({ "agent_id": format!("agent of {user}"), "action_type": MEDIUM })
}

#[tokio::test]
async fn a_line_has_exactly_the_documented_fields() {
    let org = Organization::new().await;
    let id = org.pending().await;
    org.server.clock.advance(Duration::from_secs(9));
    let request = org.with(&org.admin, Method::POST, &format!("/api/v1/actions/{id}/approve"));
    send(request.header("User-Agent", "Mozilla/5.0...")).await.ok();
    let logs = org.logs("").await;
    let [approved, submitted] = &logs["logs"].as_array().unwrap()[..] else { panic!("{logs}") };
    let correlation = org.details(id).await["correlation_id"].clone();
    let audit_id = approved["audit_id"].as_u64().unwrap();
    assert!((1..1 << 53).contains(&audit_id));
    assert_ne!(approved["audit_id"], submitted["audit_id"]);
    assert_eq!(
        *approved,
        json!({
            "audit_id": audit_id, "action_type": "action_approved", "user_id": HUMAN, "organization_id": 7,
            "timestamp": "2026-11-21T12:00:09Z", "details": format!("Action {id} approved by user 42"),
            "ip_address": "127.0.0.1", "user_agent": "Mozilla/5.0...", "correlation_id": correlation,
        })
    );
    assert_eq!((&submitted["user_id"], &submitted["user_agent"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (&logs["total"], &logs["limit"], &logs["offset"], logs.as_object().unwrap().len()),
        (&json!(2), &json!(50), &json!(0), 4)
    );
}

#[tokio::test]
async fn the_log_has_every_kind_of_line_and_is_narrowed_by_each_filter() {
    let History { org, approved, expired } = History::new().await;
    let newest_first = [
        "action_expired",
        "action_submitted",
        "action_cancelled",
        "action_submitted",
        "action_denied",
        "action_failed",
        "action_submitted",
        "action_submitted",
        "action_completed",
        "action_approved",
        "action_submitted",
    ];
    let all = org.logs("").await;
    let mut shown = names(&all);
    assert_eq!((shown.first(), shown.last()), (newest_first.first(), newest_first.last()));
    let mut sorted = newest_first.to_vec();
    shown.sort_unstable();
    sorted.sort_unstable();
    assert_eq!(shown, sorted);
    let times: Vec<_> =
        all["logs"].as_array().unwrap().iter().map(|line| line["timestamp"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");

    for (query, count) in [
        (String::new(), 11),
        ("?action_type=action_submitted".to_owned(), 5),
        ("?action_type=action_approved".to_owned(), 1),
        ("?action_type=action_denied".to_owned(), 1),
        ("?action_type=action_cancelled".to_owned(), 1),
        ("?action_type=action_expired".to_owned(), 1),
        ("?action_type=action_completed".to_owned(), 1),
        ("?action_type=action_failed".to_owned(), 1),
        ("?user_id=42".to_owned(), 1),
        ("?user_id=43".to_owned(), 2),
        ("?user_id=043".to_owned(), 2),
        ("?user_id=44".to_owned(), 0),
        ("?user_id=-1".to_owned(), 0),
        ("?user_id=99999999999999999999".to_owned(), 0),
        ("?user_id=43&action_type=action_denied".to_owned(), 1),
        ("?user_id=42&action_type=action_denied".to_owned(), 0),
        (format!("?action_id={approved}"), 3),
        (format!("?action_id={approved}&action_type=action_approved"), 1),
        (format!("?action_id={approved}&user_id=42"), 1),
        (format!("?action_id={approved}&user_id=43"), 0),
        (format!("?action_id={expired}&start_date=2026-11-22"), 2),
        (format!("?action_id={expired}&end_date=2026-11-21"), 0),
        ("?action_id=4711".to_owned(), 0),
        ("?action_id=0".to_owned(), 0),
        ("?action_id=99999999999999999999".to_owned(), 0),
        // The first day ended at midnight, which is when the second one began.
        ("?start_date=2026-11-21&end_date=2026-11-21".to_owned(), 6),
        ("?end_date=2026-11-21".to_owned(), 6),
        ("?start_date=2026-11-22".to_owned(), 5),
        ("?start_date=2026-11-22&end_date=2026-11-22".to_owned(), 4),
        ("?start_date=2026-11-23".to_owned(), 1),
        ("?start_date=2026-11-24".to_owned(), 0),
        ("?start_date=2026-11-22&end_date=2026-11-21".to_owned(), 0),
        // A second is included as a whole: these are at a quarter past it.
        ("?start_date=2026-11-21T12:00:00Z&end_date=2026-11-21T12:00:00Z".to_owned(), 1),
        ("?start_date=2026-11-21T12:00:01Z&end_date=2026-11-21T12:00:01Z".to_owned(), 5),
        ("?start_date=2026-11-21T12:00:01.250Z&end_date=2026-11-21".to_owned(), 5),
        ("?start_date=2026-11-21T12:00:01.251Z&end_date=2026-11-21".to_owned(), 0),
        ("?start_date=2026-11-21T14:00:01%2B02:00&end_date=2026-11-21".to_owned(), 5),
        ("?start_date=2026-11-21&end_date=2026-11-21&action_type=action_submitted&user_id=43".to_owned(), 0),
        ("?start_date=2026-11-22&action_type=action_submitted&user_id=43".to_owned(), 1),
    ] {
        let logs = org.logs(&query).await;
        assert_eq!((logs["total"].as_u64(), names(&logs).len()), (Some(count), count as usize), "{query}");
        let rows = org.export(&format!("format=ndjson&{}", query.trim_start_matches('?'))).await.text;
        assert_eq!(rows.lines().count(), count as usize, "the export takes the same filters: {query}");
    }
}

#[tokio::test]
async fn a_filter_that_cannot_be_is_refused() {
    let org = Organization::new().await;
    for wrong in [
        "limit=0",
        "limit=1001",
        "limit=a",
        "offset=-1",
        "offset=10001",
        "start_date=yesterday",
        "start_date=",
        "start_date=2026-13-01",
        "start_date=2026-11-21T12:00:00",
        "end_date=21.11.2026",
        "end_date=2026-02-30",
        "end_date=20261121",
        "action_type=approved",
        "action_type=",
        "user_id=alice",
        "user_id=1.5",
        "user_id=1e3",
        "user_id=%205",
        "user_id=",
        "action_id=abc",
        "action_id=%2B5",
        "limit=1&limit=2",
        "user_id=1&user_id=1",
    ] {
        assert_eq!(org.get(&format!("{LOGS}?{wrong}")).await.coded(), code(422, "VALIDATION_ERROR"), "{wrong}");
        let export = org.get(&format!("{LOGS}/export?format=csv&{wrong}")).await;
        if wrong != "limit=1001" {
            assert_eq!(export.coded(), code(422, "VALIDATION_ERROR"), "export {wrong}");
        }
    }
    for wrong in ["", "format=", "format=xml", "format=CSV", "format=csv&format=csv", "format=csv&limit=10001"] {
        assert_eq!(org.get(&format!("{LOGS}/export?{wrong}")).await.coded(), code(422, "VALIDATION_ERROR"), "{wrong}");
    }
    for wrong in ["cursor=x", "cursor="] {
        assert_eq!(org.get(&format!("{LOGS}/verify?{wrong}")).await.coded(), code(422, "VALIDATION_ERROR"), "{wrong}");
    }
    for wrong in ["limit=0", "limit=1001", "offset=10001", "offset=x"] {
        assert_eq!(org.get(&format!("/audit/logs?{wrong}")).await.coded(), code(422, "VALIDATION_ERROR"), "{wrong}");
    }
}

#[tokio::test]
async fn the_log_is_for_admins() {
    let org = Organization::new().await;
    org.pending().await;
    let expired = org.server.token_with(ORGANIZATION, "42", &["user"], &json!({ "exp": 1_700_000_000 }));
    for path in [LOGS, &format!("{LOGS}/export?format=csv"), &format!("{LOGS}/verify")] {
        for (bearer, expected) in [
            (None, code(401, "MISSING_AUTH")),
            (Some(org.key.clone()), code(401, "INVALID_TOKEN")),
            (Some("a.b.c".to_owned()), code(401, "INVALID_TOKEN")),
            (Some(expired.clone()), code(401, "EXPIRED_TOKEN")),
            (Some(org.human(42, "security_manager")), code(403, "FORBIDDEN")),
            (Some(org.human(42, "manager")), code(403, "FORBIDDEN")),
            (Some(org.human(42, "user")), code(403, "FORBIDDEN")),
            (
                Some(org.server.token_with(ORGANIZATION, "42", &["manager"], &json!({ "approval_level": 4 }))),
                code(403, "FORBIDDEN"),
            ),
        ] {
            // 401 and 403 come before the form.
            for wrong in ["", "limit=x"] {
                let joined = if path.contains('?') { format!("{path}&{wrong}") } else { format!("{path}?{wrong}") };
                let request = org.server.public(Method::GET, &joined);
                let request = bearer.iter().fold(request, |request, bearer| request.bearer_auth(bearer));
                assert_eq!(send(request).await.coded(), expected, "{joined}");
            }
        }
        assert_eq!(org.get(path).await.status, 200, "{path}");
        let lower = org.server.token_with(ORGANIZATION, "42", &["admin"], &json!({ "approval_level": 1 }));
        assert_eq!(send(org.with(&lower, Method::GET, path)).await.status, 200, "the role counts, not the level");
    }
}

#[tokio::test]
async fn the_log_and_its_exports_are_read_by_offset() {
    let org = Organization::new().await;
    for _ in 0..7 {
        org.pending().await;
        org.server.clock.advance(Duration::from_secs(1));
    }
    let whole = org.logs("").await["logs"].clone();
    let follow = async |first: &str| {
        let (mut next, mut pages) = (first.to_owned(), Vec::new());
        loop {
            let page = org.get(&next).await;
            assert_eq!(page.status, 200, "{next}");
            let link = page.header("link").map(str::to_owned);
            pages.push(page);
            let Some(link) = link else { return pages };
            next = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
        }
    };
    let pages = follow(&format!("{LOGS}?limit=3&action_type=action_submitted")).await;
    let rows: Vec<_> = pages.iter().flat_map(|page| page.json()["logs"].as_array().unwrap().clone()).collect();
    assert_eq!((json!(rows), pages.len()), (whole.clone(), 3));
    assert!(pages.iter().all(|page| page.json()["total"] == 7 && page.json()["limit"] == 3));
    assert_eq!(pages[2].json()["offset"], 6);

    let pages = follow(&format!("{LOGS}/export?format=ndjson&limit=3")).await;
    let rows: Vec<Value> = pages
        .iter()
        .flat_map(|page| page.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>())
        .collect();
    assert_eq!((json!(rows), pages.len()), (whole.clone(), 3));

    let pages = follow(&format!("{LOGS}/export?format=csv&limit=3&offset=1")).await;
    assert_eq!(pages.len(), 2);
    for page in &pages {
        assert!(page.text.starts_with("audit_id,"), "each part has its header");
    }
    let pages = follow("/audit/logs?limit=3").await;
    let events: Vec<_> = pages.iter().flat_map(|page| page.json()["events"].as_array().unwrap().clone()).collect();
    assert_eq!((events.len(), pages.len(), pages[1].json()["page"].clone()), (7, 3, json!(2)));
    for past in ["?offset=7", "?offset=10000&limit=1000"] {
        let end = org.get(&format!("{LOGS}{past}")).await;
        assert_eq!(
            (end.json()["logs"].clone(), end.json()["total"].clone(), end.header("link")),
            (json!([]), json!(7), None)
        );
    }
}

#[tokio::test]
async fn an_export_as_csv_is_read_back_by_any_reader_and_has_no_formula() {
    let org = Organization::new().await;
    let user_agents: [(&str, &str); 14] = [
        ("=HYPERLINK(\"http://x\",\"y\")", "'=HYPERLINK(\"http://x\",\"y\")"),
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("＝1", "'＝1"),
        ("＋1", "'＋1"),
        ("－1", "'－1"),
        ("＠1", "'＠1"),
        ("a,b", "a,b"),
        ("say \"hi\"", "say \"hi\""),
        ("a=1", "a=1"),
        ("'", "'"),
        ("ü; b", "ü; b"),
    ];
    for (user_agent, _) in user_agents {
        org.submitted_by(user_agent.as_bytes()).await;
        org.server.clock.advance(Duration::from_secs(1));
    }
    org.act(&org.admin, org.pending().await, "approve").await.ok();
    let export = org.export("format=csv").await;
    assert_eq!(export.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    assert!(export.text.lines().count() == 17 && export.text.matches("\r\n").count() == 17, "{}", export.text);
    assert!(export.text.contains(r#""say ""hi""""#), "{}", export.text);
    let mut reader = csv::Reader::from_reader(export.text.as_bytes());
    assert_eq!(reader.headers().unwrap().iter().collect::<Vec<_>>(), COLUMNS);
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let lines = org.logs("").await["logs"].clone();
    for (row, line) in rows.iter().zip(lines.as_array().unwrap()) {
        for (cell, column) in row.iter().zip(COLUMNS) {
            let plain = match &line[column] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
            };
            let shown = user_agents.iter().find(|(sent, _)| *sent == plain).map_or(plain.as_str(), |(_, shown)| shown);
            assert_eq!(cell, shown, "{column}");
        }
    }
    let mut shown: Vec<_> = rows.iter().map(|row| row[7].to_owned()).filter(|name| !name.is_empty()).collect();
    shown.reverse();
    assert_eq!(shown, user_agents.map(|(_, shown)| shown));
    assert_eq!(&rows[0][2], rows[0][2].parse::<u64>().map_or("", |_| &rows[0][2]), "a user is a number or nothing");
}

#[tokio::test]
async fn an_export_as_ndjson_has_the_lines_of_the_list() {
    let org = Organization::new().await;
    org.submitted_by("=1+1 \"ü\"".as_bytes()).await;
    org.act(&org.admin, org.pending().await, "reject").await.ok();
    let export = org.export("format=ndjson").await;
    assert_eq!(export.header("content-type"), Some("application/x-ndjson"));
    assert!(export.text.ends_with('\n'));
    let lines: Vec<Value> = export.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json!(lines), org.logs("").await["logs"]);
    assert_eq!(org.export("format=ndjson&user_id=1").await.text, "");
}

#[tokio::test]
async fn the_sdk_sees_the_log_as_events() {
    let org = Organization::new().await;
    let id = org.pending().await;
    org.server.clock.advance(Duration::from_secs(1));
    org.act(&org.admin, id, "approve").await.ok();
    let line = org.logs("?limit=1").await["logs"][0].clone();
    let log = send(org.with(&org.key, Method::GET, "/audit/logs?limit=1")).await.ok();
    assert_eq!(
        log,
        json!({
            "events": [{
                "event_id": line["audit_id"].to_string(), "event_type": "action_approved",
                "timestamp": "2026-11-21T12:00:01Z", "actor": "42", "resource": format!("action/{id}"),
                "action": "approved", "outcome": "recorded",
                "details": {
                    "text": line["details"], "correlation_id": line["correlation_id"],
                    "ip_address": "127.0.0.1", "user_agent": null,
                },
            }],
            "total": 2, "page": 1, "page_size": 1,
        })
    );
    let submitted = send(org.with(&org.key, Method::GET, "/audit/logs?limit=1&offset=1")).await.ok();
    let actor = submitted["events"][0]["actor"].as_str().unwrap().to_owned();
    assert!(actor.starts_with("key:key_") && !actor.contains(&org.key), "a key is named by its id: {actor}");
    assert_eq!((&submitted["page"], &submitted["events"][0]["action"]), (&json!(2), &json!("submitted")));
}

#[tokio::test]
async fn a_log_verifies_until_something_was_changed_behind_its_back() {
    let org = Organization::doors_only().await;
    let verify = async || org.get(&format!("{LOGS}/verify")).await.ok();
    assert_eq!(verify().await, json!({ "valid": true, "entries": 0, "firstBroken": null }));
    let [first, second] = [org.pending().await, org.pending().await];
    org.act(&org.admin, first, "approve").await.ok();
    org.act(&org.admin, second, "reject").await.ok();
    // An event for the world and a line for the log each.
    assert_eq!(verify().await, json!({ "valid": true, "entries": 8, "firstBroken": null }));
    let line = async |id: u64, name: &str| {
        org.logs(&format!("?action_id={id}&action_type={name}")).await["logs"][0]["audit_id"].clone()
    };
    let (approval, submission) = (line(first, "action_approved").await, line(first, "action_submitted").await);
    let prefix = format!("action#{ORGANIZATION}#{first}");
    // The action is not what its last line made of it.
    let tampered = org.server.table.tamper("countersign", &prefix, "\"risk_score\":45", "\"risk_score\":5").await;
    assert_eq!(tampered, 1);
    let broken = verify().await;
    assert_eq!((&broken["valid"], &broken["firstBroken"]), (&json!(false), &approval));
    assert_eq!(org.server.table.tamper("countersign", &prefix, "\"risk_score\":5", "\"risk_score\":45").await, 1);
    assert_eq!(verify().await["valid"], true);
    // A line is not what was written.
    let dump: Value = serde_json::from_str(&org.server.table.dump("countersign").await).unwrap();
    let items = dump["Items"].as_array().unwrap();
    let mut change = items
        .iter()
        .find(|item| item["pk"]["S"] == prefix.as_str() && item["sk"]["S"] == "change#0000000001")
        .unwrap()
        .clone();
    change["body"]["S"] = change["body"]["S"].as_str().unwrap().replace("agent bot", "agent cat").into();
    org.server.table.put_items("countersign", &[change]).await.unwrap();
    let broken = verify().await;
    assert_eq!((&broken["valid"], &broken["firstBroken"]), (&json!(false), &submission));
    // What another organization keeps is not touched by it.
    let other = org.server.token(OTHER_ORGANIZATION, "42", &["admin"]);
    let other = send(org.with(&other, Method::GET, &format!("{LOGS}/verify"))).await.ok();
    assert_eq!(other, json!({ "valid": true, "entries": 0, "firstBroken": null }));
}

#[tokio::test]
async fn what_was_written_beside_an_action_is_verified_too() {
    let org = Organization::doors_only().await;
    let id = org.submitted(json!({ "context": { "amount": 1 } })).await;
    let line = org.logs("").await["logs"][0]["audit_id"].clone();
    let dump: Value = serde_json::from_str(&org.server.table.dump("countersign").await).unwrap();
    let pk = format!("action#{ORGANIZATION}#{id}");
    let input = dump["Items"].as_array().unwrap().iter();
    let mut input = input.filter(|item| item["pk"]["S"] == pk.as_str() && item["sk"]["S"] == "@input").cloned();
    let mut input = input.next().unwrap();
    input["body"]["S"] = input["body"]["S"].as_str().unwrap().replace("\"amount\":1", "\"amount\":2").into();
    org.server.table.put_items("countersign", &[input]).await.unwrap();
    let broken = org.get(&format!("{LOGS}/verify")).await.ok();
    assert_eq!((&broken["valid"], &broken["firstBroken"]), (&json!(false), &line));
}

/// Every answer with many rows ends at 4 MB and says where it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_ends_at_four_megabytes_and_says_where_it_goes_on() {
    let org = Organization::new().await;
    let text = "🔥".repeat(500);
    let body = json!({
        "agent_id": text, "agent_name": text, "action_type": MEDIUM, "resource": text, "resource_id": text,
    });
    let submit = || async {
        let request = org.with(&org.key, Method::POST, "/api/v1/actions/submit");
        let request = request.header("User-Agent", HeaderValue::from_bytes(text.as_bytes()).unwrap());
        send(request.json(&body)).await.ok();
    };
    for _ in 0..50 {
        join_all((0..20).map(|_| submit())).await;
    }
    for (path, rows) in [
        ("/api/v1/actions", ""),
        ("/api/agent-activity", ""),
        (LOGS, "/logs"),
        ("/audit/logs", "/events"),
        (&format!("{LOGS}/export?format=csv"), "csv"),
        (&format!("{LOGS}/export?format=ndjson"), "ndjson"),
    ] {
        let separator = if path.contains('?') { '&' } else { '?' };
        let (mut next, mut seen, mut pages) = (format!("{path}{separator}limit=1000"), 0, 0);
        loop {
            let page = org.get(&next).await;
            assert_eq!(page.status, 200, "{path}");
            assert!(page.text.len() < 4_010_000, "{path}: {}", page.text.len());
            pages += 1;
            seen += match rows {
                "csv" => page.text.lines().count() - 1,
                "ndjson" => page.text.lines().count(),
                pointer => page.json().pointer(pointer).unwrap().as_array().unwrap().len(),
            };
            let Some(link) = page.header("link") else { break };
            next = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
        }
        assert_eq!(seen, 1000, "{path}");
        assert!(pages > 1, "{path}");
    }
}
