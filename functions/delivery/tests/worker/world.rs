//! What the stories work with: an app whose queue the test holds in its hands, workers, and records with events.

use countersign_api::config::Local;
use countersign_api::{App, Issuers, Outgoing, RootKey, Rotating, SecretText, Secrets, seal_endpoint_secret};
use countersign_clock::sweep;
use countersign_delivery::Worker;
use countersign_domain::case::{Case, Ingest, Input, Severity};
use countersign_domain::delivery::Delivery;
use countersign_domain::endpoint::{Add, EndpointId, Endpoints, Secret, Subscription};
use countersign_domain::{Actor, Outcome, Record, Tenant, Timestamp, Work};
use countersign_embedded::Engine;
use countersign_outbound::{Allowed, Resolver};
use countersign_queue::{Lane, LocalQueue, Queue, Received};
use countersign_store::{By, Call, Clock, Cursor, CursorKeys, Found, Key, Order, Query, Settings, Store};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// The bytes that sign for every endpoint here.
pub(crate) const SECRET: &[u8] = b"test-callback-secret";

pub(crate) struct World {
    pub(crate) app: App,
    pub(crate) clock: Clock,
    pub(crate) worker: Worker,
    pub(crate) engine: Engine,
    /// What was sent and nobody has received yet.
    pub(crate) sent: Received,
}

pub(crate) fn acme() -> Tenant {
    "acme".parse().unwrap()
}

pub(crate) fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// A world with these variables set.
    pub(crate) async fn with(variables: &[(&str, &str)]) -> Self {
        let engine = Engine::memory().unwrap();
        let clock = Clock::manual("2026-11-21T12:00:00Z".parse().unwrap());
        Self::on(engine, clock, variables).await
    }

    /// The same table seen by another process.
    pub(crate) async fn beside(&self, variables: &[(&str, &str)]) -> Self {
        Self::on(self.engine.clone(), self.clock.clone(), variables).await
    }

    async fn on(engine: Engine, clock: Clock, variables: &[(&str, &str)]) -> Self {
        let variable = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into());
        let config = Local::read(variable).unwrap().config;
        let settings =
            Settings { table: "countersign".to_owned(), clock: clock.clone(), fan_out_after: Duration::from_secs(2) };
        let store = Store::embedded(engine.http_client(), settings);
        store.create_table().await.unwrap();
        let text = SecretText::new("override".to_owned());
        let secrets = Secrets::fixed(
            Rotating { current: text, previous: None },
            Rotating { current: RootKey::new([7; 32]), previous: None },
            Default::default(),
        );
        let issuers = Issuers::configured(&[], &secrets, &clock).unwrap();
        let (queue, sent) = LocalQueue::new();
        let outgoing = Outgoing::new(Allowed::new(config.webhooks.allow.clone(), Vec::new()), Resolver::System);
        let app = App::new(store, Queue::Local(queue), outgoing, secrets, issuers, clock.clone(), &config);
        let worker = Worker::new(app.clone(), config.webhooks.schedule, None);
        Self { app, clock, worker, engine, sent }
    }

    /// Registers an enabled endpoint for these events.
    pub(crate) async fn subscribe(&self, number: u128, url: &str, events: &[&str]) -> EndpointId {
        let id = EndpointId::from_u128(number);
        let sealer = self.app.secrets.sealer().await.unwrap();
        let names: Vec<String> = events.iter().map(|name| (*name).to_owned()).collect();
        let add = Add {
            id: id.clone(),
            url: url.to_owned(),
            events: Subscription::of(&names).unwrap(),
            agent: None,
            description: None,
            secret: Secret::Own {
                current: seal_endpoint_secret(&sealer, &acme(), &id, SECRET).unwrap(),
                previous: None,
            },
        };
        let rule = |endpoints: Option<&Endpoints>, now| Endpoints::add(endpoints, &acme(), add.clone(), &by(), now);
        let key = countersign_api::endpoints_key(&acme());
        self.change(&key, rule).await;
        id
    }

    /// Brings in a case, which is one event; word of it.
    pub(crate) async fn event(&self, number: u128) -> Vec<Work> {
        let case_id = uuid::Uuid::from_u128(number);
        let key: Key<Case> = Key::new(&acme(), &case_id.to_string());
        let ingest = Ingest {
            case_id,
            tenant: acme(),
            title: "Odd login".to_owned(),
            severity: Severity::Low,
            input: Input::default(),
        };
        self.change(&key, |_: Option<&Case>, now| Ok(Outcome::Change(Case::ingest(ingest.clone(), &by(), now)))).await
    }

    /// Changes a record by a rule that is not refused; what there is to do then.
    pub(crate) async fn change<R: Record<Refusal: std::fmt::Debug>>(
        &self,
        key: &Key<R>,
        rule: impl FnMut(Option<&R>, Timestamp) -> Result<Outcome<R>, R::Refusal>,
    ) -> Vec<Work> {
        let call = Call { deadline: deadline(), once: None };
        self.app.store.change(key, call, rule, |_| Ok(()), |()| Ok(String::new())).await.unwrap().work
    }

    /// What is on its way on a lane.
    pub(crate) fn take(&mut self, lane: Lane) -> Vec<Work> {
        let queue = match lane {
            Lane::Fast => &mut self.sent.fast,
            Lane::Slow => &mut self.sent.slow,
        };
        std::iter::from_fn(|| queue.try_recv().ok()).collect()
    }

    /// Hands over everything that is on its way until nothing is.
    pub(crate) async fn settle(&mut self) {
        loop {
            let (fast, slow) = (self.take(Lane::Fast), self.take(Lane::Slow));
            if fast.is_empty() && slow.is_empty() {
                return;
            }
            assert_eq!(self.worker.handle(Lane::Fast, &fast).await, [0; 0]);
            assert_eq!(self.worker.handle(Lane::Slow, &slow).await, [0; 0]);
        }
    }

    /// Lets time pass, the clock look, and the worker do what there is to do.
    pub(crate) async fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        sweep(&self.app, Duration::ZERO, deadline()).await;
        self.settle().await;
    }

    /// Every delivery, oldest first.
    pub(crate) async fn deliveries(&self) -> Vec<Delivery> {
        let keys = CursorKeys { current: [1; 32], previous: None };
        let tenant = acme();
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let query =
                Query { tenant: &tenant, by: By::All, order: Order::OldestFirst, limit: 100, with_input: false };
            let from = Cursor { text: cursor.as_deref(), keys: &keys };
            let page = self.app.store.list(query, from, deadline(), |found: Found<Delivery>| Some(found.record));
            let page = page.await.unwrap().unwrap();
            all.extend(page.rows.iter().map(|row| serde_json::from_str::<Delivery>(row.get()).unwrap()));
            cursor = page.next;
            if cursor.is_none() {
                return all;
            }
        }
    }

    /// What a delivery's log says of its attempts.
    pub(crate) async fn attempts(&self, delivery: &Delivery) -> Vec<Value> {
        let key: Key<Delivery> = Key::new(&acme(), delivery.id.as_str());
        let history = self.app.store.history(&key, deadline()).await.unwrap();
        let entries = history.into_iter().flat_map(|change| change.body.entries);
        entries.filter(|entry| entry.name == countersign_domain::delivery::ATTEMPTED).map(|entry| entry.data).collect()
    }
}

pub(crate) fn by() -> Actor {
    Actor::User { issuer: "test".to_owned(), subject: "alice".to_owned() }
}
