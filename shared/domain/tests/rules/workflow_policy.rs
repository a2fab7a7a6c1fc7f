//! Policies: what makes one, what a rule needs, and the life of a policy's versions.

use crate::workflow::{any, beside, definition, hour, stage, within};
use crate::{changed, microseconds};
use countersign_domain::logic::Logic;
use countersign_domain::workflow::policy::{
    ACTIVATED, ADDED, CREATED, DEACTIVATED, Definition, EDITED, InvalidDefinition, InvalidRule, Kind, MAX_VERSIONS,
    OnBreach, OnEmpty, Policy, Refusal, Rule, RuleType, Stage, Status, Who,
};
use countersign_domain::workflow::{Editor, MAX_NAME, MAX_STAGES, Mode};
use countersign_domain::{Actor, Change, Entry, EntryClass, Listing, Logged, Outcome, Record, With};
use serde_json::{Value, json};
use uuid::Uuid;

fn with_orders(orders: &[u32]) -> Definition {
    definition(orders.iter().map(|order| stage(*order)).collect())
}

/// Stages one after the other with these groups, 0 for none.
fn with_groups(groups: &[i32]) -> Definition {
    let stage = |(order, group): (u32, &i32)| Stage { parallel_group: (*group != 0).then_some(*group), ..stage(order) };
    definition((1..).zip(groups).map(stage).collect())
}

