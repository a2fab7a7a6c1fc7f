//! The directory in Keycloak.

use crate::world::{BRIEF, World, acme, configured, group, policy, role, rule, stage};
use countersign_domain::workflow::request::{Answers, Question};
use countersign_testing::keycloak::Keycloak;
use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;

const MALFORMED: &str = "the directory's answer is not what it is documented to be";

async fn start() -> (Keycloak, World) {
    let keycloak = Keycloak::start().await.unwrap();
    let world = World::new(&[("COUNTERSIGN_DIRECTORY", &keycloak.directory("realm"))]).await;
    (keycloak, world)
}

fn client_role(client: &str, role: &str) -> Value {
    rule("role", json!({ "client": client, "role": role }))
}

fn people(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("u-{number}")).collect()
}

/// What is said about a role that cannot be looked up.
fn failed(why: &str) -> Result<Vec<String>, String> {
    Err(format!("rule 1 of stage \"stage 1\" (role, role \"r\") cannot be looked up: {why}"))
}

#[tokio::test]
async fn roles_and_groups_have_the_members_that_the_realm_says() {
    let (keycloak, world) = start().await;
    keycloak.role("lead", &["u-ann", "u-bob"]);
    keycloak.role("sales%20lead%3F%25", &["u-cem"]);
    keycloak.client_role("billing", "lead", &["u-dan"]);
    keycloak.client_role("other", "only", &["u-x"]);
    keycloak.group("finance/team%20leads", &["u-eve"]);
    for (rule, members) in [
        (role("lead"), &["u-ann", "u-bob"][..]),
        (role("sales lead?%"), &["u-cem"]),
        (client_role("billing", "lead"), &["u-dan"]),
        (group("/finance/team leads"), &["u-eve"]),
        (group("finance/team leads"), &["u-eve"]),
    ] {
        assert_eq!(world.named(rule.clone()).await.unwrap(), members, "{rule}");
    }
    assert_eq!(keycloak.granted(), 1);
}

#[tokio::test]
async fn what_the_realm_does_not_know_has_no_members() {
    let (keycloak, world) = start().await;
    keycloak.client_role("billing", "lead", &["u-dan"]);
    keycloak.role("nobody", &[]);
    for rule in [
        role("unknown"),
        role("nobody"),
        client_role("unknown", "lead"),
        client_role("billing", "unknown"),
        group("/unknown"),
    ] {
        assert_eq!(world.named(rule.clone()).await.unwrap(), [""; 0], "{rule}");
    }
}

