//! Where secrets come from: Secrets Manager with a bounded age, or values fixed at the start of a local process.

use crate::sealing::{RootKey, Sealer};
use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::timeout::TimeoutConfig;
use aws_sdk_secretsmanager::error::ProvideErrorMetadata;
use countersign_domain::{Timestamp, seconds};
use countersign_store::Clock;
use futures_util::future::join_all;
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Mutex;

/// Up to this age a secret is used as it is.
const FRESH_SECONDS: i64 = 5 * 60;
/// Up to this age it is used and refreshed alongside; beyond, only after a refresh.
const USABLE_SECONDS: i64 = 15 * 60;
/// The shortest secret for HS256, in bytes (RFC 7518, 3.2).
const LEAST_HS256_BYTES: usize = 32;
/// How long one read from Secrets Manager may take.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// A secret with the one that it replaced, during a rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotating<T> {
    /// Signs, seals and verifies.
    pub current: T,
    /// Only verifies and opens.
    pub previous: Option<T>,
}

/// A secret text, which nothing prints.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Takes a text as a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for whoever it is shared with.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The UTF-8 bytes that sign.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// A secret cannot be had now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret `{name}` cannot be had: {reason}")]
pub struct SecretsError {
    name: String,
    reason: String,
}

/// The secrets of a deployment.
#[derive(Debug)]
pub struct Secrets {
    override_secret: Option<Source<SecretText>>,
    callback_secret: Option<Source<SecretText>>,
    root_key: Source<RootKey>,
    named: Named,
}

/// Where the secrets are that the configuration names: those that issuers sign with by HS256, and those that we show to
/// directories.
#[derive(Debug)]
enum Named {
    Fixed { issuers: HashMap<String, SecretText>, directories: HashMap<String, SecretText> },
    Manager(Arc<Manager>, Clock),
}

/// A client that is made when a secret is first read.
type Manager = LazyLock<Client, Box<dyn FnOnce() -> Client + Send>>;

/// The secret that we show to a directory.
#[derive(Debug)]
pub struct DirectorySecret(Source<SecretText>);

impl DirectorySecret {
    /// The secret; one that is no longer fresh is read anew, and used up to 15 minutes if it cannot be.
    ///
    /// # Errors
    /// It is too old and cannot be refreshed.
    pub async fn get(&self) -> Result<SecretText, SecretsError> {
        self.0.refresh_aging().await;
        Ok(self.0.get().await?.current.clone())
    }
}

impl Secrets {
    /// Secrets that stay as they are as long as the process lives.
    #[must_use]
    pub fn fixed(
        override_secret: Rotating<SecretText>,
        callback_secret: Option<SecretText>,
        root_key: Rotating<RootKey>,
        issuer_secrets: HashMap<String, SecretText>,
    ) -> Self {
        let callback_secret = callback_secret.map(|current| Rotating { current, previous: None });
        Self {
            override_secret: Some(Source::Fixed(Arc::new(override_secret))),
            callback_secret: callback_secret.map(|secret| Source::Fixed(Arc::new(secret))),
            root_key: Source::Fixed(Arc::new(root_key)),
            named: Named::Fixed { issuers: issuer_secrets, directories: HashMap::new() },
        }
    }

    /// The same with secrets for directories; those in Secrets Manager are there without being named.
    #[must_use]
    pub fn with_directory_secrets(mut self, secrets: HashMap<String, SecretText>) -> Self {
        if let Named::Fixed { directories, .. } = &mut self.named {
            *directories = secrets;
        }
        self
    }

    /// Secrets in Secrets Manager, under these names or ARNs, each a JSON object `{"current", "previous"?}`.
    #[must_use]
    pub fn manager(
        config: &SdkConfig,
        override_secret: Option<String>,
        callback_secret: Option<String>,
        root_key: String,
        clock: &Clock,
    ) -> Self {
        let timeouts = TimeoutConfig::builder().operation_timeout(READ_WITHIN).build();
        let config = aws_sdk_secretsmanager::config::Builder::from(config).timeout_config(timeouts).build();
        let manager: Arc<Manager> = Arc::new(LazyLock::new(Box::new(|| Client::from_conf(config))));
        let text: Parse<SecretText> = |text| (!text.is_empty()).then(|| SecretText::new(text.to_owned()));
        let managed = |name| Source::managed(manager.clone(), name, text, clock.clone());
        Self {
            override_secret: override_secret.map(managed),
            callback_secret: callback_secret.map(managed),
            root_key: Source::managed(manager.clone(), root_key, RootKey::parse, clock.clone()),
            named: Named::Manager(manager, clock.clone()),
        }
    }

    /// Makes now what would be made when a secret is first read: for a moment in which one waits anyway.
    pub(crate) fn prepare(&self) {
        if let Named::Manager(manager, _) = &self.named {
            LazyLock::force(manager);
        }
    }

    /// The secret that co-signs override decisions.
    ///
    /// # Errors
    /// It is too old and cannot be refreshed.
    pub async fn override_secret(&self) -> Result<Arc<Rotating<SecretText>>, SecretsError> {
        match &self.override_secret {
            Some(secret) => secret.get().await,
            None => Err(SecretsError { name: "override secret".to_owned(), reason: "it is not configured".to_owned() }),
        }
    }

    /// The deployment's own secret for callbacks of requests that name none; `None` if it has none.
    ///
    /// # Errors
    /// It is too old and cannot be refreshed.
    pub(crate) async fn callback_secret(&self) -> Result<Option<Arc<Rotating<SecretText>>>, SecretsError> {
        match &self.callback_secret {
            Some(secret) => secret.get().await.map(Some),
            None => Ok(None),
        }
    }

