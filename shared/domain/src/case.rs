//! The investigation case: handed out once, escalated as often as need be, resolved by exactly one verdict.

use crate::api_key::KeyId;
use crate::{Actor, Change, Entry, EntryClass, Listing, Outcome, Record, Subject, Tenant, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, fmt, str::FromStr};
use uuid::Uuid;

/// The entry of a case's birth.
pub const CREATED: &str = "case.created";
/// The entry of a case that is handed out; no event.
pub const HANDED_OUT: &str = "case.handed_out";
/// The entry of every verdict.
pub const VERDICT_SUBMITTED: &str = "case.verdict_submitted";
/// The second entry of a verdict that resolves its case.
pub const RESOLVED: &str = "case.resolved";
/// The second entry of a verdict that passes its case on.
pub const ESCALATED: &str = "case.escalated";

/// The item beside a case that holds its [`Input`], where there is any.
pub const INPUT: &str = "@input";

/// The inbox of cases that wait to be handed out.
pub const FEED: &str = "feed";

/// How many events a case or a verdict can name.
pub const MAX_EVENT_IDS: usize = 200;

/// The text is none of the words that can stand here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {}", .0.join(", "))]
pub struct UnknownWord(pub &'static [&'static str]);

macro_rules! words {
    ($($name:ident { $($variant:ident: $word:literal,)* })*) => { $(
        impl $name {
            /// All of them, in the documented order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The documented word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(UnknownWord(&[$($word,)*])),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = UnknownWord;

            fn try_from(word: String) -> Result<Self, UnknownWord> {
                word.parse()
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> Self {
                word.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )* };
}

words! {
    Severity {
        Low: "low",
        Medium: "medium",
        High: "high",
        Critical: "critical",
    }
    VerdictOutcome {
        Safe: "SAFE",
        TruePositive: "TRUE_POSITIVE",
        FalsePositive: "FALSE_POSITIVE",
        Duplicate: "DUPLICATE",
        Escalated: "ESCALATED",
    }
    Status {
        Discover: "discover",
        PendingInvestigation: "pending_investigation",
        Investigating: "investigating",
        Enforced: "enforced",
        Closed: "closed",
    }
}

/// How bad it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Severity {
    /// Can wait.
    Low,
    /// Should not wait long.
    Medium,
    /// Should be next.
    High,
    /// Cannot wait.
    Critical,
}

/// What a verdict says happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum VerdictOutcome {
    /// Benign.
    Safe,
    /// A threat, and acted upon.
    TruePositive,
    /// Flagged by mistake.
    FalsePositive,
    /// Handled under another case.
    Duplicate,
    /// Passed on; the only one that leaves the case open.
    Escalated,
}

/// A case's state as callers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Waits to be handed out.
    Discover,
    /// Handed out.
    PendingInvestigation,
    /// Escalated.
    Investigating,
    /// Resolved as a threat.
    Enforced,
    /// Resolved as no threat of its own.
    Closed,
}

/// Ids of events, at most [`MAX_EVENT_IDS`] as sent; each once, in the order in which they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Uuid>")]
pub struct EventIds(Vec<Uuid>);

/// There are too many of them, repeated or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be at most {MAX_EVENT_IDS}")]
pub struct TooManyEventIds;

impl EventIds {
    /// The ids.
    #[must_use]
    pub fn as_slice(&self) -> &[Uuid] {
        &self.0
    }
}

impl TryFrom<Vec<Uuid>> for EventIds {
    type Error = TooManyEventIds;

    fn try_from(mut ids: Vec<Uuid>) -> Result<Self, TooManyEventIds> {
        if ids.len() > MAX_EVENT_IDS {
            return Err(TooManyEventIds);
        }
        let mut seen = BTreeSet::new();
        ids.retain(|id| seen.insert(*id));
        Ok(Self(ids))
    }
}

/// What a case is about at length. It never changes and is only read to be shown, so it stands beside the record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Input {
    /// At most 10,000 characters.
    pub description: Option<String>,
    /// The events that the case is about.
    pub event_ids: EventIds,
    /// Whatever else its caller knows.
    pub metadata: Option<Map<String, Value>>,
}

impl Input {
    /// As it is stored, the same text for the same content; `None` if there is nothing to store.
    #[must_use]
    pub fn to_text(&self) -> Option<String> {
        let Self { description, event_ids, metadata } = self;
        (*self != Self::default())
            .then(|| json!({ "description": description, "event_ids": event_ids, "metadata": metadata }).to_string())
    }

