//! Endpoints that are not to be called any more: what waits for them is cancelled, and only that.

use crate::world::{World, by};
use countersign_domain::delivery::{Cancelled, Delivery, State};
use countersign_domain::endpoint::{EndpointId, Status, Why};
use countersign_queue::Lane;
use countersign_testing::hook::{Hooked, Moment};
use countersign_testing::receiver::{Receiver, Reply};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// A receiver that answers so, and an endpoint with one delivery that waits for its second attempt.
async fn waiting(world: &mut World) -> (Receiver, EndpointId) {
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::status(500));
    let id = world.subscribe(1, &receiver.url("/"), &["*"]).await;
    world.app.tell(&world.event(1).await).await;
    world.settle().await;
    assert_eq!(world.delivery().await.status(), "pending");
    (receiver, id)
}

fn why(delivery: &Delivery) -> Option<Cancelled> {
    match delivery.state {
        State::Cancelled { why, .. } => Some(why),
        State::Waiting { .. } | State::Claimed { .. } | State::Delivered { .. } | State::Exhausted { .. } => None,
    }
}

#[tokio::test]
async fn what_waits_for_an_endpoint_that_is_disabled_or_deleted_is_cancelled_at_once() {
    for deleted in [false, true] {
        let mut world = World::new().await;
        let (receiver, id) = waiting(&mut world).await;
        let work = match deleted {
            false => world.enable(&id, false).await,
            true => world.change_endpoints(|endpoints, now| endpoints.remove(&id, &by(), now)).await,
        };
        world.app.tell(&work).await;
        world.settle().await;
        let expected = if deleted { Cancelled::EndpointDeleted } else { Cancelled::EndpointDisabled };
        assert_eq!(why(&world.delivery().await), Some(expected));
        assert_eq!(world.endpoints().await.closing, []);
        // Neither what waited nor what happens now is sent.
        world.app.tell(&world.event(2).await).await;
        world.pass(DAY).await;
        assert_eq!(receiver.received().len(), 1);
        assert_eq!(world.due().await, []);
    }
}

#[tokio::test]
async fn an_endpoint_that_is_enabled_again_hears_of_what_happens_then_and_not_of_what_was_cancelled() {
    let mut world = World::new().await;
    let (receiver, id) = waiting(&mut world).await;
    world.app.tell(&world.enable(&id, false).await).await;
    world.settle().await;
    world.enable(&id, true).await;
    receiver.answer(|_| Reply::status(200));
    world.app.tell(&world.event(2).await).await;
    world.pass(DAY).await;
    assert_eq!(receiver.received().len(), 2);
    assert_eq!(world.statuses().await, ["cancelled", "delivered"]);
}

#[tokio::test]
async fn what_waits_for_an_endpoint_that_is_enabled_before_anybody_came_to_cancel_goes_on() {
    let mut world = World::new().await;
    let (receiver, id) = waiting(&mut world).await;
    let work = world.enable(&id, false).await;
    world.enable(&id, true).await;
    receiver.answer(|_| Reply::status(200));
    world.app.tell(&work).await;
    world.pass(DAY).await;
    assert_eq!(world.statuses().await, ["delivered"]);
    assert_eq!(world.endpoints().await.closing, []);
}

#[tokio::test]
async fn what_comes_after_an_endpoint_was_enabled_again_is_not_cancelled_by_whoever_is_still_at_it() {
    let mut world = World::new().await;
    let (_receiver, id) = waiting(&mut world).await;
    let work = world.enable(&id, false).await;
    let other = Arc::new(world.beside(&[]).await);
    let (happens, id) = (AtomicBool::new(false), id.clone());
    // As soon as the one who cancels has seen what waits, the endpoint is enabled and another event is on its way.
    let hooked = Hooked::new(world.engine.clone(), move |moment, asked| {
        let sees = moment == Moment::After && asked.operation == "Query" && asked.body.contains("inbox#acme#waiting");
        if !sees || happens.swap(true, Ordering::SeqCst) {
            return Box::pin(async {});
        }
        let (other, id) = (Arc::clone(&other), id.clone());
        Box::pin(async move {
            other.enable(&id, true).await;
            let work = other.event(2).await;
            other.worker.handle(Lane::Fast, &work).await;
        })
    });
    let closing = world.behind(&hooked).await;
    assert_eq!(closing.worker.handle(Lane::Slow, &work).await, [0; 0]);
    assert_eq!(world.statuses().await, ["pending", "pending"]);
    assert_eq!(world.endpoints().await.closing, []);
}

#[tokio::test]
async fn an_endpoint_that_answers_410_is_disabled_and_what_waits_for_it_is_cancelled() {
    let mut world = World::new().await;
    let (receiver, id) = waiting(&mut world).await;
    receiver.answer(|_| Reply::status(410));
    world.app.tell(&world.event(2).await).await;
    world.settle().await;
    let now = world.clock.now();
    assert_eq!(world.endpoint(&id).await.status, Status::Disabled { at: now, why: Why::Gone });
    let deliveries = world.deliveries().await;
    assert_eq!(
        deliveries.iter().map(|delivery| (why(delivery), delivery.attempts())).collect::<Vec<_>>(),
        [(Some(Cancelled::Gone), 1), (Some(Cancelled::Gone), 1)]
    );
    world.pass(DAY).await;
    assert_eq!(receiver.received().len(), 2);
    assert_eq!(world.due().await, []);
}

#[tokio::test]
async fn five_days_of_nothing_but_failures_disable_an_endpoint_and_one_answer_among_them_does_not() {
    for answers in [false, true] {
        let mut world = World::new().await;
        let (receiver, id) = waiting(&mut world).await;
        for day in 1..5 {
            world.pass(DAY).await;
            if answers && day == 2 {
                receiver.answer(|_| Reply::status(200));
            }
            world.app.tell(&world.event(day + 1).await).await;
            world.settle().await;
            receiver.answer(|_| Reply::status(500));
            assert!(world.is_enabled(&id).await, "on day {day}");
        }
        world.pass(DAY).await;
        assert_eq!(world.is_enabled(&id).await, answers);
        let sent = receiver.received().len();
        world.app.tell(&world.event(10).await).await;
        world.settle().await;
        assert_eq!(receiver.received().len() > sent, answers);
        let pending = world.statuses().await.into_iter().filter(|status| *status == "pending").count();
        assert_eq!(pending > 0, answers, "nothing waits for an endpoint that is disabled");
    }
}
