//! Organizations' settings for their agents' actions, read for every submission and changed seldom.

use crate::cache::Aging;
use countersign_domain::Tenant;
use countersign_domain::actions_policy::{ActionsPolicy, KeptPolicy};
use countersign_store::{Clock, Fault, Key, Store};
use std::sync::Arc;
use tokio::time::Instant;

/// How long another process may go by settings that were changed, in seconds.
const USABLE_SECONDS: i64 = 30;

/// The settings that this process has seen.
#[derive(Debug)]
pub struct Policies(Aging<Tenant, Arc<ActionsPolicy>>);

impl Policies {
    pub(crate) fn new(clock: Clock) -> Self {
        Self(Aging::new(USABLE_SECONDS, clock))
    }

    /// Where the settings of an organization are.
    #[must_use]
    pub fn key(organization: &Tenant) -> Key<KeptPolicy> {
        Key::new(organization, "actions")
    }

    /// The settings of an organization; the defaults if it has none of its own.
    ///
    /// # Errors
    /// The table does not answer, or what is stored cannot be read.
    pub async fn of(
        &self,
        store: &Store,
        organization: &Tenant,
        deadline: Instant,
    ) -> Result<Arc<ActionsPolicy>, Fault> {
        let read = async {
            let kept = store.load(&Self::key(organization), deadline).await?;
            Ok(Some(Arc::new(kept.map_or_else(ActionsPolicy::default, |kept| kept.record.policy))))
        };
        Ok(self.0.get(organization, read).await?.unwrap_or_default())
    }

    /// The settings were changed: this process reads them anew.
    pub fn forget(&self, organization: &Tenant) {
        self.0.forget(organization);
    }
}
