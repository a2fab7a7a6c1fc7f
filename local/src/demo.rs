//! `countersign demo`: plays a decision and explains each step; also the hints of a first start.

use crate::{Runner, Table};
use countersign_api::config::Local;
use countersign_store::Clock;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;

const CUSTOMER: &str = "550e8400-e29b-41d4-a716-446655440000";

/// A step of the demo did not go as it should.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// No server could be started for it.
    #[error(transparent)]
    Start(#[from] crate::StartError),
    /// There is no place for its data.
    #[error("no temporary directory: {0}")]
    Directory(#[from] std::io::Error),
    /// The server does not answer.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// The server answers, but not as it should.
    #[error("expected {expected}, got {got}")]
    Unexpected {
        /// The status that should have come.
        expected: u16,
        /// What came.
        got: String,
    },
}

/// Curl lines for a newcomer, which work as pasted.
#[must_use]
pub fn hints(data: &Path, management: &str) -> String {
    let data = data.display();
    format!(
        r#"First start: fresh secrets are in {data}, for your eyes only. Mint an override token, decide with it, look at it:

  jti=$(curl -s {management}/tokens/override -H 'Content-Type: application/json' \
    -d '{{"customer_id": "{CUSTOMER}", "event_id": "evt-1"}}' | sed -n 's/.*"jti":"\([^"]*\)".*/\1/p')
  curl -s {management}/overrides/evt-1/decide -H 'Content-Type: application/json' \
    -d '{{"override_jti": "'$jti'", "customer_id": "{CUSTOMER}", "decision": "approve"}}'; echo
  curl -s "{management}/tokens/$jti?customer_id={CUSTOMER}"; echo
"#
    )
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
        println!("Playing against the server at {running}.\n");
        return overrides(&Demo { client, management: running }).await;
    }
    let directory = tempfile::tempdir()?;
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Local {
        listen: any_port,
        management_listen: any_port,
        data: directory.path().join("data"),
        table: None,
        ..config.clone()
    };
    let table = Table::configured(&config, &Clock::System, false).await?;
    let runner = Runner::start(&config, Clock::System, table).await?;
    let management = runner.management_url();
    println!("No server at {running}; playing against one of its own at {management}, which is gone afterwards.\n");
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(runner.run(stopped));
    let played = overrides(&Demo { client, management }).await;
    stop.send_replace(true);
    // The demo's own outcome matters more than how its server ended.
    let _ = serving.await;
    played
}

struct Demo {
    client: reqwest::Client,
    management: String,
}

impl Demo {
    /// Posts, shows the exchange, and gives the answer if it has the expected status.
    async fn post(&self, path: &str, body: &Value, expected: u16) -> Result<Value, DemoError> {
        println!("  POST {path} {body}");
        self.answer(self.client.post(format!("{}{path}", self.management)).json(body), expected).await
    }

    async fn get(&self, path: &str, expected: u16) -> Result<Value, DemoError> {
        println!("  GET {path}");
        self.answer(self.client.get(format!("{}{path}", self.management)), expected).await
    }

    async fn answer(&self, request: reqwest::RequestBuilder, expected: u16) -> Result<Value, DemoError> {
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let body = answer.text().await?;
        println!("  {status} {body}\n");
        if status != expected {
            return Err(DemoError::Unexpected { expected, got: format!("{status} {body}") });
        }
        Ok(serde_json::from_str(&body).unwrap_or_default())
    }
}

async fn overrides(demo: &Demo) -> Result<(), DemoError> {
    println!(
        "Overrides 1. Someone wants to override an automated block. A token authorizes exactly one decision about it:"
    );
    let event_id = format!("evt-{}", uuid::Uuid::new_v4());
    let ask = json!({ "customer_id": CUSTOMER, "event_id": event_id, "reason": "demo", "ttl_minutes": 5 });
    let minted = demo.post("/tokens/override", &ask, 201).await?;
    let jti = &minted["jti"];

    println!(
        "Overrides 2. A human approves. The answer is co-signed, so that whoever acts on it can prove who decided:"
    );
    let decide = json!({ "override_jti": jti, "customer_id": CUSTOMER, "decision": "approve", "reason": "reviewed" });
    let path = format!("/overrides/{event_id}/decide");
    let decided = demo.post(&path, &decide, 200).await?;

    println!("Overrides 3. Anyone who tries again, with whatever decision, is told that it was taken:");
    let again = json!({ "override_jti": jti, "customer_id": CUSTOMER, "decision": "reject" });
    demo.post(&path, &again, 409).await?;

    println!("Overrides 4. The co-signature verifies:");
    let ask = json!({
        "event_id": event_id, "decision": "approve", "override_jti": jti, "cosignature": decided["cosignature"],
    });
    demo.post("/overrides/verify", &ask, 200).await?;

    println!("Overrides 5. The token as it is now, and the public key that its signature verifies with:");
    let jti = jti.as_str().unwrap_or_default();
    demo.get(&format!("/tokens/{jti}?customer_id={CUSTOMER}"), 200).await?;
    demo.get(&format!("/keys/public/{CUSTOMER}"), 200).await?;
    println!("On your own server, check the audit chain with: countersign verify --tenant {CUSTOMER}");
    Ok(())
}
