//! What makes a start with `COUNTERSIGN_ISSUERS` fail, and what it is told.

use super::KIT;
use crate::process::{countersign, text};
use countersign_testing::tokens::{Kit, SECRET_ID};
use serde_json::{Value, json};
use std::path::Path;

const JWKS_URL: &str = "http://127.0.0.1:9/keys";

/// Makes the data directory's secrets, with these for issuers among them, put there as an operator would.
pub(super) fn with_secrets(data: &Path, issuer_secrets: &Value) {
    let generated = countersign(data, &["token", "--tenant", "t", "--subject", "s"]).output().unwrap();
    assert!(generated.status.success(), "{generated:?}");
    let path = data.join("secrets.json");
    let mut secrets: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    secrets["issuer_secrets"] = issuer_secrets.clone();
    std::fs::write(&path, secrets.to_string()).unwrap();
}

#[test]
fn wrong_issuers_fail_the_start_with_a_sentence() {
    let data = tempfile::tempdir().unwrap();
    let configuration = Kit::configuration(JWKS_URL, JWKS_URL);
    let missing = json!({});
    let short = json!({ SECRET_ID: "x".repeat(31) });
    for (issuers, secrets, said) in [
        ("{}", &missing, "COUNTERSIGN_ISSUERS must be a JSON array of issuers"),
        (&configuration, &missing, "COUNTERSIGN_ISSUERS names the secret `shared`, which is not there"),
        (
            &configuration,
            &short,
            "COUNTERSIGN_ISSUERS names the secret `shared`, which is not there or has less than 32",
        ),
    ] {
        with_secrets(data.path(), secrets);
        let output = countersign(data.path(), &[]).env("COUNTERSIGN_ISSUERS", issuers).output().unwrap();
        let (printed, error) = text(&output);
        assert_eq!((output.status.code(), printed.as_str()), (Some(2), ""), "{issuers}");
        assert!(error.contains(said), "{error}");
        assert!(!error.contains(&"x".repeat(31)), "{error}");
    }
}

#[test]
fn a_secret_of_32_bytes_is_enough() {
    let data = tempfile::tempdir().unwrap();
    with_secrets(data.path(), &json!({ SECRET_ID: "x".repeat(32) }));
    let configuration = Kit::configuration(JWKS_URL, JWKS_URL);
    let process = crate::process::Process::with(data.path(), &[("COUNTERSIGN_ISSUERS", &configuration)]);
    assert!(process.public.starts_with("http://"));
    assert!(KIT.secret_text().len() >= 32);
}
