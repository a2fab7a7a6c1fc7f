//! Who knows the members of roles and groups: a table in a file, or Keycloak.

use crate::keycloak::Keycloak;
use crate::table::Table;
use countersign_api::Secrets;
use countersign_api::config::{self, ConfigError};
use countersign_domain::Tenant;
use countersign_domain::workflow::policy::Who;
use countersign_store::Clock;
use std::fs;

/// What has to be asked outside; two rules that mean the same ask once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lookup {
    /// The directory.
    Member(Membership),
    /// The service at this URL.
    Service(String),
}

/// What people can be members of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Membership {
    /// A role of the realm, or of one of its clients.
    Role { role: String, client: Option<String> },
    /// The group with this path, without the slash that it may begin with.
    Group(String),
}

impl Lookup {
    /// What a rule has to ask, if anything.
    pub(crate) fn of(who: &Who) -> Option<Self> {
        match who {
            Who::Role { role, client } => {
                Some(Self::Member(Membership::Role { role: role.clone(), client: client.clone() }))
            }
            Who::Group(path) => Some(Self::Member(Membership::Group(bare_path(path).to_owned()))),
            Who::Http(url) => Some(Self::Service(url.clone())),
            Who::User(_) | Who::Expression(_) => None,
        }
    }
}

/// A group's path without the slash that it may begin with.
pub(crate) fn bare_path(path: &str) -> &str {
    path.strip_prefix('/').unwrap_or(path)
}

/// A directory.
#[derive(Debug)]
pub(crate) enum Directory {
    Table(Table),
    Keycloak(Box<Keycloak>),
}

/// The directory does not do its part; why, as whoever made a request may know it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DirectoryError {
    #[error("the directory cannot be reached")]
    Unreachable,
    #[error("the directory refuses our credentials")]
    Credentials,
    #[error("the secret for the directory cannot be had")]
    Secret,
    #[error("the directory answers HTTP {0}")]
    Status(u16),
    #[error("the directory's answer is not what it is documented to be")]
    Malformed,
    #[error("it has more than {0} members")]
    TooManyMembers(usize),
    #[error("no role, client or group can have this name")]
    Name,
}

impl Directory {
    pub(crate) fn configured(
        config: &config::Directory,
        secrets: &Secrets,
        clock: &Clock,
    ) -> Result<Self, ConfigError> {
        let wrong = |message: String| ConfigError::new("COUNTERSIGN_DIRECTORY", message);
        match config {
            config::Directory::Table(path) => {
                let shown = path.display();
                let text =
                    fs::read(path).map_err(|error| wrong(format!("names {shown}, which cannot be read: {error}")))?;
                let table = Table::parse(&text);
                Ok(Self::Table(table.map_err(|error| wrong(format!("names {shown}, which is no directory: {error}")))?))
            }
            config::Directory::Keycloak(config) => {
                let missing = || wrong(format!("names the secret `{}`, which is not there", config.secret_id));
                let secret = secrets.directory_secret(&config.secret_id).ok_or_else(missing)?;
                Ok(Self::Keycloak(Box::new(Keycloak::new(config, secret, clock.clone()))))
            }
        }
    }

    /// The members; nobody, if the directory does not know what they would be members of.
    pub(crate) async fn members(
        &self,
        tenant: &Tenant,
        membership: &Membership,
    ) -> Result<Vec<String>, DirectoryError> {
        match self {
            Self::Table(table) => Ok(table.members(tenant, membership)),
            Self::Keycloak(keycloak) => keycloak.members(membership).await,
        }
    }
}
