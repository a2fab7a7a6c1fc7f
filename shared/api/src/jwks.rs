//! An issuer's public keys: which of a JWK set can be used, and how they are kept while the issuer is away.

use crate::body;
use crate::caller::Denied;
use crate::problem::Problem;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign_domain::{Timestamp, seconds};
use countersign_outbound::{Fetcher, OperatorUrl};
use countersign_store::Clock;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// From this age on keys are refreshed alongside, in seconds.
const FRESH: i64 = 10 * 60;
/// Up to this age they are used although the issuer does not answer.
const USABLE: i64 = 60 * 60;
/// The least time between two attempts while there are usable keys: nobody makes us ask by inventing key ids.
const BETWEEN_ATTEMPTS: i64 = 30;
/// The same while there are none, and every caller waits.
const BETWEEN_DESPERATE_ATTEMPTS: i64 = 1;
/// RFC 7518, 3.3.
const LEAST_RSA_BITS: usize = 2048;

/// A public key and what it verifies.
#[derive(Clone)]
pub(crate) struct PublicKey {
    kid: Option<String>,
    algorithm: Algorithm,
    key: Arc<DecodingKey>,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({:?} {:?})", self.algorithm, self.kid)
    }
}

/// The usable keys of a JWK set.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeySet(Vec<PublicKey>);

impl KeySet {
    /// A set of one key, which we made ourselves.
    pub(crate) fn one(kid: &str, algorithm: Algorithm, key: DecodingKey) -> Self {
        Self(vec![PublicKey { kid: Some(kid.to_owned()), algorithm, key: Arc::new(key) }])
    }

    /// Reads a JWK set (RFC 7517). Keys that are not for signatures, are too weak or cannot be told apart are left out.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let set = body::parse(text).ok()?;
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut keys = Vec::new();
        for value in set.get("keys")?.as_array()? {
            if let Some(kid) = value.get("kid").and_then(Value::as_str) {
                *seen.entry(kid.to_owned()).or_default() += 1;
            }
            keys.extend(serde_json::from_value(value.clone()).ok().and_then(usable));
        }
        keys.retain(|key| key.kid.as_ref().is_none_or(|kid| seen.get(kid) == Some(&1)));
        Some(Self(keys))
    }

    /// The key that a token names; one that names none can only mean the one there is.
    pub(crate) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<Arc<DecodingKey>> {
        let mut able = self.0.iter().filter(|key| key.algorithm == algorithm);
        let found = match kid {
            Some(kid) => able.find(|key| key.kid.as_deref() == Some(kid)),
            None => able.next().filter(|_| able.next().is_none()),
        };
        found.map(|found| found.key.clone())
    }
}

fn usable(jwk: Jwk) -> Option<PublicKey> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let modulus = BASE64_URL_SAFE_NO_PAD.decode(&rsa.n).ok()?;
            let leading_zeros = modulus.iter().take_while(|byte| **byte == 0).count();
            let first_bits = modulus.get(leading_zeros).map_or(0, |byte| byte.leading_zeros() as usize);
            let bits = (modulus.len() - leading_zeros) * 8 - first_bits;
            (bits >= LEAST_RSA_BITS).then_some(Algorithm::RS256)?
        }
        AlgorithmParameters::EllipticCurve(curve) => {
            (curve.curve == EllipticCurve::P256).then_some(Algorithm::ES256)?
        }
        AlgorithmParameters::OctetKeyPair(pair) => {
            (pair.curve == EllipticCurve::Ed25519).then_some(Algorithm::EdDSA)?
        }
        // A shared secret in a public document is none.
        AlgorithmParameters::OctetKey(_) | _ => return None,
    };
    let for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let declared = jwk.common.key_algorithm.is_none_or(|declared| declared.to_string() == format!("{algorithm:?}"));
    if !for_signatures || !declared {
        return None;
    }
    let key = Arc::new(DecodingKey::from_jwk(&jwk).ok()?);
    Some(PublicKey { kid: jwk.common.key_id, algorithm, key })
}

/// The keys at an issuer's address.
#[derive(Clone, Debug)]
pub(crate) struct Jwks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    url: OperatorUrl,
    fetcher: Fetcher,
    clock: Clock,
    latest: RwLock<Latest>,
    /// Held while fetching, so that one fetch serves all who wait.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct Latest {
    keys: KeySet,
    fetched_at: Option<Timestamp>,
    tried_at: Option<Timestamp>,
}

impl Latest {
    fn tried_within(&self, age: i64, now: Timestamp) -> bool {
        within(self.tried_at, age, now)
    }

    fn fetched_within(&self, age: i64, now: Timestamp) -> bool {
        within(self.fetched_at, age, now)
    }
}

fn within(at: Option<Timestamp>, age: i64, now: Timestamp) -> bool {
    at.is_some_and(|at| now.duration_since(at) < seconds(age))
}

impl Jwks {
    pub(crate) fn new(url: OperatorUrl, fetcher: Fetcher, clock: Clock) -> Self {
        let latest = RwLock::default();
        Self(Arc::new(Inner { url, fetcher, clock, latest, fetching: tokio::sync::Mutex::default() }))
    }

    /// The key that a token names. One that is known is given without waiting for anyone.
    pub(crate) async fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Arc<DecodingKey>, Denied> {
        let now = self.0.clock.now();
        let before = self.0.latest();
        let usable = before.fetched_within(USABLE, now);
        if usable && let Some(key) = before.keys.find(kid, algorithm) {
            if !before.fetched_within(FRESH, now) && !before.tried_within(BETWEEN_ATTEMPTS, now) {
                let inner = self.0.clone();
                tokio::spawn(async move { inner.refresh(now, before.tried_at).await });
            }
            return Ok(key);
        }
        let pause = if usable { BETWEEN_ATTEMPTS } else { BETWEEN_DESPERATE_ATTEMPTS };
        if !before.tried_within(pause, now) {
            self.0.refresh(now, before.tried_at).await;
        }
        let after = self.0.latest();
        if !after.fetched_within(USABLE, now) {
            return Err(Denied::Unavailable(Problem::unavailable()));
        }
        after.keys.find(kid, algorithm).ok_or(Denied::Token)
    }
}

impl Inner {
    fn latest(&self) -> Latest {
        self.latest.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fetches the keys, unless somebody has since the last attempt that the caller knows of.
    async fn refresh(&self, now: Timestamp, known_attempt: Option<Timestamp>) {
        let _fetching = self.fetching.lock().await;
        if self.latest().tried_at != known_attempt {
            return;
        }
        let fetched = self.fetcher.fetch(&self.url).await;
        let keys = fetched
            .map_err(|error| error.to_string())
            .and_then(|text| KeySet::parse(&text).ok_or_else(|| "the answer is no JWK set".to_owned()));
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        latest.tried_at = Some(now);
        match keys {
            Ok(keys) => *latest = Latest { keys, fetched_at: Some(now), tried_at: Some(now) },
            Err(reason) => tracing::warn!(reason, "an issuer's keys cannot be fetched"),
        }
    }
}
