//! What administrators see and set: delegations, and who changed what.

use crate::actions::eventually;
use crate::receiver::{Receiver, Reply};
use crate::server::{Server, send};
use crate::workflow::{TENANT, User, policy, refusal, refused, stage, text, with};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

fn window(fields: Value) -> Value {
    let always = json!({
        "user_id": "u-a", "delegate_to": "u-b", "starts_at": "2026-11-21T00:00:00", "ends_at": "2026-11-22T00:00:00Z",
    });
    with(always, &fields)
}

#[tokio::test]
async fn delegations_are_made_listed_and_deleted() {
    let server = Server::start().await;
    let root = server.root();
    let fields =
        json!({ "starts_at": "2026-11-21T02:00:00.5+02:00", "ends_at": "2026-11-22T00:00:00", "reason": "leave" });
    let made = root.post("/delegations", &window(fields)).await;
    assert_eq!(made.status, 201, "{made:?}");
    let at = "2026-11-21T12:00:00.250000Z";
    let expected = json!({
        "id": made.json()["id"], "user_id": "u-a", "delegate_to": "u-b", "starts_at": "2026-11-21T00:00:00.500000Z",
        "ends_at": "2026-11-22T00:00:00.000000Z", "reason": "leave", "created_by": "root", "created_at": at,
        "updated_at": at,
    });
    assert_eq!(made.json(), expected);
    let mut ids = vec![text(&made.json()["id"])];
    for (user, starts_at) in
        [("u-a", "2026-11-21T05:00:00Z"), ("u-c", "2026-11-21T03:00:00Z"), ("u-a", "2025-01-01T00:00:00Z")]
    {
        let made = root.post("/delegations", &window(json!({ "user_id": user, "starts_at": starts_at }))).await;
        ids.push(text(&made.json()["id"]));
    }
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 4);
    let found = async |query: &str| {
        let listed = server.viewer().list(&format!("/delegations{query}")).await;
        listed.iter().map(|one| text(&one["id"])).collect::<Vec<_>>()
    };
    let of = |places: &[usize]| places.iter().map(|place| ids[*place].clone()).collect::<Vec<_>>();
    for (query, places) in [
        ("", &[1, 2, 0, 3][..]),
        ("?user_id=", &[1, 2, 0, 3]),
        ("?user_id=u-a", &[1, 0, 3]),
        ("?user_id=u-c", &[2]),
        ("?user_id=u-b", &[]),
        ("?limit=2", &[1, 2]),
        ("?user_id=u-a&limit=1", &[1]),
    ] {
        assert_eq!(found(query).await, of(places), "{query}");
    }
    let delete =
        async |user: &User<'_>, id: &str| send(user.request(Method::DELETE, &format!("/delegations/{id}"))).await;
    let stranger = User(server.person("other", "root", &["AWE_ADMIN"]));
    assert_eq!(stranger.list("/delegations").await, Vec::<Value>::new());
    assert_eq!(refusal(&delete(&stranger, &ids[0]).await), refused(404, "004"));
    assert_eq!(refusal(&delete(&server.viewer(), &ids[0]).await), refused(403, "008"));
    let deleted = delete(&root, &ids[0]).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    assert_eq!(refusal(&delete(&root, &ids[0]).await), refused(404, "004"));
    assert_eq!(found("").await, of(&[1, 2, 3]));
    server.chains_are_whole().await;
}

#[tokio::test]
async fn a_deleted_delegation_holds_for_no_new_task_and_leaves_the_old_ones() {
    let server = Server::start().await;
    server.policy("p", json!([stage(1, &["u-a"], json!({}))]), json!({})).await;
    let made = server.root().post("/delegations", &window(json!({}))).await.json();
    let before = server.ask("p").await;
    assert_eq!(before.assignees(), ["u-b"]);
    let path = format!("/delegations/{}", text(&made["id"]));
    assert_eq!(send(server.root().request(Method::DELETE, &path)).await.status, 204);
    assert_eq!(server.ask("p").await.assignees(), ["u-a"]);
    assert_eq!(server.answer(&before.id, "u-b", "approve").await.status, 201);
}

/// Action, actor and resource of the rows of the audit log that a query finds, newest first.
async fn audited(server: &Server, query: &str) -> Vec<(String, String, String)> {
    let rows = server.viewer().list(&format!("/admin/audit{query}")).await;
    rows.iter().map(|row| (text(&row["action"]), text(&row["actor"]), text(&row["resource_id"]))).collect()
}

