//! Deciding on many actions at once: each stands or falls alone.

use crate::actions::{HUMAN, Organization, code};
use crate::actions_decisions::bad_day;
use crate::server::{Answer, send};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

const APPROVE: &str = "/api/v1/actions/bulk-approve";
const REJECT: &str = "/api/v1/actions/bulk-reject";

impl Organization {
    async fn bulk(&self, path: &str, body: &Value) -> Answer {
        self.post(&self.admin, path, body).await
    }

    async fn many(&self, count: usize) -> Vec<u64> {
        join_all((0..count).map(|_| self.pending())).await
    }

    async fn bulk_once(&self, bearer: &str, path: &str, body: &Value) -> Answer {
        send(self.with(bearer, Method::POST, path).header("Idempotency-Key", "k").json(body)).await
    }
}

fn replayed(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == Some("true")
}

fn failed(id: Value, status: u16, code: &str, detail: &str) -> Value {
    let error = json!({ "detail": detail, "error_code": code, "status": status });
    json!({ "action_id": id, "success": false, "error": error })
}

#[tokio::test]
async fn each_item_is_answered_in_its_place_and_decided_alone() {
    let org = Organization::new().await;
    for (path, status, opposite) in [(APPROVE, "approved", "reject"), (REJECT, "denied", "approve")] {
        let [first, second] = [org.pending().await, org.pending().await];
        let decided = org.pending().await;
        org.act(&org.admin, decided, opposite).await.ok();
        let own = org.submitted(json!({ "on_behalf_of": HUMAN })).await;
        let critical =
            json!({ "action_type": "transaction", "risk_indicators": { "destructive": 1, "production": 1 } });
        let critical = org.submitted(critical).await;
        let human = org.human(HUMAN, "security_manager");
        let ids = json!([second, 4711, own, first, decided, second, critical, 0, -1, 9_007_199_254_740_992_u64, 1e300]);
        let answer = org.post(&human, path, &json!({ "action_ids": ids, "reason": "all of them" })).await;
        let correlation = async |id: u64| org.details(id).await["correlation_id"].clone();
        let success = async |id: u64| json!({ "action_id": id, "success": true, "status": status, "correlation_id": correlation(id).await });
        let not_found = |id: Value| failed(id, 404, "ACTION_NOT_FOUND", "Action not found");
        let already = if status == "approved" { "denied" } else { "approved" };
        let already = format!("Action is not pending approval (current status: {already})");
        let too_low = "Approval level 4 is required for this action; yours is 3";
        let self_approval = "You cannot decide on an action that you submitted or that was submitted on your behalf";
        let results = json!([
            success(second).await,
            not_found(json!(4711)),
            failed(json!(own), 403, "SELF_APPROVAL", self_approval),
            success(first).await,
            failed(json!(decided), 400, "INVALID_STATE", &already),
            failed(json!(critical), 403, "INSUFFICIENT_APPROVAL_LEVEL", too_low),
            not_found(json!(0)),
            not_found(json!(-1)),
            not_found(json!(9_007_199_254_740_992_u64)),
            not_found(json!(1e300)),
        ]);
        assert_eq!(answer.ok(), json!({ "results": results, "succeeded": 2, "failed": 8 }));
        for id in [first, second] {
            assert_eq!(org.status(id).await["reason"], "all of them");
            assert_eq!(org.trail(id).await.len(), 2);
        }
        for id in [own, critical] {
            assert_eq!(org.status(id).await["decision"], "pending");
        }
    }
}

