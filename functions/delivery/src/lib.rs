//! The worker behind the queue: tells the targets of a change, makes one attempt of a delivery, looks at a record whose
//! time has come. One message is one of these; what there is to do stands in the table, so that a message which is
//! lost, late or there twice does no harm.

mod attempt;
mod bus;
mod close;
mod fan_out;
mod gates;
mod known;
mod lessons;
mod lines;
mod replay;
mod requests;
mod targets;

pub use bus::Bus;

use crate::attempt::Sequence;
use crate::fan_out::Telling;
use crate::gates::Gates;
use crate::known::{Callbacks, Known};
use crate::lessons::Lessons;
use crate::lines::{HandedOver, Lines};
use crate::targets::Crowded;
use countersign_api::App;
use countersign_approvers::Workflow;
use countersign_domain::action::Action;
use countersign_domain::delivery::Delivery;
use countersign_domain::endpoint::Endpoints;
use countersign_domain::remediation::Remediation;
use countersign_domain::replay::Replay;
use countersign_domain::retry::Schedule;
use countersign_domain::workflow::request::Request;
use countersign_domain::{Record, Timestamp, Work};
use countersign_queue::Lane;
use countersign_store::Fault;
use futures_util::future::join_all;
use quick_cache::sync::Cache;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// How long the table may take over one piece of work.
const WITHIN: Duration = Duration::from_secs(4);

/// How long attempts have the machine to themselves before deliveries are made for targets that can wait.
const AHEAD: Duration = Duration::from_millis(20);
/// How many plans there may be whose changes are not told to everyone yet.
const UNFINISHED: usize = 64;
/// For how many of them deliveries are made at the same time.
const FINISHING: usize = 2;

/// Of how many records it is remembered what was told.
const TOLD: usize = 2_000;

/// Does what there is to do; cheap to clone.
#[derive(Clone, Debug)]
pub struct Worker {
    app: App,
    schedule: Arc<Schedule>,
    bus: Option<Bus>,
    workflow: Workflow,
    known: Arc<Known>,
    callbacks: Arc<Callbacks>,
    /// The latest change of each of some records that was told here.
    told: Arc<Cache<String, u64>>,
    lessons: Arc<Lessons>,
    gates: Gates,
    lines: Lines,
    handed_over: Arc<HandedOver>,
    crowded: Arc<Crowded>,
    unfinished: Arc<Semaphore>,
    finishing: Arc<Semaphore>,
}

/// What is left to do of some work, so that nothing holds up an attempt that can be made at once.
#[derive(Debug, Default)]
#[must_use]
pub struct Planned {
    /// Attempts that are to be made now, which may take their time.
    attempts: Attempts,
    /// What can wait for a moment.
    rest: Rest,
}

/// Attempts that are to be made now.
#[derive(Debug, Default)]
struct Attempts(Vec<Sequence>);

/// Deliveries that are to be made for targets that can wait, and changes that are told then.
#[derive(Debug, Default)]
struct Rest {
    tellings: Vec<Telling>,
    /// The places of what the worker could neither do nor put off.
    failed: Vec<usize>,
    /// Held until this is done, so that it does not pile up.
    unfinished: Option<OwnedSemaphorePermit>,
}

impl Planned {
    fn failed(places: Vec<usize>) -> Self {
        Self { rest: Rest { failed: places, ..Rest::default() }, ..Self::default() }
    }

    fn extend(&mut self, other: Self) {
        self.attempts.0.extend(other.attempts.0);
        self.rest.tellings.extend(other.rest.tellings);
        self.rest.failed.extend(other.rest.failed);
    }
}

impl Worker {
    /// A worker that makes attempts as `schedule` says; `bus` hears of remediations, too, and `workflow` finds out who is
    /// asked when approvers are late.
    #[must_use]
    pub fn new(app: App, schedule: Schedule, bus: Option<Bus>, workflow: Workflow) -> Self {
        Self {
            app,
            schedule: Arc::new(schedule),
            bus,
            workflow,
            known: Arc::default(),
            callbacks: Arc::default(),
            told: Arc::new(Cache::new(TOLD)),
            lessons: Arc::default(),
            gates: Gates::default(),
            lines: Lines::default(),
            handed_over: Arc::new(HandedOver::default()),
            crowded: Arc::new(Crowded::default()),
            unfinished: Arc::new(Semaphore::new(UNFINISHED)),
            finishing: Arc::new(Semaphore::new(FINISHING)),
        }
    }

