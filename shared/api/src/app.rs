//! What a handler works with: the table, the secrets and the clock, and the one way to change a record.

use crate::answer::Answer;
use crate::call::Call;
use crate::caller::Caller;
use crate::config::Config;
use crate::form::Form;
use crate::issuers::Issuers;
use crate::keys::Keys;
use crate::metrics;
use crate::policies::Policies;
use crate::problem::Problem;
use crate::rate::Rate;
use crate::secrets::{Secrets, SecretsError};
use crate::webhook::Outgoing;
use aws_lc_rs::rand;
use countersign_domain::retry::Schedule;
use countersign_domain::{Outcome, Record, Tenant, Timestamp, Work};
use countersign_queue::{Lane, Queue};
use countersign_store::{
    self as store, Changed, Clock, Committed, Cursor, CursorKeys, Fault, Key, Once, Store, Verified,
};
use serde_json::Value;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a verification over HTTP takes up records before it gives a cursor: with the one that it is at when the
/// time is up, it stays within 15 s.
const VERIFY_WITHIN: Duration = Duration::from_secs(10);

/// How long the queue may take to hear of a change before the caller is answered all the same.
const TELL_WITHIN: Duration = Duration::from_millis(200);

/// Everything that a door depends on; cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    /// The table.
    pub store: Store,
    /// How the worker hears of what there is to do.
    pub queue: Queue,
    /// The secrets.
    pub secrets: Arc<Secrets>,
    /// Whose JWTs are trusted.
    pub(crate) issuers: Arc<Issuers>,
    /// The API keys that were seen lately.
    pub keys: Arc<Keys>,
    /// The organizations' settings that were seen lately.
    pub policies: Arc<Policies>,
    /// Where `now` comes from.
    pub clock: Clock,
    /// Where this process runs: `aws` or `local`.
    pub environment: &'static str,
    /// Who calls what others chose.
    pub outgoing: Outgoing,
    /// When deliveries are attempted, and how long an attempt may take.
    pub schedule: Arc<Schedule>,
    pub(crate) rate: Arc<Rate>,
}

/// A change that did not happen.
#[derive(Debug)]
pub enum Refused<R> {
    /// The rule said no; the door knows how to say so.
    Rule(R),
    /// Anything else, ready to be sent.
    Problem(Problem),
}

impl<R> Refused<R> {
    /// The problem, with the rule's refusal as the door words it.
    pub fn or(self, word: impl FnOnce(R) -> Problem) -> Problem {
        match self {
            Self::Rule(refusal) => word(refusal),
            Self::Problem(problem) => problem,
        }
    }
}

impl<R, P: Into<Problem>> From<P> for Refused<R> {
    fn from(problem: P) -> Self {
        Self::Problem(problem.into())
    }
}

impl From<store::Error<Infallible>> for Problem {
    fn from(error: store::Error<Infallible>) -> Self {
        match error {
            store::Error::Refused(never) => match never {},
            store::Error::KeyReused => Self::idempotency_key_reused(),
            store::Error::Fault(fault) => fault.into(),
        }
    }
}

impl From<SecretsError> for Problem {
    fn from(error: SecretsError) -> Self {
        tracing::error!(%error, "secret unavailable");
        Self::unavailable()
    }
}

impl App {
    /// Puts together what doors depend on.
    #[must_use]
    pub fn new(
        store: Store,
        queue: Queue,
        outgoing: Outgoing,
        secrets: Secrets,
        issuers: Issuers,
        clock: Clock,
        config: &Config,
    ) -> Self {
        Self {
            store,
            queue,
            outgoing,
            secrets: Arc::new(secrets),
            issuers: Arc::new(issuers),
            keys: Arc::new(Keys::new(clock.clone())),
            policies: Arc::new(Policies::new(clock.clone())),
            environment: config.environment,
            clock,
            schedule: Arc::new(config.webhooks.schedule.clone()),
            rate: Arc::new(Rate::new(config.rate)),
        }
    }

    /// What cursors are authenticated with.
    ///
    /// # Errors
    /// The root key cannot be had now.
    pub async fn cursor_keys(&self) -> Result<CursorKeys, Problem> {
        Ok(self.secrets.sealer().await?.cursor_keys())
    }

    /// Verifies a tenant's audit chains of one kind for a caller over HTTP, from the `cursor` of its query string on;
    /// where to go on, if the time was up before the end.
    ///
    /// # Errors
    /// The query string has another cursor than ours, or the table does not do its part.
    pub async fn verify<C: Caller>(
        &self,
        call: &Call<C>,
        kind: &str,
        tenant: &Tenant,
        query: &str,
    ) -> Result<(Verified, Option<String>), Problem> {
        let mut form = Form::query(query);
        let cursor = form.optional("cursor", Form::text(4096));
        form.finish(|| Some(()))?;
        let keys = self.cursor_keys().await?;
        let cursor = Cursor { text: cursor.as_deref(), keys: &keys };
        let (verified, next) = self.store.verify_until(kind, tenant, cursor, call.within(VERIFY_WITHIN)).await??;
        if verified.broken.is_some() {
            metrics::found_broken_chain();
        }
        Ok((verified, next))
    }

