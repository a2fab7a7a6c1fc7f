//! What each rule names, and what becomes of all of them together.

use crate::world::{World, approvers_of, group, http, logic, policy, role, rule, stage, user, with};
use countersign_approvers::{MAX_USERS, Reason, Unanswered};
use countersign_domain::workflow::request::{Answers, Asked, Question};
use countersign_store::Fault;
use serde_json::{Value, json};

#[tokio::test]
async fn a_user_is_named_by_their_id() {
    let world = World::new(&[]).await;
    assert_eq!(world.named(user("u-ann")).await.unwrap(), ["u-ann"]);
}

#[tokio::test]
async fn an_expression_names_a_text_or_the_true_elements_of_a_list() {
    let world = World::new(&[]).await;
    for (expression, users) in [
        (json!({ "cat": ["u-", { "var": "a" }] }), &["u-1"][..]),
        (json!(["u-1", "", null, 7, true, "u-1"]), &["u-1", "7", "true"]),
        (json!({ "var": "a" }), &[]),
        (json!({ "var": "absent" }), &[]),
        (json!({ "var": "" }), &[]),
        (json!([]), &[]),
    ] {
        assert_eq!(world.named(logic(expression.clone())).await.unwrap(), users, "{expression}");
    }
}

#[tokio::test]
async fn an_expression_that_cannot_be_evaluated_says_so_instead_of_naming_nobody() {
    let world = World::new(&[]).await;
    let rules = json!([user("u-ann"), logic(json!({ "/": [{ "var": "amount" }, 0] }))]);
    let error = world.asked(rules, json!({ "amount": 12_345 })).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "rule 2 of stage \"stage 1\" (expression) cannot be evaluated: the expression divides by zero"
    );
}

#[tokio::test]
async fn what_is_no_user_is_an_error() {
    let world = World::new(&[]).await;
    let too_long = "ü".repeat(129);
    for (id, said) in [("", "is empty"), (&too_long, "is longer than 128 characters"), ("u\0", "contains NUL")] {
        for named in [json!(id), json!(["u-1", id, "u-2"])] {
            // Elements of a list that are not true are passed over.
            if id.is_empty() && named.is_array() {
                continue;
            }
            let error = world.named(logic(named)).await.unwrap_err();
            assert_eq!(
                error,
                format!("rule 1 of stage \"stage 1\" (expression) names a user whose id {said}"),
                "{id:?}"
            );
        }
    }
    assert_eq!(world.named(logic(json!("ü".repeat(128)))).await.unwrap(), ["ü".repeat(128)]);
}

#[tokio::test]
async fn rules_are_joined_in_their_order_and_nobody_is_asked_twice() {
    let world = World::new(&[]).await;
    let observer = |rule: Value| with(rule, json!({ "kind": "observer" }));
    let required = |rule: Value| with(rule, json!({ "required": true }));
    let rules = json!([
        user("c"),
        observer(user("x")),
        logic(json!(["a", "c", "a"])),
        required(logic(json!(["b", "a"]))),
        user("b"),
        observer(logic(json!(["y", "x", "a"]))),
    ]);
    let asked = world.asked(rules, json!({})).await.unwrap();
    assert_eq!(approvers_of(&asked), ["c", "a!", "b!"]);
    assert_eq!(asked.observers, ["x", "y", "a"]);
    assert!(!asked.skipped);
}

#[tokio::test]
async fn a_stage_without_rules_asks_nobody() {
    let world = World::new(&[]).await;
    assert_eq!(world.asked(json!([]), json!({})).await.unwrap(), Asked::default());
}

