//! `countersign token` and `countersign key`: one line on stdout that works at every door, also while a server runs.

use super::PATH;
use crate::process::{Process, countersign, text};
use crate::server::send;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign_domain::Timestamp;
use serde_json::{Value, json};
use std::path::Path;

/// What the command prints, which is one line and nothing else.
fn printed(data: &Path, arguments: &[&str]) -> String {
    let output = countersign(data, arguments).output().unwrap();
    let (printed, error) = text(&output);
    assert!(output.status.success() && error.is_empty(), "{arguments:?}: {error}");
    let line = printed.strip_suffix('\n').unwrap();
    assert!(!line.is_empty() && !line.contains(char::is_whitespace), "{printed:?}");
    line.to_owned()
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

async fn status(process: &Process, header: &str, credential: &str) -> u16 {
    send(process.client.get(format!("{}{PATH}", process.public)).header(header, credential)).await.status
}

#[test]
fn a_token_says_what_every_door_reads() {
    let data = tempfile::tempdir().unwrap();
    let before = Timestamp::now().as_second();
    let arguments = ["token", "--tenant", "42", "--subject", "7", "--role", "admin", "--role", "manager"];
    let mut claims = claims(&printed(data.path(), &arguments));
    let issued = claims["iat"].as_i64().unwrap();
    assert!((before..=Timestamp::now().as_second()).contains(&issued));
    assert_eq!(claims["exp"].as_i64().unwrap(), issued + 8 * 3600);
    for time in ["iat", "exp"] {
        claims[time] = Value::Null;
    }
    assert_eq!(
        claims,
        json!({
            "iss": "countersign-local", "aud": "countersign", "sub": "7", "iat": null, "exp": null,
            "tenant_id": "42", "organization_id": 42, "user_id": 7, "role": "admin", "roles": ["admin", "manager"],
            "realm_access": { "roles": ["admin", "manager"] },
        })
    );
}

#[test]
fn names_that_are_no_numbers_make_no_numeric_claims() {
    let data = tempfile::tempdir().unwrap();
    for (tenant, subject) in [("acme", "alice"), ("042", "07"), ("9007199254740992", "-7")] {
        let subject = format!("--subject={subject}");
        let claims = claims(&printed(data.path(), &["token", "--tenant", tenant, &subject]));
        assert_eq!(claims["tenant_id"], tenant);
        for absent in ["organization_id", "user_id", "role"] {
            assert_eq!(claims.get(absent), None, "{tenant} {absent}");
        }
    }
    let upper = ["token", "--tenant", "550E8400-E29B-41D4-A716-446655440000", "--subject", "s"];
    assert_eq!(claims(&printed(data.path(), &upper))["tenant_id"], "550e8400-e29b-41d4-a716-446655440000");
}

#[test]
fn any_claim_can_be_set_as_json_or_as_text() {
    let data = tempfile::tempdir().unwrap();
    let mut arguments = vec!["token", "--tenant", "42", "--subject", "7", "--ttl", "30m"];
    for claim in ["approval_level=3", "email=a@b.example", "aud=[\"x\",\"y\"]", "role=user", "note=\"5\"", "iss=me"] {
        arguments.extend(["--claim", claim]);
    }
    let claims = claims(&printed(data.path(), &arguments));
    assert_eq!(claims["approval_level"], 3);
    assert_eq!(claims["aud"], json!(["x", "y"]));
    let texts = [("email", "a@b.example"), ("role", "user"), ("note", "5"), ("iss", "me")];
    for (name, value) in texts {
        assert_eq!(claims[name], value);
    }
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 1800);
}

#[tokio::test]
async fn a_token_opens_a_running_server_and_the_next_one_on_the_same_data() {
    let data = tempfile::tempdir().unwrap();
    let arguments = ["token", "--tenant", "42", "--subject", "7", "--role", "admin"];
    let before = printed(data.path(), &arguments);
    let process = Process::start(data.path());
    let during = printed(data.path(), &arguments);
    for token in [&before, &during] {
        assert_eq!(status(&process, "Authorization", &format!("Bearer {token}")).await, 200);
    }
    let over = printed(data.path(), &[&arguments[..], &["--claim", "exp=1"]].concat());
    let foreign = printed(data.path(), &[&arguments[..], &["--claim", "aud=other"]].concat());
    let elsewhere = printed(tempfile::tempdir().unwrap().path(), &arguments);
    for token in [over, foreign, elsewhere] {
        assert_eq!(status(&process, "Authorization", &format!("Bearer {token}")).await, 401);
    }
    drop(process);
    let process = Process::start(data.path());
    assert_eq!(status(&process, "Authorization", &format!("Bearer {before}")).await, 200);
}

