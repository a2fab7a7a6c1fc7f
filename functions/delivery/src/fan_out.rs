//! Tells the targets of a record's changes: one delivery per event and target, made once however often it is asked for.

use crate::attempt::{Sequence, Step};
use crate::gates::Pass;
use crate::known::{Found, FoundCallbacks};
use crate::lines::{Place, line_of};
use crate::targets::Recipient;
use crate::{Attempts, Planned, Rest, WITHIN, Worker};
use countersign_api::endpoints_key;
use countersign_domain::delivery::{Delivery, DeliveryId, First, New, State, Target};
use countersign_domain::endpoint::{Endpoint, Endpoints};
use countersign_domain::event::{Event, Source};
use countersign_domain::workflow::request::{Callback, Request};
use countersign_domain::{Outcome, Record, Tenant, Work};
use countersign_queue::Lane;
use countersign_store::{Call, Committed, Error, Fault, Key, Untold};
use futures_util::future::{join_all, try_join_all};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::time::Instant;

/// To how many targets' deliveries are made at the same time that nobody waits for: a tenant may have many slow
/// endpoints, and the table is there for others, too.
const AT_ONCE: usize = 8;
/// To how many targets' deliveries are made at once although nobody knows how quickly they answer.
const FEW: usize = 4;

/// The events of a record's changes for one target, in order.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) tenant: Tenant,
    pub(crate) target: Target,
    /// The endpoint, if the target is one.
    pub(crate) endpoint: Option<Endpoint>,
    /// What is called, where something is.
    pub(crate) url: Option<String>,
    pub(crate) events: Vec<(Source, Arc<Event>)>,
}

/// A record's changes that are told once deliveries are made for the targets that can wait.
#[derive(Debug)]
pub(crate) struct Telling {
    works: Vec<(usize, Work)>,
    changes: Vec<Untold>,
    left: Vec<Share>,
}

/// Where the events of some records go.
struct Destinations {
    /// The endpoints of their tenants.
    endpoints: Result<Found, Fault>,
    /// The callbacks of those of the records that are requests.
    callbacks: Result<FoundCallbacks, Fault>,
}

impl Destinations {
    fn endpoints(&self, tenant: &Tenant) -> Result<Option<&Endpoints>, Fault> {
        let endpoints = self.endpoints.as_ref().map_err(Fault::clone)?.get(endpoints_key(tenant).as_str());
        Ok(endpoints.map(Result::as_ref).transpose().map_err(Fault::clone)?.map(Arc::as_ref))
    }

    /// The callback of the record with this key.
    fn callback(&self, kind: &str, key: &str) -> Result<Option<&Callback>, Fault> {
        if kind != Request::KIND {
            return Ok(None);
        }
        let callback = self.callbacks.as_ref().map_err(Fault::clone)?.get(key);
        let gone = || Fault::Corrupt(format!("{key} has changes and is not there"));
        Ok(callback.ok_or_else(gone)?.as_ref().map_err(Fault::clone)?.as_deref())
    }
}

