//! A tenant's webhook endpoints as tables: adding, editing, rotating, deleting, what attempts teach, and who is told.

use crate::{at, changed, microseconds, operator};
use countersign_domain::callback_secret::SecretId;
use countersign_domain::endpoint::{
    Add, Closing, Edit, Endpoint, EndpointId, Endpoints, InvalidEndpointId, InvalidSubscription, MAX_CLOSING,
    MAX_DESCRIPTION, MAX_ENDPOINTS, MAX_NAMES, ROTATED_SECONDS, Refusal, Rotated, Secret, Seen, Status, Subscription,
    Why,
};
use countersign_domain::event::{EVENTS, Event, EventName};
use countersign_domain::key_ring::Sealed;
use countersign_domain::{
    Actor, Change, Entry, EntryClass, Listing, Outcome, Record, Subject, Tenant, Timestamp, seconds,
};
use serde_json::{Value, json};
use uuid::Uuid;

const ADDED: &str = "2026-11-21T03:38:50.123456Z";
const LATER: &str = "2026-11-21T04:00:00.5Z";
const URL: &str = "https://hooks.example.com/in";

pub(crate) fn tenant() -> Tenant {
    "acme".parse().unwrap()
}

pub(crate) fn id(number: u128) -> EndpointId {
    EndpointId::from_u128(number)
}

pub(crate) fn sealed(name: &str) -> Sealed {
    Sealed(format!("sealed-{name}"))
}

fn own(name: &str) -> Secret {
    Secret::Own { current: sealed(name), previous: None }
}

fn named() -> Secret {
    Secret::Named { id: "default".parse::<SecretId>().unwrap() }
}

pub(crate) fn order(number: u128) -> Add {
    Add {
        id: id(number),
        url: URL.to_owned(),
        events: Subscription::All,
        agent: None,
        description: None,
        secret: own("first"),
    }
}

pub(crate) fn added(before: Option<&Endpoints>, add: Add) -> Endpoints {
    changed(Endpoints::add(before, &tenant(), add, &operator(), at(ADDED)).unwrap()).record
}

/// The endpoints 1 and 2.
fn two() -> Endpoints {
    added(Some(&added(None, order(1))), order(2))
}

fn first(endpoints: &Endpoints) -> &Endpoint {
    endpoints.get(&id(1)).unwrap()
}

fn edited(endpoints: &Endpoints, edit: &Edit) -> Change<Endpoints> {
    changed(endpoints.edit(&id(1), edit, &operator(), at(LATER)).unwrap())
}

fn disabled(endpoints: &Endpoints) -> Endpoints {
    edited(endpoints, &Edit { enabled: Some(false), ..Edit::default() }).record
}

fn attempted(endpoints: &Endpoints, seen: Seen, now: Timestamp) -> Change<Endpoints> {
    changed(endpoints.attempted(&id(1), seen, now))
}

/// The endpoint 1 of which both is known: that it fails and that it is slow, since [`LATER`].
fn troubled() -> Endpoints {
    attempted(&two(), Seen::TimedOut, at(LATER)).record
}

fn names(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.name.as_str()).collect()
}

fn names_and_data(entries: &[Entry]) -> Vec<(&str, Value)> {
    entries.iter().map(|entry| (entry.name.as_str(), entry.data.clone())).collect()
}

#[test]
fn the_first_endpoint_of_a_tenant_begins_its_record() {
    let Change { record, entries, .. } =
        changed(Endpoints::add(None, &tenant(), order(1), &operator(), at(ADDED)).unwrap());
    let endpoint = Endpoint {
        id: id(1),
        url: URL.to_owned(),
        events: Subscription::All,
        agent: None,
        description: None,
        status: Status::Enabled,
        secret: own("first"),
        created_at: at(ADDED),
        updated_at: at(ADDED),
        failing_since: None,
        recovered_at: None,
        slow_since: None,
    };
    assert_eq!(
        record,
        Endpoints { tenant: tenant(), created_at: at(ADDED), endpoints: vec![endpoint], closing: vec![] }
    );
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(
        *entry,
        Entry {
            name: "endpoint.created".to_owned(),
            class: EntryClass::Audit,
            actor: operator(),
            at: at(ADDED),
            subject: Subject { kind: "webhook_endpoint".to_owned(), id: id(1).to_string() },
            data: json!({ "url": URL, "events": ["*"], "agent": null, "description": null, "secret_id": null }),
            state: None,
        }
    );
}

