//! Callbacks of approval requests: what they are sent and what signs it, in which order, and what becomes of those that
//! fail or take their time.

use crate::requests::{answers, request_id, request_key};
use crate::world::{World, acme, by, deadline};
use countersign_api::seal_named_secret;
use countersign_clock::sweep;
use countersign_domain::callback_secret::NamedSecret;
use countersign_domain::delivery::{CALLBACKS, Delivery};
use countersign_domain::retry::Schedule;
use countersign_domain::workflow::policy::OnBreach;
use countersign_domain::workflow::request::{Answers, Callback};
use countersign_domain::{Outcome, Work, webhook_signature};
use countersign_queue::Lane;
use countersign_store::{By, Cursor, CursorKeys, Found, Key, Order, Query};
use countersign_testing::receiver::{Received, Receiver, Reply};
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::JoinSet;

const KEYS: [&str; 9] = [
    "event_id",
    "event_type",
    "request_id",
    "artifact_type",
    "artifact_id",
    "status",
    "stage_order",
    "actor",
    "occurred_at",
];
/// What signs where nothing else does.
const OURS: &str = "the deployment's own secret";
const VARIABLES: [(&str, &str); 2] = [("COUNTERSIGN_CALLBACK_SECRET", OURS), ("COUNTERSIGN_RETRY_JITTER", "0")];
/// The same with attempts that soon are over.
const HASTY: [(&str, &str); 2] = [("COUNTERSIGN_CALLBACK_SECRET", OURS), ("COUNTERSIGN_WEBHOOK_TIMEOUT", "1s")];
const MINUTE: Duration = Duration::from_secs(60);

fn callback(url: String, secret: Option<&str>) -> Option<Callback> {
    Some(Callback { url, secret: secret.map(|id| id.parse().unwrap()) })
}

/// One stage, in which this one is asked.
fn ann() -> Answers {
    answers(&[OnBreach::Notify], &["u-ann"])
}

impl World {
    /// Registers a secret of the tenant.
    async fn register(&self, id: &str, value: &str) {
        let sealer = self.app.secrets.sealer().await.unwrap();
        let id = id.parse().unwrap();
        let sealed = seal_named_secret(&sealer, &acme(), &id, value).unwrap();
        let rule = |before: Option<&NamedSecret>, now| {
            Ok(Outcome::Change(NamedSecret::set(before, id.clone(), sealed.clone(), &by(), now)))
        };
        self.change(&countersign_api::secret_key(&acme(), &id), rule).await;
    }

    /// A request that is called back here, and then is given to `u-1`, `u-2`, …; word of each change.
    async fn handed_around(&self, number: u8, url: String, hands: u16) -> Vec<Vec<Work>> {
        let mut work = vec![self.request(number, callback(url, None), &ann()).await];
        for hand in 1..=hands {
            work.push(self.reassign(number, hand, &format!("u-{hand}")).await);
        }
        work
    }

    /// The events of a request in the order in which they happened, by their ids.
    async fn in_order(&self, number: u8) -> Vec<String> {
        let history = self.app.store.history(&request_key(number), deadline()).await.unwrap();
        let mut ids = Vec::new();
        for (version, change) in (1..).zip(history) {
            for (entry, _) in (0..).zip(&change.body.entries).filter(|(_, entry)| is_public(entry)) {
                let id = request_id(number).to_string();
                let source = countersign_domain::event::Source { kind: "request".to_owned(), id, version, entry };
                ids.push(source.event_id(&acme()).to_string());
            }
        }
        ids
    }
}

fn is_public(entry: &countersign_domain::Entry) -> bool {
    entry.class == countersign_domain::EntryClass::Public
}

/// Hands each change to a plan of its own, all at the same time, and whatever comes by the slow lane as well, until
/// something has arrived; that, how much came by the slow lane, and what is still being done.
async fn race<T>(
    world: &mut World,
    changes: Vec<Vec<Work>>,
    arrives: impl Future<Output = T>,
) -> (T, usize, JoinSet<Vec<usize>>) {
    let mut running = JoinSet::new();
    for work in changes {
        let worker = world.worker.clone();
        running.spawn(async move { worker.handle(Lane::Fast, &work).await });
    }
    let (mut arrives, mut slow) = (std::pin::pin!(arrives), 0);
    loop {
        tokio::select! {
            arrived = &mut arrives => return (arrived, slow, running),
            Some(work) = world.sent.slow.recv() => {
                slow += 1;
                let worker = world.worker.clone();
                running.spawn(async move { worker.handle(Lane::Slow, &[work]).await });
            }
        }
    }
}

