//! Who is recorded: the principal that IAM proved, and the network where nobody asked.

use crate::events::{self, PRINCIPAL, Request};
use crate::function::{Deployment, Function};
use countersign_domain::override_token::OverrideToken;
use countersign_domain::{Actor, Tenant};
use countersign_store::Key;
use serde_json::{Value, json};
use uuid::Uuid;

type Event = fn(&Request) -> Value;

/// Mints, decides one token and revokes another; who did it, by the audit log.
async fn recorded(deployment: &Deployment, function: &Function, event: Event) -> Vec<String> {
    let customer = Uuid::new_v4();
    let mut principals = Vec::new();
    for end in ["decide", "revoke"] {
        let mint = json!({ "customer_id": customer, "event_id": "evt-1" });
        let mint = Request::new("POST", "/tokens/override").json(&mint);
        let jti = function.invoke(event(&mint)).await.json()["jti"].as_str().unwrap().to_owned();
        let request = if end == "decide" {
            let body = json!({ "override_jti": jti, "customer_id": customer, "decision": "approve" });
            Request::new("POST", "/overrides/evt-1/decide").json(&body)
        } else {
            Request::new("DELETE", format!("/tokens/{jti}")).query("customer_id", customer)
        };
        let answer = function.invoke(event(&request)).await;
        assert!((200..300).contains(&answer.status), "{answer:?}");

        let key = Key::<OverrideToken>::new(&Tenant::from(customer), &jti);
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
        let history = deployment.store.history(&key, deadline).await.unwrap();
        assert_eq!(history.len(), 2);
        principals.extend(history.into_iter().flat_map(|change| change.body.entries).map(|entry| match entry.actor {
            Actor::Operator { principal } => principal,
            actor @ (Actor::User { .. } | Actor::Key { .. } | Actor::Clock) => panic!("{actor}"),
        }));
    }
    principals
}

#[tokio::test]
async fn the_iam_principal_is_recorded_for_everything_that_it_did() {
    let deployment = Deployment::start().await;
    let function = Function::start(&deployment).await;
    let ways: [Event; 3] = [
        |request| events::rest(request, false),
        |request| events::http(request, "$default", false),
        // Nothing that a caller writes makes it another.
        |request| events::rest(&request.clone().header("X-Amzn-Iam-User-Arn", "arn:aws:iam::1:user/root"), false),
    ];
    for event in ways {
        assert_eq!(recorded(&deployment, &function, event).await, [PRINCIPAL; 4]);
    }
}

#[tokio::test]
async fn where_nobody_asked_for_a_principal_the_network_is_recorded() {
    let deployment = Deployment::start().await;
    let function = Function::start(&deployment).await;
    let ways: [Event; 4] = [
        |request| {
            let mut event = events::rest(request, false);
            for unknown in ["userArn", "caller", "user", "accessKey", "accountId", "principalOrgId"] {
                event["requestContext"]["identity"][unknown] = Value::Null;
            }
            event
        },
        |request| {
            let mut event = events::rest(request, false);
            event["requestContext"].as_object_mut().unwrap().remove("identity");
            event
        },
        |request| {
            let mut event = events::http(request, "$default", false);
            event["requestContext"].as_object_mut().unwrap().remove("authorizer");
            event
        },
        |request| {
            let mut event = events::http(request, "prod", false);
            event["requestContext"]["authorizer"] = json!({ "lambda": { "userArn": "arn:aws:iam::1:user/root" } });
            event
        },
    ];
    for event in ways {
        assert_eq!(recorded(&deployment, &function, event).await, ["network"; 4]);
    }
}
