//! The audit chain: what was written verifies, what was tampered with does not, and the one thing that is not found.

use crate::{at, changed, operator};
use countersign_domain::chain::{self, Broken, ChangeBody, GENESIS, Hash, StoredRecord, Verifier};
use countersign_domain::key_ring::{KeyRing, NewKey, PublicKey, Sealed};
use countersign_domain::override_token::{Decide, Mint, OverrideToken};
use countersign_domain::{Actor, Change, Entry, EntryClass, Record, Subject, Timestamp, seconds};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use uuid::Uuid;

/// A record and its changes as they lie in the table.
#[derive(Clone, Debug)]
struct Stored {
    key: String,
    version: u64,
    schema: u32,
    changed_at: String,
    body: String,
    hash: Hash,
    changes: Vec<StoredChange>,
}

/// A change as it lies in the table; its version is its sort key.
#[derive(Clone, Debug)]
struct StoredChange {
    version: u64,
    prev_hash: Hash,
    hash: Hash,
    body: String,
}

impl Stored {
    fn absent(key: &str) -> Self {
        let nothing = String::new();
        let (changed_at, body) = (nothing.clone(), nothing);
        Self { key: key.to_owned(), version: 0, schema: 1, changed_at, body, hash: GENESIS, changes: vec![] }
    }

    /// Writes the next change as the store's transaction does.
    fn write(&mut self, body: String, mut entries: Vec<Entry>, now: Timestamp) {
        self.version += 1;
        self.changed_at = now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        self.body = body;
        entries.last_mut().unwrap().state = Some(self.record().state());
        let change_id = Uuid::from_u128(self.version.into()).to_string();
        let content =
            serde_json::to_string(&ChangeBody { change_id, version: self.version, entries, items: Vec::new() })
                .unwrap();
        self.append(content);
    }

    fn change<R: Record>(&mut self, change: Change<R>, now: Timestamp) -> R {
        self.write(serde_json::to_string(&change.record).unwrap(), change.entries, now);
        change.record
    }

    /// Stores `content` as the last change, with hashes that fit, whatever it says.
    fn append(&mut self, content: String) {
        let (prev_hash, hash) = (self.hash, chain::hash(&self.hash, content.as_bytes()));
        self.hash = hash;
        self.changes.push(StoredChange { version: self.version, prev_hash, hash, body: content });
    }

    fn record(&self) -> StoredRecord<'_> {
        StoredRecord {
            key: &self.key,
            version: self.version,
            schema: self.schema,
            changed_at: &self.changed_at,
            body: &self.body,
        }
    }

    fn verify(&self) -> Result<u64, Broken> {
        let mut verifier = Verifier::default();
        for change in &self.changes {
            verifier.change(change.version, &change.prev_hash, &change.hash, &change.body)?;
        }
        verifier.finish(&self.record(), &self.hash)
    }

    /// Gives the changes, in their present order, the sort keys of an unbroken chain.
    fn renumber(&mut self) {
        for (version, change) in (1..).zip(&mut self.changes) {
            change.version = version;
        }
    }

    /// Everything of it that is stored.
    fn places(&mut self) -> Vec<&mut dyn Place> {
        let mut places: Vec<&mut dyn Place> = vec![
            &mut self.key,
            &mut self.version,
            &mut self.schema,
            &mut self.changed_at,
            &mut self.body,
            &mut self.hash,
        ];
        for change in &mut self.changes {
            places.extend([
                &mut change.version as &mut dyn Place,
                &mut change.prev_hash,
                &mut change.hash,
                &mut change.body,
            ]);
        }
        places
    }
}

/// A stored value of which single bytes can be changed.
trait Place {
    fn bytes(&self) -> Vec<u8>;
    /// Replaces the value, if it can be made of these bytes; a text cannot be made of any.
    fn set(&mut self, bytes: &[u8]) -> bool;

    fn flip(&mut self, position: usize, mask: u8) -> bool {
        let mut bytes = self.bytes();
        bytes[position] ^= mask;
        self.set(&bytes)
    }
}

impl Place for String {
    fn bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn set(&mut self, bytes: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        text.clone_into(self);
        true
    }
}

impl Place for Hash {
    fn bytes(&self) -> Vec<u8> {
        self.to_vec()
    }

