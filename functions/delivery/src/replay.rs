//! Sends a window of an endpoint's past once more, page by page.

use crate::{WITHIN, Worker};
use countersign_domain::Work;
use countersign_domain::delivery::Target;
use countersign_domain::endpoint::Status;
use countersign_domain::event::KINDS;
use countersign_domain::replay::{Replay, ReplayState};
use countersign_store::{Fault, Key, Window};
use std::time::Duration;
use tokio::time::Instant;

/// How many changes are taken up at a time.
const PAGE: usize = 50;
/// For how long this goes on before word is sent to go on.
const AT_A_TIME: Duration = Duration::from_secs(8);

impl Worker {
    /// Makes the deliveries of a replay, as far as it comes; what there is to do then.
    pub(crate) async fn replay(&self, work: &Work, deadline: Instant) -> Result<Vec<Work>, Fault> {
        let key = Key::<Replay>::of(work)?;
        let Some(found) = self.app.store.load(&key, deadline).await? else { return Ok(Vec::new()) };
        let mut replay = found.record;
        let stop_at = Instant::now() + AT_A_TIME;
        while let ReplayState::Running { position, .. } = replay.state.clone() {
            if Instant::now() >= stop_at {
                return Ok(vec![work.clone()]);
            }
            let next = self.replay_page(&key, &replay, &position).await?;
            let advanced = self
                .app
                .store
                .update(&key, Instant::now() + WITHIN, |replay, now| replay.advance(&position, next.as_deref(), now));
            let Some((advanced, _)) = advanced.await? else { break };
            replay = advanced;
        }
        Ok(Vec::new())
    }

    /// Makes the deliveries of a page; where the next one starts.
    async fn replay_page(&self, key: &Key<Replay>, replay: &Replay, from: &str) -> Result<Option<String>, Fault> {
        let deadline = Instant::now() + WITHIN;
        let tenant = key.tenant()?;
        let Some(mut endpoints) = self.endpoints(&tenant, deadline).await? else { return Ok(None) };
        endpoints.endpoints.retain(|endpoint| endpoint.id == replay.endpoint && endpoint.status == Status::Enabled);
        // Deleted or disabled since it was asked for.
        if endpoints.endpoints.is_empty() {
            return Ok(None);
        }
        let window = Window { tenant: &tenant, kinds: &KINDS, since: replay.since, until: replay.until };
        let page = self.app.store.events(window, from, PAGE, deadline).await?;
        for share in self.shares(&page.changes, Some(&endpoints), None) {
            if matches!(share.target, Target::Endpoint { .. }) {
                self.make(share, None, Some(replay.id.as_str()), deadline).await?;
            }
        }
        Ok(page.next)
    }
}
