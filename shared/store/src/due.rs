//! What the clock has to look at: items whose due time has come, found through the `due` index.

use crate::change::Call;
use crate::fault::retrying;
use crate::item::{self, number, text};
use crate::key::parts;
use crate::{Committed, Error, Fault, Key, Store};
use countersign_domain::{Outcome, Record, Timestamp, seconds};
use std::collections::HashMap;
use tokio::time::Instant;

/// The longest pause before an item that could not be handled is looked at again, in minutes.
const LONGEST_PAUSE: i64 = 60;

/// An item whose due time has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pk: String,
    sk: String,
    due_sk: String,
}

/// What an item is that became due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DueKind<'a> {
    /// A record of this kind, whose deadline may have passed.
    Record(&'a str),
    /// A change of which the world has not been told.
    Change,
}

impl Due {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> DueKind<'_> {
        if self.sk == item::RECORD { DueKind::Record(parts(&self.pk).0) } else { DueKind::Change }
    }

    /// Its partition key, for the log.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.pk
    }
}

impl Store {
    /// Up to `limit` items of one of the [`SHARDS`] of the index that are due at `now`, the longest due first.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn due(&self, shard: u8, now: Timestamp, limit: u16, deadline: Instant) -> Result<Vec<Due>, Fault> {
        let items = retrying(deadline, || {
            let query = self
                .client
                .query()
                .table_name(&self.settings.table)
                .index_name("due")
                .key_condition_expression("due_pk = :shard AND due_sk <= :now")
                .expression_attribute_values(":shard", text(item::shard(shard)))
                .expression_attribute_values(":now", text(item::sortable(now)))
                .limit(limit.into())
                .send();
            async move { Ok(query.await?.items.unwrap_or_default()) }
        });
        let get = |item: &item::Item, name| item::get_text(item, name).map(str::to_owned);
        let read = |item| Ok(Due { pk: get(item, "pk")?, sk: get(item, "sk")?, due_sk: get(item, "due_sk")? });
        items.await?.iter().map(read).collect()
    }

    /// Lets the clock look at a record: whatever has become of it by now without anyone's doing is recorded.
    ///
    /// # Errors
    /// The table does not do its part.
    pub async fn tick<R: Record>(&self, due: &Due, deadline: Instant) -> Result<(), Fault> {
        let Some(key) = Key::<R>::read(&due.pk) else {
            return Err(Fault::Corrupt(format!("{} is no key of {}", due.pk, R::KIND)));
        };
        let call = Call { deadline, once: None };
        let tick = |record: Option<&R>, now| Ok(record.map_or(Outcome::Keep, |record| record.tick(now)));
        match self.change(&key, call, tick, |_| Ok(()), |()| Ok(String::new())).await {
            Ok(Committed::Now(()) | Committed::Before(_)) => Ok(()),
            Err(Error::Fault(fault)) => Err(fault),
            Err(Error::Refused(_) | Error::KeyReused) => unreachable!("a tick neither refuses nor has a key"),
        }
    }

    /// Says that nothing remains to be done about this change, unless its due time was moved meanwhile.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn done(&self, due: &Due, deadline: Instant) -> Result<(), Fault> {
        self.move_due(due, "REMOVE due_pk, due_sk, due_failures", HashMap::new(), deadline).await
    }

    /// Puts off an item that could not be handled, by 1, 2, 4 … 60 minutes, so that it blocks no other.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn put_off(&self, due: &Due, now: Timestamp, deadline: Instant) -> Result<(), Fault> {
        let failures = self.get(due.pk.clone(), &due.sk, deadline).await?;
        let failures: u32 = failures.and_then(|item| item::get_number(&item, "due_failures").ok()).unwrap_or(0);
        let minutes = 1_i64.checked_shl(failures).map_or(LONGEST_PAUSE, |minutes| minutes.min(LONGEST_PAUSE));
        let next = now.saturating_add(seconds(minutes * 60)).unwrap_or(Timestamp::MAX);
        let values = HashMap::from([
            (":next".to_owned(), text(item::sortable(next))),
            (":failures".to_owned(), number(failures.min(30) + 1)),
        ]);
        self.move_due(due, "SET due_sk = :next, due_failures = :failures", values, deadline).await
    }

    async fn move_due(
        &self,
        due: &Due,
        update: &str,
        values: HashMap<String, aws_sdk_dynamodb::types::AttributeValue>,
        deadline: Instant,
    ) -> Result<(), Fault> {
        retrying(deadline, || {
            let update = self
                .client
                .update_item()
                .table_name(&self.settings.table)
                .key("pk", text(&due.pk))
                .key("sk", text(&due.sk))
                .update_expression(update)
                .condition_expression("due_sk = :read")
                .set_expression_attribute_values(Some(values.clone()))
                .expression_attribute_values(":read", text(&due.due_sk))
                .send();
            async move {
                match update.await {
                    Ok(_) => Ok(()),
                    // Somebody else has seen to it.
                    Err(error)
                        if error.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) =>
                    {
                        Ok(())
                    }
                    Err(error) => Err(error.into()),
                }
            }
        })
        .await
    }
}
