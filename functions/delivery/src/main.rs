//! The worker as a Lambda function behind both queues.

use countersign_api::lambda::{self, Need};
use countersign_approvers::Workflow;
use countersign_delivery::{Bus, Worker};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda::Error> {
    let function = lambda::start(&[Need::SlowQueue]).await?;
    let webhooks = function.config.config.webhooks.clone();
    let bus = webhooks.event_bus.map(|name| Bus::new(&function.sdk, name));
    let workflow = Workflow::of(&function)?;
    let worker = Worker::new(function.app.clone(), webhooks.schedule, bus, workflow);
    lambda::on_queues(&function, |lane, work| {
        let worker = worker.clone();
        async move { worker.handle(lane, &work).await }
    })
    .await
}
