//! A record that waits: in an inbox, for a deadline, with items beside it and a log of its changes.

use crate::world::{World, deadline};
use countersign_domain::{
    Actor, Change, Entry, EntryClass, Listing, Logged, Outcome, Record, Subject, Tenant, Timestamp, With, seconds,
};
use countersign_store::{Call, Committed, Error, Key};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) created_at: Timestamp,
    pub(crate) state: JobState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum JobState {
    Waiting,
    Taken,
    Late,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobRefusal {
    Exists,
    NotWaiting,
}

impl Record for Job {
    const KIND: &'static str = "job";
    const SCHEMA: u32 = 1;
    type Refusal = JobRefusal;

    fn upgrade(_: u32, _: Value) -> Option<Value> {
        None
    }

    fn listing(&self) -> Listing {
        let inbox = (self.state == JobState::Waiting).then_some("jobs".into());
        Listing { inbox, ..Listing::at(self.created_at) }
    }

    fn due(&self) -> Option<Timestamp> {
        (self.state == JobState::Waiting).then(|| self.created_at.saturating_add(seconds(60)).unwrap())
    }

    fn tick(&self, now: Timestamp) -> Outcome<Self> {
        match self.due() {
            Some(due) if now >= due => Outcome::Change(self.next(JobState::Late, "late", &Actor::Clock, now)),
            Some(_) | None => Outcome::Keep,
        }
    }

    fn logged(entry: &Entry) -> Option<Logged> {
        Some(Logged { name: entry.name.clone(), by: Some(entry.actor.name().to_owned()) })
    }
}

impl Job {
    /// The same job with one more change.
    pub(crate) fn touched(&self, name: &str, at: Timestamp) -> Outcome<Self> {
        Outcome::Change(self.next(self.state, name, &user("a"), at))
    }

    fn next(&self, state: JobState, name: &str, by: &Actor, at: Timestamp) -> Change<Self> {
        let job = Self { state, ..self.clone() };
        let entry = job.entry(name, by, at);
        Change::new(job, entry)
    }

    fn entry(&self, name: &str, by: &Actor, at: Timestamp) -> Entry {
        Entry {
            name: name.to_owned(),
            class: EntryClass::Public,
            actor: by.clone(),
            at,
            subject: Subject { kind: "job".to_owned(), id: self.id.clone() },
            data: json!({}),
            state: None,
        }
    }
}

pub(crate) fn user(name: &str) -> Actor {
    Actor::User { issuer: "test".to_owned(), subject: name.to_owned() }
}

impl World {
    /// Changes a job by `rule`.
    pub(crate) async fn work(
        &self,
        key: &Key<Job>,
        rule: impl FnMut(Option<&Job>, Timestamp) -> Result<Outcome<Job>, JobRefusal>,
    ) -> Result<Committed<()>, Error<JobRefusal>> {
        let call = Call { deadline: deadline(), once: None };
        let changed = self.store.change(key, call, rule, |_| Ok(()), |()| Ok(String::new())).await?;
        Ok(changed.committed)
    }

    /// A waiting job with its input beside it.
    pub(crate) async fn hire(&self, tenant: &Tenant, id: &str, by: &str) -> Key<Job> {
        let key = Key::new(tenant, id);
        let hired = self.work(&key, |job, now| match job {
            None => {
                let job = Job { id: id.to_owned(), created_at: now, state: JobState::Waiting };
                let hired = job.next(JobState::Waiting, "hired", &user(by), now);
                Ok(Outcome::Change(hired.with_item("@input", format!("input of {id}"))))
            }
            Some(_) => Err(JobRefusal::Exists),
        });
        assert_eq!(hired.await, Ok(Committed::Now(())));
        key
    }

    pub(crate) async fn take(&self, key: &Key<Job>, by: &str) -> Result<Committed<()>, Error<JobRefusal>> {
        self.work(key, |job, now| match job {
            Some(job) if job.state == JobState::Waiting => {
                let taken = job.next(JobState::Taken, "taken", &user(by), now);
                Ok(Outcome::Change(taken.with_item("report", "done".to_owned())))
            }
            Some(_) | None => Err(JobRefusal::NotWaiting),
        })
        .await
    }

    /// Takes a job and hires another in the same change.
    pub(crate) async fn succeed(&self, key: &Key<Job>, next: &str) -> Result<Committed<()>, Error<JobRefusal>> {
        self.work(key, |job, now| {
            let job = job.ok_or(JobRefusal::NotWaiting)?;
            let mut taken = job.next(JobState::Taken, "taken", &user("a"), now);
            let born = Job { id: next.to_owned(), created_at: now, state: JobState::Waiting };
            let entry = Box::new(born.entry("born", &user("a"), now));
            taken.with.push(With::Born { id: next.to_owned(), record: Box::new(born), entry });
            Ok(Outcome::Change(taken))
        })
        .await
    }

    pub(crate) async fn job(&self, key: &Key<Job>) -> Option<Job> {
        self.store.load(key, deadline()).await.unwrap().map(|found| found.record)
    }
}
