//! An issuer of JWTs on a loopback port: key pairs that sign anything, and an address for their public halves that
//! answers as a test wants.
#![expect(clippy::unwrap_used, reason = "it fails by panicking, like the tests that use it")]

use crate::wire::Endpoint;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    RsaPublicKeyComponents,
};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{StatusCode, header};
use serde_json::{Value, json};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Base64url without padding, as tokens are written.
#[must_use]
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Something to sign tokens with.
pub enum Signer {
    /// RS256, 2048 bits.
    Rsa(RsaKeyPair),
    /// ES256.
    P256(EcdsaKeyPair),
    /// EdDSA.
    Ed25519(Ed25519KeyPair),
    /// HS256.
    Secret(Vec<u8>),
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.algorithm())
    }
}

impl Signer {
    /// A new RSA key pair.
    ///
    /// # Panics
    /// The system gives no random numbers.
    #[must_use]
    pub fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    /// A new P-256 key pair.
    ///
    /// # Panics
    /// The system gives no random numbers.
    #[must_use]
    pub fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    /// A new Ed25519 key pair.
    ///
    /// # Panics
    /// The system gives no random numbers.
    #[must_use]
    pub fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    /// What a header calls it.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
            Self::Secret(_) => "HS256",
        }
    }

    /// The signature as it stands in a token, before base64.
    ///
    /// # Panics
    /// The system gives no random numbers.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Self::P256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Secret(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec(),
        }
    }

    /// A token of these two parts, whatever they are, with a signature that is right.
    #[must_use]
    pub fn token(&self, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
        let message = format!("{}.{}", base64url(header), base64url(claims));
        let signature = base64url(self.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// The public half as it is published; of a secret, the secret.
    #[must_use]
    pub fn jwk(&self, kid: &str) -> Value {
        let mut jwk = match self {
            Self::Rsa(pair) => {
                let parts = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({ "kty": "RSA", "n": base64url(parts.n), "e": base64url(parts.e) })
            }
            Self::P256(pair) => {
                // An uncompressed point (SEC 1, 2.3.3): 4, then two coordinates of 32 bytes.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y) })
            }
            Self::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key()) })
            }
            Self::Secret(secret) => json!({ "kty": "oct", "k": base64url(secret) }),
        };
        jwk["kid"] = kid.into();
        jwk["use"] = "sig".into();
        jwk["alg"] = self.algorithm().into();
        jwk
    }

    /// The public half as SubjectPublicKeyInfo in DER; of a secret, the secret.
    ///
    /// # Panics
    /// The key cannot be written.
    #[must_use]
    pub fn public_der(&self) -> Vec<u8> {
        match self {
            Self::Rsa(pair) => AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap().as_ref().to_vec(),
            Self::P256(pair) => AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap().as_ref().to_vec(),
            Self::Secret(secret) => secret.clone(),
        }
    }
}

/// An address with a JWK set.
#[derive(Debug)]
pub struct JwksAddress {
    endpoint: Endpoint,
    desk: Arc<Desk>,
}

#[derive(Debug)]
struct Desk {
    answer: Mutex<(StatusCode, Option<String>, Bytes)>,
    fetches: watch::Sender<usize>,
    held: watch::Sender<bool>,
}

impl JwksAddress {
    /// Starts with these keys.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(keys: &[Value]) -> io::Result<Self> {
        let answer = Mutex::new((StatusCode::OK, None, Bytes::new()));
        let desk = Arc::new(Desk { answer, fetches: watch::Sender::new(0), held: watch::Sender::new(false) });
        let router = Router::new().fallback(answer_fetch).with_state(desk.clone());
        let address = Self { endpoint: Endpoint::serve(router).await?, desk };
        address.publish(keys);
        Ok(address)
    }

    /// The `jwks_url`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/keys", self.endpoint.url())
    }

    /// Publishes these keys from now on.
    pub fn publish(&self, keys: &[Value]) {
        self.answer(StatusCode::OK, json!({ "keys": keys }).to_string());
    }

    /// Answers like this from now on.
    pub fn answer(&self, status: StatusCode, body: impl Into<Bytes>) {
        self.set((status, None, body.into()));
    }

    /// Sends whoever asks to another address from now on.
    pub fn redirect(&self, status: StatusCode, location: &str) {
        self.set((status, Some(location.to_owned()), Bytes::new()));
    }

    fn set(&self, answer: (StatusCode, Option<String>, Bytes)) {
        *self.desk.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// Takes requests but answers none until [`JwksAddress::release`].
    pub fn hold(&self) {
        self.desk.held.send_replace(true);
    }

    /// Answers what was held back and what comes.
    pub fn release(&self) {
        self.desk.held.send_replace(false);
    }

    /// How often somebody has asked.
    #[must_use]
    pub fn fetches(&self) -> usize {
        *self.desk.fetches.borrow()
    }

    /// Waits until somebody has asked so many times.
    pub async fn until_fetched(&self, times: usize) {
        // The sender is here, so there is no other end to waiting.
        let _ = self.desk.fetches.subscribe().wait_for(|fetches| *fetches >= times).await;
    }
}

async fn answer_fetch(State(desk): State<Arc<Desk>>) -> Response {
    desk.fetches.send_modify(|fetches| *fetches += 1);
    // The sender is in the desk, so there is no other end to waiting.
    let _ = desk.held.subscribe().wait_for(|held| !held).await;
    let (status, location, body) = desk.answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    if let Some(location) = location {
        response.headers_mut().insert(header::LOCATION, location.parse().unwrap());
    }
    response
}