#[test]
fn another_endpoint_comes_after_the_ones_before_and_leaves_them_alone() {
    let before = added(None, order(1));
    let add = Add {
        url: "https://hooks.example.com/other?token=t0ken#frag".to_owned(),
        events: Subscription::Names(vec!["case.created".parse().unwrap()]),
        agent: Some("agent-7".to_owned()),
        description: Some("the other".to_owned()),
        secret: named(),
        ..order(2)
    };
    let now = at(LATER);
    let change = changed(Endpoints::add(Some(&before), &tenant(), add, &operator(), now).unwrap());
    assert_eq!(change.record.created_at, at(ADDED));
    assert_eq!(change.record.endpoints[..1], before.endpoints);
    let [_, other] = change.record.endpoints.as_slice() else { panic!("{change:?}") };
    assert_eq!((&other.id, other.created_at, other.updated_at), (&id(2), now, now));
    assert_eq!(other.url, "https://hooks.example.com/other?token=t0ken#frag");
    assert_eq!(other.secret, named());
    assert_eq!(
        change.entries[0].data,
        json!({
            "url": "https://hooks.example.com/other",
            "events": ["case.created"],
            "agent": "agent-7",
            "description": "the other",
            "secret_id": "default",
        })
    );
}

#[test]
fn a_tenant_has_at_most_fifty_endpoints() {
    let full = (1..MAX_ENDPOINTS as u128).fold(added(None, order(0)), |all, nth| added(Some(&all), order(nth)));
    assert_eq!(full.endpoints.len(), 50);
    let add = |all| Endpoints::add(Some(all), &tenant(), order(99), &operator(), at(LATER));
    assert_eq!(add(&full), Err(Refusal::TooMany));
    let less = changed(full.remove(&id(7), &operator(), at(LATER)).unwrap()).record;
    assert_eq!(changed(add(&less).unwrap()).record.endpoints.len(), 50);
    assert!(Refusal::TooMany.to_string().starts_with("a tenant has at most 50 webhook endpoints"));
}

#[test]
fn whoever_adds_and_deletes_without_end_waits_until_deliveries_are_cancelled() {
    let deleted = |all: &Endpoints, nth| changed(all.remove(&id(nth), &operator(), at(LATER)).unwrap()).record;
    let all = (1..1000).fold(added(None, order(0)), |all, nth| added(Some(&deleted(&all, nth - 1)), order(nth)));
    assert_eq!((all.closing.len(), MAX_CLOSING), (999, 1000));
    let all = deleted(&all, 999);
    let add = |all| Endpoints::add(Some(all), &tenant(), order(5000), &operator(), at(LATER));
    assert_eq!((all.endpoints.len(), add(&all)), (0, Err(Refusal::TooMany)));
    let less = changed(all.closed(&all.closing[..1], at(LATER))).record;
    assert!(add(&less).is_ok());
}

#[test]
fn the_limits_are_the_documented_ones() {
    assert_eq!((MAX_ENDPOINTS, MAX_NAMES, MAX_DESCRIPTION, ROTATED_SECONDS), (50, 50, 300, 86_400));
}

#[test]
fn an_endpoint_is_edited_in_what_differs_and_told_so() {
    let case: EventName = "case.created".parse().unwrap();
    let before = two();
    let at_first = first(&before).clone();
    for (edit, expected, word) in [
        (
            Edit { url: Some("https://a.example/?q".to_owned()), ..Edit::default() },
            Endpoint { url: "https://a.example/?q".to_owned(), ..at_first.clone() },
            "url",
        ),
        (
            Edit { events: Some(Subscription::Names(vec![case])), ..Edit::default() },
            Endpoint { events: Subscription::Names(vec![case]), ..at_first.clone() },
            "events",
        ),
        (
            Edit { description: Some(Some("d".to_owned())), ..Edit::default() },
            Endpoint { description: Some("d".to_owned()), ..at_first.clone() },
            "description",
        ),
        (
            Edit { secret: Some(sealed("set")), ..Edit::default() },
            Endpoint { secret: own("set"), ..at_first.clone() },
            "secret",
        ),
    ] {
        let Change { record, entries, with } = edited(&before, &edit);
        let expected = Endpoint { updated_at: at(LATER), ..expected };
        assert_eq!(*first(&record), expected);
        assert_eq!(
            record,
            Endpoints { endpoints: vec![expected.clone(), before.endpoints[1].clone()], ..before.clone() }
        );
        assert!(with.is_empty());
        let [entry] = entries.as_slice() else { panic!("{entries:?}") };
        assert_eq!((entry.name.as_str(), entry.class), ("endpoint.changed", EntryClass::Audit));
        assert_eq!((&entry.actor, entry.at), (&operator(), at(LATER)));
        assert_eq!(entry.subject, Subject { kind: "webhook_endpoint".to_owned(), id: id(1).to_string() });
        assert_eq!(
            entry.data,
            json!({
                "changed": [word],
                "url": expected.url.split('?').next(),
                "events": expected.events,
                "agent": null,
                "description": expected.description,
                "secret_id": null,
            })
        );
    }
}

