//! An SDK connector in front of any engine that fails as DynamoDB does: seeded, and with a record of every call.
//!
//! Emulators and the embedded engine serve transactions one by one and index at once, so they never show these faults.

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use countersign_embedded::Engine;
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often each fault happens, as a share of the calls that it can hit.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Transactions cancelled by a conflict or by throttling, without a trace.
    pub cancelled: f64,
    /// Transactions that commit, but whose answer is lost.
    pub lost_answer: f64,
    /// Transactions whose answer is lost and that commit only [`Faults::late_by`] later.
    pub late_commit: f64,
    /// How much later.
    pub late_by: Duration,
    /// Transactions that are lost before they arrive.
    pub lost_request: f64,
    /// Reads that are throttled.
    pub throttled_read: f64,
    /// Batch reads that leave keys unprocessed.
    pub unprocessed: f64,
    /// Calls that take [`Faults::spike_of`] longer.
    pub spike: f64,
    /// How much longer.
    pub spike_of: Duration,
    /// Queries of an index show the table as it was up to this long ago.
    pub index_lag: Duration,
}

impl Faults {
    /// No fault at all: only the record of calls.
    #[must_use]
    pub fn none() -> Self {
        Self {
            cancelled: 0.0,
            lost_answer: 0.0,
            late_commit: 0.0,
            late_by: Duration::ZERO,
            lost_request: 0.0,
            throttled_read: 0.0,
            unprocessed: 0.0,
            spike: 0.0,
            spike_of: Duration::ZERO,
            index_lag: Duration::ZERO,
        }
    }

    /// A bad day.
    #[must_use]
    pub fn many() -> Self {
        Self {
            cancelled: 0.20,
            lost_answer: 0.05,
            late_commit: 0.01,
            late_by: Duration::from_millis(100),
            lost_request: 0.02,
            throttled_read: 0.05,
            unprocessed: 0.3,
            spike: 0.002,
            spike_of: Duration::from_secs(2),
            index_lag: Duration::from_secs(3),
        }
    }
}

/// One call that the SDK made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// E.g. `TransactWriteItems`.
    pub operation: String,
    /// How many items it writes, if it writes any.
    pub items: usize,
}

/// The connector; clones share everything.
#[derive(Clone, Debug)]
pub struct Faulty {
    engine: SharedHttpConnector,
    /// Lags behind the engine; answers what asks an index.
    replica: Engine,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    faults: Faults,
    random: Mutex<fastrand::Rng>,
    calls: Mutex<Vec<Call>>,
    cut_off: AtomicBool,
    /// Held while a write is on its way, so that the replica sees writes in the order of their commits.
    writing: tokio::sync::Mutex<VecDeque<(Instant, HttpRequest)>>,
}

impl Faulty {
    /// Stands in front of `engine`; the same seed draws the same faults.
    ///
    /// # Errors
    /// There is no memory for the replica.
    pub fn new(
        engine: impl HttpConnector + 'static,
        faults: Faults,
        seed: u64,
    ) -> Result<Self, countersign_embedded::EngineError> {
        let shared = Shared {
            faults,
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            calls: Mutex::default(),
            cut_off: AtomicBool::new(false),
            writing: tokio::sync::Mutex::default(),
        };
        let engine = SharedHttpConnector::new(engine);
        Ok(Self { engine, replica: Engine::memory()?, shared: Arc::new(shared) })
    }

