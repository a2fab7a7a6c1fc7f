//! The Lambda Runtime API on a loopback port: what a function's process polls for events and answers to.

use crate::wire::Endpoint;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How long a process may take to start and ask for its event.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// A running Runtime API for one process.
#[derive(Debug)]
pub struct Runtime {
    endpoint: Endpoint,
    api: Arc<Api>,
    number: AtomicU64,
}

/// The variables that Lambda sets for a function of this name, whose runtime answers at this address.
#[must_use]
pub fn variables(runtime: SocketAddr, name: &str) -> [(&'static str, String); 7] {
    [
        ("AWS_LAMBDA_RUNTIME_API", runtime.to_string()),
        ("AWS_LAMBDA_FUNCTION_NAME", name.to_owned()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256".to_owned()),
        ("AWS_REGION", "eu-central-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "ASIAXMPLEXAMPLE".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "not-a-key".to_owned()),
    ]
}

/// What a function writes to its standard output: a line of metrics at a time.
#[derive(Debug)]
pub struct Metrics(mpsc::UnboundedReceiver<String>);

impl Metrics {
    /// Reads along from now on: a full pipe would stop the process.
    #[must_use]
    pub fn of(stdout: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let mut lines = BufReader::new(stdout).lines();
        let (written, metrics) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                // Most tests do not read them.
                let _ = written.send(line);
            }
        });
        Self(metrics)
    }

    /// The next line that the function has written, or writes within `time`; `None` if it is none.
    pub async fn next(&mut self, time: Duration) -> Option<Value> {
        let line = timeout(time, self.0.recv()).await.ok()??;
        serde_json::from_str(&line).ok()
    }
}

/// An invocation without an answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Failed {
    /// No process asked for the event.
    #[error("no process asked for the event")]
    NotTaken,
    /// The deadline passed; Lambda would have ended the process.
    #[error("there was no answer before the deadline")]
    TimedOut,
    /// The process reported an error instead of an answer: API Gateway would say 502 or 500.
    #[error("the function failed: {0}")]
    Function(Value),
}

#[derive(Debug)]
struct Api {
    events: mpsc::UnboundedSender<Invocation>,
    /// Lambda hands a process one event at a time.
    next: tokio::sync::Mutex<mpsc::UnboundedReceiver<Invocation>>,
    unanswered: Mutex<HashMap<String, oneshot::Sender<Result<Value, Failed>>>>,
    init_errors: Mutex<Vec<Value>>,
}

#[derive(Debug)]
struct Invocation {
    id: String,
    event: Value,
    time: Duration,
    taken: oneshot::Sender<()>,
    answer: oneshot::Sender<Result<Value, Failed>>,
}

impl Runtime {
    /// Starts with no event.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start() -> io::Result<Self> {
        let (events, next) = mpsc::unbounded_channel();
        let api = Arc::new(Api {
            events,
            next: tokio::sync::Mutex::new(next),
            unanswered: Mutex::default(),
            init_errors: Mutex::default(),
        });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next_event))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(take_response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(take_error))
            .route("/2018-06-01/runtime/init/error", post(take_init_error))
            .with_state(api.clone());
        Ok(Self { endpoint: Endpoint::serve(router).await?, api, number: AtomicU64::new(1) })
    }

    /// What goes into `AWS_LAMBDA_RUNTIME_API`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.endpoint.address()
    }

    /// Hands the process an event, to be answered within `time` from the moment it takes it.
    ///
    /// # Errors
    /// There is no answer, or an error.
    pub async fn invoke(&self, event: Value, time: Duration) -> Result<Value, Failed> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let id = format!("8476a536-e9f4-11e8-9739-{number:012x}");
        let (taken, when_taken) = oneshot::channel();
        let (answer, when_answered) = oneshot::channel();
        let invocation = Invocation { id, event, time, taken, answer };
        self.api.events.send(invocation).map_err(|_| Failed::NotTaken)?;
        match timeout(TAKEN_WITHIN, when_taken).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(Failed::NotTaken),
        }
        match timeout(time, when_answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Failed::TimedOut),
        }
    }

    /// What the process said of a start that failed.
    #[must_use]
    pub fn init_errors(&self) -> Vec<Value> {
        self.api.init_errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Api {
    fn finish(&self, id: &str, answer: Result<Value, Failed>) -> Response {
        let waiting = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        match waiting.map(|waiting| waiting.send(answer)) {
            Some(Ok(())) => accepted(),
            Some(Err(_)) => (StatusCode::GONE, "the invocation timed out").into_response(),
            None => (StatusCode::BAD_REQUEST, "there is no such invocation").into_response(),
        }
    }
}

fn accepted() -> Response {
    (StatusCode::ACCEPTED, Json(json!({ "status": "OK" }))).into_response()
}

fn parse(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into())
}

/// A long poll: there is no answer until there is an event.
async fn next_event(State(api): State<Arc<Api>>) -> Response {
    let Some(invocation) = api.next.lock().await.recv().await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let Invocation { id, event, time, taken, answer } = invocation;
    let deadline = (SystemTime::now() + time).duration_since(UNIX_EPOCH).unwrap_or_default();
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", id.clone()),
        ("lambda-runtime-deadline-ms", deadline.as_millis().to_string()),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:eu-central-1:123456789012:function:countersign-overrides".to_owned(),
        ),
        (
            "lambda-runtime-trace-id",
            "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1".to_owned(),
        ),
    ];
    api.unanswered.lock().unwrap_or_else(PoisonError::into_inner).insert(id, answer);
    // An error means that nobody waits any more.
    let _ = taken.send(());
    (headers, event.to_string()).into_response()
}

async fn take_response(State(api): State<Arc<Api>>, Path(id): Path<String>, body: Bytes) -> Response {
    api.finish(&id, Ok(parse(&body)))
}

async fn take_error(State(api): State<Arc<Api>>, Path(id): Path<String>, body: Bytes) -> Response {
    api.finish(&id, Err(Failed::Function(parse(&body))))
}

async fn take_init_error(State(api): State<Arc<Api>>, body: Bytes) -> Response {
    api.init_errors.lock().unwrap_or_else(PoisonError::into_inner).push(parse(&body));
    accepted()
}
