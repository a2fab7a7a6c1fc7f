//! Races for workflows: whatever comes at the same moment, the record stays one that could have come about in order.

use crate::server::{Answer, Server};
use crate::workflow::{refusal, refused, stage};
use countersign_testing::fault::Faults;
use futures_util::future::join_all;
use serde_json::json;

/// How many requests are raced on a bad day; more with `COUNTERSIGN_RACES`.
fn races() -> usize {
    std::env::var("COUNTERSIGN_RACES").map_or(4, |races| races.parse().unwrap())
}

fn with_status(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

/// Everything is answered as documented; on a bad day 503 asks to come again.
fn check(answers: &[Answer], expected: &[u16], bad_day: bool) {
    for answer in answers {
        assert!(expected.contains(&answer.status) || bad_day && answer.status == 503, "{answer:?}");
    }
}

/// Asks until the table answers, on a bad day at last.
async fn patiently(mut ask: impl AsyncFnMut() -> Answer) -> Answer {
    loop {
        let answer = ask().await;
        if answer.status != 503 {
            return answer;
        }
    }
}

/// A server on a good or on a bad day, with the policies that are raced.
async fn server(faults: Faults, seed: u64) -> Server {
    let server = Server::with(faults, seed, &[]).await;
    for (key, users, fields) in [
        ("any-2", &["u-0", "u-1", "u-2"][..], json!({ "mode": "any-n", "mode_value": 2 })),
        ("any-1", &["u-0", "u-1", "u-2", "u-3"], json!({ "mode": "any-n" })),
        ("last", &["u-0"], json!({})),
        ("all", &["u-0", "u-1", "u-2", "u-3", "u-4", "u-5", "u-6", "u-7"], json!({})),
    ] {
        let body = crate::workflow::policy(key, json!([stage(1, users, fields)]), json!({}));
        let made = patiently(async || server.root().post("/policies", &body).await).await;
        assert!([201, 409].contains(&made.status), "{made:?}");
        let activate = format!("/policies/{key}/versions/1/activate");
        assert_eq!(patiently(async || server.root().order(&activate).await).await.status, 200);
    }
    server
}

/// A new request.
async fn ask(server: &Server, key: &str) -> crate::workflow::Asked {
    let made =
        patiently(async || server.user("svc").post("/requests", &crate::workflow::request(key, json!({}))).await);
    crate::workflow::Asked::of(&made.await.json())
}

/// How a request stands: status, statuses of its tasks, and its events.
struct Standing {
    status: String,
    tasks: Vec<(String, String)>,
    story: Vec<String>,
}

impl Standing {
    async fn of(server: &Server, id: &str) -> Self {
        let list = async |path: String| {
            let answer = patiently(async || server.root().get(&path).await).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.json()
        };
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let shown = list(format!("/requests/{id}")).await;
        let tasks = list(format!("/tasks?request_id={id}&assignee=*&limit=500")).await;
        let events = list(format!("/requests/{id}/events")).await;
        let tasks = tasks.as_array().unwrap().iter().map(|task| (text(&task["assignee"]), text(&task["status"])));
        let story: Vec<_> = events.as_array().unwrap().iter().map(|event| text(&event["event_type"])).collect();
        let standing = Self { status: text(&shown["status"]), tasks: tasks.collect(), story };
        let ends = standing
            .story
            .iter()
            .filter(|told| ["request_approved", "request_rejected", "request_cancelled"].contains(&told.as_str()));
        let pending =
            standing.tasks.iter().filter(|(_, status)| ["open", "claimed"].contains(&status.as_str())).count();
        if standing.status == "in_review" {
            assert!(pending > 0 && ends.count() == 0, "{:?}", standing.story);
        } else {
            assert_eq!((pending, ends.count()), (0, 1), "{:?} {:?}", standing.tasks, standing.story);
            assert_eq!(*standing.story.last().unwrap(), format!("request_{}", standing.status));
        }
        standing
    }

    fn count(&self, status: &str) -> usize {
        self.tasks.iter().filter(|(_, is)| is == status).count()
    }
}

async fn two_approvers(server: &Server, bad_day: bool) {
    let asked = &ask(server, "any-2").await;
    let answers = join_all((0..2).map(|n| async move {
        let user = format!("u-{n}");
        server.user(&user).decide(&asked.task(&user), "approve").await
    }))
    .await;
    check(&answers, &[201], bad_day);
    let standing = Standing::of(server, &asked.id).await;
    if with_status(&answers, 201) == 2 {
        assert_eq!(
            (standing.status.as_str(), standing.count("completed"), standing.count("skipped")),
            ("approved", 2, 1)
        );
    }
}

async fn more_than_enough(server: &Server, bad_day: bool) {
    let asked = &ask(server, "any-1").await;
    let answers = join_all((0..4).map(|n| async move {
        let user = format!("u-{n}");
        server.user(&user).decide(&asked.task(&user), "approve").await
    }))
    .await;
    check(&answers, &[201, 409], bad_day);
    let standing = Standing::of(server, &asked.id).await;
    if with_status(&answers, 503) == 0 {
        assert_eq!((standing.status.as_str(), with_status(&answers, 201)), ("approved", 1), "{answers:?}");
        assert_eq!(standing.count("completed"), 1);
    }
}

async fn one_task_32_times(server: &Server, bad_day: bool) {
    let asked = &ask(server, "last").await;
    let task = &asked.task("u-0");
    let answers = join_all((0..32).map(|n| async move {
        let by = if n % 4 < 2 { server.user("u-0") } else { server.root() };
        by.decide(task, if n % 2 == 0 { "approve" } else { "reject" }).await
    }))
    .await;
    check(&answers, &[201, 409], bad_day);
    let won: Vec<_> = (0..32).filter(|n| answers[*n].status == 201).collect();
    let [winner] = won[..] else { panic!("{answers:?}") };
    let lost = answers.iter().filter(|answer| answer.status == 409);
    assert!(lost.clone().all(|answer| refusal(answer) == refused(409, "007")));
    let standing = Standing::of(server, &asked.id).await;
    assert_eq!(
        standing.status,
        if winner % 2 == 0 { "approved" } else { "rejected" },
        "the winner's own decision stands"
    );
    assert_eq!(standing.story.len(), 4, "{:?}", standing.story);
}

async fn everybody(server: &Server, bad_day: bool) {
    let asked = &ask(server, "all").await;
    let answers = join_all((0..64).map(|n| async move {
        let user = format!("u-{}", n % 8);
        server.user(&user).decide(&asked.task(&user), "approve").await
    }))
    .await;
    check(&answers, &[201, 409], bad_day);
    let standing = Standing::of(server, &asked.id).await;
    if with_status(&answers, 503) == 0 {
        assert_eq!((standing.status.as_str(), with_status(&answers, 201)), ("approved", 8));
    }
    assert!(standing.count("completed") >= with_status(&answers, 201));
}

async fn reassigned_meanwhile(server: &Server, bad_day: bool) {
    let asked = &ask(server, "last").await;
    let task = &asked.task("u-0");
    let targets: Vec<_> = (0..32).map(|n| format!("u-new-{n}")).collect();
    let decide = async { server.user("u-0").decide(task, "approve").await };
    let root = &server.root();
    let reassign = join_all(targets.iter().map(|to| async move { root.reassign(task, to).await }));
    let (decided, reassigned) = futures_util::join!(decide, reassign);
    check(std::slice::from_ref(&decided), &[201, 409], bad_day);
    check(&reassigned, &[200, 409], bad_day);
    let standing = Standing::of(server, &asked.id).await;
    let moved = with_status(&reassigned, 200);
    assert!(moved + with_status(std::slice::from_ref(&decided), 201) <= 1, "{decided:?} {reassigned:?}");
    if decided.status == 201 {
        assert_eq!((standing.status.as_str(), standing.tasks.len()), ("approved", 1));
    } else if moved == 1 {
        assert_eq!(
            (standing.status.as_str(), standing.count("reassigned"), standing.count("open")),
            ("in_review", 1, 1)
        );
        let to = reassigned.iter().position(|answer| answer.status == 200).unwrap();
        assert!(standing.tasks.contains(&(targets[to].clone(), "open".to_owned())), "{:?}", standing.tasks);
    } else {
        assert!(bad_day, "one of them comes first");
    }
}

async fn cancelled_meanwhile(server: &Server, bad_day: bool) {
    let asked = &ask(server, "last").await;
    let task = &asked.task("u-0");
    let root = &server.root();
    let decide = join_all((0..16).map(|_| async move { server.user("u-0").decide(task, "approve").await }));
    let cancel = join_all((0..16).map(|_| async move { root.cancel(&asked.id).await }));
    let (decided, cancelled) = futures_util::join!(decide, cancel);
    check(&decided, &[201, 409], bad_day);
    check(&cancelled, &[200, 409], bad_day);
    let standing = Standing::of(server, &asked.id).await;
    match (with_status(&decided, 201), with_status(&cancelled, 200)) {
        (1, 0) => assert_eq!(standing.status, "approved"),
        (0, 1) => assert_eq!((standing.status.as_str(), standing.count("skipped")), ("cancelled", 1)),
        // A caller whose time was up may have been the one who came first.
        _ => assert!(bad_day, "{decided:?} {cancelled:?}"),
    }
}

async fn claimed_meanwhile(server: &Server, bad_day: bool) {
    let asked = &ask(server, "last").await;
    let task = &asked.task("u-0");
    let answers = join_all((0..32).map(|_| async move { server.user("u-0").claim(task).await })).await;
    check(&answers, &[200, 409], bad_day);
    assert_eq!(with_status(&answers, 200), 1, "{answers:?}");
    assert_eq!(Standing::of(server, &asked.id).await.count("claimed"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_approvers_of_a_stage_that_needs_two_end_it_approved_also_at_the_same_moment() {
    let server = server(Faults::none(), 0).await;
    for _ in 0..40 {
        two_approvers(&server, false).await;
    }
    server.chains_are_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_four_simultaneous_approvers_of_a_stage_that_needs_one_one_counts() {
    let server = server(Faults::none(), 0).await;
    for _ in 0..30 {
        more_than_enough(&server, false).await;
    }
    server.chains_are_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_32_simultaneous_decisions_about_the_last_task_exactly_one_stands() {
    let server = server(Faults::none(), 0).await;
    for _ in 0..20 {
        one_task_32_times(&server, false).await;
    }
    server.chains_are_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_decisions_of_everybody_count_once_each() {
    let server = server(Faults::none(), 0).await;
    for _ in 0..8 {
        everybody(&server, false).await;
    }
    server.chains_are_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_decided_or_handed_over_and_never_both() {
    let server = server(Faults::none(), 0).await;
    for _ in 0..20 {
        reassigned_meanwhile(&server, false).await;
    }
    server.chains_are_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_approved_or_called_off_and_never_both() {
    let server = server(Faults::none(), 0).await;
    for _ in 0..20 {
        cancelled_meanwhile(&server, false).await;
    }
    server.chains_are_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_32_simultaneous_claims_one_marks_the_task() {
    let server = server(Faults::none(), 0).await;
    for _ in 0..10 {
        claimed_meanwhile(&server, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_bad_day_every_race_ends_as_on_a_good_one_and_nobody_gets_a_500() {
    let server = server(Faults::many(), 21).await;
    for _ in 0..races() {
        two_approvers(&server, true).await;
        more_than_enough(&server, true).await;
        one_task_32_times(&server, true).await;
        everybody(&server, true).await;
        reassigned_meanwhile(&server, true).await;
        cancelled_meanwhile(&server, true).await;
        claimed_meanwhile(&server, true).await;
    }
    server.chains_are_whole().await;
}