    /// Reads what was stored.
    ///
    /// # Errors
    /// It is not the text of an input.
    pub fn from_text(text: &str) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        // Nested as deeply as a request may be, which is deeper than serde_json reads unasked.
        deserializer.disable_recursion_limit();
        let input = Self::deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(input)
    }
}

/// Something that may be a threat and wants a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Its id, chosen by whoever brought it in, or random.
    pub id: Uuid,
    /// Whose case it is.
    pub tenant: Tenant,
    /// What it is about, 1 to 300 characters.
    pub title: String,
    /// How bad it may be.
    pub severity: Severity,
    /// SHA-256 of its [`Input`] as stored, in hexadecimal digits, if there is any.
    pub input: Option<String>,
    /// When it was brought in.
    pub created_at: Timestamp,
    /// When it was last changed: of a case that was given a verdict, when the latest was processed.
    pub updated_at: Timestamp,
    /// How far it has come.
    pub state: State,
}

/// How far a case has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum State {
    /// It waits to be handed out.
    Discover,
    /// It was handed out.
    PendingInvestigation,
    /// Its last verdict passed it on.
    Investigating,
    /// It was a threat, which was acted upon; for ever.
    Enforced(Resolution),
    /// It was no threat of its own; for ever.
    Closed(Resolution),
}

/// The verdict that resolved a case, as far as it takes to know it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// What it said.
    pub outcome: VerdictOutcome,
    /// The key that gave it.
    pub by: KeyId,
    /// When it was processed.
    pub at: Timestamp,
    /// SHA-256 of its outcome, comment and event ids, in hexadecimal digits.
    pub fingerprint: String,
}

/// Why the law says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The tenant has no such case.
    #[error("Case not found")]
    NotFound,
    /// There is a case with this id and other content.
    #[error("A case with this id exists with other content")]
    Exists,
    /// It was handed out or decided about already.
    #[error("Case is not waiting to be handed out")]
    NotInDiscover,
    /// Another verdict has resolved it.
    #[error("Case already resolved as {outcome}")]
    AlreadyResolved {
        /// What that verdict said.
        outcome: VerdictOutcome,
    },
}

/// What a case is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingest {
    /// The new case's id.
    pub case_id: Uuid,
    /// Whose case it is.
    pub tenant: Tenant,
    /// What it is about.
    pub title: String,
    /// How bad it may be.
    pub severity: Severity,
    /// The same at length.
    pub input: Input,
}

/// A verdict on its way to a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its own id, random; two verdicts are identical without regard to it.
    pub verdict_id: Uuid,
    /// What happened.
    pub outcome: VerdictOutcome,
    /// Why, at most 2,000 characters.
    pub comment: Option<String>,
    /// The events that show it.
    pub event_ids: EventIds,
}

impl Verdict {
    fn fingerprint(&self) -> String {
        sha256(&json!([self.outcome, self.comment, self.event_ids]).to_string())
    }

    fn leads_to(&self, key: &KeyId, now: Timestamp) -> State {
        let outcome = self.outcome;
        let resolution = || Resolution { outcome, by: key.clone(), at: now, fingerprint: self.fingerprint() };
        match outcome {
            VerdictOutcome::Escalated => State::Investigating,
            VerdictOutcome::TruePositive => State::Enforced(resolution()),
            VerdictOutcome::Safe | VerdictOutcome::FalsePositive | VerdictOutcome::Duplicate => {
                State::Closed(resolution())
            }
        }
    }
}

impl Case {
    /// Brings a case in.
    #[must_use]
    pub fn ingest(ingest: Ingest, by: &Actor, now: Timestamp) -> Change<Self> {
        let input = ingest.input.to_text();
        let case = Self {
            id: ingest.case_id,
            tenant: ingest.tenant,
            title: ingest.title,
            severity: ingest.severity,
            input: input.as_deref().map(sha256),
            created_at: now,
            updated_at: now,
            state: State::Discover,
        };
        let data = json!({ "case_id": case.id, "title": case.title, "severity": case.severity });
        let entry = case.entry(CREATED, EntryClass::Public, by, now, data);
        let change = Change::new(case, entry);
        match input {
            Some(text) => change.with_item(INPUT, text),
            None => change,
        }
    }

    /// Brings the case in once more, which changes nothing.
    ///
    /// # Errors
    /// [`Refusal::Exists`] if it now has other content.
    pub fn ingest_again(&self, ingest: &Ingest) -> Result<Outcome<Self>, Refusal> {
        if self.same_content(ingest) { Ok(Outcome::Keep) } else { Err(Refusal::Exists) }
    }

