//! What the world is told holds nothing that anybody could act with: neither tokens nor signatures, secrets or keys.

use crate::actions::{ORGANIZATION, Organization};
use crate::approvals::{TENANT, respond_path, ulid};
use crate::cases::Tool;
use crate::server::{CUSTOMER, EVENT, PREVIOUS, SECRET, Server, send};
use crate::workflow::stage;
use countersign_api::{endpoints_key, seal_endpoint_secret};
use countersign_domain::endpoint::{Add, EndpointId, Endpoints, Secret, Subscription};
use countersign_domain::{Actor, Tenant};
use countersign_store::Call;
use countersign_testing::receiver::{Received, Receiver};
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

const CALLBACK: &str = "a-callback-secret-that-signs";

/// Has a tenant's events all sent there.
async fn subscribe(server: &Server, tenant: &str, number: u128, url: String) {
    let (tenant, id): (Tenant, _) = (tenant.parse().unwrap(), EndpointId::from_u128(number));
    let sealer = server.app.secrets.sealer().await.unwrap();
    let current = seal_endpoint_secret(&sealer, &tenant, &id, CALLBACK.as_bytes()).unwrap();
    let secret = Secret::Own { current, previous: None };
    let add = Add { id, url, events: Subscription::All, agent: None, description: None, secret };
    let by = Actor::Operator { principal: "test".to_owned() };
    let rule = |found: Option<&Endpoints>, now| Endpoints::add(found, &tenant, add.clone(), &by, now);
    let call = Call { deadline: Instant::now() + Duration::from_secs(30), once: None };
    server.app.store.change(&endpoints_key(&tenant), call, rule, |_| Ok(()), |()| Ok(String::new())).await.unwrap();
}

fn names(received: &[Received]) -> BTreeSet<String> {
    let name = |received: &Received| {
        let body = received.json();
        let name = body.get("event_type").or_else(|| body.get("event"));
        name.unwrap().as_str().unwrap().to_owned()
    };
    received.iter().map(name).collect()
}

#[tokio::test]
async fn no_event_of_any_record_holds_a_token_a_signature_a_secret_or_a_key() {
    let org = Organization::new().await;
    let server = &org.server;
    let receiver = Receiver::start().await;
    for (number, tenant) in (1..).zip([CUSTOMER, TENANT, ORGANIZATION, "cases"]) {
        subscribe(server, tenant, number, receiver.url("/")).await;
    }
    let mut secret: Vec<String> = [SECRET, PREVIOUS, CALLBACK, &org.key, &org.admin].map(str::to_owned).to_vec();

    let body = json!({ "customer_id": CUSTOMER, "event_id": EVENT });
    let minted = server.post("/tokens/override", &body).await.json();
    let jti = minted["jti"].as_str().unwrap().to_owned();
    let undecided = receiver.wait_for(1).await;
    assert!(!String::from_utf8_lossy(&undecided[0].body).contains(&jti), "whoever has the jti may decide");
    let decided = server.decide(&jti, "approve").await.json();
    secret.push(minted["token"].as_str().unwrap().trim_start_matches("qt_override_").to_owned());
    secret.push(decided["cosignature"].as_str().unwrap().to_owned());
    let other = server.mint(json!({})).await;
    server.delete(&format!("/tokens/{other}?customer_id={CUSTOMER}")).await;

    let approved = ulid(&server.propose(json!({})).await);
    assert_eq!(server.respond(&approved, "approve").await.status, 200);
    let rejected = ulid(&server.propose(json!({})).await);
    let answer = server.admin().post(&respond_path(&rejected), &json!({ "decision": "reject" })).await;
    assert_eq!(answer.status, 200);

    for verb in ["approve", "reject"] {
        let id = org.pending().await;
        org.act(&org.admin, id, verb).await.ok();
    }

    let tool = Tool::of(server, "cases").await;
    secret.push(tool.key.clone());
    let case = tool.create(json!({})).await;
    assert_eq!(tool.verdict(&case, &json!({ "outcome": "SAFE" })).await.status, 200);

    let named = json!({ "tenant": TENANT, "value": "a-callback-secret-with-a-name" });
    let set = send(server.request(Method::PUT, "/secrets/named").json(&named)).await;
    assert_eq!(set.status, 204, "{set:?}");
    secret.extend(["a-callback-secret-with-a-name", "what-only-the-callback-knows"].map(str::to_owned));
    server.policy("p", json!([stage(1, &["u-bob"], json!({}))]), json!({})).await;
    let url = "http://127.0.0.1:9/what-only-the-callback-knows";
    let asked = server.ask_with("p", json!({ "callback_url": url, "callback_secret_id": "named" })).await;
    assert_eq!(server.answer(&asked.id, "u-bob", "approve").await.status, 201);

    // 4 of overrides, 4 of remediations, 4 of actions, 3 of cases, 4 of workflows.
    let received = receiver.wait_for(19).await;
    let expected = [
        "override.created override.decided override.revoked",
        "remediation.proposed remediation.approved remediation.rejected",
        "action.pending action.approved action.denied",
        "case.created case.verdict_submitted case.resolved",
        "request.created stage.started stage.completed request.approved",
    ];
    let expected: BTreeSet<String> = expected.iter().flat_map(|names| names.split(' ')).map(str::to_owned).collect();
    assert!(names(&received).is_superset(&expected), "{:?}", names(&received));
    for received in &received {
        let whole = format!("{} {:?} {}", received.path, received.headers, String::from_utf8_lossy(&received.body));
        for secret in &secret {
            assert!(!whole.contains(secret.as_str()), "{secret} in {whole}");
        }
        assert!(received.headers.get("authorization").is_none() && received.headers.get("cookie").is_none());
    }
}
