//! One attempt: claimed, so that nobody else makes it; made; and its result recorded.

use crate::gates::Pass;
use crate::lines::{Place, line_of};
use crate::{WITHIN, Worker};
use countersign_api::{Signers, Unsent, endpoints_key, metrics};
use countersign_domain::delivery::{Cancelled, Delivery, Report, State, Target};
use countersign_domain::endpoint::{Endpoint, Endpoints, Seen, Status};
use countersign_domain::event::Event;
use countersign_domain::{Outcome, Record, Tenant, Timestamp, Work};
use countersign_outbound::Attempted;
use countersign_queue::{Lane, Queue};
use countersign_store::{Fault, Key};
use jiff::SignedDuration;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// An endpoint that answers faster than this keeps nobody waiting.
const QUICKLY: Duration = Duration::from_secs(2);
/// The status of an endpoint that wants no more.
const GONE: u16 = 410;

/// Attempts to one target that are made one after the other.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) tenant: Tenant,
    /// The endpoint, if the target is one.
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) steps: Vec<Step>,
    /// The right to make them; the slow lane counts its own.
    pub(crate) pass: Option<Pass>,
}

/// A delivery of which the next attempt is to be made.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) delivery: Delivery,
    pub(crate) event: Arc<Event>,
    /// Its place in a line, until the attempt was made.
    pub(crate) place: Option<Place>,
}

/// A claimed attempt.
struct Claim<'a> {
    delivery: &'a Delivery,
    attempt: u32,
    at: Timestamp,
    /// When the attempt was due.
    due: Timestamp,
}

impl Worker {
    /// Takes up a delivery that is due: its attempt is to be made here, or elsewhere, or never.
    pub(crate) async fn pick_up(&self, lane: Lane, work: &Work, deadline: Instant) -> Result<Vec<Sequence>, Fault> {
        let key = Key::<Delivery>::of(work)?;
        let handed_over = self.handed_over.take(&work.key);
        if !handed_over.is_empty() {
            return Ok(self.go_on(lane, key.tenant()?, handed_over, deadline).await);
        }
        let Some(found) = self.app.store.load(&key, deadline).await? else { return Ok(Vec::new()) };
        let delivery = found.record;
        // Word from before: somebody has made this attempt.
        let known_at = self.app.clock.now();
        if !delivery.is_ready(known_at) {
            return Ok(Vec::new());
        }
        let source = &delivery.source;
        let tenant = key.tenant()?;
        let line = line_of(&tenant, &delivery.target, source).filter(|_| delivery.is_at_first_attempt());
        let place = match line {
            // Somebody here is about to make this attempt when its turn comes.
            Some((line, position)) if self.lines.is_taken(&line, position) => return Ok(Vec::new()),
            Some((line, position)) => Some(self.lines.enter(&line, position)),
            None => None,
        };
        let endpoint = match &delivery.target {
            Target::Bus { .. } | Target::Callback { .. } => None,
            Target::Endpoint { id } => {
                let endpoints = self.endpoints(&tenant, deadline).await?;
                let endpoint = endpoints.as_ref().and_then(|endpoints| endpoints.get(id));
                match endpoint.map(|endpoint| endpoint.status) {
                    Some(Status::Enabled) => endpoint.cloned(),
                    Some(Status::Disabled { .. }) => {
                        return self.cancel(&key, Cancelled::EndpointDisabled, known_at).await.map(|()| Vec::new());
                    }
                    None => return self.cancel(&key, Cancelled::EndpointDeleted, known_at).await.map(|()| Vec::new()),
                }
            }
        };
        let pass = match lane {
            Lane::Slow => None,
            Lane::Fast => {
                // Nothing is remembered of a callback beyond this process, but what the delivery knows.
                let timed_out = delivery.last.as_ref().is_some_and(|last| last.timed_out);
                let pass = match timed_out {
                    true => None,
                    false => self.pass(&tenant, &delivery.target, endpoint.as_ref(), deadline).await,
                };
                if pass.is_none() {
                    self.send(Lane::Slow, std::slice::from_ref(work)).await;
                    return Ok(Vec::new());
                }
                pass
            }
        };
        let change = self.app.store.change_of(&tenant, (&source.kind, &source.id), source.version, deadline).await?;
        let entry = change.as_ref().and_then(|change| change.change.entries.get(usize::try_from(source.entry).ok()?));
        let event = entry.and_then(|entry| Event::of(&tenant, source, entry));
        let event = event
            .map(Arc::new)
            .ok_or_else(|| Fault::Corrupt(format!("{} delivers an event that is not there", delivery.id)))?;
        Ok(vec![Sequence { tenant, endpoint, steps: vec![Step { delivery, event, place }], pass }])
    }

