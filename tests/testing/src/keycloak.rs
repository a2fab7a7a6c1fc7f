//! A stand-in for Keycloak on a loopback port: tokens for one client of one realm, and the members of roles and groups.
#![expect(clippy::unwrap_used, reason = "it fails by panicking, like the tests that use it")]

use crate::wire::Endpoint;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, Uri, header};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The realm.
pub const REALM: &str = "the realm";
/// The client that may ask.
pub const CLIENT_ID: &str = "countersign";
/// Its secret.
pub const SECRET: &str = "s3cr&t=";

/// How a request is answered instead, if it is.
type Instead = dyn Fn(&str) -> Option<(StatusCode, String)> + Send + Sync;

/// A running stand-in.
#[derive(Debug)]
pub struct Keycloak {
    endpoint: Endpoint,
    desk: Arc<Desk>,
}

struct Desk {
    people: Mutex<People>,
    asked: watch::Sender<Vec<String>>,
    held: watch::Sender<bool>,
}

struct People {
    /// Members by the path of their list below the realm, percent-encoded as it is asked for.
    lists: HashMap<String, Vec<String>>,
    clients: HashMap<String, String>,
    groups: HashMap<String, String>,
    tokens: HashSet<String>,
    granted: usize,
    expires_in: Option<i64>,
    instead: Option<Arc<Instead>>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Desk(..)")
    }
}

impl Keycloak {
    /// Starts without roles and groups, with tokens that live for five minutes.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start() -> io::Result<Self> {
        let people = People {
            lists: HashMap::new(),
            clients: HashMap::new(),
            groups: HashMap::new(),
            tokens: HashSet::new(),
            granted: 0,
            expires_in: Some(300),
            instead: None,
        };
        let (asked, held) = (watch::Sender::new(Vec::new()), watch::Sender::new(false));
        let desk = Arc::new(Desk { people: Mutex::new(people), asked, held });
        let router = Router::new().fallback(answer).with_state(desk.clone());
        Ok(Self { endpoint: Endpoint::serve(router).await?, desk })
    }

    /// The `keycloak_url`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/auth/", self.endpoint.url())
    }

    /// `COUNTERSIGN_DIRECTORY` for it, with a secret of this id.
    #[must_use]
    pub fn directory(&self, secret_id: &str) -> String {
        let url = self.url();
        json!({ "keycloak_url": url, "realm": REALM, "client_id": CLIENT_ID, "secret_id": secret_id }).to_string()
    }

    /// Gives a role of the realm these members; its name is percent-encoded.
    pub fn role(&self, role: &str, members: &[&str]) {
        self.list(format!("roles/{role}/users"), members);
    }

    /// Gives a role of a client these members.
    pub fn client_role(&self, client: &str, role: &str, members: &[&str]) {
        let id = format!("c1-{client}");
        self.list(format!("clients/{id}/roles/{role}/users"), members);
        self.desk.open().clients.insert(client.to_owned(), id);
    }

    /// Gives the group at this path, without its first slash, these members.
    pub fn group(&self, path: &str, members: &[&str]) {
        let id = format!("g1-{}", path.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        self.list(format!("groups/{id}/members"), members);
        self.desk.open().groups.insert(path.to_owned(), id);
    }

    fn list(&self, path: String, members: &[&str]) {
        self.desk.open().lists.insert(path, members.iter().map(ToString::to_string).collect());
    }

    /// How long tokens live from now on, in seconds, if they say so.
    pub fn expire_in(&self, seconds: Option<i64>) {
        self.desk.open().expires_in = seconds;
    }

    /// Knows none of its tokens any more.
    pub fn forget_tokens(&self) {
        self.desk.open().tokens.clear();
    }

    /// From now on a request whose path `instead` knows is answered so.
    pub fn answer(&self, instead: impl Fn(&str) -> Option<(StatusCode, String)> + Send + Sync + 'static) {
        self.desk.open().instead = Some(Arc::new(instead));
    }

    /// Answers by itself again.
    pub fn recover(&self) {
        self.desk.open().instead = None;
    }

    /// Takes requests but answers none until [`Keycloak::release`].
    pub fn hold(&self) {
        self.desk.held.send_replace(true);
    }

    /// Answers what was held back and what comes.
    pub fn release(&self) {
        self.desk.held.send_replace(false);
    }

    /// How many tokens were granted.
    #[must_use]
    pub fn granted(&self) -> usize {
        self.desk.open().granted
    }

    /// The paths and queries that were asked for below the realm, in order; for a token it is `token`.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.desk.asked.borrow().clone()
    }

    /// Waits until so much was asked.
    pub async fn until_asked(&self, times: usize) {
        // The sender is here, so there is no other end to waiting.
        let _ = self.desk.asked.subscribe().wait_for(|asked| asked.len() >= times).await;
    }
}

