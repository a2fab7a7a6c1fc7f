//! The issuers whose JWTs are trusted, and what a token must be to be believed.

use crate::body;
use crate::caller::{Denied, Person};
use crate::config::{ConfigError, IssuerConfig, IssuerKeys, Tenants};
use crate::jwks::{Jwks, KeySet};
use crate::problem::Problem;
use crate::secrets::{SecretText, Secrets, Source};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign_domain::{Tenant, Timestamp, seconds};
use countersign_outbound::Fetcher;
use countersign_store::{Clock, Fault};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header};
use quick_cache::sync::Cache;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The longest token that is looked at, in bytes.
const LONGEST: usize = 8 * 1024;
/// How far apart the clocks of an issuer and ours may be, in seconds.
const LEEWAY: i64 = 30;
/// Headers by which a token could name its own key, or ask for what we do not do.
const REFUSED_HEADERS: [&str; 7] = ["jku", "x5u", "jwk", "x5c", "crit", "b64", "zip"];
/// What a JWT may call itself, also with `application/` in front (RFC 7515, 4.1.9).
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// How many tokens are remembered.
const REMEMBERED: usize = 2_000;

/// Everyone who may vouch for a person.
#[derive(Debug)]
pub struct Issuers {
    all: Vec<Issuer>,
    /// Whose signature was found right, by their SHA-256, and by which key. It is right again if that is still the key:
    /// a key that is read anew is another one. Everything else about a token is judged each time.
    signed: Cache<[u8; 32], Arc<DecodingKey>>,
}

impl Default for Issuers {
    /// Nobody.
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

#[derive(Debug)]
struct Issuer {
    name: String,
    audience: String,
    algorithms: Vec<Algorithm>,
    tenants: Tenants,
    /// Of a token that names none, where a door knows such a thing.
    default_tenant: Option<Tenant>,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    Fixed(KeySet),
    Address(Jwks),
    Secret(Source<SecretText>),
}

impl Issuers {
    fn of(all: Vec<Issuer>) -> Self {
        Self { all, signed: Cache::new(REMEMBERED) }
    }

    /// The issuers of a configuration.
    ///
    /// # Errors
    /// A secret is not there.
    pub fn configured(configs: &[IssuerConfig], secrets: &Secrets, clock: &Clock) -> Result<Self, ConfigError> {
        let wrong = |message: String| ConfigError::new("COUNTERSIGN_ISSUERS", message);
        let fetcher = Fetcher::default();
        let mut issuers = Vec::new();
        for config in configs {
            let keys = match &config.keys {
                IssuerKeys::Jwks(url) => Keys::Address(Jwks::new(url.clone(), fetcher.clone(), clock.clone())),
                IssuerKeys::Hs256(id) => {
                    let missing =
                        || wrong(format!("names the secret `{id}`, which is not there or has less than 32 bytes"));
                    Keys::Secret(secrets.issuer_secret(id).ok_or_else(missing)?)
                }
            };
            issuers.push(Issuer {
                name: config.issuer.clone(),
                audience: config.audience.clone(),
                algorithms: config.algorithms.clone(),
                tenants: config.tenants.clone(),
                default_tenant: config.default_tenant.clone(),
                keys,
            });
        }
        Ok(Self::of(issuers))
    }

    /// Whoever a token is about, if everything about it is right.
    pub(crate) async fn verify(&self, token: &str, now: Timestamp) -> Result<Person, Denied> {
        if token.len() > LONGEST {
            return Err(Denied::Token);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Denied::Token)?;
        let (header, claims) = message.split_once('.').ok_or(Denied::Token)?;
        let header = read_part(header)?;
        let claims = read_part(claims)?;

        let issuer = text_of(&claims, "iss")?;
        let issuer = self.all.iter().find(|trusted| trusted.name == issuer).ok_or(Denied::Token)?;
        let (algorithm, kid) = issuer.read_header(&header)?;
        let keys = issuer.keys(kid, algorithm).await?;
        let right = |key: &DecodingKey| {
            matches!(jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, algorithm), Ok(true))
        };
        if keys.iter().any(|key| self.is_signed(token, key, right)) {
            issuer.believe(claims, now)
        } else {
            Err(Denied::Token)
        }
    }

    /// Whether a token's signature is right by this key: found out by `right`, unless that was found before.
    fn is_signed(&self, token: &str, key: &Arc<DecodingKey>, right: impl Fn(&DecodingKey) -> bool) -> bool {
        // A shared secret takes less than to remember.
        if key.family() == AlgorithmFamily::Hmac {
            return right(key);
        }
        let hash = Sha256::digest(token).into();
        if self.signed.get(&hash).is_some_and(|by| Arc::ptr_eq(&by, key)) {
            return true;
        }
        let is_right = right(key);
        if is_right {
            self.signed.insert(hash, Arc::clone(key));
        }
        is_right
    }

