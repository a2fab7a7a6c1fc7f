//! What holds for a case whatever is asked of it, in whatever order and by whom, held against a model that remembers
//! everything.

use crate::at;
use countersign_domain::api_key::KeyId;
use countersign_domain::case::{Case, Ingest, Input, Refusal, Severity, Verdict, VerdictOutcome};
use countersign_domain::{Actor, Entry, Outcome, Record, seconds};
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

const CREATED: &str = "2026-11-21T03:38:50Z";

/// What can be asked of a case. Few different values, so that the same is often asked again.
#[derive(Clone, Debug)]
enum Command {
    IngestAgain { title: &'static str, description: Option<&'static str> },
    HandOut,
    Verdict { given: Given, repeats: usize },
}

/// A verdict as the model compares it.
#[derive(Clone, Debug, PartialEq)]
struct Given {
    outcome: VerdictOutcome,
    comment: Option<&'static str>,
    event_ids: Vec<u128>,
    key: &'static str,
}

fn command() -> impl Strategy<Value = Command> {
    let ingest = (prop_oneof![4 => Just("T"), 1 => Just("t")], prop_oneof![4 => Just(Some("D")), 1 => Just(None)]);
    let escalated = Just(VerdictOutcome::Escalated);
    let outcome = prop_oneof![3 => escalated, 2 => prop::sample::select(VerdictOutcome::ALL)];
    let comment = prop::sample::select(vec![None, Some(""), Some("C")]);
    let event_ids = prop::sample::select(vec![vec![], vec![1], vec![1, 2], vec![2, 1]]);
    let key = prop_oneof![4 => Just("soc"), 1 => Just("another")];
    let given = (outcome, comment, event_ids, key).prop_map(|(outcome, comment, event_ids, key)| Given {
        outcome,
        comment,
        event_ids,
        key,
    });
    prop_oneof![
        1 => ingest.prop_map(|(title, description)| Command::IngestAgain { title, description }),
        1 => Just(Command::HandOut),
        6 => (given, 1..=3_usize).prop_map(|(given, repeats)| Command::Verdict { given, repeats }),
    ]
}

/// Everything that ever happened to a case, and nothing derived from it.
#[derive(Debug, Default)]
struct Model {
    handed_out: bool,
    verdicts: Vec<Given>,
}

impl Model {
    fn resolved(&self) -> Option<&Given> {
        self.verdicts.last().filter(|given| given.outcome != VerdictOutcome::Escalated)
    }

    fn state(&self) -> &'static str {
        match self.verdicts.last().map(|given| given.outcome.as_str()) {
            Some("ESCALATED") => "investigating",
            Some("TRUE_POSITIVE") => "enforced",
            Some(_) => "closed",
            None if self.handed_out => "pending_investigation",
            None => "discover",
        }
    }

    /// The names of the entries that must come of it.
    fn ask(&mut self, command: &Command) -> Result<Vec<&'static str>, Refusal> {
        match command {
            Command::IngestAgain { title: "T", description: Some("D") } => Ok(vec![]),
            Command::IngestAgain { .. } => Err(Refusal::Exists),
            Command::HandOut if self.state() == "discover" => {
                self.handed_out = true;
                Ok(vec!["case.handed_out"])
            }
            Command::HandOut => Err(Refusal::NotInDiscover),
            Command::Verdict { given, .. } => match self.resolved() {
                Some(first) if first == given => Ok(vec![]),
                Some(first) => Err(Refusal::AlreadyResolved { outcome: first.outcome }),
                None => {
                    self.verdicts.push(given.clone());
                    let resolved = given.outcome != VerdictOutcome::Escalated;
                    Ok(vec!["case.verdict_submitted", if resolved { "case.resolved" } else { "case.escalated" }])
                }
            },
        }
    }
}

fn ingest(title: &str, description: Option<&str>) -> Ingest {
    Ingest {
        case_id: Uuid::from_u128(7),
        tenant: "acme".parse().unwrap(),
        title: title.to_owned(),
        severity: Severity::Low,
        input: Input { description: description.map(str::to_owned), ..Input::default() },
    }
}

fn key(holder: &str) -> KeyId {
    KeyId::of(&format!("cs_live_{holder}"))
}

fn soc() -> Actor {
    Actor::Key { id: key("soc").to_string() }
}

fn brought_in() -> Case {
    Case::ingest(ingest("T", Some("D")), &soc(), at(CREATED)).record
}

/// One command, with the case before and after it.
#[derive(Debug)]
struct Step {
    command: Command,
    before: Case,
    result: Result<Vec<Entry>, Refusal>,
    after: Case,
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(command(), 1..30).prop_map(|commands| {
        let mut case = brought_in();
        (0..).zip(commands).map(|(nth, command)| step(&mut case, command, nth)).collect()
    })
}