    fn set(&mut self, bytes: &[u8]) -> bool {
        *self = bytes.try_into().unwrap();
        true
    }
}

impl Place for u64 {
    fn bytes(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn set(&mut self, bytes: &[u8]) -> bool {
        *self = Self::from_be_bytes(bytes.try_into().unwrap());
        true
    }
}

impl Place for u32 {
    fn bytes(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn set(&mut self, bytes: &[u8]) -> bool {
        *self = Self::from_be_bytes(bytes.try_into().unwrap());
        true
    }
}

/// The two changes of a token that was decided.
fn decided_token() -> Stored {
    token_decided("approve")
}

fn token_decided(decision: &str) -> Stored {
    let mint = Mint {
        jti: "f4a5b6c7-d8e9-0123-f012-456789012cde".parse().unwrap(),
        customer: "acme".parse().unwrap(),
        event_id: "evt-1".parse().unwrap(),
        allowed_decisions: vec!["approve".parse().unwrap(), "reject".parse().unwrap()],
        reason: Some("größer | \"quoted\"".to_owned()),
        ttl_minutes: 5,
    };
    let mut stored = Stored::absent("override#acme#f4a5b6c7-d8e9-0123-f012-456789012cde");
    let now = at("2026-11-21T03:38:50.5Z");
    let token = stored.change(OverrideToken::mint(mint, &operator(), now), now);
    let decide = Decide { event_id: "evt-1".parse().unwrap(), decision: decision.parse().unwrap(), reason: None };
    let now = now + seconds(1);
    stored.change(changed(token.decide(&decide, &operator(), now).unwrap()), now);
    stored
}

/// The changes of a ring that was started and rotated, and the record as it was after each.
fn rotated_ring(rotations: usize) -> (Stored, Vec<Stored>) {
    let key =
        || NewKey { public: PublicKey { x: "x".to_owned(), y: "y".to_owned() }, private: Sealed("sealed".to_owned()) };
    let mut stored = Stored::absent("keyring#acme#acme");
    let mut now = at("2026-11-21T03:38:50Z");
    let mut ring = stored.change(KeyRing::start("acme".parse().unwrap(), key(), &operator(), now), now);
    let mut history = vec![stored.clone()];
    for _ in 0..rotations {
        now += seconds(1);
        ring = stored.change(changed(ring.rotate(ring.active.number, key(), &operator(), now).unwrap()), now);
        history.push(stored.clone());
    }
    (stored, history)
}

fn note(name: &str) -> Entry {
    Entry {
        name: name.to_owned(),
        class: EntryClass::Audit,
        actor: operator(),
        at: at("2026-11-21T03:38:50Z"),
        subject: Subject { kind: "note".to_owned(), id: name.to_owned() },
        data: json!({}),
        state: None,
    }
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    (Timestamp::MIN.as_microsecond()..=Timestamp::MAX.as_microsecond())
        .prop_map(|micros| Timestamp::from_microsecond(micros).unwrap())
}

/// Cheaper than `any::<String>()`, which reads a regular expression each time, and with control characters.
fn any_text() -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>(), 0..8).prop_map(String::from_iter)
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(any_text(), inner, 0..4).prop_map(Value::from_iter),
        ]
    })
}

prop_compose! {
    fn any_entry()(
        (name, principal, kind, id) in (any_text(), any_text(), any_text(), any_text()),
        public in any::<bool>(),
        at in any_time(),
        data in any_json(),
    ) -> Entry {
        let class = if public { EntryClass::Public } else { EntryClass::Audit };
        Entry { name, class, actor: Actor::Operator { principal }, at, subject: Subject { kind, id }, data, state: None }
    }
}

prop_compose! {
    /// A record of any content after up to 5 changes of any content; what the rules would write is among it.
    fn any_chain(fewest: usize)(
        key in "[ -~]{1,40}",
        schema in any::<u32>(),
        changes in proptest::collection::vec(
            (any_json(), proptest::collection::vec(any_entry(), 1..3), any_time()),
            fewest..=5,
        ),
    ) -> (Stored, usize) {
        let mut stored = Stored { schema, ..Stored::absent(&key) };
        let entries = changes.iter().map(|(_, entries, _)| entries.len()).sum();
        for (body, entries, now) in changes {
            stored.write(body.to_string(), entries, now);
        }
        (stored, entries)
    }
}

