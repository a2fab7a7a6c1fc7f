//! The life of a delivery as tables: made, claimed, reported on, cancelled, retried, and what is told of it.

use crate::{at, changed, operator};
use countersign_domain::delivery::{Cancelled, Delivery, DeliveryId, First, New, Refusal, Report, State, Target};
use countersign_domain::event::Source;
use countersign_domain::retry::Schedule;
use countersign_domain::{Actor, Change, Entry, EntryClass, Listing, Outcome, Record, Subject, Timestamp, seconds};
use jiff::SignedDuration;
use serde_json::{Value, json};
use uuid::Uuid;

const ENDPOINT: &str = "ep_01KAHX8Z1QJ5V3WQ4T6Y8B2D0G";
const EVENT: &str = "f4a5b6c7-d8e9-0123-f012-456789012cde";
const URL: &str = "https://hooks.example.com/in?key=s3cret";
const CREATED: &str = "2026-11-21T03:38:50.25Z";

fn schedule() -> Schedule {
    Schedule { jitter: 0.0, ..Schedule::documented() }
}

fn endpoint() -> Target {
    Target::Endpoint { id: ENDPOINT.parse().unwrap() }
}

fn bus() -> Target {
    Target::Bus { name: "approvals".to_owned() }
}

fn new(target: Target) -> New {
    New {
        tenant: "acme".parse().unwrap(),
        event_id: EVENT.parse().unwrap(),
        event: "case.created".to_owned(),
        source: Source { kind: "case".to_owned(), id: "42".to_owned(), version: 3, entry: 1 },
        target,
        url: Some(URL.to_owned()),
        run: None,
    }
}

fn created(first: First) -> Change<Delivery> {
    Delivery::create(new(endpoint()), first, &schedule(), at(CREATED))
}

/// A number of seconds after the delivery was made.
fn after(n: i64) -> Timestamp {
    at(CREATED) + seconds(n)
}

fn claimed() -> Delivery {
    created(First::Claimed).record
}

/// What whoever has claimed the delivery reports.
fn report(delivery: &Delivery) -> Report {
    let State::Claimed { attempt, at, .. } = delivery.state else { panic!("{:?}", delivery.state) };
    Report {
        earlier: delivery.earlier,
        attempt,
        claimed_at: at,
        status_code: Some(503),
        duration_ms: 17,
        error: None,
        excerpt: Some("see http://10.0.0.1/".to_owned()),
        url: Some(URL.to_owned()),
        timed_out: false,
    }
}

fn failed(delivery: &Delivery, now: Timestamp) -> Change<Delivery> {
    changed(delivery.failed(&report(delivery), None, 0.0, &schedule(), now))
}

fn claim(delivery: &Delivery, now: Timestamp) -> Change<Delivery> {
    changed(delivery.claim(&schedule(), now))
}

/// After one failed attempt, a second into its life; the next is due after 61 s.
fn waiting() -> Delivery {
    failed(&claimed(), after(1)).record
}

/// Claimed for its last attempt, and when.
fn at_the_last_attempt() -> (Delivery, Timestamp) {
    let mut delivery = claimed();
    for _ in 1..6 {
        let failed = failed(&delivery, delivery.updated_at + seconds(1)).record;
        let due = failed.next_attempt_at().unwrap();
        delivery = claim(&failed, due).record;
    }
    (delivery.clone(), delivery.updated_at)
}

fn exhausted() -> Change<Delivery> {
    let (delivery, now) = at_the_last_attempt();
    failed(&delivery, now + seconds(1))
}

fn delivered() -> Delivery {
    changed(claimed().succeeded(&report(&claimed()), after(1))).record
}

fn cancelled() -> Delivery {
    changed(waiting().cancel(Cancelled::EndpointDisabled, after(2))).record
}

fn told(change: &Change<Delivery>) -> Vec<(&str, &Value)> {
    change.entries.iter().map(|entry| (entry.name.as_str(), &entry.data)).collect()
}

