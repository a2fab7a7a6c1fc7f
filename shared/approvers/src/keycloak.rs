//! The directory in Keycloak: a realm that all tenants share, asked by its admin API in the name of a client.

use crate::directory::{DirectoryError, Membership};
use countersign_api::config;
use countersign_api::{DirectorySecret, read_json};
use countersign_domain::{Timestamp, seconds};
use countersign_outbound::{FetchError, Fetched, Fetcher, OperatorUrl};
use countersign_store::Clock;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// How many members are asked for at a time.
const PAGE: usize = 100;
/// The most members that a role or group may have.
const MAX_MEMBERS: usize = 200;
/// How long before it expires a token is no longer used, in seconds; one that lives shorter is used for half its life.
const RESERVE: i64 = 30;
/// How long a token is good for that does not say so, in seconds.
const UNSAID: i64 = 60;

/// A realm of Keycloak.
#[derive(Debug)]
pub(crate) struct Keycloak {
    url: OperatorUrl,
    realm: String,
    client_id: String,
    secret: DirectorySecret,
    fetcher: Fetcher,
    clock: Clock,
    /// Held while a token is fetched, so that one serves all who wait.
    latest: Mutex<Latest>,
    /// How many tokens were asked for, whatever came of it.
    attempts: AtomicU64,
}

/// What came of the last attempt to get a token.
#[derive(Debug, Default)]
struct Latest {
    token: Option<Token>,
    failure: Option<DirectoryError>,
}

/// A token, as it is shown.
#[derive(Clone, Debug)]
struct Token {
    /// Which attempt has brought it.
    attempt: u64,
    /// The whole header, marked as sensitive.
    authorization: HeaderValue,
    usable_until: Timestamp,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Option<i64>,
}

/// A client, as far as it concerns us.
#[derive(Deserialize)]
struct Client {
    id: String,
    #[serde(rename = "clientId")]
    client_id: String,
}

/// A user or a group, as far as it concerns us.
#[derive(Deserialize)]
struct Named {
    id: String,
}

impl Keycloak {
    pub(crate) fn new(config: &config::Keycloak, secret: DirectorySecret, clock: Clock) -> Self {
        Self {
            url: config.url.clone(),
            realm: config.realm.clone(),
            client_id: config.client_id.clone(),
            secret,
            fetcher: Fetcher::default(),
            clock,
            latest: Mutex::default(),
            attempts: AtomicU64::new(0),
        }
    }

    /// The ids of the members, which are the subjects of their tokens; nobody, if there is no such role or group.
    pub(crate) async fn members(&self, of: &Membership) -> Result<Vec<String>, DirectoryError> {
        match of {
            Membership::Role { role, client: None } => self.users(&["roles", role, "users"]).await,
            Membership::Role { role, client: Some(client) } => {
                let found: Option<Vec<Client>> = self.get(&["clients"], &[("clientId", client)]).await?;
                match found.unwrap_or_default().iter().find(|found| found.client_id == *client) {
                    Some(client) => self.users(&["clients", &client.id, "roles", role, "users"]).await,
                    None => Ok(Vec::new()),
                }
            }
            Membership::Group(path) => {
                let parts: Vec<&str> = std::iter::once("group-by-path").chain(path.split('/')).collect();
                match self.get::<Named>(&parts, &[]).await? {
                    Some(group) => self.users(&["groups", &group.id, "members"]).await,
                    None => Ok(Vec::new()),
                }
            }
        }
    }

    /// The ids of the users in a list, page by page.
    async fn users(&self, list: &[&str]) -> Result<Vec<String>, DirectoryError> {
        let mut users: Vec<String> = Vec::new();
        loop {
            let (first, most) = (users.len().to_string(), PAGE.to_string());
            let query = [("first", first.as_str()), ("max", most.as_str()), ("briefRepresentation", "true")];
            let Some(page) = self.get::<Vec<Named>>(list, &query).await? else { return Ok(users) };
            let is_last = page.len() < PAGE;
            users.extend(page.into_iter().map(|user| user.id));
            if users.len() > MAX_MEMBERS {
                return Err(DirectoryError::TooManyMembers(MAX_MEMBERS));
            }
            if is_last {
                return Ok(users);
            }
        }
    }

