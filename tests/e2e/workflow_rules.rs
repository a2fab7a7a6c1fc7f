//! What makes of decisions, groups, absences and lateness an outcome, as the documented examples have it.

use crate::actions::eventually;
use crate::receiver::{Receiver, Reply};
use crate::server::Server;
use crate::workflow::{Asked, by_name, refusal, refused, request, stage, text, with};
use countersign_testing::fault::Faults;
use serde_json::{Value, json};
use std::time::Duration;

/// A mode with its value, a number of approvers, and decisions with what becomes of the request by them.
type Counted = (&'static str, Option<u32>, usize, &'static [(&'static str, &'static str)]);

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn decisions_are_counted_as_the_mode_of_the_stage_says() {
    let server = Server::start().await;
    let users: Vec<_> = (1..=25).map(|n| format!("u-{n:02}")).collect();
    let users: Vec<_> = users.iter().map(String::as_str).collect();
    // Each letter is a decision: approve, reject or abstain (b); then what has become of the request.
    let table: &[Counted] = &[
        (
            "percentage",
            Some(60),
            5,
            &[("aar", "in_review"), ("aara", "approved"), ("rr", "in_review"), ("rrr", "rejected")],
        ),
        ("percentage", Some(60), 5, &[("bbaa", "in_review"), ("bbaab", "rejected")]),
        ("percentage", Some(50), 3, &[("a", "in_review"), ("aa", "approved")]),
        ("percentage", Some(66), 3, &[("aa", "approved")]),
        ("percentage", Some(67), 3, &[("aa", "in_review"), ("aaa", "approved"), ("r", "rejected")]),
        ("percentage", Some(34), 3, &[("a", "in_review"), ("aa", "approved")]),
        ("percentage", Some(1), 5, &[("a", "approved"), ("rrrr", "in_review"), ("rrrrr", "rejected")]),
        ("percentage", Some(100), 4, &[("aaa", "in_review"), ("aaaa", "approved")]),
        ("percentage", None, 2, &[("a", "in_review"), ("aa", "approved"), ("b", "rejected")]),
        ("percentage", Some(28), 25, &[("aaaaaa", "in_review"), ("aaaaaaa", "approved")]),
        ("any-n", Some(2), 3, &[("ra", "in_review"), ("raa", "approved"), ("rr", "rejected"), ("aa", "approved")]),
        ("any-n", None, 3, &[("a", "approved"), ("rb", "in_review"), ("rba", "approved"), ("rbb", "rejected")]),
        ("quorum", Some(2), 2, &[("a", "in_review"), ("aa", "approved"), ("b", "rejected")]),
        ("all", Some(1), 3, &[("aa", "in_review"), ("aaa", "approved"), ("ar", "rejected"), ("r", "rejected")]),
        ("all", None, 3, &[("aba", "approved"), ("bb", "in_review"), ("bba", "approved"), ("bbb", "rejected")]),
    ];
    for (number, (mode, value, approvers, courses)) in table.iter().enumerate() {
        let key = format!("p{number}");
        let fields = json!({ "mode": mode, "mode_value": value });
        server.policy(&key, json!([stage(1, &users[..*approvers], fields)]), json!({})).await;
        for (course, status) in *courses {
            let asked = server.ask(&key).await;
            for (place, letter) in course.char_indices() {
                assert_eq!(server.status(&asked.id).await, "in_review", "{mode} {value:?}: {}", &course[..place]);
                let action = match letter {
                    'a' => "approve",
                    'r' => "reject",
                    _ => "abstain",
                };
                let decided = server.user(users[place]).decide(&asked.task(users[place]), action).await;
                assert_eq!(decided.status, 201, "{decided:?}");
            }
            assert_eq!(server.status(&asked.id).await, *status, "{mode} {value:?} of {approvers}: {course}");
            server.is_sound(&asked.id).await;
            let skipped = server.standing(&asked.id).await.iter().filter(|(_, status)| status == "skipped").count();
            let left = if *status == "in_review" { 0 } else { approvers - course.len() };
            assert_eq!(skipped, left, "{mode} {value:?} of {approvers}: {course}");
            if *status == "rejected" {
                let last = server.events(&asked.id).await.pop().unwrap();
                assert_eq!(last["payload"]["actor"], users[course.len() - 1], "{last}");
            }
        }
    }
    server.chains_are_whole().await;
}

