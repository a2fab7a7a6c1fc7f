//! `countersign token` and `countersign key`: credentials for trying things out, from the local issuer and the table.

use clap::Args;
use countersign_api::config::duration;
use countersign_api::{Keys, LocalIssuer};
use countersign_domain::api_key::{ApiKey, KeyHash, Mint, Refusal, Scope, Scopes};
use countersign_domain::{Actor, Outcome, Tenant, Timestamp, seconds, text};
use countersign_store::{CALL_BUDGET, Call, Error, Fault, Store};
use serde_json::{Value, json};
use tokio::time::Instant;

/// What a token says.
#[derive(Args, Clone, Debug)]
pub struct Token {
    /// The tenant: `tenant_id`, and `organization_id` if it is a number
    #[arg(long)]
    pub tenant: Tenant,
    /// The subject: `sub`, and `user_id` if it is a number
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub subject: String,
    /// A role, e.g. admin; may be given more than once
    #[arg(long = "role")]
    pub roles: Vec<String>,
    /// Another claim, as name=value; JSON if the value parses as JSON, else text
    #[arg(long = "claim", value_parser = claim)]
    pub claims: Vec<(String, Value)>,
    /// How long it is valid, e.g. 30m, 8h or 7d
    #[arg(long, default_value = "8h", value_parser = seconds_of)]
    pub ttl: i64,
}

fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("must be name=value")?;
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

fn seconds_of(text: &str) -> Result<i64, String> {
    let seconds = duration(text).map_err(|error| format!("must be {error}"))?.as_secs();
    i64::try_from(seconds).map_err(|error| error.to_string())
}

impl Token {
    /// The claims of a token that is minted at `now`: every door finds its own among them.
    #[must_use]
    pub fn claims(&self, now: Timestamp) -> Value {
        let mut claims = json!({
            "iss": LocalIssuer::NAME,
            "aud": LocalIssuer::AUDIENCE,
            "sub": self.subject,
            "iat": now.as_second(),
            "exp": now.saturating_add(seconds(self.ttl)).unwrap_or(Timestamp::MAX).as_second(),
            "tenant_id": self.tenant,
            "roles": self.roles,
            "realm_access": { "roles": self.roles },
        });
        if let Some(organization) = text::exact_number(self.tenant.as_str()) {
            claims["organization_id"] = organization.into();
        }
        if let Some(user) = text::exact_number(&self.subject) {
            claims["user_id"] = user.into();
        }
        if let Some(first) = self.roles.first() {
            claims["role"] = first.as_str().into();
        }
        for (name, value) in &self.claims {
            claims[name] = value.clone();
        }
        claims
    }
}

/// What an API key is for.
#[derive(Args, Clone, Debug)]
pub struct NewKey {
    /// The tenant; for actions, the organization's number
    #[arg(long)]
    pub tenant: Tenant,
    /// What to call it
    #[arg(long)]
    pub name: String,
    /// What it may be used for: actions:submit, actions:read, cases:read, cases:write, webhooks:manage
    #[arg(long = "scope", required = true)]
    pub scopes: Vec<Scope>,
}

/// The key cannot be minted.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Its name or scopes are not a key's.
    #[error("{0}")]
    Invalid(String),
    /// The table does not do its part.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl NewKey {
    /// Mints the key; its text, which is shown this once.
    ///
    /// # Errors
    /// The name or the scopes are not a key's, or the table does not do its part.
    pub async fn mint(&self, store: &Store) -> Result<String, KeyError> {
        if self.name.is_empty() {
            return Err(KeyError::Invalid("the name must not be empty".to_owned()));
        }
        text::check(&self.name, 100).map_err(|error| KeyError::Invalid(format!("the name {error}")))?;
        let scopes =
            Scopes::try_from(self.scopes.clone()).map_err(|error| KeyError::Invalid(format!("the scopes {error}")))?;
        let text = Keys::generate()?;
        let hash = KeyHash::of(&text);
        let mint =
            Mint { hash, domain: self.tenant.clone(), name: self.name.clone(), owner: None, scopes, expires_at: None };
        let by = Actor::Operator { principal: "local".to_owned() };
        let call = Call { deadline: Instant::now() + CALL_BUDGET, once: None };
        let rule = |key: Option<&ApiKey>, now| match key {
            None => Ok(Outcome::Change(ApiKey::mint(mint.clone(), &by, now))),
            Some(_) => Err(Refusal::AlreadyRotated),
        };
        match store.change(&Keys::key(&hash.id()), call, rule, |_| Ok(()), |()| Ok(String::new())).await {
            Ok(_) => Ok(text),
            Err(Error::Fault(fault)) => Err(fault.into()),
            Err(Error::Refused(_) | Error::KeyReused) => Err(KeyError::Invalid("this key exists already".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(tenant: &str, subject: &str, claims: &[&str]) -> Value {
        let token = Token {
            tenant: tenant.parse().unwrap(),
            subject: subject.to_owned(),
            roles: vec!["admin".to_owned(), "member".to_owned()],
            claims: claims.iter().map(|text| claim(text).unwrap()).collect(),
            ttl: seconds_of("8h").unwrap(),
        };
        token.claims("2026-11-21T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_token_has_every_doors_claims() {
        let roles = ["admin", "member"];
        assert_eq!(
            token("42", "7", &[]),
            json!({
                "iss": "countersign-local", "aud": "countersign", "sub": "7", "user_id": 7, "tenant_id": "42",
                "organization_id": 42, "iat": 1_795_262_400, "exp": 1_795_291_200, "role": "admin", "roles": roles,
                "realm_access": { "roles": roles },
            })
        );
        let texts = token("acme", "alice", &[]);
        assert_eq!((texts.get("organization_id"), texts.get("user_id")), (None, None));
        for subject in ["07", "+7", "9007199254740992", "7.0"] {
            assert_eq!(token("acme", subject, &[]).get("user_id"), None, "{subject}");
        }
    }

    #[test]
    fn a_claim_is_json_if_it_parses_and_overrides() {
        let claims = token("42", "7", &["approval_level=3", "email=a@b.example", "role=user", "roles=[]", "x=a=b"]);
        assert_eq!(claims["approval_level"], 3);
        assert_eq!(
            (&claims["email"], &claims["role"], &claims["x"]),
            (&json!("a@b.example"), &json!("user"), &json!("a=b"))
        );
        assert_eq!(claims["roles"], json!([]));
        assert!(claim("=x").is_err() && claim("x").is_err());
    }
}
