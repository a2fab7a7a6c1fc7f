//! What holds for an override token whatever is asked of it, in whatever order and at whatever times.

use crate::{at, microseconds, operator};
use countersign_domain::override_token::{Decide, Mint, OverrideToken, Refusal, State};
use countersign_domain::{Entry, Outcome, Timestamp};
use proptest::prelude::*;

const EVENT: &str = "evt-1";
const ALLOWED: [&str; 2] = ["approve", "reject"];
const TTL_MINUTES: i64 = 5;

fn minted() -> OverrideToken {
    let mint = Mint {
        jti: "f4a5b6c7-d8e9-0123-f012-456789012cde".parse().unwrap(),
        customer: "550e8400-e29b-41d4-a716-446655440000".parse().unwrap(),
        event_id: EVENT.parse().unwrap(),
        allowed_decisions: ALLOWED.map(|name| name.parse().unwrap()).to_vec(),
        reason: None,
        ttl_minutes: TTL_MINUTES,
    };
    OverrideToken::mint(mint, &operator(), at("2026-11-21T03:38:50Z")).record
}

#[derive(Clone, Debug)]
enum Command {
    Decide(Decide),
    Revoke,
}

fn command() -> impl Strategy<Value = Command> {
    let event = prop_oneof![4 => Just(EVENT), 1 => Just("evt-2"), 1 => Just("EVT-1")];
    let decision = prop_oneof![2 => Just("approve"), 2 => Just("reject"), 2 => Just("defer"), 1 => Just("approve_")];
    let decide = (event, decision).prop_map(|(event, decision)| {
        let (event_id, decision) = (event.parse().unwrap(), decision.parse().unwrap());
        Command::Decide(Decide { event_id, decision, reason: None })
    });
    prop_oneof![8 => decide, 1 => Just(Command::Revoke)]
}

/// Any time from before the token's life to after it, its very end more often than chance would have it.
fn time() -> impl Strategy<Value = Timestamp> {
    const LIFE: i64 = TTL_MINUTES * 60_000_000;
    let expires = minted().expires_at;
    prop_oneof![3 => -2 * LIFE..LIFE, 2 => -2_i64..=2].prop_map(move |offset| expires + microseconds(offset))
}

/// One command, with the token before and after it.
#[derive(Debug)]
struct Step {
    command: Command,
    now: Timestamp,
    before: OverrideToken,
    result: Result<Vec<Entry>, Refusal>,
    after: OverrideToken,
}

/// Times are drawn for each command alone: they go back as well as forth.
fn history() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec((command(), time()), 1..40).prop_map(|commands| {
        let mut token = minted();
        commands.into_iter().map(|(command, now)| step(&mut token, command, now)).collect()
    })
}

fn step(token: &mut OverrideToken, command: Command, now: Timestamp) -> Step {
    let before = token.clone();
    let outcome = match &command {
        Command::Decide(decide) => token.decide(decide, &operator(), now),
        Command::Revoke => token.revoke(&operator(), now),
    };
    let result = outcome.map(|outcome| match outcome {
        Outcome::Keep => vec![],
        Outcome::Change(change) => {
            // Every command meets the token as it was stored.
            let stored = serde_json::to_string(&change.record).unwrap();
            *token = serde_json::from_str(&stored).unwrap();
            change.entries
        }
    });
    Step { command, now, before, result, after: token.clone() }
}

proptest! {
    #[test]
    fn at_most_one_decision_is_ever_recorded(history in history()) {
        let entries: Vec<_> = history.iter().filter_map(|step| step.result.as_ref().ok()).flatten().collect();
        let decided = entries.iter().filter(|entry| entry.name == "override.decided").count();
        let revoked = entries.iter().filter(|entry| entry.name == "override.revoked").count();
        prop_assert!(decided + revoked <= 1);
        prop_assert_eq!(decided + revoked, entries.len());
        let last = &history.last().unwrap().after.state;
        prop_assert_eq!(decided == 1, matches!(last, State::Used { .. }));
        prop_assert_eq!(revoked == 1, matches!(last, State::Revoked { .. }));
    }

    #[test]
    fn a_used_or_revoked_token_stays_as_it_is_for_ever(history in history()) {
        for step in &history {
            match (&step.before.state, &step.command) {
                (State::Active, _) => continue,
                (State::Used { .. }, Command::Revoke) => prop_assert_eq!(&step.result, &Err(Refusal::AlreadyUsed)),
                (State::Revoked { .. }, Command::Revoke) => prop_assert_eq!(&step.result, &Ok(vec![])),
                (State::Used { .. } | State::Revoked { .. }, Command::Decide(_)) => prop_assert!(step.result.is_err()),
            }
            prop_assert_eq!(&step.after, &step.before);
        }
    }

    #[test]
    fn what_is_refused_changes_nothing(history in history()) {
        for step in history.iter().filter(|step| step.result.is_err()) {
            prop_assert_eq!(&step.after, &step.before);
        }
    }

    #[test]
    fn nothing_but_the_state_of_a_token_ever_changes(history in history()) {
        for step in history {
            prop_assert_eq!(OverrideToken { state: State::Active, ..step.after }, minted());
        }
    }

    #[test]
    fn no_decision_is_accepted_at_or_after_the_expiry(history in history()) {
        for step in history.iter().filter(|step| step.now >= step.before.expires_at) {
            if let Command::Decide(_) = step.command {
                prop_assert!(step.result.is_err(), "{step:?}");
            }
        }
    }

    #[test]
    fn every_allowed_decision_about_an_active_token_is_accepted_before_the_expiry(history in history()) {
        for step in history.iter().filter(|step| step.now < step.before.expires_at) {
            let Command::Decide(decide) = &step.command else { continue };
            if step.before.state != State::Active || decide.event_id.as_str() != EVENT {
                continue;
            }
            if ALLOWED.contains(&decide.decision.as_str()) {
                let state = State::Used { decision: decide.decision.clone(), by: operator(), at: step.now };
                prop_assert_eq!(&step.after.state, &state);
            } else {
                prop_assert!(step.result.is_err(), "{step:?}");
            }
        }
    }

    #[test]
    fn no_decision_about_another_event_is_accepted(history in history()) {
        for step in &history {
            if let Command::Decide(decide) = &step.command && decide.event_id.as_str() != EVENT {
                prop_assert_eq!(&step.result, &Err(Refusal::NotFound));
            }
        }
    }
}