#[tokio::test]
async fn who_is_required_has_to_approve_whatever_the_others_say() {
    let server = Server::start().await;
    let required = with(by_name("u-carol"), &json!({ "required": true }));
    let fields = json!({ "rules": [by_name("u-alice"), by_name("u-bob"), required], "mode": "any-n" });
    server.policy("p", json!([stage(1, &[], fields)]), json!({})).await;
    for (course, status) in [
        (&[("u-alice", "approve"), ("u-bob", "approve")][..], "in_review"),
        (&[("u-alice", "approve"), ("u-carol", "approve")], "approved"),
        (&[("u-carol", "approve")], "approved"),
        (&[("u-carol", "reject")], "rejected"),
        (&[("u-alice", "approve"), ("u-carol", "abstain")], "rejected"),
        (&[("u-alice", "reject"), ("u-carol", "approve")], "approved"),
    ] {
        let asked = server.ask("p").await;
        for (user, action) in course {
            assert_eq!(server.user(user).decide(&asked.task(user), action).await.status, 201, "{course:?}");
        }
        assert_eq!(server.status(&asked.id).await, status, "{course:?}");
        server.is_sound(&asked.id).await;
    }
    // An administrator who decides for them has decided for them.
    let asked = server.ask("p").await;
    assert_eq!(server.root().decide(&asked.task("u-carol"), "approve").await.status, 201);
    assert_eq!(server.status(&asked.id).await, "approved");
}

#[tokio::test]
async fn the_stages_of_a_group_run_together_and_the_next_waits_for_all_of_them() {
    let server = Server::start().await;
    let together = json!({ "parallel_group": 4 });
    let skipped = with(together.clone(), &json!({ "skip_if": { "!": [{ "var": "third" }] } }));
    let stages = json!([
        stage(10, &["u-last"], json!({})),
        stage(2, &["u-bob"], together.clone()),
        stage(3, &["u-carol"], together),
        stage(5, &["u-dora"], skipped),
        stage(1, &["u-first"], json!({})),
    ]);
    server.policy("p", stages, json!({})).await;
    let asked = server.ask("p").await;
    assert_eq!(asked.assignees(), ["u-first"]);
    assert_eq!(server.answer(&asked.id, "u-first", "approve").await.status, 201);
    let shown = server.root().get(&format!("/requests/{}", asked.id)).await.json();
    assert_eq!(shown["current_stage_order"], 2);
    assert_eq!(server.answer(&asked.id, "u-carol", "approve").await.status, 201);
    let shown = server.root().get(&format!("/requests/{}", asked.id)).await.json();
    assert_eq!((&shown["status"], &shown["current_stage_order"]), (&json!("in_review"), &json!(2)));
    assert_eq!(server.answer(&asked.id, "u-bob", "approve").await.status, 201);
    assert_eq!(server.answer(&asked.id, "u-last", "approve").await.status, 201);
    let told = [
        "request_created(1)",
        "stage_started(1)",
        "stage_completed(1)",
        "stage_started(2)",
        "stage_started(3)",
        "stage_skipped(5)",
        "stage_completed(3)",
        "stage_completed(2)",
        "stage_started(10)",
        "stage_completed(10)",
        "request_approved(10)",
    ];
    let mut story = server.story(&asked.id).await;
    // Of a group, what is skipped and what is started is told in either order.
    story[3..6].sort();
    let mut expected = told.map(str::to_owned);
    expected[3..6].sort();
    assert_eq!(story, expected);
    // One reject ends all of them.
    let asked = server.ask_with("p", json!({ "context": { "third": true } })).await;
    assert_eq!(server.answer(&asked.id, "u-first", "approve").await.status, 201);
    assert_eq!(server.answer(&asked.id, "u-dora", "approve").await.status, 201);
    assert_eq!(server.answer(&asked.id, "u-bob", "reject").await.status, 201);
    assert_eq!(server.status(&asked.id).await, "rejected");
    let standing = server.standing(&asked.id).await;
    assert!(standing.contains(&("u-carol".to_owned(), "skipped".to_owned())), "{standing:?}");
    server.is_sound(&asked.id).await;
}

