//! The process under test, and what AWS has around it.

use crate::door::Answer;
use countersign_embedded::Engine;
use countersign_store::{Clock, Settings, Store};
use countersign_testing::fault::{Faults, Faulty};
use countersign_testing::runtime::{self, Failed, Metrics, Runtime};
use countersign_testing::secrets_manager::SecretsManager;
use countersign_testing::sqs::Sqs;
use countersign_testing::wire::{self, Endpoint};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

pub(crate) const TABLE: &str = "countersign-prod";
pub(crate) const OVERRIDE_SECRET: &str = "countersign/prod/override-secret";
pub(crate) const ROOT_KEY: &str = "countersign/prod/root-key";
/// The secret of the documented vectors.
pub(crate) const SECRET: &str = "test-override-secret";
/// What API Gateway waits at most.
pub(crate) const AMPLE: Duration = Duration::from_secs(29);

/// The table and the secrets of a deployment.
pub(crate) struct Deployment {
    pub(crate) dynamodb: Endpoint,
    /// What the table was asked.
    pub(crate) asked: Faulty,
    pub(crate) secrets: SecretsManager,
    pub(crate) sqs: Sqs,
    /// The same table, read without the function.
    pub(crate) store: Store,
}

impl Deployment {
    pub(crate) async fn start() -> Self {
        let engine = Engine::memory().unwrap();
        let settings =
            Settings { table: TABLE.to_owned(), clock: Clock::System, fan_out_after: Duration::from_secs(30) };
        let store = Store::embedded(engine.http_client(), settings);
        store.create_table().await.unwrap();
        let secrets = SecretsManager::start().await.unwrap();
        secrets.set(OVERRIDE_SECRET, json!({ "current": SECRET }).to_string());
        secrets.set(ROOT_KEY, root_key());
        let asked = Faulty::new(engine, Faults::none(), 0).unwrap();
        let dynamodb = wire::serve(asked.clone()).await.unwrap();
        Self { dynamodb, asked, secrets, sqs: Sqs::start().await.unwrap(), store }
    }
}

pub(crate) fn root_key() -> String {
    use base64::Engine as _;
    json!({ "current": base64::prelude::BASE64_STANDARD.encode([7; 32]) }).to_string()
}

/// The bootstrap with the variables that Lambda and the template set, and no others.
pub(crate) fn bootstrap(runtime: SocketAddr, dynamodb: &str, deployment: &Deployment) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_overrides"));
    command
        .env_clear()
        .envs(runtime::variables(runtime, "countersign-overrides"))
        .env("AWS_SESSION_TOKEN", "not-a-token")
        .env("AWS_ENDPOINT_URL_DYNAMODB", dynamodb)
        .env("AWS_ENDPOINT_URL_SECRETS_MANAGER", deployment.secrets.url())
        .env("AWS_ENDPOINT_URL_SQS", deployment.sqs.url())
        .env("COUNTERSIGN_DEPLOYMENT", "prod")
        .env("COUNTERSIGN_TABLE", TABLE)
        .env("COUNTERSIGN_OVERRIDE_SECRET_ID", OVERRIDE_SECRET)
        .env("COUNTERSIGN_ROOT_KEY_ID", ROOT_KEY)
        .env("COUNTERSIGN_QUEUE_URL", deployment.sqs.queue_url("countersign-delivery"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A running function; its process ends with it.
pub(crate) struct Function {
    runtime: Runtime,
    process: Child,
    log: Arc<Mutex<String>>,
    metrics: Metrics,
}

impl Function {
    pub(crate) async fn start(deployment: &Deployment) -> Self {
        Self::start_with(&deployment.dynamodb.url(), deployment).await
    }

    pub(crate) async fn start_with(dynamodb: &str, deployment: &Deployment) -> Self {
        let runtime = Runtime::start().await.unwrap();
        let bootstrap = bootstrap(runtime.address(), dynamodb, deployment);
        Self::spawn(runtime, bootstrap)
    }

    /// One whose spans are sent there.
    pub(crate) async fn start_traced(deployment: &Deployment, collector: &str) -> Self {
        let runtime = Runtime::start().await.unwrap();
        let mut bootstrap = bootstrap(runtime.address(), &deployment.dynamodb.url(), deployment);
        bootstrap.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
        Self::spawn(runtime, bootstrap)
    }

    fn spawn(runtime: Runtime, mut bootstrap: Command) -> Self {
        let mut process = bootstrap.spawn().unwrap();
        let log = Arc::<Mutex<String>>::default();
        let mut stderr = process.stderr.take().unwrap();
        let lines = log.clone();
        // Read as it is written: a full pipe would stop the process.
        tokio::spawn(async move {
            let mut bytes = [0; 8192];
            while let Ok(read @ 1..) = stderr.read(&mut bytes).await {
                lines.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        });
        let metrics = Metrics::of(process.stdout.take().unwrap());
        Self { runtime, process, log, metrics }
    }

    /// What API Gateway would send back.
    pub(crate) async fn invoke(&self, event: Value) -> Answer {
        Answer::of_function(&self.try_invoke(event, AMPLE).await.unwrap())
    }

    pub(crate) async fn try_invoke(&self, event: Value, time: Duration) -> Result<Value, Failed> {
        self.runtime.invoke(event, time).await
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The next line of metrics that the function has written, or writes soon.
    pub(crate) async fn metrics(&mut self) -> Value {
        self.metrics.next(AMPLE).await.unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the function's log:\n{}", self.log());
        }
    }
}
