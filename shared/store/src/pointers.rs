//! Parts of records, e.g. tasks, found by who holds them and how they stand. A pointer to a part may be behind: the
//! record is the truth, and whoever lists parts drops what is no longer so.

use crate::fault::{Failure, retrying};
use crate::item::{self, listed_sk, text};
use crate::key::part;
use crate::list::{By, Index, Order, Position};
use crate::write::write;
use crate::{Fault, Store};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::TransactWriteItem;
use countersign_domain::{Pointer, Tenant};
use tokio::time::Instant;

/// How many pointers are written in one transaction.
const WRITTEN: usize = 50;
/// How many parts are looked at together.
const BATCH: usize = 100;
/// How many parts a listing looks at when most of them are dropped.
const LOOKED_AT: usize = 11_000;

/// Which parts a listing is of; by creation, newest first.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// Whose records.
    pub tenant: &'a Tenant,
    /// What the parts are: the first part of their inboxes' names, e.g. `task`.
    pub kind: &'a str,
    /// Who holds them, if it matters.
    pub holder: Option<&'a str>,
    /// How they stand, if it matters.
    pub state: Option<&'a str>,
    /// How many are passed over.
    pub offset: usize,
    /// How many at most.
    pub limit: usize,
}

impl Parts<'_> {
    /// Where a listing of them walks; `None` if it is the inbox of their holder.
    fn index(&self) -> Option<Index> {
        let by = match (self.holder, self.state) {
            (Some(_), None) => return None,
            (Some(holder), Some(state)) => return Some(self.by(By::Subject(&subject(holder, state)))),
            (None, Some(state)) => By::State(state),
            (None, None) => By::All,
        };
        Some(self.by(by))
    }

    fn by(&self, by: By<'_>) -> Index {
        Index::new(self.kind, self.tenant, by, Order::NewestFirst)
    }
}

impl Store {
    /// Writes pointers over what was there before; done twice it is as if done once.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn point(&self, tenant: &Tenant, pointers: &[Pointer], deadline: Instant) -> Result<(), Fault> {
        for some in pointers.chunks(WRITTEN) {
            let items: Result<Vec<_>, _> = some.iter().map(|pointer| self.pointer(tenant, pointer)).collect();
            let items = items?;
            retrying(deadline, || {
                let transaction = self.client.transact_write_items().set_transact_items(Some(items.clone())).send();
                async move {
                    let error = match transaction.await {
                        Ok(_) => return Ok(()),
                        Err(error) => error,
                    };
                    // There is no condition that could fail: others were in the way.
                    match error.as_service_error() {
                        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                            Err(Failure::Transient(cancelled.to_string()))
                        }
                        Some(_) | None => Err(error.into()),
                    }
                }
            })
            .await?;
        }
        Ok(())
    }

    /// What writes a pointer.
    pub(crate) fn pointer(&self, tenant: &Tenant, pointer: &Pointer) -> Result<TransactWriteItem, Fault> {
        let tenant = part(tenant.as_str());
        let (kind, holder) = pointer.inbox.split_once(':').unwrap_or((&pointer.inbox, ""));
        let sk = listed_sk(pointer.created_at, &pointer.id);
        let keys = item::index_keys(kind, &tenant, Some(&pointer.state), Some(&subject(holder, &pointer.state)));
        let put = self.put(&item::inbox_pk(&tenant, &pointer.inbox), &sk).item("listed_sk", text(&sk));
        write(keys.into_iter().fold(put, |put, (name, value)| put.item(name, value)))
    }

    /// Lists parts by their ids. `read` makes rows of some of them, in their order, and drops what is no longer so.
    ///
    /// # Errors
    /// The table's, or what `read` came to.
    pub async fn list_parts<T, F: Future<Output = Result<Vec<Option<T>>, Fault>>>(
        &self,
        parts: Parts<'_>,
        deadline: Instant,
        mut read: impl FnMut(Vec<String>) -> F,
    ) -> Result<Vec<T>, Fault> {
        let (mut rows, mut passed_over, mut looked_at, mut end) = (Vec::new(), 0, 0, None);
        while rows.len() < parts.limit && looked_at < LOOKED_AT {
            let wanted = (parts.limit - rows.len() + parts.offset - passed_over).min(BATCH);
            let found = match parts.index() {
                Some(index) => self.query_index(&index, wanted, end.as_ref(), deadline).await?,
                None => self.query_holder(parts, wanted, end.as_ref(), deadline).await?,
            };
            let is_end = found.len() < wanted;
            looked_at += found.len();
            end = found.last().cloned();
            let ids = found.iter().filter_map(|position| Some(position.sk.split_once('#')?.1.to_owned())).collect();
            for row in read(ids).await?.into_iter().flatten() {
                if passed_over < parts.offset {
                    passed_over += 1;
                } else if rows.len() < parts.limit {
                    rows.push(row);
                }
            }
            if is_end {
                break;
            }
        }
        Ok(rows)
    }

    /// Up to `limit` positions in the inbox of one holder after `after`, as they are now.
    async fn query_holder(
        &self,
        parts: Parts<'_>,
        limit: usize,
        after: Option<&Position>,
        deadline: Instant,
    ) -> Result<Vec<Position>, Fault> {
        let inbox = format!("{}:{}", parts.kind, parts.holder.unwrap_or_default());
        let pk = item::inbox_pk(&part(parts.tenant.as_str()), &inbox);
        let position = |item: &item::Item| {
            let sk = item::get_text(item, "sk")?.to_owned();
            Ok(Position { listed_sk: sk.clone(), pk: pk.clone(), sk })
        };
        self.query_inbox(&pk, Order::NewestFirst, limit, after, deadline).await?.iter().map(position).collect()
    }
}

/// What the parts of one holder that stand alike are listed under.
fn subject(holder: &str, state: &str) -> String {
    format!("{state}:{holder}")
}
