//! The operator's event bus, EventBridge, which hears of remediations.

use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::config::retry::RetryConfig;
use aws_sdk_eventbridge::error::ProvideErrorMetadata;
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use countersign_domain::event::Event;
use countersign_outbound::Attempted;
use std::time::{Duration, Instant};

/// Who says it, as rules on the bus know us.
const SOURCE: &str = "countersign.remediation";
/// The status of an answer to the SDK that says that the event is on the bus.
const TAKEN: u16 = 200;

/// A way to put events on a bus.
#[derive(Clone, Debug)]
pub struct Bus {
    client: Client,
    name: String,
}

impl Bus {
    /// The bus with this name or ARN.
    #[must_use]
    pub fn new(config: &SdkConfig, name: String) -> Self {
        // Attempts are counted and spaced by the delivery, not by the client.
        let config = aws_sdk_eventbridge::config::Builder::from(config).retry_config(RetryConfig::disabled()).build();
        Self { client: Client::from_conf(config), name }
    }

    /// The bus with this name or ARN, where the SDK's own environment variables say.
    pub async fn by_environment(name: String) -> Self {
        Self::new(&aws_config::load_defaults(BehaviorVersion::latest()).await, name)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// One attempt to put an event on the bus.
    pub(crate) async fn put(&self, event: &Event, within: Duration) -> Attempted {
        let begun = Instant::now();
        let ended = tokio::time::timeout(within, self.try_to_put(event)).await;
        let timed_out = ended.is_err();
        let error = match ended {
            Ok(Ok(())) => None,
            Ok(Err(reason)) => Some(reason),
            Err(_elapsed) => Some("the event bus did not answer in time".to_owned()),
        };
        let status = error.is_none().then_some(TAKEN);
        Attempted { status, took: begun.elapsed(), error, timed_out, retry_after: None, excerpt: None }
    }

    async fn try_to_put(&self, event: &Event) -> Result<(), String> {
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(&self.name)
            .source(SOURCE)
            .detail_type(&event.name)
            .detail(event.body())
            .time(DateTime::from_millis(event.at.as_millisecond()))
            .build();
        let put = self.client.put_events().entries(entry).send().await;
        let put = put.map_err(|error| format!("the event bus refuses: {}", error.code().unwrap_or("no answer")))?;
        // The call may succeed although the entry did not.
        match put.entries.unwrap_or_default().into_iter().find_map(|entry| entry.error_code) {
            None if put.failed_entry_count == 0 => Ok(()),
            code => Err(format!("the event bus refuses: {}", code.as_deref().unwrap_or("unknown"))),
        }
    }
}
