//! The life of a remediation as tables: proposing, answering, reporting, expiring, and what is told of it.

use crate::{at, changed, microseconds, operator};
use countersign_domain::remediation::{
    Answered, Decision, INPUT, IncidentId, Input, InvalidIncidentId, InvalidRemediationId, MAX_DESCRIPTION, MAX_NOTES,
    MAX_OUTPUT, MAX_STEPS, MAX_TITLE, Progress, Propose, Refusal, Remediation, RemediationId, Report, Respond, State,
    Status, Step, StepState,
};
use countersign_domain::{Actor, Change, Entry, EntryClass, Listing, Outcome, Record, Timestamp, With, seconds};
use serde_json::{Value, json};

const ULID: &str = "01HX9VTPQR3KF8MZWBYD5N6JCE";
const REMEDIATION: &str = "rem_01HX9VTPQR3KF8MZWBYD5N6JCE";
const APPROVAL: &str = "apr_01HX9VTPQR3KF8MZWBYD5N6JCE";
const INCIDENT: &str = "inc_EXAMPLE_01JX";
const PROPOSED: &str = "2024-04-01T14:35:00Z";
const EXPIRES: &str = "2024-04-01T15:05:00Z";

const DECISIONS: [Decision; 2] = [Decision::Approve, Decision::Reject];
const REPORTS: [Progress; 3] = [Progress::Running, Progress::Completed, Progress::Failed];

/// What waits for an approval, in three steps.
pub(crate) fn proposal() -> Propose {
    Propose {
        id: ULID.parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        incident_id: INCIDENT.parse().unwrap(),
        incident_title: "Checkout answers 503".to_owned(),
        title: "Scale the connection pool".to_owned(),
        steps: ["set DB_POOL_SIZE to 150", "roll out", "watch"].map(str::to_owned).to_vec(),
        timeout_minutes: 30,
        requires_approval: true,
    }
}

pub(crate) fn admin() -> Actor {
    Actor::User { issuer: "https://login.example.com".to_owned(), subject: "user_01HX9V".to_owned() }
}

fn agent() -> Actor {
    Actor::User { issuer: "https://login.example.com".to_owned(), subject: "agent-7".to_owned() }
}

/// A minute after the proposal.
fn early() -> Timestamp {
    at("2024-04-01T14:36:00.25Z")
}

fn respond(decision: Decision) -> Respond {
    Respond { decision, notes: None }
}

fn report(step_id: &str, progress: Progress) -> Report {
    Report { step_id: step_id.to_owned(), progress, output: None }
}

fn proposed() -> Remediation {
    Remediation::propose(proposal(), &agent(), at(PROPOSED)).record
}

fn answered(decision: Decision) -> Remediation {
    changed(proposed().respond(&respond(decision), &admin(), early()).unwrap()).record
}

fn unasked() -> Remediation {
    Remediation::propose(Propose { requires_approval: false, ..proposal() }, &agent(), at(PROPOSED)).record
}

fn expired() -> Remediation {
    changed(proposed().tick(at(EXPIRES))).record
}

/// The remediation after these reports, a second apart.
fn reported(mut remediation: Remediation, reports: &[(&str, Progress)]) -> Remediation {
    for ((step_id, progress), second) in reports.iter().zip(1..) {
        let now = early() + seconds(second);
        remediation = changed(remediation.report(&report(step_id, *progress), &agent(), now).unwrap()).record;
    }
    remediation
}

const ALL_COMPLETED: [(&str, Progress); 3] =
    [("step_1", Progress::Completed), ("step_2", Progress::Completed), ("step_3", Progress::Completed)];

fn executed() -> Remediation {
    reported(answered(Decision::Approve), &ALL_COMPLETED)
}

fn failed() -> Remediation {
    reported(answered(Decision::Approve), &[("step_1", Progress::Running), ("step_2", Progress::Failed)])
}

