//! The endpoints of tenants as they were last read: read anew only if they were changed since.

use countersign_domain::endpoint::Endpoints;
use countersign_store::{Fault, Key, Store};
use quick_cache::sync::Cache;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::time::Instant;

/// Of how many tenants they are remembered.
const REMEMBERED: usize = 500;

/// What was read, by partition key, with how many changes it had had.
#[derive(Debug)]
pub(crate) struct Known(Cache<String, (u64, Arc<Endpoints>)>);

impl Default for Known {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

/// The endpoints of some tenants, by partition key; those that cannot be read are nobody else's fault.
pub(crate) type Found = HashMap<String, Result<Arc<Endpoints>, Fault>>;

impl Known {
    /// The endpoints at these keys as they are now, without those that do not exist.
    pub(crate) async fn read(&self, store: &Store, keys: &[Key<Endpoints>], deadline: Instant) -> Result<Found, Fault> {
        let mut found = self.unchanged(store, keys, deadline).await?;
        let others: Vec<_> = keys.iter().filter(|key| !found.contains_key(key.as_str())).cloned().collect();
        if others.is_empty() {
            return Ok(found);
        }
        for (pk, loaded) in store.load_all(&others, deadline).await? {
            let endpoints = loaded.map(|loaded| {
                let endpoints = Arc::new(loaded.record);
                self.0.insert(pk.clone(), (loaded.version, Arc::clone(&endpoints)));
                endpoints
            });
            found.insert(pk, endpoints);
        }
        Ok(found)
    }

    async fn unchanged(&self, store: &Store, keys: &[Key<Endpoints>], deadline: Instant) -> Result<Found, Fault> {
        let known: Vec<_> = keys.iter().filter_map(|key| Some((key.clone(), self.0.get(key.as_str())?))).collect();
        if known.is_empty() {
            return Ok(Found::new());
        }
        let keys: Vec<_> = known.iter().map(|(key, _)| key.clone()).collect();
        let versions = store.versions(&keys, deadline).await?;
        let unchanged = |key: &Key<Endpoints>, version| versions.get(key.as_str()) == Some(&version);
        let unchanged = known.into_iter().filter(|(key, (version, _))| unchanged(key, *version));
        Ok(unchanged.map(|(key, (_, endpoints))| (key.as_str().to_owned(), Ok(endpoints))).collect())
    }
}
