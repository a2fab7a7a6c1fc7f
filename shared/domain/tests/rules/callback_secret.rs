//! Secrets that are registered by id, and which bytes sign.

use crate::{at, operator};
use countersign_domain::callback_secret::{InvalidSecretId, NamedSecret, SecretId, signing_bytes, whsec};
use countersign_domain::key_ring::Sealed;
use countersign_domain::{Actor, EntryClass, Listing, Record, Subject};
use proptest::prelude::*;
use serde_json::json;

const FIRST: &str = "2026-11-21T03:38:50.25Z";
const AGAIN: &str = "2026-11-22T03:38:50.25Z";

fn sealed(name: &str) -> Sealed {
    Sealed(format!("sealed-{name}"))
}

fn id() -> SecretId {
    "default".parse().unwrap()
}

#[test]
fn a_secret_is_set_and_set_again_and_keeps_when_it_was_first_set() {
    let first = NamedSecret::set(None, id(), sealed("first"), &operator(), at(FIRST)).record;
    let expected = NamedSecret { id: id(), value: sealed("first"), created_at: at(FIRST), updated_at: at(FIRST) };
    assert_eq!(first, expected);
    let again = NamedSecret::set(Some(&first), id(), sealed("again"), &operator(), at(AGAIN)).record;
    assert_eq!(again, NamedSecret { value: sealed("again"), updated_at: at(AGAIN), ..first });
    assert_eq!(again.listing(), Listing::at(at(FIRST)));
    let stored = serde_json::to_string(&again).unwrap();
    assert!(!stored.contains("sealed-first"), "{stored}");
    assert_eq!(serde_json::from_str::<NamedSecret>(&stored).unwrap(), again);
}

#[test]
fn the_audit_log_holds_the_id_of_a_secret_and_nothing_of_its_value() {
    let by = Actor::Operator { principal: "local".to_owned() };
    let change = NamedSecret::set(None, id(), sealed("first"), &by, at(FIRST));
    let [entry] = change.entries.as_slice() else { panic!("{change:?}") };
    assert_eq!(entry.name, "secret.set");
    assert_eq!(entry.class, EntryClass::Audit);
    assert_eq!((&entry.actor, entry.at), (&by, at(FIRST)));
    assert_eq!(entry.subject, Subject { kind: "secret".to_owned(), id: "default".to_owned() });
    assert_eq!(entry.data, json!({ "secret_id": "default" }));
    assert!(!format!("{change:?}").contains("sealed-first"));
}

#[test]
fn no_other_schema_of_a_secret_was_ever_stored() {
    assert_eq!((NamedSecret::KIND, NamedSecret::SCHEMA), ("secret", 1));
    assert_eq!(NamedSecret::upgrade(0, json!({})), None);
}

#[test]
fn a_secrets_id_has_one_grammar() {
    for text in ["a", "Z", "0", "_", ".", "-", "default", "a.b_c-D", &"x".repeat(64)] {
        assert_eq!(text.parse::<SecretId>().unwrap().to_string(), text);
        assert_eq!(serde_json::to_value(text.parse::<SecretId>().unwrap()).unwrap(), json!(text));
    }
    for text in ["", " ", "a b", "a/b", "a#b", "a:b", "a|b", "ä", "a\n", "a\0", &"x".repeat(65)] {
        assert_eq!(text.parse::<SecretId>(), Err(InvalidSecretId), "{text:?}");
        assert!(serde_json::from_value::<SecretId>(json!(text)).is_err(), "{text:?}");
    }
}

#[test]
fn a_secret_in_base64_stands_for_bytes_and_every_other_for_itself() {
    let same = |text: &'static str| (text, text.as_bytes());
    for (value, bytes) in [
        ("whsec_AAEC/v8=", [0, 1, 2, 254, 255].as_slice()),
        ("whsec_YQ==", b"a"),
        same("plain text"),
        same("käse"),
        same("AAEC/v8="),
        same("WHSEC_AAEC/v8="),
        same(" whsec_AAEC/v8="),
        same("whsec_AAEC_v8="),
        same("whsec_AAEC/v8"),
        same("whsec_AAEC/v9="),
        same("whsec_not base64"),
        same("whsec_"),
        same(""),
    ] {
        assert_eq!(signing_bytes(value), bytes, "{value}");
    }
}

proptest! {
    #[test]
    fn shown_secrets_stand_for_what_they_were_made_of(bytes in proptest::collection::vec(any::<u8>(), 1..100)) {
        let shown = whsec(&bytes);
        prop_assert!(shown.starts_with("whsec_"));
        prop_assert_eq!(signing_bytes(&shown), bytes);
    }

    #[test]
    fn no_secret_signs_as_the_empty_one(value in "(whsec_)?[A-Za-z0-9+/]{0,8}={0,2}") {
        prop_assert_eq!(signing_bytes(&value).is_empty(), value.is_empty());
    }
}