/// One in each of the states, with and without an approval, and its stored status.
fn each_state() -> [(&'static str, Remediation); 9] {
    [
        ("proposed", proposed()),
        ("executing", answered(Decision::Approve)),
        ("executing", unasked()),
        ("executed", executed()),
        ("executed", reported(unasked(), &ALL_COMPLETED)),
        ("failed", failed()),
        ("failed", reported(unasked(), &[("step_1", Progress::Failed)])),
        ("rejected", answered(Decision::Reject)),
        ("expired", expired()),
    ]
}

fn only(entries: &[Entry]) -> &Entry {
    let [entry] = entries else { panic!("{entries:?}") };
    entry
}

/// What an event says beside the ids that every one of an approved remediation has.
fn with_ids(mut data: Value) -> Value {
    data["approvalId"] = APPROVAL.into();
    data["remediationId"] = REMEDIATION.into();
    data["incidentId"] = INCIDENT.into();
    data
}

fn check_entry(entry: &Entry, name: &str, class: EntryClass, actor: &Actor, now: Timestamp, data: Value) {
    let subject = json!({ "kind": "remediation", "id": REMEDIATION });
    assert_eq!(entry.name, name);
    assert_eq!(entry.class, class, "{name}");
    assert_eq!(&entry.actor, actor, "{name}");
    assert_eq!(entry.at, now, "{name}");
    assert_eq!(serde_json::to_value(&entry.subject).unwrap(), subject, "{name}");
    assert_eq!(entry.data, data, "{name}");
    assert_eq!(entry.state, None, "{name}");
}

fn items(change: &Change<Remediation>) -> Vec<(&str, &str)> {
    change
        .with
        .iter()
        .map(|with| match with {
            With::Item { name, body } => (name.as_str(), body.as_str()),
            With::Born { .. } | With::Pointer(_) => panic!("nothing else is written with a change of a remediation"),
        })
        .collect()
}

#[test]
fn a_proposed_remediation_waits_from_the_current_whole_second() {
    for now in [PROPOSED, "2024-04-01T14:35:00.000001Z", "2024-04-01T14:35:00.999999Z"] {
        let pending = |number| Step { number, state: StepState::Pending, output: None };
        assert_eq!(
            Remediation::propose(proposal(), &agent(), at(now)).record,
            Remediation {
                id: ULID.parse().unwrap(),
                tenant: "acme".parse().unwrap(),
                incident_id: INCIDENT.parse().unwrap(),
                incident_title: "Checkout answers 503".to_owned(),
                title: "Scale the connection pool".to_owned(),
                proposed_at: at(PROPOSED),
                expires_at: at(EXPIRES),
                steps: [1, 2, 3].map(pending).to_vec(),
                state: State::Proposed,
            },
            "{now}"
        );
    }
}

#[test]
fn an_approval_can_be_answered_for_as_many_minutes_as_asked() {
    for (timeout_minutes, expires_at) in
        [(1, "2024-04-01T14:36:00Z"), (30, EXPIRES), (120, "2024-04-01T16:35:00Z"), (10_080, "2024-04-08T14:35:00Z")]
    {
        let now = at(PROPOSED) + microseconds(999_999);
        let proposed = Remediation::propose(Propose { timeout_minutes, ..proposal() }, &agent(), now).record;
        assert_eq!(proposed.expires_at, at(expires_at), "{timeout_minutes}");
        assert_eq!(proposed.deadline(), Some(at(expires_at)), "{timeout_minutes}");
    }
}

#[test]
fn one_proposed_at_the_end_of_time_does_not_wrap_around() {
    assert_eq!(Remediation::propose(proposal(), &agent(), Timestamp::MAX).record.expires_at, Timestamp::MAX);
}

#[test]
fn a_proposal_is_told_without_its_descriptions_which_lie_beside_the_record() {
    let now = at("2024-04-01T14:35:00.999999Z");
    let change = Remediation::propose(proposal(), &agent(), now);
    let data = with_ids(json!({
        "incidentTitle": "Checkout answers 503",
        "title": "Scale the connection pool",
        "stepCount": 3,
        "requiresApproval": true,
        "proposedAt": PROPOSED,
        "expiresAt": EXPIRES,
    }));
    check_entry(only(&change.entries), "remediation.proposed", EntryClass::Public, &agent(), now, data);
    let [(name, body)] = items(&change)[..] else { panic!("{change:?}") };
    assert_eq!((INPUT, name), ("@input", "@input"));
    assert_eq!(serde_json::from_str::<Input>(body).unwrap(), Input { steps: proposal().steps });
    for text in [serde_json::to_string(&change.record).unwrap(), serde_json::to_string(&change.entries).unwrap()] {
        assert!(!text.contains("roll out"), "{text}");
    }
}

#[test]
fn one_that_needs_no_approval_is_executing_at_once_and_has_neither_approval_nor_deadline() {
    let change = Remediation::propose(Propose { requires_approval: false, ..proposal() }, &agent(), at(PROPOSED));
    let State::Executing { approval: None } = change.record.state else { panic!("{change:?}") };
    assert!(!change.record.requires_approval());
    assert_eq!(change.record.approval_id(), None);
    assert_eq!(change.record.deadline(), None);
    assert_eq!(change.record.answered(), None);
    let data = json!({
        "approvalId": null,
        "remediationId": REMEDIATION,
        "incidentId": INCIDENT,
        "incidentTitle": "Checkout answers 503",
        "title": "Scale the connection pool",
        "stepCount": 3,
        "requiresApproval": false,
        "proposedAt": PROPOSED,
        "expiresAt": null,
    });
    check_entry(only(&change.entries), "remediation.proposed", EntryClass::Public, &agent(), at(PROPOSED), data);
}

#[test]
fn each_answer_is_recorded_with_who_gave_it_when_and_why() {
    let now = at("2024-04-01T14:36:00.123456Z");
    for (decision, word, name) in
        [(Decision::Approve, "approve", "remediation.approved"), (Decision::Reject, "reject", "remediation.rejected")]
    {
        for notes in [None, Some("confirmed with DBA".to_owned())] {
            let asked = Respond { decision, notes: notes.clone() };
            let change = changed(proposed().respond(&asked, &admin(), now).unwrap());
            let answered = Answered { by: admin(), at: now, notes: notes.clone() };
            let state = match decision {
                Decision::Approve => State::Executing { approval: Some(answered.clone()) },
                Decision::Reject => State::Rejected(answered.clone()),
            };
            assert_eq!(change.record, Remediation { state, ..proposed() });
            assert_eq!(change.record.answered(), Some((decision, &answered)));
            assert_eq!(items(&change), []);
            let data = with_ids(json!({
                "decision": word,
                "decidedBy": "user_01HX9V",
                "decidedAt": "2024-04-01T14:36:00Z",
                "notes": notes,
            }));
            check_entry(only(&change.entries), name, EntryClass::Public, &admin(), now, data);
        }
    }
}

#[test]
fn of_everything_that_is_wrong_with_an_answer_the_first_in_the_documented_order_is_told() {
    let late = at(EXPIRES) + seconds(3600);
    for decision in DECISIONS {
        for (name, remediation, before, from_then_on) in [
            ("proposed", proposed(), None, Some(Refusal::Expired)),
            ("approved", answered(Decision::Approve), Some(Refusal::AlreadyDecided), Some(Refusal::AlreadyDecided)),
            ("rejected", answered(Decision::Reject), Some(Refusal::AlreadyDecided), Some(Refusal::AlreadyDecided)),
            ("executed", executed(), Some(Refusal::AlreadyDecided), Some(Refusal::AlreadyDecided)),
            ("failed", failed(), Some(Refusal::AlreadyDecided), Some(Refusal::AlreadyDecided)),
            ("expired", expired(), Some(Refusal::Expired), Some(Refusal::Expired)),
            ("unasked", unasked(), Some(Refusal::NeedsNoApproval), Some(Refusal::NeedsNoApproval)),
            (
                "unasked, executed",
                reported(unasked(), &ALL_COMPLETED),
                Some(Refusal::NeedsNoApproval),
                Some(Refusal::NeedsNoApproval),
            ),
            (
                "unasked, failed",
                reported(unasked(), &[("step_3", Progress::Failed)]),
                Some(Refusal::NeedsNoApproval),
                Some(Refusal::NeedsNoApproval),
            ),
        ] {
            for (now, refusal) in [(early(), before), (late, from_then_on)] {
                let found = remediation.respond(&respond(decision), &admin(), now);
                assert_eq!(found.err(), refusal, "{name} {decision:?} {now}");
            }
        }
    }
}

#[test]
fn an_answer_is_in_time_until_the_last_microsecond_before_the_deadline() {
    let deadline = at(EXPIRES);
    for (now, in_time) in [
        // The clocks of two machines differ; an answer is not refused for being early.
        (at(PROPOSED) - microseconds(1), true),
        (at(PROPOSED), true),
        (deadline - seconds(1), true),
        (deadline - microseconds(1), true),
        (deadline, false),
        (deadline + microseconds(1), false),
        (Timestamp::MAX, false),
    ] {
        for decision in DECISIONS {
            let found = proposed().respond(&respond(decision), &admin(), now);
            assert_eq!(found.err(), (!in_time).then_some(Refusal::Expired), "{now}");
        }
        assert_eq!(proposed().status(now), if in_time { Status::Proposed } else { Status::Expired }, "{now}");
        let ticked = proposed().tick(now);
        assert_eq!(ticked == Outcome::Keep, in_time, "{now}");
    }
}

#[test]
fn the_clock_records_that_nobody_answered() {
    let now = at(EXPIRES) + microseconds(250_000);
    let change = changed(proposed().tick(now));
    assert_eq!(change.record, Remediation { state: State::Expired { at: now }, ..proposed() });
    assert_eq!(items(&change), []);
    let data = with_ids(json!({ "expiresAt": EXPIRES }));
    check_entry(only(&change.entries), "remediation.expired", EntryClass::Public, &Actor::Clock, now, data);
}

#[test]
fn the_clock_looks_only_at_what_waits_and_changes_nothing_else() {
    for (status, remediation) in each_state() {
        let waits = status == "proposed";
        assert_eq!(remediation.due(), waits.then(|| at(EXPIRES)), "{status}");
        for now in [at(EXPIRES), Timestamp::MAX] {
            assert_eq!(remediation.tick(now) != Outcome::Keep, waits, "{status}");
        }
    }
}

#[test]
fn the_status_is_the_stored_one_unless_the_deadline_of_a_waiting_one_has_passed() {
    for (status, remediation) in each_state() {
        assert_eq!(remediation.status(early()).as_str(), status);
        let late = if status == "proposed" { "expired" } else { status };
        assert_eq!(remediation.status(Timestamp::MAX).as_str(), late);
    }
}

#[test]
fn a_remediation_is_listed_by_its_stored_status_and_its_incident() {
    for (status, remediation) in each_state() {
        assert_eq!(
            remediation.listing(),
            Listing {
                created_at: at(PROPOSED),
                state: Some(status),
                subject: Some(INCIDENT.to_owned()),
                inbox: None,
                tenant: None,
            }
        );
    }
}

#[test]
fn whether_an_approval_was_needed_and_how_it_was_answered_stays_known_to_the_end() {
    for (remediation, decision) in [
        (answered(Decision::Approve), Decision::Approve),
        (executed(), Decision::Approve),
        (failed(), Decision::Approve),
        (answered(Decision::Reject), Decision::Reject),
    ] {
        let answered = Answered { by: admin(), at: early(), notes: None };
        assert_eq!(remediation.answered(), Some((decision, &answered)));
        assert_eq!(remediation.approval_id().as_deref(), Some(APPROVAL));
    }
    for remediation in [proposed(), expired()] {
        assert_eq!(remediation.answered(), None);
        assert_eq!(remediation.approval_id().as_deref(), Some(APPROVAL));
    }
    for remediation in [unasked(), reported(unasked(), &ALL_COMPLETED)] {
        assert_eq!(remediation.answered(), None);
        assert_eq!(remediation.approval_id(), None);
        assert_eq!(remediation.deadline(), None);
    }
}

/// What a report leads to.
#[derive(Debug)]
enum Leads {
    To(StepState),
    Nowhere,
    Refused,
}

#[test]
fn every_report_on_every_state_of_a_step_does_what_is_documented() {
    use Leads::{Nowhere, Refused, To};
    let now = early() + seconds(2);
    let completed = StepState::Completed { at: now };
    let failed = StepState::Failed { at: now };
    for (before, after_each_report) in [
        (None, [To(StepState::Running), To(completed), To(failed)]),
        (Some(Progress::Running), [Nowhere, To(completed), To(failed)]),
        (Some(Progress::Completed), [Refused, Nowhere, Refused]),
        // With the step the remediation has failed.
        (Some(Progress::Failed), [Refused, Refused, Nowhere]),
    ] {
        for executing in [answered(Decision::Approve), unasked()] {
            let reports: Vec<_> = before.into_iter().map(|progress| ("step_2", progress)).collect();
            let start = reported(executing, &reports);
            for (progress, leads) in REPORTS.into_iter().zip(&after_each_report) {
                let found = start.report(&report("step_2", progress), &agent(), now);
                match leads {
                    Refused => assert_eq!(found, Err(Refusal::InvalidState), "{before:?} {progress:?}"),
                    Nowhere => assert_eq!(found, Ok(Outcome::Keep), "{before:?} {progress:?}"),
                    To(state) => {
                        let steps = changed(found.unwrap()).record.steps;
                        assert_eq!(steps[1], Step { number: 2, state: *state, output: None });
                        assert_eq!([steps[0], steps[2]], [start.steps[0], start.steps[2]]);
                    }
                }
            }
        }
    }
}

#[test]
fn after_the_end_each_step_may_only_be_reported_as_it_was() {
    let begun = [("step_1", Progress::Running), ("step_2", Progress::Completed), ("step_3", Progress::Failed)];
    let ended = reported(answered(Decision::Approve), &begun);
    for (step_id, last) in begun {
        for progress in REPORTS {
            let found = ended.report(&report(step_id, progress), &agent(), early());
            let expected = if progress == last { Ok(Outcome::Keep) } else { Err(Refusal::InvalidState) };
            assert_eq!(found, expected, "{step_id} {progress:?}");
        }
    }
}

#[test]
fn no_step_begins_or_ends_unless_the_remediation_is_executing() {
    for (status, remediation) in each_state() {
        let executing = status == "executing";
        for now in [early(), at(EXPIRES), Timestamp::MAX] {
            for progress in REPORTS {
                let found = remediation.report(&report("step_3", progress), &agent(), now);
                // That the third step is completed may be said again.
                let again = status == "executed" && progress == Progress::Completed;
                assert_eq!(found.is_ok(), executing || again, "{status} {progress:?}");
                if let Err(refusal) = found {
                    assert_eq!(refusal, Refusal::InvalidState);
                }
            }
        }
    }
}

#[test]
fn a_step_that_does_not_exist_is_not_found_before_anything_else_is_looked_at() {
    for (status, remediation) in each_state() {
        for step_id in ["step_0", "step_4", "step_01", "step_+1", "step_1 ", "STEP_1", "step_", "1", ""] {
            for progress in REPORTS {
                let found = remediation.report(&report(step_id, progress), &agent(), early());
                assert_eq!(found, Err(Refusal::StepNotFound), "{status} {step_id}");
            }
        }
    }
}

#[test]
fn steps_are_numbered_from_one_in_the_order_of_the_proposal() {
    let steps = vec!["again".to_owned(); MAX_STEPS];
    let record = Remediation::propose(Propose { steps, ..proposal() }, &agent(), at(PROPOSED)).record;
    let ids: Vec<_> = record.steps.iter().map(Step::id).collect();
    assert_eq!(ids.len(), 50);
    assert_eq!([&ids[0], &ids[1], &ids[8], &ids[9], &ids[49]], ["step_1", "step_2", "step_9", "step_10", "step_50"]);
}

#[test]
fn each_report_is_kept_in_the_audit_log_only() {
    let now = at("2024-04-01T14:37:00.5Z");
    for (progress, name) in
        [(Progress::Running, "remediation.step_running"), (Progress::Completed, "remediation.step_completed")]
    {
        for (approval_id, remediation) in [(Some(APPROVAL), answered(Decision::Approve)), (None, unasked())] {
            for output in [None, Some("3/3 tasks replaced".to_owned())] {
                let told = Report { output: output.clone(), ..report("step_2", progress) };
                let change = changed(remediation.report(&told, &agent(), now).unwrap());
                let mut data = with_ids(json!({ "stepId": "step_2", "hasOutput": output.is_some() }));
                data["approvalId"] = json!(approval_id);
                check_entry(only(&change.entries), name, EntryClass::Audit, &agent(), now, data);
                assert_eq!(change.record.state, remediation.state);
            }
        }
    }
}

#[test]
fn the_completion_of_the_last_step_in_any_order_executes_the_remediation() {
    let now = at("2024-04-01T14:37:30.75Z");
    for order in [["step_1", "step_2", "step_3"], ["step_3", "step_1", "step_2"], ["step_2", "step_3", "step_1"]] {
        let [first, second, last] = order;
        let before = reported(
            answered(Decision::Approve),
            &[(first, Progress::Completed), (last, Progress::Running), (second, Progress::Completed)],
        );
        assert_eq!(before.status(now), Status::Executing);
        let change = changed(before.report(&report(last, Progress::Completed), &agent(), now).unwrap());
        let approval = Some(Answered { by: admin(), at: early(), notes: None });
        assert_eq!(change.record.state, State::Executed { approval, at: now });
        let [step, event] = &change.entries[..] else { panic!("{change:?}") };
        let data = with_ids(json!({ "stepId": last, "hasOutput": false }));
        check_entry(step, "remediation.step_completed", EntryClass::Audit, &agent(), now, data);
        let data = with_ids(json!({ "executedAt": "2024-04-01T14:37:30Z" }));
        check_entry(event, "remediation.executed", EntryClass::Public, &agent(), now, data);
    }
}

#[test]
fn the_first_failure_fails_the_remediation_whatever_the_other_steps_do() {
    let now = at("2024-04-01T14:37:30.75Z");
    for before in [
        &[][..],
        &[("step_2", Progress::Running)],
        &[("step_1", Progress::Running), ("step_3", Progress::Running)],
        &[("step_1", Progress::Completed), ("step_3", Progress::Completed)],
    ] {
        let before = reported(answered(Decision::Approve), before);
        let change = changed(before.report(&report("step_2", Progress::Failed), &agent(), now).unwrap());
        let approval = Some(Answered { by: admin(), at: early(), notes: None });
        assert_eq!(change.record.state, State::Failed { approval, at: now });
        let [step, event] = &change.entries[..] else { panic!("{change:?}") };
        let data = with_ids(json!({ "stepId": "step_2", "hasOutput": false }));
        check_entry(step, "remediation.step_failed", EntryClass::Audit, &agent(), now, data);
        let data = with_ids(json!({ "stepId": "step_2", "failedAt": "2024-04-01T14:37:30Z" }));
        check_entry(event, "remediation.failed", EntryClass::Public, &agent(), now, data);
    }
}

#[test]
fn when_it_was_executed_is_known_of_an_executed_one_only() {
    for (status, remediation) in each_state() {
        assert_eq!(remediation.executed_at().is_some(), status == "executed", "{status}");
    }
    assert_eq!(executed().executed_at(), Some(early() + seconds(3)));
}

#[test]
fn one_that_needed_no_approval_ends_with_none() {
    let now = early() + seconds(3);
    let executed = reported(unasked(), &ALL_COMPLETED);
    assert_eq!(executed.state, State::Executed { approval: None, at: now });
    let change = changed(unasked().report(&report("step_1", Progress::Failed), &agent(), now).unwrap());
    assert_eq!(change.record.state, State::Failed { approval: None, at: now });
    assert_eq!(change.entries[1].data["approvalId"], json!(null));
}

#[test]
fn each_output_is_written_once_beside_the_record_under_its_step_and_report() {
    let some = |text: &str| Some(text.to_owned());
    let now = early();
    for last in [Progress::Completed, Progress::Failed] {
        for (running, end, written, shown) in [
            (None, None, &[][..], None),
            (some("begun"), None, &[("output#02.running", "begun")][..], Some("output#02.running")),
            (None, some("done"), &[("output#02", "done")][..], Some("output#02")),
            (
                some("begun"),
                some("done"),
                &[("output#02.running", "begun"), ("output#02", "done")][..],
                Some("output#02"),
            ),
            (some("begun"), some(""), &[("output#02.running", "begun"), ("output#02", "")][..], Some("output#02")),
        ] {
            let begun = Report { output: running, ..report("step_2", Progress::Running) };
            let begun = changed(unasked().report(&begun, &agent(), now).unwrap());
            let ended = Report { output: end, ..report("step_2", last) };
            let ended = changed(begun.record.report(&ended, &agent(), now).unwrap());
            let all: Vec<_> = items(&begun).into_iter().chain(items(&ended)).collect();
            assert_eq!(all, written);
            assert_eq!(ended.record.steps[1].output_item().as_deref(), shown);
            // What comes with a repeated report is dropped.
            for (record, progress) in [(&begun.record, Progress::Running), (&ended.record, last)] {
                let again = Report { output: some("again"), ..report("step_2", progress) };
                assert_eq!(record.report(&again, &agent(), now), Ok(Outcome::Keep));
            }
        }
    }
}

#[test]
fn the_items_of_outputs_sort_as_the_steps_do() {
    let steps = vec!["again".to_owned(); MAX_STEPS];
    let proposal = Propose { steps, requires_approval: false, ..proposal() };
    let record = Remediation::propose(proposal, &agent(), at(PROPOSED)).record;
    let names: Vec<_> = (1..=MAX_STEPS)
        .map(|number| {
            let told = Report { output: Some(String::new()), ..report(&format!("step_{number}"), Progress::Completed) };
            let change = changed(record.report(&told, &agent(), early()).unwrap());
            items(&change)[0].0.to_owned()
        })
        .collect();
    assert!(names.is_sorted(), "{names:?}");
    assert_eq!([&names[0], &names[9], &names[49]], ["output#01", "output#10", "output#50"]);
}

/// The largest of everything, all in characters of four bytes: what is said by a caller whose token is as long as
/// tokens may be.
fn largest() -> (Propose, Actor) {
    let text = |characters| "\u{10ffff}".repeat(characters);
    let propose = Propose {
        tenant: "t".repeat(128).parse().unwrap(),
        incident_id: "i".repeat(64).parse().unwrap(),
        incident_title: text(MAX_TITLE),
        title: text(MAX_TITLE),
        steps: vec![text(MAX_DESCRIPTION); MAX_STEPS],
        ..proposal()
    };
    (propose, Actor::User { issuer: text(1024), subject: text(1024) })
}

#[test]
fn the_largest_remediation_stays_a_small_record_to_its_end() {
    const LIMIT: usize = 64 * 1024;
    let (propose, actor) = largest();
    let now = at("2024-04-01T14:35:00.123456789Z");
    let mut change = Remediation::propose(propose, &actor, now);
    let mut sizes = Vec::new();
    let mut measure = |change: &Change<Remediation>| {
        for with in items(change) {
            assert!(with.0 == INPUT || with.1.len() == 4 * MAX_OUTPUT, "{}", with.0);
        }
        let record = serde_json::to_string(&change.record).unwrap().len();
        let entries = serde_json::to_string(&change.entries).unwrap().len();
        assert!(record < LIMIT && entries < LIMIT, "{record} {entries}");
        sizes.push(record);
    };
    measure(&change);
    let approve = Respond { decision: Decision::Approve, notes: Some("\u{10ffff}".repeat(MAX_NOTES)) };
    change = changed(change.record.respond(&approve, &actor, now).unwrap());
    measure(&change);
    for number in 1..=MAX_STEPS {
        for progress in [Progress::Running, Progress::Completed] {
            let told =
                Report { step_id: format!("step_{number}"), progress, output: Some("\u{10ffff}".repeat(MAX_OUTPUT)) };
            change = changed(change.record.report(&told, &actor, now).unwrap());
            measure(&change);
        }
    }
    assert_eq!(change.record.status(now), Status::Executed);
    assert!(sizes.is_sorted(), "nothing is lost on the way: {sizes:?}");
    // Room for what a later version may have to add.
    assert!(*sizes.last().unwrap() < LIMIT / 2, "{sizes:?}");
}

#[test]
fn the_largest_descriptions_fit_into_an_item() {
    // DynamoDB's limit of an item is 400 KB, names, key and hash included.
    let (propose, actor) = largest();
    let change = Remediation::propose(propose, &actor, early());
    let [(_, body)] = items(&change)[..] else { panic!("no input") };
    assert!(body.len() < 400 * 1024 - 2048, "{}", body.len());
}

#[test]
fn every_state_survives_being_stored() {
    for (status, remediation) in each_state() {
        let stored = serde_json::to_string(&remediation).unwrap();
        assert_eq!(serde_json::from_str::<Remediation>(&stored).unwrap(), remediation, "{status} {stored}");
    }
}

#[test]
fn a_stored_remediation_looks_as_it_always_did() {
    let told = Report { output: Some("3/3".to_owned()), ..report("step_2", Progress::Failed) };
    let running = reported(answered(Decision::Approve), &[("step_1", Progress::Running)]);
    let record = changed(running.report(&told, &agent(), at("2024-04-01T14:37:00Z")).unwrap()).record;
    let by = json!({ "kind": "user", "issuer": "https://login.example.com", "subject": "user_01HX9V" });
    let answered_so = json!({ "by": by, "at": "2024-04-01T14:36:00.25Z", "notes": null });
    assert_eq!(
        serde_json::to_value(&record).unwrap(),
        json!({
            "id": ULID,
            "tenant": "acme",
            "incident_id": INCIDENT,
            "incident_title": "Checkout answers 503",
            "title": "Scale the connection pool",
            "proposed_at": PROPOSED,
            "expires_at": EXPIRES,
            "steps": [
                { "number": 1, "state": { "is": "running" }, "output": null },
                { "number": 2, "state": { "is": "failed", "at": "2024-04-01T14:37:00Z" }, "output": "failed" },
                { "number": 3, "state": { "is": "pending" }, "output": null },
            ],
            "state": { "is": "failed", "approval": answered_so, "at": "2024-04-01T14:37:00Z" },
        })
    );
    for (remediation, state) in [
        (proposed(), json!({ "is": "proposed" })),
        (unasked(), json!({ "is": "executing", "approval": null })),
        (answered(Decision::Approve), json!({ "is": "executing", "approval": answered_so })),
        (executed(), json!({ "is": "executed", "approval": answered_so, "at": "2024-04-01T14:36:03.25Z" })),
        (
            answered(Decision::Reject),
            json!({ "is": "rejected", "by": by, "at": "2024-04-01T14:36:00.25Z", "notes": null }),
        ),
        (expired(), json!({ "is": "expired", "at": EXPIRES })),
    ] {
        assert_eq!(serde_json::to_value(&remediation.state).unwrap(), state);
    }
}

#[test]
fn a_stored_remediation_with_ill_formed_text_is_not_read() {
    let stored = serde_json::to_value(failed()).unwrap();
    for (pointer, value) in [
        ("/id", REMEDIATION),
        ("/id", "01hx9vtpqr3kf8mzwbyd5n6jce"),
        ("/tenant", "a#b"),
        ("/incident_id", "a b"),
        ("/incident_id", ""),
        ("/expires_at", "never"),
        ("/state/is", "approved"),
        ("/steps/0/state/is", "waiting"),
        ("/steps/0/output", "pending"),
    ] {
        let mut changed = stored.clone();
        *changed.pointer_mut(pointer).unwrap() = value.into();
        assert!(serde_json::from_value::<Remediation>(changed).is_err(), "{pointer} = {value}");
    }
}

#[test]
fn a_remediation_and_its_approval_share_their_ulid() {
    let id: RemediationId = ULID.parse().unwrap();
    assert_eq!((id.as_str(), id.remediation().as_str(), id.approval().as_str()), (ULID, REMEDIATION, APPROVAL));
    assert_eq!(RemediationId::of_remediation(REMEDIATION), Some(id.clone()));
    assert_eq!(RemediationId::of_approval(APPROVAL), Some(id));
    assert_eq!(RemediationId::of_remediation(APPROVAL), None);
    assert_eq!(RemediationId::of_approval(REMEDIATION), None);
}

#[test]
fn only_one_spelling_of_a_ulid_is_one() {
    for ulid in ["00000000000000000000000000", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "0123456789ABCDEFGHJKMNPQRS", ULID] {
        let id: RemediationId = ulid.parse().unwrap();
        assert_eq!(id.as_str(), ulid);
        assert_eq!(serde_json::to_value(&id).unwrap(), json!(ulid));
        assert_eq!(RemediationId::of_remediation(&format!("rem_{ulid}")), Some(id.clone()));
        assert_eq!(RemediationId::of_approval(&format!("apr_{ulid}")), Some(id));
    }
    for text in [
        "",
        "01HX9VTPQR3KF8MZWBYD5N6JC",
        "01HX9VTPQR3KF8MZWBYD5N6JCEE",
        "01hx9vtpqr3kf8mzwbyd5n6jce",
        "01HX9VTPQR3KF8MZWBYD5N6JCe",
        "81HX9VTPQR3KF8MZWBYD5N6JCE",
        "Z1HX9VTPQR3KF8MZWBYD5N6JCE",
        "01HX9VTPQR3KF8MZWBYD5N6JCI",
        "01HX9VTPQR3KF8MZWBYD5N6JCL",
        "01HX9VTPQR3KF8MZWBYD5N6JCO",
        "01HX9VTPQR3KF8MZWBYD5N6JCU",
        " 1HX9VTPQR3KF8MZWBYD5N6JCE",
        "01HX9VTPQR3KF8MZWBYD5N6JC ",
        "01HX9VTPQR3KF8MZWBYD5N6JC\n",
        "01HX9VTPQR3KF8MZWBYD5N6J-E",
        "01HX9VTPQR3KF8MZWBYD5N6Jé",
        REMEDIATION,
        APPROVAL,
    ] {
        assert_eq!(text.parse::<RemediationId>(), Err(InvalidRemediationId), "{text:?}");
        assert_eq!(RemediationId::of_remediation(&format!("rem_{text}")), None, "{text:?}");
        assert_eq!(RemediationId::of_approval(&format!("apr_{text}")), None, "{text:?}");
        assert!(serde_json::from_value::<RemediationId>(json!(text)).is_err(), "{text:?}");
    }
    for id in [ULID, "REM_01HX9VTPQR3KF8MZWBYD5N6JCE", "rem-01HX9VTPQR3KF8MZWBYD5N6JCE", " rem_", "rem", "_"] {
        assert_eq!(RemediationId::of_remediation(id), None, "{id:?}");
        assert_eq!(RemediationId::of_approval(id), None, "{id:?}");
    }
}

#[test]
fn ids_are_made_of_a_number_and_sort_as_it_does() {
    for (number, ulid) in [
        (0, "00000000000000000000000000"),
        (1, "00000000000000000000000001"),
        (31, "0000000000000000000000000Z"),
        (32, "00000000000000000000000010"),
        // Seen in the specification of ULIDs: the first and the last of a millisecond, then the very last one.
        (1_469_918_176_385 << 80, "01ARYZ6S410000000000000000"),
        ((1_469_918_176_386 << 80) - 1, "01ARYZ6S41ZZZZZZZZZZZZZZZZ"),
        (u128::MAX, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"),
    ] {
        assert_eq!(RemediationId::new(number), ulid.parse().unwrap());
        let incident = IncidentId::new(number);
        assert_eq!(incident.to_string(), format!("inc_{ulid}"));
        assert_eq!(incident.as_str().parse(), Ok(incident));
    }
}

#[test]
fn incident_ids_within_the_grammar_are_taken_as_they_stand() {
    for id in ["i", "0", ".", "_", ":", "-", "INC-1", "inc-1", INCIDENT, &"x".repeat(64)] {
        let parsed: IncidentId = id.parse().unwrap();
        assert_eq!(parsed.as_str(), id);
        assert_eq!(serde_json::to_value(&parsed).unwrap(), json!(id));
        assert_eq!(serde_json::from_value::<IncidentId>(json!(id)).unwrap(), parsed);
    }
}

#[test]
fn incident_ids_outside_the_grammar_are_refused() {
    let (long, wide) = ("x".repeat(65), "ä".repeat(32));
    let taken = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-";
    let characters: Vec<_> = ('\0'..='\u{2ff}').filter(|&c| !taken.contains(c)).map(|c| format!("a{c}")).collect();
    for id in ["", &long, &wide].into_iter().chain(characters.iter().map(String::as_str)) {
        assert_eq!(id.parse::<IncidentId>(), Err(InvalidIncidentId), "{id:?}");
        assert!(serde_json::from_value::<IncidentId>(json!(id)).is_err(), "{id:?}");
    }
}

#[test]
fn an_answer_is_told_with_the_name_of_whoever_gave_it() {
    let change = changed(proposed().respond(&respond(Decision::Reject), &operator(), early()).unwrap());
    assert_eq!(change.entries[0].data["decidedBy"], "arn:aws:iam::123456789012:role/remediation");
}
