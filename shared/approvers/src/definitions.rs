//! What versions of policies say: written once for each edit, so that what was read once never changes.

use countersign_domain::workflow::policy::{Definition, Policy};
use countersign_store::{Fault, Key, Store};
use quick_cache::sync::Cache;
use std::sync::Arc;
use tokio::time::Instant;

/// How much of them is kept, in bytes as they are stored.
const KEPT: u64 = 16 * 1024 * 1024;
/// How many may be kept at most.
const PLACES: usize = 1000;

/// Where one of them is: a policy's key, and the name of an item.
type At = (String, String);
/// What one says, with its size.
type Weighed = (usize, Arc<Definition>);

/// The definitions that this process has read; cheap to clone.
#[derive(Clone, Debug)]
pub struct Definitions(Arc<Cache<At, Weighed, BySize>>);

#[derive(Clone, Debug)]
struct BySize;

impl quick_cache::Weighter<At, Weighed> for BySize {
    fn weight(&self, (key, item): &At, (size, _): &Weighed) -> u64 {
        (key.len() + item.len() + size) as u64
    }
}

impl Default for Definitions {
    fn default() -> Self {
        Self(Arc::new(Cache::with_weighter(PLACES, KEPT, BySize)))
    }
}

impl Definitions {
    /// What the item of a policy with this name says.
    ///
    /// # Errors
    /// The table does not answer, or there is no such item.
    pub async fn read(
        &self,
        store: &Store,
        policy: &Key<Policy>,
        item: &str,
        deadline: Instant,
    ) -> Result<Arc<Definition>, Fault> {
        let key = (policy.as_str().to_owned(), item.to_owned());
        if let Some((_, definition)) = self.0.get(&key) {
            return Ok(definition);
        }
        let lost = || Fault::Corrupt(format!("the version {item} of a policy cannot be read"));
        let text = store.item(policy, item, deadline).await?.ok_or_else(lost)?;
        let definition: Arc<Definition> = Arc::new(serde_json::from_str(&text).map_err(|_| lost())?);
        self.0.insert(key, (text.len(), Arc::clone(&definition)));
        Ok(definition)
    }
}
