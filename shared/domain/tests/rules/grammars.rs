//! The grammars of event ids and decisions, which keep `|` out of everything that is signed.

use countersign_domain::override_token::{Decision, EventId, InvalidDecision, InvalidEventId, OverrideToken};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const DIGITS: &str = "0123456789";

/// Texts that neither grammar takes.
const HOSTILE: [&str; 27] = [
    "",
    " ",
    "|",
    "a|b",
    "|a",
    "a|",
    "a b",
    " a",
    "a ",
    "a\0",
    "\0a",
    "a\n",
    "a\r\n",
    "a\tb",
    "a/b",
    "a\\b",
    "\\ud800",
    "a#b",
    "a%7cb",
    "a\"b",
    "ä",
    "аpprove",
    "ａpprove",
    "a\u{301}",
    "a\u{200b}",
    "\u{feff}a",
    "\u{1f511}",
];

#[test]
fn event_ids_within_the_grammar_are_taken_as_they_stand() {
    for id in [
        "e",
        "0",
        ".",
        "-",
        ":",
        "_",
        "EVT-1",
        "evt-a1b2c3d4-5678-9012-abcd-ef3456789012",
        "arn:aws:events:eu-central-1",
        &"x".repeat(127),
        &"x".repeat(128),
    ] {
        let parsed: EventId = id.parse().unwrap();
        assert_eq!(parsed.as_str(), id);
        assert_eq!(parsed.to_string(), id);
        assert_eq!(serde_json::to_value(&parsed).unwrap(), json!(id));
        assert_eq!(serde_json::from_value::<EventId>(json!(id)).unwrap(), parsed);
    }
}

#[test]
fn event_ids_that_differ_in_case_are_different_events() {
    assert_ne!("evt-A".parse::<EventId>(), "evt-a".parse::<EventId>());
}

#[test]
fn decisions_within_the_grammar_are_taken_as_they_stand() {
    for name in ["a", "z", "approve", "reject", "a0", "a_", "a_9_", "approve_2", &"x".repeat(31), &"x".repeat(32)] {
        let parsed: Decision = name.parse().unwrap();
        assert_eq!(parsed.as_str(), name);
        assert_eq!(parsed.to_string(), name);
        assert_eq!(serde_json::to_value(&parsed).unwrap(), json!(name));
        assert_eq!(serde_json::from_value::<Decision>(json!(name)).unwrap(), parsed);
    }
}

#[test]
fn event_ids_outside_the_grammar_are_refused_as_text_and_as_json() {
    let long = "x".repeat(129);
    // 128 characters, but not 128 of the alphabet.
    let wide = "ä".repeat(64);
    for id in HOSTILE.into_iter().chain([long.as_str(), wide.as_str(), "a+b", "a,b", "a@b", "a~b", "a^b"]) {
        assert_eq!(id.parse::<EventId>(), Err(InvalidEventId), "{id:?}");
        assert!(serde_json::from_value::<EventId>(json!(id)).is_err(), "{id:?}");
    }
}

#[test]
fn decisions_outside_the_grammar_are_refused_as_text_and_as_json() {
    let long = "x".repeat(33);
    for name in HOSTILE.into_iter().chain([
        long.as_str(),
        "Approve",
        "APPROVE",
        "approvE",
        "0",
        "0a",
        "_",
        "_a",
        "a-b",
        "a.b",
        "a:b",
        // Characters that become ASCII letters when their case is changed.
        "\u{212a}",
        "a\u{212a}",
        "a\u{17f}",
    ]) {
        assert_eq!(name.parse::<Decision>(), Err(InvalidDecision), "{name:?}");
        assert!(serde_json::from_value::<Decision>(json!(name)).is_err(), "{name:?}");
    }
}

