//! Tasks: whose they are, how they are taken on, decided and handed over.

use crate::server::Server;
use crate::workflow::{ABSENT, Asked, User, by_name, refusal, refused, stage, text, with};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// Two stages of two approvers each; the first one needs one of them.
async fn two_stages(server: &Server) -> Asked {
    let any = json!({ "mode": "any-n" });
    let stages = json!([stage(1, &["u-bob", "u-alice"], any), stage(2, &["u-carol", "u-bob"], json!({}))]);
    server.policy("p", stages, json!({})).await;
    server.ask("p").await
}

/// Assignee, stage and status of the tasks that a query lists.
async fn tasks(user: &User<'_>, query: &str) -> Vec<String> {
    let listed = user.list(&format!("/tasks{query}")).await;
    let mut shown: Vec<_> = listed
        .iter()
        .map(|task| format!("{} {} {}", text(&task["assignee"]), task["stage_order"], text(&task["status"])))
        .collect();
    shown.sort();
    shown
}

#[tokio::test]
async fn tasks_are_found_by_assignee_request_and_status_also_right_after_a_decision() {
    let server = Server::start().await;
    let asked = two_stages(&server).await;
    let (bob, carol) = (server.user("u-bob"), server.user("u-carol"));
    assert_eq!(tasks(&bob, "").await, ["u-bob 1 open"]);
    assert_eq!(tasks(&bob, "?assignee=me").await, ["u-bob 1 open"]);
    assert_eq!(tasks(&carol, "").await, Vec::<String>::new());
    assert_eq!(tasks(&carol, "?assignee=u-bob").await, ["u-bob 1 open"]);
    for everyone in ["?assignee=*", "?assignee=", "?assignee=%2A"] {
        assert_eq!(tasks(&carol, everyone).await, ["u-alice 1 open", "u-bob 1 open"], "{everyone}");
    }
    assert_eq!(bob.claim(&asked.task("u-bob")).await.status, 200);
    assert_eq!(tasks(&bob, "?status=claimed").await, ["u-bob 1 claimed"]);
    assert_eq!(tasks(&bob, "?status=open").await, Vec::<String>::new());
    server.clock.advance(Duration::from_secs(1));
    assert_eq!(bob.decide(&asked.task("u-bob"), "approve").await.status, 201);
    let all = ["u-alice 1 skipped", "u-bob 1 completed", "u-bob 2 open", "u-carol 2 open"];
    let of_request = format!("?request_id={}", asked.id);
    for (query, expected) in [
        ("".to_owned(), &["u-bob 1 completed", "u-bob 2 open"][..]),
        ("?assignee=*".to_owned(), &all),
        ("?assignee=u-alice".to_owned(), &["u-alice 1 skipped"]),
        ("?status=completed".to_owned(), &["u-bob 1 completed"]),
        ("?status=open".to_owned(), &["u-bob 2 open"]),
        ("?status=open&assignee=*".to_owned(), &["u-bob 2 open", "u-carol 2 open"]),
        ("?status=completed&assignee=*".to_owned(), &["u-bob 1 completed"]),
        ("?status=skipped&assignee=*".to_owned(), &["u-alice 1 skipped"]),
        ("?status=&assignee=*".to_owned(), &all),
        ("?status=nonsense&assignee=*".to_owned(), &[]),
        ("?assignee=nobody".to_owned(), &[]),
        (of_request.clone(), &["u-bob 1 completed", "u-bob 2 open"]),
        (format!("{of_request}&assignee=*"), &all),
        (format!("{of_request}&assignee=&status=open"), &["u-bob 2 open", "u-carol 2 open"]),
        (format!("{of_request}&assignee=u-alice&status=skipped"), &["u-alice 1 skipped"]),
        (format!("?request_id={ABSENT}&assignee=*"), &[]),
        ("?request_id=nonsense&assignee=*".to_owned(), &[]),
        ("?request_id=&assignee=*".to_owned(), &all),
    ] {
        assert_eq!(tasks(&bob, &query).await, expected, "{query}");
    }
    // Newest first, in pages.
    for query in ["?assignee=*".to_owned(), format!("{of_request}&assignee=*")] {
        let whole = bob.list(&format!("/tasks{query}")).await;
        let times: Vec<_> = whole.iter().map(|task| text(&task["created_at"])).collect();
        assert!(times.is_sorted_by(|one, next| one >= next), "{times:?}");
        let mut paged = Vec::new();
        for offset in 0..4 {
            paged.extend(bob.list(&format!("/tasks{query}&limit=1&offset={offset}")).await);
        }
        assert_eq!(paged, whole);
        assert_eq!(bob.list(&format!("/tasks{query}&limit=3")).await, whole[..3]);
        assert_eq!(bob.list(&format!("/tasks{query}&offset=4")).await, Vec::<Value>::new());
        let page = bob.get(&format!("/tasks{query}&limit=3")).await;
        let link = page.header("link").unwrap();
        assert!(link.starts_with("</v1/awe/tasks?") && link.ends_with(r#"&offset=3>; rel="next""#), "{link}");
    }
}

#[tokio::test]
async fn the_tasks_of_many_requests_are_listed_together() {
    let server = Server::start().await;
    server.policy("p", json!([stage(1, &["u-bob", "u-alice"], json!({}))]), json!({})).await;
    let mut requests = Vec::new();
    for _ in 0..30 {
        requests.push(server.ask("p").await);
        server.clock.advance(Duration::from_secs(1));
    }
    for asked in &requests[..10] {
        assert_eq!(server.user("u-bob").decide(&asked.task("u-bob"), "approve").await.status, 201);
    }
    for asked in &requests[10..15] {
        assert_eq!(server.root().cancel(&asked.id).await.status, 200);
    }
    let bob = server.user("u-bob");
    for (query, count) in [
        ("", 30),
        ("?status=open", 15),
        ("?status=completed", 10),
        ("?status=skipped", 5),
        ("?assignee=*", 60),
        ("?assignee=*&limit=7", 7),
        ("?assignee=*&status=open", 40),
        ("?assignee=u-alice&status=open", 25),
        ("?assignee=*&status=skipped", 10),
    ] {
        let listed = bob.list(&format!("/tasks{query}")).await;
        assert_eq!(listed.len(), count, "{query}");
        let ids: BTreeSet<_> = listed.iter().map(|task| text(&task["id"])).collect();
        assert_eq!(ids.len(), count, "{query}");
    }
    let newest = bob.list("/tasks?limit=3").await;
    let expected: Vec<_> = requests.iter().rev().take(3).map(|asked| asked.task("u-bob")).collect();
    assert_eq!(newest.iter().map(|task| text(&task["id"])).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_claim_is_a_mark_that_can_be_made_once() {
    let server = Server::start().await;
    let observer = with(by_name("u-olga"), &json!({ "kind": "observer" }));
    let stages =
        json!([stage(1, &[], json!({ "rules": [by_name("u-bob"), by_name("u-alice"), observer], "sla_hours": 1 }))]);
    server.policy("p", stages, json!({})).await;
    let asked = server.ask("p").await;
    let task = asked.task("u-bob");
    server.clock.advance(Duration::from_secs(1));
    assert_eq!(refusal(&server.user("u-alice").claim(&task).await), refused(403, "008"));
    let claimed = server.user("u-bob").claim(&task).await;
    assert_eq!(claimed.status, 200, "{claimed:?}");
    let before = asked.tasks.iter().find(|one| one["assignee"] == "u-bob").unwrap().clone();
    let expected = with(before, &json!({ "status": "claimed", "claimed_at": "2026-11-21T12:00:01.250000Z" }));
    assert_eq!(claimed.json(), expected);
    assert_eq!(refusal(&server.user("u-bob").claim(&task).await), refused(409, "007"));
    assert_eq!(refusal(&server.root().claim(&task).await), refused(409, "007"));
    assert_eq!(server.root().claim(&asked.task("u-alice")).await.status, 200, "an administrator may");
    let olga = server.user("u-olga").claim(&asked.task("u-olga")).await.json();
    assert_eq!(
        (&olga["status"], &olga["kind"], &olga["due_at"]),
        (&json!("claimed"), &json!("observer"), &Value::Null)
    );
    assert_eq!(server.story(&asked.id).await, ["request_created(1)", "stage_started(1)"], "nobody is told");
    assert_eq!(server.user("u-bob").decide(&task, "approve").await.status, 201);
    assert_eq!(refusal(&server.user("u-bob").claim(&task).await), refused(409, "007"));
    // Nothing has to be claimed before it is decided.
    let other = server.ask("p").await;
    assert_eq!(server.user("u-bob").decide(&other.task("u-bob"), "reject").await.status, 201);
    assert_eq!(server.status(&other.id).await, "rejected");
    assert_eq!(refusal(&server.user("u-alice").claim(&other.task("u-alice")).await), refused(409, "007"));
}

#[tokio::test]
async fn a_decision_is_made_once_by_the_assignee_or_an_administrator() {
    let server = Server::start().await;
    server.policy("p", json!([stage(1, &["u-bob", "u-alice", "u-carol"], json!({}))]), json!({})).await;
    let asked = server.ask("p").await;
    let task = asked.task("u-bob");
    assert_eq!(refusal(&server.user("u-alice").decide(&task, "approve").await), refused(403, "008"));
    assert_eq!(refusal(&server.viewer().decide(&task, "approve").await), refused(403, "008"));
    let decided = server.root().decide(&task, "approve").await;
    assert_eq!((decided.status, &decided.json()["actor"]), (201, &json!("root")));
    assert_eq!((&decided.json()["comment"], &decided.json()["attachments_ref"]), (&Value::Null, &Value::Null));
    for user in [server.user("u-bob"), server.root()] {
        for action in ["approve", "reject", "abstain"] {
            assert_eq!(refusal(&user.decide(&task, action).await), refused(409, "007"));
        }
        assert_eq!(refusal(&user.claim(&task).await), refused(409, "007"));
    }
    assert_eq!(refusal(&server.user("u-alice").decide(&task, "approve").await), refused(403, "008"), "403 before 409");
    let listed = server.user("u-bob").list("/tasks").await;
    assert_eq!((&listed[0]["status"], &listed[0]["decision_id"]), (&json!("completed"), &decided.json()["id"]));
    assert_eq!(listed[0]["completed_at"], "2026-11-21T12:00:00.250000Z");
    // The form comes before the task, and the task before its owner.
    let malformed = server.user("u-alice").post(&format!("/tasks/{task}/decision"), &json!({})).await;
    assert_eq!(malformed.status, 422);
    assert_eq!(
        refusal(&server.user("u-alice").decide(&task.replace(&task[30..], "00ffff"), "approve").await),
        refused(404, "004")
    );
    let last = &asked.task("u-carol");
    assert_eq!(server.user("u-alice").decide(&asked.task("u-alice"), "abstain").await.status, 201);
    assert_eq!(server.status(&asked.id).await, "in_review");
    assert_eq!(server.user("u-carol").decide(&last.to_uppercase(), "approve").await.status, 201);
    assert_eq!(server.status(&asked.id).await, "approved");
    assert_eq!(server.story(&asked.id).await.len(), 4, "plain decisions are not told");
    server.is_sound(&asked.id).await;
}

#[tokio::test]
async fn tasks_of_a_stage_that_has_ended_are_refused_as_what_has_become_of_them() {
    let server = Server::start().await;
    let asked = two_stages(&server).await;
    assert_eq!(server.user("u-bob").decide(&asked.task("u-bob"), "approve").await.status, 201);
    let end = async || {
        for assignee in ["u-bob", "u-alice"] {
            let task = asked.task(assignee);
            for user in [server.user(assignee), server.root()] {
                assert_eq!(refusal(&user.decide(&task, "approve").await), refused(409, "007"), "{assignee}");
                assert_eq!(refusal(&user.claim(&task).await), refused(409, "007"), "{assignee}");
            }
            assert_eq!(refusal(&server.root().reassign(&task, "u-new").await), refused(409, "007"), "{assignee}");
            for stranger in [server.user("u-carol"), server.user("mallory")] {
                assert_eq!(refusal(&stranger.decide(&task, "approve").await), refused(403, "008"), "{assignee}");
                assert_eq!(refusal(&stranger.claim(&task).await), refused(403, "008"), "{assignee}");
            }
            let never = format!("{}63", &task[..34]);
            assert_eq!(refusal(&server.user(assignee).decide(&never, "approve").await), refused(404, "004"));
            assert_eq!(refusal(&server.root().reassign(&never, "u-new").await), refused(404, "004"));
        }
    };
    end().await;
    assert_eq!(server.status(&asked.id).await, "in_review");
    assert_eq!(server.answer(&asked.id, "u-carol", "reject").await.status, 201);
    assert_eq!(server.status(&asked.id).await, "rejected");
    end().await;
    server.is_sound(&asked.id).await;
}

#[tokio::test]
async fn a_task_is_handed_over_with_its_place_in_the_count() {
    let server = Server::start().await;
    let required = with(by_name("u-bob"), &json!({ "required": true }));
    let observer = with(by_name("u-olga"), &json!({ "kind": "observer" }));
    let rules = json!({ "rules": [required, by_name("u-alice"), observer], "sla_hours": 2 });
    server.policy("p", json!([stage(1, &[], rules)]), json!({})).await;
    let asked = server.ask("p").await;
    let task = asked.task("u-bob");
    let root = server.root();
    for not_admin in [server.user("u-bob"), server.viewer()] {
        assert_eq!(refusal(&not_admin.reassign(&task, "u-dora").await), refused(403, "008"));
    }
    assert_eq!(refusal(&root.reassign(&task, "u-bob").await), refused(409, "007"), "it is theirs");
    assert_eq!(refusal(&root.reassign(&task, "u-alice").await), refused(409, "007"), "nobody has two votes");
    assert_eq!(server.user("u-bob").claim(&task).await.status, 200);
    server.clock.advance(Duration::from_secs(1));
    let body = json!({ "new_assignee": "u-olga", "reason": "on leave" });
    let handed = root.post(&format!("/tasks/{task}/reassign"), &body).await;
    assert_eq!(handed.status, 200, "an observer may approve, too: {handed:?}");
    let new = handed.json();
    let before = asked.tasks.iter().find(|one| one["assignee"] == "u-bob").unwrap().clone();
    let at = "2026-11-21T12:00:01.250000Z";
    let expected = json!({ "id": new["id"], "assignee": "u-olga", "reassigned_from": "u-bob", "created_at": at });
    assert_eq!(new, with(before, &expected), "the same stage, kind and due time");
    let listed = server.user("u-bob").list("/tasks").await;
    assert_eq!((&listed[0]["status"], &listed[0]["completed_at"]), (&json!("reassigned"), &json!(at)));
    assert_eq!(refusal(&server.user("u-bob").decide(&task, "approve").await), refused(409, "007"));
    assert_eq!(refusal(&root.reassign(&task, "u-eve").await), refused(409, "007"));
    let event = server.events(&asked.id).await.pop().unwrap();
    let payload = json!({
        "request_id": asked.id, "artifact_type": "change", "artifact_id": "cr-1", "status": "in_review",
        "stage_order": 1, "task_id": task, "new_task_id": new["id"], "from": "u-bob", "to": "u-olga",
        "actor": "root", "reason": "on leave",
    });
    assert_eq!((&event["event_type"], &event["payload"]), (&json!("task_reassigned"), &payload));
    // Handed on, and back to the first.
    let again = root.reassign(&text(&new["id"]), "u-dora").await.json();
    let back = root.reassign(&text(&again["id"]), "u-bob").await;
    assert_eq!((back.status, &back.json()["reassigned_from"]), (200, &json!("u-dora")));
    let seen: BTreeSet<_> = server.standing(&asked.id).await.into_iter().collect();
    assert!(seen.contains(&("u-dora".to_owned(), "reassigned".to_owned())), "{seen:?}");
    assert_eq!(server.user("u-alice").decide(&asked.task("u-alice"), "approve").await.status, 201);
    assert_eq!(server.status(&asked.id).await, "in_review", "who is required has not said so");
    assert_eq!(server.user("u-bob").decide(&text(&back.json()["id"]), "approve").await.status, 201);
    assert_eq!(server.status(&asked.id).await, "approved");
    assert_eq!(refusal(&root.reassign(&asked.task("u-olga"), "u-eve").await), refused(409, "007"), "it has ended");
    server.is_sound(&asked.id).await;
    server.chains_are_whole().await;
}

#[tokio::test]
async fn an_observers_task_counts_for_nothing() {
    let server = Server::start().await;
    let observer = with(by_name("u-olga"), &json!({ "kind": "observer", "required": true }));
    let stages = json!([stage(1, &[], json!({ "rules": [by_name("u-bob"), observer] }))]);
    server.policy("p", stages, json!({ "forbid_self_approval": true })).await;
    // Whoever asks may watch.
    let asked = server.ask_with("p", json!({ "requester": "u-olga" })).await;
    let decided = server.user("u-olga").decide(&asked.task("u-olga"), "reject").await;
    assert_eq!(decided.status, 201, "{decided:?}");
    assert_eq!(server.status(&asked.id).await, "in_review");
    assert_eq!(refusal(&server.user("u-olga").decide(&asked.task("u-olga"), "reject").await), refused(409, "007"));
    assert_eq!(server.user("u-bob").decide(&asked.task("u-bob"), "approve").await.status, 201);
    assert_eq!(server.status(&asked.id).await, "approved");
    let started = &server.events(&asked.id).await[1]["payload"];
    assert_eq!((&started["observers"], &started["required_approvers"]), (&json!(["u-olga"]), &json!([])));
}
