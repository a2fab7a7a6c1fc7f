//! The compiled function as Lambda runs it: its own process, API Gateway's events, DynamoDB and Secrets Manager by wire.
#![expect(clippy::unwrap_used, clippy::panic, reason = "the harness fails a test by panicking")]

mod door;
mod events;
mod function;
mod hostile;
mod limits;
mod metrics;
mod principals;
mod queue;
mod round_trips;
mod secrets;
mod story;
mod traces;
