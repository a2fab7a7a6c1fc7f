//! Registers webhook endpoints of the first customer, before a server starts.

use crate::Failure;
use crate::overrides::customer;
use countersign::{Table, data};
use countersign_api::config::Local;
use countersign_api::{endpoints_key, seal_endpoint_secret};
use countersign_domain::endpoint::{Add, EndpointId, Endpoints, Secret, Subscription};
use countersign_domain::{Actor, Tenant};
use countersign_store::{Call, Clock};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// How long the table may take.
const WITHIN: Duration = Duration::from_secs(10);

/// Registers these URLs, each for the event of this name.
///
/// # Errors
/// There are too many, or the data directory cannot be used.
pub(crate) async fn register(data: &Path, endpoints: &[(String, &str)]) -> Result<(), Failure> {
    let config = Local { data: data.to_owned(), ..Local::read(|_| None)? };
    let clock = Clock::System;
    let store = Table::configured(&config, &clock, false).await?.store(&clock).await?;
    let sealer = data::secrets(&config)?.secrets.sealer().await?;
    let tenant: Tenant = customer(0).parse()?;
    let by = Actor::User { issuer: "load".to_owned(), subject: "load".to_owned() };
    for ((url, event), number) in endpoints.iter().zip(1..) {
        let id = EndpointId::from_u128(number);
        let secret = Secret::Own { current: seal_endpoint_secret(&sealer, &tenant, &id, &[7; 32])?, previous: None };
        let events = Subscription::of(&[(*event).to_owned()])?;
        let add = Add { id, url: url.clone(), events, agent: None, description: None, secret };
        let rule = |found: Option<&Endpoints>, now| Endpoints::add(found, &tenant, add.clone(), &by, now);
        let call = Call { deadline: Instant::now() + WITHIN, once: None };
        let added = store.change(&endpoints_key(&tenant), call, rule, |_| Ok(()), |()| Ok(String::new())).await;
        added.map_err(|error| format!("an endpoint is not registered: {error:?}"))?;
    }
    Ok(())
}