impl Worker {
    /// Tells the targets of all these changes, the slow ones not yet.
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
        // Taken before anything is read: whoever tells of a later change of the same request waits for this.
        let mut places = self.places(&records);
        let works: Vec<&Work> = changes.iter().map(|(_, work)| *work).collect();
        let mut untold = self.app.store.untold(&works, |key| self.told.get(key), deadline).await;
        let read: Vec<_> = records
            .into_iter()
            .map(|(key, works)| {
                let untold = match &mut untold {
                    Ok(untold) => untold.remove(key).unwrap_or_else(|| Ok(Vec::new())),
                    Err(fault) => Err(fault.clone()),
                };
                (works, untold)
            })
            .collect();
        // Read after the changes: whoever had subscribed before one of them is found.
        let with_changes = read.iter().filter_map(|(works, untold)| Some((works, untold.as_ref().ok()?.first()?)));
        let tenants = with_changes.clone().map(|(_, change)| &change.tenant);
        let works = with_changes.filter_map(|(works, _)| works.first().map(|(_, work)| *work));
        let (endpoints, callbacks) =
            futures_util::join!(self.endpoints_of(tenants, deadline), self.callbacks_of(works, deadline));
        let known = Destinations { endpoints, callbacks };
        let told = read.into_iter().map(|(works, untold)| {
            let place = works.first().and_then(|(_, work)| places.remove(work.key.as_str()));
            self.tell_of(works, untold, place, &known, deadline)
        });
        let mut all = Planned::default();
        for planned in join_all(told).await {
            all.extend(planned);
        }
        all
    }

    /// Takes a place in the line of each of these records that is a request, as far forward as is known.
    fn places<'a>(&self, records: &HashMap<&'a str, Vec<(usize, &Work)>>) -> HashMap<&'a str, Place> {
        let requests = records.iter().filter(|(_, works)| works.iter().any(|(_, work)| work.kind() == Request::KIND));
        let place = |(key, works): (&&'a str, &Vec<(usize, &Work)>)| {
            let first = works.iter().filter_map(|(_, work)| work.change).min();
            (*key, self.lines.enter(key, (first.unwrap_or(0), None)))
        };
        requests.map(place).collect()
    }

    /// Tells the targets that can wait, and notes what was told; what is to be attempted because of it, and the places
    /// of what should be sent again by the queue.
    pub(crate) async fn finish(&self, rest: Rest) -> (Attempts, Vec<usize>) {
        let Rest { tellings, mut failed, unfinished: _unfinished } = rest;
        if tellings.is_empty() {
            return (Attempts::default(), failed);
        }
        let _turn = self.finishing.acquire().await;
        let (mut attempts, mut told) = (Vec::new(), Vec::new());
        for Telling { works, changes, left } in tellings {
            let made = match self.make_for_later(left, &mut attempts).await {
                Ok(()) => self.tidy_after(&works, &changes).await,
                Err(fault) => Err(fault),
            };
            match made {
                Ok(()) => told.extend(changes),
                Err(fault) => failed.extend(self.put_all_off(&works, &fault).await),
            }
        }
        match self.app.store.told(&told, Instant::now() + WITHIN).await {
            Ok(()) => {
                told.into_iter().for_each(|change| self.told.insert(change.key().to_owned(), change.change.version))
            }
            Err(fault) => tracing::warn!(%fault, "the clock will have these changes told again, to nobody new"),
        }
        (Attempts(attempts), failed)
    }

    async fn tidy_after(&self, works: &[(usize, Work)], changes: &[Untold]) -> Result<(), Fault> {
        match works.first() {
            Some((_, work)) => self.tidy(work, changes, Instant::now() + WITHIN).await,
            None => Ok(()),
        }
    }

    /// Makes the deliveries of these shares, and what is to be attempted because of them, also if not all are made.
    async fn make_for_later(&self, left: Vec<Share>, attempts: &mut Vec<Sequence>) -> Result<(), Fault> {
        let mut shares = left.into_iter();
        loop {
            let some: Vec<_> = shares.by_ref().take(AT_ONCE).collect();
            if some.is_empty() {
                return Ok(());
            }
            let deadline = Instant::now() + WITHIN;
            let made = some.into_iter().map(|share| async move {
                let pass = self.pass_for(&share, deadline).await;
                self.make(share, pass, None, deadline).await
            });
            for made in join_all(made).await {
                attempts.extend(made?);
            }
        }
    }

    /// The right to call a share's target on the fast lane, if it is to be called there now.
    async fn pass_for(&self, share: &Share, deadline: Instant) -> Option<Pass> {
        self.pass(&share.tenant, &share.target, share.endpoint.as_ref(), deadline).await
    }

    async fn put_all_off(&self, works: &[(usize, Work)], fault: &Fault) -> Vec<usize> {
        join_all(works.iter().map(|(place, work)| self.put_off(*place, work, fault)))
            .await
            .into_iter()
            .flatten()
            .collect()
    }

    /// The endpoints of all these tenants, in one read.
    async fn endpoints_of<'a>(
        &self,
        tenants: impl Iterator<Item = &'a Tenant>,
        deadline: Instant,
    ) -> Result<Found, Fault> {
        let tenants: HashSet<&Tenant> = tenants.collect();
        let keys: Vec<Key<Endpoints>> = tenants.into_iter().map(endpoints_key).collect();
        self.known.read(&self.app.store, &keys, deadline).await
    }

    async fn callbacks_of<'a>(
        &self,
        works: impl Iterator<Item = &'a Work>,
        deadline: Instant,
    ) -> Result<FoundCallbacks, Fault> {
        let requests = works.filter(|work| work.kind() == Request::KIND);
        let keys: Vec<Key<Request>> = requests.map(Key::of).collect::<Result<_, _>>()?;
        self.callbacks.read(&self.app.store, keys, deadline).await
    }

    /// What is to be attempted because of a record's changes, and what is left to tell.
    async fn tell_of(
        &self,
        works: Vec<(usize, &Work)>,
        untold: Result<Vec<Untold>, Fault>,
        place: Option<Place>,
        known: &Destinations,
        deadline: Instant,
    ) -> Planned {
        let works: Vec<_> = works.into_iter().map(|(place, work)| (place, work.clone())).collect();
        let key = works.first().map_or("", |(_, work)| work.key.as_str());
        match self.tell_now(key, untold, place, known, deadline).await {
            Ok((attempts, changes, left)) => {
                let tellings = vec![Telling { works, changes, left }];
                Planned { attempts: Attempts(attempts), rest: Rest { tellings, ..Rest::default() } }
            }
            Err(fault) => Planned::failed(self.put_all_off(&works, &fault).await),
        }
    }

    /// Makes the deliveries that can be attempted here and now; also the changes, and the shares that are left.
    async fn tell_now(
        &self,
        key: &str,
        untold: Result<Vec<Untold>, Fault>,
        place: Option<Place>,
        known: &Destinations,
        deadline: Instant,
    ) -> Result<(Vec<Sequence>, Vec<Untold>, Vec<Share>), Fault> {
        let changes = untold?;
        let Some(first) = changes.first() else { return Ok(Default::default()) };
        // Those before the one that word was sent of may wait, too. The places are left when all attempts have their own.
        let _places = (self.lines_up(key, first, place.as_ref()), place);
        let endpoints = known.endpoints(&first.tenant)?;
        let callback = known.callback(first.kind(), key)?;
        let shares = self.shares(&changes, endpoints, callback).into_iter();
        // Whoever answers quickly does not wait until deliveries are made for all others.
        let (mut first, mut left): (Vec<_>, Vec<_>) = shares.partition(|share| self.gates.is_quick(&share.target));
        let few = left.len().min(FEW.saturating_sub(first.len()));
        first.extend(left.drain(..few));
        // What stands in a line is not put off beyond what comes later.
        first.extend(left.extract_if(.., |share| share.target.is_callback()));
        let mut made = Vec::new();
        for share in first {
            match self.pass_for(&share, deadline).await {
                None if !share.target.is_callback() => left.push(share),
                pass => made.push(self.make(share, pass, None, deadline)),
            }
        }
        let made = try_join_all(made).await?;
        Ok((made.into_iter().flatten().collect(), changes, left))
    }

    /// A place before that of the change that word was sent of, if there is one to tell of.
    fn lines_up(&self, key: &str, first: &Untold, place: Option<&Place>) -> Option<Place> {
        let position = (first.change.version, None);
        place.filter(|place| position < place.position()).map(|_| self.lines.enter(key, position))
    }

    /// Which events go to which target.
    pub(crate) fn shares(
        &self,
        changes: &[Untold],
        endpoints: Option<&Endpoints>,
        callback: Option<&Callback>,
    ) -> Vec<Share> {
        let mut shares: Vec<Share> = Vec::new();
        for change in changes {
            for (source, event) in events(change) {
                let event = Arc::new(event);
                for Recipient { target, endpoint, url } in self.targets(endpoints, callback, &event) {
                    let told = (source.clone(), Arc::clone(&event));
                    match shares.iter_mut().find(|share| share.target == target) {
                        Some(share) => share.events.push(told),
                        None => shares.push(Share {
                            tenant: change.tenant.clone(),
                            target,
                            endpoint: endpoint.cloned(),
                            url: url.map(str::to_owned),
                            events: vec![told],
                        }),
                    }
                }
            }
        }
        shares
    }

    /// Makes the deliveries of a share: to be attempted here and now by whoever has a pass, else on the slow lane.
    pub(crate) async fn make(
        &self,
        share: Share,
        pass: Option<Pass>,
        run: Option<&str>,
        deadline: Instant,
    ) -> Result<Option<Sequence>, Fault> {
        let mut made = Vec::new();
        for (position, (source, event)) in share.events.iter().enumerate() {
            let line = line_of(&share.tenant, &share.target, source);
            // Only the first attempt begins now; by the time of the last one a claim could be over.
            let begins = position == 0 && line.is_none_or(|(line, at)| self.lines.is_free(&line, at.0));
            let first = if pass.is_some() && begins { First::Claimed } else { First::Waiting };
            let new = New {
                tenant: share.tenant.clone(),
                event_id: event.id,
                event: event.name.clone(),
                source: source.clone(),
                target: share.target.clone(),
                url: share.url.clone(),
                run: run.map(str::to_owned),
            };
            made.push(self.create(new, first, deadline));
        }
        let made = try_join_all(made).await?;
        // Those that were there before are known to whoever made them.
        let made = made.into_iter().zip(share.events).filter_map(|(made, told)| Some((made?, told)));
        let is_new = made.map(|((delivery, work), (_, event))| {
            let line = line_of(&share.tenant, &delivery.target, &delivery.source);
            let place = line.map(|(line, position)| self.lines.enter(&line, position));
            (Step { delivery, event, place }, work)
        });
        let (steps, work): (Vec<_>, Vec<_>) = is_new.unzip();
        match pass {
            Some(pass) => Ok(sequence(share.tenant, share.endpoint, steps, pass)),
            None if share.target.is_callback() => {
                self.hand_over(&share.tenant, steps).await;
                Ok(None)
            }
            None => {
                self.send(Lane::Slow, &work.concat()).await;
                Ok(None)
            }
        }
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
