//! What is read often and changed seldom, kept for a bounded time; what this process changes itself is seen at once.

use countersign_domain::{Timestamp, seconds};
use countersign_store::{Clock, Fault};
use quick_cache::sync::Cache;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many values are kept at most.
const CAPACITY: usize = 10_000;

/// A bounded cache of values with a bounded age.
#[derive(Debug)]
pub(crate) struct Aging<K: Eq + Hash, V> {
    values: Cache<K, (Timestamp, V)>,
    clock: Clock,
    usable_seconds: i64,
    /// How often something was forgotten: what was read before that must not be kept afterwards.
    forgotten: AtomicU64,
}

impl<K: Eq + Hash + Clone, V: Clone> Aging<K, V> {
    pub(crate) fn new(usable_seconds: i64, clock: Clock) -> Self {
        Self { values: Cache::new(CAPACITY), clock, usable_seconds, forgotten: AtomicU64::new(0) }
    }

    /// The value, read with `read` unless a young one is at hand. That there is none is never kept.
    pub(crate) async fn get(
        &self,
        key: &K,
        read: impl Future<Output = Result<Option<V>, Fault>>,
    ) -> Result<Option<V>, Fault> {
        let read_at = self.clock.now();
        if let Some((kept_at, value)) = self.values.get(key)
            && read_at.duration_since(kept_at) < seconds(self.usable_seconds)
        {
            return Ok(Some(value));
        }
        let forgotten = self.forgotten.load(Ordering::SeqCst);
        let value = read.await?;
        match &value {
            Some(value) if self.forgotten.load(Ordering::SeqCst) == forgotten => {
                self.values.insert(key.clone(), (read_at, value.clone()));
                // Forgotten between the look and the insertion.
                if self.forgotten.load(Ordering::SeqCst) != forgotten {
                    self.values.remove(key);
                }
            }
            Some(_) => {}
            None => {
                self.values.remove(key);
            }
        }
        Ok(value)
    }

    /// The value was changed: whoever asks from now on reads it anew.
    pub(crate) fn forget(&self, key: &K) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.values.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn cache() -> (Aging<u8, u8>, Clock) {
        let clock = Clock::manual("2026-11-21T12:00:00Z".parse().unwrap());
        (Aging::new(5, clock.clone()), clock)
    }

    async fn get(cache: &Aging<u8, u8>, stored: Option<u8>) -> Option<u8> {
        cache.get(&1, async { Ok(stored) }).await.unwrap()
    }

    #[tokio::test]
    async fn a_value_is_used_until_it_is_too_old() {
        let (cache, clock) = cache();
        assert_eq!(get(&cache, Some(1)).await, Some(1));
        clock.advance(Duration::from_millis(4999));
        assert_eq!(get(&cache, Some(2)).await, Some(1));
        clock.advance(Duration::from_millis(1));
        assert_eq!(get(&cache, Some(2)).await, Some(2));
    }

    #[tokio::test]
    async fn absence_is_never_kept() {
        let (cache, _) = cache();
        assert_eq!(get(&cache, None).await, None);
        assert_eq!(get(&cache, Some(1)).await, Some(1));
    }

    #[tokio::test]
    async fn what_was_read_before_a_change_is_not_kept_after_it() {
        let (cache, _) = cache();
        let overtaken = cache.get(&1, async {
            cache.forget(&1);
            Ok(Some(1))
        });
        assert_eq!(overtaken.await.unwrap(), Some(1));
        assert_eq!(get(&cache, Some(2)).await, Some(2));
    }
}
