//! The operator's event bus, from a laptop: the command with an embedded table and a bus where the SDK is told.

use crate::process::{Process, countersign, text};
use crate::server::send;
use countersign_testing::aws::Conduct;
use countersign_testing::event_bus::EventBus;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_remediation_that_is_approved_here_reaches_the_bus_although_not_at_once() {
    let bus = EventBus::start().await.unwrap();
    bus.conduct(Conduct::Refuses);
    let data = tempfile::tempdir().unwrap();
    let url = bus.url();
    let variables = [
        ("COUNTERSIGN_EVENT_BUS", "operations"),
        ("COUNTERSIGN_RETRY_DELAYS", "1s,1s,1s"),
        ("AWS_ENDPOINT_URL_EVENTBRIDGE", url.as_str()),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ];
    let process = Process::with(data.path(), &variables);
    let token = ["token", "--tenant", "acme", "--subject", "42", "--role", "admin"];
    let (token, _) = text(&countersign(data.path(), &token).output().unwrap());
    let post = |path: &str, body: Value| {
        send(process.client.post(format!("{}{path}", process.public)).bearer_auth(token.trim()).json(&body))
    };
    let proposed = json!({ "incidentTitle": "Slow", "title": "Restart", "steps": [{ "description": "Restart it" }] });
    let proposed = post("/v1/remediation", proposed).await;
    assert_eq!(proposed.status, 201, "{proposed:?}");
    let id = proposed.json()["remediationId"].as_str().unwrap().to_owned();
    bus.wait_for(1).await;
    bus.conduct(Conduct::Works);
    bus.wait_for(2).await;
    let approved = post(&format!("/v1/remediation/{id}/approve"), json!({ "notes": "go" })).await;
    assert_eq!(approved.status, 200, "{approved:?}");
    let entries = bus.wait_for(3).await;
    let names: Vec<_> = entries.iter().map(|entry| entry["DetailType"].as_str().unwrap()).collect();
    assert_eq!(names, ["remediation.proposed", "remediation.proposed", "remediation.approved"]);
    let detail: Value = serde_json::from_str(entries[2]["Detail"].as_str().unwrap()).unwrap();
    assert_eq!((&detail["tenantId"], &detail["data"]["remediationId"]), (&"acme".into(), &json!(id)));
    assert_eq!(
        (&entries[2]["EventBusName"], &entries[2]["Source"]),
        (&"operations".into(), &"countersign.remediation".into())
    );
}
