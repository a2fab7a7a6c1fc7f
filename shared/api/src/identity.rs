//! ES256 keys: made here, kept sealed, and used to sign tokens.

use crate::sealing::Sealer;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign_domain::key_ring::{NewKey, PublicKey};
use countersign_store::Fault;
use jsonwebtoken::crypto::aws_lc;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use std::fmt;

/// What a private key is sealed as.
const SEALED_AS: &str = "private";

/// Makes aws-lc the one provider of cryptography for tokens, whatever else a dependency may bring along; a second call
/// changes nothing.
pub fn install_crypto() {
    // An error means that one is installed already, by the call before.
    let _ = aws_lc::DEFAULT_PROVIDER.install_default();
}

/// A P-256 key pair that has just been made.
pub struct SigningKey {
    public: PublicKey,
    pkcs8: Vec<u8>,
}

impl SigningKey {
    /// Makes a key pair.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate() -> Result<Self, Fault> {
        let failed = |_| Fault::Unavailable("no signing key can be made".to_owned());
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
        let pkcs8 = pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec();
        // An uncompressed point (SEC 1, 2.3.3): 4, then two coordinates of 32 bytes.
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let public = PublicKey { x: BASE64_URL_SAFE_NO_PAD.encode(x), y: BASE64_URL_SAFE_NO_PAD.encode(y) };
        Ok(Self { public, pkcs8 })
    }

    /// The key as a record holds it, its private half sealed for the item with this key.
    ///
    /// # Errors
    /// It cannot be sealed.
    pub fn seal(&self, sealer: &Sealer, item: &str) -> Result<NewKey, Fault> {
        let private = sealer.seal(item, SEALED_AS, &self.pkcs8)?;
        Ok(NewKey { public: self.public.clone(), private })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// Signs tokens with one opened key.
pub struct TokenSigner {
    header: Header,
    key: EncodingKey,
}

impl TokenSigner {
    /// Opens a sealed key.
    ///
    /// # Errors
    /// It was not sealed for this item, or with a root key that is gone.
    pub fn open(sealer: &Sealer, item: &str, sealed: &str, key_id: String) -> Result<Self, Fault> {
        let pkcs8 = sealer
            .open(item, SEALED_AS, sealed)
            .ok_or_else(|| Fault::Corrupt("a signing key cannot be opened with the present root keys".to_owned()))?;
        let header = Header { kid: Some(key_id), ..Header::new(Algorithm::ES256) };
        Ok(Self { header, key: EncodingKey::from_ec_der(&pkcs8) })
    }

    /// A JWT with these claims.
    ///
    /// # Errors
    /// The key is not one.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, Fault> {
        jsonwebtoken::encode(&self.header, claims, &self.key)
            .map_err(|error| Fault::Corrupt(format!("a token cannot be signed: {error}")))
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSigner(..)")
    }
}
