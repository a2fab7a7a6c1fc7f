//! Dead endpoints do not keep each other busy: that word of a failure fails is no news.

use crate::world::World;
use countersign_domain::delivery::{Delivery, Target};
use countersign_domain::event::EXHAUSTED;
use countersign_testing::receiver::{Receiver, Reply};
use std::time::Duration;

#[tokio::test]
async fn three_dead_endpoints_make_nine_deliveries_of_one_event_and_then_silence() {
    let mut world = World::with(&[("COUNTERSIGN_RETRY_JITTER", "0")]).await;
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::status(500));
    for number in 1..=3 {
        world.subscribe(number, &receiver.url(&format!("/{number}")), &["*"]).await;
    }
    world.app.tell(&world.event(1).await).await;
    world.settle().await;
    for _generation in 1..=2 {
        for wait in [60, 300, 900, 3600, 21_600] {
            world.pass(Duration::from_secs(wait)).await;
        }
    }
    let deliveries = world.deliveries().await;
    let of = |name: &str| deliveries.iter().filter(|delivery| delivery.event == name).collect::<Vec<_>>();
    let (first, second) = (of("case.created"), of(EXHAUSTED));
    assert_eq!((first.len(), second.len(), deliveries.len()), (3, 6, 9));
    let about = |delivery: &Delivery| {
        first.iter().find(|first| first.id.as_str() == delivery.source.id).unwrap().target.clone()
    };
    let mut told: Vec<[Target; 2]> = second.iter().map(|delivery| [about(delivery), delivery.target.clone()]).collect();
    assert!(told.iter().all(|[about, told]| about != told), "nobody is told of a failure that is its own");
    told.sort_by_key(|pair| format!("{pair:?}"));
    told.dedup();
    assert_eq!(told.len(), 6, "but both others are, once");
    for delivery in &deliveries {
        assert_eq!((delivery.status(), delivery.attempts()), ("exhausted", 6));
    }
    assert_eq!(receiver.received().len(), 9 * 6);
    for _week in 1..=4 {
        world.pass(Duration::from_secs(7 * 86_400)).await;
    }
    assert_eq!(receiver.received().len(), 9 * 6);
    assert_eq!(world.deliveries().await, deliveries);
    assert_eq!(world.due().await, [], "nothing will ever be looked at again");
}
