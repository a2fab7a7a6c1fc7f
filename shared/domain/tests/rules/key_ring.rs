//! A customer's signing keys: their numbers, how long rotated ones verify, and what is never shown.

use crate::{at, changed, microseconds, operator};
use countersign_domain::key_ring::{
    ActiveKey, KeyRing, MAX_VERIFYING, NewKey, PublicKey, Refusal, Sealed, VerifyingKey,
};
use countersign_domain::{Actor, Change, EntryClass, Listing, Record, Subject, Tenant, Timestamp, seconds};
use proptest::prelude::*;
use serde_json::json;

const STARTED: &str = "2026-11-21T03:38:50.123456Z";
/// The longest life of a token and the minute on top.
const VERIFIES_SECONDS: i64 = (1440 + 1) * 60;

fn customer() -> Tenant {
    "550e8400-e29b-41d4-a716-446655440000".parse().unwrap()
}

/// A key that can be told apart from the others.
fn key(name: &str) -> NewKey {
    NewKey { public: public(name), private: Sealed(format!("sealed-{name}")) }
}

fn public(name: &str) -> PublicKey {
    PublicKey { x: format!("x-{name}"), y: format!("y-{name}") }
}

fn started() -> KeyRing {
    KeyRing::start(customer(), key("first"), &operator(), at(STARTED)).record
}

fn rotated(ring: &KeyRing, now: Timestamp) -> KeyRing {
    changed(ring.rotate(ring.active.number, key("next"), &operator(), now).unwrap()).record
}

/// A ring that holds as many rotated keys as it can, all rotated when it was started.
fn full() -> KeyRing {
    (0..MAX_VERIFYING).fold(started(), |ring, _| rotated(&ring, at(STARTED)))
}

fn numbers(ring: &KeyRing, now: Timestamp) -> Vec<u32> {
    ring.verifying(now).map(|key| key.number).collect()
}

#[test]
fn a_ring_starts_with_an_active_key_of_number_one() {
    let Change { record, entries, .. } = KeyRing::start(customer(), key("first"), &operator(), at(STARTED));
    assert_eq!(
        record,
        KeyRing {
            customer: customer(),
            created_at: at(STARTED),
            active: ActiveKey {
                number: 1,
                public: public("first"),
                private: Sealed("sealed-first".to_owned()),
                created_at: at(STARTED),
            },
            verifying: vec![],
        }
    );
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    let id = "550e8400-e29b-41d4-a716-446655440000.1";
    assert_eq!(entry.name, "signing_key.created");
    assert_eq!(entry.class, EntryClass::Audit);
    assert_eq!(entry.actor, operator());
    assert_eq!(entry.at, at(STARTED));
    assert_eq!(entry.subject, Subject { kind: "signing_key".to_owned(), id: id.to_owned() });
    assert_eq!(entry.data, json!({ "key_id": id }));
    assert_eq!(entry.state, None);
}

#[test]
fn a_rotation_replaces_the_active_key_and_keeps_the_public_half_of_the_old_one() {
    let now = at(STARTED) + seconds(3600);
    let by = Actor::Operator { principal: "rotator".to_owned() };
    let Change { record, entries, .. } = changed(started().rotate(1, key("second"), &by, now).unwrap());
    assert_eq!(
        record,
        KeyRing {
            customer: customer(),
            created_at: at(STARTED),
            active: ActiveKey {
                number: 2,
                public: public("second"),
                private: Sealed("sealed-second".to_owned()),
                created_at: now,
            },
            verifying: vec![VerifyingKey {
                number: 1,
                public: public("first"),
                until: at("2026-11-22T04:39:50.123456Z"),
            }],
        }
    );
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    let id = "550e8400-e29b-41d4-a716-446655440000.2";
    assert_eq!(entry.name, "signing_key.rotated");
    assert_eq!(entry.class, EntryClass::Audit);
    assert_eq!(entry.actor, by);
    assert_eq!(entry.at, now);
    assert_eq!(entry.subject, Subject { kind: "signing_key".to_owned(), id: id.to_owned() });
    assert_eq!(entry.data, json!({ "key_id": id }));
    assert_eq!(entry.state, None);
}

#[test]
fn only_the_active_key_can_be_rotated() {
    let ring = rotated(&rotated(&started(), at(STARTED)), at(STARTED));
    for number in [0, 1, 2, 4, u32::MAX] {
        let found = ring.rotate(number, key("next"), &operator(), at(STARTED));
        assert_eq!(found, Err(Refusal::KeyNotFound), "{number}");
    }
    assert!(ring.rotate(3, key("next"), &operator(), at(STARTED)).is_ok());
}

