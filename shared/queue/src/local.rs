//! Work on its way inside the process: two bounded channels.

use crate::{Lane, QueueError};
use countersign_domain::{Timestamp, Work};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How much word each channel holds. Beyond it word is refused, so that memory stays bounded however much waits in the
/// table.
const CAPACITY: usize = 4096;
/// How much of that is left to those who wait for nothing: the clock stops earlier, so that word of a new decision
/// finds room while a backlog is worked off.
const RESERVED: usize = 1024;

/// The sending ends.
#[derive(Clone, Debug)]
pub struct LocalQueue(Arc<Ends>);

#[derive(Debug)]
struct Ends {
    fast: mpsc::Sender<Work>,
    slow: mpsc::Sender<Work>,
}

/// The receiving ends.
#[derive(Debug)]
pub struct Received {
    /// Of the fast queue.
    pub fast: mpsc::Receiver<Work>,
    /// Of the slow queue.
    pub slow: mpsc::Receiver<Work>,
}

impl LocalQueue {
    /// Two channels.
    #[must_use]
    pub fn new() -> (Self, Received) {
        let (fast, of_fast) = mpsc::channel(CAPACITY);
        let (slow, of_slow) = mpsc::channel(CAPACITY);
        (Self(Arc::new(Ends { fast, slow })), Received { fast: of_fast, slow: of_slow })
    }

    pub(crate) fn send(&self, lane: Lane, work: &[Work], now: Timestamp) -> Result<(), QueueError> {
        let sender = match lane {
            Lane::Fast => &self.0.fast,
            Lane::Slow => &self.0.slow,
        };
        for work in work {
            // The place is taken now, so that what is on its way is bounded as well.
            let place = sender.clone().try_reserve_owned().map_err(|_| QueueError::Full)?;
            let wait = Duration::try_from(work.at.duration_since(now)).unwrap_or_default();
            let work = work.clone();
            if wait.is_zero() {
                place.send(work);
            } else {
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    place.send(work);
                });
            }
        }
        Ok(())
    }

    /// On the fast lane, where the clock sends its word: that the slow one is full is to slow down nothing else.
    pub(crate) fn has_room(&self) -> bool {
        self.0.fast.capacity() > RESERVED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(n: usize, at: Timestamp) -> Work {
        Work { key: format!("delivery#t#{n}"), change: None, at }
    }

    #[tokio::test(start_paused = true)]
    async fn each_lane_hears_its_own_word_at_its_time() {
        let now = Timestamp::UNIX_EPOCH;
        let (queue, mut received) = LocalQueue::new();
        let later = now + Duration::from_secs(2);
        queue.send(Lane::Fast, &[work(1, later), work(2, now)], now).unwrap();
        queue.send(Lane::Slow, &[work(3, now)], now).unwrap();
        assert_eq!(received.slow.recv().await, Some(work(3, now)));
        let started = tokio::time::Instant::now();
        assert_eq!(received.fast.recv().await, Some(work(2, now)));
        assert_eq!(started.elapsed(), Duration::ZERO);
        assert_eq!(received.fast.recv().await, Some(work(1, later)));
        assert_eq!(started.elapsed().as_secs(), 2);
    }

    #[tokio::test]
    async fn a_full_lane_refuses_and_the_other_does_not() {
        let now = Timestamp::UNIX_EPOCH;
        let (queue, mut received) = LocalQueue::new();
        let all: Vec<_> = (0..CAPACITY).map(|n| work(n, now)).collect();
        assert!(queue.has_room());
        queue.send(Lane::Fast, &all[..CAPACITY - RESERVED], now).unwrap();
        assert!(!queue.has_room(), "the clock is to leave some room");
        queue.send(Lane::Fast, &all[CAPACITY - RESERVED..], now).unwrap();
        assert_eq!(queue.send(Lane::Fast, &all[..1], now), Err(QueueError::Full));
        // What is on its way takes a place, too.
        let later = now + Duration::from_secs(3600);
        received.fast.recv().await.unwrap();
        queue.send(Lane::Fast, &[work(0, later)], now).unwrap();
        assert_eq!(queue.send(Lane::Fast, &all[..1], now), Err(QueueError::Full));
        queue.send(Lane::Slow, &all[..1], now).unwrap();
    }

    #[tokio::test]
    async fn a_full_slow_lane_does_not_stop_the_clock() {
        let now = Timestamp::UNIX_EPOCH;
        let (queue, _received) = LocalQueue::new();
        let all: Vec<_> = (0..CAPACITY).map(|n| work(n, now)).collect();
        queue.send(Lane::Slow, &all, now).unwrap();
        assert_eq!(queue.send(Lane::Slow, &all[..1], now), Err(QueueError::Full));
        assert!(queue.has_room());
    }
}
