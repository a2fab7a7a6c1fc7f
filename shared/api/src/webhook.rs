//! Sending an event to a tenant's endpoint or a request's callback: signed, by the one client for addresses that others
//! chose.

use crate::app::App;
use crate::problem::Problem;
use crate::sealing::Sealer;
use crate::secrets::SecretsError;
use bytes::Bytes;
use countersign_domain::callback_secret::{NamedSecret, SecretId, signing_bytes};
use countersign_domain::endpoint::{Endpoint, EndpointId, Endpoints, Secret};
use countersign_domain::event::Event;
use countersign_domain::key_ring::Sealed;
use countersign_domain::{Tenant, webhook_signature};
use countersign_outbound::{Allowed, Attempted, Outbound, OutboundError, Resolver};
use countersign_store::{Fault, Key};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

const EVENT_ID: HeaderName = HeaderName::from_static("x-approval-event-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-approval-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("x-approval-signature");
const STANDARD_ID: HeaderName = HeaderName::from_static("webhook-id");
const STANDARD_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const STANDARD_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// What a registered secret is sealed as.
const NAMED: &str = "value";

/// The client for addresses that others chose, made when it is first needed: most functions never do.
#[derive(Clone, Debug)]
pub struct Outgoing(Arc<Lazy>);

#[derive(Debug)]
struct Lazy {
    allowed: Allowed,
    resolver: Resolver,
    made: OnceLock<Outbound>,
}

impl Outgoing {
    /// A client that may call these, and asks this resolver.
    #[must_use]
    pub fn new(allowed: Allowed, resolver: Resolver) -> Self {
        Self(Arc::new(Lazy { allowed, resolver, made: OnceLock::new() }))
    }

    /// The client.
    ///
    /// # Errors
    /// The system knows no certificate authority.
    pub fn client(&self) -> Result<&Outbound, OutboundError> {
        if let Some(made) = self.0.made.get() {
            return Ok(made);
        }
        let made = Outbound::new(self.0.allowed.clone(), self.0.resolver.clone())?;
        Ok(self.0.made.get_or_init(|| made))
    }
}

impl From<OutboundError> for Problem {
    fn from(error: OutboundError) -> Self {
        tracing::error!(%error, "nothing can be called");
        Self::unavailable()
    }
}

/// The bytes that sign for a target, newest first.
pub struct Signers(Vec<Vec<u8>>);

impl fmt::Debug for Signers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signers(..)")
    }
}

/// An event was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsent {
    /// There is nothing to sign it with; nothing is sent unsigned.
    #[error("{0}")]
    Unsigned(String),
    /// It is ours to mend, not the receiver's.
    #[error("{0}")]
    Ours(String),
}

impl From<Fault> for Unsent {
    fn from(fault: Fault) -> Self {
        Self::Ours(fault.to_string())
    }
}

impl From<SecretsError> for Unsent {
    fn from(error: SecretsError) -> Self {
        Self::Ours(error.to_string())
    }
}

impl From<OutboundError> for Unsent {
    fn from(error: OutboundError) -> Self {
        Self::Ours(error.to_string())
    }
}

/// Where the endpoints of a tenant are.
#[must_use]
pub fn endpoints_key(tenant: &Tenant) -> Key<Endpoints> {
    Key::new(tenant, "all")
}

/// Where a registered secret of a tenant is.
#[must_use]
pub fn secret_key(tenant: &Tenant, id: &SecretId) -> Key<NamedSecret> {
    Key::new(tenant, id.as_str())
}

/// Seals the bytes that sign for an endpoint.
///
/// # Errors
/// The system gives no random numbers.
pub fn seal_endpoint_secret(
    sealer: &Sealer,
    tenant: &Tenant,
    endpoint: &EndpointId,
    bytes: &[u8],
) -> Result<Sealed, Fault> {
    sealer.seal(endpoints_key(tenant).as_str(), endpoint.as_str(), bytes)
}

/// Seals a registered secret.
///
/// # Errors
/// The system gives no random numbers.
pub fn seal_named_secret(sealer: &Sealer, tenant: &Tenant, id: &SecretId, value: &str) -> Result<Sealed, Fault> {
    sealer.seal(secret_key(tenant, id).as_str(), NAMED, value.as_bytes())
}

impl App {
    /// Makes one attempt to send an event to an endpoint.
    ///
    /// # Errors
    /// It was not sent, for a reason that is not the receiver's.
    pub async fn send(
        &self,
        endpoint: &Endpoint,
        event: &Event,
        signers: &Signers,
        within: Duration,
    ) -> Result<Attempted, Unsent> {
        self.post(&endpoint.url, (event.id, event.body()), signers, within).await
    }

    /// Makes one attempt to tell the callback of a request, at this URL, of an event.
    ///
    /// # Errors
    /// It was not sent, for a reason that is not the receiver's.
    pub async fn call_back(
        &self,
        url: &str,
        event: &Event,
        signers: &Signers,
        within: Duration,
    ) -> Result<Attempted, Unsent> {
        self.post(url, (event.id, event.callback_body()), signers, within).await
    }

