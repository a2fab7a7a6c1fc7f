//! What the world is told: names, ids and bodies of events, and what is in none of them.

use crate::{action, at, changed, operator, remediation};
use countersign_domain::action::{Action, Decision as ActionDecision, Report as ActionReport};
use countersign_domain::actions_policy::ActionsPolicy;
use countersign_domain::api_key::KeyId;
use countersign_domain::case::{Case, Ingest, Input, Severity, Verdict, VerdictOutcome};
use countersign_domain::event::{EVENTS, EXHAUSTED, Event, EventName, InvalidEventName, NEVER_SENT, Source, TEST};
use countersign_domain::override_token::{Decide, Mint, OverrideToken};
use countersign_domain::remediation::{Decision, Progress, Propose, Remediation, Report, Respond};
use countersign_domain::{
    Actor, Change, Entry, EntryClass, Outcome, Record, Subject, Tenant, Timestamp, cosignature, seconds,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

const JTI: &str = "f4a5b6c7-d8e9-0123-f012-456789012cde";
const OVERRIDE_SECRET: &str = "test-override-secret";
const KEY_TEXT: &str = "cs_live_soc";
const NOW: &str = "2026-11-21T03:38:50.987654Z";

fn now() -> Timestamp {
    at(NOW)
}

fn tenant() -> Tenant {
    "acme".parse().unwrap()
}

fn source(version: u64, entry: u32) -> Source {
    Source { kind: "override".to_owned(), id: "evt-1".to_owned(), version, entry }
}

fn entry(name: &str) -> Entry {
    Entry {
        name: name.to_owned(),
        class: EntryClass::Public,
        actor: Actor::User { issuer: "https://login.example.com".to_owned(), subject: "u-bob".to_owned() },
        at: now(),
        subject: Subject { kind: "thing".to_owned(), id: "t-1".to_owned() },
        data: json!({ "b": "ä", "a": 1 }),
        state: Some("5d".to_owned()),
    }
}

fn event(name: &str) -> Event {
    Event::of(&tenant(), &source(2, 1), &entry(name)).unwrap()
}

#[test]
fn every_documented_name_is_a_name_and_each_once() {
    let documented = "override.created|decided|revoked, remediation.proposed|approved|rejected|executed|failed|expired, \
                      action.pending|approved|denied|completed|failed, \
                      case.created|verdict_submitted|resolved|escalated, request.created|approved|rejected|cancelled, \
                      stage.started|completed|skipped|escalated, task.expired|reassigned, delivery.exhausted";
    let names = documented.split(", ").flat_map(|group| {
        let (of, whats) = group.split_once('.').unwrap();
        whats.split('|').map(move |what| format!("{of}.{what}"))
    });
    assert_eq!(names.collect::<Vec<_>>(), EVENTS);
    assert_eq!(EVENTS.iter().collect::<BTreeSet<_>>().len(), EVENTS.len());
    assert!(EVENTS.contains(&EXHAUSTED));
}

#[test]
fn subscriptions_can_have_every_name_and_those_of_the_sdk_only_through_it() {
    for name in EVENTS {
        let parsed: EventName = name.parse().unwrap();
        assert_eq!((parsed.as_str(), parsed.to_string().as_str()), (name, name));
        assert_eq!(EventName::of_sdk(name), Ok(parsed));
        assert_eq!(serde_json::to_value(parsed).unwrap(), json!(name));
        assert_eq!(serde_json::from_value::<EventName>(json!(name)).unwrap(), parsed);
    }
    assert_eq!(NEVER_SENT, ["policy.violation", "agent.trust_changed"]);
    for name in NEVER_SENT {
        assert_eq!(name.parse::<EventName>(), Err(InvalidEventName));
        let parsed = EventName::of_sdk(name).unwrap();
        assert_eq!(parsed.as_str(), name);
        // It was stored by the SDK's door, so that it must be readable.
        assert_eq!(serde_json::from_value::<EventName>(json!(name)).unwrap(), parsed);
    }
}

#[test]
fn other_names_are_refused_with_those_that_there_are() {
    for name in ["", "*", TEST, "override", "override.", "override.Created", " override.created", "override.created\0"]
    {
        assert_eq!(name.parse::<EventName>(), Err(InvalidEventName), "{name:?}");
        assert_eq!(EventName::of_sdk(name), Err(InvalidEventName), "{name:?}");
        assert!(serde_json::from_value::<EventName>(json!(name)).is_err(), "{name:?}");
    }
    let sentence = InvalidEventName.to_string();
    assert!(sentence.starts_with("must be one of override.created, "), "{sentence}");
    assert!(sentence.ends_with(", delivery.exhausted"), "{sentence}");
}

/// Computed with Python's hashlib.
#[test]
fn an_events_id_follows_from_where_it_comes_from() {
    let odd = Source { kind: "case".to_owned(), id: "\"é".to_owned(), version: u64::MAX, entry: u32::MAX };
    for (source, id) in [
        (source(1, 0), "48ad108d-35ad-8966-bc6e-85f00938d55d"),
        (source(2, 0), "a784c89f-2404-8d39-b655-419ff84034d1"),
        (source(2, 1), "42d4a9f4-62de-8fc4-ab21-21e147c415bd"),
        (odd, "fd60ea3a-04de-8673-aee8-9e78ec64f47f"),
    ] {
        let found = source.event_id(&tenant());
        assert_eq!(found.to_string(), id);
        assert_eq!(found.get_version_num(), 8);
        assert_eq!(Event::of(&tenant(), &source, &entry("override.created")).unwrap().id, found);
    }
}

#[test]
fn a_source_survives_being_sent() {
    let text = r#"{"kind":"override","id":"evt-1","version":2,"entry":1}"#;
    assert_eq!(serde_json::to_string(&source(2, 1)).unwrap(), text);
    assert_eq!(serde_json::from_str::<Source>(text).unwrap(), source(2, 1));
}

#[test]
fn an_audit_entry_is_no_event() {
    let audit = Entry { class: EntryClass::Audit, ..entry("override.created") };
    assert_eq!(Event::of(&tenant(), &source(2, 1), &audit), None);
}

#[test]
fn an_event_is_its_entry_and_whose_it_is() {
    let entry = entry("case.created");
    let expected = Event {
        id: source(2, 1).event_id(&tenant()),
        name: entry.name.clone(),
        tenant: tenant(),
        at: entry.at,
        actor: entry.actor.clone(),
        subject: entry.subject.clone(),
        data: entry.data.clone(),
    };
    assert_eq!(Event::of(&tenant(), &source(2, 1), &entry), Some(expected));
}

#[test]
fn a_body_is_compact_in_the_documented_order_and_in_whole_seconds() {
    assert_eq!(
        event("case.created").body(),
        concat!(
            r#"{"event_id":"42d4a9f4-62de-8fc4-ab21-21e147c415bd","event_type":"case.created","tenant":"acme","#,
            r#""occurred_at":"2026-11-21T03:38:50Z","subject":{"kind":"thing","id":"t-1"},"actor":"u-bob","#,
            r#""data":{"a":1,"b":"ä"}}"#
        )
    );
}

#[test]
fn a_remediations_body_is_the_envelope_of_the_bus() {
    for name in EVENTS.iter().filter(|name| name.starts_with("remediation.")) {
        assert_eq!(
            event(name).body(),
            format!(
                r#"{{"event":"{name}","timestamp":"2026-11-21T03:38:50Z","tenantId":"acme","data":{{"a":1,"b":"ä"}}}}"#
            )
        );
    }
}

#[test]
fn an_answered_remediation_is_told_with_every_documented_key() {
    for (decision, name) in [(Decision::Approve, "remediation.approved"), (Decision::Reject, "remediation.rejected")] {
        let proposed = Remediation::propose(remediation::proposal(), &remediation::admin(), now()).record;
        let answered = proposed.respond(&Respond { decision, notes: None }, &remediation::admin(), now()).unwrap();
        let told = told(changed(answered));
        let [event] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!(
            serde_json::from_str::<Value>(&event.body()).unwrap(),
            json!({
                "event": name,
                "timestamp": "2026-11-21T03:38:50Z",
                "tenantId": "acme",
                "data": {
                    "approvalId": proposed.id.approval(),
                    "remediationId": proposed.id.remediation(),
                    "incidentId": proposed.incident_id.as_str(),
                    "decision": decision.as_str(),
                    "decidedBy": "user_01HX9V",
                    "decidedAt": "2026-11-21T03:38:50Z",
                    "notes": null,
                },
            })
        );
    }
}

/// The events of a change, as subscribers are told of them.
fn told<R>(change: Change<R>) -> Vec<Event> {
    let entries = (0..).zip(change.entries);
    entries.filter_map(|(place, entry)| Event::of(&tenant(), &source(1, place), &entry)).collect()
}

fn told_of<R, E: std::fmt::Debug>(outcome: Result<Outcome<R>, E>) -> Vec<Event> {
    told(changed(outcome.unwrap()))
}

fn of_overrides() -> Vec<Event> {
    let mint = Mint {
        jti: JTI.parse().unwrap(),
        customer: tenant(),
        event_id: "evt-1".parse().unwrap(),
        allowed_decisions: vec!["approve".parse().unwrap()],
        reason: Some("disk is full".to_owned()),
        ttl_minutes: 5,
    };
    let decide = Decide { event_id: mint.event_id.clone(), decision: "approve".parse().unwrap(), reason: None };
    let minted = OverrideToken::mint(mint, &operator(), now());
    let token = minted.record.clone();
    [told(minted), told_of(token.decide(&decide, &operator(), now())), told_of(token.revoke(&operator(), now()))]
        .concat()
}

fn of_remediations() -> Vec<Event> {
    let admin = remediation::admin();
    let steps = vec!["one".to_owned()];
    let proposed = Remediation::propose(Propose { steps, ..remediation::proposal() }, &admin, now());
    let waiting = proposed.record.clone();
    let respond = |decision| waiting.respond(&Respond { decision, notes: Some("ok".to_owned()) }, &admin, now());
    let executing = changed(respond(Decision::Approve).unwrap()).record;
    let report = |progress| {
        let report = Report { step_id: "step_1".to_owned(), progress, output: Some("done".to_owned()) };
        executing.report(&report, &admin, now())
    };
    [
        told(proposed),
        told_of(respond(Decision::Approve)),
        told_of(respond(Decision::Reject)),
        told_of(report(Progress::Completed)),
        told_of(report(Progress::Failed)),
        told(changed(waiting.tick(waiting.expires_at))),
    ]
    .concat()
}

fn of_actions() -> Vec<Event> {
    let submitted = Action::submit(&action::submission(), &ActionsPolicy::default(), &action::key(None), now());
    let pending = submitted.record.clone();
    let decide = |decision| pending.decide(decision, None, &action::approver(42, 5), now());
    let approved = changed(decide(ActionDecision::Approve).unwrap()).record;
    let report = |result| approved.report(result, r#"{"password":"hunter2"}"#, &action::key(None), now());
    [
        told(submitted),
        told_of(decide(ActionDecision::Approve)),
        told_of(decide(ActionDecision::Reject)),
        told_of(pending.cancel(&action::key(None), now())),
        told_of(report(ActionReport::Completed)),
        told_of(report(ActionReport::Failed)),
        told(changed(pending.tick(now() + seconds(1_000_000)))),
    ]
    .concat()
}

fn of_cases() -> Vec<Event> {
    let ingest = Ingest {
        case_id: Uuid::from_u128(7),
        tenant: tenant(),
        title: "Login from two continents".to_owned(),
        severity: Severity::High,
        input: Input::default(),
    };
    let key = KeyId::of(KEY_TEXT);
    let ingested = Case::ingest(ingest, &Actor::Key { id: key.to_string() }, now());
    let case = ingested.record.clone();
    let verdict = |outcome| {
        let event_ids = vec![Uuid::from_u128(1)].try_into().unwrap();
        let verdict = Verdict { verdict_id: Uuid::from_u128(9), outcome, comment: None, event_ids };
        case.verdict(&verdict, &key, now())
    };
    let handed_out = told_of(case.hand_out(&operator(), now()));
    assert_eq!(handed_out, []);
    [told(ingested), told_of(verdict(VerdictOutcome::Safe)), told_of(verdict(VerdictOutcome::Escalated))].concat()
}

#[test]
fn every_event_of_every_record_has_a_documented_name_and_every_such_name_is_told() {
    for (of, events) in [
        ("override.", of_overrides()),
        ("remediation.", of_remediations()),
        ("action.", of_actions()),
        ("case.", of_cases()),
    ] {
        let found: BTreeSet<_> = events.iter().map(|event| event.name.as_str()).collect();
        let documented = EVENTS.into_iter().filter(|name| name.starts_with(of)).collect();
        assert_eq!(found, documented);
    }
}

#[test]
fn no_body_holds_what_could_be_used_to_decide() {
    let event_id = "evt-1".parse().unwrap();
    let jti: Uuid = JTI.parse().unwrap();
    let cosignature = cosignature::sign(OVERRIDE_SECRET.as_bytes(), &event_id, &"approve".parse().unwrap(), jti);
    for event in [of_overrides(), of_remediations(), of_actions(), of_cases()].concat() {
        let body = event.body();
        for kept in [OVERRIDE_SECRET, &cosignature, "qt_override_", KEY_TEXT, "whsec_", "hunter2"] {
            assert!(!body.contains(kept), "{body}");
        }
        // Whoever knows the jti of a token that is not used up could decide.
        let used_up = ["override.decided", "override.revoked"].contains(&event.name.as_str());
        assert_eq!(body.contains(JTI), used_up, "{body}");
    }
}

fn any_source() -> impl Strategy<Value = Source> {
    // Few values, so that two sources are often alike but for one part.
    ("[ab\",]{0,2}", "[ab\",]{0,2}", 0..3_u64, 0..3_u32).prop_map(|(kind, id, version, entry)| Source {
        kind,
        id,
        version,
        entry,
    })
}

proptest! {
    #[test]
    fn two_events_have_one_id_only_if_they_are_one(
        one in any_source(),
        other in any_source(),
        tenants in ("[ab]", "[ab]"),
    ) {
        let of = |source: &Source, tenant: &str| source.event_id(&tenant.parse().unwrap());
        let same = one == other && tenants.0 == tenants.1;
        prop_assert_eq!(of(&one, &tenants.0) == of(&other, &tenants.1), same);
        prop_assert_eq!(of(&one, &tenants.0), of(&one.clone(), &tenants.0));
    }
}