#[test]
fn a_delivery_id_follows_from_tenant_event_target_and_run() {
    let id = |tenant: &str, event: u128, target: &Target, run: Option<&str>| {
        DeliveryId::of(&tenant.parse().unwrap(), Uuid::from_u128(event), target, run)
    };
    let named = |name: &str| Target::Bus { name: name.to_owned() };
    let of = id("acme", 7, &endpoint(), None);
    assert_eq!(of, id("acme", 7, &endpoint(), None));
    let others = [
        id("acme2", 7, &endpoint(), None),
        id("acme", 8, &endpoint(), None),
        id("acme", 7, &bus(), None),
        id("acme", 7, &named(ENDPOINT), None),
        id("acme", 7, &named(""), None),
        id("acme", 7, &endpoint(), Some("")),
        id("acme", 7, &endpoint(), Some("rpl_1")),
    ];
    let distinct: std::collections::BTreeSet<_> = others.iter().chain([&of]).collect();
    assert_eq!(distinct.len(), others.len() + 1);
    // As computed elsewhere: it must never change.
    assert_eq!(created(First::Waiting).record.id.as_str(), "dlv_ab3a93740cbcf603461316c836dccf6b");
    let replayed = New { run: Some("rpl_1".to_owned()), ..new(bus()) };
    let delivery = Delivery::create(replayed, First::Waiting, &schedule(), at(CREATED)).record;
    assert_eq!(delivery.id.to_string(), "dlv_489d9dde7dfdab1c8949b9e8aef7c9ba");
    assert_eq!(delivery.run.as_deref(), Some("rpl_1"));
}

#[test]
fn a_delivery_id_has_one_spelling() {
    let digits = "0123456789abcdef0123456789abcdef";
    let id = format!("dlv_{digits}");
    assert_eq!(id.parse::<DeliveryId>().unwrap().as_str(), id);
    assert_eq!(serde_json::to_value(id.parse::<DeliveryId>().unwrap()).unwrap(), json!(id));
    for id in [
        String::new(),
        "dlv_".to_owned(),
        digits.to_owned(),
        format!("DLV_{digits}"),
        format!("dlv_{digits}0"),
        format!("dlv_{}", &digits[1..]),
        format!("dlv_{}", digits.to_uppercase()),
        format!("dlv_{}g", &digits[1..]),
        format!("dlv_dlv_{digits}"),
        format!(" dlv_{digits}"),
    ] {
        assert!(id.parse::<DeliveryId>().is_err(), "{id:?}");
        assert!(serde_json::from_value::<DeliveryId>(json!(id)).is_err(), "{id:?}");
    }
}

#[test]
fn a_new_delivery_waits_for_whoever_gets_word_of_it() {
    let change = created(First::Waiting);
    let delivery = &change.record;
    let state = State::Waiting { attempt: 1, at: at(CREATED), look_at: after(60) };
    assert_eq!(delivery.state, state);
    assert_eq!((delivery.attempts(), delivery.status()), (0, "pending"));
    assert_eq!((delivery.created_at, delivery.updated_at, delivery.earlier), (at(CREATED), at(CREATED), 0));
    let data = json!({
        "event_id": EVENT,
        "event_type": "case.created",
        "source": { "kind": "case", "id": "42", "version": 3, "entry": 1 },
        "target": { "is": "endpoint", "id": ENDPOINT },
        "run": null,
    });
    let entry = Entry {
        name: "delivery.created".to_owned(),
        class: EntryClass::Audit,
        actor: Actor::Clock,
        at: at(CREATED),
        subject: Subject { kind: "delivery".to_owned(), id: delivery.id.to_string() },
        data,
        state: None,
    };
    assert_eq!(change.entries, [entry]);
    assert!(change.with.is_empty());
}

#[test]
fn a_new_delivery_is_claimed_by_whoever_makes_it_to_send_it_right_away() {
    let change = created(First::Claimed);
    assert_eq!(change.record.state, State::Claimed { attempt: 1, at: at(CREATED), until: after(20) });
    let names: Vec<_> = told(&change).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["delivery.created", "delivery.claimed"]);
    assert_eq!(change.entries[1].data, json!({ "attempt": 1 }));
    assert_eq!(change.entries[0], created(First::Waiting).entries[0]);
    assert_eq!((change.record.attempts(), change.record.status()), (0, "pending"));
}

#[test]
fn where_no_message_rides_the_clock_looks_for_a_new_delivery_at_once() {
    let schedule = Schedule { rides: seconds(-1), ..schedule() };
    let delivery = Delivery::create(new(bus()), First::Waiting, &schedule, at(CREATED)).record;
    assert_eq!(delivery.state, State::Waiting { attempt: 1, at: at(CREATED), look_at: at(CREATED) });
    assert_eq!((delivery.due(), delivery.look_at()), (Some(at(CREATED)), Some(at(CREATED))));
}

