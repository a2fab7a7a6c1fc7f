//! What holds for a delivery whatever workers and people do to it, in whatever order and however late, held against a
//! model that remembers every claim.

use crate::{at, operator};
use countersign_domain::delivery::{Cancelled, Delivery, First, New, Refusal, Report, State, Target};
use countersign_domain::event::Source;
use countersign_domain::retry::Schedule;
use countersign_domain::{Actor, Entry, Outcome, Record, Timestamp, seconds};
use proptest::prelude::*;
use proptest::sample::Index;
use uuid::Uuid;

const CREATED: &str = "2026-11-21T03:38:50.123456Z";
const DELAYS: [i64; 5] = [60, 300, 900, 3_600, 21_600];

/// What can happen. A report is that of any worker that has ever claimed an attempt, mostly the last one.
#[derive(Clone, Debug)]
enum Command {
    Sleep(i64),
    SleepUntilDue,
    Claim,
    Succeeded(Reporter),
    Failed { reporter: Reporter, retry_after: Option<i64>, unit: i8 },
    Gone(Reporter),
    Cancel,
    Retry,
}

#[derive(Clone, Debug)]
enum Reporter {
    Last,
    Any(Index),
}

fn command() -> impl Strategy<Value = Command> {
    let reporter = || prop_oneof![4 => Just(Reporter::Last), 1 => any::<Index>().prop_map(Reporter::Any)];
    let retry_after =
        prop_oneof![4 => Just(None), 1 => prop::sample::select(vec![0, 100, 901, 100_000]).prop_map(Some)];
    let failed = (reporter(), retry_after, -1..=1_i8);
    prop_oneof![
        4 => prop::sample::select(vec![1, 19, 20, 21, 100]).prop_map(Command::Sleep),
        8 => Just(Command::SleepUntilDue),
        10 => Just(Command::Claim),
        1 => reporter().prop_map(Command::Succeeded),
        10 => failed.prop_map(|(reporter, retry_after, unit)| Command::Failed { reporter, retry_after, unit }),
        1 => reporter().prop_map(Command::Gone),
        1 => Just(Command::Cancel),
        2 => Just(Command::Retry),
    ]
}

/// An attempt as a worker has claimed it: its number in its round and in all.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Claim {
    attempt: usize,
    number: u32,
    at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Waiting {
        due: Timestamp,
    },
    /// Which of all claims holds.
    Claimed(usize),
    Delivered,
    Exhausted,
    Cancelled,
}

/// Every claim that was ever taken, and what has come of them.
#[derive(Debug)]
struct Model {
    claims: Vec<Claim>,
    phase: Phase,
    /// How many attempts have failed in this round.
    failed: usize,
    /// The highest number of an attempt that has a result or was not waited for.
    made: u32,
}

impl Model {
    fn start(first: First) -> Self {
        let mut model = Self { claims: vec![], phase: Phase::Waiting { due: at(CREATED) }, failed: 0, made: 0 };
        if first == First::Claimed {
            model.claim(at(CREATED));
        }
        model
    }

    fn reporter(&self, reporter: &Reporter) -> Option<usize> {
        match reporter {
            Reporter::Last => self.claims.len().checked_sub(1),
            Reporter::Any(index) => (!self.claims.is_empty()).then(|| index.index(self.claims.len())),
        }
    }

    fn running_out(&self, nth: usize) -> Timestamp {
        self.claims[nth].at + seconds(20)
    }

    fn claim(&mut self, now: Timestamp) {
        self.claims.push(Claim { attempt: self.failed + 1, number: self.made + 1, at: now });
        self.phase = Phase::Claimed(self.claims.len() - 1);
    }