#[test]
fn of_two_rotations_of_one_key_the_second_is_refused() {
    let ring = changed(started().rotate(1, key("second"), &operator(), at(STARTED)).unwrap()).record;
    let before = ring.clone();
    assert_eq!(ring.rotate(1, key("third"), &operator(), at(STARTED)), Err(Refusal::KeyNotFound));
    assert_eq!(ring, before);
}

#[test]
fn a_rotated_key_verifies_for_a_day_and_a_minute_to_the_microsecond() {
    let now = at(STARTED) + seconds(3600);
    let ring = rotated(&started(), now);
    let until = now + seconds(VERIFIES_SECONDS);
    for (then, verifies) in [
        (now, true),
        (now + seconds(1440 * 60), true),
        (until - seconds(1), true),
        (until - microseconds(1), true),
        (until, false),
        (until + microseconds(1), false),
        (Timestamp::MAX, false),
    ] {
        let expected: &[u32] = if verifies { &[1] } else { &[] };
        assert_eq!(numbers(&ring, then), expected, "{then}");
    }
}

#[test]
fn verifying_keys_are_told_oldest_first_and_fall_away_one_by_one() {
    let second = seconds(1);
    let first = at(STARTED);
    let ring =
        [first, first + second, first + second + second].iter().fold(started(), |ring, &now| rotated(&ring, now));
    let until = first + seconds(VERIFIES_SECONDS);
    assert_eq!(numbers(&ring, first), [1, 2, 3]);
    assert_eq!(numbers(&ring, until), [2, 3]);
    assert_eq!(numbers(&ring, until + second), [3]);
    assert_eq!(numbers(&ring, until + second + second), [0; 0]);
}

#[test]
fn a_rotation_drops_from_the_record_what_no_longer_verifies() {
    let until = at(STARTED) + seconds(VERIFIES_SECONDS);
    let ring = rotated(&started(), at(STARTED));
    for (now, kept) in [(until - microseconds(1), vec![1, 2]), (until, vec![2])] {
        let next = rotated(&ring, now);
        assert_eq!(next.verifying.iter().map(|key| key.number).collect::<Vec<_>>(), kept, "{now}");
    }
}

#[test]
fn a_ring_is_full_with_a_hundred_rotated_keys_until_the_first_has_expired() {
    let ring = full();
    assert_eq!(ring.verifying.len(), 100);
    assert_eq!(ring.active.number, 101);
    let until = at(STARTED) + seconds(VERIFIES_SECONDS);
    for now in [at(STARTED), until - microseconds(1)] {
        let before = ring.clone();
        assert_eq!(ring.rotate(101, key("next"), &operator(), now), Err(Refusal::TooManyKeys), "{now}");
        assert_eq!(ring, before);
    }
    let next = rotated(&ring, until);
    assert_eq!(next.active.number, 102);
    assert_eq!(numbers(&next, until), [101]);
}

#[test]
fn a_ring_of_ninety_nine_rotated_keys_takes_one_more() {
    let ring = (1..MAX_VERIFYING).fold(started(), |ring, _| rotated(&ring, at(STARTED)));
    assert_eq!(ring.verifying.len(), 99);
    assert_eq!(rotated(&ring, at(STARTED)).verifying.len(), 100);
}

#[test]
fn one_expired_key_makes_room_for_one_rotation() {
    let second = seconds(1);
    let early = rotated(&started(), at(STARTED));
    let ring = (1..MAX_VERIFYING).fold(early, |ring, _| rotated(&ring, at(STARTED) + second));
    let until = at(STARTED) + seconds(VERIFIES_SECONDS);
    let next = rotated(&ring, until);
    assert_eq!(next.verifying.len(), MAX_VERIFYING);
    assert_eq!(next.rotate(next.active.number, key("next"), &operator(), until), Err(Refusal::TooManyKeys));
}

#[test]
fn a_full_ring_still_says_first_that_another_key_is_active() {
    assert_eq!(full().rotate(1, key("next"), &operator(), at(STARTED)), Err(Refusal::KeyNotFound));
}

#[test]
fn a_key_rotated_at_the_end_of_time_verifies_until_then() {
    let ring = rotated(&started(), Timestamp::MAX);
    assert_eq!(ring.verifying[0].until, Timestamp::MAX);
}

#[test]
fn sealed_text_is_never_shown() {
    const SEALED: &str = "sealed-first";
    let change = KeyRing::start(customer(), key("first"), &operator(), at(STARTED));
    let ring = &change.record;
    for shown in [
        format!("{:?}", key("first")),
        format!("{ring:?}"),
        format!("{ring:#?}"),
        format!("{:?}", ring.active.private),
        format!("{change:?}"),
        format!("{:?}", ring.rotate(1, key("first"), &operator(), at(STARTED))),
        serde_json::to_string(&change.entries).unwrap(),
    ] {
        assert!(!shown.contains(SEALED), "{shown}");
    }
    assert_eq!(format!("{:?}", ring.active.private), "Sealed(..)");
}