#[test]
fn an_attempt_is_claimed_when_it_is_due_and_not_before() {
    let due = after(61);
    assert_eq!(waiting().next_attempt_at(), Some(due));
    let early = due - SignedDuration::from_micros(1);
    assert_eq!(waiting().claim(&schedule(), early), Outcome::Keep);
    for now in [due, after(10_000)] {
        let change = claim(&waiting(), now);
        assert_eq!(change.record.state, State::Claimed { attempt: 2, at: now, until: now + seconds(20) });
        assert_eq!(told(&change), [("delivery.claimed", &json!({ "attempt": 2 }))]);
        assert_eq!((change.entries[0].class, &change.entries[0].actor), (EntryClass::Audit, &Actor::Clock));
        assert_eq!((change.record.updated_at, change.record.attempts()), (now, 1));
    }
}

#[test]
fn an_attempt_that_nobody_reports_on_is_made_again_when_its_claim_is_over() {
    let before = after(20) - SignedDuration::from_micros(1);
    for now in [at(CREATED), before] {
        assert_eq!(claimed().claim(&schedule(), now), Outcome::Keep);
    }
    let again = claim(&claimed(), after(20));
    assert_eq!(again.record.state, State::Claimed { attempt: 1, at: after(20), until: after(40) });
    assert_eq!(told(&again), [("delivery.claimed", &json!({ "attempt": 1 }))]);
}

#[test]
fn what_is_over_is_not_claimed() {
    for delivery in [delivered(), exhausted().record, cancelled()] {
        assert_eq!(delivery.claim(&schedule(), Timestamp::MAX), Outcome::Keep, "{:?}", delivery.state);
    }
}

#[test]
fn a_failed_attempt_is_logged_and_followed_by_a_wait() {
    let change = failed(&claimed(), after(1));
    let logged = json!({
        "n": 1,
        "at": "2026-11-21T03:38:50.250000Z",
        "status_code": 503,
        "duration_ms": 17,
        "error": null,
        "excerpt": "see http://10.0.0.1/",
    });
    assert_eq!(told(&change), [("delivery.attempted", &logged)]);
    assert_eq!((change.entries[0].class, &change.entries[0].actor), (EntryClass::Audit, &Actor::Clock));
    assert_eq!(change.entries[0].at, after(1));
    // Its message rides, and is looked for a minute after it was due.
    assert_eq!(change.record.state, State::Waiting { attempt: 2, at: after(61), look_at: after(121) });
    assert_eq!((change.record.attempts(), change.record.status()), (1, "pending"));
    assert_eq!(change.record.updated_at, after(1));
}

#[test]
fn attempts_follow_each_other_by_the_schedule_until_the_last_one_has_failed() {
    let mut delivery = claimed();
    for (nth, wait) in (1..).zip([60, 300, 900, 3_600, 21_600]) {
        let now = delivery.updated_at + seconds(1);
        delivery = failed(&delivery, now).record;
        assert_eq!((delivery.attempts(), delivery.next_attempt_at()), (nth, Some(now + seconds(wait))));
        delivery = claim(&delivery, now + seconds(wait)).record;
    }
    let now = delivery.updated_at + seconds(1);
    delivery = failed(&delivery, now).record;
    assert_eq!(delivery.state, State::Exhausted { attempts: 6, at: now });
    assert_eq!((delivery.attempts(), delivery.status(), delivery.next_attempt_at()), (6, "exhausted", None));
}

#[test]
fn jitter_and_the_receivers_wish_go_into_the_wait() {
    let (delivery, report) = (claimed(), report(&claimed()));
    let next = |retry_after: Option<i64>, unit| {
        let outcome = delivery.failed(&report, retry_after.map(seconds), unit, &Schedule::documented(), at(CREATED));
        changed(outcome).record.state
    };
    let waiting = |wait, look_at| State::Waiting { attempt: 2, at: after(wait), look_at: after(look_at) };
    assert_eq!(next(None, 1.0), waiting(66, 126));
    assert_eq!(next(None, -1.0), waiting(54, 114));
    assert_eq!(next(Some(900), 0.0), waiting(900, 960));
    // Too long to ride: the clock sends word ahead of time.
    assert_eq!(next(Some(901), 0.0), waiting(901, 811));
    assert_eq!(next(Some(86_400), 0.0), waiting(21_600, 21_510));
}

