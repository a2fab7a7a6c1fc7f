//! What happened to a case, as whoever asks for it is told: its verdicts and its timeline.

use crate::cases::{Row, row};
use countersign_domain::case::{Case, VERDICT_SUBMITTED};
use countersign_domain::{Entry, EntryClass, rfc3339};
use countersign_store::{Fault, Key, Store, StoredChange};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

/// How many changes are read at a time; a change has 33 KB at most.
const READ_AT_ONCE: u64 = 100;

/// A stretch of a case's history.
#[derive(Default)]
pub(crate) struct History {
    /// The verdicts in it, oldest first.
    pub(crate) verdicts: Vec<Row>,
    /// The events in it, oldest first.
    pub(crate) timeline: Vec<Row>,
    /// How many changes are after what this stretch has no room for.
    pub(crate) next: Option<usize>,
}

#[derive(Serialize)]
struct GivenVerdict<'a> {
    verdict_id: &'a Value,
    outcome: &'a Value,
    comment: &'a Value,
    event_ids: &'a Value,
    by: &'a str,
    processed_at: String,
}

#[derive(Serialize)]
struct Event<'a> {
    event: &'a str,
    at: String,
    by: &'a str,
}

impl History {
    /// What made a case's versions up to `version`, except for the last `offset` of them: the latest that has room in
    /// so many bytes, at least one change.
    ///
    /// # Errors
    /// The table does not answer, or what is stored cannot be read.
    pub(crate) async fn read(
        store: &Store,
        key: &Key<Case>,
        version: u64,
        offset: usize,
        room: usize,
        deadline: Instant,
    ) -> Result<Self, Fault> {
        let mut history = Self::default();
        let mut bytes = 0;
        let mut after = offset;
        let mut last = version.saturating_sub(offset as u64);
        while last > 0 && history.next.is_none() {
            let first = last.saturating_sub(READ_AT_ONCE - 1).max(1);
            for change in store.history_of(key, first..=last, deadline).await?.iter().rev() {
                let (verdicts, timeline) = rows(change)?;
                bytes += verdicts.iter().chain(&timeline).map(|row| row.get().len() + 1).sum::<usize>();
                if bytes > room && after > offset {
                    history.next = Some(after);
                    break;
                }
                history.verdicts.extend(verdicts);
                history.timeline.extend(timeline);
                after += 1;
            }
            last = first - 1;
        }
        history.verdicts.reverse();
        history.timeline.reverse();
        Ok(history)
    }
}

/// The verdict in a change, if there is one, and its events, latest first.
fn rows(change: &StoredChange) -> Result<(Vec<Row>, Vec<Row>), Fault> {
    let events = || change.body.entries.iter().rev().filter(|entry| entry.class == EntryClass::Public);
    let verdicts = events().filter(|entry| entry.name == VERDICT_SUBMITTED).map(verdict).collect::<Result<_, _>>()?;
    Ok((verdicts, events().map(event).collect::<Result<_, _>>()?))
}

fn verdict(entry: &Entry) -> Result<Row, Fault> {
    row(&GivenVerdict {
        verdict_id: &entry.data["verdict_id"],
        outcome: &entry.data["outcome"],
        comment: &entry.data["comment"],
        event_ids: &entry.data["event_ids"],
        by: entry.actor.name(),
        processed_at: rfc3339(entry.at),
    })
}

fn event(entry: &Entry) -> Result<Row, Fault> {
    row(&Event { event: &entry.name, at: rfc3339(entry.at), by: entry.actor.name() })
}
