//! What the queues gave up raises an alarm, and nothing else.

use crate::deployment::{FAST, Function, body};
use countersign_domain::Work;
use countersign_testing::sqs::Sqs;
use serde_json::Value;

#[tokio::test]
async fn every_dead_letter_is_an_error_in_the_log_that_says_what_it_is_about_and_no_token() {
    let function = Function::dead_letters().await;
    let at = "2026-11-21T12:00:00Z".parse().unwrap();
    let work = |key: &str, change| body(&Work { key: key.to_owned(), change, at });
    let letters = [
        ("m-1", work("delivery#acme#dlv_1", None)),
        ("m-2", work("override#acme#f4a5b6c7-d8e9-0123-f012-456789012cde", Some(2))),
        ("m-3", "{\"secret".to_owned()),
    ];
    let letters = letters.each_ref().map(|(id, body)| (*id, body.as_str()));
    assert_eq!(function.invoke(Sqs::event(&format!("{FAST}-dead"), &letters)).await, Value::Null);
    let log = function.logged("m-3").await;
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines: Vec<_> = lines.filter(|line| line["level"] == "ERROR").collect();
    let said: Vec<_> =
        lines.iter().map(|line| [&line["letter"], &line["key"], &line["change"]].map(ToString::to_string)).collect();
    assert_eq!(said[0], ["\"m-1\"", "\"delivery#acme#dlv_1\"", "null"]);
    assert_eq!(said[1], ["\"m-2\"", "\"override#acme\"", "2"]);
    assert_eq!(said[2], ["\"m-3\"", "null", "null"]);
    assert!(lines.iter().all(|line| line["message"].as_str().unwrap().starts_with("dead letter: ")), "{log}");
    assert!(!log.contains("f4a5b6c7") && !log.contains("secret"), "{log}");
}
