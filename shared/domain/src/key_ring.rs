//! A customer's signing keys: at most one active, the rotated ones verifying until their last token has expired.

use crate::{
    Actor, Change, Entry, EntryClass, Listing, Outcome, Record, Subject, Tenant, Timestamp, override_token, seconds,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;

/// How long a rotated key goes on verifying: the longest life of a token, and a minute for one that was being
/// minted with the old key while it was rotated.
const VERIFYING_SECONDS: i64 = override_token::MAX_TTL_MINUTES * 60 + 60;

/// How many rotated keys a ring holds at a time, so that it stays one small record.
pub const MAX_VERIFYING: usize = 100;

/// All signing keys of one customer; one record, since they are decided about together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRing {
    /// Whose keys.
    pub customer: Tenant,
    /// When the first key was minted.
    pub created_at: Timestamp,
    /// The key that signs.
    pub active: ActiveKey,
    /// Keys that were rotated and may still verify, oldest first.
    pub verifying: Vec<VerifyingKey>,
}

/// The key that signs new tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveKey {
    /// The second part of its id; the first key's is 1, the next one's is one more.
    pub number: u32,
    /// Its public half.
    pub public: PublicKey,
    /// Its private half.
    pub private: Sealed,
    /// When it was minted.
    pub created_at: Timestamp,
}

/// A rotated key; its private half is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyingKey {
    /// The second part of its id.
    pub number: u32,
    /// Its public half.
    pub public: PublicKey,
    /// From when on nothing that it signed is valid.
    pub until: Timestamp,
}

/// The coordinates of a point on P-256, each in unpadded base64url, as a JWK has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    /// First coordinate.
    pub x: String,
    /// Second coordinate.
    pub y: String,
}

/// An encrypted secret inside a record. The domain carries it and cannot open it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(pub String);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(..)")
    }
}

/// A freshly generated key pair, the private half already sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Its public half.
    pub public: PublicKey,
    /// Its private half.
    pub private: Sealed,
}

/// Why the law says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The customer has an active key already.
    #[error("this customer has an active signing key; rotate it to replace it")]
    KeyExists,
    /// No active key has this id.
    #[error("there is no active signing key with this id")]
    KeyNotFound,
    /// Too many rotated keys may still verify.
    #[error("{MAX_VERIFYING} rotated keys of this customer may still verify; rotate again when the first has expired")]
    TooManyKeys,
}

impl KeyRing {
    /// Starts a customer's ring with its first key.
    #[must_use]
    pub fn start(customer: Tenant, key: NewKey, by: &Actor, now: Timestamp) -> Change<Self> {
        let active = ActiveKey { number: 1, public: key.public, private: key.private, created_at: now };
        let ring = Self { customer, created_at: now, active, verifying: Vec::new() };
        let entry = ring.entry("signing_key.created", by, now);
        Change::new(ring, entry)
    }

    /// Replaces the active key, if `number` is its number; the old one verifies until its last token has expired.
    ///
    /// # Errors
    /// [`Refusal::KeyNotFound`] if another key is active, so that of two rotations of one key one acts;
    /// [`Refusal::TooManyKeys`] if the ring is full.
    pub fn rotate(&self, number: u32, key: NewKey, by: &Actor, now: Timestamp) -> Result<Outcome<Self>, Refusal> {
        if number != self.active.number {
            return Err(Refusal::KeyNotFound);
        }
        let mut verifying: Vec<_> = self.verifying(now).cloned().collect();
        if verifying.len() >= MAX_VERIFYING {
            return Err(Refusal::TooManyKeys);
        }
        verifying.push(VerifyingKey {
            number,
            public: self.active.public.clone(),
            until: now.saturating_add(seconds(VERIFYING_SECONDS)).unwrap_or(Timestamp::MAX),
        });
        let active = ActiveKey { number: number + 1, public: key.public, private: key.private, created_at: now };
        let ring = Self { active, verifying, ..self.clone() };
        let entry = ring.entry("signing_key.rotated", by, now);
        Ok(Outcome::Change(Change::new(ring, entry)))
    }

    /// The rotated keys that still verify at `now`.
    pub fn verifying(&self, now: Timestamp) -> impl Iterator<Item = &VerifyingKey> {
        self.verifying.iter().filter(move |key| now < key.until)
    }

    /// A key's id: `<customer>.<number>`.
    #[must_use]
    pub fn key_id(&self, number: u32) -> String {
        format!("{}.{number}", self.customer)
    }

    /// Takes a key's id apart; `None` if it is not one.
    #[must_use]
    pub fn parse_key_id(id: &str) -> Option<(Tenant, u32)> {
        let (customer, number) = id.rsplit_once('.')?;
        let parsed = number.parse().ok()?;
        // One spelling: no sign and no leading zero.
        (u32::to_string(&parsed) == number).then_some(())?;
        Some((customer.parse().ok()?, parsed))
    }

    fn entry(&self, name: &str, by: &Actor, at: Timestamp) -> Entry {
        let id = self.key_id(self.active.number);
        Entry {
            name: name.to_owned(),
            class: EntryClass::Audit,
            actor: by.clone(),
            at,
            data: json!({ "key_id": id }),
            subject: Subject { kind: "signing_key".to_owned(), id },
            state: None,
        }
    }
}

impl Record for KeyRing {
    const KIND: &'static str = "keyring";
    const SCHEMA: u32 = 1;
    type Refusal = Refusal;

    fn upgrade(_schema: u32, _body: Value) -> Option<Value> {
        None
    }

    fn listing(&self) -> Listing {
        Listing::at(self.created_at)
    }
}
