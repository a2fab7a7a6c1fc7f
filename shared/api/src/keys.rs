//! API keys as credentials: looked up by the hash of their text, kept for a few seconds.

use crate::cache::Aging;
use crate::caller::{Denied, Holder};
use crate::problem::Problem;
use aws_lc_rs::rand;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign_domain::api_key::{ApiKey, KeyId, PREFIX};
use countersign_store::{CALL_BUDGET, Clock, Fault, Key, Store};
use tokio::time::Instant;

/// How long a key may be used by another process after it was revoked, in seconds.
const USABLE_SECONDS: i64 = 5;
/// No key that was ever minted is longer.
const LONGEST: usize = 200;

/// The API keys that this process has seen.
#[derive(Debug)]
pub struct Keys {
    seen: Aging<KeyId, ApiKey>,
    clock: Clock,
}

/// Random bits, for ids that need no more.
///
/// # Errors
/// The system gives no random numbers.
pub fn random_bits() -> Result<u64, Fault> {
    Ok(u64::from_ne_bytes(random_bytes()?))
}

/// Random bytes, also for secrets.
///
/// # Errors
/// The system gives no random numbers.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| Fault::Unavailable("no random numbers".to_owned()))?;
    Ok(bytes)
}

impl Keys {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { seen: Aging::new(USABLE_SECONDS, clock.clone()), clock }
    }

    /// Where the key with this id is.
    #[must_use]
    pub fn key(id: &KeyId) -> Key<ApiKey> {
        Key::before_tenant(id.as_str())
    }

    /// The text of a new key: 256 random bits behind a prefix by which people tell keys apart.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate() -> Result<String, Fault> {
        let mut bytes = [0; 36];
        rand::fill(&mut bytes).map_err(|_| Fault::Unavailable("no random numbers".to_owned()))?;
        let (name, secret) = bytes.split_at(4);
        Ok(format!("{PREFIX}{}_{}", hex::encode(name), BASE64_URL_SAFE_NO_PAD.encode(secret)))
    }

    /// Whoever holds the key with this text. Unknown, expired and revoked are one answer.
    pub(crate) async fn holder(&self, store: &Store, text: &str) -> Result<Holder, Denied> {
        if text.len() > LONGEST {
            return Err(Denied::Key);
        }
        let id = KeyId::of(text);
        let read = async {
            let found = store.load(&Self::key(&id), Instant::now() + CALL_BUDGET).await?;
            Ok(found.map(|found| found.record))
        };
        let found = self.seen.get(&id, read).await.map_err(|fault| Denied::Unavailable(Problem::from(fault)))?;
        match found.filter(|key| key.opens(text, self.clock.now())) {
            Some(key) => Ok(Holder::new(id, key.domain, key.owner, key.scopes)),
            None => Err(Denied::Key),
        }
    }

    /// The key was changed: this process reads it anew.
    pub fn forget(&self, id: &KeyId) {
        self.seen.forget(id);
    }
}
