//! Works off both queues in this process, as the worker's function does behind SQS.

use countersign_api::config::Local;
use countersign_delivery::{Bus, Worker};
use countersign_domain::Work;
use countersign_queue::{Lane, LocalQueue, Queue, QueueError, Received, SqsQueue};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

/// How much word is taken up together.
const BATCH: usize = 32;
/// How many batches the table is asked about at the same time: few, so that under load they are full.
const PLANNING: usize = 2;
/// How much is done at the same time on the slow lane.
const SLOW: usize = 32;
/// How long what is in flight may take once the process is asked to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How long a queue that does not answer is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// Where word is received.
#[derive(Debug)]
pub(crate) enum Inbox {
    /// From inside the process.
    Local(Received),
    /// From SQS.
    Sqs(SqsQueue),
    /// Nowhere: others receive it.
    Nobody,
}

/// The queue that the configuration names, and its other end.
pub(crate) async fn queue(config: &Local) -> (Queue, Inbox) {
    match &config.queue_urls {
        None => {
            let (queue, received) = LocalQueue::new();
            (Queue::Local(queue), Inbox::Local(received))
        }
        Some((fast, slow)) => {
            let queue = SqsQueue::by_environment(fast.clone(), slow.clone()).await;
            (Queue::Sqs(queue.clone()), Inbox::Sqs(queue))
        }
    }
}

/// The event bus that the configuration names.
pub(crate) async fn bus(name: Option<&str>) -> Option<Bus> {
    Some(Bus::by_environment(name?.to_owned()).await)
}

/// Works off both lanes until `stop` says true, then lets what is in flight end.
pub(crate) async fn work_off(inbox: Inbox, worker: Worker, stop: watch::Receiver<bool>) {
    match inbox {
        Inbox::Nobody => {}
        Inbox::Local(received) => {
            tokio::join!(
                work_off_fast(received.fast, worker.clone(), stop.clone()),
                work_off_slow(received.slow, worker, stop)
            );
        }
        Inbox::Sqs(queue) => {
            tokio::join!(
                work_off_sqs(&queue, Lane::Fast, worker.clone(), stop.clone()),
                work_off_sqs(&queue, Lane::Slow, worker, stop)
            );
        }
    }
}

/// Attempts that take their time hold up nothing here: the worker itself bounds how many are made.
async fn work_off_fast(mut received: mpsc::Receiver<Work>, worker: Worker, stop: watch::Receiver<bool>) {
    let planning = Arc::new(Semaphore::new(PLANNING));
    let mut running = JoinSet::new();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        while running.try_join_next().is_some() {}
        let next = async {
            let permit = Arc::clone(&planning).acquire_owned().await.ok()?;
            worker.has_room().await;
            (received.recv_many(&mut batch, BATCH).await > 0).then_some(permit)
        };
        let Some(permit) = until(&stop, next).await.flatten() else { break };
        let (work, worker) = (std::mem::take(&mut batch), worker.clone());
        running.spawn(async move {
            let planned = worker.plan(Lane::Fast, &work).await;
            drop(permit);
            // What fails stands in the table, where the clock finds it.
            worker.carry_out(planned).await;
        });
    }
    drain(running).await;
}

async fn work_off_slow(mut received: mpsc::Receiver<Work>, worker: Worker, stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(SLOW));
    let mut running = JoinSet::new();
    loop {
        while running.try_join_next().is_some() {}
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((place, received.recv().await?))
        };
        let Some((place, work)) = until(&stop, next).await.flatten() else { break };
        let worker = worker.clone();
        running.spawn(async move {
            let _place = place;
            worker.handle(Lane::Slow, &[work]).await;
        });
    }
    drain(running).await;
}

async fn work_off_sqs(queue: &SqsQueue, lane: Lane, worker: Worker, stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(SLOW));
    let mut running = JoinSet::new();
    loop {
        while running.try_join_next().is_some() {}
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((place, queue.receive(lane).await))
        };
        let Some((place, received)) = until(&stop, next).await.flatten() else { break };
        let received = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "nothing received");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (worker, queue) = (worker.clone(), queue.clone());
        running.spawn(async move {
            let _place = place;
            if let Err(error) = handle_received(&worker, &queue, lane, received).await {
                tracing::warn!(%error, "handled, but not deleted");
            }
        });
    }
    drain(running).await;
}

async fn handle_received(
    worker: &Worker,
    queue: &SqsQueue,
    lane: Lane,
    received: Vec<(Work, String)>,
) -> Result<(), QueueError> {
    let (work, receipts): (Vec<_>, Vec<_>) = received.into_iter().unzip();
    let failed = worker.handle(lane, &work).await;
    for (place, receipt) in receipts.into_iter().enumerate() {
        if !failed.contains(&place) {
            queue.delete(lane, receipt).await?;
        }
    }
    Ok(())
}

/// What `next` comes to, unless the process is asked to stop before.
async fn until<T>(stop: &watch::Receiver<bool>, next: impl Future<Output = T>) -> Option<T> {
    let mut stop = stop.clone();
    tokio::select! {
        next = next => Some(next),
        // An error means that nobody is left who could say it: stop as well.
        _ = stop.wait_for(|stop| *stop) => None,
    }
}

/// What does not end in time is given up: its claims will be over, and others make the attempts again.
async fn drain(mut running: JoinSet<()>) {
    let ended = async { while running.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN, ended).await;
}
