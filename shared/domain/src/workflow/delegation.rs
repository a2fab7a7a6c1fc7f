//! Delegations: for a while, a user's new tasks go to somebody else. All delegations of a user are one record.

use crate::workflow::Editor;
use crate::{Change, Entry, EntryClass, Listing, Logged, Record, Subject, Tenant, Timestamp, rfc3339_micros};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The most that a user's delegations may take together, in bytes as they are stored.
const MAX_BYTES: usize = 300_000;

/// Where the delegations of a user are stored: a UUID of version 8 made of tenant and user, its last two bytes 0. The
/// id of one of them has its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DelegatorId(Uuid);

impl DelegatorId {
    /// Of this user.
    #[must_use]
    pub fn of(tenant: &Tenant, user: &str) -> Self {
        let hash: [u8; 32] = Sha256::digest(json!([tenant, user]).to_string()).into();
        let mut bytes = [0; 16];
        bytes[..14].copy_from_slice(&hash[..14]);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// Of the user whose delegation has this id; with its number.
    #[must_use]
    pub fn of_delegation(id: Uuid) -> (Self, u16) {
        let mut bytes = id.into_bytes();
        let number = u16::from_be_bytes([bytes[14], bytes[15]]);
        bytes[14..].fill(0);
        (Self(Uuid::from_bytes(bytes)), number)
    }

    fn delegation(self, number: u16) -> Uuid {
        let mut bytes = self.0.into_bytes();
        bytes[14..].copy_from_slice(&number.to_be_bytes());
        Uuid::from_bytes(bytes)
    }
}

impl std::fmt::Display for DelegatorId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// All delegations of a user, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegations {
    /// Where they are stored.
    pub id: DelegatorId,
    /// Whose tasks.
    pub user: String,
    /// When the first was made.
    pub created_at: Timestamp,
    /// Those that were not deleted.
    pub delegations: Vec<Delegation>,
    /// How many there have ever been.
    numbered: u16,
}

/// A window of time in which a user's new tasks go to somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    /// Its id.
    pub id: Uuid,
    /// To whom the tasks go.
    pub delegate_to: String,
    /// From when on.
    pub starts_at: Timestamp,
    /// Until just before when.
    pub ends_at: Timestamp,
    /// Why.
    pub reason: Option<String>,
    /// Who made it.
    pub created_by: String,
    /// When it was made; it is never changed.
    pub created_at: Timestamp,
}

/// What a delegation is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct New {
    /// Whose tasks.
    pub user: String,
    /// To whom they go.
    pub delegate_to: String,
    /// From when on.
    pub starts_at: Timestamp,
    /// Until just before when.
    pub ends_at: Timestamp,
    /// Why.
    pub reason: Option<String>,
}

/// Why the law says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The tenant has no such delegation.
    #[error("there is no delegation with this id")]
    NotFound,
    /// It would end before it starts.
    #[error("a delegation must end after it starts")]
    EndsBeforeItStarts,
    /// It would change nothing.
    #[error("a delegation must be to somebody else")]
    ToOneself,
    /// The user has as many as can be kept.
    #[error("this user has too many delegations; delete those that are over")]
    TooMany,
}

impl Delegations {
    /// Adds a delegation of a user; the one that was made last goes before the others.
    ///
    /// # Errors
    /// It is none, or there are too many.
    pub fn add(
        found: Option<&Self>,
        tenant: &Tenant,
        new: New,
        by: &Editor,
        now: Timestamp,
    ) -> Result<Change<Self>, Refusal> {
        if new.ends_at <= new.starts_at {
            return Err(Refusal::EndsBeforeItStarts);
        }
        if new.delegate_to == new.user {
            return Err(Refusal::ToOneself);
        }
        let mut all = found.cloned().unwrap_or_else(|| Self {
            id: DelegatorId::of(tenant, &new.user),
            user: new.user.clone(),
            created_at: now,
            delegations: Vec::new(),
            numbered: 0,
        });
        all.numbered = all.numbered.checked_add(1).ok_or(Refusal::TooMany)?;
        let delegation = Delegation {
            id: all.id.delegation(all.numbered),
            delegate_to: new.delegate_to,
            starts_at: new.starts_at,
            ends_at: new.ends_at,
            reason: new.reason,
            created_by: by.actor.name().to_owned(),
            created_at: now,
        };
        let entry = all.entry(CREATED, &delegation, None, Some(all.shown(&delegation)), by, now);
        all.delegations.push(delegation);
        let fits = serde_json::to_string(&all).is_ok_and(|text| text.len() <= MAX_BYTES);
        if fits { Ok(Change::new(all, entry)) } else { Err(Refusal::TooMany) }
    }

    /// Deletes a delegation. Tasks that it has moved stay where they are.
    ///
    /// # Errors
    /// There is none with this id.
    pub fn delete(&self, id: Uuid, by: &Editor, now: Timestamp) -> Result<Change<Self>, Refusal> {
        let deleted = self.delegations.iter().find(|delegation| delegation.id == id).ok_or(Refusal::NotFound)?;
        let entry = self.entry(DELETED, deleted, Some(self.shown(deleted)), None, by, now);
        let delegations = self.delegations.iter().filter(|delegation| delegation.id != id).cloned().collect();
        Ok(Change::new(Self { delegations, ..self.clone() }, entry))
    }

    /// To whom the user's new tasks go at this moment, if not to themselves.
    #[must_use]
    pub fn delegate(&self, now: Timestamp) -> Option<&str> {
        let open = |delegation: &&Delegation| delegation.starts_at <= now && now < delegation.ends_at;
        self.delegations.iter().rev().find(open).map(|delegation| delegation.delegate_to.as_str())
    }

    /// A delegation as the audit log shows it.
    fn shown(&self, delegation: &Delegation) -> Value {
        json!({
            "user_id": self.user,
            "delegate_to": delegation.delegate_to,
            "starts_at": rfc3339_micros(delegation.starts_at),
            "ends_at": rfc3339_micros(delegation.ends_at),
            "reason": delegation.reason,
        })
    }

    fn entry(
        &self,
        name: &str,
        delegation: &Delegation,
        before: Option<Value>,
        after: Option<Value>,
        by: &Editor,
        now: Timestamp,
    ) -> Entry {
        Entry {
            name: name.to_owned(),
            class: EntryClass::Audit,
            actor: by.actor.clone(),
            at: now,
            subject: Subject { kind: Self::KIND.to_owned(), id: delegation.id.to_string() },
            data: json!({ "actor_email": by.email, "before": before, "after": after }),
            state: None,
        }
    }
}

/// The entry of a delegation's birth.
pub const CREATED: &str = "delegation.create";
/// The entry of a delegation's end before its time.
pub const DELETED: &str = "delegation.delete";

impl Record for Delegations {
    const KIND: &'static str = "delegation";
    const SCHEMA: u32 = 1;
    type Refusal = Refusal;

    fn upgrade(_schema: u32, _body: Value) -> Option<Value> {
        None
    }

    fn listing(&self) -> Listing {
        Listing::at(self.created_at)
    }

    fn logged(entry: &Entry) -> Option<Logged> {
        Some(Logged { name: entry.name.clone(), by: Some(entry.actor.name().to_owned()) })
    }
}
