//! The life of an investigation case as tables: bringing in, handing out, verdicts, and what is told of it.

use crate::{at, changed, microseconds};
use countersign_domain::api_key::KeyId;
use countersign_domain::case::{
    Case, EventIds, Ingest, Input, MAX_EVENT_IDS, Refusal, Resolution, Severity, State, Status, TooManyEventIds,
    Verdict, VerdictOutcome,
};
use countersign_domain::{Actor, Change, EntryClass, Listing, Outcome, Record, Subject, Timestamp, With};
use serde_json::{Value, json};
use std::{fmt, str::FromStr};
use uuid::Uuid;

const CASE: &str = "3c90c3cc-0d44-4b50-8888-8dd25736052a";
const VERDICT: &str = "f4a5b6c7-d8e9-0123-f012-456789012cde";
const CREATED: &str = "2026-11-21T03:38:50.123456Z";
const JUDGED: &str = "2026-11-21T05:00:00.654321Z";

fn key(holder: &str) -> KeyId {
    KeyId::of(&format!("cs_live_{holder}"))
}

fn soc() -> Actor {
    Actor::Key { id: key("soc").to_string() }
}

fn event(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn events(numbers: &[u128]) -> EventIds {
    numbers.iter().copied().map(event).collect::<Vec<_>>().try_into().unwrap()
}

fn order() -> Ingest {
    let Value::Object(metadata) = json!({ "host": "web-1", "score": 0.5, "tags": ["a", { "b": null }] }) else {
        panic!("not an object")
    };
    Ingest {
        case_id: CASE.parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        title: "Login from two continents".to_owned(),
        severity: Severity::High,
        input: Input {
            description: Some("Within five minutes.".to_owned()),
            event_ids: events(&[1, 2]),
            metadata: Some(metadata),
        },
    }
}

fn discover() -> Case {
    Case::ingest(order(), &soc(), at(CREATED)).record
}

fn pending() -> Case {
    changed(discover().hand_out(&soc(), at("2026-11-21T04:00:00Z")).unwrap()).record
}

fn judged(case: &Case, outcome: VerdictOutcome) -> Case {
    changed(case.verdict(&verdict(outcome), &key("soc"), at("2026-11-21T04:30:00Z")).unwrap()).record
}

fn escalated() -> Case {
    judged(&pending(), VerdictOutcome::Escalated)
}

fn verdict(outcome: VerdictOutcome) -> Verdict {
    Verdict {
        verdict_id: VERDICT.parse().unwrap(),
        outcome,
        comment: Some("Seen on call.".to_owned()),
        event_ids: events(&[3, 4]),
    }
}

/// A case in every state, resolved ones with every outcome, and its status.
fn every_state() -> Vec<(Case, Status)> {
    let mut cases = vec![
        (discover(), Status::Discover),
        (pending(), Status::PendingInvestigation),
        (escalated(), Status::Investigating),
        (judged(&discover(), VerdictOutcome::Escalated), Status::Investigating),
    ];
    for (outcome, status) in FINAL {
        cases.push((judged(&pending(), outcome), status));
    }
    cases
}

/// The documented table of verdicts that resolve.
const FINAL: [(VerdictOutcome, Status); 4] = [
    (VerdictOutcome::Safe, Status::Closed),
    (VerdictOutcome::TruePositive, Status::Enforced),
    (VerdictOutcome::FalsePositive, Status::Closed),
    (VerdictOutcome::Duplicate, Status::Closed),
];

#[test]
fn a_case_that_is_brought_in_waits_to_be_handed_out() {
    let change = Case::ingest(order(), &soc(), at(CREATED));
    let [With::Item { name, body }] = change.with.as_slice() else { panic!("{:?}", change.with) };
    assert_eq!(name, "@input");
    assert_eq!(
        body,
        &concat!(
            r#"{"description":"Within five minutes.","event_ids":["#,
            r#""00000000-0000-0000-0000-000000000001","00000000-0000-0000-0000-000000000002"],"#,
            r#""metadata":{"host":"web-1","score":0.5,"tags":["a",{"b":null}]}}"#
        )
    );
    assert_eq!(
        change.record,
        Case {
            id: CASE.parse().unwrap(),
            tenant: "acme".parse().unwrap(),
            title: "Login from two continents".to_owned(),
            severity: Severity::High,
            // SHA-256 of the text above.
            input: Some("e11e08b921ec9567d968e2821a9a904416975e53251ddfb2b93964bb1cc0329f".to_owned()),
            created_at: at(CREATED),
            updated_at: at(CREATED),
            state: State::Discover,
        }
    );
    let [entry] = change.entries.as_slice() else { panic!("{:?}", change.entries) };
    assert_eq!(entry.name, "case.created");
    assert_eq!(entry.class, EntryClass::Public);
    assert_eq!((&entry.actor, entry.at), (&soc(), at(CREATED)));
    assert_eq!(entry.subject, Subject { kind: "case".to_owned(), id: CASE.to_owned() });
    assert_eq!(entry.data, json!({ "case_id": CASE, "title": "Login from two continents", "severity": "high" }));
    assert_eq!(entry.state, None);
}

#[test]
fn a_case_without_any_input_has_no_item_beside_it() {
    let change = Case::ingest(Ingest { input: Input::default(), ..order() }, &soc(), at(CREATED));
    assert_eq!(change.with, []);
    assert_eq!(change.record.input, None);
    for input in [
        Input { description: Some(String::new()), ..Input::default() },
        Input { event_ids: events(&[1]), ..Input::default() },
        Input { metadata: Some(serde_json::Map::new()), ..Input::default() },
    ] {
        let change = Case::ingest(Ingest { input: input.clone(), ..order() }, &soc(), at(CREATED));
        let [With::Item { body, .. }] = change.with.as_slice() else { panic!("{:?}", change.with) };
        assert_eq!(Input::from_text(body).unwrap(), input);
        assert!(change.record.input.is_some());
    }
}

#[test]
fn input_is_read_as_it_was_stored_however_deep_it_is() {
    let mut deep = json!(1);
    // As in a request, where metadata begins at the second of 128 levels.
    for level in 0..127 {
        deep = if level % 2 == 0 { json!({ "in": deep }) } else { json!([deep]) };
    }
    let Value::Object(deep) = deep else { panic!("{deep}") };
    for metadata in [order().input.metadata, Some(deep), None] {
        let input = Input { metadata, ..order().input };
        assert_eq!(Input::from_text(&input.to_text().unwrap()).unwrap(), input);
    }
}

#[test]
fn what_is_no_input_is_not_read_as_one() {
    let stored = order().input.to_text().unwrap();
    for text in ["", "null", "[]", "{}", &stored[1..], &stored[..stored.len() - 1], &format!("{stored}{{}}")] {
        assert!(Input::from_text(text).is_err(), "{text}");
    }
}

#[test]
fn a_case_brought_in_again_with_the_same_content_is_kept_whatever_has_become_of_it() {
    let mut reordered = order();
    let Value::Object(metadata) = json!({ "tags": ["a", { "b": null }], "score": 0.5, "host": "web-1" }) else {
        panic!("not an object")
    };
    reordered.input = Input { event_ids: events(&[1, 2, 1]), metadata: Some(metadata), ..reordered.input };
    for (case, status) in every_state() {
        for ingest in [&order(), &reordered] {
            assert!(case.same_content(ingest), "{status}");
            assert_eq!(case.ingest_again(ingest), Ok(Outcome::Keep), "{status}");
        }
    }
}

#[test]
fn a_case_brought_in_again_with_other_content_is_refused() {
    let input = |change: fn(&mut Input)| {
        let mut ingest = order();
        change(&mut ingest.input);
        ingest
    };
    for (name, ingest) in [
        ("title", Ingest { title: "Login from two continents ".to_owned(), ..order() }),
        ("severity", Ingest { severity: Severity::Low, ..order() }),
        ("no input", Ingest { input: Input::default(), ..order() }),
        ("description", input(|input| input.description = Some("within five minutes.".to_owned()))),
        ("no description", input(|input| input.description = None)),
        ("order of event ids", input(|input| input.event_ids = events(&[2, 1]))),
        ("fewer event ids", input(|input| input.event_ids = events(&[1]))),
        ("no metadata", input(|input| input.metadata = None)),
        ("empty metadata", input(|input| input.metadata = Some(serde_json::Map::new()))),
        (
            "one value of metadata",
            input(|input| {
                input.metadata.as_mut().unwrap().insert("score".to_owned(), json!(0.25));
            }),
        ),
    ] {
        for (case, status) in every_state() {
            assert!(!case.same_content(&ingest), "{name} {status}");
            assert_eq!(case.ingest_again(&ingest), Err(Refusal::Exists), "{name} {status}");
        }
    }
    let bare = Case::ingest(Ingest { input: Input::default(), ..order() }, &soc(), at(CREATED)).record;
    assert_eq!(bare.ingest_again(&order()), Err(Refusal::Exists));
}

#[test]
fn a_case_in_discover_is_handed_out() {
    let now = at("2026-11-21T04:00:00Z");
    let Change { record, entries, with } = changed(discover().hand_out(&soc(), now).unwrap());
    assert_eq!(record, Case { state: State::PendingInvestigation, updated_at: now, ..discover() });
    assert_eq!(with, []);
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(entry.name, "case.handed_out");
    assert_eq!(entry.class, EntryClass::Audit);
    assert_eq!((&entry.actor, entry.at), (&soc(), now));
    assert_eq!(entry.subject, Subject { kind: "case".to_owned(), id: CASE.to_owned() });
    assert_eq!(entry.data, json!({ "case_id": CASE }));
    assert_eq!(entry.state, None);
}

#[test]
fn no_case_is_handed_out_twice_or_after_a_verdict() {
    for (case, status) in every_state() {
        let expected = (status != Status::Discover).then_some(Refusal::NotInDiscover);
        assert_eq!(case.hand_out(&soc(), at(JUDGED)).err(), expected, "{status}");
    }
}

#[test]
fn every_open_case_takes_every_verdict_and_every_resolved_one_none() {
    let documented = [(VerdictOutcome::Escalated, Status::Investigating)].into_iter().chain(FINAL);
    for (outcome, leads_to) in documented {
        let asked = Verdict { comment: Some("Another one.".to_owned()), ..verdict(outcome) };
        for (case, status) in every_state() {
            let found = case.verdict(&asked, &key("soc"), at(JUDGED));
            match status {
                Status::Discover | Status::PendingInvestigation | Status::Investigating => {
                    let after = changed(found.unwrap()).record;
                    assert_eq!(after.status(), leads_to, "{status} {outcome}");
                    assert_eq!(after.outcome(), Some(outcome), "{status}");
                    assert_eq!(after.is_resolved(), outcome != VerdictOutcome::Escalated, "{status}");
                    assert_eq!(after.updated_at, at(JUDGED), "{status} {outcome}");
                    let Case { state, updated_at, .. } = after.clone();
                    assert_eq!(after, Case { state, updated_at, ..case }, "{status} {outcome}");
                }
                Status::Enforced | Status::Closed => {
                    let before = case.outcome().unwrap();
                    assert_eq!(found, Err(Refusal::AlreadyResolved { outcome: before }), "{status} {outcome}");
                }
            }
        }
    }
}

#[test]
fn a_resolving_verdict_is_remembered_with_its_key_and_time_and_no_text() {
    for (outcome, status) in FINAL {
        let case = changed(pending().verdict(&verdict(outcome), &key("soc"), at(JUDGED)).unwrap()).record;
        let resolution = case.resolution().unwrap();
        let Resolution { fingerprint, .. } = resolution.clone();
        assert_eq!(fingerprint.len(), 64);
        assert_eq!(resolution, &Resolution { outcome, by: key("soc"), at: at(JUDGED), fingerprint });
        assert_eq!(case.status(), status);
        let stored = serde_json::to_string(&case).unwrap();
        assert!(!stored.contains("Seen on call") && !stored.contains(&event(3).to_string()), "{stored}");
    }
    for case in [discover(), pending(), escalated()] {
        assert_eq!(case.resolution(), None);
    }
}

#[test]
fn a_verdict_is_told_first_as_such_and_then_by_what_it_did() {
    for outcome in VerdictOutcome::ALL.iter().copied() {
        let Change { entries, with, .. } =
            changed(pending().verdict(&verdict(outcome), &key("soc"), at(JUDGED)).unwrap());
        let resolved = outcome != VerdictOutcome::Escalated;
        let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["case.verdict_submitted", if resolved { "case.resolved" } else { "case.escalated" }]);
        for entry in entries {
            assert_eq!(entry.class, EntryClass::Public);
            assert_eq!((&entry.actor, entry.at), (&soc(), at(JUDGED)));
            assert_eq!(entry.subject, Subject { kind: "case".to_owned(), id: CASE.to_owned() });
            assert_eq!(
                entry.data,
                json!({
                    "case_id": CASE,
                    "verdict_id": VERDICT,
                    "outcome": outcome.as_str(),
                    "resolved": resolved,
                    "comment": "Seen on call.",
                    "event_ids": [event(3), event(4)],
                    "by": key("soc").as_str(),
                })
            );
            assert_eq!(entry.state, None);
        }
        assert_eq!(with, []);
    }
}

