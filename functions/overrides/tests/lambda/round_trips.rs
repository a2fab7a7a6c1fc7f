//! What a warm call costs: the two round trips of the decision, and the one that tells the worker.

use crate::events::{self, Request};
use crate::function::{Deployment, Function, OVERRIDE_SECRET, ROOT_KEY};
use serde_json::json;
use uuid::Uuid;

#[tokio::test]
async fn a_warm_decision_is_one_read_one_transaction_and_one_message() {
    let deployment = Deployment::start().await;
    let function = Function::start(&deployment).await;
    for call in ["cold", "warm"] {
        let customer = Uuid::new_v4();
        let body = json!({ "customer_id": customer, "event_id": "evt-1" });
        let minted = function.invoke(events::rest(&Request::new("POST", "/tokens/override").json(&body), false)).await;
        let decision = json!({ "override_jti": minted.json()["jti"], "customer_id": customer, "decision": "approve" });
        let before = (deployment.secrets.reads(OVERRIDE_SECRET), deployment.secrets.reads(ROOT_KEY));
        drop(deployment.sqs.take());
        drop(deployment.asked.take_calls());

        let decide = Request::new("POST", "/overrides/evt-1/decide").json(&decision);
        assert_eq!(function.invoke(events::rest(&decide, false)).await.status, 200);
        if call == "warm" {
            let asked: Vec<_> = deployment.asked.take_calls().into_iter().map(|call| call.operation).collect();
            assert_eq!(asked, ["GetItem", "TransactWriteItems"]);
            assert_eq!(deployment.sqs.take().len(), 1);
            let after = (deployment.secrets.reads(OVERRIDE_SECRET), deployment.secrets.reads(ROOT_KEY));
            assert_eq!(after, before, "secrets are kept from call to call");
        }
    }
}
