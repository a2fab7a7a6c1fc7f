//! Audit logs: the changes of one record, of a tenant's records one after the other, and of a tenant by time.

use crate::fault::retrying;
use crate::item::{self, Item, text};
use crate::key::parts;
use crate::list::{By, Cursor, Index, InvalidCursor, Order, PAGE_BYTES, Page, Position, Query};
use crate::{Fault, Key, Store};
use countersign_domain::chain::ChangeBody;
use countersign_domain::{Record, Tenant, Timestamp};
use serde::Serialize;
use serde_json::value::to_raw_value;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use tokio::time::Instant;

/// Up to how many changes a log is counted, and how far an offset into it may go.
pub const COUNTED: usize = 10_000;

/// A change as it is stored.
#[derive(Clone, Debug)]
pub struct StoredChange {
    /// The id of the record that it is of, as it stands in its key.
    pub id: String,
    /// What happened.
    pub body: ChangeBody,
    /// Hex of the hash before it.
    pub prev_hash: String,
    /// Hex of its own.
    pub hash: String,
}

/// Which changes of a tenant's log are asked for.
#[derive(Clone, Copy, Debug)]
pub struct LogQuery<'a> {
    /// Whose log.
    pub tenant: &'a Tenant,
    /// Only what this one did.
    pub by: Option<&'a str>,
    /// Only changes that say this.
    pub name: Option<&'a str>,
    /// Only from this moment on.
    pub since: Option<Timestamp>,
    /// Only before this moment.
    pub until: Option<Timestamp>,
}

/// Changes of a tenant, found but not read yet.
#[derive(Clone, Debug)]
pub struct Log {
    positions: Vec<Position>,
}

impl Log {
    /// How many were found, which are all of them unless it is as many as were looked for.
    #[must_use]
    pub fn found(&self) -> usize {
        self.positions.len()
    }
}

impl Store {
    /// Everything that happened to a record, oldest first; not verified.
    ///
    /// # Errors
    /// The table does not answer, or what is stored cannot be read.
    pub async fn history<R: Record>(&self, key: &Key<R>, deadline: Instant) -> Result<Vec<StoredChange>, Fault> {
        self.history_of(key, 1..=u64::from(u32::MAX), deadline).await
    }

    /// What made these versions of a record, oldest first; not verified.
    ///
    /// # Errors
    /// The table does not answer, or what is stored cannot be read.
    pub async fn history_of<R: Record>(
        &self,
        key: &Key<R>,
        versions: RangeInclusive<u64>,
        deadline: Instant,
    ) -> Result<Vec<StoredChange>, Fault> {
        let (first, last) = versions.into_inner();
        let mut changes = Vec::new();
        let mut after = None;
        loop {
            let (items, next) = self.changes_page(key.as_str(), first, last, after, deadline).await?;
            for item in &items {
                changes.push(read_change(item)?);
            }
            if next.is_none() {
                return Ok(changes);
            }
            after = next;
        }
    }

    /// The items beside a record whose names start with `prefix`, by name.
    ///
    /// # Errors
    /// The table does not answer, or what is stored cannot be read.
    pub async fn items<R: Record>(
        &self,
        key: &Key<R>,
        prefix: &str,
        deadline: Instant,
    ) -> Result<HashMap<String, String>, Fault> {
        let mut found = HashMap::new();
        let mut after = None;
        loop {
            let (items, next) = retrying(deadline, || {
                let query = self
                    .client
                    .query()
                    .table_name(&self.settings.table)
                    .consistent_read(true)
                    .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
                    .expression_attribute_values(":pk", text(key.as_str()))
                    .expression_attribute_values(":prefix", text(prefix))
                    .set_exclusive_start_key(after.clone())
                    .send();
                async move {
                    let page = query.await?;
                    Ok((page.items.unwrap_or_default(), page.last_evaluated_key))
                }
            })
            .await?;
            for item in &items {
                found.insert(item::get_text(item, "sk")?.to_owned(), item::get_text(item, "body")?.to_owned());
            }
            if next.is_none() {
                return Ok(found);
            }
            after = next;
        }
    }

