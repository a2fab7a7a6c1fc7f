//! The API key of a program: bound to one tenant, limited to scopes, known here only by its hash.

use crate::{
    Actor, Change, Entry, EntryClass, Listing, Outcome, Record, Subject, Tenant, Timestamp, With, seconds, whole_second,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};
use subtle::ConstantTimeEq;

/// How the text of every key begins: `cs_live_<prefix>_<secret>`.
pub const PREFIX: &str = "cs_live_";

/// How long a rotated key can go on working at most, in minutes.
pub const MAX_GRACE_MINUTES: i64 = 10_080;

/// Whether a credential means to be an API key, and not a JWT, say. It may still be nobody's.
#[must_use]
pub fn looks_like_a_key(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// A key's id, which is no secret: `key_` and the first 32 hexadecimal digits of the SHA-256 of the key's text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(String);

/// The text is not a key's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be key_ and 32 of 0-9 a-f")]
pub struct InvalidKeyId;

impl KeyId {
    /// The id of the key with this text.
    #[must_use]
    pub fn of(key_text: &str) -> Self {
        KeyHash::of(key_text).id()
    }

    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    fn from_str(id: &str) -> Result<Self, InvalidKeyId> {
        match id.strip_prefix("key_") {
            Some(digits) if digits.len() == 32 && is_lower_hex(digits) => Ok(Self(id.to_owned())),
            Some(_) | None => Err(InvalidKeyId),
        }
    }
}

impl TryFrom<String> for KeyId {
    type Error = InvalidKeyId;

    fn try_from(id: String) -> Result<Self, InvalidKeyId> {
        id.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// SHA-256 of a key's text: enough to recognise the key, not to use it. Compared in constant time, never shown.
#[derive(Clone, Copy, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyHash([u8; 32]);

/// The text is not a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 64 of 0-9 a-f")]
pub struct InvalidKeyHash;

impl KeyHash {
    /// The hash of the key with this text.
    #[must_use]
    pub fn of(key_text: &str) -> Self {
        Self(Sha256::digest(key_text).into())
    }

    /// The id of the key with this hash.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId(format!("key_{}", hex::encode(&self.0[..16])))
    }
}

impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

impl TryFrom<String> for KeyHash {
    type Error = InvalidKeyHash;

    fn try_from(digits: String) -> Result<Self, InvalidKeyHash> {
        let mut hash = [0; 32];
        if !is_lower_hex(&digits) {
            return Err(InvalidKeyHash);
        }
        hex::decode_to_slice(digits, &mut hash).map_err(|_| InvalidKeyHash)?;
        Ok(Self(hash))
    }
}

impl From<KeyHash> for String {
    fn from(hash: KeyHash) -> Self {
        hex::encode(hash.0)
    }
}

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// Submit agents' actions, cancel them and report what became of them.
    ActionsSubmit,
    /// See actions.
    ActionsRead,
    /// See cases.
    CasesRead,
    /// Bring cases in, take them from the feed and give verdicts.
    CasesWrite,
    /// Manage the tenant's webhook endpoints.
    WebhooksManage,
}

/// The text is not a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of actions:submit, actions:read, cases:read, cases:write, webhooks:manage")]
pub struct InvalidScope;

impl Scope {
    /// Every scope, in the order in which they are shown.
    pub const ALL: [Self; 5] =
        [Self::ActionsSubmit, Self::ActionsRead, Self::CasesRead, Self::CasesWrite, Self::WebhooksManage];

    /// The documented word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ActionsSubmit => "actions:submit",
            Self::ActionsRead => "actions:read",
            Self::CasesRead => "cases:read",
            Self::CasesWrite => "cases:write",
            Self::WebhooksManage => "webhooks:manage",
        }
    }
}

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(word: &str) -> Result<Self, InvalidScope> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word).ok_or(InvalidScope)
    }
}

impl TryFrom<String> for Scope {
    type Error = InvalidScope;

    fn try_from(word: String) -> Result<Self, InvalidScope> {
        word.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.as_str().to_owned()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The scopes of a key: at least one, each once, always in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Scope>", into = "Vec<Scope>")]
pub struct Scopes(Vec<Scope>);

/// The list is not a key's scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one or more scopes, each of them once")]
pub struct InvalidScopes;

impl Scopes {
    /// Whether `scope` is one of them.
    #[must_use]
    pub fn contains(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Scope> {
        self.0.iter().copied()
    }
}

impl TryFrom<Vec<Scope>> for Scopes {
    type Error = InvalidScopes;

    fn try_from(mut scopes: Vec<Scope>) -> Result<Self, InvalidScopes> {
        scopes.sort_unstable();
        let distinct = scopes.is_sorted_by(|a, b| a < b);
        if distinct && !scopes.is_empty() { Ok(Self(scopes)) } else { Err(InvalidScopes) }
    }
}

impl From<Scopes> for Vec<Scope> {
    fn from(scopes: Scopes) -> Self {
        scopes.0
    }
}

/// A key of a tenant's program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id, made from its hash.
    pub id: KeyId,
    /// The hash of its text.
    pub hash: KeyHash,
    /// The tenant that its holder acts in.
    pub domain: Tenant,
    /// What its tenant calls it, 1 to 100 characters.
    pub name: String,
    /// The user in whose name its holder acts.
    pub owner: Option<u64>,
    /// What it may be used for.
    pub scopes: Scopes,
    /// When it was minted.
    pub created_at: Timestamp,
    /// From when on it is expired, if ever.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// The key that was minted to take its place; it then expires when the grace has passed.
    pub rotated_to: Option<KeyId>,
}

/// Why the law says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such key, or it no longer works.
    #[error("there is no working API key with this id")]
    NotFound,
    /// Another key has taken its place already.
    #[error("this API key was rotated already; rotate the key that took its place")]
    AlreadyRotated,
}

/// What a key is minted from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mint {
    /// The hash of the new key's text.
    pub hash: KeyHash,
    /// The tenant that its holder acts in.
    pub domain: Tenant,
    /// What its tenant calls it.
    pub name: String,
    /// The user in whose name its holder acts.
    pub owner: Option<u64>,
    /// What it may be used for.
    pub scopes: Scopes,
    /// From when on it is expired, if ever.
    pub expires_at: Option<Timestamp>,
}

