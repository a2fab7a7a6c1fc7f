//! `countersign demo`: plays a decision through every door and explains each step.

use crate::credentials::{NewKey, Token};
use crate::data::{self, DataError};
use crate::{Runner, Table};
use axum::Router;
use axum::http::HeaderMap;
use countersign_api::LocalIssuer;
use countersign_api::config::Local;
use countersign_domain::api_key::Scope;
use countersign_domain::callback_secret::signing_bytes;
use countersign_domain::{InvalidTenant, Timestamp, rfc3339, seconds, webhook_signature};
use countersign_store::{Clock, Fault};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// Prints a line; whoever reads along may stop reading.
macro_rules! say {
    ($($line:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($line)*);
    }};
}

const CUSTOMER: &str = "550e8400-e29b-41d4-a716-446655440000";
/// The tenant that a newcomer starts with; a number, so that it is an organization as well.
pub(crate) const TENANT: &str = "1";

/// How long a webhook may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(10);

/// A step of the demo did not go as it should.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// No server could be started for it.
    #[error(transparent)]
    Start(#[from] crate::StartError),
    /// The secrets cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// There is no place for its data.
    #[error("no temporary directory: {0}")]
    Directory(#[from] std::io::Error),
    /// The server does not answer.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// No token can be signed.
    #[error(transparent)]
    Sign(#[from] Fault),
    /// Never: the demo's own tenant is one.
    #[error(transparent)]
    Tenant(#[from] InvalidTenant),
    /// A webhook did not arrive, or not as it should.
    #[error("{0}; may the server call 127.0.0.1 (COUNTERSIGN_WEBHOOK_ALLOW)?")]
    Webhook(&'static str),
    /// The server answers, but not as it should.
    #[error("expected {expected}, got {got}; is COUNTERSIGN_DATA the server's own, and COUNTERSIGN_ISSUERS unset?")]
    Unexpected {
        /// The status that should have come.
        expected: u16,
        /// What came.
        got: String,
    },
}

/// The user of the newcomer's tokens.
pub(crate) const USER: &str = "42";

/// A JWT of the local issuer for a user of a tenant.
pub(crate) fn token(
    issuer: &LocalIssuer,
    tenant: &str,
    user: &str,
    roles: &[&str],
    now: Timestamp,
) -> Result<String, DemoError> {
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    let token =
        Token { tenant: tenant.parse()?, subject: user.to_owned(), roles, claims: Vec::new(), ttl: 8 * 60 * 60 };
    Ok(issuer.sign(&token.claims(now))?)
}

/// A key of the newcomer's tenant for every public door.
pub(crate) fn key() -> Result<NewKey, DemoError> {
    let scopes = Scope::ALL.to_vec();
    Ok(NewKey { tenant: TENANT.parse()?, name: "first steps".to_owned(), scopes })
}

/// Plays one decision through every door.
///
/// # Errors
/// A step does not go as documented.
pub async fn play(config: &Local) -> Result<(), DemoError> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
    let running = format!("http://{}", config.management_listen);
    let health = client.get(format!("{running}/health")).send().await;
    if health.is_ok_and(|answer| answer.status().is_success()) {
        say!("Playing against the server at {running}.\n");
        let public = format!("http://{}", config.listen);
        let issuer = data::secrets(config)?.issuer;
        return Demo { client, management: running, public, issuer, tenant: tenant() }.play().await;
    }
    let directory = tempfile::tempdir()?;
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = Local {
        listen: any_port,
        management_listen: any_port,
        data: directory.path().join("data"),
        table: None,
        ..config.clone()
    };
    config.config.issuers = None;
    let table = Table::configured(&config, &Clock::System, false).await?;
    let runner = Runner::start(&config, Clock::System, table).await?;
    let (management, public) = (runner.management_url(), runner.public_url());
    say!("No server at {running}; playing against one of its own at {management}, which is gone afterwards.\n");
    let issuer = data::secrets(&config)?.issuer;
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(runner.run(stopped));
    let played = Demo { client, management, public, issuer, tenant: tenant() }.play().await;
    stop.send_replace(true);
    // The demo's own outcome matters more than how its server ended.
    let _ = serving.await;
    played
}

/// A tenant that nobody has, a number of 53 bits.
fn tenant() -> String {
    (uuid::Uuid::new_v4().as_u128() % (1 << 53)).to_string()
}

struct Demo {
    client: reqwest::Client,
    management: String,
    public: String,
    issuer: LocalIssuer,
    /// A tenant of its own: it touches nobody's work.
    tenant: String,
}

/// With what a call is made.
#[derive(Clone, Copy)]
enum By<'a> {
    /// A JWT.
    Token(&'a str),
    /// An API key.
    Key(&'a str),
    /// Nothing: the management plane is guarded by its place.
    Nothing,
}

impl Demo {
    async fn play(&self) -> Result<(), DemoError> {
        self.overrides().await?;
        self.approvals().await?;
        self.actions().await?;
        self.cases().await?;
        self.workflow().await?;
        self.webhooks().await?;
        say!("On your own server, check the audit chains with: countersign verify --tenant {}", self.tenant);
        Ok(())
    }

    /// A JWT for someone of the demo's tenant.
    fn token(&self, user: &str, roles: &[&str]) -> Result<String, DemoError> {
        token(&self.issuer, &self.tenant, user, roles, Timestamp::now())
    }

    /// Makes a call, shows the exchange, and gives the answer if it has the expected status.
    async fn call(
        &self,
        method: Method,
        path: &str,
        by: By<'_>,
        body: Option<&Value>,
        expected: u16,
    ) -> Result<Value, DemoError> {
        let base = if matches!(by, By::Nothing) { &self.management } else { &self.public };
        let request = self.client.request(method.clone(), format!("{base}{path}"));
        let (request, who): (RequestBuilder, _) = match by {
            By::Token(token) => (request.bearer_auth(token), "with a JWT: "),
            By::Key(key) => (request.header("X-API-Key", key), "with an API key: "),
            By::Nothing => (request, ""),
        };
        let shown = body.map(Value::to_string).unwrap_or_default();
        say!("  {who}{method} {path} {shown}");
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let body = answer.text().await?;
        say!("  {status} {body}\n");
        if status != expected {
            return Err(DemoError::Unexpected { expected, got: format!("{status} {body}") });
        }
        Ok(serde_json::from_str(&body).unwrap_or_default())
    }

    async fn post(&self, path: &str, by: By<'_>, body: &Value, expected: u16) -> Result<Value, DemoError> {
        self.call(Method::POST, path, by, Some(body), expected).await
    }

    async fn get(&self, path: &str, by: By<'_>, expected: u16) -> Result<Value, DemoError> {
        self.call(Method::GET, path, by, None, expected).await
    }

    async fn overrides(&self) -> Result<(), DemoError> {
        say!(
            "Overrides 1. Someone wants to override an automated block. A token authorizes exactly one decision about it:"
        );
        let event_id = format!("evt-{}", uuid::Uuid::new_v4());
        let ask = json!({ "customer_id": CUSTOMER, "event_id": event_id, "reason": "demo", "ttl_minutes": 5 });
        let minted = self.post("/tokens/override", By::Nothing, &ask, 201).await?;
        let jti = &minted["jti"];

        say!(
            "Overrides 2. A human approves. The answer is co-signed, so that whoever acts on it can prove who decided:"
        );
        let decide = json!({ "override_jti": jti, "customer_id": CUSTOMER, "decision": "approve", "reason": "seen" });
        let path = format!("/overrides/{event_id}/decide");
        let decided = self.post(&path, By::Nothing, &decide, 200).await?;

        say!("Overrides 3. Anyone who tries again, with whatever decision, is told that it was taken:");
        let again = json!({ "override_jti": jti, "customer_id": CUSTOMER, "decision": "reject" });
        self.post(&path, By::Nothing, &again, 409).await?;

        say!("Overrides 4. The co-signature verifies:");
        let cosignature = &decided["cosignature"];
        let ask =
            json!({ "event_id": event_id, "decision": "approve", "override_jti": jti, "cosignature": cosignature });
        self.post("/overrides/verify", By::Nothing, &ask, 200).await?;
        Ok(())
    }

    async fn approvals(&self) -> Result<(), DemoError> {
        let admin = self.token(USER, &["admin"])?;
        let admin = By::Token(&admin);
        say!("Approvals 1. An agent has a plan against an incident, and asks before it acts:");
        let plan = json!({
            "incidentTitle": "Checkout is slow", "title": "Enlarge the connection pool",
            "steps": [{ "description": "Set max_connections to 400" }], "timeoutMinutes": 30,
        });
        let remediation = self.post("/v1/remediation", admin, &plan, 201).await?;

        say!("Approvals 2. It waits among what is pending:");
        self.get("/v1/notifications/approvals/pending?limit=1", admin, 200).await?;

        say!("Approvals 3. A human approves, which moves the remediation to executing in the same transaction:");
        let approval = remediation["approvalId"].as_str().unwrap_or_default();
        let path = format!("/v1/notifications/approvals/{approval}/respond");
        self.post(&path, admin, &json!({ "decision": "approve", "notes": "Confirmed with the DBA." }), 200).await?;

        say!("Approvals 4. The agent reports its one step, and the remediation is executed:");
        let id = remediation["remediationId"].as_str().unwrap_or_default();
        let step = remediation["steps"][0]["stepId"].as_str().unwrap_or_default();
        let report = json!({ "status": "completed", "output": "max_connections = 400" });
        self.post(&format!("/v1/remediation/{id}/steps/{step}"), admin, &report, 200).await?;

        say!("Approvals 5. What happened to this incident, each entry chained to the one before:");
        let incident = remediation["incidentId"].as_str().unwrap_or_default();
        self.get(&format!("/v1/audit?incidentId={incident}&limit=2"), admin, 200).await?;
        Ok(())
    }

    /// A new API key of the demo's tenant, minted on the management plane; good for an hour.
    async fn mint_key(&self) -> Result<String, DemoError> {
        let scopes = ["actions:submit", "actions:read", "cases:read", "cases:write"];
        let expires_at = Timestamp::now().saturating_add(seconds(60 * 60)).map(rfc3339).unwrap_or_default();
        let ask = json!({ "domain": self.tenant, "name": "demo", "scopes": scopes, "expires_at": expires_at });
        let minted = self.post("/api-keys", By::Nothing, &ask, 201).await?;
        Ok(minted["key"].as_str().unwrap_or_default().to_owned())
    }

    async fn actions(&self) -> Result<(), DemoError> {
        say!("Actions 1. An AI agent gets an API key, with which it can ask but never decide:");
        let key = self.mint_key().await?;
        let agent = By::Key(&key);

        say!("Actions 2. It submits something harmless, which is allowed at once:");
        let query = json!({ "agent_id": "demo-agent", "action_type": "query", "resource": "sales" });
        self.post("/api/v1/actions/submit", agent, &query, 200).await?;

        say!("Actions 3. It submits something risky. The score and its reasons are open, and a human must decide:");
        let transfer = json!({
            "agent_id": "demo-agent", "action_type": "transaction", "resource": "payments",
            "risk_indicators": { "financial_data": true },
        });
        let submitted = self.post("/api/v1/actions/submit", agent, &transfer, 200).await?;
        let id = &submitted["action_id"];

        say!("Actions 4. It cannot approve that itself:");
        self.post(&format!("/api/v1/actions/{id}/approve"), agent, &json!({}), 401).await?;

        say!("Actions 5. A human with enough authority approves:");
        let human = self.token(USER, &["security_manager"])?;
        let reason = json!({ "reason": "Known vendor" });
        self.post(&format!("/api/v1/actions/{id}/approve"), By::Token(&human), &reason, 200).await?;

        say!("Actions 6. The waiting agent sees it:");
        self.get(&format!("/api/v1/actions/{id}/status"), agent, 200).await?;
        Ok(())
    }

    async fn cases(&self) -> Result<(), DemoError> {
        say!("Cases 1. A detector brings in a case:");
        let key = self.mint_key().await?;
        let tool = By::Key(&key);
        let case = json!({ "title": "Impossible travel", "severity": "high", "metadata": { "user": "alice" } });
        let case = self.post("/api/v1/external/cases", tool, &case, 201).await?;
        let id = case["case_id"].as_str().unwrap_or_default();

        say!("Cases 2. A SOC tool polls the feed, which hands out each case once:");
        self.get("/api/v1/external/cases/feed?page_size=1", tool, 200).await?;

        say!("Cases 3. An analyst's verdict closes the case:");
        let path = format!("/api/v1/external/cases/{id}/verdict");
        let verdict = json!({ "outcome": "FALSE_POSITIVE", "comment": "On a business trip" });
        self.post(&path, tool, &verdict, 200).await?;

        say!("Cases 4. Another verdict comes too late:");
        self.post(&path, tool, &json!({ "outcome": "TRUE_POSITIVE" }), 409).await?;
        Ok(())
    }

    async fn workflow(&self) -> Result<(), DemoError> {
        let (admin, shop) = (self.token("demo-admin", &["AWE_ADMIN"])?, self.token("shop", &[])?);
        let (ann, bob) = (self.token("ann", &[])?, self.token("bob", &[])?);
        let (admin, shop) = (By::Token(&admin), By::Token(&shop));
        let (url, mut arriving) = receive().await?;
        say!("Workflow 1. A policy says who is asked: the lead, and for large purchases finance, too:");
        let user = |user: &str| json!({ "rule_type": "user", "rule_value": { "user_id": user } });
        let policy = json!({
            "policy_key": "purchases", "name": "Purchases", "artifact_type": "purchase", "forbid_self_approval": true,
            "stages": [
                { "name": "Lead", "stage_order": 1, "mode": "any-n", "rules": [user("ann"), user("bob")] },
                {
                    "name": "Finance", "stage_order": 2, "rules": [user("bob")],
                    "skip_if": { "<": [{ "var": "amount" }, 1000] },
                },
            ],
        });
        self.post("/v1/awe/policies", admin, &policy, 201).await?;
        self.call(Method::POST, "/v1/awe/policies/purchases/versions/1/activate", admin, None, 200).await?;

        say!("Workflow 2. The operator registers what signs the shop's callbacks, and the shop asks:");
        let secret = format!("demo-{}", uuid::Uuid::new_v4());
        let register = json!({ "tenant": self.tenant, "value": secret });
        self.call(Method::PUT, "/secrets/shop", By::Nothing, Some(&register), 204).await?;
        let ask = json!({
            "policy_key": "purchases", "artifact_type": "purchase", "artifact_id": "p-1",
            "context": { "amount": 15_000 }, "callback_url": url, "callback_secret_id": "shop",
        });
        let asked = self.post("/v1/awe/requests", shop, &ask, 201).await?;

        say!("Workflow 3. Ann finds it among her tasks, and approves; the other task of that stage is skipped:");
        let approve = json!({ "action": "approve", "comment": "Needed" });
        for token in [&ann, &bob] {
            let tasks = self.get("/v1/awe/tasks?status=open", By::Token(token), 200).await?;
            let task = tasks[0]["id"].as_str().unwrap_or_default();
            self.post(&format!("/v1/awe/tasks/{task}/decision"), By::Token(token), &approve, 201).await?;
            if *token == ann {
                say!("Workflow 4. The second stage has begun. Bob approves, and so the request is approved:");
            }
        }
        let id = asked["request_id"].as_str().unwrap_or_default();
        self.get(&format!("/v1/awe/requests/{id}"), shop, 200).await?;

        say!("Workflow 5. The shop hears of each event in its order, signed with its secret:");
        loop {
            let arrived = tokio::time::timeout(ARRIVES_WITHIN, arriving.recv()).await.ok().flatten();
            let (headers, body) = arrived.ok_or(DemoError::Webhook("no callback arrived"))?;
            say!("  {body}");
            if !is_signed(&headers, &body, secret.as_bytes()) {
                return Err(DemoError::Webhook("the callback is not signed with the registered secret"));
            }
            if body.contains("request_approved") {
                say!("\n  Each signature verifies with the secret.\n");
                return Ok(());
            }
        }
    }

    async fn webhooks(&self) -> Result<(), DemoError> {
        let admin = self.token(USER, &["admin"])?;
        let admin = By::Token(&admin);
        let (url, mut arriving) = receive().await?;
        say!(
            "Webhooks 1. Your service registers where it wants to be told of decisions, and gets a secret, shown once:"
        );
        let endpoint = json!({ "url": url, "events": ["action.denied"], "description": "demo" });
        let endpoint = self.post("/webhooks/endpoints", admin, &endpoint, 201).await?;

        say!("Webhooks 2. A human denies what an agent wants to do:");
        let key = self.mint_key().await?;
        let erase = json!({ "agent_id": "demo-agent", "action_type": "data_modification", "resource": "customers" });
        let submitted = self.post("/api/v1/actions/submit", By::Key(&key), &erase, 200).await?;
        let path = format!("/api/v1/actions/{}/reject", submitted["action_id"]);
        self.post(&path, admin, &json!({ "reason": "Not on a Friday" }), 200).await?;

        say!("Webhooks 3. The webhook arrives at your service, signed:");
        let arrived = tokio::time::timeout(ARRIVES_WITHIN, arriving.recv()).await.ok().flatten();
        let (headers, body) = arrived.ok_or(DemoError::Webhook("no webhook arrived"))?;
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature", "x-approval-signature"] {
            say!("  {name}: {}", text_of(&headers, name));
        }
        say!("  {body}\n");
        let secret = endpoint["secret"].as_str().unwrap_or_default();
        if !is_signed(&headers, &body, &signing_bytes(secret)) {
            return Err(DemoError::Webhook("the webhook is not signed with the endpoint's secret"));
        }
        say!("  Both signatures verify with the secret.\n");

        say!("Webhooks 4. The log shows what was delivered, and when:");
        let id = endpoint["id"].as_str().unwrap_or_default();
        self.get(&format!("/webhooks/deliveries?endpoint={id}"), admin, 200).await?;
        self.call(Method::DELETE, &format!("/webhooks/endpoints/{id}"), admin, None, 204).await?;
        Ok(())
    }
}

/// How many webhooks may have arrived that nobody has looked at yet.
const ARRIVING: usize = 16;

/// A webhook as it arrived.
type Arrived = (HeaderMap, String);

/// A receiver of webhooks in this process: where it is, and what arrives there.
async fn receive() -> Result<(String, mpsc::Receiver<Arrived>), DemoError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/hook", listener.local_addr()?);
    let (arrived, arriving) = mpsc::channel(ARRIVING);
    let receiver = Router::new().fallback(move |headers: HeaderMap, body: String| {
        // Whoever waits for it may have gone.
        let _ = arrived.try_send((headers, body));
        async {}
    });
    tokio::spawn(async move { axum::serve(listener, receiver).await });
    Ok((url, arriving))
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Whether a webhook carries the signatures that this secret makes.
fn is_signed(headers: &HeaderMap, body: &str, secret: &[u8]) -> bool {
    let (id, timestamp) = (text_of(headers, "webhook-id").parse(), text_of(headers, "webhook-timestamp").parse());
    let (Ok(id), Ok(timestamp)) = (id, timestamp) else { return false };
    webhook_signature::headers(&[secret], id, timestamp, body.as_bytes()).is_some_and(|signed| {
        text_of(headers, "webhook-signature") == signed.standard
            && text_of(headers, "x-approval-signature") == signed.approval
    })
}
