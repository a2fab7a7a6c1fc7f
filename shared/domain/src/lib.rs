//! The rules: every decision that countersign takes, as pure functions over plain data.
//!
//! Nothing in here reads a clock, draws a random number or does I/O; time, ids and keys are arguments.

pub mod action;
pub mod actions_policy;
mod actor;
pub mod api_key;
pub mod callback_secret;
pub mod case;
pub mod chain;
pub mod change;
pub mod cosignature;
pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod key_ring;
pub mod logic;
pub mod override_token;
pub mod remediation;
pub mod replay;
pub mod retry;
pub mod risk;
mod tenant;
pub mod text;
pub mod webhook_signature;
mod work;
pub mod workflow;

pub use actor::Actor;
pub use change::{Change, Entry, EntryClass, Listing, Logged, Outcome, Pointer, Record, Subject, With};
pub use jiff::Timestamp;
pub use tenant::{InvalidTenant, Tenant};
pub use work::Work;

/// A duration of whole seconds, for deadlines and lifetimes.
#[must_use]
pub fn seconds(n: i64) -> jiff::SignedDuration {
    jiff::SignedDuration::from_secs(n)
}

/// The whole second that `at` is in: what begins or ends with it can be shown exactly.
#[must_use]
pub fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// RFC 3339 in UTC with whole seconds, as most documented answers show times: `2026-11-21T03:38:50Z`.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// RFC 3339 in UTC with microseconds, as exactly as times are kept: `2026-11-21T03:38:50.123456Z`.
#[must_use]
pub fn rfc3339_micros(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
