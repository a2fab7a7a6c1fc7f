//! Whatever is done to the items of a chain behind the store's back, verification names the first that is wrong.

use crate::job::Job;
use crate::world::{World, tenant};
use aws_sdk_dynamodb::types::AttributeValue;
use countersign_domain::Record;
use countersign_store::Key;
use std::collections::HashMap;
use tokio::task::JoinSet;

type Item = HashMap<String, AttributeValue>;

/// How many tamperings are tried; more with `COUNTERSIGN_TAMPERINGS`.
fn tamperings() -> usize {
    std::env::var("COUNTERSIGN_TAMPERINGS").map_or(10_000, |count| count.parse().unwrap())
}

/// How many changes the chain has.
const LENGTH: u64 = 4;

/// What is done to the table.
#[derive(Clone, Copy, Debug)]
enum Tampering {
    /// A byte of a stored attribute of a change.
    Flip(u64, &'static str),
    /// A change is removed.
    Drop(u64),
    /// Two changes swap their contents.
    Swap(u64, u64),
    /// A copy of a change is put behind the last.
    Append(u64),
    /// All contents from here on move by one place, the last coming first.
    Reorder(u64),
    /// An attribute of the record itself.
    Record(&'static str),
}

impl Tampering {
    fn draw(random: &mut fastrand::Rng) -> Self {
        let version = random.u64(1..=LENGTH);
        match random.u8(0..8) {
            0..3 => Self::Flip(version, random.choice(["body", "hash", "prev_hash"]).unwrap()),
            3 => Self::Drop(version),
            4 => Self::Swap(version, if version == LENGTH { 1 } else { random.u64(version + 1..=LENGTH) }),
            5 => Self::Append(version),
            6 => Self::Reorder(random.u64(1..LENGTH)),
            _ => Self::Record(random.choice(["body", "hash", "changed_at", "version", "schema"]).unwrap()),
        }
    }

    /// The first entry that is wrong then.
    fn first_wrong(self) -> u64 {
        match self {
            Self::Flip(version, _) | Self::Drop(version) => version,
            Self::Swap(a, b) => a.min(b),
            // The record does not know of it, or does not fit the last of its changes.
            Self::Append(_) | Self::Record(_) => LENGTH + 1,
            Self::Reorder(from) => from,
        }
    }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn sk(version: u64) -> String {
    format!("change#{version:010}")
}

/// Changes one byte, or one digit, of an attribute.
fn flip(item: &mut Item, name: &str, random: &mut fastrand::Rng) {
    let value = item.get_mut(name).unwrap();
    *value = if let Ok(old) = value.as_s() {
        let at = random.usize(0..old.len());
        let mut bytes = old.clone().into_bytes();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        AttributeValue::S(String::from_utf8(bytes).unwrap())
    } else if let Ok(old) = value.as_b() {
        let mut bytes = old.as_ref().to_vec();
        let at = random.usize(0..bytes.len());
        bytes[at] ^= 1 << random.u8(0..8);
        AttributeValue::B(bytes.into())
    } else {
        AttributeValue::N((value.as_n().unwrap().parse::<u64>().unwrap() + 1).to_string())
    };
}

/// The tampered items of the chain, by sort key.
fn apply(tampering: Tampering, chain: &HashMap<String, Item>, random: &mut fastrand::Rng) -> HashMap<String, Item> {
    let mut tampered = chain.clone();
    let moved = |to: u64, from: u64| {
        let mut item = chain[&sk(from)].clone();
        item.insert("sk".to_owned(), text(&sk(to)));
        (sk(to), item)
    };
    match tampering {
        Tampering::Flip(version, name) => flip(tampered.get_mut(&sk(version)).unwrap(), name, random),
        Tampering::Drop(version) => {
            tampered.remove(&sk(version));
        }
        Tampering::Swap(a, b) => tampered.extend([moved(a, b), moved(b, a)]),
        Tampering::Append(version) => tampered.extend([moved(LENGTH + 1, version)]),
        Tampering::Reorder(from) => {
            tampered.extend([moved(from, LENGTH)]);
            tampered.extend((from..LENGTH).map(|version| moved(version + 1, version)));
        }
        Tampering::Record(name) => flip(tampered.get_mut("@").unwrap(), name, random),
    }
    tampered
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tampering_with_a_chain_is_found_at_its_first_wrong_entry() {
    let shares: JoinSet<()> = (0..4).map(|seed| tamper(seed, tamperings() / 4)).collect();
    shares.join_all().await;
}

async fn tamper(seed: u64, tamperings: usize) {
    let world = World::new().await;
    let acme = tenant("acme");
    let key = world.hire(&acme, "one", "a").await;
    for n in 1..LENGTH {
        let touch = |job: Option<&Job>, now| Ok(job.unwrap().touched(&n.to_string(), now));
        world.work(&key, touch).await.unwrap();
    }
    let chain = items(&world, &key).await;
    assert_eq!(broken(&world).await, None);
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..tamperings {
        let tampering = Tampering::draw(&mut random);
        let tampered = apply(tampering, &chain, &mut random);
        write(&world, &chain, &tampered).await;
        let found = broken(&world).await;
        // A version that says more than there is, or less, is first wrong where the changes end or go on.
        let version = matches!(tampering, Tampering::Record("version"));
        let expected = if version { found.filter(|found| *found > LENGTH) } else { Some(tampering.first_wrong()) };
        assert_eq!(found, expected, "{tampering:?}");
        write(&world, &tampered, &chain).await;
    }
    assert_eq!(broken(&world).await, None);
}

/// The stated limit: whoever can write the table can write the whole chain anew.
#[tokio::test]
async fn a_chain_that_was_written_anew_as_a_whole_is_not_found() {
    let world = World::new().await;
    let key = world.hire(&tenant("acme"), "one", "a").await;
    world.take(&key, "honest").await.unwrap();
    let honest = items(&world, &key).await;
    let forger = World::new().await;
    forger.hire(&tenant("acme"), "one", "a").await;
    forger.take(&key, "forger").await.unwrap();
    let forged = items(&forger, &key).await;
    assert_ne!(honest, forged);
    write(&world, &honest, &forged).await;
    assert_eq!(broken(&world).await, None);
}

async fn broken(world: &World) -> Option<u64> {
    let verified = world.store.verify(Job::KIND, &tenant("acme"), None, None).await.unwrap();
    verified.broken.map(|record| record.broken.version)
}

/// The record and its changes.
async fn items(world: &World, key: &Key<Job>) -> HashMap<String, Item> {
    let query = world.client.query().table_name(&world.table).consistent_read(true);
    let query = query.key_condition_expression("pk = :pk").expression_attribute_values(":pk", text(key.as_str()));
    let items = query.send().await.unwrap().items.unwrap();
    items.into_iter().map(|item| (item["sk"].as_s().unwrap().clone(), item)).collect()
}

/// Makes the table have `after` where it had `before`.
async fn write(world: &World, before: &HashMap<String, Item>, after: &HashMap<String, Item>) {
    for (sk, item) in after {
        if before.get(sk) != Some(item) {
            world.client.put_item().table_name(&world.table).set_item(Some(item.clone())).send().await.unwrap();
        }
    }
    for (sk, item) in before {
        if !after.contains_key(sk) {
            let delete = world.client.delete_item().table_name(&world.table).key("pk", item["pk"].clone());
            delete.key("sk", text(sk)).send().await.unwrap();
        }
    }
}
