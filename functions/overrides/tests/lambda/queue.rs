//! The worker is told of a decision before the caller is, and no queue stands in the caller's way.

use crate::events::{self, Request};
use crate::function::{Deployment, Function};
use countersign_testing::aws::Conduct;
use serde_json::{Value, json};
use uuid::Uuid;

#[tokio::test]
async fn the_worker_is_told_of_every_decision_and_no_queue_keeps_a_caller_from_one() {
    let deployment = Deployment::start().await;
    let function = Function::start(&deployment).await;
    for (conduct, told) in [(Conduct::Works, 1), (Conduct::Refuses, 0), (Conduct::Fails, 0), (Conduct::Hangs, 0)] {
        deployment.sqs.conduct(conduct);
        let customer = Uuid::new_v4();
        let body = json!({ "customer_id": customer, "event_id": "evt-1" });
        let answer = function.invoke(events::rest(&Request::new("POST", "/tokens/override").json(&body), false)).await;
        assert_eq!(answer.status, 201, "{conduct:?}: {answer:?}");
        let jti = answer.json()["jti"].as_str().unwrap().to_owned();
        let sent = deployment.sqs.take();
        assert_eq!(sent.len(), told, "{conduct:?}: {sent:?}");
        for sent in sent {
            let word: Value = serde_json::from_str(&sent.body).unwrap();
            assert_eq!((sent.queue.as_str(), sent.delay_seconds), ("countersign-delivery", 0));
            assert_eq!(word["key"], format!("override#{customer}#{jti}"));
            assert_eq!(word["change"], 1);
        }
        assert!(!function.log().contains(&jti), "whoever knows it can decide");
    }
}
