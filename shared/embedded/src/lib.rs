//! The table at home: a DynamoDB engine inside the process, behind the unmodified AWS SDK.
//!
//! The engine keeps its tables in one SQLite file. It is for laptops, tests and trials on one machine; in production
//! the table is DynamoDB. No port is opened: the SDK's HTTP client is replaced by a connector that hands each request
//! to the engine.

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use dynoxide::{Database, DynoxideError};
use http::StatusCode;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt;
use std::path::Path;

/// A DynamoDB engine inside this process; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    database: Database,
}

/// The engine cannot open its file or does not answer.
#[derive(Debug, thiserror::Error)]
#[error("the embedded table: {0}")]
pub struct EngineError(String);

impl Engine {
    /// Opens the engine on a file, which is made if it is not there.
    ///
    /// # Errors
    /// The file cannot be written, or something else wrote it.
    pub fn open(file: &Path) -> Result<Self, EngineError> {
        let path = file.to_str().ok_or_else(|| EngineError("its path is not UTF-8".to_owned()))?;
        let database = Database::new(path).map_err(|error| EngineError(error.to_string()))?;
        Ok(Self { database })
    }

    /// An engine whose tables are gone with it.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn memory() -> Result<Self, EngineError> {
        let database = Database::memory().map_err(|error| EngineError(error.to_string()))?;
        Ok(Self { database })
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
    pub fn sweep_expired(&self) -> Result<usize, EngineError> {
        self.database.sweep_ttl().map_err(|error| EngineError(error.to_string()))
    }

    /// Answers one request of the JSON protocol that DynamoDB speaks.
    fn answer(&self, operation: &str, body: &[u8]) -> Result<String, DynoxideError> {
        let db = &self.database;
        match operation {
            "GetItem" => run(body, |request| db.get_item(request)),
            "TransactWriteItems" => {
                run(body, |mut request: dynoxide::actions::transact_write_items::TransactWriteItemsRequest| {
                    // The engine keeps tokens for ten minutes and scans them all at every call. Exactly-once does not
                    // rest on them: not every engine honours them.
                    request.client_request_token = None;
                    db.transact_write_items(request)
                })
            }
            "Query" => run(body, |request| db.query(request)),
            "BatchGetItem" => run(body, |request| db.batch_get_item(request)),
            "PutItem" => run(body, |request| db.put_item(request)),
            "UpdateItem" => run(body, |request| db.update_item(request)),
            "DeleteItem" => run(body, |request| db.delete_item(request)),
            "Scan" => run(body, |request| db.scan(request)),
            "CreateTable" => run(body, |request| db.create_table(request)),
            "DescribeTable" => run(body, |request| db.describe_table(request)),
            "UpdateTimeToLive" => run(body, |request| db.update_time_to_live(request)),
            "DescribeTimeToLive" => run(body, |request| db.describe_time_to_live(request)),
            _ => Err(DynoxideError::ValidationException(format!("the embedded table does not answer {operation}"))),
        }
    }
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
            let work = move || {
                let target = request.headers().get("x-amz-target").unwrap_or_default();
                let operation = target.rsplit('.').next().unwrap_or_default();
                let body = request.body().bytes().unwrap_or_default();
                match engine.answer(operation, body) {
                    Ok(answer) => response(StatusCode::OK, answer),
                    Err(error) => {
                        let status = StatusCode::from_u16(error.status_code());
                        response(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), error.to_json())
                    }
                }
            };
            tokio::task::spawn_blocking(work).await.map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

fn run<Q: DeserializeOwned, A: Serialize>(
    body: &[u8],
    act: impl FnOnce(Q) -> Result<A, DynoxideError>,
) -> Result<String, DynoxideError> {
    let request =
        serde_json::from_slice(body).map_err(|error| DynoxideError::ValidationException(error.to_string()))?;
    serde_json::to_string(&act(request)?).map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

fn response(status: StatusCode, body: String) -> HttpResponse {
    let mut response = HttpResponse::new(status.into(), SdkBody::from(body));
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    response
}
