//! Listings: one query of a sparse index and one consistent batch read per page.

use crate::fault::{backoff, retrying};
use crate::item::{self, Item, text};
use crate::key::part;
use crate::{CursorKeys, Fault, Store};
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use countersign_domain::{Record, Tenant};
use std::collections::HashMap;
use tokio::time::Instant;

/// DynamoDB's limit for one BatchGetItem.
const BATCH: usize = 100;
/// How many records a page looks at when a second filter drops most of them.
const LOOKED_AT: usize = 1000;

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

/// A page that is asked for.
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
    /// Where the page before ended.
    pub cursor: Option<&'a str>,
    /// What cursors are authenticated with.
    pub keys: &'a CursorKeys,
}

/// A page of records, each as it is now.
#[derive(Clone, Debug)]
pub struct Page<R> {
    /// The records.
    pub records: Vec<R>,
    /// Where to go on; `None` if there is no more.
    pub cursor: Option<String>,
}

/// The cursor is not one of this listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cursor does not belong to this listing")]
pub struct InvalidCursor;

/// Where a listing stands: the index's sort key and the partition key of the last item taken.
struct Position {
    listed_sk: String,
    pk: String,
}

impl Position {
    fn write(&self) -> String {
        // Neither part contains a line feed: controls are percent-encoded in keys.
        format!("{}\n{}", self.listed_sk, self.pk)
    }

    fn read(text: &str) -> Option<Self> {
        let (listed_sk, pk) = text.split_once('\n')?;
        Some(Self { listed_sk: listed_sk.to_owned(), pk: pk.to_owned() })
    }
}

impl Store {
    /// A page of records that `matches` lets through. What an index that lags still shows is dropped if it is no
    /// longer so; what it does not show yet is missing.
    ///
    /// # Errors
    /// The outer one is the table's, the inner one is the caller's cursor.
    pub async fn list<R: Record>(
        &self,
        query: Query<'_>,
        deadline: Instant,
        matches: impl Fn(&R) -> bool,
    ) -> Result<Result<Page<R>, InvalidCursor>, Fault> {
        let tenant = part(query.tenant.as_str());
        let (index, attribute, value) = match query.by {
            By::All => ("all", "all_pk", format!("{}#{tenant}", R::KIND)),
            By::State(state) => ("state", "state_pk", format!("{}#{tenant}#{}", R::KIND, part(state))),
            By::Subject(subject) => ("subject", "subject_pk", format!("{}#{tenant}#{}", R::KIND, part(subject))),
        };
        let scope = format!("{index}:{:?}:{value}", query.order);
        let mut position = match query.cursor {
            None => None,
            Some(cursor) => match query.keys.open(&scope, cursor).as_deref().and_then(Position::read) {
                Some(position) => Some(position),
                None => return Ok(Err(InvalidCursor)),
            },
        };
        let mut records = Vec::new();
        let mut looked_at = 0;
        loop {
            let wanted = query.limit - records.len();
            // One more than wanted tells whether there is more.
            let mut found = self
                .query_index(index, attribute, &value, query.order, wanted + 1, position.as_ref(), deadline)
                .await?;
            let more = found.len() > wanted;
            found.truncate(wanted);
            looked_at += found.len();
            let items = self.batch_get(found.iter().map(|found| found.pk.clone()), deadline).await?;
            for found in &found {
                let Some(item) = items.get(&found.pk) else { continue };
                if item.get(attribute) != Some(&text(&value)) {
                    continue;
                }
                let record = item::read_record::<R>(item)?.record;
                if matches(&record) {
                    records.push(record);
                }
            }
            position = found.pop().or(position);
            if !more || records.len() >= query.limit || looked_at >= LOOKED_AT {
                let cursor = position.filter(|_| more).map(|position| query.keys.seal(&scope, &position.write()));
                return Ok(Ok(Page { records, cursor }));
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one call of DynamoDB's, which takes as many")]
    async fn query_index(
        &self,
        index: &str,
        attribute: &str,
        value: &str,
        order: Order,
        limit: usize,
        after: Option<&Position>,
        deadline: Instant,
    ) -> Result<Vec<Position>, Fault> {
        let start = after.map(|after| {
            HashMap::from([
                (attribute.to_owned(), text(value)),
                ("listed_sk".to_owned(), text(&after.listed_sk)),
                ("pk".to_owned(), text(&after.pk)),
                ("sk".to_owned(), text(item::RECORD)),
            ])
        });
        let found = retrying(deadline, || {
            let query = self
                .client
                .query()
                .table_name(&self.settings.table)
                .index_name(index)
                .key_condition_expression("#of = :value")
                .expression_attribute_names("#of", attribute)
                .expression_attribute_values(":value", text(value))
                .scan_index_forward(order == Order::OldestFirst)
                .limit(i32::try_from(limit).unwrap_or(i32::MAX))
                .set_exclusive_start_key(start.clone())
                .send();
            async move { Ok(query.await?.items.unwrap_or_default()) }
        })
        .await?;
        found
            .iter()
            .map(|item| {
                Ok(Position {
                    listed_sk: item::get_text(item, "listed_sk")?.to_owned(),
                    pk: item::get_text(item, "pk")?.to_owned(),
                })
            })
            .collect()
    }

    /// Reads records consistently, by partition key; asks again for what the table left out.
    async fn batch_get(
        &self,
        keys: impl Iterator<Item = String>,
        deadline: Instant,
    ) -> Result<HashMap<String, Item>, Fault> {
        let mut missing: Vec<HashMap<String, AttributeValue>> = keys
            .map(|pk| HashMap::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text(item::RECORD))]))
            .collect();
        let mut items = HashMap::new();
        let mut failures = 0;
        while !missing.is_empty() {
            let batch = missing.split_off(missing.len().saturating_sub(BATCH));
            let batch = KeysAndAttributes::builder().set_keys(Some(batch)).consistent_read(true).build();
            let batch = batch.map_err(|error| Fault::Corrupt(error.to_string()))?;
            let answer = retrying(deadline, || {
                let read = self.client.batch_get_item().request_items(&self.settings.table, batch.clone()).send();
                async move { Ok(read.await?) }
            })
            .await?;
            for item in answer.responses.unwrap_or_default().into_values().flatten() {
                items.insert(item::get_text(&item, "pk")?.to_owned(), item);
            }
            let left: Vec<_> =
                answer.unprocessed_keys.unwrap_or_default().into_values().flat_map(|keys| keys.keys).collect();
            if !left.is_empty() {
                let pause = backoff(failures);
                failures += 1;
                if Instant::now() + pause >= deadline {
                    return Err(Fault::Unavailable("the table leaves keys of a batch unprocessed".to_owned()));
                }
                tokio::time::sleep(pause).await;
                missing.extend(left);
            }
        }
        Ok(items)
    }
}
