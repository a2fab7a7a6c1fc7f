//! Organizations' settings for their agents' actions: written by the operator, followed by every submission.

use crate::actions::{MEDIUM, ORGANIZATION, OTHER_ORGANIZATION, Organization};
use crate::server::{Answer, Server, send};
use countersign_api::Policies;
use reqwest::Method;
use serde_json::{Value, json};

const PATH: &str = "/organizations/7/actions-policy";

async fn put(server: &Server, policy: &Value) -> Answer {
    send(server.request(Method::PUT, PATH).json(policy)).await
}

fn defaults() -> Value {
    json!({
        "auto_approve_below": 30, "approval_ttl_minutes": 1440, "forbid_self_approval": true,
        "base_points": {
            "query": 5, "recommendation": 5, "analysis": 10, "report_generation": 10, "data_access": 20,
            "communication": 30, "api_call": 35, "data_modification": 45, "transaction": 55, "system_operation": 60,
        },
        "indicator_points": {
            "amount_threshold": 10, "bulk_operation": 10, "destructive": 25, "external_transfer": 20,
            "financial_data": 15, "pii_involved": 15, "privileged": 15, "production": 15,
        },
        "rules": [],
    })
}

/// A rule that matches every submission whose `resource` is this word.
fn rule(resource: &str, then: &str, level: Value) -> Value {
    let when = json!({ "==": [{ "var": "resource" }, resource] });
    json!({ "name": format!("{then} {resource}"), "when": when, "then": then, "level": level })
}

impl Organization {
    async fn answer(&self, fields: Value) -> (String, i64, u64) {
        let answer = self.submit(fields).await.ok();
        let decision = answer["decision"].as_str().unwrap().to_owned();
        (decision, answer["risk_score"].as_i64().unwrap(), answer["required_approval_level"].as_u64().unwrap())
    }
}

fn answered(decision: &str, score: i64, level: u64) -> (String, i64, u64) {
    (decision.to_owned(), score, level)
}

#[tokio::test]
async fn settings_are_shown_whole_and_what_is_not_said_is_as_by_default() {
    let server = Server::start().await;
    assert_eq!(server.get(PATH).await.ok(), defaults());
    let whole = json!({
        "auto_approve_below": 0, "approval_ttl_minutes": 525_600, "forbid_self_approval": false,
        "base_points": { "x": -100, "y": 100 }, "indicator_points": {},
        "rules": [
            { "name": "deny", "when": { "in": [{ "var": ["resource", ""] }, ["a", 1.5, null]] }, "then": "deny" },
            { "name": "ask", "when": true, "then": "require_approval", "level": 5 },
            { "name": "allow", "when": { "!": { "var": "x" } }, "then": "allow" },
        ],
    });
    assert_eq!(put(&server, &whole).await.ok(), whole);
    assert_eq!(server.get(PATH).await.ok(), whole);
    let mut partly = defaults();
    partly["approval_ttl_minutes"] = 1.into();
    assert_eq!(put(&server, &json!({ "approval_ttl_minutes": 1, "unknown": [] })).await.ok(), partly);
    assert_eq!(server.get(PATH).await.ok(), partly);
    assert_eq!(put(&server, &json!({})).await.ok(), defaults());
    assert_eq!(server.get("/organizations/8/actions-policy").await.ok(), defaults(), "nobody else's");
}

