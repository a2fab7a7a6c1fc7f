//! The workflow door as a Lambda function.

use countersign_api::Plane;
use countersign_api::lambda::{self, Need};
use countersign_approvers::Workflow;
use countersign_workflow::Door;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda::Error> {
    let function = lambda::start(&[Need::Issuers]).await?;
    let door = Door::new(Workflow::of(&function)?, function.config.config.sla_interval);
    lambda::serve_by(function, Plane::Public, countersign_workflow::routes(door)).await
}
