//! What holds for a remediation whatever is asked of it, in whatever order and at whatever times; told apart from the
//! rules by a model that is as plain as the documentation.

use crate::remediation::{admin, proposal};
use crate::{at, microseconds};
use countersign_domain::remediation::{
    Decision, Progress, Propose, Refusal, Remediation, Report, Respond, State, Status, StepState,
};
use countersign_domain::{Actor, Entry, EntryClass, Outcome, Record, Timestamp, With};
use proptest::prelude::*;
use std::collections::HashMap;

const TIMEOUT_MINUTES: i64 = 5;
const LARGEST: usize = 10_000;

/// What a history begins with.
#[derive(Clone, Copy, Debug)]
struct Start {
    steps: usize,
    requires_approval: bool,
}

impl Start {
    fn propose(self) -> Remediation {
        let propose = Propose {
            steps: vec!["a step".to_owned(); self.steps],
            timeout_minutes: TIMEOUT_MINUTES,
            requires_approval: self.requires_approval,
            ..proposal()
        };
        Remediation::propose(propose, &admin(), at("2026-11-21T03:38:50.9Z")).record
    }
}

#[derive(Clone, Debug)]
enum Command {
    Respond(Respond),
    Report(Report),
    Tick,
}

/// Seldom as large as it may be, so that two that found their way into a record would show.
fn output() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        4 => Just(None),
        3 => "[a-z]{0,3}".prop_map(Some),
        1 => Just(Some("\u{10ffff}".repeat(LARGEST))),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let decision = prop_oneof![2 => Just(Decision::Approve), 1 => Just(Decision::Reject)];
    let respond = (decision, proptest::option::of("[a-z]{0,3}"))
        .prop_map(|(decision, notes)| Command::Respond(Respond { decision, notes }));
    // A failure ends everything: rare, so that longer histories are seen.
    let progress =
        prop_oneof![6 => Just(Progress::Running), 8 => Just(Progress::Completed), 1 => Just(Progress::Failed)];
    let report = (0..=5_usize, progress, output()).prop_map(|(number, progress, output)| {
        Command::Report(Report { step_id: format!("step_{number}"), progress, output })
    });
    prop_oneof![2 => respond, 8 => report, 1 => Just(Command::Tick)]
}

/// Any time from before the proposal to after the deadline, the very deadline more often than chance would have it.
fn time() -> impl Strategy<Value = Timestamp> {
    const LIFE: i64 = TIMEOUT_MINUTES * 60_000_000;
    let deadline = Start { steps: 1, requires_approval: true }.propose().expires_at;
    prop_oneof![6 => -2 * LIFE..LIFE, 1 => -2_i64..=2].prop_map(move |offset| deadline + microseconds(offset))
}

/// One command, with the remediation before and after it.
#[derive(Debug)]
struct Moment {
    command: Command,
    now: Timestamp,
    before: Remediation,
    result: Result<Vec<Entry>, Refusal>,
    items: Vec<(String, String)>,
    after: Remediation,
}

impl Moment {
    fn entries(&self) -> &[Entry] {
        self.result.as_deref().unwrap_or_default()
    }
}

#[derive(Debug)]
struct History {
    start: Start,
    moments: Vec<Moment>,
}

impl History {
    fn events(&self) -> Vec<&str> {
        let entries = self.moments.iter().flat_map(Moment::entries);
        entries.filter(|entry| entry.class == EntryClass::Public).map(|entry| entry.name.as_str()).collect()
    }

    fn last(&self) -> &Remediation {
        &self.moments.last().unwrap().after
    }
}

/// Times are drawn for each command alone: they go back as well as forth.
fn history() -> impl Strategy<Value = History> {
    let start = (1..=4_usize, any::<bool>()).prop_map(|(steps, requires_approval)| Start { steps, requires_approval });
    (start, proptest::collection::vec((command(), time()), 1..40)).prop_map(|(start, commands)| {
        let mut remediation = start.propose();
        let moments = commands.into_iter().map(|(command, now)| moment(&mut remediation, command, now)).collect();
        History { start, moments }
    })
}

