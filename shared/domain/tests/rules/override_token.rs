//! The life of an override token as tables: minting, deciding, revoking, and what is told of it.

use crate::{at, changed, microseconds, operator};
use countersign_domain::override_token::{Decide, Decision, Mint, OverrideToken, Refusal, State, Status};
use countersign_domain::{Actor, Change, EntryClass, Listing, Outcome, Record, Subject, Timestamp, seconds};
use serde_json::json;

const JTI: &str = "f4a5b6c7-d8e9-0123-f012-456789012cde";
const CUSTOMER: &str = "550e8400-e29b-41d4-a716-446655440000";
const EVENT: &str = "evt-a1b2c3d4-5678-9012-abcd-ef3456789012";
const CREATED: &str = "2026-11-21T03:38:50Z";
const EXPIRES: &str = "2026-11-21T03:43:50Z";

fn order() -> Mint {
    Mint {
        jti: JTI.parse().unwrap(),
        customer: CUSTOMER.parse().unwrap(),
        event_id: EVENT.parse().unwrap(),
        allowed_decisions: decisions(&["approve", "reject"]),
        reason: Some("disk is full".to_owned()),
        ttl_minutes: 5,
    }
}

fn decisions(names: &[&str]) -> Vec<Decision> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn active() -> OverrideToken {
    OverrideToken::mint(order(), &operator(), at(CREATED)).record
}

fn used() -> OverrideToken {
    changed(active().decide(&decide("approve"), &operator(), early()).unwrap()).record
}

fn revoked() -> OverrideToken {
    changed(active().revoke(&operator(), early()).unwrap()).record
}

fn decide(decision: &str) -> Decide {
    Decide { event_id: EVENT.parse().unwrap(), decision: decision.parse().unwrap(), reason: None }
}

/// A minute into the token's life.
fn early() -> Timestamp {
    at("2026-11-21T03:39:50Z")
}

fn somebody_else() -> Actor {
    Actor::Operator { principal: "somebody-else".to_owned() }
}

#[test]
fn a_minted_token_is_active_from_the_current_whole_second() {
    for now in [CREATED, "2026-11-21T03:38:50.000001Z", "2026-11-21T03:38:50.999999Z"] {
        let Change { record, .. } = OverrideToken::mint(order(), &operator(), at(now));
        assert_eq!(
            record,
            OverrideToken {
                jti: JTI.parse().unwrap(),
                customer: CUSTOMER.parse().unwrap(),
                event_id: EVENT.parse().unwrap(),
                allowed_decisions: decisions(&["approve", "reject"]),
                created_at: at(CREATED),
                expires_at: at(EXPIRES),
                state: State::Active,
            },
            "{now}"
        );
    }
}

#[test]
fn a_token_lives_as_many_minutes_as_asked_from_its_creation() {
    for (ttl_minutes, expires_at) in
        [(1, "2026-11-21T03:39:50Z"), (5, EXPIRES), (60, "2026-11-21T04:38:50Z"), (1440, "2026-11-22T03:38:50Z")]
    {
        let now = at(CREATED) + microseconds(999_999);
        let token = OverrideToken::mint(Mint { ttl_minutes, ..order() }, &operator(), now).record;
        assert_eq!(token.expires_at, at(expires_at), "{ttl_minutes}");
    }
}

#[test]
fn a_token_minted_at_the_end_of_time_does_not_wrap_around() {
    let token = OverrideToken::mint(order(), &operator(), Timestamp::MAX).record;
    assert_eq!(token.expires_at, Timestamp::MAX);
}

#[test]
fn minting_is_told_with_everything_but_the_jti() {
    let now = at("2026-11-21T03:38:50.999999Z");
    let Change { entries, .. } = OverrideToken::mint(order(), &operator(), now);
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(entry.name, "override.created");
    assert_eq!(entry.class, EntryClass::Public);
    assert_eq!(entry.actor, operator());
    assert_eq!(entry.at, now);
    assert_eq!(entry.subject, Subject { kind: "override".to_owned(), id: EVENT.to_owned() });
    assert_eq!(
        entry.data,
        json!({
            "event_id": EVENT,
            "allowed_decisions": ["approve", "reject"],
            "reason": "disk is full",
            "expires_at": EXPIRES,
        })
    );
    assert_eq!(entry.state, None);
}

