//! Requests: made once, found again, called off, and what happened to them.

use crate::server::{Answer, Server};
use crate::workflow::{Asked, TENANT, locs, refusal, refused, request, stage, text, with};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

fn replayed(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == Some("true")
}

#[tokio::test]
async fn a_request_whose_stages_ask_nobody_ends_as_it_is_made() {
    let server = Server::start().await;
    let skip = json!({ "skip_if": { "==": [1, 1] } });
    for (key, stages, status, order, story, why) in [
        ("zero", json!([]), "approved", 1, vec!["request_created(1)", "request_approved(1)"], json!({})),
        (
            "skipped",
            json!([stage(2, &["u-bob"], skip.clone()), stage(4, &[], json!({ "on_empty": "skip" }))]),
            "approved",
            1,
            vec!["request_created(1)", "stage_skipped(2)", "stage_skipped(4)", "request_approved"],
            json!({ "reason": "all_stages_skipped" }),
        ),
        (
            "blocked",
            json!([stage(2, &["u-bob"], skip), stage(3, &[], json!({}))]),
            "rejected",
            1,
            vec!["request_created(1)", "stage_skipped(2)", "request_rejected"],
            json!({ "reason": "no_approvers_resolved" }),
        ),
        (
            "too few",
            json!([stage(2, &["u-bob"], json!({ "mode": "any-n", "mode_value": 2, "on_empty": "skip" }))]),
            "rejected",
            1,
            vec!["request_created(1)", "request_rejected"],
            json!({ "reason": "quorum_unreachable" }),
        ),
        (
            "watched",
            json!([stage(
                1,
                &[],
                json!({ "rules": [with(crate::workflow::by_name("u-olga"), &json!({ "kind": "observer" }))] })
            )]),
            "rejected",
            1,
            vec!["request_created(1)", "request_rejected"],
            json!({ "reason": "no_approvers_resolved" }),
        ),
    ] {
        server.policy(key, stages, json!({})).await;
        let made = server.user("svc").post("/requests", &request(key, json!({}))).await;
        let made = made.json();
        assert_eq!((&made["status"], &made["current_stage_order"]), (&json!(status), &json!(order)), "{key}");
        assert_eq!(made["tasks"], json!([]));
        let id = text(&made["request_id"]);
        let told = server.story(&id).await;
        assert!(told.iter().zip(&story).all(|(told, expected)| told.starts_with(expected)), "{key}: {told:?}");
        assert_eq!(told.len(), story.len(), "{key}: {told:?}");
        let events = server.events(&id).await;
        let last = events.last().unwrap();
        assert_eq!(last["payload"]["reason"], why["reason"], "{key}");
        assert_eq!((last["payload"].get("actor"), &last["payload"]["status"]), (None, &json!(status)), "{key}");
        server.is_sound(&id).await;
    }
    let reasons: Vec<_> = {
        let found = server.root().list("/requests?status=approved").await;
        let skipped = found.iter().find(|one| one["policy_key"] == "skipped").unwrap();
        let events = server.events(&text(&skipped["id"])).await;
        events
            .iter()
            .filter(|one| one["event_type"] == "stage_skipped")
            .map(|one| one["payload"]["reason"].clone())
            .collect()
    };
    assert_eq!(reasons, ["skip_if", "no_approvers"]);
}

