//! To whom those who are asked have delegated their tasks.

use crate::world::{World, acme, logic, policy, stage, user, with};
use countersign_domain::workflow::request::{Answers, Question};
use countersign_domain::{Tenant, Timestamp};
use serde_json::json;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn delegates(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
}

#[tokio::test]
async fn everybody_who_is_asked_for_anything_is_read_in_one_go() {
    let world = World::new(&[]).await;
    for (from, to) in [("a", "x"), ("b", "y"), ("c", "z"), ("d", "a"), ("not asked", "x")] {
        world.delegate(&acme(), from, to, 0).await;
    }
    let together = |order, rules| with(stage(order, rules), json!({ "parallel_group": 7 }));
    let definition = policy(json!([
        together(1, json!([user("a"), user("e")])),
        together(2, json!([user("b"), with(logic(json!(["c", "a"])), json!({ "kind": "observer" })), user("d")])),
    ]));
    let before = world.reads.load(Ordering::SeqCst);
    let answers = world.answers(&definition, json!({})).await.unwrap();
    assert_eq!(world.reads.load(Ordering::SeqCst) - before, 1);
    // One hop: whoever gets a delegated task has it, whatever they have delegated themselves.
    assert_eq!(answers.delegates, delegates(&[("a", "x"), ("b", "y"), ("c", "z"), ("d", "a")]));
}

#[tokio::test]
async fn a_delegation_holds_from_its_beginning_to_just_before_its_end() {
    let world = World::new(&[]).await;
    let definition = policy(json!([stage(1, json!([user("a"), user("b")]))]));
    world.delegate(&acme(), "a", "early", -1800).await;
    world.delegate(&acme(), "a", "late", 1000).await;
    world.delegate(&acme(), "b", "c", -3600).await;
    for (advance, expected) in [
        (0, &[("a", "early")][..]),
        (999, &[("a", "early")]),
        (1, &[("a", "late")]),
        (3599, &[("a", "late")]),
        (1, &[]),
    ] {
        world.clock.advance(Duration::from_secs(advance));
        let answers = world.answers(&definition, json!({})).await.unwrap();
        let now: Timestamp = world.clock.now();
        assert_eq!(answers.delegates, delegates(expected), "{now}");
    }
}

#[tokio::test]
async fn another_tenants_delegations_are_nobodys_here() {
    let world = World::new(&[]).await;
    let globex: Tenant = "globex".parse().unwrap();
    world.delegate(&globex, "a", "theirs", 0).await;
    let answers = world.answers(&policy(json!([stage(1, json!([user("a")]))])), json!({})).await.unwrap();
    assert_eq!(answers.delegates, HashMap::new());
}

#[tokio::test]
async fn what_was_read_in_a_call_is_not_read_again() {
    let world = World::new(&[]).await;
    world.delegate(&acme(), "a", "x", 0).await;
    world.delegate(&acme(), "b", "y", 0).await;
    let late = with(stage(3, json!([user("a")])), json!({ "escalation_rules": [user("a"), user("b")] }));
    let definition = policy(json!([stage(1, json!([user("a")])), stage(2, json!([])), late]));
    let mut asking = world.asking(&definition, json!({}));
    let before = world.reads.load(Ordering::SeqCst);
    let mut reads = Vec::new();
    for question in [Question::Group(0), Question::Group(1), Question::Group(2), Question::Escalation(2)] {
        let mut answers = Answers::default();
        asking.answer(&world.store, question, &mut answers).await.unwrap();
        reads.push((world.reads.load(Ordering::SeqCst) - before, answers.delegates.len()));
    }
    assert_eq!(reads, [(1, 1), (1, 0), (1, 1), (2, 2)]);
}

#[tokio::test]
async fn a_simulation_reads_no_delegations() {
    let world = World::new(&[]).await;
    world.delegate(&acme(), "a", "x", 0).await;
    let before = world.reads.load(Ordering::SeqCst);
    let stages = world.asking(&policy(json!([stage(1, json!([user("a")]))])), json!({})).stages().await.unwrap();
    assert_eq!((stages[0].approvers[0].user.as_str(), world.reads.load(Ordering::SeqCst)), ("a", before));
}

#[tokio::test]
async fn hundreds_are_read_in_pages_that_the_table_takes() {
    let world = World::new(&[]).await;
    world.delegate(&acme(), "u-0", "x", 0).await;
    world.delegate(&acme(), "u-249", "y", 0).await;
    let users: Vec<_> = (0..250).map(|number| format!("u-{number}")).collect();
    let answers = world.answers(&policy(json!([stage(1, json!([logic(json!(users))]))])), json!({})).await.unwrap();
    assert_eq!(answers.delegates, delegates(&[("u-0", "x"), ("u-249", "y")]));
}
