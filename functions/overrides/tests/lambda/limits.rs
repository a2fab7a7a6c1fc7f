//! What ends before it hangs: a start without its variables, and a call whose time is over.

use crate::door::Answer;
use crate::events::{self, Request};
use crate::function::{AMPLE, Deployment, Function, bootstrap};
use countersign_testing::runtime::Runtime;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::time::timeout;
use uuid::Uuid;

#[tokio::test]
async fn without_a_variable_the_process_ends_and_names_it() {
    let deployment = Deployment::start().await;
    let runtime = Runtime::start().await.unwrap();
    for variable in
        ["COUNTERSIGN_TABLE", "COUNTERSIGN_OVERRIDE_SECRET_ID", "COUNTERSIGN_ROOT_KEY_ID", "COUNTERSIGN_QUEUE_URL"]
    {
        let mut command = bootstrap(runtime.address(), &deployment.dynamodb.url(), &deployment);
        let process = command.env_remove(variable).spawn().unwrap();
        let ended = timeout(Duration::from_secs(60), process.wait_with_output()).await.unwrap().unwrap();
        let log = String::from_utf8_lossy(&ended.stderr);
        assert!(!ended.status.success());
        assert!(log.contains(variable), "{log}");
    }
}

#[tokio::test]
async fn when_the_time_is_nearly_over_a_call_is_given_up_in_time() {
    let deployment = Deployment::start().await;
    // Connections are taken by the system; nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let mut function = Function::start_with(&url, &deployment).await;
    let body = json!({ "override_jti": Uuid::new_v4(), "customer_id": Uuid::new_v4(), "decision": "approve" });
    let decide = Request::new("POST", "/overrides/evt-1/decide").json(&body);
    let mint = json!({ "customer_id": Uuid::new_v4(), "event_id": "evt-1" });
    let mint = Request::new("POST", "/tokens/override").json(&mint);
    for time in [2100, 1500, 3000].map(Duration::from_millis) {
        for request in [&decide, &mint] {
            assert_given_up(&function.try_invoke(events::rest(request, false), time).await.unwrap());
        }
    }
    // Nor does it wait for as long as Lambda would.
    let started = Instant::now();
    assert_given_up(&function.try_invoke(events::rest(&decide, false), AMPLE).await.unwrap());
    assert!(started.elapsed() < AMPLE / 2);
    let health = function.invoke(events::rest(&Request::new("GET", "/health"), false)).await;
    assert_eq!((health.status, health.json()["status"].clone()), (503, "unhealthy".into()));
    assert!(function.is_running());
}

fn assert_given_up(answer: &Value) {
    let answer = Answer::of_function(answer);
    assert_eq!(answer.refusal(), (503, "unavailable".to_owned()), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"));
}
