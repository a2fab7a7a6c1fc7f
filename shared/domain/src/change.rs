//! What a rule answers with: the next record and the entries that say what happened.

use crate::{Actor, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Something that is decided about, stored as one item and changed only by conditional transactions.
pub trait Record: Clone + Serialize + DeserializeOwned + Send + Sync {
    /// First part of its partition key; functions are allowed their kinds and no others.
    const KIND: &'static str;
    /// The number that stored bodies of the present shape carry.
    const SCHEMA: u32;
    /// Why a rule about it says no.
    type Refusal: Send;

    /// Turns a stored body of an older schema into the present one. `None` if there never was such a schema.
    fn upgrade(schema: u32, body: Value) -> Option<Value>;
    /// Where it shows up in listings.
    fn listing(&self) -> Listing;
}

/// The listings in which a record appears; absent ones cost nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Sorts every listing, oldest first.
    pub created_at: Timestamp,
    /// Status under which it is listed.
    pub state: Option<&'static str>,
    /// The one thing that it is about and by which it is listed.
    pub subject: Option<String>,
}

/// What a rule decided: to change the record, or that it already is as asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<R> {
    /// Write this.
    Change(Change<R>),
    /// Nothing to write; a repeated call is a success.
    Keep,
}

/// The next record with the entries that explain it; written together or not at all.
#[derive(Clone, Debug, PartialEq)]
pub struct Change<R> {
    /// The record as it is from now on.
    pub record: R,
    /// What happened, at least one entry.
    pub entries: Vec<Entry>,
}

impl<R> Change<R> {
    /// A change with a single entry, as most are.
    #[must_use]
    pub fn new(record: R, entry: Entry) -> Self {
        Self { record, entries: vec![entry] }
    }
}

/// An immutable fact in a change, chained into the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What happened, e.g. `override.decided`.
    pub name: String,
    /// Whether the world is told.
    pub class: EntryClass,
    /// Who did it.
    pub actor: Actor,
    /// When, as the rule was told.
    pub at: Timestamp,
    /// What it is about, as outsiders know it.
    pub subject: Subject,
    /// The facts themselves; never a token, secret or key.
    pub data: Value,
    /// SHA-256 of the record after the change, on a change's last entry only (see [`crate::chain`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// Whether an entry is an event or is only kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryClass {
    /// An event: shown in listings of events and told to subscribers.
    Public,
    /// Only kept in the audit log.
    Audit,
}

/// The thing that an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its kind, e.g. `override`.
    pub kind: String,
    /// Its id, as callers know it.
    pub id: String,
}