    /// The HTTP client that makes an SDK client go through this connector.
    #[must_use]
    pub fn http_client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_, _| connector.clone())
    }

    /// The calls since this was asked last.
    #[must_use]
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut *locked(&self.shared.calls))
    }

    /// From now on no call gets through, or all do again.
    pub fn cut_off(&self, cut_off: bool) {
        self.shared.cut_off.store(cut_off, Ordering::SeqCst);
    }

    /// Everything in a table (up to the megabyte that one scan shows), as the engine writes it.
    pub async fn dump(&self, table: &str) -> String {
        self.ask("Scan", &json!({ "TableName": table })).await.to_string()
    }

    /// Puts items into a table as they are written in DynamoDB's JSON, behind the store's back.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn put_items(&self, table: &str, items: &[Value]) -> Result<(), ConnectorError> {
        for item in items {
            let put = request("PutItem", &json!({ "TableName": table, "Item": item }));
            self.write(put).await?;
        }
        Ok(())
    }

    /// Replaces a text in the bodies of all records whose key starts with `prefix`, behind the store's back; the
    /// number of records changed.
    pub async fn tamper(&self, table: &str, prefix: &str, from: &str, to: &str) -> usize {
        let scan = self.ask("Scan", &json!({ "TableName": table })).await;
        let mut changed = 0;
        for item in scan["Items"].as_array().into_iter().flatten() {
            let body = item["body"]["S"].as_str().unwrap_or_default();
            let is_record = item["sk"]["S"] == "@" && item["pk"]["S"].as_str().is_some_and(|pk| pk.starts_with(prefix));
            if is_record && body.contains(from) {
                let mut item = item.clone();
                item["body"]["S"] = body.replace(from, to).into();
                changed += usize::from(self.put_items(table, &[item]).await.is_ok());
            }
        }
        changed
    }

    /// Asks the engine itself, whatever the faults.
    async fn ask(&self, operation: &str, body: &Value) -> Value {
        let answer = self.engine.call(request(operation, body)).await;
        let answer = answer.ok().and_then(|answer| serde_json::from_slice(answer.body().bytes()?).ok());
        answer.unwrap_or_default()
    }

    fn hits(&self, share: f64) -> bool {
        share > 0.0 && locked(&self.shared.random).f64() < share
    }

    async fn answer(self, mut request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        if self.shared.cut_off.load(Ordering::SeqCst) {
            return Err(ConnectorError::io("cut off".into()));
        }
        let faults = &self.shared.faults;
        let operation = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = operation.rsplit('.').next().unwrap_or_default().to_owned();
        let body: Value = serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap_or_default();
        let items = body["TransactItems"].as_array().map_or(0, Vec::len);
        // The clock asks all the time; the record is of what requests cause.
        let clock = body["IndexName"] == "due" || body["UpdateExpression"].is_string();
        if !clock {
            locked(&self.shared.calls).push(Call { operation: operation.clone(), items });
        }
        if self.hits(faults.spike) {
            tokio::time::sleep(faults.spike_of).await;
        }
        match operation.as_str() {
            "TransactWriteItems" => {
                if self.hits(faults.cancelled) {
                    return Ok(self.cancelled(items));
                }
                if self.hits(faults.lost_request) {
                    return Err(ConnectorError::io("the request was lost".into()));
                }
                if self.hits(faults.late_commit) {
                    let late_by = faults.late_by;
                    let faulty = self.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(late_by).await;
                        faulty.write(request).await
                    });
                    return Err(ConnectorError::timeout("no answer yet".into()));
                }
                let answer = self.write(request).await;
                if self.hits(faults.lost_answer) {
                    return Err(ConnectorError::timeout("the answer was lost".into()));
                }
                answer
            }
            "CreateTable" => {
                if let Some(copy) = request.try_clone() {
                    self.replica.call(copy).await?;
                }
                self.engine.call(request).await
            }
            "UpdateTimeToLive" => self.engine.call(request).await,
            "PutItem" | "UpdateItem" | "DeleteItem" => self.write(request).await,
            _ if self.hits(faults.throttled_read) => Ok(error("ProvisionedThroughputExceededException", &json!({}))),
            "Query" if body["IndexName"].is_string() => self.query_index(request).await,
            "BatchGetItem" if self.hits(faults.unprocessed) => {
                let (asked, left) = self.split(body);
                *request.body_mut() = SdkBody::from(asked.to_string());
                let answer = self.engine.call(request).await?;
                Ok(with_unprocessed(&answer, &left))
            }
            _ => self.engine.call(request).await,
        }
    }

    async fn write(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let mut writes = self.shared.writing.lock().await;
        let copy = request.try_clone();
        let answer = self.engine.call(request).await?;
        if let Some(copy) = copy.filter(|_| answer.status().is_success()) {
            writes.push_back((Instant::now(), copy));
        }
        Ok(answer)
    }

    /// Lets the replica catch up to some moment within the lag, and asks it.
    async fn query_index(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let lag = self.shared.faults.index_lag.mul_f64(locked(&self.shared.random).f64());
        let mut writes = self.shared.writing.lock().await;
        while writes.front().is_some_and(|(at, _)| at.elapsed() >= lag) {
            if let Some((_, write)) = writes.pop_front() {
                self.replica.call(write).await?;
            }
        }
        drop(writes);
        self.replica.call(request).await
    }

    /// The reasons that DynamoDB gives when a transaction met another one or too many of them.
    fn cancelled(&self, items: usize) -> HttpResponse {
        let mut random = locked(&self.shared.random);
        let code = ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"];
        let code = random.choice(code).unwrap_or("TransactionConflict");
        let hit = random.usize(0..items.max(1));
        let reasons: Vec<_> =
            (0..items)
                .map(|item| {
                    if item == hit { json!({ "Code": code, "Message": "injected" }) } else { json!({ "Code": "None" }) }
                })
                .collect();
        error("TransactionCanceledException", &json!({ "CancellationReasons": reasons }))
    }

    /// Some of the keys of a batch are asked for, the others are left.
    fn split(&self, mut body: Value) -> (Value, Value) {
        let mut left = json!({});
        for (table, request) in body["RequestItems"].as_object_mut().into_iter().flatten() {
            let Some(keys) = request["Keys"].as_array_mut() else { continue };
            let at = locked(&self.shared.random).usize(1..=keys.len());
            let rest = keys.split_off(at);
            if !rest.is_empty() {
                left[table] = json!({ "Keys": rest, "ConsistentRead": true });
            }
        }
        (body, left)
    }
}

impl HttpConnector for Faulty {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().answer(request))
    }
}

fn request(operation: &str, body: &Value) -> HttpRequest {
    let mut request = HttpRequest::new(SdkBody::from(body.to_string()));
    request.headers_mut().insert("x-amz-target", format!("DynamoDB_20120810.{operation}"));
    request
}

fn with_unprocessed(answer: &HttpResponse, left: &Value) -> HttpResponse {
    let mut body: Value = serde_json::from_slice(answer.body().bytes().unwrap_or_default()).unwrap_or_default();
    body["UnprocessedKeys"] = left.clone();
    HttpResponse::new(answer.status(), SdkBody::from(body.to_string()))
}

fn error(code: &str, rest: &Value) -> HttpResponse {
    let mut body = rest.clone();
    body["__type"] = format!("com.amazonaws.dynamodb.v20120810#{code}").into();
    body["message"] = "injected".into();
    HttpResponse::new(StatusCode::BAD_REQUEST.into(), SdkBody::from(body.to_string()))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