#[tokio::test]
async fn a_key_works_at_once_in_a_running_server() {
    let data = tempfile::tempdir().unwrap();
    let process = Process::start(data.path());
    let mint = |scopes: &[&str]| {
        let mut arguments = vec!["key", "--tenant", "42", "--name", "agent"];
        arguments.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
        printed(data.path(), &arguments)
    };
    let key = mint(&["actions:read", "actions:submit"]);
    assert!(key.starts_with("cs_live_"), "{key}");
    assert_eq!(status(&process, "X-API-Key", &key).await, 200);
    assert_eq!(status(&process, "Authorization", &format!("Bearer {key}")).await, 200);
    assert_eq!(status(&process, "X-API-Key", &mint(&["cases:read"])).await, 403, "without the scope");
    let listed = send(process.client.get(format!("{}/api-keys?domain=42", process.management))).await.json();
    assert_eq!((&listed["items"][0]["name"], &listed["items"][0]["owner"]), (&json!("agent"), &Value::Null));
    assert_eq!(listed["items"][0]["scopes"], json!(["actions:submit", "actions:read"]));
}

#[test]
fn wrong_arguments_print_no_credential() {
    let data = tempfile::tempdir().unwrap();
    let token = ["token", "--tenant", "t", "--subject", "s"];
    let key = ["key", "--tenant", "t", "--name", "n", "--scope", "cases:read"];
    for arguments in [
        vec!["token"],
        vec!["token", "--tenant", "t"],
        vec!["token", "--subject", "s"],
        vec!["token", "--tenant", "a|b", "--subject", "s"],
        [&token[..], &["--ttl", "8"]].concat(),
        [&token[..], &["--ttl=-1h"]].concat(),
        [&token[..], &["--claim", "x"]].concat(),
        [&token[..], &["--claim", "=x"]].concat(),
        vec!["key", "--tenant", "t", "--name", "n"],
        vec!["key", "--tenant", "t", "--scope", "cases:read"],
        vec!["key", "--name", "n", "--scope", "cases:read"],
        vec!["key", "--tenant", "t", "--name", "n", "--scope", "cases:delete"],
        vec!["key", "--tenant", "t", "--name", "", "--scope", "cases:read"],
        vec!["key", "--tenant", "t", "--name", "a\u{1b}b", "--scope", "cases:read"],
        vec!["key", "--tenant", "../t", "--name", "n", "--scope", "cases:read"],
        [&key[..], &["--scope", "cases:read"]].concat(),
    ] {
        let output = countersign(data.path(), &arguments).output().unwrap();
        let (printed, error) = text(&output);
        assert_eq!((output.status.code(), printed.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(!error.is_empty());
    }
}

#[test]
fn a_token_that_no_server_will_trust_is_announced_as_such() {
    let data = tempfile::tempdir().unwrap();
    let mut token = countersign(data.path(), &["token", "--tenant", "t", "--subject", "s"]);
    let output = token.env("COUNTERSIGN_ISSUERS", "[]").output().unwrap();
    let (printed, error) = text(&output);
    assert!(output.status.success());
    assert_eq!(printed.lines().count(), 1);
    assert!(error.contains("no server with it trusts this token"), "{error}");
}

#[tokio::test]
async fn commands_that_start_together_on_fresh_data_agree_on_one_issuer() {
    let data = tempfile::tempdir().unwrap();
    let start = || countersign(data.path(), &["token", "--tenant", "42", "--subject", "7"]).spawn().unwrap();
    let children: Vec<_> = (0..8).map(|_| start()).collect();
    let tokens: Vec<_> = children.into_iter().map(|child| text(&child.wait_with_output().unwrap()).0).collect();
    let process = Process::start(data.path());
    for token in tokens {
        assert_eq!(status(&process, "Authorization", &format!("Bearer {}", token.trim())).await, 200);
    }
}

#[tokio::test]
async fn secrets_of_before_there_was_an_issuer_or_a_callback_get_one_of_each_however_many_start() {
    let data = tempfile::tempdir().unwrap();
    printed(data.path(), &["token", "--tenant", "42", "--subject", "7"]);
    let path = data.path().join("secrets.json");
    let mut secrets: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for later in ["issuer_key", "callback_secret"] {
        assert!(secrets.as_object_mut().unwrap().remove(later).is_some());
    }
    std::fs::write(&path, secrets.to_string()).unwrap();
    let start = || countersign(data.path(), &["token", "--tenant", "42", "--subject", "7"]).spawn().unwrap();
    let children: Vec<_> = (0..8).map(|_| start()).collect();
    let tokens: Vec<_> = children.into_iter().map(|child| text(&child.wait_with_output().unwrap()).0).collect();
    let process = Process::start(data.path());
    for token in tokens {
        assert_eq!(status(&process, "Authorization", &format!("Bearer {}", token.trim())).await, 200);
    }
    let kept: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!((&kept["root_key"], &kept["override_secret"]), (&secrets["root_key"], &secrets["override_secret"]));
    assert!(kept["callback_secret"].as_str().is_some_and(|secret| secret.len() >= 32 && secret != kept["root_key"]));
}
