//! A whole day at the door, the same by every way that leads there.

use crate::door::{Answer, Door, LocalServer};
use crate::events::Request;
use crate::function::{Deployment, Function, SECRET};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use uuid::Uuid;

const EVENT: &str = "evt-a1b2c3d4-5678-9012-abcd-ef3456789012";
/// The documented vectors: their token and their co-signatures.
const JTI: &str = "f4a5b6c7-d8e9-0123-f012-456789012cde";
const APPROVE: &str = "ba64b344c0bef66492bf70050252b41fc90d7a8dd375a52e1c1371900de84582";
const REJECT: &str = "fa359ccd80532322dfee09e98aad95b263189d1a0ce833da152cfad1ee838843";

/// What differs from one telling to the next.
const FRESH: [&str; 11] =
    ["token", "jti", "customer_id", "cosignature", "expires_at", "created_at", "decided_at", "key_id", "kid", "x", "y"];

/// A co-signature by the documentation, computed without a line of the product.
fn documented_cosignature(event: &str, decision: &str, jti: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    hex::encode(mac.chain_update(format!("override|{event}|{decision}|{jti}")).finalize().into_bytes())
}

/// One answer, without what differs from one telling to the next.
#[derive(Debug, PartialEq)]
struct Step {
    name: &'static str,
    status: u64,
    /// Content type, allowed methods, request id, time to wait, replay.
    headers: [Option<String>; 5],
    body: Value,
}

struct Story<'a> {
    door: &'a Door<'a>,
    steps: Vec<Step>,
}

impl Story<'_> {
    async fn step(&mut self, name: &'static str, request: Request) -> Answer {
        let id = format!("story-{}", self.steps.len());
        self.step_with_id(name, request.header("X-Request-Id", id)).await
    }

    async fn step_with_id(&mut self, name: &'static str, request: Request) -> Answer {
        let answer = self.door.send(&request).await;
        let header = |name| answer.header(name).map(str::to_owned);
        let id = header("x-request-id").map(|id| if id.parse::<Uuid>().is_ok() { "fresh".to_owned() } else { id });
        self.steps.push(Step {
            name,
            status: answer.status,
            headers: [
                header("content-type"),
                header("allow"),
                id,
                header("retry-after"),
                header("idempotency-replayed"),
            ],
            body: timeless(answer.json()),
        });
        answer
    }
}

fn timeless(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| {
                let value = if FRESH.contains(&name.as_str()) { "fresh".into() } else { timeless(value) };
                (name, value)
            });
            Value::Object(fields.collect())
        }
        Value::Array(values) => values.into_iter().map(timeless).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

async fn tell(door: &Door<'_>) -> Vec<Step> {
    let mut story = Story { door, steps: Vec::new() };
    decisions(&mut story).await;
    keys_and_idempotency(&mut story).await;
    refusals(&mut story).await;
    story.steps
}

