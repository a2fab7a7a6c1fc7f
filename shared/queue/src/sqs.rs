//! Work on its way through SQS.

use crate::{Lane, QueueError};
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use aws_sdk_sqs::{Client, Config};
use countersign_domain::{Timestamp, Work};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::time::timeout;

/// How many messages SQS takes in one call.
const BATCH: usize = 10;
/// How long a call may take that sends, with the client's own repetitions: whoever waits for it has other things to do.
const SENT_WITHIN: Duration = Duration::from_secs(3);
/// How long SQS lets somebody wait for a message, in seconds.
const LONGEST_WAIT: i32 = 20;
/// The longest time that SQS holds a message back, in seconds.
const LONGEST_DELAY: i64 = 900;

type Make = Box<dyn FnOnce() -> Client + Send>;

/// The two queues in AWS.
#[derive(Clone, Debug)]
pub struct SqsQueue {
    client: Arc<LazyLock<Client, Make>>,
    fast: String,
    slow: String,
}

impl SqsQueue {
    /// The queues at these URLs. The client for them is made when it is first needed.
    #[must_use]
    pub fn new(config: &SdkConfig, fast: String, slow: String) -> Self {
        let config = Config::new(config);
        let make: Make = Box::new(|| Client::from_conf(config));
        Self { client: Arc::new(LazyLock::new(make)), fast, slow }
    }

    /// The queues at these URLs, where the SDK's own environment variables say.
    pub async fn by_environment(fast: String, slow: String) -> Self {
        Self::new(&aws_config::load_defaults(BehaviorVersion::latest()).await, fast, slow)
    }

    /// Up to ten messages of a lane, waiting for the first for up to 20 s; each with what it takes to delete it.
    ///
    /// # Errors
    /// The queue does not answer.
    pub async fn receive(&self, lane: Lane) -> Result<Vec<(Work, String)>, QueueError> {
        let received = self.client.receive_message().queue_url(self.url(lane)).max_number_of_messages(10);
        let received = received.wait_time_seconds(LONGEST_WAIT).send().await;
        let received = received.map_err(|error| unavailable(error.code().unwrap_or("no answer")))?;
        // What cannot be read comes back until the queue gives it up.
        let read = received.messages.unwrap_or_default().into_iter().filter_map(|message| {
            let work = serde_json::from_str(message.body.as_deref()?).ok()?;
            Some((work, message.receipt_handle?))
        });
        Ok(read.collect())
    }

    /// Says that a message was handled.
    ///
    /// # Errors
    /// The queue does not answer: the message comes again.
    pub async fn delete(&self, lane: Lane, receipt: String) -> Result<(), QueueError> {
        let deleted = self.client.delete_message().queue_url(self.url(lane)).receipt_handle(receipt).send().await;
        deleted.map(|_| ()).map_err(|error| unavailable(error.code().unwrap_or("no answer")))
    }

    pub(crate) fn prepare(&self) {
        LazyLock::force(&self.client);
    }

    fn url(&self, lane: Lane) -> &str {
        match lane {
            Lane::Fast => &self.fast,
            Lane::Slow => &self.slow,
        }
    }

    pub(crate) async fn send(&self, lane: Lane, work: &[Work], now: Timestamp) -> Result<(), QueueError> {
        let url = self.url(lane);
        let mut refused = None;
        for batch in work.chunks(BATCH) {
            let entries =
                batch.iter().enumerate().map(|(n, work)| entry(n, work, now)).collect::<Result<Vec<_>, _>>()?;
            let sending = self.client.send_message_batch().queue_url(url).set_entries(Some(entries)).send();
            let sent = timeout(SENT_WITHIN, sending).await.map_err(|_| unavailable("no answer in time"))?;
            let sent = sent.map_err(|error| unavailable(error.code().unwrap_or("no answer")))?;
            // The call may succeed although an entry did not.
            refused = refused.or_else(|| sent.failed.first().map(|entry| unavailable(entry.code())));
        }
        refused.map_or(Ok(()), Err)
    }
}

fn entry(n: usize, work: &Work, now: Timestamp) -> Result<SendMessageBatchRequestEntry, QueueError> {
    let body = serde_json::to_string(work).map_err(|error| unavailable(&error.to_string()))?;
    let entry = SendMessageBatchRequestEntry::builder()
        .id(n.to_string())
        .message_body(body)
        .delay_seconds(delay_seconds(work, now))
        .build();
    entry.map_err(|error| unavailable(&error.to_string()))
}

/// Whole seconds, never too few: word that comes early has to be sent again.
fn delay_seconds(work: &Work, now: Timestamp) -> i32 {
    let left = work.at.duration_since(now);
    let seconds = left.as_secs() + i64::from(left.subsec_nanos() > 0);
    i32::try_from(seconds.clamp(0, LONGEST_DELAY)).unwrap_or(0)
}

fn unavailable(reason: &str) -> QueueError {
    QueueError::Unavailable(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_travels_for_as_long_as_is_left_up_to_a_quarter_of_an_hour() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        for (at, seconds) in [
            ("2026-11-21T11:00:00Z", 0),
            ("2026-11-21T12:00:00Z", 0),
            ("2026-11-21T12:00:00.000001Z", 1),
            ("2026-11-21T12:00:59.5Z", 60),
            ("2026-11-21T12:15:00Z", 900),
            ("2026-11-21T18:00:00Z", 900),
        ] {
            let work = Work { key: "k#t#i".to_owned(), change: None, at: at.parse().unwrap() };
            assert_eq!(delay_seconds(&work, now), seconds, "{at}");
        }
    }
}