#[test]
fn of_all_characters_of_the_basic_plane_only_the_listed_ones_are_taken() {
    let event_id = format!("{LOWER}{UPPER}{DIGITS}._:-");
    let decision = format!("{LOWER}{DIGITS}_");
    for character in '\0'..='\u{ffff}' {
        let mut buffer = [0; 5];
        buffer[0] = b'a';
        let length = 1 + character.encode_utf8(&mut buffer[1..]).len();
        let behind_a = std::str::from_utf8(&buffer[..length]).unwrap();
        let alone = &behind_a[1..];
        assert_eq!(alone.parse::<EventId>().is_ok(), event_id.contains(character), "{character:?}");
        assert_eq!(behind_a.parse::<EventId>().is_ok(), event_id.contains(character), "{character:?}");
        assert_eq!(alone.parse::<Decision>().is_ok(), LOWER.contains(character), "{character:?}");
        assert_eq!(behind_a.parse::<Decision>().is_ok(), decision.contains(character), "{character:?}");
    }
}

#[test]
fn json_that_is_no_text_of_the_grammar_is_neither_an_event_id_nor_a_decision() {
    fn refused<T: DeserializeOwned>(json: &[u8]) -> bool {
        serde_json::from_slice::<T>(json).is_err()
    }
    for json in [
        &b"null"[..],
        b"1",
        b"true",
        b"[]",
        b"{}",
        br#"["a"]"#,
        br#"{"0":"a"}"#,
        // Half of a surrogate pair, alone and twice; bytes that are not UTF-8; a surrogate encoded as if it were.
        br#""\ud800""#,
        br#""\udc00\ud800""#,
        b"\"\xff\"",
        b"\"\xed\xa0\x80\"",
    ] {
        let shown = String::from_utf8_lossy(json);
        assert!(refused::<EventId>(json), "{shown}");
        assert!(refused::<Decision>(json), "{shown}");
    }
}

#[test]
fn a_stored_token_with_ill_formed_text_is_not_read() {
    let stored = json!({
        "jti": "f4a5b6c7-d8e9-0123-f012-456789012cde",
        "customer": "550e8400-e29b-41d4-a716-446655440000",
        "event_id": "evt-1",
        "allowed_decisions": ["approve"],
        "created_at": "2026-11-21T03:38:50Z",
        "expires_at": "2026-11-21T03:43:50Z",
        "state": {
            "is": "used",
            "decision": "approve",
            "by": { "kind": "operator", "principal": "local" },
            "at": "2026-11-21T03:40:00Z"
        }
    });
    assert!(serde_json::from_value::<OverrideToken>(stored.clone()).is_ok());
    for (pointer, value) in [
        ("/event_id", "a|b"),
        ("/event_id", ""),
        ("/allowed_decisions/0", "Approve"),
        ("/state/decision", "approve|x"),
        ("/state/is", "unused"),
        ("/customer", "a#b"),
        ("/jti", "f4a5b6c7"),
        ("/expires_at", "never"),
    ] {
        let mut changed: Value = stored.clone();
        *changed.pointer_mut(pointer).unwrap() = value.into();
        assert!(serde_json::from_value::<OverrideToken>(changed).is_err(), "{pointer} = {value}");
    }
}

proptest! {
    #[test]
    fn every_text_of_the_grammar_survives_text_and_json(
        id in "[A-Za-z0-9._:-]{1,128}",
        name in "[a-z][a-z0-9_]{0,31}",
    ) {
        let event_id: EventId = id.parse().unwrap();
        let decision: Decision = name.parse().unwrap();
        let json = serde_json::to_string(&(&event_id, &decision)).unwrap();
        prop_assert_eq!(serde_json::from_str::<(EventId, Decision)>(&json).unwrap(), (event_id, decision));
        prop_assert_eq!(json, format!(r#"["{id}","{name}"]"#));
    }

    #[test]
    fn no_text_with_a_bar_is_ever_signed(before in any::<String>(), after in any::<String>()) {
        let text = format!("{before}|{after}");
        prop_assert!(text.parse::<EventId>().is_err());
        prop_assert!(text.parse::<Decision>().is_err());
    }
}
