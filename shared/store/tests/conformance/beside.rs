//! What a change writes besides its record: items, newborn records, and its place in an inbox.

use crate::job::{Job, JobRefusal, JobState};
use crate::world::{World, deadline, eventually, tenant};
use aws_sdk_dynamodb::types::AttributeValue;
use countersign_domain::Record;
use countersign_store::{Committed, Error, Key};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use tokio::task::JoinSet;

#[tokio::test]
async fn items_are_written_with_their_change_and_read_by_name_or_prefix() {
    let world = World::new().await;
    let key = world.hire(&tenant("acme"), "one", "a").await;
    assert_eq!(world.store.item(&key, "@input", deadline()).await.unwrap().as_deref(), Some("input of one"));
    assert_eq!(world.store.item(&key, "report", deadline()).await.unwrap(), None);
    world.take(&key, "b").await.unwrap();
    let reports = world.store.items(&key, "rep", deadline()).await.unwrap();
    assert_eq!(reports, HashMap::from([("report".to_owned(), "done".to_owned())]));
    assert_eq!(world.take(&key, "c").await, Err(Error::Refused(JobRefusal::NotWaiting)));
}

async fn broken(world: &World) -> Option<(String, u64, &'static str)> {
    let verified = world.store.verify(Job::KIND, &tenant("acme"), None, None).await.unwrap();
    verified.broken.map(|record| (record.id().to_owned(), record.broken.version, record.broken.reason))
}

#[tokio::test]
async fn an_item_that_was_changed_or_removed_is_found_where_it_was_written() {
    let world = World::new().await;
    let key = world.hire(&tenant("acme"), "one", "a").await;
    world.take(&key, "b").await.unwrap();
    assert_eq!(broken(&world).await, None);
    for (name, version) in [("@input", 1), ("report", 2)] {
        let item = |body: &str| {
            let text = |text: &str| AttributeValue::S(text.to_owned());
            let put = world.client.put_item().table_name(&world.table).item("pk", text(key.as_str()));
            put.item("sk", text(name)).item("body", text(body)).send()
        };
        let before = world.store.item(&key, name, deadline()).await.unwrap().unwrap();
        item("evil").await.unwrap();
        let (_, found, reason) = broken(&world).await.unwrap();
        assert_eq!((found, reason), (version, "an item that was written with it has another content"));
        let delete = world.client.delete_item().table_name(&world.table);
        let delete = delete.key("pk", AttributeValue::S(key.as_str().to_owned()));
        delete.key("sk", AttributeValue::S(name.to_owned())).send().await.unwrap();
        let (_, found, reason) = broken(&world).await.unwrap();
        assert_eq!((found, reason), (version, "an item that was written with it is missing"));
        item(&before).await.unwrap();
        assert_eq!(broken(&world).await, None);
    }
}

#[tokio::test]
async fn a_newborn_record_comes_with_a_chain_of_its_own() {
    let world = World::new().await;
    let acme = tenant("acme");
    let key = world.hire(&acme, "one", "a").await;
    world.succeed(&key, "two").await.unwrap();
    let next: Key<Job> = Key::new(&acme, "two");
    assert_eq!(world.job(&key).await.unwrap().state, JobState::Taken);
    assert_eq!(world.job(&next).await.unwrap().state, JobState::Waiting);
    let history = world.store.history(&next, deadline()).await.unwrap();
    assert_eq!(history.iter().map(|change| change.body.entries[0].name.as_str()).collect::<Vec<_>>(), ["born"]);
    assert_eq!(broken(&world).await, None);
    assert_eq!(world.take(&next, "b").await, Ok(Committed::Now(())));
    assert_eq!(broken(&world).await, None);
}

#[tokio::test]
async fn nothing_is_changed_if_the_newborn_is_there_already() {
    let world = World::new().await;
    let acme = tenant("acme");
    let key = world.hire(&acme, "one", "a").await;
    let next = world.hire(&acme, "two", "a").await;
    assert!(matches!(world.succeed(&key, "two").await, Err(Error::Fault(_))));
    assert_eq!(world.job(&key).await.unwrap().state, JobState::Waiting);
    assert_eq!(world.store.history(&next, deadline()).await.unwrap().len(), 1);
}

async fn waiting(world: &World, limit: usize) -> Vec<String> {
    let keys = world.store.inbox::<Job>(&tenant("acme"), "jobs", limit, deadline()).await.unwrap();
    keys.iter().map(|key| key.as_str().rsplit('#').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_inbox_shows_what_waits_the_longest_waiting_first() {
    let world = World::new().await;
    for id in ["c", "a", "b"] {
        world.hire(&tenant("acme"), id, "a").await;
        world.clock.advance(Duration::from_millis(1));
    }
    world.hire(&tenant("other"), "foreign", "a").await;
    assert_eq!(waiting(&world, 10).await, ["c", "a", "b"]);
    assert_eq!(waiting(&world, 2).await, ["c", "a"]);
    world.take(&Key::new(&tenant("acme"), "a"), "b").await.unwrap();
    assert_eq!(waiting(&world, 10).await, ["c", "b"]);
    world.succeed(&Key::new(&tenant("acme"), "c"), "d").await.unwrap();
    assert_eq!(waiting(&world, 10).await, ["b", "d"]);
}

/// On a bad day, indexes lag: an inbox must not.
#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_is_never_behind_whoever_takes_from_it() {
    let world = World::faulty(11).await;
    let acme = tenant("acme");
    let ids: Vec<_> = (0..24).map(|n| format!("{n:02}")).collect();
    for id in &ids {
        world.hire(&acme, id, "a").await;
        assert_eq!(waiting(&world, 100).await.last(), Some(id));
        world.clock.advance(Duration::from_millis(1));
    }
    let mut takers = JoinSet::new();
    for taker in 0..4 {
        let world = world.clone();
        takers.spawn(async move {
            let mut taken = Vec::new();
            while let Some(id) = waiting(&world, 1).await.pop() {
                if world.take(&Key::new(&tenant("acme"), &id), &taker.to_string()).await.is_ok() {
                    taken.push(id);
                }
            }
            taken
        });
    }
    let taken = takers.join_all().await.concat();
    assert_eq!(taken.len(), ids.len(), "each was taken once");
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>(), ids.into_iter().collect());
    eventually(None, async || broken(&world).await).await;
}