async fn decisions(story: &mut Story<'_>) {
    let customer = Uuid::new_v4().to_string();
    let mint =
        json!({ "customer_id": customer, "event_id": EVENT, "reason": "known maintenance ✓", "ttl_minutes": 30 });
    let minted = story.step("mint", Request::new("POST", "/tokens/override").json(&mint)).await.json();
    assert!(minted["token"].as_str().unwrap().starts_with("qt_override_ey"), "{minted}");
    let jti = minted["jti"].as_str().unwrap();

    let show = Request::new("GET", format!("/tokens/{jti}")).query("customer_id", customer.as_str());
    story.step("show", show.clone()).await;
    let stranger = Request::new("GET", format!("/tokens/{jti}")).query("customer_id", Uuid::new_v4());
    story.step("show to a stranger", stranger).await;

    let decide = |decision: &str| {
        let body = json!({ "override_jti": jti, "customer_id": customer, "decision": decision, "reason": "ok" });
        Request::new("POST", format!("/overrides/{EVENT}/decide")).json(&body)
    };
    story.step("decide what is not allowed", decide("escalate")).await;
    let decided = story.step("decide", decide("approve")).await.json();
    assert_eq!(decided["cosignature"], documented_cosignature(EVENT, "approve", jti));
    story.step("decide again", decide("approve")).await;
    story.step("show what was decided", show).await;

    let verify = |jti: &str, decision: &str, cosignature: &Value| {
        let body = json!({ "event_id": EVENT, "decision": decision, "override_jti": jti, "cosignature": cosignature });
        Request::new("POST", "/overrides/verify").json(&body)
    };
    story.step("verify", verify(jti, "approve", &decided["cosignature"])).await;
    story.step("verify another decision", verify(jti, "reject", &decided["cosignature"])).await;
    story.step("verify the documented approval", verify(JTI, "approve", &APPROVE.into())).await;
    story.step("verify the documented rejection", verify(JTI, "reject", &REJECT.into())).await;

    let minted = story.step("mint another", Request::new("POST", "/tokens/override").json(&mint)).await.json();
    let other = minted["jti"].as_str().unwrap();
    let revoke = Request::new("DELETE", format!("/tokens/{other}")).query("customer_id", customer.as_str());
    story.step("revoke", revoke.clone()).await;
    story.step("revoke again", revoke).await;
    let body = json!({ "override_jti": other, "customer_id": customer, "decision": "approve" });
    let decide = Request::new("POST", format!("/overrides/{EVENT}/decide")).json(&body);
    story.step("decide what was revoked", decide).await;
}

async fn keys_and_idempotency(story: &mut Story<'_>) {
    let customer = Uuid::new_v4().to_string();
    let create = Request::new("POST", "/keys/signing").json(&json!({ "customer_id": customer }));
    let created = story.step("create a key", create.clone()).await.json();
    story.step("create a key again", create).await;
    let key_id = created["key_id"].as_str().unwrap();
    story.step("rotate", Request::new("POST", format!("/keys/{key_id}/rotate"))).await;
    story.step("publish the keys", Request::new("GET", format!("/keys/public/{customer}"))).await;

    let mint = json!({ "customer_id": customer, "event_id": EVENT });
    let mint = Request::new("POST", "/tokens/override").json(&mint).header("Idempotency-Key", customer);
    let first = story.step("mint once", mint.clone()).await;
    let second = story.step("mint once more", mint).await;
    assert_eq!(first.body, second.body);
}

async fn refusals(story: &mut Story<'_>) {
    story.step("health", Request::new("GET", "/health")).await;
    story.step("an unknown path", Request::new("GET", "/nothing/here")).await;
    story.step("a wrong method", Request::new("PUT", "/tokens/override").json(&json!({}))).await;
    let token = format!("/tokens/{}", Uuid::new_v4());
    story.step("a wrong method with three right ones", Request::new("PATCH", token.as_str())).await;
    let mint = || Request::new("POST", "/tokens/override");
    story.step("missing fields", mint().json(&json!({ "ttl_minutes": 0 }))).await;
    story.step("malformed JSON", mint().header("Content-Type", "application/json").text("{")).await;
    story.step("no body", mint()).await;
    story.step("a form", mint().header("Content-Type", "application/x-www-form-urlencoded").text("a=b")).await;
    story.step("a compressed body", mint().header("Content-Encoding", "gzip").json(&json!({}))).await;
    story.step("a body of 300 KiB", mint().json(&json!({ "reason": "a".repeat(300 * 1024) }))).await;
    story.step("no customer", Request::new("GET", token.as_str())).await;
    let twice = Request::new("GET", token).query("customer_id", Uuid::nil()).query("customer_id", Uuid::max());
    story.step("two customers", twice).await;
    story.step_with_id("no request id", Request::new("GET", "/health")).await;
    story.step_with_id("no good request id", Request::new("GET", "/health").header("X-Request-Id", "a b")).await;
}