    /// Goes on with attempts that were handed over.
    async fn go_on(&self, lane: Lane, tenant: Tenant, steps: Vec<Step>, deadline: Instant) -> Vec<Sequence> {
        let Some(target) = steps.first().map(|step| &step.delivery.target) else { return Vec::new() };
        let pass = match lane {
            Lane::Slow => None,
            Lane::Fast => {
                let pass = self.pass(&tenant, target, None, deadline).await;
                if pass.is_none() {
                    self.hand_over(&tenant, steps).await;
                    return Vec::new();
                }
                pass
            }
        };
        vec![Sequence { tenant, endpoint: None, steps, pass }]
    }

    /// Hands attempts over to the slow lane: with their places, if that is in this process. Then whoever hears of the
    /// first goes on with all of them, so that those of a request take up one place there.
    pub(crate) async fn hand_over(&self, tenant: &Tenant, steps: Vec<Step>) {
        let now = self.app.clock.now();
        let word = |step: &Step| work_of(tenant, &step.delivery, now);
        let (first, all) = (steps.first().map(word), steps.len());
        let others = match self.app.queue {
            Queue::Local(_) => self.handed_over.keep(steps.into_iter().map(|step| (word(&step).key, step)).collect()),
            Queue::Sqs(_) => steps,
        };
        let kept = first.filter(|_| others.len() < all);
        let work: Vec<Work> = kept.into_iter().chain(others.iter().map(word)).collect();
        self.send(Lane::Slow, &work).await;
    }

    /// Makes attempts one after the other; once the target has let one time out, the others take the slow lane.
    pub(crate) async fn attempt_in_order(&self, sequence: Sequence) {
        let Sequence { tenant, endpoint, steps, pass } = sequence;
        // First in line: whoever waits there has no use for a connection.
        self.turn(steps.first()).await;
        let turn = match &pass {
            Some(pass) => pass.turn().await,
            None => None,
        };
        let mut steps = steps.into_iter();
        let mut left = Vec::new();
        for step in steps.by_ref() {
            self.turn(Some(&step)).await;
            if pass.is_some() && self.has_become_slow(&step.delivery) {
                left.push(step);
                break;
            }
            match self.attempt_one(&tenant, endpoint.as_ref(), &step).await {
                Ok(Some(attempted)) => {
                    let quickly = attempted.succeeded() && attempted.took < QUICKLY;
                    self.gates.answered(&step.delivery.target, quickly, attempted.timed_out);
                    if attempted.timed_out {
                        break;
                    }
                }
                Ok(None) => {}
                // The claim will be over, and the attempt is made again.
                Err(fault) => tracing::warn!(%fault, delivery = %step.delivery.id, "attempt not made or not recorded"),
            }
        }
        drop((turn, pass));
        left.extend(steps);
        self.hand_over(&tenant, left).await;
    }

    /// Waits for the turn of an attempt that stands in a line, for as long as a claim lasts.
    async fn turn(&self, step: Option<&Step>) {
        if let Some(place) = step.and_then(|step| step.place.as_ref()) {
            place.turn(self.timeout() * 2).await;
        }
    }

    /// Whether a callback let an attempt time out while this one stood in line.
    fn has_become_slow(&self, delivery: &Delivery) -> bool {
        let is_claimed = matches!(delivery.state, State::Claimed { .. });
        delivery.target.is_callback() && !is_claimed && self.gates.is_slow(&delivery.target)
    }

    /// How long one attempt may take.
    fn timeout(&self) -> Duration {
        Duration::try_from(self.schedule.timeout).unwrap_or_default()
    }

