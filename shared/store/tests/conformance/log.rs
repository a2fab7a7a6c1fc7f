//! Logs: a tenant's changes by time, and its records' histories one after the other.

use crate::job::{Job, user};
use crate::world::{KEYS, World, deadline, tenant};
use countersign_domain::{Tenant, Timestamp};
use countersign_store::{By, COUNTED, Cursor, InvalidCursor, Key, LogQuery, Order, Query, StoredChange};
use std::time::Duration;

/// Five jobs, of which every second is taken: changes at one-second intervals.
async fn world_with_jobs() -> World {
    let world = World::new().await;
    for n in 0..5 {
        let key = world.hire(&tenant("acme"), &n.to_string(), "a").await;
        world.clock.advance(Duration::from_secs(1));
        if n % 2 == 0 {
            world.take(&key, "b").await.unwrap();
            world.clock.advance(Duration::from_secs(1));
        }
    }
    world.hire(&tenant("other"), "foreign", "a").await;
    world
}

fn all(tenant: &Tenant) -> LogQuery<'_> {
    LogQuery { tenant, by: None, name: None, since: None, until: None }
}

fn line(change: &StoredChange) -> String {
    format!("{} {}", change.id, change.body.entries.last().unwrap().name)
}

/// The lines of a log, and how many it says there are.
async fn lines(world: &World, query: LogQuery<'_>, offset: usize, limit: usize) -> (Vec<String>, usize) {
    let log = world.store.log::<Job>(query, COUNTED, deadline()).await.unwrap();
    let mut lines = Vec::new();
    let take = |change: StoredChange| {
        lines.push(line(&change));
        true
    };
    world.store.read_log(&log, offset, limit, deadline(), take).await.unwrap();
    (lines, log.found())
}

#[tokio::test]
async fn a_log_has_every_change_of_its_tenant_newest_first() {
    let world = world_with_jobs().await;
    let acme = tenant("acme");
    let newest =
        ["4 taken", "4 hired", "3 hired", "2 taken", "2 hired", "1 hired", "0 taken", "0 hired"].map(str::to_owned);
    assert_eq!(lines(&world, all(&acme), 0, 100).await, (newest.to_vec(), 8));
    assert_eq!(lines(&world, all(&acme), 2, 3).await, (newest[2..5].to_vec(), 8));
    assert_eq!(lines(&world, all(&acme), 8, 3).await, (Vec::new(), 8));
}

#[tokio::test]
async fn a_log_is_narrowed_by_name_actor_and_time() {
    let world = world_with_jobs().await;
    let acme = tenant("acme");
    let at = |second: &str| Some(format!("2026-01-01T00:00:0{second}Z").parse::<Timestamp>().unwrap());
    let b = user("b");
    for (query, expected) in [
        (LogQuery { name: Some("taken"), ..all(&acme) }, vec!["4 taken", "2 taken", "0 taken"]),
        (LogQuery { name: Some("born"), ..all(&acme) }, vec![]),
        (LogQuery { by: Some(b.name()), ..all(&acme) }, vec!["4 taken", "2 taken", "0 taken"]),
        (LogQuery { by: Some(b.name()), name: Some("hired"), ..all(&acme) }, vec![]),
        (LogQuery { by: Some("a"), name: Some("hired"), since: at("4"), ..all(&acme) }, vec!["4 hired", "3 hired"]),
        (LogQuery { since: at("3"), until: at("5"), ..all(&acme) }, vec!["2 taken", "2 hired"]),
        (LogQuery { since: at("5"), until: at("3"), ..all(&acme) }, vec![]),
        (LogQuery { until: at("1"), ..all(&acme) }, vec!["0 hired"]),
    ] {
        let (found, total) = lines(&world, query, 0, 100).await;
        assert_eq!(
            (found, total),
            (expected.iter().map(|line| (*line).to_owned()).collect(), expected.len()),
            "{query:?}"
        );
    }
}

