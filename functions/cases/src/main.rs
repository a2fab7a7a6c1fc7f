//! The cases door as a Lambda function.

use countersign_api::{Plane, lambda};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda::Error> {
    lambda::serve(Plane::Public, countersign_cases::routes(), &[]).await
}