#[tokio::test]
async fn a_group_with_a_stage_that_asks_nobody_opens_no_task() {
    let server = Server::start().await;
    let together = json!({ "parallel_group": 1 });
    server.policy("p", json!([stage(1, &["u-bob"], together.clone()), stage(2, &[], together)]), json!({})).await;
    let asked = server.ask("p").await;
    assert_eq!((asked.status.as_str(), asked.tasks.len()), ("rejected", 0));
    assert_eq!(server.standing(&asked.id).await, []);
    server.is_sound(&asked.id).await;
}

#[tokio::test]
async fn nobody_approves_what_they_have_asked_for_by_any_way() {
    let server = Server::start().await;
    let forbids = json!({ "forbid_self_approval": true });
    server.policy("p", json!([stage(1, &["u-dora", "u-bob", "u-away"], json!({}))]), forbids).await;
    delegate(&server, "u-away", "u-dora").await;
    let asked = server.ask_with("p", json!({ "requester": "u-dora" })).await;
    // The delegate is excluded, so the task stays where it was.
    assert_eq!(asked.assignees(), ["u-bob", "u-away"]);
    assert!(asked.tasks.iter().all(|task| task["delegated_from"].is_null()));
    let refused_to = server.root().reassign(&asked.task("u-bob"), "u-dora").await;
    assert_eq!(refusal(&refused_to), refused(409, "007"));
    let dora = crate::workflow::User(server.person(crate::workflow::TENANT, "u-dora", &["AWE_ADMIN"]));
    assert_eq!(refusal(&dora.decide(&asked.task("u-bob"), "approve").await), refused(403, "008"));
    assert_eq!(server.user("u-bob").decide(&asked.task("u-bob"), "approve").await.status, 201);
    assert_eq!(server.root().decide(&asked.task("u-away"), "approve").await.status, 201);
    assert_eq!(server.status(&asked.id).await, "approved");
    // Where it is not forbidden, it is not.
    server.policy("free", json!([stage(1, &["u-dora"], json!({}))]), json!({})).await;
    let asked = server.ask_with("free", json!({ "requester": "u-dora" })).await;
    assert_eq!(dora.decide(&asked.task("u-dora"), "approve").await.status, 201);
    // If they alone would be asked, nobody is.
    server.policy("alone", json!([stage(1, &["svc"], json!({}))]), json!({ "forbid_self_approval": true })).await;
    assert_eq!(server.ask("alone").await.status, "rejected");
}

#[tokio::test]
async fn nobody_approves_in_two_groups_if_the_policy_forbids_it() {
    let server = Server::start().await;
    let any = json!({ "mode": "any-n" });
    let stages = json!([
        stage(1, &["u-bob", "u-carol"], json!({ "parallel_group": 1 })),
        stage(2, &["u-bob"], json!({ "parallel_group": 1 })),
        stage(3, &["u-bob", "u-carol", "u-dora"], any),
    ]);
    server.policy("p", stages, json!({ "forbid_repeat_approvers": true })).await;
    let asked = server.ask("p").await;
    assert_eq!(asked.tasks.len(), 3, "the stages of a group do not exclude each other");
    for task in &asked.tasks {
        let assignee = text(&task["assignee"]);
        let action = if assignee == "u-carol" { "abstain" } else { "approve" };
        assert_eq!(server.user(&assignee).decide(&text(&task["id"]), action).await.status, 201);
    }
    let standing = server.standing(&asked.id).await;
    let open: Vec<_> = standing.iter().filter(|(_, status)| status == "open").map(|(user, _)| user.as_str()).collect();
    assert_eq!(open, ["u-carol", "u-dora"], "whoever abstained may approve");
    let task = server.task(&asked.id, "u-dora").await;
    assert_eq!(refusal(&server.root().reassign(&task, "u-bob").await), refused(409, "007"));
    let bob = crate::workflow::User(server.person(crate::workflow::TENANT, "u-bob", &["AWE_ADMIN"]));
    assert_eq!(refusal(&bob.decide(&task, "approve").await), refused(403, "008"));
    assert_eq!(server.answer(&asked.id, "u-carol", "approve").await.status, 201);
    assert_eq!(server.status(&asked.id).await, "approved");
}

