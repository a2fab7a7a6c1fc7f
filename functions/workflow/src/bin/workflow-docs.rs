//! What people read the workflow door's API by, as a Lambda function of its own: it holds Swagger UI and Redoc, and may
//! touch nothing.

use countersign_api::lambda;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda::Error> {
    lambda::serve_pages(countersign_workflow::pages()).await
}
