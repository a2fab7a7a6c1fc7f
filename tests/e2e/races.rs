//! Races through HTTP: whatever comes at the same moment, one decision stands and its own caller is told.

use crate::server::{Answer, Server};
use countersign_testing::fault::Faults;
use futures_util::future::join_all;
use serde_json::json;

/// 64 callers decide one token at once, approve and reject mixed.
async fn race(server: &Server) -> Vec<Answer> {
    let jti = server.mint(json!({})).await;
    let jti = &jti;
    let callers = (0..64).map(|n| server.decide(jti, if n % 2 == 0 { "approve" } else { "reject" }));
    let answers = join_all(callers).await;
    let winners: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    let shown = server.show(jti).await;
    assert_eq!(shown["decision"], winners[0].json()["decision"], "the winner's own decision stands");
    assert_eq!(server.entries(jti).await, ["override.created", "override.decided"]);
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_simultaneous_decisions_exactly_one_wins_for_100_tokens_in_a_row() {
    let server = Server::start().await;
    for _ in 0..100 {
        let answers = race(&server).await;
        let refused = answers.iter().filter(|answer| answer.status != 200);
        assert!(refused.clone().all(|answer| answer.refusal() == (409, "token_already_used".to_owned())));
        assert_eq!(refused.count(), 63);
    }
}

/// How many tokens are raced on a bad day; more with `COUNTERSIGN_RACES`.
fn races() -> usize {
    std::env::var("COUNTERSIGN_RACES").map_or(10, |races| races.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_bad_day_exactly_one_decision_wins_and_nobody_gets_a_500() {
    let server = Server::with(Faults::many(), 7, &[]).await;
    for _ in 0..races() {
        for answer in race(&server).await {
            // 503 asks to come again: a caller whose time was up before the table let it through.
            assert!([200, 409, 503].contains(&answer.status), "{answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_and_a_revocation_at_once_end_in_one_of_the_two() {
    let server = Server::start().await;
    for _ in 0..30 {
        let jti = server.mint(json!({})).await;
        let path = format!("/tokens/{jti}?customer_id={}", crate::server::CUSTOMER);
        let (decided, revoked) = futures_util::join!(server.decide(&jti, "approve"), server.delete(&path));
        let (status, entry) = match (decided.status, revoked.status) {
            (200, 409) => ("used", "override.decided"),
            (410, 204) => ("revoked", "override.revoked"),
            both => panic!("{both:?}"),
        };
        assert_eq!(server.show(&jti).await["status"], status);
        assert_eq!(server.entries(&jti).await, ["override.created", entry]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_first_tokens_of_a_customer_share_one_key() {
    let server = Server::with(Faults::many(), 8, &[]).await;
    let mints = join_all((0..16).map(|_| async {
        let body = json!({ "customer_id": crate::server::CUSTOMER, "event_id": "e" });
        server.post("/tokens/override", &body).await
    }));
    for answer in mints.await {
        assert!([201, 503].contains(&answer.status), "{answer:?}");
    }
    let keys = server.get(&format!("/keys/public/{}", crate::server::CUSTOMER)).await.json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
}
