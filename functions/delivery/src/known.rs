//! What was read before: the endpoints of tenants, read anew only if they were changed since, and the callbacks of
//! requests, which never change.

use countersign_domain::endpoint::Endpoints;
use countersign_domain::workflow::request::{Callback, Request};
use countersign_store::{Fault, Key, Store};
use quick_cache::sync::Cache;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::time::Instant;

/// Of how many tenants they are remembered.
const REMEMBERED: usize = 500;
/// Of how many requests it is remembered whether they have a callback.
const REQUESTS: usize = 2_000;

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

/// The callbacks of requests, by partition key; `None` of one that has none.
#[derive(Debug)]
pub(crate) struct Callbacks(Cache<String, Option<Arc<Callback>>>);

impl Default for Callbacks {
    fn default() -> Self {
        Self(Cache::new(REQUESTS))
    }
}

/// The callbacks of some requests, by partition key; those that cannot be read are nobody else's fault.
pub(crate) type FoundCallbacks = HashMap<String, Result<Option<Arc<Callback>>, Fault>>;

impl Callbacks {
    /// The callbacks of the requests at these keys, without requests that do not exist.
    pub(crate) async fn read(
        &self,
        store: &Store,
        keys: Vec<Key<Request>>,
        deadline: Instant,
    ) -> Result<FoundCallbacks, Fault> {
        let (mut found, mut others) = (HashMap::new(), Vec::new());
        for key in keys {
            match self.0.get(key.as_str()) {
                Some(callback) => drop(found.insert(key.as_str().to_owned(), Ok(callback))),
                None => others.push(key),
            }
        }
        if others.is_empty() {
            return Ok(found);
        }
        for (pk, loaded) in store.load_all(&others, deadline).await? {
            let callback = loaded.map(|loaded| {
                let callback = loaded.record.callback.map(Arc::new);
                self.0.insert(pk.clone(), callback.clone());
                callback
            });
            found.insert(pk, callback);
        }
        Ok(found)
    }
}
