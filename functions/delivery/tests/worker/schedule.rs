//! When attempts are made: what a receiver may ask for, how far waits are spread, and a new start by hand.

use crate::world::{SECRET, World, acme, by, deadline};
use countersign_domain::delivery::{self, Delivery};
use countersign_domain::retry::Schedule;
use countersign_domain::webhook_signature;
use countersign_queue::Lane;
use countersign_store::Key;
use countersign_testing::receiver::{Receiver, Reply};
use std::collections::HashSet;
use std::time::Duration;

const NO_JITTER: [(&str, &str); 1] = [("COUNTERSIGN_RETRY_JITTER", "0")];
const MICROSECOND: Duration = Duration::from_micros(1);

#[tokio::test]
async fn a_receiver_may_ask_for_a_longer_wait_up_to_six_hours_but_not_for_a_shorter_one() {
    for (asked, wait) in [("120", 120), ("10", 60), ("0", 60), ("1000000", 21_600), ("soon", 60)] {
        let mut world = World::with(&NO_JITTER).await;
        let receiver = Receiver::start().await;
        let headers = vec![("retry-after", asked.to_owned())];
        receiver.answer(move |_| Reply { headers: headers.clone(), ..Reply::status(429) });
        world.subscribe(1, &receiver.url("/"), &["*"]).await;
        world.app.tell(&world.event(1).await).await;
        world.settle().await;
        let wait = Duration::from_secs(wait);
        assert_eq!(world.delivery().await.next_attempt_at(), Some(world.clock.now() + wait), "{asked}");
        world.pass(wait - MICROSECOND).await;
        assert_eq!(receiver.received().len(), 1, "{asked}");
        world.pass(MICROSECOND).await;
        assert_eq!(receiver.received().len(), 2, "{asked}");
    }
}

#[tokio::test]
async fn waits_are_spread_by_a_tenth_either_way() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::status(500));
    world.subscribe(1, &receiver.url("/"), &["*"]).await;
    for number in 0..60 {
        world.app.tell(&world.event(number).await).await;
    }
    world.settle().await;
    let now = world.clock.now();
    let waits =
        world.deliveries().await.into_iter().map(|delivery| delivery.next_attempt_at().unwrap().duration_since(now));
    let waits: HashSet<i128> = waits.map(|wait| wait.as_millis()).collect();
    assert!(waits.iter().all(|wait| (54_000..=66_000).contains(wait)), "{waits:?}");
    // The chance that all of them lie on one side is 2 in 2^60.
    assert!(waits.iter().any(|wait| *wait < 60_000) && waits.iter().any(|wait| *wait > 60_000), "{waits:?}");
}

#[tokio::test]
async fn what_was_given_up_is_started_anew_by_hand_with_all_its_attempts() {
    let variables = [("COUNTERSIGN_RETRY_JITTER", "0"), ("COUNTERSIGN_RETRY_DELAYS", "1s")];
    let mut world = World::with(&variables).await;
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::status(500));
    world.subscribe(1, &receiver.url("/"), &["*"]).await;
    world.app.tell(&world.event(1).await).await;
    world.settle().await;
    world.pass(Duration::from_secs(1)).await;
    let given_up = world.delivery().await;
    assert_eq!((given_up.status(), given_up.attempts()), ("exhausted", 2));
    let key: Key<Delivery> = Key::new(&acme(), given_up.id.as_str());
    let schedule = Schedule { delays: vec![countersign_domain::seconds(1)], jitter: 0.0, ..Schedule::documented() };
    let retry = |found: Option<&Delivery>, now| found.ok_or(delivery::Refusal::NotFound)?.retry(&by(), &schedule, now);
    world.app.tell(&world.change(&key, retry).await).await;
    world.settle().await;
    assert_eq!(receiver.received().len(), 3, "at once");
    receiver.answer(|_| Reply::status(204));
    world.pass(Duration::from_secs(1)).await;
    let arrived = world.app.store.load(&key, deadline()).await.unwrap().unwrap().record;
    assert_eq!((arrived.status(), arrived.attempts()), ("delivered", 4));
    let numbers: Vec<_> = world.attempts(&arrived).await.iter().map(|attempt| attempt["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    let ids: HashSet<_> = receiver.received().iter().map(|received| received.event_id()).collect();
    assert_eq!(ids.len(), 1, "it is the same event");
}

#[tokio::test]
async fn for_a_day_after_a_rotation_both_secrets_sign_and_then_the_new_one_alone() {
    const NEXT: &[u8] = b"the-next-callback-secret";
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let id = world.subscribe(1, &receiver.url("/"), &["*"]).await;
    let sealed = world.sealed(&acme(), &id, NEXT).await;
    world.change_endpoints(|endpoints, now| endpoints.rotate(&id, sealed.clone(), &by(), now)).await;
    let day = Duration::from_secs(86_400);
    let moments: [(Duration, &[&[u8]]); 3] =
        [(Duration::ZERO, &[NEXT, SECRET]), (day - MICROSECOND, &[NEXT, SECRET]), (MICROSECOND, &[NEXT])];
    for (number, (later, secrets)) in moments.into_iter().enumerate() {
        world.clock.advance(later);
        let work = world.event(number.try_into().unwrap()).await;
        world.worker.handle(Lane::Fast, &work).await;
        let received = receiver.received().pop().unwrap();
        let timestamp = received.header("x-approval-timestamp").parse().unwrap();
        let signed =
            webhook_signature::headers(secrets, received.event_id().parse().unwrap(), timestamp, &received.body);
        let signed = signed.unwrap();
        assert_eq!(received.header("webhook-signature"), signed.standard);
        assert_eq!(received.header("webhook-signature").split(' ').count(), secrets.len());
        assert_eq!(received.header("x-approval-signature"), signed.approval, "by the new one");
    }
}
