//! What holds for an action whatever is asked of it, in whatever order, by whom and at whatever times, held against a
//! model that is as plain as the documentation.

use crate::action::{approver, human, key, submission};
use crate::actions_policy::rule;
use crate::{at, microseconds};
use countersign_domain::action::{Action, Decision, Doer, Refusal, Report, State, Submission};
use countersign_domain::actions_policy::{ActionsPolicy, Verdict};
use countersign_domain::risk::RiskTable;
use countersign_domain::{Change, Entry, EntryClass, Outcome, Record, Timestamp};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

const SUBMITTED: &str = "2026-11-21T03:38:50.9Z";
const TTL_MINUTES: i64 = 5;

/// What a history begins with.
#[derive(Clone, Debug)]
struct Start {
    score: i64,
    rule: Option<(Verdict, Option<u8>)>,
    forbid_self_approval: bool,
    owner: Option<u64>,
    on_behalf_of: Option<u64>,
}

impl Start {
    fn submit(&self) -> Change<Action> {
        let policy = ActionsPolicy {
            approval_ttl_minutes: TTL_MINUTES,
            forbid_self_approval: self.forbid_self_approval,
            risk: RiskTable {
                base_points: BTreeMap::from([("scored".to_owned(), self.score)]),
                indicator_points: BTreeMap::new(),
            },
            rules: self.rule.into_iter().map(|(then, level)| rule("r", json!(true), then, level)).collect(),
            ..ActionsPolicy::default()
        };
        let submission =
            Submission { action_type: "scored".to_owned(), on_behalf_of: self.on_behalf_of, ..submission() };
        Action::submit(&submission, &policy, &key(self.owner), at(SUBMITTED))
    }
}

fn start() -> impl Strategy<Value = Start> {
    // Most wait for a human; the edges of the tiers are not left to chance.
    let score = prop_oneof![
        1 => 0..30_i64,
        4 => 30..=100_i64,
        2 => prop::sample::select(vec![0, 29, 30, 39, 40, 69, 70, 84, 85, 100]),
    ];
    let asks = (1..=5_u8).prop_map(|level| Some((Verdict::RequireApproval, Some(level))));
    let rule = prop_oneof![
        12 => Just(None),
        3 => asks,
        1 => Just(Some((Verdict::Allow, None))),
        1 => Just(Some((Verdict::Deny, None))),
    ];
    let user = || proptest::option::of(1..=3_u64);
    (score, rule, prop::bool::weighted(0.8), user(), user()).prop_map(
        |(score, rule, forbid_self_approval, owner, on_behalf_of)| Start {
            score,
            rule,
            forbid_self_approval,
            owner,
            on_behalf_of,
        },
    )
}

#[derive(Clone, Debug)]
enum Command {
    Decide { decision: Decision, user: u64, level: u8, reason: Option<String> },
    Cancel(Doer),
    Report(Report, Doer),
    Tick,
}

fn command() -> impl Strategy<Value = Command> {
    let decision = prop_oneof![2 => Just(Decision::Approve), 1 => Just(Decision::Reject)];
    let decide = (decision, 1..=4_u64, 0..=5_u8, proptest::option::of("[a-z]{0,3}"))
        .prop_map(|(decision, user, level, reason)| Command::Decide { decision, user, level, reason });
    let doer =
        || prop_oneof![Just(key(None)), (1..=4_u64).prop_map(|user| key(Some(user))), (1..=4_u64).prop_map(human)];
    let report = (prop_oneof![Just(Report::Completed), Just(Report::Failed)], doer());
    // A cancelled or expired action does nothing any more: rare, so that longer histories are seen.
    prop_oneof![
        10 => decide,
        1 => doer().prop_map(Command::Cancel),
        5 => report.prop_map(|(result, by)| Command::Report(result, by)),
        1 => Just(Command::Tick),
    ]
}

fn deadline() -> Timestamp {
    at("2026-11-21T03:43:50Z")
}

/// Any time from before the submission to after the deadline, the very deadline more often than chance would have it.
fn time() -> impl Strategy<Value = Timestamp> {
    const LIFE: i64 = TTL_MINUTES * 60_000_000;
    prop_oneof![12 => -2 * LIFE..0, 1 => 0..LIFE, 2 => -2_i64..=2].prop_map(|offset| deadline() + microseconds(offset))
}

/// One command, with the action before and after it.
#[derive(Debug)]
struct Step {
    command: Command,
    now: Timestamp,
    before: Action,
    result: Result<Vec<Entry>, Refusal>,
    after: Action,
}

#[derive(Debug)]
struct History {
    start: Start,
    steps: Vec<Step>,
}

impl History {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.steps.iter().filter_map(|step| step.result.as_ref().ok()).flatten()
    }

    fn last(&self) -> &Action {
        &self.steps.last().unwrap().after
    }
}

