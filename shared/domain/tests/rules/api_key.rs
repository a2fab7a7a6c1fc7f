//! The life of an API key as tables: minting, opening, revoking, rotating, and what is told of it.

use crate::{at, changed, microseconds, operator};
use countersign_domain::api_key::{ApiKey, KeyHash, KeyId, Mint, Refusal, Scope, Scopes, looks_like_a_key};
use countersign_domain::{
    Change, Entry, EntryClass, Listing, Outcome, Record, Subject, Timestamp, With, seconds, whole_second,
};
use proptest::prelude::*;
use serde_json::json;

const TEXT: &str = "cs_live_0a1b2c3d_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0";
/// SHA-256 of the text above.
const HASH: &str = "986cb1f73c416a2df4cde2be6d39611c05a99bfb4971ffb63d3966662a6f5c42";
const ID: &str = "key_986cb1f73c416a2df4cde2be6d39611c";
const NEXT_TEXT: &str = "cs_live_4e5f6071_bmV4dC1uZXh0LW5leHQtbmV4dC1uZXh0LW5l";
const NEXT_HASH: &str = "cd3482288199673ca2e752b94943d8ec0dec6497846115f07e261e6414c5a68c";
const NEXT_ID: &str = "key_cd3482288199673ca2e752b94943d8ec";
const CREATED: &str = "2026-11-21T03:38:50.123456Z";
const EXPIRES: &str = "2026-12-21T00:00:00Z";

fn scopes(words: &[&str]) -> Scopes {
    words.iter().map(|word| word.parse().unwrap()).collect::<Vec<_>>().try_into().unwrap()
}

fn order() -> Mint {
    Mint {
        hash: KeyHash::of(TEXT),
        domain: "acme".parse().unwrap(),
        name: "soc pull".to_owned(),
        owner: Some(42),
        scopes: scopes(&["cases:write", "cases:read"]),
        expires_at: Some(at(EXPIRES)),
    }
}

fn minted() -> ApiKey {
    ApiKey::mint(order(), &operator(), at(CREATED)).record
}

fn unlimited() -> ApiKey {
    ApiKey::mint(Mint { expires_at: None, ..order() }, &operator(), at(CREATED)).record
}

/// An hour into the key's life.
fn later() -> Timestamp {
    at("2026-11-21T04:38:50.123456Z")
}

fn revoked() -> ApiKey {
    changed(minted().revoke(&operator(), later())).record
}

/// The old key after a rotation, and the new one with its entry.
fn rotated(key: &ApiKey, grace_minutes: i64, now: Timestamp) -> (ApiKey, ApiKey, Entry) {
    let change = changed(key.rotate(KeyHash::of(NEXT_TEXT), grace_minutes, &operator(), now).unwrap());
    let [With::Born { id, record, entry }] = change.with.as_slice() else { panic!("{:?}", change.with) };
    assert_eq!(id, NEXT_ID);
    (change.record, (**record).clone(), (**entry).clone())
}

fn only_entry(change: &Change<ApiKey>) -> &Entry {
    let [entry] = change.entries.as_slice() else { panic!("{:?}", change.entries) };
    entry
}

#[test]
fn a_key_is_known_by_the_hash_of_its_text() {
    assert_eq!(KeyId::of(TEXT).as_str(), ID);
    assert_eq!(KeyHash::of(TEXT).id().to_string(), ID);
    assert_eq!(serde_json::to_value(KeyHash::of(TEXT)).unwrap(), json!(HASH));
    assert_eq!(serde_json::from_value::<KeyHash>(json!(HASH)).unwrap(), KeyHash::of(TEXT));
    assert_ne!(KeyHash::of(TEXT), KeyHash::of(NEXT_TEXT));
    // The hash of the empty text, as everyone knows it.
    assert_eq!(KeyId::of("").as_str(), "key_e3b0c44298fc1c149afbf4c8996fb924");
}