    /// Does all of it, at the same time; the places of what should be sent again by the queue.
    pub async fn handle(&self, lane: Lane, work: &[Work]) -> Vec<usize> {
        // Boxed: these are large, and what holds them would be larger.
        let planned = Box::pin(self.plan(lane, work)).await;
        Box::pin(self.carry_out(planned)).await
    }

    /// Waits until there is room for more work on the fast lane.
    pub async fn has_room(&self) {
        self.gates.has_room().await;
    }

    /// Says which attempts are to be made, and what there is to do beside them.
    pub async fn plan(&self, lane: Lane, work: &[Work]) -> Planned {
        let now = self.app.clock.now();
        let (early, timely): (Vec<_>, Vec<_>) = work.iter().enumerate().partition(|(_, work)| work.at > now);
        let (changes, records): (Vec<_>, Vec<_>) = timely.into_iter().partition(|(_, work)| work.change.is_some());
        let (again, told, looked) = futures_util::join!(
            self.send_again(lane, &early, now),
            self.fan_out(&changes),
            join_all(records.iter().map(|(place, work)| self.look_or_put_off(lane, *place, work)))
        );
        let mut all = Planned::default();
        for planned in [again, told].into_iter().chain(looked) {
            all.extend(planned);
        }
        if !all.rest.tellings.is_empty() {
            all.rest.unfinished = Arc::clone(&self.unfinished).acquire_owned().await.ok();
        }
        all
    }

    /// Does what is left of it; the places of what should be sent again by the queue.
    pub async fn carry_out(&self, planned: Planned) -> Vec<usize> {
        let Planned { attempts, rest } = planned;
        let mut attempts = pin!(self.attempt(attempts));
        let is_over = timeout(AHEAD, attempts.as_mut()).await.is_ok();
        let others = async {
            let (attempts, failed) = self.finish(rest).await;
            self.attempt(attempts).await;
            failed
        };
        if is_over {
            return others.await;
        }
        let ((), failed) = futures_util::join!(attempts, others);
        failed
    }

    /// Makes the attempts: those to one target that belong together one after the other, all others at the same time.
    async fn attempt(&self, attempts: Attempts) {
        join_all(attempts.0.into_iter().map(|sequence| self.attempt_in_order(sequence))).await;
    }

    /// Word that came early, by a clock that is ahead of ours, comes again.
    async fn send_again(&self, lane: Lane, early: &[(usize, &Work)], now: Timestamp) -> Planned {
        let work: Vec<Work> = early.iter().map(|(_, work)| Work::clone(work)).collect();
        match self.app.queue.send(lane, &work, now).await {
            Ok(()) => Planned::default(),
            Err(error) => {
                tracing::warn!(%error, "not sent again");
                Planned::failed(early.iter().map(|(place, _)| *place).collect())
            }
        }
    }

    async fn look_or_put_off(&self, lane: Lane, place: usize, work: &Work) -> Planned {
        match self.look(lane, work).await {
            Ok(attempts) => Planned { attempts: Attempts(attempts), rest: Rest::default() },
            Err(fault) => Planned::failed(self.put_off(place, work, &fault).await.into_iter().collect()),
        }
    }

    /// Puts off what cannot be done now, so that it blocks nothing else; its place, if that fails, too.
    async fn put_off(&self, place: usize, work: &Work, fault: &Fault) -> Option<usize> {
        tracing::warn!(%fault, key = work.shown(), change = work.change, "put off");
        let deadline = Instant::now() + WITHIN;
        let put_off = self.app.store.put_off(work, self.app.clock.now(), deadline).await;
        let fault = put_off.err()?;
        tracing::warn!(%fault, key = work.shown(), "not put off");
        Some(place)
    }

    /// Looks at a record whose time has come.
    async fn look(&self, lane: Lane, work: &Work) -> Result<Vec<Sequence>, Fault> {
        let deadline = Instant::now() + WITHIN;
        let more = match work.kind() {
            Delivery::KIND => return self.pick_up(lane, work, deadline).await,
            // These go on for seconds; whatever is planned together with them would wait for its attempts.
            Endpoints::KIND | Replay::KIND if lane == Lane::Fast => {
                self.send(Lane::Slow, std::slice::from_ref(work)).await;
                return Ok(Vec::new());
            }
            Endpoints::KIND => self.close(work, deadline).await?,
            Replay::KIND => self.replay(work, deadline).await?,
            Action::KIND => self.app.store.tick::<Action>(work, deadline).await?,
            Remediation::KIND => self.app.store.tick::<Remediation>(work, deadline).await?,
            Request::KIND => self.tick_request(work, deadline).await?,
            kind => return Err(Fault::Corrupt(format!("records of kind {kind} are never due"))),
        };
        self.app.tell(&more).await;
        Ok(Vec::new())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
