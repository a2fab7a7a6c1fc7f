//! Who is next: the first attempts to tell a request's callback of its events are made in the events' order, one at a
//! time, as far as this process makes them.
//!
//! Order is a courtesy for which nobody waits beyond a bound; that an event arrives does not hang on it.

use crate::attempt::Step;
use crate::lock;
use countersign_domain::Tenant;
use countersign_domain::delivery::Target;
use countersign_domain::event::Source;
use countersign_domain::workflow::request::Request;
use countersign_store::Key;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// How many attempts may be handed over to the slow lane with their places, in all.
const HANDED_OVER: usize = 1000;
/// How long they keep them.
const KEPT_FOR: Duration = Duration::from_secs(120);

/// Where in the history of a record an event is: the version that its change made, and its place among the entries; none,
/// and so before all of them, as long as it is not known what is to be told of that change.
pub(crate) type Position = (u64, Option<u32>);

/// The line in which the first attempt of a delivery stands, and where; only that to a callback stands in one.
pub(crate) fn line_of(tenant: &Tenant, target: &Target, source: &Source) -> Option<(String, Position)> {
    let key: Key<Request> = Key::new(tenant, &source.id);
    target.is_callback().then(|| (key.as_str().to_owned(), (source.version, Some(source.entry))))
}

/// The lines of all requests of which something is to be told here now, by their partition keys; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<Mutex<HashMap<String, Line>>>);

#[derive(Debug, Default)]
struct Line {
    /// How many stand where; more than one if the same is done twice.
    places: BTreeMap<Position, usize>,
    left: Arc<Notify>,
}

/// A place in a line; left when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    lines: Lines,
    line: String,
    position: Position,
    left: Arc<Notify>,
}

impl Lines {
    /// Takes a place in a line.
    pub(crate) fn enter(&self, line: &str, position: Position) -> Place {
        let mut lines = lock(&self.0);
        let found = lines.entry(line.to_owned()).or_default();
        *found.places.entry(position).or_default() += 1;
        Place { lines: self.clone(), line: line.to_owned(), position, left: Arc::clone(&found.left) }
    }

    /// Whether nobody stands before the events of this version.
    pub(crate) fn is_free(&self, line: &str, version: u64) -> bool {
        lock(&self.0).get(line).is_none_or(|line| line.places.range(..(version, None)).next().is_none())
    }

    /// Whether somebody here sees to this already.
    pub(crate) fn is_taken(&self, line: &str, position: Position) -> bool {
        lock(&self.0).get(line).is_some_and(|line| line.places.contains_key(&position))
    }

    fn is_first(&self, place: &Place) -> bool {
        let lines = lock(&self.0);
        let first = lines.get(&place.line).and_then(|line| line.places.keys().next());
        first.is_none_or(|first| *first >= place.position)
    }
}

impl Place {
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// Waits until nobody stands before it, but no longer than so.
    pub(crate) async fn turn(&self, at_most: Duration) {
        let first = async {
            loop {
                let left = self.left.notified();
                if self.lines.is_first(self) {
                    return;
                }
                left.await;
            }
        };
        // Whoever takes too long is not waited for.
        let _ = timeout(at_most, first).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = lock(&self.lines.0);
        if let Some(line) = lines.get_mut(&self.line) {
            if let Some(count) = line.places.get_mut(&self.position) {
                *count -= 1;
                if *count == 0 {
                    line.places.remove(&self.position);
                }
            }
            if line.places.is_empty() {
                lines.remove(&self.line);
            }
        }
        drop(lines);
        self.left.notify_waiters();
    }
}

/// First attempts that wait, with their places, until word of one of them has come by the slow lane of this process. A few
/// of them wait for nobody any more, if another process has heard that word: they are dropped after a while.
#[derive(Debug, Default)]
pub(crate) struct HandedOver(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// By the line that they stand in.
    groups: HashMap<String, Group>,
    /// Their lines, by the partition keys of their deliveries.
    lines: HashMap<String, String>,
}

#[derive(Debug)]
struct Group {
    since: Instant,
    steps: BTreeMap<Position, Step>,
}

impl HandedOver {
    /// Keeps attempts, by the partition keys of their deliveries. Those without a place, and those that there is no room
    /// for, are given back.
    pub(crate) fn keep(&self, steps: Vec<(String, Step)>) -> Vec<Step> {
        let now = Instant::now();
        let mut refused = Vec::new();
        let mut waiting = lock(&self.0);
        waiting.drop_old(now);
        for (delivery, step) in steps {
            match &step.place {
                Some(place) if waiting.lines.len() < HANDED_OVER => {
                    let (line, position) = (place.line.clone(), place.position);
                    waiting.lines.insert(delivery, line.clone());
                    let group = waiting.groups.entry(line);
                    let group = group.or_insert_with(|| Group { since: now, steps: BTreeMap::new() });
                    group.steps.insert(position, step);
                }
                Some(_) | None => refused.push(step),
            }
        }
        refused
    }

    /// All attempts that wait in the same line as that of this delivery, in order.
    pub(crate) fn take(&self, delivery: &str) -> Vec<Step> {
        let mut waiting = lock(&self.0);
        let Some(line) = waiting.lines.remove(delivery) else { return Vec::new() };
        waiting.lines.retain(|_, of| *of != line);
        waiting.groups.remove(&line).map_or_else(Vec::new, |group| group.steps.into_values().collect())
    }
}

impl Waiting {
    fn drop_old(&mut self, now: Instant) {
        self.groups.retain(|_, group| now.duration_since(group.since) < KEPT_FOR);
        self.lines.retain(|_, line| self.groups.contains_key(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const LONG: Duration = Duration::from_secs(3600);

    fn is_next(place: &Place) -> bool {
        place.turn(LONG).now_or_never().is_some()
    }

    #[tokio::test]
    async fn whoever_stands_further_ahead_is_next_whenever_they_came() {
        let lines = Lines::default();
        let third = lines.enter("r", (2, Some(1)));
        assert!(is_next(&third));
        let second = lines.enter("r", (2, None));
        let (first, other) = (lines.enter("r", (1, Some(7))), lines.enter("s", (9, Some(9))));
        assert_eq!([&first, &second, &third, &other].map(is_next), [true, false, false, true]);
        let waiting = third.turn(LONG);
        let leaving = async {
            drop(first);
            assert_eq!([&second, &third].map(is_next), [true, false]);
            drop(second);
        };
        futures_util::join!(waiting, leaving);
        drop((third, other));
        assert!(lock(&lines.0).is_empty());
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let lines = Lines::default();
        let (_first, second) = (lines.enter("r", (1, None)), lines.enter("r", (1, Some(0))));
        second.turn(Duration::from_millis(1)).await;
        assert!(!is_next(&second));
    }

    #[test]
    fn a_place_is_taken_until_all_who_stand_there_have_left() {
        let lines = Lines::default();
        let position = (3, Some(2));
        assert!(lines.is_free("r", 4) && !lines.is_taken("r", position));
        let (one, other) = (lines.enter("r", position), lines.enter("r", position));
        drop(one);
        assert!(lines.is_taken("r", position) && !lines.is_taken("r", (3, Some(1))) && !lines.is_taken("s", position));
        assert!(lines.is_free("r", 3) && !lines.is_free("r", 4));
        drop(other);
        assert!(lines.is_free("r", 4) && !lines.is_taken("r", position));
    }
}
