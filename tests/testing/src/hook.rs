//! An SDK connector in front of an engine that lets a test do something before and after each call to the table.

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use countersign_embedded::Engine;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

/// A call to the table, as the SDK makes it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// E.g. `TransactWriteItems`.
    pub operation: String,
    /// The JSON that is sent.
    pub body: String,
}

impl Asked {
    /// Whether the clock asks what is due; it does so all the time.
    #[must_use]
    pub fn is_of_the_clock(&self) -> bool {
        self.body.contains(r#""IndexName":"due""#)
    }
}

/// On which side of a call something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The engine has not heard of it.
    Before,
    /// The engine has done what was asked, and nobody knows.
    After,
}

/// What is done then; the call goes on once it is done.
pub type Doing = Pin<Box<dyn Future<Output = ()> + Send>>;

type Hook = dyn Fn(Moment, &Asked) -> Doing + Send + Sync;

/// The connector; clones share everything.
#[derive(Clone)]
pub struct Hooked {
    engine: Engine,
    hook: Arc<Hook>,
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooked(..)")
    }
}

impl Hooked {
    /// Stands in front of `engine`.
    #[must_use]
    pub fn new(engine: Engine, hook: impl Fn(Moment, &Asked) -> Doing + Send + Sync + 'static) -> Self {
        Self { engine, hook: Arc::new(hook) }
    }

    /// The HTTP client that makes an SDK client go through this connector.
    #[must_use]
    pub fn http_client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_, _| connector.clone())
    }
}

impl HttpConnector for Hooked {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self { engine, hook } = self.clone();
        HttpConnectorFuture::new(async move {
            let operation = request.headers().get("x-amz-target").unwrap_or_default();
            let operation = operation.rsplit('.').next().unwrap_or_default().to_owned();
            let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
            let asked = Asked { operation, body };
            hook(Moment::Before, &asked).await;
            let answer = engine.call(request).await;
            hook(Moment::After, &asked).await;
            answer
        })
    }
}
