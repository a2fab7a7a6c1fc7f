//! The clock: sends word of everything whose time has come, so that nothing waits for anyone's call.
//!
//! It does no work itself. For each item it moves the time at which it will look again, and tells the worker.

use countersign_api::{App, metrics};
use countersign_domain::{Timestamp, Work};
use countersign_queue::Lane;
use countersign_store::{Due, SHARDS};
use futures_util::future::join_all;
use std::time::Duration;
use tokio::time::Instant;

/// How many items of a shard are looked at before the index is asked again.
const BATCH: u16 = 25;

/// Sends word of everything that is due before the clock looks again, until there is no more or `stop_at` has come.
/// Sweeps may overlap: an item is moved on by one of them only.
pub async fn sweep(app: &App, interval: Duration, stop_at: Instant) {
    let until = app.clock.now().saturating_add(interval).unwrap_or(Timestamp::MAX);
    let earliest = join_all((0..SHARDS).map(|shard| sweep_shard(app, shard, until, stop_at))).await;
    metrics::swept(earliest.into_iter().flatten().min(), app.clock.now());
}

/// When the thing was due that this shard has shown first, which is the one that waited longest.
async fn sweep_shard(app: &App, shard: u8, until: Timestamp, stop_at: Instant) -> Option<Timestamp> {
    let mut earliest = None;
    // An index that lags shows again what was just moved on: that ends the sweep of this shard.
    let mut before = Vec::new();
    while Instant::now() < stop_at && app.queue.has_room() {
        let due = match app.store.due(shard, until, BATCH, stop_at).await {
            Ok(due) => due,
            Err(fault) => {
                tracing::warn!(%fault, shard, "the clock cannot see what is due");
                break;
            }
        };
        earliest = earliest.or_else(|| due.first().map(|due| due.work().at));
        if due.is_empty() || due == before {
            break;
        }
        let moved = join_all(due.iter().map(|due| move_on(app, due, stop_at))).await;
        let work: Vec<Work> = moved.into_iter().flatten().collect();
        if let Err(error) = app.queue.send(Lane::Fast, &work, app.clock.now()).await {
            tracing::warn!(%error, shard, "the worker was not told; the clock will look again");
            break;
        }
        before = due;
    }
    earliest
}

/// What to tell the worker of an item, if nobody else does.
async fn move_on(app: &App, due: &Due, stop_at: Instant) -> Option<Work> {
    match app.store.move_on(due, app.clock.now(), stop_at).await {
        Ok(true) => Some(due.work()),
        Ok(false) => None,
        Err(fault) => {
            tracing::warn!(%fault, key = due.work().shown(), "not moved on");
            None
        }
    }
}