#[tokio::test]
async fn a_stage_whose_condition_is_true_is_skipped_and_nobody_is_looked_up_for_it() {
    let world = World::new(&[]).await;
    let rules = || json!([user("u-ann"), role("nobody knows"), logic(json!({ "/": [1, 0] }))]);
    for (condition, skipped) in [
        (json!({ "var": "yes" }), true),
        (json!({ ">": [{ "var": "amount" }, 10] }), true),
        (json!({ "var": "zero_text" }), true),
        (json!({ "var": "no" }), false),
        (json!({ "var": "absent" }), false),
        (json!({}), false),
        // It has no value for this context.
        (json!({ "<": [{ "var": "zero_text" }, { "var": "word" }, 1] }), false),
        (json!({ "/": [1, 0] }), false),
    ] {
        let skipping = with(stage(1, rules()), json!({ "skip_if": condition }));
        let context = json!({ "yes": true, "no": false, "zero_text": "0", "word": "many", "amount": 11 });
        let answered = world.answers(&policy(json!([skipping])), context).await;
        match answered {
            Ok(answers) if skipped => {
                assert_eq!(answers.groups[&0], [Asked { skipped, ..Asked::default() }], "{condition}");
            }
            Err(Unanswered::Rule { .. }) if !skipped => {}
            other => panic!("{condition}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn all_stages_of_a_group_are_answered_and_no_others() {
    let world = World::new(&[]).await;
    let together = |order, rules| with(stage(order, rules), json!({ "parallel_group": 7 }));
    let definition = policy(json!([
        stage(10, json!([user("a")])),
        together(20, json!([user("b")])),
        together(30, json!([user("c"), user("d")])),
        stage(40, json!([role("nobody knows")])),
    ]));
    let mut asking = world.asking(&definition, json!({}));
    let mut answers = Answers::default();
    asking.answer(&world.store, Question::Group(1), &mut answers).await.unwrap();
    assert_eq!(answers.groups.keys().collect::<Vec<_>>(), [&1]);
    let asked: Vec<_> = answers.groups[&1].iter().map(approvers_of).collect();
    assert_eq!(asked, [vec!["b"], vec!["c", "d"]]);
    assert_eq!(answers.definition.as_deref(), Some(&*definition));

    asking.answer(&world.store, Question::Group(0), &mut answers).await.unwrap();
    assert_eq!((approvers_of(&answers.groups[&0][0]), answers.groups.len()), (vec!["a".to_owned()], 2));
    assert!(asking.answer(&world.store, Question::Group(3), &mut answers).await.is_err());
    assert_eq!(answers.groups.len(), 2, "what was found out before stays");
}

#[tokio::test]
async fn who_is_asked_when_approvers_are_late_is_said_by_other_rules() {
    let world = World::new(&[]).await;
    let observer = with(role("nobody knows"), json!({ "kind": "observer" }));
    let required = with(user("boss"), json!({ "required": true }));
    let late = with(
        stage(2, json!([role("nobody knows")])),
        json!({ "escalation_rules": [required, observer, user("deputy")], "skip_if": { "var": "yes" } }),
    );
    let definition = policy(json!([stage(1, json!([])), late]));
    let mut answers = Answers::default();
    let mut asking = world.asking(&definition, json!({ "yes": true }));
    asking.answer(&world.store, Question::Escalation(1), &mut answers).await.unwrap();
    assert_eq!(approvers_of(&answers.escalations[&1]), ["boss!", "deputy"]);
    assert_eq!((answers.escalations[&1].skipped, answers.groups.len()), (false, 0));
    assert_eq!(answers.definition.as_deref(), Some(&*definition));

    let failing = with(stage(1, json!([])), json!({ "escalation_rules": [user("a"), role("r")] }));
    let mut asking = world.asking(&policy(json!([failing])), json!({}));
    let error = asking.answer(&world.store, Question::Escalation(0), &mut answers).await.unwrap_err();
    let said = "escalation rule 2 of stage \"stage 1\" (role, role \"r\") needs a directory, and none is configured";
    assert_eq!(error.to_string(), said);
}

#[tokio::test]
async fn a_policy_without_stages_has_an_answer_and_a_stage_that_is_not_there_has_none() {
    let world = World::new(&[]).await;
    let empty = policy(json!([]));
    let answers = world.answers(&empty, json!({})).await.unwrap();
    assert_eq!((answers.definition.as_deref(), answers.groups.len()), (Some(&*empty), 0));

    let definition = policy(json!([stage(1, json!([]))]));
    for question in [Question::Group(1), Question::Escalation(1)] {
        let mut answers = Answers::default();
        let answered = world.asking(&definition, json!({})).answer(&world.store, question, &mut answers).await;
        assert!(matches!(answered, Err(Unanswered::Fault(Fault::Corrupt(_)))), "{answered:?}");
        assert_eq!(answers.definition, None);
    }
}

#[tokio::test]
async fn a_simulation_answers_every_stage() {
    let world = World::with_table(json!({ "default": { "roles": { "r": ["a", "b"] } } })).await;
    let definition = policy(json!([
        stage(1, json!([role("r"), user("c")])),
        with(stage(2, json!([user("d")])), json!({ "skip_if": { "var": "yes" } })),
        stage(3, json!([with(user("e"), json!({ "kind": "observer" }))])),
    ]));
    let stages = world.asking(&definition, json!({ "yes": 1 })).stages().await.unwrap();
    let approvers: Vec<_> = stages.iter().map(|asked| (asked.skipped, approvers_of(asked))).collect();
    let named = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(approvers, [(false, named(&["a", "b", "c"])), (true, named(&[])), (false, named(&[]))]);
    assert_eq!(stages[2].observers, ["e"]);
}

#[tokio::test]
async fn more_users_than_could_ever_be_asked_are_an_error_that_says_where() {
    let world = World::new(&[]).await;
    let many = |from: usize, count: usize| {
        let users: Vec<_> = (from..from + count).map(|number| format!("u-{number}")).collect();
        logic(json!(users))
    };
    assert_eq!(world.named(many(0, MAX_USERS)).await.unwrap().len(), MAX_USERS);
    let error = world.named(many(0, MAX_USERS + 1)).await.unwrap_err();
    assert_eq!(error, "rule 1 of stage \"stage 1\" (expression) names more than 1000 users");

    let too_many = "stage \"stage 1\", or the group that it begins, names more than 1000 users";
    let two_rules = json!([many(0, 600), with(many(600, 401), json!({ "kind": "observer" }))]);
    assert_eq!(world.asked(two_rules, json!({})).await.unwrap_err().to_string(), too_many);
    let overlapping = json!([many(0, 600), many(200, 800)]);
    assert_eq!(world.asked(overlapping, json!({})).await.unwrap().approvers.len(), MAX_USERS);

    let together = |order, rule| with(stage(order, json!([rule])), json!({ "parallel_group": 7 }));
    let group = policy(json!([together(1, many(0, 600)), together(2, many(600, 401))]));
    assert_eq!(world.answers(&group, json!({})).await.unwrap_err().to_string(), too_many);
    assert_eq!(world.asking(&group, json!({})).stages().await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_error_names_the_rule_and_neither_its_url_nor_its_expression() {
    let world = World::new(&[("COUNTERSIGN_RESOLVER_ALLOW", "")]).await;
    let long = "n".repeat(1000);
    let client_role = |role: &str| rule("role", json!({ "role": role, "client": "billing \"EU\"" }));
    for (rule, said) in [
        (role("lead"), "rule 2 of stage \"s\" (role, role \"lead\") needs a directory, and none is configured"),
        (client_role("lead"), "rule 2 of stage \"s\" (role, role \"lead\" of client \"billing \\\"EU\\\"\") needs a "),
        (group("/a/b"), "rule 2 of stage \"s\" (group, group \"/a/b\") needs a directory"),
        (role(&long), &format!("(role, role \"{}\") needs a directory", &long[..100])),
        (role("a\nb\u{1b}"), "(role, role \"a\\nb\\u{1b}\") needs a directory"),
        (http("https://127.0.0.1/?key=secret"), "rule 2 of stage \"s\" (http) has no usable answer: 127.0.0.1 is not"),
        (http("ftp://secret"), "rule 2 of stage \"s\" (http) has no usable answer: must begin with https://"),
    ] {
        let named = with(stage(1, json!([user("a"), rule])), json!({ "name": "s" }));
        let error = world.answers(&policy(json!([named])), json!({})).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(matches!(error, Unanswered::Rule { reason: Reason::NoDirectory | Reason::Service(_), .. }));
    }
}
