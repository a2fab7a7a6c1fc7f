//! What is stored: shapes that other engines and later versions must agree on, and what verification finds.

use crate::world::{Thing, World, deadline, tenant};
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{
    AttributeValue, Put, ReturnValuesOnConditionCheckFailure, TimeToLiveStatus, TransactWriteItem,
};
use countersign_store::{Fault, Key, Once};
use std::time::Duration;

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

impl World {
    /// Overwrites one attribute of an item behind the store's back.
    async fn tamper(&self, pk: &str, sk: &str, attribute: &str, value: AttributeValue) {
        self.client
            .update_item()
            .table_name(&self.table)
            .key("pk", text(pk))
            .key("sk", text(sk))
            .update_expression("SET #a = :v")
            .expression_attribute_names("#a", attribute)
            .expression_attribute_values(":v", value)
            .send()
            .await
            .unwrap();
    }

    async fn item(&self, pk: &str, sk: &str) -> std::collections::HashMap<String, AttributeValue> {
        let get = self.client.get_item().table_name(&self.table).key("pk", text(pk)).key("sk", text(sk));
        get.consistent_read(true).send().await.unwrap().item.unwrap()
    }

    async fn broken_change(&self) -> Option<u64> {
        let verified = self.store.verify("thing", &tenant("acme"), None, None).await.unwrap();
        verified.broken.map(|record| record.broken.version)
    }
}

/// A thing with three changes.
async fn world_with_history() -> World {
    let world = World::new().await;
    world.create(&tenant("acme"), "one", None).await;
    let key = Key::new(&tenant("acme"), "one");
    for _ in 0..2 {
        let touch = |thing: Option<&Thing>, now| Ok(thing.unwrap().clone().change("touched", now));
        world.apply(&key, None, touch).await.unwrap();
    }
    assert_eq!(world.broken_change().await, None);
    world
}

const PK: &str = "thing#acme#one";
const CHANGES: [&str; 3] = ["change#0000000001", "change#0000000002", "change#0000000003"];

#[tokio::test]
async fn a_changed_item_of_the_audit_log_is_found_where_it_is() {
    for (at, sk) in CHANGES.iter().enumerate() {
        let world = world_with_history().await;
        let AttributeValue::S(body) = world.item(PK, sk).await["body"].clone() else { panic!("no body") };
        world.tamper(PK, sk, "body", text(&body.replace("test", "evil"))).await;
        assert_eq!(world.broken_change().await, Some(at as u64 + 1));
    }
}

#[tokio::test]
async fn a_removed_change_is_found() {
    for (at, sk) in CHANGES.iter().enumerate() {
        let world = world_with_history().await;
        let delete = world.client.delete_item().table_name(&world.table).key("pk", text(PK)).key("sk", text(sk));
        delete.send().await.unwrap();
        assert_eq!(world.broken_change().await, Some(at as u64 + 1));
    }
}

#[tokio::test]
async fn a_changed_field_of_the_record_is_found() {
    for (attribute, value) in [
        ("body", text("{}")),
        ("version", AttributeValue::N("2".to_owned())),
        ("schema", AttributeValue::N("1".to_owned())),
        ("changed_at", text("2026-01-01T00:00:01.000000Z")),
        ("hash", AttributeValue::B(vec![0; 32].into())),
    ] {
        let world = world_with_history().await;
        world.tamper(PK, "@", attribute, value).await;
        assert!(world.broken_change().await.is_some(), "{attribute}");
    }
}

#[tokio::test]
async fn a_record_that_was_set_back_is_found() {
    let world = World::new().await;
    world.create(&tenant("acme"), "one", None).await;
    let before = world.item(PK, "@").await;
    world.decide(&Key::new(&tenant("acme"), "one"), 1).await.unwrap();
    assert_eq!(world.broken_change().await, None);
    let put = world.client.put_item().table_name(&world.table).set_item(Some(before));
    put.send().await.unwrap();
    assert_eq!(world.broken_change().await, Some(2));
    // Nor can it be decided again.
    let again = world.decide(&Key::new(&tenant("acme"), "one"), 2).await;
    assert!(matches!(again, Err(countersign_store::Error::Fault(Fault::Corrupt(_)))), "{again:?}");
}

/// The stated limits: whoever can write the table can take a record away.
#[tokio::test]
async fn a_record_that_was_taken_away_is_not_found_to_be_missing() {
    let world = world_with_history().await;
    let update = world.client.update_item().table_name(&world.table).key("pk", text(PK)).key("sk", text("@"));
    update.update_expression("REMOVE all_pk").send().await.unwrap();
    assert_eq!(world.broken_change().await, None, "out of the index");
    for sk in ["@"].iter().chain(&CHANGES) {
        let delete = world.client.delete_item().table_name(&world.table).key("pk", text(PK)).key("sk", text(sk));
        delete.send().await.unwrap();
        assert_eq!(world.broken_change().await, None, "its head alone, then all of it");
    }
}

