//! The approval workflow engine: policies with versions, requests that go through their stages, tasks, and delegation.
//!
//! A policy says which stages a request goes through and who is asked in each. A request with its stages and tasks is
//! one record, so that every step of it is one change.

pub mod delegation;
pub mod policy;
pub mod request;
mod stage;

pub use stage::{Mode, Verdict, needed};

use crate::Actor;

/// The longest policy key, artifact type or id, and name of a user, in characters; the shortest has 1.
pub const MAX_NAME: usize = 128;
/// The longest name of a policy or stage, in characters.
pub const MAX_TITLE: usize = 255;
/// The longest description of a policy, in characters.
pub const MAX_DESCRIPTION: usize = 1024;
/// The longest comment or reason, in characters.
pub const MAX_REASON: usize = 2000;
/// The longest reference to attachments, in characters.
pub const MAX_REFERENCE: usize = 1024;
/// The most stages of a policy.
pub const MAX_STAGES: usize = 30;
/// The most tasks that one step opens: they are written in one transaction.
pub const MAX_OPENED: usize = 80;

/// Who changes policies or delegations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Editor {
    /// As entries name them.
    pub actor: Actor,
    /// As the audit log shows them.
    pub email: Option<String>,
}

/// What acts when a deadline has passed, as callers are told.
pub const SLA_MONITOR: &str = "sla-monitor";
