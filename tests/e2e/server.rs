//! A local runner inside the test, on a table in memory and a clock that the test moves.

use crate::actions::eventually;
use crate::identity::KIT;
use countersign::credentials::Token;
use countersign::{Runner, Table};
use countersign_api::config::Local;
use countersign_api::{App, LocalIssuer, RootKey};
use countersign_domain::chain::ChangeBody;
use countersign_domain::override_token::OverrideToken;
use countersign_domain::{Record, Tenant};
use countersign_embedded::Engine;
use countersign_store::{CALL_BUDGET, Clock, Key, SHARDS, Settings, Store};
use countersign_testing::fault::{Faults, Faulty};
use countersign_testing::tokens::SECRET_ID;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub(crate) const CUSTOMER: &str = "550e8400-e29b-41d4-a716-446655440000";
pub(crate) const OTHER_CUSTOMER: &str = "660e8400-e29b-41d4-a716-446655440000";
pub(crate) const EVENT: &str = "evt-a1b2c3d4-5678-9012-abcd-ef3456789012";
/// When the clock of every story starts.
const START: &str = "2026-11-21T12:00:00.25Z";
pub(crate) const SECRET: &str = "test-override-secret";
pub(crate) const PREVIOUS: &str = "test-override-secret-before";

pub(crate) struct Server {
    pub(crate) management: String,
    pub(crate) public_url: String,
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) app: App,
    pub(crate) table: Faulty,
    issuer: LocalIssuer,
    _data: TempDir,
    _stop: watch::Sender<bool>,
}

