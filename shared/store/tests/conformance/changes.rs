//! Changes: exactly one of many wins, none is lost, and the chain of all of them verifies.

use crate::world::{Refusal, Thing, World, deadline, eventually_verified, tenant};
use countersign_domain::Outcome;
use countersign_store::{Committed, Error, Fault, Key};
use countersign_testing::fault::Faults;
use std::time::Duration;
use tokio::task::JoinSet;

async fn one_of_many_wins(world: World, rounds: usize) {
    let tenant = tenant("acme");
    for round in 0..rounds {
        let id = format!("race-{round}");
        world.create(&tenant, &id, None).await;
        let key = Key::new(&tenant, &id);
        let mut racers = JoinSet::new();
        for who in 0..32 {
            let (world, key) = (world.clone(), key.clone());
            racers.spawn(async move { (who, world.decide(&key, who).await) });
        }
        let outcomes = racers.join_all().await;
        let winners: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(who, _)| *who).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        for (who, outcome) in &outcomes {
            match outcome {
                Ok(committed) => assert_eq!(committed, &Committed::Now(format!("{id} 0 Some({who})"))),
                Err(error) => assert_eq!(error, &Error::Refused(Refusal::Decided(winners[0]))),
            }
        }
        assert_eq!(world.load(&key).await.unwrap().decided_by, Some(winners[0]));
        let history = world.store.history(&key, deadline()).await.unwrap();
        let names: Vec<_> = history.iter().flat_map(|change| &change.body.entries).map(|entry| &entry.name).collect();
        assert_eq!(names, ["thing.created", "thing.decided"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_simultaneous_decisions_exactly_one_wins() {
    one_of_many_wins(World::new().await, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_bad_day_exactly_one_decision_wins_and_its_own_caller_is_told() {
    one_of_many_wins(World::faulty(1).await, 20).await;
}

async fn no_change_is_lost(world: World) {
    let tenant = tenant("acme");
    world.create(&tenant, "counter", None).await;
    let key: Key<Thing> = Key::new(&tenant, "counter");
    let mut adders = JoinSet::new();
    for _ in 0..8 {
        let (world, key) = (world.clone(), key.clone());
        adders.spawn(async move {
            for _ in 0..5 {
                let add = |thing: Option<&Thing>, now| {
                    let thing = thing.ok_or(Refusal::NotFound)?;
                    Ok(Thing { count: thing.count + 1, ..thing.clone() }.change("added", now))
                };
                world.apply(&key, None, add).await.unwrap();
            }
        });
    }
    adders.join_all().await;
    assert_eq!(world.load(&key).await.unwrap().count, 40);
    let verified = eventually_verified(&world, &tenant, 1).await;
    assert_eq!((verified.records, verified.entries, verified.broken), (1, 41, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_changes_all_happen_one_after_the_other() {
    no_change_is_lost(World::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_bad_day_no_change_is_lost_or_made_twice() {
    for seed in 10..14 {
        no_change_is_lost(World::faulty(seed).await).await;
    }
}

#[tokio::test]
async fn a_record_is_created_once() {
    let world = World::new().await;
    let thing = world.create(&tenant("acme"), "one", None).await;
    let again = world.put(&tenant("acme"), thing.clone(), None).await;
    assert_eq!(again, Err(Error::Refused(Refusal::Exists)));
    assert_eq!(world.load(&Key::new(&tenant("acme"), "one")).await, Some(thing));
}

#[tokio::test]
async fn a_rule_that_keeps_the_record_writes_nothing() {
    let world = World::new().await;
    let (tenant, key) = (tenant("acme"), Key::new(&tenant("acme"), "kept"));
    world.create(&tenant, "kept", None).await;
    let kept = world.apply(&key, None, |_, _| Ok(Outcome::Keep)).await;
    assert_eq!(kept, Ok(Committed::Now("kept 0 None".to_owned())));
    assert_eq!(world.store.history(&key, deadline()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_refusal_writes_nothing() {
    let world = World::new().await;
    let key = Key::<Thing>::new(&tenant("acme"), "absent");
    assert_eq!(world.decide(&key, 1).await, Err(Error::Refused(Refusal::NotFound)));
    assert_eq!(world.load(&key).await, None);
    assert!(world.store.history(&key, deadline()).await.unwrap().is_empty());
}

#[tokio::test]
async fn time_never_runs_backwards_in_one_record() {
    let world = World::new().await;
    let (tenant, key) = (tenant("acme"), Key::new(&tenant("acme"), "late"));
    world.create(&tenant, "late", None).await;
    world.clock.advance(Duration::from_secs(60));
    world.decide(&key, 1).await.unwrap();
    let changed_at = world.store.load(&key, deadline()).await.unwrap().unwrap().changed_at;
    let mut seen = None;
    world
        .behind()
        .apply(&key, None, |thing, now| {
            seen = Some(now);
            Ok(thing.ok_or(Refusal::NotFound)?.clone().change("touched", now))
        })
        .await
        .unwrap();
    assert_eq!(seen, Some(changed_at));
}

#[tokio::test]
async fn an_item_that_is_too_large_is_refused_whole() {
    let world = World::new().await;
    let (tenant, key) = (tenant("acme"), Key::new(&tenant("acme"), "large"));
    let thing = world.create(&tenant, "large", None).await;
    let grow =
        |_: Option<&Thing>, now| Ok(Thing { ballast: "x".repeat(410_000), ..thing.clone() }.change("grown", now));
    let grown = world.apply(&key, None, grow).await;
    assert!(matches!(grown, Err(Error::Fault(Fault::Corrupt(_)))), "{grown:?}");
    assert_eq!(world.load(&key).await, Some(thing.clone()));
    assert_eq!(world.store.history(&key, deadline()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_table_that_is_not_there_is_unavailable_not_empty() {
    let world = World::new().await.on_table("conformance-absent");
    let key = Key::<Thing>::new(&tenant("acme"), "any");
    let loaded = world.store.load(&key, deadline()).await;
    assert!(matches!(loaded, Err(Fault::Unavailable(_))), "{loaded:?}");
    assert!(world.store.ping(Duration::from_secs(2)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_lands_late_is_told_as_the_success_that_it_is() {
    let faults = Faults { late_commit: 1.0, late_by: Duration::from_millis(300), ..Faults::none() };
    let world = World::with_faults(faults, 0).await;
    let key = Key::<Thing>::new(&tenant("acme"), "late");
    let mut applied = 0;
    // As if the deadline of the record passed while the first attempt is on its way.
    let created = world
        .apply(&key, None, |_, now| {
            applied += 1;
            if applied > 1 { Err(Refusal::NotFound) } else { Ok(world.thing("late").change("created", now)) }
        })
        .await;
    assert_eq!(created, Ok(Committed::Now("late 0 None".to_owned())));
    assert!(applied > 1, "the rule was asked again meanwhile");
}
