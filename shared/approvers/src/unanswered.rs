//! Why it cannot be said who is asked.

use countersign_domain::logic::EvaluationError;
use countersign_domain::workflow::MAX_NAME;
use countersign_domain::workflow::policy::{Rule, Stage, Who};
use countersign_store::Fault;
use std::fmt;

/// The most users that a rule, a stage, or all stages of a group together may name.
pub const MAX_USERS: usize = 1000;

/// How much of a name that a policy holds is repeated, in characters.
const SHOWN: usize = 100;

/// Why it cannot be said who is asked, in a sentence fit for whoever made the request: it repeats what the policy says of
/// roles, groups and hosts, and nothing that a directory or a service has answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// A rule cannot be resolved.
    #[error("{place} {reason}")]
    Rule {
        /// Which one.
        place: Box<Place>,
        /// Why.
        reason: Reason,
    },
    /// A stage, or all stages of its group together, name more users than could ever be asked.
    #[error("stage {0:?}, or the group that it begins, names more than {MAX_USERS} users")]
    TooManyUsers(String),
    /// The table does not do its part, or the policy has no such stage.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Where a rule stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    stage: String,
    number: usize,
    escalates: bool,
    who: String,
}

impl Place {
    /// Of the rule with this index in its list.
    pub(crate) fn of(stage: &Stage, rule: &Rule, index: usize, escalates: bool) -> Self {
        let who = match &rule.who {
            Who::Role { role, client: None } => format!(", role {:?}", shown(role)),
            Who::Role { role, client: Some(client) } => {
                format!(", role {:?} of client {:?}", shown(role), shown(client))
            }
            Who::Group(path) => format!(", group {:?}", shown(path)),
            // A URL may hold a secret, and an expression may be long.
            Who::User(_) | Who::Expression(_) | Who::Http(_) => String::new(),
        };
        Self {
            stage: shown(&stage.name),
            number: index + 1,
            escalates,
            who: format!("{}{who}", rule.rule_type().as_str()),
        }
    }
}

fn shown(name: &str) -> String {
    name.chars().take(SHOWN).collect()
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.escalates { "escalation rule" } else { "rule" };
        write!(f, "{kind} {} of stage {:?} ({})", self.number, self.stage, self.who)
    }
}

/// Why a rule cannot be resolved, as it follows the rule's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Nobody knows the members of roles and groups here.
    #[error("needs a directory, and none is configured")]
    NoDirectory,
    /// The directory does not do its part.
    #[error("cannot be looked up: {0}")]
    Directory(String),
    /// The service does not do its part, or may not be called.
    #[error("has no usable answer: {0}")]
    Service(String),
    /// The expression has no value for this context.
    #[error("cannot be evaluated: {0}")]
    Expression(#[from] EvaluationError),
    /// Nobody has such an id.
    #[error("names a user whose id {0}")]
    UserId(&'static str),
    /// It names more users than could ever be asked.
    #[error("names more than {MAX_USERS} users")]
    TooManyUsers,
    /// The time that all rules have together was over.
    #[error("was not answered in time")]
    Late,
}

/// The users, if that is what they are.
pub(crate) fn checked(users: Vec<String>) -> Result<Vec<String>, Reason> {
    if users.len() > MAX_USERS {
        return Err(Reason::TooManyUsers);
    }
    for user in &users {
        if user.is_empty() {
            return Err(Reason::UserId("is empty"));
        }
        if user.chars().nth(MAX_NAME).is_some() {
            return Err(Reason::UserId("is longer than 128 characters"));
        }
        if user.contains('\0') {
            return Err(Reason::UserId("contains NUL"));
        }
    }
    Ok(users)
}
