//! Parts of records in inboxes: found by who holds them and how they stand, and dropped where they no longer do.

use crate::world::{World, deadline, eventually, tenant};
use countersign_domain::{Change, Outcome, Pointer, Tenant, With, seconds};
use countersign_store::{Fault, Key, Parts};

/// The part with this number of the world's time, of this holder and in this state.
fn pointer(world: &World, number: i64, holder: &str, state: &str) -> Pointer {
    Pointer {
        inbox: format!("task:{holder}"),
        id: format!("part-{number:04}"),
        created_at: world.clock.now().saturating_add(seconds(number)).unwrap(),
        state: state.to_owned(),
    }
}

fn parts<'a>(tenant: &'a Tenant, holder: Option<&'a str>, state: Option<&'a str>) -> Parts<'a> {
    Parts { tenant, kind: "task", holder, state, offset: 0, limit: 100 }
}

/// The ids of all parts of a listing that `keep` lets through.
async fn ids(world: &World, parts: Parts<'_>, keep: impl Fn(&str) -> bool) -> Vec<String> {
    let read = async |ids: Vec<String>| Ok(ids.into_iter().map(|id| keep(&id).then_some(id)).collect());
    world.store.list_parts(parts, deadline(), read).await.unwrap()
}

async fn all(world: &World, parts: Parts<'_>) -> Vec<String> {
    ids(world, parts, |_| true).await
}

fn named(numbers: &[i64]) -> Vec<String> {
    numbers.iter().map(|number| format!("part-{number:04}")).collect()
}

#[tokio::test]
async fn parts_are_found_by_holder_and_state_newest_first() {
    let (world, acme, other) = (World::new().await, tenant("acme"), tenant("other"));
    let pointers = [
        pointer(&world, 1, "ann", "open"),
        pointer(&world, 2, "bob", "open"),
        pointer(&world, 3, "ann", "claimed"),
        pointer(&world, 4, "ann", "open"),
    ];
    world.store.point(&acme, &pointers, deadline()).await.unwrap();
    world.store.point(&other, &[pointer(&world, 9, "ann", "open")], deadline()).await.unwrap();
    // The inbox itself is never behind.
    assert_eq!(all(&world, parts(&acme, Some("ann"), None)).await, named(&[4, 3, 1]));
    for (holder, state, expected) in [
        (None, None, vec![4, 3, 2, 1]),
        (None, Some("open"), vec![4, 2, 1]),
        (Some("ann"), Some("open"), vec![4, 1]),
        (Some("ann"), Some("claimed"), vec![3]),
        (Some("ann"), Some("gone"), vec![]),
        (Some("eve"), Some("open"), vec![]),
    ] {
        eventually(named(&expected), async || all(&world, parts(&acme, holder, state)).await).await;
    }
    assert_eq!(all(&world, parts(&acme, Some("eve"), None)).await, named(&[]));
    assert_eq!(all(&world, parts(&other, Some("ann"), None)).await, named(&[9]));
    assert_eq!(all(&world, Parts { kind: "other", ..parts(&acme, Some("ann"), None) }).await, named(&[]));
}

#[tokio::test]
async fn a_pointer_is_written_over_what_was_there_as_often_as_it_is_asked_for() {
    let (world, acme) = (World::new().await, tenant("acme"));
    let open: Vec<_> = (1..=120).map(|number| pointer(&world, number, "ann", "open")).collect();
    let closed: Vec<_> = (1..=120).map(|number| pointer(&world, number, "ann", "skipped")).collect();
    for pointers in [&open, &closed, &closed] {
        world.store.point(&acme, pointers, deadline()).await.unwrap();
    }
    let everything = Parts { limit: 200, ..parts(&acme, Some("ann"), None) };
    assert_eq!(all(&world, everything).await.len(), 120);
    eventually(0, async || all(&world, Parts { state: Some("open"), ..everything }).await.len()).await;
    eventually(120, async || all(&world, Parts { state: Some("skipped"), ..everything }).await.len()).await;
}