/// Times are drawn for each command alone: they go back as well as forth.
fn history() -> impl Strategy<Value = History> {
    (start(), proptest::collection::vec((command(), time()), 1..30)).prop_map(|(start, commands)| {
        let mut action = start.submit().record;
        let steps = commands.into_iter().map(|(command, now)| step(&mut action, command, now)).collect();
        History { start, steps }
    })
}

fn step(action: &mut Action, command: Command, now: Timestamp) -> Step {
    let before = action.clone();
    let outcome = match &command {
        Command::Decide { decision, user, level, reason } => {
            action.decide(*decision, reason.clone(), &approver(*user, *level), now)
        }
        Command::Cancel(by) => action.cancel(by, now),
        Command::Report(result, by) => action.report(*result, "{}", by, now),
        Command::Tick => Ok(action.tick(now)),
    };
    let result = outcome.map(|outcome| match outcome {
        Outcome::Keep => vec![],
        Outcome::Change(change) => {
            // Every command meets the action as it was stored.
            let stored = serde_json::to_string(&change.record).unwrap();
            *action = serde_json::from_str(&stored).unwrap();
            assert_eq!(*action, change.record);
            change.entries
        }
    });
    Step { command, now, before, result, after: action.clone() }
}

/// The documentation once more, in words instead of states.
#[derive(Debug)]
struct Model {
    /// The word in sentences.
    word: &'static str,
    report: Option<&'static str>,
    needed: u8,
    cannot_decide: Vec<u64>,
}

impl Model {
    fn new(start: &Start) -> Self {
        let tier = match start.score {
            0..=39 => 1,
            40..=69 => 2,
            70..=84 => 3,
            _ => 4,
        };
        let (word, asked) = match start.rule {
            Some((Verdict::Deny, _)) => ("denied", None),
            Some((Verdict::RequireApproval, level)) => ("pending", level),
            Some((Verdict::Allow, _)) => ("approved", None),
            None if start.score < 30 => ("approved", None),
            None => ("pending", None),
        };
        let asking = [start.owner, start.on_behalf_of].into_iter().flatten();
        let cannot_decide = asking.filter(|_| start.forbid_self_approval).collect();
        Self { word, report: None, needed: tier.max(asked.unwrap_or(0)), cannot_decide }
    }

    fn word_at(&self, now: Timestamp) -> &'static str {
        if self.word == "pending" && now >= deadline() { "timeout" } else { self.word }
    }

    fn status_at(&self, now: Timestamp) -> &'static str {
        if self.word == "cancelled" { "denied" } else { self.word_at(now) }
    }

    fn outcome(&self) -> Option<&'static str> {
        if self.word == "cancelled" { Some("cancelled") } else { self.report }
    }

    /// The names of the event and the audit entry that must come of it.
    fn ask(&mut self, command: &Command, now: Timestamp) -> Result<Vec<&'static str>, Refusal> {
        let word = self.word_at(now);
        match command {
            Command::Decide { level, .. } if *level < self.needed => {
                Err(Refusal::InsufficientLevel { needed: self.needed, held: *level })
            }
            Command::Decide { user, .. } if self.cannot_decide.contains(user) => Err(Refusal::SelfApproval),
            Command::Decide { .. } | Command::Cancel(_) if word != "pending" => Err(Refusal::NotPending(word)),
            Command::Decide { decision: Decision::Approve, .. } => {
                self.word = "approved";
                Ok(vec!["action.approved", "action_approved"])
            }
            Command::Decide { decision: Decision::Reject, .. } => {
                self.word = "denied";
                Ok(vec!["action.denied", "action_denied"])
            }
            Command::Cancel(_) => {
                self.word = "cancelled";
                Ok(vec!["action.denied", "action_cancelled"])
            }
            Command::Report(..) if word != "approved" => Err(Refusal::NotExecutable(word)),
            Command::Report(result, _) => match (self.report, result) {
                (Some("completed"), Report::Completed) | (Some("failed"), Report::Failed) => Ok(vec![]),
                (Some(other), _) => Err(Refusal::NotExecutable(other)),
                (None, Report::Completed) => {
                    self.report = Some("completed");
                    Ok(vec!["action.completed", "action_completed"])
                }
                (None, Report::Failed) => {
                    self.report = Some("failed");
                    Ok(vec!["action.failed", "action_failed"])
                }
            },
            Command::Tick if self.word == "pending" && word == "timeout" => {
                self.word = "timeout";
                Ok(vec!["action.denied", "action_expired"])
            }
            Command::Tick => Ok(vec![]),
        }
    }
}

const ENDINGS: [&str; 4] = ["action_approved", "action_denied", "action_cancelled", "action_expired"];