#[test]
fn what_the_rules_wrote_verifies_with_all_of_its_entries() {
    assert_eq!(decided_token().verify(), Ok(2));
    let (ring, history) = rotated_ring(5);
    assert_eq!(ring.verify(), Ok(6));
    for (entries, stored) in (1..).zip(history) {
        assert_eq!(stored.verify(), Ok(entries));
    }
}

#[test]
fn the_entries_of_a_change_are_counted_one_by_one() {
    let mut stored = Stored::absent("note#acme#1");
    stored.write("{}".to_owned(), vec![note("a"), note("b"), note("c")], at("2026-11-21T03:38:50Z"));
    stored.write("{}".to_owned(), vec![note("d"), note("e")], at("2026-11-21T03:38:51Z"));
    assert_eq!(stored.verify(), Ok(5));
}

#[test]
fn a_hash_is_sha256_over_the_hash_before_and_the_bytes() {
    // Computed with another implementation of SHA-256.
    let first = chain::hash(&GENESIS, b"abc");
    assert_eq!(hex::encode(first), "365aa7d8f7f9402c4b9434502b4cc89ddb09fe50d7cd95b493b834c62d5a5370");
    assert_eq!(
        hex::encode(chain::hash(&first, b"")),
        "e68b0c72b1aff9488294900ba6cc1e99075122a8d0c122eb42da506f9c2321a4"
    );
}

#[test]
fn a_state_is_sha256_over_the_parts_as_a_json_array() {
    let record = StoredRecord {
        key: "override#acme#1",
        version: 2,
        schema: 1,
        changed_at: "2026-11-21T03:38:50.000000Z",
        body: r#"{"a":"b"}"#,
    };
    // Computed with another implementation of JSON and SHA-256.
    assert_eq!(record.state(), "3409d2352dfc7ba27b92439f00a0989370e9d7f5d13a5d4c8f69a55fee07dc7e");
}

#[test]
fn every_bit_of_everything_that_is_stored_is_proven() {
    for mut stored in [decided_token(), rotated_ring(2).0] {
        for place in 0..stored.places().len() {
            for position in 0..stored.places()[place].bytes().len() {
                for bit in 0..8 {
                    let mut tampered = stored.clone();
                    if tampered.places()[place].flip(position, 1 << bit) {
                        assert!(tampered.verify().is_err(), "bit {bit} of byte {position} of place {place}");
                    }
                }
            }
        }
    }
}

/// What somebody does to what is stored.
type Tampering = fn(&mut Stored);

#[test]
fn what_is_broken_is_said_of_the_first_change_that_does_not_fit() {
    let (ring, _) = rotated_ring(3);
    let cases: [(u64, &str, Tampering); 17] = [
        (1, "the change is missing", |ring| drop(ring.changes.remove(0))),
        (3, "the change is missing", |ring| drop(ring.changes.remove(2))),
        (5, "the change is missing", |ring| ring.version = 5),
        (4, "the change is missing", |ring| drop(ring.changes.pop())),
        (1, "the change is missing", |ring| ring.changes.clear()),
        (2, "the change is missing", |ring| ring.changes[1].version = 0),
        (1, "its previous hash is not the hash of the change before", |ring| ring.changes[0].prev_hash[0] = 1),
        (3, "its previous hash is not the hash of the change before", |ring| ring.changes[2].prev_hash = GENESIS),
        (2, "its content does not have the stored hash", |ring| ring.changes[1].hash = GENESIS),
        (4, "its content does not have the stored hash", |ring| ring.changes[3].body.push(' ')),
        // The hash is compared before anything is parsed.
        (1, "its content does not have the stored hash", |ring| ring.changes[0].body = "{".to_owned()),
        (5, "the record does not carry the hash of its last change", |ring| ring.hash = GENESIS),
        (5, "the record does not carry the hash of its last change", |ring| ring.hash = ring.changes[2].hash),
        (5, "the record is not the one that its last change made", |ring| ring.body.push(' ')),
        (5, "the record is not the one that its last change made", |ring| ring.schema = 2),
        (5, "the record is not the one that its last change made", |ring| ring.key = "keyring#other#other".to_owned()),
        (5, "the record is not the one that its last change made", |ring| ring.changed_at.clear()),
    ];
    for (version, reason, tamper) in cases {
        let mut tampered = ring.clone();
        tamper(&mut tampered);
        let broken = tampered.verify().unwrap_err();
        assert_eq!(broken, Broken { version, reason });
        assert_eq!(broken.to_string(), format!("change {version}: {reason}"));
    }
}

