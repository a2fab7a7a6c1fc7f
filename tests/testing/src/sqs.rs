//! A stand-in for SQS on a loopback port: it remembers what was sent, with its delay, and can fail.

use crate::aws::{self, Conduct};
use crate::wire::Endpoint;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A running stand-in.
#[derive(Debug)]
pub struct Sqs {
    endpoint: Endpoint,
    queues: Queues,
}

/// A message that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The queue's name.
    pub queue: String,
    /// For how many seconds nobody sees it.
    pub delay_seconds: i64,
    /// What it says.
    pub body: String,
}

#[derive(Clone, Debug, Default)]
struct Queues(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    sent: Vec<Sent>,
    conduct: Conduct,
}

impl Sqs {
    /// Starts with nothing sent. There is every queue that is named.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start() -> io::Result<Self> {
        let queues = Queues::default();
        let router = Router::new().route("/", post(answer)).with_state(queues.clone());
        Ok(Self { endpoint: Endpoint::serve(router).await?, queues })
    }

    /// The URL that an SDK takes.
    #[must_use]
    pub fn url(&self) -> String {
        self.endpoint.url()
    }

    /// The URL of a queue, as SQS writes it.
    #[must_use]
    pub fn queue_url(&self, queue: &str) -> String {
        format!("https://sqs.eu-central-1.amazonaws.com/123456789012/{queue}")
    }

    /// What Lambda hands to a function that this queue feeds: messages with these ids and bodies.
    #[must_use]
    pub fn event(queue: &str, messages: &[(&str, &str)]) -> Value {
        let records = messages.iter().map(|(id, body)| {
            json!({
                "messageId": id,
                "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
                "body": body,
                "attributes": {
                    "ApproximateReceiveCount": "1",
                    "SentTimestamp": "1767225600000",
                    "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                    "ApproximateFirstReceiveTimestamp": "1767225600001",
                },
                "messageAttributes": {},
                "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
                "eventSource": "aws:sqs",
                "eventSourceARN": format!("arn:aws:sqs:eu-central-1:123456789012:{queue}"),
                "awsRegion": "eu-central-1",
            })
        });
        json!({ "Records": records.collect::<Vec<_>>() })
    }

    /// How it answers from now on.
    pub fn conduct(&self, conduct: Conduct) {
        self.queues.open().conduct = conduct;
    }

    /// What was sent since this was asked last, in order.
    #[must_use]
    pub fn take(&self) -> Vec<Sent> {
        std::mem::take(&mut self.queues.open().sent)
    }
}

impl Queues {
    fn open(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(State(queues): State<Queues>, headers: HeaderMap, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    if aws::target(&headers) != Some("AmazonSQS.SendMessageBatch") {
        return aws::refuse(StatusCode::BAD_REQUEST, "com.amazonaws.sqs#InvalidAction");
    }
    let Some((queue, entries)) = read(&request) else {
        return aws::refuse(StatusCode::BAD_REQUEST, "com.amazonaws.sqs#InvalidParameterValue");
    };
    let conduct = queues.open().conduct;
    let ids: Vec<&str> = entries.iter().map(|(id, _)| id.as_str()).collect();
    match conduct {
        Conduct::Works => {
            let successful = entries.iter().map(|(id, _)| json!({ "Id": id, "MessageId": format!("{queue}-{id}") }));
            let answer = json!({ "Successful": successful.collect::<Vec<_>>(), "Failed": [] });
            queues.open().sent.extend(entries.into_iter().map(|(_, sent)| sent));
            aws::json_1_0(&answer)
        }
        Conduct::Refuses => {
            let failed = ids.iter().map(|id| json!({ "Id": id, "Code": "InternalError", "SenderFault": false }));
            aws::json_1_0(&json!({ "Successful": [], "Failed": failed.collect::<Vec<_>>() }))
        }
        Conduct::Fails => aws::refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        Conduct::Hangs => std::future::pending().await,
    }
}

/// The entries with their ids, within the limits that SQS has.
fn read(request: &Value) -> Option<(&str, Vec<(String, Sent)>)> {
    let queue = request["QueueUrl"].as_str()?.rsplit('/').next()?;
    let entries = request["Entries"].as_array().filter(|entries| (1..=10).contains(&entries.len()))?;
    let entries = entries.iter().map(|entry| {
        let delay_seconds = entry["DelaySeconds"].as_i64().filter(|delay| (0..=900).contains(delay))?;
        let body = entry["MessageBody"].as_str()?.to_owned();
        Some((entry["Id"].as_str()?.to_owned(), Sent { queue: queue.to_owned(), delay_seconds, body }))
    });
    Some((queue, entries.collect::<Option<_>>()?))
}
