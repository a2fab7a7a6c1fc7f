//! The directory in a file.

use crate::world::{World, configured, file, group, policy, role, rule, stage};
use countersign_domain::Tenant;
use countersign_domain::workflow::request::{Answers, Question};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

fn people() -> Value {
    json!({
        "tenants": {
            "acme": {
                "roles": { "lead": ["u-ann", "u-bob", "u-ann"], "nobody": [], "realm's": ["u-realm"] },
                "clients": { "billing": { "lead": ["u-cem"] } },
                "groups": { "/finance/leads": ["u-dan"], "finance": ["u-eve"] },
            },
            "globex": { "roles": { "lead": ["u-globex"], "theirs": ["u-globex"] } },
        },
        "default": { "roles": { "lead": ["u-default"], "common": ["u-default"] }, "groups": { "/all": ["u-default"] } },
    })
}

fn client_role(client: &str, role: &str) -> Value {
    rule("role", json!({ "client": client, "role": role }))
}

#[tokio::test]
async fn roles_and_groups_have_the_members_that_the_table_says() {
    let world = World::with_table(people()).await;
    for (rule, members) in [
        (role("lead"), &["u-ann", "u-bob"][..]),
        (role("nobody"), &[]),
        (role("Lead"), &[]),
        (role("unknown"), &[]),
        (client_role("billing", "lead"), &["u-cem"]),
        (client_role("billing", "realm's"), &[]),
        (client_role("unknown", "lead"), &[]),
        (group("/finance/leads"), &["u-dan"]),
        (group("finance/leads"), &["u-dan"]),
        (group("/finance"), &["u-eve"]),
        (group("/finance/"), &[]),
        (group("leads"), &[]),
    ] {
        assert_eq!(world.named(rule.clone()).await.unwrap(), members, "{rule}");
    }
}

#[tokio::test]
async fn a_tenant_with_a_table_of_its_own_sees_nobody_elses_people() {
    let world = World::with_table(people()).await;
    let named = async |tenant: &str, rule: Value| {
        let tenant: Tenant = tenant.parse().unwrap();
        let context = Arc::new(json!({}));
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut asking = world.approvers.asking(&tenant, policy(json!([stage(1, json!([rule]))])), context, deadline);
        let mut answers = Answers::default();
        asking.answer(&world.store, Question::Group(0), &mut answers).await.unwrap();
        let approvers = answers.groups[&0][0].approvers.iter();
        approvers.map(|approver| approver.user.clone()).collect::<Vec<_>>()
    };
    assert_eq!(named("globex", role("lead")).await, ["u-globex"]);
    for rule in [role("theirs"), role("common"), group("/all")] {
        assert_eq!(named("acme", rule).await, [""; 0]);
    }
    for tenant in ["other", "default"] {
        assert_eq!(named(tenant, role("lead")).await, ["u-default"]);
        assert_eq!(named(tenant, role("theirs")).await, [""; 0]);
    }
}

#[tokio::test]
async fn every_part_of_a_table_may_be_left_out() {
    for table in [json!({}), json!({ "tenants": {} }), json!({ "tenants": { "acme": {} } }), json!({ "default": {} })] {
        let world = World::with_table(table.clone()).await;
        assert_eq!(world.named(role("lead")).await.unwrap(), [""; 0], "{table}");
    }
}

#[test]
fn a_table_that_makes_no_sense_fails_the_start_with_a_sentence() {
    let long = format!(r#"{{"default":{{"roles":{{"r":["{}"]}}}}}}"#, "u".repeat(129));
    for (table, said) in [
        ("", "which is no directory: EOF"),
        ("[]", "must be objects"),
        ("[{},{}]", "must be objects"),
        (r#"{"default":[]}"#, "must be objects"),
        (r#"{"tenants":{"a":[]}}"#, "must be objects"),
        (r#"{"tenants":[]}"#, "invalid type: sequence"),
        ("null", "must be objects"),
        (r#"{"tenant":{}}"#, "unknown field `tenant`"),
        (r#"{"tenants":{"a/b":{}}}"#, "must be 1 to 128 of"),
        (r#"{"tenants":{"a":{},"a":{}}}"#, "a key stands twice"),
        (
            r#"{"tenants":{"F4A5B6C7-D8E9-0123-F012-456789012CDE":{},"f4a5b6c7-d8e9-0123-f012-456789012cde":{}}}"#,
            "a tenant is there twice",
        ),
        (r#"{"default":{"role":{}}}"#, "unknown field `role`"),
        (r#"{"default":{"roles":{"r":["a"],"r":["b"]}}}"#, "a key stands twice"),
        (r#"{"default":{"roles":{"r":"a"}}}"#, "invalid type: string"),
        (r#"{"default":{"roles":{"r":[1]}}}"#, "invalid type: integer"),
        (r#"{"default":{"roles":{"r":[""]}}}"#, "\"r\" names a user whose id is empty"),
        (r#"{"default":{"clients":{"c":{"r":["a\u0000"]}}}}"#, "\"r\" names a user whose id contains NUL"),
        (&long, "\"r\" names a user whose id is longer than 128 characters"),
        (r#"{"default":{"groups":{"/g":["a"],"g":["b"]}}}"#, "is there twice, with and without its first slash"),
        (r#"{"default":{}} {}"#, "trailing characters"),
    ] {
        let file = file(table);
        let error = configured(&[("COUNTERSIGN_DIRECTORY", file.path().to_str().unwrap())]).unwrap_err().to_string();
        assert!(error.starts_with("COUNTERSIGN_DIRECTORY names ") && error.contains(said), "{table}: {error}");
    }
    let error = configured(&[("COUNTERSIGN_DIRECTORY", "/nowhere/people.json")]).unwrap_err().to_string();
    assert!(error.starts_with("COUNTERSIGN_DIRECTORY names /nowhere/people.json, which cannot be read: "), "{error}");
}