#[test]
fn no_spelling_of_the_jti_is_anywhere_in_the_entry_of_a_minting() {
    let mint = order();
    let spellings = [mint.jti.simple().to_string(), mint.jti.hyphenated().to_string(), mint.jti.as_u128().to_string()];
    let change = OverrideToken::mint(mint, &operator(), at(CREATED));
    for text in [serde_json::to_string(&change.entries).unwrap(), format!("{:?}", change.entries)] {
        for spelling in &spellings {
            assert!(!text.to_lowercase().contains(spelling), "{text}");
        }
    }
}

#[test]
fn a_missing_reason_is_told_as_null() {
    let minted = OverrideToken::mint(Mint { reason: None, ..order() }, &operator(), at(CREATED));
    let decided = changed(active().decide(&decide("approve"), &operator(), early()).unwrap());
    for change in [minted, decided] {
        assert_eq!(change.entries[0].data.get("reason"), Some(&json!(null)));
    }
}

#[test]
fn each_allowed_decision_is_recorded_with_who_took_it_and_when() {
    let now = at("2026-11-21T03:40:00.123456Z");
    for decision in ["approve", "reject"] {
        let asked = Decide { reason: Some("seen on call".to_owned()), ..decide(decision) };
        let Change { record, entries, .. } = changed(active().decide(&asked, &somebody_else(), now).unwrap());
        let state = State::Used { decision: asked.decision, by: somebody_else(), at: now };
        assert_eq!(record, OverrideToken { state, ..active() });
        let [entry] = entries.as_slice() else { panic!("{entries:?}") };
        assert_eq!(entry.name, "override.decided");
        assert_eq!(entry.class, EntryClass::Public);
        assert_eq!(entry.actor, somebody_else());
        assert_eq!(entry.at, now);
        assert_eq!(entry.subject, Subject { kind: "override".to_owned(), id: EVENT.to_owned() });
        assert_eq!(
            entry.data,
            json!({ "event_id": EVENT, "jti": JTI, "decision": decision, "reason": "seen on call" })
        );
        assert_eq!(entry.state, None);
    }
}

#[test]
fn of_everything_that_is_wrong_with_a_decision_the_first_in_the_documented_order_is_told() {
    let documented = [
        Refusal::NotFound,
        Refusal::Revoked,
        Refusal::AlreadyUsed,
        Refusal::Expired,
        Refusal::DecisionNotAllowed { allowed: decisions(&["approve", "reject"]) },
    ];
    let everything_wrong = 0..1_u32 << documented.len();
    for wrong in everything_wrong {
        let [unknown_event, is_revoked, is_used, expired, not_allowed] =
            [0, 1, 2, 3, 4].map(|bit| wrong >> bit & 1 == 1);
        let token = match (is_revoked, is_used) {
            // No token is both.
            (true, true) => continue,
            (true, false) => revoked(),
            (false, true) => used(),
            (false, false) => active(),
        };
        let asked = Decide {
            event_id: if unknown_event { "evt-other" } else { EVENT }.parse().unwrap(),
            ..decide(if not_allowed { "defer" } else { "reject" })
        };
        let now = if expired { at(EXPIRES) } else { early() };
        let before = token.clone();
        let found = token.decide(&asked, &operator(), now);
        match documented.get(wrong.trailing_zeros() as usize) {
            Some(refusal) => assert_eq!(found.as_ref(), Err(refusal), "{wrong:05b}"),
            None => assert!(found.is_ok(), "{wrong:05b}"),
        }
        assert_eq!(token, before, "{wrong:05b}");
    }
}

#[test]
fn an_event_id_in_another_case_is_another_event() {
    let asked = Decide { event_id: EVENT.to_uppercase().parse().unwrap(), ..decide("approve") };
    assert_eq!(active().decide(&asked, &operator(), early()), Err(Refusal::NotFound));
}

