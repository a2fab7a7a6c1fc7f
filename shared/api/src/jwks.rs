//! An issuer's public keys: which of a JWK set can be used, and how they are kept while the issuer is away.

use crate::body;
use crate::caller::Denied;
use crate::problem::Problem;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign_domain::{Timestamp, seconds};
use countersign_outbound::{Fetcher, OperatorUrl};
use countersign_store::Clock;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::task::JoinHandle;
use tracing::Instrument;

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
            // A private key in a public document is everyone's.
            if value.get("d").is_none() {
                keys.extend(serde_json::from_value(value.clone()).ok().and_then(usable));
            }
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
    let operations = jwk.common.key_operations.as_ref();
    let for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature))
        && operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify));
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
    keys: Arc<KeySet>,
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
                self.refresh(now, before.tried_at);
            }
            return Ok(key);
        }
        let pause = if usable { BETWEEN_ATTEMPTS } else { BETWEEN_DESPERATE_ATTEMPTS };
        if !before.tried_within(pause, now) {
            // Whatever came of it is seen below.
            let _ = self.refresh(now, before.tried_at).await;
        }
        let after = self.0.latest();
        if !after.fetched_within(USABLE, now) {
            return Err(Denied::Unavailable(Problem::unavailable()));
        }
        after.keys.find(kid, algorithm).ok_or(Denied::Token)
    }

    /// A task of its own: a caller who hangs up does not end the attempt, or hanging up would be a way around the
    /// pause between two attempts.
    fn refresh(&self, now: Timestamp, known_attempt: Option<Timestamp>) -> JoinHandle<()> {
        let inner = self.0.clone();
        tokio::spawn(async move { inner.refresh(now, known_attempt).await }.in_current_span())
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
            Ok(keys) => *latest = Latest { keys: Arc::new(keys), fetched_at: Some(now), tried_at: Some(now) },
            Err(reason) => tracing::warn!(reason, "an issuer's keys cannot be fetched"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_testing::issuer::{JwksAddress, Signer, base64url};
    use futures_util::future::join_all;
    use serde_json::json;
    use std::time::Duration;

    const START: &str = "2026-11-21T12:00:00Z";

    async fn jwks(address: &JwksAddress) -> (Jwks, Clock) {
        let clock = Clock::manual(START.parse().unwrap());
        (Jwks::new(address.url().parse().unwrap(), Fetcher::default(), clock.clone()), clock)
    }

    /// How many keys of a set are usable.
    fn usable_among(keys: &[Value]) -> usize {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap().0.len()
    }

    fn changed(jwk: &Value, field: &str, value: Value) -> Value {
        let mut jwk = jwk.clone();
        jwk[field] = value;
        jwk
    }

    #[test]
    fn keys_that_cannot_be_meant_are_left_out() {
        let pairs = [(Signer::rsa(), "RS384"), (Signer::p256(), "ES384"), (Signer::ed25519(), "ES256")];
        for (pair, other_algorithm) in &pairs {
            let good = pair.jwk("good");
            let mut bare = good.clone();
            for field in ["use", "alg", "kid"] {
                bare.as_object_mut().unwrap().remove(field);
            }
            for right in [
                &good,
                &bare,
                &changed(&good, "key_ops", json!(["verify"])),
                &changed(&good, "key_ops", json!(["sign", "verify"])),
                &changed(&good, "new", json!({ "field": 1 })),
            ] {
                assert_eq!(usable_among(std::slice::from_ref(right)), 1, "{right}");
            }
            for (field, value) in [
                ("use", json!("enc")),
                ("use", json!("")),
                ("use", json!("SIG")),
                ("use", json!(1)),
                ("key_ops", json!(["encrypt"])),
                ("key_ops", json!(["sign"])),
                ("key_ops", json!([])),
                ("key_ops", json!("verify")),
                ("alg", json!(other_algorithm)),
                ("alg", json!("none")),
                ("alg", json!("HS256")),
                ("alg", json!(1)),
                ("kid", json!(1)),
                ("kty", json!("oct")),
                ("kty", json!("other")),
                ("kty", json!(null)),
                ("d", json!("AQ")),
            ] {
                let wrong = changed(&good, field, value);
                assert_eq!(usable_among(&[wrong.clone(), pair.jwk("other")]), 1, "{wrong}");
            }
        }
        for curve in ["P-384", "P-521", "secp256k1", "Ed25519", ""] {
            assert_eq!(usable_among(&[changed(&pairs[1].0.jwk("k"), "crv", json!(curve))]), 0, "{curve}");
        }
        for curve in ["Ed448", "X25519", "P-256", ""] {
            assert_eq!(usable_among(&[changed(&pairs[2].0.jwk("k"), "crv", json!(curve))]), 0, "{curve}");
        }
        assert_eq!(usable_among(&[Signer::Secret(vec![7; 32]).jwk("k")]), 0);
        assert_eq!(usable_among(&[json!(null), json!([]), json!({}), json!("k")]), 0);
    }

    #[test]
    fn a_modulus_has_2048_bits_of_its_own() {
        let rsa = Signer::rsa().jwk("k");
        let modulus = |bytes: Vec<u8>| usable_among(&[changed(&rsa, "n", json!(base64url(bytes)))]);
        assert_eq!(modulus(vec![0x80; 256]), 1);
        assert_eq!(modulus([vec![0], vec![0x80; 256]].concat()), 1);
        for weak in [vec![], vec![0; 256], vec![0xff; 128], vec![0xff; 255], vec![0x7f; 256]] {
            assert_eq!(modulus(weak.clone()), 0, "{} bytes", weak.len());
        }
        assert_eq!(modulus([vec![0; 128], vec![0xff; 128]].concat()), 0, "leading zeros make it no longer");
        assert_eq!(usable_among(&[changed(&rsa, "n", json!("+/=="))]), 0);
    }

    #[test]
    fn a_key_id_that_comes_twice_means_no_key() {
        let (one, two, other) = (Signer::p256(), Signer::p256(), Signer::rsa());
        let keys = |keys: &[Value]| KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
        let twice = keys(&[one.jwk("k"), two.jwk("k"), one.jwk("l")]);
        assert!(twice.find(Some("k"), Algorithm::ES256).is_none());
        assert!(twice.find(Some("l"), Algorithm::ES256).is_some());
        // Also if only one of them could be used: nobody knows which one the issuer means.
        assert_eq!(usable_among(&[one.jwk("k"), changed(&two.jwk("k"), "use", json!("enc"))]), 0);
        assert_eq!(usable_among(&[one.jwk("k"), other.jwk("k")]), 0);
    }

    #[test]
    fn without_a_key_id_only_one_key_can_be_meant() {
        let (one, two, other) = (Signer::p256(), Signer::p256(), Signer::rsa());
        let keys = |keys: &[Value]| KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
        assert!(keys(&[one.jwk("k"), other.jwk("l")]).find(None, Algorithm::ES256).is_some());
        assert!(keys(&[one.jwk("k"), two.jwk("l")]).find(None, Algorithm::ES256).is_none());
        assert!(keys(&[other.jwk("l")]).find(None, Algorithm::ES256).is_none());
        assert!(keys(&[one.jwk("k")]).find(Some("k"), Algorithm::RS256).is_none());
    }

    #[tokio::test]
    async fn fifty_who_wait_are_served_by_one_fetch() {
        let address = JwksAddress::start(&[Signer::p256().jwk("k")]).await.unwrap();
        let (jwks, clock) = jwks(&address).await;
        for (kid, found, fetches) in [("k", true, 1), ("unknown", false, 2)] {
            address.hold();
            let waiting = join_all((0..50).map(|_| jwks.find(Some(kid), Algorithm::ES256)));
            tokio::pin!(waiting);
            tokio::select! {
                biased;
                _ = &mut waiting => panic!("nobody has answered yet"),
                () = address.until_fetched(fetches) => address.release(),
            }
            assert!(waiting.await.iter().all(|key| key.is_ok() == found));
            assert_eq!(address.fetches(), fetches);
            clock.advance(Duration::from_secs(30));
        }
    }

    #[tokio::test]
    async fn hanging_up_is_no_way_around_the_pause_between_two_fetches() {
        let address = JwksAddress::start(&[Signer::p256().jwk("k")]).await.unwrap();
        let (jwks, clock) = jwks(&address).await;
        assert!(jwks.find(Some("k"), Algorithm::ES256).await.is_ok());
        clock.advance(Duration::from_secs(30));
        address.hold();
        for _ in 0..20 {
            tokio::select! {
                biased;
                _ = jwks.find(Some("unknown"), Algorithm::ES256) => panic!("nobody has answered yet"),
                () = address.until_fetched(2) => {}
            }
        }
        address.release();
        assert_eq!(jwks.find(Some("unknown"), Algorithm::ES256).await.err(), Some(Denied::Token));
        assert_eq!(address.fetches(), 2);
    }
}
