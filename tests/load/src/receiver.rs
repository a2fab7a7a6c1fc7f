//! A receiver of webhooks in a thread of its own: it answers as the path says, and remembers what came when.

use crate::Failure;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use countersign_domain::Timestamp;
use hyper::{StatusCode, Uri};
use serde_json::Value;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a wait looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long nothing may come.
const PATIENCE: Duration = Duration::from_secs(400);
/// Longer than any attempt.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// How an endpoint answers.
#[derive(Clone, Copy)]
pub(crate) enum Manner {
    /// With 200.
    Well,
    /// With 503 until all recover.
    Down,
    /// Never.
    Hanging,
}

/// A request that came.
#[derive(Clone)]
pub(crate) struct Arrival {
    /// The path of the endpoint.
    pub(crate) endpoint: String,
    /// The event's id.
    pub(crate) event: String,
    pub(crate) at: Timestamp,
}

pub(crate) struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    arrivals: Mutex<Vec<Arrival>>,
    /// Endpoint and event of what was answered with 200.
    taken: Mutex<HashSet<(String, String)>>,
    recovered: AtomicBool,
}

impl Manner {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Well => "/well/",
            Self::Down => "/down/",
            Self::Hanging => "/hanging/",
        }
    }
}

impl Receiver {
    /// Starts to listen; until this process ends.
    ///
    /// # Errors
    /// No port is free.
    pub(crate) fn start() -> Result<Self, Failure> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let router = Router::new().fallback(receive).with_state(Arc::clone(&shared));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("receiver".to_owned()).spawn(move || {
            runtime.block_on(async move { axum::serve(tokio::net::TcpListener::from_std(listener)?, router).await })
        })?;
        Ok(Self { address, shared })
    }

    /// Where an endpoint is that answers so.
    pub(crate) fn url(&self, manner: Manner, number: usize) -> String {
        format!("http://{}{}{number}", self.address, manner.path())
    }

    /// From now on, endpoints that were down are well.
    pub(crate) fn recover(&self) {
        self.shared.recovered.store(true, Ordering::Relaxed);
    }

    /// Everything that came, in order.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.shared.arrivals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many deliveries were answered with 200.
    pub(crate) async fn taken(&self, count: usize) -> Result<(), Failure> {
        until(count, || self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner).len()).await
    }

    /// Waits until so many requests have come.
    pub(crate) async fn came(&self, count: usize) -> Result<(), Failure> {
        until(count, || self.shared.arrivals.lock().unwrap_or_else(PoisonError::into_inner).len()).await
    }
}

async fn until(count: usize, so_far: impl Fn() -> usize) -> Result<(), Failure> {
    let (mut before, mut since) = (0, Instant::now());
    loop {
        let now = so_far();
        if now >= count {
            return Ok(());
        }
        if now > before {
            (before, since) = (now, Instant::now());
        } else if since.elapsed() > PATIENCE {
            return Err(format!("{now} of {count} came, and then nothing").into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn receive(State(shared): State<Arc<Shared>>, uri: Uri, body: Bytes) -> StatusCode {
    let at = Timestamp::now();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(event) = body["event_id"].as_str() else { return StatusCode::BAD_REQUEST };
    let (endpoint, event) = (uri.path().to_owned(), event.to_owned());
    let down = endpoint.starts_with(Manner::Down.path()) && !shared.recovered.load(Ordering::Relaxed);
    let hanging = endpoint.starts_with(Manner::Hanging.path());
    let arrival = Arrival { endpoint: endpoint.clone(), event: event.clone(), at };
    shared.arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(arrival);
    if hanging {
        tokio::time::sleep(FOR_EVER).await;
    }
    if down {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    shared.taken.lock().unwrap_or_else(PoisonError::into_inner).insert((endpoint, event));
    StatusCode::OK
}