#[tokio::test]
async fn each_wrong_setting_is_refused_and_changes_nothing() {
    let server = Server::start().await;
    let kept = put(&server, &json!({ "auto_approve_below": 7 })).await.ok();
    let named = |rule: Value| {
        let mut whole = json!({ "name": "n", "when": true, "then": "deny" });
        whole.as_object_mut().unwrap().extend(rule.as_object().unwrap().clone());
        json!({ "rules": [whole] })
    };
    let many_points: serde_json::Map<_, _> = (0..201).map(|n| (format!("p{n}"), json!(1))).collect();
    let nested = (0..65).fold(json!(true), |inner, _| json!({ "!": inner }));
    for wrong in [
        json!({ "auto_approve_below": -1 }),
        json!({ "auto_approve_below": 102 }),
        json!({ "auto_approve_below": "30" }),
        json!({ "auto_approve_below": 30.5 }),
        json!({ "approval_ttl_minutes": 0 }),
        json!({ "approval_ttl_minutes": 525_601 }),
        json!({ "approval_ttl_minutes": 1e300 }),
        json!({ "forbid_self_approval": "yes" }),
        json!({ "forbid_self_approval": 1 }),
        json!({ "base_points": [] }),
        json!({ "base_points": { "x": 101 } }),
        json!({ "base_points": { "x": -101 } }),
        json!({ "base_points": { "x": 1.5 } }),
        json!({ "base_points": { "x": "1" } }),
        json!({ "base_points": { "x": null } }),
        json!({ "base_points": { "": 1 } }),
        json!({ "base_points": { "p".repeat(101): 1 } }),
        json!({ "base_points": many_points }),
        json!({ "indicator_points": { "x": 101 } }),
        json!({ "indicator_points": { "x": -101 } }),
        json!({ "indicator_points": "none" }),
        json!({ "rules": {} }),
        json!({ "rules": vec![rule("x", "deny", json!(null)); 101] }),
        json!({ "rules": ["deny"] }),
        json!({ "rules": [{ "when": true, "then": "deny" }] }),
        json!({ "rules": [{ "name": "n", "then": "deny" }] }),
        json!({ "rules": [{ "name": "n", "when": true }] }),
        named(json!({ "name": "" })),
        named(json!({ "name": "n".repeat(101) })),
        named(json!({ "name": 5 })),
        named(json!({ "then": "maybe" })),
        named(json!({ "then": "Deny" })),
        named(json!({ "then": 1 })),
        named(json!({ "level": 3 })),
        named(json!({ "then": "allow", "level": 1 })),
        named(json!({ "then": "require_approval", "level": 0 })),
        named(json!({ "then": "require_approval", "level": 6 })),
        named(json!({ "then": "require_approval", "level": "3" })),
        named(json!({ "then": "require_approval", "level": 2.5 })),
        named(json!({ "when": { "exec": ["rm"] } })),
        named(json!({ "when": { "and": [true, { "or": [{ "nope": 1 }] }] } })),
        named(json!({ "when": { "==": [1, 1], "!=": [1, 1] } })),
        named(json!({ "when": { "==": [1] } })),
        named(json!({ "when": nested })),
        json!([]),
        json!("x"),
        json!(null),
    ] {
        let refused = put(&server, &wrong).await;
        let start: String = wrong.to_string().chars().take(120).collect();
        assert_eq!(refused.refusal(), (422, "invalid_request".to_owned()), "{start}");
        assert_eq!(server.get(PATH).await.json(), kept, "{start}");
    }
    let unknown = put(&server, &named(json!({ "when": { "exec": 1 } }))).await;
    assert_eq!(
        unknown.json()["details"],
        json!([{ "field": "rules", "message": "has an element that is rule `n`, which there is no operator \"exec\"" }])
    );
    let most: serde_json::Map<_, _> = (0..200).map(|n| (format!("p{n}"), json!(100))).collect();
    let rules = vec![rule("x", "require_approval", json!(1)); 100];
    let least = json!({ "auto_approve_below": 101, "base_points": most, "indicator_points": most, "rules": rules });
    put(&server, &least).await.ok();
}

