//! What the world is told: changes with events that nobody has passed on yet, and those of a window of time.

use crate::fault::retrying;
use crate::item::{self, text};
use crate::key::parts;
use crate::list::{By, Index, Order, Position};
use crate::{Fault, Store};
use aws_sdk_dynamodb::types::{TransactWriteItem, Update};
use countersign_domain::chain::ChangeBody;
use countersign_domain::{Tenant, Timestamp, Work};
use std::collections::{BTreeSet, HashMap};
use tokio::time::Instant;

/// How many changes before the one that word was sent of are looked at: what happened to a record is told in order.
const LOOK_BACK: u64 = 10;
/// How many changes are marked as told in one transaction.
const MARKED: usize = 50;
/// How many keys are read at a time.
const KEYS: usize = 1000;

/// A change of a record, with the events in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Untold {
    key: String,
    /// Whose record.
    pub tenant: Tenant,
    /// What happened.
    pub change: ChangeBody,
}

impl Untold {
    fn read(item: &item::Item) -> Result<Self, Fault> {
        let key = item::get_text(item, "pk")?.to_owned();
        let tenant = parts(&key).1.parse();
        let tenant = tenant.map_err(|_| Fault::Corrupt(format!("{key} names no tenant")))?;
        let change = serde_json::from_str(item::get_text(item, "body")?);
        let change = change.map_err(|error| Fault::Corrupt(format!("a change of {key} cannot be read: {error}")))?;
        Ok(Self { key, tenant, change })
    }

    /// The key of the record.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The kind of the record.
    #[must_use]
    pub fn kind(&self) -> &str {
        parts(&self.key).0
    }

    /// The record's id, as it stands in its key.
    #[must_use]
    pub fn id(&self) -> &str {
        parts(&self.key).2
    }
}

/// A window of time in a tenant's past.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// Whose events.
    pub tenant: &'a Tenant,
    /// Records of which kinds.
    pub kinds: &'a [&'a str],
    /// From this moment on.
    pub since: Timestamp,
    /// Before this moment.
    pub until: Timestamp,
}

impl Window<'_> {
    fn index(&self, kind: &str) -> Index {
        let mut index = Index::new(&item::log_kind(kind), self.tenant, By::All, Order::OldestFirst);
        index.between = Some((item::sortable(self.since), item::sortable(self.until)));
        index
    }
}

/// Some changes of a window, oldest first within each kind.
#[derive(Clone, Debug, PartialEq)]
pub struct EventPage {
    /// The changes, with all of their entries.
    pub changes: Vec<Untold>,
    /// Where to go on; `None` at the end.
    pub next: Option<String>,
}

impl Store {
    /// The changes that word was sent of and that nobody has told the world of, by the keys of their records, in order.
    /// Where one right before them waits as well, all of that record's that wait: what happened to it is told in order.
    /// `told` may know of a record's latest change that was told; whether that one waits is not asked then.
    ///
    /// # Errors
    /// The outer one is the table's; the inner one is a record's own.
    pub async fn untold(
        &self,
        work: &[&Work],
        told: impl Fn(&str) -> Option<u64>,
        deadline: Instant,
    ) -> Result<HashMap<String, Result<Vec<Untold>, Fault>>, Fault> {
        let mut records: HashMap<&str, BTreeSet<u64>> = HashMap::new();
        for work in work {
            records.entry(&work.key).or_default().extend(work.change);
        }
        // The one before the first tells whether word of earlier ones was lost.
        let before = |key: &str, versions: &BTreeSet<u64>| {
            let before = versions.first()?.checked_sub(1).filter(|before| *before > 0)?;
            (told(key) != Some(before)).then_some(before)
        };
        let at = |key: &str, version| Position {
            listed_sk: String::new(),
            pk: key.to_owned(),
            sk: item::change_sk(version),
        };
        let positions = records.iter().flat_map(|(key, versions)| {
            before(key, versions).into_iter().chain(versions.iter().copied()).map(|version| at(key, version))
        });
        let items = self.batch_get(&positions.collect::<Vec<_>>(), false, deadline).await?;
        let mut untold = HashMap::new();
        for (key, versions) in records {
            let waiting = |version| {
                let item = items.get(&(key.to_owned(), item::change_sk(version)));
                item.filter(|item| item.contains_key("due_pk"))
            };
            let span = versions.first().zip(versions.last()).map_or(0, |(first, last)| last - first + 1);
            let complete = span == versions.len() as u64 && before(key, &versions).and_then(waiting).is_none();
            let read = if complete {
                versions.iter().copied().filter_map(waiting).map(Untold::read).collect()
            } else {
                self.all_untold(key, &versions, deadline).await
            };
            untold.insert(key.to_owned(), read);
        }
        Ok(untold)
    }

