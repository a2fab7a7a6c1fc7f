//! The age of secrets from Secrets Manager: used for 5 minutes, refreshed alongside until 15, refreshed first afterwards.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use aws_config::{BehaviorVersion, Region};
use aws_sdk_secretsmanager::config::Credentials;
use aws_sdk_secretsmanager::config::retry::RetryConfig;
use countersign_api::{Secrets, SecretsError};
use countersign_store::Clock;
use countersign_testing::secrets_manager::SecretsManager;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

struct World {
    manager: SecretsManager,
    secrets: Secrets,
    clock: Clock,
}

impl World {
    async fn start() -> Self {
        let manager = SecretsManager::start().await.unwrap();
        let clock = Clock::manual("2026-11-21T12:00:00Z".parse().unwrap());
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .endpoint_url(manager.url())
            .load()
            .await;
        let secrets = Secrets::manager(&config, Some("override".to_owned()), None, "root".to_owned(), &clock);
        let world = Self { manager, secrets, clock };
        world.set("first");
        world
    }

    fn set(&self, secret: &str) {
        self.manager.set("override", format!(r#"{{"current":"{secret}"}}"#));
    }

    async fn current(&self) -> Result<String, SecretsError> {
        let secret = self.secrets.override_secret().await?;
        Ok(String::from_utf8(secret.current.as_bytes().to_vec()).unwrap())
    }

    fn reads(&self) -> usize {
        self.manager.reads("override")
    }
}

#[tokio::test]
async fn a_fresh_secret_is_not_read_again() {
    let world = World::start().await;
    assert_eq!(world.current().await.unwrap(), "first");
    world.clock.advance(5 * MINUTE - Duration::from_secs(1));
    world.secrets.refresh_aging().await;
    assert_eq!(world.current().await.unwrap(), "first");
    assert_eq!(world.reads(), 1);
    assert_eq!(world.manager.reads("root"), 0, "what nobody used is not read");
}

#[tokio::test]
async fn an_aging_secret_is_used_and_refreshed_alongside() {
    let world = World::start().await;
    world.current().await.unwrap();
    world.set("second");
    world.clock.advance(5 * MINUTE);
    assert_eq!(world.current().await.unwrap(), "first");
    assert_eq!(world.reads(), 1, "the call itself does not wait");
    world.secrets.refresh_aging().await;
    assert_eq!(world.current().await.unwrap(), "second");
    assert_eq!(world.reads(), 2);
}

#[tokio::test]
async fn while_secrets_manager_is_down_a_secret_lasts_15_minutes() {
    let world = World::start().await;
    world.current().await.unwrap();
    world.manager.fail(true);
    world.clock.advance(15 * MINUTE - Duration::from_secs(1));
    world.secrets.refresh_aging().await;
    assert_eq!(world.current().await.unwrap(), "first");
    world.clock.advance(Duration::from_secs(1));
    assert!(world.current().await.is_err());
    world.manager.fail(false);
    world.set("second");
    assert_eq!(world.current().await.unwrap(), "second");
}

#[tokio::test]
async fn simultaneous_calls_share_one_read() {
    let world = World::start().await;
    let calls = (0..16).map(|_| world.current());
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| answer.as_deref() == Ok("first")));
    assert_eq!(world.reads(), 1);
}

#[tokio::test]
async fn a_secret_that_is_not_what_it_should_be_is_none() {
    for text in ["", "plain", "{}", r#"{"current":""}"#, r#"{"current":5}"#, r#"{"current":"a","previous":""}"#] {
        let world = World::start().await;
        world.manager.set("override", text);
        let error = world.current().await.unwrap_err().to_string();
        assert!(error.contains("current"), "{error}");
        assert!(!error.contains("plain"), "an error does not show the secret");
    }
}