fn types(received: &[Received]) -> Vec<String> {
    received.iter().map(|received| received.json()["event_type"].as_str().unwrap().to_owned()).collect()
}

/// The ids of what a receiver was told of each request, in the order in which it came; what came again counts once.
fn by_request(received: &[Received]) -> HashMap<String, Vec<String>> {
    let mut all: HashMap<String, Vec<String>> = HashMap::new();
    for received in received {
        let of = all.entry(received.json()["request_id"].as_str().unwrap().to_owned()).or_default();
        if !of.contains(&received.event_id()) {
            of.push(received.event_id());
        }
    }
    all
}

fn is_signed(received: &Received, secret: &[u8]) -> bool {
    let id = received.event_id().parse().unwrap();
    let timestamp = received.header("x-approval-timestamp").parse().unwrap();
    let signed = webhook_signature::headers(&[secret], id, timestamp, &received.body).unwrap();
    received.header("x-approval-signature") == signed.approval
        && received.header("webhook-signature") == signed.standard
        && received.header("webhook-id") == received.event_id()
        && received.header("webhook-timestamp") == received.header("x-approval-timestamp")
        && received.header("content-type") == "application/json"
}

#[tokio::test]
async fn a_callback_is_told_nine_things_of_every_event_in_order() {
    let world = World::with(&VARIABLES).await;
    let receiver = Receiver::start().await;
    let mut work = world.request(1, callback(receiver.url("/hook?key=k"), None), &ann()).await;
    work.extend(world.call_off(1).await);
    assert_eq!(world.worker.handle(Lane::Fast, &work).await, [0; 0]);
    let received = receiver.received();
    assert_eq!(types(&received), ["request_created", "stage_started", "request_cancelled"]);
    for received in &received {
        let body = received.json();
        assert_eq!(body.as_object().unwrap().len(), KEYS.len());
        assert!(KEYS.iter().all(|key| body.get(key).is_some()), "{body}");
        assert_eq!((&body["event_id"], received.path.as_str()), (&received.event_id().into(), "/hook?key=k"));
        assert_eq!(body["occurred_at"], "2026-11-21T12:00:00.000000Z");
        assert!(is_signed(received, OURS.as_bytes()));
    }
    assert_eq!((&received[2].json()["actor"], &received[2].json()["status"]), (&"u-adm".into(), &"cancelled".into()));
    assert_eq!(by_request(&received)[&request_id(1).to_string()], world.in_order(1).await);
    assert_eq!(world.statuses().await, ["delivered"; 3]);
    // Said again, nothing more comes.
    world.worker.handle(Lane::Fast, &work).await;
    assert_eq!(receiver.received().len(), 3);
}

#[tokio::test]
async fn a_callback_is_signed_by_the_secret_that_it_names_else_by_the_tenants_else_by_the_deployments() {
    let world = World::with(&VARIABLES).await;
    let receiver = Receiver::start().await;
    let send = async |number, secret| {
        let work = world.request(number, callback(receiver.url("/"), secret), &ann()).await;
        world.worker.handle(Lane::Fast, &work).await;
        receiver.received().pop().unwrap()
    };
    world.register("billing", "a registered secret").await;
    // Other than for an endpoint, whose secret may stand for bytes.
    world.register("encoded", "whsec_c2l4dGVlbi1ieXRlcy1vbmU=").await;
    assert!(is_signed(&send(1, Some("billing")).await, b"a registered secret"));
    assert!(is_signed(&send(2, Some("encoded")).await, b"whsec_c2l4dGVlbi1ieXRlcy1vbmU="));
    assert!(is_signed(&send(3, None).await, OURS.as_bytes()));
    world.register("default", "the tenant's own secret").await;
    assert!(is_signed(&send(4, None).await, b"the tenant's own secret"));
    // From the next attempt on it is the new one alone.
    world.register("billing", "a rotated secret").await;
    assert!(is_signed(&send(5, Some("billing")).await, b"a rotated secret"));
}

