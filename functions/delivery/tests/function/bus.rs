//! The operator's event bus hears of remediations and of nothing else, by the same record, log and schedule.

use crate::deployment::{Deployment, Function};
use crate::records::{approve, attempts, case, deliveries, propose};
use countersign_testing::aws::Conduct;
use countersign_testing::receiver::Receiver;
use serde_json::{Value, json};

const BUS: (&str, &str) = ("COUNTERSIGN_EVENT_BUS", "operations");

#[tokio::test]
async fn remediations_reach_the_bus_as_documented_and_nothing_else_does() {
    let deployment = Deployment::start().await;
    let receiver = Receiver::start().await;
    deployment.subscribe(1, &receiver.url("/")).await;
    let function = Function::worker(&deployment, &[BUS]).await;
    for word in [case(&deployment.store, 1).await, propose(&deployment.store, 1).await] {
        function.tell(&word).await;
    }
    function.tell(&approve(&deployment.store, 1).await).await;
    let entries = deployment.bus.entries();
    let names: Vec<_> = entries.iter().map(|entry| entry["DetailType"].as_str().unwrap()).collect();
    assert_eq!(names, ["remediation.proposed", "remediation.approved"]);
    for entry in &entries {
        assert_eq!(
            (&entry["EventBusName"], &entry["Source"]),
            (&"operations".into(), &"countersign.remediation".into())
        );
    }
    let detail: Value = serde_json::from_str(entries[1]["Detail"].as_str().unwrap()).unwrap();
    let documented = json!({
        "event": "remediation.approved",
        "timestamp": detail["data"]["decidedAt"],
        "tenantId": "acme",
        "data": {
            "approvalId": "apr_00000000000000000000000001",
            "remediationId": "rem_00000000000000000000000001",
            "incidentId": "inc-1",
            "decision": "approve",
            "decidedBy": "alice",
            "decidedAt": detail["data"]["decidedAt"],
            "notes": "go",
        },
    });
    assert_eq!(detail, documented);
    // Endpoints get the same envelope, byte for byte.
    let received = receiver.wait_for(3).await;
    let bodies: Vec<_> = received.iter().map(|received| String::from_utf8_lossy(&received.body).into_owned()).collect();
    assert!(entries.iter().all(|entry| bodies.iter().any(|body| entry["Detail"] == *body)), "{bodies:?}");
    assert_eq!(
        deliveries(&deployment.store).await.iter().map(|one| one.status()).collect::<Vec<_>>(),
        ["delivered"; 5]
    );
}

#[tokio::test]
async fn a_bus_that_does_not_take_an_event_is_tried_again_until_it_does() {
    for (conduct, why) in [
        (Conduct::Refuses, "the event bus refuses: ThrottlingException"),
        (Conduct::Fails, "the event bus refuses: InternalException"),
        (Conduct::Hangs, "the event bus did not answer in time"),
    ] {
        let deployment = Deployment::start().await;
        deployment.bus.conduct(conduct);
        let variables = [BUS, ("COUNTERSIGN_WEBHOOK_TIMEOUT", "1s"), ("COUNTERSIGN_RETRY_DELAYS", "0s,0s")];
        let function = Function::worker(&deployment, &variables).await;
        function.tell(&propose(&deployment.store, 1).await).await;
        assert_eq!(deployment.bus.entries().len(), 1, "the SDK does not try again by itself");
        deployment.bus.conduct(Conduct::Works);
        function.settle(&deployment).await;
        let [delivery] = &deliveries(&deployment.store).await[..] else { unreachable!("one event") };
        assert_eq!((delivery.status(), delivery.attempts()), ("delivered", 2), "{conduct:?}");
        let attempts = attempts(&deployment.store, delivery).await;
        assert_eq!((&attempts[0]["error"], &attempts[0]["status_code"]), (&why.into(), &Value::Null));
        assert_eq!((&attempts[1]["error"], &attempts[1]["status_code"]), (&Value::Null, &200.into()));
        let entries = deployment.bus.entries();
        assert_eq!((entries.len(), &entries[0]["Detail"]), (2, &entries[1]["Detail"]));
    }
}

#[tokio::test]
async fn a_bus_that_never_takes_an_event_exhausts_its_delivery_and_endpoints_hear_of_that() {
    let deployment = Deployment::start().await;
    let receiver = Receiver::start().await;
    deployment.subscribe(1, &receiver.url("/")).await;
    deployment.bus.conduct(Conduct::Refuses);
    let function = Function::worker(&deployment, &[BUS, ("COUNTERSIGN_RETRY_DELAYS", "0s")]).await;
    function.tell(&propose(&deployment.store, 1).await).await;
    function.settle(&deployment).await;
    let log = function.logged("delivery exhausted").await;
    let deliveries = deliveries(&deployment.store).await;
    let exhausted: Vec<_> = deliveries.iter().filter(|delivery| delivery.status() == "exhausted").collect();
    assert_eq!((exhausted.len(), exhausted[0].attempts(), deployment.bus.entries().len()), (1, 2, 2));
    assert!(log.contains(exhausted[0].id.as_str()), "{log}");
    let received = receiver.wait_for(2).await;
    let heard = received.iter().map(|received| received.json()).find(|body| body["event_type"] == "delivery.exhausted");
    assert_eq!(heard.unwrap()["data"]["delivery_id"], exhausted[0].id.as_str());
}

#[tokio::test]
async fn without_a_bus_nothing_is_put_on_one() {
    let deployment = Deployment::start().await;
    let function = Function::worker(&deployment, &[]).await;
    function.tell(&propose(&deployment.store, 1).await).await;
    assert_eq!((deployment.bus.entries().len(), deliveries(&deployment.store).await.len()), (0, 0));
}
