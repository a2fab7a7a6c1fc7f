//! What holds for a tenant's webhook endpoints whatever is asked and seen of them, held against a model that is as plain
//! as the documentation.

use crate::at;
use crate::endpoint::{added, id, order, sealed, tenant};
use crate::operator;
use countersign_domain::endpoint::{Edit, Endpoint, Endpoints, Refusal, Seen, Status, Why};
use countersign_domain::{Entry, EntryClass, Outcome, Timestamp, seconds};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const DAY: i64 = 86_400;

#[derive(Clone, Debug)]
enum Command {
    Add(u128),
    Enable(u128, bool),
    Move(u128, u8),
    Rotate(u128),
    Remove(u128),
    Attempted(u128, Seen),
    /// Deliveries of everything that closed at or before so many seconds ago are cancelled.
    Closed(i64),
}

fn command() -> impl Strategy<Value = Command> {
    let seen = prop_oneof![
        6 => Just(Seen::Failed),
        4 => Just(Seen::TimedOut),
        2 => any::<bool>().prop_map(|quickly| Seen::Answered { quickly }),
        1 => Just(Seen::Gone),
    ];
    let number = || 0..3_u128;
    prop_oneof![
        2 => number().prop_map(Command::Add),
        3 => (number(), any::<bool>()).prop_map(|(number, enabled)| Command::Enable(number, enabled)),
        1 => (number(), 0..2_u8).prop_map(|(number, to)| Command::Move(number, to)),
        1 => number().prop_map(Command::Rotate),
        1 => number().prop_map(Command::Remove),
        20 => (number(), seen).prop_map(|(number, seen)| Command::Attempted(number, seen)),
        1 => (0..100_i64).prop_map(Command::Closed),
    ]
}

/// Pauses, so that the ages that matter are met to the second.
fn pause() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 0..3_i64, 2 => Just(59), 2 => Just(60), 1 => 0..2 * DAY, 1 => Just(5 * DAY - 60), 1 => Just(5 * DAY)]
}

/// An endpoint as the documentation tells of it; times are seconds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    disabled: Option<Why>,
    url: u8,
    failing: Option<i64>,
    recovered: Option<i64>,
    slow: Option<i64>,
}

#[derive(Debug, Default)]
struct Model {
    endpoints: BTreeMap<u128, Known>,
    closing: BTreeMap<u128, i64>,
}

impl Model {
    /// Whether anything comes of it.
    fn ask(&mut self, command: &Command, now: i64) -> Result<bool, Refusal> {
        match *command {
            Command::Add(number) => {
                let before = self.endpoints.len();
                self.endpoints.entry(number).or_default();
                Ok(self.endpoints.len() > before)
            }
            Command::Enable(number, enabled) => {
                let known = self.endpoints.get_mut(&number).ok_or(Refusal::NotFound)?;
                if known.disabled.is_none() == enabled {
                    return Ok(false);
                }
                if enabled {
                    (known.disabled, known.failing, known.slow) = (None, None, None);
                } else {
                    known.disabled = Some(Why::Asked);
                    self.closing.insert(number, now);
                }
                Ok(true)
            }
            Command::Move(number, to) => {
                let known = self.endpoints.get_mut(&number).ok_or(Refusal::NotFound)?;
                if known.url == to {
                    return Ok(false);
                }
                (known.url, known.failing, known.slow) = (to, None, None);
                Ok(true)
            }
            Command::Rotate(number) => self.endpoints.get(&number).map(|_| true).ok_or(Refusal::NotFound),
            Command::Remove(number) => {
                self.endpoints.remove(&number).ok_or(Refusal::NotFound)?;
                self.closing.insert(number, now);
                Ok(true)
            }
            Command::Attempted(number, seen) => Ok(self.attempted(number, seen, now)),
            Command::Closed(ago) => {
                let before = self.closing.len();
                self.closing.retain(|_, at| *at > now - ago);
                Ok(self.closing.len() < before)
            }
        }
    }

    fn attempted(&mut self, number: u128, seen: Seen, now: i64) -> bool {
        let Some(known) = self.endpoints.get_mut(&number).filter(|known| known.disabled.is_none()) else {
            return false;
        };
        let before = known.clone();
        if seen == Seen::TimedOut && known.slow.is_none() {
            known.slow = Some(now);
        }
        if matches!(seen, Seen::TimedOut | Seen::Failed) {
            match known.failing {
                Some(since) if now - since >= 5 * DAY => known.disabled = Some(Why::Failing),
                Some(_) => {}
                None if known.recovered.is_some_and(|recovered| now - recovered < 60) => {}
                None => known.failing = Some(now),
            }
        }
        if seen == Seen::Gone {
            known.disabled = Some(Why::Gone);
        }
        if let Seen::Answered { quickly } = seen {
            if known.failing.take().is_some() {
                known.recovered = Some(now);
            }
            if quickly && known.slow.is_some_and(|since| now - since >= 1) {
                known.slow = None;
            }
        }
        if known.disabled.is_some() {
            self.closing.insert(number, now);
        }
        *known != before
    }
}

fn began() -> Timestamp {
    at("2026-11-21T03:38:50.25Z")
}

fn time(second: i64) -> Timestamp {
    began() + seconds(second)
}

fn url(to: u8) -> String {
    if to == 0 { order(0).url } else { format!("https://{to}.example.com/?secret={to}") }
}