    /// What came of the attempt; `None` if it was not made here.
    async fn attempt_one(
        &self,
        tenant: &Tenant,
        endpoint: Option<&Endpoint>,
        step: &Step,
    ) -> Result<Option<Attempted>, Fault> {
        let deadline = Instant::now() + WITHIN;
        let signers = match (&step.delivery.target, endpoint) {
            (Target::Bus { .. }, _) => Ok(None),
            (Target::Callback { secret, .. }, _) => {
                self.app.callback_signers(tenant, secret.as_ref(), deadline).await.map(Some)
            }
            (Target::Endpoint { .. }, Some(endpoint)) => self.app.signers(tenant, endpoint, deadline).await.map(Some),
            (Target::Endpoint { id }, None) => return Err(Fault::Corrupt(format!("{id} was not read"))),
        };
        if let Err(Unsent::Ours(reason)) = &signers {
            // Ours to mend: it counts as no attempt, and comes back less and less often.
            tracing::error!(reason, delivery = %step.delivery.id, "nothing can be sent");
            let now = self.app.clock.now();
            let work = work_of(tenant, &step.delivery, now);
            return self.app.store.put_off(&work, now, Instant::now() + WITHIN).await.map(|()| None);
        }
        let key: Key<Delivery> = Key::new(tenant, step.delivery.id.as_str());
        let Some(delivery) = self.claim(&key, &step.delivery).await? else { return Ok(None) };
        let State::Claimed { attempt, at, .. } = delivery.state else { return Ok(None) };
        let due = match step.delivery.state {
            State::Waiting { at, .. } => at,
            // Made and claimed as soon as it was known of.
            State::Claimed { .. } | State::Delivered { .. } | State::Exhausted { .. } | State::Cancelled { .. } => {
                step.event.at
            }
        };
        let claim = Claim { delivery: &delivery, attempt, at, due };
        let sent = match signers {
            Ok(signers) => self.send_to(&delivery, endpoint, &step.event, signers.as_ref()).await,
            Err(reason) => Err(reason),
        };
        let attempted = match sent {
            Ok(attempted) => attempted,
            Err(Unsent::Unsigned(reason) | Unsent::Ours(reason)) => unsent(reason),
        };
        self.record(&key, &claim, endpoint, &attempted).await?;
        if let Some(endpoint) = endpoint
            && let Err(fault) = self.learn(tenant, endpoint, &attempted).await
        {
            // The next attempt shows the same.
            tracing::warn!(%fault, endpoint = %endpoint.id, "not remembered of the endpoint");
        }
        Ok(Some(attempted))
    }

    /// Sends an event where its delivery says.
    async fn send_to(
        &self,
        delivery: &Delivery,
        endpoint: Option<&Endpoint>,
        event: &Event,
        signers: Option<&Signers>,
    ) -> Result<Attempted, Unsent> {
        let unsigned = || Unsent::Unsigned("there is nothing to sign it with".to_owned());
        let timeout = self.timeout();
        match (&delivery.target, endpoint, &delivery.url) {
            (Target::Bus { name }, ..) => match &self.bus {
                Some(bus) if bus.name() == name => Ok(bus.put(event, timeout).await),
                Some(_) | None => Err(Unsent::Ours(format!("the event bus {name} is no longer configured"))),
            },
            (Target::Endpoint { .. }, Some(endpoint), _) => {
                self.app.send(endpoint, event, signers.ok_or_else(unsigned)?, timeout).await
            }
            (Target::Callback { .. }, _, Some(url)) => {
                self.app.call_back(url, event, signers.ok_or_else(unsigned)?, timeout).await
            }
            (Target::Endpoint { .. }, None, _) | (Target::Callback { .. }, _, None) => {
                Err(Unsent::Ours("what is to be called is not known".to_owned()))
            }
        }
    }

    /// The delivery with its attempt claimed; `None` if somebody else makes it, or nobody any more.
    async fn claim(&self, key: &Key<Delivery>, known: &Delivery) -> Result<Option<Delivery>, Fault> {
        if matches!(known.state, State::Claimed { until, .. } if self.app.clock.now() < until) {
            // Claimed by this very worker, as it made the delivery.
            return Ok(Some(known.clone()));
        }
        let mut is_ours = false;
        let claimed = self.change(key, |delivery, now| {
            let outcome = delivery.claim(&self.schedule, now);
            is_ours = matches!(outcome, Outcome::Change(_));
            outcome
        });
        Ok(claimed.await?.filter(|_| is_ours))
    }