/// Delegates somebody's tasks for as long as the stories last.
async fn delegate(server: &Server, from: &str, to: &str) {
    let window = json!({
        "user_id": from, "delegate_to": to, "starts_at": "2026-11-21T12:00:00.25", "ends_at": "2026-11-22T12:00:00Z",
    });
    let made = server.root().post("/delegations", &window).await;
    assert_eq!(made.status, 201, "{made:?}");
}

#[tokio::test]
async fn while_a_delegation_is_open_new_tasks_go_to_the_delegate() {
    let server = Server::start().await;
    let observer = with(by_name("u-away"), &json!({ "kind": "observer" }));
    let rules = json!({ "rules": [by_name("u-away"), by_name("u-bob"), observer] });
    server.policy("p", json!([stage(1, &[], rules), stage(2, &["u-away"], json!({}))]), json!({})).await;
    let before = server.ask("p").await;
    assert_eq!(before.assignees(), ["u-away", "u-bob", "u-away"]);
    delegate(&server, "u-away", "u-carol").await;
    // Only one hop.
    delegate(&server, "u-carol", "u-eve").await;
    let asked = server.ask("p").await;
    let shown: Vec<_> =
        asked.tasks.iter().map(|task| (text(&task["assignee"]), task["delegated_from"].clone())).collect();
    let carol = ("u-carol".to_owned(), json!("u-away"));
    assert_eq!(shown, [carol.clone(), ("u-bob".to_owned(), Value::Null), carol]);
    assert_eq!(server.events(&asked.id).await[1]["payload"]["approvers"], json!(["u-carol", "u-bob"]));
    // The one that was made last holds; a delegate who is asked already is asked once.
    delegate(&server, "u-away", "u-bob").await;
    let asked = server.ask("p").await;
    let approvers: Vec<_> = asked.tasks.iter().filter(|task| task["kind"] == "approver").collect();
    assert_eq!((approvers.len(), &approvers[0]["assignee"]), (1, &json!("u-bob")), "{approvers:?}");
    // Later stages look anew, when they begin; tasks of before stay where they are.
    assert_eq!(server.user("u-bob").decide(&before.task("u-bob"), "approve").await.status, 201);
    server.clock.advance(24 * HOUR);
    assert_eq!(server.user("u-away").decide(&before.task("u-away"), "approve").await.status, 201);
    assert_eq!(server.answer(&before.id, "u-away", "approve").await.status, 201, "the delegation is over");
    assert_eq!(server.status(&before.id).await, "approved");
    assert_eq!(server.ask("p").await.assignees(), ["u-away", "u-bob", "u-away"]);
}

/// A request whose stage has a time to keep, and what happens then.
async fn late(server: &Server, key: &str, users: &[&str], fields: Value) -> Asked {
    let fields = with(json!({ "sla_hours": 2 }), &fields);
    server.policy(key, json!([stage(1, users, fields)]), json!({})).await;
    server.ask(key).await
}

async fn until_told(server: &Server, asked: &Asked, story: &[&str]) {
    let story: Vec<_> = story.iter().map(|told| (*told).to_owned()).collect();
    eventually(story, async || server.story(&asked.id).await).await;
    server.is_sound(&asked.id).await;
}