fn step(case: &mut Case, command: Command, nth: u8) -> Step {
    let before = case.clone();
    let now = at(CREATED) + seconds(nth.into());
    let outcome = match &command {
        Command::IngestAgain { title, description } => case.ingest_again(&ingest(title, *description)),
        Command::HandOut => case.hand_out(&soc(), now),
        Command::Verdict { given, repeats } => {
            let event_ids = given.event_ids.repeat(*repeats).into_iter().map(Uuid::from_u128).collect::<Vec<_>>();
            let verdict = Verdict {
                verdict_id: Uuid::from_u128(nth.into()),
                outcome: given.outcome,
                comment: given.comment.map(str::to_owned),
                event_ids: event_ids.try_into().unwrap(),
            };
            case.verdict(&verdict, &key(given.key), now)
        }
    };
    let result = outcome.map(|outcome| match outcome {
        Outcome::Keep => vec![],
        Outcome::Change(change) => {
            // Every command meets the case as it was stored.
            let stored = serde_json::to_string(&change.record).unwrap();
            *case = serde_json::from_str(&stored).unwrap();
            change.entries
        }
    });
    Step { command, before, result, after: case.clone() }
}

proptest! {
    #[test]
    fn a_case_does_what_a_model_that_remembers_everything_does(history in history()) {
        let mut model = Model::default();
        for Step { command, result, after, .. } in history {
            let names = result.map(|entries| entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>());
            let expected = model.ask(&command).map(|names| names.into_iter().map(str::to_owned).collect());
            prop_assert_eq!(names, expected, "{:?}", command);
            let last = model.verdicts.last().map(|given| given.outcome);
            prop_assert_eq!(after.status().as_str(), model.state());
            prop_assert_eq!(after.outcome(), last);
            prop_assert_eq!(after.is_resolved(), model.resolved().is_some());
            let by = after.resolution().map(|resolution| resolution.by.clone());
            prop_assert_eq!(by, model.resolved().map(|given| key(given.key)));
            let listing = after.listing();
            prop_assert_eq!(listing.state, Some(model.state()));
            prop_assert_eq!(listing.subject, last.map(|outcome| outcome.to_string()));
            prop_assert_eq!(listing.inbox.as_deref(), (model.state() == "discover").then_some("feed"));
        }
    }

    #[test]
    fn the_verdicts_that_are_told_are_those_that_were_taken(history in history()) {
        let mut model = Model::default();
        let mut told = vec![];
        for Step { command, result, .. } in &history {
            let _ = model.ask(command);
            told.extend(result.iter().flatten().filter(|entry| entry.name == "case.verdict_submitted"));
        }
        prop_assert_eq!(told.len(), model.verdicts.len());
        for (entry, given) in told.into_iter().zip(&model.verdicts) {
            let field = |name: &str| entry.data.get(name).cloned().unwrap();
            let event_ids: Vec<_> = given.event_ids.iter().map(|id| Uuid::from_u128(*id)).collect();
            prop_assert_eq!(field("outcome"), given.outcome.as_str());
            prop_assert_eq!(field("comment"), json!(given.comment));
            prop_assert_eq!(field("event_ids"), json!(event_ids));
            prop_assert_eq!(field("by"), json!(key(given.key)));
            prop_assert_eq!(&entry.actor, &Actor::Key { id: key(given.key).to_string() });
        }
    }

    #[test]
    fn at_most_one_verdict_ever_resolves_a_case_and_nothing_follows_it(history in history()) {
        let entries: Vec<_> = history.iter().filter_map(|step| step.result.as_ref().ok()).flatten().collect();
        let resolved = entries.iter().filter(|entry| entry.name == "case.resolved").count();
        prop_assert!(resolved <= 1);
        prop_assert_eq!(resolved == 1, history.last().unwrap().after.is_resolved());
        let position = entries.iter().position(|entry| entry.name == "case.resolved");
        prop_assert!(position.is_none_or(|position| position + 1 == entries.len()));
    }

    #[test]
    fn what_is_refused_or_kept_changes_nothing(history in history()) {
        for step in history.iter().filter(|step| !matches!(&step.result, Ok(entries) if !entries.is_empty())) {
            prop_assert_eq!(&step.after, &step.before);
        }
    }

    #[test]
    fn nothing_but_state_and_time_of_a_case_ever_changes(history in history()) {
        for Step { before, after, .. } in history {
            prop_assert!(before.updated_at <= after.updated_at);
            let Case { state, updated_at, .. } = after.clone();
            prop_assert_eq!(after, Case { state, updated_at, ..brought_in() });
        }
    }
}
