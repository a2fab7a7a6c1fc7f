//! How many attempts this process makes at the same time on the fast lane: a few to one target, so that one which hangs
//! leaves room for all others.

use countersign_domain::delivery::Target;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// To one target.
const PER_TARGET: usize = 8;
/// In all, without what goes beyond [`PER_TARGET`]: each is a connection, and many systems let a process have 1,024
/// files.
const IN_ALL: usize = 400;
/// Beyond [`PER_TARGET`], in all, to targets that answer quickly. Kept apart, so that such which then hang leave room
/// for others.
const BEYOND: usize = 100;
/// How many may wait for their turn among those, in all.
const QUEUED: usize = 1000;
/// With more than so many of them no more work is taken up.
const ENOUGH: usize = 200;
/// Of how many targets it is remembered how they answer.
const REMEMBERED: usize = 10_000;

/// Counts the attempts that are being made.
#[derive(Clone, Debug)]
pub(crate) struct Gates(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    targets: Mutex<Targets>,
    beyond: Arc<Semaphore>,
    queued: AtomicUsize,
    left: Notify,
}

/// The targets that are known, and how many attempts are being made to all of them on places of their own.
#[derive(Debug, Default)]
struct Targets {
    inside: HashMap<Target, Inside>,
    attempts: usize,
}

/// What is known of a target here and now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Inside {
    /// How many attempts are being made.
    attempts: usize,
    /// Whether its latest answer came quickly.
    quick: bool,
    /// Whether it has let an attempt time out, and not answered quickly since.
    slow: bool,
}

/// The right to attempt to reach a target; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    gates: Gates,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// One of the target's own.
    Own(Target),
    /// One of those for targets that answer quickly, once there is one.
    Beyond,
}

impl Default for Gates {
    fn default() -> Self {
        Self(Arc::new(Shared {
            targets: Mutex::default(),
            beyond: Arc::new(Semaphore::new(BEYOND)),
            queued: AtomicUsize::new(0),
            left: Notify::new(),
        }))
    }
}

impl Gates {
    /// Lets one more through, if there is room now, or will be soon.
    pub(crate) fn enter(&self, target: &Target) -> Option<Pass> {
        let mut gates = self.lock();
        let inside = gates.inside.get(target).copied().unwrap_or_default();
        let place = if inside.attempts < PER_TARGET && gates.attempts < IN_ALL {
            gates.attempts += 1;
            gates.inside.insert(target.clone(), Inside { attempts: inside.attempts + 1, ..inside });
            Place::Own(target.clone())
        } else if inside.quick && self.0.queued.load(Ordering::SeqCst) < QUEUED {
            self.0.queued.fetch_add(1, Ordering::SeqCst);
            Place::Beyond
        } else {
            return None;
        };
        Some(Pass { gates: self.clone(), place })
    }

    /// Waits until little enough is in the queue for more to be taken up.
    pub(crate) async fn has_room(&self) {
        loop {
            let left = self.0.left.notified();
            if self.0.queued.load(Ordering::SeqCst) <= ENOUGH {
                return;
            }
            left.await;
        }
    }

    /// Remembers how a target has answered, or that it has not.
    pub(crate) fn answered(&self, target: &Target, quickly: bool, timed_out: bool) {
        let mut gates = self.lock();
        if gates.inside.len() >= REMEMBERED {
            gates.inside.retain(|_, inside| inside.attempts > 0);
        }
        let inside = gates.inside.entry(target.clone()).or_default();
        inside.quick = quickly;
        inside.slow = !quickly && (timed_out || inside.slow);
    }

    /// Whether a target's latest answer came quickly, as far as it is remembered.
    pub(crate) fn is_quick(&self, target: &Target) -> bool {
        self.lock().inside.get(target).is_some_and(|inside| inside.quick)
    }

    /// Whether a target has let an attempt time out, and not answered quickly since, as far as it is remembered.
    pub(crate) fn is_slow(&self, target: &Target) -> bool {
        self.lock().inside.get(target).is_some_and(|inside| inside.slow)
    }

