//! The worker on an embedded table, with a receiver on a loopback port and a clock that the test moves.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod arrival;
mod callbacks;
mod clock;
mod closing;
mod hostile;
mod lanes;
mod quiet;
mod requests;
mod schedule;
mod shuffled;
mod stored;
mod world;