#[tokio::test]
async fn whoever_makes_a_request_may_name_a_requester_and_keeps_its_context() {
    let server = Server::start().await;
    server.policy("p", json!([]), json!({})).await;
    let context =
        json!({ "deep": { "list": [1, 2.5, -0.0, 12_345_678_901_234_567_890_u64, null, true, "é\u{1f600}"] }, "": 0 });
    for (fields, requester, shown) in [
        (json!({}), "svc", json!({})),
        (json!({ "requester": null, "context": {} }), "svc", json!({})),
        (json!({ "requester": "", "callback_url": null, "callback_secret_id": null }), "svc", json!({})),
        (json!({ "requester": "u-dora", "context": context.clone() }), "u-dora", context.clone()),
    ] {
        let id = server.ask_with("p", fields).await.id;
        let one = server.root().get(&format!("/requests/{id}")).await.json();
        assert_eq!((&one["requester"], &one["source_service"]), (&json!(requester), &json!("svc")));
        assert_eq!(one["context"], shown);
        assert_eq!(server.root().list("/requests?limit=1").await, [one], "as it is in the list");
        server.clock.advance(Duration::from_secs(1));
    }
    // A context as long as a body can be.
    let long = json!({ "context": { "text": "x".repeat(250_000) } });
    let id = server.ask_with("p", long.clone()).await.id;
    assert_eq!(server.root().get(&format!("/requests/{id}")).await.json()["context"], long["context"]);
}

#[tokio::test]
async fn a_repeated_call_is_answered_as_the_first_whatever_has_happened_since() {
    let server = Server::start().await;
    server.policy("p", json!([stage(1, &["u-bob"], json!({}))]), json!({})).await;
    let svc = server.user("svc");
    let body = request("p", json!({ "context": { "a": 1, "b": [2] } }));
    let first = svc.post_once("/requests", "k", &body).await;
    assert_eq!((first.status, replayed(&first)), (201, false));
    let asked = Asked::of(&first.json());
    assert_eq!(server.answer(&asked.id, "u-bob", "approve").await.status, 201);
    assert_eq!(server.root().order("/policies/p/versions/1/deactivate").await.status, 200);
    server.clock.advance(Duration::from_hours(23));
    let again = svc.post_once("/requests", "k", &body).await;
    assert_eq!((again.status, replayed(&again), &again.text), (201, true, &first.text));
    // The same in another order of its fields, and with other spaces.
    let reordered =
        r#"{ "context": {"b":[2], "a":1}, "artifact_id":"cr-1","artifact_type":"change","policy_key":"p" }"#;
    let call = svc.request(reqwest::Method::POST, "/requests").header("Idempotency-Key", "k");
    let call = call.header("Content-Type", "application/json").body(reordered);
    assert_eq!(crate::server::send(call).await.text, first.text);
    for other in
        [json!({ "artifact_id": "cr-2" }), json!({ "context": { "a": 1, "b": [3] } }), json!({ "policy_key": "q" })]
    {
        let reused = svc.post_once("/requests", "k", &with(body.clone(), &other)).await;
        assert_eq!(refusal(&reused), refused(409, "009"));
    }
    // A key is one caller's own, and what is malformed is told all the same.
    let another = server.user("svc-2").post_once("/requests", "k", &body).await;
    assert_eq!(refusal(&another), refused(404, "001"));
    assert_eq!(locs(&svc.post_once("/requests", "k", &json!({})).await).len(), 3);
    assert_eq!(server.root().list("/requests").await.len(), 1);
}

#[tokio::test]
async fn only_what_was_made_is_remembered_under_a_key_and_an_empty_key_is_none() {
    let server = Server::start().await;
    let svc = server.user("svc");
    let body = request("p", json!({}));
    assert_eq!(refusal(&svc.post_once("/requests", "k", &body).await), refused(404, "001"));
    server.policy("p", json!([]), json!({})).await;
    let made = svc.post_once("/requests", "k", &body).await;
    assert_eq!((made.status, replayed(&made)), (201, false));
    for _ in 0..2 {
        let made = svc.post_once("/requests", "", &body).await;
        assert_eq!((made.status, replayed(&made)), (201, false));
    }
    for key in ["x".repeat(255), "a key, with spaces".to_owned()] {
        let answers = [svc.post_once("/requests", &key, &body).await, svc.post_once("/requests", &key, &body).await];
        assert_eq!(answers.each_ref().map(|answer| (answer.status, replayed(answer))), [(201, false), (201, true)]);
    }
    assert_eq!(server.root().list("/requests").await.len(), 5);
}

