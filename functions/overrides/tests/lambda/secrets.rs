//! The secrets: read once and kept, and never in the way of a token when they cannot be had.

use crate::door::Answer;
use crate::events::{self, Request};
use crate::function::{Deployment, Function, OVERRIDE_SECRET, ROOT_KEY, SECRET, root_key};
use serde_json::json;
use uuid::Uuid;

struct Token {
    customer: Uuid,
    jti: String,
}

async fn try_mint(function: &Function, customer: Uuid) -> Answer {
    let body = json!({ "customer_id": customer, "event_id": "evt-1" });
    function.invoke(events::rest(&Request::new("POST", "/tokens/override").json(&body), false)).await
}

async fn mint(function: &Function) -> Token {
    let customer = Uuid::new_v4();
    let answer = try_mint(function, customer).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    Token { customer, jti: answer.json()["jti"].as_str().unwrap().to_owned() }
}

async fn decide(function: &Function, token: &Token) -> Answer {
    let body = json!({ "override_jti": token.jti, "customer_id": token.customer, "decision": "approve" });
    function.invoke(events::rest(&Request::new("POST", "/overrides/evt-1/decide").json(&body), false)).await
}

fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.refusal(), (503, "unavailable".to_owned()), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn two_decisions_read_each_secret_once() {
    let deployment = Deployment::start().await;
    let function = Function::start(&deployment).await;
    for _ in 0..2 {
        let token = mint(&function).await;
        assert_eq!(decide(&function, &token).await.status, 200);
    }
    let reads = [OVERRIDE_SECRET, ROOT_KEY].map(|secret| deployment.secrets.reads(secret));
    assert_eq!(reads, [1, 1]);
}

#[tokio::test]
async fn a_decision_without_the_secret_leaves_the_token_usable() {
    let deployment = Deployment::start().await;
    let token = mint(&Function::start(&deployment).await).await;

    let cold = Function::start(&deployment).await;
    deployment.secrets.fail(true);
    assert_unavailable(&decide(&cold, &token).await);
    assert_unavailable(&try_mint(&cold, Uuid::new_v4()).await);
    deployment.secrets.fail(false);
    assert_eq!(decide(&cold, &token).await.status, 200);

    // Once it is known it is used, whatever becomes of Secrets Manager.
    let another = mint(&cold).await;
    deployment.secrets.fail(true);
    assert_eq!(decide(&cold, &another).await.status, 200);
}

#[tokio::test]
async fn a_malformed_secret_counts_as_none_and_is_not_logged() {
    let deployment = Deployment::start().await;
    let token = mint(&Function::start(&deployment).await).await;

    let cold = Function::start(&deployment).await;
    for text in ["", SECRET, "{}", r#"{"current":""}"#, r#"{"current":7}"#, r#"{"current":"a","previous":""}"#] {
        deployment.secrets.set(OVERRIDE_SECRET, text);
        assert_unavailable(&decide(&cold, &token).await);
    }
    for text in [r#"{"current":"c2hvcnQ="}"#, r#"{"current":"!"}"#] {
        deployment.secrets.set(ROOT_KEY, text);
        assert_unavailable(&try_mint(&cold, Uuid::new_v4()).await);
    }
    assert!(cold.log().contains(OVERRIDE_SECRET) && cold.log().contains(ROOT_KEY), "the log says which secret it is");
    assert!(!cold.log().contains(SECRET) && !cold.log().contains("c2hvcnQ="), "and not what it is");

    deployment.secrets.set(OVERRIDE_SECRET, json!({ "current": SECRET }).to_string());
    deployment.secrets.set(ROOT_KEY, root_key());
    assert_eq!(decide(&cold, &token).await.status, 200);
    mint(&cold).await;
}