#[test]
fn what_a_verdict_does_not_say_is_told_as_null_or_empty() {
    let asked = Verdict { comment: None, event_ids: EventIds::default(), ..verdict(VerdictOutcome::Safe) };
    for entry in changed(discover().verdict(&asked, &key("soc"), at(JUDGED)).unwrap()).entries {
        assert_eq!(entry.data.get("comment"), Some(&json!(null)));
        assert_eq!(entry.data.get("event_ids"), Some(&json!([])));
    }
}

#[test]
fn the_identical_verdict_from_the_same_key_is_answered_from_what_is_recorded() {
    let later = at("2026-12-01T00:00:00Z");
    for (outcome, status) in FINAL {
        let case = judged(&pending(), outcome);
        let again = Verdict { verdict_id: event(99), event_ids: events(&[3, 4, 3, 4, 4]), ..verdict(outcome) };
        for asked in [verdict(outcome), again] {
            assert_eq!(case.verdict(&asked, &key("soc"), later), Ok(Outcome::Keep), "{outcome}");
        }
        assert_eq!((case.outcome(), case.status(), case.is_resolved()), (Some(outcome), status, true));
        assert_eq!(case.updated_at, at("2026-11-21T04:30:00Z"));
        assert_eq!(case.resolution().unwrap().at, case.updated_at);
    }
}

