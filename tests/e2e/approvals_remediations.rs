//! Remediations: proposing them, following them, and reporting on their steps.

use crate::approvals::{ABSENT, TENANT, proposal, refused, ulid};
use crate::server::{Answer, Server, send};
use countersign_domain::EntryClass;
use countersign_domain::remediation::{Progress, Refusal, Remediation, Report};
use countersign_store::{Call, Committed, Key};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const PAGE_BYTES: usize = 4_000_000;

impl Server {
    async fn report(&self, ulid: &str, step: &str, body: &Value) -> Answer {
        self.member().post(&format!("/v1/remediation/rem_{ulid}/steps/{step}"), body).await
    }

    /// Reports that must succeed; the object afterwards.
    async fn reported(&self, ulid: &str, step: &str, status: &str) -> Value {
        let reported = self.report(ulid, step, &json!({ "status": status })).await;
        assert_eq!(reported.status, 200, "{reported:?}");
        reported.json()
    }

    /// Completes the steps of a remediation with this output each, behind the door.
    async fn complete_with_output(&self, ulid: &str, steps: usize, output: &str) {
        let key = Key::<Remediation>::new(&TENANT.parse().unwrap(), ulid);
        let by = countersign_domain::Actor::Clock;
        for number in 1..=steps {
            let step_id = format!("step_{number}");
            let report = Report { step_id, progress: Progress::Completed, output: Some(output.to_owned()) };
            let call = Call { deadline: Instant::now() + Duration::from_secs(30), once: None };
            let rule = |found: Option<&Remediation>, now| found.ok_or(Refusal::NotFound)?.report(&report, &by, now);
            let done = self.app.store.change(&key, call, rule, |_| Ok(()), |()| Ok(String::new())).await;
            assert_eq!(done.unwrap().committed, Committed::Now(()));
        }
    }
}

fn words<'a>(remediation: &'a Value, field: &str) -> Vec<&'a str> {
    remediation["steps"].as_array().unwrap().iter().map(|step| step[field].as_str().unwrap()).collect()
}

fn steps(count: usize, description: &str) -> Value {
    vec![json!({ "description": description }); count].into()
}