#[test]
fn a_failure_is_recorded_by_whoever_holds_the_claim_and_by_nobody_else() {
    let own = report(&claimed());
    let again = claim(&claimed(), after(20)).record;
    let none = |delivery: &Delivery, report: &Report| {
        assert_eq!(delivery.failed(report, None, 0.0, &schedule(), after(30)), Outcome::Keep, "{report:?}");
        assert_eq!(delivery.gone(report, after(30)), Outcome::Keep, "{report:?}");
    };
    none(&again, &own);
    none(&claimed(), &Report { attempt: 2, ..own.clone() });
    none(&claimed(), &Report { earlier: 1, ..own.clone() });
    none(&claimed(), &Report { claimed_at: after(1), ..own.clone() });
    for delivery in [waiting(), delivered(), exhausted().record, cancelled(), created(First::Waiting).record] {
        none(&delivery, &own);
    }
    // A claim that is over and that nobody has taken since is still the reporter's.
    assert_eq!(failed(&claimed(), after(9_999)).record.attempts(), 1);
}

#[test]
fn the_last_failure_is_an_event_that_shows_no_url() {
    let change = exhausted();
    let [attempted, exhausted] = change.entries.as_slice() else { panic!("{:?}", change.entries) };
    assert_eq!((attempted.name.as_str(), attempted.class), ("delivery.attempted", EntryClass::Audit));
    assert_eq!(attempted.data["n"], 6);
    assert_eq!((exhausted.name.as_str(), exhausted.class), ("delivery.exhausted", EntryClass::Public));
    let data = json!({
        "delivery_id": change.record.id,
        "endpoint": ENDPOINT,
        "event_id": EVENT,
        "event_type": "case.created",
        "attempts": 6,
        "last_error": "HTTP 503",
    });
    assert_eq!(exhausted.data, data);
    assert_eq!((&exhausted.actor, exhausted.at), (&Actor::Clock, change.record.updated_at));
    assert!(!serde_json::to_string(exhausted).unwrap().contains("://"));
}

#[test]
fn the_last_error_is_what_went_wrong_or_else_the_status() {
    let (delivery, now) = at_the_last_attempt();
    for (error, status_code, expected) in [
        (Some("timed out"), None, json!("timed out")),
        (Some("the body drags"), Some(200), json!("the body drags")),
        (None, Some(301), json!("HTTP 301")),
        (None, None, json!(null)),
    ] {
        let report = Report { error: error.map(str::to_owned), status_code, ..report(&delivery) };
        let change = changed(delivery.failed(&report, None, 0.0, &schedule(), now));
        assert_eq!(change.entries[1].data["last_error"], expected);
        assert_eq!(change.entries[0].data["error"], json!(error));
    }
}

#[test]
fn that_word_of_a_failure_fails_is_no_event() {
    let once = Schedule { delays: vec![], ..schedule() };
    for (event, target, class, named) in [
        ("delivery.exhausted", endpoint(), EntryClass::Audit, json!(ENDPOINT)),
        ("delivery.exhausted", bus(), EntryClass::Audit, json!(null)),
        ("remediation.failed", bus(), EntryClass::Public, json!(null)),
    ] {
        let new = New { event: event.to_owned(), ..new(target) };
        let delivery = Delivery::create(new, First::Claimed, &once, at(CREATED)).record;
        let change = changed(delivery.failed(&report(&delivery), None, 0.0, &once, after(1)));
        let exhausted = &change.entries[1];
        assert_eq!((exhausted.name.as_str(), exhausted.class), ("delivery.exhausted", class));
        assert_eq!((&exhausted.data["endpoint"], &exhausted.data["attempts"]), (&named, &json!(1)));
        assert_eq!(change.record.state, State::Exhausted { attempts: 1, at: after(1) });
    }
}