proptest! {
    #[test]
    fn an_action_does_what_the_documentation_says(history in history()) {
        let mut model = Model::new(&history.start);
        let born = history.start.submit().record;
        prop_assert_eq!(born.status(at(SUBMITTED)).as_str(), model.word);
        prop_assert_eq!(born.required_level, model.needed);
        for Step { command, now, result, after, .. } in history.steps {
            let names = result.map(|entries| entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>());
            let expected = model.ask(&command, now).map(|names| names.into_iter().map(str::to_owned).collect());
            prop_assert_eq!(names, expected, "{:?}", command);
            for now in [now, deadline() - microseconds(1), deadline()] {
                prop_assert_eq!(after.status(now).as_str(), model.status_at(now));
            }
            prop_assert_eq!(after.outcome(), model.outcome());
            prop_assert_eq!(after.listing().state, Some(model.status_at(at(SUBMITTED))));
            prop_assert_eq!(after.due(), (model.word == "pending").then(deadline));
        }
    }

    #[test]
    fn at_most_one_decision_is_ever_taken_and_none_about_what_a_rule_decided(history in history()) {
        let endings = history.entries().filter(|entry| ENDINGS.contains(&entry.name.as_str())).count();
        let reports = history.entries().filter(|entry| entry.name == "action_completed" || entry.name == "action_failed");
        let pending = Model::new(&history.start).word == "pending";
        prop_assert!(endings <= usize::from(pending));
        prop_assert!(reports.count() <= 1);
        let still = matches!(history.last().state, State::Pending { .. });
        prop_assert_eq!(still, pending && endings == 0);
    }

    #[test]
    fn what_is_decided_stays_so_for_ever_and_only_a_report_comes_after_an_approval(history in history()) {
        for Step { before, after, .. } in &history.steps {
            match (&before.state, &after.state) {
                (State::Pending { .. }, _) => {}
                (
                    State::Approved { by, at, reason, report: None },
                    State::Approved { by: by_after, at: at_after, reason: reason_after, .. },
                ) => prop_assert_eq!((by, at, reason), (by_after, at_after, reason_after)),
                _ => prop_assert_eq!(before, after),
            }
        }
    }

    #[test]
    fn nobody_decides_on_what_they_asked_for_or_with_too_low_a_level_or_too_late(history in history()) {
        let Start { forbid_self_approval, owner, on_behalf_of, .. } = history.start;
        for Step { command, now, before, result, after } in &history.steps {
            let Command::Decide { user, level, decision, reason } = command else { continue };
            if result.is_err() {
                continue;
            }
            prop_assert!(!(forbid_self_approval && (owner == Some(*user) || on_behalf_of == Some(*user))));
            prop_assert!(*level >= before.required_level);
            prop_assert!(*now < deadline());
            let (by, at, reason) = (Some(*user), *now, reason.clone());
            let state = match decision {
                Decision::Approve => State::Approved { by, at, reason, report: None },
                Decision::Reject => State::Denied { by, at, reason },
            };
            prop_assert_eq!(&after.state, &state);
        }
    }

    #[test]
    fn what_is_refused_or_kept_changes_nothing(history in history()) {
        for step in history.steps.iter().filter(|step| !matches!(&step.result, Ok(entries) if !entries.is_empty())) {
            prop_assert_eq!(&step.after, &step.before);
        }
    }

    #[test]
    fn nothing_but_state_and_time_of_an_action_ever_changes(history in history()) {
        let born = history.start.submit().record;
        for Step { now, before, after, .. } in history.steps {
            let expected = if before == after { before.updated_at } else { now };
            prop_assert_eq!(after.updated_at, expected);
            let Action { state, updated_at, .. } = after.clone();
            prop_assert_eq!(after, Action { state, updated_at, ..born.clone() });
        }
    }

    #[test]
    fn every_change_has_one_event_and_one_line_in_the_log_which_alone_knows_where_it_came_from(history in history()) {
        let born = history.start.submit().entries;
        let changes = history.steps.iter().filter_map(|step| step.result.as_ref().ok());
        for entries in changes.filter(|entries| !entries.is_empty()).chain([&born]) {
            let classes: Vec<_> = entries.iter().map(|entry| entry.class).collect();
            prop_assert_eq!(classes, [EntryClass::Public, EntryClass::Audit]);
            let event = serde_json::to_string(&entries[0]).unwrap();
            for address in ["192.168.1.100", "198.51.100.7", "Mozilla", "ascend-sdk", "ip_address", "user_agent"] {
                prop_assert!(!event.contains(address), "{}", event);
            }
            let line = &entries[1].data;
            prop_assert_eq!(&line["correlation_id"], &entries[0].data["correlation_id"]);
            prop_assert_eq!(&line["user_id"], &entries[0].data["user_id"]);
            prop_assert!(line["details"].as_str().is_some_and(|text| text.starts_with("Action 12345 ")));
        }
    }
}