#[tokio::test]
async fn a_proposed_remediation_is_answered_as_it_is_shown_from_then_on() {
    let server = Server::start().await;
    let created = server.member().post("/v1/remediation", &proposal(json!({ "unknown": 1 }))).await;
    assert_eq!((created.status, created.header("content-type")), (201, Some("application/json")));
    let id = ulid(&created.json());
    let step = |number: u32, description: &str| {
        format!(
            r#"{{"stepId":"step_{number}","description":"{description}","status":"pending","completedAt":null,"output":null}}"#
        )
    };
    let expected = format!(
        r#"{{"remediationId":"rem_{id}","incidentId":"inc_1","incidentTitle":"Checkout answers 503","title":"Scale the connection pool","status":"proposed","requiresApproval":true,"approvalId":"apr_{id}","approvedBy":null,"approvedAt":null,"rejectedBy":null,"rejectedAt":null,"notes":null,"steps":[{},{}],"outcome":null,"proposedAt":"2026-11-21T12:00:00Z","expiresAt":"2026-11-21T12:30:00Z","executedAt":null}}"#,
        step(1, "set DB_POOL_SIZE to 150"),
        step(2, "roll out"),
    );
    assert_eq!(created.text, expected);
    let shown = server.admin().get(&format!("/v1/remediation/rem_{id}")).await;
    assert_eq!((shown.status, &shown.text), (200, &created.text));
    let listed = server.admin().get("/v1/remediation").await;
    assert_eq!(listed.text, format!(r#"{{"items":[{expected}],"count":1}}"#));
    assert_eq!(server.told(&id).await, ["remediation.proposed"]);
}

#[tokio::test]
async fn ids_are_distinct_and_sort_by_the_millisecond_of_their_creation() {
    let server = Server::start().await;
    let [first, second] = [server.wait().await, server.wait().await];
    assert_eq!(first[..10], second[..10]);
    assert_ne!(first, second);
    server.clock.advance(Duration::from_millis(1));
    assert!(server.wait().await > first.max(second));
}

#[tokio::test]
async fn one_that_needs_no_approval_is_executing_at_once() {
    let server = Server::start().await;
    let created = server.propose(json!({ "requiresApproval": false })).await;
    assert_eq!(
        (&created["status"], &created["requiresApproval"], &created["approvalId"], &created["expiresAt"]),
        (&json!("executing"), &json!(false), &Value::Null, &Value::Null)
    );
    let id = ulid(&created);
    assert_eq!(server.remediation(&id).await, created);
    assert_eq!(server.respond(&id, "approve").await.refusal(), refused(404, "approval_not_found"));
    assert_eq!(server.told(&id).await, ["remediation.proposed"]);
    // Nothing happens when the time is over that an approval would have had.
    server.clock.advance(Duration::from_hours(1000));
    assert_eq!(server.remediation(&id).await, created);
}

#[tokio::test]
async fn what_is_left_out_has_its_documented_default() {
    let server = Server::start().await;
    let nulls = json!({ "incidentId": null, "timeoutMinutes": null, "requiresApproval": null });
    let body = proposal(nulls);
    let created = server.member().post("/v1/remediation", &body).await.json();
    let minted = created["incidentId"].as_str().unwrap();
    assert!(minted.starts_with("inc_") && minted.len() == 30, "{minted}");
    assert_ne!(minted[4..], ulid(&created));
    assert_eq!((&created["expiresAt"], &created["requiresApproval"]), (&json!("2026-11-21T12:30:00Z"), &json!(true)));
    let mut bare = body;
    for field in ["incidentId", "timeoutMinutes", "requiresApproval"] {
        bare.as_object_mut().unwrap().remove(field);
    }
    let again = server.member().post("/v1/remediation", &bare).await.json();
    assert_eq!((&again["expiresAt"], again["status"].as_str()), (&created["expiresAt"], Some("proposed")));
    assert_ne!(again["incidentId"], created["incidentId"]);
    for (minutes, expires_at) in [
        (json!(1), "2026-11-21T12:01:00Z"),
        (json!(10_080.0), "2026-11-28T12:00:00Z"),
        (json!(60), "2026-11-21T13:00:00Z"),
    ] {
        assert_eq!(server.propose(json!({ "timeoutMinutes": minutes })).await["expiresAt"], expires_at);
    }
}

#[tokio::test]
async fn the_longest_texts_are_kept_and_anything_longer_is_malformed() {
    let server = Server::start().await;
    let longest = json!({
        "incidentId": "aZ09_.:-".repeat(8), "incidentTitle": "😀".repeat(300), "title": "ü\n\t".repeat(100),
        "steps": steps(1, &"😀".repeat(2000)),
    });
    let created = server.propose(longest.clone()).await;
    assert_eq!(
        (&created["incidentTitle"], &created["title"], &created["steps"][0]["description"]),
        (&longest["incidentTitle"], &longest["title"], &longest["steps"][0]["description"])
    );
    assert_eq!(server.remediation(&ulid(&created)).await, created);
    let nothing = Value::Null;
    for (field, wrong) in [
        ("incidentId", vec![json!(""), json!("a".repeat(65)), json!("a b"), json!("ä"), json!(5), json!("a#b")]),
        (
            "incidentTitle",
            vec![nothing.clone(), json!(""), json!("a".repeat(301)), json!("a\u{7}"), json!(5), json!([])],
        ),
        ("title", vec![nothing.clone(), json!(""), json!("a".repeat(301)), json!("a\u{0}b"), json!({}), json!(true)]),
        (
            "steps",
            vec![
                nothing.clone(),
                json!([]),
                json!({}),
                json!("step"),
                steps(51, "d"),
                steps(1, ""),
                steps(1, &"d".repeat(2001)),
                steps(1, "a\r\nb"),
                json!(["d"]),
                json!([{}]),
                json!([{ "description": null }]),
                json!([{ "description": 5 }]),
                json!([{ "description": "d" }, null]),
            ],
        ),
        (
            "timeoutMinutes",
            vec![json!(0), json!(-1), json!(10_081), json!(1.5), json!("30"), json!(1e300), json!([30])],
        ),
        ("requiresApproval", vec![json!("true"), json!(1), json!([])]),
    ] {
        for value in wrong {
            let body = proposal(json!({ field: value }));
            let wrong = server.member().post("/v1/remediation", &body).await;
            assert_eq!(wrong.refusal(), refused(400, "validation_error"), "{field} {value}");
            assert_eq!(wrong.json()["details"][0]["field"], field, "{value}");
            assert_eq!(wrong.json()["details"].as_array().unwrap().len(), 1, "{field} {value}");
        }
    }
    let none = server.member().post("/v1/remediation", &json!({})).await.json();
    assert_eq!(none["details"].as_array().unwrap().len(), 3, "all that is missing is named: {none}");
    assert_eq!(server.member().get("/v1/remediation").await.json()["count"], 1, "nothing else was created");
}

#[tokio::test]
async fn the_largest_request_that_is_read_can_be_proposed_with_an_idempotency_key() {
    let server = Server::start().await;
    // 50 steps of as many characters of four bytes as 256 KiB have room for.
    let body = proposal(json!({ "steps": steps(50, &"😀".repeat(1290)), "title": "\"\\".repeat(150) }));
    assert!((250_000..=256 * 1024).contains(&body.to_string().len()), "{}", body.to_string().len());
    let created = server.member().post_once("/v1/remediation", "k", &body).await;
    assert_eq!(created.status, 201);
    let again = server.member().post_once("/v1/remediation", "k", &body).await;
    assert_eq!((again.header("idempotency-replayed"), &again.text), (Some("true"), &created.text));
    assert_eq!(server.remediation(&ulid(&created.json())).await, created.json());
}

#[tokio::test]
async fn a_remediation_is_followed_step_by_step_to_its_end() {
    let server = Server::start().await;
    let id = server.wait().await;
    assert_eq!(server.respond(&id, "approve").await.status, 200);
    let approved = server.remediation(&id).await;
    assert_eq!(
        (&approved["status"], &approved["approvedBy"], &approved["approvedAt"], &approved["outcome"]),
        (&json!("executing"), &json!("alice"), &json!("2026-11-21T12:00:00Z"), &Value::Null)
    );

    server.clock.advance(Duration::from_secs(10));
    let running = server.reported(&id, "step_1", "running").await;
    assert_eq!(words(&running, "status"), ["running", "pending"]);
    assert_eq!(running["steps"][0]["completedAt"], Value::Null);
    server.clock.advance(Duration::from_secs(10));
    let completed = server.reported(&id, "step_1", "completed").await;
    assert_eq!(words(&completed, "status"), ["completed", "pending"]);
    assert_eq!(completed["steps"][0]["completedAt"], "2026-11-21T12:00:20Z");
    assert_eq!((&completed["status"], &completed["executedAt"]), (&json!("executing"), &Value::Null));

    server.clock.advance(Duration::from_secs(10));
    // Running may be left out.
    let executed = server.reported(&id, "step_2", "completed").await;
    assert_eq!(words(&executed, "status"), ["completed", "completed"]);
    assert_eq!(
        (&executed["status"], &executed["executedAt"], &executed["outcome"]),
        (&json!("executed"), &json!("2026-11-21T12:00:30Z"), &json!("resolved"))
    );
    assert_eq!(server.remediation(&id).await, executed);
    let told = [
        "remediation.proposed",
        "remediation.approved",
        "remediation.step_running",
        "remediation.step_completed",
        "remediation.step_completed",
        "remediation.executed",
    ];
    assert_eq!(server.told(&id).await, told);
    let last = server.remediation_history(&id).await.pop().unwrap();
    let classes: Vec<_> = last.entries.iter().map(|entry| entry.class).collect();
    assert_eq!(classes, [EntryClass::Audit, EntryClass::Public], "the step and the end are one change");
}

#[tokio::test]
async fn the_first_failure_ends_a_remediation() {
    let server = Server::start().await;
    let id = ulid(&server.propose(json!({ "requiresApproval": false, "steps": steps(3, "d") })).await);
    server.reported(&id, "step_1", "completed").await;
    server.clock.advance(Duration::from_secs(5));
    let failed = server.report(&id, "step_3", &json!({ "status": "failed", "output": "no\n\tway" })).await.json();
    assert_eq!(words(&failed, "status"), ["completed", "pending", "failed"]);
    assert_eq!(
        (&failed["status"], &failed["outcome"], &failed["executedAt"]),
        (&json!("failed"), &json!("failed"), &Value::Null)
    );
    assert_eq!(
        (&failed["steps"][2]["output"], &failed["steps"][2]["completedAt"]),
        (&json!("no\n\tway"), &json!("2026-11-21T12:00:05Z"))
    );
    assert_eq!(server.told(&id).await.last().unwrap(), "remediation.failed");
    assert_eq!(
        server.report(&id, "step_2", &json!({ "status": "running" })).await.refusal(),
        refused(409, "invalid_state")
    );
}

#[tokio::test]
async fn the_same_status_again_is_a_success_that_changes_nothing_also_afterwards() {
    let server = Server::start().await;
    let id = ulid(&server.propose(json!({ "requiresApproval": false, "steps": steps(1, "d") })).await);
    let running = server.report(&id, "step_1", &json!({ "status": "running", "output": "at work" })).await;
    assert_eq!(running.json()["steps"][0]["output"], "at work");
    let again = server.report(&id, "step_1", &json!({ "status": "running", "output": "other" })).await;
    assert_eq!((again.status, &again.text), (200, &running.text));
    // Without an output of its own, the end leaves the output there is.
    let completed = server.report(&id, "step_1", &json!({ "status": "completed" })).await;
    assert_eq!(completed.json()["steps"][0]["output"], "at work");
    server.clock.advance(Duration::from_hours(1000));
    let again = server.report(&id, "step_1", &json!({ "status": "completed", "output": "late" })).await;
    assert_eq!((again.status, &again.text), (200, &completed.text));
    assert_eq!(server.remediation_history(&id).await.len(), 3);
    for other in ["running", "failed"] {
        let refusal = server.report(&id, "step_1", &json!({ "status": other })).await.refusal();
        assert_eq!(refusal, refused(409, "invalid_state"), "{other}");
    }
}

#[tokio::test]
async fn the_end_of_a_step_replaces_its_output() {
    let server = Server::start().await;
    let id = ulid(&server.propose(json!({ "requiresApproval": false })).await);
    for (status, output) in [("running", "first"), ("completed", "last")] {
        let reported = server.report(&id, "step_1", &json!({ "status": status, "output": output })).await;
        assert_eq!(reported.json()["steps"][0]["output"], output);
    }
    let shown = server.remediation(&id).await;
    assert_eq!(shown["steps"][0]["output"], "last");
    assert_eq!(server.member().get("/v1/remediation").await.json()["items"][0], shown);
}

#[tokio::test]
async fn of_several_faults_of_a_report_the_first_is_told() {
    let server = Server::start().await;
    let waiting = server.wait().await;
    let rejected = server.wait().await;
    assert_eq!(server.respond(&rejected, "reject").await.status, 200);
    let expired = ulid(&server.propose(json!({ "timeoutMinutes": 1 })).await);
    server.hide_from_the_clock(&expired).await;
    server.clock.advance(Duration::from_secs(60));
    let running = json!({ "status": "running" });
    let long_key = "k".repeat(256);
    for id in [ABSENT, &waiting, &rejected, &expired] {
        for step in ["step_1", "step_9"] {
            let path = format!("/v1/remediation/rem_{id}/steps/{step}");
            let anonymous = server.public(Method::POST, &path).json(&json!({}));
            assert_eq!(send(anonymous).await.refusal(), refused(401, "unauthorized"));
            let nobody = server.person(TENANT, "nobody", &["viewer"]);
            assert_eq!(nobody.post(&path, &json!({})).await.refusal(), refused(403, "forbidden"));
            assert_eq!(server.member().post(&path, &json!({})).await.refusal(), refused(400, "validation_error"));
            let wrong_key = server.member().post_once(&path, &long_key, &running).await;
            assert_eq!(wrong_key.refusal(), refused(400, "validation_error"));
            let (status, code) = match (id, step) {
                (ABSENT, _) => (404, "remediation_not_found"),
                (_, "step_9") => (404, "step_not_found"),
                _ => (409, "invalid_state"),
            };
            assert_eq!(server.report(id, step, &running).await.refusal(), refused(status, code), "{id} {step}");
        }
    }
    for step in ["1", "step_0", "step_01", "step_3", "STEP_1", "step_1%20", "%23", "step_%FF"] {
        let answer = server.report(&waiting, step, &running).await;
        assert_eq!(answer.status, 404, "{step} {answer:?}");
    }
    assert_eq!(server.told(&waiting).await, ["remediation.proposed"]);
}

#[tokio::test]
async fn what_is_no_report_is_malformed() {
    let server = Server::start().await;
    let id = ulid(&server.propose(json!({ "requiresApproval": false })).await);
    for (body, field) in [
        (json!({}), "status"),
        (json!({ "status": null }), "status"),
        (json!({ "status": "pending" }), "status"),
        (json!({ "status": "Completed" }), "status"),
        (json!({ "status": 1 }), "status"),
        (json!({ "status": "completed", "output": 1 }), "output"),
        (json!({ "status": "completed", "output": "a".repeat(10_001) }), "output"),
        (json!({ "status": "completed", "output": "a\u{1b}[0m" }), "output"),
        (json!([]), "body"),
    ] {
        let wrong = server.report(&id, "step_1", &body).await;
        assert_eq!(wrong.refusal(), refused(400, "validation_error"), "{body}");
        assert_eq!(wrong.json()["details"][0]["field"], field);
    }
    assert_eq!(server.told(&id).await, ["remediation.proposed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_steps_with_the_longest_outputs_are_reported_to_their_end_and_shown_whole() {
    let server = Server::start().await;
    let created = server.propose(json!({ "requiresApproval": false, "steps": steps(50, &"ü".repeat(2000)) })).await;
    let id = ulid(&created);
    let output = "😀".repeat(10_000);
    // Before its end, a step has an output of its own, which the last one replaces.
    let running = json!({ "status": "running", "output": "\"".repeat(10_000) });
    assert_eq!(server.report(&id, "step_50", &running).await.status, 200);
    server.complete_with_output(&id, 49, &output).await;
    let last = json!({ "status": "completed", "output": output });
    let ended = server.member().post_once(&format!("/v1/remediation/rem_{id}/steps/step_50"), "k", &last).await;
    assert_eq!(ended.status, 200, "{}", &ended.text[..200]);
    let object = ended.json();
    assert_eq!((&object["status"], &object["outcome"]), (&json!("executed"), &json!("resolved")));
    assert!(words(&object, "output").iter().all(|shown| *shown == output));
    let shown = server.member().get(&format!("/v1/remediation/rem_{id}")).await;
    assert_eq!((shown.status, shown.text == ended.text), (200, true));
    let again = server.member().post_once(&format!("/v1/remediation/rem_{id}/steps/step_50"), "k", &last).await;
    assert_eq!((again.header("idempotency-replayed"), again.text == ended.text), (Some("true"), true));
    let listed = server.member().get("/v1/remediation").await.json();
    assert!(listed["items"][0] == object);
    let verified = countersign::verify::tenant(&server.app.store, &TENANT.parse().unwrap()).await.unwrap();
    assert_eq!((verified.broken, verified.entries), (None, 1 + 51 + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_with_outputs_stops_at_4_mb_and_goes_on_with_its_cursor() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for outputs in [50, 40, 0, 50, 50, 10] {
        let created = server.propose(json!({ "requiresApproval": false, "steps": steps(50, "d") })).await;
        ids.push(created["remediationId"].clone());
        server.complete_with_output(&ulid(&created), outputs, &"😀".repeat(10_000)).await;
        server.clock.advance(Duration::from_secs(1));
    }
    ids.reverse();
    let mut found = Vec::new();
    let mut lengths = Vec::new();
    let mut path = "/v1/remediation".to_owned();
    loop {
        let page = server.member().get(&path).await;
        assert_eq!(page.status, 200);
        assert!(page.text.len() < PAGE_BYTES + 1000, "{}", page.text.len());
        let page = page.json();
        let items = page["items"].as_array().unwrap();
        assert_eq!(page["count"], items.len());
        lengths.push(items.len());
        found.extend(items.iter().map(|item| item["remediationId"].clone()));
        let Some(cursor) = page.get("cursor") else { break };
        path = format!("/v1/remediation?cursor={}", cursor.as_str().unwrap());
    }
    assert_eq!(found, ids, "each once, the newest first");
    // 0.4 + 2.0 MB; 2.0 and nothing and 1.6 MB; 2.0 MB.
    assert_eq!(lengths, [2, 3, 1]);
}

#[tokio::test]
async fn remediations_are_listed_the_newest_first_by_status_and_page_by_page() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(server.wait().await);
        server.clock.advance(Duration::from_secs(1));
    }
    let [proposed, rejected, executing, executed, failed, waiting] = &ids[..] else { panic!("{ids:?}") };
    assert_eq!(server.respond(rejected, "reject").await.status, 200);
    for id in [executing, executed, failed] {
        assert_eq!(server.respond(id, "approve").await.status, 200);
    }
    server.reported(failed, "step_2", "failed").await;
    server.reported(executed, "step_1", "completed").await;
    server.reported(executed, "step_2", "completed").await;
    let short = ulid(&server.propose(json!({ "timeoutMinutes": 1 })).await);
    server.clock.advance(Duration::from_secs(60));
    server.until_told(&short, "remediation.expired").await;
    let found = async |query: &str| -> Vec<String> {
        let pages = server.member().pages(&format!("/v1/remediation?{query}")).await;
        pages.concat().iter().map(ulid).collect()
    };
    for (status, expected) in [
        ("proposed", vec![waiting, proposed]),
        ("executing", vec![executing]),
        ("executed", vec![executed]),
        ("rejected", vec![rejected]),
        ("failed", vec![failed]),
        ("expired", vec![&short]),
        // An approval goes straight to executing.
        ("approved", vec![]),
    ] {
        assert_eq!(found(&format!("status={status}")).await.iter().collect::<Vec<_>>(), expected, "{status}");
        assert_eq!(found(&format!("status={status}&limit=1")).await.iter().collect::<Vec<_>>(), expected, "{status}");
    }
    let all: Vec<_> = std::iter::once(&short).chain(ids.iter().rev()).cloned().collect();
    assert_eq!(found("").await, all);
    assert_eq!(found("limit=2").await, all);
    let pages = server.member().pages("/v1/remediation?limit=3").await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1]);
    for item in pages.concat() {
        assert_eq!(server.remediation(&ulid(&item)).await, item, "a row is the object");
    }
    let empty = server.member().get("/v1/remediation?status=approved").await;
    assert_eq!((empty.status, empty.text.as_str()), (200, r#"{"items":[],"count":0}"#));
}

#[tokio::test]
async fn a_listing_reads_outputs_only_of_remediations_that_have_some() {
    let server = Server::doors_only().await;
    for n in 0..3 {
        let id = ulid(&server.propose(json!({ "requiresApproval": false })).await);
        if n == 1 {
            assert_eq!(server.report(&id, "step_1", &json!({ "status": "running", "output": "o" })).await.status, 200);
        }
    }
    let _ = server.table.take_calls();
    assert_eq!(server.member().get("/v1/remediation").await.json()["count"], 3);
    let calls: Vec<_> = server.table.take_calls().into_iter().map(|call| call.operation).collect();
    assert_eq!(calls, ["Query", "BatchGetItem", "Query"]);
}
