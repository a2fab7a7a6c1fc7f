//! The life of a replay as tables, and that of any number of workers on it exactly one goes on from each position.

use crate::{at, changed, operator};
use countersign_domain::replay::{Replay, ReplayId, ReplayState, Start};
use countersign_domain::{Actor, Change, Entry, EntryClass, Listing, Outcome, Record, Subject, Timestamp, seconds};
use proptest::prelude::*;
use serde_json::json;

const ID: &str = "rpl_01KAHX8Z1QJ5V3WQ4T6Y8B2D0F";
const ENDPOINT: &str = "ep_01KAHX8Z1QJ5V3WQ4T6Y8B2D0G";
const STARTED: &str = "2026-11-21T03:38:50.123456Z";

fn started() -> Change<Replay> {
    let start = Start {
        id: ID.parse().unwrap(),
        endpoint: ENDPOINT.parse().unwrap(),
        since: at("2026-11-20T00:00:00Z"),
        until: at("2026-11-21T00:00:00.5Z"),
        events: 1_234,
    };
    Replay::start(start, &operator(), at(STARTED))
}

fn advance(replay: &Replay, from: &str, to: Option<&str>, now: &str) -> Change<Replay> {
    changed(replay.advance(from, to, at(now)))
}

fn entry(name: &str, actor: Actor, now: &str, data: serde_json::Value) -> Entry {
    Entry {
        name: name.to_owned(),
        class: EntryClass::Audit,
        actor,
        at: at(now),
        subject: Subject { kind: "replay".to_owned(), id: ID.to_owned() },
        data,
        state: None,
    }
}

