//! The table: load a record, change it in one conditional transaction, list records, verify their audit chains.
//!
//! The only code that knows DynamoDB. What answers is DynamoDB, an emulator, or the embedded engine behind the same
//! unmodified SDK client.

mod change;
mod clock;
mod cursor;
mod due;
mod events;
mod fault;
mod item;
mod key;
mod list;
mod log;
mod pointers;
mod table;
mod verify;
mod write;

pub use change::{Call, Changed, Committed, Error, Once};
pub use clock::Clock;
pub use cursor::CursorKeys;
pub use due::Due;
pub use events::{EventPage, Untold, Window};
pub use fault::Fault;
pub use item::SHARDS;
pub use key::Key;
pub use list::{By, Cursor, Found, InvalidCursor, Order, PAGE_BYTES, Page, Query};
pub use log::{COUNTED, Log, LogQuery, StoredChange};
pub use pointers::Parts;
pub use verify::{BrokenRecord, Progress, Verified};

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region, SharedHttpClient, StalledStreamProtectionConfig};
use countersign_domain::{Record, Timestamp};
use std::time::Duration;
use tokio::time::Instant;

/// How long one call may take before it is given up: the time that a caller waits at most, plus nothing.
pub const CALL_BUDGET: Duration = Duration::from_secs(4);

/// A handle on the table; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    client: Client,
    settings: Settings,
}

/// What a store needs to know besides where its table is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The table's name.
    pub table: String,
    /// Where `now` comes from.
    pub clock: Clock,
    /// How long after its commit the clock looks at a change with events, if the world has not heard of it before.
    pub fan_out_after: Duration,
}

/// A record as it was found.
#[derive(Clone, Debug)]
pub struct Loaded<R> {
    /// The record.
    pub record: R,
    /// How many changes it has had.
    pub version: u64,
    /// When the last one was.
    pub changed_at: Timestamp,
    pub(crate) hash: countersign_domain::chain::Hash,
}

impl Store {
    /// A store on DynamoDB or an emulator of it, at the endpoint that `config` says.
    #[must_use]
    pub fn remote(config: &SdkConfig, settings: Settings) -> Self {
        // Retries are the store's own: only it knows whether a failed write may have been committed.
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_millis(500))
            .operation_attempt_timeout(Duration::from_millis(1500))
            .build();
        let config = aws_sdk_dynamodb::config::Builder::from(config)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .build();
        Self { client: Client::from_conf(config), settings }
    }

    /// A store on DynamoDB or an emulator, as the SDK's own environment variables say.
    pub async fn remote_by_environment(settings: Settings) -> Self {
        Self::remote(&aws_config::load_defaults(BehaviorVersion::latest()).await, settings)
    }

    /// A store on an engine inside this process, which `http_client` hands every request to.
    #[must_use]
    pub fn embedded(http_client: SharedHttpClient, settings: Settings) -> Self {
        // No timeouts: a call that is given up goes on inside the engine and may still commit.
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("local"))
            .endpoint_url("http://embedded")
            .allow_no_auth()
            .http_client(http_client)
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        Self { client: Client::from_conf(config), settings }
    }

    /// The record with this key, as it is now (a consistent read).
    ///
    /// # Errors
    /// The table does not answer in time, or what is stored cannot be read.
    pub async fn load<R: Record>(&self, key: &Key<R>, deadline: Instant) -> Result<Option<Loaded<R>>, Fault> {
        match self.get(key.pk(), item::RECORD, deadline).await? {
            None => Ok(None),
            Some(item) => item::read_record(&item).map(Some),
        }
    }

    /// An item beside a record.
    ///
    /// # Errors
    /// The table does not answer in time, or what is stored cannot be read.
    pub async fn item<R: Record>(&self, key: &Key<R>, name: &str, deadline: Instant) -> Result<Option<String>, Fault> {
        let item = self.get(key.pk(), name, deadline).await?;
        item.map(|item| item::get_text(&item, "body").map(str::to_owned)).transpose()
    }

    /// Whether the table answers within `limit`; asked with the read of a key that never exists.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self, limit: Duration) -> Result<(), Fault> {
        let deadline = Instant::now() + limit;
        self.get("ping".to_owned(), item::RECORD, deadline).await.map(|_| ())
    }

    async fn get(&self, pk: String, sk: &str, deadline: Instant) -> Result<Option<item::Item>, Fault> {
        fault::retrying(deadline, || {
            let read = self
                .client
                .get_item()
                .table_name(&self.settings.table)
                .key("pk", item::text(&pk))
                .key("sk", item::text(sk))
                .consistent_read(true)
                .send();
            async move { Ok(read.await?.item) }
        })
        .await
    }
}