impl ApiKey {
    /// Mints a key.
    #[must_use]
    pub fn mint(mint: Mint, by: &Actor, now: Timestamp) -> Change<Self> {
        let key = Self::born(mint, now);
        let entry = key.minted(None, by, now);
        Change::new(key, entry)
    }

    /// Whether `key_text` is this key and still opens doors at `now`.
    #[must_use]
    pub fn opens(&self, key_text: &str, now: Timestamp) -> bool {
        self.hash == KeyHash::of(key_text) && self.works(now)
    }

    /// Whether it is neither revoked nor expired at `now`.
    #[must_use]
    pub fn works(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires_at| now < expires_at)
    }

    /// Takes the key back, expired or not. Revoking it again changes nothing.
    #[must_use]
    pub fn revoke(&self, by: &Actor, now: Timestamp) -> Outcome<Self> {
        if self.revoked_at.is_some() {
            return Outcome::Keep;
        }
        let entry = self.entry("key.revoked", by, now, json!({ "key_id": self.id }));
        Outcome::Change(Change::new(Self { revoked_at: Some(now), ..self.clone() }, entry))
    }

    /// Mints the key that takes this one's place, and lets this one work for the grace, 0 to [`MAX_GRACE_MINUTES`].
    ///
    /// The new key has the same rights and expires when this one would have: a rotation prolongs nothing.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] if it was revoked, [`Refusal::AlreadyRotated`] whether or not the grace has passed, and
    /// [`Refusal::NotFound`] if it is expired.
    pub fn rotate(
        &self,
        hash: KeyHash,
        grace_minutes: i64,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Outcome<Self>, Refusal> {
        if self.revoked_at.is_some() {
            return Err(Refusal::NotFound);
        }
        if self.rotated_to.is_some() {
            return Err(Refusal::AlreadyRotated);
        }
        if !self.works(now) {
            return Err(Refusal::NotFound);
        }
        let next = Self::born(self.again(hash), now);
        let grace_ends = whole_second(now).saturating_add(seconds(grace_minutes * 60)).unwrap_or(Timestamp::MAX);
        let expires_at = self.expires_at.map_or(grace_ends, |expires_at| expires_at.min(grace_ends));
        let old = Self { expires_at: Some(expires_at), rotated_to: Some(next.id.clone()), ..self.clone() };
        let data = json!({ "key_id": old.id, "rotated_to": next.id, "expires_at": crate::rfc3339(expires_at) });
        let entry = old.entry("key.rotated", by, now, data);
        let born = With::Born {
            id: next.id.to_string(),
            entry: Box::new(next.minted(Some(&old.id), by, now)),
            record: Box::new(next),
        };
        Ok(Outcome::Change(Change { with: vec![born], ..Change::new(old, entry) }))
    }

    fn born(mint: Mint, now: Timestamp) -> Self {
        Self {
            id: mint.hash.id(),
            hash: mint.hash,
            domain: mint.domain,
            name: mint.name,
            owner: mint.owner,
            scopes: mint.scopes,
            created_at: now,
            expires_at: mint.expires_at,
            revoked_at: None,
            rotated_to: None,
        }
    }

    /// What a key like this one is minted from.
    fn again(&self, hash: KeyHash) -> Mint {
        Mint {
            hash,
            domain: self.domain.clone(),
            name: self.name.clone(),
            owner: self.owner,
            scopes: self.scopes.clone(),
            expires_at: self.expires_at,
        }
    }

    fn minted(&self, rotated_from: Option<&KeyId>, by: &Actor, now: Timestamp) -> Entry {
        let data = json!({
            "key_id": self.id,
            "domain": self.domain,
            "name": self.name,
            "owner": self.owner,
            "scopes": self.scopes,
            "expires_at": self.expires_at.map(crate::rfc3339),
            "rotated_from": rotated_from,
        });
        self.entry("key.minted", by, now, data)
    }

    fn entry(&self, name: &str, by: &Actor, at: Timestamp, data: Value) -> Entry {
        Entry {
            name: name.to_owned(),
            class: EntryClass::Audit,
            actor: by.clone(),
            at,
            subject: Subject { kind: "api_key".to_owned(), id: self.id.to_string() },
            data,
            state: None,
        }
    }
}

impl Record for ApiKey {
    const KIND: &'static str = "apikey";
    const SCHEMA: u32 = 1;
    type Refusal = Refusal;

    fn upgrade(_schema: u32, _body: Value) -> Option<Value> {
        None
    }

    fn listing(&self) -> Listing {
        // A key is found before its tenant is known, so that its own key names none.
        Listing { tenant: Some(self.domain.clone()), ..Listing::at(self.created_at) }
    }
}
