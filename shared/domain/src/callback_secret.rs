//! The secrets that a tenant registers by id, for workflow callbacks and webhook endpoints that name one.

use crate::{Actor, Change, Entry, EntryClass, Listing, Record, Subject, Timestamp, key_ring::Sealed, text::text_of};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{convert::Infallible, str::FromStr};

/// How a secret begins that stands for bytes, as Standard Webhooks writes them.
pub const WHSEC: &str = "whsec_";

/// The id under which a secret is registered: 1 to 64 of `A-Z a-z 0-9 _ . -`, compared as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretId(String);

/// The text is not a secret's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 of A-Z a-z 0-9 _ . -")]
pub struct InvalidSecretId;

impl FromStr for SecretId {
    type Err = InvalidSecretId;

    fn from_str(id: &str) -> Result<Self, InvalidSecretId> {
        let valid = (1..=64).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if valid { Ok(Self(id.to_owned())) } else { Err(InvalidSecretId) }
    }
}

text_of! { SecretId, InvalidSecretId; }

impl SecretId {
    /// The one under which a tenant's secret signs the callbacks that name none.
    #[must_use]
    pub fn of_callbacks() -> Self {
        Self("default".to_owned())
    }
}

/// A secret that is registered by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedSecret {
    /// Its id.
    pub id: SecretId,
    /// The bytes that sign, sealed.
    pub value: Sealed,
    /// When it was first set.
    pub created_at: Timestamp,
    /// When it was last set.
    pub updated_at: Timestamp,
}

impl NamedSecret {
    /// Sets a secret, whether or not there is one with this id. It signs alone from now on.
    #[must_use]
    pub fn set(before: Option<&Self>, id: SecretId, value: Sealed, by: &Actor, now: Timestamp) -> Change<Self> {
        let created_at = before.map_or(now, |before| before.created_at);
        let entry = Entry {
            name: "secret.set".to_owned(),
            class: EntryClass::Audit,
            actor: by.clone(),
            at: now,
            subject: Subject { kind: "secret".to_owned(), id: id.to_string() },
            data: json!({ "secret_id": id }),
            state: None,
        };
        Change::new(Self { id, value, created_at, updated_at: now }, entry)
    }
}

impl Record for NamedSecret {
    const KIND: &'static str = "secret";
    const SCHEMA: u32 = 1;
    type Refusal = Infallible;

    fn upgrade(_schema: u32, _body: Value) -> Option<Value> {
        None
    }

    fn listing(&self) -> Listing {
        Listing::at(self.created_at)
    }
}

/// The bytes that sign when somebody is given `value` as a secret: those that it stands for if it is `whsec_` and
/// base64 of at least one byte, else its own.
#[must_use]
pub fn signing_bytes(value: &str) -> Vec<u8> {
    let decoded = value.strip_prefix(WHSEC).and_then(|encoded| STANDARD.decode(encoded).ok());
    // Everybody knows the empty key.
    decoded.filter(|bytes| !bytes.is_empty()).unwrap_or_else(|| value.as_bytes().to_vec())
}

/// How a secret of these bytes is shown to its owner.
#[must_use]
pub fn whsec(bytes: &[u8]) -> String {
    format!("{WHSEC}{}", STANDARD.encode(bytes))
}