#[tokio::test]
async fn a_listing_goes_on_until_it_is_full_or_there_is_no_more() {
    let (world, acme) = (World::new().await, tenant("acme"));
    let pointers: Vec<_> = (1..=250).map(|number| pointer(&world, number, "ann", "open")).collect();
    world.store.point(&acme, &pointers, deadline()).await.unwrap();
    let whose = parts(&acme, Some("ann"), None);
    // What is no longer so is dropped, and what is further on comes in its place.
    let old = |id: &str| id <= "part-0030";
    let expected: Vec<i64> = (11..=30).rev().collect();
    assert_eq!(ids(&world, Parts { limit: 20, ..whose }, old).await, named(&expected));
    let expected: Vec<i64> = (1..=10).rev().collect();
    assert_eq!(ids(&world, Parts { offset: 20, limit: 20, ..whose }, old).await, named(&expected));
    assert_eq!(ids(&world, Parts { offset: 30, limit: 20, ..whose }, old).await, named(&[]));
    assert_eq!(all(&world, Parts { offset: 249, limit: 20, ..whose }).await, named(&[1]));
    assert_eq!(all(&world, Parts { limit: 1000, ..whose }).await.len(), 250);
    let broken = async |_: Vec<String>| Err::<Vec<Option<String>>, _>(Fault::Corrupt("unreadable".to_owned()));
    let failed = world.store.list_parts(whose, deadline(), broken).await;
    assert_eq!(failed, Err(Fault::Corrupt("unreadable".to_owned())));
}

#[tokio::test]
async fn a_change_writes_its_pointers_or_nothing() {
    let (world, acme) = (World::new().await, tenant("acme"));
    let key = Key::new(&acme, "one");
    let thing = world.thing("one");
    let opened = pointer(&world, 1, "ann", "open");
    let with_pointer = |change: Outcome<_>, state: &str| match change {
        Outcome::Change(Change { record, entries, mut with }) => {
            with.push(With::Pointer(Pointer { state: state.to_owned(), ..opened.clone() }));
            Outcome::Change(Change { record, entries, with })
        }
        Outcome::Keep => Outcome::Keep,
    };
    let made = world.apply(&key, None, |_, now| Ok(with_pointer(thing.clone().change("created", now), "open"))).await;
    assert!(made.is_ok());
    assert_eq!(all(&world, parts(&acme, Some("ann"), None)).await, named(&[1]));
    world.decide(&key, 1).await.unwrap();
    let refused = world.apply(&key, None, |found, now| Ok(with_pointer(found.unwrap().decide(2, now)?, "claimed")));
    assert!(refused.await.is_err());
    let changed = world
        .apply(&key, None, |found, now| Ok(with_pointer(found.unwrap().clone().change("counted", now), "completed")));
    assert!(changed.await.is_ok());
    eventually(named(&[1]), async || all(&world, parts(&acme, Some("ann"), Some("completed"))).await).await;
    eventually(named(&[]), async || all(&world, parts(&acme, Some("ann"), Some("open"))).await).await;
}

#[tokio::test]
async fn names_of_holders_stay_apart() {
    let (world, acme) = (World::new().await, tenant("acme"));
    let long = "ü".repeat(128);
    let longer = format!("{long}x");
    let holders = ["a", "a#b", "a%23b", "a:b", "open:a", &long, &longer];
    for (holder, number) in holders.into_iter().zip(1..) {
        let one = [pointer(&world, number, holder, "open")];
        world.store.point(&acme, &one, deadline()).await.unwrap();
    }
    for (holder, number) in holders.into_iter().zip(1..) {
        assert_eq!(all(&world, parts(&acme, Some(holder), None)).await, named(&[number]), "{holder}");
        eventually(named(&[number]), async || all(&world, parts(&acme, Some(holder), Some("open"))).await).await;
    }
}