const STATUSES: [(&str, u64); 35] = [
    ("mint", 201),
    ("show", 200),
    ("show to a stranger", 404),
    ("decide what is not allowed", 422),
    ("decide", 200),
    ("decide again", 409),
    ("show what was decided", 200),
    ("verify", 200),
    ("verify another decision", 200),
    ("verify the documented approval", 200),
    ("verify the documented rejection", 200),
    ("mint another", 201),
    ("revoke", 204),
    ("revoke again", 204),
    ("decide what was revoked", 410),
    ("create a key", 201),
    ("create a key again", 409),
    ("rotate", 201),
    ("publish the keys", 200),
    ("mint once", 201),
    ("mint once more", 201),
    ("health", 200),
    ("an unknown path", 404),
    ("a wrong method", 405),
    ("a wrong method with three right ones", 405),
    ("missing fields", 400),
    ("malformed JSON", 400),
    ("no body", 400),
    ("a form", 415),
    ("a compressed body", 415),
    ("a body of 300 KiB", 413),
    ("no customer", 400),
    ("two customers", 400),
    ("no request id", 200),
    ("no good request id", 200),
];

#[tokio::test]
async fn every_way_to_the_door_gives_the_same_answers() {
    assert_eq!(documented_cosignature(EVENT, "approve", JTI), APPROVE);
    assert_eq!(documented_cosignature(EVENT, "reject", JTI), REJECT);
    let server = LocalServer::start().await;
    let locally = tell(&Door::Local(&server)).await;
    let statuses: Vec<_> = locally.iter().map(|step| (step.name, step.status)).collect();
    assert_eq!(statuses, STATUSES);
    let step = |name| locally.iter().find(|step| step.name == name).unwrap();
    for (name, valid) in [
        ("verify", true),
        ("verify another decision", false),
        ("verify the documented approval", true),
        ("verify the documented rejection", true),
    ] {
        assert_eq!(step(name).body, json!({ "valid": valid }), "{name}");
    }
    assert_eq!(step("a wrong method").headers[1].as_deref(), Some("POST"));
    assert_eq!(step("a wrong method with three right ones").headers[1].as_deref(), Some("GET,HEAD,DELETE"));
    assert_eq!(step("mint").headers[2].as_deref(), Some("story-0"));
    assert_eq!(step("mint once more").headers[4].as_deref(), Some("true"));
    for name in ["no request id", "no good request id"] {
        assert_eq!(step(name).headers[2].as_deref(), Some("fresh"), "{name}");
    }

    let deployment = Deployment::start().await;
    let function = Function::start(&deployment).await;
    for base64 in [false, true] {
        for (way, door) in [
            ("REST", Door::Rest { function: &function, base64 }),
            ("HTTP", Door::Http { function: &function, stage: "$default", base64 }),
            ("HTTP with a stage", Door::Http { function: &function, stage: "prod", base64 }),
        ] {
            for (there, here) in tell(&door).await.iter().zip(&locally) {
                assert_eq!(there, here, "{way}, base64: {base64}");
            }
        }
    }
}

#[tokio::test]
async fn an_idempotency_key_that_is_sent_twice_is_refused_by_rest_events_as_by_a_listener() {
    let server = LocalServer::start().await;
    let deployment = Deployment::start().await;
    let function = Function::start(&deployment).await;
    let request = Request::new("POST", "/keys/signing").json(&json!({ "customer_id": Uuid::new_v4() }));
    let request = request.header("Idempotency-Key", "a").header("Idempotency-Key", "b");
    for door in [Door::Local(&server), Door::Rest { function: &function, base64: false }] {
        let answer = door.send(&request).await;
        assert_eq!(answer.refusal(), (400, "invalid_request".to_owned()), "{answer:?}");
        assert_eq!(answer.json()["details"][0]["field"], "Idempotency-Key");
    }
}
