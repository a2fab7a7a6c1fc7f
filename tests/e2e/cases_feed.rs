//! The feed: every case that waits is handed out, oldest first, to one poller.

use crate::cases::{Tool, case_ids, refusal};
use crate::server::{Server, send};
use countersign_testing::fault::Faults;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

const POLLERS: usize = 16;

impl Tool<'_> {
    async fn take(&self, page_size: usize) -> Vec<String> {
        let page = self.get(&format!("/feed?page_size={page_size}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        assert_eq!(page.json()["next_cursor"], json!(null));
        case_ids(&page)
    }

    /// Brings so many cases in, one after the other.
    async fn create_many(&self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(self.create(json!({})).await);
            self.server.clock.advance(Duration::from_secs(1));
        }
        ids
    }
}

#[tokio::test]
async fn waiting_cases_are_handed_out_once_oldest_first() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    let ids = tool.create_many(30).await;
    assert_eq!(tool.take(1).await, ids[..1]);
    assert_eq!(tool.take(12).await, ids[1..13]);
    assert_eq!(tool.take(200).await, ids[13..]);
    assert_eq!(tool.take(200).await, Vec::<String>::new());
    let later = tool.create_many(1).await;
    assert_eq!(tool.take(1).await, later);
}

#[tokio::test]
async fn a_case_is_handed_out_whole_and_in_its_new_state() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    let id =
        tool.create(json!({ "description": "d", "metadata": { "a": [1] }, "event_ids": [uuid::Uuid::nil()] })).await;
    server.clock.advance(Duration::from_secs(60));
    let page = tool.get("/feed").await;
    assert_eq!((page.status, page.header("cache-control")), (200, Some("no-store")));
    let handed_out = page.json()["cases"][0].clone();
    assert_eq!((&handed_out["state"], &handed_out["description"]), (&json!("pending_investigation"), &json!("d")));
    assert_eq!(handed_out["updated_at"], "2026-11-21T12:01:00Z");
    let mut shown = tool.show(&id).await;
    let shown = shown.as_object_mut().unwrap();
    assert_eq!(shown.remove("verdicts"), Some(json!([])));
    let timeline = shown.remove("timeline").unwrap();
    assert_eq!(Value::from(shown.clone()), handed_out);
    assert_eq!(timeline.as_array().unwrap().len(), 1, "being handed out is no event");
    assert_eq!(tool.ids("state=pending_investigation").await, [id]);
}

#[tokio::test]
async fn a_lost_answer_is_found_among_the_cases_that_wait_for_a_verdict() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    let ids = tool.create_many(5).await;
    drop(tool.get("/feed?page_size=3").await);
    assert_eq!(tool.ids("state=pending_investigation").await, ids[..3]);
    assert_eq!(tool.ids("state=discover").await, ids[3..]);
}

#[tokio::test]
async fn a_verdict_takes_a_case_out_of_the_feed() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    let ids = tool.create_many(3).await;
    assert_eq!(tool.verdict(&ids[0], &json!({ "outcome": "SAFE" })).await.status, 200);
    assert_eq!(tool.verdict(&ids[1], &json!({ "outcome": "ESCALATED" })).await.status, 200);
    assert_eq!(tool.take(10).await, ids[2..]);
    assert_eq!(tool.show(&ids[0]).await["state"], "closed");
    assert_eq!(tool.show(&ids[1]).await["state"], "investigating");
}

#[tokio::test]
async fn the_feed_needs_the_right_to_write_and_only_get_hands_out() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    let reader = Tool::with(&server, "acme", &["cases:read"]).await;
    let ids = tool.create_many(1).await;
    assert_eq!(refusal(&reader.get("/feed").await), (403, "This API key lacks the scope cases:write".to_owned()));
    let head = send(tool.request(Method::HEAD, "/feed")).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(send(reader.request(Method::HEAD, "/feed")).await.status, 403);
    assert_eq!(tool.post("/feed", &json!({})).await.status, 405);
    assert_eq!(tool.take(10).await, ids, "nobody got it");
}

#[tokio::test]
async fn a_page_costs_a_query_and_for_each_case_two_reads_and_a_transaction() {
    let server = Server::doors_only().await;
    let tool = Tool::of(&server, "acme").await;
    tool.create_many(3).await;
    tool.get("").await;
    let _ = server.table.take_calls();
    assert_eq!(tool.take(3).await.len(), 3);
    let calls = server.table.take_calls();
    let count = |operation: &str| calls.iter().filter(|call| call.operation == operation).count();
    assert_eq!((count("Query"), count("GetItem"), count("TransactWriteItems"), calls.len()), (1, 6, 3, 10));
    assert!(calls.iter().all(|call| [0, 3].contains(&call.items)), "record, change and the pointer: {calls:?}");
}

