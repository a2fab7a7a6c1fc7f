//! Names whose answers change, fail, or are many.

use crate::receiver::{AMPLE, BRIEF, Receiver, Script, answering, changing, client, post};
use countersign_outbound::Resolver;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const DONE: &str = "HTTP/1.1 204 No Content\r\n\r\n";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_name_that_turns_private_after_its_registration_is_refused_at_the_attempt() {
    let receiver = Receiver::saying(DONE).await;
    for private in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254", "::ffff:127.0.0.1"] {
        let (resolver, asked) = changing(move |before| vec![address(if before == 0 { "1.1.1.1" } else { private })]);
        let client = client("", &[], resolver);
        assert_eq!(client.check("https://hooks.example/").await, Ok(()));
        let attempted = post(&client, "https://hooks.example/", AMPLE).await;
        let error = attempted.error.as_deref().unwrap();
        assert!(error.starts_with("hooks.example resolves to an address that "), "{error}");
        assert_eq!(attempted.status, None);
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_name_is_looked_up_once_per_attempt_and_the_answer_that_was_checked_is_called() {
    let receiver = Receiver::saying(DONE).await;
    let (resolver, asked) = changing(|before| vec![address(if before == 0 { "127.0.0.1" } else { "169.254.169.254" })]);
    let client = client("127.0.0.0/8", &[], resolver);
    let url = format!("http://hooks.example:{}/", receiver.port());
    assert!(post(&client, &url, AMPLE).await.succeeded());
    assert_eq!((asked.load(Ordering::SeqCst), receiver.connections()), (1, 1));
    assert!(!post(&client, &url, AMPLE).await.succeeded());
    assert_eq!((asked.load(Ordering::SeqCst), receiver.connections()), (2, 1));
}

#[tokio::test]
async fn a_name_that_does_not_resolve_now_may_be_registered_and_fails_at_the_attempt() {
    let failing = Resolver::Table(Arc::new(|_| Err(io::ErrorKind::NotFound.into())));
    for resolver in [failing, answering(&[]).0] {
        let client = client("127.0.0.0/8", &[], resolver);
        for url in ["https://hooks.example/", "http://hooks.example:9000/"] {
            assert_eq!(client.check(url).await, Ok(()));
            let attempted = post(&client, url, AMPLE).await;
            assert_eq!(attempted.error.as_deref(), Some("the name of the host does not resolve"));
            assert!(!attempted.timed_out);
        }
    }
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_refuses_and_at_most_four_are() {
    let receiver = Receiver::saying(DONE).await;
    let url = format!("http://hooks.example:{}/", receiver.port());
    let deaf = ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"].map(address);
    let here = [receiver.address.ip()];
    let late = client("127.0.0.0/8", &[], answering(&[&deaf[..3], &here].concat()).0);
    assert!(post(&late, &url, AMPLE).await.succeeded());
    let too_late = client("127.0.0.0/8", &[], answering(&[&deaf[..], &here].concat()).0);
    let attempted = post(&too_late, &url, AMPLE).await;
    assert_eq!(attempted.error.as_deref(), Some("the connection was refused"));
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn a_receiver_that_was_reached_and_fails_is_not_tried_at_its_next_address() {
    let receiver = Receiver::start(Script::Hang(Vec::new())).await;
    let here = receiver.address.ip();
    let client = client("127.0.0.0/8", &[], answering(&[here, here]).0);
    let attempted = post(&client, &format!("http://hooks.example:{}/", receiver.port()), BRIEF).await;
    assert!(attempted.timed_out);
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn the_system_resolver_knows_this_machine() {
    let receiver = Receiver::saying(DONE).await;
    let client = client("127.0.0.0/8", &[], Resolver::System);
    let url = format!("http://localhost:{}/", receiver.port());
    assert_eq!(client.check(&url).await, Ok(()));
    assert!(post(&client, &url, AMPLE).await.succeeded());
}