#[tokio::test]
async fn no_more_of_a_log_is_found_than_is_looked_for() {
    let world = world_with_jobs().await;
    let acme = tenant("acme");
    for (query, look_for, found) in [
        (all(&acme), 3, 3),
        (all(&acme), 8, 8),
        (all(&acme), 9, 8),
        (LogQuery { by: Some("a"), name: Some("hired"), ..all(&acme) }, 2, 2),
    ] {
        let log = world.store.log::<Job>(query, look_for, deadline()).await.unwrap();
        assert_eq!(log.found(), found, "{query:?} {look_for}");
    }
}

#[tokio::test]
async fn reading_a_log_ends_when_it_is_enough() {
    let world = world_with_jobs().await;
    let acme = tenant("acme");
    let log = world.store.log::<Job>(all(&acme), COUNTED, deadline()).await.unwrap();
    let mut read = 0;
    let take = |_| {
        read += 1;
        read < 3
    };
    world.store.read_log(&log, 0, 100, deadline(), take).await.unwrap();
    assert_eq!(read, 3);
}

#[tokio::test]
async fn histories_follow_one_another_page_by_page() {
    let world = world_with_jobs().await;
    let acme = tenant("acme");
    // The two rows of each change show whether a page may end between them.
    let rows = |change: &StoredChange| vec![line(change), format!("{} {}", change.body.version, change.hash.len())];
    let expected: Vec<_> = ["0 hired", "0 taken", "1 hired", "2 hired", "2 taken", "3 hired", "4 hired", "4 taken"]
        .into_iter()
        .flat_map(|line| [line.to_owned(), if line.ends_with("taken") { "2 64" } else { "1 64" }.to_owned()])
        .collect();
    for limit in [1, 3, 4, 16, 100] {
        let query = Query { tenant: &acme, by: By::All, order: Order::OldestFirst, limit, with_input: false };
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let from = Cursor { text: cursor.as_deref(), keys: &KEYS };
            let page = world.store.histories::<Job, _>(query, from, deadline(), rows).await.unwrap().unwrap();
            assert!(page.rows.len() == limit || page.next.is_none());
            found.extend(page.rows.iter().map(|row| serde_json::from_str::<String>(row.get()).unwrap()));
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        assert_eq!(found, expected, "{limit}");
    }
    let query = Query { tenant: &acme, by: By::All, order: Order::OldestFirst, limit: 3, with_input: false };
    let from = Cursor { text: None, keys: &KEYS };
    let cursor = world.store.histories::<Job, _>(query, from, deadline(), rows).await.unwrap().unwrap().next.unwrap();
    let foreign = Query { tenant: &tenant("other"), ..query };
    let from = Cursor { text: Some(&cursor), keys: &KEYS };
    assert_eq!(
        world.store.histories::<Job, _>(foreign, from, deadline(), rows).await.unwrap().err(),
        Some(InvalidCursor)
    );
}

#[tokio::test]
async fn a_verification_goes_on_where_it_stopped() {
    let world = world_with_jobs().await;
    let (mut records, mut steps, mut cursor) = (0, 0, None);
    loop {
        let from = Cursor { text: cursor.as_deref(), keys: &KEYS };
        // Its time is up at once: each step verifies one record.
        let verified = world.store.verify_until("job", &tenant("acme"), from, tokio::time::Instant::now()).await;
        let (verified, next) = verified.unwrap().unwrap();
        assert_eq!(verified.broken, None);
        (records, steps) = (records + verified.records, steps + 1);
        match next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    assert_eq!((records, steps), (5, 6));
    let from = Cursor { text: Some("forged"), keys: &KEYS };
    let forged = world.store.verify_until("job", &tenant("acme"), from, deadline()).await.unwrap();
    assert_eq!(forged.err(), Some(InvalidCursor));
    let history = world.store.history(&Key::<Job>::new(&tenant("acme"), "0"), deadline()).await.unwrap();
    assert_eq!(history[1].prev_hash, history[0].hash);
}