/// Polls until everything is brought in and nothing waits any more; what was handed out.
async fn poll(tool: &Tool<'_>, page_size: usize, all_in: &AtomicBool) -> Vec<String> {
    let mut taken = Vec::new();
    loop {
        let was_all_in = all_in.load(Ordering::SeqCst);
        let page = tool.get(&format!("/feed?page_size={page_size}")).await;
        match page.status {
            200 => {}
            // Nothing was claimed, or it is found among the cases that wait for a verdict.
            503 => continue,
            _ => panic!("{page:?}"),
        }
        let ids = case_ids(&page);
        if ids.is_empty() && was_all_in {
            return taken;
        }
        taken.extend(ids);
    }
}

/// Brings cases in until each of them is acknowledged.
async fn create_surely(tool: &Tool<'_>, count: usize) -> HashSet<String> {
    let mut ids = HashSet::new();
    while ids.len() < count {
        let id = uuid::Uuid::new_v4().to_string();
        let body = json!({ "case_id": id, "title": "t", "severity": "low", "description": "d" });
        while ![200, 201].contains(&tool.post("", &body).await.status) {}
        ids.insert(id);
    }
    ids
}

/// 16 pollers take from the feed while cases are brought in; what each of them got.
async fn contend(server: &Server, tool: &Tool<'_>, cases: usize, page_size: usize) -> (HashSet<String>, Vec<String>) {
    let all_in = AtomicBool::new(false);
    let creating = async {
        let ids = join_all((0..4).map(|_| create_surely(tool, cases / 4))).await;
        all_in.store(true, Ordering::SeqCst);
        ids.into_iter().flatten().collect::<HashSet<_>>()
    };
    let polling = join_all((0..POLLERS).map(|_| poll(tool, page_size, &all_in)));
    let (created, taken) = futures_util::join!(creating, polling);
    let taken = taken.concat();
    let distinct: HashSet<_> = taken.iter().collect();
    assert_eq!(distinct.len(), taken.len(), "nothing is handed out twice");
    assert!(distinct.into_iter().all(|id| created.contains(id)));
    let verified = countersign::verify::tenant(&server.app.store, &"acme".parse().unwrap()).await.unwrap();
    assert_eq!(verified.broken, None);
    (created, taken)
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_pollers_get_every_case_once() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    for page_size in [1, 5, 50] {
        let (created, taken) = contend(&server, &tool, 200, page_size).await;
        assert_eq!(taken.into_iter().collect::<HashSet<_>>(), created, "nothing is lost");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_pollers_share_a_feed_that_was_full_before() {
    let server = Server::start().await;
    let tool = Tool::of(&server, "acme").await;
    let created: HashSet<_> = tool.create_many(320).await.into_iter().collect();
    let all_in = AtomicBool::new(true);
    let taken = join_all((0..POLLERS).map(|_| poll(&tool, 20, &all_in))).await;
    assert!(taken.iter().filter(|ids| !ids.is_empty()).count() > 1, "nobody takes it all");
    let taken = taken.concat();
    assert_eq!(taken.len(), created.len());
    assert_eq!(taken.into_iter().collect::<HashSet<_>>(), created);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_bad_day_nothing_is_handed_out_twice_and_what_was_lost_is_found() {
    let server = Server::with(Faults::many(), 21, &[]).await;
    let tool = Tool::of(&server, "acme").await;
    let (created, taken) = contend(&server, &tool, 120, 5).await;
    assert!(!taken.is_empty());
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        // The index lags.
        let page = tool.get("?state=pending_investigation&page_size=200").await;
        if page.status == 200 && case_ids(&page).into_iter().collect::<HashSet<_>>() == created {
            break;
        }
        assert!(Instant::now() < deadline, "{} of {}", case_ids(&page).len(), created.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_claimed_before_the_table_went_away_is_handed_out() {
    let server = Server::doors_only().await;
    let tool = Tool::of(&server, "acme").await;
    let created = tool.create_many(100).await;
    let _ = server.table.take_calls();
    let cut_off = async {
        let mut transactions = 0;
        while transactions < 20 {
            let calls = server.table.take_calls();
            transactions += calls.iter().filter(|call| call.operation == "TransactWriteItems").count();
            tokio::task::yield_now().await;
        }
        server.table.cut_off(true);
    };
    let (page, ()) = futures_util::join!(tool.get("/feed?page_size=100"), cut_off);
    assert_eq!(page.status, 200, "{page:?}");
    let taken = case_ids(&page);
    assert!(taken.len() >= 10 && taken.len() < 100, "{}", taken.len());
    let refused = tool.get("/feed").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    server.table.cut_off(false);
    let pending = tool.ids("state=pending_investigation").await;
    assert!(taken.iter().all(|id| pending.contains(id)));
    let rest = tool.take(100).await;
    assert_eq!(pending.len() + rest.len(), 100);
    assert!(rest.iter().all(|id| created.contains(id) && !pending.contains(id)));
}
