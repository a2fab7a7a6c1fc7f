//! The change loop: load, apply the rule, write back in one conditional transaction, and read what became of it.

use crate::fault::{Failure, backoff, wait};
use crate::item::{self, Item, bytes, number, text};
use crate::write::write;
use crate::{Fault, Key, Loaded, Store};
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{CancellationReason, ReturnValuesOnConditionCheckFailure, TransactWriteItem};
use countersign_domain::{Outcome, Record, Timestamp, Work};
use metrics::counter;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// What a change needs to know of the call that asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// The idempotency key, if one was sent.
    pub once: Option<&'a Once>,
}

/// An idempotency key in its scope, with what it was sent with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// Partition key of its entry.
    pub pk: String,
    /// SHA-256 of the request's body as a JSON value.
    pub fingerprint: [u8; 32],
    /// How long a stored answer is replayed.
    pub lifetime: Duration,
}

/// What became of a change that was not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed<A> {
    /// It stands, and this is its answer.
    Now(A),
    /// The same call acted before; this is the answer that was stored then.
    Before(String),
}

/// A change that was not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed<A> {
    /// What became of it.
    pub committed: Committed<A>,
    /// What there is to do now because of it; the table will say so later, too.
    pub work: Vec<Work>,
}

impl<A> From<Committed<A>> for Changed<A> {
    /// Nothing more to do.
    fn from(committed: Committed<A>) -> Self {
        Self { committed, work: Vec::new() }
    }
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error<R> {
    /// The rule said no.
    #[error("refused")]
    Refused(R),
    /// The idempotency key was used with another body.
    #[error("this idempotency key was used with another body")]
    KeyReused,
    /// The table did not do its part. After [`Fault::Unavailable`] the change may stand all the same.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// How one transaction ended.
enum Attempt {
    Committed,
    /// The idempotency entry is there already; its image, where the engine gave one.
    Once(Option<Item>),
    /// Another change came first.
    Overtaken,
    /// Nothing was written; again after a pause.
    Again(Duration, String),
    /// It may or may not have been written.
    Doubtful(String),
}

/// What became of the answer of a call that had nothing to change.
enum Kept {
    /// It is the one to give.
    Now,
    /// The same call was answered before, with this.
    Before(String),
    /// To be judged again.
    Again,
}

/// An attempt whose end is unknown: if its change is found, it is the success that it is.
struct Doubt<A> {
    version: u64,
    change_id: String,
    changed: Changed<A>,
}

impl Store {
    /// Changes the record with this key by `rule`, exactly once.
    ///
    /// `rule` is given the record, or `None` if there is none, and the time; it is applied again whenever another
    /// change came first. `answer` shapes the answer from the record as the change leaves it, before the commit, so
    /// that `stored` can keep it under the idempotency key in the same transaction.
    ///
    /// # Errors
    /// The rule's refusal, a reused idempotency key, or a fault of the table.
    pub async fn change<R: Record, A>(
        &self,
        key: &Key<R>,
        call: Call<'_>,
        mut rule: impl FnMut(Option<&R>, Timestamp) -> Result<Outcome<R>, R::Refusal>,
        mut answer: impl FnMut(&R) -> Result<A, Fault>,
        stored: impl Fn(&A) -> Result<String, Fault>,
    ) -> Result<Changed<A>, Error<R::Refusal>> {
        let mut doubts: Vec<Doubt<A>> = Vec::new();
        for failures in 0.. {
            let found = self.load(key, call.deadline).await?;
            if let Some(changed) = self.settle(key, found.as_ref(), &mut doubts, call.deadline).await? {
                return Ok(changed);
            }
            let clock = self.settings.clock.now();
            let now = found.as_ref().map_or(clock, |found| clock.max(found.changed_at));
            let change = match rule(found.as_ref().map(|found| &found.record), now) {
                Ok(Outcome::Change(change)) => change,
                // An attempt of this very call may still be on its way: until that is settled, nothing that the rule
                // says now can be the answer.
                Ok(Outcome::Keep) | Err(_) if !doubts.is_empty() => {
                    wait(backoff(failures), "an earlier attempt may still commit", call.deadline).await?;
                    continue;
                }
                Ok(Outcome::Keep) => {
                    let kept = found.ok_or_else(|| Fault::Corrupt("a rule kept an absent record".to_owned()))?;
                    let shaped = answer(&kept.record)?;
                    let text = stored(&shaped)?;
                    match self.keep(call, text, now, failures).await? {
                        Kept::Now => return Ok(Committed::Now(shaped).into()),
                        Kept::Before(answer) => return Ok(Committed::Before(answer).into()),
                        Kept::Again => continue,
                    }
                }
                Err(refusal) => match self.stored_answer(call).await? {
                    Some(answer) => return Ok(Committed::Before(answer).into()),
                    None => return Err(Error::Refused(refusal)),
                },
            };
            let shaped = answer(&change.record)?;
            let change_id = Uuid::new_v4().to_string();
            let items = self.transaction(key, found.as_ref(), &change, &change_id, now)?;
            let once = match call.once {
                Some(once) => Some(self.once_item(once, stored(&shaped)?, now)?),
                None => None,
            };
            let version = found.as_ref().map_or(0, |found| found.version);
            let changed =
                Changed { committed: Committed::Now(shaped), work: self.work(key, version + 1, &change, now) };
            let (pause, reason) = match self.attempt(once, items, call.deadline, failures).await? {
                Attempt::Committed => return Ok(changed),
                Attempt::Once(image) => {
                    // It may be our own entry, from an attempt whose answer was lost.
                    if !doubts.is_empty() {
                        let found = self.load(key, call.deadline).await?;
                        if let Some(changed) = self.settle(key, found.as_ref(), &mut doubts, call.deadline).await? {
                            return Ok(changed);
                        }
                    }
                    match self.replay(call, image, now).await? {
                        Some(answer) => return Ok(Committed::Before(answer).into()),
                        None => (Duration::ZERO, "the idempotency entry expired meanwhile".to_owned()),
                    }
                }
                Attempt::Overtaken => {
                    counter!("Conflicts", "kind" => R::KIND).increment(1);
                    (Duration::ZERO, "other changes always came first".to_owned())
                }
                Attempt::Again(pause, reason) => (pause, reason),
                Attempt::Doubtful(reason) => {
                    doubts.push(Doubt { version, change_id, changed });
                    (backoff(failures), reason)
                }
            };
            wait(pause, &reason, call.deadline).await?;
        }
        unreachable!("the loop ends by its deadline")
    }

    /// Takes the idempotency key of a call that changes many records, each under a key of its own, so that the same key
    /// with another body changes none.
    ///
    /// # Errors
    /// The key was used with another body, or the table does not do its part.
    pub async fn take_key<R>(&self, call: Call<'_>) -> Result<(), Error<R>> {
        for failures in 0.. {
            match self.keep(call, String::new(), self.settings.clock.now(), failures).await? {
                Kept::Now | Kept::Before(_) => return Ok(()),
                Kept::Again => {}
            }
        }
        unreachable!("the loop ends by its deadline")
    }

    /// Stores the answer of a call that had nothing to change, if it came with an idempotency key.
    async fn keep<R>(&self, call: Call<'_>, answer: String, now: Timestamp, failures: u32) -> Result<Kept, Error<R>> {
        let Some(once) = call.once else { return Ok(Kept::Now) };
        let entry = self.once_item(once, answer, now)?;
        let (pause, reason) = match self.attempt(Some(entry), Vec::new(), call.deadline, failures).await? {
            Attempt::Committed => return Ok(Kept::Now),
            Attempt::Once(image) => match self.replay(call, image, now).await? {
                Some(answer) => return Ok(Kept::Before(answer)),
                None => (Duration::ZERO, "the idempotency entry expired meanwhile".to_owned()),
            },
            Attempt::Overtaken => (Duration::ZERO, "other changes always came first".to_owned()),
            Attempt::Again(pause, reason) => (pause, reason),
            Attempt::Doubtful(reason) => (backoff(failures), reason),
        };
        wait(pause, &reason, call.deadline).await?;
        Ok(Kept::Again)
    }

    /// Looks whether an attempt of unknown end has been committed after all. Those that can no longer be are dropped.
    async fn settle<R: Record, A>(
        &self,
        key: &Key<R>,
        found: Option<&Loaded<R>>,
        doubts: &mut Vec<Doubt<A>>,
        deadline: Instant,
    ) -> Result<Option<Changed<A>>, Fault> {
        let version = found.map_or(0, |found| found.version);
        // While the record is at the version that the attempt read, nothing was committed: not yet.
        while let Some(position) = doubts.iter().position(|doubt| doubt.version < version) {
            let doubt = doubts.swap_remove(position);
            let change = self.get(key.pk(), &item::change_sk(doubt.version + 1), deadline).await?;
            if change.is_some_and(|change| item::get_text(&change, "change_id") == Ok(&doubt.change_id)) {
                return Ok(Some(doubt.changed));
            }
        }
        Ok(None)
    }

    /// The idempotency entry; written unless a living one is there, which is then shown.
    fn once_item(&self, once: &Once, answer: String, now: Timestamp) -> Result<TransactWriteItem, Fault> {
        let expires = now.saturating_add(once.lifetime).unwrap_or(Timestamp::MAX);
        write(
            self.put(&once.pk, item::RECORD)
                .item("fingerprint", bytes(&once.fingerprint))
                .item("answer", text(answer))
                .item(item::EXPIRES, number(expires.as_second()))
                .condition_expression("attribute_not_exists(pk) OR #expires <= :now")
                .expression_attribute_names("#expires", item::EXPIRES)
                .expression_attribute_values(":now", number(now.as_second()))
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld),
        )
    }

    /// One TransactWriteItems, and what its end means.
    async fn attempt(
        &self,
        once: Option<TransactWriteItem>,
        items: Vec<TransactWriteItem>,
        deadline: Instant,
        failures: u32,
    ) -> Result<Attempt, Fault> {
        let with_once = once.is_some();
        let items = once.into_iter().chain(items).collect();
        let transaction = self.client.transact_write_items().set_transact_items(Some(items)).send();
        let error = match tokio::time::timeout_at(deadline, transaction).await {
            Ok(Ok(_)) => return Ok(Attempt::Committed),
            Err(_elapsed) => return Ok(Attempt::Doubtful("the transaction timed out".to_owned())),
            Ok(Err(error)) => error,
        };
        if let SdkError::ServiceError(service) = &error {
            if let TransactWriteItemsError::TransactionCanceledException(cancelled) = service.err() {
                return read_reasons(cancelled.cancellation_reasons(), with_once, failures);
            }
            if service.err().is_transaction_in_progress_exception() {
                return Ok(Attempt::Again(conflict_pause(), "another transaction is in progress".to_owned()));
            }
        }
        match Failure::from(error) {
            Failure::Permanent(fault) => Err(fault),
            Failure::Transient(reason) => Ok(Attempt::Doubtful(reason)),
        }
    }

    /// The stored answer of the same call, if it acted before.
    ///
    /// # Errors
    /// The key was used with another body, or the table does not do its part.
    pub async fn stored_answer<R>(&self, call: Call<'_>) -> Result<Option<String>, Error<R>> {
        self.replay(call, None, self.settings.clock.now()).await
    }

    /// The answer in an idempotency entry: in the image, else as the table has it. `None` if there is no living one.
    async fn replay<R>(&self, call: Call<'_>, image: Option<Item>, now: Timestamp) -> Result<Option<String>, Error<R>> {
        let Some(once) = call.once else { return Ok(None) };
        let item = match image {
            Some(image) => Some(image),
            None => self.get(once.pk.clone(), item::RECORD, call.deadline).await?,
        };
        let Some(item) = item else { return Ok(None) };
        if item::get_number::<i64>(&item, item::EXPIRES)? <= now.as_second() {
            return Ok(None);
        }
        if item::get_bytes(&item, "fingerprint")? != once.fingerprint {
            return Err(Error::KeyReused);
        }
        Ok(Some(item::get_text(&item, "answer")?.to_owned()))
    }
}

/// Reads why a transaction was cancelled, in the order of its items: idempotency entry, record, change, and what comes
/// along, which is new whenever the change is.
fn read_reasons(reasons: &[CancellationReason], with_once: bool, failures: u32) -> Result<Attempt, Fault> {
    let record = usize::from(with_once);
    let mut pause = None;
    for (position, reason) in reasons.iter().enumerate() {
        match reason.code().unwrap_or("None") {
            "None" => {}
            "ConditionalCheckFailed" if position < record => return Ok(Attempt::Once(reason.item().cloned())),
            "ConditionalCheckFailed" if position == record => return Ok(Attempt::Overtaken),
            "ConditionalCheckFailed" => {
                return Err(Fault::Corrupt("something is stored that its record does not know of".to_owned()));
            }
            "TransactionConflict" => {
                pause.get_or_insert((conflict_pause(), "other transactions were in the way"));
            }
            "ThrottlingError" | "ProvisionedThroughputExceeded" => {
                pause = Some((backoff(failures), "the table throttles"));
            }
            code => {
                let message = reason.message().unwrap_or_default();
                return Err(Fault::Corrupt(format!("the transaction was cancelled: {code}: {message}")));
            }
        }
    }
    let (pause, reason) = pause.unwrap_or_else(|| (conflict_pause(), "the transaction was cancelled"));
    Ok(Attempt::Again(pause, reason.to_owned()))
}

fn conflict_pause() -> Duration {
    Duration::from_millis(fastrand::u64(5..=50))
}