#[test]
fn everything_can_be_edited_at_once() {
    let edit = Edit {
        url: Some("https://a.example/".to_owned()),
        events: Some(Subscription::Names(vec!["case.created".parse().unwrap()])),
        description: Some(Some("d".to_owned())),
        enabled: Some(false),
        secret: Some(sealed("set")),
    };
    let change = edited(&two(), &edit);
    assert_eq!(names(&change.entries), ["endpoint.changed", "endpoint.disabled"]);
    assert_eq!(change.entries[0].data["changed"], json!(["url", "events", "description", "secret"]));
    assert_eq!(change.record.closing.len(), 1);
    assert_eq!(change.record.endpoints[1], two().endpoints[1]);
}

#[test]
fn an_edit_in_which_nothing_differs_changes_nothing() {
    let described = edited(&two(), &Edit { description: Some(Some("d".to_owned())), ..Edit::default() }).record;
    for (endpoints, edit) in [
        (two(), Edit::default()),
        (two(), Edit { enabled: Some(true), ..Edit::default() }),
        (troubled(), Edit { enabled: Some(true), url: Some(URL.to_owned()), ..Edit::default() }),
        (two(), Edit { description: Some(None), ..Edit::default() }),
        (described, Edit { description: Some(Some("d".to_owned())), ..Edit::default() }),
        (disabled(&two()), Edit { enabled: Some(false), ..Edit::default() }),
        (
            two(),
            Edit {
                url: Some(URL.to_owned()),
                events: Some(Subscription::All),
                secret: Some(sealed("first")),
                ..Edit::default()
            },
        ),
    ] {
        assert_eq!(endpoints.edit(&id(1), &edit, &operator(), at(LATER)), Ok(Outcome::Keep), "{edit:?}");
    }
}

#[test]
fn a_description_can_be_taken_away() {
    let described = edited(&two(), &Edit { description: Some(Some("d".to_owned())), ..Edit::default() }).record;
    let without = edited(&described, &Edit { description: Some(None), ..Edit::default() }).record;
    assert_eq!(first(&without).description, None);
}

#[test]
fn a_secret_that_is_set_signs_alone_at_once() {
    let rotated = changed(two().rotate(&id(1), sealed("second"), &operator(), at(LATER)).unwrap()).record;
    let set = edited(&rotated, &Edit { secret: Some(sealed("set")), ..Edit::default() }).record;
    assert_eq!(first(&set).secret, own("set"));
    let of_named = added(None, Add { secret: named(), ..order(1) });
    let set = edited(&of_named, &Edit { secret: Some(sealed("set")), ..Edit::default() });
    assert_eq!(first(&set.record).secret, own("set"));
    assert_eq!(set.entries[0].data["secret_id"], json!(null));
}

#[test]
fn disabling_stops_an_endpoint_and_has_its_deliveries_cancelled() {
    let Change { record, entries, .. } = edited(&two(), &Edit { enabled: Some(false), ..Edit::default() });
    assert_eq!(first(&record).status, Status::Disabled { at: at(LATER), why: Why::Asked });
    assert_eq!(first(&record).updated_at, at(LATER));
    assert_eq!(record.closing, [Closing { endpoint: id(1), at: at(LATER) }]);
    assert_eq!(names_and_data(&entries), [("endpoint.disabled", json!({ "why": "asked" }))]);
}

#[test]
fn enabling_forgets_what_an_endpoint_did_wrong() {
    let gone = attempted(&troubled(), Seen::Gone, at(LATER)).record;
    let now = at(LATER) + seconds(5);
    let edit = Edit { enabled: Some(true), ..Edit::default() };
    let Change { record, entries, .. } = changed(gone.edit(&id(1), &edit, &operator(), now).unwrap());
    assert_eq!(*first(&record), Endpoint { updated_at: now, ..first(&two()).clone() });
    assert_eq!(names_and_data(&entries), [("endpoint.enabled", json!({}))]);
    // What waited when it was disabled is cancelled all the same.
    assert_eq!(record.closing, gone.closing);
}

#[test]
fn another_url_is_not_blamed_for_the_one_before() {
    let edit = Edit { url: Some("https://b.example/".to_owned()), ..Edit::default() };
    let record = edited(&troubled(), &edit).record;
    assert_eq!((first(&record).failing_since, first(&record).slow_since), (None, None));
    let edit = Edit { description: Some(Some("d".to_owned())), ..Edit::default() };
    let record = edited(&troubled(), &edit).record;
    assert_eq!((first(&record).failing_since, first(&record).slow_since), (Some(at(LATER)), Some(at(LATER))));
}

#[test]
fn a_deleted_endpoint_is_gone_and_its_deliveries_are_cancelled() {
    let Change { record, entries, .. } = changed(two().remove(&id(1), &operator(), at(LATER)).unwrap());
    let closing = vec![Closing { endpoint: id(1), at: at(LATER) }];
    assert_eq!(record, Endpoints { endpoints: two().endpoints[1..].to_vec(), closing, ..two() });
    assert_eq!(names_and_data(&entries), [("endpoint.deleted", json!({}))]);
    assert_eq!(entries[0].actor, operator());
}

