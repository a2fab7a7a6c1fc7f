//! Verifies audit chains: whether what is stored is still what was written.

use crate::item;
use crate::list::{By, Cursor, Index, InvalidCursor, Order, Position};
use crate::{Fault, Store};
use countersign_domain::Tenant;
use countersign_domain::chain::{Broken, ItemHash, Verifier};
use std::time::Duration;
use tokio::time::Instant;

/// How long one read of a verification may take; the whole has no limit.
const READ_BUDGET: Duration = Duration::from_secs(10);
/// How many keys are read at a time.
const KEYS: usize = 1000;

/// What was verified, and the first thing that was found wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Records whose chain is whole.
    pub records: u64,
    /// Entries in these chains.
    pub entries: u64,
    /// The first record whose chain is not; verification ends there.
    pub broken: Option<BrokenRecord>,
    /// Where to go on, if the time was up before the end.
    pub next: Option<Progress>,
}

/// How far a verification came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress(Position);

/// A record whose chain does not verify.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {broken}")]
pub struct BrokenRecord {
    /// Its partition key.
    pub key: String,
    /// Where and why.
    pub broken: Broken,
}

impl BrokenRecord {
    /// The record's id, as it stands in its key.
    #[must_use]
    pub fn id(&self) -> &str {
        crate::key::parts(&self.key).2
    }
}

/// What verifying a record's changes came to.
enum Changes {
    Whole(Verifier),
    Broken(Broken),
    /// There is a change that the record, as it was read, does not know of.
    Beyond,
}

const UNREADABLE: Broken = Broken { version: 0, reason: "the item cannot be read" };

impl Store {
    /// Verifies the chains of all records of one kind and tenant, up to the first that is broken or until `stop_at`.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn verify(
        &self,
        kind: &str,
        tenant: &Tenant,
        after: Option<Progress>,
        stop_at: Option<Instant>,
    ) -> Result<Verified, Fault> {
        let index = Index::new(kind, tenant, By::All, Order::OldestFirst);
        let mut verified = Verified::default();
        let mut after = after.map(|progress| progress.0);
        loop {
            let positions = self.query_index(&index, KEYS, after.as_ref(), Instant::now() + READ_BUDGET).await?;
            let more = positions.len() == KEYS;
            for position in positions {
                match self.verify_record(&position.pk).await? {
                    // Removed since the index was read.
                    None => {}
                    Some(Ok(entries)) => {
                        verified.records += 1;
                        verified.entries += entries;
                    }
                    Some(Err(broken)) => {
                        verified.broken = Some(BrokenRecord { key: position.pk, broken });
                        return Ok(verified);
                    }
                }
                after = Some(position);
                if stop_at.is_some_and(|stop_at| Instant::now() >= stop_at) {
                    verified.next = after.map(Progress);
                    return Ok(verified);
                }
            }
            if !more {
                return Ok(verified);
            }
        }
    }

    /// The same for a caller over HTTP, who goes on by cursor.
    ///
    /// # Errors
    /// The outer one is the table's, the inner one is the caller's cursor.
    pub async fn verify_until(
        &self,
        kind: &str,
        tenant: &Tenant,
        cursor: Cursor<'_>,
        stop_at: Instant,
    ) -> Result<Result<(Verified, Option<String>), InvalidCursor>, Fault> {
        let scope = format!("verify:{}", Index::new(kind, tenant, By::All, Order::OldestFirst).scope());
        let after = match cursor.text.map(|text| cursor.keys.open(&scope, text).as_deref().and_then(Position::read)) {
            None => None,
            Some(Some(position)) => Some(Progress(position)),
            Some(None) => return Ok(Err(InvalidCursor)),
        };
        let verified = self.verify(kind, tenant, after, Some(stop_at)).await?;
        let next = verified.next.as_ref().map(|next| cursor.keys.seal(&scope, &next.0.write()));
        Ok(Ok((verified, next)))
    }

    /// Reads the record first, then its changes, and recomputes all of it. `None` if there is no such record.
    async fn verify_record(&self, pk: &str) -> Result<Option<Result<u64, Broken>>, Fault> {
        let mut before = None;
        loop {
            let deadline = Instant::now() + READ_BUDGET;
            let Some(record) = self.get(pk.to_owned(), item::RECORD, deadline).await? else { return Ok(None) };
            let (Ok(stored), Ok(record_hash)) = (item::stored_record(&record), item::get_bytes(&record, "hash")) else {
                return Ok(Some(Err(UNREADABLE)));
            };
            if before == Some(stored.version) {
                // The change beyond it is still there and the record has not moved: it was set back.
                let reason = "the record does not know of this change";
                return Ok(Some(Err(Broken { version: stored.version + 1, reason })));
            }
            match self.verify_changes(pk, stored.version).await? {
                Changes::Whole(verifier) => return Ok(Some(verifier.finish(&stored, record_hash))),
                Changes::Broken(broken) => return Ok(Some(Err(broken))),
                // Perhaps it was changed since it was read.
                Changes::Beyond => before = Some(stored.version),
            }
        }
    }

    /// Verifies a record's changes up to `version`, and looks whether there is one beyond.
    async fn verify_changes(&self, pk: &str, version: u64) -> Result<Changes, Fault> {
        let mut verifier = Verifier::default();
        let mut next = 1;
        let mut after = None;
        loop {
            let deadline = Instant::now() + READ_BUDGET;
            let (items, more) = self.changes_page(pk, 0, version + 1, after, deadline).await?;
            for change in &items {
                if next > version {
                    return Ok(Changes::Beyond);
                }
                let (Ok(previous), Ok(hash), Ok(body)) = (
                    item::get_bytes(change, "prev_hash"),
                    item::get_bytes(change, "hash"),
                    item::get_text(change, "body"),
                ) else {
                    return Ok(Changes::Broken(Broken { version: next, ..UNREADABLE }));
                };
                let found = if item::get_text(change, "sk") == Ok(&item::change_sk(next)) { next } else { 0 };
                let items = match verifier.change(found, previous, hash, body) {
                    Ok(items) => items,
                    Err(broken) => return Ok(Changes::Broken(broken)),
                };
                if let Some(reason) = self.verify_items(pk, &items, deadline).await? {
                    return Ok(Changes::Broken(Broken { version: next, reason }));
                }
                next += 1;
            }
            if more.is_none() {
                return Ok(Changes::Whole(verifier));
            }
            after = more;
        }
    }

    /// Why an item beside the record is not the one that was written with a change; `None` if they all are.
    async fn verify_items(
        &self,
        pk: &str,
        items: &[ItemHash],
        deadline: Instant,
    ) -> Result<Option<&'static str>, Fault> {
        let at = |item: &ItemHash| Position { listed_sk: String::new(), pk: pk.to_owned(), sk: item.name.clone() };
        let positions: Vec<_> = items.iter().map(at).collect();
        let found = self.batch_get(&positions, false, deadline).await?;
        for written in items {
            let Some(item) = found.get(&(pk.to_owned(), written.name.clone())) else {
                return Ok(Some("an item that was written with it is missing"));
            };
            if item::get_text(item, "body").ok().map(|body| ItemHash::of(&written.name, body)).as_ref() != Some(written)
            {
                return Ok(Some("an item that was written with it has another content"));
            }
        }
        Ok(None)
    }
}
