//! Raises an alarm for every message that the worker could never handle. It does nothing else: what there was to do
//! stands in the table, and the clock finds it there.

use countersign_api::lambda;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda::Error> {
    lambda::on_dead_letters(|message| {
        tracing::error!(message, "dead letter: the worker failed on this again and again");
    })
    .await
}