#[test]
fn a_key_id_has_one_spelling() {
    assert_eq!(ID.parse(), Ok(KeyId::of(TEXT)));
    assert_eq!(serde_json::from_value::<KeyId>(json!(ID)).unwrap(), KeyId::of(TEXT));
    assert_eq!(serde_json::to_value(KeyId::of(TEXT)).unwrap(), json!(ID));
    let digits = "0123456789abcdef0123456789abcdef";
    assert!(format!("key_{digits}").parse::<KeyId>().is_ok());
    for id in [
        String::new(),
        "key_".to_owned(),
        digits.to_owned(),
        format!("Key_{digits}"),
        format!("key-{digits}"),
        format!("key_key_{digits}"),
        format!("key_{digits}0"),
        format!("key_{}", &digits[1..]),
        format!("key_{}", digits.to_uppercase()),
        format!("key_{}g", &digits[1..]),
        format!("key_{}/", &digits[1..]),
        format!("key_{}:", &digits[1..]),
        format!("key_{}`", &digits[1..]),
        format!("key_{}ü", &digits[2..]),
        format!(" key_{digits}"),
        format!("key_{digits}\n"),
    ] {
        assert!(id.parse::<KeyId>().is_err(), "{id:?}");
        assert!(serde_json::from_value::<KeyId>(json!(id)).is_err(), "{id:?}");
    }
}

#[test]
fn a_stored_hash_has_one_spelling() {
    for digits in [
        String::new(),
        HASH[2..].to_owned(),
        HASH[1..].to_owned(),
        format!("{HASH}00"),
        HASH.to_uppercase(),
        "zz".repeat(32),
    ] {
        assert!(serde_json::from_value::<KeyHash>(json!(digits)).is_err(), "{digits:?}");
    }
}

#[test]
fn every_scope_has_its_documented_word() {
    let words = ["actions:submit", "actions:read", "cases:read", "cases:write", "webhooks:manage"];
    assert_eq!(Scope::ALL.map(Scope::as_str), words);
    for (word, scope) in words.into_iter().zip(Scope::ALL) {
        assert_eq!(word.parse(), Ok(scope));
        assert_eq!(scope.to_string(), word);
        assert_eq!(serde_json::to_value(scope).unwrap(), json!(word));
        assert_eq!(serde_json::from_value::<Scope>(json!(word)).unwrap(), scope);
    }
    for word in ["", "cases", "cases:", "CASES:READ", "cases:read ", "cases:*", "cases_read", "actions:approve"] {
        assert!(word.parse::<Scope>().is_err(), "{word:?}");
        assert!(serde_json::from_value::<Scope>(json!(word)).is_err(), "{word:?}");
    }
}

#[test]
fn scopes_are_kept_in_one_order_and_hold_no_others() {
    let two = scopes(&["cases:write", "actions:read"]);
    assert_eq!(two.iter().collect::<Vec<_>>(), [Scope::ActionsRead, Scope::CasesWrite]);
    assert_eq!(serde_json::to_value(&two).unwrap(), json!(["actions:read", "cases:write"]));
    assert_eq!(serde_json::from_value::<Scopes>(json!(["cases:write", "actions:read"])).unwrap(), two);
    for scope in Scope::ALL {
        assert_eq!(two.contains(scope), matches!(scope, Scope::ActionsRead | Scope::CasesWrite), "{scope}");
    }
    assert_eq!(Scopes::try_from(Scope::ALL.to_vec()).map(Vec::from), Ok(Scope::ALL.to_vec()));
}

#[test]
fn a_key_has_at_least_one_scope_and_none_twice() {
    for words in [json!([]), json!(["cases:read", "cases:read"]), json!(["cases:read", "actions:read", "cases:read"])] {
        assert!(serde_json::from_value::<Scopes>(words.clone()).is_err(), "{words}");
    }
}