    /// The changes of a tenant's records of one kind, newest first, as the indexes show them; no more than `look_for`.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn log<R: Record>(&self, query: LogQuery<'_>, look_for: usize, deadline: Instant) -> Result<Log, Fault> {
        let by = match (query.by, query.name) {
            (Some(by), _) => By::Subject(by),
            (None, Some(name)) => By::State(name),
            (None, None) => By::All,
        };
        let mut index = Index::new(&item::log_kind(R::KIND), query.tenant, by, Order::NewestFirst);
        let since = item::sortable(query.since.unwrap_or(Timestamp::UNIX_EPOCH));
        // Sorts behind every time.
        let until = query.until.map_or_else(|| "~".to_owned(), item::sortable);
        if since > until {
            return Ok(Log { positions: Vec::new() });
        }
        index.between = Some((since, until));
        let mut positions: Vec<Position> = Vec::new();
        let mut after = None;
        loop {
            let found = self.query_index(&index, look_for, after.as_ref(), deadline).await?;
            let more = found.len() == look_for;
            after = found.last().cloned();
            let named = |at: &Position| query.name.is_none_or(|name| at.listed_sk.rsplit('#').next() == Some(name));
            positions.extend(found.into_iter().filter(named));
            positions.truncate(look_for);
            if !more || positions.len() == look_for {
                return Ok(Log { positions });
            }
        }
    }

    /// Reads up to `limit` changes of a log from `offset` on, in its order, until `take` says that it is enough.
    ///
    /// # Errors
    /// The table does not answer, or what is stored cannot be read.
    pub async fn read_log(
        &self,
        log: &Log,
        offset: usize,
        limit: usize,
        deadline: Instant,
        mut take: impl FnMut(StoredChange) -> bool,
    ) -> Result<(), Fault> {
        let wanted = log.positions.iter().skip(offset).take(limit).cloned().collect::<Vec<_>>();
        for positions in wanted.chunks(100) {
            let mut items = self.batch_get(positions, false, deadline).await?;
            for position in positions {
                let Some(item) = items.remove(&(position.pk.clone(), position.sk.clone())) else { continue };
                if !take(read_change(&item)?) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The changes of the records of a listing, oldest first within each record, as rows that `shape` makes of them.
    ///
    /// # Errors
    /// The outer one is the table's, the inner one is the caller's cursor.
    pub async fn histories<R: Record, T: Serialize>(
        &self,
        query: Query<'_>,
        cursor: Cursor<'_>,
        deadline: Instant,
        shape: impl Fn(&StoredChange) -> Vec<T>,
    ) -> Result<Result<Page<String>, InvalidCursor>, Fault> {
        let index = Index::new(R::KIND, query.tenant, query.by, query.order);
        let scope = format!("histories:{}", index.scope());
        let start = cursor.text.map(|text| cursor.keys.open(&scope, text).as_deref().and_then(Reading::read));
        let mut reading = match start {
            None => Reading { record: None, version: 0, rows: 0 },
            Some(Some(reading)) => reading,
            Some(None) => return Ok(Err(InvalidCursor)),
        };
        let mut rows = Vec::new();
        let mut bytes = 0;
        loop {
            if let Some(record) = reading.record.clone() {
                let mut after = None;
                loop {
                    let first = reading.version + 1;
                    let (items, next) =
                        self.changes_page(&record.pk, first, u64::from(u32::MAX), after, deadline).await?;
                    for item in &items {
                        let change = read_change(item)?;
                        let version = change.body.version;
                        for row in shape(&change).iter().skip(reading.rows) {
                            let row = to_raw_value(row)
                                .map_err(|error| Fault::Corrupt(format!("a row cannot be written: {error}")))?;
                            bytes += row.get().len();
                            if rows.len() == query.limit || bytes > PAGE_BYTES && !rows.is_empty() {
                                let next = Some(cursor.keys.seal(&scope, &reading.write()));
                                return Ok(Ok(Page { rows, next }));
                            }
                            rows.push(row);
                            reading.rows += 1;
                        }
                        reading = Reading { version, rows: 0, ..reading.clone() };
                    }
                    if next.is_none() {
                        break;
                    }
                    after = next;
                }
            }
            let Some(record) = self.query_index(&index, 1, reading.record.as_ref(), deadline).await?.pop() else {
                return Ok(Ok(Page { rows, next: None }));
            };
            reading = Reading { record: Some(record), version: 0, rows: 0 };
        }
    }

    /// A page of a record's changes from one version to another, oldest first, and where the next one starts.
    pub(crate) async fn changes_page(
        &self,
        pk: &str,
        first: u64,
        last: u64,
        after: Option<Item>,
        deadline: Instant,
    ) -> Result<(Vec<Item>, Option<Item>), Fault> {
        retrying(deadline, || {
            let query = self
                .client
                .query()
                .table_name(&self.settings.table)
                .consistent_read(true)
                .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
                .expression_attribute_values(":pk", text(pk))
                .expression_attribute_values(":first", text(item::change_sk(first)))
                .expression_attribute_values(":last", text(item::change_sk(last)))
                .set_exclusive_start_key(after.clone())
                .send();
            async move {
                let page = query.await?;
                Ok((page.items.unwrap_or_default(), page.last_evaluated_key))
            }
        })
        .await
    }
}

/// How far the histories of a listing were read: all of `record` up to `version`, and `rows` of the next change.
#[derive(Clone, Debug)]
struct Reading {
    record: Option<Position>,
    version: u64,
    rows: usize,
}

impl Reading {
    fn write(&self) -> String {
        let record = self.record.as_ref().map(Position::write).unwrap_or_default();
        format!("{} {} {record}", self.version, self.rows)
    }

    fn read(text: &str) -> Option<Self> {
        let (version, rest) = text.split_once(' ')?;
        let (rows, record) = rest.split_once(' ')?;
        Some(Self { record: Position::read(record), version: version.parse().ok()?, rows: rows.parse().ok()? })
    }
}

fn read_change(item: &Item) -> Result<StoredChange, Fault> {
    let body = serde_json::from_str(item::get_text(item, "body")?);
    let body = body.map_err(|error| Fault::Corrupt(format!("a change cannot be read: {error}")))?;
    Ok(StoredChange {
        id: parts(item::get_text(item, "pk")?).2.to_owned(),
        body,
        prev_hash: hex::encode(item::get_bytes(item, "prev_hash")?),
        hash: hex::encode(item::get_bytes(item, "hash")?),
    })
}
