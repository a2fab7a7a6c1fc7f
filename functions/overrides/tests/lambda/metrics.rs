//! What CloudWatch makes metrics of: a line at the end of each call that counts something.

use crate::events::{self, Request};
use crate::function::{Deployment, Function};
use serde_json::{Value, json};
use uuid::Uuid;

/// Namespace, dimensions and metrics of a line, as CloudWatch reads them.
fn read(line: &Value) -> (Value, Value, Value) {
    let directive = &line["_aws"]["CloudWatchMetrics"][0];
    assert!(line["_aws"]["Timestamp"].as_i64().is_some_and(|at| at > 1_700_000_000_000), "{line}");
    let names = |list: &Value| list.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    let dimensions: Vec<String> = names(&directive["Dimensions"][0]);
    let dimensions = dimensions.iter().map(|name| (name.clone(), line[name].clone())).collect();
    let metrics = directive["Metrics"].as_array().unwrap().iter().map(|metric| {
        let name = metric["Name"].as_str().unwrap();
        (name.to_owned(), line[name].clone())
    });
    (directive["Namespace"].clone(), Value::Object(dimensions), Value::Object(metrics.collect()))
}

#[tokio::test]
async fn each_call_ends_with_what_became_of_its_decision() {
    let deployment = Deployment::start().await;
    let mut function = Function::start(&deployment).await;
    let customer = Uuid::new_v4();
    let body = json!({ "customer_id": customer, "event_id": "evt-1" });
    let minted = function.invoke(events::rest(&Request::new("POST", "/tokens/override").json(&body), false)).await;
    assert_eq!(minted.status, 201, "{minted:?}");
    let decided = |outcome: &str| {
        let dimensions = json!({ "deployment": "prod", "kind": "override", "outcome": outcome });
        (json!("countersign"), dimensions, json!({ "Decisions": 1 }))
    };
    assert_eq!(read(&function.metrics().await), decided("done"));
    let decision = json!({ "override_jti": minted.json()["jti"], "customer_id": customer, "decision": "approve" });
    let decide = Request::new("POST", "/overrides/evt-1/decide").json(&decision);
    for (status, outcome) in [(200, "done"), (409, "refused")] {
        let answer = function.invoke(events::rest(&decide, false)).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(read(&function.metrics().await), decided(outcome));
    }
    // A call that counts nothing writes nothing: the next line is of the call after it.
    let health = function.invoke(events::rest(&Request::new("GET", "/health"), false)).await;
    assert_eq!(health.status, 200);
    function.invoke(events::rest(&decide, false)).await;
    assert_eq!(read(&function.metrics().await), decided("refused"));
}
