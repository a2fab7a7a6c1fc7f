//! The signatures under a webhook, against documented vectors, another implementation and a receiver's library.

use countersign_domain::Timestamp;
use countersign_domain::callback_secret::whsec;
use countersign_domain::webhook_signature::{Signed, headers};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use standardwebhooks::Webhook;
use uuid::Uuid;

const EVENT: &str = "f4a5b6c7-d8e9-8123-b012-456789012cde";
const BODY: &[u8] = br#"{"event_id":"f4a5b6c7-d8e9-8123-b012-456789012cde","event_type":"request_approved"}"#;

fn signed(secrets: &[&[u8]], timestamp: i64, body: &[u8]) -> Signed {
    headers(secrets, EVENT.parse().unwrap(), timestamp, body).unwrap()
}

#[test]
fn the_vector_of_the_workflow_contract_is_answered() {
    assert_eq!(
        signed(&[b"s3cret"], 1_700_000_000, br#"{"a":1}"#).approval,
        "sha256=1698a50bc74d1ff1db85c4e0a5297c2ad9fdba245d5737cdb789e4cc6e098940"
    );
}

/// Computed with Python's hmac.
#[test]
fn another_implementation_signs_the_same() {
    let found = signed(&[b"test-callback-secret", b"an older secret"], 1_730_000_000, BODY);
    assert_eq!(
        found,
        Signed {
            approval: "sha256=33e4130173fbcec7eaebe41da7f6b5ee6774e15b0254977e60b7c6fd5b721bc9".to_owned(),
            standard: "v1,0WMx4p3m12iX+vPJvlZQboXHGEF8ghd2+98aQMcBcto= \
                       v1,yrd3s7s3k/dF1VKXUKhz/WGsCnXZL0ytEMHVGa5v2B4="
                .to_owned(),
        }
    );
    assert_eq!(
        signed(&[b"test-callback-secret"], 1_730_000_000, br#"{"a":1}"#).approval,
        "sha256=fd0c1260f8947d520e6bad84c61cff64fbbdb47b397235787e44fb09835e4f18"
    );
}

#[test]
fn nothing_is_signed_without_a_secret() {
    assert_eq!(headers(&[], EVENT.parse().unwrap(), 1_700_000_000, BODY), None);
}

/// What a receiver's library says of `body` that came with these signatures.
fn received(key: &[u8], timestamp: i64, signatures: &str, body: &[u8]) -> bool {
    let mut headers = HeaderMap::new();
    for (name, value) in
        [("webhook-id", EVENT), ("webhook-timestamp", &timestamp.to_string()), ("webhook-signature", signatures)]
    {
        headers.insert(name, HeaderValue::from_str(value).unwrap());
    }
    Webhook::new(&whsec(key)).unwrap().verify(body, &headers).is_ok()
}

#[test]
fn receivers_verify_with_either_secret_and_nothing_that_was_tampered_with() {
    const NEW: &[u8] = &[0, 1, 254, 255];
    const OLD: &[u8] = b"an older secret";
    // The library reads the clock by itself.
    let now = Timestamp::now().as_second();
    let one = signed(&[NEW], now, BODY).standard;
    let two = signed(&[NEW, OLD], now, BODY).standard;
    for (key, signatures, body, expected) in [
        (NEW, &one, BODY, true),
        (OLD, &one, BODY, false),
        (NEW, &two, BODY, true),
        (OLD, &two, BODY, true),
        (b"another", &two, BODY, false),
        (NEW, &two, &BODY[1..], false),
        (OLD, &two, br#"{"a":1}"#, false),
    ] {
        assert_eq!(received(key, now, signatures, body), expected, "{key:?} {signatures}");
    }
    assert!(!received(NEW, now - 1, &two, BODY));
}

proptest! {
    #[test]
    fn whatever_is_signed_is_what_the_receivers_library_would_sign(
        secrets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..100), 1..4),
        event in any::<u128>(),
        timestamp in any::<i64>(),
        body in any::<String>(),
    ) {
        let event = Uuid::from_u128(event);
        let keys: Vec<_> = secrets.iter().map(Vec::as_slice).collect();
        let theirs = |key: &Vec<u8>| {
            Webhook::from_bytes(key.clone()).unwrap().sign(&event.to_string(), timestamp, body.as_bytes()).unwrap()
        };
        let expected: Vec<_> = secrets.iter().map(theirs).collect();
        let found = headers(&keys, event, timestamp, body.as_bytes()).unwrap();
        prop_assert_eq!(found.standard, expected.join(" "));
        prop_assert_eq!(Some(found.approval), headers(&keys[..1], event, timestamp, body.as_bytes()).map(|s| s.approval));
    }
}
