//! The clock as a Lambda function, called by a schedule.

use countersign_api::lambda;
use std::time::Duration;

/// How often the schedule calls.
const INTERVAL: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda::Error> {
    lambda::on_schedule(|app, stop_at| async move {
        countersign_clock::sweep(&app, INTERVAL, stop_at).await;
    })
    .await
}
