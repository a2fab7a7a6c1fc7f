//! How many attempts this process makes at the same time on the fast lane: a few to one target, so that one which hangs
//! leaves room for all others.

use countersign_domain::delivery::Target;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// To one target.
const PER_TARGET: usize = 8;
/// In all: each is a connection, and many systems let a process have 1,024 files.
const IN_ALL: usize = 400;

/// Counts the attempts that are being made.
#[derive(Clone, Debug)]
pub(crate) struct Gates(Arc<Mutex<HashMap<Target, usize>>>);

/// The right to attempt to reach a target; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    gates: Gates,
    target: Target,
}

impl Gates {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// Lets one more through, if there is room now.
    pub(crate) fn enter(&self, target: &Target) -> Option<Pass> {
        let mut inside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there = inside.get(target).copied().unwrap_or(0);
        if there >= PER_TARGET || inside.values().sum::<usize>() >= IN_ALL {
            return None;
        }
        inside.insert(target.clone(), there + 1);
        Some(Pass { gates: self.clone(), target: target.clone() })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inside = self.gates.0.lock().unwrap_or_else(PoisonError::into_inner);
        match inside.get_mut(&self.target) {
            Some(there) if *there > 1 => *there -= 1,
            Some(_) | None => {
                inside.remove(&self.target);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus(name: usize) -> Target {
        Target::Bus { name: name.to_string() }
    }

    #[test]
    fn one_target_takes_only_a_few_places_and_gives_them_back() {
        let gates = Gates::new();
        let mut passes: Vec<_> = (0..PER_TARGET).map(|_| gates.enter(&bus(1)).unwrap()).collect();
        assert!(gates.enter(&bus(1)).is_none());
        assert!(gates.enter(&bus(2)).is_some());
        passes.pop();
        assert!(gates.enter(&bus(1)).is_some(), "and it was dropped at once");
        passes.push(gates.enter(&bus(1)).unwrap());
        assert!(gates.enter(&bus(1)).is_none());
        drop(passes);
        assert!(gates.0.lock().unwrap().is_empty());
    }

    #[test]
    fn all_targets_together_take_no_more_than_there_is() {
        let gates = Gates::new();
        let passes: Vec<_> = (0..IN_ALL).map(|n| gates.enter(&bus(n)).unwrap()).collect();
        assert!(gates.enter(&bus(IN_ALL)).is_none());
        drop(passes);
        assert!(gates.enter(&bus(IN_ALL)).is_some());
    }
}
