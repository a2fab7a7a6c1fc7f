//! The command itself, as a process: its ready line, hints, logs, clean end, and what makes it fail.

use crate::server::{CUSTOMER, send};
use reqwest::Client;
use serde_json::json;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;

/// `countersign serve` on a data directory, killed when it is dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) public: String,
    pub(crate) management: String,
    pub(crate) client: Client,
    /// What it writes to stderr, read along: a pipe that nobody reads holds 64 KiB.
    log: Option<JoinHandle<String>>,
}

pub(crate) fn countersign(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command
        .args(arguments)
        .env("COUNTERSIGN_DATA", data)
        .env("COUNTERSIGN_LISTEN", "127.0.0.1:0")
        .env("COUNTERSIGN_MANAGEMENT_LISTEN", "127.0.0.1:0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Process {
    pub(crate) fn start(data: &Path) -> Self {
        Self::with(data, &[])
    }

    pub(crate) fn with(data: &Path, variables: &[(&str, &str)]) -> Self {
        let mut child = countersign(data, &["serve"]).envs(variables.iter().copied()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut log = String::new();
            stderr.read_to_string(&mut log).unwrap();
            log
        });
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        let urls = ready.strip_prefix("ready public=").and_then(|urls| urls.trim().split_once(" management="));
        let (public, management) = urls.unwrap_or_else(|| panic!("not a ready line: {ready:?}"));
        let client = Client::builder().no_proxy().build().unwrap();
        Self { child, public: public.to_owned(), management: management.to_owned(), client, log: Some(log) }
    }

    /// Asks it to stop, and gives how it ended and what it wrote to stderr.
    pub(crate) fn stop(&mut self) -> (bool, String) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let log = self.log.take().unwrap().join().unwrap();
        (self.child.wait().unwrap().success(), log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn text(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn the_first_start_shows_curl_lines_that_work_as_pasted() {
    let data = tempfile::tempdir().unwrap();
    let directory = data.path().join("fresh");
    let mut before = Process::start(&directory);
    assert_eq!(send(before.client.get(format!("{}/health", before.public))).await.status, 200);
    let (ended, hints) = before.stop();
    assert!(ended);
    assert!(hints.contains("First start"), "{hints}");
    let mut process = Process::start(&directory);
    let script: String = hints.lines().filter(|line| line.starts_with("  ")).map(|line| format!("{line}\n")).collect();
    let script = script.replace(&before.public, &process.public).replace(&before.management, &process.management);
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let (printed, _) = text(&output);
    for shown in [
        "\"cosignature\":",
        "\"remediationStatus\":\"executing\"",
        "\"approved_by\":42",
        "\"resolved\":true",
        "\"secret\":\"whsec_",
        "{\"items\":[",
    ] {
        assert!(printed.contains(shown), "{shown} in {script}{printed}");
    }
    let (ended, log) = process.stop();
    assert!(ended && !log.contains("First start"), "{log}");
}

#[tokio::test]
async fn what_lives_in_the_data_directory_is_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let data = tempfile::tempdir().unwrap();
    let directory = data.path().join("fresh");
    let process = Process::start(&directory);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    drop(process);
    let secrets = directory.join("secrets.json");
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (_, error) = text(&countersign(&directory, &["serve"]).output().unwrap());
    assert!(error.contains("can be read by others"), "{error}");
}

#[tokio::test]
async fn no_token_secret_or_id_of_an_active_token_is_logged() {
    let data = tempfile::tempdir().unwrap();
    let mut process = Process::start(data.path());
    let secrets = std::fs::read_to_string(data.path().join("secrets.json")).unwrap();
    let secrets: serde_json::Value = serde_json::from_str(&secrets).unwrap();
    let mint = json!({ "customer_id": CUSTOMER, "event_id": "evt-1" });
    let minted = send(process.client.post(format!("{}/tokens/override", process.management)).json(&mint)).await.json();
    let jti = minted["jti"].as_str().unwrap();
    for path in [format!("/tokens/{jti}?customer_id={CUSTOMER}"), format!("/tokens/{jti}"), format!("/{jti}")] {
        send(process.client.get(format!("{}{path}", process.management)).header("Idempotency-Key", "my-key")).await;
    }
    let wrong = json!({ "override_jti": jti, "customer_id": CUSTOMER, "decision": "never" });
    send(process.client.post(format!("{}/overrides/evt-1/decide", process.management)).json(&wrong)).await;
    let (_, log) = process.stop();
    assert!(log.matches("answered").count() >= 5, "one line per request: {log}");
    for secret in [
        jti,
        minted["token"].as_str().unwrap(),
        secrets["override_secret"].as_str().unwrap(),
        secrets["callback_secret"].as_str().unwrap(),
        secrets["root_key"].as_str().unwrap(),
        "my-key",
    ] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[tokio::test]
async fn verify_works_while_a_server_runs_and_finds_what_was_changed() {
    let data = tempfile::tempdir().unwrap();
    let process = Process::start(data.path());
    let mint = json!({ "customer_id": CUSTOMER, "event_id": "evt-1" });
    send(process.client.post(format!("{}/tokens/override", process.management)).json(&mint)).await;
    let verify = || countersign(data.path(), &["verify", "--tenant", &CUSTOMER.to_uppercase()]).output().unwrap();
    let whole = verify();
    assert_eq!(text(&whole).0, "whole: 2 records with 2 entries\n", "{whole:?}");
    assert!(whole.status.success());
    drop(process);

    let engine = countersign::data::engine(data.path(), true).unwrap();
    crate::crash::tamper(&engine, "approve", "approvf").await;
    drop(engine);
    let broken = verify();
    assert_eq!(broken.status.code(), Some(1), "{broken:?}");
    assert!(text(&broken).0.starts_with(&format!("broken: override#{CUSTOMER}#")), "{broken:?}");
}

#[test]
fn verify_says_that_there_is_no_table_rather_than_making_one() {
    let data = tempfile::tempdir().unwrap();
    let output = countersign(data.path(), &["verify", "--tenant", "acme"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).1.contains("no table"), "{output:?}");
    assert_eq!(data.path().read_dir().unwrap().count(), 0);
    let malformed = countersign(data.path(), &["verify", "--tenant", "a|b"]).output().unwrap();
    assert_eq!(malformed.status.code(), Some(2));
}

#[test]
fn the_demo_plays_against_a_server_of_its_own() {
    let data = tempfile::tempdir().unwrap();
    let mut demo = countersign(data.path(), &["demo"]);
    // An address where nothing listens.
    let output = demo.env("COUNTERSIGN_MANAGEMENT_LISTEN", "127.0.0.1:9").output().unwrap();
    let (printed, error) = text(&output);
    assert!(output.status.success(), "{printed}{error}");
    for word in [
        "cosignature",
        "token_already_used",
        r#"{"valid":true}"#,
        r#""remediationStatus":"executing""#,
        r#""status":"executed""#,
        "API keys cannot approve",
        r#""decision":"allowed""#,
        "Case already resolved as FALSE_POSITIVE",
        "Both signatures verify with the secret",
    ] {
        assert!(printed.contains(word), "{word}: {printed}");
    }
    assert_eq!(data.path().read_dir().unwrap().count(), 0, "it leaves nothing behind");
}

#[tokio::test]
async fn the_demo_plays_against_a_running_server() {
    let data = tempfile::tempdir().unwrap();
    let process = Process::start(data.path());
    let mut demo = countersign(data.path(), &["demo"]);
    let address = |url: &str| url.strip_prefix("http://").unwrap().to_owned();
    demo.env("COUNTERSIGN_MANAGEMENT_LISTEN", address(&process.management));
    let output = demo.env("COUNTERSIGN_LISTEN", address(&process.public)).output().unwrap();
    assert!(output.status.success(), "{:?}", text(&output));
    assert!(text(&output).0.contains(&format!("against the server at {}", process.management)));
}

#[test]
fn a_wrong_start_ends_with_a_sentence() {
    let data = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (name, value, said) in [
        ("COUNTERSIGN_LISTEN", "nowhere", "COUNTERSIGN_LISTEN must be an address and a port"),
        ("COUNTERSIGN_MANAGEMENT_LISTEN", "0.0.0.0:0", "must be a loopback address"),
        ("COUNTERSIGN_RATE", "many", "COUNTERSIGN_RATE must be a whole number"),
        ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1", "does not run in Lambda"),
        ("COUNTERSIGN_DATA", "/dev/null/data", "/dev/null/data"),
        ("COUNTERSIGN_LISTEN", &taken, "cannot listen on"),
    ] {
        let output = countersign(data.path(), &[]).env(name, value).output().unwrap();
        let (printed, error) = text(&output);
        assert_eq!(output.status.code(), Some(2), "{name}={value}");
        assert!(error.contains(said) && printed.is_empty(), "{name}={value}: {error}");
    }
}

/// Resident memory in KiB.
#[cfg(target_os = "linux")]
fn resident(child: &Child) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn hostile_bodies_do_not_make_the_server_grow() {
    let data = tempfile::tempdir().unwrap();
    let process = Process::start(data.path());
    let bodies = [
        vec![b'x'; 10 << 20],
        "[".repeat(200_000).into_bytes(),
        "{\"a\":".repeat(40_000).into_bytes(),
        vec![0; 250_000],
    ];
    let url = format!("{}/tokens/override", process.management);
    let round = async || {
        for body in &bodies {
            let answer = send(process.client.post(&url).body(body.clone())).await;
            assert!([400, 413].contains(&answer.status), "{answer:?}");
        }
    };
    for _ in 0..10 {
        round().await;
    }
    let before = resident(&process.child);
    for _ in 0..40 {
        round().await;
    }
    let grown = resident(&process.child).saturating_sub(before);
    assert!(grown < 8 * 1024, "400 MB of hostile bodies left {grown} KiB behind");
}
