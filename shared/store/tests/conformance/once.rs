//! Idempotency keys: one of many acts, the others hear its answer, and a key belongs to one body.

use crate::world::{Refusal, Thing, World, tenant};
use countersign_store::{Committed, Error, Key, Once};
use std::time::Duration;
use tokio::task::JoinSet;

fn once(key: &str, body: u8) -> Once {
    Once { pk: format!("once#_#{key}"), fingerprint: [body; 32], lifetime: Duration::from_hours(24) }
}

/// Creates differ in their keys, as creations with random ids do; only the idempotency entry tells them apart.
async fn one_create_acts(world: World, rounds: usize) {
    for round in 0..rounds {
        let tenant = tenant(&format!("t{round}"));
        let mut callers = JoinSet::new();
        for who in 0..16 {
            let (world, tenant) = (world.clone(), tenant.clone());
            callers.spawn(async move {
                let once = once(&format!("create-{round}"), 1);
                world.put(&tenant, world.thing(&format!("{round}-{who}")), Some(&once)).await.unwrap()
            });
        }
        let answers = callers.join_all().await;
        let acted: Vec<_> = answers.iter().filter(|answer| matches!(answer, Committed::Now(_))).collect();
        assert_eq!(acted.len(), 1, "{answers:?}");
        let [Committed::Now(answer)] = acted[..] else { unreachable!() };
        let replays = answers.iter().filter(|other| **other == Committed::Before(answer.clone())).count();
        assert_eq!(replays, 15, "{answers:?}");
        let mut found = 0;
        for who in 0..16 {
            found += usize::from(world.load(&Key::new(&tenant, &format!("{round}-{who}"))).await.is_some());
        }
        assert_eq!(found, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_simultaneous_calls_with_one_key_one_acts_and_the_others_replay() {
    one_create_acts(World::new().await, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_bad_day_one_key_still_acts_once() {
    one_create_acts(World::faulty(2).await, 10).await;
}

#[tokio::test]
async fn a_replay_comes_before_the_refusal_that_the_first_call_caused() {
    let world = World::new().await;
    let (tenant, key) = (tenant("acme"), Key::new(&tenant("acme"), "decided"));
    world.create(&tenant, "decided", None).await;
    let decide = async |once: &Once| {
        world.apply(&key, Some(once), |thing, now| thing.ok_or(Refusal::NotFound)?.decide(1, now)).await
    };
    let first = decide(&once("k", 1)).await.unwrap();
    assert_eq!(first, Committed::Now("decided 0 Some(1)".to_owned()));
    assert_eq!(decide(&once("k", 1)).await.unwrap(), Committed::Before("decided 0 Some(1)".to_owned()));
    assert_eq!(decide(&once("k", 2)).await, Err(Error::KeyReused));
    assert_eq!(decide(&once("other", 1)).await, Err(Error::Refused(Refusal::Decided(1))));
}

#[tokio::test]
async fn a_key_with_another_body_is_refused_even_where_the_rule_would_agree() {
    let world = World::new().await;
    world.put(&tenant("acme"), world.thing("a"), Some(&once("k", 1))).await.unwrap();
    let other = world.put(&tenant("acme"), world.thing("b"), Some(&once("k", 2))).await;
    assert_eq!(other, Err(Error::KeyReused));
    assert_eq!(world.load(&Key::new(&tenant("acme"), "b")).await, None);
}

#[tokio::test]
async fn a_refused_call_leaves_its_key_free() {
    let world = World::new().await;
    let key = Key::<Thing>::new(&tenant("acme"), "later");
    let decide = async || {
        let once = once("k", 1);
        world.apply(&key, Some(&once), |thing, now| thing.ok_or(Refusal::NotFound)?.decide(1, now)).await
    };
    assert_eq!(decide().await, Err(Error::Refused(Refusal::NotFound)));
    world.create(&tenant("acme"), "later", None).await;
    assert_eq!(decide().await.unwrap(), Committed::Now("later 0 Some(1)".to_owned()));
}

#[tokio::test]
async fn an_expired_entry_counts_as_gone_whether_or_not_it_was_removed() {
    let world = World::new().await;
    world.put(&tenant("acme"), world.thing("a"), Some(&once("k", 1))).await.unwrap();
    world.clock.advance(Duration::from_hours(24) - Duration::from_secs(1));
    let before = world.put(&tenant("acme"), world.thing("b"), Some(&once("k", 1))).await.unwrap();
    assert!(matches!(before, Committed::Before(_)));
    world.clock.advance(Duration::from_secs(1));
    let after = world.put(&tenant("acme"), world.thing("c"), Some(&once("k", 2))).await.unwrap();
    assert_eq!(after, Committed::Now("c 0 None".to_owned()));
}
