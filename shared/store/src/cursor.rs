//! Cursors: where a listing goes on, bound to its tenant and listing, and worthless once tampered with.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const TAG: usize = 16;

/// The keys that cursors are authenticated with: new ones with the first, old ones also with the second while the
/// root key is being rotated.
#[derive(Clone)]
pub struct CursorKeys {
    /// Signs and verifies.
    pub current: [u8; 32],
    /// Verifies only.
    pub previous: Option<[u8; 32]>,
}

impl std::fmt::Debug for CursorKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CursorKeys(..)")
    }
}

impl CursorKeys {
    /// A cursor for `position` in the listing that `scope` names.
    pub(crate) fn seal(&self, scope: &str, position: &str) -> String {
        let tag = mac(&self.current, scope, position).finalize().into_bytes();
        BASE64_URL_SAFE_NO_PAD.encode([&tag[..TAG], position.as_bytes()].concat())
    }

    /// The position in a cursor, if it was made for this `scope` with one of the keys.
    pub(crate) fn open(&self, scope: &str, cursor: &str) -> Option<String> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (tag, position) = bytes.split_at_checked(TAG)?;
        let position = std::str::from_utf8(position).ok()?;
        let valid = |key: &[u8; 32]| mac(key, scope, position).verify_truncated_left(tag).is_ok();
        (valid(&self.current) || self.previous.as_ref().is_some_and(valid)).then(|| position.to_owned())
    }
}

fn mac(key: &[u8; 32], scope: &str, position: &str) -> Hmac<Sha256> {
    let mac = match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes keys of any length"),
    };
    // The length keeps scope and position apart.
    mac.chain_update((scope.len() as u64).to_be_bytes()).chain_update(scope).chain_update(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: CursorKeys = CursorKeys { current: [1; 32], previous: None };

    #[test]
    fn a_cursor_opens_only_in_its_own_listing() {
        let cursor = KEYS.seal("all:override#a", "position");
        assert_eq!(KEYS.open("all:override#a", &cursor).as_deref(), Some("position"));
        assert_eq!(KEYS.open("all:override#b", &cursor), None);
        assert_eq!(KEYS.open("all:override#ap", &KEYS.seal("all:override#a", "position")), None);
    }

    #[test]
    fn every_changed_byte_spoils_a_cursor() {
        let cursor = KEYS.seal("scope", "position");
        for at in 0..cursor.len() {
            let mut bytes = cursor.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(KEYS.open("scope", &changed), None, "{changed}");
        }
        for text in ["", "A", "not base64!", &cursor[..20]] {
            assert_eq!(KEYS.open("scope", text), None, "{text}");
        }
    }

    #[test]
    fn a_rotated_key_still_opens_its_cursors() {
        let cursor = KEYS.seal("scope", "position");
        let rotated = CursorKeys { current: [2; 32], previous: Some([1; 32]) };
        assert!(rotated.open("scope", &cursor).is_some());
        assert!(CursorKeys { current: [2; 32], previous: None }.open("scope", &cursor).is_none());
    }
}