#[tokio::test]
async fn an_id_in_several_spellings_is_one_id() {
    let org = Organization::new().await;
    // Most ids are large: 16 digits, exact as a double too.
    let ids = org.many(8).await;
    let spelled = ids.iter().map(|id| format!("{id}.0,{id}")).collect::<Vec<_>>().join(",");
    let body = format!(r#"{{"action_ids":[{spelled}]}}"#);
    let answer = send(org.with(&org.admin, Method::POST, APPROVE).body(body)).await.ok();
    let shown: Vec<_> =
        answer["results"].as_array().unwrap().iter().map(|result| result["action_id"].clone()).collect();
    assert_eq!((json!(shown), &answer["succeeded"]), (json!(ids), &json!(8)), "{answer}");
}

#[tokio::test]
async fn a_call_takes_one_to_a_hundred_ids() {
    let org = Organization::doors_only().await;
    let ids = org.many(101).await;
    let [too_many, most] = [json!({ "action_ids": ids }), json!({ "action_ids": ids[..100] })];
    for path in [APPROVE, REJECT] {
        for body in [
            too_many.clone(),
            json!({ "action_ids": vec![ids[0]; 101] }),
            json!({ "action_ids": [] }),
            json!({}),
            json!({ "action_ids": null }),
            json!({ "action_ids": ids[0] }),
            json!({ "action_ids": [ids[0], "5"] }),
            json!({ "action_ids": [ids[0], 1.5] }),
            json!({ "action_ids": [ids[0], null] }),
            json!({ "action_ids": [[ids[0]]] }),
            json!({ "action_ids": [ids[0]], "reason": "r".repeat(2001) }),
            json!({ "action_ids": [ids[0]], "reason": 5 }),
            json!([ids[0]]),
            json!(null),
        ] {
            assert_eq!(org.bulk(path, &body).await.coded(), code(422, "VALIDATION_ERROR"), "{body}");
        }
    }
    let empty = send(org.with(&org.admin, Method::POST, APPROVE)).await;
    assert_eq!(empty.coded(), code(422, "VALIDATION_ERROR"));
    for id in [ids[0], ids[100]] {
        assert_eq!(org.status(id).await["decision"], "pending", "a refused call decides nothing");
    }
    drop(org.server.table.take_calls());
    let answer = org.bulk(APPROVE, &most).await.ok();
    assert_eq!((&answer["succeeded"], &answer["failed"]), (&json!(100), &json!(0)));
    let calls = org.server.table.take_calls();
    for operation in ["GetItem", "TransactWriteItems"] {
        assert_eq!(calls.iter().filter(|call| call.operation == operation).count(), 100, "{operation}");
    }
    assert_eq!(calls.len(), 200, "each is its own transaction");
}

#[tokio::test]
async fn the_bulk_calls_are_refused_in_the_documented_order() {
    let org = Organization::new().await;
    let expired = org.server.token_with("7", "42", &["admin"], &json!({ "exp": 1_700_000_000 }));
    let user = org.human(5, "user");
    let key = "k".repeat(256);
    for path in [APPROVE, REJECT] {
        for (bearer, body, expected) in [
            (None, "{", code(401, "MISSING_AUTH")),
            (Some(org.key.as_str()), "{", code(401, "INVALID_TOKEN")),
            (Some("a.b.c"), "{", code(401, "INVALID_TOKEN")),
            (Some(expired.as_str()), "{", code(401, "EXPIRED_TOKEN")),
            (Some(user.as_str()), "{", code(403, "FORBIDDEN")),
            (Some(org.admin.as_str()), "{", code(422, "VALIDATION_ERROR")),
        ] {
            let request = org.server.public(Method::POST, path).body(body).header("Idempotency-Key", &key);
            let request = bearer.map_or(request.try_clone().unwrap(), |bearer| request.bearer_auth(bearer));
            assert_eq!(send(request).await.coded(), expected, "{path} {bearer:?}");
        }
        let wrong_key = org.with(&org.admin, Method::POST, path).header("Idempotency-Key", &key);
        let wrong_key = send(wrong_key.json(&json!({ "action_ids": [4711] }))).await;
        assert_eq!(wrong_key.coded(), code(422, "VALIDATION_ERROR"));
        assert!(wrong_key.detail().starts_with("Idempotency-Key"));
    }
}

#[tokio::test]
async fn a_repeated_call_replays_each_item_that_acted() {
    let org = Organization::new().await;
    for path in [APPROVE, REJECT] {
        let ids = org.many(3).await;
        let body = json!({ "action_ids": [ids[2], ids[0], 4711, ids[1]] });
        let first = org.bulk_once(&org.admin, path, &body).await;
        assert!(!replayed(&first));
        assert_eq!((&first.json()["succeeded"], &first.json()["failed"]), (&json!(3), &json!(1)));
        let again = org.bulk_once(&org.admin, path, &body).await;
        assert_eq!((again.status, &again.text, replayed(&again)), (200, &first.text, true));
        // Without the key, or by another caller, they are just decided.
        for afresh in [org.bulk(path, &body).await, org.bulk_once(&org.human(43, "admin"), path, &body).await] {
            assert!(!replayed(&afresh));
            assert_eq!((&afresh.clone().ok()["succeeded"], &afresh.json()["failed"]), (&json!(0), &json!(4)));
        }
        let new = org.pending().await;
        for other in [json!({ "action_ids": ids, "reason": "another body" }), json!({ "action_ids": [ids[0], new] })] {
            let reused = org.bulk_once(&org.admin, path, &other).await;
            assert_eq!(reused.coded(), code(422, "IDEMPOTENCY_KEY_REUSED"));
        }
        assert_eq!(org.trail(new).await.len(), 1, "none of them is decided");
        for id in ids {
            assert_eq!(org.trail(id).await.len(), 2);
        }
    }
}

#[tokio::test]
async fn a_repeated_call_is_only_called_a_replay_if_none_of_its_items_acted() {
    let org = Organization::new().await;
    // The same caller, first with too low a level for the second action.
    let level = |level: u64| org.server.token_with("7", "42", &["manager"], &json!({ "approval_level": level }));
    let low = org.submitted(json!({ "action_type": "api_call" })).await;
    let medium = org.pending().await;
    let body = json!({ "action_ids": [low, medium] });
    let succeeded = async |level: &str| {
        let answer = org.bulk_once(level, APPROVE, &body).await;
        let results = answer.clone().ok()["results"].clone();
        let successes = [results[0]["success"].as_bool().unwrap(), results[1]["success"].as_bool().unwrap()];
        (successes, replayed(&answer))
    };
    assert_eq!(succeeded(&level(1)).await, ([true, false], false));
    assert_eq!(succeeded(&level(1)).await, ([true, false], true), "one is replayed, one is refused again: none acted");
    assert_eq!(succeeded(&level(2)).await, ([true, true], false), "the second acted now");
    assert_eq!(succeeded(&level(2)).await, ([true, true], true));
    let absent = org.bulk_once(&org.human(43, "admin"), APPROVE, &json!({ "action_ids": [4711] })).await;
    assert!(!replayed(&absent), "nothing was replayed either");
}

/// Two calls over the same ids, one approving and one rejecting: each id is decided once.
async fn race(org: &Organization, count: usize) -> Vec<Value> {
    let ids = org.many(count).await;
    let mut backwards = ids.clone();
    backwards.reverse();
    let other = org.human(43, "admin");
    let (forth, back) = (json!({ "action_ids": ids }), json!({ "action_ids": backwards }));
    let (approved, rejected) = futures_util::join!(org.bulk(APPROVE, &forth), org.post(&other, REJECT, &back));
    let (approved, rejected) = (approved.ok(), rejected.ok());
    let result_of = |answer: &Value, id: u64| {
        let results = answer["results"].as_array().unwrap();
        results.iter().find(|result| result["action_id"] == id).unwrap().clone()
    };
    let mut errors = Vec::new();
    for id in ids {
        let [approval, rejection] = [result_of(&approved, id), result_of(&rejected, id)];
        let status = org.details(id).await["status"].clone();
        match (&approval["success"], &rejection["success"]) {
            (Value::Bool(true), Value::Bool(false)) => assert_eq!(status, "approved"),
            (Value::Bool(false), Value::Bool(true)) => assert_eq!(status, "denied"),
            // Both may have been asked to come again.
            (Value::Bool(false), Value::Bool(false)) => {}
            both => panic!("{both:?}"),
        }
        assert!(org.trail(id).await.len() <= 2);
        errors.extend(
            [approval, rejection].iter().map(|result| result["error"].clone()).filter(|error| !error.is_null()),
        );
    }
    errors
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_simultaneous_calls_over_the_same_ids_each_id_is_decided_once() {
    let org = Organization::new().await;
    for _ in 0..3 {
        let errors = race(&org, 60).await;
        assert_eq!(errors.len(), 60, "one call of the two decided each");
        for error in errors {
            assert_eq!((&error["error_code"], &error["status"]), (&json!("INVALID_STATE"), &json!(400)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_bad_day_each_id_of_two_simultaneous_calls_is_decided_once() {
    let org = bad_day(22).await;
    for error in race(&org, 40).await {
        assert!(["INVALID_STATE", "UNAVAILABLE"].contains(&error["error_code"].as_str().unwrap()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_simultaneous_calls_with_one_key_each_item_acts_once() {
    let org = Organization::new().await;
    let ids = org.many(20).await;
    let body = json!({ "action_ids": ids });
    let answers = join_all((0..8).map(|_| org.bulk_once(&org.admin, APPROVE, &body))).await;
    for answer in &answers {
        assert_eq!(answer.clone().ok()["succeeded"], 20);
        assert_eq!(answer.text, answers[0].text);
    }
    for id in ids {
        assert_eq!(org.trail(id).await.len(), 2);
    }
}
