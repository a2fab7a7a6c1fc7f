//! Listings: one query of a sparse index and one consistent batch read per page.

use crate::fault::{backoff, retrying, wait};
use crate::item::{self, Item, index_part, text};
use crate::key::part;
use crate::{CursorKeys, Fault, Key, Loaded, Store};
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, Select};
use countersign_domain::{Record, Tenant};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::HashMap;
use std::future::ready;
use tokio::time::Instant;

/// DynamoDB's limit for one BatchGetItem.
const BATCH: usize = 100;
/// How many records a page looks at when a second filter drops most of them.
const LOOKED_AT: usize = 1000;
/// How many records a listing by offset looks at: the largest offset and the largest page.
const LOOKED_AT_BY_OFFSET: usize = 11_000;
/// How large the rows of a page may become together, in bytes; a page has at least one row if there is one.
pub const PAGE_BYTES: usize = 4_000_000;

/// Which records a listing is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By<'a> {
    /// All of the tenant's.
    All,
    /// Those in this state.
    State(&'a str),
    /// Those about this subject.
    Subject(&'a str),
}

/// In which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By creation, oldest first.
    OldestFirst,
    /// By creation, newest first.
    NewestFirst,
}

/// A listing, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Whose records.
    pub tenant: &'a Tenant,
    /// Which of them.
    pub by: By<'a>,
    /// In which order.
    pub order: Order,
    /// How many at most.
    pub limit: usize,
    /// Whether the records' large inputs are read along.
    pub with_input: bool,
}

/// A cursor as a caller sent it, and what cursors are authenticated with.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    /// Where the page before ended.
    pub text: Option<&'a str>,
    /// What cursors are authenticated with.
    pub keys: &'a CursorKeys,
}

/// A record in a listing, as it is now.
#[derive(Clone, Debug)]
pub struct Found<R> {
    /// The record.
    pub record: R,
    /// Its large input, if that was asked for and there is one.
    pub input: Option<String>,
}

/// A page, each row as the JSON that it is sent as.
#[derive(Clone, Debug)]
pub struct Page<N> {
    /// The rows.
    pub rows: Vec<Box<RawValue>>,
    /// Where to go on, a cursor or an offset; `None` if there is no more.
    pub next: Option<N>,
}

/// The cursor is not one of this listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("does not belong to this listing")]
pub struct InvalidCursor;

/// Where a listing stands: the index's sort key and the primary key of the last item taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) listed_sk: String,
    pub(crate) pk: String,
    pub(crate) sk: String,
}

impl Position {
    pub(crate) fn write(&self) -> String {
        // No part contains a line feed: controls are percent-encoded in keys.
        format!("{}\n{}\n{}", self.listed_sk, self.pk, self.sk)
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        let (listed_sk, keys) = text.split_once('\n')?;
        let (pk, sk) = keys.split_once('\n')?;
        Some(Self { listed_sk: listed_sk.to_owned(), pk: pk.to_owned(), sk: sk.to_owned() })
    }
}

/// A partition of a listing index.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub(crate) name: &'static str,
    pub(crate) attribute: &'static str,
    pub(crate) value: String,
    pub(crate) order: Order,
    /// Only what is sorted between these two.
    pub(crate) between: Option<(String, String)>,
}

impl Index {
    pub(crate) fn new(kind: &str, tenant: &Tenant, by: By<'_>, order: Order) -> Self {
        let tenant = part(tenant.as_str());
        let (name, attribute, value) = match by {
            By::All => ("all", "all_pk", format!("{kind}#{tenant}")),
            By::State(state) => ("state", "state_pk", format!("{kind}#{tenant}#{}", index_part(state))),
            By::Subject(subject) => ("subject", "subject_pk", format!("{kind}#{tenant}#{}", index_part(subject))),
        };
        Self { name, attribute, value, order, between: None }
    }

    /// What a cursor in this listing is bound to.
    pub(crate) fn scope(&self) -> String {
        format!("{}:{:?}:{}", self.name, self.order, self.value)
    }
}

