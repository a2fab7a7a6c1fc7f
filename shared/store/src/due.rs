//! What the clock has to look at: items whose time has come, found through the `due` index.

use crate::change::Call;
use crate::fault::retrying;
use crate::item::{self, number, text};
use crate::{Changed, Committed, Error, Fault, Key, Store};
use aws_sdk_dynamodb::types::AttributeValue;
use countersign_domain::{Outcome, Record, Timestamp, Work, seconds};
use std::collections::HashMap;
use tokio::time::Instant;

/// The longest pause before an item that could not be handled is looked at again, in minutes.
const LONGEST_PAUSE: i64 = 60;
/// How long after word was sent the clock looks whether it arrived, in seconds.
const ARRIVES_WITHIN: i64 = 60;

/// An item that the clock has to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pk: String,
    sk: String,
    due_sk: String,
}

impl Due {
    /// What the worker is to be told.
    #[must_use]
    pub fn work(&self) -> Work {
        Work { key: self.pk.clone(), change: item::change_version(&self.sk), at: item::due_time(&self.due_sk) }
    }

    /// Its partition key, for the log.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.pk
    }
}

impl Store {
    /// Up to `limit` items of one of the [`SHARDS`](crate::SHARDS) of the index that are to be looked at until then,
    /// the longest waiting first.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn due(&self, shard: u8, until: Timestamp, limit: u16, deadline: Instant) -> Result<Vec<Due>, Fault> {
        // Sorts behind whatever begins with this time.
        let until = format!("{}~", item::sortable(until));
        let items = retrying(deadline, || {
            let query = self
                .client
                .query()
                .table_name(&self.settings.table)
                .index_name("due")
                .key_condition_expression("due_pk = :shard AND due_sk <= :until")
                .expression_attribute_values(":shard", text(item::shard(shard)))
                .expression_attribute_values(":until", text(&until))
                .limit(limit.into())
                .send();
            async move { Ok(query.await?.items.unwrap_or_default()) }
        });
        let get = |item: &item::Item, name| item::get_text(item, name).map(str::to_owned);
        let read = |item| Ok(Due { pk: get(item, "pk")?, sk: get(item, "sk")?, due_sk: get(item, "due_sk")? });
        items.await?.iter().map(read).collect()
    }

    /// Notes that word is sent, and that the clock is to look whether it arrived. `false` if somebody else has changed
    /// or moved the item since it was found: then there is nothing to send.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn move_on(&self, due: &Due, now: Timestamp, deadline: Instant) -> Result<bool, Fault> {
        let at = item::due_time(&due.due_sk).max(now);
        let next = at.saturating_add(seconds(ARRIVES_WITHIN)).unwrap_or(Timestamp::MAX);
        let values = HashMap::from([(":next".to_owned(), text(item::sortable(next)))]);
        self.move_due((&due.pk, &due.sk), &due.due_sk, "SET due_sk = :next", values, deadline).await
    }

    /// Lets time pass for a record: whatever has become of it by now without anyone's doing is recorded.
    ///
    /// # Errors
    /// The table does not do its part.
    pub async fn tick<R: Record>(&self, work: &Work, deadline: Instant) -> Result<Vec<Work>, Fault> {
        let ticked = self.update(&Key::<R>::of(work)?, deadline, |record, now| record.tick(now)).await?;
        Ok(ticked.map_or_else(Vec::new, |(_, work)| work))
    }

    /// Changes a record by a rule that refuses nothing, if there is one: the record as it is then, and what there is to
    /// do because of it.
    ///
    /// # Errors
    /// The table does not do its part.
    pub async fn update<R: Record>(
        &self,
        key: &Key<R>,
        deadline: Instant,
        mut rule: impl FnMut(&R, Timestamp) -> Outcome<R>,
    ) -> Result<Option<(R, Vec<Work>)>, Fault> {
        let mut is_there = true;
        let rule = |record: Option<&R>, now| {
            is_there = record.is_some();
            Ok(record.map_or(Outcome::Keep, |record| rule(record, now)))
        };
        let call = Call { deadline, once: None };
        match self.change(key, call, rule, |record| Ok(record.clone()), |_| Ok(String::new())).await {
            Ok(Changed { committed: Committed::Now(record), work }) => Ok(Some((record, work))),
            Err(_) if !is_there => Ok(None),
            Err(Error::Fault(fault)) => Err(fault),
            Ok(Changed { committed: Committed::Before(_), .. }) | Err(Error::Refused(_) | Error::KeyReused) => {
                unreachable!("there is neither a refusal nor a key")
            }
        }
    }

    /// Puts off an item that could not be handled, by 1, 2, 4 … 60 minutes, so that it blocks no other.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn put_off(&self, work: &Work, now: Timestamp, deadline: Instant) -> Result<(), Fault> {
        let sk = work.change.map_or_else(|| item::RECORD.to_owned(), item::change_sk);
        let Some(found) = self.get(work.key.clone(), &sk, deadline).await? else { return Ok(()) };
        // Handled meanwhile, by another worker.
        let Ok(read) = item::get_text(&found, "due_sk") else { return Ok(()) };
        let failures: u32 = item::get_number(&found, "due_failures").unwrap_or(0);
        let minutes = 1_i64.checked_shl(failures).map_or(LONGEST_PAUSE, |minutes| minutes.min(LONGEST_PAUSE));
        let next = now.saturating_add(seconds(minutes * 60)).unwrap_or(Timestamp::MAX);
        let values = HashMap::from([
            (":next".to_owned(), text(item::sortable(next))),
            (":failures".to_owned(), number(failures.min(30) + 1)),
        ]);
        let update = "SET due_sk = :next, due_failures = :failures";
        self.move_due((&work.key, &sk), read, update, values, deadline).await.map(|_| ())
    }

    /// Whether it was moved: not if another has been there since the due time was read.
    async fn move_due(
        &self,
        (pk, sk): (&str, &str),
        read: &str,
        update: &str,
        values: HashMap<String, AttributeValue>,
        deadline: Instant,
    ) -> Result<bool, Fault> {
        retrying(deadline, || {
            let update = self
                .client
                .update_item()
                .table_name(&self.settings.table)
                .key("pk", text(pk))
                .key("sk", text(sk))
                .update_expression(update)
                .condition_expression("due_sk = :read")
                .set_expression_attribute_values(Some(values.clone()))
                .expression_attribute_values(":read", text(read))
                .send();
            async move {
                match update.await {
                    Ok(_) => Ok(true),
                    Err(error)
                        if error.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) =>
                    {
                        Ok(false)
                    }
                    Err(error) => Err(error.into()),
                }
            }
        })
        .await
    }
}
