//! What the two queues bring is done, comes again, or is left to the clock.

use crate::deployment::{CALLBACK_SECRET, Deployment, FAST, Function, SLOW, body};
use crate::records::{attempts, case, deliveries, due, request};
use countersign_domain::{Timestamp, Work, seconds, webhook_signature};
use countersign_testing::aws::Conduct;
use countersign_testing::receiver::{Receiver, Reply};
use countersign_testing::sqs::Sent;

/// How many whole seconds are left until then, never too few.
fn left(from: Timestamp, until: Timestamp) -> i64 {
    let left = until.duration_since(from);
    (left.as_secs() + i64::from(left.subsec_nanos() > 0)).max(0)
}

fn work(sent: &Sent) -> Work {
    serde_json::from_str(&sent.body).unwrap()
}

#[tokio::test]
async fn an_event_of_which_the_queue_brings_word_arrives_once() {
    let deployment = Deployment::start().await;
    let receiver = Receiver::start().await;
    deployment.subscribe(1, &receiver.url("/hook")).await;
    let function = Function::worker(&deployment, &[]).await;
    let word = case(&deployment.store, 1).await;
    function.tell(&word).await;
    function.tell(&word).await;
    let [received] = &receiver.received()[..] else { unreachable!("it arrives once") };
    assert_eq!((received.path.as_str(), &received.json()["event_type"]), ("/hook", &"case.created".into()));
    assert_eq!(deliveries(&deployment.store).await[0].status(), "delivered");
    assert_eq!((deployment.sqs.take(), deployment.bus.entries()), (vec![], vec![]));
}

