//! The function as it is deployed: called by a schedule, it lets deadlines pass that nobody called for.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use countersign_domain::remediation::{Propose, Remediation, RemediationId, Status};
use countersign_domain::{Actor, Outcome, Tenant, Timestamp, seconds};
use countersign_embedded::Engine;
use countersign_store::{CALL_BUDGET, Call, Clock, Key, Settings, Store};
use countersign_testing::runtime::Runtime;
use countersign_testing::secrets_manager::SecretsManager;
use countersign_testing::wire;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::Instant;

const TABLE: &str = "countersign-prod";
const ROOT_KEY: &str = "countersign/prod/root-key";

fn store(engine: &Engine, clock: Clock) -> Store {
    let fan_out_after = Duration::from_secs(30);
    Store::embedded(engine.http_client(), Settings { table: TABLE.to_owned(), clock, fan_out_after })
}

fn function(runtime: &Runtime, dynamodb: &str, secrets: &SecretsManager) -> Child {
    Command::new(env!("CARGO_BIN_EXE_clock"))
        .env_clear()
        .env("AWS_LAMBDA_RUNTIME_API", runtime.address().to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", "countersign-clock")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_ACCESS_KEY_ID", "ASIAXMPLEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "not-a-key")
        .env("AWS_ENDPOINT_URL_DYNAMODB", dynamodb)
        .env("AWS_ENDPOINT_URL_SECRETS_MANAGER", secrets.url())
        .env("COUNTERSIGN_TABLE", TABLE)
        .env("COUNTERSIGN_ROOT_KEY_ID", ROOT_KEY)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Proposes a remediation that waits for `minutes` from the moment on at which the store's clock stands.
async fn propose(store: &Store, number: u128, minutes: i64) -> Key<Remediation> {
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
        timeout_minutes: minutes,
        requires_approval: true,
    };
    let by = Actor::User { issuer: "test".to_owned(), subject: "alice".to_owned() };
    let call = Call { deadline: Instant::now() + CALL_BUDGET, once: None };
    let rule = |_: Option<&Remediation>, now| Ok(Outcome::Change(Remediation::propose(propose.clone(), &by, now)));
    store.change(&key, call, rule, |_| Ok(()), |()| Ok(String::new())).await.unwrap();
    key
}

async fn entries(store: &Store, key: &Key<Remediation>) -> Vec<String> {
    let history = store.history(key, Instant::now() + CALL_BUDGET).await.unwrap();
    history.into_iter().flat_map(|change| change.body.entries).map(|entry| entry.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_passes_when_the_schedule_calls() {
    let engine = Engine::memory().unwrap();
    let now = Timestamp::now();
    // Proposed an hour ago, one for half an hour and one for two.
    let past = store(&engine, Clock::manual(now.saturating_sub(seconds(3600)).unwrap()));
    past.create_table().await.unwrap();
    let overdue = propose(&past, 1, 30).await;
    let waiting = propose(&past, 2, 120).await;
    let store = store(&engine, Clock::System);

    let secrets = SecretsManager::start().await.unwrap();
    secrets.set(ROOT_KEY, json!({ "current": BASE64_STANDARD.encode([7; 32]) }).to_string());
    let dynamodb = wire::serve(engine).await.unwrap();
    let runtime = Runtime::start().await.unwrap();
    let _function = function(&runtime, &dynamodb.url(), &secrets);
    for _ in 0..2 {
        let event = json!({ "source": "aws.scheduler", "time": "2026-11-21T12:00:00Z" });
        let answer = runtime.invoke(event, Duration::from_secs(60)).await;
        assert_eq!(answer, Ok(Value::Null));
        assert_eq!(entries(&store, &overdue).await, ["remediation.proposed", "remediation.expired"]);
        assert_eq!(entries(&store, &waiting).await, ["remediation.proposed"]);
    }
    let expired = store.load(&overdue, Instant::now() + CALL_BUDGET).await.unwrap().unwrap().record;
    assert_eq!(expired.status(now), Status::Expired);
}