/// The record as it was stored and what is told of the change to it, after a command at a time.
fn step(endpoints: &mut Endpoints, command: &Command, now: i64) -> Result<Vec<Entry>, Refusal> {
    let by = &operator();
    let edit = |endpoints: &Endpoints, number: u128, edit: Edit| endpoints.edit(&id(number), &edit, by, time(now));
    let outcome = match *command {
        // An id is never minted twice.
        Command::Add(number) if endpoints.get(&id(number)).is_some() => Ok(Outcome::Keep),
        Command::Add(number) => Endpoints::add(Some(endpoints), &tenant(), order(number), by, time(now)),
        Command::Enable(number, enabled) => edit(endpoints, number, Edit { enabled: Some(enabled), ..Edit::default() }),
        Command::Move(number, to) => edit(endpoints, number, Edit { url: Some(url(to)), ..Edit::default() }),
        Command::Rotate(number) => endpoints.rotate(&id(number), sealed("next"), by, time(now)),
        Command::Remove(number) => endpoints.remove(&id(number), by, time(now)),
        Command::Attempted(number, seen) => Ok(endpoints.attempted(&id(number), seen, time(now))),
        Command::Closed(ago) => {
            let mut done = endpoints.closing.clone();
            done.retain(|closing| closing.at <= time(now - ago));
            Ok(endpoints.closed(&done, time(now)))
        }
    }?;
    Ok(match outcome {
        Outcome::Keep => vec![],
        Outcome::Change(change) => {
            // Every command meets the record as it was stored.
            *endpoints = serde_json::from_str(&serde_json::to_string(&change.record).unwrap()).unwrap();
            change.entries
        }
    })
}

fn known(endpoint: &Endpoint) -> Known {
    let second = |at: Timestamp| at.duration_since(began()).as_secs();
    Known {
        disabled: match endpoint.status {
            Status::Enabled => None,
            Status::Disabled { why, .. } => Some(why),
        },
        url: (0..2).find(|to| endpoint.url == url(*to)).unwrap(),
        failing: endpoint.failing_since.map(second),
        recovered: endpoint.recovered_at.map(second),
        slow: endpoint.slow_since.map(second),
    }
}

fn history() -> impl Strategy<Value = Vec<(Command, i64)>> {
    proptest::collection::vec((command(), pause()), 1..80).prop_map(|commands| {
        let mut now = 0;
        let timed = commands.into_iter().map(|(command, pause)| {
            now += pause;
            (command, now)
        });
        timed.collect()
    })
}

proptest! {
    #[test]
    fn endpoints_do_what_the_model_does(history in history()) {
        let mut endpoints = added(None, order(0));
        let mut model = Model::default();
        model.endpoints.insert(0, Known::default());
        for (command, now) in history {
            let before = endpoints.clone();
            let told = step(&mut endpoints, &command, now);
            let expected = model.ask(&command, now);
            prop_assert_eq!(told.as_ref().map(|entries| !entries.is_empty()), expected.as_ref().copied(), "{:?}", command);
            let found: BTreeMap<_, _> = (0..3).filter_map(|n| Some((n, known(endpoints.get(&id(n))?)))).collect();
            prop_assert_eq!(found.len(), endpoints.endpoints.len());
            prop_assert_eq!(&found, &model.endpoints, "{:?}", command);
            let closing: BTreeSet<_> = endpoints.closing.iter().map(|c| (c.endpoint.clone(), c.at)).collect();
            prop_assert_eq!(closing.len(), endpoints.closing.len());
            prop_assert_eq!(closing, model.closing.iter().map(|(n, at)| (id(*n), time(*at))).collect());
            if told.is_ok_and(|entries| entries.is_empty()) {
                prop_assert_eq!(&endpoints, &before);
            }
        }
    }

    #[test]
    fn the_audit_log_never_holds_a_secret_or_a_query(history in history()) {
        let mut endpoints = added(None, order(0));
        for (command, now) in history {
            for entry in step(&mut endpoints, &command, now).unwrap_or_default() {
                prop_assert_eq!(entry.class, EntryClass::Audit);
                let text = serde_json::to_string(&entry).unwrap();
                prop_assert!(!text.contains("sealed") && !text.contains("secret="), "{}", text);
            }
        }
    }

    #[test]
    fn an_endpoint_that_flaps_has_its_record_rewritten_seldom(
        attempts in proptest::collection::vec((any::<bool>(), any::<bool>(), 0..2500_i64), 1..200),
    ) {
        let mut endpoints = added(None, order(0));
        let mut began = BTreeMap::from([("endpoint.failing", vec![]), ("endpoint.slow", vec![])]);
        let mut now = at("2026-11-21T03:38:50Z");
        for (answered, slowly, milliseconds) in attempts {
            now += jiff::SignedDuration::from_millis(milliseconds);
            let seen = match (answered, slowly) {
                (true, _) => Seen::Answered { quickly: !slowly },
                (false, true) => Seen::TimedOut,
                (false, false) => Seen::Failed,
            };
            let Outcome::Change(change) = endpoints.attempted(&id(0), seen, now) else { continue };
            endpoints = change.record;
            for entry in change.entries {
                if let Some(times) = began.get_mut(entry.name.as_str()) {
                    times.push(entry.at);
                }
            }
        }
        for (name, at_least) in [("endpoint.failing", 60), ("endpoint.slow", 1)] {
            for pair in began[name].windows(2) {
                prop_assert!(pair[1].duration_since(pair[0]) >= seconds(at_least), "{} {:?}", name, pair);
            }
        }
    }
}