#[test]
fn a_replay_id_has_one_spelling() {
    assert_eq!(ReplayId::from_u128(0).as_str(), "rpl_00000000000000000000000000");
    assert_eq!(ReplayId::from_u128(u128::MAX).to_string(), "rpl_7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
    assert_eq!(serde_json::to_value(ID.parse::<ReplayId>().unwrap()).unwrap(), json!(ID));
    for id in [
        "",
        "rpl_",
        "01KAHX8Z1QJ5V3WQ4T6Y8B2D0F",
        "RPL_01KAHX8Z1QJ5V3WQ4T6Y8B2D0F",
        "ep_01KAHX8Z1QJ5V3WQ4T6Y8B2D0F",
        "rpl_01kahx8z1qj5v3wq4t6y8b2d0f",
        "rpl_81KAHX8Z1QJ5V3WQ4T6Y8B2D0F",
        "rpl_01KAHX8Z1QJ5V3WQ4T6Y8B2D0",
        "rpl_01KAHX8Z1QJ5V3WQ4T6Y8B2D0FF",
        "rpl_01KAHX8Z1QJ5V3WQ4T6Y8B2D0U",
        "rpl_rpl_01KAHX8Z1QJ5V3WQ4T6Y8B2D0F",
    ] {
        assert!(id.parse::<ReplayId>().is_err(), "{id:?}");
        assert!(serde_json::from_value::<ReplayId>(json!(id)).is_err(), "{id:?}");
    }
}

#[test]
fn a_replay_starts_before_its_first_event() {
    let change = started();
    let data = json!({
        "endpoint": ENDPOINT,
        "since": "2026-11-20T00:00:00.000000Z",
        "until": "2026-11-21T00:00:00.500000Z",
        "events": 1_234,
    });
    assert_eq!(change.entries, [entry("replay.started", operator(), STARTED, data)]);
    assert!(change.with.is_empty());
    let state = ReplayState::Running { position: String::new(), due: at(STARTED) + seconds(60) };
    assert_eq!(change.record.state, state);
    assert_eq!(change.record.listing(), Listing::at(at(STARTED)));
}

#[test]
fn a_replay_goes_on_page_by_page_until_it_is_done() {
    let (second, third) = ("2026-11-21T03:38:51Z", "2026-11-21T03:38:52Z");
    let page = advance(&started().record, "", Some("p1"), second);
    let data = json!({ "from": "", "to": "p1" });
    assert_eq!(page.entries, [entry("replay.advanced", Actor::Clock, second, data)]);
    let due = at("2026-11-21T03:39:51Z");
    assert_eq!(page.record.state, ReplayState::Running { position: "p1".to_owned(), due });
    assert_eq!((page.record.due(), page.record.look_at()), (Some(due), Some(due)));
    assert_eq!(page.record.tick(due), Outcome::Keep);

    let done = advance(&page.record, "p1", None, third);
    let data = json!({ "from": "p1", "to": null });
    assert_eq!(done.entries, [entry("replay.done", Actor::Clock, third, data)]);
    assert_eq!(done.record.state, ReplayState::Done { at: at(third) });
    assert_eq!((done.record.due(), done.record.look_at()), (None, None));
}

#[test]
fn who_comes_from_another_position_changes_nothing() {
    let page = advance(&started().record, "", Some("p1"), STARTED).record;
    let done = advance(&page, "p1", None, STARTED).record;
    for (replay, from) in [(&page, ""), (&page, "p2"), (&page, "p"), (&done, "p1"), (&done, "")] {
        for to in [Some("p2"), Some("p1"), None] {
            assert_eq!(replay.advance(from, to, at(STARTED)), Outcome::Keep, "{from:?} {to:?}");
        }
    }
}

#[test]
fn a_replay_can_go_on_at_any_moment_until_it_is_done() {
    let page = advance(&started().record, "", Some("p1"), STARTED).record;
    let done = advance(&page, "p1", None, STARTED).record;
    let moments = [Timestamp::MIN, at(STARTED), Timestamp::MAX];
    assert!(moments.iter().all(|now| started().record.is_ready(*now) && page.is_ready(*now)));
    assert!(moments.iter().all(|now| !done.is_ready(*now)));
}

#[test]
fn a_replay_is_stored_in_this_shape() {
    let page = advance(&started().record, "", Some("p1"), "2026-11-21T03:38:51Z").record;
    let done = advance(&page, "p1", None, "2026-11-21T03:38:52Z").record;
    let shape = |state: serde_json::Value| {
        json!({
            "id": ID,
            "endpoint": ENDPOINT,
            "since": "2026-11-20T00:00:00Z",
            "until": "2026-11-21T00:00:00.5Z",
            "events": 1_234,
            "created_at": STARTED,
            "state": state,
        })
    };
    let running = json!({ "is": "running", "position": "p1", "due": "2026-11-21T03:39:51Z" });
    for (replay, state) in [(page, running), (done, json!({ "is": "done", "at": "2026-11-21T03:38:52Z" }))] {
        assert_eq!(serde_json::to_value(&replay).unwrap(), shape(state.clone()));
        assert_eq!(serde_json::from_value::<Replay>(shape(state)).unwrap(), replay);
    }
    assert_eq!((Replay::KIND, Replay::SCHEMA, Replay::upgrade(0, json!({}))), ("replay", 1, None));
}

proptest! {
    #[test]
    fn of_any_number_of_workers_one_goes_on_from_each_position(
        moves in prop::collection::vec((0..5_u8, 1..6_u8), 1..40),
    ) {
        let mut replay = started().record;
        let mut taken = vec![];
        for (nth, (from, to)) in (0..).zip(moves) {
            let now: Timestamp = at(STARTED) + seconds(nth);
            let to = (to > from && to < 5).then_some(to);
            let name = |page: u8| if page == 0 { String::new() } else { format!("p{page}") };
            if let Outcome::Change(change) = replay.advance(&name(from), to.map(name).as_deref(), now) {
                taken.push((from, to));
                replay = change.record;
                prop_assert_eq!(replay.due(), to.map(|_| now + seconds(60)));
            }
        }
        // One unbroken way from the start, and nothing after its end.
        let mut position = Some(0);
        for (from, to) in taken {
            prop_assert_eq!(position, Some(from));
            position = to;
        }
        prop_assert_eq!(position.is_none(), matches!(replay.state, ReplayState::Done { .. }));
    }
}