#[tokio::test]
async fn who_changed_what_is_in_the_audit_log_and_found_by_each_of_it() {
    let server = Server::start().await;
    let receiver = Receiver::start().await;
    receiver.answers(Reply::With(500, Vec::new()));
    let root = server.root();
    let step = || server.clock.advance(Duration::from_secs(1));
    let body = policy("p", json!([stage(1, &["u-bob"], json!({}))]), json!({}));
    root.post("/policies", &body).await;
    step();
    root.send(Method::PUT, "/policies/p", &body).await;
    step();
    let email = json!({ "email": "editor@example.com" });
    let editor = server.token_with(TENANT, "editor", &["AWE_ADMIN"], &email);
    let path = "/v1/awe/policies/p/versions/2";
    assert_eq!(send(server.public(Method::PATCH, path).bearer_auth(&editor).json(&body)).await.status, 200);
    step();
    root.order("/policies/p/versions/2/activate").await;
    step();
    let asked = server.ask_with("p", json!({ "callback_url": receiver.url })).await;
    step();
    let handed = root.reassign(&asked.task("u-bob"), "u-carol").await.json();
    step();
    server.user("u-carol").claim(&text(&handed["id"])).await;
    root.cancel(&asked.id).await;
    step();
    root.order("/policies/p/versions/2/deactivate").await;
    step();
    let delegation = text(&root.post("/delegations", &window(json!({}))).await.json()["id"]);
    step();
    send(root.request(Method::DELETE, &format!("/delegations/{delegation}"))).await;
    step();
    let mut deliveries = Vec::new();
    eventually(true, async || {
        deliveries = server.viewer().list("/admin/deliveries").await;
        deliveries.len() == 4 && deliveries.iter().all(|one| one["attempt"] == 1)
    })
    .await;
    let delivery = text(&deliveries[0]["id"]);
    assert_eq!(root.order(&format!("/admin/deliveries/{delivery}/retry")).await.status, 200);

    let row = |action: &str, actor: &str, resource: &str| (action.to_owned(), actor.to_owned(), resource.to_owned());
    let mut rows = audited(&server, "").await;
    // What was handed over is named by the request or by the task.
    let reassigned = rows.iter_mut().find(|row| row.0 == "task.reassign").unwrap();
    assert!([&asked.id, &asked.task("u-bob")].contains(&&reassigned.2), "{reassigned:?}");
    let handed_over = reassigned.2.clone();
    let expected = [
        row("delivery.retry", "root", &delivery),
        row("delegation.delete", "root", &delegation),
        row("delegation.create", "root", &delegation),
        row("policy.deactivate", "root", "p:v2"),
        row("request.cancel", "root", &asked.id),
        row("task.reassign", "root", &handed_over),
        row("policy.activate", "root", "p:v2"),
        row("policy.update", "editor", "p:v2"),
        row("policy.add_version", "root", "p:v2"),
        row("policy.create", "root", "p:v1"),
    ];
    assert_eq!(rows, expected);
    let shown = server.viewer().list("/admin/audit").await;
    let keys: BTreeSet<_> = shown[0].as_object().unwrap().keys().map(String::as_str).collect();
    let expected_keys = [
        "id",
        "occurred_at",
        "actor",
        "actor_email",
        "action",
        "resource_type",
        "resource_id",
        "summary",
        "before",
        "after",
        "metadata",
    ];
    assert_eq!(keys, BTreeSet::from(expected_keys));
    assert_eq!((&shown[7]["actor_email"], &shown[8]["actor_email"]), (&json!("editor@example.com"), &Value::Null));
    assert_eq!(shown[9]["occurred_at"], "2026-11-21T12:00:00.250000Z");
    let ids: BTreeSet<_> = shown.iter().map(|row| text(&row["id"])).collect();
    assert_eq!((ids.len(), server.viewer().list("/admin/audit").await), (10, shown));
    for (query, places) in [
        ("?actor=editor".to_owned(), &[7][..]),
        ("?actor=nobody".to_owned(), &[]),
        ("?action=policy.activate".to_owned(), &[6]),
        ("?action=policy".to_owned(), &[]),
        ("?resource_type=policy".to_owned(), &[3, 6, 7, 8, 9]),
        ("?resource_type=delegation".to_owned(), &[1, 2]),
        ("?resource_type=delivery".to_owned(), &[0]),
        ("?resource_type=request".to_owned(), &[4]),
        ("?resource_type=task".to_owned(), &[5]),
        ("?resource_type=nonsense".to_owned(), &[]),
        ("?resource_id=p:v2".to_owned(), &[3, 6, 7, 8]),
        ("?resource_id=p:v2&actor=root&action=policy.activate".to_owned(), &[6]),
        (format!("?resource_id={delegation}"), &[1, 2]),
        ("?actor=&action=&resource_type=&resource_id=&limit=1000".to_owned(), &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("?limit=3".to_owned(), &[0, 1, 2]),
        ("?resource_type=policy&limit=2".to_owned(), &[3, 6]),
        ("?since=2026-11-21T12:00:02.25Z&until=2026-11-21T12:00:05.25Z".to_owned(), &[6, 7]),
        ("?until=2026-11-21T12:00:01.25".to_owned(), &[9]),
        ("?since=2026-11-21T14:00:02.25%2B02:00&resource_type=policy".to_owned(), &[3, 6, 7]),
        ("?since=2030-01-01T00:00:00Z".to_owned(), &[]),
    ] {
        let expected: Vec<_> = places.iter().map(|place| expected[*place].clone()).collect();
        assert_eq!(audited(&server, &query).await, expected, "{query}");
    }
    let stranger = User(server.person("other", "viewer", &["AWE_VIEWER"]));
    assert_eq!(stranger.list("/admin/audit").await, Vec::<Value>::new());
    server.chains_are_whole().await;
}

#[tokio::test]
async fn what_was_refused_is_not_in_the_audit_log() {
    let server = Server::start().await;
    let root = server.root();
    server.policy("p", json!([]), json!({})).await;
    let asked = server.ask("p").await;
    let before = audited(&server, "").await;
    assert_eq!(root.post("/policies", &policy("p", json!([]), json!({}))).await.status, 409);
    assert_eq!(root.order("/policies/p/versions/1/activate").await.status, 200, "it is active already");
    assert_eq!(root.cancel(&asked.id).await.status, 409);
    assert_eq!(root.post("/delegations", &window(json!({ "delegate_to": "u-a" }))).await.status, 422);
    assert_eq!(server.viewer().post("/policies/p/versions/1/simulate", &json!({})).await.status, 200);
    assert_eq!(audited(&server, "").await, before);
}
