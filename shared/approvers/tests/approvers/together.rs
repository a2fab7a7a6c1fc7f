//! That everything is asked at the same time, and that all of it has one time together.

use crate::world::{BRIEF, World, acme, group, http, policy, role, stage, user, with};
use axum::Router;
use axum::extract::State;
use countersign_domain::workflow::request::{Answers, Question};
use countersign_testing::keycloak::Keycloak;
use countersign_testing::receiver::{Receiver, Reply};
use countersign_testing::wire::Endpoint;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Barrier;
use tokio::time::Instant;

/// A service that answers nobody until so many are waiting.
async fn meeting(of: usize) -> Endpoint {
    let answer = |State(barrier): State<Arc<Barrier>>| async move {
        barrier.wait().await;
        json!({ "user_ids": ["u"] }).to_string()
    };
    Endpoint::serve(Router::new().fallback(answer).with_state(Arc::new(Barrier::new(of)))).await.unwrap()
}

#[tokio::test]
async fn all_rules_of_all_stages_of_a_group_are_asked_at_the_same_time() {
    let world = World::new(&[]).await;
    let service = meeting(6).await;
    let rules =
        |paths: &[&str]| paths.iter().map(|path| http(&format!("{}/{path}", service.url()))).collect::<Vec<Value>>();
    let together = |order, paths| with(stage(order, json!(rules(paths))), json!({ "parallel_group": 1 }));
    let definition = policy(json!([together(1, &["a", "b", "c"]), together(2, &["d"]), together(3, &["e", "f", "a"])]));
    let answers = world.answers(&definition, json!({})).await.unwrap();
    assert!(answers.groups[&0].iter().all(|asked| asked.approvers.len() == 1));
}

#[tokio::test]
async fn services_and_the_directory_are_asked_at_the_same_time() {
    let keycloak = Keycloak::start().await.unwrap();
    keycloak.role("r", &["a"]);
    keycloak.group("g", &["b"]);
    let world = World::new(&[("COUNTERSIGN_DIRECTORY", &keycloak.directory("realm"))]).await;
    assert_eq!(world.named(role("r")).await.unwrap(), ["a"]);
    let service = Receiver::start().await;
    service.answer(|_| Reply { body: r#"{"user_ids":["c"]}"#.to_owned(), ..Reply::status(200) });

    let before = keycloak.asked().len();
    keycloak.hold();
    let definition = policy(json!([stage(1, json!([role("r"), group("/g"), http(&service.url("/"))]))]));
    let answered = world.answers(&definition, json!({}));
    let all_inside = async {
        keycloak.until_asked(before + 2).await;
        service.wait_for(1).await;
        keycloak.release();
    };
    let (answers, ()) = tokio::join!(answered, all_inside);
    assert_eq!(answers.unwrap().groups[&0][0].approvers.len(), 3);
}

#[tokio::test]
async fn many_are_asked_some_at_a_time() {
    let world = World::new(&[]).await;
    let service = Receiver::start().await;
    service.answer(|received| Reply { body: json!({ "user_ids": [received.path] }).to_string(), ..Reply::status(200) });
    let rules: Vec<_> = (0..100).map(|number| http(&service.url(&format!("/{number}")))).collect();
    let asked = world.asked(json!(rules), json!({})).await.unwrap();
    let expected: Vec<_> = (0..100).map(|number| format!("/{number}")).collect();
    assert_eq!(asked.approvers.iter().map(|approver| approver.user.as_str()).collect::<Vec<_>>(), expected);
    assert_eq!(service.received().len(), 100);
}

#[tokio::test]
async fn one_failure_is_the_end_of_it_although_others_are_silent() {
    let world = World::new(&[]).await;
    let (silent, failing) = (Receiver::start().await, Receiver::start().await);
    silent.answer(|_| Reply::never());
    failing.answer(|_| Reply::status(500));
    let rules = json!([http(&silent.url("/")), http(&failing.url("/"))]);
    let error = world.asked(rules, json!({})).await.unwrap_err();
    assert_eq!(error.to_string(), "rule 2 of stage \"stage 1\" (http) has no usable answer: HTTP 500");
}

#[tokio::test]
async fn all_questions_of_a_call_have_one_time_together() {
    let keycloak = Keycloak::start().await.unwrap();
    keycloak.role("r", &["a"]);
    let world = World::new(&[("COUNTERSIGN_DIRECTORY", &keycloak.directory("realm"))]).await;
    assert_eq!(world.named(role("r")).await.unwrap(), ["a"]);
    keycloak.hold();
    let definition = policy(json!([stage(1, json!([role("r")])), stage(2, json!([user("b"), role("q")]))]));
    let deadline = Instant::now() + BRIEF;
    let mut asking = world.approvers.asking(&acme(), definition, Arc::new(json!({})), deadline);
    let mut answers = Answers::default();
    for (question, place) in [(0, "rule 1 of stage \"stage 1\""), (1, "rule 2 of stage \"stage 2\"")] {
        let error = asking.answer(&world.store, Question::Group(question), &mut answers).await.unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with(place) && error.ends_with("was not answered in time"), "{error}");
    }
    assert_eq!((answers.groups.len(), answers.definition), (0, None));
    assert!(Instant::now() >= deadline);
}
