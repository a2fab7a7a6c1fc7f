//! The replay: an endpoint's events of a window of time on their way once more, page by page.

use crate::endpoint::EndpointId;
use crate::retry::later;
use crate::text::{is_ulid, text_of, ulid};
use crate::{Actor, Change, Entry, EntryClass, Listing, Outcome, Record, Subject, Timestamp, rfc3339_micros, seconds};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::str::FromStr;

/// How long a worker has for a page before the clock has another one go on, in seconds.
pub const LEASE_SECONDS: i64 = 60;

/// A replay's id, `rpl_<ULID>`; its deliveries carry it as their run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReplayId(String);

/// The text is not a replay's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be rpl_ and a ULID: 26 of 0-9 A-Z without I L O U, the first at most 7")]
pub struct InvalidReplayId;

impl ReplayId {
    /// The id with this ULID: 48 bits of Unix time in milliseconds, then 80 random ones.
    #[must_use]
    pub fn from_u128(number: u128) -> Self {
        Self(format!("rpl_{}", ulid(number)))
    }
}

impl FromStr for ReplayId {
    type Err = InvalidReplayId;

    fn from_str(id: &str) -> Result<Self, InvalidReplayId> {
        match id.strip_prefix("rpl_") {
            Some(number) if is_ulid(number) => Ok(Self(id.to_owned())),
            Some(_) | None => Err(InvalidReplayId),
        }
    }
}

text_of! { ReplayId, InvalidReplayId; }

/// The events of a window of time, for one endpoint once more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Its id.
    pub id: ReplayId,
    /// Where the events go.
    pub endpoint: EndpointId,
    /// Events that occurred then or later.
    pub since: Timestamp,
    /// Events that occurred before.
    pub until: Timestamp,
    /// How many there were as it was asked for.
    pub events: u64,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// How far it is.
    pub state: ReplayState,
}

/// How far a replay is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum ReplayState {
    /// There may be more events.
    Running {
        /// Where to go on; only whoever reads the events can tell. Empty at the start.
        position: String,
        /// When someone is to go on who has not heard that anybody does.
        due: Timestamp,
    },
    /// All deliveries were made; for ever.
    Done {
        /// When.
        at: Timestamp,
    },
}

/// What a replay is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The new replay's id.
    pub id: ReplayId,
    /// Where the events go.
    pub endpoint: EndpointId,
    /// Events that occurred then or later.
    pub since: Timestamp,
    /// Events that occurred before.
    pub until: Timestamp,
    /// How many there are.
    pub events: u64,
}

impl Replay {
    /// Starts a replay, before its first event.
    #[must_use]
    pub fn start(start: Start, by: &Actor, now: Timestamp) -> Change<Self> {
        let replay = Self {
            id: start.id,
            endpoint: start.endpoint,
            since: start.since,
            until: start.until,
            events: start.events,
            created_at: now,
            state: running("", now),
        };
        let data = json!({
            "endpoint": replay.endpoint,
            "since": rfc3339_micros(replay.since),
            "until": rfc3339_micros(replay.until),
            "events": replay.events,
        });
        let entry = replay.entry("replay.started", by, now, data);
        Change::new(replay, entry)
    }

    /// Goes on from one position to the next, the deliveries between them being made; without a next one all are.
    /// Kept, if it is at another position: someone else has gone on.
    #[must_use]
    pub fn advance(&self, from: &str, to: Option<&str>, now: Timestamp) -> Outcome<Self> {
        match &self.state {
            ReplayState::Running { position, .. } if position == from => {
                let (name, state) = match to {
                    Some(to) => ("replay.advanced", running(to, now)),
                    None => ("replay.done", ReplayState::Done { at: now }),
                };
                let replay = Self { state, ..self.clone() };
                let entry = replay.entry(name, &Actor::Clock, now, json!({ "from": from, "to": to }));
                Outcome::Change(Change::new(replay, entry))
            }
            ReplayState::Running { .. } | ReplayState::Done { .. } => Outcome::Keep,
        }
    }

    fn entry(&self, name: &str, by: &Actor, at: Timestamp, data: Value) -> Entry {
        Entry {
            name: name.to_owned(),
            class: EntryClass::Audit,
            actor: by.clone(),
            at,
            subject: Subject { kind: "replay".to_owned(), id: self.id.to_string() },
            data,
            state: None,
        }
    }
}

fn running(position: &str, now: Timestamp) -> ReplayState {
    ReplayState::Running { position: position.to_owned(), due: later(now, seconds(LEASE_SECONDS)) }
}

impl Record for Replay {
    const KIND: &'static str = "replay";
    const SCHEMA: u32 = 1;
    type Refusal = Infallible;

    fn upgrade(_schema: u32, _body: Value) -> Option<Value> {
        None
    }

    fn listing(&self) -> Listing {
        Listing::at(self.created_at)
    }

    fn is_ready(&self, _now: Timestamp) -> bool {
        self.due().is_some()
    }

    fn due(&self) -> Option<Timestamp> {
        match &self.state {
            ReplayState::Running { due, .. } => Some(*due),
            ReplayState::Done { .. } => None,
        }
    }
}
