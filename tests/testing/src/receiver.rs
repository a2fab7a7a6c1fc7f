//! A receiver of webhooks on a loopback port: it remembers what came, and answers as a test wants.
#![expect(clippy::unwrap_used, reason = "it fails by panicking, like the tests that use it")]

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::Value;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its path and query.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, exactly.
    pub body: Bytes,
}

impl Received {
    /// A header's text.
    ///
    /// # Panics
    /// There is no such header.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap().to_str().unwrap()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The id of the event.
    #[must_use]
    pub fn event_id(&self) -> String {
        self.header("x-approval-event-id").to_owned()
    }
}

/// How a request is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers, by name and value.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
    /// How long the receiver takes.
    pub after: Duration,
}

impl Reply {
    /// This status, at once.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new(), after: Duration::ZERO }
    }

    /// No answer within any time that a test waits.
    #[must_use]
    pub fn never() -> Self {
        Self { after: Duration::from_secs(3600), ..Self::status(200) }
    }
}

type Answering = dyn Fn(&Received) -> Reply + Send + Sync;

/// The receiver; gone with its last clone.
#[derive(Clone)]
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    count: watch::Receiver<usize>,
    _stop: Arc<watch::Sender<bool>>,
}

struct Shared {
    received: Mutex<Vec<Received>>,
    answering: Mutex<Arc<Answering>>,
    count: watch::Sender<usize>,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver({})", self.address)
    }
}

impl Receiver {
    /// A receiver that answers 200.
    ///
    /// # Panics
    /// No port is free.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, count) = watch::channel(0);
        let answering: Arc<Answering> = Arc::new(|_| Reply::status(200));
        let shared = Shared { received: Mutex::default(), answering: Mutex::new(answering), count: sender };
        let shared = Arc::new(shared);
        let (stop, mut stopped) = watch::channel(false);
        let router = Router::new().fallback(receive).with_state(Arc::clone(&shared));
        tokio::spawn(async move {
            let ended = async move {
                // An error means that the last clone is gone.
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            tokio::select! {
                served = axum::serve(listener, router) => served.unwrap(),
                () = ended => {}
            }
        });
        Self { address, shared, count, _stop: Arc::new(stop) }
    }

    /// Where it listens, with this path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on requests are answered so.
    pub fn answer(&self, answering: impl Fn(&Received) -> Reply + Send + Sync + 'static) {
        *self.shared.answering.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(answering);
    }

    /// What came so far, in order.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What came, once it is at least so much.
    ///
    /// # Panics
    /// It does not come within 30 s.
    pub async fn wait_for(&self, at_least: usize) -> Vec<Received> {
        let mut count = self.count.clone();
        let come = count.wait_for(|count| *count >= at_least);
        let come = tokio::time::timeout(Duration::from_secs(30), come).await.is_ok();
        let received = self.received();
        assert!(come, "{at_least} were to come, {} came", received.len());
        received
    }
}

async fn receive(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let received = Received { path: uri.to_string(), headers, body };
    let answering = shared.answering.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let reply = answering(&received);
    shared.received.lock().unwrap_or_else(PoisonError::into_inner).push(received);
    shared.count.send_modify(|count| *count += 1);
    tokio::time::sleep(reply.after).await;
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap();
    for (name, value) in reply.headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}
