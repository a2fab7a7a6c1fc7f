//! What the stories work with: a record of their own, and a store on the engine under test.

use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::config::{Credentials, SharedHttpClient};
use countersign_domain::{Actor, Change, Entry, EntryClass, Listing, Outcome, Record, Subject, Tenant, Timestamp};
use countersign_embedded::Engine;
use countersign_store::{Call, Clock, Committed, CursorKeys, Error, Key, Once, Settings, Store, Verified};
use countersign_testing::fault::{Faults, Faulty};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

pub(crate) const KEYS: CursorKeys = CursorKeys { current: [7; 32], previous: None };

/// A record with everything that a record can have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Thing {
    pub(crate) id: String,
    pub(crate) created_at: Timestamp,
    pub(crate) subject: Option<String>,
    pub(crate) count: u32,
    pub(crate) decided_by: Option<usize>,
    pub(crate) ballast: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Refusal {
    Exists,
    NotFound,
    Decided(usize),
}

impl Record for Thing {
    const KIND: &'static str = "thing";
    const SCHEMA: u32 = 2;
    type Refusal = Refusal;

    fn upgrade(schema: u32, mut body: Value) -> Option<Value> {
        (schema == 1).then(|| {
            body["ballast"] = json!("from schema 1");
            body
        })
    }

    fn listing(&self) -> Listing {
        let state = if self.decided_by.is_some() { "decided" } else { "open" };
        Listing { state: Some(state), subject: self.subject.clone(), ..Listing::at(self.created_at) }
    }
}

impl Thing {
    pub(crate) fn change(self, name: &str, at: Timestamp) -> Outcome<Self> {
        let entry = Entry {
            name: format!("thing.{name}"),
            class: EntryClass::Public,
            actor: Actor::Operator { principal: "test".to_owned() },
            at,
            subject: Subject { kind: "thing".to_owned(), id: self.id.clone() },
            data: json!({ "count": self.count }),
            state: None,
        };
        Outcome::Change(Change::new(self, entry))
    }

    /// The rule of every race: only the first decides.
    pub(crate) fn decide(&self, who: usize, now: Timestamp) -> Result<Outcome<Self>, Refusal> {
        match self.decided_by {
            Some(winner) => Err(Refusal::Decided(winner)),
            None => Ok(Self { decided_by: Some(who), ..self.clone() }.change("decided", now)),
        }
    }
}

/// A store on the engine under test, with a table of its own.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) client: aws_sdk_dynamodb::Client,
    pub(crate) table: String,
    pub(crate) clock: Clock,
    connect: Connect,
}

/// How a store gets to the engine.
#[derive(Clone)]
enum Connect {
    Remote(Box<aws_config::SdkConfig>),
    Embedded(SharedHttpClient),
}

impl Connect {
    fn store(&self, settings: Settings) -> Store {
        match self {
            Self::Remote(config) => Store::remote(config, settings),
            Self::Embedded(http_client) => Store::embedded(http_client.clone(), settings),
        }
    }

    fn raw(&self) -> aws_sdk_dynamodb::Client {
        match self {
            Self::Remote(config) => aws_sdk_dynamodb::Client::new(config.as_ref()),
            Self::Embedded(http_client) => raw_client(http_client.clone()),
        }
    }
}

impl World {
    /// The engine that the environment names, the embedded one if it names none.
    pub(crate) async fn new() -> Self {
        let connect = match std::env::var("COUNTERSIGN_CONFORMANCE_ENDPOINT") {
            Err(_) => Connect::Embedded(Engine::memory().unwrap().http_client()),
            Ok(endpoint) => {
                let config = aws_config::defaults(BehaviorVersion::latest())
                    .region(Region::new("us-east-1"))
                    .credentials_provider(Credentials::new("test", "test", None, None, "test"))
                    .endpoint_url(endpoint);
                Connect::Remote(Box::new(config.load().await))
            }
        };
        Self::with(connect).await
    }

    /// The embedded engine on a bad day.
    pub(crate) async fn faulty(seed: u64) -> Self {
        Self::with_faults(Faults::many(), seed).await
    }

    /// The embedded engine with these faults.
    pub(crate) async fn with_faults(faults: Faults, seed: u64) -> Self {
        let faulty = Faulty::new(Engine::memory().unwrap(), faults, seed).unwrap();
        Self::with(Connect::Embedded(faulty.http_client())).await
    }

