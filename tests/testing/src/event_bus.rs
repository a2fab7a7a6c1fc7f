//! A stand-in for EventBridge on a loopback port: it remembers what was put on which bus, and can fail.

use crate::aws::{self, Conduct};
use crate::wire::Endpoint;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// A running stand-in.
pub struct EventBus {
    endpoint: Endpoint,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    conduct: Mutex<Conduct>,
    /// Every entry that was to be put, as it was written, whether or not it was taken.
    entries: watch::Sender<Vec<Value>>,
}

impl fmt::Debug for EventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventBus({})", self.endpoint.address())
    }
}

impl EventBus {
    /// Starts with nothing put. There is every bus that is named.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start() -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let router = Router::new().route("/", post(answer)).with_state(Arc::clone(&shared));
        Ok(Self { endpoint: Endpoint::serve(router).await?, shared })
    }

    /// The URL that an SDK takes.
    #[must_use]
    pub fn url(&self) -> String {
        self.endpoint.url()
    }

    /// How it answers from now on.
    pub fn conduct(&self, conduct: Conduct) {
        *self.shared.conduct.lock().unwrap_or_else(PoisonError::into_inner) = conduct;
    }

    /// Every entry that somebody tried to put, in order.
    #[must_use]
    pub fn entries(&self) -> Vec<Value> {
        self.shared.entries.borrow().clone()
    }

    /// The same, once there are so many.
    ///
    /// # Panics
    /// They do not come within 30 s.
    pub async fn wait_for(&self, at_least: usize) -> Vec<Value> {
        let mut entries = self.shared.entries.subscribe();
        let come = entries.wait_for(|entries| entries.len() >= at_least);
        let come = tokio::time::timeout(Duration::from_secs(30), come).await.is_ok();
        assert!(come, "{at_least} were to come, {} came", self.entries().len());
        self.entries()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    if aws::target(&headers) != Some("AWSEvents.PutEvents") {
        return aws::refuse(StatusCode::BAD_REQUEST, "UnknownOperationException");
    }
    let Some(entries) = request["Entries"].as_array().filter(|entries| (1..=10).contains(&entries.len())) else {
        return aws::refuse(StatusCode::BAD_REQUEST, "ValidationException");
    };
    // Before anyone can know that the entries have come, and ask for another conduct.
    let conduct = *shared.conduct.lock().unwrap_or_else(PoisonError::into_inner);
    shared.entries.send_modify(|all| all.extend(entries.iter().cloned()));
    match conduct {
        Conduct::Works => {
            let put: Vec<_> = (0..entries.len()).map(|n| json!({ "EventId": format!("event-{n}") })).collect();
            aws::json_1_1(&json!({ "FailedEntryCount": 0, "Entries": put }))
        }
        Conduct::Refuses => {
            let failed = json!({ "ErrorCode": "ThrottlingException", "ErrorMessage": "as the test asked" });
            let failed = vec![failed; entries.len()];
            aws::json_1_1(&json!({ "FailedEntryCount": failed.len(), "Entries": failed }))
        }
        Conduct::Fails => aws::refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalException"),
        Conduct::Hangs => std::future::pending().await,
    }
}