    /// What the realm's admin API has at this path; `None` if there is no such thing.
    async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Option<T>, DirectoryError> {
        let path: Vec<&str> = ["admin", "realms", self.realm.as_str()].iter().chain(path).copied().collect();
        let url = self.url.below(&path, query).map_err(|_| DirectoryError::Name)?;
        let token = self.token(None).await?;
        let mut answer = self.fetcher.get(&url, &token.authorization).await.map_err(unreachable)?;
        if answer.status == StatusCode::UNAUTHORIZED {
            // Keycloak was restarted, or its keys have changed.
            let token = self.token(Some(token.attempt)).await?;
            answer = self.fetcher.get(&url, &token.authorization).await.map_err(unreachable)?;
        }
        match answer.status {
            StatusCode::OK => read(&answer).map(Some),
            // A 404 that says nothing is of somebody in between, who does not know what Keycloak knows.
            StatusCode::NOT_FOUND if read::<Value>(&answer).is_ok_and(|body| body.is_object()) => Ok(None),
            status => Err(DirectoryError::Status(status.as_u16())),
        }
    }

    /// A token that can be used, but not the one that this attempt has brought.
    async fn token(&self, refused: Option<u64>) -> Result<Token, DirectoryError> {
        let before = self.attempts.load(Ordering::SeqCst);
        let mut latest = self.latest.lock().await;
        let now = self.clock.now();
        let usable = |token: &&Token| Some(token.attempt) != refused && now < token.usable_until;
        if let Some(token) = latest.token.as_ref().filter(usable) {
            return Ok(token.clone());
        }
        // Whoever has waited while somebody else was refused does not wait again to be refused, too.
        let tried = self.attempts.load(Ordering::SeqCst) != before;
        if let Some(failure) = latest.failure.as_ref().filter(|_| tried) {
            return Err(failure.clone());
        }
        let fetched = self.fetch_token(now).await;
        let attempt = self.attempts.fetch_add(1, Ordering::SeqCst) + 1;
        match fetched {
            Ok((authorization, usable_until)) => {
                let token = Token { attempt, authorization, usable_until };
                *latest = Latest { token: Some(token.clone()), failure: None };
                Ok(token)
            }
            Err(failure) => {
                *latest = Latest { token: None, failure: Some(failure.clone()) };
                Err(failure)
            }
        }
    }

    async fn fetch_token(&self, now: Timestamp) -> Result<(HeaderValue, Timestamp), DirectoryError> {
        let secret = self.secret.get().await.map_err(|error| {
            tracing::error!(%error, "secret unavailable");
            DirectoryError::Secret
        })?;
        let path = ["realms", self.realm.as_str(), "protocol", "openid-connect", "token"];
        let url = self.url.below(&path, &[]).map_err(|_| DirectoryError::Name)?;
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", self.client_id.as_str()),
            ("client_secret", secret.as_str()),
        ];
        let answer = self.fetcher.post_form(&url, &fields).await.map_err(unreachable)?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED => return Err(DirectoryError::Credentials),
            status => return Err(DirectoryError::Status(status.as_u16())),
        }
        let granted: Granted = read(&answer)?;
        let authorization = HeaderValue::try_from(format!("Bearer {}", granted.access_token));
        let mut authorization = authorization.map_err(|_| DirectoryError::Malformed)?;
        authorization.set_sensitive(true);
        let life = granted.expires_in.unwrap_or(UNSAID).max(0);
        let usable = seconds(life.saturating_sub(RESERVE).max(life / 2));
        Ok((authorization, now.saturating_add(usable).unwrap_or(Timestamp::MAX)))
    }
}

/// The address is the operator's own: it is logged, and not told to whoever made a request.
fn unreachable(error: FetchError) -> DirectoryError {
    tracing::warn!(%error, "the directory cannot be reached");
    DirectoryError::Unreachable
}

fn read<T: DeserializeOwned>(answer: &Fetched) -> Result<T, DirectoryError> {
    let value = read_json(&answer.body).map_err(|_| DirectoryError::Malformed)?;
    serde_json::from_value(value).map_err(|_| DirectoryError::Malformed)
}
