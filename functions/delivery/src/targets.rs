//! Who is to hear of an event, and on which lane.

use crate::Worker;
use crate::gates::Pass;
use countersign_api::endpoints_key;
use countersign_domain::Tenant;
use countersign_domain::delivery::{Target, inbox};
use countersign_domain::endpoint::{Endpoint, EndpointId, Endpoints};
use countersign_domain::event::Event;
use countersign_domain::workflow::request::Callback;
use countersign_queue::Lane;
use countersign_store::Fault;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// With more than so many deliveries waiting, an endpoint goes to the slow lane.
const WAITING: usize = 20;
/// How long it is not counted again.
const COUNTED_FOR: Duration = Duration::from_secs(1);
/// Of how many endpoints a count is remembered.
const REMEMBERED: usize = 10_000;

/// How the event bus hears of it: what its name begins with.
const OF_THE_BUS: &str = "remediation.";

/// A target of an event, with its URL if it has one.
pub(crate) struct Recipient<'a> {
    pub(crate) target: Target,
    /// The endpoint, if it is one.
    pub(crate) endpoint: Option<&'a Endpoint>,
    pub(crate) url: Option<&'a str>,
}

/// Which endpoints had much waiting when they were last counted.
#[derive(Debug, Default)]
pub(crate) struct Crowded(Mutex<HashMap<EndpointId, (Instant, bool)>>);

impl Worker {
    /// Where a tenant's events go, as it is now.
    pub(crate) async fn endpoints(&self, tenant: &Tenant, deadline: Instant) -> Result<Option<Endpoints>, Fault> {
        let found = self.app.store.load(&endpoints_key(tenant), deadline).await?;
        Ok(found.map(|found| found.record))
    }

    /// The targets of an event of a record that has this callback, if it has one.
    pub(crate) fn targets<'a>(
        &self,
        endpoints: Option<&'a Endpoints>,
        callback: Option<&'a Callback>,
        event: &Event,
    ) -> Vec<Recipient<'a>> {
        let of = |endpoint: &'a Endpoint| Recipient {
            target: Target::Endpoint { id: endpoint.id.clone() },
            endpoint: Some(endpoint),
            url: Some(&endpoint.url),
        };
        let endpoints = endpoints.into_iter().flat_map(|endpoints| endpoints.targets(event)).map(of);
        let bus = self.bus.as_ref().filter(|_| event.name.starts_with(OF_THE_BUS));
        let bus = bus.map(|bus| Target::Bus { name: bus.name().to_owned() });
        let bus = bus.map(|target| Recipient { target, endpoint: None, url: None });
        let callback = callback.map(|callback| Recipient {
            target: Target::callback(&event.tenant, callback),
            endpoint: None,
            url: Some(&callback.url),
        });
        endpoints.chain(bus).chain(callback).collect()
    }

    /// The right to call a target on the fast lane, if it is to be called there now.
    pub(crate) async fn pass(
        &self,
        tenant: &Tenant,
        target: &Target,
        endpoint: Option<&Endpoint>,
        deadline: Instant,
    ) -> Option<Pass> {
        match self.lane(tenant, target, endpoint, deadline).await {
            Lane::Fast => self.gates.enter(target),
            Lane::Slow => None,
        }
    }

    /// On which lane a target is called.
    async fn lane(&self, tenant: &Tenant, target: &Target, endpoint: Option<&Endpoint>, deadline: Instant) -> Lane {
        let Some(endpoint) = endpoint else {
            let is_slow = target.is_callback() && self.gates.is_slow(target);
            return if is_slow { Lane::Slow } else { Lane::Fast };
        };
        if endpoint.slow_since.is_some() {
            return Lane::Slow;
        }
        if self.gates.is_quick(target) || !self.is_crowded(tenant, &endpoint.id, deadline).await {
            Lane::Fast
        } else {
            Lane::Slow
        }
    }

    async fn is_crowded(&self, tenant: &Tenant, endpoint: &EndpointId, deadline: Instant) -> bool {
        let counted = self.crowded.0.lock().unwrap_or_else(PoisonError::into_inner).get(endpoint).copied();
        if let Some((at, crowded)) = counted
            && at.elapsed() < COUNTED_FOR
        {
            return crowded;
        }
        let counted_at = Instant::now();
        let waiting = self.app.store.waiting(tenant, &inbox(endpoint), WAITING + 1, deadline).await;
        // Which lane is a matter of courtesy: a count that fails stops nothing.
        let crowded = waiting.is_ok_and(|waiting| waiting > WAITING);
        let mut counts = self.crowded.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= REMEMBERED {
            counts.clear();
        }
        counts.insert(endpoint.clone(), (counted_at, crowded));
        crowded
    }
}
