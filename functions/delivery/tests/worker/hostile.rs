//! Targets that turn hostile after they were registered: what is checked is checked at every attempt.

use crate::world::World;
use countersign_outbound::Resolver;
use countersign_queue::Lane;
use countersign_testing::receiver::{Receiver, Reply};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

/// A resolver that knows one address for every name, until it is told otherwise.
fn resolver(address: &str) -> (Resolver, Arc<Mutex<IpAddr>>) {
    let known = Arc::new(Mutex::new(address.parse().unwrap()));
    let asked = Arc::clone(&known);
    (Resolver::Table(Arc::new(move |_| Ok(vec![*asked.lock().unwrap()]))), known)
}

fn port(receiver: &Receiver) -> String {
    receiver.url("").rsplit(':').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_name_that_was_fine_when_it_was_registered_is_not_called_where_it_points_now() {
    for (address, says) in [
        ("127.0.0.1", "is not a public address"),
        ("10.0.0.7", "is not a public address"),
        ("169.254.169.254", "is reserved and never called"),
        ("::ffff:127.0.0.1", "stands for another address"),
    ] {
        let receiver = Receiver::start().await;
        let (resolver, known) = resolver("192.168.7.7");
        let mut world = World::calling(&[("COUNTERSIGN_WEBHOOK_ALLOW", "192.168.7.0/24")], resolver, &[]).await;
        let url = format!("http://hooks.example:{}/", port(&receiver));
        assert_eq!(world.app.outgoing.client().unwrap().check(&url).await, Ok(()));
        world.subscribe(1, &url, &["*"]).await;
        *known.lock().unwrap() = address.parse().unwrap();
        world.app.tell(&world.event(1).await).await;
        world.settle().await;
        let attempts = world.attempts(&world.delivery().await).await;
        assert_eq!(attempts[0]["error"], format!("hooks.example resolves to an address that {says}"));
        assert_eq!(receiver.received().len(), 0);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_wherever_it_leads() {
    let world = World::new().await;
    let (receiver, inside) = (Receiver::start().await, Receiver::start().await);
    world.subscribe(1, &receiver.url("/"), &["*"]).await;
    let metadata = "http://169.254.169.254/latest/meta-data/".to_owned();
    for (number, (status, location)) in
        (1..).zip([(301, inside.url("/")), (302, metadata), (307, inside.url("/")), (308, inside.url("/"))])
    {
        receiver.answer(move |_| Reply { headers: vec![("location", location.clone())], ..Reply::status(status) });
        world.clock.advance(std::time::Duration::from_secs(1));
        let work = world.event(number).await;
        world.worker.handle(Lane::Fast, &work).await;
        let attempts = world.attempts(world.deliveries().await.last().unwrap()).await;
        assert_eq!(attempts[0]["error"], format!("HTTP {status}: redirects are not followed"));
    }
    assert_eq!((receiver.received().len(), inside.received().len()), (4, 0));
}

#[tokio::test]
async fn our_own_listeners_are_never_called_whatever_is_allowed() {
    let own = Receiver::start().await;
    let address: SocketAddr = own.url("").trim_start_matches("http://").parse().unwrap();
    let world = World::calling(&[("COUNTERSIGN_WEBHOOK_ALLOW", "127.0.0.0/8")], Resolver::System, &[address]).await;
    world.subscribe(1, &own.url("/"), &["*"]).await;
    let work = world.event(1).await;
    world.worker.handle(Lane::Fast, &work).await;
    let attempts = world.attempts(&world.delivery().await).await;
    assert_eq!(attempts[0]["error"], "127.0.0.1 is an address of this service itself");
    assert_eq!(own.received().len(), 0);
}

#[tokio::test]
async fn of_what_a_receiver_answers_only_a_short_and_harmless_beginning_is_kept_and_only_of_a_failure() {
    for (status, kept) in [(500, true), (200, false)] {
        let world = World::new().await;
        let receiver = Receiver::start().await;
        let beginning = "no\r\n\u{1b}[31mluck\u{202e}";
        let body = format!("{beginning}{}HIDDEN{}", "x".repeat(300), "y".repeat(20_000));
        let headers = vec![("x-hidden", "HIDDEN".to_owned())];
        receiver.answer(move |_| Reply { body: body.clone(), headers: headers.clone(), ..Reply::status(status) });
        world.subscribe(1, &receiver.url("/"), &["*"]).await;
        let work = world.event(1).await;
        world.worker.handle(Lane::Fast, &work).await;
        let attempts = world.attempts(&world.delivery().await).await;
        let excerpt = attempts[0]["excerpt"].as_str().map(str::to_owned);
        assert_eq!(excerpt.is_some(), kept);
        if let Some(excerpt) = excerpt {
            assert!(excerpt.starts_with("no   [31mluck xxx") && excerpt.chars().count() == 200, "{excerpt}");
        }
        let table = world.table().dump("countersign").await;
        assert!(!table.contains("HIDDEN") && table.contains("xxx") == kept && !table.contains("yyy"));
    }
}
