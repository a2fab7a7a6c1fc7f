//! The approvals door as a Lambda function.

use countersign_api::Plane;
use countersign_api::lambda::{self, Need};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda::Error> {
    lambda::serve(Plane::Public, countersign_approvals::routes(), &[Need::Issuers]).await
}