    /// Whether there is such a secret, as far as that is known without reading it.
    pub(crate) fn has_callback_secret(&self) -> bool {
        self.callback_secret.is_some()
    }

    /// The secret that an issuer signs with by HS256; `None` if it is known not to be there, or to be too short.
    pub(crate) fn issuer_secret(&self, id: &str) -> Option<Source<SecretText>> {
        let long_enough: Parse<SecretText> =
            |text| (text.len() >= LEAST_HS256_BYTES).then(|| SecretText::new(text.to_owned()));
        match &self.named {
            Named::Fixed { issuers, .. } => {
                let secret = issuers.get(id).filter(|secret| secret.as_bytes().len() >= LEAST_HS256_BYTES)?;
                Some(Source::Fixed(Arc::new(Rotating { current: secret.clone(), previous: None })))
            }
            Named::Manager(manager, clock) => {
                Some(Source::managed(manager.clone(), id.to_owned(), long_enough, clock.clone()))
            }
        }
    }

    /// The secret that a directory knows us by; `None` if it is known not to be there.
    #[must_use]
    pub fn directory_secret(&self, id: &str) -> Option<DirectorySecret> {
        let not_empty: Parse<SecretText> = |text| (!text.is_empty()).then(|| SecretText::new(text.to_owned()));
        match &self.named {
            Named::Fixed { directories, .. } => {
                let secret = directories.get(id).filter(|secret| !secret.as_bytes().is_empty())?;
                Some(DirectorySecret(Source::Fixed(Arc::new(Rotating { current: secret.clone(), previous: None }))))
            }
            Named::Manager(manager, clock) => {
                Some(DirectorySecret(Source::managed(manager.clone(), id.to_owned(), not_empty, clock.clone())))
            }
        }
    }

    /// What seals and opens the secrets in items.
    ///
    /// # Errors
    /// The root key is too old and cannot be refreshed.
    pub async fn sealer(&self) -> Result<Sealer, SecretsError> {
        self.root_key.get().await.map(Sealer::new)
    }

    /// Refreshes what is in use and no longer fresh. Meant to run alongside a call's own reads: nothing runs in a
    /// function between two calls.
    pub async fn refresh_aging(&self) {
        let texts = [&self.override_secret, &self.callback_secret].into_iter().flatten().map(Source::refresh_aging);
        futures_util::join!(join_all(texts), self.root_key.refresh_aging());
    }
}

type Parse<T> = fn(&str) -> Option<T>;

#[derive(Debug)]
pub(crate) enum Source<T> {
    Fixed(Arc<Rotating<T>>),
    Managed(Box<Managed<T>>),
}

#[derive(Debug)]
pub(crate) struct Managed<T> {
    manager: Arc<Manager>,
    name: String,
    parse: Parse<T>,
    clock: Clock,
    latest: RwLock<Option<(Arc<Rotating<T>>, Timestamp)>>,
    /// Held while reading, so that one read serves all who wait.
    reading: Mutex<()>,
}

impl<T> Source<T> {
    fn managed(manager: Arc<Manager>, name: String, parse: Parse<T>, clock: Clock) -> Self {
        let latest = RwLock::new(None);
        Self::Managed(Box::new(Managed { manager, name, parse, clock, latest, reading: Mutex::new(()) }))
    }

    pub(crate) async fn get(&self) -> Result<Arc<Rotating<T>>, SecretsError> {
        match self {
            Self::Fixed(secret) => Ok(secret.clone()),
            Self::Managed(managed) => managed.younger_than(USABLE_SECONDS).await,
        }
    }

    pub(crate) async fn refresh_aging(&self) {
        let Self::Managed(managed) = self else { return };
        // What no call has used yet is not read for it.
        if managed.at_most(USABLE_SECONDS).is_some()
            && let Err(error) = managed.younger_than(FRESH_SECONDS).await
        {
            tracing::warn!(%error, "secret not refreshed");
        }
    }
}

impl<T> Managed<T> {
    fn at_most(&self, age: i64) -> Option<Arc<Rotating<T>>> {
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
        let (secret, read_at) = latest.as_ref()?;
        (self.clock.now().duration_since(*read_at) < seconds(age)).then(|| secret.clone())
    }

    async fn younger_than(&self, age: i64) -> Result<Arc<Rotating<T>>, SecretsError> {
        if let Some(secret) = self.at_most(age) {
            return Ok(secret);
        }
        let _reading = self.reading.lock().await;
        if let Some(secret) = self.at_most(age) {
            return Ok(secret);
        }
        let read_at = self.clock.now();
        let secret = Arc::new(self.read().await?);
        *self.latest.write().unwrap_or_else(PoisonError::into_inner) = Some((secret.clone(), read_at));
        Ok(secret)
    }

    async fn read(&self) -> Result<Rotating<T>, SecretsError> {
        let failed = |reason: String| SecretsError { name: self.name.clone(), reason };
        let answer = self.manager.get_secret_value().secret_id(&self.name).send().await;
        // Only the code: a message may quote what it is about.
        let answer = answer.map_err(|error| failed(error.code().unwrap_or("no answer").to_owned()))?;
        parse_rotating(answer.secret_string().unwrap_or_default(), self.parse)
            .ok_or_else(|| failed("it must be JSON text {\"current\": ..., \"previous\"?: ...}".to_owned()))
    }
}

fn parse_rotating<T>(text: &str, parse: Parse<T>) -> Option<Rotating<T>> {
    #[derive(Deserialize)]
    struct Document {
        current: String,
        previous: Option<String>,
    }
    let document: Document = serde_json::from_str(text).ok()?;
    let previous = match document.previous {
        None => None,
        Some(previous) => Some(parse(&previous)?),
    };
    Some(Rotating { current: parse(&document.current)?, previous })
}
