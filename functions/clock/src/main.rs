//! The clock as a Lambda function, called by a schedule.

use countersign_api::lambda;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda::Error> {
    lambda::on_schedule(|app, stop_at| async move {
        countersign_clock::sweep(&app.store, app.clock.now(), stop_at).await;
    })
    .await
}
