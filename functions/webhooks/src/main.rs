//! The webhooks door on the public plane as a Lambda function.

use countersign_api::Plane;
use countersign_api::lambda::{self, Need};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda::Error> {
    lambda::serve(Plane::Public, countersign_webhooks::public(), &[Need::Issuers]).await
}
