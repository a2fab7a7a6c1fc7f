//! When attempts are made and looked for: the documented schedule as tables, any other as properties.

use crate::at;
use countersign_domain::retry::{MAX_RETRY_AFTER_SECONDS, Schedule};
use countersign_domain::{Timestamp, seconds};
use jiff::SignedDuration;
use proptest::prelude::*;

const NEXT: &str = "2026-11-21T03:38:50.123456Z";

fn exact() -> Schedule {
    Schedule { jitter: 0.0, ..Schedule::documented() }
}

#[test]
fn six_attempts_are_made_in_seven_hours_and_twenty_one_minutes() {
    let waits: Vec<_> = (1..=6).map(|attempt| exact().wait_after(attempt, 1.0, None)).collect();
    assert_eq!(waits, [Some(60), Some(300), Some(900), Some(3_600), Some(21_600), None].map(|wait| wait.map(seconds)));
    assert_eq!(waits.into_iter().flatten().sum::<SignedDuration>(), SignedDuration::from_mins(7 * 60 + 21));
    assert_eq!(exact().attempts(), 6);
    assert_eq!(Schedule::default(), Schedule::documented());
}

#[test]
fn there_is_no_wait_where_there_is_no_attempt() {
    for attempt in [0, 6, 7, u32::MAX] {
        assert_eq!(Schedule::documented().wait_after(attempt, 0.0, Some(seconds(1))), None, "{attempt}");
    }
    let once = Schedule { delays: vec![], ..exact() };
    assert_eq!((once.attempts(), once.wait_after(1, 0.0, None)), (1, None));
}

#[test]
fn a_wait_is_at_most_a_tenth_shorter_or_longer() {
    for (attempt, unit, milliseconds) in [
        (1, -1.0, 54_000),
        (1, -0.5, 57_000),
        (1, 0.0, 60_000),
        (1, 0.5, 63_000),
        (1, 1.0, 66_000),
        (2, 1.0, 330_000),
        (3, -1.0, 810_000),
        (4, 0.25, 3_690_000),
        (5, -1.0, 19_440_000),
        (5, 1.0, 23_760_000),
        (1, 0.000_1, 60_000),
        // Nobody draws these; they do no harm.
        (1, 7.0, 66_000),
        (1, -7.0, 54_000),
        (1, f64::NAN, 60_000),
        (1, f64::NEG_INFINITY, 54_000),
    ] {
        let wait = Schedule::documented().wait_after(attempt, unit, None);
        assert_eq!(wait, Some(SignedDuration::from_millis(milliseconds)), "{attempt} {unit}");
    }
}

#[test]
fn a_jitter_beyond_its_bounds_counts_as_its_bound() {
    for (jitter, shortest, longest) in [(1.0, 0, 120), (1.5, 0, 120), (-1.0, 60, 60), (f64::NAN, 60, 60)] {
        let schedule = Schedule { jitter, ..Schedule::documented() };
        let waits = [-1.0, 1.0].map(|unit| schedule.wait_after(1, unit, None));
        assert_eq!(waits, [Some(seconds(shortest)), Some(seconds(longest))], "{jitter}");
    }
}

#[test]
fn a_receiver_can_ask_for_a_longer_wait_and_for_six_hours_at_most() {
    for (attempt, asked, waited) in [
        (1, -5, 60),
        (1, 0, 60),
        (1, 59, 60),
        (1, 60, 60),
        (1, 61, 61),
        (2, 61, 300),
        (1, 21_599, 21_599),
        (1, 21_600, 21_600),
        (1, 21_601, 21_600),
        (4, i64::MAX, 21_600),
        (5, i64::MAX, 21_600),
    ] {
        let wait = exact().wait_after(attempt, 0.0, Some(seconds(asked)));
        assert_eq!(wait, Some(seconds(waited)), "{attempt} {asked}");
    }
    // Longer of both: our own wait, made longer by jitter, is not cut.
    let longest = Schedule::documented().wait_after(5, 1.0, Some(SignedDuration::MAX));
    assert_eq!(longest, Some(seconds(23_760)));
}

#[test]
fn the_clock_looks_after_a_riding_message_was_due_and_before_the_end_of_a_long_wait() {
    for (wait, expected) in [
        (0, "2026-11-21T03:39:50.123456Z"),
        (60, "2026-11-21T03:39:50.123456Z"),
        (900, "2026-11-21T03:39:50.123456Z"),
        (901, "2026-11-21T03:37:20.123456Z"),
        (21_600, "2026-11-21T03:37:20.123456Z"),
    ] {
        assert_eq!(exact().look_at(at(NEXT), seconds(wait)), at(expected), "{wait}");
    }
    let longer = seconds(900) + SignedDuration::from_millis(1);
    assert!(exact().look_at(at(NEXT), longer) < at(NEXT));
}

#[test]
fn nothing_is_looked_for_beyond_the_ends_of_time() {
    assert_eq!(exact().look_at(Timestamp::MAX, seconds(0)), Timestamp::MAX);
    assert_eq!(exact().look_at(Timestamp::MIN, seconds(3_600)), Timestamp::MIN);
}

proptest! {
    #[test]
    fn every_wait_is_within_its_jitter(
        delays in prop::collection::vec(0..100_000_i64, 0..10),
        jitter in 0.0..=1.0,
        unit in -1.0..=1.0,
        attempt in 0..12_u32,
    ) {
        let schedule = Schedule { delays: delays.iter().copied().map(seconds).collect(), jitter, ..exact() };
        let delay = (attempt as usize).checked_sub(1).and_then(|nth| delays.get(nth));
        let wait = schedule.wait_after(attempt, unit, None);
        prop_assert_eq!(wait.is_some(), delay.is_some());
        prop_assert_eq!(wait.is_some(), (1..schedule.attempts()).contains(&attempt));
        if let (Some(wait), Some(delay)) = (wait, delay) {
            let spread = (wait - seconds(*delay)).as_secs_f64();
            prop_assert!(spread.abs() <= *delay as f64 * jitter + 1e-9, "{wait:?}");
            prop_assert!((spread - *delay as f64 * jitter * unit).abs() < 0.001_001, "{wait:?}");
            prop_assert!(!wait.is_negative());
        }
    }

    #[test]
    fn a_receiver_never_shortens_a_wait_nor_prolongs_it_beyond_six_hours(
        attempt in 1..6_u32,
        unit in -1.0..=1.0,
        asked in any::<i64>(),
    ) {
        let own = Schedule::documented().wait_after(attempt, unit, None).unwrap();
        let wait = Schedule::documented().wait_after(attempt, unit, Some(seconds(asked))).unwrap();
        prop_assert!(wait >= own);
        prop_assert!(wait == own || wait.as_secs() == asked.min(MAX_RETRY_AFTER_SECONDS));
    }
}
