//! The function as it is deployed: called by a schedule, it sends word of what is due, and does none of it itself.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use countersign_domain::remediation::{Propose, Remediation, RemediationId};
use countersign_domain::{Actor, Outcome, Tenant, Timestamp, Work, seconds};
use countersign_embedded::Engine;
use countersign_store::{CALL_BUDGET, Call, Clock, Key, Settings, Store};
use countersign_testing::aws::Conduct;
use countersign_testing::runtime::{self, Runtime};
use countersign_testing::secrets_manager::SecretsManager;
use countersign_testing::sqs::{Sent, Sqs};
use countersign_testing::wire::{self, Endpoint};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::Instant;

/// Work with the delay, in seconds, with which it was sent.
type Words = Vec<(Work, i64)>;

const TABLE: &str = "countersign-prod";
const QUEUE: &str = "countersign-delivery";
const ROOT_KEY: &str = "countersign/prod/root-key";

/// A table in which some remediations wait, what else AWS has around the function, and the function.
struct Deployment {
    engine: Engine,
    store: Store,
    dynamodb: Endpoint,
    secrets: SecretsManager,
    sqs: Sqs,
}

impl Deployment {
    async fn start() -> Self {
        let engine = Engine::memory().unwrap();
        let store = store(&engine, Clock::System);
        store.create_table().await.unwrap();
        let dynamodb = wire::serve(engine.clone()).await.unwrap();
        let secrets = SecretsManager::start().await.unwrap();
        secrets.set(ROOT_KEY, json!({ "current": BASE64_STANDARD.encode([7; 32]) }).to_string());
        let sqs = Sqs::start().await.unwrap();
        Self { engine, store, dynamodb, secrets, sqs }
    }

    /// A process of the function, called by the schedule once.
    async fn call(&self) {
        let runtime = Runtime::start().await.unwrap();
        let _process = Command::new(env!("CARGO_BIN_EXE_clock"))
            .env_clear()
            .envs(runtime::variables(runtime.address(), "countersign-clock"))
            .env("AWS_ENDPOINT_URL_DYNAMODB", self.dynamodb.url())
            .env("AWS_ENDPOINT_URL_SECRETS_MANAGER", self.secrets.url())
            .env("AWS_ENDPOINT_URL_SQS", self.sqs.url())
            .env("COUNTERSIGN_TABLE", TABLE)
            .env("COUNTERSIGN_ROOT_KEY_ID", ROOT_KEY)
            .env("COUNTERSIGN_QUEUE_URL", self.sqs.queue_url(QUEUE))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let event = json!({ "source": "aws.scheduler", "time": "2026-11-21T12:00:00Z" });
        assert_eq!(runtime.invoke(event, Duration::from_secs(60)).await, Ok(Value::Null));
    }

    /// Proposes a remediation `ago`, to be answered by the deadline that is `left` from now on.
    async fn propose(&self, number: u128, ago: i64, left: i64) -> Key<Remediation> {
        let then = Timestamp::now().saturating_sub(seconds(ago)).unwrap();
        let tenant: Tenant = "acme".parse().unwrap();
        let id = RemediationId::new(number);
        let key = Key::new(&tenant, id.as_str());
        let propose = Propose {
            id,
            tenant,
            incident_id: "inc-1".parse().unwrap(),
            incident_title: "Slow".to_owned(),
            title: "Restart".to_owned(),
            steps: vec!["Restart it".to_owned()],
            timeout_minutes: (ago + left) / 60,
            requires_approval: true,
        };
        let by = Actor::User { issuer: "test".to_owned(), subject: "alice".to_owned() };
        let call = Call { deadline: Instant::now() + CALL_BUDGET, once: None };
        let rule = |_: Option<&Remediation>, now| Ok(Outcome::Change(Remediation::propose(propose.clone(), &by, now)));
        let past = store(&self.engine, Clock::manual(then));
        past.change(&key, call, rule, |_| Ok(()), |()| Ok(String::new())).await.unwrap();
        key
    }

    async fn deadline_of(&self, key: &Key<Remediation>) -> Timestamp {
        self.store.load(key, Instant::now() + CALL_BUDGET).await.unwrap().unwrap().record.expires_at
    }