#[test]
fn a_credential_looks_like_a_key_by_its_beginning() {
    for (text, does) in [
        (TEXT, true),
        ("cs_live_", true),
        ("cs_live", false),
        ("CS_LIVE_x", false),
        (" cs_live_x", false),
        ("cs_test_x", false),
        ("", false),
        ("eyJhbGciOiJFUzI1NiJ9.e30.c2ln", false),
    ] {
        assert_eq!(looks_like_a_key(text), does, "{text:?}");
    }
}

#[test]
fn a_minted_key_is_what_was_asked_for() {
    let change = ApiKey::mint(order(), &operator(), at(CREATED));
    assert_eq!(
        change.record,
        ApiKey {
            id: ID.parse().unwrap(),
            hash: KeyHash::of(TEXT),
            domain: "acme".parse().unwrap(),
            name: "soc pull".to_owned(),
            owner: Some(42),
            scopes: scopes(&["cases:read", "cases:write"]),
            created_at: at(CREATED),
            expires_at: Some(at(EXPIRES)),
            revoked_at: None,
            rotated_to: None,
        }
    );
    assert_eq!(change.with, []);
    let entry = only_entry(&change);
    assert_eq!(entry.name, "key.minted");
    assert_eq!(entry.class, EntryClass::Audit);
    assert_eq!(entry.actor, operator());
    assert_eq!(entry.at, at(CREATED));
    assert_eq!(entry.subject, Subject { kind: "api_key".to_owned(), id: ID.to_owned() });
    assert_eq!(
        entry.data,
        json!({
            "key_id": ID,
            "domain": "acme",
            "name": "soc pull",
            "owner": 42,
            "scopes": ["cases:read", "cases:write"],
            "expires_at": EXPIRES,
            "rotated_from": null,
        })
    );
    assert_eq!(entry.state, None);
}

#[test]
fn what_a_key_does_not_have_is_told_as_null() {
    let change = ApiKey::mint(Mint { owner: None, expires_at: None, ..order() }, &operator(), at(CREATED));
    let data = &only_entry(&change).data;
    assert_eq!((data.get("owner"), data.get("expires_at")), (Some(&json!(null)), Some(&json!(null))));
    assert_eq!((change.record.owner, change.record.expires_at), (None, None));
}

#[test]
fn a_key_opens_with_exactly_its_text() {
    for (text, opens) in [
        (TEXT.to_owned(), true),
        (NEXT_TEXT.to_owned(), false),
        (String::new(), false),
        (TEXT.to_uppercase(), false),
        (format!("{TEXT} "), false),
        (TEXT[1..].to_owned(), false),
        (TEXT[..TEXT.len() - 1].to_owned(), false),
        (HASH.to_owned(), false),
        (ID.to_owned(), false),
    ] {
        assert_eq!(minted().opens(&text, at(CREATED)), opens, "{text}");
    }
}

#[test]
fn every_bit_of_the_hash_is_compared() {
    let key = minted();
    for bit in 0..256 {
        let mut bytes = hex_bytes(HASH);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let hash = serde_json::from_value(json!(digits)).unwrap();
        assert!(!ApiKey { hash, ..key.clone() }.opens(TEXT, at(CREATED)), "{bit}");
    }
}

