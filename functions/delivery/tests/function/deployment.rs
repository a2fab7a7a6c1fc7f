//! The processes under test, and what AWS has around them.

use crate::records;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use countersign_api::{RootKey, Rotating, SecretText, Secrets};
use countersign_domain::Work;
use countersign_embedded::Engine;
use countersign_store::{Clock, Settings, Store};
use countersign_testing::event_bus::EventBus;
use countersign_testing::runtime::{self, Metrics, Runtime};
use countersign_testing::secrets_manager::SecretsManager;
use countersign_testing::sqs::Sqs;
use countersign_testing::wire::{self, Endpoint};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::watch;

pub(crate) const FAST: &str = "countersign-delivery";
pub(crate) const SLOW: &str = "countersign-delivery-slow";
const TABLE: &str = "countersign-prod";
const ROOT_KEY: &str = "countersign/prod/root-key";
/// Where a deployment may have its callback secret.
pub(crate) const CALLBACK_SECRET: &str = "countersign/prod/callback-secret";
const AMPLE: Duration = Duration::from_secs(60);

/// The table, the queues, the bus and the secrets.
pub(crate) struct Deployment {
    /// The same table, without the function.
    pub(crate) store: Store,
    pub(crate) sqs: Sqs,
    pub(crate) bus: EventBus,
    pub(crate) secrets: SecretsManager,
    dynamodb: Endpoint,
}

impl Deployment {
    pub(crate) async fn start() -> Self {
        let engine = Engine::memory().unwrap();
        let fan_out_after = Duration::from_secs(30);
        let settings = Settings { table: TABLE.to_owned(), clock: Clock::System, fan_out_after };
        let store = Store::embedded(engine.http_client(), settings);
        store.create_table().await.unwrap();
        let secrets = SecretsManager::start().await.unwrap();
        secrets.set(ROOT_KEY, json!({ "current": BASE64_STANDARD.encode([7; 32]) }).to_string());
        let (sqs, bus) = (Sqs::start().await.unwrap(), EventBus::start().await.unwrap());
        Self { store, sqs, bus, dynamodb: wire::serve(engine).await.unwrap(), secrets }
    }

    /// Registers an endpoint for all events.
    pub(crate) async fn subscribe(&self, number: u128, url: &str) {
        let text = SecretText::new("override".to_owned());
        let secrets = Secrets::fixed(
            Rotating { current: text, previous: None },
            None,
            Rotating { current: RootKey::new([7; 32]), previous: None },
            Default::default(),
        );
        records::subscribe(&self.store, &secrets.sealer().await.unwrap(), number, url).await;
    }
}

/// A running function; its process ends with it.
pub(crate) struct Function {
    pub(crate) runtime: Runtime,
    log: watch::Receiver<String>,
    metrics: Metrics,
    _process: Child,
}

impl Function {
    /// The worker, with these variables beyond those that a deployment sets.
    pub(crate) async fn worker(deployment: &Deployment, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_delivery"));
        command
            .env_clear()
            .env("AWS_ENDPOINT_URL_DYNAMODB", deployment.dynamodb.url())
            .env("AWS_ENDPOINT_URL_SECRETS_MANAGER", deployment.secrets.url())
            .env("AWS_ENDPOINT_URL_SQS", deployment.sqs.url())
            .env("AWS_ENDPOINT_URL_EVENTBRIDGE", deployment.bus.url())
            .env("COUNTERSIGN_TABLE", TABLE)
            .env("COUNTERSIGN_ROOT_KEY_ID", ROOT_KEY)
            .env("COUNTERSIGN_QUEUE_URL", deployment.sqs.queue_url(FAST))
            .env("COUNTERSIGN_SLOW_QUEUE_URL", deployment.sqs.queue_url(SLOW))
            .env("COUNTERSIGN_WEBHOOK_ALLOW", "127.0.0.0/8")
            .env("COUNTERSIGN_RETRY_JITTER", "0")
            .envs(variables.iter().copied());
        Self::start(command).await
    }

    /// What is called with what the queues gave up.
    pub(crate) async fn dead_letters() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dead-letters"));
        command.env_clear();
        Self::start(command).await
    }

    async fn start(mut command: Command) -> Self {
        let runtime = Runtime::start().await.unwrap();
        let mut process = command
            .envs(runtime::variables(runtime.address(), "countersign-delivery"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stderr = process.stderr.take().unwrap();
        let (lines, log) = watch::channel(String::new());
        // Read as it is written: a full pipe would stop the process.
        tokio::spawn(async move {
            let mut bytes = [0; 8192];
            while let Ok(read @ 1..) = stderr.read(&mut bytes).await {
                lines.send_modify(|log| log.push_str(&String::from_utf8_lossy(&bytes[..read])));
            }
        });
        let metrics = Metrics::of(process.stdout.take().unwrap());
        Self { runtime, log, metrics, _process: process }
    }

    pub(crate) async fn invoke(&self, event: Value) -> Value {
        self.runtime.invoke(event, AMPLE).await.unwrap()
    }

    /// Hands over messages of a queue; which of them the queue is to bring again.
    pub(crate) async fn bring(&self, queue: &str, messages: &[(&str, &str)]) -> Vec<String> {
        let answer = self.invoke(Sqs::event(queue, messages)).await;
        let failures = answer["batchItemFailures"].as_array().unwrap();
        failures.iter().map(|failure| failure["itemIdentifier"].as_str().unwrap().to_owned()).collect()
    }

    /// Hands over word that the fast queue brings.
    pub(crate) async fn tell(&self, work: &[Work]) {
        for work in work {
            assert_eq!(self.bring(FAST, &[("m-1", &body(work))]).await, [""; 0]);
        }
    }

    /// Hands over what the worker has sent, by the queue that it was sent to, until it sends nothing more.
    pub(crate) async fn settle(&self, deployment: &Deployment) {
        loop {
            let sent = deployment.sqs.take();
            if sent.is_empty() {
                return;
            }
            for sent in sent {
                assert_eq!(sent.delay_seconds, 0, "nothing here is to wait");
                assert_eq!(self.bring(&sent.queue, &[("m-1", &sent.body)]).await, [""; 0]);
            }
        }
    }

    /// The next line of metrics that the function has written, or writes soon.
    pub(crate) async fn metrics(&mut self) -> Value {
        self.metrics.next(AMPLE).await.unwrap()
    }

    /// The log, once it says this.
    pub(crate) async fn logged(&self, text: &str) -> String {
        let mut log = self.log.clone();
        let said = tokio::time::timeout(AMPLE, log.wait_for(|log| log.contains(text))).await;
        let said = matches!(said, Ok(Ok(_)));
        let log = self.log.borrow().clone();
        assert!(said, "{text} is not in {log}");
        log
    }
}

pub(crate) fn body(work: &Work) -> String {
    serde_json::to_string(work).unwrap()
}