#[test]
fn a_verdict_that_differs_in_anything_is_told_how_the_case_was_resolved() {
    let safe = VerdictOutcome::Safe;
    let case = judged(&pending(), safe);
    let refused = Err(Refusal::AlreadyResolved { outcome: safe });
    for (name, asked) in [
        ("outcome with the same effect", verdict(VerdictOutcome::FalsePositive)),
        ("escalation", verdict(VerdictOutcome::Escalated)),
        ("comment", Verdict { comment: Some("Seen on call".to_owned()), ..verdict(safe) }),
        ("no comment", Verdict { comment: None, ..verdict(safe) }),
        ("order of event ids", Verdict { event_ids: events(&[4, 3]), ..verdict(safe) }),
        ("fewer event ids", Verdict { event_ids: events(&[3]), ..verdict(safe) }),
        ("more event ids", Verdict { event_ids: events(&[3, 4, 5]), ..verdict(safe) }),
        ("no event ids", Verdict { event_ids: EventIds::default(), ..verdict(safe) }),
    ] {
        assert_eq!(case.verdict(&asked, &key("soc"), at(JUDGED)), refused, "{name}");
    }
    assert_eq!(case.verdict(&verdict(safe), &key("another"), at(JUDGED)), refused);

    let silent = Verdict { comment: None, ..verdict(safe) };
    let case = changed(pending().verdict(&silent, &key("soc"), at(JUDGED)).unwrap()).record;
    let empty = Verdict { comment: Some(String::new()), ..silent };
    assert_eq!(case.verdict(&empty, &key("soc"), at(JUDGED)), refused);
}

