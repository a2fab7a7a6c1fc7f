//! Who does something, as proven by the credentials of the request.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Who caused a change. Stored in every entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    /// A caller of the management plane: the IAM principal in AWS, `local` on a laptop, `network` where the
    /// private API asks for no authorization.
    Operator {
        /// The principal's name, an ARN in AWS.
        principal: String,
    },
    /// A person, or a program in a person's name, with a JWT.
    User {
        /// Who vouches for the subject.
        issuer: String,
        /// The subject, unique at its issuer.
        subject: String,
    },
    /// The holder of an API key.
    Key {
        /// The key's id, which is no secret.
        id: String,
    },
    /// Nobody: a deadline passed.
    Clock,
}

impl Actor {
    /// Its name as whoever vouches for it knows it, without its kind.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Operator { principal } => principal,
            Self::User { subject, .. } => subject,
            Self::Key { id } => id,
            Self::Clock => "clock",
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator { principal } => write!(f, "operator:{principal}"),
            Self::User { issuer, subject } => write!(f, "user:{issuer}:{subject}"),
            Self::Key { id } => write!(f, "key:{id}"),
            Self::Clock => f.write_str("clock"),
        }
    }
}