#[test]
fn a_success_delivers_for_ever() {
    let report = Report { status_code: Some(204), excerpt: None, ..report(&claimed()) };
    let change = changed(claimed().succeeded(&report, after(1)));
    let logged = json!({
        "n": 1,
        "at": "2026-11-21T03:38:50.250000Z",
        "status_code": 204,
        "duration_ms": 17,
        "error": null,
        "excerpt": null,
    });
    let attempts = json!({ "attempts": 1 });
    assert_eq!(told(&change), [("delivery.attempted", &logged), ("delivery.delivered", &attempts)]);
    assert!(change.entries.iter().all(|entry| entry.class == EntryClass::Audit && entry.actor == Actor::Clock));
    let delivery = change.record;
    assert_eq!(delivery.state, State::Delivered { attempts: 1, at: after(1) });
    assert_eq!((delivery.attempts(), delivery.status(), delivery.updated_at), (1, "delivered", after(1)));

    assert_eq!(delivery.succeeded(&report, after(2)), Outcome::Keep);
    assert_eq!(delivery.failed(&report, None, 0.0, &schedule(), after(2)), Outcome::Keep);
    assert_eq!(delivery.gone(&report, after(2)), Outcome::Keep);
    assert_eq!(delivery.cancel(Cancelled::EndpointDeleted, after(2)), Outcome::Keep);
    assert_eq!(delivery.retry(&operator(), &schedule(), after(2)), Err(Refusal::AlreadyDelivered));
}

#[test]
fn a_late_success_counts_whatever_has_become_of_the_delivery() {
    let late = report(&claimed());
    let again = claim(&claimed(), after(20)).record;
    let second = claim(&waiting(), after(61)).record;
    let gone = changed(claimed().gone(&late, after(1))).record;
    let stopped = changed(claimed().cancel(Cancelled::EndpointDeleted, after(1))).record;
    let retried = |delivery: &Delivery, now| changed(delivery.retry(&operator(), &schedule(), now).unwrap()).record;
    let (sixfold, expired) = (exhausted().record, retried(&claimed(), after(20)));
    for (delivery, attempts) in [
        (again.clone(), 1),
        (failed(&again, after(21)).record, 1),
        (waiting(), 1),
        (second.clone(), 1),
        (failed(&second, after(62)).record, 2),
        (sixfold.clone(), 6),
        (cancelled(), 1),
        (gone, 1),
        (stopped.clone(), 1),
        (retried(&sixfold, after(40_000)), 6),
        (expired, 1),
        (retried(&stopped, after(2)), 1),
    ] {
        let change = changed(delivery.succeeded(&late, after(50_000)));
        assert_eq!((change.record.status(), change.record.attempts()), ("delivered", attempts), "{delivery:?}");
        assert_eq!(change.entries[0].data["n"], 1, "{delivery:?}");
        assert_eq!(change.entries[1].data, json!({ "attempts": attempts }), "{delivery:?}");
    }
}

#[test]
fn an_endpoint_that_is_gone_cancels() {
    let report = Report { status_code: Some(410), ..report(&claimed()) };
    let change = changed(claimed().gone(&report, after(1)));
    assert_eq!(change.record.state, State::Cancelled { attempts: 1, at: after(1), why: Cancelled::Gone });
    assert_eq!((change.record.status(), change.record.next_attempt_at()), ("cancelled", None));
    let names: Vec<_> = told(&change).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["delivery.attempted", "delivery.cancelled"]);
    assert_eq!(change.entries[0].data["status_code"], 410);
    assert_eq!(change.entries[1].data, json!({ "attempts": 1, "why": "gone" }));
    assert!(change.entries.iter().all(|entry| entry.class == EntryClass::Audit));
}

#[test]
fn a_delivery_is_cancelled_while_it_waits_and_while_an_attempt_is_made() {
    let second = claim(&waiting(), after(61)).record;
    for (delivery, why, word, attempts) in [
        (created(First::Waiting).record, Cancelled::EndpointDeleted, "endpoint_deleted", 0),
        (waiting(), Cancelled::EndpointDisabled, "endpoint_disabled", 1),
        (claimed(), Cancelled::EndpointDeleted, "endpoint_deleted", 1),
        (second, Cancelled::EndpointDisabled, "endpoint_disabled", 2),
    ] {
        let change = changed(delivery.cancel(why, after(62)));
        assert_eq!(change.record.state, State::Cancelled { attempts, at: after(62), why });
        assert_eq!((change.record.status(), change.record.updated_at), ("cancelled", after(62)));
        let data = json!({ "attempts": attempts, "why": word });
        assert_eq!(told(&change), [("delivery.cancelled", &data)]);
        assert_eq!(change.entries[0].actor, Actor::Clock);
    }
    for delivery in [delivered(), exhausted().record, cancelled()] {
        assert_eq!(delivery.cancel(Cancelled::Gone, after(62)), Outcome::Keep, "{:?}", delivery.state);
    }
}