#[test]
fn a_decision_is_in_time_until_the_last_microsecond_before_the_expiry() {
    let expires = at(EXPIRES);
    for (now, in_time) in [
        (at(CREATED), true),
        // The clocks of two machines differ; a token is not refused for being young.
        (at(CREATED) - microseconds(1), true),
        (expires - seconds(1), true),
        (expires - microseconds(1), true),
        (expires, false),
        (expires + microseconds(1), false),
        (expires + seconds(1), false),
        (Timestamp::MAX, false),
    ] {
        let found = active().decide(&decide("approve"), &operator(), now);
        let status = active().status(now);
        if in_time {
            assert!(found.is_ok(), "{now}");
            assert_eq!(status, Status::Active, "{now}");
        } else {
            assert_eq!(found, Err(Refusal::Expired), "{now}");
            assert_eq!(status, Status::Expired, "{now}");
        }
    }
}

#[test]
fn a_token_that_allows_nothing_refuses_every_decision() {
    let token = OverrideToken { allowed_decisions: vec![], ..active() };
    let refusal = Refusal::DecisionNotAllowed { allowed: vec![] };
    assert_eq!(token.decide(&decide("approve"), &operator(), early()), Err(refusal));
}

#[test]
fn only_a_decision_of_exactly_the_allowed_name_is_allowed() {
    for name in ["approv", "approve_", "approved", "approve2", "a"] {
        let refusal = Refusal::DecisionNotAllowed { allowed: decisions(&["approve", "reject"]) };
        assert_eq!(active().decide(&decide(name), &operator(), early()), Err(refusal), "{name}");
    }
}

#[test]
fn the_same_decision_again_is_refused_like_any_other() {
    for decision in ["approve", "reject"] {
        assert_eq!(used().decide(&decide(decision), &operator(), early()), Err(Refusal::AlreadyUsed));
    }
}

#[test]
fn an_unused_token_is_revoked_whether_or_not_it_has_expired() {
    for now in [early(), at(EXPIRES) - microseconds(1), at(EXPIRES), at(EXPIRES) + seconds(86_400)] {
        let Change { record, entries, .. } = changed(active().revoke(&somebody_else(), now).unwrap());
        assert_eq!(record, OverrideToken { state: State::Revoked { by: somebody_else(), at: now }, ..active() });
        let [entry] = entries.as_slice() else { panic!("{entries:?}") };
        assert_eq!(entry.name, "override.revoked");
        assert_eq!(entry.class, EntryClass::Public);
        assert_eq!(entry.actor, somebody_else());
        assert_eq!(entry.at, now);
        assert_eq!(entry.subject, Subject { kind: "override".to_owned(), id: EVENT.to_owned() });
        assert_eq!(entry.data, json!({ "event_id": EVENT, "jti": JTI }));
        assert_eq!(entry.state, None);
    }
}

#[test]
fn revoking_again_keeps_who_did_it_first() {
    for now in [early(), at(EXPIRES), at(EXPIRES) + seconds(86_400)] {
        assert_eq!(revoked().revoke(&somebody_else(), now), Ok(Outcome::Keep));
    }
}

#[test]
fn a_used_token_cannot_be_revoked() {
    for now in [early(), at(EXPIRES), at(EXPIRES) + seconds(86_400)] {
        let token = used();
        assert_eq!(token.revoke(&operator(), now), Err(Refusal::AlreadyUsed));
        assert_eq!(token, used());
    }
}

#[test]
fn a_status_says_expired_only_of_a_token_to_which_nothing_else_happened() {
    let expires = at(EXPIRES);
    for (token, before, from_then_on) in [
        (active(), Status::Active, Status::Expired),
        (used(), Status::Used, Status::Used),
        (revoked(), Status::Revoked, Status::Revoked),
    ] {
        assert_eq!(token.status(at(CREATED)), before);
        assert_eq!(token.status(expires - microseconds(1)), before);
        assert_eq!(token.status(expires), from_then_on);
        assert_eq!(token.status(expires + microseconds(1)), from_then_on);
    }
}

#[test]
fn a_token_is_listed_by_its_age_only() {
    for token in [active(), used(), revoked()] {
        assert_eq!(token.listing(), Listing::at(at(CREATED)));
    }
}

#[test]
fn every_state_survives_being_stored() {
    for token in [active(), used(), revoked()] {
        let stored = serde_json::to_string(&token).unwrap();
        assert_eq!(serde_json::from_str::<OverrideToken>(&stored).unwrap(), token, "{stored}");
    }
}
