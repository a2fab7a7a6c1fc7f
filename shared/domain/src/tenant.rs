//! The wall between customers: a tenant's name, with its one grammar and one parser.

use crate::text;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A customer's name: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`; one that is a UUID is lower-cased, so that both
/// spellings are one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tenant(String);

/// The text is not a tenant's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 128 of A-Z a-z 0-9 . _ -, and start with a letter or a digit")]
pub struct InvalidTenant;

impl Tenant {
    /// The name as it stands in keys and on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<uuid::Uuid> for Tenant {
    fn from(id: uuid::Uuid) -> Self {
        Self(id.to_string())
    }
}

impl FromStr for Tenant {
    type Err = InvalidTenant;

    fn from_str(name: &str) -> Result<Self, InvalidTenant> {
        if let Some(id) = text::uuid(name) {
            return Ok(id.into());
        }
        let valid = (1..=128).contains(&name.len())
            && name.as_bytes()[0].is_ascii_alphanumeric()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if valid { Ok(Self(name.to_owned())) } else { Err(InvalidTenant) }
    }
}

impl TryFrom<String> for Tenant {
    type Error = InvalidTenant;

    fn try_from(name: String) -> Result<Self, InvalidTenant> {
        name.parse()
    }
}

impl From<Tenant> for String {
    fn from(tenant: Tenant) -> Self {
        tenant.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_uuid_are_one_tenant() {
        let upper: Tenant = "550E8400-E29B-41D4-A716-446655440000".parse().unwrap();
        assert_eq!(upper.as_str(), "550e8400-e29b-41d4-a716-446655440000");
        assert_eq!(Ok(upper), "550e8400-e29b-41d4-a716-446655440000".parse());
    }

    #[test]
    fn other_names_are_taken_as_they_stand() {
        for name in ["Acme", "a", "0", "a.b_c-d", &"x".repeat(128), "42"] {
            assert_eq!(name.parse::<Tenant>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn names_outside_the_grammar_are_refused() {
        for name in ["", ".a", "_a", "-a", "a b", "a/b", "a#b", "a%b", "a|b", "ä", "a\0", "a\n", &"x".repeat(129)] {
            assert_eq!(name.parse::<Tenant>(), Err(InvalidTenant), "{name:?}");
            assert!(serde_json::from_value::<Tenant>(name.into()).is_err(), "{name:?}");
        }
    }
}