fn hex_bytes(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn a_key_opens_until_the_last_microsecond_before_its_expiry() {
    let expires = at(EXPIRES);
    for (now, opens) in [
        (at(CREATED), true),
        // The clocks of two machines differ; a key is not refused for being young.
        (at(CREATED) - microseconds(1), true),
        (expires - microseconds(1), true),
        (expires, false),
        (expires + microseconds(1), false),
        (Timestamp::MAX, false),
    ] {
        assert_eq!(minted().opens(TEXT, now), opens, "{now}");
        assert_eq!(minted().works(now), opens, "{now}");
        assert!(unlimited().opens(TEXT, now), "{now}");
    }
}

#[test]
fn a_revoked_key_opens_nothing_at_any_time() {
    let unlimited = changed(unlimited().revoke(&operator(), later())).record;
    for key in [revoked(), unlimited] {
        for now in [Timestamp::MIN, at(CREATED), later(), at(EXPIRES), Timestamp::MAX] {
            assert!(!key.opens(TEXT, now), "{now}");
            assert!(!key.works(now), "{now}");
        }
    }
}

#[test]
fn a_key_is_revoked_whether_or_not_it_is_expired_or_rotated() {
    let (in_grace, next, _) = rotated(&minted(), 1440, later());
    for (key, id) in [(minted(), ID), (unlimited(), ID), (in_grace, ID), (next, NEXT_ID)] {
        for now in [later(), at(EXPIRES) - microseconds(1), at(EXPIRES), Timestamp::MAX] {
            let change = changed(key.revoke(&operator(), now));
            assert_eq!(change.record, ApiKey { revoked_at: Some(now), ..key.clone() });
            assert_eq!(change.with, []);
            let entry = only_entry(&change);
            assert_eq!(entry.name, "key.revoked");
            assert_eq!(entry.class, EntryClass::Audit);
            assert_eq!((&entry.actor, entry.at), (&operator(), now));
            assert_eq!(entry.subject, Subject { kind: "api_key".to_owned(), id: id.to_owned() });
            assert_eq!(entry.data, json!({ "key_id": id }));
        }
    }
}

#[test]
fn revoking_again_keeps_when_it_was_done_first() {
    for now in [later(), at(EXPIRES), Timestamp::MAX] {
        assert_eq!(revoked().revoke(&operator(), now), Outcome::Keep);
    }
}

#[test]
fn a_rotation_ends_one_key_and_bears_another_in_one_change() {
    let change = changed(minted().rotate(KeyHash::of(NEXT_TEXT), 60, &operator(), later()).unwrap());
    // The second that it is shown as.
    let grace_ends = at("2026-11-21T05:38:50Z");
    assert_eq!(
        change.record,
        ApiKey { expires_at: Some(grace_ends), rotated_to: Some(KeyId::of(NEXT_TEXT)), ..minted() }
    );
    let entry = only_entry(&change);
    assert_eq!(entry.name, "key.rotated");
    assert_eq!(entry.class, EntryClass::Audit);
    assert_eq!((&entry.actor, entry.at), (&operator(), later()));
    assert_eq!(entry.subject, Subject { kind: "api_key".to_owned(), id: ID.to_owned() });
    assert_eq!(entry.data, json!({ "key_id": ID, "rotated_to": NEXT_ID, "expires_at": "2026-11-21T05:38:50Z" }));

    let (_, next, entry) = rotated(&minted(), 60, later());
    assert_eq!(next, ApiKey::mint(Mint { hash: KeyHash::of(NEXT_TEXT), ..order() }, &operator(), later()).record);
    assert_eq!(entry.name, "key.minted");
    assert_eq!(entry.class, EntryClass::Audit);
    assert_eq!((&entry.actor, entry.at), (&operator(), later()));
    assert_eq!(entry.subject, Subject { kind: "api_key".to_owned(), id: NEXT_ID.to_owned() });
    assert_eq!(
        entry.data,
        json!({
            "key_id": NEXT_ID,
            "domain": "acme",
            "name": "soc pull",
            "owner": 42,
            "scopes": ["cases:read", "cases:write"],
            "expires_at": EXPIRES,
            "rotated_from": ID,
        })
    );
}

#[test]
fn a_rotated_key_opens_until_the_grace_has_passed_and_never_longer_than_before() {
    let never = None;
    let whole = whole_second(later());
    for (expires_at, grace_minutes, ends) in [
        (never, 0, whole),
        (never, 1, whole + seconds(60)),
        (never, 1440, whole + seconds(86_400)),
        (never, 10_080, whole + seconds(604_800)),
        (Some(later() + seconds(61)), 1, whole + seconds(60)),
        (Some(later() + seconds(60)), 1, whole + seconds(60)),
        (Some(later() + seconds(59)), 1, later() + seconds(59)),
        (Some(later() + microseconds(1)), 10_080, later() + microseconds(1)),
        (Some(later() + seconds(59)), 0, whole),
    ] {
        let key = ApiKey { expires_at, ..minted() };
        let (old, next, _) = rotated(&key, grace_minutes, later());
        assert_eq!(old.expires_at, Some(ends), "{expires_at:?} {grace_minutes}");
        assert!(old.opens(TEXT, ends - microseconds(1)) && !old.opens(TEXT, ends), "{expires_at:?} {grace_minutes}");
        assert!(next.opens(NEXT_TEXT, later()) && !next.opens(TEXT, later()) && !old.opens(NEXT_TEXT, later()));
        assert_eq!(next.expires_at, expires_at, "{grace_minutes}");
    }
}

#[test]
fn a_key_rotated_at_the_end_of_time_does_not_wrap_around() {
    let (old, ..) = rotated(&unlimited(), 1440, Timestamp::MAX);
    assert_eq!(old.expires_at, Some(Timestamp::MAX));
}

#[test]
fn only_a_working_key_that_was_not_rotated_can_be_rotated() {
    let (in_grace, ..) = rotated(&minted(), 60, later());
    let (ended, ..) = rotated(&minted(), 0, later());
    let revoked_in_grace = changed(in_grace.revoke(&operator(), later())).record;
    let soon = later() + seconds(1);
    for (name, key, now, refusal) in [
        ("revoked", revoked(), soon, Some(Refusal::NotFound)),
        ("expired", minted(), at(EXPIRES), Some(Refusal::NotFound)),
        ("about to expire", minted(), at(EXPIRES) - microseconds(1), None),
        ("without expiry", unlimited(), Timestamp::MAX, None),
        ("in its grace", in_grace.clone(), soon, Some(Refusal::AlreadyRotated)),
        ("after its grace", in_grace, at(EXPIRES), Some(Refusal::AlreadyRotated)),
        ("without a grace", ended, soon, Some(Refusal::AlreadyRotated)),
        ("revoked in its grace", revoked_in_grace, soon, Some(Refusal::NotFound)),
    ] {
        let before = key.clone();
        let found = key.rotate(KeyHash::of(NEXT_TEXT), 1440, &operator(), now);
        assert_eq!(found.err(), refusal, "{name}");
        assert_eq!(key, before, "{name}");
    }
}

#[test]
fn the_new_key_of_a_rotation_can_be_rotated_in_its_turn() {
    let (_, next, _) = rotated(&minted(), 0, later());
    let third = "cs_live_third";
    let change = changed(next.rotate(KeyHash::of(third), 0, &operator(), later()).unwrap());
    let [With::Born { record, .. }] = change.with.as_slice() else { panic!("{:?}", change.with) };
    assert_eq!((&record.id, record.expires_at), (&KeyId::of(third), Some(at(EXPIRES))));
    assert_eq!((&record.name, &record.domain, record.owner), (&minted().name, &minted().domain, Some(42)));
}

#[test]
fn neither_text_nor_hash_of_a_key_is_ever_told_or_shown() {
    let mint = ApiKey::mint(order(), &operator(), at(CREATED));
    let rotation = changed(minted().rotate(KeyHash::of(NEXT_TEXT), 60, &operator(), later()).unwrap());
    let revocation = changed(minted().revoke(&operator(), later()));
    let (_, _, born) = rotated(&minted(), 60, later());
    let mut shown =
        vec![serde_json::to_string(&born).unwrap(), format!("{:?}", order()), format!("{:?}", KeyHash::of(TEXT))];
    for change in [&mint, &rotation, &revocation] {
        shown.push(serde_json::to_string(&change.entries).unwrap());
        shown.push(format!("{change:?}"));
        shown.push(format!("{change:#?}"));
    }
    for shown in shown {
        for hash in [HASH, NEXT_HASH] {
            let bytes = hex_bytes(hash);
            // The id has the first half.
            assert!(!shown.contains(&hash[32..]), "{shown}");
            assert!(!shown.contains(&format!("{}, {}", bytes[30], bytes[31])), "{shown}");
        }
        assert!(!shown.contains(TEXT) && !shown.contains(NEXT_TEXT), "{shown}");
    }
    assert_eq!(format!("{:?}", KeyHash::of(TEXT)), "KeyHash(..)");
}

#[test]
fn a_key_survives_being_stored() {
    let (in_grace, next, _) = rotated(&minted(), 60, later());
    for key in [minted(), unlimited(), revoked(), in_grace, next] {
        let stored = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<ApiKey>(&stored).unwrap(), key, "{stored}");
        assert!(!stored.contains(TEXT), "{stored}");
    }
}