#[tokio::test]
async fn settings_that_do_not_fit_into_an_item_are_refused_and_not_an_error() {
    let server = Server::start().await;
    // Kept as 1000000000000000.0 each time.
    let long =
        format!(r#"{{"rules":[{{"name":"n","then":"deny","when":{{"in":[1,[1{}]]}}}}]}}"#, ",1e15".repeat(40_000));
    let refused = send(server.request(Method::PUT, PATH).body(long)).await;
    assert_eq!(refused.refusal(), (422, "invalid_request".to_owned()));
    let text = "x".repeat(250_000);
    let largest =
        json!({ "rules": [{ "name": "n", "then": "deny", "when": { "in": [{ "var": "resource" }, text] } }] });
    put(&server, &largest).await.ok();
}

#[tokio::test]
async fn an_organization_is_a_number_in_its_one_spelling() {
    let server = Server::start().await;
    for id in
        ["acme", "07", "+7", "-7", "7.0", "9007199254740992", "%37x", "550e8400-e29b-41d4-a716-446655440000", "%ff"]
    {
        let path = format!("/organizations/{id}/actions-policy");
        assert_eq!(server.get(&path).await.refusal(), (400, "invalid_request".to_owned()), "{id}");
        let put = send(server.request(Method::PUT, &path).json(&json!({}))).await;
        assert_eq!(put.refusal(), (400, "invalid_request".to_owned()), "{id}");
    }
    for id in ["0", "%37", "9007199254740991"] {
        assert_eq!(server.get(&format!("/organizations/{id}/actions-policy")).await.status, 200, "{id}");
    }
    let public = send(server.public(Method::GET, PATH)).await;
    assert_eq!(public.refusal(), (404, "not_found".to_owned()), "the management plane's alone");
    let post = send(server.request(Method::POST, PATH).json(&json!({}))).await;
    assert_eq!((post.status, post.header("allow")), (405, Some("GET,HEAD,PUT")));
}

#[tokio::test]
async fn settings_hold_from_the_next_submission_on_and_for_no_one_else() {
    let org = Organization::new().await;
    let waiting = org.pending().await;
    assert_eq!(org.answer(json!({})).await, answered("pending", 45, 2));
    for (below, decision) in [(46, "allowed"), (45, "pending"), (101, "allowed"), (0, "pending")] {
        org.set_policy(json!({ "auto_approve_below": below })).await;
        assert_eq!(org.answer(json!({})).await, answered(decision, 45, 2), "{below}");
    }
    let riskiest =
        json!({ "action_type": "transaction", "risk_indicators": { "destructive": 1, "external_transfer": 1 } });
    assert_eq!(org.answer(riskiest.clone()).await, answered("pending", 100, 4));
    org.set_policy(json!({ "auto_approve_below": 101 })).await;
    assert_eq!(org.answer(riskiest).await, answered("allowed", 100, 4));
    org.set_policy(json!({ "base_points": { MEDIUM: 100 } })).await;
    assert_eq!(org.answer(json!({})).await, answered("pending", 100, 4));
    // What waits goes on under the settings that it was submitted under.
    assert_eq!(org.status(waiting).await["risk_score"], 45);
    let manager = org.server.token_with(ORGANIZATION, "9", &["manager"], &json!({ "approval_level": 2 }));
    assert_eq!(org.act(&manager, waiting, "approve").await.status, 200);

    let elsewhere = org.server.key(OTHER_ORGANIZATION, &["actions:submit"]).await;
    let body = json!({ "agent_id": "bot", "action_type": MEDIUM });
    assert_eq!(org.post(&elsewhere, "/api/v1/actions/submit", &body).await.ok()["risk_score"], 45);
}

#[tokio::test]
async fn points_are_summed_by_type_and_by_raised_indicator_and_clamped() {
    let org = Organization::new().await;
    org.set_policy(json!({
        "base_points": { "none": 0, "some": 50, "less": -100, "most": 100 },
        "indicator_points": { "up": 20, "down": -30, "far": 100 },
        "auto_approve_below": 0,
    }))
    .await;
    for (action_type, indicators, score) in [
        ("none", json!({}), 0),
        ("less", json!({}), 0),
        ("less", json!({ "far": true }), 0),
        ("most", json!({ "up": true }), 100),
        ("some", json!({ "up": true, "down": true }), 40),
        ("some", json!({ "down": true }), 20),
        ("some", json!({ "unheard_of": true, "UP": true }), 50),
        ("some", json!({ "up": 1 }), 70),
        ("some", json!({ "up": 0.001 }), 70),
        ("some", json!({ "up": "no" }), 70),
        ("some", json!({ "up": " " }), 70),
        ("some", json!({ "up": false, "far": null }), 50),
        ("some", json!({ "up": 0, "far": -1 }), 50),
        ("some", json!({ "up": "", "far": 0.0 }), 50),
        ("some", json!({ "up": [1], "far": { "a": 1 } }), 50),
    ] {
        let fields = json!({ "action_type": action_type, "risk_indicators": indicators });
        let answer = org.submit(fields.clone()).await.ok();
        assert_eq!(answer["risk_score"], score, "{fields}");
        let sum: i64 = answer["risk_factors"].as_array().unwrap().iter().map(|f| f["points"].as_i64().unwrap()).sum();
        assert_eq!(sum.clamp(0, 100), score, "the factors explain it: {answer}");
    }
}

#[tokio::test]
async fn of_the_rules_that_match_the_strictest_wins() {
    let org = Organization::new().await;
    let (none, riskiest) = (json!(null), json!({ "destructive": true, "production": true }));
    let any =
        |then: &str, level: Value| json!({ "name": format!("any {then}"), "when": true, "then": then, "level": level });
    let decide = async |rules: Value, fields: Value| {
        org.set_policy(json!({ "rules": rules })).await;
        let answer = org.submit(fields).await.ok();
        let told =
            (answer["decision"].as_str().unwrap().to_owned(), answer["required_approval_level"].as_u64().unwrap());
        (told, answer["reason"].as_str().unwrap().to_owned())
    };
    let query = json!({ "action_type": "query" });
    let critical = json!({ "action_type": "transaction", "risk_indicators": riskiest });
    let (ask, allow, deny) = ("require_approval", "allow", "deny");
    for (rules, fields, decision, level, reason) in [
        (json!([any(deny, none.clone())]), &query, "denied", 1, "Rule any deny: denied"),
        (json!([any(allow, none.clone())]), &critical, "allowed", 4, "Rule any allow: approved automatically"),
        (
            json!([any(ask, none.clone())]),
            &query,
            "pending",
            1,
            "Rule any require_approval: approval of level 1 is required",
        ),
        (
            json!([any(ask, json!(3))]),
            &query,
            "pending",
            3,
            "Rule any require_approval: approval of level 3 is required",
        ),
        // A rule never lowers what the score needs.
        (
            json!([any(ask, json!(1))]),
            &critical,
            "pending",
            4,
            "Rule any require_approval: approval of level 4 is required",
        ),
        (
            json!([any(ask, json!(2)), any(ask, json!(5)), any(ask, json!(3))]),
            &query,
            "pending",
            5,
            "Rule any require_approval: approval of level 5 is required",
        ),
        (
            json!([any(allow, none.clone()), any(ask, none.clone())]),
            &query,
            "pending",
            1,
            "Rule any require_approval: approval of level 1 is required",
        ),
        (
            json!([any(deny, none.clone()), any(ask, json!(5)), any(allow, none.clone())]),
            &query,
            "denied",
            1,
            "Rule any deny: denied",
        ),
        (
            json!([rule("x", "deny", none.clone())]),
            &query,
            "allowed",
            1,
            "Risk score 5 is below 30: approved automatically",
        ),
    ] {
        let told = decide(rules.clone(), fields.clone()).await;
        assert_eq!(told, ((decision.to_owned(), level), reason.to_owned()), "{rules}");
    }
}

#[tokio::test]
async fn rules_see_the_submission_and_the_score_that_was_made_of_it() {
    let org = Organization::new().await;
    let submission = json!({
        "agent_id": "bot", "agent_name": "Bot", "action_type": MEDIUM, "resource": "db", "resource_id": "17",
        "tool_name": "psql", "description": "d", "action_details": { "rows": [1, 2] }, "context": { "n": { "m": 1.5 } },
        "risk_indicators": { "pii_involved": true }, "on_behalf_of": 5, "risk_score": 1, "unknown": "x",
    });
    for (path, value, seen) in [
        ("agent_id", json!("bot"), true),
        ("agent_name", json!("Bot"), true),
        ("action_type", json!(MEDIUM), true),
        ("resource", json!("db"), true),
        ("resource_id", json!("17"), true),
        ("tool_name", json!("psql"), true),
        ("description", json!("d"), true),
        ("action_details.rows.1", json!(2), true),
        ("context.n.m", json!(1.5), true),
        ("risk_indicators.pii_involved", json!(true), true),
        ("on_behalf_of", json!(5), true),
        ("risk_score", json!(60), true),
        ("risk_level", json!("medium"), true),
        ("risk_score", json!(1), false),
        ("unknown", json!("x"), false),
    ] {
        let rules = json!([{ "name": "seen", "when": { "===": [{ "var": path }, value] }, "then": "deny" }]);
        org.set_policy(json!({ "rules": rules })).await;
        let answer = org.submit(submission.clone()).await.ok();
        assert_eq!(answer["decision"], if seen { "denied" } else { "pending" }, "{path}");
    }
}

/// Rules that would run or grow for ever are given up; none of them lets anything through, and all are told.
#[tokio::test]
async fn a_rule_without_end_ends_and_allows_nothing() {
    let org = Organization::new().await;
    let list: Vec<_> = (0..1000).collect();
    // 27,000 numbers: within an element only what is in it can be looped over.
    let cube = vec![vec![vec![1; 30]; 30]; 30];
    let all = json!({ "var": "context.list" });
    let twice = |operator: &str| json!({ operator: [{ "var": "accumulator" }, { "var": "accumulator" }] });
    let nested = |operator: &str, innermost: Value| {
        let inner = json!({ operator: [{ "var": "" }, { operator: [{ "var": "" }, innermost] }] });
        json!({ operator: [{ "var": "context.cube" }, inner] })
    };
    let endless = [
        ("cat", json!({ "reduce": [all, twice("cat"), "xxxxxxxx"] })),
        ("merge", json!({ "reduce": [all, twice("merge"), [1]] })),
        ("list", json!({ "reduce": [all, [{ "var": "accumulator" }, { "var": "accumulator" }], 1] })),
        ("sum", json!({ "reduce": [all, { "*": [{ "var": "accumulator" }, 1e300] }, 2] })),
        ("loops", nested("map", json!(1))),
        ("some", nested("some", json!({ "==": [{ "var": "" }, -1] }))),
        ("zero", json!({ "!": [{ "/": [1, 0] }] })),
        ("words", json!({ "!": [{ "+": ["x"] }] })),
        ("compare", json!({ "filter": [all, { "==": [{ "cat": [{ "var": "" }, "y".repeat(2000)] }, "z"] }] })),
    ];
    let rules: Vec<_> = (0..100)
        .map(|n| {
            let (name, when) = &endless[n % endless.len()];
            json!({ "name": format!("{name} {n}"), "when": { "or": [when, true] }, "then": "allow" })
        })
        .collect();
    org.set_policy(json!({ "rules": rules })).await;
    let fields = json!({ "context": { "list": list, "cube": cube } });
    let answer = org.submit(fields).await.ok();
    assert_eq!((&answer["decision"], &answer["risk_score"]), (&json!("pending"), &json!(45)), "{answer}");
    let failed: Vec<_> = answer["risk_factors"].as_array().unwrap().iter().skip(1).collect();
    assert_eq!(failed.len(), 100, "{failed:?}");
    for factor in failed {
        assert!(factor["factor"].as_str().unwrap().contains("failed: "), "{factor}");
        assert_eq!(factor["points"], 0);
    }
    // Without the list they end, and hold.
    assert_eq!(org.submit(json!({ "context": {} })).await.ok()["decision"], "allowed");
    assert_eq!(org.get("/api/admin/audit-logs/verify").await.ok()["valid"], true);
}

#[tokio::test]
async fn each_version_of_the_settings_is_kept_and_setting_them_again_is_none() {
    let server = Server::start().await;
    let key = Policies::key(&ORGANIZATION.parse().unwrap());
    for (policy, versions) in [
        (json!({ "auto_approve_below": 1 }), 1),
        (json!({ "auto_approve_below": 1 }), 1),
        (json!({ "auto_approve_below": 1.0, "unknown": 5 }), 1),
        (json!({ "auto_approve_below": 2 }), 2),
        (json!({ "auto_approve_below": 1 }), 3),
    ] {
        put(&server, &policy).await.ok();
        let history = server.history(&key).await;
        assert_eq!(history.len(), versions, "{policy}");
        let entry = &history[versions - 1].entries[0];
        assert_eq!((entry.name.as_str(), entry.actor.to_string().as_str()), ("actions_policy.set", "operator:local"));
        assert_eq!(entry.data["revision"], versions);
        assert_eq!(history[versions - 1].items[0].name, format!("policy#{versions:010}"));
    }
}
