//! The webhooks door on the management plane as a Lambda function.

use countersign_api::{Plane, lambda};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda::Error> {
    lambda::serve(Plane::Management, countersign_webhooks::management(), &[]).await
}