    async fn post(
        &self,
        url: &str,
        (id, body): (Uuid, String),
        signers: &Signers,
        within: Duration,
    ) -> Result<Attempted, Unsent> {
        let secrets: Vec<&[u8]> = signers.0.iter().map(Vec::as_slice).collect();
        let timestamp = self.clock.now().as_second();
        let signed = webhook_signature::headers(&secrets, id, timestamp, body.as_bytes())
            .ok_or_else(|| Unsent::Unsigned("there is no secret to sign with".to_owned()))?;
        let value = |text: String| HeaderValue::try_from(text).map_err(|error| Unsent::Ours(error.to_string()));
        let headers = HeaderMap::from_iter([
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (EVENT_ID, value(id.to_string())?),
            (TIMESTAMP, timestamp.into()),
            (SIGNATURE, value(signed.approval)?),
            (STANDARD_ID, value(id.to_string())?),
            (STANDARD_TIMESTAMP, timestamp.into()),
            (STANDARD_SIGNATURE, value(signed.standard)?),
        ]);
        Ok(self.outgoing.client()?.post(url, headers, Bytes::from(body), within).await)
    }

    /// What signs for an endpoint now; asked for before an attempt is claimed, so that none is claimed in vain.
    ///
    /// # Errors
    /// There is nothing to sign with, or it cannot be had now.
    pub async fn signers(&self, tenant: &Tenant, endpoint: &Endpoint, deadline: Instant) -> Result<Signers, Unsent> {
        self.outgoing.client()?;
        let sealer = self.secrets.sealer().await?;
        match &endpoint.secret {
            Secret::Own { .. } => {
                let key = endpoints_key(tenant);
                let open = |sealed: &Sealed| sealer.open(key.as_str(), endpoint.id.as_str(), &sealed.0);
                let opened: Option<Vec<_>> = endpoint.secret.signing(self.clock.now()).into_iter().map(open).collect();
                let opened = opened.ok_or_else(|| Unsent::Ours(format!("the secret of {} does not open", endpoint.id)));
                opened.map(Signers)
            }
            Secret::Named { id } => {
                let value = self.registered(&sealer, tenant, id, deadline).await?;
                let value = value.ok_or_else(|| not_registered(id))?;
                Ok(Signers(vec![signing_bytes(&value)]))
            }
        }
    }

    /// What signs for the callback of a request of this tenant that names this secret: the bytes of its text, also where
    /// that stands for others in an endpoint's. One that names none is signed by the tenant's `default`, else by the
    /// deployment's own.
    ///
    /// # Errors
    /// There is nothing to sign with, or it cannot be had now.
    pub async fn callback_signers(
        &self,
        tenant: &Tenant,
        secret: Option<&SecretId>,
        deadline: Instant,
    ) -> Result<Signers, Unsent> {
        self.outgoing.client()?;
        let sealer = self.secrets.sealer().await?;
        if let Some(id) = secret {
            let value = self.registered(&sealer, tenant, id, deadline).await?;
            return Ok(Signers(vec![value.ok_or_else(|| not_registered(id))?.into_bytes()]));
        }
        let default = SecretId::of_callbacks();
        if let Some(value) = self.registered(&sealer, tenant, &default, deadline).await? {
            return Ok(Signers(vec![value.into_bytes()]));
        }
        let configured = self.secrets.callback_secret().await?;
        let configured = configured.ok_or_else(|| not_registered(&default))?;
        let newest_first = std::iter::once(&configured.current).chain(&configured.previous);
        Ok(Signers(newest_first.map(|secret| secret.as_bytes().to_vec()).collect()))
    }

    /// Whether the callback of a new request of this tenant that names this secret, or none, can be signed.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn callback_can_be_signed(
        &self,
        tenant: &Tenant,
        secret: Option<&SecretId>,
        deadline: Instant,
    ) -> Result<bool, Problem> {
        if secret.is_none() && self.secrets.has_callback_secret() {
            return Ok(true);
        }
        let id = secret.cloned().unwrap_or_else(SecretId::of_callbacks);
        Ok(self.store.load(&secret_key(tenant, &id), deadline).await?.is_some())
    }

    /// The text of a registered secret, if there is one with this id.
    async fn registered(
        &self,
        sealer: &Sealer,
        tenant: &Tenant,
        id: &SecretId,
        deadline: Instant,
    ) -> Result<Option<String>, Unsent> {
        let key = secret_key(tenant, id);
        let Some(found) = self.store.load(&key, deadline).await? else { return Ok(None) };
        let opened = sealer.open(key.as_str(), NAMED, &found.record.value.0);
        let opened = opened.and_then(|bytes| String::from_utf8(bytes).ok());
        opened.map(Some).ok_or_else(|| Unsent::Ours(format!("the secret {id} does not open")))
    }
}

fn not_registered(id: &SecretId) -> Unsent {
    Unsent::Unsigned(format!("the secret {id} is not registered"))
}
