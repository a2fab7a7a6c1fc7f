//! A stand-in for Secrets Manager on a loopback port: its secrets change, its reads are counted, and it can fail.

use crate::aws;
use crate::wire::Endpoint;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A running stand-in.
#[derive(Debug)]
pub struct SecretsManager {
    endpoint: Endpoint,
    vault: Vault,
}

#[derive(Clone, Debug, Default)]
struct Vault(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    secrets: HashMap<String, String>,
    reads: HashMap<String, usize>,
    failing: bool,
}

impl SecretsManager {
    /// Starts without any secret.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start() -> io::Result<Self> {
        let vault = Vault::default();
        let router = Router::new().route("/", post(answer)).with_state(vault.clone());
        Ok(Self { endpoint: Endpoint::serve(router).await?, vault })
    }

    /// The URL that an SDK takes.
    #[must_use]
    pub fn url(&self) -> String {
        self.endpoint.url()
    }

    /// Gives a secret this text from now on.
    pub fn set(&self, id: &str, text: impl Into<String>) {
        self.vault.open().secrets.insert(id.to_owned(), text.into());
    }

    /// Whether every read fails from now on.
    pub fn fail(&self, failing: bool) {
        self.vault.open().failing = failing;
    }

    /// How often a secret was asked for, failures and retries included.
    #[must_use]
    pub fn reads(&self, id: &str) -> usize {
        self.vault.open().reads.get(id).copied().unwrap_or_default()
    }
}

impl Vault {
    fn open(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(State(vault): State<Vault>, headers: HeaderMap, body: Bytes) -> Response {
    if aws::target(&headers) != Some("secretsmanager.GetSecretValue") {
        return aws::refuse(StatusCode::BAD_REQUEST, "InvalidRequestException");
    }
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(id) = request["SecretId"].as_str() else {
        return aws::refuse(StatusCode::BAD_REQUEST, "InvalidParameterException");
    };
    let mut vault = vault.open();
    *vault.reads.entry(id.to_owned()).or_default() += 1;
    if vault.failing {
        return aws::refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalServiceError");
    }
    let Some(secret) = vault.secrets.get(id) else {
        return aws::refuse(StatusCode::BAD_REQUEST, "ResourceNotFoundException");
    };
    let answer = json!({
        "ARN": format!("arn:aws:secretsmanager:eu-central-1:123456789012:secret:{id}-AbCdEf"),
        "Name": id,
        "VersionId": "7c2a9d0e-4e0b-4f9d-9a53-0f2f7c1b6a11",
        "VersionStages": ["AWSCURRENT"],
        "SecretString": secret,
        "CreatedDate": 1_767_225_600.5,
    });
    aws::json_1_1(&answer)
}