#[test]
fn content_with_a_right_hash_must_still_be_a_change_that_says_what_it_made() {
    let one = |entries: Vec<Entry>| {
        serde_json::to_string(&ChangeBody { change_id: "1".to_owned(), version: 1, entries, items: Vec::new() })
            .unwrap()
    };
    let says = Entry { state: Some(Stored::absent("note#acme#1").record().state()), ..note("a") };
    for (content, reason) in [
        ("{".to_owned(), "its content cannot be read"),
        ("{}".to_owned(), "its content cannot be read"),
        ("null".to_owned(), "its content cannot be read"),
        (format!("{} ,", one(vec![says.clone()])), "its content cannot be read"),
        (one(vec![says.clone()]).replace(r#""version":1"#, r#""version":2"#), "it was written as another change"),
        (one(vec![]), "it does not say which record it made"),
        (one(vec![note("a")]), "it does not say which record it made"),
        // Only the last entry's word counts.
        (one(vec![says, note("b")]), "it does not say which record it made"),
    ] {
        let mut stored = Stored { version: 1, ..Stored::absent("note#acme#1") };
        stored.append(content);
        assert_eq!(stored.verify(), Err(Broken { version: 1, reason }));
    }
}

#[test]
fn a_hash_of_another_length_is_not_the_stored_hash() {
    let stored = decided_token();
    let [first, last] = stored.changes.as_slice() else { panic!("{stored:?}") };
    let long = |hash: &Hash| [hash.as_slice(), &[0]].concat();
    for wrong in [&[][..], &first.hash[..31], &long(&first.hash)] {
        assert!(Verifier::default().change(1, &GENESIS, wrong, &first.body).is_err());
    }
    for wrong in [&[][..], &GENESIS[..31], &long(&GENESIS)] {
        assert!(Verifier::default().change(1, wrong, &first.hash, &first.body).is_err());
    }
    for wrong in [&[][..], &last.hash[..31], &long(&last.hash)] {
        let mut verifier = Verifier::default();
        for change in &stored.changes {
            verifier.change(change.version, &change.prev_hash, &change.hash, &change.body).unwrap();
        }
        assert!(verifier.finish(&stored.record(), wrong).is_err());
    }
}

#[test]
fn a_record_without_changes_is_broken() {
    assert!(Stored::absent("override#acme#1").verify().is_err());
    assert!(Stored { version: 1, ..Stored::absent("override#acme#1") }.verify().is_err());
}

#[test]
fn the_changes_of_another_record_do_not_prove_this_one() {
    let stored = decided_token();
    let other = token_decided("reject");
    assert!(Stored { changes: other.changes.clone(), ..stored.clone() }.verify().is_err());
    // Not even if the head's hash is moved along.
    assert!(Stored { changes: other.changes, hash: other.hash, ..stored }.verify().is_err());
}

#[test]
fn a_record_rolled_back_to_an_earlier_state_is_found_while_its_later_changes_are_there() {
    let (ring, history) = rotated_ring(4);
    for earlier in &history[..4] {
        let whole = Stored { changes: ring.changes.clone(), ..earlier.clone() };
        assert_eq!(whole.verify(), Err(Broken { version: 6, reason: "the change is missing" }));
        let content_only =
            Stored { body: earlier.body.clone(), changed_at: earlier.changed_at.clone(), ..ring.clone() };
        assert!(content_only.verify().is_err());
        let content_and_hash = Stored { hash: earlier.hash, ..content_only };
        assert!(content_and_hash.verify().is_err());
    }
}

#[test]
fn whoever_rebuilds_a_whole_chain_with_consistent_hashes_is_not_found() {
    let approved = token_decided("approve");
    let rebuilt = token_decided("reject");
    assert_eq!(approved.key, rebuilt.key);
    assert_ne!(approved.body, rebuilt.body);
    assert_eq!(rebuilt.verify(), Ok(2));
}

#[test]
fn whoever_removes_the_last_changes_and_sets_the_record_back_to_match_is_not_found() {
    let (_, history) = rotated_ring(4);
    assert_eq!(history[2].verify(), Ok(3));
}

#[test]
fn a_verifier_that_refused_a_change_still_takes_the_right_one() {
    let stored = decided_token();
    let mut verifier = Verifier::default();
    for change in &stored.changes {
        assert!(verifier.change(change.version, &change.prev_hash, &change.hash, "{}").is_err());
        assert!(verifier.change(change.version + 1, &change.prev_hash, &change.hash, &change.body).is_err());
        verifier.change(change.version, &change.prev_hash, &change.hash, &change.body).unwrap();
    }
    assert_eq!(verifier.finish(&stored.record(), &stored.hash), Ok(2));
}

proptest! {
    #[test]
    fn any_chain_verifies((stored, entries) in any_chain(1)) {
        prop_assert_eq!(stored.verify(), Ok(entries as u64));
    }

    #[test]
    fn any_change_of_one_byte_is_found(
        (mut stored, _) in any_chain(1),
        place in any::<Index>(),
        position in any::<Index>(),
        mask in 1..=u8::MAX,
    ) {
        let place = place.index(stored.places().len());
        let position = position.index(stored.places()[place].bytes().len());
        let can_be_stored = stored.places()[place].flip(position, mask);
        prop_assert!(!can_be_stored || stored.verify().is_err());
    }

    #[test]
    fn a_removed_change_is_found((mut stored, _) in any_chain(1), place in any::<Index>(), renumbered in any::<bool>()) {
        stored.changes.remove(place.index(stored.changes.len()));
        if renumbered {
            stored.renumber();
        }
        prop_assert!(stored.verify().is_err());
    }

    #[test]
    fn truncated_changes_are_found((mut stored, _) in any_chain(1), length in any::<Index>(), head in any::<bool>()) {
        let length = length.index(stored.changes.len());
        stored.changes.truncate(length);
        if head {
            // The record's version and hash set back too, but not its content.
            stored.version = length as u64;
            stored.hash = stored.changes.last().map_or(GENESIS, |change| change.hash);
        }
        prop_assert!(stored.verify().is_err());
    }

    #[test]
    fn a_duplicated_change_is_found(
        (mut stored, _) in any_chain(1),
        from in any::<Index>(),
        to in any::<Index>(),
        renumbered in any::<bool>(),
        head in any::<bool>(),
    ) {
        let copy = stored.changes[from.index(stored.changes.len())].clone();
        stored.changes.insert(to.index(stored.changes.len() + 1), copy);
        if renumbered {
            stored.renumber();
        }
        if head {
            stored.version += 1;
        }
        prop_assert!(stored.verify().is_err());
    }

    #[test]
    fn swapped_changes_are_found(
        (mut stored, _) in any_chain(2),
        one in any::<Index>(),
        distance in any::<Index>(),
        renumbered in any::<bool>(),
    ) {
        let changes = stored.changes.len();
        let one = one.index(changes);
        let other = (one + 1 + distance.index(changes - 1)) % changes;
        stored.changes.swap(one, other);
        if renumbered {
            stored.renumber();
        }
        prop_assert!(stored.verify().is_err());
    }

    #[test]
    fn a_rewritten_change_is_found_unless_all_that_follows_is_rewritten(
        (mut stored, _) in any_chain(1),
        place in any::<Index>(),
        character in any::<char>(),
    ) {
        let place = place.index(stored.changes.len());
        let previous = stored.changes[place].prev_hash;
        let mut content: ChangeBody = serde_json::from_str(&stored.changes[place].body).unwrap();
        content.entries[0].name.push(character);
        let body = serde_json::to_string(&content).unwrap();
        let hash = chain::hash(&previous, body.as_bytes());
        stored.changes[place] = StoredChange { hash, body, ..stored.changes[place].clone() };
        prop_assert!(stored.verify().is_err());
    }
}
