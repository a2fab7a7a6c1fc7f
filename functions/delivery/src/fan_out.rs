//! Tells the targets of a record's changes: one delivery per event and target, made once however often it is asked for.

use crate::attempt::{Sequence, Step};
use crate::gates::Pass;
use crate::{Planned, WITHIN, Worker};
use countersign_domain::delivery::{Delivery, DeliveryId, First, New, State, Target};
use countersign_domain::endpoint::{Endpoint, Endpoints};
use countersign_domain::event::{Event, Source};
use countersign_domain::{Outcome, Tenant, Work};
use countersign_queue::Lane;
use countersign_store::{Call, Committed, Error, Fault, Key, Untold};
use futures_util::future::{join_all, try_join_all};
use std::collections::HashMap;
use tokio::time::Instant;

/// The events of a record's changes for one target, in order.
pub(crate) struct Share {
    pub(crate) tenant: Tenant,
    pub(crate) target: Target,
    /// The endpoint, if the target is one.
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) events: Vec<(Source, Event)>,
}

impl Worker {
    /// Tells the targets of all these changes.
    pub(crate) async fn fan_out(&self, changes: &[(usize, &Work)]) -> Planned {
        if changes.is_empty() {
            return Planned::default();
        }
        let deadline = Instant::now() + WITHIN;
        // All changes of a record together, so that its events are told in order.
        let mut records: HashMap<&str, Vec<(usize, &Work)>> = HashMap::new();
        for (place, work) in changes {
            records.entry(&work.key).or_default().push((*place, work));
        }
        let first =
            |works: &[(usize, &Work)]| works.iter().map(|(_, work)| *work).min_by_key(|work| work.change).cloned();
        let read = records.into_values().map(|works| async move {
            let untold = match first(&works) {
                Some(work) => self.app.store.untold(&work, deadline).await,
                None => Ok(Vec::new()),
            };
            (works, untold)
        });
        let read = join_all(read).await;
        // Read after the changes: whoever had subscribed before one of them is found.
        let tenants = read.iter().filter_map(|(_, untold)| Some(&untold.as_ref().ok()?.first()?.tenant));
        let endpoints = self.endpoints_of(tenants, deadline).await;
        let told = read.into_iter().map(|(works, untold)| self.tell_of(works, untold, &endpoints, deadline));
        let (mut all, mut done) = (Planned::default(), Vec::new());
        for (planned, told) in join_all(told).await {
            all.attempts.extend(planned.attempts);
            all.failed.extend(planned.failed);
            done.extend(told);
        }
        if let Err(fault) = self.app.store.told(&done, deadline).await {
            tracing::warn!(%fault, "the clock will have these changes told again, to nobody new");
        }
        all
    }