    /// All changes of a record around these that wait, in order.
    async fn all_untold(&self, key: &str, versions: &BTreeSet<u64>, deadline: Instant) -> Result<Vec<Untold>, Fault> {
        let first = versions.first().unwrap_or(&1).saturating_sub(LOOK_BACK).max(1);
        let mut untold = Vec::new();
        let mut after = None;
        loop {
            let (items, next) = self.changes_page(key, first, u64::from(u32::MAX), after, deadline).await?;
            for item in items.iter().filter(|item| item.contains_key("due_pk")) {
                untold.push(Untold::read(item)?);
            }
            if next.is_none() {
                return Ok(untold);
            }
            after = next;
        }
    }

    /// The change that made a version of a record; `id` as it stands in the record's key.
    ///
    /// # Errors
    /// The table does not answer, or what is stored cannot be read.
    pub async fn change_of(
        &self,
        tenant: &Tenant,
        (kind, id): (&str, &str),
        version: u64,
        deadline: Instant,
    ) -> Result<Option<Untold>, Fault> {
        let pk = format!("{kind}#{tenant}#{id}");
        let found = self.get(pk, &item::change_sk(version), deadline).await?;
        found.as_ref().map(Untold::read).transpose()
    }

    /// Says of changes that everyone who is to hear of them will.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn told(&self, changes: &[Untold], deadline: Instant) -> Result<(), Fault> {
        for changes in changes.chunks(MARKED) {
            // One write for all of them; should it fail for whatever reason, each on its own.
            if !self.mark_together(changes, deadline).await {
                for change in changes {
                    self.mark(change, deadline).await?;
                }
            }
        }
        Ok(())
    }

    async fn mark_together(&self, changes: &[Untold], deadline: Instant) -> bool {
        let update = |change: &Untold| {
            let update = Update::builder()
                .table_name(&self.settings.table)
                .key("pk", text(&change.key))
                .key("sk", text(item::change_sk(change.change.version)))
                .update_expression(TOLD)
                .condition_expression("attribute_exists(pk)")
                .build();
            Ok::<_, aws_sdk_dynamodb::error::BuildError>(TransactWriteItem::builder().update(update?).build())
        };
        let Ok(updates) = changes.iter().map(update).collect::<Result<Vec<_>, _>>() else { return false };
        let transaction = self.client.transact_write_items().set_transact_items(Some(updates)).send();
        matches!(tokio::time::timeout_at(deadline, transaction).await, Ok(Ok(_)))
    }

    async fn mark(&self, change: &Untold, deadline: Instant) -> Result<(), Fault> {
        retrying(deadline, || {
            let update = self
                .client
                .update_item()
                .table_name(&self.settings.table)
                .key("pk", text(&change.key))
                .key("sk", text(item::change_sk(change.change.version)))
                .update_expression(TOLD)
                .condition_expression("attribute_exists(pk)")
                .send();
            async move {
                update.await?;
                Ok(())
            }
        })
        .await
    }

    /// How many events of a window `wanted` lets through, by their names; counting ends beyond `at_most`.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn count_events(
        &self,
        window: Window<'_>,
        wanted: impl Fn(&str) -> bool,
        at_most: usize,
        deadline: Instant,
    ) -> Result<usize, Fault> {
        let mut count = 0;
        for kind in window.kinds {
            let index = window.index(kind);
            let mut after: Option<Position> = None;
            loop {
                let found = self.query_index(&index, KEYS, after.as_ref(), deadline).await?;
                count += found.iter().map(|at| item::count_events(&at.listed_sk, &wanted)).sum::<usize>();
                if count > at_most {
                    return Ok(count);
                }
                if found.len() < KEYS {
                    break;
                }
                after = found.into_iter().next_back();
            }
        }
        Ok(count)
    }

    /// Up to `limit` changes of a window, from where an earlier page ended.
    ///
    /// # Errors
    /// The table does not answer, or what is stored cannot be read.
    pub async fn events(
        &self,
        window: Window<'_>,
        from: &str,
        limit: usize,
        deadline: Instant,
    ) -> Result<EventPage, Fault> {
        let lost = || Fault::Corrupt(format!("{from} is no position in a window"));
        let (mut kind, mut after) = match from.split_once('\n') {
            None => (0, None),
            Some((kind, "")) => (kind.parse().map_err(|_| lost())?, None),
            Some((kind, at)) => (kind.parse().map_err(|_| lost())?, Some(Position::read(at).ok_or_else(lost)?)),
        };
        while let Some(name) = window.kinds.get(kind) {
            let positions = self.query_index(&window.index(name), limit, after.as_ref(), deadline).await?;
            if positions.is_empty() {
                (kind, after) = (kind + 1, None);
                continue;
            }
            let mut changes = Vec::new();
            for positions in positions.chunks(100) {
                let mut items = self.batch_get(positions, false, deadline).await?;
                for at in positions {
                    if let Some(item) = items.remove(&(at.pk.clone(), at.sk.clone())) {
                        changes.push(Untold::read(&item)?);
                    }
                }
            }
            let next = positions.last().map(|at| format!("{kind}\n{}", at.write()));
            return Ok(EventPage { changes, next });
        }
        Ok(EventPage { changes: Vec::new(), next: None })
    }
}

/// Takes a change out of what is due.
const TOLD: &str = "REMOVE due_pk, due_sk, due_failures";
