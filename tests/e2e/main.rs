//! Stories over real HTTP against the local runner: one per documented behaviour, and what must hold whatever happens.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod crash;
mod dependencies;
mod hostile;
mod idempotency;
mod identity;
mod keys;
mod overrides;
mod planes;
mod process;
mod races;
mod records;
mod server;
mod tokens;
