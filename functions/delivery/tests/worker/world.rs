//! What the stories work with: an app whose queue the test holds in its hands, workers, and records with events.

use aws_smithy_runtime_api::client::http::SharedHttpClient;
use countersign_api::config::Local;
use countersign_api::{App, Issuers, Outgoing, RootKey, Rotating, SecretText, Secrets, seal_endpoint_secret};
use countersign_approvers::{Approvers, Workflow};
use countersign_clock::sweep;
use countersign_delivery::Worker;
use countersign_domain::api_key::KeyId;
use countersign_domain::case::{Case, EventIds, Ingest, Input, Refusal, Severity, Verdict, VerdictOutcome};
use countersign_domain::delivery::{ATTEMPTED, Delivery};
use countersign_domain::endpoint::{self, Add, Edit, Endpoint, EndpointId, Endpoints, Secret, Status, Subscription};
use countersign_domain::key_ring::Sealed;
use countersign_domain::{Actor, Entry, Outcome, Record, Tenant, Timestamp, Work};
use countersign_embedded::Engine;
use countersign_outbound::{Allowed, Resolver};
use countersign_queue::{Lane, LocalQueue, Queue, Received};
use countersign_store::{By, Call, Clock, Cursor, CursorKeys, Due, Found, Key, Order, Query, SHARDS, Settings, Store};
use countersign_testing::fault::{Faults, Faulty};
use countersign_testing::hook::Hooked;
use serde_json::Value;
use std::net::SocketAddr;
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
        Self::calling(variables, Resolver::System, &[]).await
    }

    /// A world that asks this resolver for the addresses of names, and listens on these addresses itself.
    pub(crate) async fn calling(variables: &[(&str, &str)], resolver: Resolver, own: &[SocketAddr]) -> Self {
        let engine = Engine::memory().unwrap();
        let clock = Clock::manual("2026-11-21T12:00:00Z".parse().unwrap());
        Self::on((engine.clone(), engine.http_client()), clock, variables, resolver, own).await
    }

    /// The same table seen by another process.
    pub(crate) async fn beside(&self, variables: &[(&str, &str)]) -> Self {
        let table = (self.engine.clone(), self.engine.http_client());
        Self::on(table, self.clock.clone(), variables, Resolver::System, &[]).await
    }

    /// The same by a process that does something around its calls.
    pub(crate) async fn behind(&self, hooked: &Hooked) -> Self {
        let table = (self.engine.clone(), hooked.http_client());
        Self::on(table, self.clock.clone(), &[], Resolver::System, &[]).await
    }

    async fn on(
        (engine, client): (Engine, SharedHttpClient),
        clock: Clock,
        variables: &[(&str, &str)],
        resolver: Resolver,
        own: &[SocketAddr],
    ) -> Self {
        let variable = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into());
        let Local { config, callback_secret, .. } = Local::read(variable).unwrap();
        let settings =
            Settings { table: "countersign".to_owned(), clock: clock.clone(), fan_out_after: Duration::from_secs(2) };
        let store = Store::embedded(client, settings);
        store.create_table().await.unwrap();
        let text = SecretText::new("override".to_owned());
        let secrets = Secrets::fixed(
            Rotating { current: text, previous: None },
            callback_secret.map(SecretText::new),
            Rotating { current: RootKey::new([7; 32]), previous: None },
            Default::default(),
        );
        let issuers = Issuers::configured(&[], &secrets, &clock).unwrap();
        let approvers = &config.approvers;
        let approvers = Approvers::configured(approvers, &secrets, resolver.clone(), own.to_vec(), clock.clone());
        let (queue, sent) = LocalQueue::new();
        let outgoing = Outgoing::new(Allowed::new(config.webhooks.allow.clone(), own.to_vec()), resolver);
        let app = App::new(store, Queue::Local(queue), outgoing, secrets, issuers, clock.clone(), &config);
        let worker = Worker::new(app.clone(), config.webhooks.schedule, None, Workflow::new(approvers.unwrap()));
        Self { app, clock, worker, engine, sent }
    }

    /// A door to the table behind the store's back.
    pub(crate) fn table(&self) -> Faulty {
        Faulty::new(self.engine.clone(), Faults::none(), 0).unwrap()
    }

    /// Registers an enabled endpoint for these events.
    pub(crate) async fn subscribe(&self, number: u128, url: &str, events: &[&str]) -> EndpointId {
        self.subscribe_of(&acme(), number, url, events).await
    }

    /// The same for any tenant.
    pub(crate) async fn subscribe_of(&self, tenant: &Tenant, number: u128, url: &str, events: &[&str]) -> EndpointId {
        let id = EndpointId::from_u128(number);
        let names: Vec<String> = events.iter().map(|name| (*name).to_owned()).collect();
        let add = Add {
            id: id.clone(),
            url: url.to_owned(),
            events: Subscription::of(&names).unwrap(),
            agent: None,
            description: None,
            secret: Secret::Own { current: self.sealed(tenant, &id, SECRET).await, previous: None },
        };
        let rule = |endpoints: Option<&Endpoints>, now| Endpoints::add(endpoints, tenant, add.clone(), &by(), now);
        self.change(&countersign_api::endpoints_key(tenant), rule).await;
        id
    }

    /// The bytes that sign for an endpoint, as they are stored.
    pub(crate) async fn sealed(&self, tenant: &Tenant, id: &EndpointId, bytes: &[u8]) -> Sealed {
        let sealer = self.app.secrets.sealer().await.unwrap();
        seal_endpoint_secret(&sealer, tenant, id, bytes).unwrap()
    }

    /// Changes the endpoints by a rule that is not refused; what there is to do then.
    pub(crate) async fn change_endpoints(
        &self,
        rule: impl Fn(&Endpoints, Timestamp) -> Result<Outcome<Endpoints>, endpoint::Refusal>,
    ) -> Vec<Work> {
        let key = countersign_api::endpoints_key(&acme());
        self.change(&key, |found: Option<&Endpoints>, now| rule(found.unwrap(), now)).await
    }

    /// Enables an endpoint or disables it; what there is to do then.
    pub(crate) async fn enable(&self, id: &EndpointId, enabled: bool) -> Vec<Work> {
        let edit = Edit { enabled: Some(enabled), ..Edit::default() };
        self.change_endpoints(|endpoints, now| endpoints.edit(id, &edit, &by(), now)).await
    }

    pub(crate) async fn endpoints(&self) -> Endpoints {
        self.app.store.load(&countersign_api::endpoints_key(&acme()), deadline()).await.unwrap().unwrap().record
    }

    pub(crate) async fn endpoint(&self, id: &EndpointId) -> Endpoint {
        self.endpoints().await.get(id).unwrap().clone()
    }

    pub(crate) async fn is_enabled(&self, id: &EndpointId) -> bool {
        self.endpoint(id).await.status == Status::Enabled
    }

    /// Brings in a case, which is one event; word of it.
    pub(crate) async fn event(&self, number: u128) -> Vec<Work> {
        self.event_of(&acme(), number).await
    }

    /// The same for any tenant.
    pub(crate) async fn event_of(&self, tenant: &Tenant, number: u128) -> Vec<Work> {
        let case_id = uuid::Uuid::from_u128(number);
        let ingest = Ingest {
            case_id,
            tenant: tenant.clone(),
            title: "Odd login".to_owned(),
            severity: Severity::Low,
            input: Input::default(),
        };
        let rule = |_: Option<&Case>, now| Ok(Outcome::Change(Case::ingest(ingest.clone(), &by(), now)));
        self.change(&case_key(tenant, number), rule).await
    }

    /// Gives a verdict on a case, which is two events; word of them.
    pub(crate) async fn verdict(&self, tenant: &Tenant, number: u128, outcome: VerdictOutcome) -> Vec<Work> {
        let verdict = Verdict {
            verdict_id: uuid::Uuid::from_u128(number),
            outcome,
            comment: None,
            event_ids: EventIds::default(),
        };
        let rule = |found: Option<&Case>, now| {
            found.ok_or(Refusal::NotFound)?.verdict(&verdict, &KeyId::of("cs_live_test"), now)
        };
        self.change(&case_key(tenant, number), rule).await
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

    /// Everything that the clock will ever look at, unless something happens.
    pub(crate) async fn due(&self) -> Vec<Work> {
        let mut due = Vec::new();
        for shard in 0..SHARDS {
            due.extend(self.app.store.due(shard, Timestamp::MAX, 1000, deadline()).await.unwrap());
        }
        due.iter().map(Due::work).collect()
    }

    /// Lets all word get lost that is on its way.
    pub(crate) fn lose_word(&mut self) -> usize {
        self.take(Lane::Fast).len() + self.take(Lane::Slow).len()
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
        self.deliveries_of(&acme()).await
    }

    /// The only delivery.
    pub(crate) async fn delivery(&self) -> Delivery {
        let [delivery] = &self.deliveries().await[..] else { panic!("there is not one delivery") };
        delivery.clone()
    }

    /// How far the deliveries are, oldest first.
    pub(crate) async fn statuses(&self) -> Vec<&'static str> {
        self.deliveries().await.iter().map(Delivery::status).collect()
    }

    /// Every delivery of any tenant.
    pub(crate) async fn deliveries_of(&self, tenant: &Tenant) -> Vec<Delivery> {
        let keys = CursorKeys { current: [1; 32], previous: None };
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let query = Query { tenant, by: By::All, order: Order::OldestFirst, limit: 100, with_input: false };
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
        let entries = self.entries(&Key::<Delivery>::new(&acme(), delivery.id.as_str())).await;
        entries.into_iter().filter(|entry| entry.name == ATTEMPTED).map(|entry| entry.data).collect()
    }

    /// What happened to a record.
    pub(crate) async fn entries<R: Record>(&self, key: &Key<R>) -> Vec<Entry> {
        let history = self.app.store.history(key, deadline()).await.unwrap();
        history.into_iter().flat_map(|change| change.body.entries).collect()
    }
}

pub(crate) fn case_key(tenant: &Tenant, number: u128) -> Key<Case> {
    Key::new(tenant, &uuid::Uuid::from_u128(number).to_string())
}

pub(crate) fn by() -> Actor {
    Actor::User { issuer: "test".to_owned(), subject: "alice".to_owned() }
}