#[test]
fn a_retry_starts_a_fresh_round_that_is_due_now() {
    let now = after(40_000);
    let second = claim(&waiting(), after(61)).record;
    for (delivery, earlier) in [(waiting(), 1), (exhausted().record, 6), (cancelled(), 1), (claimed(), 0), (second, 1)]
    {
        let change = changed(delivery.retry(&operator(), &schedule(), now).unwrap());
        let state = State::Waiting { attempt: 1, at: now, look_at: now + seconds(60) };
        assert_eq!(change.record, Delivery { state, earlier, updated_at: now, ..delivery });
        assert_eq!(change.record.attempts(), earlier);
        assert_eq!(told(&change), [("delivery.retried", &json!({ "attempts": earlier }))]);
        assert_eq!((&change.entries[0].actor, change.entries[0].class), (&operator(), EntryClass::Audit));
        let next = claim(&change.record, now).record;
        assert_eq!(claim(&change.record, now).entries[0].data, json!({ "attempt": earlier + 1 }));
        assert_eq!(failed(&next, now).entries[0].data["n"], earlier + 1);
        assert_eq!(failed(&next, now).record.next_attempt_at(), Some(now + seconds(60)));
    }
}

#[test]
fn a_retry_of_what_is_under_way_changes_nothing() {
    let retry = |delivery: &Delivery, now| delivery.retry(&operator(), &schedule(), now);
    let before = after(20) - SignedDuration::from_micros(1);
    assert_eq!(retry(&claimed(), before), Ok(Outcome::Keep));
    assert!(matches!(retry(&claimed(), after(20)), Ok(Outcome::Change(_))));
    let fresh = created(First::Waiting).record;
    for now in [at(CREATED), after(10_000)] {
        assert_eq!(retry(&fresh, now), Ok(Outcome::Keep));
    }
    // A first attempt that is not due yet becomes due.
    assert!(matches!(retry(&fresh, after(-1)), Ok(Outcome::Change(_))));
    assert!(matches!(retry(&waiting(), after(61)), Ok(Outcome::Change(_))));
}

#[test]
fn the_url_is_the_one_that_was_called_last() {
    let called = |url: Option<&str>| Report { url: url.map(str::to_owned), ..report(&claimed()) };
    let moved = "https://new.example.com/";
    for (url, expected) in [(Some(moved), moved), (None, URL)] {
        let report = called(url);
        for outcome in [
            claimed().failed(&report, None, 0.0, &schedule(), after(1)),
            claimed().succeeded(&report, after(1)),
            claimed().gone(&report, after(1)),
        ] {
            assert_eq!(changed(outcome).record.url.as_deref(), Some(expected));
        }
    }
}

#[test]
fn the_clock_sends_word_for_when_an_attempt_is_due() {
    let long = |delivery: &Delivery| {
        changed(delivery.failed(&report(delivery), Some(seconds(3_600)), 0.0, &schedule(), after(0))).record
    };
    for (delivery, look_at, due) in [
        // A message is on its way; word is sent if it was lost.
        (created(First::Waiting).record, Some(after(60)), Some(after(60))),
        (waiting(), Some(after(121)), Some(after(121))),
        // Nothing is on its way; word is sent ahead.
        (long(&claimed()), Some(after(3_510)), Some(after(3_600))),
        (claimed(), Some(after(20)), Some(after(20))),
        (delivered(), None, None),
        (exhausted().record, None, None),
        (cancelled(), None, None),
    ] {
        assert_eq!((delivery.look_at(), delivery.due()), (look_at, due), "{:?}", delivery.state);
        // The worker makes attempts, not ticks.
        assert_eq!(delivery.tick(Timestamp::MAX), Outcome::Keep);
    }
}