    /// Refreshes the secrets that are in use and no longer fresh; meant to run alongside a call's own reads.
    pub(crate) async fn refresh_aging(&self) {
        let secrets = self.all.iter().filter_map(|issuer| match &issuer.keys {
            Keys::Secret(secret) => Some(secret.refresh_aging()),
            Keys::Fixed(_) | Keys::Address(_) => None,
        });
        futures_util::future::join_all(secrets).await;
    }
}

impl Issuer {
    fn read_header<'a>(&self, header: &'a Map<String, Value>) -> Result<(Algorithm, Option<&'a str>), Denied> {
        if REFUSED_HEADERS.iter().any(|name| header.contains_key(*name)) {
            return Err(Denied::Token);
        }
        let typed = match header.get("typ") {
            None => true,
            Some(Value::String(name)) => {
                let name = name.to_ascii_lowercase();
                TYPES.contains(&name.strip_prefix("application/").unwrap_or(&name))
            }
            Some(_) => false,
        };
        let algorithm = text_of(header, "alg")?;
        let algorithm = self.algorithms.iter().find(|pinned| format!("{pinned:?}") == algorithm);
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.as_str()),
            Some(_) => return Err(Denied::Token),
        };
        algorithm.filter(|_| typed).map(|algorithm| (*algorithm, kid)).ok_or(Denied::Token)
    }

    /// What the token may be signed with: one key, or a shared secret and the one that it replaced.
    async fn keys(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Vec<Arc<DecodingKey>>, Denied> {
        match &self.keys {
            Keys::Fixed(set) => Ok(vec![set.find(kid, algorithm).ok_or(Denied::Token)?]),
            Keys::Address(jwks) => Ok(vec![jwks.find(kid, algorithm).await?]),
            Keys::Secret(secret) => {
                let secret = secret.get().await.map_err(|error| Denied::Unavailable(Problem::from(error)))?;
                let secrets = std::iter::once(&secret.current).chain(&secret.previous);
                Ok(secrets.map(|secret| Arc::new(DecodingKey::from_secret(secret.as_bytes()))).collect())
            }
        }
    }

    /// Judges the claims of a token whose signature is right; that its time is over is found last.
    fn believe(&self, claims: Map<String, Value>, now: Timestamp) -> Result<Person, Denied> {
        let meant = match claims.get("aud") {
            Some(Value::String(audience)) => *audience == self.audience,
            Some(Value::Array(audiences)) => audiences.iter().any(|audience| *audience == self.audience),
            _ => false,
        };
        let subject = text_of(&claims, "sub")?;
        let named = !subject.is_empty() && countersign_domain::text::check(subject, 255).is_ok();
        let leeway = seconds(LEEWAY);
        let begun = |name| Ok(time_of(&claims, name)?.is_none_or(|time| time.duration_since(now) <= leeway));
        if !meant || !named || !begun("nbf")? || !begun("iat")? {
            return Err(Denied::Token);
        }
        let tenant = tenant_of(&claims)?;
        let is_named = tenant.is_some();
        let tenant = tenant.or_else(|| self.default_tenant.clone()).ok_or(Denied::Token)?;
        if !self.tenants.allow(&tenant) {
            return Err(Denied::Token);
        }
        let expires = time_of(&claims, "exp")?.ok_or(Denied::Token)?;
        if now.duration_since(expires) >= leeway {
            return Err(Denied::Expired);
        }
        Ok(Person { issuer: self.name.clone(), subject: subject.to_owned(), tenant, is_named, claims })
    }
}

/// A part of a token: base64url without padding, an object in which no key comes twice.
fn read_part(text: &str) -> Result<Map<String, Value>, Denied> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| Denied::Token)?;
    match body::parse(&json) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) | Err(_) => Err(Denied::Token),
    }
}

fn text_of<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a str, Denied> {
    fields.get(name).and_then(Value::as_str).ok_or(Denied::Token)
}

