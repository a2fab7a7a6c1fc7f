//! What the worker does for approval requests: lets time pass for them, and tidies the inboxes of those who were asked.

use crate::{WITHIN, Worker};
use countersign_approvers::Unanswered;
use countersign_domain::workflow::request::{CLOSED, Refusal, Request};
use countersign_domain::{Entry, Pointer, Record, Timestamp, Work};
use countersign_store::{Call, Error, Fault, Key, Untold};
use serde::Deserialize;
use tokio::time::Instant;

/// What the entry of tasks that were closed together says.
#[derive(Deserialize)]
struct Closed {
    pointers: Vec<Pointer>,
}

impl Worker {
    /// Lets time pass for a request: what has become of it by now without anyone's doing is recorded, for one stage at a
    /// time. What there is to do then; the next stage may be a part of it.
    pub(crate) async fn tick_request(&self, work: &Work, deadline: Instant) -> Result<Vec<Work>, Fault> {
        let key = Key::<Request>::of(work)?;
        let asked_by = deadline.max(Instant::now() + countersign_approvers::WITHIN);
        let mut inquiry = self.workflow.inquiry(key.tenant()?, asked_by);
        loop {
            let rule = |request: Option<&Request>, now: Timestamp| {
                request.ok_or(Refusal::NotFound)?.tick(inquiry.answers(), now)
            };
            let call = Call { deadline: Instant::now() + WITHIN, once: None };
            match self.app.store.change(&key, call, rule, |_| Ok(()), |()| Ok(String::new())).await {
                Ok(changed) => return Ok(changed.work),
                Err(Error::Refused(Refusal::NotFound)) => return Ok(Vec::new()),
                Err(Error::Refused(Refusal::Ask(question))) => {
                    let unanswered = |unanswered: Unanswered| Fault::Unavailable(unanswered.to_string());
                    inquiry.ask(&self.app.store, &key, question).await.map_err(unanswered)?;
                }
                // It is looked at again, less and less often: somebody may be asked then who is not now.
                Err(Error::Refused(refusal)) => return Err(Fault::Unavailable(refusal.to_string())),
                Err(Error::Fault(fault)) => return Err(fault),
                Err(Error::KeyReused) => unreachable!("there is no key"),
            }
        }
    }

    /// Writes over what stands in inboxes of tasks that were closed together, as often as it is asked for.
    pub(crate) async fn tidy(&self, work: &Work, changes: &[Untold], deadline: Instant) -> Result<(), Fault> {
        if work.kind() != Request::KIND {
            return Ok(());
        }
        let closed = changes.iter().flat_map(|change| &change.change.entries).filter(|entry| entry.name == CLOSED);
        let pointers: Vec<Pointer> = closed.map(pointers_of).collect::<Result<Vec<_>, _>>()?.concat();
        if pointers.is_empty() {
            return Ok(());
        }
        self.app.store.point(&Key::<Request>::of(work)?.tenant()?, &pointers, deadline).await
    }
}

fn pointers_of(entry: &Entry) -> Result<Vec<Pointer>, Fault> {
    let closed = Closed::deserialize(&entry.data);
    let closed = closed.map_err(|error| Fault::Corrupt(format!("an entry {CLOSED} cannot be read: {error}")))?;
    Ok(closed.pointers)
}
