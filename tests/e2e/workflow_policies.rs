//! Policies: from draft to active to archived, what may not be written, and who would be asked.

use crate::server::Server;
use crate::workflow::{by_name, locs, policy, refusal, refused, request, stage, text, with};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// The numbers and statuses of a policy's versions, newest first.
async fn versions(server: &Server, key: &str) -> Vec<(u64, String)> {
    let listed = server.viewer().list(&format!("/policies/{key}/versions")).await;
    listed.iter().map(|version| (version["version"].as_u64().unwrap(), text(&version["status"]))).collect()
}

fn numbered(pairs: &[(u64, &str)]) -> Vec<(u64, String)> {
    pairs.iter().map(|(number, status)| (*number, (*status).to_owned())).collect()
}

#[tokio::test]
async fn a_policy_is_shown_as_it_was_written_with_ids_and_what_was_left_out() {
    let server = Server::start().await;
    let observer = json!({ "rule_type": "expression", "rule_value": { "logic": { "var": "x" } }, "kind": "observer" });
    let full = json!({
        "name": "second", "stage_order": 20, "mode": "PERCENTAGE", "mode_value": 100, "sla_hours": 2_147_483_647,
        "skip_if": { "==": [{ "var": "a" }, 1] }, "on_empty": "skip", "parallel_group": -7, "on_breach": "escalate",
        "escalation_rules": [by_name("u-boss")], "rules": [with(by_name("u-bob"), &json!({ "required": true })), observer],
    });
    let fields = json!({ "description": "d", "forbid_self_approval": true });
    let body = policy("registry.change_request.v1", json!([full, { "name": "first", "stage_order": 3 }]), fields);
    let made = server.root().post("/policies", &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let rule = |rule_type: &str, value: Value, kind: &str, required: bool, id: &Value| json!({ "rule_type": rule_type, "rule_value": value, "kind": kind, "required": required, "id": id });
    let (first, second) = (&made["stages"][0], &made["stages"][1]);
    let escalation = format!("esc-{}-0", text(&second["id"]));
    let expected = json!({
        "id": made["id"], "policy_key": "registry.change_request.v1", "version": 1, "name": "A policy",
        "description": "d", "status": "draft", "artifact_type": "change", "forbid_self_approval": true,
        "forbid_repeat_approvers": false, "created_by": "root", "created_at": "2026-11-21T12:00:00.250000Z",
        "updated_at": "2026-11-21T12:00:00.250000Z",
        "stages": [
            {
                "name": "first", "stage_order": 3, "mode": "all", "mode_value": null, "sla_hours": null,
                "skip_if": null, "on_empty": "block", "parallel_group": null, "on_breach": null,
                "escalation_rules": [], "rules": [], "id": first["id"],
            },
            {
                "name": "second", "stage_order": 20, "mode": "percentage", "mode_value": 100,
                "sla_hours": 2_147_483_647, "skip_if": { "==": [{ "var": "a" }, 1] }, "on_empty": "skip",
                "parallel_group": -7, "on_breach": "escalate",
                "escalation_rules": [rule("user", json!({ "user_id": "u-boss" }), "approver", false, &json!(escalation))],
                "rules": [
                    rule("user", json!({ "user_id": "u-bob" }), "approver", true, &second["rules"][0]["id"]),
                    rule("expression", json!({ "logic": { "var": "x" } }), "observer", false, &second["rules"][1]["id"]),
                ],
                "id": second["id"],
            },
        ],
    });
    assert_eq!(made, expected);
    for id in [&made["id"], &first["id"], &second["id"], &second["rules"][0]["id"]] {
        assert_eq!(text(id).len(), 36);
    }
    assert_eq!(server.viewer().get("/policies/registry.change_request.v1/versions/1").await.json(), made);
    assert_eq!(server.viewer().list("/policies").await, std::slice::from_ref(&made));
    let version = json!({
        "id": made["id"], "policy_key": "registry.change_request.v1", "version": 1, "status": "draft",
        "created_at": "2026-11-21T12:00:00.250000Z",
    });
    assert_eq!(server.viewer().list("/policies/registry.change_request.v1/versions").await, [version]);
}

#[tokio::test]
async fn versions_are_drafted_activated_archived_and_activated_again() {
    let server = Server::start().await;
    let root = server.root();
    let body = |name: &str| policy("p", json!([]), json!({ "name": name }));
    let order = async |path: &str| root.order(&format!("/policies/p/versions/{path}")).await;
    assert_eq!(root.post("/policies", &body("one")).await.status, 201);
    // The key is taken by a draft already.
    assert_eq!(refusal(&root.post("/policies", &body("again")).await), refused(409, "002"));
    for name in ["two", "three"] {
        let added = root.send(Method::PUT, "/policies/p", &body(name)).await;
        assert_eq!((added.status, &added.json()["status"]), (201, &json!("draft")));
    }
    assert_eq!(versions(&server, "p").await, numbered(&[(3, "draft"), (2, "draft"), (1, "draft")]));
    assert_eq!(refusal(&server.user("svc").post("/requests", &request("p", json!({}))).await), refused(404, "001"));
    assert_eq!(refusal(&order("1/deactivate").await), refused(409, "007"), "it is not active");

    let activated = order("1/activate").await;
    assert_eq!(
        (activated.status, &activated.json()["status"], &activated.json()["name"]),
        (200, &json!("active"), &json!("one"))
    );
    assert_eq!(order("1/activate").await.json(), activated.json(), "it is active already");
    assert_eq!(order("3/activate").await.status, 200);
    assert_eq!(versions(&server, "p").await, numbered(&[(3, "active"), (2, "draft"), (1, "archived")]));
    for number in [1, 3] {
        let edited = root.send(Method::PATCH, &format!("/policies/p/versions/{number}"), &body("edited")).await;
        assert_eq!(refusal(&edited), refused(409, "007"), "it was released");
    }
    assert_eq!(order("1/activate").await.status, 200, "back to the old one");
    assert_eq!(versions(&server, "p").await, numbered(&[(3, "archived"), (2, "draft"), (1, "active")]));
    let deactivated = order("1/deactivate").await;
    assert_eq!((deactivated.status, &deactivated.json()["status"]), (200, &json!("archived")));
    assert_eq!(refusal(&order("1/deactivate").await), refused(409, "007"));
    assert_eq!(refusal(&server.user("svc").post("/requests", &request("p", json!({}))).await), refused(404, "001"));
    assert_eq!(refusal(&root.post("/policies", &body("again")).await), refused(409, "002"), "archived counts, too");

    // The list has the newest of each key, whatever its status, by key.
    root.post("/policies", &policy("b", json!([]), json!({}))).await;
    let listed = server.viewer().list("/policies").await;
    let shown: Vec<_> = listed.iter().map(|one| (text(&one["policy_key"]), one["version"].clone())).collect();
    assert_eq!(shown, [("b".to_owned(), json!(1)), ("p".to_owned(), json!(3))]);
}

#[tokio::test]
async fn a_list_of_policies_that_is_too_large_for_one_answer_says_where_it_goes_on() {
    let server = Server::start().await;
    let large = with(by_name("u-ann"), &json!({ "rule_value": { "user_id": "u-ann", "note": "x".repeat(230_000) } }));
    let stages = json!([with(stage(1, &[], json!({})), &json!({ "rules": [large] }))]);
    let keys: Vec<String> = (10..30).map(|number| format!("p-{number}")).collect();
    for key in keys.iter().rev() {
        let made = server.root().post("/policies", &policy(key, stages.clone(), json!({}))).await;
        assert_eq!(made.status, 201, "{key}");
    }
    let (mut listed, mut pages, mut path) = (Vec::new(), 0, "/policies?unknown=1".to_owned());
    loop {
        let page = server.viewer().get(&path).await;
        listed.extend(page.json().as_array().unwrap().iter().map(|one| text(&one["policy_key"])));
        pages += 1;
        assert!(page.text.len() < 4_000_100, "{}", page.text.len());
        let Some(link) = page.header("link") else { break };
        path = link.strip_prefix("</v1/awe").unwrap().strip_suffix(r#">; rel="next""#).unwrap().to_owned();
    }
    assert_eq!((listed, pages), (keys, 2));
    let beyond = server.viewer().get("/policies?offset=20").await;
    assert_eq!((beyond.text.as_str(), beyond.header("link")), ("[]", None));
}

#[tokio::test]
async fn a_draft_is_replaced_as_a_whole_by_whoever_edits_it() {
    let server = Server::start().await;
    let root = server.root();
    let one = stage(1, &["u-bob"], json!({}));
    let made = root.post("/policies", &policy("p", json!([one]), json!({ "description": "d" }))).await.json();
    server.clock.advance(Duration::from_secs(1));
    let editor = crate::workflow::User(server.person(crate::workflow::TENANT, "editor", &["AWE_ADMIN"]));
    let body = policy("p", json!([one]), json!({}));
    let edited = editor.send(Method::PATCH, "/policies/p/versions/1", &body).await;
    assert_eq!(edited.status, 200, "{edited:?}");
    let edited = edited.json();
    assert_eq!((&edited["id"], &edited["version"], &edited["status"]), (&made["id"], &json!(1), &json!("draft")));
    assert_eq!((&edited["description"], &edited["created_by"]), (&Value::Null, &json!("editor")));
    assert_eq!(edited["created_at"], made["created_at"]);
    assert_eq!(edited["updated_at"], "2026-11-21T12:00:01.250000Z");
    assert_ne!(edited["stages"][0]["id"], made["stages"][0]["id"]);
    assert_ne!(edited["stages"][0]["rules"][0]["id"], made["stages"][0]["rules"][0]["id"]);
    let emptied = root.send(Method::PATCH, "/policies/p/versions/1", &policy("p", json!([]), json!({}))).await.json();
    assert_eq!(emptied["stages"], json!([]));
    assert_eq!(server.viewer().get("/policies/p/versions/1").await.json(), emptied);
    let incomplete = root.send(Method::PATCH, "/policies/p/versions/1", &json!({ "policy_key": "p" })).await;
    assert_eq!(locs(&incomplete), [json!(["body", "name"]), json!(["body", "artifact_type"])]);
}

#[tokio::test]
async fn a_key_that_is_not_that_of_the_url_is_told_before_anything_is_looked_up() {
    let server = Server::start().await;
    server.policy("p", json!([]), json!({})).await;
    for key in ["p", "none"] {
        let body = policy("other", json!([]), json!({}));
        let added = server.root().send(Method::PUT, &format!("/policies/{key}"), &body).await;
        assert_eq!(refusal(&added), refused(400, "010"), "{key}");
        for version in [1, 9] {
            let path = format!("/policies/{key}/versions/{version}");
            let edited = server.root().send(Method::PATCH, &path, &body).await;
            assert_eq!(refusal(&edited), refused(400, "010"), "{path}");
        }
    }
    let key = "a/b#c%d é";
    let made = server.root().post("/policies", &policy(key, json!([]), json!({}))).await;
    assert_eq!(made.status, 201, "{made:?}");
    let path = "/policies/a%2Fb%23c%25d%20%C3%A9";
    assert_eq!(server.viewer().get(&format!("{path}/versions/1")).await.json(), made.json());
    assert_eq!(server.root().send(Method::PUT, path, &policy(key, json!([]), json!({}))).await.status, 201);
    assert_eq!(server.root().order(&format!("{path}/versions/2/activate")).await.status, 200);
    assert_eq!(server.ask(key).await.status, "approved");
}

#[tokio::test]
async fn what_makes_no_policy_is_refused_wherever_it_is_written() {
    let server = Server::start().await;
    let root = server.root();
    assert_eq!(root.post("/policies", &policy("p", json!([]), json!({}))).await.status, 201);
    let before = root.get("/policies").await.text;
    let of = |fields: Value| json!([stage(1, &["u-bob"], fields)]);
    let rule = |rule: Value| of(json!({ "rules": [by_name("u-bob"), rule] }));
    let value = |rule_type: &str, value: Value| rule(json!({ "rule_type": rule_type, "rule_value": value }));
    let at = |field: &str| json!(["body", "stages", 0, field]);
    let in_rule = |field: &str| json!(["body", "stages", 0, "rules", 1, field]);
    let in_value = |field: &str| json!(["body", "stages", 0, "rules", 1, "rule_value", field]);
    let long = "😀".repeat(256);
    for (stages, loc) in [
        (json!({}), json!(["body", "stages"])),
        (json!(null), json!(["body", "stages"])),
        (json!([stage(1, &[], json!({})), 5]), json!(["body", "stages", 1])),
        (json!([{ "stage_order": 1 }]), at("name")),
        (json!([{ "name": "n" }]), at("stage_order")),
        (of(json!({ "name": 1 })), at("name")),
        (of(json!({ "name": long })), at("name")),
        (of(json!({ "stage_order": 0 })), at("stage_order")),
        (of(json!({ "stage_order": -1 })), at("stage_order")),
        (of(json!({ "stage_order": 1.5 })), at("stage_order")),
        (of(json!({ "stage_order": "1" })), at("stage_order")),
        (of(json!({ "stage_order": 2_147_483_648_u32 })), at("stage_order")),
        (of(json!({ "mode": "some" })), at("mode")),
        (of(json!({ "mode": null })), at("mode")),
        (of(json!({ "mode": 1 })), at("mode")),
        (of(json!({ "mode_value": 0 })), at("mode_value")),
        (of(json!({ "mode_value": "2" })), at("mode_value")),
        (of(json!({ "mode_value": 1_000_000_000_000_u64 })), at("mode_value")),
        (of(json!({ "mode": "percentage", "mode_value": 101 })), at("mode_value")),
        (of(json!({ "sla_hours": 0 })), at("sla_hours")),
        (of(json!({ "sla_hours": true })), at("sla_hours")),
        (of(json!({ "skip_if": true })), at("skip_if")),
        (of(json!({ "skip_if": [] })), at("skip_if")),
        (of(json!({ "skip_if": { "==": [1, 1], "!=": [1, 1] } })), at("skip_if")),
        (of(json!({ "skip_if": { "!": { "a": 1, "b": 2 } } })), at("skip_if")),
        (of(json!({ "skip_if": { "method": ["x", "__class__"] } })), at("skip_if")),
        (of(json!({ "skip_if": { "nope": [] } })), at("skip_if")),
        (of(json!({ "on_empty": "wait" })), at("on_empty")),
        (of(json!({ "on_empty": null })), at("on_empty")),
        (of(json!({ "parallel_group": "a" })), at("parallel_group")),
        (of(json!({ "parallel_group": 2_147_483_648_i64 })), at("parallel_group")),
        (of(json!({ "on_breach": "explode" })), at("on_breach")),
        (of(json!({ "rules": {} })), at("rules")),
        (of(json!({ "rules": null })), at("rules")),
        (of(json!({ "escalation_rules": "x" })), at("escalation_rules")),
        (rule(json!("u-bob")), json!(["body", "stages", 0, "rules", 1])),
        (rule(json!({ "rule_value": {} })), in_rule("rule_type")),
        (rule(json!({ "rule_type": "user" })), in_rule("rule_value")),
        (value("users", json!({})), in_rule("rule_type")),
        (value("User", json!({ "user_id": "a" })), in_rule("rule_type")),
        (value("user", json!("a")), in_rule("rule_value")),
        (rule(with(by_name("a"), &json!({ "kind": "watcher" }))), in_rule("kind")),
        (rule(with(by_name("a"), &json!({ "required": "yes" }))), in_rule("required")),
        (value("user", json!({})), in_value("user_id")),
        (value("user", json!({ "user_id": "" })), in_value("user_id")),
        (value("user", json!({ "user_id": 5 })), in_value("user_id")),
        (value("user", json!({ "user_id": "a".repeat(129) })), in_value("user_id")),
        (value("role", json!({ "client": "c" })), in_value("role")),
        (value("role", json!({ "role": "r", "client": 1 })), in_value("client")),
        (value("group", json!({ "path": "/a" })), in_value("group")),
        (value("group", json!({ "group": "" })), in_value("group")),
        (value("expression", json!({})), in_value("logic")),
        (value("expression", json!({ "logic": { "a": 1, "b": 2 } })), in_value("logic")),
        (value("http", json!({})), in_value("url")),
        (value("http", json!({ "url": "" })), in_value("url")),
        (
            json!([
                stage(1, &[], json!({})),
                stage(2, &[], json!({ "escalation_rules": [{ "rule_type": "user", "rule_value": {} }] }))
            ]),
            json!(["body", "stages", 1, "escalation_rules", 0, "rule_value", "user_id"]),
        ),
    ] {
        let body = policy("p", stages.clone(), json!({}));
        for (method, path) in
            [(Method::POST, "/policies"), (Method::PUT, "/policies/p"), (Method::PATCH, "/policies/p/versions/1")]
        {
            let answer = root.send(method, path, &body).await;
            assert_eq!(locs(&answer), std::slice::from_ref(&loc), "{stages}");
        }
    }
    for (fields, field) in [
        (json!({ "policy_key": "a".repeat(129) }), "policy_key"),
        (json!({ "policy_key": "a\u{0}" }), "policy_key"),
        (json!({ "name": long }), "name"),
        (json!({ "name": null }), "name"),
        (json!({ "description": "a".repeat(1025) }), "description"),
        (json!({ "description": 1 }), "description"),
        (json!({ "artifact_type": "a".repeat(129) }), "artifact_type"),
        (json!({ "forbid_self_approval": 1 }), "forbid_self_approval"),
        (json!({ "forbid_repeat_approvers": "true" }), "forbid_repeat_approvers"),
        (json!({ "forbid_repeat_approvers": null }), "forbid_repeat_approvers"),
    ] {
        let answer = root.post("/policies", &policy("q", json!([]), fields.clone())).await;
        assert_eq!(locs(&answer), [json!(["body", field])], "{fields}");
    }
    let group = |order: u32, group: Value| stage(order, &["u-bob"], json!({ "parallel_group": group }));
    for stages in [
        // Two at one place, wherever they stand in the body.
        json!([stage(1, &[], json!({})), stage(2, &[], json!({})), stage(1, &[], json!({}))]),
        // A group whose members are not neighbours.
        json!([group(1, json!(7)), group(2, json!(null)), group(3, json!(7))]),
        json!([group(1, json!(7)), group(3, json!(7)), group(2, json!(8))]),
    ] {
        let body = policy("p", stages.clone(), json!({}));
        for (method, path) in
            [(Method::POST, "/policies"), (Method::PUT, "/policies/p"), (Method::PATCH, "/policies/p/versions/1")]
        {
            assert_eq!(refusal(&root.send(method, path, &body).await), refused(400, "010"), "{stages}");
        }
    }
    assert_eq!(root.get("/policies").await.text, before, "nothing was stored");
    // What is just within.
    let stages = json!([
        group(1, json!(7)),
        group(9, json!(7)),
        stage(10, &[], json!({ "mode": "any-n", "mode_value": 101, "skip_if": {} }))
    ]);
    let fields = json!({ "name": "😀".repeat(255), "description": "😀".repeat(1024) });
    assert_eq!(root.post("/policies", &policy(&"k".repeat(128), stages, fields)).await.status, 201);
}

#[tokio::test]
async fn a_service_that_may_not_be_called_makes_no_policy() {
    let server = Server::start().await;
    let root = server.root();
    for url in [
        "http://8.8.8.8/users",
        "https://10.0.0.1/users",
        "https://169.254.169.254/latest",
        "https://[::1]/users",
        "ftp://example.com/",
        "file:///etc/passwd",
        "users",
        "https://user:password@example.com/",
    ] {
        let http = json!({ "rule_type": "http", "rule_value": { "url": url } });
        for list in ["rules", "escalation_rules"] {
            let made =
                root.post("/policies", &policy("p", json!([stage(1, &[], json!({ list: [http] }))]), json!({}))).await;
            assert_eq!(refusal(&made), refused(400, "010"), "{url}");
        }
    }
    assert_eq!(root.list("/policies").await, Vec::<Value>::new());
}

#[tokio::test]
async fn it_is_shown_who_would_be_asked_for_a_context_and_nothing_is_written() {
    let server = Server::start().await;
    let observer = with(by_name("u-olga"), &json!({ "kind": "observer" }));
    let of_context = json!({ "rule_type": "expression", "rule_value": { "logic": { "var": "owner" } } });
    let skip = json!({ "skip_if": { "<": [{ "var": "amount" }, 100] }, "mode": "any-n", "mode_value": 2 });
    let stages = json!([
        stage(7, &["u-bob", "u-bob"], skip),
        stage(3, &[], json!({ "rules": [of_context, by_name("u-alice"), observer] })),
    ]);
    let body = policy("p", stages, json!({ "forbid_self_approval": true }));
    let id = server.root().post("/policies", &body).await.json()["id"].clone();
    let before = server.table.dump("countersign").await;
    let simulate = async |body: Value| server.viewer().post("/policies/p/versions/1/simulate", &body).await;
    let shown = simulate(json!({ "context": { "amount": 200, "owner": "viewer" } })).await;
    let expected = json!({
        "policy_id": id, "policy_version": 1,
        "stages": [
            {
                "stage_order": 3, "name": "stage 3", "mode": "all", "mode_value": null,
                "resolved_approvers": ["viewer", "u-alice"], "skipped": false, "skip_reason": null,
            },
            {
                "stage_order": 7, "name": "stage 7", "mode": "any-n", "mode_value": 2,
                "resolved_approvers": ["u-bob"], "skipped": false, "skip_reason": null,
            },
        ],
    });
    assert_eq!((shown.status, shown.json()), (200, expected));
    let skipped = simulate(json!({ "context": { "amount": 99, "owner": ["a", "", "b", "a"] } })).await.json();
    assert_eq!(skipped["stages"][0]["resolved_approvers"], json!(["a", "b", "u-alice"]));
    assert_eq!(
        (&skipped["stages"][1]["skipped"], &skipped["stages"][1]["skip_reason"]),
        (&json!(true), &json!("skip_if"))
    );
    // Nothing is less than 100 that is not there.
    assert_eq!(simulate(json!({})).await.json()["stages"][1]["skipped"], false);
    assert_eq!(locs(&simulate(json!({ "context": [] })).await), [json!(["body", "context"])]);
    assert_eq!(server.table.dump("countersign").await, before);
    let role = json!({ "rule_type": "role", "rule_value": { "role": "approver" } });
    let body = policy("p", json!([stage(1, &[], json!({ "rules": [role] }))]), json!({}));
    assert_eq!(server.root().send(Method::PUT, "/policies/p", &body).await.status, 201);
    let unknown = server.viewer().post("/policies/p/versions/2/simulate", &json!({})).await;
    assert_eq!(refusal(&unknown), refused(503, "007"));
    assert!(unknown.json()["errors"][0]["message"].as_str().unwrap().starts_with("Resolver failed: "), "{unknown:?}");
}

#[tokio::test]
async fn a_request_keeps_to_the_version_that_it_began_with() {
    let server = Server::start().await;
    server.policy("p", json!([stage(1, &["u-bob"], json!({})), stage(2, &["u-carol"], json!({}))]), json!({})).await;
    let asked = server.ask("p").await;
    let body = policy("p", json!([stage(1, &["u-dora"], json!({}))]), json!({}));
    assert_eq!(server.root().send(Method::PUT, "/policies/p", &body).await.status, 201);
    assert_eq!(server.root().order("/policies/p/versions/2/activate").await.status, 200);
    assert_eq!(server.ask("p").await.assignees(), ["u-dora"]);
    assert_eq!(server.answer(&asked.id, "u-bob", "approve").await.status, 201);
    assert_eq!(server.answer(&asked.id, "u-carol", "approve").await.status, 201);
    let shown = server.root().get(&format!("/requests/{}", asked.id)).await.json();
    assert_eq!((&shown["status"], &shown["policy_version"]), (&json!("approved"), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_simultaneous_activations_one_version_is_active_in_the_end() {
    let server = Server::start().await;
    let root = server.root();
    for round in 0..10 {
        let key = format!("p{round}");
        let body = policy(&key, json!([]), json!({}));
        assert_eq!(root.post("/policies", &body).await.status, 201);
        for _ in 0..7 {
            assert_eq!(root.send(Method::PUT, &format!("/policies/{key}"), &body).await.status, 201);
        }
        let orders: Vec<_> = (0..32).map(|n| format!("/policies/{key}/versions/{}/activate", n % 8 + 1)).collect();
        let answers = join_all(orders.iter().map(|path| root.order(path))).await;
        assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
        let statuses = versions(&server, &key).await;
        let active = statuses.iter().filter(|(_, status)| status == "active").count();
        assert_eq!(active, 1, "{statuses:?}");
        assert!(statuses.iter().all(|(_, status)| status != "draft"), "{statuses:?}");
        assert_eq!(server.ask(&key).await.status, "approved");
    }
    server.chains_are_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_simultaneous_versions_each_has_a_number_of_its_own() {
    let server = Server::start().await;
    let root = server.root();
    let body = policy("p", json!([]), json!({}));
    let made = join_all((0..16).map(|_| root.post("/policies", &body))).await;
    assert_eq!(made.iter().filter(|answer| answer.status == 201).count(), 1);
    assert!(made.iter().filter(|answer| answer.status != 201).all(|answer| refusal(answer) == refused(409, "002")));
    let added = join_all((0..16).map(|_| root.send(Method::PUT, "/policies/p", &body))).await;
    let numbers: BTreeSet<_> = added.iter().map(|answer| answer.json()["version"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (2..=17).collect());
}
