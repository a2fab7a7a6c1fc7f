//! Word for the worker: how it travels, and what a log says of it.

use crate::at;
use countersign_domain::Work;
use serde_json::json;

#[test]
fn word_travels_in_this_shape() {
    let work = Work { key: "delivery#acme#dlv_1".to_owned(), change: None, at: at("2026-11-21T12:00:00Z") };
    let change = Work { change: Some(7), ..work.clone() };
    for (work, shape) in [
        (work, json!({ "key": "delivery#acme#dlv_1", "at": "2026-11-21T12:00:00Z" })),
        (change, json!({ "key": "delivery#acme#dlv_1", "change": 7, "at": "2026-11-21T12:00:00Z" })),
    ] {
        assert_eq!(serde_json::to_value(&work).unwrap(), shape);
        assert_eq!(serde_json::from_value::<Work>(shape).unwrap(), work);
    }
}

#[test]
fn a_log_names_the_record_but_for_the_id_of_an_override_token() {
    for (key, kind, shown) in [
        ("case#acme#42", "case", "case#acme#42"),
        ("override#acme#f4a5b6c7-d8e9-0123-f012-456789012cde", "override", "override#acme"),
        ("overrides#acme#1", "overrides", "overrides#acme#1"),
        ("override", "override", ""),
        ("", "", ""),
    ] {
        let work = Work { key: key.to_owned(), change: None, at: at("2026-11-21T12:00:00Z") };
        assert_eq!((work.kind(), work.shown()), (kind, shown), "{key}");
    }
}
