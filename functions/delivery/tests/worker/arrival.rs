//! An event arrives, signed, once per target; and what does not arrive is tried again on the documented schedule.

use crate::world::{SECRET, World};
use countersign_domain::webhook_signature;
use countersign_testing::receiver::{Receiver, Reply};
use std::time::Duration;

#[tokio::test]
async fn an_event_arrives_signed_at_everyone_who_subscribed() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    world.subscribe(1, &receiver.url("/all?a=b"), &["*"]).await;
    world.subscribe(2, &receiver.url("/cases"), &["case.created"]).await;
    world.subscribe(3, &receiver.url("/none"), &["case.resolved"]).await;
    let work = world.event(1).await;
    assert_eq!(world.worker.handle(countersign_queue::Lane::Fast, &work).await, [0; 0]);
    let received = receiver.wait_for(2).await;
    let mut paths: Vec<_> = received.iter().map(|received| received.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/all?a=b", "/cases"]);
    for received in &received {
        let timestamp = received.header("x-approval-timestamp").parse().unwrap();
        let id = received.event_id().parse().unwrap();
        let signed = webhook_signature::headers(&[SECRET], id, timestamp, &received.body).unwrap();
        assert_eq!(received.header("x-approval-signature"), signed.approval);
        assert_eq!(received.header("webhook-signature"), signed.standard);
        assert_eq!(received.header("webhook-id"), received.event_id());
        assert_eq!(received.json()["event_id"], received.event_id());
    }
    let deliveries = world.deliveries().await;
    assert_eq!(deliveries.iter().map(|delivery| delivery.status()).collect::<Vec<_>>(), ["delivered"; 2]);
    // Said again, and found again by the clock: nothing more comes.
    world.worker.handle(countersign_queue::Lane::Fast, &work).await;
    world.pass(Duration::from_secs(600)).await;
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test]
async fn what_fails_is_tried_six_times_with_the_documented_waits_and_then_given_up() {
    let mut world = World::with(&[("COUNTERSIGN_RETRY_JITTER", "0")]).await;
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply { body: "no\u{7} luck".to_owned(), ..Reply::status(500) });
    world.subscribe(1, &receiver.url("/"), &["*"]).await;
    world.app.tell(&world.event(1).await).await;
    world.settle().await;
    for (made, wait) in [(1, 60), (2, 300), (3, 900), (4, 3600), (5, 21_600)] {
        assert_eq!(receiver.received().len(), made);
        world.pass(Duration::from_secs(wait) - Duration::from_micros(1)).await;
        assert_eq!(receiver.received().len(), made, "not before {wait} s");
        world.pass(Duration::from_micros(1)).await;
        assert_eq!(receiver.received().len(), made + 1, "after {wait} s");
    }
    let [delivery] = &world.deliveries().await[..] else { unreachable!("given up, and nobody else is to hear of it") };
    assert_eq!((delivery.status(), delivery.attempts()), ("exhausted", 6));
    let attempts = world.attempts(delivery).await;
    assert_eq!(attempts.iter().map(|attempt| attempt["n"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!((&attempts[0]["status_code"], &attempts[0]["excerpt"]), (&500.into(), &"no  luck".into()));
    world.pass(Duration::from_secs(90_000)).await;
    assert_eq!(receiver.received().len(), 6);
}
