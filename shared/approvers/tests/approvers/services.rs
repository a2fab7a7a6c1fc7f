//! Rules of the type `http`: what a service is sent, what it may answer, and which services may not be called.

use crate::world::{BRIEF, World, acme, http, policy, stage};
use axum::Router;
use axum::body::{Body, Bytes};
use countersign_approvers::Unanswered;
use countersign_domain::workflow::request::{Answers, Question};
use countersign_outbound::Resolver;
use countersign_testing::receiver::{Receiver, Reply};
use countersign_testing::wire::Endpoint;
use futures_util::stream;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::time::Instant;

async fn service(body: &'static str) -> Receiver {
    let receiver = Receiver::start().await;
    receiver.answer(move |_| Reply { body: body.to_owned(), ..Reply::status(200) });
    receiver
}

/// Whom a service that answers so names.
async fn named(world: &World, reply: Reply) -> Result<Vec<String>, String> {
    let receiver = Receiver::start().await;
    receiver.answer(move |_| reply.clone());
    world.named(http(&receiver.url("/"))).await
}

fn saying(body: impl ToString) -> Reply {
    Reply { body: body.to_string(), ..Reply::status(200) }
}

/// What is said within a brief time about the rule for this URL.
async fn briefly(world: &World, url: &str) -> Result<(), Unanswered> {
    let definition = policy(json!([stage(1, json!([http(url)]))]));
    let deadline = Instant::now() + BRIEF;
    let mut asking = world.approvers.asking(&acme(), definition, Arc::new(json!({})), deadline);
    asking.answer(&world.store, Question::Group(0), &mut Answers::default()).await
}

