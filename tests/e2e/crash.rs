//! SIGKILL at any moment: every decision that was acknowledged stands after a restart, and every chain is whole.

use crate::process::{Process, countersign};
use crate::server::{CUSTOMER, send};
use countersign_embedded::Engine;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

const TOKENS: usize = 120;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_has_lost_no_acknowledged_decision() {
    let data = tempfile::tempdir().unwrap();
    for kill_after in [1, 20, 60] {
        let mut process = Process::start(data.path());
        let jtis = join_all((0..TOKENS).map(|_| mint(&process))).await;
        let acknowledged = AtomicUsize::new(0);
        let shared = (&process.client, &process.management, &acknowledged);
        let clients = jtis.chunks(TOKENS / 8).map(|jtis| decide_until_it_dies(shared, jtis));
        let killer = async {
            while acknowledged.load(Ordering::SeqCst) < kill_after {
                tokio::task::yield_now().await;
            }
            // SIGKILL, while the clients go on.
            let id = process.child.id().to_string();
            assert!(Command::new("kill").args(["-KILL", &id]).status().unwrap().success());
        };
        let (decided, ()) = futures_util::join!(join_all(clients), killer);
        process.child.wait().unwrap();
        let decided = decided.concat();
        assert!(decided.len() >= kill_after && decided.len() < TOKENS, "killed while deciding: {}", decided.len());

        let process = Process::start(data.path());
        for (jti, decision) in &decided {
            let shown = show(&process, jti).await;
            assert_eq!((&shown["status"], &shown["decision"]), (&json!("used"), &json!(decision)));
        }
        let statuses = join_all(jtis.iter().map(|jti| show(&process, jti))).await;
        assert!(statuses.iter().any(|shown| shown["status"] == "active"), "some were never decided");
        let verified = countersign(data.path(), &["verify", "--tenant", CUSTOMER]).output().unwrap();
        assert!(verified.status.success(), "{verified:?}");
    }
}

async fn mint(process: &Process) -> String {
    let body = json!({ "customer_id": CUSTOMER, "event_id": "evt-1" });
    let minted = send(process.client.post(format!("{}/tokens/override", process.management)).json(&body)).await;
    minted.json()["jti"].as_str().unwrap().to_owned()
}

async fn show(process: &Process, jti: &str) -> Value {
    let url = format!("{}/tokens/{jti}?customer_id={CUSTOMER}", process.management);
    send(process.client.get(url)).await.json()
}

/// Decides one token after the other; what was acknowledged.
async fn decide_until_it_dies(
    (client, management, acknowledged): (&reqwest::Client, &String, &AtomicUsize),
    jtis: &[String],
) -> Vec<(String, String)> {
    let mut decided = Vec::new();
    for (n, jti) in jtis.iter().enumerate() {
        let decision = if n % 2 == 0 { "approve" } else { "reject" };
        let body = json!({ "override_jti": jti, "customer_id": CUSTOMER, "decision": decision });
        let request = client.post(format!("{management}/overrides/evt-1/decide")).json(&body);
        let Ok(response) = request.send().await else { return decided };
        assert_eq!(response.status(), 200);
        // Only an answer that arrived whole was acknowledged.
        if response.bytes().await.is_err() {
            return decided;
        }
        acknowledged.fetch_add(1, Ordering::SeqCst);
        decided.push((jti.clone(), decision.to_owned()));
    }
    decided
}

/// Changes a text in the bodies of records behind the store's back.
pub(crate) async fn tamper(engine: &Engine, from: &str, to: &str) {
    use countersign_testing::fault::{Faults, Faulty};
    let table = Faulty::new(engine.clone(), Faults::none(), 0).unwrap();
    assert!(table.tamper("countersign", "override#", from, to).await > 0);
}
