//! Somebody's webhook receiver: a listener that remembers what it was sent and answers as it was told.

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// What is waited for at most; whatever it is, it is under way.
const WITHIN: Duration = Duration::from_secs(60);

/// A receiver, gone when it is dropped.
pub(crate) struct Receiver {
    pub(crate) url: String,
    shared: Arc<Shared>,
    serving: tokio::task::JoinHandle<()>,
}

struct Shared {
    received: Mutex<Vec<Received>>,
    reply: Mutex<Reply>,
    arrived: Notify,
}

/// How a receiver answers.
#[derive(Clone)]
pub(crate) enum Reply {
    /// With a status and some headers.
    With(u16, Vec<(&'static str, &'static str)>),
    /// With 200 and this body.
    Json(Value),
    /// Not at all.
    Never,
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Receiver {
    /// A receiver that answers 200 until it is told otherwise.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            received: Mutex::new(Vec::new()),
            reply: Mutex::new(Reply::With(200, Vec::new())),
            arrived: Notify::new(),
        });
        let taking = Arc::clone(&shared);
        let router = Router::new().fallback(async move |headers: HeaderMap, body: Bytes| {
            let body = String::from_utf8(body.to_vec()).unwrap();
            lock(&taking.received).push(Received { headers, body });
            taking.arrived.notify_waiters();
            let reply = lock(&taking.reply).clone();
            reply.answer().await
        });
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, serving }
    }

    /// From now on it answers so.
    pub(crate) fn answers(&self, reply: Reply) {
        *lock(&self.shared.reply) = reply;
    }

    /// Everything that has arrived.
    pub(crate) fn all(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// Everything that has arrived, as soon as it is `count` requests or more.
    pub(crate) async fn after(&self, count: usize) -> Vec<Received> {
        let waiting = async {
            loop {
                let arrived = self.shared.arrived.notified();
                let mut arrived = std::pin::pin!(arrived);
                arrived.as_mut().enable();
                let all = self.all();
                if all.len() >= count {
                    return all;
                }
                arrived.await;
            }
        };
        tokio::time::timeout(WITHIN, waiting).await.unwrap_or_else(|_| panic!("{count} wanted: {:?}", self.all()))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Reply {
    async fn answer(self) -> Response {
        match self {
            Self::Never => std::future::pending().await,
            Self::Json(body) => body.to_string().into_response(),
            Self::With(status, headers) => {
                let header = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
                let headers: HeaderMap = headers.into_iter().map(header).collect();
                (StatusCode::from_u16(status).unwrap(), headers, "as told").into_response()
            }
        }
    }
}

impl Received {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("{name}: {self:?}")).to_str().unwrap()
    }

    pub(crate) fn event(&self) -> String {
        let json = self.json();
        // Remediations have an envelope of their own.
        json.get("event_type").or_else(|| json.get("event")).unwrap().as_str().unwrap().to_owned()
    }

    /// How many signatures it carries.
    pub(crate) fn signatures(&self) -> usize {
        self.header("webhook-signature").split(' ').count()
    }

    /// Whether these bytes have signed it as Standard Webhooks do, by a library that others wrote.
    pub(crate) fn is_signed_by(&self, key: &[u8]) -> bool {
        let timestamp = self.header("webhook-timestamp").parse().unwrap();
        let webhook = standardwebhooks::Webhook::from_bytes(key.to_vec()).unwrap();
        let signature = webhook.sign(self.header("webhook-id"), timestamp, self.body.as_bytes()).unwrap();
        self.header("webhook-signature").split(' ').any(|one| one == signature)
    }

    /// Whether these bytes have signed it as the approvals document says: plain HMAC over time and body.
    pub(crate) fn is_approved_by(&self, key: &[u8]) -> bool {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(format!("{}.{}", self.header("x-approval-timestamp"), self.body).as_bytes());
        let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
        self.header("x-approval-signature") == signature
    }
}

/// The bytes that a secret stands for, as its owner is shown it.
pub(crate) fn key_of(whsec: &str) -> Vec<u8> {
    let key = BASE64_STANDARD.decode(whsec.strip_prefix("whsec_").unwrap()).unwrap();
    assert_eq!(key.len(), 32);
    key
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}