#[test]
fn a_case_can_be_escalated_again_by_anyone_with_the_very_same_verdict() {
    for holder in ["soc", "another"] {
        let asked = verdict(VerdictOutcome::Escalated);
        let change = changed(escalated().verdict(&asked, &key(holder), at(JUDGED)).unwrap());
        assert_eq!(change.record, Case { updated_at: at(JUDGED), ..escalated() });
        assert_eq!(change.entries.len(), 2);
    }
}

#[test]
fn a_thousand_escalations_do_not_make_a_case_larger_or_keep_it_from_being_resolved() {
    let ids: Vec<_> = (0..200).map(|n| event(n << 64)).collect();
    let longest = |outcome| Verdict {
        verdict_id: Uuid::max(),
        outcome,
        comment: Some("🦀".repeat(2000)),
        event_ids: ids.clone().try_into().unwrap(),
    };
    let Value::Object(metadata) = json!({ "text": "x".repeat(100_000) }) else { panic!("not an object") };
    let ingest = Ingest {
        title: "🦀".repeat(300),
        input: Input {
            description: Some("🦀".repeat(10_000)),
            event_ids: ids.clone().try_into().unwrap(),
            metadata: Some(metadata),
        },
        ..order()
    };
    let size = |case: &Case| serde_json::to_string(case).unwrap().len();
    let mut case = Case::ingest(ingest, &soc(), at(CREATED)).record;
    let mut sizes = vec![];
    for _ in 0..1000 {
        case = changed(case.verdict(&longest(VerdictOutcome::Escalated), &key("soc"), at(JUDGED)).unwrap()).record;
        sizes.push(size(&case));
    }
    assert!(sizes.iter().all(|size| *size == sizes[0] && *size < 2048), "{sizes:?}");
    let last = changed(case.verdict(&longest(VerdictOutcome::Safe), &key("soc"), at(JUDGED)).unwrap());
    assert_eq!(last.record.status(), Status::Closed);
    assert!(size(&last.record) < 2048, "{}", size(&last.record));
    let entries = serde_json::to_string(&last.entries).unwrap().len();
    assert!(entries < 64 * 1024, "{entries}");
}