#[tokio::test]
async fn names_that_would_lead_elsewhere_are_not_asked_for() {
    let (keycloak, world) = start().await;
    keycloak.role("x", &["u-x"]);
    for rule in [
        role(".."),
        role("."),
        role("../../users"),
        role("a/b"),
        role("a\\b"),
        role("x;y"),
        role("a\nb"),
        client_role("billing", "a/b"),
        group("/../roles/x/users"),
        group("/a//b"),
        group("/a/."),
        group("/"),
    ] {
        // A client is asked for by a query, before its role.
        keycloak.client_role("billing", "x", &["u-x"]);
        let error = world.named(rule.clone()).await.unwrap_err();
        assert!(error.ends_with("cannot be looked up: no role, client or group can have this name"), "{rule}: {error}");
    }
    assert!(keycloak.asked().iter().all(|asked| asked == "token" || asked.starts_with("clients?")));
    assert_eq!(world.named(client_role("bill&clientId=ing", "x")).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn members_are_asked_for_page_by_page_up_to_200() {
    let (keycloak, world) = start().await;
    for (count, pages) in [(99, 1), (100, 2), (101, 2), (200, 3)] {
        let members = people(count);
        keycloak.role("r", &members.iter().map(String::as_str).collect::<Vec<_>>());
        let before = keycloak.asked().iter().filter(|asked| asked.starts_with("roles/r/users?")).count();
        assert_eq!(world.named(role("r")).await.unwrap(), members);
        let after = keycloak.asked().iter().filter(|asked| asked.starts_with("roles/r/users?")).count();
        assert_eq!(after - before, pages, "{count}");
    }
    let members = people(201);
    keycloak.role("r", &members.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(world.named(role("r")).await, failed("it has more than 200 members"));
}

#[tokio::test]
async fn a_role_is_asked_for_once_in_a_call_whatever_names_it() {
    let (keycloak, world) = start().await;
    keycloak.role("r", &["a"]);
    keycloak.group("g", &["b"]);
    let rules = json!([role("r"), group("/g"), role("r"), group("g")]);
    let definition = policy(json!([stage(1, rules.clone()), stage(2, rules)]));
    let mut asking = world.asking(&definition, json!({}));
    let mut answers = Answers::default();
    for first in [0, 1] {
        asking.answer(&world.store, Question::Group(first), &mut answers).await.unwrap();
    }
    let mut asked = keycloak.asked();
    asked.sort_unstable();
    let query = "first=0&max=100&briefRepresentation=true";
    let expected =
        ["group-by-path/g", &format!("groups/g1-g/members?{query}"), &format!("roles/r/users?{query}"), "token"];
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn one_token_serves_twenty_who_ask_at_the_same_time() {
    let (keycloak, world) = start().await;
    keycloak.role("r", &["a"]);
    keycloak.hold();
    let asking = join_all((0..20).map(|_| world.named(role("r"))));
    let release = async {
        keycloak.until_asked(1).await;
        keycloak.release();
    };
    let (all, ()) = tokio::join!(asking, release);
    assert!(all.into_iter().all(|named| named == Ok(vec!["a".to_owned()])));
    assert_eq!(keycloak.granted(), 1);
}

#[tokio::test]
async fn a_token_is_used_until_shortly_before_it_expires() {
    for (expires_in, usable) in
        [(Some(300), 270), (Some(60), 30), (Some(20), 10), (Some(1), 0), (None, 30), (Some(-5), 0)]
    {
        let (keycloak, world) = start().await;
        keycloak.role("r", &["a"]);
        keycloak.expire_in(expires_in);
        let ask = async || assert_eq!(world.named(role("r")).await.unwrap(), ["a"]);
        ask().await;
        if usable > 0 {
            world.clock.advance(Duration::from_secs(usable) - Duration::from_micros(1));
            ask().await;
            assert_eq!(keycloak.granted(), 1, "{expires_in:?}");
            world.clock.advance(Duration::from_micros(1));
        }
        ask().await;
        assert_eq!(keycloak.granted(), 2, "{expires_in:?}");
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_fetched_anew_once_for_all_who_hold_it() {
    let (keycloak, world) = start().await;
    keycloak.role("r", &["a"]);
    assert_eq!(world.named(role("r")).await.unwrap(), ["a"]);
    keycloak.forget_tokens();
    let all = join_all((0..20).map(|_| world.named(role("r")))).await;
    assert!(all.into_iter().all(|named| named == Ok(vec!["a".to_owned()])));
    assert_eq!(keycloak.granted(), 2);

    keycloak.answer(|path| path.starts_with("roles/").then(|| (StatusCode::UNAUTHORIZED, String::new())));
    assert_eq!(world.named(role("r")).await, failed("the directory answers HTTP 401"));
    assert_eq!(keycloak.granted(), 3, "once");
    keycloak.recover();
    assert_eq!(world.named(role("r")).await.unwrap(), ["a"]);
    assert_eq!(keycloak.granted(), 3);
}

#[tokio::test]
async fn an_outage_is_an_error_that_says_so_and_ends_with_it() {
    let (keycloak, world) = start().await;
    keycloak.role("r", &["a"]);
    for (path, status, said) in [
        ("token", StatusCode::INTERNAL_SERVER_ERROR, "the directory answers HTTP 500"),
        ("token", StatusCode::NOT_FOUND, "the directory answers HTTP 404"),
        ("token", StatusCode::FOUND, "the directory answers HTTP 302"),
        ("token", StatusCode::UNAUTHORIZED, "the directory refuses our credentials"),
        ("token", StatusCode::BAD_REQUEST, "the directory refuses our credentials"),
        ("roles/", StatusCode::INTERNAL_SERVER_ERROR, "the directory answers HTTP 500"),
        ("roles/", StatusCode::FORBIDDEN, "the directory answers HTTP 403"),
        ("roles/", StatusCode::TEMPORARY_REDIRECT, "the directory answers HTTP 307"),
        ("roles/", StatusCode::NO_CONTENT, "the directory answers HTTP 204"),
        // Not Keycloak's own: it says what it has not found.
        ("roles/", StatusCode::NOT_FOUND, "the directory answers HTTP 404"),
    ] {
        keycloak.answer(move |asked| asked.starts_with(path).then(|| (status, "secret".to_owned())));
        assert_eq!(world.named(role("r")).await, failed(said), "{path} {status}");
        keycloak.recover();
        assert_eq!(world.named(role("r")).await.unwrap(), ["a"], "{path} {status}");
        // The next round needs a token again.
        world.clock.advance(Duration::from_secs(300));
    }
}

#[tokio::test]
async fn whoever_waits_for_a_token_that_is_not_granted_does_not_ask_again() {
    let (keycloak, world) = start().await;
    keycloak.hold();
    keycloak.answer(|_| Some((StatusCode::SERVICE_UNAVAILABLE, String::new())));
    let asking = join_all((0..20).map(|_| world.named(role("r"))));
    let release = async {
        keycloak.until_asked(1).await;
        keycloak.release();
    };
    let (all, ()) = tokio::join!(asking, release);
    assert!(all.into_iter().all(|named| named == failed("the directory answers HTTP 503")));
    assert_eq!(keycloak.asked(), ["token"]);
}

#[tokio::test]
async fn an_answer_that_is_not_what_is_documented_is_an_error() {
    let (keycloak, world) = start().await;
    keycloak.role("r", &["a"]);
    let huge = format!(r#"[{{"id":"secret"}},{}]"#, " ".repeat(256 * 1024));
    for (path, body, said) in [
        ("token", "", MALFORMED),
        ("token", "[]", MALFORMED),
        ("token", r#"{"token":"secret"}"#, MALFORMED),
        ("token", r#"{"access_token":"a\nb"}"#, MALFORMED),
        ("token", r#"{"access_token":"a","expires_in":"1"}"#, MALFORMED),
        ("roles/", "secret", MALFORMED),
        ("roles/", "{}", MALFORMED),
        ("roles/", r#"[{"username":"secret"}]"#, MALFORMED),
        ("roles/", r#"[{"id":7}]"#, MALFORMED),
        ("roles/", r#"[{"id":"a","id":"secret"}]"#, MALFORMED),
        ("roles/", &huge, "the directory cannot be reached"),
    ] {
        let answer = body.to_owned();
        keycloak.answer(move |asked| asked.starts_with(path).then(|| (StatusCode::OK, answer.clone())));
        assert_eq!(world.named(role("r")).await, failed(said), "{path} {}", &body[..body.len().min(50)]);
        world.clock.advance(Duration::from_secs(300));
    }
    keycloak.answer(|asked| asked.starts_with("roles/").then(|| (StatusCode::OK, r#"[{"id":""}]"#.to_owned())));
    let error = world.named(role("r")).await.unwrap_err();
    assert!(error.ends_with("names a user whose id is empty"), "{error}");
}

#[tokio::test]
async fn a_realm_whose_secret_is_another_one_refuses_us() {
    let keycloak = Keycloak::start().await.unwrap();
    let directory = keycloak.directory("realm").replace("\"countersign\"", "\"another\"");
    let world = World::new(&[("COUNTERSIGN_DIRECTORY", &directory)]).await;
    assert_eq!(world.named(role("r")).await, failed("the directory refuses our credentials"));
}

#[tokio::test]
async fn nobody_there_is_an_error_that_does_not_name_the_address() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let directory =
        json!({ "keycloak_url": format!("http://{free}"), "realm": "r", "client_id": "c", "secret_id": "realm" });
    let world = World::new(&[("COUNTERSIGN_DIRECTORY", &directory.to_string())]).await;
    assert_eq!(world.named(role("r")).await, failed("the directory cannot be reached"));
}

#[tokio::test]
async fn whoever_hangs_up_while_a_token_is_fetched_leaves_it_to_the_next() {
    let (keycloak, world) = start().await;
    keycloak.role("r", &["a"]);
    keycloak.hold();
    let definition = policy(json!([stage(1, json!([role("r")]))]));
    let mut asking = world.approvers.asking(&acme(), definition, Arc::new(json!({})), Instant::now() + BRIEF);
    let error = asking.answer(&world.store, Question::Group(0), &mut Answers::default()).await.unwrap_err();
    assert!(error.to_string().ends_with("was not answered in time"), "{error}");
    keycloak.release();
    assert_eq!(world.named(role("r")).await.unwrap(), ["a"]);
}

#[test]
fn a_realm_whose_secret_is_not_there_fails_the_start_with_a_sentence() {
    let directory = r#"{"keycloak_url":"https://id.example","realm":"r","client_id":"c","secret_id":"elsewhere"}"#;
    let error = configured(&[("COUNTERSIGN_DIRECTORY", directory)]).unwrap_err().to_string();
    assert_eq!(error, "COUNTERSIGN_DIRECTORY names the secret `elsewhere`, which is not there");
}