#[tokio::test]
async fn what_cannot_be_signed_is_never_sent_and_fails_attempt_after_attempt() {
    let world = World::with(&[("COUNTERSIGN_RETRY_JITTER", "0")]).await;
    let receiver = Receiver::start().await;
    for (number, secret, says) in
        [(1, Some("gone"), "the secret gone is not registered"), (2, None, "the secret default is not registered")]
    {
        let named = secret.map(|id: &str| id.parse().unwrap());
        assert!(!world.app.callback_can_be_signed(&acme(), named.as_ref(), deadline()).await.unwrap());
        let mut waits = world.beside(&[("COUNTERSIGN_RETRY_JITTER", "0")]).await;
        waits.app.tell(&world.request(number, callback(receiver.url("/"), secret), &ann()).await).await;
        waits.settle().await;
        let id = request_id(number).to_string();
        let delivery =
            waits.deliveries().await.into_iter().find(|delivery| delivery.request_id() == Some(&id)).unwrap();
        assert_eq!((delivery.attempts(), delivery.last.unwrap().error.as_deref()), (1, Some(says)));
    }
    assert_eq!(receiver.received().len(), 0);
    world.register("gone", "it is registered now").await;
    let named = "gone".parse().unwrap();
    assert!(world.app.callback_can_be_signed(&acme(), Some(&named), deadline()).await.unwrap());
    assert!(World::with(&VARIABLES).await.app.callback_can_be_signed(&acme(), None, deadline()).await.unwrap());
    let mut next = world.beside(&VARIABLES).await;
    next.pass(MINUTE).await;
    assert_eq!(receiver.received().len(), 4, "both events of both, as soon as they can be signed");
    assert_eq!(world.statuses().await, ["delivered"; 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_attempts_are_made_one_at_a_time_in_the_events_order_though_each_change_has_a_plan_of_its_own() {
    let world = World::with(&VARIABLES).await;
    let receiver = Receiver::start().await;
    // Whoever overtook the first would be there long before it is answered.
    receiver.answer(|received| {
        let is_first = received.json()["event_type"] == "request_created";
        Reply { after: Duration::from_millis(if is_first { 300 } else { 0 }), ..Reply::status(200) }
    });
    let mut changes = Vec::new();
    for number in 1..=5 {
        changes.extend(world.handed_around(number, receiver.url(&format!("/{number}")), 6).await);
    }
    let mut planned = Vec::new();
    for work in &changes {
        planned.push(world.worker.plan(Lane::Fast, work).await);
    }
    // The last one's is carried out first.
    let all = planned.into_iter().rev().map(|planned| world.worker.carry_out(planned));
    futures_util::future::join_all(all).await;
    let received = by_request(&receiver.received());
    for number in 1..=5 {
        assert_eq!(received[&request_id(number).to_string()], world.in_order(number).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_are_told_at_the_same_time_are_heard_of_in_order() {
    let mut world = World::with(&VARIABLES).await;
    let receiver = Receiver::start().await;
    let mut changes = Vec::new();
    for number in 1..=8 {
        changes.extend(world.handed_around(number, receiver.url(&format!("/{number}")), 3).await);
    }
    let (received, ..) = race(&mut world, changes, receiver.wait_for(8 * 5)).await;
    for number in 1..=8 {
        assert_eq!(by_request(&received)[&request_id(number).to_string()], world.in_order(number).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_receiver_gets_no_more_room_on_the_fast_lane_the_order_is_kept_on_the_slow_one() {
    let mut world = World::with(&VARIABLES).await;
    let receiver = Receiver::start().await;
    // So that all of them wait at the same time.
    receiver.answer(|_| Reply { after: Duration::from_millis(100), ..Reply::status(200) });
    let mut changes = Vec::new();
    for number in 1..=12 {
        changes.extend(world.handed_around(number, receiver.url("/"), 2).await);
    }
    let (received, slow, _) = race(&mut world, changes, receiver.wait_for(12 * 4)).await;
    assert!(slow > 0, "some had to go there");
    for number in 1..=12 {
        assert_eq!(by_request(&received)[&request_id(number).to_string()], world.in_order(number).await);
    }
}

#[tokio::test]
async fn a_callback_that_fails_hears_of_what_comes_next_and_again_on_schedule_until_it_is_given_up() {
    let mut world = World::with(&VARIABLES).await;
    let receiver = Receiver::start().await;
    // Gone, too, is only an answer: there is no endpoint to disable.
    receiver.answer(|received| match received.json()["event_type"].as_str() {
        Some("request_created") => Reply { body: "not now".to_owned(), ..Reply::status(410) },
        _ => Reply::status(200),
    });
    let mut work = world.request(1, callback(receiver.url("/"), None), &ann()).await;
    work.extend(world.call_off(1).await);
    world.app.tell(&work).await;
    world.settle().await;
    assert_eq!(types(&receiver.received()), ["request_created", "stage_started", "request_cancelled"]);
    assert_eq!(world.statuses().await.iter().filter(|status| **status == "delivered").count(), 2);
    for (made, wait) in [(3, 60), (4, 300), (5, 900), (6, 3600), (7, 21_600)] {
        world.pass(Duration::from_secs(wait) - Duration::from_micros(1)).await;
        assert_eq!(receiver.received().len(), made, "not before {wait} s");
        world.pass(Duration::from_micros(1)).await;
        assert_eq!(receiver.received().len(), made + 1, "after {wait} s");
    }
    let deliveries = world.deliveries().await;
    let given_up = deliveries.iter().find(|delivery| delivery.event == "request.created").unwrap();
    assert_eq!((given_up.status(), given_up.attempts()), ("exhausted", 6));
    let last = given_up.last.clone().unwrap();
    assert_eq!(
        (last.at, last.status_code, last.error.as_deref()),
        (world.clock.now(), Some(410), Some("HTTP 410: not now"))
    );
    world.pass(Duration::from_secs(90_000)).await;
    assert_eq!((receiver.received().len(), world.due().await), (8, Vec::new()));
    // Started anew by hand it has all its attempts again.
    receiver.answer(|_| Reply::status(200));
    let key: Key<Delivery> = Key::new(&acme(), given_up.id.as_str());
    let schedule = Schedule::documented();
    let work = world.change(&key, |found: Option<&Delivery>, now| found.unwrap().retry(&by(), &schedule, now)).await;
    world.app.tell(&work).await;
    world.settle().await;
    assert_eq!(world.statuses().await, ["delivered"; 3]);
}

#[tokio::test]
async fn once_a_callback_let_an_attempt_time_out_it_is_called_on_the_slow_lane_until_it_answers_quickly() {
    let mut world = World::with(&HASTY).await;
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::never());
    let work = world.request(1, callback(receiver.url("/"), None), &ann()).await;
    world.worker.handle(Lane::Fast, &work).await;
    assert_eq!(receiver.received().len(), 1);
    assert_eq!(world.take(Lane::Slow).len(), 1, "the second event");
    // Another request that is called back there,
    let work = world.request(2, callback(receiver.url("/"), None), &ann()).await;
    world.worker.handle(Lane::Fast, &work).await;
    assert_eq!((world.take(Lane::Slow).len(), receiver.received().len()), (1, 1));
    // and the retry of the first event, also by a process that knows nothing of the first attempt.
    let mut other = world.beside(&HASTY).await;
    world.clock.advance(Duration::from_secs(70));
    sweep(&other.app, Duration::ZERO, deadline()).await;
    let retries = other.take(Lane::Fast);
    let mut first = retries.clone();
    let deliveries = world.deliveries().await;
    let timed_out = deliveries.iter().find(|delivery| delivery.last.is_some()).unwrap();
    first.retain(|work| work.key.ends_with(timed_out.id.as_str()));
    other.worker.handle(Lane::Fast, &first).await;
    assert_eq!(other.take(Lane::Slow), first);
    receiver.answer(|_| Reply::status(200));
    other.worker.handle(Lane::Slow, &retries).await;
    assert_eq!(world.statuses().await, ["delivered"; 4]);
    // To whom it answered quickly, it is quick again.
    let work = world.request(3, callback(receiver.url("/"), None), &ann()).await;
    other.worker.handle(Lane::Fast, &work).await;
    assert_eq!((other.take(Lane::Slow).len(), receiver.received().len()), (0, 7));
}

#[tokio::test]
async fn a_callback_that_times_out_holds_up_later_events_of_its_request_by_its_attempts_alone() {
    let mut world = World::with(&HASTY).await;
    let receiver = Receiver::start().await;
    receiver.answer(|received| match received.json()["event_type"].as_str() {
        Some("request_created") => Reply::never(),
        _ => Reply::status(200),
    });
    let changes = world.handed_around(1, receiver.url("/"), 3).await;
    let (received, _, running) = race(&mut world, changes, receiver.wait_for(5)).await;
    assert_eq!(by_request(&received)[&request_id(1).to_string()], world.in_order(1).await);
    running.join_all().await;
    assert_eq!(world.statuses().await.iter().filter(|status| **status == "pending").count(), 1);
}

#[tokio::test]
async fn a_hanging_callback_holds_up_no_other() {
    let mut world = World::with(&[("COUNTERSIGN_CALLBACK_SECRET", OURS), ("COUNTERSIGN_WEBHOOK_TIMEOUT", "30s")]).await;
    let (hanging, healthy) = (Receiver::start().await, Receiver::start().await);
    hanging.answer(|_| Reply::never());
    let mut changes = Vec::new();
    for number in 0..40 {
        let url = if number % 2 == 0 { hanging.url("/") } else { healthy.url("/") };
        changes.extend(world.handed_around(number, url, 1).await);
    }
    let (arrived, ..) = race(&mut world, changes, healthy.wait_for(20 * 3)).await;
    assert_eq!(arrived.len(), 20 * 3);
    let attempts = world
        .deliveries()
        .await
        .iter()
        .filter(|delivery| delivery.url == Some(hanging.url("/")))
        .map(Delivery::attempts)
        .sum::<u32>();
    assert_eq!(attempts, 0, "all of it came while the first attempts there were being made");
}

#[tokio::test]
async fn what_a_process_has_told_and_not_sent_is_sent_in_order_by_the_next_one() {
    let world = World::with(&VARIABLES).await;
    let receiver = Receiver::start().await;
    for work in world.handed_around(1, receiver.url("/"), 3).await {
        // Deliveries are made, and the process is gone before an attempt is, and before the change is marked as told.
        drop(world.worker.plan(Lane::Fast, &work).await);
    }
    assert_eq!((receiver.received().len(), world.deliveries().await.len()), (0, 5));
    let mut next = world.beside(&VARIABLES).await;
    next.pass(MINUTE).await;
    assert_eq!(by_request(&receiver.received())[&request_id(1).to_string()], world.in_order(1).await);
    assert_eq!((receiver.received().len(), world.statuses().await), (5, vec!["delivered"; 5]));
    next.pass(MINUTE).await;
    // But for whoever is asked: nobody has decided yet.
    assert!(world.due().await.iter().all(|due| due.kind() == "request" && due.change.is_none()));
}

#[tokio::test]
async fn deliveries_to_callbacks_have_a_listing_of_their_own() {
    let world = World::with(&VARIABLES).await;
    let receiver = Receiver::start().await;
    world.subscribe(1, &receiver.url("/endpoint"), &["*"]).await;
    let mut work = world.request(1, callback(receiver.url("/"), None), &ann()).await;
    work.extend(world.event(1).await);
    world.worker.handle(Lane::Fast, &work).await;
    assert_eq!(world.deliveries().await.len(), 5);
    let (tenant, keys) = (acme(), CursorKeys { current: [1; 32], previous: None });
    let by = By::Subject(CALLBACKS);
    let query = Query { tenant: &tenant, by, order: Order::NewestFirst, limit: 100, with_input: false };
    let cursor = Cursor { text: None, keys: &keys };
    let listed = world
        .app
        .store
        .list(query, cursor, deadline(), |found: Found<Delivery>| found.record.request_id().map(str::to_owned));
    let listed = listed.await.unwrap().unwrap();
    let id = serde_json::to_string(&request_id(1)).unwrap();
    assert_eq!(listed.rows.iter().map(|row| row.get()).collect::<Vec<_>>(), [&id, &id]);
}

#[tokio::test]
async fn no_log_of_a_delivery_holds_the_url_of_a_callback() {
    let world = World::with(&VARIABLES).await;
    let receiver = Receiver::start().await;
    let work = world.request(1, callback(receiver.url("/?key=hidden"), None), &ann()).await;
    world.worker.handle(Lane::Fast, &work).await;
    assert_eq!(receiver.received().len(), 2);
    for delivery in world.deliveries().await {
        let entries = world.entries(&Key::<Delivery>::new(&acme(), delivery.id.as_str())).await;
        assert!(!serde_json::to_string(&entries).unwrap().contains("hidden"));
    }
}