#[tokio::test]
async fn a_callback_is_signed_by_the_deployments_secret_and_during_a_rotation_by_both() {
    let deployment = Deployment::start().await;
    let receiver = Receiver::start().await;
    deployment.secrets.set(CALLBACK_SECRET, r#"{"current":"the new secret","previous":"the old secret"}"#.to_owned());
    let function = Function::worker(&deployment, &[("COUNTERSIGN_CALLBACK_SECRET_ID", CALLBACK_SECRET)]).await;
    function.tell(&request(&deployment.store, 1, &receiver.url("/")).await).await;
    let received = receiver.received();
    let types: Vec<_> = received.iter().map(|received| received.json()["event_type"].clone()).collect();
    assert_eq!(types, ["request_created", "request_approved"]);
    for received in received {
        let timestamp = received.header("x-approval-timestamp").parse().unwrap();
        let secrets: [&[u8]; 2] = [b"the new secret", b"the old secret"];
        let signed =
            webhook_signature::headers(&secrets, received.event_id().parse().unwrap(), timestamp, &received.body);
        let signed = signed.unwrap();
        assert_eq!(received.header("x-approval-signature"), signed.approval);
        assert_eq!(received.header("webhook-signature"), signed.standard);
    }
    assert_eq!(deployment.secrets.reads(CALLBACK_SECRET), 1);
}

#[tokio::test]
async fn a_callback_whose_secret_cannot_be_had_is_put_off_and_no_attempt_is_counted() {
    let deployment = Deployment::start().await;
    let receiver = Receiver::start().await;
    let function = Function::worker(&deployment, &[("COUNTERSIGN_CALLBACK_SECRET_ID", CALLBACK_SECRET)]).await;
    function.tell(&request(&deployment.store, 1, &receiver.url("/")).await).await;
    assert_eq!(receiver.received().len(), 0);
    for delivery in deliveries(&deployment.store).await {
        assert_eq!((delivery.status(), attempts(&deployment.store, &delivery).await.len()), ("pending", 0));
    }
    function.logged("nothing can be sent").await;
}

#[tokio::test]
async fn of_a_batch_exactly_what_failed_comes_again() {
    let deployment = Deployment::start().await;
    let receiver = Receiver::start().await;
    deployment.subscribe(1, &receiver.url("/")).await;
    let function = Function::worker(&deployment, &[]).await;
    let [event] = &case(&deployment.store, 1).await[..] else { unreachable!("one event") };
    let at = Timestamp::now().saturating_add(seconds(3600)).unwrap();
    // A clock that is ahead of ours; it cannot be sent again while the queue refuses.
    let early = Work { key: "delivery#acme#dlv_1".to_owned(), change: None, at };
    let absent = Work { at: Timestamp::UNIX_EPOCH, ..early.clone() };
    let unknown = Work { key: "thing#acme#1".to_owned(), ..absent.clone() };
    let [event, early, absent, unknown] = [event, &early, &absent, &unknown].map(body);
    let batch = [
        ("m-1", "{"),
        ("m-2", event.as_str()),
        ("m-3", early.as_str()),
        ("m-4", r#"{"key":1,"at":"2026-11-21T12:00:00Z"}"#),
        ("m-5", absent.as_str()),
        ("m-6", ""),
        ("m-7", unknown.as_str()),
    ];
    deployment.sqs.conduct(Conduct::Refuses);
    let mut failed = function.bring(FAST, &batch).await;
    failed.sort_unstable();
    assert_eq!(failed, ["m-1", "m-3", "m-4", "m-6"]);
    assert_eq!(receiver.received().len(), 1);
    deployment.sqs.conduct(Conduct::Works);
    assert_eq!(function.bring(SLOW, &[("m-3", &early)]).await, [""; 0]);
    assert_eq!(deployment.sqs.take(), [Sent { queue: SLOW.to_owned(), delay_seconds: 900, body: early }]);
}

#[tokio::test]
async fn word_of_the_next_attempt_waits_in_the_queue_for_up_to_a_quarter_of_an_hour_and_longer_with_the_clock() {
    for (delay, seconds_of_it) in [("1m", 60), ("15m", 900), ("16m", 960)] {
        let deployment = Deployment::start().await;
        let receiver = Receiver::start().await;
        receiver.answer(|_| Reply::status(500));
        deployment.subscribe(1, &receiver.url("/")).await;
        let function = Function::worker(&deployment, &[("COUNTERSIGN_RETRY_DELAYS", delay)]).await;
        function.tell(&case(&deployment.store, 1).await).await;
        let [delivery] = &deliveries(&deployment.store).await[..] else { unreachable!("one endpoint") };
        let next = delivery.next_attempt_at().unwrap();
        assert_eq!(next, delivery.updated_at + seconds(seconds_of_it));
        let key = format!("delivery#acme#{}", delivery.id);
        let word = Work { key, change: None, at: next };
        let looks = |until| due(&deployment.store, until);
        if seconds_of_it <= 900 {
            let [sent] = &deployment.sqs.take()[..] else { unreachable!("one attempt") };
            assert_eq!((sent.queue.as_str(), work(sent)), (FAST, word.clone()));
            let possible = left(Timestamp::now(), next)..=seconds_of_it;
            assert!(possible.contains(&sent.delay_seconds), "{sent:?}, {possible:?} were left");
            // Was the message lost, the clock looks a minute later.
            let lost = Work { at: next + seconds(60), ..word };
            assert!(!looks(next + seconds(59)).await.contains(&lost));
            assert!(looks(next + seconds(60)).await.contains(&lost));
        } else {
            assert_eq!(deployment.sqs.take(), []);
            assert!(!looks(next - seconds(91)).await.contains(&word));
            assert!(looks(next - seconds(90)).await.contains(&word));
        }
    }
}

#[tokio::test]
async fn what_never_arrives_is_exhausted_and_the_log_says_so() {
    let deployment = Deployment::start().await;
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::status(503));
    deployment.subscribe(1, &receiver.url("/")).await;
    let function = Function::worker(&deployment, &[("COUNTERSIGN_RETRY_DELAYS", "0s,0s")]).await;
    function.tell(&case(&deployment.store, 1).await).await;
    function.settle(&deployment).await;
    let [delivery] = &deliveries(&deployment.store).await[..] else { unreachable!("nobody else is to hear of it") };
    assert_eq!((delivery.status(), delivery.attempts(), receiver.received().len()), ("exhausted", 3, 3));
    assert_eq!(attempts(&deployment.store, delivery).await.len(), 3);
    let log = function.logged("delivery exhausted").await;
    assert!(log.contains(delivery.id.as_str()), "{log}");
}

#[tokio::test]
async fn an_endpoint_that_lets_attempts_time_out_is_left_to_the_slow_queue() {
    let deployment = Deployment::start().await;
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::never());
    deployment.subscribe(1, &receiver.url("/")).await;
    let variables = [("COUNTERSIGN_WEBHOOK_TIMEOUT", "1s"), ("COUNTERSIGN_RETRY_DELAYS", "1m")];
    let function = Function::worker(&deployment, &variables).await;
    function.tell(&case(&deployment.store, 1).await).await;
    let next: Vec<_> = deployment.sqs.take().into_iter().map(|sent| sent.queue).collect();
    assert_eq!((next, receiver.received().len()), (vec![SLOW.to_owned()], 1));
    // It would answer now; the fast queue's function does not ask.
    receiver.answer(|_| Reply::status(200));
    function.tell(&case(&deployment.store, 2).await).await;
    let [sent] = &deployment.sqs.take()[..] else { unreachable!("one delivery") };
    assert_eq!((sent.queue.as_str(), sent.delay_seconds, receiver.received().len()), (SLOW, 0, 1));
    assert_eq!(function.bring(FAST, &[("m-1", &sent.body)]).await, [""; 0]);
    assert_eq!((deployment.sqs.take(), receiver.received().len()), (vec![sent.clone()], 1));
    assert_eq!(function.bring(SLOW, &[("m-1", &sent.body)]).await, [""; 0]);
    assert_eq!((deployment.sqs.take(), receiver.received().len()), (vec![], 2));
}

