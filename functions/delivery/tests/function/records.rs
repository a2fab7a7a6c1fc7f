//! What stands in the table: endpoints, records with events, and the deliveries that become of them.

use countersign_api::{Sealer, endpoints_key, seal_endpoint_secret};
use countersign_domain::case::{Case, Ingest, Input, Severity};
use countersign_domain::delivery::{ATTEMPTED, Delivery};
use countersign_domain::endpoint::{Add, EndpointId, Endpoints, Secret, Subscription};
use countersign_domain::remediation::{Decision, Propose, Remediation, RemediationId, Respond};
use countersign_domain::workflow::policy::Definition;
use countersign_domain::workflow::request::{self, Answers, Bound, Callback, New, Request, RequestId};
use countersign_domain::{Actor, Outcome, Record, Tenant, Timestamp, Work};
use countersign_store::{By, Call, Cursor, CursorKeys, Found, Key, Order, Query, SHARDS, Store};
use serde_json::Value;
use std::fmt::Debug;
use std::time::Duration;
use tokio::time::Instant;

pub(crate) fn acme() -> Tenant {
    "acme".parse().unwrap()
}

pub(crate) fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn alice() -> Actor {
    Actor::User { issuer: "test".to_owned(), subject: "alice".to_owned() }
}

/// Registers an enabled endpoint for all events, whatever its URL.
pub(crate) async fn subscribe(store: &Store, sealer: &Sealer, number: u128, url: &str) {
    let id = EndpointId::from_u128(number);
    let current = seal_endpoint_secret(sealer, &acme(), &id, b"test-callback-secret").unwrap();
    let add = Add {
        id,
        url: url.to_owned(),
        events: Subscription::of(&["*".to_owned()]).unwrap(),
        agent: None,
        description: None,
        secret: Secret::Own { current, previous: None },
    };
    let rule = |endpoints: Option<&Endpoints>, now| Endpoints::add(endpoints, &acme(), add.clone(), &alice(), now);
    change(store, &endpoints_key(&acme()), rule).await;
}

/// Brings in a case, which is one event; word of it.
pub(crate) async fn case(store: &Store, number: u128) -> Vec<Work> {
    let case_id = uuid::Uuid::from_u128(number);
    let ingest = Ingest {
        case_id,
        tenant: acme(),
        title: "Odd login".to_owned(),
        severity: Severity::Low,
        input: Input::default(),
    };
    let rule = |_: Option<&Case>, now| Ok(Outcome::Change(Case::ingest(ingest.clone(), &alice(), now)));
    change(store, &Key::new(&acme(), &case_id.to_string()), rule).await
}

/// Proposes a remediation, which is one event; word of it.
pub(crate) async fn propose(store: &Store, number: u128) -> Vec<Work> {
    let id = RemediationId::new(number);
    let propose = Propose {
        id: id.clone(),
        tenant: acme(),
        incident_id: "inc-1".parse().unwrap(),
        incident_title: "Slow".to_owned(),
        title: "Restart".to_owned(),
        steps: vec!["Restart it".to_owned()],
        timeout_minutes: 30,
        requires_approval: true,
    };
    let rule = |_: Option<&Remediation>, now| Ok(Outcome::Change(Remediation::propose(propose.clone(), &alice(), now)));
    change(store, &Key::new(&acme(), id.as_str()), rule).await
}

/// Makes a request by a policy without stages that is called back here, which is two events; word of them.
pub(crate) async fn request(store: &Store, number: u8, url: &str) -> Vec<Work> {
    let definition = Definition {
        name: "Nobody is asked".to_owned(),
        description: None,
        artifact_type: "change".to_owned(),
        forbid_self_approval: false,
        forbid_repeat_approvers: false,
        stages: Vec::new(),
    };
    let policy = Bound {
        key: "nobody".to_owned(),
        version: 1,
        id: uuid::Uuid::from_u128(1),
        item: "version#1".to_owned(),
        forbid_self_approval: false,
        forbid_repeat_approvers: false,
    };
    let new = New {
        id: RequestId::new([number; 13]),
        policy,
        artifact_type: "change".to_owned(),
        artifact_id: "cr-1".to_owned(),
        source_service: "svc".to_owned(),
        requester: "svc".to_owned(),
        context: Value::Null,
        callback: Some(Callback { url: url.to_owned(), secret: None }),
    };
    let by = request::By { actor: alice(), email: None, is_admin: false };
    let answers = Answers { definition: Some(std::sync::Arc::new(definition)), ..Answers::default() };
    let key = Key::new(&acme(), &new.id.to_string());
    let rule = |_: Option<&Request>, now| Request::create(new.clone(), &answers, &by, now).map(Outcome::Change);
    change(store, &key, rule).await
}

/// Approves a remediation, which is another event; word of it.
pub(crate) async fn approve(store: &Store, number: u128) -> Vec<Work> {
    let id = RemediationId::new(number);
    let respond = Respond { decision: Decision::Approve, notes: Some("go".to_owned()) };
    let rule = |found: Option<&Remediation>, now| found.unwrap().respond(&respond, &alice(), now);
    change(store, &Key::new(&acme(), id.as_str()), rule).await
}

/// Changes a record by a rule that is not refused; what there is to do then.
async fn change<R: Record<Refusal: Debug>>(
    store: &Store,
    key: &Key<R>,
    rule: impl FnMut(Option<&R>, Timestamp) -> Result<Outcome<R>, R::Refusal>,
) -> Vec<Work> {
    let call = Call { deadline: deadline(), once: None };
    store.change(key, call, rule, |_| Ok(()), |()| Ok(String::new())).await.unwrap().work
}

/// Every delivery, oldest first.
pub(crate) async fn deliveries(store: &Store) -> Vec<Delivery> {
    let keys = CursorKeys { current: [1; 32], previous: None };
    let tenant = acme();
    let query = Query { tenant: &tenant, by: By::All, order: Order::OldestFirst, limit: 100, with_input: false };
    let from = Cursor { text: None, keys: &keys };
    let page = store.list(query, from, deadline(), |found: Found<Delivery>| Some(found.record)).await.unwrap().unwrap();
    page.rows.iter().map(|row| serde_json::from_str(row.get()).unwrap()).collect()
}

/// What a delivery's log says of its attempts.
pub(crate) async fn attempts(store: &Store, delivery: &Delivery) -> Vec<Value> {
    let key: Key<Delivery> = Key::new(&acme(), delivery.id.as_str());
    let history = store.history(&key, deadline()).await.unwrap();
    let entries = history.into_iter().flat_map(|change| change.body.entries);
    entries.filter(|entry| entry.name == ATTEMPTED).map(|entry| entry.data).collect()
}

/// What the clock would send word of if it looked until then.
pub(crate) async fn due(store: &Store, until: Timestamp) -> Vec<Work> {
    let mut all = Vec::new();
    for shard in 0..SHARDS {
        all.extend(store.due(shard, until, 100, deadline()).await.unwrap().iter().map(|due| due.work()));
    }
    all
}
