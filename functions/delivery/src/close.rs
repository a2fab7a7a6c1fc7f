//! Cancels what waits for endpoints that were deleted or disabled.

use crate::{WITHIN, Worker};
use countersign_domain::delivery::{Cancelled, Delivery, inbox};
use countersign_domain::endpoint::{EndpointId, Endpoints, Status, Why};
use countersign_domain::{Tenant, Work};
use countersign_store::{Fault, Key};
use futures_util::future::join_all;
use tokio::time::Instant;

/// How many deliveries are cancelled at the same time.
const BATCH: usize = 25;
/// For how long this goes on before word is sent to go on.
const AT_A_TIME: std::time::Duration = std::time::Duration::from_secs(8);

impl Worker {
    /// Cancels what waits for the endpoints that are closing; what there is to do then.
    pub(crate) async fn close(&self, work: &Work, deadline: Instant) -> Result<Vec<Work>, Fault> {
        let key = Key::<Endpoints>::of(work)?;
        let tenant = key.tenant()?;
        let Some(endpoints) = self.endpoints(&tenant, deadline).await? else { return Ok(Vec::new()) };
        let stop_at = Instant::now() + AT_A_TIME;
        for closing in &endpoints.closing {
            while self.cancel_some(&tenant, &closing.endpoint).await? {
                if Instant::now() >= stop_at {
                    return Ok(vec![work.clone()]);
                }
            }
        }
        self.change(&key, |now_closing, now| now_closing.closed(&endpoints.closing, now)).await?;
        Ok(Vec::new())
    }

    /// Cancels some of what waits for an endpoint that is not to be called; whether there may be more.
    async fn cancel_some(&self, tenant: &Tenant, endpoint: &EndpointId) -> Result<bool, Fault> {
        let deadline = Instant::now() + WITHIN;
        let waiting: Vec<Key<Delivery>> = self.app.store.inbox(tenant, &inbox(endpoint), BATCH, deadline).await?;
        if waiting.is_empty() {
            return Ok(false);
        }
        let known_at = self.app.clock.now();
        // Read after what waits, and each time: what came since it was enabled again is to arrive.
        let endpoints = self.endpoints(tenant, deadline).await?;
        let why = match endpoints.as_ref().and_then(|endpoints| endpoints.get(endpoint)).map(|found| found.status) {
            Some(Status::Enabled) => return Ok(false),
            Some(Status::Disabled { why: Why::Gone, .. }) => Cancelled::Gone,
            Some(Status::Disabled { why: Why::Asked | Why::Failing, .. }) => Cancelled::EndpointDisabled,
            None => Cancelled::EndpointDeleted,
        };
        let mut all = true;
        for cancelled in join_all(waiting.iter().map(|key| self.cancel(key, why, known_at))).await {
            match cancelled {
                Ok(()) => {}
                // It blocks no other: whoever takes up what is left here finds the endpoint closed.
                Err(fault @ Fault::Corrupt(_)) => {
                    tracing::warn!(%fault, %endpoint, "not cancelled");
                    all = false;
                }
                Err(fault @ Fault::Unavailable(_)) => return Err(fault),
            }
        }
        Ok(all)
    }
}
