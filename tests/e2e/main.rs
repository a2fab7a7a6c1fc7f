//! Stories over real HTTP against the local runner: one per documented behaviour, and what must hold whatever happens.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod actions;
mod actions_audit;
mod actions_bulk;
mod actions_decisions;
mod actions_policy;
mod api_keys;
mod approvals;
mod approvals_audit;
mod approvals_callers;
mod approvals_races;
mod approvals_remediations;
mod cases;
mod cases_access;
mod cases_feed;
mod cases_races;
mod crash;
mod crash_points;
mod dependencies;
mod hostile;
mod idempotency;
mod identity;
mod isolation;
mod keys;
mod overrides;
mod planes;
mod process;
mod races;
mod records;
mod secrecy;
mod server;
mod tokens;
