//! Who is calling: JWTs of several issuers, API keys, issuers that are away, and the commands that make credentials.

mod api_keys;
mod commands;
mod configuration;
mod issuers;
mod jwts;

use crate::server::{Answer, Server, send};
use countersign_testing::fault::Faults;
use countersign_testing::issuer::JwksAddress;
use countersign_testing::tokens::Kit;
use reqwest::Method;
use std::sync::LazyLock;

/// The keys of every issuer in these stories.
pub(crate) static KIT: LazyLock<Kit> = LazyLock::new(Kit::generate);
/// What takes a token or a key, and nothing else.
const PATH: &str = "/api/v1/actions";

/// A server that trusts the kit's issuers.
struct Trusting {
    server: Server,
    issuer: JwksAddress,
    narrow: JwksAddress,
}

impl Trusting {
    async fn start() -> Self {
        let issuer = JwksAddress::start(&KIT.jwks()).await.unwrap();
        let narrow = JwksAddress::start(&KIT.narrow_jwks()).await.unwrap();
        let issuers = Kit::configuration(&issuer.url(), &narrow.url());
        let server = Server::with(Faults::none(), 0, &[("COUNTERSIGN_ISSUERS", &issuers)]).await;
        Self { server, issuer, narrow }
    }

    /// What the door says to a token of the kit's issuer that is right but for who signed it, and by which name.
    async fn signed_by(&self, signer: &countersign_testing::issuer::Signer, kid: &str) -> Answer {
        self.server.with_token(&self.token(signer, kid)).await
    }

    fn token(&self, signer: &countersign_testing::issuer::Signer, kid: &str) -> String {
        let header = serde_json::json!({ "alg": signer.algorithm(), "kid": kid }).to_string();
        // Moved clocks do not end it.
        let claims = Kit::claims(self.now()).with("exp", self.now() + 1_000_000);
        signer.token(header, claims.text())
    }

    fn now(&self) -> i64 {
        self.server.clock.now().as_second()
    }
}

impl Server {
    async fn with_token(&self, token: &str) -> Answer {
        send(self.public(Method::GET, PATH).header("Authorization", format!("Bearer {token}"))).await
    }

    async fn with_key(&self, key: impl AsRef<[u8]>) -> Answer {
        let key = reqwest::header::HeaderValue::from_bytes(key.as_ref()).unwrap();
        send(self.public(Method::GET, PATH).header("X-API-Key", key)).await
    }
}

/// Status and code in the words of the actions door.
fn refusal(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["error_code"].as_str().unwrap_or_default().to_owned())
}

/// Asks until it is so; whatever it waits for is under way.
async fn eventually(mut so: impl AsyncFnMut() -> bool) {
    let within = std::time::Duration::from_secs(20);
    let asking = async {
        while !so().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(within, asking).await.unwrap();
}
