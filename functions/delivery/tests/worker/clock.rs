//! The clock: word that was lost is said again, once, and what cannot be handled blocks nothing else.

use crate::world::{World, acme, by, deadline};
use countersign_clock::sweep;
use countersign_domain::action::{Action, ActionId, Doer, Submission};
use countersign_domain::actions_policy::ActionsPolicy;
use countersign_domain::case::VerdictOutcome;
use countersign_domain::event::Source;
use countersign_domain::replay::{Replay, ReplayId, Start};
use countersign_domain::{Outcome, Timestamp, Work};
use countersign_queue::Lane;
use countersign_store::Key;
use countersign_testing::receiver::{Receiver, Reply};
use serde_json::Value;
use std::collections::HashSet;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn of_what_is_due_overlapping_sweeps_send_word_once() {
    let mut world = World::new().await;
    for number in 0..100 {
        world.event(number).await;
    }
    world.clock.advance(Duration::from_secs(2));
    let sweeps = (0..4).map(|_| sweep(&world.app, Duration::ZERO, deadline()));
    futures_util::future::join_all(sweeps).await;
    let sent = world.take(Lane::Fast);
    let different: HashSet<&Work> = sent.iter().collect();
    assert_eq!((sent.len(), different.len()), (100, 100));
}

#[tokio::test]
async fn word_of_a_change_or_a_delivery_that_is_lost_is_said_again_by_the_clock() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    // Slow, so that deliveries are made for others to take up.
    let id = world.subscribe(1, &receiver.url("/"), &["*"]).await;
    let slow = countersign_domain::endpoint::Seen::TimedOut;
    world.change_endpoints(|endpoints, now| Ok(endpoints.attempted(&id, slow, now))).await;
    world.event(1).await;
    world.clock.advance(Duration::from_secs(2));
    sweep(&world.app, Duration::ZERO, deadline()).await;
    let change = world.take(Lane::Fast);
    assert_eq!(change.len(), 1);
    world.worker.handle(Lane::Fast, &change).await;
    assert_eq!(world.lose_word(), 1, "of the delivery");
    assert_eq!(world.statuses().await, ["pending"]);
    world.pass(MINUTE).await;
    assert_eq!((world.statuses().await, receiver.received().len()), (vec!["delivered"], 1));
    assert_eq!(world.due().await, []);
}

#[tokio::test]
async fn word_that_the_clock_has_sent_and_that_is_lost_is_said_again_a_minute_later() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    world.subscribe(1, &receiver.url("/"), &["*"]).await;
    world.event(1).await;
    for _again in 0..5 {
        world.clock.advance(MINUTE);
        sweep(&world.app, Duration::ZERO, deadline()).await;
        assert_eq!(world.lose_word(), 1);
    }
    world.pass(MINUTE).await;
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn word_of_endpoints_that_are_closing_is_not_needed() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::status(500));
    let id = world.subscribe(1, &receiver.url("/"), &["*"]).await;
    world.app.tell(&world.event(1).await).await;
    world.settle().await;
    world.enable(&id, false).await;
    world.pass(Duration::ZERO).await;
    assert_eq!(world.statuses().await, ["cancelled"]);
    assert_eq!(world.due().await, []);
}

#[tokio::test]
async fn word_of_a_replay_is_not_needed_and_it_goes_on_wherever_it_was_left() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    let endpoint = world.subscribe(1, &receiver.url("/"), &["*"]).await;
    for number in 0..60 {
        world.app.tell(&world.event(number).await).await;
    }
    world.settle().await;
    let id = ReplayId::from_u128(1);
    let key: Key<Replay> = Key::new(&acme(), id.as_str());
    let until = world.clock.now() + Duration::from_secs(1);
    let start = Start { id, endpoint, since: Timestamp::UNIX_EPOCH, until, events: 60 };
    let rule = |_: Option<&Replay>, now| Ok(Outcome::Change(Replay::start(start.clone(), &by(), now)));
    world.change(&key, rule).await;
    // Word of its start is lost, and that of every delivery that it makes.
    world.clock.advance(2 * MINUTE);
    sweep(&world.app, Duration::ZERO, deadline()).await;
    let fast = world.take(Lane::Fast);
    world.worker.handle(Lane::Fast, &fast).await;
    let slow = world.take(Lane::Slow);
    world.worker.handle(Lane::Slow, &slow).await;
    assert_eq!(world.lose_word(), 60);
    world.pass(2 * MINUTE).await;
    let received = receiver.received();
    assert_eq!(received.len(), 120);
    let events: HashSet<String> = received.iter().map(|received| received.event_id()).collect();
    assert_eq!(events.len(), 60, "each event twice, under its own id");
    assert_eq!(world.due().await, []);
}

#[tokio::test]
async fn a_record_that_nobody_decides_on_meets_its_deadline_and_the_world_hears_of_it() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    world.subscribe(1, &receiver.url("/"), &["action.failed", "action.denied", "action.pending"]).await;
    let submission = Submission {
        id: ActionId::new(7).unwrap(),
        random: "0123abcd".to_owned(),
        organization: acme(),
        agent_id: "bot".to_owned(),
        agent_name: None,
        action_type: "data_export".to_owned(),
        resource: None,
        resource_id: None,
        tool_name: None,
        description: None,
        action_details: serde_json::Map::new(),
        context: serde_json::Map::new(),
        risk_indicators: serde_json::Map::new(),
        on_behalf_of: None,
    };
    let doer = Doer { actor: by(), user: None, ip_address: None, user_agent: None };
    let policy = ActionsPolicy { auto_approve_below: 0, ..ActionsPolicy::default() };
    let rule = |_: Option<&Action>, now| Ok(Outcome::Change(Action::submit(&submission, &policy, &doer, now)));
    let key: Key<Action> = Key::new(&acme(), &submission.id.to_string());
    world.change(&key, rule).await;
    world.pass(MINUTE).await;
    assert_eq!(receiver.received().len(), 1, "that it waits");
    world.pass(Duration::from_secs(86_400)).await;
    assert_eq!(world.entries(&key).await.last().unwrap().name, "action_expired");
    assert_eq!(world.due().await, []);
}

