//! Verdicts at the same moment: one resolves the case, and everyone is told the truth.

use crate::cases::{Tool, refusal};
use crate::server::{Answer, Server};
use countersign_testing::fault::Faults;
use futures_util::future::join_all;
use serde_json::{Value, json};

const FINAL: [&str; 4] = ["SAFE", "TRUE_POSITIVE", "FALSE_POSITIVE", "DUPLICATE"];

/// How many cases are raced on a bad day; more with `COUNTERSIGN_RACES`.
fn races() -> usize {
    std::env::var("COUNTERSIGN_RACES").map_or(6, |races| races.parse().unwrap())
}

async fn chains_are_whole(server: &Server) {
    let verified = countersign::verify::tenant(&server.app.store, &"acme".parse().unwrap()).await.unwrap();
    assert_eq!(verified.broken, None);
}

/// 64 final verdicts on one case at once, no two of them identical.
async fn race(tool: &Tool<'_>) {
    let id = &tool.create(json!({})).await;
    let verdicts: Vec<_> = (0..64).map(|n| json!({ "outcome": FINAL[n % 4], "comment": n.to_string() })).collect();
    let answers = join_all(verdicts.iter().map(|verdict| tool.verdict(id, verdict))).await;
    let won: Vec<_> = (0..64).filter(|n| answers[*n].status == 200).collect();
    let [winner] = won[..] else { panic!("{won:?} of {answers:?}") };
    let outcome = FINAL[winner % 4];
    assert_eq!(answers[winner].json()["outcome"], outcome);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        let late = (409, format!("Case already resolved as {outcome}"));
        assert!(answer.status == 503 || refusal(answer) == late, "{answer:?}");
    }
    let shown = shown(tool, id).await;
    assert_eq!((&shown["outcome"], shown["verdicts"].as_array().unwrap().len()), (&json!(outcome), 1));
    assert_eq!(shown["verdicts"][0]["comment"], verdicts[winner]["comment"], "the winner's own verdict stands");
}

/// 64 times the same final verdict with one key.
async fn repeat(tool: &Tool<'_>) {
    let id = &tool.create(json!({})).await;
    let verdict = json!({ "outcome": "TRUE_POSITIVE", "comment": "c" });
    let answers: Vec<Answer> = join_all((0..64).map(|_| tool.verdict(id, &verdict))).await;
    let told: Vec<_> = answers.iter().filter(|answer| answer.status != 503).collect();
    assert!(told.iter().all(|answer| answer.status == 200 && answer.text == told[0].text), "{answers:?}");
    assert_eq!(shown(tool, id).await["verdicts"].as_array().unwrap().len(), 1);
}

/// A case, on a bad day at last.
async fn shown(tool: &Tool<'_>, id: &str) -> Value {
    loop {
        let shown = tool.get(&format!("/{id}")).await;
        if shown.status == 200 {
            return shown.json();
        }
        assert_eq!(shown.status, 503, "{shown:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_simultaneous_final_verdicts_exactly_one_wins() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    for _ in 0..30 {
        race(&tool).await;
    }
    chains_are_whole(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_identical_verdicts_of_one_key_each_gets_the_recorded_answer() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    for _ in 0..10 {
        repeat(&tool).await;
    }
    chains_are_whole(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_bad_day_exactly_one_verdict_wins_and_repeats_are_answered() {
    let server = Server::with(Faults::many(), 11, &[]).await;
    let tool = Tool::of(&server, "acme").await;
    for _ in 0..races() {
        race(&tool).await;
        repeat(&tool).await;
    }
    chains_are_whole(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_that_is_handed_out_and_judged_at_once_is_both_or_only_judged() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    for _ in 0..30 {
        let id = tool.create(json!({})).await;
        let safe = json!({ "outcome": "SAFE" });
        let (judged, page) = futures_util::join!(tool.verdict(&id, &safe), tool.get("/feed?page_size=1"));
        assert_eq!((judged.status, page.status), (200, 200));
        let shown = tool.show(&id).await;
        assert_eq!(shown["state"], "closed");
        assert_eq!(tool.get("/feed").await.json()["cases"], json!([]), "it waits no more");
    }
    chains_are_whole(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_simultaneous_arrivals_of_one_case_one_brings_it_in() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    for _ in 0..10 {
        let id = uuid::Uuid::new_v4().to_string();
        let bodies: Vec<_> = (0..32)
            .map(|n| json!({ "case_id": id, "title": (n % 2).to_string(), "severity": "low", "description": "d" }))
            .collect();
        let answers = join_all(bodies.iter().map(|body| tool.post("", body))).await;
        let with = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
        assert_eq!((with(201), with(200), with(409)), (1, 15, 16), "{answers:?}");
    }
}
