//! The tamper-evident audit log: how changes are hashed into a chain, and how a chain is verified.
//!
//! A change is stored as exact bytes. Its hash is SHA-256 over the hash before it and these bytes; the record
//! carries the latest hash. The last entry of a change also holds the SHA-256 of the record that the change made,
//! so a changed field of a record is found as well. Whoever can write the table can rebuild a whole chain or remove
//! a record with all of its changes: this is not found.

use crate::Entry;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// What comes before a record's first change.
pub const GENESIS: Hash = [0; 32];

/// A record as it is stored, without what only serves look-ups.
#[derive(Clone, Copy, Debug)]
pub struct StoredRecord<'a> {
    /// Its partition key: kind, tenant and id.
    pub key: &'a str,
    /// How many changes it has had.
    pub version: u64,
    /// The schema number of its body.
    pub schema: u32,
    /// When it was last changed, as stored.
    pub changed_at: &'a str,
    /// The record as JSON text.
    pub body: &'a str,
}

impl StoredRecord<'_> {
    /// SHA-256 of the record in a canonical form: its parts as a JSON array of texts and numbers.
    #[must_use]
    pub fn state(&self) -> String {
        let canonical = serde_json::json!([self.key, self.version, self.schema, self.changed_at, self.body]);
        hex::encode(Sha256::digest(canonical.to_string()))
    }
}

/// The content of a change item: what is hashed and kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangeBody {
    /// Random; tells a writer whether a change that it finds is its own.
    pub change_id: String,
    /// The record's version that this change made.
    pub version: u64,
    /// What happened.
    pub entries: Vec<Entry>,
    /// What was written beside the record with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<ItemHash>,
}

/// An item beside a record, as the change that wrote it knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemHash {
    /// Its name among the record's items.
    pub name: String,
    /// SHA-256 of its content.
    pub sha256: String,
}

impl ItemHash {
    /// What a change says of an item with this content.
    #[must_use]
    pub fn of(name: &str, body: &str) -> Self {
        Self { name: name.to_owned(), sha256: hex::encode(Sha256::digest(body)) }
    }
}

/// The hash of a change: SHA-256 over the hash before it and the stored bytes.
#[must_use]
pub fn hash(previous: &Hash, body: &[u8]) -> Hash {
    Sha256::new().chain_update(previous).chain_update(body).finalize().into()
}

/// Why a chain is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("change {version}: {reason}")]
pub struct Broken {
    /// The first change that does not fit; one past the last if the record itself does not.
    pub version: u64,
    /// What does not fit.
    pub reason: &'static str,
}

/// What does not fit if it is the record itself.
const OTHER_HASH: &str = "the record does not carry the hash of its last change";
const OTHER_RECORD: &str = "the record is not the one that its last change made";

impl Broken {
    /// The change to look at: the one that does not fit, or the last one if it is the record that does not.
    #[must_use]
    pub fn look_at(&self) -> u64 {
        let of_record = [OTHER_HASH, OTHER_RECORD].contains(&self.reason);
        self.version.saturating_sub(u64::from(of_record)).max(1)
    }
}

/// Checks the changes of one record, oldest first, then the record against the last.
#[derive(Debug)]
pub struct Verifier {
    version: u64,
    hash: Hash,
    entries: u64,
    state: Option<String>,
}

impl Default for Verifier {
    fn default() -> Self {
        Self { version: 0, hash: GENESIS, entries: 0, state: None }
    }
}

impl Verifier {
    /// Takes the next change, and gives the items that it wrote beside the record, which are the caller's to compare.
    /// Nothing of the body is parsed before its hash is found right.
    ///
    /// # Errors
    /// The first thing about the change that does not fit what came before.
    pub fn change(
        &mut self,
        version: u64,
        previous: &[u8],
        stored_hash: &[u8],
        body: &str,
    ) -> Result<Vec<ItemHash>, Broken> {
        let broken = |reason| Err(Broken { version: self.version + 1, reason });
        if version != self.version + 1 {
            return broken("the change is missing");
        }
        if previous != self.hash {
            return broken("its previous hash is not the hash of the change before");
        }
        let computed = hash(&self.hash, body.as_bytes());
        if stored_hash != computed {
            return broken("its content does not have the stored hash");
        }
        let Ok(parsed) = serde_json::from_str::<ChangeBody>(body) else {
            return broken("its content cannot be read");
        };
        if parsed.version != version {
            return broken("it was written as another change");
        }
        let Some(state) = parsed.entries.last().and_then(|entry| entry.state.clone()) else {
            return broken("it does not say which record it made");
        };
        self.version = version;
        self.hash = computed;
        self.entries += parsed.entries.len() as u64;
        self.state = Some(state);
        Ok(parsed.items)
    }

    /// Compares the record with its last change; the number of entries verified.
    ///
    /// # Errors
    /// The record has another version, another hash or another content than its last change says.
    pub fn finish(self, record: &StoredRecord<'_>, record_hash: &[u8]) -> Result<u64, Broken> {
        let broken = |reason| Err(Broken { version: self.version + 1, reason });
        if record.version != self.version {
            return broken("the change is missing");
        }
        if record_hash != self.hash {
            return broken(OTHER_HASH);
        }
        if self.state.as_deref() != Some(record.state().as_str()) {
            return broken(OTHER_RECORD);
        }
        Ok(self.entries)
    }
}
