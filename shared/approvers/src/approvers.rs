//! What approvers are found with, made once from the configuration.

use crate::asking::Asking;
use crate::directory::{Directory, Lookup};
use crate::service;
use crate::unanswered::{Reason, checked};
use bytes::Bytes;
use countersign_api::config::{self, ConfigError};
use countersign_api::{Outgoing, Secrets};
use countersign_domain::Tenant;
use countersign_domain::workflow::policy::Definition;
use countersign_outbound::{Allowed, OutboundError, Resolver, TargetRefused};
use countersign_store::Clock;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::time::Instant;

/// What approvers are found with; cheap to clone.
#[derive(Clone, Debug)]
pub struct Approvers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: Option<Directory>,
    outgoing: Outgoing,
    clock: Clock,
}

impl Approvers {
    /// As the configuration says. `own` are the addresses that this process listens on itself, which no rule may call;
    /// `resolver` is asked for the addresses of the services that rules name.
    ///
    /// # Errors
    /// The directory's file is not there or no directory, or the directory's secret is not there.
    pub fn configured(
        config: &config::Approvers,
        secrets: &Secrets,
        resolver: Resolver,
        own: Vec<SocketAddr>,
        clock: Clock,
    ) -> Result<Self, ConfigError> {
        let directory = match &config.directory {
            None => None,
            Some(directory) => Some(Directory::configured(directory, secrets, &clock)?),
        };
        let outgoing = Outgoing::new(Allowed::places(config.allow.clone(), own), resolver);
        Ok(Self(Arc::new(Inner { directory, outgoing, clock })))
    }

    /// Whether a rule may name the service at this URL. One whose host does not resolve now may be named: it is checked
    /// again whenever it is called.
    ///
    /// # Errors
    /// The system knows no certificate authority; inside, the service may not be called.
    pub async fn check(&self, url: &str) -> Result<Result<(), TargetRefused>, OutboundError> {
        Ok(self.0.outgoing.client()?.check(url).await)
    }

    /// What is asked in one call of a door about a request with this context, until `deadline` or for [`WITHIN`], whichever
    /// ends first.
    ///
    /// [`WITHIN`]: crate::WITHIN
    #[must_use]
    pub fn asking(
        &self,
        tenant: &Tenant,
        definition: Arc<Definition>,
        context: Arc<Value>,
        deadline: Instant,
    ) -> Asking {
        Asking::new(self.clone(), tenant.clone(), definition, context, deadline)
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Whom somebody outside names; `body` is what a service is sent.
    pub(crate) async fn look_up(
        &self,
        tenant: &Tenant,
        lookup: &Lookup,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Vec<String>, Reason> {
        let users = match lookup {
            Lookup::Member(membership) => match &self.0.directory {
                None => return Err(Reason::NoDirectory),
                Some(directory) => tokio::time::timeout_at(deadline, directory.members(tenant, membership))
                    .await
                    .map_err(|_| Reason::Late)?
                    .map_err(|error| Reason::Directory(error.to_string()))?,
            },
            Lookup::Service(url) => {
                let client = self.0.outgoing.client().map_err(|error| {
                    tracing::error!(%error, "nothing can be called");
                    Reason::Service("nothing can be called from here".to_owned())
                })?;
                service::ask(client, url, body, deadline).await?
            }
        };
        checked(users)
    }
}