#[test]
fn an_endpoint_is_closed_once_and_at_the_last_time() {
    let now = at(LATER) + seconds(9);
    let record = changed(disabled(&two()).remove(&id(1), &operator(), now).unwrap()).record;
    assert_eq!(record.closing, [Closing { endpoint: id(1), at: now }]);
    let both = changed(record.remove(&id(2), &operator(), at(LATER)).unwrap()).record;
    assert_eq!(both.closing.iter().map(|closing| &closing.endpoint).collect::<Vec<_>>(), [&id(1), &id(2)]);
}

#[test]
fn nothing_can_be_done_with_an_endpoint_that_is_not_there() {
    for endpoints in [two(), changed(two().remove(&id(1), &operator(), at(LATER)).unwrap()).record] {
        let unknown = if endpoints.endpoints.len() == 2 { id(3) } else { id(1) };
        let edit = Edit { enabled: Some(false), ..Edit::default() };
        assert_eq!(endpoints.edit(&unknown, &edit, &operator(), at(LATER)), Err(Refusal::NotFound));
        assert_eq!(endpoints.remove(&unknown, &operator(), at(LATER)), Err(Refusal::NotFound));
        assert_eq!(endpoints.rotate(&unknown, sealed("second"), &operator(), at(LATER)), Err(Refusal::NotFound));
        assert_eq!(endpoints.attempted(&unknown, Seen::Gone, at(LATER)), Outcome::Keep);
        assert_eq!(endpoints.get(&unknown), None);
    }
    assert_eq!(Refusal::NotFound.to_string(), "there is no webhook endpoint with this id");
}

#[test]
fn a_rotated_secret_signs_along_for_a_day_to_the_microsecond() {
    let Change { record, entries, .. } =
        changed(two().rotate(&id(1), sealed("second"), &operator(), at(LATER)).unwrap());
    let until = at("2026-11-22T04:00:00.5Z");
    let previous = Some(Rotated { secret: sealed("first"), until });
    let expected = Endpoint {
        secret: Secret::Own { current: sealed("second"), previous },
        updated_at: at(LATER),
        ..first(&two()).clone()
    };
    assert_eq!(record, Endpoints { endpoints: vec![expected, two().endpoints[1].clone()], ..two() });
    assert_eq!(
        names_and_data(&entries),
        [("endpoint.secret_rotated", json!({ "previous_until": "2026-11-22T04:00:00Z" }))]
    );
    let (new, old) = (sealed("second"), sealed("first"));
    for (now, signing) in [
        (at(LATER), vec![&new, &old]),
        (until - microseconds(1), vec![&new, &old]),
        (until, vec![&new]),
        (Timestamp::MAX, vec![&new]),
    ] {
        assert_eq!(first(&record).secret.signing(now), signing, "{now}");
    }
}

#[test]
fn of_secrets_that_were_rotated_within_a_day_the_last_two_sign() {
    let once = changed(two().rotate(&id(1), sealed("second"), &operator(), at(LATER)).unwrap()).record;
    let now = at(LATER) + seconds(60);
    let twice = changed(once.rotate(&id(1), sealed("third"), &operator(), now).unwrap()).record;
    assert_eq!(first(&twice).secret.signing(now), [&sealed("third"), &sealed("second")]);
    assert!(!serde_json::to_string(&twice.endpoints[0]).unwrap().contains("sealed-first"));
}

#[test]
fn a_named_secret_is_replaced_by_an_own_one_that_signs_alone() {
    let of_named = added(None, Add { secret: named(), ..order(1) });
    assert_eq!(first(&of_named).secret.signing(at(LATER)), [] as [&Sealed; 0]);
    let change = changed(of_named.rotate(&id(1), sealed("second"), &operator(), at(LATER)).unwrap());
    assert_eq!(first(&change.record).secret, own("second"));
    assert_eq!(change.entries[0].data, json!({ "previous_until": null }));
}

#[test]
fn a_secret_rotated_at_the_end_of_time_signs_along_until_then() {
    let record = changed(two().rotate(&id(1), sealed("second"), &operator(), Timestamp::MAX).unwrap()).record;
    let previous = Some(Rotated { secret: sealed("first"), until: Timestamp::MAX });
    assert_eq!(first(&record).secret, Secret::Own { current: sealed("second"), previous });
}

