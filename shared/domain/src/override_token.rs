//! The override token: minted for one event of one customer, decided at most once.

use crate::{
    Actor, Change, Entry, EntryClass, Listing, Outcome, Record, Subject, Tenant, Timestamp, seconds, text::text_of,
    whole_second,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::str::FromStr;
use uuid::Uuid;

/// The longest life of a token, in minutes.
pub const MAX_TTL_MINUTES: i64 = 1440;

/// The id of the event that is overridden: 1 to 128 of `A-Z a-z 0-9 . _ : -`, compared as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventId(String);

/// The text is not an event id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 128 of A-Z a-z 0-9 . _ : -")]
pub struct InvalidEventId;

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(id: &str) -> Result<Self, InvalidEventId> {
        let valid = (1..=128).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-'));
        if valid { Ok(Self(id.to_owned())) } else { Err(InvalidEventId) }
    }
}

/// The name of a decision, e.g. `approve`: `[a-z][a-z0-9_]{0,31}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Decision(String);

/// The text is not the name of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 32 of a-z 0-9 _, and start with a letter")]
pub struct InvalidDecision;

impl FromStr for Decision {
    type Err = InvalidDecision;

    fn from_str(name: &str) -> Result<Self, InvalidDecision> {
        let valid = (1..=32).contains(&name.len())
            && name.as_bytes()[0].is_ascii_lowercase()
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if valid { Ok(Self(name.to_owned())) } else { Err(InvalidDecision) }
    }
}

text_of! { EventId, InvalidEventId; Decision, InvalidDecision; }

/// A one-time token that authorizes one decision about one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideToken {
    /// Its id, random.
    pub jti: Uuid,
    /// The customer that owns the event.
    pub customer: Tenant,
    /// The event.
    pub event_id: EventId,
    /// The decisions that it can be used for, 1 to 8 distinct ones.
    pub allowed_decisions: Vec<Decision>,
    /// When it was minted, in whole seconds.
    pub created_at: Timestamp,
    /// From when on it is expired, in whole seconds.
    pub expires_at: Timestamp,
    /// What has become of it.
    pub state: State,
}

/// What has become of a token. Expiry is no state: it follows from the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum State {
    /// It can be used until it expires.
    Active,
    /// The one decision has been taken; for ever.
    Used {
        /// The decision.
        decision: Decision,
        /// Who took it.
        by: Actor,
        /// When.
        at: Timestamp,
    },
    /// It was taken back before it was used.
    Revoked {
        /// Who took it back.
        by: Actor,
        /// When.
        at: Timestamp,
    },
}

/// A token's status as callers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It can be used.
    Active,
    /// Decided.
    Used,
    /// Taken back.
    Revoked,
    /// Neither, and its time is over.
    Expired,
}

impl Status {
    /// The documented word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Used => "used",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// Why the law says no; none of these uses the token up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such token for this customer and event.
    #[error("there is no such override token for this customer and event")]
    NotFound,
    /// It was revoked.
    #[error("this override token was revoked")]
    Revoked,
    /// A decision was recorded already.
    #[error("a decision was already recorded with this override token")]
    AlreadyUsed,
    /// Its time is over.
    #[error("this override token has expired")]
    Expired,
    /// The token does not allow this decision.
    #[error("this override token does not allow this decision")]
    DecisionNotAllowed {
        /// What it allows.
        allowed: Vec<Decision>,
    },
}

/// What a token is minted from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mint {
    /// The new token's id.
    pub jti: Uuid,
    /// The customer that owns the event.
    pub customer: Tenant,
    /// The event.
    pub event_id: EventId,
    /// The decisions that it can be used for.
    pub allowed_decisions: Vec<Decision>,
    /// Why it is minted; kept in the audit log.
    pub reason: Option<String>,
    /// Its life, 1 to [`MAX_TTL_MINUTES`].
    pub ttl_minutes: i64,
}

