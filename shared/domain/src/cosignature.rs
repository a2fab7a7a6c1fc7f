//! The co-signature that attests to an override decision, as the override API documents it.

use crate::override_token::{Decision, EventId};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

/// Lower-case hex of HMAC-SHA256 over `override|{event_id}|{decision}|{jti}` with the override secret.
///
/// No part can contain `|`, so no two decisions share a text.
#[must_use]
pub fn sign(secret: &[u8], event_id: &EventId, decision: &Decision, jti: Uuid) -> String {
    hex::encode(mac(secret, event_id, decision, jti).finalize().into_bytes())
}

/// Whether `cosignature` was made with one of `secrets`; compared in constant time.
///
/// Only the documented form verifies: 64 lower-case hex digits.
#[must_use]
pub fn verify<'a>(
    secrets: impl IntoIterator<Item = &'a [u8]>,
    event_id: &EventId,
    decision: &Decision,
    jti: Uuid,
    cosignature: &str,
) -> bool {
    if cosignature.bytes().any(|b| b.is_ascii_uppercase()) {
        return false;
    }
    let Ok(given) = hex::decode(cosignature) else { return false };
    // No short cut on the first match: the time must not tell which secret signed.
    secrets
        .into_iter()
        .fold(false, |found, secret| found | mac(secret, event_id, decision, jti).verify_slice(&given).is_ok())
}

fn mac(secret: &[u8], event_id: &EventId, decision: &Decision, jti: Uuid) -> Hmac<Sha256> {
    let mac = match Hmac::<Sha256>::new_from_slice(secret) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes keys of any length"),
    };
    mac.chain_update(format!("override|{event_id}|{decision}|{jti}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"test-override-secret";
    const APPROVE: &str = "ba64b344c0bef66492bf70050252b41fc90d7a8dd375a52e1c1371900de84582";
    const REJECT: &str = "fa359ccd80532322dfee09e98aad95b263189d1a0ce833da152cfad1ee838843";

    fn parts(decision: &str) -> (EventId, Decision, Uuid) {
        (
            "evt-a1b2c3d4-5678-9012-abcd-ef3456789012".parse().unwrap(),
            decision.parse().unwrap(),
            "f4a5b6c7-d8e9-0123-f012-456789012cde".parse().unwrap(),
        )
    }

    #[test]
    fn the_two_vectors_of_the_override_api_are_answered() {
        for (decision, expected) in [("approve", APPROVE), ("reject", REJECT)] {
            let (event_id, decision, jti) = parts(decision);
            assert_eq!(sign(SECRET, &event_id, &decision, jti), expected);
        }
    }

    #[test]
    fn current_and_previous_secret_verify_and_no_other() {
        let (event_id, decision, jti) = parts("approve");
        let check = |secrets: &[&[u8]], given: &str| verify(secrets.iter().copied(), &event_id, &decision, jti, given);
        assert!(check(&[SECRET], APPROVE));
        assert!(check(&[b"new", SECRET], APPROVE));
        assert!(check(&[SECRET, b"old"], APPROVE));
        assert!(!check(&[b"new", b"old"], APPROVE));
        assert!(!check(&[], APPROVE));
    }

    #[test]
    fn only_the_documented_spelling_verifies() {
        let (event_id, decision, jti) = parts("approve");
        for given in [REJECT, "", "ba64", &APPROVE.to_uppercase(), &APPROVE[..62], &format!("{APPROVE}00"), "zz"] {
            assert!(!verify([SECRET], &event_id, &decision, jti, given), "{given}");
        }
        let (_, reject, _) = parts("reject");
        assert!(!verify([SECRET], &event_id, &reject, jti, APPROVE));
    }
}
