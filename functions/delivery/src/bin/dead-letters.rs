//! Raises an alarm for every message that the worker could never handle. It does nothing else: what there was to do
//! stands in the table, and the clock finds it there.

use countersign_api::lambda;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda::Error> {
    lambda::on_dead_letters(|letter| match letter.work {
        Some(work) => tracing::error!(
            letter = letter.id,
            key = work.shown(),
            change = work.change,
            at = %work.at,
            "dead letter: the worker failed on this again and again"
        ),
        None => tracing::error!(letter = letter.id, "dead letter: it cannot be read"),
    })
    .await
}
