//! The small words that callers and logs see: actors, statuses, messages and times.

use crate::{at, operator};
use countersign_domain::override_token::{OverrideToken, Status};
use countersign_domain::remediation::{self, Remediation};
use countersign_domain::{Actor, EntryClass, Record, Tenant, key_ring, override_token, rfc3339, seconds, text};
use serde_json::json;

#[test]
fn an_actor_is_written_with_its_kind() {
    assert_eq!(Actor::Operator { principal: "local".to_owned() }.to_string(), "operator:local");
    assert_eq!(
        serde_json::to_value(operator()).unwrap(),
        json!({ "kind": "operator", "principal": "arn:aws:iam::123456789012:role/remediation" })
    );
}

#[test]
fn an_actor_has_the_name_that_it_is_known_by() {
    for (actor, name) in [
        (operator(), "arn:aws:iam::123456789012:role/remediation"),
        (Actor::User { issuer: "https://login.example.com".to_owned(), subject: "user-1".to_owned() }, "user-1"),
        (Actor::Key { id: "key_0f".to_owned() }, "key_0f"),
        (Actor::Clock, "clock"),
    ] {
        assert_eq!(actor.name(), name);
    }
}

#[test]
fn every_status_has_its_documented_word() {
    let words = [Status::Active, Status::Used, Status::Revoked, Status::Expired].map(Status::as_str);
    assert_eq!(words, ["active", "used", "revoked", "expired"]);
}

#[test]
fn a_class_is_stored_in_lower_case() {
    assert_eq!(serde_json::to_value([EntryClass::Public, EntryClass::Audit]).unwrap(), json!(["public", "audit"]));
}

#[test]
fn times_are_answered_in_whole_seconds_and_utc() {
    for (given, shown) in [
        ("2026-11-21T03:38:50Z", "2026-11-21T03:38:50Z"),
        ("2026-11-21T03:38:50.999999Z", "2026-11-21T03:38:50Z"),
        ("2026-11-21T03:38:50+02:00", "2026-11-21T01:38:50Z"),
    ] {
        assert_eq!(rfc3339(at(given)), shown);
    }
}

#[test]
fn a_duration_is_counted_in_seconds() {
    assert_eq!(seconds(90).as_millis(), 90_000);
}

#[test]
fn a_full_ring_says_how_many_keys_it_holds() {
    assert!(key_ring::Refusal::TooManyKeys.to_string().starts_with("100 rotated keys"));
}

#[test]
fn records_keep_the_kind_and_schema_that_they_are_stored_under() {
    assert_eq!((OverrideToken::KIND, OverrideToken::SCHEMA), ("override", 1));
    assert_eq!((key_ring::KeyRing::KIND, key_ring::KeyRing::SCHEMA), ("keyring", 1));
    assert_eq!((Remediation::KIND, Remediation::SCHEMA), ("remediation", 1));
}

#[test]
fn there_is_no_schema_before_the_first() {
    for schema in [0, 1, 2] {
        assert_eq!(OverrideToken::upgrade(schema, json!({})), None);
        assert_eq!(key_ring::KeyRing::upgrade(schema, json!({})), None);
        assert_eq!(Remediation::upgrade(schema, json!({})), None);
    }
}

#[test]
fn the_longest_life_of_a_token_is_a_day() {
    assert_eq!(override_token::MAX_TTL_MINUTES, 1440);
}

#[test]
fn every_decision_report_and_status_of_a_remediation_has_its_documented_word() {
    use remediation::{Decision, Progress, Status};
    let decisions = [(Decision::Approve, "approve"), (Decision::Reject, "reject")];
    let reports = [(Progress::Running, "running"), (Progress::Completed, "completed"), (Progress::Failed, "failed")];
    let statuses = [
        (Status::Proposed, "proposed"),
        (Status::Executing, "executing"),
        (Status::Executed, "executed"),
        (Status::Rejected, "rejected"),
        (Status::Failed, "failed"),
        (Status::Expired, "expired"),
    ];
    for (decision, word) in decisions {
        assert_eq!((decision.as_str(), word.parse()), (word, Ok(decision)));
    }
    for (report, word) in reports {
        assert_eq!((report.as_str(), word.parse()), (word, Ok(report)));
    }
    for (status, word) in statuses {
        assert_eq!((status.as_str(), word.parse()), (word, Ok(status)));
    }
    let message = "approved".parse::<Decision>().unwrap_err().to_string();
    assert_eq!(message, "must be one of approve, reject");
    for word in ["", "Running", "running ", "pending"] {
        assert_eq!(word.parse::<Progress>().unwrap_err().to_string(), "must be one of running, completed, failed");
    }
    // The source lists `approved`, which no remediation ever is.
    assert!("approved".parse::<Status>().is_err());
}

#[test]
fn a_late_answer_is_told_what_to_do() {
    assert!(remediation::Refusal::Expired.to_string().contains("create a new remediation"));
}

#[test]
fn the_limits_of_a_remediation_are_the_documented_ones() {
    use remediation::{MAX_DESCRIPTION, MAX_NOTES, MAX_OUTPUT, MAX_STEPS, MAX_TIMEOUT_MINUTES, MAX_TITLE};
    let limits = (MAX_TITLE, MAX_STEPS, MAX_DESCRIPTION, MAX_TIMEOUT_MINUTES, MAX_NOTES, MAX_OUTPUT);
    assert_eq!(limits, (300, 50, 2000, 10_080, 2000, 10_000));
}

#[test]
fn tenants_sort_and_print_as_their_names() {
    let tenants = ["acme", "Acme", "42"].map(|name| name.parse::<Tenant>().unwrap());
    let mut sorted = tenants.to_vec();
    sorted.sort();
    assert_eq!(sorted.iter().map(Tenant::as_str).collect::<Vec<_>>(), ["42", "Acme", "acme"]);
    assert_eq!(serde_json::to_value(&sorted).unwrap(), json!(["42", "Acme", "acme"]));
}

#[test]
fn a_limit_of_nothing_takes_only_the_empty_text() {
    assert_eq!(text::check("", 0), Ok(()));
    assert!(text::check("a", 0).is_err());
}
