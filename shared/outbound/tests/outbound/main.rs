//! Calls to addresses that others chose: what is refused, what is let through, and what becomes of an attempt.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod allowed;
mod answers;
mod asking;
mod hostile;
mod properties;
mod receiver;
mod resolving;
mod tls;
