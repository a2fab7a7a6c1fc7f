//! How records, changes and idempotency entries are laid out as items.

use crate::key::{part, parts};
use crate::{Fault, Loaded};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use countersign_domain::chain::{self, Hash, StoredRecord};
use countersign_domain::{Entry, EntryClass, Record, Timestamp};
use serde_json::Value;
use std::collections::HashMap;

pub(crate) type Item = HashMap<String, AttributeValue>;

/// Sort key of a record and of an idempotency entry.
pub(crate) const RECORD: &str = "@";
/// Sort key of a record's large input.
pub(crate) const INPUT: &str = "@input";
/// What the table's TTL looks at; whoever reads an item compares it as well.
pub(crate) const EXPIRES: &str = "expires";
/// The schema number of change items.
pub(crate) const CHANGE_SCHEMA: u32 = 1;

pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(crate) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(crate) fn bytes(value: &[u8]) -> AttributeValue {
    AttributeValue::B(Blob::new(value))
}

/// Sort key of the change that made `version`.
pub(crate) fn change_sk(version: u64) -> String {
    format!("change#{version:010}")
}

/// The version that the change with this sort key made; `None` if it is no change.
pub(crate) fn change_version(sk: &str) -> Option<u64> {
    sk.strip_prefix("change#")?.parse().ok()
}

/// RFC 3339 with exactly six digits, so that text order is time order.
pub(crate) fn sortable(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

pub(crate) fn get_text<'a>(item: &'a Item, name: &str) -> Result<&'a str, Fault> {
    match item.get(name) {
        Some(AttributeValue::S(value)) => Ok(value),
        _ => Err(Fault::Corrupt(format!("text `{name}` is missing"))),
    }
}

pub(crate) fn get_number<N: std::str::FromStr>(item: &Item, name: &str) -> Result<N, Fault> {
    let value = match item.get(name) {
        Some(AttributeValue::N(value)) => value.parse().ok(),
        _ => None,
    };
    value.ok_or_else(|| Fault::Corrupt(format!("number `{name}` is missing")))
}

pub(crate) fn get_bytes<'a>(item: &'a Item, name: &str) -> Result<&'a [u8], Fault> {
    match item.get(name) {
        Some(AttributeValue::B(value)) => Ok(value.as_ref()),
        _ => Err(Fault::Corrupt(format!("bytes `{name}` are missing"))),
    }
}

/// The chained view of a stored record, before anything of its body is parsed.
pub(crate) fn stored_record(item: &Item) -> Result<StoredRecord<'_>, Fault> {
    Ok(StoredRecord {
        key: get_text(item, "pk")?,
        version: get_number(item, "version")?,
        schema: get_number(item, "schema")?,
        changed_at: get_text(item, "changed_at")?,
        body: get_text(item, "body")?,
    })
}

pub(crate) fn read_record<R: Record>(item: &Item) -> Result<Loaded<R>, Fault> {
    let stored = stored_record(item)?;
    let corrupt = |what: &str| Fault::Corrupt(format!("{}: {what}", R::KIND));
    let record = if stored.schema == R::SCHEMA {
        serde_json::from_str(stored.body).map_err(|_| corrupt("the body cannot be read"))?
    } else if stored.schema > R::SCHEMA {
        // Written by a newer version that is being rolled out; it is well, only not for us.
        return Err(Fault::Unavailable(format!("{} has the newer schema {}", R::KIND, stored.schema)));
    } else {
        let body: Value = serde_json::from_str(stored.body).map_err(|_| corrupt("the body cannot be read"))?;
        let body = R::upgrade(stored.schema, body).ok_or_else(|| corrupt("there was no such schema"))?;
        serde_json::from_value(body).map_err(|_| corrupt("the upgraded body cannot be read"))?
    };
    let hash = Hash::try_from(get_bytes(item, "hash")?).map_err(|_| corrupt("the hash is no SHA-256"))?;
    let changed_at = stored.changed_at.parse().map_err(|_| corrupt("`changed_at` is no time"))?;
    Ok(Loaded { record, version: stored.version, changed_at, hash })
}

/// The attributes by which a record is found: in listings, and by the clock.
pub(crate) fn record_keys<R: Record>(record: &R, pk: &str) -> Vec<(&'static str, AttributeValue)> {
    let listing = record.listing();
    let (kind, own, id) = parts(pk);
    let tenant = listing.tenant.as_ref().map_or_else(|| own.to_owned(), |tenant| part(tenant.as_str()));
    let mut keys = index_keys(kind, &tenant, listing.state, listing.subject.as_deref());
    keys.push(("listed_sk", text(listed_sk(listing.created_at, id))));
    if let (Some(look_at), Some(due)) = (record.look_at(), record.due()) {
        keys.extend(due_keys(pk, look_at, due));
    }
    keys
}

