//! Two lanes: an endpoint that lets attempts time out, or has much waiting, holds up no other.

use crate::world::World;
use countersign_domain::Work;
use countersign_queue::Lane;
use countersign_testing::receiver::{Receiver, Reply};
use std::time::Duration;

const TIMEOUT: [(&str, &str); 1] = [("COUNTERSIGN_WEBHOOK_TIMEOUT", "1s")];

fn is_delivery(work: &[Work]) -> bool {
    matches!(work, [work] if work.kind() == "delivery")
}

#[tokio::test]
async fn an_endpoint_that_let_an_attempt_time_out_is_slow_until_it_answers_quickly() {
    let mut world = World::with(&TIMEOUT).await;
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::never());
    let id = world.subscribe(1, &receiver.url("/"), &["*"]).await;
    let work = world.event(1).await;
    world.worker.handle(Lane::Fast, &work).await;
    assert_eq!(world.endpoint(&id).await.slow_since, Some(world.clock.now()));
    // Its later events are delivered on the slow lane,
    let work = world.event(2).await;
    world.worker.handle(Lane::Fast, &work).await;
    assert_eq!(receiver.received().len(), 1, "only on the slow lane is it called");
    let mut slow = world.take(Lane::Slow);
    assert!(is_delivery(&slow), "{slow:?}");
    // and so are its retries: on the fast lane word of them is passed on.
    world.clock.advance(Duration::from_secs(70));
    countersign_clock::sweep(&world.app, Duration::ZERO, crate::world::deadline()).await;
    let retries = world.take(Lane::Fast);
    world.worker.handle(Lane::Fast, &retries).await;
    let passed_on = world.take(Lane::Slow);
    assert_eq!((passed_on.len(), receiver.received().len()), (retries.len(), 1));
    slow.extend(passed_on);
    receiver.answer(|_| Reply::status(200));
    world.worker.handle(Lane::Slow, &slow).await;
    assert_eq!(world.statuses().await, ["delivered"; 2]);
    assert_eq!(world.endpoint(&id).await.slow_since, None);
    let work = world.event(3).await;
    world.worker.handle(Lane::Fast, &work).await;
    assert_eq!(receiver.received().len(), 4, "2 retries or first attempts, and this one on the fast lane");
}

#[tokio::test]
async fn once_an_attempt_timed_out_the_others_of_its_record_go_to_the_slow_lane() {
    let mut world = World::with(&TIMEOUT).await;
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::never());
    world.subscribe(1, &receiver.url("/"), &["*"]).await;
    world.event(1).await;
    let outcome = countersign_domain::case::VerdictOutcome::Escalated;
    let work = world.verdict(&crate::world::acme(), 1, outcome).await;
    world.worker.handle(Lane::Fast, &work).await;
    assert_eq!(receiver.received().len(), 1);
    assert_eq!(world.take(Lane::Slow).len(), 2);
    assert_eq!(world.statuses().await, ["pending"; 3]);
}

#[tokio::test]
async fn an_endpoint_with_more_than_twenty_waiting_is_called_on_the_slow_lane() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::status(500));
    world.subscribe(1, &receiver.url("/"), &["*"]).await;
    let mut called = 0;
    for number in 1..=22 {
        // Each by another process: a count is remembered for a second.
        let mut other = world.beside(&[]).await;
        let work = world.event(number).await;
        other.worker.handle(Lane::Fast, &work).await;
        called += 1;
        assert_eq!(other.take(Lane::Slow).len(), usize::from(number == 22), "with {} waiting", number - 1);
        assert_eq!(receiver.received().len(), called - usize::from(number == 22));
    }
    // Its retries as well.
    world.clock.advance(Duration::from_secs(70));
    countersign_clock::sweep(&world.app, Duration::ZERO, crate::world::deadline()).await;
    let retries = world.take(Lane::Fast);
    world.worker.handle(Lane::Fast, &retries).await;
    assert_eq!(world.take(Lane::Slow).len(), retries.len());
    assert_eq!(receiver.received().len(), 21);
}

#[tokio::test]
async fn a_hanging_endpoint_holds_up_neither_others_nor_the_slow_lane_of_others() {
    let mut world = World::with(&[("COUNTERSIGN_WEBHOOK_TIMEOUT", "30s")]).await;
    let (hanging, healthy) = (Receiver::start().await, Receiver::start().await);
    hanging.answer(|_| Reply::never());
    world.subscribe(1, &hanging.url("/"), &["*"]).await;
    world.subscribe(2, &healthy.url("/"), &["*"]).await;
    let mut running = tokio::task::JoinSet::new();
    for number in 0..40 {
        let (worker, work) = (world.worker.clone(), world.event(number).await);
        running.spawn(async move { worker.handle(Lane::Fast, &work).await });
    }
    let all_arrive = healthy.wait_for(40);
    let mut all_arrive = std::pin::pin!(all_arrive);
    loop {
        tokio::select! {
            arrived = &mut all_arrive => break assert_eq!(arrived.len(), 40),
            // Where there was no room on the fast lane.
            Some(work) = world.sent.slow.recv() => {
                let worker = world.worker.clone();
                running.spawn(async move { worker.handle(Lane::Slow, &[work]).await });
            }
        }
    }
    // All of them came while every attempt that the hanging one was called for was being made.
    let to_hanging = async || {
        let deliveries = world.deliveries().await.into_iter();
        let to_hanging = deliveries.filter(|delivery| delivery.url == Some(hanging.url("/")));
        to_hanging.map(|delivery| (delivery.status(), delivery.attempts())).collect::<Vec<_>>()
    };
    // Its deliveries may still be on their way into the table.
    let all_made = async {
        while to_hanging().await.len() < 40 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all_made).await.unwrap();
    assert_eq!(to_hanging().await, vec![("pending", 0); 40]);
    running.abort_all();
}

#[tokio::test]
async fn what_goes_on_for_seconds_is_done_on_the_slow_lane() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    let id = world.subscribe(1, &receiver.url("/"), &["*"]).await;
    let work = world.enable(&id, false).await;
    assert!(!work.is_empty());
    world.worker.handle(Lane::Fast, &work).await;
    assert_eq!(world.endpoints().await.closing.len(), 1);
    assert_eq!(world.take(Lane::Slow), work);
    world.worker.handle(Lane::Slow, &work).await;
    assert_eq!(world.endpoints().await.closing, []);
}
