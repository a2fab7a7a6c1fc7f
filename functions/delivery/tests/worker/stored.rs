//! Stored items of released schemas, never edited: every later version must load them, work on them and verify them.

use crate::requests::answers;
use crate::world::{SECRET, World, acme, by, deadline};
use countersign_domain::callback_secret::{NamedSecret, signing_bytes};
use countersign_domain::case::Case;
use countersign_domain::delivery::Delivery;
use countersign_domain::endpoint::{Edit, EndpointId, Endpoints};
use countersign_domain::replay::Replay;
use countersign_domain::workflow::policy::OnBreach;
use countersign_domain::workflow::request::Callback;
use countersign_domain::{Record, Tenant, webhook_signature};
use countersign_testing::receiver::{Received, Receiver};
use serde_json::Value;
use std::collections::HashMap;
use std::time::Duration;

/// Two endpoints of tenant 1 that have failed once, the first with a secret that was rotated, the second with a
/// registered one; a third was deleted, and nobody has come yet to cancel what waits for it.
const ENDPOINTS: &str = include_str!("../../../../tests/records/endpoints-v1.json");
/// The registered secret, sealed with the test's root key like all others.
const NAMED: &str = include_str!("../../../../tests/records/secret-v1.json");
/// Two cases; the world has heard that the first was created, and not that the second was: its change is due, and
/// stands in the log that replays read.
const CASES: &str = include_str!("../../../../tests/records/event-v1.json");
/// The first case's event on its way to both endpoints, waiting for its second attempt; with their inboxes.
const DELIVERIES: &str = include_str!("../../../../tests/records/delivery-v1.json");
/// Two deliveries to the callback of a request of acme's.
const CALLBACKS: &str = include_str!("../../../../tests/records/delivery-v2.json");
/// A replay of both events for the first endpoint, before its first page.
const REPLAY: &str = include_str!("../../../../tests/records/replay-v1.json");

/// What the first endpoint's secret was rotated to.
const ROTATED: &[u8] = b"the-rotated-callback-secret";
const REGISTERED: &str = "a registered secret";

async fn verified(world: &World) -> HashMap<&'static str, u64> {
    let tenant: Tenant = "1".parse().unwrap();
    let mut records = HashMap::new();
    for kind in [Endpoints::KIND, NamedSecret::KIND, Case::KIND, Delivery::KIND, Replay::KIND] {
        let verified = world.app.store.verify(kind, &tenant, None, None).await.unwrap();
        assert_eq!(verified.broken, None);
        records.insert(kind, verified.records);
    }
    records
}

fn is_signed(received: &Received, secrets: &[&[u8]]) -> bool {
    let id = received.event_id().parse().unwrap();
    let timestamp = received.header("x-approval-timestamp").parse().unwrap();
    let signed = webhook_signature::headers(secrets, id, timestamp, &received.body).unwrap();
    received.header("webhook-signature") == signed.standard
}

#[tokio::test]
async fn stored_endpoints_secrets_events_deliveries_and_replays_of_schema_1_go_on_and_verify() {
    let mut world = World::new().await;
    for items in [ENDPOINTS, NAMED, CASES, DELIVERIES, REPLAY] {
        let items: Vec<Value> = serde_json::from_str(items).unwrap();
        world.table().put_items("countersign", &items).await.unwrap();
    }
    let records = HashMap::from([("endpoints", 1), ("secret", 1), ("case", 2), ("delivery", 2), ("replay", 1)]);
    assert_eq!(verified(&world).await, records);
    let tenant: Tenant = "1".parse().unwrap();
    let key = countersign_api::endpoints_key(&tenant);
    let receiver = Receiver::start().await;
    for number in 1..=2 {
        let edit = Edit { url: Some(receiver.url(&format!("/{number}"))), ..Edit::default() };
        let id = EndpointId::from_u128(number);
        let rule = |found: Option<&Endpoints>, now| found.unwrap().edit(&id, &edit, &by(), now);
        world.change(&key, rule).await;
    }
    world.pass(Duration::from_secs(120)).await;
    let deliveries = world.deliveries_of(&tenant).await;
    let ends: Vec<_> = deliveries.iter().map(|delivery| (delivery.status(), delivery.attempts())).collect();
    assert_eq!(ends.iter().filter(|end| **end == ("delivered", 2)).count(), 2, "those that were waiting: {ends:?}");
    assert_eq!(
        ends.iter().filter(|end| **end == ("delivered", 1)).count(),
        4,
        "the new event and the replay: {ends:?}"
    );
    let received = receiver.received();
    let (first, second): (Vec<_>, Vec<_>) = received.iter().partition(|received| received.path == "/1");
    assert_eq!((first.len(), second.len()), (4, 2));
    assert!(first.iter().all(|received| is_signed(received, &[ROTATED, SECRET])));
    assert!(second.iter().all(|received| is_signed(received, &[&signing_bytes(REGISTERED)])));
    let endpoints = world.app.store.load(&key, deadline()).await.unwrap().unwrap().record;
    assert_eq!(endpoints.closing, []);
    assert_eq!(world.due().await, []);
    assert_eq!(verified(&world).await["delivery"], 6);
}

/// A request of which two events wait for their second attempt: its callback, where nobody listens, refused the first.
#[tokio::test]
async fn stored_deliveries_to_a_callback_of_schema_2_go_on_and_verify() {
    let mut world = World::with(&[("COUNTERSIGN_CALLBACK_SECRET", "c"), ("COUNTERSIGN_RETRY_JITTER", "0")]).await;
    let items: Vec<Value> = serde_json::from_str(CALLBACKS).unwrap();
    world.table().put_items("countersign", &items).await.unwrap();
    // The events themselves, of which the world has heard already.
    let callback = Callback { url: "http://127.0.0.1:9/hook".to_owned(), secret: None };
    world.request(1, Some(callback), &answers(&[OnBreach::Notify], &["u-ann"])).await;
    let before = world.deliveries().await;
    let attempts = |deliveries: &[Delivery]| deliveries.iter().map(Delivery::attempts).collect::<Vec<_>>();
    assert_eq!(attempts(&before), [1, 1]);
    world.pass(Duration::from_secs(60)).await;
    let after = world.deliveries().await;
    assert_eq!(attempts(&after), [2, 2], "and no others were made");
    for (before, after) in before.iter().zip(&after) {
        let (before_that, last) = (before.last.as_ref().unwrap(), after.last.as_ref().unwrap());
        assert_eq!((&last.error, last.at), (&before_that.error, before_that.at + Duration::from_secs(60)));
    }
    let verified = world.app.store.verify(Delivery::KIND, &acme(), None, None).await.unwrap();
    assert_eq!((verified.records, verified.broken), (2, None));
}