#[test]
fn a_key_is_listed_under_its_domain_by_its_age() {
    let expected = Listing { tenant: Some("acme".parse().unwrap()), ..Listing::at(at(CREATED)) };
    for key in [minted(), revoked(), rotated(&minted(), 60, later()).0] {
        assert_eq!(key.listing(), expected);
    }
}

#[test]
fn a_key_is_stored_as_the_first_schema_of_its_kind() {
    assert_eq!((ApiKey::KIND, ApiKey::SCHEMA), ("apikey", 1));
    for schema in [0, 1, 2] {
        assert_eq!(ApiKey::upgrade(schema, json!({})), None);
    }
}

/// What is asked of a key, at how many minutes after it was minted.
#[derive(Clone, Copy, Debug)]
enum Command {
    Revoke,
    Rotate { grace_minutes: i64 },
}

fn history() -> impl Strategy<Value = Vec<(Command, i64)>> {
    let command = prop_oneof![
        1 => Just(Command::Revoke),
        2 => (0..=10_i64).prop_map(|grace_minutes| Command::Rotate { grace_minutes }),
    ];
    proptest::collection::vec((command, 0..=30_i64), 0..6)
}

proptest! {
    #[test]
    fn a_key_opens_exactly_while_nothing_has_ended_it(
        expires in proptest::option::of(0..=30_i64),
        history in history(),
        asked in 0..=45_i64,
    ) {
        let minute = |n: i64| at(CREATED) + seconds(n * 60);
        let mut key = ApiKey { expires_at: expires.map(minute), ..minted() };
        let (mut ends, mut revoked, mut rotated) = (expires.unwrap_or(i64::MAX), false, false);
        for (command, now) in history {
            let before = key.clone();
            let outcome = match command {
                Command::Revoke => {
                    let already = std::mem::replace(&mut revoked, true);
                    let outcome = key.revoke(&operator(), minute(now));
                    prop_assert_eq!(already, outcome == Outcome::Keep);
                    Ok(outcome)
                }
                Command::Rotate { grace_minutes } => {
                    let outcome = key.rotate(KeyHash::of(NEXT_TEXT), grace_minutes, &operator(), minute(now));
                    let refusal = if !revoked && rotated {
                        Some(Refusal::AlreadyRotated)
                    } else if revoked || now >= ends {
                        Some(Refusal::NotFound)
                    } else {
                        (ends, rotated) = (ends.min(now + grace_minutes), true);
                        None
                    };
                    prop_assert_eq!(outcome.as_ref().err(), refusal.as_ref());
                    outcome
                }
            };
            if let Ok(Outcome::Change(change)) = outcome {
                let stored = serde_json::to_string(&change.record).unwrap();
                key = serde_json::from_str(&stored).unwrap();
            }
            let ApiKey { expires_at, revoked_at, rotated_to, .. } = key.clone();
            prop_assert_eq!(&ApiKey { expires_at, revoked_at, rotated_to, ..before }, &key);
        }
        prop_assert_eq!(key.opens(TEXT, minute(asked)), !revoked && asked < ends);
    }
}
