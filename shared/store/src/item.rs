//! How records, changes and idempotency entries are laid out as items.

use crate::{Fault, Loaded};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use countersign_domain::chain::{self, Hash, StoredRecord};
use countersign_domain::{Record, Timestamp};
use serde_json::Value;
use std::collections::HashMap;

pub(crate) type Item = HashMap<String, AttributeValue>;

/// Sort key of a record and of an idempotency entry.
pub(crate) const RECORD: &str = "@";
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

/// The attributes by which a record is found in listings.
pub(crate) fn index_keys<R: Record>(record: &R, pk: &str) -> impl Iterator<Item = (String, AttributeValue)> {
    let listing = record.listing();
    // A partition key is kind, tenant and id, and none of the three contains a bare `#`.
    let mut parts = pk.splitn(3, '#');
    let (kind, tenant) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let id = parts.next().unwrap_or_default();
    let under = |value: &str| text(format!("{kind}#{tenant}#{}", crate::key::part(value)));
    [
        Some(("all_pk", text(format!("{kind}#{tenant}")))),
        Some(("listed_sk", text(format!("{}#{id}", sortable(listing.created_at))))),
        listing.state.map(|state| ("state_pk", under(state))),
        listing.subject.map(|subject| ("subject_pk", under(&subject))),
    ]
    .into_iter()
    .flatten()
    .map(|(name, value)| (name.to_owned(), value))
    .collect::<Vec<_>>()
    .into_iter()
}

/// In which of the 16 partitions of the `due` index an item is looked for.
pub(crate) fn due_shard(pk: &str) -> String {
    format!("due#{}", chain::hash(&chain::GENESIS, pk.as_bytes())[0] % 16)
}