    /// The names of the entries that must come of it.
    fn ask(&mut self, command: &Command, now: Timestamp) -> Result<Vec<&'static str>, Refusal> {
        Ok(match command {
            Command::Sleep(_) | Command::SleepUntilDue => vec![],
            Command::Claim => {
                let due = match self.phase {
                    Phase::Waiting { due } => due <= now,
                    Phase::Claimed(nth) => self.running_out(nth) <= now,
                    Phase::Delivered | Phase::Exhausted | Phase::Cancelled => false,
                };
                if due {
                    self.claim(now);
                }
                if due { vec!["delivery.claimed"] } else { vec![] }
            }
            Command::Succeeded(reporter) => match self.reporter(reporter) {
                Some(nth) if self.phase != Phase::Delivered => {
                    self.ended(nth, Phase::Delivered);
                    vec!["delivery.attempted", "delivery.delivered"]
                }
                Some(_) | None => vec![],
            },
            Command::Failed { reporter, retry_after, unit } => match self.reporter(reporter) {
                Some(nth) if self.phase == Phase::Claimed(nth) => self.fail(nth, *retry_after, *unit, now),
                Some(_) | None => vec![],
            },
            Command::Gone(reporter) => match self.reporter(reporter) {
                Some(nth) if self.phase == Phase::Claimed(nth) => {
                    self.ended(nth, Phase::Cancelled);
                    vec!["delivery.attempted", "delivery.cancelled"]
                }
                Some(_) | None => vec![],
            },
            Command::Cancel => match self.phase {
                Phase::Waiting { .. } => {
                    self.phase = Phase::Cancelled;
                    vec!["delivery.cancelled"]
                }
                Phase::Claimed(nth) => {
                    self.ended(nth, Phase::Cancelled);
                    vec!["delivery.cancelled"]
                }
                Phase::Delivered | Phase::Exhausted | Phase::Cancelled => vec![],
            },
            Command::Retry => match self.phase {
                Phase::Delivered => return Err(Refusal::AlreadyDelivered),
                Phase::Claimed(nth) if now < self.running_out(nth) => vec![],
                Phase::Waiting { .. } if self.failed == 0 => vec![],
                Phase::Waiting { .. } | Phase::Claimed(_) | Phase::Exhausted | Phase::Cancelled => {
                    self.failed = 0;
                    self.phase = Phase::Waiting { due: now };
                    vec!["delivery.retried"]
                }
            },
        })
    }

    fn ended(&mut self, nth: usize, phase: Phase) {
        self.made = self.made.max(self.claims[nth].number);
        self.phase = phase;
    }

    fn fail(&mut self, nth: usize, retry_after: Option<i64>, unit: i8, now: Timestamp) -> Vec<&'static str> {
        self.failed = self.claims[nth].attempt;
        self.made = self.claims[nth].number;
        match DELAYS.get(self.failed - 1) {
            Some(delay) => {
                let wait = (delay + i64::from(unit) * delay / 10).max(retry_after.unwrap_or(0).min(21_600));
                self.phase = Phase::Waiting { due: now + seconds(wait) };
                vec!["delivery.attempted"]
            }
            None => {
                self.phase = Phase::Exhausted;
                vec!["delivery.attempted", "delivery.exhausted"]
            }
        }
    }
}

/// One command, with the delivery after it.
#[derive(Debug)]
struct Step {
    command: Command,
    now: Timestamp,
    before: Delivery,
    result: Result<Vec<Entry>, Refusal>,
    after: Delivery,
}

fn create(first: First) -> Delivery {
    let new = New {
        tenant: "acme".parse().unwrap(),
        event_id: Uuid::from_u128(7),
        event: "case.created".to_owned(),
        source: Source { kind: "case".to_owned(), id: "42".to_owned(), version: 1, entry: 0 },
        target: Target::Endpoint { id: "ep_01KAHX8Z1QJ5V3WQ4T6Y8B2D0G".parse().unwrap() },
        url: Some("https://hooks.example.com/".to_owned()),
        run: None,
    };
    Delivery::create(new, first, &Schedule::documented(), at(CREATED)).record
}

fn history() -> impl Strategy<Value = (First, Vec<Step>)> {
    let first = prop::sample::select(vec![First::Claimed, First::Waiting]);
    (first, prop::collection::vec(command(), 1..80)).prop_map(|(first, commands)| (first, play(first, commands)))
}