#[test]
fn stages_are_put_in_order() {
    for orders in [&[][..], &[7], &[3, 1, 2], &[1, 10, u32::MAX, 5]] {
        let mut expected = orders.to_vec();
        expected.sort_unstable();
        let ordered = with_orders(orders).ordered().unwrap();
        assert_eq!(ordered.stages.iter().map(|stage| stage.order).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn two_stages_cannot_have_the_same_order() {
    assert_eq!(with_orders(&[2, 1, 2]).ordered(), Err(InvalidDefinition::SameOrder(2)));
}

#[test]
fn a_policy_has_so_many_stages_and_not_one_more() {
    let orders: Vec<u32> = (1..).take(MAX_STAGES + 1).collect();
    assert!(with_orders(&orders[1..]).ordered().is_ok());
    assert_eq!(with_orders(&orders).ordered(), Err(InvalidDefinition::TooMany));
}

#[test]
fn members_of_a_group_must_be_neighbours() {
    let table: [(&[i32], Option<i32>); 9] = [
        (&[], None),
        (&[0, 0], None),
        (&[1, 1, 2, 2], None),
        (&[0, 5, 5, 0], None),
        (&[-3, -3], None),
        (&[1, 0, 1], Some(1)),
        (&[1, 2, 1], Some(1)),
        (&[4, 1, 1, 4, 1], Some(4)),
        (&[0, 1, 1, 2, 1], Some(1)),
    ];
    for (groups, apart) in table {
        let expected = apart.map_or(Ok(with_groups(groups)), |group| Err(InvalidDefinition::Apart(group)));
        assert_eq!(with_groups(groups).ordered(), expected, "{groups:?}");
    }
    // What counts is the order, not how they are written.
    let mut shuffled = with_groups(&[1, 1, 0]);
    shuffled.stages.swap(0, 2);
    shuffled.stages.swap(0, 1);
    assert_eq!(shuffled.ordered(), Ok(with_groups(&[1, 1, 0])));
}

#[test]
fn a_group_is_found_by_the_place_of_its_first_stage() {
    let definition = with_groups(&[0, 1, 1, 0, 0, 2]);
    let groups: Vec<_> = definition.groups().map(|(place, group)| (place, group.len())).collect();
    assert_eq!(groups, [(0, 1), (1, 2), (3, 1), (4, 1), (5, 1)]);
    for (place, group) in definition.groups() {
        assert_eq!(definition.group(place), Some(group));
        assert_eq!(group[0].order, u32::try_from(place + 1).unwrap());
    }
    for place in [2, 6] {
        assert_eq!(definition.group(place), None);
    }
    assert_eq!(with_groups(&[]).groups().count(), 0);
}

fn rule(rule_type: RuleType, value: &Value) -> Result<Rule, InvalidRule> {
    Rule::new(Uuid::from_u128(7), rule_type, value.as_object().unwrap().clone(), Kind::Approver, true)
}

#[test]
fn rules_say_who_in_five_ways() {
    use RuleType::{Expression, Group, Http, Role, User};
    let logic = json!({"var": "manager"});
    let parsed = Logic::parse(logic.clone()).unwrap();
    let role = |client: Option<&str>| Who::Role { role: "buyer".to_owned(), client: client.map(str::to_owned) };
    let table = [
        (User, json!({"user_id": "u-1"}), Who::User("u-1".to_owned())),
        (Role, json!({"role": "buyer"}), role(None)),
        (Role, json!({"role": "buyer", "client": null}), role(None)),
        (Role, json!({"role": "buyer", "client": "shop"}), role(Some("shop"))),
        (Group, json!({"group": "/a/b"}), Who::Group("/a/b".to_owned())),
        (Expression, json!({"logic": logic}), Who::Expression(parsed)),
        (Expression, json!({"logic": "u-1"}), Who::Expression(Logic::parse(json!("u-1")).unwrap())),
        (Http, json!({"url": "https://example.com"}), Who::Http("https://example.com".to_owned())),
        // What nobody reads is kept.
        (User, json!({"user_id": "u-1", "note": {"a": [1, null]}}), Who::User("u-1".to_owned())),
    ];
    for (rule_type, value, who) in table {
        let rule = rule(rule_type, &value).unwrap();
        assert_eq!((rule.rule_type(), &rule.who), (rule_type, &who));
        assert_eq!((rule.id, rule.kind, rule.required), (Uuid::from_u128(7), Kind::Approver, true));
        assert_eq!(Value::Object(rule.value.clone()), value);
        let stored = serde_json::to_string(&rule).unwrap();
        assert_eq!(serde_json::from_str::<Rule>(&stored).unwrap(), rule);
    }
}

#[test]
fn a_rule_that_says_nobody_is_refused_with_the_key_that_is_wrong() {
    use RuleType::{Expression, Group, Http, Role, User};
    let empty = "must be text that is not empty";
    let table = [
        (User, json!({}), "user_id", "is required"),
        (User, json!({"user": "u-1"}), "user_id", "is required"),
        (User, json!({"user_id": ""}), "user_id", empty),
        (User, json!({"user_id": null}), "user_id", empty),
        (User, json!({"user_id": 1}), "user_id", empty),
        (User, json!({"user_id": ["u-1"]}), "user_id", empty),
        (User, json!({"user_id": "u\0"}), "user_id", empty),
        (User, json!({"user_id": "é".repeat(MAX_NAME + 1)}), "user_id", "must have at most 128 characters"),
        (Role, json!({}), "role", "is required"),
        (Role, json!({"client": "shop"}), "role", "is required"),
        (Role, json!({"role": ""}), "role", empty),
        (Role, json!({"role": "buyer", "client": ""}), "client", empty),
        (Role, json!({"role": "buyer", "client": 3}), "client", empty),
        (Group, json!({}), "group", "is required"),
        (Group, json!({"group": true}), "group", empty),
        (Expression, json!({}), "logic", "is required"),
        (Expression, json!({"logic": {"method": []}}), "logic", "cannot be evaluated: there is no operator \"method\""),
        (Http, json!({}), "url", "is required"),
        (Http, json!({"url": {}}), "url", empty),
        (Http, json!({"url": ""}), "url", empty),
    ];
    for (rule_type, value, key, message) in table {
        let refused = rule(rule_type, &value).unwrap_err();
        assert_eq!((refused.key, refused.message.as_str()), (key, message), "{value}");
        assert_eq!(refused.to_string(), message);
    }
    assert!(rule(User, &json!({"user_id": "é".repeat(MAX_NAME)})).is_ok());
}

#[test]
fn an_observer_is_never_required() {
    for (kind, required, expected) in [
        (Kind::Approver, true, true),
        (Kind::Approver, false, false),
        (Kind::Observer, true, false),
        (Kind::Observer, false, false),
    ] {
        let value = json!({"user_id": "u-1"}).as_object().unwrap().clone();
        let rule = Rule::new(Uuid::nil(), RuleType::User, value, kind, required).unwrap();
        assert_eq!(rule.required, expected);
    }
}

#[test]
fn documented_words_are_read_as_they_are_written() {
    for word in ["skip", "block"] {
        assert_eq!(OnEmpty::named(word).unwrap().as_str(), word);
    }
    for word in ["notify", "auto_approve", "auto_reject", "escalate"] {
        assert_eq!(OnBreach::named(word).unwrap().as_str(), word);
    }
    for word in ["approver", "observer"] {
        assert_eq!(Kind::named(word).unwrap().as_str(), word);
    }
    for word in ["user", "role", "group", "expression", "http"] {
        assert_eq!(RuleType::named(word).unwrap().as_str(), word);
    }
    for word in ["", "Skip", "auto-approve", "APPROVER", "User"] {
        assert_eq!((OnEmpty::named(word), OnBreach::named(word)), (None, None));
        assert_eq!((Kind::named(word), RuleType::named(word)), (None, None));
    }
    let statuses = [Status::Draft, Status::Active, Status::Archived].map(Status::as_str);
    assert_eq!(statuses, ["draft", "active", "archived"]);
}

fn full() -> Definition {
    let rules = || vec![rule(RuleType::User, &json!({"user_id": "u-1", "more": [{}]})).unwrap()];
    let stages = vec![
        Stage {
            skip_if: Some(Logic::parse(json!({"<": [{"var": "amount"}, 5]})).unwrap()),
            escalation_rules: rules(),
            rules: rules(),
            ..within(4, OnBreach::Escalate, any(2, 1))
        },
        Stage { skip_if: Some(Logic::parse(json!({})).unwrap()), on_empty: OnEmpty::Skip, ..beside(2) },
        Stage { mode: Mode::Percentage, mode_value: Some(60), ..beside(3) },
    ];
    Definition { description: Some("Who buys what".to_owned()), forbid_self_approval: true, ..definition(stages) }
}

#[test]
fn what_a_version_says_is_read_as_it_was_written() {
    let stored = serde_json::to_string(&full()).unwrap();
    assert_eq!(serde_json::from_str::<Definition>(&stored).unwrap(), full());
    let spoilt = stored.replace("\"user_id\"", "\"nobody\"");
    let error = serde_json::from_str::<Definition>(&spoilt).unwrap_err();
    assert!(error.to_string().starts_with("is required"), "{error}");
}

fn editor(name: &str) -> Editor {
    let actor = Actor::User { issuer: "https://login.example.com".to_owned(), subject: name.to_owned() };
    Editor { actor, email: Some(format!("{name}@example.com")) }
}

fn created() -> Change<Policy> {
    Policy::create(None, "purchases", Uuid::from_u128(1), &full(), &editor("ann"), hour(0)).unwrap()
}

/// A policy of so many versions, the last of which was made in the hour of its number.
fn of_versions(count: u32) -> Policy {
    (2..=count).fold(created().record, |policy, n| {
        let (id, now) = (Uuid::from_u128(n.into()), hour(n.into()));
        policy.add_version(id, &full(), &editor("bob"), now).unwrap().record
    })
}

fn activated(policy: &Policy, number: u32, hours: i64) -> Policy {
    changed(policy.activate(number, &editor("cid"), hour(hours)).unwrap()).record
}

fn statuses(policy: &Policy) -> Vec<&'static str> {
    (1..=policy.newest()).map(|number| policy.status(number).unwrap().as_str()).collect()
}

fn only_entry<R>(change: &Change<R>) -> &Entry {
    let [entry] = &change.entries[..] else { panic!("one entry was expected") };
    entry
}

/// The item that a change writes beside the record.
fn written(change: &Change<Policy>) -> (&str, Definition) {
    let [With::Item { name, body }] = &change.with[..] else { panic!("one item was expected") };
    (name, serde_json::from_str(body).unwrap())
}

#[test]
fn a_new_policy_has_one_version_and_that_is_a_draft() {
    let change = created();
    let policy = &change.record;
    assert_eq!((policy.key.as_str(), policy.newest(), policy.active), ("purchases", 1, None));
    assert_eq!((statuses(policy), policy.created_at), (vec!["draft"], hour(0)));
    let version = policy.version(1).unwrap();
    assert_eq!((version.id, version.created_by.as_str(), version.edits), (Uuid::from_u128(1), "ann", 0));
    assert_eq!((version.created_at, version.updated_at, version.released), (hour(0), hour(0), false));
    assert_eq!(written(&change), ("version#0001.0000000000", full()));
    assert_eq!(policy.item(1).as_deref(), Some("version#0001.0000000000"));
    let entry = only_entry(&change);
    assert_eq!((entry.name.as_str(), entry.class, &entry.actor), (CREATED, EntryClass::Audit, &editor("ann").actor));
    assert_eq!((entry.subject.kind.as_str(), entry.subject.id.as_str(), entry.at), ("policy", "purchases:v1", hour(0)));
    let data = json!({
        "actor_email": "ann@example.com",
        "before": null,
        "after": { "status": "draft" },
        "metadata": { "name": "Purchases", "stages": 3 },
    });
    assert_eq!(entry.data, data);
    assert_eq!(Policy::logged(entry), Some(Logged { name: "policy.create".to_owned(), by: Some("ann".to_owned()) }));
    assert_eq!((policy.listing(), policy.due()), (Listing::at(hour(0)), None));
}

#[test]
fn a_key_names_one_policy() {
    let found = created().record;
    let again = Policy::create(Some(&found), "purchases", Uuid::from_u128(2), &full(), &editor("bob"), hour(1));
    assert_eq!(again, Err(Refusal::Exists));
}

#[test]
fn versions_are_numbered_and_several_can_be_drafts() {
    let policy = created().record;
    let change = policy.add_version(Uuid::from_u128(2), &with_orders(&[]), &editor("bob"), hour(2)).unwrap();
    assert_eq!((change.record.newest(), statuses(&change.record)), (2, vec!["draft", "draft"]));
    assert_eq!(change.record.version(1), policy.version(1));
    assert_eq!(change.record.version(2).unwrap().created_by, "bob");
    assert_eq!(written(&change), ("version#0002.0000000000", with_orders(&[])));
    let entry = only_entry(&change);
    assert_eq!((entry.name.as_str(), entry.subject.id.as_str()), (ADDED, "purchases:v2"));
    assert_eq!(entry.data["metadata"], json!({ "name": "Purchases", "stages": 0 }));
    for number in [0, 3, u32::MAX] {
        assert_eq!(change.record.version(number), None);
        assert_eq!((change.record.status(number), change.record.item(number)), (None, None));
    }
}

#[test]
fn a_policy_has_so_many_versions_and_not_one_more() {
    let mut policy = of_versions(2);
    policy.versions = vec![policy.versions[0].clone(); MAX_VERSIONS - 1];
    let add = |policy: &Policy| policy.add_version(Uuid::nil(), &full(), &editor("ann"), hour(1));
    let full_one = add(&policy).unwrap().record;
    assert_eq!(full_one.item(1000).as_deref(), Some("version#1000.0000000000"));
    assert_eq!(add(&full_one), Err(Refusal::TooManyVersions));
    // Fewer, if they would be too much to be stored.
    let long = Editor { email: None, ..editor(&"ü".repeat(128)) };
    policy.versions.iter_mut().for_each(|version| version.created_by = "ü".repeat(128));
    let too_long = policy.add_version(Uuid::nil(), &full(), &long, hour(1));
    assert_eq!(too_long, Err(Refusal::TooManyVersions));
}

#[test]
fn a_draft_is_edited_into_an_item_of_its_own() {
    let policy = of_versions(2);
    let change = policy.edit(1, &with_orders(&[9]), &editor("dot"), hour(5)).unwrap();
    let version = change.record.version(1).unwrap();
    assert_eq!((version.edits, version.created_by.as_str(), version.id), (1, "dot", Uuid::from_u128(1)));
    assert_eq!((version.created_at, version.updated_at), (hour(0), hour(5)));
    assert_eq!((change.record.version(2), statuses(&change.record)), (policy.version(2), vec!["draft", "draft"]));
    assert_eq!(written(&change), ("version#0001.0000000001", with_orders(&[9])));
    assert_eq!(change.record.item(1).as_deref(), Some("version#0001.0000000001"));
    let entry = only_entry(&change);
    assert_eq!((entry.name.as_str(), entry.subject.id.as_str()), (EDITED, "purchases:v1"));
    let again = change.record.edit(1, &full(), &editor("dot"), hour(6)).unwrap();
    assert_eq!(again.record.item(1).as_deref(), Some("version#0001.0000000002"));
}

#[test]
fn only_drafts_are_edited() {
    let policy = activated(&of_versions(3), 1, 4);
    let policy = activated(&policy, 2, 5);
    let edit = |number: u32| policy.edit(number, &full(), &editor("dot"), hour(6)).map(|_| ());
    assert_eq!(edit(1), Err(Refusal::NotDraft(Status::Archived)));
    assert_eq!(edit(2), Err(Refusal::NotDraft(Status::Active)));
    assert_eq!(edit(3), Ok(()));
    assert_eq!((edit(0), edit(4)), (Err(Refusal::NotFound), Err(Refusal::NotFound)));
    let refused = edit(1).unwrap_err().to_string();
    assert_eq!(refused, "this version is archived, and only drafts can be edited");
}

#[test]
fn at_most_one_version_is_active() {
    let policy = of_versions(3);
    let outcome = policy.activate(2, &editor("cid"), hour(4)).unwrap();
    let change = changed(outcome);
    assert_eq!((change.record.active, statuses(&change.record)), (Some(2), vec!["draft", "active", "draft"]));
    assert_eq!(change.with, []);
    let entry = only_entry(&change);
    assert_eq!((entry.name.as_str(), entry.subject.id.as_str()), (ACTIVATED, "purchases:v2"));
    let data = json!({
        "actor_email": "cid@example.com",
        "before": { "status": "draft" },
        "after": { "status": "active" },
        "metadata": { "replaces_version": null },
    });
    assert_eq!(entry.data, data);

    let next = changed(change.record.activate(3, &editor("cid"), hour(5)).unwrap());
    assert_eq!((next.record.active, statuses(&next.record)), (Some(3), vec!["draft", "archived", "active"]));
    assert_eq!(only_entry(&next).data["metadata"], json!({ "replaces_version": 2 }));
    let updated: Vec<_> = next.record.versions.iter().map(|version| version.updated_at).collect();
    assert_eq!(updated, [hour(0), hour(5), hour(5)]);
    // Who wrote it is not who activates it.
    assert_eq!(next.record.version(3).unwrap().created_by, "bob");

    // Back to an old one.
    let back = activated(&next.record, 2, 6);
    assert_eq!(statuses(&back), ["draft", "active", "archived"]);
    assert_eq!(back.activate(2, &editor("cid"), hour(7)), Ok(Outcome::Keep));
    assert_eq!(back.activate(4, &editor("cid"), hour(7)), Err(Refusal::NotFound));
    assert_eq!(back.activate(0, &editor("cid"), hour(7)), Err(Refusal::NotFound));
}

#[test]
fn a_policy_can_be_left_without_an_active_version() {
    let policy = activated(&of_versions(2), 1, 3);
    let change = policy.deactivate(1, &editor("dot"), hour(4)).unwrap();
    assert_eq!((change.record.active, statuses(&change.record)), (None, vec!["archived", "draft"]));
    assert_eq!(change.record.version(1).unwrap().updated_at, hour(4));
    assert_eq!(change.with, []);
    let entry = only_entry(&change);
    assert_eq!((entry.name.as_str(), entry.subject.id.as_str()), (DEACTIVATED, "purchases:v1"));
    let data = json!({
        "actor_email": "dot@example.com",
        "before": { "status": "active" },
        "after": { "status": "archived" },
        "metadata": null,
    });
    assert_eq!(entry.data, data);
    let deactivate = |number: u32| change.record.deactivate(number, &editor("dot"), hour(5)).map(|_| ());
    assert_eq!(deactivate(1), Err(Refusal::NotActive(Status::Archived)));
    assert_eq!(deactivate(2), Err(Refusal::NotActive(Status::Draft)));
    assert_eq!(deactivate(3), Err(Refusal::NotFound));
    assert_eq!(deactivate(1).unwrap_err().to_string(), "this version is archived, not active");
    assert_eq!(statuses(&activated(&change.record, 1, 6)), ["active", "draft"]);
}

#[test]
fn a_policy_is_read_as_it_was_stored() {
    let policy = activated(&of_versions(3), 2, 4);
    let stored = serde_json::to_string(&policy).unwrap();
    assert_eq!(serde_json::from_str::<Policy>(&stored).unwrap(), policy);
    assert_eq!(Policy::upgrade(0, json!({})), None);
    assert_eq!((Policy::KIND, Policy::SCHEMA), ("policy", 1));
}

#[test]
fn as_many_versions_as_a_policy_can_have_fit_into_its_record() {
    let mut policy = of_versions(1);
    policy.versions[0].created_by = "n".repeat(MAX_NAME);
    policy.versions[0].updated_at = hour(0) + microseconds(1);
    policy.versions = vec![policy.versions[0].clone(); MAX_VERSIONS];
    let stored = serde_json::to_string(&policy).unwrap().len();
    assert!(stored <= 400_000, "{stored} bytes");
}
