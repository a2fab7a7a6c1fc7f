//! Both listeners in one process.

use crate::data::{self, DataError, Kept};
use crate::work::{self, Inbox};
use countersign_api::config::{Config, ConfigError, Local};
use countersign_api::{App, Issuers, Listener, Outgoing, Plane, router};
use countersign_approvers::{Approvers, Workflow};
use countersign_delivery::Worker;
use countersign_embedded::Engine;
use countersign_outbound::{Allowed, Resolver};
use countersign_store::{Clock, Fault, Settings, Store};
use countersign_workflow::Door;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// How often expired idempotency entries are removed; they count as gone from the moment they expire.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// How long one look may take.
const SWEEP_WITHIN: Duration = Duration::from_secs(30);
/// How long after its commit the clock looks at a change, if the queue was full.
const FAN_OUT_AFTER: Duration = Duration::from_secs(2);
/// The embedded table's name.
const EMBEDDED: &str = "countersign";

/// Which table a runner works on.
#[derive(Debug)]
pub enum Table {
    /// The embedded one, in this engine.
    Embedded(Engine),
    /// Whatever answers behind a store that was put together elsewhere.
    Other(Store),
}

/// The runner cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its data directory.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Its table.
    #[error(transparent)]
    Table(#[from] Fault),
    /// The issuers that it should trust, or its directory.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// One of its addresses.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
}

/// A runner whose sockets are bound.
#[derive(Debug)]
pub struct Runner {
    app: App,
    engine: Option<Engine>,
    public: (Listener, SocketAddr),
    management: (Listener, SocketAddr),
    sla_interval: Duration,
    inbox: Inbox,
    worker: Worker,
    workflow: Workflow,
}

impl Table {
    /// The table that the configuration names.
    ///
    /// # Errors
    /// The embedded table cannot be opened.
    pub async fn configured(config: &Local, clock: &Clock, must_exist: bool) -> Result<Self, StartError> {
        match &config.table {
            None => Ok(Self::Embedded(data::engine(&config.data, must_exist)?)),
            Some(name) => Ok(Self::Other(Store::remote_by_environment(settings(name, clock)).await)),
        }
    }

    /// The store on this table, which exists afterwards if it is the embedded one.
    ///
    /// # Errors
    /// The table cannot be created.
    pub async fn store(&self, clock: &Clock) -> Result<Store, StartError> {
        match self {
            Self::Other(store) => Ok(store.clone()),
            Self::Embedded(engine) => {
                let store = Store::embedded(engine.http_client(), settings(EMBEDDED, clock));
                store.create_table().await?;
                Ok(store)
            }
        }
    }
}

fn settings(table: &str, clock: &Clock) -> Settings {
    Settings { table: table.to_owned(), clock: clock.clone(), fan_out_after: FAN_OUT_AFTER }
}

impl Runner {
    /// Reads or generates the secrets, opens the table and binds both addresses.
    ///
    /// # Errors
    /// One of these is not possible.
    pub async fn start(config: &Local, clock: Clock, table: Table) -> Result<Self, StartError> {
        Self::start_resolving(config, clock, table, Resolver::System).await
    }

    /// The same with another resolver of the names of webhook targets, for tests.
    ///
    /// # Errors
    /// One of these is not possible.
    pub async fn start_resolving(
        config: &Local,
        clock: Clock,
        table: Table,
        resolver: Resolver,
    ) -> Result<Self, StartError> {
        let Kept { secrets, issuer } = data::secrets(config)?;
        let issuers = match &config.config.issuers {
            Some(issuers) => Issuers::configured(issuers, &secrets, &clock)?,
            None => issuer.trusted()?,
        };
        let public = bind(config.listen).await?;
        let management = bind(config.management_listen).await?;
        let (queue, inbox) = work::queue(config).await;
        let Config { webhooks, approvers, sla_interval, .. } = &config.config;
        let own = vec![public.1, management.1];
        let approvers = Approvers::configured(approvers, &secrets, resolver.clone(), own.clone(), clock.clone())?;
        let workflow = Workflow::new(approvers);
        let outgoing = Outgoing::new(Allowed::new(webhooks.allow.clone(), own), resolver);
        let app = App::new(table.store(&clock).await?, queue, outgoing, secrets, issuers, clock, &config.config);
        let bus = work::bus(webhooks.event_bus.as_deref()).await;
        let worker = Worker::new(app.clone(), webhooks.schedule.clone(), bus, workflow.clone());
        let engine = match table {
            Table::Embedded(engine) => Some(engine),
            Table::Other(_) => None,
        };
        Ok(Self { app, engine, public, management, sla_interval: *sla_interval, inbox, worker, workflow })
    }

    /// Where the public doors are.
    #[must_use]
    pub fn public_url(&self) -> String {
        format!("http://{}", self.public.1)
    }

    /// Where the management plane is.
    #[must_use]
    pub fn management_url(&self) -> String {
        format!("http://{}", self.management.1)
    }

    /// What the runner works with.
    #[must_use]
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Serves both planes, works off what there is to do and looks for what is due, until `stop` says true; then lets
    /// what is in flight end.
    ///
    /// # Errors
    /// A socket fails.
    pub async fn run(mut self, stop: watch::Receiver<bool>) -> io::Result<()> {
        let (app, every, engine) = (self.app.clone(), self.sla_interval, self.engine.take());
        let inbox = std::mem::replace(&mut self.inbox, Inbox::Nobody);
        let working = tokio::spawn(work::work_off(inbox, self.worker.clone(), stop.clone()));
        tokio::select! {
            served = self.serve(stop) => served?,
            () = sweep_expired(engine) => {}
            () = tick(&app, every) => {}
        }
        // Attempts that are being made end; what is left stands in the table.
        working.await.map_err(io::Error::other)
    }

    /// Serves both planes and does nothing else: what there is to do is left to others.
    ///
    /// # Errors
    /// A socket fails.
    pub async fn serve(self, stop: watch::Receiver<bool>) -> io::Result<()> {
        let plane = Plane::LocalManagement { port: self.management.1.port() };
        let management = countersign_overrides::routes()
            .merge(countersign_management::routes())
            .merge(countersign_webhooks::management());
        let management = router(self.app.clone(), plane, management);
        let public = countersign_approvals::routes()
            .merge(countersign_actions::routes())
            .merge(countersign_cases::routes())
            .merge(countersign_workflow::routes(Door::new(self.workflow, self.sla_interval)))
            .merge(countersign_workflow::pages())
            .merge(countersign_webhooks::public());
        let public = router(self.app.clone(), Plane::Public, public);
        let serving = tokio::try_join!(
            self.public.0.serve(public, stop.clone()),
            self.management.0.serve(management, stop.clone())
        );
        serving.map(|_| ())
    }
}

async fn bind(address: SocketAddr) -> Result<(Listener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen { address, error };
    let listener = Listener::bind(address).await.map_err(failed)?;
    let bound = listener.address().map_err(failed)?;
    Ok((listener, bound))
}

/// Does what the schedule does in AWS.
async fn tick(app: &App, every: Duration) {
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let stop_at = interval.tick().await + SWEEP_WITHIN;
        countersign_clock::sweep(app, every, stop_at).await;
    }
}

/// Does by hand what DynamoDB does by itself.
async fn sweep_expired(engine: Option<Engine>) {
    let Some(engine) = engine else { return std::future::pending().await };
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        if let Err(error) = engine.sweep_expired().await {
            tracing::warn!(%error, "expired items not removed");
        }
    }
}