#[tokio::test]
async fn other_endpoints_take_no_notice_of_a_key() {
    let server = Server::start().await;
    let stages = json!([stage(1, &["u-bob", "u-carol"], json!({}))]);
    let body = crate::workflow::policy("p", stages, json!({}));
    let root = server.root();
    assert_eq!(root.post_once("/policies", "k", &body).await.status, 201);
    assert_eq!(refusal(&root.post_once("/policies", "k", &body).await), refused(409, "002"));
    assert_eq!(root.order("/policies/p/versions/1/activate").await.status, 200);
    let asked = server.ask("p").await;
    let decide = format!("/tasks/{}/decision", asked.task("u-bob"));
    let bob = server.user("u-bob");
    assert_eq!(bob.post_once(&decide, "k", &json!({ "action": "approve" })).await.status, 201);
    assert_eq!(refusal(&bob.post_once(&decide, "k", &json!({ "action": "approve" })).await), refused(409, "007"));
    let window = json!({ "user_id": "a", "delegate_to": "b", "starts_at": "2026-01-01T00:00:00Z", "ends_at": "2027-01-01T00:00:00Z" });
    let made = root.post_once("/delegations", "k", &window).await;
    assert_ne!(root.post_once("/delegations", "k", &window).await.json()["id"], made.json()["id"]);
    let path = format!("/delegations/{}", text(&made.json()["id"]));
    for status in [204, 404] {
        let delete = root.request(reqwest::Method::DELETE, &path).header("Idempotency-Key", "k2");
        assert_eq!(crate::server::send(delete).await.status, status);
    }
    let cancel = format!("/requests/{}/cancel", asked.id);
    assert_eq!(root.post_once(&cancel, "k", &json!({})).await.status, 200);
    assert_eq!(refusal(&root.post_once(&cancel, "k", &json!({})).await), refused(409, "007"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_simultaneous_calls_with_one_key_one_makes_the_request_and_all_are_told_of_it() {
    let server = Server::start().await;
    server.policy("p", json!([stage(1, &["u-bob"], json!({}))]), json!({})).await;
    let svc = server.user("svc");
    for round in 0..10 {
        let body = request("p", json!({ "artifact_id": format!("cr-{round}") }));
        let key = format!("k-{round}");
        let answers = join_all((0..32).map(|_| svc.post_once("/requests", &key, &body))).await;
        assert!(answers.iter().all(|answer| answer.status == 201 && answer.text == answers[0].text), "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| !replayed(answer)).count(), 1);
        let found = server.root().list(&format!("/requests?artifact_id=cr-{round}")).await;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["id"], answers[0].json()["request_id"]);
    }
    server.chains_are_whole().await;
}

#[tokio::test]
async fn requests_are_listed_newest_first_and_found_by_what_they_are_about() {
    let server = Server::start().await;
    server.policy("open", json!([stage(1, &["u-bob"], json!({}))]), json!({})).await;
    server.policy("done", json!([]), json!({})).await;
    let mut ids = Vec::new();
    for n in 0..7 {
        let key = if n % 2 == 0 { "open" } else { "done" };
        let fields = json!({ "artifact_type": format!("t{}", n % 3), "artifact_id": format!("a/{}", n % 2), "context": { "n": n } });
        ids.push(server.ask_with(key, fields).await.id);
        server.clock.advance(Duration::from_secs(1));
    }
    ids.reverse();
    let viewer = server.user("anyone");
    let found = async |query: &str| {
        let listed = viewer.list(&format!("/requests{query}")).await;
        listed.iter().map(|one| text(&one["id"])).collect::<Vec<_>>()
    };
    assert_eq!(found("").await, ids);
    let of = |places: &[usize]| places.iter().map(|place| ids[*place].clone()).collect::<Vec<_>>();
    for (query, places) in [
        ("?status=in_review", &[0, 2, 4, 6][..]),
        ("?status=approved", &[1, 3, 5]),
        ("?status=nonsense", &[]),
        ("?status=", &[0, 1, 2, 3, 4, 5, 6]),
        ("?artifact_id=a/1", &[1, 3, 5]),
        ("?artifact_id=a%2F1&artifact_type=", &[1, 3, 5]),
        ("?artifact_id=a", &[]),
        ("?artifact_type=t0", &[0, 3, 6]),
        ("?artifact_type=t0&artifact_id=a/1", &[3]),
        ("?artifact_type=t0&status=in_review", &[0, 6]),
        ("?artifact_type=t0&status=in_review&artifact_id=a/0&limit=1", &[0]),
        ("?limit=3", &[0, 1, 2]),
        ("?limit=3&offset=5", &[5, 6]),
        ("?offset=7", &[]),
        ("?status=in_review&limit=2&offset=1", &[2, 4]),
    ] {
        assert_eq!(found(query).await, of(places), "{query}");
    }
    assert!(viewer.list("/requests").await.iter().all(|one| one["context"]["n"].is_u64()));
    assert_eq!(server.user("x").list("/requests?artifact_id=a/0").await.len(), 4);
    // What is decided is found by its new status at once.
    assert_eq!(server.answer(&ids[0], "u-bob", "approve").await.status, 201);
    assert_eq!(found("?status=in_review").await, of(&[2, 4, 6]));
    assert_eq!(found("?status=approved").await, of(&[0, 1, 3, 5]));

    // The header leads from page to page.
    let mut pages = Vec::new();
    let mut next = Some("/v1/awe/requests?limit=3&status=&x=%26".to_owned());
    while let Some(path) = next {
        let page = viewer.0.get(&path).await;
        assert_eq!(page.status, 200, "{page:?}");
        pages.push(page.json().as_array().unwrap().iter().map(|one| text(&one["id"])).collect::<Vec<_>>());
        let link = page.header("link").map(str::to_owned);
        next = link.map(|link| {
            let (url, relation) = link.split_once(">; ").unwrap();
            assert_eq!(relation, r#"rel="next""#);
            url.strip_prefix('<').unwrap().to_owned()
        });
    }
    assert_eq!(pages.concat(), ids);
    assert!(pages.len() >= 3 && pages[0].len() == 3, "{pages:?}");
}

#[tokio::test]
async fn a_request_that_is_called_off_closes_its_tasks_and_ends() {
    let server = Server::start().await;
    server.policy("p", json!([stage(1, &["u-bob", "u-carol"], json!({}))]), json!({})).await;
    let asked = server.ask("p").await;
    assert_eq!(server.user("u-bob").decide(&asked.task("u-bob"), "approve").await.status, 201);
    assert_eq!(server.user("u-carol").claim(&asked.task("u-carol")).await.status, 200);
    server.clock.advance(Duration::from_secs(1));
    let body = json!({ "reason": "changed\nour minds", "actor": "somebody-else" });
    let cancelled = server.root().post(&format!("/requests/{}/cancel", asked.id), &body).await;
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    let shown = server.root().get(&format!("/requests/{}", asked.id)).await;
    assert_eq!(cancelled.json(), shown.json());
    let at = json!("2026-11-21T12:00:01.250000Z");
    assert_eq!((&shown.json()["status"], &shown.json()["completed_at"]), (&json!("cancelled"), &at));
    let tasks = server.root().list(&format!("/tasks?request_id={}&assignee=*", asked.id)).await;
    let carol = tasks.iter().find(|task| task["assignee"] == "u-carol").unwrap();
    assert_eq!((&carol["status"], &carol["completed_at"]), (&json!("skipped"), &at));
    let events = server.events(&asked.id).await;
    let last = &events.last().unwrap()["payload"];
    assert_eq!((&last["actor"], &last["reason"]), (&json!("root"), &json!("changed\nour minds")));
    assert_eq!((&last["status"], &last["stage_order"]), (&json!("cancelled"), &json!(1)));
    assert_eq!(refusal(&server.root().cancel(&asked.id).await), refused(409, "007"));
    for (user, task) in [("u-bob", asked.task("u-bob")), ("u-carol", asked.task("u-carol"))] {
        assert_eq!(refusal(&server.user(user).decide(&task, "approve").await), refused(409, "007"));
        assert_eq!(refusal(&server.user("mallory").decide(&task, "approve").await), refused(403, "008"));
    }
    server.is_sound(&asked.id).await;
    for body in [json!({}), json!({ "reason": null, "actor": null })] {
        let asked = server.ask("p").await;
        let cancelled = server.root().post(&format!("/requests/{}/cancel", asked.id), &body).await;
        assert_eq!(cancelled.status, 200);
        assert_eq!(server.events(&asked.id).await.last().unwrap()["payload"]["reason"], Value::Null);
    }
    server.chains_are_whole().await;
}

#[tokio::test]
async fn more_than_80_tasks_at_once_are_refused_and_nothing_is_stored() {
    let server = Server::start().await;
    let of_context = json!({ "rule_type": "expression", "rule_value": { "logic": { "var": "who" } } });
    let asks = |order: u32| stage(order, &[], json!({ "rules": [of_context], "parallel_group": 1 }));
    server.policy("many", json!([asks(1), asks(2)]), json!({})).await;
    server
        .policy(
            "later",
            json!([stage(1, &["u-bob"], json!({})), stage(2, &[], json!({ "rules": [of_context] }))]),
            json!({}),
        )
        .await;
    let who = |count: usize| json!({ "context": { "who": (0..count).map(|n| format!("u-{n}")).collect::<Vec<_>>() } });
    let asked = server.ask_with("many", who(40)).await;
    assert_eq!(asked.tasks.len(), 80);
    let orders: BTreeSet<_> = asked.tasks.iter().map(|task| task["stage_order"].as_u64().unwrap()).collect();
    assert_eq!(orders, BTreeSet::from([1, 2]), "of all stages of the group");
    let too_many = server.user("svc").post("/requests", &request("many", who(41))).await;
    assert_eq!(refusal(&too_many), refused(503, "007"));
    let message = text(&too_many.json()["errors"][0]["message"]);
    assert!(message.contains("stage 1") && message.contains("82"), "{message}");
    let simulated = server.viewer().post("/policies/many/versions/1/simulate", &who(41)).await;
    assert_eq!(refusal(&simulated), refused(503, "007"));
    assert_eq!(server.root().list("/requests").await.len(), 1);
    let asked = server.ask_with("later", who(81)).await;
    let bob = server.user("u-bob");
    assert_eq!(refusal(&bob.decide(&asked.task("u-bob"), "approve").await), refused(503, "007"));
    assert_eq!(server.standing(&asked.id).await, [("u-bob".to_owned(), "open".to_owned())]);
    assert_eq!(bob.decide(&asked.task("u-bob"), "reject").await.status, 201);
    assert_eq!(server.status(&asked.id).await, "rejected");
}

#[tokio::test]
async fn anyone_of_the_tenant_sees_a_request_and_nobody_else() {
    let server = Server::start().await;
    server.policy("p", json!([stage(1, &["u-bob"], json!({}))]), json!({})).await;
    let asked = server.ask("p").await;
    let insider = server.user("nobody-in-particular");
    let outsider = crate::workflow::User(server.person("other", "u-bob", &["AWE_ADMIN"]));
    assert_ne!(TENANT, "other");
    for path in [format!("/requests/{}", asked.id), format!("/requests/{}/events", asked.id)] {
        assert_eq!(insider.get(&path).await.status, 200);
        assert_eq!(refusal(&outsider.get(&path).await), refused(404, "003"));
    }
    for list in ["/requests", "/tasks?assignee=*", &format!("/tasks?request_id={}&assignee=*", asked.id), "/policies"] {
        assert_eq!(outsider.list(list).await, Vec::<Value>::new(), "{list}");
    }
    assert_eq!(refusal(&outsider.decide(&asked.task("u-bob"), "approve").await), refused(404, "004"));
    assert_eq!(refusal(&outsider.post("/requests", &request("p", json!({}))).await), refused(404, "001"));
    assert_eq!(outsider.post("/policies", &crate::workflow::policy("p", json!([]), json!({}))).await.status, 201);
}