/// What a walk along an index came to.
struct Walked {
    rows: Vec<Box<RawValue>>,
    /// The last item that was looked at.
    end: Option<Position>,
    /// How many were.
    looked_at: usize,
    more: bool,
}

impl Store {
    /// A page of the records that `shape` makes a row of. What an index that lags still shows is dropped if it is no
    /// longer so; what it does not show yet is missing.
    ///
    /// # Errors
    /// The outer one is the table's, the inner one is the caller's cursor.
    pub async fn list<R: Record, T: Serialize>(
        &self,
        query: Query<'_>,
        cursor: Cursor<'_>,
        deadline: Instant,
        mut shape: impl FnMut(Found<R>) -> Option<T>,
    ) -> Result<Result<Page<String>, InvalidCursor>, Fault> {
        self.list_reading(query, cursor, deadline, |found| ready(Ok(shape(found)))).await
    }

    /// The same for rows for which `shape` has to read more than the record and its large input. It is asked for one
    /// row after the other, and for one at most that the page has no room for.
    ///
    /// # Errors
    /// The outer one is the table's or what `shape` came to, the inner one is the caller's cursor.
    pub async fn list_reading<R: Record, T: Serialize, F: Future<Output = Result<Option<T>, Fault>>>(
        &self,
        query: Query<'_>,
        cursor: Cursor<'_>,
        deadline: Instant,
        shape: impl FnMut(Found<R>) -> F,
    ) -> Result<Result<Page<String>, InvalidCursor>, Fault> {
        let index = Index::new(R::KIND, query.tenant, query.by, query.order);
        let scope = index.scope();
        let start = match cursor.text.map(|text| cursor.keys.open(&scope, text).as_deref().and_then(Position::read)) {
            None => None,
            Some(Some(position)) => Some(position),
            Some(None) => return Ok(Err(InvalidCursor)),
        };
        let walked = self.walk(&index, query, start, 0, LOOKED_AT, deadline, shape).await?;
        let end = walked.end.filter(|_| walked.more);
        Ok(Ok(Page { rows: walked.rows, next: end.map(|end| cursor.keys.seal(&scope, &end.write())) }))
    }

    /// All of a tenant's records of a kind, oldest first.
    ///
    /// # Errors
    /// The table does not answer, or what is stored cannot be read.
    pub async fn all<R: Record>(&self, tenant: &Tenant, deadline: Instant) -> Result<Vec<R>, Fault> {
        let index = Index::new(R::KIND, tenant, By::All, Order::OldestFirst);
        let mut records = Vec::new();
        for positions in self.query_index(&index, usize::MAX, None, deadline).await?.chunks(BATCH) {
            let mut items = self.batch_get(positions, false, deadline).await?;
            for position in positions {
                records.extend(take_found(&mut items, &index, position)?.map(|found: Found<R>| found.record));
            }
        }
        Ok(records)
    }

    /// A page that starts `offset` records after the first, of those that `shape` makes a row of. With `matches`, both
    /// offset and limit count only what it lets through.
    ///
    /// # Errors
    /// The table does not answer, or what is stored cannot be read.
    pub async fn list_at<R: Record, T: Serialize>(
        &self,
        query: Query<'_>,
        offset: usize,
        deadline: Instant,
        matches: Option<impl Fn(&R) -> bool>,
        shape: impl Fn(Found<R>) -> Result<Option<T>, Fault>,
    ) -> Result<Page<usize>, Fault> {
        let index = Index::new(R::KIND, query.tenant, query.by, query.order);
        let Some(matches) = matches else {
            let walked =
                self.walk(&index, query, None, offset, LOOKED_AT_BY_OFFSET, deadline, |found| ready(shape(found)));
            let walked = walked.await?;
            return Ok(Page { rows: walked.rows, next: walked.more.then_some(offset + walked.looked_at) });
        };
        let mut skipped = 0;
        let walked = self.walk(&index, query, None, 0, LOOKED_AT_BY_OFFSET, deadline, |found: Found<R>| {
            let matching = matches(&found.record);
            let shown = matching && skipped == offset;
            skipped += usize::from(matching && !shown);
            ready(if shown { shape(found) } else { Ok(None) })
        });
        let walked = walked.await?;
        let next = offset + walked.rows.len();
        // Without a row there is no further offset to go on at: the end of what is looked at has come.
        let more = walked.more && !walked.rows.is_empty();
        Ok(Page { rows: walked.rows, next: more.then_some(next) })
    }

