//! How work reaches the worker: SQS, or a channel inside the process.
//!
//! Either way only word travels: what there is to do stands in the table, where the clock finds it again.

mod local;
mod sqs;

pub use local::{LocalQueue, Received};
pub use sqs::SqsQueue;

use countersign_domain::{Timestamp, Work};

/// Which of the two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// For everything that is done in a moment.
    Fast,
    /// For targets that take their time, or have much waiting, so that they hold up nobody else.
    Slow,
}

/// A way to tell the worker.
#[derive(Clone, Debug)]
pub enum Queue {
    /// In AWS.
    Sqs(SqsQueue),
    /// On a laptop.
    Local(LocalQueue),
}

/// The worker was not told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The queue does not answer.
    #[error("the queue is unavailable: {0}")]
    Unavailable(String),
    /// The worker does not keep up.
    #[error("the queue is full")]
    Full,
}

impl Queue {
    /// Tells the worker, so that it hears at the time of each piece of work, in any order and perhaps twice.
    ///
    /// # Errors
    /// Some of it was not sent; the clock will find it.
    pub async fn send(&self, lane: Lane, work: &[Work], now: Timestamp) -> Result<(), QueueError> {
        match self {
            Self::Sqs(queue) => queue.send(lane, work, now).await,
            Self::Local(queue) => queue.send(lane, work, now),
        }
    }

    /// Makes now what would be made when it is first told: for a moment in which one waits anyway.
    pub fn prepare(&self) {
        match self {
            Self::Sqs(queue) => queue.prepare(),
            Self::Local(_) => {}
        }
    }

    /// Whether the worker keeps up, as far as anyone can tell.
    #[must_use]
    pub fn has_room(&self) -> bool {
        match self {
            Self::Sqs(_) => true,
            Self::Local(queue) => queue.has_room(),
        }
    }
}
