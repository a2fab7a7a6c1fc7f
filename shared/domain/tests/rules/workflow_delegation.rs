//! Delegations: whose tasks go to whom, and when.

use crate::microseconds;
use crate::workflow::{admin, hour};
use countersign_domain::workflow::delegation::{CREATED, DELETED, Delegations, DelegatorId, New, Refusal};
use countersign_domain::workflow::request::By;
use countersign_domain::workflow::{Editor, MAX_NAME, MAX_REASON};
use countersign_domain::{Entry, EntryClass, Listing, Logged, Record, Tenant, Timestamp};
use serde_json::json;
use uuid::Uuid;

fn editor() -> Editor {
    let By { actor, email, .. } = admin("adm");
    Editor { actor, email }
}

fn tenant() -> Tenant {
    "acme".parse().unwrap()
}

fn to(delegate: &str, hours: std::ops::Range<i64>) -> New {
    New {
        user: "ann".to_owned(),
        delegate_to: delegate.to_owned(),
        starts_at: hour(hours.start),
        ends_at: hour(hours.end),
        reason: Some("on leave".to_owned()),
    }
}

fn add(found: Option<&Delegations>, new: New, now: Timestamp) -> Result<(Delegations, Entry), Refusal> {
    let change = Delegations::add(found, &tenant(), new, &editor(), now)?;
    assert_eq!(change.with, []);
    let [entry] = <[Entry; 1]>::try_from(change.entries).unwrap();
    // Every rule meets what was stored.
    let stored = serde_json::to_string(&change.record).unwrap();
    assert_eq!(serde_json::from_str::<Delegations>(&stored).unwrap(), change.record);
    Ok((change.record, entry))
}

fn of(all: &[(&str, std::ops::Range<i64>)]) -> Delegations {
    let mut found = None;
    for ((delegate, hours), now) in all.iter().zip(0..) {
        found = Some(add(found.as_ref(), to(delegate, hours.clone()), hour(now)).unwrap().0);
    }
    found.unwrap()
}

#[test]
fn a_delegation_is_kept_with_all_that_belongs_to_it() {
    let (all, entry) = add(None, to("bob", 2..4), hour(1)).unwrap();
    assert_eq!((all.id, all.user.as_str(), all.created_at), (DelegatorId::of(&tenant(), "ann"), "ann", hour(1)));
    let [delegation] = &all.delegations[..] else { panic!("one delegation was expected") };
    assert_eq!((delegation.delegate_to.as_str(), delegation.reason.as_deref()), ("bob", Some("on leave")));
    assert_eq!((delegation.starts_at, delegation.ends_at, delegation.created_at), (hour(2), hour(4), hour(1)));
    assert_eq!(delegation.created_by, "adm");
    assert_eq!((entry.name.as_str(), entry.class, &entry.actor), (CREATED, EntryClass::Audit, &editor().actor));
    assert_eq!((entry.subject.kind.as_str(), entry.subject.id), ("delegation", delegation.id.to_string()));
    let after = json!({
        "user_id": "ann", "delegate_to": "bob", "starts_at": "2026-11-21T10:00:00.000000Z",
        "ends_at": "2026-11-21T12:00:00.000000Z", "reason": "on leave",
    });
    let data = json!({ "actor_email": "adm@example.com", "before": null, "after": after });
    assert_eq!((entry.data, entry.at), (data, hour(1)));
    assert_eq!((all.listing(), all.due()), (Listing::at(hour(1)), None));
}

#[test]
fn a_window_begins_with_its_start_and_ends_just_before_its_end() {
    let all = of(&[("bob", 2..4)]);
    let table = [
        (hour(2) - microseconds(1), None),
        (hour(2), Some("bob")),
        (hour(4) - microseconds(1), Some("bob")),
        (hour(4), None),
    ];
    for (now, delegate) in table {
        assert_eq!(all.delegate(now), delegate, "{now}");
    }
}

#[test]
fn of_several_open_windows_the_one_that_was_made_last_counts() {
    let all = of(&[("bob", 0..10), ("cid", 2..4), ("dot", 3..6)]);
    let delegates: Vec<_> = (-1..=10).map(|n| all.delegate(hour(n)).unwrap_or("-")).collect();
    assert_eq!(delegates, ["-", "bob", "bob", "cid", "dot", "dot", "dot", "bob", "bob", "bob", "bob", "-"]);
    // Also where an older one starts later.
    assert_eq!(of(&[("bob", 5..6), ("cid", 0..9)]).delegate(hour(5)), Some("cid"));
}

