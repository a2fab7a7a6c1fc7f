//! Races for approvals: whatever comes at the same moment, one answer stands and its own caller is told.

use crate::approvals::{TENANT, refused, respond_path, ulid};
use crate::server::{Answer, Server};
use countersign_testing::fault::Faults;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// 64 admins answer one approval at once, by either id, approve and reject mixed.
async fn race(server: &Server) -> (String, Vec<Answer>) {
    let id = server.wait().await;
    let callers = (0..64).map(|n| {
        let admin = server.person(TENANT, &format!("admin-{n}"), &["admin"]);
        let decision = if n % 2 == 0 { "approve" } else { "reject" };
        let (path, body) = if n % 4 < 2 {
            (respond_path(&id), json!({ "decision": decision }))
        } else {
            (format!("/v1/remediation/rem_{id}/{decision}"), json!({}))
        };
        async move { admin.post(&path, &body).await }
    });
    let answers = join_all(callers).await;
    (id, answers)
}

/// The winner's own answer stands, and nothing else happened.
async fn check_winner(server: &Server, id: &str, winner: usize, answer: &Answer) {
    let decision = if winner.is_multiple_of(2) { "approve" } else { "reject" };
    assert_eq!(answer.json()["decision"], decision);
    let shown = server.remediation(id).await;
    let by = if decision == "approve" { "approvedBy" } else { "rejectedBy" };
    assert_eq!(shown[by], format!("admin-{winner}"), "{shown}");
    assert_eq!(shown["status"], answer.json()["remediationStatus"]);
    assert_eq!(server.told(id).await, ["remediation.proposed".to_owned(), format!("remediation.{}", past(decision))]);
}

fn past(decision: &str) -> &'static str {
    if decision == "approve" { "approved" } else { "rejected" }
}

fn winners(answers: &[Answer]) -> Vec<usize> {
    answers.iter().enumerate().filter(|(_, answer)| answer.status == 200).map(|(n, _)| n).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_simultaneous_answers_exactly_one_wins_for_40_approvals_in_a_row() {
    let server = Server::start().await;
    for _ in 0..40 {
        let (id, answers) = race(&server).await;
        let [winner] = winners(&answers)[..] else { panic!("{answers:?}") };
        check_winner(&server, &id, winner, &answers[winner]).await;
        let lost = answers.iter().filter(|answer| answer.refusal() == refused(409, "already_decided"));
        assert_eq!(lost.count(), 63);
    }
}

/// How many approvals are raced on a bad day; more with `COUNTERSIGN_RACES`.
fn races() -> usize {
    std::env::var("COUNTERSIGN_RACES").map_or(10, |races| races.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_bad_day_exactly_one_answer_wins_and_nobody_gets_a_500() {
    let server = Server::with(Faults::many(), 11, &[]).await;
    for _ in 0..races() {
        let (id, answers) = race(&server).await;
        for answer in &answers {
            // 503 asks to come again: a caller whose time was up before the table let it through.
            assert!([200, 409, 503].contains(&answer.status), "{answer:?}");
        }
        let [winner] = winners(&answers)[..] else { panic!("{answers:?}") };
        check_winner(&server, &id, winner, &answers[winner]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_and_the_deadline_at_once_end_in_one_of_the_two() {
    let server = Server::start().await;
    for round in 0..30 {
        let id = ulid(&server.propose(json!({ "timeoutMinutes": 1 })).await);
        server.clock.advance(Duration::from_millis(59_900));
        let expiry = async {
            // Lets more and more callers go first.
            for _ in 0..round * 20 {
                tokio::task::yield_now().await;
            }
            server.clock.advance(Duration::from_secs(1));
            let stop_at = Instant::now() + Duration::from_secs(30);
            countersign_clock::sweep(&server.app, std::time::Duration::ZERO, stop_at).await;
        };
        let answers = join_all((0..8).map(|n| {
            let (server, id) = (&server, &id);
            async move { server.respond(id, if n % 2 == 0 { "approve" } else { "reject" }).await }
        }));
        let (answers, ()) = futures_util::join!(answers, expiry);
        let told = loop {
            // The clock only sends word: the worker may come a little later.
            let told = server.told(&id).await;
            if told.len() == 2 || !winners(&answers).is_empty() {
                break told;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(told.len(), 2, "{told:?}");
        match winners(&answers)[..] {
            [winner] => {
                let decision = if winner.is_multiple_of(2) { "approve" } else { "reject" };
                assert_eq!(told[1], format!("remediation.{}", past(decision)));
                assert_eq!(answers.iter().filter(|answer| answer.status == 409).count(), 7, "{answers:?}");
            }
            [] => {
                assert_eq!(told[1], "remediation.expired");
                assert!(answers.iter().all(|answer| answer.refusal() == refused(409, "approval_expired")));
            }
            _ => panic!("{answers:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_calls_with_one_idempotency_key_act_once_and_all_are_answered() {
    let server = Server::start().await;
    let waiting = server.wait().await;
    let executing = ulid(&server.propose(json!({ "requiresApproval": false })).await);
    for (path, body) in [
        (respond_path(&waiting), json!({ "decision": "approve" })),
        ("/v1/remediation".to_owned(), crate::approvals::proposal(json!({ "title": "once" }))),
        (format!("/v1/remediation/rem_{executing}/steps/step_1"), json!({ "status": "completed", "output": "o" })),
    ] {
        let admin = server.admin();
        let answers = join_all((0..16).map(|_| admin.post_once(&path, "k", &body))).await;
        let first = &answers[0];
        assert!(answers.iter().all(|answer| answer.status == first.status && answer.text == first.text), "{answers:?}");
        let acted = answers.iter().filter(|answer| answer.header("idempotency-replayed").is_none());
        assert_eq!(acted.count(), 1, "{path}");
    }
    let listed = server.admin().get("/v1/remediation").await.json();
    let once = listed["items"].as_array().unwrap().iter().filter(|item| item["title"] == "once");
    assert_eq!(once.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_reports_of_all_steps_end_the_remediation_once() {
    let server = Server::with(Faults::many(), 12, &[]).await;
    let steps: Vec<Value> = (0..8).map(|n| json!({ "description": n.to_string() })).collect();
    let id = ulid(&server.propose(json!({ "requiresApproval": false, "steps": steps })).await);
    let reports = (1..=8).map(|n| {
        let (server, id) = (&server, &id);
        let body = json!({ "status": "completed", "output": n.to_string() });
        async move {
            let path = format!("/v1/remediation/rem_{id}/steps/step_{n}");
            for _ in 0..10 {
                let answer = server.member().post_once(&path, "k", &body).await;
                if answer.status != 503 {
                    return answer.status;
                }
            }
            503
        }
    });
    assert_eq!(join_all(reports).await, [200; 8]);
    let told = server.told(&id).await;
    assert_eq!(told.len(), 10, "{told:?}");
    assert_eq!(told.last().unwrap(), "remediation.executed");
    let shown = server.remediation(&id).await;
    let outputs: Vec<_> = shown["steps"].as_array().unwrap().iter().map(|step| step["output"].clone()).collect();
    assert_eq!(outputs, (1..=8).map(|n| json!(n.to_string())).collect::<Vec<_>>());
}