fn play(first: First, commands: Vec<Command>) -> Vec<Step> {
    let mut delivery = create(first);
    let mut now = at(CREATED);
    let mut claims: Vec<_> = report(&delivery).into_iter().collect();
    let mut steps = vec![];
    for command in commands {
        match command {
            Command::Sleep(n) => now += seconds(n),
            Command::SleepUntilDue => now = now.max(delivery.next_attempt_at().unwrap_or(now)),
            Command::Claim
            | Command::Succeeded(_)
            | Command::Failed { .. }
            | Command::Gone(_)
            | Command::Cancel
            | Command::Retry => {}
        }
        let before = delivery.clone();
        let result = apply(&delivery, &command, &claims, now).map(|outcome| match outcome {
            Outcome::Keep => vec![],
            Outcome::Change(change) => {
                // Every command meets the delivery as it was stored.
                let stored = serde_json::to_string(&change.record).unwrap();
                delivery = serde_json::from_str(&stored).unwrap();
                if change.entries[0].name == "delivery.claimed" {
                    claims.extend(report(&delivery));
                }
                change.entries
            }
        });
        steps.push(Step { command, now, before, result, after: delivery.clone() });
    }
    steps
}

/// What the holder of the present claim will report.
fn report(delivery: &Delivery) -> Option<Report> {
    let State::Claimed { attempt, at, .. } = delivery.state else { return None };
    let earlier = delivery.earlier;
    Some(Report {
        earlier,
        attempt,
        claimed_at: at,
        status_code: Some(500),
        duration_ms: 1,
        error: None,
        excerpt: None,
        url: None,
        timed_out: false,
    })
}

fn apply(
    delivery: &Delivery,
    command: &Command,
    claims: &[Report],
    now: Timestamp,
) -> Result<Outcome<Delivery>, Refusal> {
    let schedule = Schedule::documented();
    let reported = |reporter: &Reporter| match reporter {
        Reporter::Last => claims.last(),
        Reporter::Any(index) => (!claims.is_empty()).then(|| index.get(claims)),
    };
    let outcome = match command {
        Command::Sleep(_) | Command::SleepUntilDue => None,
        Command::Claim => Some(delivery.claim(&schedule, now)),
        Command::Succeeded(reporter) => reported(reporter).map(|report| delivery.succeeded(report, now)),
        Command::Failed { reporter, retry_after, unit } => reported(reporter)
            .map(|report| delivery.failed(report, retry_after.map(seconds), f64::from(*unit), &schedule, now)),
        Command::Gone(reporter) => reported(reporter).map(|report| delivery.gone(report, now)),
        Command::Cancel => Some(delivery.cancel(Cancelled::EndpointDeleted, now)),
        Command::Retry => Some(delivery.retry(&operator(), &schedule, now)?),
    };
    Ok(outcome.unwrap_or(Outcome::Keep))
}

/// All entries of a history with the command's time, a birth's claim first.
fn entries(first: First, history: &[Step]) -> Vec<(String, serde_json::Value, Timestamp)> {
    let born = match first {
        First::Claimed => Some(("delivery.claimed".to_owned(), serde_json::json!({ "attempt": 1 }), at(CREATED))),
        First::Waiting => None,
    };
    let later = history.iter().flat_map(|step| step.result.iter().flatten());
    born.into_iter().chain(later.map(|entry| (entry.name.clone(), entry.data.clone(), entry.at))).collect()
}