    async fn endpoints_of<'a>(
        &self,
        tenants: impl Iterator<Item = &'a Tenant>,
        deadline: Instant,
    ) -> HashMap<Tenant, Result<Option<Endpoints>, Fault>> {
        let tenants: std::collections::HashSet<Tenant> = tenants.cloned().collect();
        let read = tenants.into_iter().map(|tenant| async move {
            let endpoints = self.endpoints(&tenant, deadline).await;
            (tenant, endpoints)
        });
        join_all(read).await.into_iter().collect()
    }

    /// What is to be attempted because of a record's changes, and the changes that were told.
    async fn tell_of(
        &self,
        works: Vec<(usize, &Work)>,
        untold: Result<Vec<Untold>, Fault>,
        endpoints: &HashMap<Tenant, Result<Option<Endpoints>, Fault>>,
        deadline: Instant,
    ) -> (Planned, Vec<Untold>) {
        let attempts = async {
            let untold = untold?;
            let Some(tenant) = untold.first().map(|change| change.tenant.clone()) else {
                return Ok((Vec::new(), Vec::new()));
            };
            let endpoints = endpoints.get(&tenant).cloned().unwrap_or(Ok(None))?;
            let shares = self.shares(&untold, endpoints.as_ref());
            let sequences = try_join_all(shares.into_iter().map(|share| self.deliver(share, deadline))).await?;
            Ok((sequences.into_iter().flatten().collect(), untold))
        };
        match attempts.await {
            Ok((attempts, told)) => (Planned { attempts, failed: Vec::new() }, told),
            Err(fault) => {
                let mut all = Planned::default();
                for (place, work) in works {
                    all.failed.extend(self.put_off(place, work, &fault).await.failed);
                }
                (all, Vec::new())
            }
        }
    }

    /// Which events go to which target.
    pub(crate) fn shares(&self, changes: &[Untold], endpoints: Option<&Endpoints>) -> Vec<Share> {
        let mut shares: Vec<Share> = Vec::new();
        for change in changes {
            for (source, event) in events(change) {
                for (target, endpoint) in self.targets(endpoints, &event) {
                    let told = (source.clone(), event.clone());
                    match shares.iter_mut().find(|share| share.target == target) {
                        Some(share) => share.events.push(told),
                        None => shares.push(Share {
                            tenant: change.tenant.clone(),
                            target,
                            endpoint: endpoint.cloned(),
                            events: vec![told],
                        }),
                    }
                }
            }
        }
        shares
    }

    /// Makes the deliveries of a share: to be attempted here and now if there is room, else on the slow lane.
    pub(crate) async fn deliver(&self, share: Share, deadline: Instant) -> Result<Option<Sequence>, Fault> {
        let lane = self.lane(&share.tenant, share.endpoint.as_ref(), deadline).await;
        self.make(share, lane, None, deadline).await
    }

    /// Makes the deliveries of a share on a lane.
    pub(crate) async fn make(
        &self,
        share: Share,
        lane: Lane,
        run: Option<&str>,
        deadline: Instant,
    ) -> Result<Option<Sequence>, Fault> {
        let pass = if lane == Lane::Fast { self.gates.enter(&share.target) } else { None };
        let mut made = Vec::new();
        for (position, (source, event)) in share.events.iter().enumerate() {
            // Only the first attempt begins now; by the time of the last one a claim could be over.
            let first = if pass.is_some() && position == 0 { First::Claimed } else { First::Waiting };
            let new = New {
                tenant: share.tenant.clone(),
                event_id: event.id,
                event: event.name.clone(),
                source: source.clone(),
                target: share.target.clone(),
                url: share.endpoint.as_ref().map(|endpoint| endpoint.url.clone()),
                run: run.map(str::to_owned),
            };
            made.push(self.create(new, first, deadline));
        }
        let made = try_join_all(made).await?;
        let Some(pass) = pass else {
            // Those that were there before are known to whoever made them.
            let work: Vec<Work> = made.into_iter().filter_map(|made| made.map(|(_, work)| work)).flatten().collect();
            self.send(Lane::Slow, &work).await;
            return Ok(None);
        };
        let steps = made.into_iter().zip(share.events).filter_map(|(made, (_, event))| {
            let (delivery, _) = made?;
            Some(Step { delivery, event })
        });
        let steps: Vec<Step> = steps.collect();
        Ok(sequence(share.tenant, share.endpoint, steps, pass))
    }

    /// Makes a delivery, unless it is there: then somebody else sees to it.
    async fn create(&self, new: New, first: First, deadline: Instant) -> Result<Option<(Delivery, Vec<Work>)>, Fault> {
        let id = DeliveryId::of(&new.tenant, new.event_id, &new.target, new.run.as_deref());
        let key: Key<Delivery> = Key::new(&new.tenant, id.as_str());
        let mut is_new = false;
        let rule = |found: Option<&Delivery>, now| {
            is_new = found.is_none();
            match found {
                None => Ok(Outcome::Change(Delivery::create(new.clone(), first, &self.schedule, now))),
                Some(_) => Ok(Outcome::Keep),
            }
        };
        let call = Call { deadline, once: None };
        let changed = self.app.store.change(&key, call, rule, |made| Ok(made.clone()), |_| Ok(String::new())).await;
        match changed {
            Ok(changed) => match changed.committed {
                Committed::Now(delivery) if is_new => Ok(Some((delivery, changed.work))),
                Committed::Now(_) | Committed::Before(_) => Ok(None),
            },
            Err(Error::Fault(fault)) => Err(fault),
            Err(Error::Refused(_) | Error::KeyReused) => unreachable!("the rule refuses nothing"),
        }
    }

    /// Tells a worker; that it is not told is no error: the clock will find it.
    pub(crate) async fn send(&self, lane: Lane, work: &[Work]) {
        if let Err(error) = self.app.queue.send(lane, work, self.app.clock.now()).await {
            tracing::debug!(%error, "left to the clock");
        }
    }
}

/// The events in a change, in order, with where each comes from.
fn events(change: &Untold) -> impl Iterator<Item = (Source, Event)> {
    change.change.entries.iter().zip(0..).filter_map(|(entry, place)| {
        let (kind, id) = (change.kind().to_owned(), change.id().to_owned());
        let source = Source { kind, id, version: change.change.version, entry: place };
        let event = Event::of(&change.tenant, &source, entry)?;
        Some((source, event))
    })
}

fn sequence(tenant: Tenant, endpoint: Option<Endpoint>, steps: Vec<Step>, pass: Pass) -> Option<Sequence> {
    let claimed = |step: &Step| matches!(step.delivery.state, State::Claimed { .. } | State::Waiting { .. });
    steps.iter().any(claimed).then_some(Sequence { tenant, endpoint, steps, pass: Some(pass) })
}
