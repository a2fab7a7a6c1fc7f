//! What the clock sees: deadlines that have passed, and changes that nobody was told of.

use crate::job::{Job, JobState};
use crate::world::{Thing, World, deadline, tenant};
use countersign_domain::{Record, Work};
use countersign_store::{Due, Key, SHARDS, Untold, Window};
use std::time::Duration;

async fn due(world: &World) -> Vec<Due> {
    let mut due = Vec::new();
    for shard in 0..SHARDS {
        due.extend(world.store.due(shard, world.clock.now(), 100, deadline()).await.unwrap());
    }
    due
}

fn names(untold: &[Untold]) -> Vec<String> {
    untold.iter().flat_map(|change| change.change.entries.iter().map(|entry| entry.name.clone())).collect()
}

async fn due_records(world: &World) -> Vec<Due> {
    let mut due = due(world).await;
    due.retain(|due| due.work().change.is_none());
    due
}

/// What nobody has told of all this, of which one record has changed.
async fn untold(world: &World, work: &[&Work]) -> Vec<Untold> {
    let untold = world.store.untold(work, |_| None, deadline()).await.unwrap();
    untold.into_values().flat_map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_deadline_is_due_from_its_moment_on_until_it_has_passed() {
    let world = World::new().await;
    let key = world.hire(&tenant("acme"), "one", "a").await;
    let deadline_at = world.clock.now() + Duration::from_secs(60);
    world.clock.advance(Duration::from_micros(59_999_999));
    assert_eq!(due_records(&world).await, []);
    world.clock.advance(Duration::from_micros(1));
    let found = due_records(&world).await;
    let work = Work { key: key.as_str().to_owned(), change: None, at: deadline_at };
    assert_eq!(found.iter().map(Due::work).collect::<Vec<_>>(), std::slice::from_ref(&work));
    for told in [1, 0] {
        let more = world.store.tick::<Job>(&work, deadline()).await.unwrap();
        assert_eq!(more.len(), told, "only what happens now is told");
        assert_eq!(world.job(&key).await.unwrap().state, JobState::Late);
    }
    assert_eq!(world.store.history(&key, deadline()).await.unwrap().len(), 2, "looking twice changes nothing");
    assert_eq!(due_records(&world).await, []);
}

#[tokio::test]
async fn what_was_decided_in_time_is_not_due_and_what_is_not_there_is_nobodys_work() {
    let world = World::new().await;
    let key = world.hire(&tenant("acme"), "one", "a").await;
    world.take(&key, "b").await.unwrap();
    world.clock.advance(Duration::from_secs(600));
    assert_eq!(due_records(&world).await, []);
    let absent: Key<Job> = Key::new(&tenant("acme"), "two");
    let work = Work { key: absent.as_str().to_owned(), change: None, at: world.clock.now() };
    assert_eq!(world.store.tick::<Job>(&work, deadline()).await, Ok(Vec::new()));
    let foreign = Work { key: "thing#acme#one".to_owned(), ..work };
    assert!(world.store.tick::<Job>(&foreign, deadline()).await.is_err());
}

#[tokio::test]
async fn of_overlapping_sweeps_one_moves_an_item_on_and_the_clock_looks_again_a_minute_later() {
    let world = World::new().await;
    world.hire(&tenant("acme"), "one", "a").await;
    world.clock.advance(Duration::from_secs(60));
    let [found] = &due_records(&world).await[..] else { unreachable!() };
    assert_eq!(world.store.move_on(found, world.clock.now(), deadline()).await, Ok(true));
    assert_eq!(world.store.move_on(found, world.clock.now(), deadline()).await, Ok(false));
    world.clock.advance(Duration::from_micros(59_999_999));
    assert_eq!(due_records(&world).await, []);
    world.clock.advance(Duration::from_micros(1));
    assert_eq!(due_records(&world).await.len(), 1);
}

#[tokio::test]
async fn a_change_with_events_is_due_until_the_world_was_told() {
    let world = World::new().await;
    let acme = tenant("acme");
    let key = world.hire(&acme, "one", "a").await;
    assert_eq!(due(&world).await, []);
    world.clock.advance(Duration::from_secs(2));
    let [found] = &due(&world).await[..] else { unreachable!() };
    assert_eq!((found.work().change, found.key()), (Some(1), key.as_str()));
    world.take(&key, "b").await.unwrap();
    // Word of the second change finds the first one, too, in order.
    let work = Work { change: Some(2), ..found.work() };
    let untold = untold(&world, &[&work]).await;
    assert_eq!(names(&untold), ["hired", "taken"]);
    assert_eq!((untold[0].kind(), untold[0].id(), &untold[0].tenant), (Job::KIND, "one", &acme));
    for _ in 0..2 {
        world.store.told(&untold, deadline()).await.unwrap();
        assert_eq!(self::untold(&world, &[&work]).await, []);
    }
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(due(&world).await, []);
    assert_eq!(world.store.move_on(found, world.clock.now(), deadline()).await, Ok(false), "it stays told");
    let again = world.store.change_of(&acme, (Job::KIND, "one"), 2, deadline()).await.unwrap();
    assert_eq!(again.as_ref(), Some(&untold[1]));
    assert_eq!(world.store.change_of(&acme, (Job::KIND, "one"), 3, deadline()).await, Ok(None));
    assert_eq!(world.store.verify(Job::KIND, &acme, None, None).await.unwrap().broken, None);
}

#[tokio::test]
async fn changes_of_which_word_was_lost_are_told_along_with_those_around_them() {
    let world = World::new().await;
    let acme = tenant("acme");
    world.create(&acme, "one", None).await;
    let key: Key<Thing> = Key::new(&acme, "one");
    for name in ["second", "third"] {
        let rule = |thing: Option<&Thing>, now| Ok(thing.unwrap().clone().change(name, now));
        world.apply(&key, None, rule).await.unwrap();
    }
    let word = |change| Work { key: key.as_str().to_owned(), change: Some(change), at: world.clock.now() };
    let all = ["thing.created", "thing.second", "thing.third"];
    assert_eq!(names(&untold(&world, &[&word(3)]).await), all, "the one before was not told");
    assert_eq!(names(&untold(&world, &[&word(1), &word(3)]).await), all, "the one between was not told");
    let third = word(3);
    for (known, names_of) in [(Some(2), &all[2..]), (Some(1), &all[..]), (None, &all[..])] {
        let untold = world.store.untold(&[&third], |key| known.filter(|_| key == third.key), deadline()).await.unwrap();
        assert_eq!(names(untold[&third.key].as_ref().unwrap()), names_of, "{known:?} is known to be told");
    }
    let first = untold(&world, &[&word(2), &word(1), &word(2)]).await;
    assert_eq!(names(&first), all[..2]);
    world.store.told(&first, deadline()).await.unwrap();
    assert_eq!(names(&untold(&world, &[&word(3)]).await), all[2..]);
    assert_eq!(names(&untold(&world, &[&word(1), &word(3)]).await), all[2..]);
    assert_eq!(untold(&world, &[&word(9)]).await, [], "there is no such change");
}

#[tokio::test]
async fn many_changes_are_told_together() {
    let world = World::new().await;
    let mut untold = Vec::new();
    for n in 0..60 {
        let key = world.hire(&tenant("acme"), &format!("{n:02}"), "a").await;
        let work = Work { key: key.as_str().to_owned(), change: Some(1), at: world.clock.now() };
        untold.extend(self::untold(&world, &[&work]).await);
    }
    world.store.told(&untold, deadline()).await.unwrap();
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(due(&world).await, []);
}

#[tokio::test]
async fn a_window_counts_and_gives_the_events_of_its_time_and_kinds_only() {
    let world = World::new().await;
    let acme = tenant("acme");
    let mut times = Vec::new();
    for n in 0..7 {
        times.push(world.clock.now());
        let key = world.hire(&acme, &format!("{n}"), "a").await;
        if n % 2 == 0 {
            world.take(&key, "b").await.unwrap();
        }
        world.create(&acme, &format!("{n}"), None).await;
        world.hire(&tenant("other"), &format!("{n}"), "a").await;
        world.clock.advance(Duration::from_secs(1));
    }
    let kinds = [Job::KIND, "thing"];
    let window = Window { tenant: &acme, kinds: &kinds, since: times[1], until: times[5] };
    let count = async |wanted: &[&str], at_most| {
        let wanted = |name: &str| wanted.contains(&name);
        loop {
            // Indexes may lag; what is counted only grows.
            let count = world.store.count_events(window, wanted, at_most, deadline()).await.unwrap();
            let all = world.store.count_events(window, |_| true, 100, deadline()).await.unwrap();
            if all == 10 {
                return count;
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(count(&["hired"], 100).await, 4);
    assert_eq!(count(&["taken"], 100).await, 2);
    assert_eq!(count(&["thing.created", "hired"], 100).await, 8);
    assert_eq!(count(&["none"], 100).await, 0);
    assert!(count(&["hired", "taken"], 3).await > 3, "counting ends beyond what is asked for");
    let (mut found, mut from) = (Vec::new(), Some(String::new()));
    while let Some(position) = from {
        let page = world.store.events(window, &position, 3, deadline()).await.unwrap();
        assert!(page.changes.len() <= 3);
        found.extend(page.changes.iter().map(|change| format!("{} {}", change.kind(), change.id())));
        from = page.next;
    }
    let expected = ["job 1", "job 2", "job 2", "job 3", "job 4", "job 4", "thing 1", "thing 2", "thing 3", "thing 4"];
    assert_eq!(found, expected);
    assert!(world.store.events(window, "nonsense\nnonsense", 3, deadline()).await.is_err());
}

#[tokio::test]
async fn what_waits_in_an_inbox_is_counted_up_to_a_limit() {
    let world = World::new().await;
    let acme = tenant("acme");
    let waiting = async |at_most| world.store.waiting(&acme, "jobs", at_most, deadline()).await.unwrap();
    assert_eq!(waiting(3).await, 0);
    for n in 0..5 {
        world.hire(&acme, &format!("{n}"), "a").await;
    }
    assert_eq!((waiting(3).await, waiting(5).await, waiting(9).await), (3, 5, 5));
    world.take(&Key::new(&acme, "0"), "b").await.unwrap();
    assert_eq!(waiting(9).await, 4);
}

#[tokio::test]
async fn what_cannot_be_handled_is_put_off_for_longer_and_longer() {
    let world = World::new().await;
    let key = world.hire(&tenant("acme"), "one", "a").await;
    let work = Work { key: key.as_str().to_owned(), change: None, at: world.clock.now() };
    world.clock.advance(Duration::from_secs(60));
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(due_records(&world).await.len(), 1, "due again after {minutes}");
        world.store.put_off(&work, world.clock.now(), deadline()).await.unwrap();
        world.clock.advance(Duration::from_secs(minutes * 60 - 1));
        assert_eq!(due_records(&world).await, [], "{minutes}");
        world.clock.advance(Duration::from_secs(1));
    }
    world.store.tick::<Job>(&work, deadline()).await.unwrap();
    assert_eq!(due_records(&world).await, []);
    // What was handled meanwhile is not put off any more.
    world.store.put_off(&work, world.clock.now(), deadline()).await.unwrap();
    world.clock.advance(Duration::from_secs(7200));
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