#[tokio::test]
async fn an_older_schema_is_upgraded_and_a_newer_one_left_alone() {
    let world = World::new().await;
    world.create(&tenant("acme"), "one", None).await;
    let key = Key::<Thing>::new(&tenant("acme"), "one");
    let number = |n: u32| AttributeValue::N(n.to_string());
    world.tamper(PK, "@", "schema", number(1)).await;
    assert_eq!(world.load(&key).await.unwrap().ballast, "from schema 1");
    world.tamper(PK, "@", "schema", number(3)).await;
    assert!(matches!(world.store.load(&key, deadline()).await, Err(Fault::Unavailable(_))));
    world.tamper(PK, "@", "schema", number(0)).await;
    assert!(matches!(world.store.load(&key, deadline()).await, Err(Fault::Corrupt(_))));
}

#[tokio::test]
async fn a_body_that_is_not_ours_is_corrupt() {
    let world = World::new().await;
    world.create(&tenant("acme"), "one", None).await;
    world.tamper(PK, "@", "body", text("[]")).await;
    let loaded = world.store.load(&Key::<Thing>::new(&tenant("acme"), "one"), deadline()).await;
    assert!(matches!(loaded, Err(Fault::Corrupt(_))), "{loaded:?}");
}

#[tokio::test]
async fn the_tables_ttl_looks_at_whole_seconds_in_expires() {
    let world = World::new().await;
    let ttl = world.client.describe_time_to_live().table_name(&world.table).send().await.unwrap();
    let ttl = ttl.time_to_live_description.unwrap();
    assert_eq!(ttl.attribute_name.as_deref(), Some("expires"));
    assert_eq!(ttl.time_to_live_status, Some(TimeToLiveStatus::Enabled));

    let once = Once { pk: "once#_#k".to_owned(), fingerprint: [1; 32], lifetime: Duration::from_secs(60) };
    let thing = world.create(&tenant("acme"), "first", None).await;
    world.put(&tenant("acme"), Thing { id: "second".to_owned(), ..thing }, Some(&once)).await.unwrap();
    let expires = world.clock.now().as_second() + 60;
    assert_eq!(world.item("once#_#k", "@").await["expires"], AttributeValue::N(expires.to_string()));
}

#[tokio::test]
async fn a_public_change_is_due_until_it_is_fanned_out() {
    let world = World::new().await;
    world.create(&tenant("acme"), "one", None).await;
    let change = world.item(PK, CHANGES[0]).await;
    let AttributeValue::S(shard) = &change["due_pk"] else { panic!("no shard") };
    assert!((0..16).any(|n| *shard == format!("due#{n}")), "{shard}");
    assert_eq!(change["due_sk"], text("2026-01-01T00:00:02.000000Z"));
}

#[tokio::test]
async fn the_engine_takes_a_hundred_items_in_a_transaction_and_no_more() {
    let world = World::new().await;
    let transact = async |count: usize| {
        let items = (0..count).map(|n| put(&world.table, &format!("limit#{count}#{n}"))).collect();
        world.client.transact_write_items().set_transact_items(Some(items)).send().await
    };
    transact(100).await.unwrap();
    assert_eq!(transact(101).await.unwrap_err().code(), Some("ValidationException"));
}

fn put(table: &str, pk: &str) -> TransactWriteItem {
    let put = Put::builder()
        .table_name(table)
        .item("pk", text(pk))
        .item("sk", text("@"))
        .condition_expression("attribute_not_exists(pk)")
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .unwrap();
    TransactWriteItem::builder().put(put).build()
}

#[tokio::test]
async fn a_cancelled_transaction_says_which_item_and_shows_what_was_there() {
    let world = World::new().await;
    let transact = async |pks: &[&str]| {
        let items = pks.iter().map(|pk| put(&world.table, pk)).collect();
        world.client.transact_write_items().set_transact_items(Some(items)).send().await
    };
    transact(&["b"]).await.unwrap();
    let error = transact(&["a", "b"]).await.unwrap_err().into_service_error();
    let aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError::TransactionCanceledException(error) =
        error
    else {
        panic!("{error:?}")
    };
    let [first, second] = error.cancellation_reasons() else { panic!("{error:?}") };
    assert_eq!((first.code(), second.code()), (Some("None"), Some("ConditionalCheckFailed")));
    assert_eq!(second.item().unwrap()["pk"], text("b"));
    let get = world.client.get_item().table_name(&world.table).key("pk", text("a")).key("sk", text("@"));
    assert!(get.send().await.unwrap().item.is_none(), "nothing of a cancelled transaction is written");
}