proptest! {
    #[test]
    fn a_delivery_does_what_a_model_that_remembers_every_claim_does((first, history) in history()) {
        let mut model = Model::start(first);
        for Step { command, now, result, after, .. } in history {
            let names = result.map(|entries| entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>());
            let expected = model.ask(&command, now).map(|names| names.into_iter().map(str::to_owned).collect());
            prop_assert_eq!(names, expected, "{:?}", command);
            let (status, next) = match model.phase {
                Phase::Waiting { due } => ("pending", Some(due)),
                Phase::Claimed(_) => ("pending", None),
                Phase::Delivered => ("delivered", None),
                Phase::Exhausted => ("exhausted", None),
                Phase::Cancelled => ("cancelled", None),
            };
            prop_assert_eq!((after.status(), after.next_attempt_at()), (status, next));
            prop_assert_eq!(after.attempts(), model.made);
            prop_assert_eq!(after.due().is_some(), status == "pending");
            prop_assert_eq!(after.look_at().is_some(), status == "pending");
            prop_assert_eq!(after.listing().inbox.is_some(), next.is_some());
        }
    }

    #[test]
    fn no_attempt_is_made_twice_unless_its_claim_was_over((first, history) in history()) {
        let mut last: Option<(u64, Timestamp)> = None;
        for (_, data, now) in entries(first, &history).into_iter().filter(|(name, ..)| name == "delivery.claimed") {
            let number = data["attempt"].as_u64().unwrap();
            match last {
                Some((before, claimed_at)) if number == before => prop_assert!(now >= claimed_at + seconds(20)),
                Some((before, _)) => prop_assert_eq!(number, before + 1),
                None => prop_assert_eq!(number, 1),
            }
            last = Some((number, now));
        }
    }

    #[test]
    fn a_round_has_at_most_six_attempts_and_ends_exhausted_with_the_sixth_failure((_, history) in history()) {
        let mut failures = 0;
        let mut claimed = std::collections::BTreeSet::new();
        for Step { result, after, .. } in &history {
            let names: Vec<_> = result.iter().flatten().map(|entry| entry.name.as_str()).collect();
            match names.as_slice() {
                ["delivery.retried"] => {
                    failures = 0;
                    claimed.clear();
                }
                ["delivery.claimed"] => {
                    let State::Claimed { attempt, .. } = after.state else { panic!("{:?}", after.state) };
                    prop_assert!((1..=6).contains(&attempt));
                    claimed.insert(attempt);
                }
                ["delivery.attempted"] => failures += 1,
                ["delivery.attempted", "delivery.exhausted"] => {
                    failures += 1;
                    prop_assert_eq!(failures, 6);
                }
                _ => {}
            }
            prop_assert!(failures < 6 || after.status() != "pending");
            prop_assert!(claimed.len() <= 6);
        }
    }

    #[test]
    fn nothing_follows_an_arrival((first, history) in history()) {
        let entries = entries(first, &history);
        let arrived = entries.iter().position(|(name, ..)| name == "delivery.delivered");
        prop_assert!(arrived.is_none_or(|position| position + 1 == entries.len()));
        prop_assert_eq!(arrived.is_some(), history.last().unwrap().after.status() == "delivered");
    }

    #[test]
    fn the_log_of_attempts_tells_when_each_was_claimed((first, history) in history()) {
        let entries = entries(first, &history);
        let mut claims = vec![];
        for (name, data, now) in &entries {
            match name.as_str() {
                "delivery.claimed" => claims.push((data["attempt"].clone(), *now)),
                "delivery.attempted" => {
                    let claimed_at = at(data["at"].as_str().unwrap());
                    prop_assert!(claims.contains(&(data["n"].clone(), claimed_at)), "{data}");
                }
                _ => {}
            }
        }
    }

    #[test]
    fn what_is_refused_or_kept_changes_nothing_and_workers_act_as_the_clock((_, history) in history()) {
        for Step { command, now, before, result, after } in history {
            let entries = result.unwrap_or_default();
            if entries.is_empty() {
                prop_assert_eq!(&after, &before);
                continue;
            }
            let by = if matches!(command, Command::Retry) { operator() } else { Actor::Clock };
            prop_assert!(entries.iter().all(|entry| entry.actor == by && entry.at == now));
            prop_assert_eq!(after.updated_at, now);
            let Delivery { state, earlier, updated_at, .. } = after.clone();
            prop_assert_eq!(after, Delivery { state, earlier, updated_at, ..create(First::Waiting) });
        }
    }
}
