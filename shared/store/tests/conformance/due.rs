//! What the clock sees: deadlines that have passed and changes that nobody was told of.

use crate::job::{Job, JobState};
use crate::world::{World, deadline, tenant};
use countersign_domain::Record;
use countersign_store::{Due, DueKind, SHARDS};
use std::time::Duration;

async fn due(world: &World) -> Vec<Due> {
    let mut due = Vec::new();
    for shard in 0..SHARDS {
        due.extend(world.store.due(shard, world.clock.now(), 100, deadline()).await.unwrap());
    }
    due
}

async fn due_records(world: &World) -> Vec<Due> {
    let mut due = due(world).await;
    due.retain(|due| due.kind() == DueKind::Record(Job::KIND));
    due
}

#[tokio::test]
async fn a_deadline_is_due_from_its_moment_on_until_the_clock_has_looked() {
    let world = World::new().await;
    let key = world.hire(&tenant("acme"), "one", "a").await;
    world.clock.advance(Duration::from_micros(59_999_999));
    assert_eq!(due_records(&world).await, []);
    world.clock.advance(Duration::from_micros(1));
    let found = due_records(&world).await;
    assert_eq!(found.iter().map(Due::key).collect::<Vec<_>>(), [key.as_str()]);
    for _ in 0..2 {
        world.store.tick::<Job>(&found[0], deadline()).await.unwrap();
        assert_eq!(world.job(&key).await.unwrap().state, JobState::Late);
    }
    assert_eq!(world.store.history(&key, deadline()).await.unwrap().len(), 2, "looking twice changes nothing");
    assert_eq!(due_records(&world).await, []);
}

#[tokio::test]
async fn what_was_decided_in_time_is_not_due() {
    let world = World::new().await;
    let key = world.hire(&tenant("acme"), "one", "a").await;
    world.take(&key, "b").await.unwrap();
    world.clock.advance(Duration::from_secs(600));
    assert_eq!(due_records(&world).await, []);
}

#[tokio::test]
async fn a_change_is_due_until_it_is_done() {
    let world = World::new().await;
    world.hire(&tenant("acme"), "one", "a").await;
    assert_eq!(due(&world).await, []);
    world.clock.advance(Duration::from_secs(2));
    let found = due(&world).await;
    assert_eq!(found.iter().map(Due::kind).collect::<Vec<_>>(), [DueKind::Change]);
    world.store.done(&found[0], deadline()).await.unwrap();
    assert_eq!(due(&world).await, []);
    // Another sweep that had seen it as well.
    world.store.done(&found[0], deadline()).await.unwrap();
    assert_eq!(world.store.verify(Job::KIND, &tenant("acme"), None, None).await.unwrap().broken, None);
}

#[tokio::test]
async fn what_cannot_be_handled_is_put_off_for_longer_and_longer() {
    let world = World::new().await;
    world.hire(&tenant("acme"), "one", "a").await;
    world.clock.advance(Duration::from_secs(60));
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        let found = due_records(&world).await;
        assert_eq!(found.len(), 1, "due again after {minutes}");
        world.store.put_off(&found[0], world.clock.now(), deadline()).await.unwrap();
        // A sweep that overlaps has read the same and comes too late.
        world.store.put_off(&found[0], world.clock.now(), deadline()).await.unwrap();
        world.clock.advance(Duration::from_secs(minutes * 60 - 1));
        assert_eq!(due_records(&world).await, [], "{minutes}");
        world.clock.advance(Duration::from_secs(1));
    }
    let found = due_records(&world).await;
    world.store.tick::<Job>(&found[0], deadline()).await.unwrap();
    assert_eq!(due_records(&world).await, []);
}

#[tokio::test]
async fn a_look_at_a_shard_has_a_limit_and_starts_with_the_longest_due() {
    let world = World::new().await;
    for n in 0..40 {
        world.hire(&tenant("acme"), &format!("{n:02}"), "a").await;
        world.clock.advance(Duration::from_millis(1));
    }
    world.clock.advance(Duration::from_secs(60));
    for shard in 0..SHARDS {
        let all = world.store.due(shard, world.clock.now(), 100, deadline()).await.unwrap();
        let some = world.store.due(shard, world.clock.now(), 3, deadline()).await.unwrap();
        assert_eq!(some[..], all[..all.len().min(3)]);
    }
}
