//! Cancels what waits for endpoints that were deleted or disabled.

use crate::{WITHIN, Worker};
use countersign_api::endpoints_key;
use countersign_domain::Work;
use countersign_domain::delivery::{Cancelled, Delivery, inbox};
use countersign_domain::endpoint::{Closing, Endpoints, Status, Why};
use countersign_store::{Fault, Key};
use futures_util::future::try_join_all;
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
        let mut done: Vec<Closing> = Vec::new();
        for closing in &endpoints.closing {
            let why = match endpoints.get(&closing.endpoint).map(|endpoint| endpoint.status) {
                // Enabled again before this came: what waited may go on.
                Some(Status::Enabled) => None,
                Some(Status::Disabled { why: Why::Gone, .. }) => Some(Cancelled::Gone),
                Some(Status::Disabled { why: Why::Asked | Why::Failing, .. }) => Some(Cancelled::EndpointDisabled),
                None => Some(Cancelled::EndpointDeleted),
            };
            if let Some(why) = why {
                loop {
                    if Instant::now() >= stop_at {
                        return Ok(vec![work.clone()]);
                    }
                    let waiting: Vec<Key<Delivery>> = self
                        .app
                        .store
                        .inbox(&tenant, &inbox(&closing.endpoint), BATCH, Instant::now() + WITHIN)
                        .await?;
                    if waiting.is_empty() {
                        break;
                    }
                    try_join_all(waiting.iter().map(|key| self.cancel(key, why))).await?;
                }
            }
            done.push(closing.clone());
        }
        self.change(&endpoints_key(&tenant), |endpoints, now| endpoints.closed(&done, now)).await?;
        Ok(Vec::new())
    }
}
