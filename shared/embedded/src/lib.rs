//! The table at home: a DynamoDB engine inside the process, behind the unmodified AWS SDK.
//!
//! The engine keeps its tables in one SQLite file. It is for laptops, tests and trials on one machine; in production
//! the table is DynamoDB. No port is opened: the SDK's HTTP client is replaced by a connector that hands each request
//! to the engine.

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use dynoxide::actions::transact_write_items::{TransactWriteItemsRequest, TransactWriteItemsResponse};
use dynoxide::{Database, DynoxideError};
use http::StatusCode;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt;
use std::iter;
use std::path::Path;
use std::sync::mpsc;
use tokio::sync::oneshot;

/// A DynamoDB engine inside this process; cheap to clone.
///
/// One thread does all of its work: it serves one call at a time anyway, and threads that wait for their turn cost more
/// than a queue.
#[derive(Clone)]
pub struct Engine {
    work: mpsc::Sender<Work>,
}

/// DynamoDB's limit for the items of one transaction.
const LARGEST_TRANSACTION: usize = 100;
/// How much of what waits is taken up at a time.
const ROUND: usize = 64;

/// What the engine's thread is asked to do.
enum Work {
    /// To make several writes or none; may be committed together with others.
    Transaction(Transaction),
    /// Anything else.
    Other(Box<dyn FnOnce(&Database) + Send>),
}

struct Transaction {
    request: TransactWriteItemsRequest,
    /// What the request was read from, to be read again should it be tried alone.
    body: Vec<u8>,
    answer: oneshot::Sender<Result<TransactWriteItemsResponse, DynoxideError>>,
}

/// The engine cannot open its file or does not answer.
#[derive(Debug, thiserror::Error)]
#[error("the embedded table: {0}")]
pub struct EngineError(String);

impl From<DynoxideError> for EngineError {
    fn from(error: DynoxideError) -> Self {
        Self(error.to_string())
    }
}

impl Engine {
    /// Opens the engine on a file, which is made if it is not there.
    ///
    /// # Errors
    /// The file cannot be written, or something else wrote it.
    pub fn open(file: &Path) -> Result<Self, EngineError> {
        let path = file.to_str().ok_or_else(|| EngineError("its path is not UTF-8".to_owned()))?;
        Self::start(Database::new(path)?)
    }

    /// An engine whose tables are gone with it.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn memory() -> Result<Self, EngineError> {
        Self::start(Database::memory()?)
    }

    fn start(database: Database) -> Result<Self, EngineError> {
        let (work, queue) = mpsc::channel::<Work>();
        let serve = move || serve(&database, &queue);
        std::thread::Builder::new()
            .name("table".to_owned())
            .spawn(serve)
            .map_err(|error| EngineError(error.to_string()))?;
        Ok(Self { work })
    }

    /// The HTTP client that makes an SDK client talk to this engine.
    #[must_use]
    pub fn http_client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_, _| connector.clone())
    }

    /// Removes items whose TTL has passed, as DynamoDB does by itself; the number removed.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn sweep_expired(&self) -> Result<usize, EngineError> {
        Ok(self.on_its_thread(Database::sweep_ttl).await?)
    }

    /// Does something on the engine's thread. Once begun it is finished, also if nobody waits for it any more.
    async fn on_its_thread<A: Send + 'static>(
        &self,
        act: impl FnOnce(&Database) -> Result<A, DynoxideError> + Send + 'static,
    ) -> Result<A, DynoxideError> {
        let (answer, answered) = oneshot::channel();
        let work = move |database: &Database| {
            // Whoever asked may have given up.
            let _ = answer.send(act(database));
        };
        self.work.send(Work::Other(Box::new(work))).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    async fn transact(&self, body: &[u8]) -> Result<String, DynoxideError> {
        let (answer, answered) = oneshot::channel();
        let transaction = Transaction { request: transaction(body)?, body: body.to_vec(), answer };
        self.work.send(Work::Transaction(transaction)).map_err(|_| gone())?;
        write(&answered.await.map_err(|_| gone())??)
    }

    /// Answers one request of the JSON protocol that DynamoDB speaks.
    async fn answer(&self, operation: &str, body: &[u8]) -> Result<String, DynoxideError> {
        match operation {
            "GetItem" => self.run(body, Database::get_item).await,
            "TransactWriteItems" => self.transact(body).await,
            "Query" => self.run(body, Database::query).await,
            "BatchGetItem" => self.run(body, Database::batch_get_item).await,
            "PutItem" => self.run(body, Database::put_item).await,
            "UpdateItem" => self.run(body, Database::update_item).await,
            "DeleteItem" => self.run(body, Database::delete_item).await,
            "Scan" => self.run(body, Database::scan).await,
            "CreateTable" => self.run(body, Database::create_table).await,
            "DescribeTable" => self.run(body, Database::describe_table).await,
            "UpdateTimeToLive" => self.run(body, Database::update_time_to_live).await,
            "DescribeTimeToLive" => self.run(body, Database::describe_time_to_live).await,
            _ => Err(DynoxideError::ValidationException(format!("the embedded table does not answer {operation}"))),
        }
    }

    /// Reads and writes the JSON on the caller's thread; the engine's has enough to do.
    async fn run<Q: DeserializeOwned + Send + 'static, A: Serialize + Send + 'static>(
        &self,
        body: &[u8],
        act: impl FnOnce(&Database, Q) -> Result<A, DynoxideError> + Send + 'static,
    ) -> Result<String, DynoxideError> {
        let request = read(body)?;
        write(&self.on_its_thread(move |database| act(database, request)).await?)
    }
}