    fn lock(&self) -> MutexGuard<'_, Targets> {
        self.0.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Waits for its turn, if it has to; the attempt may be made while this is held.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        match self.place {
            Place::Own(_) => None,
            Place::Beyond => Arc::clone(&self.gates.0.beyond).acquire_owned().await.ok(),
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        match &self.place {
            Place::Own(target) => {
                let mut gates = self.gates.lock();
                gates.attempts -= 1;
                if let Some(inside) = gates.inside.get_mut(target) {
                    inside.attempts -= 1;
                    if *inside == Inside::default() {
                        gates.inside.remove(target);
                    }
                }
            }
            Place::Beyond => {
                self.gates.0.queued.fetch_sub(1, Ordering::SeqCst);
                self.gates.0.left.notify_waiters();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn bus(name: usize) -> Target {
        Target::Bus { name: name.to_string() }
    }

    #[test]
    fn one_target_takes_only_a_few_places_and_gives_them_back() {
        let gates = Gates::default();
        let mut passes: Vec<_> = (0..PER_TARGET).map(|_| gates.enter(&bus(1)).unwrap()).collect();
        assert!(gates.enter(&bus(1)).is_none());
        assert!(gates.enter(&bus(2)).is_some());
        passes.pop();
        assert!(gates.enter(&bus(1)).is_some(), "and it was dropped at once");
        passes.push(gates.enter(&bus(1)).unwrap());
        assert!(gates.enter(&bus(1)).is_none());
        drop(passes);
        assert!(gates.lock().inside.is_empty());
    }

    #[tokio::test]
    async fn a_target_that_answers_quickly_gets_more_places_in_turn() {
        let gates = Gates::default();
        let own: Vec<_> = (0..PER_TARGET).map(|_| gates.enter(&bus(1)).unwrap()).collect();
        gates.answered(&bus(1), true, false);
        let mut beyond: Vec<_> = (0..QUEUED).map(|_| gates.enter(&bus(1)).unwrap()).collect();
        assert!(gates.enter(&bus(1)).is_none());
        assert!(gates.enter(&bus(2)).is_some());
        assert!(own[0].turn().await.is_none(), "it waits for nobody");
        let mut turns = Vec::new();
        for pass in &beyond[..BEYOND] {
            turns.push(pass.turn().await.unwrap());
        }
        assert!(beyond[BEYOND].turn().now_or_never().is_none());
        turns.pop();
        assert!(beyond[BEYOND].turn().now_or_never().is_some());
        gates.answered(&bus(1), false, false);
        beyond.pop();
        assert!(gates.enter(&bus(1)).is_none(), "it is not quick any more");
        assert!(gates.has_room().now_or_never().is_none());
        let (room, ()) = tokio::join!(gates.has_room(), async { beyond.truncate(ENOUGH) });
        assert_eq!(room, ());
    }

    #[test]
    fn only_so_many_quick_targets_are_remembered() {
        let gates = Gates::default();
        let pass = gates.enter(&bus(0));
        (0..=REMEMBERED).for_each(|n| gates.answered(&bus(n), true, false));
        assert!(gates.is_quick(&bus(0)), "an attempt is being made");
        assert!(!gates.is_quick(&bus(1)) && gates.is_quick(&bus(REMEMBERED)));
        drop(pass);
        assert!(gates.is_quick(&bus(0)));
    }

    #[test]
    fn a_target_that_let_an_attempt_time_out_is_slow_until_it_answers_quickly() {
        let gates = Gates::default();
        for (quickly, timed_out, slow) in [
            (false, false, false),
            (false, true, true),
            (false, false, true),
            (true, false, false),
            (false, false, false),
        ] {
            gates.answered(&bus(1), quickly, timed_out);
            assert_eq!(gates.is_slow(&bus(1)), slow);
        }
        assert!(!gates.is_slow(&bus(2)));
    }

    #[test]
    fn all_targets_together_take_no_more_than_there_is() {
        let gates = Gates::default();
        let passes: Vec<_> = (0..IN_ALL).map(|n| gates.enter(&bus(n)).unwrap()).collect();
        assert!(gates.enter(&bus(IN_ALL)).is_none());
        drop(passes);
        assert!(gates.enter(&bus(IN_ALL)).is_some());
    }
}
