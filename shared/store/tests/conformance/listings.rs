//! Listings: every record once, in order, page by page, each as it is now.

use crate::world::{KEYS, Thing, World, deadline, eventually, tenant};
use countersign_domain::Tenant;
use countersign_store::{By, Cursor, CursorKeys, Fault, Found, InvalidCursor, Key, Order, PAGE_BYTES, Page, Query};
use std::future::ready;
use std::time::Duration;

fn oldest_first<'a>(tenant: &'a Tenant, by: By<'a>, limit: usize) -> Query<'a> {
    Query { tenant, by, order: Order::OldestFirst, limit, with_input: false }
}

/// A page of the ids of the things that match.
async fn page(
    world: &World,
    query: Query<'_>,
    text: Option<&str>,
    matches: impl Fn(&Thing) -> bool,
) -> Result<Page<String>, InvalidCursor> {
    let row = |found: Found<Thing>| matches(&found.record).then_some(found.record.id);
    world.store.list(query, Cursor { text, keys: &KEYS }, deadline(), row).await.unwrap()
}

/// The ids on each page of a listing, by following its cursors.
async fn pages(world: &World, query: Query<'_>, matches: impl Fn(&Thing) -> bool) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut cursor = None;
    loop {
        let page = page(world, query, cursor.as_deref(), &matches).await.unwrap();
        pages.push(page.rows.iter().map(|row| serde_json::from_str(row.get()).unwrap()).collect());
        match page.next {
            Some(next) => cursor = Some(next),
            None => return pages,
        }
    }
}

async fn ids(world: &World, query: Query<'_>) -> Vec<String> {
    pages(world, query, |_| true).await.concat()
}

fn numbered(range: impl Iterator<Item = usize>) -> Vec<String> {
    range.map(|n| format!("{n:03}")).collect()
}

async fn create_numbered(world: &World, tenant: &Tenant, count: usize) {
    for n in 0..count {
        let subject = if n % 2 == 0 { "even" } else { "odd" };
        world.create(tenant, &format!("{n:03}"), Some(subject)).await;
        world.clock.advance(Duration::from_millis(1));
    }
}