#[tokio::test]
async fn the_runtime_of_the_function_itself_is_never_called() {
    let deployment = Deployment::start().await;
    let function = Function::worker(&deployment, &[]).await;
    // Whatever is posted here shows up as an error of the start.
    let port = function.runtime.address().port();
    for (number, host) in [(1, "127.0.0.1"), (2, "localhost")] {
        let url = format!("http://{host}:{port}/2018-06-01/runtime/init/error");
        deployment.subscribe(number, &url).await;
    }
    function.tell(&case(&deployment.store, 1).await).await;
    assert_eq!(function.runtime.init_errors(), [0; 0]);
    let deliveries = deliveries(&deployment.store).await;
    assert_eq!(deliveries.len(), 2);
    for delivery in deliveries {
        assert_eq!(delivery.status(), "pending");
        let [attempt] = &attempts(&deployment.store, &delivery).await[..] else { unreachable!("one attempt") };
        let error = attempt["error"].as_str().unwrap();
        // Where localhost has an address of each family, the one that is not allowed may be named.
        let by_name = delivery.url.as_ref().is_some_and(|url| url.contains("localhost"));
        assert!(
            error.contains(if by_name { "resolves to an address that" } else { "of this service itself" }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_a_large_batch_takes_is_told_in_lines_that_cloudwatch_takes() {
    let deployment = Deployment::start().await;
    let receiver = Receiver::start().await;
    let (endpoints, cases) = (45, 3);
    for number in 1..=endpoints {
        deployment.subscribe(number, &receiver.url("/hook")).await;
    }
    let mut function = Function::worker(&deployment, &[]).await;
    let mut bodies = Vec::new();
    for number in 1..=cases {
        bodies.extend(case(&deployment.store, number).await.iter().map(body));
    }
    let messages: Vec<_> = bodies.iter().map(|body| ("m-1", body.as_str())).collect();
    assert_eq!(function.bring(FAST, &messages).await, [""; 0]);
    let (mut times, mut delivered) = (0, 0);
    while (times, delivered) != (endpoints * cases, endpoints * cases) {
        let line = function.metrics().await;
        let told = line["AttemptLag"].as_array().map_or(0, Vec::len);
        assert!(told <= 100, "{told}");
        times += told as u128;
        delivered += u128::from(line["Deliveries"].as_u64().unwrap_or(0));
    }
}