#[tokio::test]
async fn a_full_queue_loses_word_and_nothing_else() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    world.subscribe(1, &receiver.url("/"), &["*"]).await;
    let now = world.clock.now();
    let junk: Vec<Work> =
        (0..4096).map(|n| Work { key: format!("delivery#acme#{n}"), change: None, at: now }).collect();
    for lane in [Lane::Fast, Lane::Slow] {
        world.app.queue.send(lane, &junk, now).await.unwrap();
    }
    world.app.tell(&world.event(1).await).await;
    world.clock.advance(Duration::from_secs(2));
    sweep(&world.app, Duration::ZERO, deadline()).await;
    assert_eq!(world.take(Lane::Fast), junk, "there was no room for more");
    // The slow lane is still full; that holds up nobody.
    world.clock.advance(Duration::from_secs(2));
    sweep(&world.app, Duration::ZERO, deadline()).await;
    let work = world.take(Lane::Fast);
    world.worker.handle(Lane::Fast, &work).await;
    assert_eq!(receiver.received().len(), 1);
}

/// The stored item with this key.
async fn item(world: &World, key: &str, sk: &str) -> Value {
    let all: Value = serde_json::from_str(&world.table().dump("countersign").await).unwrap();
    let items = all["Items"].as_array().unwrap();
    items.iter().find(|item| item["pk"]["S"] == key && item["sk"]["S"] == sk).unwrap().clone()
}

/// Looks on while an item that cannot be read is put off, ten times; how long each time, in minutes.
async fn put_off(world: &mut World, key: &str, sk: &str) -> Vec<i64> {
    let mut minutes = Vec::new();
    for _again in 0..8 {
        let due: Timestamp = item(world, key, sk).await["due_sk"]["S"].as_str().unwrap().parse().unwrap();
        let wait = Duration::try_from(due.duration_since(world.clock.now())).unwrap_or_default();
        world.pass(wait).await;
        let next: Timestamp = item(world, key, sk).await["due_sk"]["S"].as_str().unwrap().parse().unwrap();
        minutes.push(next.duration_since(world.clock.now()).as_mins());
    }
    minutes
}

#[tokio::test]
async fn a_change_that_cannot_be_read_is_put_off_longer_and_longer_and_blocks_nobody() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    world.subscribe(1, &receiver.url("/"), &["*"]).await;
    for number in 1..=3 {
        world.event(number).await;
    }
    let key = crate::world::case_key(&acme(), 1);
    let sk = "change#0000000001";
    let mut corrupt = item(&world, key.as_str(), sk).await;
    corrupt["body"]["S"] = "{".into();
    world.table().put_items("countersign", &[corrupt]).await.unwrap();
    assert_eq!(put_off(&mut world, key.as_str(), sk).await, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(receiver.received().len(), 2, "of the other two");
}

#[tokio::test]
async fn a_delivery_that_cannot_be_read_is_put_off_longer_and_longer_and_blocks_nobody() {
    let mut world = World::with(&[("COUNTERSIGN_RETRY_JITTER", "0")]).await;
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::status(500));
    let id = world.subscribe(1, &receiver.url("/"), &["*"]).await;
    for number in 1..=3 {
        world.app.tell(&world.event(number).await).await;
    }
    world.settle().await;
    let first = world.deliveries().await.swap_remove(0);
    let key = format!("delivery#acme#{}", first.id);
    assert_eq!(world.table().tamper("countersign", &key, "case.created", "case.created\",\"").await, 1);
    receiver.answer(|_| Reply::status(200));
    assert_eq!(put_off(&mut world, &key, "@").await, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(receiver.received().len(), 5, "the others were tried again");
    // Nor does it keep its endpoint from closing.
    world.app.tell(&world.enable(&id, false).await).await;
    world.settle().await;
    assert_eq!(world.endpoints().await.closing, []);
}

#[tokio::test]
async fn a_records_events_reach_a_target_in_order_also_if_word_of_the_last_one_comes_alone() {
    let world = World::new().await;
    let receivers = [Receiver::start().await, Receiver::start().await];
    for (number, receiver) in (1..).zip(&receivers) {
        world.subscribe(number, &receiver.url("/"), &["*"]).await;
    }
    world.event(1).await;
    world.verdict(&acme(), 1, VerdictOutcome::Escalated).await;
    let last = world.verdict(&acme(), 1, VerdictOutcome::TruePositive).await;
    world.worker.handle(Lane::Fast, &last).await;
    let kind = "case".to_owned();
    let id = uuid::Uuid::from_u128(1).to_string();
    let expected: Vec<String> = [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1)]
        .map(|(version, entry)| Source { kind: kind.clone(), id: id.clone(), version, entry })
        .map(|source| source.event_id(&acme()).to_string())
        .to_vec();
    for receiver in &receivers {
        let events: Vec<String> = receiver.received().iter().map(|received| received.event_id()).collect();
        assert_eq!(events, expected);
    }
    assert_eq!(world.due().await, [], "all three changes count as told");
}