    async fn entries(&self, key: &Key<Remediation>) -> usize {
        let history = self.store.history(key, Instant::now() + CALL_BUDGET).await.unwrap();
        history.iter().map(|change| change.body.entries.len()).sum()
    }

    /// What is on its way to the worker about records, by their keys, and everything else; each with its delay.
    fn sent(&self) -> (Words, Words) {
        let read = |sent: Sent| {
            assert_eq!(sent.queue, QUEUE);
            (serde_json::from_str::<Work>(&sent.body).unwrap(), sent.delay_seconds)
        };
        let mut sent: Vec<_> = self.sqs.take().into_iter().map(read).collect();
        sent.sort_by(|(one, _), (other, _)| one.key.cmp(&other.key));
        sent.into_iter().partition(|(work, _)| work.change.is_none())
    }
}

fn store(engine: &Engine, clock: Clock) -> Store {
    let fan_out_after = Duration::from_secs(30);
    Store::embedded(engine.http_client(), Settings { table: TABLE.to_owned(), clock, fan_out_after })
}

/// How many whole seconds are left until then, never too few.
fn left(from: Timestamp, until: Timestamp) -> i64 {
    let left = until.duration_since(from);
    (left.as_secs() + i64::from(left.subsec_nanos() > 0)).max(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn word_is_sent_of_what_is_due_before_the_schedule_calls_again_to_arrive_when_it_is() {
    let deployment = Deployment::start().await;
    let overdue = deployment.propose(1, 3600, -1800).await;
    let soon = deployment.propose(2, 3560, 40).await;
    let later = deployment.propose(3, 3600, 3600).await;
    let before = Timestamp::now();
    deployment.call().await;
    let (records, changes) = deployment.sent();
    let keys: Vec<_> = records.iter().map(|(work, _)| work.key.as_str()).collect();
    assert_eq!(keys, [overdue.as_str(), soon.as_str()]);
    assert_eq!((records[0].0.at, records[0].1), (deployment.deadline_of(&overdue).await, 0));
    let (word, delay) = &records[1];
    assert_eq!(word.at, deployment.deadline_of(&soon).await);
    let possible = left(Timestamp::now(), word.at)..=left(before, word.at);
    assert!(possible.contains(delay), "{delay} s are not left, {possible:?} were");
    // Nobody was told of the proposals yet, either.
    let told: Vec<_> = changes.iter().map(|(work, delay)| (work.key.as_str(), work.change, *delay)).collect();
    assert_eq!(told, [&overdue, &soon, &later].map(|key| (key.as_str(), Some(1), 0)));
    for key in [&overdue, &soon, &later] {
        assert_eq!(deployment.entries(key).await, 1, "the clock does no work itself");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_overlapping_calls_one_sends_word() {
    let deployment = Deployment::start().await;
    for number in 1..=60 {
        deployment.propose(number, 3600, -1800).await;
    }
    // Each is due twice, as a deadline and as a change; what was moved on is not due again before a minute has passed.
    let call = || deployment.call();
    tokio::join!(call(), call(), call());
    let (records, changes) = deployment.sent();
    for sent in [records, changes] {
        let at_once: Vec<_> = sent.iter().filter(|(_, delay)| *delay == 0).map(|(work, _)| &work.key).collect();
        let mut once = at_once.clone();
        once.dedup();
        assert_eq!((at_once.len(), once.len()), (60, 60));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_queue_did_not_take_is_sent_when_the_schedule_calls_again() {
    for conduct in [Conduct::Fails, Conduct::Refuses, Conduct::Hangs] {
        let deployment = Deployment::start().await;
        let overdue = deployment.propose(1, 3600, -1800).await;
        deployment.sqs.conduct(conduct);
        deployment.call().await;
        assert_eq!(deployment.sent(), (vec![], vec![]), "{conduct:?}");
        deployment.sqs.conduct(Conduct::Works);
        deployment.call().await;
        let (records, changes) = deployment.sent();
        for sent in [records, changes] {
            let keys: Vec<_> = sent.iter().map(|(work, _)| work.key.as_str()).collect();
            assert_eq!(keys, [overdue.as_str()], "{conduct:?}");
        }
    }
}