/// A decision on its way to a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decide {
    /// The event that the caller means.
    pub event_id: EventId,
    /// The decision.
    pub decision: Decision,
    /// Why; kept in the audit log.
    pub reason: Option<String>,
}

impl OverrideToken {
    /// Mints a token. Its life begins with the current whole second, as its signed form has no finer times.
    #[must_use]
    pub fn mint(mint: Mint, by: &Actor, now: Timestamp) -> Change<Self> {
        let created_at = whole_second(now);
        let token = Self {
            jti: mint.jti,
            customer: mint.customer,
            event_id: mint.event_id,
            allowed_decisions: mint.allowed_decisions,
            created_at,
            expires_at: created_at.saturating_add(seconds(mint.ttl_minutes * 60)).unwrap_or(Timestamp::MAX),
            state: State::Active,
        };
        // The jti stays out: whoever knows it could decide.
        let data = json!({
            "event_id": token.event_id,
            "allowed_decisions": token.allowed_decisions,
            "reason": mint.reason,
            "expires_at": crate::rfc3339(token.expires_at),
        });
        let entry = token.entry("override.created", by, now, data);
        Change::new(token, entry)
    }

    /// Records the one decision.
    ///
    /// # Errors
    /// Refusals are found in the documented order: unknown event, revoked, used, expired, not allowed.
    pub fn decide(&self, decide: &Decide, by: &Actor, now: Timestamp) -> Result<Outcome<Self>, Refusal> {
        if decide.event_id != self.event_id {
            return Err(Refusal::NotFound);
        }
        match self.state {
            State::Revoked { .. } => return Err(Refusal::Revoked),
            State::Used { .. } => return Err(Refusal::AlreadyUsed),
            State::Active => {}
        }
        if now >= self.expires_at {
            return Err(Refusal::Expired);
        }
        if !self.allowed_decisions.contains(&decide.decision) {
            return Err(Refusal::DecisionNotAllowed { allowed: self.allowed_decisions.clone() });
        }
        let state = State::Used { decision: decide.decision.clone(), by: by.clone(), at: now };
        let data = json!({
            "event_id": self.event_id,
            "jti": self.jti,
            "decision": decide.decision,
            "reason": decide.reason,
        });
        let entry = self.entry("override.decided", by, now, data);
        Ok(Outcome::Change(Change::new(Self { state, ..self.clone() }, entry)))
    }

    /// Takes the token back, expired or not. Revoking it again changes nothing.
    ///
    /// # Errors
    /// [`Refusal::AlreadyUsed`] once a decision was recorded.
    pub fn revoke(&self, by: &Actor, now: Timestamp) -> Result<Outcome<Self>, Refusal> {
        match self.state {
            State::Used { .. } => Err(Refusal::AlreadyUsed),
            State::Revoked { .. } => Ok(Outcome::Keep),
            State::Active => {
                let state = State::Revoked { by: by.clone(), at: now };
                let data = json!({ "event_id": self.event_id, "jti": self.jti });
                let entry = self.entry("override.revoked", by, now, data);
                Ok(Outcome::Change(Change::new(Self { state, ..self.clone() }, entry)))
            }
        }
    }

    /// What a caller is told at `now`.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> Status {
        match self.state {
            State::Used { .. } => Status::Used,
            State::Revoked { .. } => Status::Revoked,
            State::Active if now >= self.expires_at => Status::Expired,
            State::Active => Status::Active,
        }
    }

    fn entry(&self, name: &str, by: &Actor, at: Timestamp, data: Value) -> Entry {
        Entry {
            name: name.to_owned(),
            class: EntryClass::Public,
            actor: by.clone(),
            at,
            subject: Subject { kind: "override".to_owned(), id: self.event_id.to_string() },
            data,
            state: None,
        }
    }
}

impl Record for OverrideToken {
    const KIND: &'static str = "override";
    const SCHEMA: u32 = 1;
    type Refusal = Refusal;

    fn upgrade(_schema: u32, _body: Value) -> Option<Value> {
        None
    }

    fn listing(&self) -> Listing {
        Listing::at(self.created_at)
    }
}