#[tokio::test]
async fn lateness_is_told_once_and_who_is_late_can_still_decide() {
    let server = Server::start().await;
    let asked = late(&server, "p", &["u-bob", "u-carol"], json!({})).await;
    assert_eq!(server.user("u-bob").decide(&asked.task("u-bob"), "approve").await.status, 201);
    server.clock.advance(2 * HOUR);
    let told = ["request_created(1)", "stage_started(1)", "task_expired(1)"];
    until_told(&server, &asked, &told).await;
    let event = server.events(&asked.id).await.pop().unwrap();
    assert_eq!(event["payload"]["task_id"], asked.task("u-carol"));
    assert_eq!(
        (&event["payload"]["assignee"], &event["payload"]["due_at"]),
        (&json!("u-carol"), &json!("2026-11-21T14:00:00.250000Z"))
    );
    // Another that is late later shows that the clock has been by again.
    let other = late(&server, "q", &["u-carol"], json!({ "on_breach": "notify" })).await;
    server.clock.advance(2 * HOUR);
    until_told(&server, &other, &told).await;
    assert_eq!(server.story(&asked.id).await, told);
    assert_eq!(server.user("u-carol").decide(&asked.task("u-carol"), "approve").await.status, 201);
    assert_eq!(server.status(&asked.id).await, "approved");
}

#[tokio::test]
async fn a_late_stage_is_approved_or_rejected_by_itself_if_its_policy_says_so() {
    let server = Server::start().await;
    for (key, fields, status) in [
        ("p", json!({ "on_breach": "auto_approve" }), "approved"),
        ("q", json!({ "on_breach": "auto_approve", "mode": "any-n", "mode_value": 2 }), "approved"),
        ("r", json!({ "on_breach": "auto_reject" }), "rejected"),
        ("s", json!({ "on_breach": "auto_reject", "mode": "percentage", "mode_value": 50 }), "rejected"),
    ] {
        let asked = late(&server, key, &["u-bob", "u-carol"], fields).await;
        server.clock.advance(2 * HOUR);
        let outcome = format!("request_{status}(1)");
        let told = [
            "request_created(1)",
            "stage_started(1)",
            "task_expired(1)",
            "task_expired(1)",
            "stage_completed(1)",
            &outcome,
        ];
        until_told(&server, &asked, &told).await;
        let last = server.events(&asked.id).await.pop().unwrap();
        assert_eq!(last["payload"]["actor"], "sla-monitor");
        let done = server.root().list(&format!("/tasks?request_id={}&assignee=*&status=completed", asked.id)).await;
        assert!(!done.is_empty() && done.iter().all(|task| task["decision_id"].is_string()), "{done:?}");
        assert_eq!(refusal(&server.user("u-bob").decide(&asked.task("u-bob"), "reject").await), refused(409, "007"));
    }
    server.chains_are_whole().await;
}

