//! The management calls as a Lambda function.

use countersign_api::{Plane, lambda};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda::Error> {
    lambda::serve(Plane::Management, countersign_management::routes(), &[]).await
}