/// What waits is waited for at the same time, so it may be done in any order: reads first, then all transactions
/// together, which costs one commit.
fn serve(database: &Database, queue: &mpsc::Receiver<Work>) {
    while let Ok(first) = queue.recv() {
        let mut transactions = Vec::new();
        for work in iter::once(first).chain(queue.try_iter().take(ROUND - 1)) {
            match work {
                Work::Transaction(transaction) => transactions.push(transaction),
                Work::Other(act) => act(database),
            }
        }
        for group in groups(transactions) {
            commit(database, group);
        }
    }
}

/// Transactions that fit into one, as many as there are.
fn groups(transactions: Vec<Transaction>) -> Vec<Vec<Transaction>> {
    let (mut groups, mut items) = (Vec::<Vec<Transaction>>::new(), 0);
    for transaction in transactions {
        let more = transaction.request.transact_items.len();
        items += more;
        match groups.last_mut() {
            Some(group) if items <= LARGEST_TRANSACTION => group.push(transaction),
            Some(_) | None => {
                groups.push(vec![transaction]);
                items = more;
            }
        }
    }
    groups
}

/// Commits all of them together. Should that fail, because one of them is refused or two are about the same item, each is
/// tried alone.
fn commit(database: &Database, mut group: Vec<Transaction>) {
    let items = group.iter_mut().flat_map(|transaction| std::mem::take(&mut transaction.request.transact_items));
    let together = TransactWriteItemsRequest { transact_items: items.collect(), ..Default::default() };
    let is_done = database.transact_write_items(together).is_ok();
    for Transaction { body, answer, .. } in group {
        let _ = answer.send(if is_done {
            Ok(TransactWriteItemsResponse::default())
        } else {
            transaction(&body).and_then(|request| database.transact_write_items(request))
        });
    }
}

/// Reads a request to make several writes or none.
fn transaction(body: &[u8]) -> Result<TransactWriteItemsRequest, DynoxideError> {
    let mut request: TransactWriteItemsRequest = read(body)?;
    // The engine keeps tokens for ten minutes and scans them all at every call. Exactly-once does not rest on them: not
    // every engine honours them.
    request.client_request_token = None;
    Ok(request)
}

fn gone() -> DynoxideError {
    DynoxideError::InternalServerError("the engine's thread is gone".to_owned())
}

fn read<Q: DeserializeOwned>(body: &[u8]) -> Result<Q, DynoxideError> {
    serde_json::from_slice(body).map_err(|error| DynoxideError::ValidationException(error.to_string()))
}

fn write(answer: &impl Serialize) -> Result<String, DynoxideError> {
    serde_json::to_string(answer).map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Engine(..)")
    }
}

impl HttpConnector for Engine {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let engine = self.clone();
        HttpConnectorFuture::new(async move {
            let target = request.headers().get("x-amz-target").unwrap_or_default();
            let operation = target.rsplit('.').next().unwrap_or_default();
            let body = request.body().bytes().unwrap_or_default();
            Ok(match engine.answer(operation, body).await {
                Ok(answer) => response(StatusCode::OK, answer),
                Err(error) => {
                    let status = StatusCode::from_u16(error.status_code());
                    response(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), error.to_json())
                }
            })
        })
    }
}

fn response(status: StatusCode, body: String) -> HttpResponse {
    let mut response = HttpResponse::new(status.into(), SdkBody::from(body));
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    response
}