fn moment(remediation: &mut Remediation, command: Command, now: Timestamp) -> Moment {
    let before = remediation.clone();
    let outcome = match &command {
        Command::Respond(respond) => remediation.respond(respond, &admin(), now),
        Command::Report(report) => remediation.report(report, &admin(), now),
        Command::Tick => Ok(remediation.tick(now)),
    };
    let mut items = Vec::new();
    let result = outcome.map(|outcome| match outcome {
        Outcome::Keep => vec![],
        Outcome::Change(change) => {
            // Every command meets the remediation as it was stored.
            let stored = serde_json::to_string(&change.record).unwrap();
            *remediation = serde_json::from_str(&stored).unwrap();
            assert_eq!(*remediation, change.record);
            items.extend(change.with.into_iter().map(|with| match with {
                With::Item { name, body } => (name, body),
                With::Born { .. } | With::Pointer(_) => panic!("only items are written"),
            }));
            change.entries
        }
    });
    Moment { command, now, before, result, items, after: remediation.clone() }
}

/// The documentation once more, in words instead of states.
struct Model {
    requires_approval: bool,
    deadline: Timestamp,
    decision: Option<Decision>,
    expired: bool,
    steps: Vec<(&'static str, Option<String>)>,
}

impl Model {
    fn new(start: Start, deadline: Timestamp) -> Self {
        let steps = vec![("pending", None); start.steps];
        Self { requires_approval: start.requires_approval, deadline, decision: None, expired: false, steps }
    }

    fn status(&self) -> &'static str {
        match (self.requires_approval, self.decision, self.expired) {
            (true, Some(Decision::Reject), _) => "rejected",
            (true, None, true) => "expired",
            (true, None, false) => "proposed",
            (true, Some(Decision::Approve), _) | (false, ..) => {
                if self.steps.iter().any(|step| step.0 == "failed") {
                    "failed"
                } else if self.steps.iter().all(|step| step.0 == "completed") {
                    "executed"
                } else {
                    "executing"
                }
            }
        }
    }

    /// The names of the entries that a command leads to.
    fn apply(&mut self, command: &Command, now: Timestamp) -> Result<Vec<&'static str>, Refusal> {
        match command {
            Command::Respond(_) if !self.requires_approval => Err(Refusal::NeedsNoApproval),
            Command::Respond(_) if self.decision.is_some() => Err(Refusal::AlreadyDecided),
            Command::Respond(_) if self.expired || now >= self.deadline => Err(Refusal::Expired),
            Command::Respond(respond) => {
                self.decision = Some(respond.decision);
                Ok(vec![match respond.decision {
                    Decision::Approve => "remediation.approved",
                    Decision::Reject => "remediation.rejected",
                }])
            }
            Command::Tick if self.status() == "proposed" && now >= self.deadline => {
                self.expired = true;
                Ok(vec!["remediation.expired"])
            }
            Command::Tick => Ok(vec![]),
            Command::Report(report) => self.report(report),
        }
    }

    fn report(&mut self, report: &Report) -> Result<Vec<&'static str>, Refusal> {
        let executing = self.status() == "executing";
        let number: usize = report.step_id["step_".len()..].parse().unwrap();
        let step = number.checked_sub(1).and_then(|index| self.steps.get_mut(index)).ok_or(Refusal::StepNotFound)?;
        let (state, name) = match report.progress {
            Progress::Running => ("running", "remediation.step_running"),
            Progress::Completed => ("completed", "remediation.step_completed"),
            Progress::Failed => ("failed", "remediation.step_failed"),
        };
        if step.0 == state {
            return Ok(vec![]);
        }
        let ended = ["completed", "failed"].contains(&step.0);
        if ended || !executing {
            return Err(Refusal::InvalidState);
        }
        step.0 = state;
        if report.output.is_some() {
            step.1.clone_from(&report.output);
        }
        Ok(match self.status() {
            "executed" => vec![name, "remediation.executed"],
            "failed" => vec![name, "remediation.failed"],
            _ => vec![name],
        })
    }
}