    async fn with(connect: Connect) -> Self {
        let table = format!("conformance-{}", uuid::Uuid::new_v4());
        let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let store = connect.store(settings(&table, &clock));
        store.create_table().await.unwrap();
        Self { store, client: connect.raw(), table, clock, connect }
    }

    /// A thing that is not stored yet.
    pub(crate) fn thing(&self, id: &str) -> Thing {
        Thing {
            id: id.to_owned(),
            created_at: self.clock.now(),
            subject: None,
            count: 0,
            decided_by: None,
            ballast: String::new(),
        }
    }

    pub(crate) async fn create(&self, tenant: &Tenant, id: &str, subject: Option<&str>) -> Thing {
        let thing = Thing { subject: subject.map(str::to_owned), ..self.thing(id) };
        self.put(tenant, thing.clone(), None).await.unwrap();
        thing
    }

    pub(crate) async fn put(
        &self,
        tenant: &Tenant,
        thing: Thing,
        once: Option<&Once>,
    ) -> Result<Committed<String>, Error<Refusal>> {
        let key = Key::new(tenant, &thing.id);
        let rule = |found: Option<&Thing>, now| match found {
            None => Ok(thing.clone().change("created", now)),
            Some(_) => Err(Refusal::Exists),
        };
        self.apply(&key, once, rule).await
    }

    pub(crate) async fn decide(&self, key: &Key<Thing>, who: usize) -> Result<Committed<String>, Error<Refusal>> {
        self.apply(key, None, |thing, now| thing.ok_or(Refusal::NotFound)?.decide(who, now)).await
    }

    /// Changes a thing; the answer is its id, count and decider.
    pub(crate) async fn apply(
        &self,
        key: &Key<Thing>,
        once: Option<&Once>,
        rule: impl FnMut(Option<&Thing>, Timestamp) -> Result<Outcome<Thing>, Refusal>,
    ) -> Result<Committed<String>, Error<Refusal>> {
        let call = Call { deadline: deadline(), once };
        let answer = |thing: &Thing| Ok(format!("{} {} {:?}", thing.id, thing.count, thing.decided_by));
        let changed = self.store.change(key, call, rule, answer, |answer| Ok(answer.clone())).await?;
        Ok(changed.committed)
    }

    pub(crate) async fn load(&self, key: &Key<Thing>) -> Option<Thing> {
        self.store.load(key, deadline()).await.unwrap().map(|found| found.record)
    }
}

impl World {
    /// The same engine, asked for another table.
    pub(crate) fn on_table(&self, table: &str) -> Self {
        let settings = Settings { table: table.to_owned(), ..settings(&self.table, &self.clock) };
        Self { store: self.connect.store(settings), table: table.to_owned(), ..self.clone() }
    }

    /// A second process on the same table, whose clock is an hour behind.
    pub(crate) fn behind(&self) -> Self {
        let clock = Clock::manual(self.clock.now() - countersign_domain::seconds(3600));
        Self { store: self.connect.store(settings(&self.table, &clock)), clock, ..self.clone() }
    }
}

fn settings(table: &str, clock: &Clock) -> Settings {
    Settings { table: table.to_owned(), clock: clock.clone(), fan_out_after: Duration::from_secs(2) }
}

/// Verifies a tenant's chains once the index shows as many records as there are.
pub(crate) async fn eventually_verified(world: &World, tenant: &Tenant, records: u64) -> Verified {
    let deadline = deadline();
    loop {
        let verified = world.store.verify(Thing::KIND, tenant, None, None).await.unwrap();
        if verified.records == records || verified.broken.is_some() {
            return verified;
        }
        assert!(Instant::now() < deadline, "still {verified:?}");
        tokio::task::yield_now().await;
    }
}

fn raw_client(http_client: SharedHttpClient) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
        .region(aws_sdk_dynamodb::config::Region::from_static("local"))
        .endpoint_url("http://embedded")
        .allow_no_auth()
        .http_client(http_client)
        .build();
    aws_sdk_dynamodb::Client::from_conf(config)
}

pub(crate) fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

pub(crate) fn tenant(name: &str) -> Tenant {
    name.parse().unwrap()
}

/// Asks until the answer is as expected: an index may lag.
pub(crate) async fn eventually<T: PartialEq + std::fmt::Debug>(expected: T, mut ask: impl AsyncFnMut() -> T) {
    let deadline = deadline();
    loop {
        let answer = ask().await;
        if answer == expected {
            return;
        }
        assert!(Instant::now() < deadline, "expected {expected:?}, still {answer:?}");
        tokio::task::yield_now().await;
    }
}