    /// Whether it was made of the same title, severity and input, whatever has become of it since.
    #[must_use]
    pub fn same_content(&self, ingest: &Ingest) -> bool {
        self.title == ingest.title
            && self.severity == ingest.severity
            && self.input == ingest.input.to_text().as_deref().map(sha256)
    }

    /// Hands the case out to whoever investigates.
    ///
    /// # Errors
    /// [`Refusal::NotInDiscover`] unless it still waits for that, so that of two takers one gets it.
    pub fn hand_out(&self, by: &Actor, now: Timestamp) -> Result<Outcome<Self>, Refusal> {
        match self.state {
            State::Discover => {
                let state = State::PendingInvestigation;
                let entry = self.entry(HANDED_OUT, EntryClass::Audit, by, now, json!({ "case_id": self.id }));
                Ok(Outcome::Change(Change::new(Self { state, updated_at: now, ..self.clone() }, entry)))
            }
            State::PendingInvestigation | State::Investigating | State::Enforced(_) | State::Closed(_) => {
                Err(Refusal::NotInDiscover)
            }
        }
    }

    /// Takes a verdict from the holder of `key`. The one that resolved the case changes nothing when it is given again
    /// with the same key.
    ///
    /// # Errors
    /// [`Refusal::AlreadyResolved`] once another verdict has resolved the case.
    pub fn verdict(&self, verdict: &Verdict, key: &KeyId, now: Timestamp) -> Result<Outcome<Self>, Refusal> {
        if let Some(resolution) = self.resolution() {
            let again = resolution.by == *key && resolution.fingerprint == verdict.fingerprint();
            let refusal = Refusal::AlreadyResolved { outcome: resolution.outcome };
            return if again { Ok(Outcome::Keep) } else { Err(refusal) };
        }
        let case = Self { state: verdict.leads_to(key, now), updated_at: now, ..self.clone() };
        let by = Actor::Key { id: key.to_string() };
        let data = json!({
            "case_id": case.id,
            "verdict_id": verdict.verdict_id,
            "outcome": verdict.outcome,
            "resolved": case.is_resolved(),
            "comment": verdict.comment,
            "event_ids": verdict.event_ids,
            "by": key,
        });
        let effect = if case.is_resolved() { RESOLVED } else { ESCALATED };
        let entries = [VERDICT_SUBMITTED, effect]
            .map(|name| case.entry(name, EntryClass::Public, &by, now, data.clone()))
            .to_vec();
        Ok(Outcome::Change(Change { record: case, entries, with: Vec::new() }))
    }

    /// What callers are told of its state.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.state {
            State::Discover => Status::Discover,
            State::PendingInvestigation => Status::PendingInvestigation,
            State::Investigating => Status::Investigating,
            State::Enforced(_) => Status::Enforced,
            State::Closed(_) => Status::Closed,
        }
    }

    /// What its latest verdict said, if it was given any.
    #[must_use]
    pub fn outcome(&self) -> Option<VerdictOutcome> {
        match &self.state {
            State::Discover | State::PendingInvestigation => None,
            State::Investigating => Some(VerdictOutcome::Escalated),
            State::Enforced(resolution) | State::Closed(resolution) => Some(resolution.outcome),
        }
    }

    /// The verdict that resolved it.
    #[must_use]
    pub fn resolution(&self) -> Option<&Resolution> {
        match &self.state {
            State::Discover | State::PendingInvestigation | State::Investigating => None,
            State::Enforced(resolution) | State::Closed(resolution) => Some(resolution),
        }
    }

    /// Whether it takes no more verdicts.
    #[must_use]
    pub fn is_resolved(&self) -> bool {
        self.resolution().is_some()
    }

    fn entry(&self, name: &str, class: EntryClass, by: &Actor, at: Timestamp, data: Value) -> Entry {
        Entry {
            name: name.to_owned(),
            class,
            actor: by.clone(),
            at,
            subject: Subject { kind: "case".to_owned(), id: self.id.to_string() },
            data,
            state: None,
        }
    }
}

fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

impl Record for Case {
    const KIND: &'static str = "case";
    const SCHEMA: u32 = 1;
    type Refusal = Refusal;

    fn upgrade(_schema: u32, _body: Value) -> Option<Value> {
        None
    }

    fn listing(&self) -> Listing {
        Listing {
            state: Some(self.status().as_str()),
            subject: self.outcome().map(String::from),
            inbox: (self.state == State::Discover).then_some(FEED.into()),
            ..Listing::at(self.created_at)
        }
    }
}