#[tokio::test]
async fn a_late_stage_asks_others_once() {
    let server = Server::start().await;
    let escalate = json!({ "on_breach": "escalate", "escalation_rules": [by_name("u-bob"), by_name("u-boss"), by_name("u-away")] });
    delegate(&server, "u-away", "u-carol").await;
    let asked = late(&server, "p", &["u-bob"], escalate).await;
    server.clock.advance(2 * HOUR);
    let told = ["request_created(1)", "stage_started(1)", "task_expired(1)", "stage_escalated(1)"];
    until_told(&server, &asked, &told).await;
    let event = server.events(&asked.id).await.pop().unwrap();
    assert_eq!(
        (&event["payload"]["added_approvers"], &event["payload"]["actor"]),
        (&json!(["u-boss", "u-carol"]), &json!("sla-monitor"))
    );
    let expected = [("u-bob", "expired"), ("u-boss", "open"), ("u-carol", "open")];
    assert_eq!(server.standing(&asked.id).await, expected.map(|(user, status)| (user.to_owned(), status.to_owned())));
    assert_eq!(refusal(&server.user("u-bob").decide(&asked.task("u-bob"), "approve").await), refused(409, "007"));
    let boss = &server.root().list(&format!("/tasks?request_id={}&assignee=u-boss", asked.id)).await[0];
    assert_eq!(boss["due_at"], "2026-11-21T16:00:00.250000Z");
    // Once: afterwards lateness is only told.
    server.clock.advance(2 * HOUR);
    until_told(&server, &asked, &[&told[..], &["task_expired(1)", "task_expired(1)"]].concat()).await;
    for user in ["u-boss", "u-carol"] {
        assert_eq!(server.answer(&asked.id, user, "approve").await.status, 201);
    }
    assert_eq!(server.status(&asked.id).await, "approved");
    // With nobody else to ask it is told, and whoever is late may still decide.
    let alone =
        late(&server, "q", &["u-bob"], json!({ "on_breach": "escalate", "escalation_rules": [by_name("u-bob")] }))
            .await;
    server.clock.advance(2 * HOUR);
    until_told(&server, &alone, &told[..3]).await;
    assert_eq!(server.answer(&alone.id, "u-bob", "approve").await.status, 201);
    server.chains_are_whole().await;
}

fn by_role(role: &str) -> Value {
    json!({ "rule_type": "role", "rule_value": { "role": role } })
}

fn by_service(url: &str) -> Value {
    json!({ "rule_type": "http", "rule_value": { "url": url } })
}

#[tokio::test]
async fn without_a_directory_a_role_cannot_be_asked_and_nothing_is_stored() {
    let server = Server::start().await;
    server
        .policy(
            "p",
            json!([stage(1, &["u-bob"], json!({})), stage(2, &[], json!({ "rules": [by_role("r")] }))]),
            json!({}),
        )
        .await;
    server.policy("q", json!([stage(1, &[], json!({ "rules": [by_role("r")] }))]), json!({})).await;
    let made = server.user("svc").post_once("/requests", "k", &request("q", json!({}))).await;
    assert_eq!(refusal(&made), refused(503, "007"));
    assert_eq!(server.root().list("/requests").await, Vec::<Value>::new());
    // The decision that would begin the stage is not taken, and can be taken later.
    let asked = server.ask("p").await;
    assert_eq!(refusal(&server.user("u-bob").decide(&asked.task("u-bob"), "approve").await), refused(503, "007"));
    assert_eq!(server.standing(&asked.id).await, [("u-bob".to_owned(), "open".to_owned())]);
    assert_eq!(server.story(&asked.id).await.len(), 2);
}

#[tokio::test]
async fn roles_and_groups_are_looked_up_in_the_directory_of_the_tenant() {
    let directory = tempfile::NamedTempFile::new().unwrap();
    let table = json!({
        "tenants": { "acme": {
            "roles": { "approver": ["u-ann", "u-bob"], "nobody": [] },
            "clients": { "billing": { "approver": ["u-cem"] } },
            "groups": { "/finance/leads": ["u-bob", "u-dan"] },
        } },
        "default": { "roles": { "approver": ["u-stranger"] } },
    });
    std::fs::write(directory.path(), table.to_string()).unwrap();
    let path = directory.path().to_str().unwrap();
    let server = Server::with(Faults::none(), 0, &[("COUNTERSIGN_DIRECTORY", path)]).await;
    let of_client = json!({ "rule_type": "role", "rule_value": { "role": "approver", "client": "billing" } });
    let group = json!({ "rule_type": "group", "rule_value": { "group": "/finance/leads" }, "required": true });
    let rules = json!({ "rules": [by_role("approver"), of_client, group, by_role("unknown")] });
    server.policy("p", json!([stage(1, &[], rules)]), json!({})).await;
    let asked = server.ask("p").await;
    assert_eq!(asked.assignees(), ["u-ann", "u-bob", "u-cem", "u-dan"]);
    assert_eq!(server.events(&asked.id).await[1]["payload"]["required_approvers"], json!(["u-bob", "u-dan"]));
    let simulated = server.viewer().post("/policies/p/versions/1/simulate", &json!({})).await.json();
    assert_eq!(simulated["stages"][0]["resolved_approvers"], json!(["u-ann", "u-bob", "u-cem", "u-dan"]));
    server
        .policy("q", json!([stage(1, &[], json!({ "rules": [by_role("nobody"), by_role("unknown")] }))]), json!({}))
        .await;
    assert_eq!(server.ask("q").await.status, "rejected", "a role that nobody has asks nobody");
}