/// What is known of the endpoint 1 at first, what is seen then, and what is known and told afterwards; the times are
/// seconds after [`LATER`].
struct Lesson {
    failing: Option<i64>,
    recovered: Option<i64>,
    slow: Option<i64>,
    seen: Seen,
    at: i64,
    then: (Option<i64>, Option<i64>, Option<i64>),
    told: Vec<(&'static str, Value)>,
}

#[test]
fn attempts_teach_whether_an_endpoint_fails_and_whether_it_is_slow() {
    const QUICK: Seen = Seen::Answered { quickly: true };
    const LATE: Seen = Seen::Answered { quickly: false };
    let failing = || ("endpoint.failing", json!({}));
    let slow = || ("endpoint.slow", json!({}));
    let recovered = |from: &[&str]| ("endpoint.recovered", json!({ "from": from }));
    let lesson =
        |(failing, recovered, slow), seen, at, then, told| Lesson { failing, recovered, slow, seen, at, then, told };
    let well = (None, None, None);
    let lessons = [
        lesson(well, QUICK, 9, well, vec![]),
        lesson(well, LATE, 9, well, vec![]),
        lesson(well, Seen::Failed, 9, (Some(9), None, None), vec![failing()]),
        lesson(well, Seen::TimedOut, 9, (Some(9), None, Some(9)), vec![slow(), failing()]),
        // What is known is not learned again.
        lesson((Some(0), None, None), Seen::Failed, 9, (Some(0), None, None), vec![]),
        lesson((Some(0), None, Some(3)), Seen::TimedOut, 9, (Some(0), None, Some(3)), vec![]),
        lesson((Some(0), None, None), Seen::TimedOut, 9, (Some(0), None, Some(9)), vec![slow()]),
        lesson((None, None, Some(0)), Seen::TimedOut, 9, (Some(9), None, Some(0)), vec![failing()]),
        // An answer ends a row of failures at once, however late it came.
        lesson((Some(0), None, None), LATE, 0, (None, Some(0), None), vec![recovered(&["failing"])]),
        lesson((Some(0), Some(-99), None), QUICK, 9, (None, Some(9), None), vec![recovered(&["failing"])]),
        lesson((Some(0), None, Some(0)), LATE, 9, (None, Some(9), Some(0)), vec![recovered(&["failing"])]),
        lesson((Some(0), None, Some(0)), QUICK, 9, (None, Some(9), None), vec![recovered(&["failing", "slow"])]),
        // Another row begins a minute later at the earliest.
        lesson((None, Some(0), None), Seen::Failed, 59, (None, Some(0), None), vec![]),
        lesson((None, Some(0), None), Seen::TimedOut, 59, (None, Some(0), Some(59)), vec![slow()]),
        lesson((None, Some(0), None), Seen::Failed, 60, (Some(60), Some(0), None), vec![failing()]),
        lesson((None, Some(0), None), Seen::Failed, -60, (None, Some(0), None), vec![]),
        // Only a quick answer shows that an endpoint is quick, and not within a second.
        lesson((None, None, Some(0)), LATE, 9, (None, None, Some(0)), vec![]),
        lesson((None, None, Some(0)), QUICK, 0, (None, None, Some(0)), vec![]),
        lesson((None, None, Some(0)), QUICK, -1, (None, None, Some(0)), vec![]),
        lesson((None, None, Some(0)), QUICK, 1, (None, None, None), vec![recovered(&["slow"])]),
        // Five days less a second.
        lesson((Some(0), None, None), Seen::Failed, 431_999, (Some(0), None, None), vec![]),
    ];
    let time = |second: Option<i64>| second.map(|second| at(LATER) + seconds(second));
    for (nth, Lesson { failing, recovered, slow, seen, at: now, then, told }) in lessons.into_iter().enumerate() {
        let mut before = two();
        let known = Endpoint {
            failing_since: time(failing),
            recovered_at: time(recovered),
            slow_since: time(slow),
            ..first(&before).clone()
        };
        before.endpoints[0] = known.clone();
        let now = at(LATER) + seconds(now);
        let outcome = before.attempted(&id(1), seen, now);
        if told.is_empty() {
            assert_eq!(outcome, Outcome::Keep, "{nth}");
            continue;
        }
        let Change { record, entries, with } = changed(outcome);
        let learned =
            Endpoint { failing_since: time(then.0), recovered_at: time(then.1), slow_since: time(then.2), ..known };
        before.endpoints[0] = learned;
        assert_eq!(record, before, "{nth}");
        assert_eq!(names_and_data(&entries), told, "{nth}");
        assert!(with.is_empty());
        for entry in entries {
            assert_eq!((entry.class, entry.actor, entry.at), (EntryClass::Audit, Actor::Clock, now));
            assert_eq!(entry.subject, Subject { kind: "webhook_endpoint".to_owned(), id: id(1).to_string() });
        }
    }
}

#[test]
fn an_endpoint_that_answers_gone_is_disabled_at_once() {
    for before in [two(), troubled()] {
        let now = at(LATER) + seconds(1);
        let Change { record, entries, .. } = attempted(&before, Seen::Gone, now);
        let status = Status::Disabled { at: now, why: Why::Gone };
        assert_eq!(*first(&record), Endpoint { status, updated_at: now, ..first(&before).clone() });
        assert_eq!(record.closing, [Closing { endpoint: id(1), at: now }]);
        assert_eq!(names_and_data(&entries), [("endpoint.disabled", json!({ "why": "gone" }))]);
        assert_eq!(record.endpoints[1], before.endpoints[1]);
    }
}

#[test]
fn five_days_of_nothing_but_failures_disable_an_endpoint() {
    let before = troubled();
    for seen in [Seen::Failed, Seen::TimedOut] {
        let now = at(LATER) + seconds(432_000);
        assert_eq!(before.attempted(&id(1), seen, now - microseconds(1)), Outcome::Keep);
        let Change { record, entries, .. } = attempted(&before, seen, now);
        let status = Status::Disabled { at: now, why: Why::Failing };
        assert_eq!(*first(&record), Endpoint { status, updated_at: now, ..first(&before).clone() });
        assert_eq!(record.closing, [Closing { endpoint: id(1), at: now }]);
        assert_eq!(names_and_data(&entries), [("endpoint.disabled", json!({ "why": "failing" }))]);
    }
}

#[test]
fn one_answer_in_between_saves_an_endpoint_that_fails_again_a_week_later() {
    let mut endpoints = two();
    for (seen, after) in [(Seen::Failed, 0), (Seen::Answered { quickly: true }, 30), (Seen::Failed, 604_800)] {
        endpoints = attempted(&endpoints, seen, at(LATER) + seconds(after)).record;
    }
    assert_eq!(first(&endpoints).status, Status::Enabled);
    assert_eq!(first(&endpoints).failing_since, Some(at(LATER) + seconds(604_800)));
}

#[test]
fn nothing_is_learned_about_an_endpoint_that_is_disabled() {
    let late = at(LATER) + seconds(1_000_000);
    for seen in [Seen::Gone, Seen::Failed, Seen::TimedOut, Seen::Answered { quickly: true }] {
        for endpoints in [disabled(&two()), disabled(&troubled())] {
            assert_eq!(endpoints.attempted(&id(1), seen, late), Outcome::Keep, "{seen:?}");
        }
    }
}

#[test]
fn what_was_cancelled_is_no_longer_closing() {
    let record = changed(disabled(&two()).remove(&id(2), &operator(), at(LATER) + seconds(1)).unwrap()).record;
    let [one, other] = record.closing.as_slice() else { panic!("{record:?}") };
    let now = at(LATER) + seconds(9);
    let Change { record: next, entries, .. } = changed(record.closed(std::slice::from_ref(one), now));
    assert_eq!(next, Endpoints { closing: vec![other.clone()], ..record.clone() });
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!((entry.name.as_str(), &entry.data, entry.class), ("endpoint.closed", &json!({}), EntryClass::Audit));
    assert_eq!((&entry.actor, entry.at), (&Actor::Clock, now));
    assert_eq!(entry.subject.id, id(1).to_string());
    assert_eq!(next.closed(std::slice::from_ref(one), now), Outcome::Keep);
    assert_eq!(record.closed(&[], now), Outcome::Keep);
    let both = changed(record.closed(&record.closing, now));
    assert_eq!((both.record.closing.len(), names(&both.entries)), (0, vec!["endpoint.closed"; 2]));
}

#[test]
fn what_was_closed_again_while_it_was_cancelled_stays() {
    let once = disabled(&two());
    let again = changed(once.remove(&id(1), &operator(), at(LATER) + seconds(1)).unwrap()).record;
    assert_eq!(again.closed(&once.closing, at(LATER) + seconds(2)), Outcome::Keep);
}

#[test]
fn the_clock_looks_as_long_as_something_is_closing_from_the_first_on() {
    assert_eq!(two().due(), None);
    let late = changed(two().remove(&id(2), &operator(), at(LATER) + seconds(1)).unwrap()).record;
    assert_eq!(late.due(), Some(at(LATER) + seconds(1)));
    assert_eq!(disabled(&late).due(), Some(at(LATER)));
    assert_eq!(disabled(&late).listing(), Listing::at(at(ADDED)));
}

fn event(name: &str, data: Value) -> Event {
    Event {
        id: Uuid::nil(),
        name: name.to_owned(),
        tenant: tenant(),
        at: at(LATER),
        actor: operator(),
        subject: Subject { kind: "thing".to_owned(), id: "t-1".to_owned() },
        data,
    }
}

#[test]
fn an_endpoint_is_told_what_it_has_subscribed_to() {
    let agent = Some("agent-7".to_owned());
    let some = || Subscription::Names(["action.pending", "case.created"].map(|name| name.parse().unwrap()).to_vec());
    let everything = || order(1);
    let cases = || Add { events: some(), ..order(1) };
    let agents = || Add { agent: agent.clone(), ..order(1) };
    let both = || Add { agent: agent.clone(), events: some(), ..order(1) };
    let of_agent = |agent: &str| json!({ "agent_id": agent });
    for (add, name, data, expected) in [
        (everything(), "override.created", json!({}), true),
        (everything(), "action.pending", of_agent("agent-8"), true),
        (everything(), "case.created", json!(null), true),
        (cases(), "case.created", json!({}), true),
        (cases(), "case.resolved", json!({}), false),
        (cases(), "action.pending", json!({}), true),
        (agents(), "action.pending", of_agent("agent-7"), true),
        (agents(), "action.failed", of_agent("agent-7"), true),
        (agents(), "action.pending", of_agent("agent-8"), false),
        (agents(), "action.pending", json!({}), false),
        (agents(), "case.created", of_agent("agent-7"), false),
        (agents(), "delivery.exhausted", of_agent("agent-7"), false),
        (both(), "action.pending", of_agent("agent-7"), true),
        (both(), "action.denied", of_agent("agent-7"), false),
        (both(), "case.created", of_agent("agent-7"), false),
        (everything(), "delivery.exhausted", json!({ "endpoint": id(2) }), true),
        (everything(), "delivery.exhausted", json!({ "endpoint": null }), true),
        (everything(), "delivery.exhausted", json!({ "endpoint": id(1) }), false),
        (everything(), "case.created", json!({ "endpoint": id(1) }), true),
    ] {
        let endpoints = added(None, add.clone());
        let event = event(name, data);
        assert_eq!(first(&endpoints).wants(&event), expected, "{add:?} {event:?}");
        assert!(!first(&disabled(&endpoints)).wants(&event), "{add:?} {event:?}");
    }
}

#[test]
fn the_targets_of_an_event_are_all_that_want_it() {
    let cases = Subscription::Names(vec!["case.created".parse().unwrap()]);
    let endpoints = added(Some(&two()), Add { events: cases, ..order(3) });
    let targets = |endpoints: &Endpoints, name| {
        endpoints.targets(&event(name, json!({}))).map(|endpoint| endpoint.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(targets(&endpoints, "case.created"), [id(1), id(2), id(3)]);
    assert_eq!(targets(&endpoints, "case.resolved"), [id(1), id(2)]);
    assert_eq!(targets(&disabled(&endpoints), "case.created"), [id(2), id(3)]);
}

#[test]
fn a_subscription_is_everything_or_names() {
    let texts = |names: &[&str]| names.iter().copied().map(str::to_owned).collect::<Vec<_>>();
    let known =
        |names: &[&str]| Subscription::Names(names.iter().map(|name| EventName::of_sdk(name).unwrap()).collect());
    assert_eq!(Subscription::of(&texts(&["*"])), Ok(Subscription::All));
    assert_eq!(Subscription::of_sdk(&texts(&["*"])), Ok(Subscription::All));
    assert_eq!(Subscription::of(&texts(&EVENTS)), Ok(known(&EVENTS)));
    let repeated = ["case.resolved", "case.created", "case.resolved"];
    assert_eq!(Subscription::of(&texts(&repeated)), Ok(known(&repeated[..2])));
    assert_eq!(Subscription::of(&texts(&["case.created"; 50])), Ok(known(&["case.created"])));
    for (names, sdk_too) in [(vec!["*", "case.created"], true), (vec!["case"], true), (vec!["policy.violation"], false)]
    {
        let refused = Subscription::of(&texts(&names));
        assert!(matches!(refused, Err(InvalidSubscription::Name(_))), "{names:?}");
        assert_eq!(Subscription::of_sdk(&texts(&names)).is_err(), sdk_too, "{names:?}");
        assert_eq!(serde_json::from_value::<Subscription>(json!(names)).is_err(), sdk_too, "{names:?}");
    }
    for names in [vec![], vec!["case.created"; 51]] {
        assert_eq!(Subscription::of(&texts(&names)), Err(InvalidSubscription::Count));
    }
    assert_eq!(InvalidSubscription::Count.to_string(), r#"must be ["*"] or 1 to 50 names of events"#);
}

#[test]
fn an_endpoints_id_has_one_spelling() {
    const ULID: &str = "01HX9VTPQR3KF8MZWBYD5N6JCE";
    for (number, text) in [
        (0, "ep_00000000000000000000000000"),
        (31, "ep_0000000000000000000000000Z"),
        (u128::MAX, "ep_7ZZZZZZZZZZZZZZZZZZZZZZZZZ"),
    ] {
        assert_eq!(id(number).to_string(), text);
        assert_eq!(text.parse(), Ok(id(number)));
        assert_eq!(serde_json::to_value(id(number)).unwrap(), json!(text));
    }
    assert_eq!(format!("ep_{ULID}").parse::<EndpointId>().unwrap().as_str(), format!("ep_{ULID}"));
    for text in [
        ULID.to_owned(),
        String::new(),
        "ep_".to_owned(),
        format!("EP_{ULID}"),
        format!("rem_{ULID}"),
        format!(" ep_{ULID}"),
        format!("ep_{ULID} "),
        format!("ep_{}", &ULID[1..]),
        format!("ep_{ULID}0"),
        format!("ep_8{}", &ULID[1..]),
        format!("ep_{}", ULID.to_lowercase()),
        format!("ep_{}I", &ULID[1..]),
        format!("ep_ep_{}", &ULID[3..]),
    ] {
        assert_eq!(text.parse::<EndpointId>(), Err(InvalidEndpointId), "{text}");
        assert!(serde_json::from_value::<EndpointId>(json!(text)).is_err(), "{text}");
    }
}

#[test]
fn endpoints_are_stored_in_a_shape_that_does_not_change() {
    let all = Add {
        events: Subscription::Names(vec![
            "case.created".parse().unwrap(),
            EventName::of_sdk("policy.violation").unwrap(),
        ]),
        agent: Some("agent-7".to_owned()),
        description: Some("d".to_owned()),
        secret: named(),
        ..order(2)
    };
    let rotated = changed(troubled().rotate(&id(1), sealed("second"), &operator(), at(LATER)).unwrap()).record;
    let gone = changed(rotated.attempted(&id(2), Seen::Gone, at(LATER))).record;
    let mut endpoints = added(Some(&gone), Add { id: id(3), ..all });
    endpoints.endpoints[2].recovered_at = Some(at(LATER));
    let stored = json!({
        "tenant": "acme",
        "created_at": ADDED,
        "endpoints": [
            {
                "id": "ep_00000000000000000000000001",
                "url": URL,
                "events": ["*"],
                "agent": null,
                "description": null,
                "status": { "is": "enabled" },
                "secret": {
                    "is": "own",
                    "current": "sealed-second",
                    "previous": { "secret": "sealed-first", "until": "2026-11-22T04:00:00.5Z" },
                },
                "created_at": ADDED,
                "updated_at": LATER,
                "failing_since": LATER,
                "recovered_at": null,
                "slow_since": LATER,
            },
            {
                "id": "ep_00000000000000000000000002",
                "url": URL,
                "events": ["*"],
                "agent": null,
                "description": null,
                "status": { "is": "disabled", "at": LATER, "why": "gone" },
                "secret": { "is": "own", "current": "sealed-first", "previous": null },
                "created_at": ADDED,
                "updated_at": LATER,
                "failing_since": null,
                "recovered_at": null,
                "slow_since": null,
            },
            {
                "id": "ep_00000000000000000000000003",
                "url": URL,
                "events": ["case.created", "policy.violation"],
                "agent": "agent-7",
                "description": "d",
                "status": { "is": "enabled" },
                "secret": { "is": "named", "id": "default" },
                "created_at": ADDED,
                "updated_at": ADDED,
                "failing_since": null,
                "recovered_at": LATER,
                "slow_since": null,
            },
        ],
        "closing": [{ "endpoint": "ep_00000000000000000000000002", "at": LATER }],
    });
    assert_eq!(serde_json::to_value(&endpoints).unwrap(), stored);
    assert_eq!(serde_json::from_value::<Endpoints>(stored).unwrap(), endpoints);
    assert_eq!((Endpoints::KIND, Endpoints::SCHEMA), ("endpoints", 1));
    assert_eq!(Endpoints::upgrade(0, json!({})), None);
}

#[test]
fn a_status_has_its_documented_word() {
    assert_eq!(Status::Enabled.as_str(), "enabled");
    assert_eq!(Status::Disabled { at: at(LATER), why: Why::Asked }.as_str(), "disabled");
}

#[test]
fn attempts_of_many_endpoints_are_learned_from_in_one_change() {
    let before = two();
    let seen = [(id(1), Seen::TimedOut), (id(2), Seen::Gone), (id(1), Seen::TimedOut), (id(9), Seen::Gone)];
    let together = changed(before.learned(&seen, at(LATER)));
    let one = changed(before.attempted(&id(1), Seen::TimedOut, at(LATER)));
    let other = changed(one.record.attempted(&id(2), Seen::Gone, at(LATER)));
    let entries: Vec<_> = one.entries.into_iter().chain(other.entries).collect();
    assert_eq!((together.record, together.entries), (other.record, entries));
    assert_eq!(before.learned(&seen[3..], at(LATER)), Outcome::Keep);
    assert_eq!(before.learned(&[], at(LATER)), Outcome::Keep);
}
