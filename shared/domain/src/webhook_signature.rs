//! The signatures under a webhook: the one that approvals document, and those of Standard Webhooks.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

/// What the headers of one attempt say of its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// `X-Approval-Signature`: `sha256=` and hex, made with the newest secret.
    pub approval: String,
    /// `webhook-signature`: for each secret, newest first, `v1,` and base64; a blank between two.
    pub standard: String,
}

/// Signs `body` for the attempt at `timestamp` (Unix seconds) with each of `secrets`, newest first. `None` without a
/// secret: nothing is sent unsigned.
#[must_use]
pub fn headers(secrets: &[&[u8]], event_id: Uuid, timestamp: i64, body: &[u8]) -> Option<Signed> {
    let newest = secrets.first()?;
    let approval = mac(newest, &format!("{timestamp}."), body);
    let standard = |secret: &&[u8]| {
        let mac = mac(secret, &format!("{event_id}.{timestamp}."), body);
        format!("v1,{}", STANDARD.encode(mac))
    };
    Some(Signed {
        approval: format!("sha256={}", hex::encode(approval)),
        standard: secrets.iter().map(standard).collect::<Vec<_>>().join(" "),
    })
}

fn mac(secret: &[u8], before: &str, body: &[u8]) -> [u8; 32] {
    let mac = match Hmac::<Sha256>::new_from_slice(secret) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes keys of any length"),
    };
    mac.chain_update(before).chain_update(body).finalize().into_bytes().into()
}