#[tokio::test]
async fn a_service_is_told_the_context_and_says_who_is_asked() {
    let server = Server::start().await;
    let service = Receiver::start().await;
    let stages =
        json!([stage(1, &["u-bob"], json!({})), stage(2, &[], json!({ "rules": [by_service(&service.url)] }))]);
    server.policy("p", stages, json!({})).await;
    let context = json!({ "context": { "amount": 5 } });
    let asked = server.ask_with("p", context.clone()).await;
    let bob = server.user("u-bob");
    let long = "u".repeat(129);
    for reply in [
        Reply::With(500, Vec::new()),
        Reply::With(302, vec![("location", "/")]),
        Reply::With(200, Vec::new()),
        Reply::Json(json!([])),
        Reply::Json(json!({ "user_ids": "u-carol" })),
        Reply::Json(json!({ "user_ids": [1] })),
        Reply::Json(json!({ "user_ids": [""] })),
        Reply::Json(json!({ "user_ids": [long] })),
    ] {
        service.answers(reply);
        assert_eq!(refusal(&bob.decide(&asked.task("u-bob"), "approve").await), refused(503, "007"));
        assert_eq!(server.standing(&asked.id).await, [("u-bob".to_owned(), "open".to_owned())]);
        let simulated = server.viewer().post("/policies/p/versions/1/simulate", &context).await;
        assert_eq!(refusal(&simulated), refused(503, "007"));
    }
    assert_eq!(server.story(&asked.id).await.len(), 2, "nothing was stored");
    service.answers(Reply::Json(json!({ "user_ids": ["u-carol", "u-dora", "u-carol"], "more": 1 })));
    assert_eq!(bob.decide(&asked.task("u-bob"), "approve").await.status, 201);
    assert!(service.all().iter().all(|asked| asked.json() == context), "{:?}", service.all());
    let open = server.root().list(&format!("/tasks?request_id={}&assignee=*&status=open", asked.id)).await;
    assert_eq!(open.len(), 2);
    for user in ["u-carol", "u-dora"] {
        assert_eq!(server.answer(&asked.id, user, "approve").await.status, 201);
    }
    assert_eq!(server.status(&asked.id).await, "approved");
    service.answers(Reply::Json(json!({ "user_ids": [] })));
    let asked = server.ask("p").await;
    assert_eq!(bob.decide(&asked.task("u-bob"), "approve").await.status, 201);
    assert_eq!(server.status(&asked.id).await, "rejected", "nobody is asked, so it is blocked");
    server.chains_are_whole().await;
}

#[tokio::test]
async fn an_escalation_whose_service_is_away_is_made_up_for_when_it_is_back() {
    let server = Server::start().await;
    let service = Receiver::start().await;
    service.answers(Reply::With(503, Vec::new()));
    let escalate = json!({ "on_breach": "escalate", "escalation_rules": [by_service(&service.url)] });
    let asked = late(&server, "p", &["u-bob"], escalate).await;
    server.clock.advance(2 * HOUR);
    service.after(1).await;
    assert_eq!(server.status(&asked.id).await, "in_review");
    service.answers(Reply::Json(json!({ "user_ids": ["u-boss"] })));
    // However long it was away, the clock comes back to it.
    eventually(true, async || {
        server.clock.advance(Duration::from_secs(60));
        server.story(&asked.id).await.iter().any(|told| told == "stage_escalated(1)")
    })
    .await;
    server.is_sound(&asked.id).await;
}