#[test]
fn an_attempt_is_ready_from_when_it_is_due_whenever_the_clock_looks() {
    let just_before = |at: Timestamp| at - SignedDuration::from_micros(1);
    let riding = waiting();
    let long = Schedule { rides: seconds(0), ..schedule() };
    let looked_at = changed(claimed().failed(&report(&claimed()), None, 0.0, &long, after(1))).record;
    assert!(riding.look_at() > riding.next_attempt_at() && looked_at.look_at() < looked_at.next_attempt_at());
    for (delivery, due) in [(riding, after(61)), (looked_at, after(61)), (claimed(), after(20))] {
        assert!(!delivery.is_ready(just_before(due)), "{delivery:?}");
        assert!(delivery.is_ready(due) && delivery.is_ready(due + seconds(1)), "{delivery:?}");
    }
    for over in [delivered(), exhausted().record, cancelled()] {
        assert!(!over.is_ready(Timestamp::MAX), "{over:?}");
    }
}

#[test]
fn a_delivery_is_listed_by_status_and_endpoint_and_waits_in_its_endpoints_inbox() {
    let inbox = format!("waiting:{ENDPOINT}");
    let (sixfold, waiting_for_bus) = (exhausted().record, Delivery { target: bus(), ..waiting() });
    for (delivery, state, subject, inbox) in [
        (waiting(), "pending", ENDPOINT, Some(inbox)),
        (claimed(), "pending", ENDPOINT, None),
        (delivered(), "delivered", ENDPOINT, None),
        (sixfold, "exhausted", ENDPOINT, None),
        (cancelled(), "cancelled", ENDPOINT, None),
        (waiting_for_bus, "pending", "bus", None),
    ] {
        let expected = Listing {
            state: Some(state),
            subject: Some(subject.to_owned()),
            inbox: inbox.map(Into::into),
            ..Listing::at(at(CREATED))
        };
        assert_eq!(delivery.listing(), expected);
    }
}

#[test]
fn a_delivery_is_stored_in_this_shape() {
    let id = created(First::Waiting).record.id;
    let shape = |target: Value, url: Value, earlier: u32, updated_at: &str, state: Value| {
        json!({
            "id": id,
            "event_id": EVENT,
            "event": "case.created",
            "source": { "kind": "case", "id": "42", "version": 3, "entry": 1 },
            "target": target,
            "url": url,
            "run": null,
            "state": state,
            "earlier": earlier,
            "created_at": CREATED,
            "updated_at": updated_at,
        })
    };
    let to_endpoint = |earlier, updated_at: &str, state| {
        shape(json!({ "is": "endpoint", "id": ENDPOINT }), json!(URL), earlier, updated_at, state)
    };
    let to_bus = Delivery { target: bus(), url: None, ..waiting() };
    let last = exhausted().record;
    let gone = changed(claimed().gone(&report(&claimed()), after(1))).record;
    let second = "2026-11-21T03:38:51.25Z";
    let due =
        json!({ "is": "waiting", "attempt": 2, "at": "2026-11-21T03:39:51.25Z", "look_at": "2026-11-21T03:40:51.25Z" });
    let exhausted_at = last.updated_at.to_string();
    for (delivery, shape) in [
        (waiting(), to_endpoint(0, second, due.clone())),
        (to_bus, shape(json!({ "is": "bus", "name": "approvals" }), json!(null), 0, second, due)),
        (
            claimed(),
            to_endpoint(
                0,
                CREATED,
                json!({ "is": "claimed", "attempt": 1, "at": CREATED, "until": "2026-11-21T03:39:10.25Z" }),
            ),
        ),
        (delivered(), to_endpoint(0, second, json!({ "is": "delivered", "attempts": 1, "at": second }))),
        (
            Delivery { earlier: 2, ..last.clone() },
            to_endpoint(2, &exhausted_at, json!({ "is": "exhausted", "attempts": 6, "at": exhausted_at })),
        ),
        (gone, to_endpoint(0, second, json!({ "is": "cancelled", "attempts": 1, "at": second, "why": "gone" }))),
    ] {
        assert_eq!(serde_json::to_value(&delivery).unwrap(), shape);
        assert_eq!(serde_json::from_value::<Delivery>(shape).unwrap(), delivery);
    }
    assert_eq!((Delivery::KIND, Delivery::SCHEMA, Delivery::upgrade(0, json!({}))), ("delivery", 2, None));
}