/// An answer, read to its end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status and error code.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["error"].as_str().unwrap_or_default().to_owned())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Faults::none(), 0, &[]).await
    }

    /// Waits until all that has happened was told: what is told later reaches those who subscribe meanwhile, too.
    pub(crate) async fn all_told(&self) {
        let later = self.clock.now().saturating_add(countersign_domain::seconds(3600)).unwrap();
        eventually(0, async || {
            let mut untold = 0;
            for shard in 0..SHARDS {
                let due = self.app.store.due(shard, later, 100, Instant::now() + CALL_BUDGET).await.unwrap();
                untold += due.iter().filter(|due| due.work().change.is_some()).count();
            }
            untold
        })
        .await;
    }

    /// The doors alone: nobody works off what they send, so that every call to the table is theirs.
    pub(crate) async fn doors_only() -> Self {
        let clock = Clock::manual(START.parse().unwrap());
        let table = Faulty::new(Engine::memory().unwrap(), Faults::none(), 0).unwrap();
        Self::running(table, clock, &[], |runner, stopped| tokio::spawn(runner.serve(stopped))).await
    }

    pub(crate) async fn with(faults: Faults, seed: u64, variables: &[(&str, &str)]) -> Self {
        let clock = Clock::manual(START.parse().unwrap());
        Self::on(Faulty::new(Engine::memory().unwrap(), faults, seed).unwrap(), clock, variables).await
    }

    /// Another process on the same table, by the same clock.
    pub(crate) async fn beside(&self) -> Self {
        Self::on(self.table.clone(), self.clock.clone(), &[]).await
    }

    async fn on(table: Faulty, clock: Clock, variables: &[(&str, &str)]) -> Self {
        Self::running(table, clock, variables, |runner, stopped| tokio::spawn(runner.run(stopped))).await
    }

    async fn running(
        table: Faulty,
        clock: Clock,
        variables: &[(&str, &str)],
        run: impl FnOnce(Runner, watch::Receiver<bool>) -> JoinHandle<io::Result<()>>,
    ) -> Self {
        let data = tempfile::tempdir().unwrap();
        write_secrets(data.path());
        let fixed = [
            ("COUNTERSIGN_LISTEN", "127.0.0.1:0"),
            ("COUNTERSIGN_MANAGEMENT_LISTEN", "127.0.0.1:0"),
            ("COUNTERSIGN_DATA", data.path().to_str().unwrap()),
            ("COUNTERSIGN_OVERRIDE_SECRET", SECRET),
            ("COUNTERSIGN_OVERRIDE_SECRET_PREVIOUS", PREVIOUS),
        ];
        let value = |name: &str| variables.iter().chain(&fixed).find(|(set, _)| *set == name).map(|(_, v)| v.into());
        let config = Local::read(value).unwrap();
        let settings =
            Settings { table: "countersign".to_owned(), clock: clock.clone(), fan_out_after: Duration::from_secs(2) };
        let store = Store::embedded(table.http_client(), settings);
        store.create_table().await.unwrap();
        let issuer = countersign::data::secrets(&config).unwrap().issuer;
        let runner = Runner::start(&config, clock.clone(), Table::Other(store)).await.unwrap();
        let (management, public_url) = (runner.management_url(), runner.public_url());
        let app = runner.app().clone();
        let (stop, stopped) = watch::channel(false);
        run(runner, stopped);
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        Self { management, public_url, client, clock, app, table, issuer, _data: data, _stop: stop }
    }

    /// A request to the management plane.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.management))
    }

    /// A request to the public doors.
    pub(crate) fn public(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.public_url))
    }

    /// A JWT for someone of a tenant, valid for longer than any story lasts.
    pub(crate) fn token(&self, tenant: &str, subject: &str, roles: &[&str]) -> String {
        self.token_with(tenant, subject, roles, &json!({}))
    }

    /// The same with these claims on top.
    pub(crate) fn token_with(&self, tenant: &str, subject: &str, roles: &[&str], claims: &Value) -> String {
        let claims = claims.as_object().unwrap().clone();
        let token = Token {
            tenant: tenant.parse().unwrap(),
            subject: subject.to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            claims: claims.into_iter().collect(),
            ttl: 1000 * 86_400,
        };
        self.issuer.sign(&token.claims(self.clock.now())).unwrap()
    }

    /// A JWT of the local issuer with exactly these claims.
    pub(crate) fn signed(&self, claims: &Value) -> String {
        self.issuer.sign(claims).unwrap()
    }

    /// A new API key of a tenant.
    pub(crate) async fn key(&self, tenant: &str, scopes: &[&str]) -> String {
        let minted = self.post("/api-keys", &json!({ "domain": tenant, "name": "test", "scopes": scopes })).await;
        assert_eq!(minted.status, 201, "{minted:?}");
        minted.json()["key"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        send(self.request(Method::DELETE, path)).await
    }

    /// Mints a token for the documented event, with these fields on top; its jti.
    pub(crate) async fn mint(&self, fields: Value) -> String {
        let mut body = json!({ "customer_id": CUSTOMER, "event_id": EVENT });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let minted = self.post("/tokens/override", &body).await;
        assert_eq!(minted.status, 201, "{minted:?}");
        minted.json()["jti"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn decide(&self, jti: &str, decision: &str) -> Answer {
        self.post(&format!("/overrides/{EVENT}/decide"), &decision_body(jti, decision)).await
    }

    pub(crate) async fn show(&self, jti: &str) -> Value {
        let shown = self.get(&format!("/tokens/{jti}?customer_id={CUSTOMER}")).await;
        assert_eq!(shown.status, 200, "{shown:?}");
        shown.json()
    }

    /// The names of the entries in a token's audit log.
    pub(crate) async fn entries(&self, jti: &str) -> Vec<String> {
        let tenant: Tenant = CUSTOMER.parse().unwrap();
        let history = self.history(&Key::<OverrideToken>::new(&tenant, jti)).await;
        history.into_iter().flat_map(|change| change.entries).map(|entry| entry.name).collect()
    }

    /// What happened to a record, as the table has it.
    pub(crate) async fn history<R: Record>(&self, key: &Key<R>) -> Vec<ChangeBody> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let history = self.app.store.history(key, deadline).await.unwrap();
        history.into_iter().map(|change| change.body).collect()
    }
}

/// A data directory with the root key that the stored items under `tests/records` were sealed with.
fn write_secrets(directory: &Path) {
    let secrets = json!({
        "override_secret": SECRET, "root_key": RootKey::new([7; 32]).to_text(),
        "issuer_secrets": { SECRET_ID: KIT.secret_text() },
    });
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(directory.join("secrets.json")).unwrap();
    file.write_all(secrets.to_string().as_bytes()).unwrap();
}

pub(crate) fn decision_body(jti: &str, decision: &str) -> Value {
    json!({ "override_jti": jti, "customer_id": CUSTOMER, "decision": decision })
}

pub(crate) async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}