/// A NumericDate (RFC 7519): seconds since 1970, also with a fraction; none that is in no calendar.
fn time_of(claims: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, Denied> {
    let Some(time) = claims.get(name) else { return Ok(None) };
    let microseconds = time.as_f64().ok_or(Denied::Token)? * 1e6;
    // A float beyond the range becomes the end of the range, which is in no calendar either.
    Timestamp::from_microsecond(microseconds.round() as i64).map(Some).map_err(|_| Denied::Token)
}

/// The tenant that a token names, in one or both of its spellings, if it names one.
fn tenant_of(claims: &Map<String, Value>) -> Result<Option<Tenant>, Denied> {
    let name = match claims.get("tenant_id") {
        None => None,
        Some(Value::String(name)) => Some(name.parse::<Tenant>().map_err(|_| Denied::Token)?),
        Some(_) => return Err(Denied::Token),
    };
    let number = match claims.get("organization_id") {
        None => None,
        Some(number) => {
            let number = number
                .as_u64()
                .filter(|number| *number < countersign_domain::text::EXACT_NUMBERS)
                .ok_or(Denied::Token)?;
            Some(number.to_string().parse::<Tenant>().map_err(|_| Denied::Token)?)
        }
    };
    match (name, number) {
        (Some(name), Some(number)) if name != number => Err(Denied::Token),
        (name, number) => Ok(name.or(number)),
    }
}

/// The issuer of a local process, which vouches for whoever asks it to.
pub struct LocalIssuer {
    pkcs8: Vec<u8>,
}

impl LocalIssuer {
    /// Its name, the `iss` of its tokens.
    pub const NAME: &'static str = "countersign-local";
    /// Whom its tokens are for, their `aud`.
    pub const AUDIENCE: &'static str = "countersign";
    const KID: &'static str = "local-1";

    /// The issuer with this private key, PKCS #8 of a P-256 key.
    #[must_use]
    pub fn new(pkcs8: Vec<u8>) -> Option<Self> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).ok()?;
        Some(Self { pkcs8 })
    }

    /// An issuer with a key of its own.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate() -> Result<Self, Fault> {
        let failed = |_| Fault::Unavailable("no signing key can be made".to_owned());
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
        Ok(Self { pkcs8: pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec() })
    }

    /// The private key, to be kept.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Trust in this issuer alone, for every tenant.
    ///
    /// # Errors
    /// Its key is not one.
    pub fn trusted(&self) -> Result<Issuers, Fault> {
        let broken = || Fault::Corrupt("the local issuer's key cannot be read".to_owned());
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.pkcs8).map_err(|_| broken())?;
        let key = DecodingKey::from_ec_der(pair.public_key().as_ref());
        Ok(Issuers::of(vec![Issuer {
            name: Self::NAME.to_owned(),
            audience: Self::AUDIENCE.to_owned(),
            algorithms: vec![Algorithm::ES256],
            tenants: Tenants::All,
            default_tenant: "default".parse().ok(),
            keys: Keys::Fixed(KeySet::one(Self::KID, Algorithm::ES256, key)),
        }]))
    }

    /// A token with these claims.
    ///
    /// # Errors
    /// Its key is not one.
    pub fn sign(&self, claims: &Value) -> Result<String, Fault> {
        let header = Header { kid: Some(Self::KID.to_owned()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_ec_der(&self.pkcs8))
            .map_err(|error| Fault::Corrupt(format!("a token cannot be signed: {error}")))
    }
}

impl std::fmt::Debug for LocalIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LocalIssuer(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Rotating;
    use countersign_testing::issuer::Signer;
    use serde_json::json;

    #[tokio::test]
    async fn while_a_secret_is_rotated_both_sign() {
        let secret = |text: &str| SecretText::new(text.repeat(32));
        let rotating = Rotating { current: secret("n"), previous: Some(secret("o")) };
        let issuer = Issuer {
            name: "https://issuer.example".to_owned(),
            audience: "us".to_owned(),
            algorithms: vec![Algorithm::HS256],
            tenants: Tenants::All,
            default_tenant: None,
            keys: Keys::Secret(Source::Fixed(Arc::new(rotating))),
        };
        let issuers = Issuers::of(vec![issuer]);
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let claims = json!({
            "iss": "https://issuer.example", "aud": "us", "sub": "s", "tenant_id": "t", "exp": now.as_second() + 60,
        });
        for (letter, believed) in [("n", true), ("o", true), ("x", false)] {
            let token = Signer::Secret(letter.repeat(32).into_bytes()).token(r#"{"alg":"HS256"}"#, claims.to_string());
            assert_eq!(issuers.verify(&token, now).await.is_ok(), believed, "{letter}");
        }
    }

    #[tokio::test]
    async fn what_a_withdrawn_key_has_signed_is_not_believed_because_it_was_before() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let claims = |seconds: i64| {
            let (iss, aud) = (LocalIssuer::NAME, LocalIssuer::AUDIENCE);
            json!({ "iss": iss, "aud": aud, "sub": "s", "tenant_id": "t", "exp": now.as_second() + seconds })
        };
        let local = LocalIssuer::generate().unwrap();
        let mut issuers = local.trusted().unwrap();
        let token = local.sign(&claims(60)).unwrap();
        for _ in 0..2 {
            assert!(issuers.verify(&token, now).await.is_ok());
        }
        // Its time is over though its signature is known.
        let later = now + seconds(60 + LEEWAY);
        assert!(matches!(issuers.verify(&token, later).await, Err(Denied::Expired)));
        let tampered = format!("{}A", &token[..token.len() - 1]);
        let tampered = if tampered == token { format!("{}B", &token[..token.len() - 1]) } else { tampered };
        assert!(matches!(issuers.verify(&tampered, now).await, Err(Denied::Token)));

        // Another key under the same name.
        issuers.all = LocalIssuer::generate().unwrap().trusted().unwrap().all;
        assert!(matches!(issuers.verify(&token, now).await, Err(Denied::Token)));
        // And the first one again, read anew.
        issuers.all = local.trusted().unwrap().all;
        assert!(issuers.verify(&token, now).await.is_ok());
    }
}