#[tokio::test]
async fn a_service_is_told_the_context_and_names_users() {
    let world = World::new(&[]).await;
    let receiver = service(r#"{"user_ids": ["u-1", "u-2", "u-1"], "more": {"is": "ignored"}}"#).await;
    let context = json!({ "amount": 12.50, "who": { "Ä": [null, true] } });
    let asked = world.asked(json!([http(&receiver.url("/approvers?of=x%20y"))]), context.clone()).await.unwrap();
    assert_eq!(asked.approvers.iter().map(|approver| approver.user.as_str()).collect::<Vec<_>>(), ["u-1", "u-2"]);
    let received = receiver.received();
    assert_eq!((received.len(), received[0].path.as_str()), (1, "/approvers?of=x%20y"));
    assert_eq!(received[0].json(), json!({ "context": context }));
    assert_eq!(received[0].header("content-type"), "application/json");
    assert!(received[0].headers.get("authorization").is_none() && received[0].headers.get("cookie").is_none());
}

#[tokio::test]
async fn every_success_counts_and_nobody_may_be_named() {
    let world = World::new(&[]).await;
    for status in [200, 201, 202] {
        let reply = Reply { body: r#"{"user_ids":[]}"#.to_owned(), ..Reply::status(status) };
        assert_eq!(named(&world, reply).await, Ok(Vec::new()), "{status}");
    }
}

#[tokio::test]
async fn what_is_no_success_is_a_failure_without_what_was_said() {
    let world = World::new(&[]).await;
    for status in [204, 301, 302, 307, 308, 400, 401, 404, 429, 500, 503] {
        let body = if status == 204 { String::new() } else { r#"{"user_ids":["secret"]}"#.to_owned() };
        let elsewhere = service(r#"{"user_ids":["secret"]}"#).await;
        let headers = vec![("location", elsewhere.url("/secret"))];
        let error = named(&world, Reply { body, headers, ..Reply::status(status) }).await.unwrap_err();
        assert!(error.starts_with("rule 1 of stage \"stage 1\" (http) has no usable answer: "), "{error}");
        assert!(!error.contains("secret"), "{error}");
        assert_eq!(elsewhere.received().len(), 0, "no redirect is followed");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_what_is_documented_is_a_failure_that_does_not_repeat_it() {
    let world = World::new(&[]).await;
    let deep = format!(r#"{{"user_ids":[],"x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    for body in [
        "",
        "secret",
        "null",
        "[]",
        r#"["secret"]"#,
        r#"[["secret"]]"#,
        r#"{"users":["secret"]}"#,
        r#"{"user_ids":null}"#,
        r#"{"user_ids":"secret"}"#,
        r#"{"user_ids":[1]}"#,
        r#"{"user_ids":["secret",null]}"#,
        r#"{"user_ids":[["secret"]]}"#,
        r#"{"user_ids":{"secret":1}}"#,
        r#"{"user_ids":["secret"],"user_ids":[]}"#,
        r#"{"user_ids":["secret"]"#,
        r#"{"user_ids":["secret"]} {}"#,
        &deep,
    ] {
        let error = named(&world, saying(body)).await.unwrap_err();
        let said = "has no usable answer: it is not JSON like {\"user_ids\": [\"...\"]}";
        assert!(error.ends_with(said) && !error.contains("secret"), "{body}: {error}");
    }
}

#[tokio::test]
async fn what_is_no_user_is_a_failure() {
    let world = World::new(&[]).await;
    let many: Vec<_> = (0..1001).map(|number| format!("u-{number}")).collect();
    for (users, said) in [
        (json!([""]), "names a user whose id is empty"),
        (json!(["u", "ü".repeat(129)]), "names a user whose id is longer than 128 characters"),
        (json!(["u\0"]), "names a user whose id contains NUL"),
        (json!(many), "names more than 1000 users"),
    ] {
        let error = named(&world, saying(json!({ "user_ids": users }))).await.unwrap_err();
        assert!(error.ends_with(said), "{error}");
    }
    let exact = saying(json!({ "user_ids": many[..1000] }));
    assert_eq!(named(&world, exact).await.map(|users| users.len()), Ok(1000));
}

#[tokio::test]
async fn an_answer_of_256_kib_is_read_and_a_longer_one_is_not() {
    let world = World::new(&[]).await;
    let bare = r#"{"user_ids":["u"],"x":""}"#.len();
    let sized = |size: usize| saying(json!({ "user_ids": ["u"], "x": "x".repeat(size - bare) }));
    assert_eq!(named(&world, sized(256 * 1024)).await, Ok(vec!["u".to_owned()]));
    let error = named(&world, sized(256 * 1024 + 1)).await.unwrap_err();
    assert!(error.ends_with("has no usable answer: the answer has more than 262144 bytes"), "{error}");

    let endless = Router::new().fallback(|| async {
        let blanks = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[b' '; 1024])));
        Body::from_stream(blanks)
    });
    let endless = Endpoint::serve(endless).await.unwrap();
    let error = world.named(http(&endless.url())).await.unwrap_err();
    assert!(error.ends_with("has no usable answer: the answer has more than 262144 bytes"), "{error}");
}

#[tokio::test]
async fn a_service_that_is_silent_or_drips_is_given_up() {
    let world = World::new(&[]).await;
    let silent = Receiver::start().await;
    silent.answer(|_| Reply::never());
    let dripping = Router::new().fallback(|| async {
        let drip = stream::unfold(true, |first| async move {
            if !first {
                std::future::pending::<()>().await;
            }
            Some((Ok::<_, Infallible>(Bytes::from_static(br#"{"user_ids":["#)), false))
        });
        Body::from_stream(drip)
    });
    let dripping = Endpoint::serve(dripping).await.unwrap();
    for url in [silent.url("/"), dripping.url()] {
        let error = briefly(&world, &url).await.unwrap_err().to_string();
        assert!(error.contains("(http) has no usable answer: no complete answer within "), "{error}");
    }
}

#[tokio::test]
async fn services_that_nobody_may_call_are_not_called() {
    let receiver = service(r#"{"user_ids":["u"]}"#).await;
    let port = receiver.url("").rsplit_once(':').unwrap().1.to_owned();
    let private: IpAddr = "127.0.0.1".parse().unwrap();
    let resolver = Resolver::Table(Arc::new(move |_| Ok(vec![private])));
    let allowed_elsewhere = [("COUNTERSIGN_RESOLVER_ALLOW", "127.0.0.1:1,other.internal:*")];
    let webhooks_only = [("COUNTERSIGN_RESOLVER_ALLOW", ""), ("COUNTERSIGN_WEBHOOK_ALLOW", "127.0.0.0/8,10.0.0.0/8")];
    for variables in [&allowed_elsewhere[..], &webhooks_only] {
        let world = World::calling(variables, resolver.clone(), &[]).await;
        for url in [
            format!("http://127.0.0.1:{port}/"),
            format!("http://localhost:{port}/"),
            format!("http://resolver.internal:{port}/"),
            format!("https://resolver.internal:{port}/"),
            "https://resolver.internal/".to_owned(),
            "https://127.0.0.1/".to_owned(),
            "https://10.0.0.1/".to_owned(),
            "https://169.254.169.254/latest/meta-data".to_owned(),
            "http://169.254.170.2/".to_owned(),
            "https://[::1]/".to_owned(),
            "https://[::ffff:127.0.0.1]/".to_owned(),
            "https://2130706433/".to_owned(),
            "https://0x7f.1/".to_owned(),
            "https://127.1/".to_owned(),
            "https://user@resolver.example/".to_owned(),
            "https://resolver.example/#x".to_owned(),
            "file:///etc/passwd".to_owned(),
            "gopher://127.0.0.1/".to_owned(),
            " https://resolver.example/".to_owned(),
        ] {
            assert!(world.approvers.check(&url).await.unwrap().is_err(), "{url}");
            let error = world.named(http(&url)).await.unwrap_err();
            assert!(error.starts_with("rule 1 of stage \"stage 1\" (http) has no usable answer: "), "{url}: {error}");
        }
    }
    assert_eq!(receiver.received().len(), 0);
}

#[tokio::test]
async fn a_listed_place_may_be_called_and_another_port_of_it_may_not() {
    let (listed, other) = (service(r#"{"user_ids":["u"]}"#).await, service(r#"{"user_ids":["u"]}"#).await);
    let address = listed.url("").replace("http://", "");
    let world = World::new(&[("COUNTERSIGN_RESOLVER_ALLOW", &address)]).await;
    assert_eq!(world.approvers.check(&listed.url("/")).await.unwrap(), Ok(()));
    assert_eq!(world.named(http(&listed.url("/"))).await, Ok(vec!["u".to_owned()]));
    assert!(world.approvers.check(&other.url("/")).await.unwrap().is_err());
    assert!(world.named(http(&other.url("/"))).await.is_err());
    assert_eq!((listed.received().len(), other.received().len()), (1, 0));
}

#[tokio::test]
async fn our_own_listeners_are_never_called() {
    let own = service(r#"{"user_ids":["u"]}"#).await;
    let address = own.url("").replace("http://", "").parse().unwrap();
    let world = World::calling(&[], Resolver::System, &[address]).await;
    assert!(world.named(http(&own.url("/"))).await.is_err());
    assert_eq!(own.received().len(), 0);
}

#[tokio::test]
async fn a_service_is_asked_once_in_a_call_whatever_names_it() {
    let world = World::new(&[]).await;
    let receiver = service(r#"{"user_ids":["u"]}"#).await;
    let rules = |count: usize| Value::from(vec![http(&receiver.url("/a")); count]);
    let definition =
        policy(json!([stage(1, rules(3)), stage(2, rules(2)), stage(3, json!([http(&receiver.url("/b"))]))]));
    let mut asking = world.asking(&definition, json!({}));
    let mut answers = Answers::default();
    for (question, calls) in [(0, 1), (1, 1), (2, 2), (0, 2)] {
        asking.answer(&world.store, Question::Group(question), &mut answers).await.unwrap();
        assert_eq!(receiver.received().len(), calls);
    }
    assert!(answers.groups.values().all(|stages| stages[0].approvers.len() == 1));
    world.answers(&definition, json!({})).await.unwrap();
    assert_eq!(receiver.received().len(), 3, "another call asks anew");
}