    /// The records that wait in an inbox of the tenant, the longest waiting first; never behind.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn inbox<R: Record>(
        &self,
        tenant: &Tenant,
        inbox: &str,
        limit: usize,
        deadline: Instant,
    ) -> Result<Vec<Key<R>>, Fault> {
        let pk = item::inbox_pk(&part(tenant.as_str()), inbox);
        let found = self.query_inbox(&pk, Order::OldestFirst, limit, None, deadline).await?;
        let foreign = || Fault::Corrupt("an inbox points to a record of another kind".to_owned());
        found.iter().map(|pointer| Key::read(item::get_text(pointer, "of")?).ok_or_else(foreign)).collect()
    }

    /// Up to `limit` pointers of an inbox after the one at `after`, as they are now.
    pub(crate) async fn query_inbox(
        &self,
        pk: &str,
        order: Order,
        limit: usize,
        after: Option<&Position>,
        deadline: Instant,
    ) -> Result<Vec<Item>, Fault> {
        let start = after.map(|after| HashMap::from([("pk", &after.pk), ("sk", &after.sk)]));
        let start: Option<HashMap<String, AttributeValue>> =
            start.map(|keys| keys.into_iter().map(|(name, value)| (name.to_owned(), text(value))).collect());
        retrying(deadline, || {
            let query = self
                .client
                .query()
                .table_name(&self.settings.table)
                .consistent_read(true)
                .key_condition_expression("pk = :pk")
                .expression_attribute_values(":pk", text(pk))
                .scan_index_forward(order == Order::OldestFirst)
                .limit(i32::try_from(limit).unwrap_or(i32::MAX))
                .set_exclusive_start_key(start.clone())
                .send();
            async move { Ok(query.await?.items.unwrap_or_default()) }
        })
        .await
    }

    /// The records with these keys that exist, by their partition keys, each as it is now; one that cannot be read is
    /// nobody else's fault.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn load_all<R: Record>(
        &self,
        keys: &[Key<R>],
        deadline: Instant,
    ) -> Result<HashMap<String, Result<Loaded<R>, Fault>>, Fault> {
        let items = self.batch_get(&records(keys), false, deadline).await?;
        Ok(items.into_iter().map(|((pk, _), item)| (pk, item::read_record(&item))).collect())
    }

    /// How many changes each of the records with these keys has had, if it exists and can be read, by their partition
    /// keys; for less than it takes to load them.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn versions<R: Record>(&self, keys: &[Key<R>], deadline: Instant) -> Result<HashMap<String, u64>, Fault> {
        let items = self.batch_get_parts(&records(keys), false, Some("pk, sk, version"), deadline).await?;
        let version = |((pk, _), item)| Some((pk, item::get_number(&item, "version").ok()?));
        Ok(items.into_iter().filter_map(version).collect())
    }

    /// How many records wait in an inbox of the tenant; counting ends at `at_most`.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn waiting(
        &self,
        tenant: &Tenant,
        inbox: &str,
        at_most: usize,
        deadline: Instant,
    ) -> Result<usize, Fault> {
        let pk = item::inbox_pk(&part(tenant.as_str()), inbox);
        let count = retrying(deadline, || {
            let query = self
                .client
                .query()
                .table_name(&self.settings.table)
                .consistent_read(true)
                .key_condition_expression("pk = :pk")
                .expression_attribute_values(":pk", text(&pk))
                .select(Select::Count)
                .limit(i32::try_from(at_most).unwrap_or(i32::MAX))
                .send();
            async move { Ok(query.await?.count) }
        });
        Ok(usize::try_from(count.await?).unwrap_or(0))
    }

    /// Walks along an index until the page is full, and one item further to know whether there is more.
    #[expect(clippy::too_many_arguments, reason = "where to start, where to stop, and what to do in between")]
    async fn walk<R: Record, T: Serialize, F: Future<Output = Result<Option<T>, Fault>>>(
        &self,
        index: &Index,
        query: Query<'_>,
        start: Option<Position>,
        skip: usize,
        look_at: usize,
        deadline: Instant,
        mut shape: impl FnMut(Found<R>) -> F,
    ) -> Result<Walked, Fault> {
        let mut walked = Walked { rows: Vec::new(), end: start, looked_at: 0, more: true };
        if skip > 0 {
            let skipped = self.query_index(index, skip, walked.end.as_ref(), deadline).await?;
            if skipped.len() < skip {
                return Ok(Walked { more: false, ..walked });
            }
            walked.end = skipped.into_iter().next_back();
        }
        let batch = if query.with_input { BATCH / 2 } else { BATCH };
        let mut bytes = 0;
        while walked.more && walked.rows.len() < query.limit && walked.looked_at < look_at {
            let wanted = query.limit - walked.rows.len();
            // Where rows were dropped more will be: some more at once, not one call for each that is still wanted.
            let ahead = if walked.looked_at == 0 { wanted } else { wanted.max(batch) };
            let mut positions = self.query_index(index, ahead + 1, walked.end.as_ref(), deadline).await?;
            walked.more = positions.len() > ahead;
            positions.truncate(ahead);
            for positions in positions.chunks(batch) {
                let mut items = self.batch_get(positions, query.with_input, deadline).await?;
                for position in positions {
                    if walked.rows.len() == query.limit {
                        return Ok(Walked { more: true, ..walked });
                    }
                    let row = match take_found(&mut items, index, position)? {
                        Some(found) => shape(found).await?,
                        None => None,
                    };
                    if let Some(row) = row {
                        let row = to_raw_value(&row).map_err(unwritable)?;
                        bytes += row.get().len();
                        if bytes > PAGE_BYTES && !walked.rows.is_empty() {
                            return Ok(Walked { more: true, ..walked });
                        }
                        walked.rows.push(row);
                    }
                    walked.looked_at += 1;
                    walked.end = Some(position.clone());
                }
            }
        }
        Ok(walked)
    }

    /// Up to `limit` positions after `after`.
    pub(crate) async fn query_index(
        &self,
        index: &Index,
        limit: usize,
        after: Option<&Position>,
        deadline: Instant,
    ) -> Result<Vec<Position>, Fault> {
        let mut start = after.map(|after| {
            HashMap::from([
                (index.attribute.to_owned(), text(&index.value)),
                ("listed_sk".to_owned(), text(&after.listed_sk)),
                ("pk".to_owned(), text(&after.pk)),
                ("sk".to_owned(), text(&after.sk)),
            ])
        });
        let mut positions = Vec::new();
        loop {
            let left = limit - positions.len();
            let (items, next) = retrying(deadline, || {
                let mut query = self
                    .client
                    .query()
                    .table_name(&self.settings.table)
                    .index_name(index.name)
                    .key_condition_expression("#of = :value")
                    .expression_attribute_names("#of", index.attribute)
                    .expression_attribute_values(":value", text(&index.value))
                    .scan_index_forward(index.order == Order::OldestFirst)
                    .limit(i32::try_from(left).unwrap_or(i32::MAX))
                    .set_exclusive_start_key(start.clone());
                if let Some((first, last)) = &index.between {
                    query = query
                        .key_condition_expression("#of = :value AND listed_sk BETWEEN :first AND :last")
                        .expression_attribute_values(":first", text(first))
                        .expression_attribute_values(":last", text(last));
                }
                let page = query.send();
                async move {
                    let page = page.await?;
                    Ok((page.items.unwrap_or_default(), page.last_evaluated_key))
                }
            })
            .await?;
            for item in &items {
                positions.push(Position {
                    listed_sk: item::get_text(item, "listed_sk")?.to_owned(),
                    pk: item::get_text(item, "pk")?.to_owned(),
                    sk: item::get_text(item, "sk")?.to_owned(),
                });
            }
            if next.is_none() || positions.len() >= limit {
                return Ok(positions);
            }
            start = next;
        }
    }

    /// Reads items consistently; asks again for what the table left out.
    pub(crate) async fn batch_get(
        &self,
        positions: &[Position],
        with_input: bool,
        deadline: Instant,
    ) -> Result<HashMap<(String, String), Item>, Fault> {
        self.batch_get_parts(positions, with_input, None, deadline).await
    }

    /// The same for only these attributes of the items.
    async fn batch_get_parts(
        &self,
        positions: &[Position],
        with_input: bool,
        attributes: Option<&str>,
        deadline: Instant,
    ) -> Result<HashMap<(String, String), Item>, Fault> {
        let key = |pk: &str, sk: &str| HashMap::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text(sk))]);
        let mut missing: Vec<HashMap<String, AttributeValue>> = positions
            .iter()
            .flat_map(|at| {
                let input = with_input.then(|| key(&at.pk, item::INPUT));
                std::iter::once(key(&at.pk, &at.sk)).chain(input)
            })
            .collect();
        let mut items = HashMap::new();
        let mut failures = 0;
        while !missing.is_empty() {
            let batch = missing.split_off(missing.len().saturating_sub(BATCH));
            let batch = KeysAndAttributes::builder()
                .set_keys(Some(batch))
                .set_projection_expression(attributes.map(str::to_owned))
                .consistent_read(true)
                .build();
            let batch = batch.map_err(|error| Fault::Corrupt(error.to_string()))?;
            let answer = retrying(deadline, || {
                let read = self.client.batch_get_item().request_items(&self.settings.table, batch.clone()).send();
                async move { Ok(read.await?) }
            })
            .await?;
            for item in answer.responses.unwrap_or_default().into_values().flatten() {
                let key = (item::get_text(&item, "pk")?.to_owned(), item::get_text(&item, "sk")?.to_owned());
                items.insert(key, item);
            }
            let left: Vec<_> =
                answer.unprocessed_keys.unwrap_or_default().into_values().flat_map(|keys| keys.keys).collect();
            if !left.is_empty() {
                wait(backoff(failures), "the table leaves keys of a batch unprocessed", deadline).await?;
                failures += 1;
                missing.extend(left);
            }
        }
        Ok(items)
    }
}

/// Where the records with these keys are.
fn records<R: Record>(keys: &[Key<R>]) -> Vec<Position> {
    let position = |key: &Key<R>| Position { listed_sk: String::new(), pk: key.pk(), sk: item::RECORD.to_owned() };
    keys.iter().map(position).collect()
}

/// The record at this position, if it still belongs to the listing.
fn take_found<R: Record>(
    items: &mut HashMap<(String, String), Item>,
    index: &Index,
    position: &Position,
) -> Result<Option<Found<R>>, Fault> {
    let Some(item) = items.remove(&(position.pk.clone(), position.sk.clone())) else { return Ok(None) };
    if item.get(index.attribute) != Some(&text(&index.value)) {
        return Ok(None);
    }
    let input = items.remove(&(position.pk.clone(), item::INPUT.to_owned()));
    let input = input.map(|input| item::get_text(&input, "body").map(str::to_owned)).transpose()?;
    Ok(Some(Found { record: item::read_record::<R>(&item)?.record, input }))
}

fn unwritable(error: serde_json::Error) -> Fault {
    Fault::Corrupt(format!("a row cannot be written: {error}"))
}