impl Desk {
    fn open(&self) -> MutexGuard<'_, People> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(State(desk): State<Arc<Desk>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let realm = REALM.replace(' ', "%20");
    let token_path = format!("/auth/realms/{realm}/protocol/openid-connect/token");
    let admin_path = format!("/auth/admin/realms/{realm}/");
    let asked = if uri.path() == token_path {
        "token".to_owned()
    } else {
        uri.to_string().trim_start_matches(&admin_path).to_owned()
    };
    desk.asked.send_modify(|all| all.push(asked.clone()));
    // The sender is in the desk, so there is no other end to waiting.
    let _ = desk.held.subscribe().wait_for(|held| !held).await;
    let mut people = desk.open();
    if let Some((status, body)) = people.instead.clone().and_then(|instead| instead(&asked)) {
        return (status, body).into_response();
    }
    let (status, body) = match (asked.as_str(), method) {
        ("token", Method::POST) => people.grant(&headers, &body),
        (_, Method::GET) => people.tell(&asked, &headers),
        _ => (StatusCode::METHOD_NOT_ALLOWED, json!({ "error": "wrong method" })),
    };
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

impl People {
    fn grant(&mut self, headers: &HeaderMap, body: &[u8]) -> (StatusCode, Value) {
        assert_eq!(headers[header::CONTENT_TYPE], "application/x-www-form-urlencoded");
        let secret = "s3cr%26t%3D";
        let form = format!("grant_type=client_credentials&client_id={CLIENT_ID}&client_secret={secret}");
        if body != form.as_bytes() {
            return (StatusCode::UNAUTHORIZED, json!({ "error": "unauthorized_client" }));
        }
        self.granted += 1;
        let token = format!("token-{}", self.granted);
        self.tokens.insert(token.clone());
        let mut grant = json!({ "access_token": token, "token_type": "Bearer", "scope": "profile email" });
        if let Some(expires_in) = self.expires_in {
            grant["expires_in"] = expires_in.into();
        }
        (StatusCode::OK, grant)
    }

    fn tell(&self, asked: &str, headers: &HeaderMap) -> (StatusCode, Value) {
        let token =
            headers.get(header::AUTHORIZATION).and_then(|header| header.to_str().unwrap().strip_prefix("Bearer "));
        if !token.is_some_and(|token| self.tokens.contains(token)) {
            return (StatusCode::UNAUTHORIZED, json!({ "error": "HTTP 401 Unauthorized" }));
        }
        let unknown = (StatusCode::NOT_FOUND, json!({ "error": "Could not find it" }));
        let (path, query) = asked.split_once('?').unwrap_or((asked, ""));
        let parameter = |name: &str| {
            let parameters = query.split('&').filter_map(|parameter| parameter.split_once('='));
            parameters.filter(|(found, _)| *found == name).map(|(_, value)| value).next()
        };
        if path == "clients" {
            // Others may be there, too.
            let all = self.clients.iter().map(|(name, id)| json!({ "id": id, "clientId": name }));
            let wanted = parameter("clientId").unwrap();
            return (StatusCode::OK, all.filter(|client| client["clientId"] == wanted).collect());
        }
        if let Some(path) = path.strip_prefix("group-by-path/") {
            let found = self.groups.get(path);
            return found.map_or(unknown, |id| (StatusCode::OK, json!({ "id": id, "name": "x", "subGroups": [] })));
        }
        let Some(members) = self.lists.get(path) else { return unknown };
        let number = |name| parameter(name).unwrap().parse::<usize>().unwrap();
        let page = members.iter().skip(number("first")).take(number("max"));
        let page = page.map(|id| json!({ "id": id, "username": format!("name of {id}"), "enabled": true }));
        (StatusCode::OK, page.collect())
    }
}