/// The attributes by which a change is found in its tenant's log: one that is logged by its kind, or has events. The
/// sort key also says what happened, so that a second filter needs no look at the change.
pub(crate) fn log_keys<R: Record>(entries: &[Entry], pk: &str, version: u64) -> Vec<(&'static str, AttributeValue)> {
    let events: Vec<&str> =
        entries.iter().filter(|entry| entry.class == EntryClass::Public).map(|entry| entry.name.as_str()).collect();
    let Some(last) = entries.last() else { return Vec::new() };
    let logged = R::logged(last);
    if logged.is_none() && events.is_empty() {
        return Vec::new();
    }
    let (kind, tenant, id) = parts(pk);
    let name = logged.as_ref().map(|logged| logged.name.as_str());
    let by = logged.as_ref().and_then(|logged| logged.by.as_deref());
    let mut keys = index_keys(&log_kind(kind), tenant, name, by);
    let name = name.unwrap_or_default();
    let sk = format!("{}#{version:010}#{}#{name}", listed_sk(last.at, id), counted(&events));
    keys.push(("listed_sk", text(sk)));
    keys
}

/// The events of a change in a few letters, since a sort key has at most 1,024 bytes: `task.expired*80,stage.started`.
fn counted(events: &[&str]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for event in events {
        match counts.iter_mut().find(|(name, _)| name == event) {
            Some((_, count)) => *count += 1,
            None => counts.push((event, 1)),
        }
    }
    let texts =
        counts.iter().map(|(name, count)| if *count == 1 { (*name).to_owned() } else { format!("{name}*{count}") });
    texts.collect::<Vec<_>>().join(",")
}

/// How many of the events in a log's sort key `wanted` lets through.
pub(crate) fn count_events(listed_sk: &str, wanted: impl Fn(&str) -> bool) -> usize {
    let events = listed_sk.rsplit('#').nth(1).unwrap_or_default();
    let count = |event: &str| match event.split_once('*') {
        None => usize::from(wanted(event)),
        Some((name, count)) if wanted(name) => count.parse().unwrap_or(0),
        Some(_) => 0,
    };
    events.split(',').filter(|event| !event.is_empty()).map(count).sum()
}

/// What the changes of a kind are listed as.
pub(crate) fn log_kind(kind: &str) -> String {
    format!("{kind}-log")
}

/// The attributes by which the `all`, `state` and `subject` indexes find an item; `tenant` as it stands in keys.
pub(crate) fn index_keys(
    kind: &str,
    tenant: &str,
    state: Option<&str>,
    subject: Option<&str>,
) -> Vec<(&'static str, AttributeValue)> {
    let under = |value: &str| text(format!("{kind}#{tenant}#{}", index_part(value)));
    let mut keys = vec![("all_pk", text(format!("{kind}#{tenant}")))];
    keys.extend(state.map(|state| ("state_pk", under(state))));
    keys.extend(subject.map(|subject| ("subject_pk", under(subject))));
    keys
}

/// What a record is listed under, short enough for an index key, which has at most 2,048 bytes.
pub(crate) fn index_part(value: &str) -> String {
    let text = part(value);
    // A `#` stands in no part: no other value is listed under the same text.
    if text.len() <= 512 { text } else { format!("#{}", hex::encode(chain::hash(&chain::GENESIS, text.as_bytes()))) }
}

/// Sorts a listing by time; `id` as it stands in the partition key.
pub(crate) fn listed_sk(at: Timestamp, id: &str) -> String {
    format!("{}#{id}", sortable(at))
}

/// When the clock looks at an item, where it finds it, and for when it sends word.
pub(crate) fn due_keys(pk: &str, look_at: Timestamp, due: Timestamp) -> [(&'static str, AttributeValue); 2] {
    [("due_pk", text(due_shard(pk))), ("due_sk", text(due_sk(look_at, due)))]
}

/// Sorts by when the clock looks; says behind that when the thing itself is due, unless it is the same.
pub(crate) fn due_sk(look_at: Timestamp, due: Timestamp) -> String {
    if look_at == due { sortable(due) } else { format!("{}#{}", sortable(look_at), sortable(due)) }
}

/// When the thing itself is due; what says nothing that can be read is due already.
pub(crate) fn due_time(due_sk: &str) -> Timestamp {
    due_sk.rsplit('#').next().and_then(|due| due.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Where the pointer of a record that waits in an inbox is.
pub(crate) fn pointer<R: Record>(record: &R, pk: &str) -> Option<(String, String)> {
    let listing = record.listing();
    let (_, tenant, id) = parts(pk);
    listing.inbox.map(|inbox| (inbox_pk(tenant, &inbox), listed_sk(listing.created_at, id)))
}

/// `tenant` as it stands in keys.
pub(crate) fn inbox_pk(tenant: &str, inbox: &str) -> String {
    format!("inbox#{tenant}#{}", part(inbox))
}

/// Over how many partitions the `due` index is spread.
pub const SHARDS: u8 = 16;

pub(crate) fn shard(number: u8) -> String {
    format!("due#{number}")
}

/// In which of the partitions of the `due` index an item is looked for.
pub(crate) fn due_shard(pk: &str) -> String {
    shard(chain::hash(&chain::GENESIS, pk.as_bytes())[0] % SHARDS)
}
