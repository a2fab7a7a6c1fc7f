//! The compiled functions as Lambda runs them: processes of their own, SQS events, and what AWS has around them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bus;
mod dead_letters;
mod deployment;
mod emulator;
mod queues;
mod records;