async fn every_record_is_listed_once_in_order(world: World) {
    let acme = tenant("acme");
    create_numbered(&world, &acme, 25).await;
    create_numbered(&world, &tenant("other"), 3).await;
    eventually(numbered(0..25), async || ids(&world, oldest_first(&acme, By::All, 10)).await).await;
    let lengths: Vec<_> =
        pages(&world, oldest_first(&acme, By::All, 10), |_| true).await.iter().map(Vec::len).collect();
    assert_eq!(lengths, [10, 10, 5]);
    let newest = Query { order: Order::NewestFirst, ..oldest_first(&acme, By::All, 7) };
    assert_eq!(ids(&world, newest).await, numbered((0..25).rev()));
    assert_eq!(ids(&world, oldest_first(&acme, By::Subject("odd"), 5)).await, numbered((1..25).step_by(2)));
    assert_eq!(ids(&world, oldest_first(&acme, By::State("open"), 100)).await, numbered(0..25));
    assert_eq!(ids(&world, oldest_first(&acme, By::State("decided"), 100)).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_has_every_record_of_its_tenant_once_in_order() {
    every_record_is_listed_once_in_order(World::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_bad_day_a_listing_still_ends_up_whole() {
    every_record_is_listed_once_in_order(World::faulty(3).await).await;
}

/// An index that lags still has the record under its old state: it must not be shown there.
async fn decided_is_never_listed_as_open(world: World) {
    let acme = tenant("acme");
    create_numbered(&world, &acme, 12).await;
    eventually(numbered(0..12), async || ids(&world, oldest_first(&acme, By::State("open"), 5)).await).await;
    for n in (0..12).step_by(3) {
        world.decide(&Key::new(&acme, &format!("{n:03}")), n).await.unwrap();
        let open = ids(&world, oldest_first(&acme, By::State("open"), 5)).await;
        assert!(!open.contains(&format!("{n:03}")), "{n} in {open:?}");
    }
    let decided = numbered((0..12).step_by(3));
    eventually(decided, async || ids(&world, oldest_first(&acme, By::State("decided"), 5)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decided_record_is_never_listed_as_open() {
    decided_is_never_listed_as_open(World::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_bad_day_a_decided_record_is_never_listed_as_open() {
    decided_is_never_listed_as_open(World::faulty(4).await).await;
}

#[tokio::test]
async fn a_last_page_is_never_empty() {
    let world = World::new().await;
    let acme = tenant("acme");
    create_numbered(&world, &acme, 20).await;
    let lengths: Vec<_> =
        pages(&world, oldest_first(&acme, By::All, 10), |_| true).await.iter().map(Vec::len).collect();
    assert_eq!(lengths, [10, 10]);
    assert_eq!(pages(&world, oldest_first(&tenant("nobody"), By::All, 10), |_| true).await, [Vec::<String>::new()]);
}

#[tokio::test]
async fn a_page_may_have_more_records_than_one_batch_read() {
    let world = World::new().await;
    let acme = tenant("acme");
    create_numbered(&world, &acme, 130).await;
    assert_eq!(pages(&world, oldest_first(&acme, By::All, 200), |_| true).await, [numbered(0..130)]);
}

#[tokio::test]
async fn a_second_filter_fills_pages_with_what_it_lets_through() {
    let world = World::new().await;
    let acme = tenant("acme");
    create_numbered(&world, &acme, 30).await;
    let third = |thing: &Thing| thing.id.parse::<usize>().unwrap() % 3 == 0;
    let found = pages(&world, oldest_first(&acme, By::Subject("even"), 2), third).await;
    assert_eq!(found.concat(), numbered((0..30).step_by(6)));
    assert!(found[..2].iter().all(|page| page.len() == 2), "{found:?}");
}

#[tokio::test]
async fn a_cursor_is_good_for_its_own_listing_only() {
    let world = World::new().await;
    let acme = tenant("acme");
    create_numbered(&world, &acme, 6).await;
    create_numbered(&world, &tenant("other"), 6).await;
    let first = oldest_first(&acme, By::All, 2);
    let cursor = page(&world, first, None, |_| true).await.unwrap().next.unwrap();
    let other = tenant("other");
    let rotated = CursorKeys { current: [8; 32], previous: None };
    for foreign in [
        Query { tenant: &other, ..first },
        Query { by: By::State("open"), ..first },
        Query { order: Order::NewestFirst, ..first },
    ] {
        assert_eq!(page(&world, foreign, Some(&cursor), |_| true).await.err(), Some(InvalidCursor), "{foreign:?}");
    }
    let rotated = Cursor { text: Some(&cursor), keys: &rotated };
    let page_by_other_keys = world.store.list(first, rotated, deadline(), |found: Found<Thing>| Some(found.record.id));
    assert_eq!(page_by_other_keys.await.unwrap().err(), Some(InvalidCursor));
    for forged in ["", "x", "AAAA", &format!("{cursor}A")] {
        assert_eq!(page(&world, first, Some(forged), |_| true).await.err(), Some(InvalidCursor), "{forged}");
    }
}

#[tokio::test]
async fn names_that_contain_separators_stay_apart() {
    let world = World::new().await;
    let acme = tenant("acme");
    for id in ["a#b", "a%23b", "a", "a#", "%", "#", "a\u{1}b", "ä😀"] {
        world.create(&acme, id, Some(id)).await;
        world.clock.advance(Duration::from_millis(1));
    }
    assert_eq!(ids(&world, oldest_first(&acme, By::All, 3)).await.len(), 8);
    for id in ["a#b", "a%23b", "a", "a#", "%", "#", "a\u{1}b", "ä😀"] {
        assert_eq!(world.load(&Key::new(&acme, id)).await.unwrap().id, id);
        assert_eq!(ids(&world, oldest_first(&acme, By::Subject(id), 10)).await, [id]);
    }
}

#[tokio::test]
async fn an_offset_skips_records_and_with_a_filter_only_those_that_match() {
    let world = World::new().await;
    let acme = tenant("acme");
    create_numbered(&world, &acme, 30).await;
    let query = Query { order: Order::NewestFirst, ..oldest_first(&acme, By::All, 4) };
    let id = |found: Found<Thing>| Ok(Some(found.record.id));
    let third = |thing: &Thing| thing.id.parse::<usize>().unwrap() % 3 == 0;
    let ids = |page: &Page<usize>| {
        page.rows.iter().map(|row| serde_json::from_str(row.get()).unwrap()).collect::<Vec<String>>()
    };
    for (offset, next) in [(0, Some(4)), (24, Some(28)), (26, None), (28, None), (30, None), (10_000, None)] {
        let page = world.store.list_at(query, offset, deadline(), None::<fn(&Thing) -> bool>, id).await.unwrap();
        assert_eq!(ids(&page), numbered((0..30).rev().skip(offset).take(4)), "{offset}");
        assert_eq!(page.next, next, "{offset}");
        let page = world.store.list_at(query, offset, deadline(), Some(third), id).await.unwrap();
        assert_eq!(ids(&page), numbered((0..30).rev().filter(|n| n % 3 == 0).skip(offset).take(4)), "{offset}");
    }
}

#[tokio::test]
async fn a_page_ends_before_it_grows_too_large_but_has_at_least_one_row() {
    let world = World::new().await;
    let acme = tenant("acme");
    create_numbered(&world, &acme, 5).await;
    let row = |found: Found<Thing>| Some(format!("{}{}", found.record.id, "x".repeat(1_500_000)));
    let query = oldest_first(&acme, By::All, 5);
    let (mut lengths, mut cursor) = (Vec::new(), None);
    loop {
        let from = Cursor { text: cursor.as_deref(), keys: &KEYS };
        let page = world.store.list(query, from, deadline(), row).await.unwrap().unwrap();
        lengths.push(page.rows.len());
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(lengths, [2, 2, 1]);
    let huge = |found: Found<Thing>| Some(format!("{}{}", found.record.id, "x".repeat(5_000_000)));
    let page = world.store.list(query, Cursor { text: None, keys: &KEYS }, deadline(), huge).await.unwrap().unwrap();
    assert_eq!(page.rows.len(), 1);
}

#[tokio::test]
async fn large_inputs_are_read_along_where_they_are_wanted() {
    let world = World::new().await;
    let acme = tenant("acme");
    for n in 0..60 {
        world.hire(&acme, &format!("{n:02}"), "a").await;
        world.clock.advance(Duration::from_millis(1));
    }
    let row = |found: Found<crate::job::Job>| Some((found.record.id, found.input));
    for with_input in [true, false] {
        let query = Query { with_input, ..oldest_first(&acme, By::All, 100) };
        let page = world.store.list(query, Cursor { text: None, keys: &KEYS }, deadline(), row).await.unwrap().unwrap();
        let expected = (0..60).map(|n| (format!("{n:02}"), with_input.then(|| format!("input of {n:02}"))));
        let rows = page.rows.iter().map(|row| serde_json::from_str::<(String, Option<String>)>(row.get()).unwrap());
        assert!(rows.eq(expected), "{with_input}");
    }
}

#[tokio::test]
async fn subjects_too_long_for_a_key_are_told_apart() {
    let world = World::new().await;
    let acme = tenant("acme");
    let long = |end: &str| format!("{}{end}", "😀".repeat(500));
    for (id, subject) in [("a", long("a")), ("b", long("b")), ("c", "#".repeat(300))] {
        world.create(&acme, id, Some(&subject)).await;
    }
    for (id, subject) in [("a", long("a")), ("b", long("b")), ("c", "#".repeat(300))] {
        assert_eq!(ids(&world, oldest_first(&acme, By::Subject(&subject), 10)).await, [id]);
    }
}

#[tokio::test]
async fn a_page_ends_where_what_its_rows_read_would_be_too_much() {
    let world = World::new().await;
    let acme = tenant("acme");
    create_numbered(&world, &acme, 7).await;
    // Too much even for a page of its own; two of these fit into one; not at all.
    let size = |id: &str| match id {
        "002" => PAGE_BYTES + 1,
        "006" => 0,
        _ => PAGE_BYTES / 2 - 10,
    };
    let mut lengths = Vec::new();
    let mut found = Vec::new();
    let mut cursor = None;
    loop {
        let mut asked = 0;
        let read = |thing: Found<Thing>| {
            asked += 1;
            let id = thing.record.id;
            ready(Ok((size(&id) > 0).then(|| format!("{id}{}", "x".repeat(size(&id) - 3)))))
        };
        let text = Cursor { text: cursor.as_deref(), keys: &KEYS };
        let page = world.store.list_reading(oldest_first(&acme, By::All, 100), text, deadline(), read).await;
        let page = page.unwrap().unwrap();
        lengths.push(page.rows.len());
        assert!(asked <= page.rows.len() + 1, "one at most is read in vain");
        found.extend(page.rows.iter().map(|row| row.get()[1..4].to_owned()));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((found, lengths), (numbered(0..6), vec![2, 1, 2, 1]));
    let broken = |_: Found<Thing>| ready(Err::<Option<()>, _>(Fault::Corrupt("unreadable".to_owned())));
    let text = Cursor { text: None, keys: &KEYS };
    let failed = world.store.list_reading(oldest_first(&acme, By::All, 100), text, deadline(), broken).await;
    assert_eq!(failed.err(), Some(Fault::Corrupt("unreadable".to_owned())));
}

#[tokio::test]
async fn records_are_loaded_together_or_only_asked_how_often_they_were_changed() {
    let world = World::new().await;
    let acme = tenant("acme");
    let keys = ["one", "two", "three"].map(|id| Key::<Thing>::new(&acme, id));
    world.create(&acme, "one", None).await;
    world.create(&acme, "two", None).await;
    world.decide(&keys[1], 1).await.unwrap();
    let versions = world.store.versions(&keys, deadline()).await.unwrap();
    let expected = [(&keys[0], 1), (&keys[1], 2)].map(|(key, version)| (key.as_str().to_owned(), version));
    assert_eq!(versions, expected.into());
    let loaded = world.store.load_all(&keys, deadline()).await.unwrap();
    let read = |key: &Key<Thing>| loaded[key.as_str()].as_ref().map(|found| (found.version, found.record.decided_by));
    assert_eq!((loaded.len(), read(&keys[0]), read(&keys[1])), (2, Ok((1, None)), Ok((2, Some(1)))));
}
