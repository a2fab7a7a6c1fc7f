//! Reads audit chains: what happened to a record, and whether it is still what was written.

use crate::fault::retrying;
use crate::item::{self, Item, text};
use crate::key::part;
use crate::{Fault, Key, Store};
use aws_sdk_dynamodb::types::AttributeValue;
use countersign_domain::chain::{Broken, ChangeBody, Verifier};
use countersign_domain::{Record, Tenant};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long one page of a verification may take; the whole has no limit.
const PAGE_BUDGET: Duration = Duration::from_secs(10);

/// What was verified, and the first thing that was found wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Records whose chain is whole.
    pub records: u64,
    /// Entries in these chains.
    pub entries: u64,
    /// The first record whose chain is not; verification ends there.
    pub broken: Option<BrokenRecord>,
}

/// A record whose chain does not verify.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {broken}")]
pub struct BrokenRecord {
    /// Its partition key.
    pub key: String,
    /// Where and why.
    pub broken: Broken,
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
    /// Everything that happened to a record, oldest first; not verified.
    ///
    /// # Errors
    /// The table does not answer, or what is stored cannot be read.
    pub async fn history<R: Record>(&self, key: &Key<R>) -> Result<Vec<ChangeBody>, Fault> {
        let mut changes = Vec::new();
        let mut after = None;
        loop {
            let (items, next) = self.changes_page(&key.pk(), u64::from(u32::MAX), after).await?;
            for item in &items {
                let body = item::get_text(item, "body")?;
                let body = serde_json::from_str(body).map_err(|error| Fault::Corrupt(error.to_string()))?;
                changes.push(body);
            }
            if next.is_none() {
                return Ok(changes);
            }
            after = next;
        }
    }

    /// Verifies the chains of all records of one kind and tenant, up to the first that is broken.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn verify(&self, kind: &str, tenant: &Tenant) -> Result<Verified, Fault> {
        let mut verified = Verified::default();
        let mut after = None;
        loop {
            let (keys, next) = self.keys_page(kind, tenant, after).await?;
            for key in keys {
                match self.verify_record(&key).await? {
                    // Removed since the index was read.
                    None => {}
                    Some(Ok(entries)) => {
                        verified.records += 1;
                        verified.entries += entries;
                    }
                    Some(Err(broken)) => {
                        verified.broken = Some(BrokenRecord { key, broken });
                        return Ok(verified);
                    }
                }
            }
            if next.is_none() {
                return Ok(verified);
            }
            after = next;
        }
    }

    /// Reads the record first, then its changes, and recomputes all of it. `None` if there is no such record.
    async fn verify_record(&self, pk: &str) -> Result<Option<Result<u64, Broken>>, Fault> {
        let mut before = None;
        loop {
            let deadline = Instant::now() + PAGE_BUDGET;
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
            let (items, more) = self.changes_page(pk, version + 1, after).await?;
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
                if let Err(broken) = verifier.change(found, previous, hash, body) {
                    return Ok(Changes::Broken(broken));
                }
                next += 1;
            }
            if more.is_none() {
                return Ok(Changes::Whole(verifier));
            }
            after = more;
        }
    }

    /// A page of a record's changes up to `version`, oldest first, and where the next one starts.
    async fn changes_page(
        &self,
        pk: &str,
        version: u64,
        after: Option<Item>,
    ) -> Result<(Vec<Item>, Option<Item>), Fault> {
        retrying(Instant::now() + PAGE_BUDGET, || {
            let query = self
                .client
                .query()
                .table_name(&self.settings.table)
                .consistent_read(true)
                .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
                .expression_attribute_values(":pk", text(pk))
                .expression_attribute_values(":first", text(item::change_sk(0)))
                .expression_attribute_values(":last", text(item::change_sk(version)))
                .set_exclusive_start_key(after.clone())
                .send();
            async move {
                let page = query.await?;
                Ok((page.items.unwrap_or_default(), page.last_evaluated_key))
            }
        })
        .await
    }

    /// A page of the partition keys of one kind and tenant, oldest first.
    async fn keys_page(
        &self,
        kind: &str,
        tenant: &Tenant,
        after: Option<HashMap<String, AttributeValue>>,
    ) -> Result<(Vec<String>, Option<HashMap<String, AttributeValue>>), Fault> {
        let value = format!("{kind}#{}", part(tenant.as_str()));
        retrying(Instant::now() + PAGE_BUDGET, || {
            let query = self
                .client
                .query()
                .table_name(&self.settings.table)
                .index_name("all")
                .key_condition_expression("all_pk = :value")
                .expression_attribute_values(":value", text(&value))
                .set_exclusive_start_key(after.clone())
                .send();
            async move {
                let page = query.await?;
                let keys = page.items.unwrap_or_default();
                let keys = keys.iter().filter_map(|item| item::get_text(item, "pk").ok().map(str::to_owned)).collect();
                Ok((keys, page.last_evaluated_key))
            }
        })
        .await
    }
}
