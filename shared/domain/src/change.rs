//! What a rule answers with: the next record and the entries that say what happened.

use crate::{Actor, Tenant, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::borrow::Cow;

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

    /// When it is to be looked at, if nobody has changed it before: its deadline, its next attempt.
    fn due(&self) -> Option<Timestamp> {
        None
    }

    /// When the clock sees that this is coming and sends word for the moment when it is due. Earlier than
    /// [`Record::due`] for what is due in a long time, so that word that travels for a while arrives on time.
    fn look_at(&self) -> Option<Timestamp> {
        self.due()
    }

    /// Whether it is to be looked at as soon as it has been changed.
    fn is_ready(&self, now: Timestamp) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    /// What has become of it by `now` without anyone's doing.
    fn tick(&self, _now: Timestamp) -> Outcome<Self> {
        Outcome::Keep
    }

    /// How a change, by its last entry, shows up in the tenant's log of changes of this kind; `None` keeps no such log.
    fn logged(_entry: &Entry) -> Option<Logged> {
        None
    }
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
    /// The inbox of its tenant in which it waits, oldest first. Unlike the listings, an inbox is never behind.
    pub inbox: Option<Cow<'static, str>>,
    /// The tenant under which it is listed, where the record's key has none.
    pub tenant: Option<Tenant>,
}

impl Listing {
    /// A record that is only listed with all of its tenant's.
    #[must_use]
    pub fn at(created_at: Timestamp) -> Self {
        Self { created_at, state: None, subject: None, inbox: None, tenant: None }
    }
}

/// By what a change is found in its tenant's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// What happened.
    pub name: String,
    /// Who did it, if it was someone to look for.
    pub by: Option<String>,
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
    /// What is written along with it.
    pub with: Vec<With<R>>,
}

/// What is written in the same transaction as a record.
#[derive(Clone, Debug, PartialEq)]
pub enum With<R> {
    /// An item beside the record, written once: what is too large for the record, or rarely read. The change holds
    /// its hash.
    Item {
        /// Its name among the record's items, e.g. `@input`.
        name: String,
        /// Its content.
        body: String,
    },
    /// Another record of the same kind, born with this change.
    Born {
        /// Its id.
        id: String,
        /// The record.
        record: Box<R>,
        /// Its first entry.
        entry: Box<Entry>,
    },
    /// A part of the record in an inbox, as it stands from now on.
    Pointer(Pointer),
}

/// What finds a part of a record in an inbox of its tenant: written over what was there before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// The inbox.
    pub inbox: String,
    /// The part's id, as callers know it.
    pub id: String,
    /// Sorts the inbox.
    pub created_at: Timestamp,
    /// Status under which it is listed.
    pub state: String,
}

impl<R> Change<R> {
    /// A change with a single entry, as most are.
    #[must_use]
    pub fn new(record: R, entry: Entry) -> Self {
        Self { record, entries: vec![entry], with: Vec::new() }
    }

    /// The same change with an item beside the record.
    #[must_use]
    pub fn with_item(mut self, name: impl Into<String>, body: String) -> Self {
        self.with.push(With::Item { name: name.into(), body });
        self
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
