//! The clock: looks at everything whose due time has come, so that deadlines pass without anyone's call.

use countersign_domain::action::Action;
use countersign_domain::remediation::Remediation;
use countersign_domain::{Record, Timestamp};
use countersign_store::{Due, DueKind, Fault, SHARDS, Store};
use futures_util::future::join_all;
use tokio::time::Instant;

/// How many items of a shard are looked at before the index is asked again.
const BATCH: u16 = 10;

/// Looks at everything that is due at `now`, until there is no more or `stop_at` has come. Sweeps may overlap.
pub async fn sweep(store: &Store, now: Timestamp, stop_at: Instant) {
    join_all((0..SHARDS).map(|shard| sweep_shard(store, shard, now, stop_at))).await;
}

async fn sweep_shard(store: &Store, shard: u8, now: Timestamp, stop_at: Instant) {
    // An index that lags shows again what was just handled: that ends the sweep of this shard.
    let mut before = Vec::new();
    while Instant::now() < stop_at {
        let due = match store.due(shard, now, BATCH, stop_at).await {
            Ok(due) => due,
            Err(fault) => {
                tracing::warn!(%fault, shard, "the clock cannot see what is due");
                return;
            }
        };
        if due.is_empty() || due == before {
            return;
        }
        join_all(due.iter().map(|due| handle_or_put_off(store, due, now, stop_at))).await;
        before = due;
    }
}

/// Handles an item; one that cannot be handled is put off, so that it blocks no other.
async fn handle_or_put_off(store: &Store, due: &Due, now: Timestamp, stop_at: Instant) {
    let Err(fault) = handle(store, due, stop_at).await else { return };
    tracing::warn!(%fault, key = due.key(), "put off");
    if let Err(fault) = store.put_off(due, now, stop_at).await {
        tracing::warn!(%fault, key = due.key(), "not put off");
    }
}

async fn handle(store: &Store, due: &Due, stop_at: Instant) -> Result<(), Fault> {
    match due.kind() {
        // Written by a version that had nobody to tell either.
        DueKind::Change => store.done(due, stop_at).await,
        DueKind::Record(Action::KIND) => store.tick::<Action>(due, stop_at).await,
        DueKind::Record(Remediation::KIND) => store.tick::<Remediation>(due, stop_at).await,
        DueKind::Record(kind) => Err(Fault::Corrupt(format!("records of kind {kind} are never due"))),
    }
}