proptest! {
    #[test]
    fn every_command_does_exactly_what_the_documentation_says(history in history()) {
        let deadline = history.moments[0].before.expires_at;
        let mut model = Model::new(history.start, deadline);
        for moment in &history.moments {
            let expected = model.apply(&moment.command, moment.now);
            let found = moment.result.as_ref().map_err(|refusal| *refusal);
            let found = found.map(|entries| entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>());
            prop_assert_eq!(found, expected, "{:?}", moment);
            prop_assert_eq!(moment.after.listing().state, Some(model.status()));
            let steps: Vec<_> = moment.after.steps.iter().map(|step| step.state.as_str()).collect();
            let expected: Vec<_> = model.steps.iter().map(|step| step.0).collect();
            prop_assert_eq!(steps, expected);
        }
    }

    #[test]
    fn at_most_one_answer_is_ever_recorded_and_none_at_or_after_the_deadline(history in history()) {
        let is_answer = |moment: &&Moment| matches!(moment.command, Command::Respond(_)) && moment.result.is_ok();
        let answers: Vec<_> = history.moments.iter().filter(is_answer).collect();
        prop_assert!(answers.len() <= 1);
        prop_assert_eq!(history.last().answered().is_some(), answers.len() == 1);
        for moment in answers {
            prop_assert!(moment.now < moment.before.expires_at);
            let Command::Respond(respond) = &moment.command else { unreachable!() };
            let (decision, answered) = history.last().answered().unwrap();
            prop_assert_eq!((decision, answered.at, &answered.notes), (respond.decision, moment.now, &respond.notes));
            prop_assert_eq!(&answered.by, &admin());
        }
    }

    #[test]
    fn every_answer_that_comes_in_time_to_a_waiting_remediation_is_recorded(history in history()) {
        for moment in &history.moments {
            if let Command::Respond(_) = moment.command && moment.before.status(moment.now) == Status::Proposed {
                prop_assert!(moment.result.is_ok(), "{moment:?}");
            }
        }
    }

    #[test]
    fn an_ended_remediation_stays_as_it_is_for_ever(history in history()) {
        for moment in &history.moments {
            match moment.before.state {
                State::Proposed | State::Executing { .. } => continue,
                State::Executed { .. } | State::Failed { .. } | State::Rejected(_) | State::Expired { .. } => {}
            }
            prop_assert_eq!(&moment.after, &moment.before);
            prop_assert_eq!(moment.entries(), []);
        }
    }

    #[test]
    fn what_is_refused_or_repeated_changes_and_writes_nothing(history in history()) {
        for moment in history.moments.iter().filter(|moment| moment.entries().is_empty()) {
            prop_assert_eq!(&moment.after, &moment.before);
            prop_assert_eq!(&moment.items, &[]);
        }
    }

    #[test]
    fn every_change_is_one_that_can_be_seen_in_the_record(history in history()) {
        for moment in history.moments.iter().filter(|moment| !moment.entries().is_empty()) {
            prop_assert_ne!(&moment.after, &moment.before);
        }
    }

    #[test]
    fn nothing_but_the_state_and_the_steps_of_a_remediation_ever_changes(history in history()) {
        let first = history.start.propose();
        for moment in &history.moments {
            let (state, steps) = (first.state.clone(), first.steps.clone());
            prop_assert_eq!(Remediation { state, steps, ..moment.after.clone() }, first.clone());
            prop_assert_eq!(moment.after.requires_approval(), history.start.requires_approval);
        }
    }

    #[test]
    fn a_remediation_is_executed_if_and_only_if_all_of_its_steps_are_completed(history in history()) {
        for Moment { after, .. } in &history.moments {
            let all = after.steps.iter().all(|step| matches!(step.state, StepState::Completed { .. }));
            let any_failed = after.steps.iter().any(|step| matches!(step.state, StepState::Failed { .. }));
            prop_assert_eq!(matches!(after.state, State::Executed { .. }), all);
            prop_assert_eq!(matches!(after.state, State::Failed { .. }), any_failed);
        }
    }

    #[test]
    fn no_step_begins_without_an_approval_where_one_is_needed(history in history()) {
        for Moment { after, .. } in &history.moments {
            let begun = after.steps.iter().any(|step| step.state != StepState::Pending);
            let approved = after.answered().is_some_and(|(decision, _)| decision == Decision::Approve);
            prop_assert!(!begun || approved || !history.start.requires_approval);
        }
    }

    #[test]
    fn the_events_tell_the_story_that_the_states_tell(history in history()) {
        let story = match (&history.last().state, history.start.requires_approval) {
            (State::Proposed, _) | (State::Executing { .. }, false) => &[][..],
            (State::Executing { .. }, true) => &["remediation.approved"],
            (State::Executed { .. }, true) => &["remediation.approved", "remediation.executed"],
            (State::Executed { .. }, false) => &["remediation.executed"],
            (State::Failed { .. }, true) => &["remediation.approved", "remediation.failed"],
            (State::Failed { .. }, false) => &["remediation.failed"],
            (State::Rejected(_), _) => &["remediation.rejected"],
            (State::Expired { .. }, _) => &["remediation.expired"],
        };
        prop_assert_eq!(history.events(), story);
    }

    #[test]
    fn every_entry_says_who_did_it_when_and_to_what(history in history()) {
        for moment in &history.moments {
            for entry in moment.entries() {
                let by_clock = matches!(moment.command, Command::Tick);
                prop_assert_eq!(&entry.actor, if by_clock { &Actor::Clock } else { &admin() });
                prop_assert_eq!(entry.at, moment.now);
                let approval_id = moment.before.approval_id();
                prop_assert_eq!(entry.data["approvalId"].as_str(), approval_id.as_deref());
                prop_assert_eq!(entry.data["remediationId"].as_str(), Some(entry.subject.id.as_str()));
                prop_assert_eq!(entry.data["incidentId"].as_str(), Some(moment.before.incident_id.as_str()));
            }
        }
    }

    #[test]
    fn every_output_is_written_once_and_the_latest_is_found_under_the_name_that_its_step_gives(history in history()) {
        let mut model = Model::new(history.start, history.moments[0].before.expires_at);
        let mut table = HashMap::new();
        for moment in &history.moments {
            let _ = model.apply(&moment.command, moment.now);
            for (name, body) in &moment.items {
                prop_assert!(table.insert(name.clone(), body.clone()).is_none(), "{name} is written twice");
            }
            for (step, expected) in moment.after.steps.iter().zip(&model.steps) {
                let shown = step.output_item().map(|name| &table[&name]);
                prop_assert_eq!(shown, expected.1.as_ref());
            }
        }
    }

    #[test]
    fn no_output_makes_its_way_into_the_record_or_the_audit_log(history in history()) {
        for moment in &history.moments {
            let record = serde_json::to_string(&moment.after).unwrap();
            let entries = serde_json::to_string(moment.entries()).unwrap();
            prop_assert!(record.len() < 4096 && entries.len() < 4096, "{} {}", record.len(), entries.len());
        }
    }

    #[test]
    fn the_clock_looks_at_a_remediation_exactly_while_time_alone_can_change_it(history in history()) {
        for Moment { after, now, .. } in &history.moments {
            let at_due = after.due().map(|due| after.tick(due));
            let ever = after.tick(Timestamp::MAX);
            prop_assert_eq!(at_due.is_some(), ever != Outcome::Keep);
            prop_assert!(at_due != Some(Outcome::Keep));
            prop_assert_eq!(after.tick(*now) != Outcome::Keep, after.due().is_some_and(|due| *now >= due));
        }
    }
}
