//! The local runner with the table, the queues and the bus of an emulator of AWS, each made as for a deployment.

use crate::records::{acme, case, deliveries, propose, subscribe};
use countersign::{Runner, Table};
use countersign_api::config::Local;
use countersign_store::Clock;
use countersign_testing::receiver::{Receiver, Reply};
use reqwest::Client;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// The emulator, by its JSON protocols.
struct Emulator {
    client: Client,
    url: String,
    /// What tells the names of one run from those of another.
    run: String,
}

impl Emulator {
    fn named() -> Self {
        let url = std::env::var("AWS_ENDPOINT_URL").unwrap();
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        Self { client, url, run: uuid::Uuid::new_v4().to_string() }
    }

    async fn call(&self, target: &str, body: &Value) -> Value {
        let version = if target.starts_with("AWSEvents") { "1.1" } else { "1.0" };
        let request = self.client.post(&self.url).header("x-amz-target", target).body(body.to_string());
        // Which service is called stands in the signature as well, which nobody verifies here.
        let service = if target.starts_with("AWSEvents") { "events" } else { "sqs" };
        let service = if target.starts_with("DynamoDB") { "dynamodb" } else { service };
        let credential = format!("AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/{service}/aws4_request");
        let request = request.header("authorization", credential);
        let answer = request.header("content-type", format!("application/x-amz-json-{version}")).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{target}: {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// A queue's URL and ARN.
    async fn queue(&self, name: &str, attributes: &Value) -> (String, String) {
        let create = json!({ "QueueName": format!("{name}-{}", self.run), "Attributes": attributes });
        let url = self.call("AmazonSQS.CreateQueue", &create).await["QueueUrl"].as_str().unwrap().to_owned();
        let get = json!({ "QueueUrl": url, "AttributeNames": ["QueueArn"] });
        let arn = self.call("AmazonSQS.GetQueueAttributes", &get).await["Attributes"]["QueueArn"].clone();
        (url, arn.as_str().unwrap().to_owned())
    }

    /// The body of the next message of a queue.
    async fn receive(&self, url: &str) -> String {
        let receive = json!({ "QueueUrl": url, "WaitTimeSeconds": 5 });
        for _ in 0..12 {
            let received = self.call("AmazonSQS.ReceiveMessage", &receive).await;
            if let Some(body) = received["Messages"][0]["Body"].as_str() {
                return body.to_owned();
            }
        }
        unreachable!("nothing came in a minute")
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs ministack where AWS_ENDPOINT_URL says; .ci/run starts it"]
async fn events_arrive_by_way_of_sqs_and_eventbridge_and_what_cannot_be_read_is_given_up() {
    let aws = Emulator::named();
    let table = format!("countersign-{}", aws.run);
    let mut definition: Value = serde_json::from_str(include_str!("../../../../infra/table.json")).unwrap();
    definition["TableName"] = table.as_str().into();
    aws.call("DynamoDB_20120810.CreateTable", &definition).await;
    let (dead, dead_arn) = aws.queue("dead", &json!({})).await;
    let redrive = json!({ "deadLetterTargetArn": dead_arn, "maxReceiveCount": 2 }).to_string();
    let attributes = json!({ "VisibilityTimeout": "1", "RedrivePolicy": redrive });
    let (fast, _) = aws.queue("fast", &attributes).await;
    let (slow, _) = aws.queue("slow", &attributes).await;
    let (heard, heard_arn) = aws.queue("heard", &json!({})).await;
    let bus = format!("operations-{}", aws.run);
    aws.call("AWSEvents.CreateEventBus", &json!({ "Name": bus })).await;
    let pattern = json!({ "source": ["countersign.remediation"] }).to_string();
    let rule = json!({ "Name": "heard", "EventBusName": bus, "EventPattern": pattern });
    aws.call("AWSEvents.PutRule", &rule).await;
    let targets = json!({ "Rule": "heard", "EventBusName": bus, "Targets": [{ "Id": "1", "Arn": heard_arn }] });
    aws.call("AWSEvents.PutTargets", &targets).await;

    let data = tempfile::tempdir().unwrap();
    let variables = [
        ("COUNTERSIGN_LISTEN", "127.0.0.1:0"),
        ("COUNTERSIGN_MANAGEMENT_LISTEN", "127.0.0.1:0"),
        ("COUNTERSIGN_DATA", data.path().to_str().unwrap()),
        ("COUNTERSIGN_TABLE", table.as_str()),
        ("COUNTERSIGN_QUEUE_URL", fast.as_str()),
        ("COUNTERSIGN_SLOW_QUEUE_URL", slow.as_str()),
        ("COUNTERSIGN_EVENT_BUS", bus.as_str()),
        ("COUNTERSIGN_RETRY_DELAYS", "1s,1s"),
    ];
    let variable = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into());
    let config = Local::read(variable).unwrap();
    let table = Table::configured(&config, &Clock::System, false).await.unwrap();
    let runner = Runner::start(&config, Clock::System, table).await.unwrap();
    let app = runner.app().clone();
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(runner.run(stopped));

    let receiver = Receiver::start().await;
    let asked = AtomicUsize::new(0);
    receiver.answer(move |_| Reply::status(if asked.fetch_add(1, Ordering::Relaxed) == 0 { 500 } else { 200 }));
    subscribe(&app.store, &app.secrets.sealer().await.unwrap(), 1, &receiver.url("/")).await;
    app.tell(&case(&app.store, 1).await).await;
    let received = receiver.wait_for(2).await;
    assert_eq!((received[0].event_id(), &received[0].body), (received[1].event_id(), &received[1].body));

    aws.call("AmazonSQS.SendMessage", &json!({ "QueueUrl": fast, "MessageBody": "{" })).await;
    assert_eq!(aws.receive(&dead).await, "{");

    app.tell(&propose(&app.store, 1).await).await;
    let put: Value = serde_json::from_str(&aws.receive(&heard).await).unwrap();
    assert_eq!(
        (&put["source"], &put["detail-type"]),
        (&"countersign.remediation".into(), &"remediation.proposed".into())
    );
    assert_eq!((&put["detail"]["event"], &put["detail"]["tenantId"]), (&"remediation.proposed".into(), &json!(acme())));
    receiver.wait_for(3).await;
    assert_eq!(deliveries(&app.store).await.len(), 3, "two for the endpoint, one for the bus");
}