#[test]
fn what_is_no_delegation_is_refused() {
    let refused = |new: New| add(None, new, hour(0)).unwrap_err();
    assert_eq!(refused(to("bob", 4..4)), Refusal::EndsBeforeItStarts);
    assert_eq!(refused(New { ends_at: hour(3), ..to("bob", 4..5) }), Refusal::EndsBeforeItStarts);
    assert_eq!(refused(to("ann", 2..4)), Refusal::ToOneself);
    let shortest = New { ends_at: hour(2) + microseconds(1), ..to("bob", 2..4) };
    assert!(add(None, shortest, hour(0)).is_ok());
    // A window that is over can be written down, too.
    assert!(add(None, to("bob", 2..4), hour(9)).is_ok());
}

#[test]
fn a_deleted_delegation_counts_no_more_and_the_one_before_counts_again() {
    let all = of(&[("bob", 0..9), ("cid", 0..9)]);
    let id = all.delegations[1].id;
    let change = all.delete(id, &editor(), hour(3)).unwrap();
    assert_eq!(change.record.delegate(hour(3)), Some("bob"));
    let [entry] = &change.entries[..] else { panic!("one entry was expected") };
    assert_eq!((entry.name.as_str(), entry.class, entry.at), (DELETED, EntryClass::Audit, hour(3)));
    assert_eq!((&entry.subject.id, &entry.data["before"]["delegate_to"]), (&id.to_string(), &json!("cid")));
    let logged = Logged { name: "delegation.delete".to_owned(), by: Some("adm".to_owned()) };
    assert_eq!(Delegations::logged(entry), Some(logged));
    assert_eq!(change.record.delete(id, &editor(), hour(4)), Err(Refusal::NotFound));
    let first = change.record.delegations[0].id;
    let none = change.record.delete(first, &editor(), hour(4)).unwrap().record;
    assert_eq!((none.delegate(hour(4)), none.delegations.len()), (None, 0));
}

#[test]
fn an_id_is_never_given_twice() {
    let all = of(&[("bob", 0..9), ("cid", 0..9)]);
    let [first, second] = [0, 1].map(|place| all.delegations[place].id);
    let without = all.delete(second, &editor(), hour(2)).unwrap().record;
    let (all, _) = add(Some(&without), to("dot", 0..9), hour(3)).unwrap();
    let third = all.delegations[1].id;
    assert!(third != first && third != second);
    assert_eq!(all.created_at, hour(0));
}

#[test]
fn a_delegations_id_says_whose_it_is() {
    let all = of(&[("bob", 0..9), ("cid", 0..9)]);
    for (delegation, number) in all.delegations.iter().zip(1..) {
        assert_eq!(DelegatorId::of_delegation(delegation.id), (all.id, number));
        assert_eq!((delegation.id.get_version_num(), delegation.id.to_string().len()), (8, 36));
    }
    assert!(all.id.to_string().ends_with("0000"));
    let others = [DelegatorId::of(&tenant(), "bob"), DelegatorId::of(&"other".parse().unwrap(), "ann")];
    assert!(others.iter().all(|other| *other != all.id));
    // What is no id of ours is read all the same, and found nowhere.
    assert_eq!(DelegatorId::of_delegation(Uuid::from_u128(u128::MAX)).1, u16::MAX);
}

#[test]
fn a_user_has_only_so_many_delegations_as_fit_into_a_record() {
    let longest = || New {
        reason: Some("\u{1F600}".repeat(MAX_REASON)),
        delegate_to: "\u{1F600}".repeat(MAX_NAME),
        ..to("bob", 0..9)
    };
    let mut all = add(None, longest(), hour(0)).unwrap().0;
    while let Ok((more, _)) = add(Some(&all), longest(), hour(0)) {
        all = more;
    }
    assert_eq!(add(Some(&all), longest(), hour(0)).unwrap_err(), Refusal::TooMany);
    let stored = serde_json::to_string(&all).unwrap().len();
    assert!((290_000..=300_000).contains(&stored), "{stored} bytes");
    // Without one there is room for another.
    let id = all.delegations[0].id;
    let all = all.delete(id, &editor(), hour(1)).unwrap().record;
    assert!(add(Some(&all), longest(), hour(2)).is_ok());
}

#[test]
fn numbers_of_delegations_end_some_day() {
    let all = of(&[("bob", 0..9)]);
    let mut stored = serde_json::to_value(&all).unwrap();
    stored["numbered"] = json!(u16::MAX);
    let all: Delegations = serde_json::from_value(stored).unwrap();
    assert_eq!(add(Some(&all), to("cid", 0..9), hour(1)).unwrap_err(), Refusal::TooMany);
}

#[test]
fn no_body_is_of_an_older_schema() {
    assert_eq!(Delegations::upgrade(0, json!({})), None);
    assert_eq!((Delegations::KIND, Delegations::SCHEMA), ("delegation", 1));
}
