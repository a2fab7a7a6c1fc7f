//! The root key, what is derived from it, and secrets sealed inside items.

use crate::secrets::Rotating;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use countersign_domain::key_ring::Sealed;
use countersign_store::{CursorKeys, Fault};
use hkdf::Hkdf;
use sha2::Sha256;
use std::fmt;
use std::sync::Arc;

/// What draws secrets for a deployment knows an alphabet and a length, and nothing of padding: any 43 characters are 32 bytes
/// and two bits, which are dropped.
const ANY_43_CHARACTERS: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The 256-bit key from which every other key of a deployment is derived.
#[derive(Clone)]
pub struct RootKey([u8; 32]);

impl RootKey {
    /// A key from its 32 bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A fresh random key.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate() -> Result<Self, Fault> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Fault::Unavailable("no random numbers".to_owned()))?;
        Ok(Self(bytes))
    }

    /// Reads a key as it is kept: standard base64 of 32 bytes, with or without padding.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = ANY_43_CHARACTERS.decode(text.trim()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// The key as it is kept.
    #[must_use]
    pub fn to_text(&self) -> String {
        BASE64_STANDARD.encode(self.0)
    }

    /// HKDF-SHA256 (RFC 5869) with a label for the purpose.
    fn derive<const N: usize>(&self, label: &str) -> [u8; N] {
        let mut key = [0; N];
        if Hkdf::<Sha256>::new(None, &self.0).expand(label.as_bytes(), &mut key).is_err() {
            unreachable!("HKDF-SHA256 gives up to 8160 bytes");
        }
        key
    }

    /// Says which root key sealed something, without saying anything of the key.
    fn id(&self) -> String {
        hex::encode(self.derive::<4>("countersign root key id"))
    }

    fn sealing_key(&self) -> Option<RandomizedNonceKey> {
        RandomizedNonceKey::new(&AES_256_GCM, &self.derive::<32>("countersign sealing key")).ok()
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(..)")
    }
}

/// Seals and opens the secrets in items: AES-256-GCM with a fresh nonce, bound to the item's key and the field.
#[derive(Clone)]
pub struct Sealer(Arc<Rotating<RootKey>>);

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(..)")
    }
}

impl Sealer {
    /// A sealer with the present root keys: the current one seals, both open.
    #[must_use]
    pub fn new(keys: Arc<Rotating<RootKey>>) -> Self {
        Self(keys)
    }

    /// Seals `secret` for one field of one item.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn seal(&self, item: &str, field: &str, secret: &[u8]) -> Result<Sealed, Fault> {
        let failed = || Fault::Unavailable("nothing can be sealed".to_owned());
        let key = self.0.current.sealing_key().ok_or_else(failed)?;
        let mut bytes = secret.to_vec();
        let nonce = key.seal_in_place_append_tag(bound_to(item, field), &mut bytes).map_err(|_| failed())?;
        let text = BASE64_URL_SAFE_NO_PAD.encode([nonce.as_ref().as_slice(), &bytes].concat());
        Ok(Sealed(format!("{}.{text}", self.0.current.id())))
    }

    /// Opens what was sealed for this field of this item. `None` if it was not, or with a root key that is gone.
    #[must_use]
    pub fn open(&self, item: &str, field: &str, sealed: &str) -> Option<Vec<u8>> {
        let (id, text) = sealed.split_once('.')?;
        let keys = [Some(&self.0.current), self.0.previous.as_ref()];
        let key = keys.into_iter().flatten().find(|key| key.id() == id)?;
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = key.sealing_key()?.open_in_place(nonce, bound_to(item, field), sealed).ok()?;
        Some(opened.to_vec())
    }

    /// The keys that cursors are authenticated with.
    #[must_use]
    pub fn cursor_keys(&self) -> CursorKeys {
        let derive = |key: &RootKey| key.derive::<32>("countersign cursor key");
        CursorKeys { current: derive(&self.0.current), previous: self.0.previous.as_ref().map(derive) }
    }
}

fn bound_to(item: &str, field: &str) -> Aad<String> {
    // No key of an item contains a line feed.
    Aad::from(format!("{item}\n{field}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(current: u8, previous: Option<u8>) -> Sealer {
        let key = |n| RootKey::new([n; 32]);
        Sealer::new(Arc::new(Rotating { current: key(current), previous: previous.map(key) }))
    }

    #[test]
    fn a_secret_opens_only_where_it_was_sealed() {
        let sealer = sealer(1, None);
        let sealed = sealer.seal("keyring#a#keys", "private", b"secret").unwrap().0;
        assert_eq!(sealer.open("keyring#a#keys", "private", &sealed).as_deref(), Some(b"secret".as_slice()));
        assert_eq!(sealer.open("keyring#b#keys", "private", &sealed), None);
        assert_eq!(sealer.open("keyring#a#keys", "answer", &sealed), None);
        assert_ne!(sealed, sealer.seal("keyring#a#keys", "private", b"secret").unwrap().0, "nonces are fresh");
    }

    #[test]
    fn a_changed_text_does_not_open() {
        let sealer = sealer(1, None);
        let sealed = sealer.seal("item", "field", b"secret").unwrap().0;
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
            assert_eq!(sealer.open("item", "field", &String::from_utf8(bytes).unwrap()), None, "at {at}");
        }
        for text in ["", ".", "nonsense", "00000000.AAAA", &sealed[..12]] {
            assert_eq!(sealer.open("item", "field", text), None, "{text}");
        }
    }

    #[test]
    fn rotation_keeps_old_secrets_open_until_the_previous_key_is_gone() {
        let sealed = sealer(1, None).seal("item", "field", b"secret").unwrap().0;
        assert!(sealer(2, Some(1)).open("item", "field", &sealed).is_some());
        assert!(sealer(2, None).open("item", "field", &sealed).is_none());
    }

    #[test]
    fn a_root_key_is_read_as_it_is_kept_and_never_printed() {
        let key = RootKey::new([7; 32]);
        assert_eq!(RootKey::parse(&key.to_text()).unwrap().0, [7; 32]);
        assert_eq!(RootKey::parse(&"/".repeat(43)).unwrap().0, [255; 32]);
        for other in ["", "c2hvcnQ=", "!", &"/".repeat(42), &"/".repeat(44), &"_".repeat(43)] {
            assert!(RootKey::parse(other).is_none(), "{other}");
        }
        assert_eq!(format!("{key:?} {:?}", sealer(1, None)), "RootKey(..) Sealer(..)");
    }
}