#[test]
fn event_ids_are_counted_as_sent_and_then_kept_once_each() {
    let ids = |n: usize| (0..n as u128).map(event).collect::<Vec<_>>();
    assert_eq!(MAX_EVENT_IDS, 200);
    assert_eq!(EventIds::try_from(ids(200)).unwrap().as_slice(), ids(200));
    assert_eq!(EventIds::try_from(ids(201)), Err(TooManyEventIds));
    assert_eq!(EventIds::try_from(vec![event(1); 200]).unwrap().as_slice(), [event(1)]);
    assert_eq!(EventIds::try_from(vec![event(1); 201]), Err(TooManyEventIds));
    assert_eq!(TooManyEventIds.to_string(), "must be at most 200");
    assert_eq!(events(&[3, 1, 3, 2, 1]).as_slice(), [event(3), event(1), event(2)]);
    assert_eq!(EventIds::default().as_slice(), [] as [Uuid; 0]);
    assert_eq!(serde_json::to_value(events(&[2, 2, 1])).unwrap(), json!([event(2), event(1)]));
    assert_eq!(serde_json::from_value::<EventIds>(json!([event(2), event(1)])).unwrap(), events(&[2, 1]));
}

/// Checks that exactly these are the words of a type, in this order.
fn assert_words<W>(all: &[W], as_str: fn(W) -> &'static str, words: &[&str])
where
    W: Copy + fmt::Debug + fmt::Display + PartialEq + FromStr<Err: fmt::Display>,
{
    assert_eq!(all.iter().map(|word| as_str(*word)).collect::<Vec<_>>(), words);
    for (word, text) in all.iter().zip(words) {
        assert_eq!(text.parse::<W>().ok(), Some(*word));
        assert_eq!(word.to_string(), *text);
    }
    for text in ["", " ", "unknown", &words[0][1..], &format!("{} ", words[0])] {
        let Err(error) = text.parse::<W>() else { panic!("{text:?}") };
        assert_eq!(error.to_string(), format!("must be one of {}", words.join(", ")));
    }
}

#[test]
fn severities_outcomes_and_statuses_have_their_documented_words() {
    assert_words(Severity::ALL, Severity::as_str, &["low", "medium", "high", "critical"]);
    let outcomes = ["SAFE", "TRUE_POSITIVE", "FALSE_POSITIVE", "DUPLICATE", "ESCALATED"];
    assert_words(VerdictOutcome::ALL, VerdictOutcome::as_str, &outcomes);
    let statuses = ["discover", "pending_investigation", "investigating", "enforced", "closed"];
    assert_words(Status::ALL, Status::as_str, &statuses);
    assert!("safe".parse::<VerdictOutcome>().is_err() && "High".parse::<Severity>().is_err());
    assert_eq!(serde_json::to_value(VerdictOutcome::ALL).unwrap(), json!(outcomes));
    assert!(serde_json::from_value::<VerdictOutcome>(json!("safe")).is_err());
}

#[test]
fn refusals_say_what_is_the_matter() {
    for (refusal, sentence) in [
        (Refusal::NotFound, "Case not found"),
        (Refusal::Exists, "A case with this id exists with other content"),
        (Refusal::NotInDiscover, "Case is not waiting to be handed out"),
        (Refusal::AlreadyResolved { outcome: VerdictOutcome::TruePositive }, "Case already resolved as TRUE_POSITIVE"),
    ] {
        assert_eq!(refusal.to_string(), sentence);
    }
}

#[test]
fn a_case_is_listed_by_state_and_last_outcome_and_waits_in_the_feed_only_to_be_handed_out() {
    for (case, status) in every_state() {
        let (subject, inbox) = match status {
            Status::Discover => (None, Some("feed")),
            Status::PendingInvestigation => (None, None),
            Status::Investigating => (Some("ESCALATED".to_owned()), None),
            Status::Enforced | Status::Closed => (case.outcome().map(|outcome| outcome.to_string()), None),
        };
        let expected =
            Listing { state: Some(status.as_str()), subject, inbox: inbox.map(Into::into), ..Listing::at(at(CREATED)) };
        assert_eq!(case.listing(), expected);
        assert_eq!(case.status(), status);
    }
    let words: Vec<_> = FINAL.map(|(outcome, _)| judged(&pending(), outcome).listing().subject.unwrap()).into();
    assert_eq!(words, ["SAFE", "TRUE_POSITIVE", "FALSE_POSITIVE", "DUPLICATE"]);
}

#[test]
fn the_clock_has_no_business_with_a_case() {
    for (case, _) in every_state() {
        assert_eq!(case.due(), None);
        assert_eq!(case.tick(Timestamp::MAX - microseconds(1)), Outcome::Keep);
    }
}

#[test]
fn every_state_of_a_case_survives_being_stored() {
    for (case, status) in every_state() {
        let stored = serde_json::to_value(&case).unwrap();
        assert_eq!(stored.pointer("/state/is"), Some(&json!(status.as_str())));
        assert_eq!(serde_json::from_value::<Case>(stored).unwrap(), case);
    }
}

#[test]
fn a_case_is_stored_as_the_first_schema_of_its_kind() {
    assert_eq!((Case::KIND, Case::SCHEMA), ("case", 1));
    for schema in [0, 1, 2] {
        assert_eq!(Case::upgrade(schema, json!({})), None);
    }
}