    /// Records what became of an attempt, and sends word of the next one.
    async fn record(
        &self,
        key: &Key<Delivery>,
        claim: &Claim<'_>,
        endpoint: Option<&Endpoint>,
        attempted: &Attempted,
    ) -> Result<(), Fault> {
        let report = Report {
            earlier: claim.delivery.earlier,
            attempt: claim.attempt,
            claimed_at: claim.at,
            status_code: attempted.status,
            duration_ms: u64::try_from(attempted.took.as_millis()).unwrap_or(u64::MAX),
            error: attempted.error.clone(),
            excerpt: attempted.excerpt.clone(),
            url: endpoint.map(|endpoint| endpoint.url.clone()),
            timed_out: attempted.timed_out,
        };
        let retry_after = attempted.retry_after.and_then(|wait| SignedDuration::try_from(wait).ok());
        let unit = fastrand::f64() * 2.0 - 1.0;
        let recorded = self.change(key, |delivery, now| {
            if attempted.succeeded() {
                delivery.succeeded(&report, now)
            } else if attempted.status == Some(GONE) && endpoint.is_some() {
                delivery.gone(&report, now)
            } else {
                delivery.failed(&report, retry_after, unit, &self.schedule, now)
            }
        });
        let Some(delivery) = recorded.await? else { return Ok(()) };
        metrics::attempted(attempted.succeeded(), claim.due, claim.at);
        match delivery.state {
            State::Waiting { at, look_at, .. } if look_at > at => {
                // Word of it rides on the queue until then.
                let lane = if attempted.timed_out { Lane::Slow } else { Lane::Fast };
                self.send(lane, &[Work { key: key.as_str().to_owned(), change: None, at }]).await;
            }
            State::Exhausted { attempts, .. } => {
                let (id, tenant) = (&delivery.id, key.tenant()?);
                tracing::error!(delivery = %id, %tenant, attempts, event = delivery.event, "delivery exhausted");
                metrics::exhausted();
            }
            State::Waiting { .. } | State::Claimed { .. } | State::Delivered { .. } | State::Cancelled { .. } => {}
        }
        Ok(())
    }

    /// Remembers of an endpoint what the attempt has shown, if that is news.
    async fn learn(&self, tenant: &Tenant, endpoint: &Endpoint, attempted: &Attempted) -> Result<(), Fault> {
        let seen = if attempted.succeeded() {
            Seen::Answered { quickly: attempted.took < QUICKLY }
        } else if attempted.timed_out {
            Seen::TimedOut
        } else if attempted.status == Some(GONE) {
            Seen::Gone
        } else {
            Seen::Failed
        };
        let well = endpoint.failing_since.is_none() && endpoint.slow_since.is_none();
        if well && matches!(seen, Seen::Answered { .. }) {
            return Ok(());
        }
        let lesson = self.lessons.note(tenant, &endpoint.id, seen);
        let _turn = lesson.turn.lock().await;
        let seen = lesson.take();
        if seen.is_empty() {
            return Ok(());
        }
        let key: Key<Endpoints> = endpoints_key(tenant);
        self.change(&key, |endpoints, now| endpoints.learned(&seen, now)).await.map(|_| ())
    }

    /// Gives a delivery up, because its endpoint was not to be called at `known_at`; unless it was changed since then,
    /// perhaps by someone who has enabled the endpoint and started the delivery anew.
    pub(crate) async fn cancel(&self, key: &Key<Delivery>, why: Cancelled, known_at: Timestamp) -> Result<(), Fault> {
        let rule = |delivery: &Delivery, now| {
            if delivery.updated_at > known_at { Outcome::Keep } else { delivery.cancel(why, now) }
        };
        self.change(key, rule).await.map(|_| ())
    }

    /// Changes a record by a rule that refuses nothing, and tells what there is to do then; `None` if there is none.
    pub(crate) async fn change<R: Record>(
        &self,
        key: &Key<R>,
        rule: impl FnMut(&R, Timestamp) -> Outcome<R>,
    ) -> Result<Option<R>, Fault> {
        let changed = self.app.store.update(key, Instant::now() + WITHIN, rule).await?;
        let Some((record, work)) = changed else { return Ok(None) };
        self.app.tell(&work).await;
        Ok(Some(record))
    }
}

fn work_of(tenant: &Tenant, delivery: &Delivery, at: Timestamp) -> Work {
    let key: Key<Delivery> = Key::new(tenant, delivery.id.as_str());
    Work { key: key.as_str().to_owned(), change: None, at }
}

/// An attempt that could not even begin; it counts, since waiting alone mends it.
fn unsent(reason: String) -> Attempted {
    Attempted {
        status: None,
        took: Duration::ZERO,
        error: Some(reason),
        timed_out: false,
        retry_after: None,
        excerpt: None,
    }
}