    /// The number of a new ULID: the time in milliseconds, then 80 random bits.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn ulid(&self) -> Result<u128, Fault> {
        let mut bytes = [0; 16];
        let (time, random) = bytes.split_at_mut(6);
        time.copy_from_slice(&self.clock.now().as_millisecond().to_be_bytes()[2..]);
        rand::fill(random).map_err(|_| Fault::Unavailable("no random numbers".to_owned()))?;
        Ok(u128::from_be_bytes(bytes))
    }

    /// Changes a record by `rule`, exactly once, and answers with what `answer` makes of the record as it is then.
    ///
    /// `body` is the request's, for the idempotency key. This is the only thing that a door calls to write.
    ///
    /// # Errors
    /// The rule's refusal, or a problem that every door words alike.
    pub async fn change<C: Caller, R: Record>(
        &self,
        call: &Call<C>,
        body: &Value,
        key: &Key<R>,
        rule: impl FnMut(Option<&R>, Timestamp) -> Result<Outcome<R>, R::Refusal>,
        answer: impl FnMut(&R) -> Result<Answer, Fault>,
    ) -> Result<Answer, Refused<R::Refusal>> {
        self.change_once(call.once(body, None)?, call.deadline(), key, rule, answer).await
    }

    /// The same for one `item` of a call that changes many: each has its own entry under the idempotency key.
    ///
    /// # Errors
    /// The rule's refusal, or a problem that every door words alike.
    pub async fn change_item<C: Caller, R: Record>(
        &self,
        call: &Call<C>,
        body: &Value,
        item: &str,
        key: &Key<R>,
        rule: impl FnMut(Option<&R>, Timestamp) -> Result<Outcome<R>, R::Refusal>,
        answer: impl FnMut(&R) -> Result<Answer, Fault>,
    ) -> Result<Answer, Refused<R::Refusal>> {
        self.change_once(call.once(body, Some(item))?, call.deadline(), key, rule, answer).await
    }

    async fn change_once<R: Record>(
        &self,
        once: Option<Once>,
        deadline: Instant,
        key: &Key<R>,
        rule: impl FnMut(Option<&R>, Timestamp) -> Result<Outcome<R>, R::Refusal>,
        mut answer: impl FnMut(&R) -> Result<Answer, Fault>,
    ) -> Result<Answer, Refused<R::Refusal>> {
        let pk = once.as_ref().map_or("", |once| &once.pk);
        let asked = store::Call { deadline, once: once.as_ref() };
        let mut state = None;
        let shape = |record: &R| {
            state = record.listing().state;
            answer(record)
        };
        let change = self.store.change(key, asked, rule, shape, |answer: &Answer| answer.to_stored(pk));
        // Alongside: a function stands still between two calls.
        let (changed, (), ()) = futures_util::join!(change, self.secrets.refresh_aging(), self.issuers.refresh_aging());
        metrics::changed::<R>(match &changed {
            Ok(Changed { committed: Committed::Now(_), .. }) => state.unwrap_or("done"),
            Ok(Changed { committed: Committed::Before(_), .. }) => "replayed",
            Err(store::Error::Refused(_)) => "refused",
            Err(store::Error::KeyReused) => "key_reused",
            Err(store::Error::Fault(_)) => "failed",
        });
        match changed {
            Ok(Changed { committed: Committed::Now(answer), work }) => {
                self.tell(&work).await;
                Ok(answer)
            }
            Ok(Changed { committed: Committed::Before(stored), .. }) => Ok(self.replay(&stored, pk).await?),
            Err(store::Error::Refused(refusal)) => Err(Refused::Rule(refusal)),
            Err(store::Error::KeyReused) => Err(Problem::idempotency_key_reused().into()),
            Err(store::Error::Fault(fault)) => Err(fault.into()),
        }
    }

    /// Tells the worker what there is to do. That it is not told is no error: the clock will find it.
    pub async fn tell(&self, work: &[Work]) {
        if work.is_empty() {
            return;
        }
        let telling = self.queue.send(Lane::Fast, work, self.clock.now());
        match tokio::time::timeout(TELL_WITHIN, telling).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the worker was not told"),
            Err(_elapsed) => tracing::warn!("the worker was not told in time"),
        }
    }

    /// Takes the idempotency key of a call that changes many records, so that with another body it changes none.
    ///
    /// # Errors
    /// The key is none or was used with another body, or the table does not do its part.
    pub async fn take_key<C: Caller>(&self, call: &Call<C>, body: &Value) -> Result<(), Problem> {
        let Some(once) = call.once(body, None)? else { return Ok(()) };
        let asked = store::Call { deadline: call.deadline(), once: Some(&once) };
        Ok(self.store.take_key::<Infallible>(asked).await?)
    }

    /// The answer of the same call if it acted before; for a handler that changes something on its way to the change
    /// that the idempotency key is for.
    ///
    /// # Errors
    /// The key is none or was used with another body, or the table does not do its part.
    pub async fn answered_before<C: Caller>(&self, call: &Call<C>, body: &Value) -> Result<Option<Answer>, Problem> {
        let Some(once) = call.once(body, None)? else { return Ok(None) };
        let asked = store::Call { deadline: call.deadline(), once: Some(&once) };
        match self.store.stored_answer::<Infallible>(asked).await? {
            None => Ok(None),
            Some(stored) => self.replay(&stored, &once.pk).await.map(Some),
        }
    }

    async fn replay(&self, stored: &str, pk: &str) -> Result<Answer, Problem> {
        if let Some(answer) = Answer::from_stored(stored, pk, None)? {
            return Ok(answer);
        }
        // Only now: a door whose answers hold no tokens needs no root key.
        let sealer = self.secrets.sealer().await?;
        Answer::from_stored(stored, pk, Some(&sealer))?.ok_or_else(Problem::internal)
    }
}