#[test]
fn a_rotated_key_leaves_no_private_half_behind() {
    let stored = serde_json::to_string(&rotated(&started(), at(STARTED))).unwrap();
    assert!(stored.contains("x-first"), "{stored}");
    assert!(!stored.contains("sealed-first"), "{stored}");
}

#[test]
fn a_ring_survives_being_stored_with_what_is_sealed() {
    let ring = rotated(&started(), at(STARTED));
    let stored = serde_json::to_string(&ring).unwrap();
    assert!(stored.contains("sealed-next"), "{stored}");
    assert_eq!(serde_json::from_str::<KeyRing>(&stored).unwrap(), ring);
}

#[test]
fn a_ring_is_listed_by_its_age_only() {
    let ring = rotated(&started(), at(STARTED) + seconds(1));
    assert_eq!(ring.listing(), Listing::at(at(STARTED)));
}

#[test]
fn a_key_id_is_taken_apart_at_its_last_dot() {
    for (customer, number) in [
        ("acme", 1),
        ("acme", 0),
        ("acme", u32::MAX),
        ("a.b.c", 7),
        ("a.1", 2),
        ("a.", 1),
        ("a..", 10),
        ("1", 1),
        ("550e8400-e29b-41d4-a716-446655440000", 42),
    ] {
        let tenant: Tenant = customer.parse().unwrap();
        let ring = KeyRing { customer: tenant.clone(), ..started() };
        let id = ring.key_id(number);
        assert_eq!(id, format!("{customer}.{number}"));
        assert_eq!(KeyRing::parse_key_id(&id), Some((tenant, number)), "{id}");
    }
}

#[test]
fn a_text_that_is_no_key_id_is_not_taken_apart() {
    let long = format!("{}.1", "x".repeat(129));
    for id in [
        "",
        ".",
        "..",
        "1",
        "a",
        ".1",
        "..1",
        "a.",
        "a.1.",
        "a.01",
        "a.00",
        "a.+1",
        "a.-1",
        "a.-0",
        "a. 1",
        "a.1 ",
        " a.1",
        "a.1\0",
        "a.1\n",
        "a.4294967296",
        "a.4294967297",
        "a.18446744073709551617",
        "a.1e1",
        "a.0x1",
        "a.1_0",
        "a.١",
        "a.１",
        "a.b",
        "a b.1",
        "a|b.1",
        "a#b.1",
        "a/b.1",
        "_a.1",
        "-a.1",
        "ä.1",
        "\0.1",
        long.as_str(),
    ] {
        assert_eq!(KeyRing::parse_key_id(id), None, "{id:?}");
    }
}

proptest! {
    #[test]
    fn every_key_id_is_taken_apart_into_what_it_was_made_of(
        customer in "[A-Za-z0-9][A-Za-z0-9._-]{0,127}",
        number in any::<u32>(),
    ) {
        let customer: Tenant = customer.parse().unwrap();
        let ring = KeyRing { customer: customer.clone(), ..started() };
        prop_assert_eq!(KeyRing::parse_key_id(&ring.key_id(number)), Some((customer, number)));
    }

    #[test]
    fn no_two_texts_are_the_same_key_id(id in r"[a-z0-9.+ -]{0,6}\.[0-9+-]{0,12}") {
        if let Some((customer, number)) = KeyRing::parse_key_id(&id) {
            prop_assert_eq!(format!("{customer}.{number}"), id);
        }
    }

    #[test]
    fn no_number_is_used_twice_whatever_is_rotated_when(
        rotations in proptest::collection::vec((0..3_u32, 0..2 * VERIFIES_SECONDS), 1..60),
    ) {
        let mut ring = started();
        let mut now = at(STARTED);
        let mut minted = vec![ring.active.number];
        for (behind, pause) in rotations {
            now += seconds(pause / 20);
            let number = ring.active.number;
            let result = ring.rotate(number - behind.min(number), key("next"), &operator(), now);
            if behind > 0 {
                prop_assert_eq!(result, Err(Refusal::KeyNotFound));
                continue;
            }
            ring = changed(result.unwrap()).record;
            prop_assert!(!minted.contains(&ring.active.number));
            minted.push(ring.active.number);
            let verifying = numbers(&ring, now);
            prop_assert!(verifying.is_sorted_by(|a, b| a < b), "{verifying:?}");
            prop_assert_eq!(verifying.last(), Some(&number));
            prop_assert!(verifying.iter().all(|number| *number < ring.active.number));
        }
        let count = u32::try_from(minted.len()).unwrap();
        prop_assert_eq!(minted, (1..=count).collect::<Vec<_>>());
    }
}
