//! `countersign verify`: checks the audit chains of a tenant, while a server runs or not.

use countersign_domain::action::Action;
use countersign_domain::actions_policy::KeptPolicy;
use countersign_domain::api_key::ApiKey;
use countersign_domain::callback_secret::NamedSecret;
use countersign_domain::case::Case;
use countersign_domain::delivery::Delivery;
use countersign_domain::endpoint::Endpoints;
use countersign_domain::key_ring::KeyRing;
use countersign_domain::override_token::OverrideToken;
use countersign_domain::remediation::Remediation;
use countersign_domain::replay::Replay;
use countersign_domain::workflow::delegation::Delegations;
use countersign_domain::workflow::policy::Policy;
use countersign_domain::workflow::request::Request;
use countersign_domain::{Record, Tenant};
use countersign_store::{Fault, Store, Verified};

/// The kinds of record that a tenant can have.
const KINDS: [&str; 14] = [
    OverrideToken::KIND,
    KeyRing::KIND,
    Remediation::KIND,
    Action::KIND,
    KeptPolicy::KIND,
    Case::KIND,
    ApiKey::KIND,
    Endpoints::KIND,
    NamedSecret::KIND,
    Delivery::KIND,
    Replay::KIND,
    Policy::KIND,
    Request::KIND,
    Delegations::KIND,
];

/// Verifies all records of a tenant, up to the first that is broken.
///
/// # Errors
/// The table does not answer.
pub async fn tenant(store: &Store, tenant: &Tenant) -> Result<Verified, Fault> {
    let mut all = Verified::default();
    for kind in KINDS {
        let verified = store.verify(kind, tenant, None, None).await?;
        all.records += verified.records;
        all.entries += verified.entries;
        all.broken = verified.broken;
        if all.broken.is_some() {
            break;
        }
    }
    Ok(all)
}
