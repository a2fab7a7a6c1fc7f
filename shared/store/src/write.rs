//! How a change becomes the items of one transaction.

use crate::item::{self, bytes, number, text};
use crate::{Fault, Key, Loaded, Store};
use aws_sdk_dynamodb::types::builders::PutBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put, TransactWriteItem};
use countersign_domain::chain::{self, ChangeBody, GENESIS, ItemHash, StoredRecord};
use countersign_domain::{Change, Entry, EntryClass, Record, Timestamp, With, Work};

/// The next version of a record, on its way into a transaction.
struct Version<'a, R> {
    key: &'a Key<R>,
    found: Option<&'a Loaded<R>>,
    record: &'a R,
    entries: Vec<Entry>,
    items: Vec<ItemHash>,
    change_id: &'a str,
    now: Timestamp,
}

impl Store {
    /// Everything that a change writes: the record and its change item first, in this order, then what comes along.
    pub(crate) fn transaction<R: Record>(
        &self,
        key: &Key<R>,
        found: Option<&Loaded<R>>,
        change: &Change<R>,
        change_id: &str,
        now: Timestamp,
    ) -> Result<Vec<TransactWriteItem>, Fault> {
        let items = change.with.iter().filter_map(|with| match with {
            With::Item { name, body } => Some(ItemHash::of(name, body)),
            With::Born { .. } | With::Pointer(_) => None,
        });
        let (record, entries) = (&change.record, change.entries.clone());
        let changed = Version { key, found, record, entries, items: items.collect(), change_id, now };
        let mut writes = self.version(changed)?;
        for with in &change.with {
            match with {
                With::Item { name, body } => {
                    let put = self.put(key.as_str(), name).item("body", text(body));
                    writes.push(write(put.condition_expression("attribute_not_exists(pk)"))?);
                }
                With::Born { id, record, entry } => {
                    let (key, entries) = (&key.sibling(id), vec![Entry::clone(entry)]);
                    let born =
                        Version { key, found: None, record: &**record, entries, items: Vec::new(), change_id, now };
                    writes.extend(self.version(born)?);
                }
                With::Pointer(pointer) => writes.push(self.pointer(&key.tenant()?, pointer)?),
            }
        }
        Ok(writes)
    }

    /// What there is to do once this change is committed.
    pub(crate) fn work<R: Record>(&self, key: &Key<R>, version: u64, change: &Change<R>, now: Timestamp) -> Vec<Work> {
        let told = |key: &Key<R>, version| Work { key: key.pk(), change: Some(version), at: now };
        let due = |key: &Key<R>| Work { key: key.pk(), change: None, at: now };
        let mut work = Vec::new();
        work.extend(change.entries.iter().any(is_event).then(|| told(key, version)));
        work.extend(change.record.is_ready(now).then(|| due(key)));
        for with in &change.with {
            if let With::Born { id, record, entry } = with {
                let key = key.sibling(id);
                work.extend(is_event(entry).then(|| told(&key, 1)));
                work.extend(record.is_ready(now).then(|| due(&key)));
            }
        }
        work
    }

    /// A record, its change item, and its pointer if it comes into an inbox or leaves one.
    fn version<R: Record>(&self, next: Version<'_, R>) -> Result<Vec<TransactWriteItem>, Fault> {
        let Version { key, found, record, mut entries, items, change_id, now } = next;
        let pk = key.as_str();
        let corrupt = |error: serde_json::Error| Fault::Corrupt(format!("{} cannot be written: {error}", R::KIND));
        let body = serde_json::to_string(record).map_err(corrupt)?;
        let version = found.map_or(0, |found| found.version) + 1;
        let changed_at = item::sortable(now);
        let stored = StoredRecord { key: pk, version, schema: R::SCHEMA, changed_at: &changed_at, body: &body };

        let told = entries.iter().any(is_event);
        let Some(last) = entries.last_mut() else {
            return Err(Fault::Corrupt(format!("a change of {} has no entry", R::KIND)));
        };
        last.state = Some(stored.state());
        let mut change_keys = item::log_keys::<R>(&entries, pk, version);
        if told {
            let due = now.saturating_add(self.settings.fan_out_after).unwrap_or(Timestamp::MAX);
            change_keys.extend(item::due_keys(pk, due, due));
        }
        let content = ChangeBody { change_id: change_id.to_owned(), version, entries, items };
        let content = serde_json::to_string(&content).map_err(corrupt)?;
        let prev_hash = found.map_or(GENESIS, |found| found.hash);
        let hash = chain::hash(&prev_hash, content.as_bytes());

        let change_put = self
            .put(pk, &item::change_sk(version))
            .item("change_id", text(change_id))
            .item("schema", number(item::CHANGE_SCHEMA))
            .item("body", text(content))
            .item("hash", bytes(&hash))
            .item("prev_hash", bytes(&prev_hash))
            .condition_expression("attribute_not_exists(pk)");
        let record_put = self
            .put(pk, item::RECORD)
            .item("version", number(version))
            .item("schema", number(R::SCHEMA))
            .item("changed_at", text(&changed_at))
            .item("hash", bytes(&hash))
            .item("body", text(body));
        let record_put = match found {
            None => record_put.condition_expression("attribute_not_exists(pk)"),
            Some(found) => record_put
                .condition_expression("version = :read")
                .expression_attribute_values(":read", number(found.version)),
        };
        let mut writes =
            vec![write(with(record_put, item::record_keys(record, pk)))?, write(with(change_put, change_keys))?];
        writes.extend(self.move_pointer(key, found.map(|found| &found.record), record)?);
        Ok(writes)
    }

    /// Puts a record into its inbox, or takes it out.
    fn move_pointer<R: Record>(
        &self,
        key: &Key<R>,
        before: Option<&R>,
        after: &R,
    ) -> Result<Vec<TransactWriteItem>, Fault> {
        let before = before.and_then(|before| item::pointer(before, key.as_str()));
        let after = item::pointer(after, key.as_str());
        if before == after {
            return Ok(Vec::new());
        }
        let mut writes = Vec::new();
        if let Some((pk, sk)) = before {
            let delete =
                Delete::builder().table_name(&self.settings.table).key("pk", text(pk)).key("sk", text(sk)).build();
            let delete = delete.map_err(|error| Fault::Corrupt(error.to_string()))?;
            writes.push(TransactWriteItem::builder().delete(delete).build());
        }
        if let Some((pk, sk)) = after {
            writes.push(write(self.put(&pk, &sk).item("of", text(key.as_str())))?);
        }
        Ok(writes)
    }

    pub(crate) fn put(&self, pk: &str, sk: &str) -> PutBuilder {
        Put::builder().table_name(&self.settings.table).item("pk", text(pk)).item("sk", text(sk))
    }
}

fn is_event(entry: &Entry) -> bool {
    entry.class == EntryClass::Public
}

fn with(put: PutBuilder, attributes: Vec<(&'static str, AttributeValue)>) -> PutBuilder {
    attributes.into_iter().fold(put, |put, (name, value)| put.item(name, value))
}

pub(crate) fn write(put: PutBuilder) -> Result<TransactWriteItem, Fault> {
    let put = put.build().map_err(|error| Fault::Corrupt(error.to_string()))?;
    Ok(TransactWriteItem::builder().put(put).build())
}
