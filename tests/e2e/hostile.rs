//! Hostile input: every endpoint goes on answering its documented 4xx.

use crate::server::{Answer, CUSTOMER, EVENT, Server, send};
use proptest::prelude::*;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const TAKES_A_BODY: [&str; 4] = ["/overrides/evt-1/decide", "/overrides/verify", "/tokens/override", "/keys/signing"];

impl Server {
    async fn post_raw(&self, path: &str, content_type: Option<&str>, body: Vec<u8>) -> Answer {
        let request = self.request(Method::POST, path).body(body);
        send(match content_type {
            Some(content_type) => request.header("Content-Type", content_type),
            None => request,
        })
        .await
    }
}

#[tokio::test]
async fn what_is_not_acceptable_json_is_malformed() {
    let server = Server::start().await;
    let nested = |levels: usize| format!(r#"{{"ignored":{}1{}}}"#, "[".repeat(levels), "]".repeat(levels));
    let objects = r#"{"a":"#.repeat(10_000);
    let whole = format!(r#""customer_id":"{CUSTOMER}","event_id":"{EVENT}""#);
    for body in [
        String::new(),
        " ".to_owned(),
        "{".to_owned(),
        format!("{{{whole}"),
        format!("{{{whole}}}}}"),
        format!("{{{whole}}} {{}}"),
        "null".to_owned(),
        "[]".to_owned(),
        "\"text\"".to_owned(),
        "17".to_owned(),
        "tru".to_owned(),
        "{'a':1}".to_owned(),
        nested(128),
        nested(10_000),
        objects,
        "[".repeat(200_000),
        format!(r#"{{{whole},"event_id":"evt-2"}}"#),
        format!(r#"{{{whole},"x":{{"y":1,"y":2}}}}"#),
        format!(r#"{{{whole},"\u0065vent_id":"evt-2"}}"#),
        format!(r#"{{{whole},"reason":"\ud800"}}"#),
        format!(r#"{{{whole},"reason":"\udc00\ud800"}}"#),
        format!(r#"{{{whole},"ttl_minutes":1e999}}"#),
        format!(r#"{{{whole},"ttl_minutes":{}}}"#, "9".repeat(500)),
        format!(r#"{{{whole},"ttl_minutes":NaN}}"#),
        format!("\u{feff}{{{whole}}}"),
        format!(r#"{{"customer_id":"{CUSTOMER}","event_id":"evt|1"}}"#),
        format!(r#"{{"customer_id":"{CUSTOMER}","event_id":"evt\u00001"}}"#),
        format!("{{\"customer_id\":\"{CUSTOMER}\",\"event_id\":\"evt\0\"}}"),
    ] {
        for path in TAKES_A_BODY {
            if path == "/keys/signing"
                && body.contains(CUSTOMER)
                && serde_json::from_str::<serde_json::Value>(&body).is_ok()
            {
                continue;
            }
            let refused = server.post_raw(path, Some("application/json"), body.clone().into()).await;
            let start: String = body.chars().take(80).collect();
            assert_eq!(refused.refusal(), (400, "invalid_request".to_owned()), "{path} {start}");
        }
    }
    for body in [b"\"\xff\"".to_vec(), b"{\"reason\":\"\xc3\x28\"}".to_vec(), vec![0; 1000], b"\x1f\x8b\x08".to_vec()] {
        assert_eq!(server.post_raw("/tokens/override", None, body).await.status, 400);
    }
    let deepest = format!(r#"{{{whole},"ignored":{}{}}}"#, "[".repeat(127), "]".repeat(127));
    assert_eq!(server.post_raw("/tokens/override", None, deepest.into()).await.status, 201);
}

#[tokio::test]
async fn a_body_over_256_kib_is_too_large_however_it_is_sent() {
    let server = Server::start().await;
    let padded = |length: usize| {
        let start = format!(r#"{{"customer_id":"{CUSTOMER}","event_id":"{EVENT}","padding":""#);
        format!("{start}{}\"}}", "x".repeat(length - start.len() - 2)).into_bytes()
    };
    assert_eq!(server.post_raw("/tokens/override", None, padded(256 * 1024)).await.status, 201);
    for length in [256 * 1024 + 1, 10 * 1024 * 1024] {
        for path in TAKES_A_BODY {
            let refused = server.post_raw(path, None, padded(length)).await;
            assert_eq!(refused.refusal(), (413, "payload_too_large".to_owned()), "{path} {length}");
        }
        let refused = server.post_raw(&format!("/keys/{CUSTOMER}.1/rotate"), None, padded(length)).await;
        assert_eq!(refused.status, 413);
    }
}

#[tokio::test]
async fn only_json_is_taken() {
    let server = Server::start().await;
    let body = json!({ "customer_id": CUSTOMER, "event_id": EVENT }).to_string().into_bytes();
    for json in
        [None, Some("application/json"), Some("Application/JSON; charset=utf-8"), Some("application/merge-patch+json")]
    {
        assert_eq!(server.post_raw("/tokens/override", json, body.clone()).await.status, 201, "{json:?}");
    }
    for other in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/jsonp",
        "json",
        "+json",
        "",
        "*/*",
    ] {
        let refused = server.post_raw("/tokens/override", Some(other), body.clone()).await;
        assert_eq!(refused.refusal(), (415, "unsupported_media_type".to_owned()), "{other:?}");
    }
    for encoding in ["gzip", "br", "deflate, identity"] {
        let request = server.request(Method::POST, "/tokens/override").header("Content-Encoding", encoding);
        assert_eq!(send(request.body(body.clone())).await.status, 415, "{encoding}");
    }
    let request = server.request(Method::POST, "/tokens/override").header("Content-Encoding", "identity");
    assert_eq!(send(request.body(body)).await.status, 201);
}

#[tokio::test]
async fn hostile_paths_are_malformed_or_not_there() {
    let server = Server::start().await;
    let body = json!({ "override_jti": "f4a5b6c7-d8e9-0123-f012-456789012cde", "customer_id": CUSTOMER, "decision": "approve" });
    for id in [
        "a%7Cb",
        "%00",
        "a%0Ab",
        "%ED%A0%80",
        "%FF",
        "%2F",
        "%2e%2e%2f",
        "a%20b",
        "%C3%A9",
        "%25",
        &"x".repeat(129),
        "%23",
        "a%3Fb",
    ] {
        let refused = server.post(&format!("/overrides/{id}/decide"), &body).await;
        assert_eq!(refused.refusal(), (400, "invalid_request".to_owned()), "{id}");
    }
    let long = server.post(&format!("/overrides/{}/decide", "x".repeat(60_000)), &body).await;
    assert!([400, 414, 431].contains(&long.status), "{}", long.status);
}

proptest! {
    // Each case is a request; the number is set by PROPTEST_CASES.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_server_fail(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0..TAKES_A_BODY.len()) {
        static SERVER: std::sync::LazyLock<(tokio::runtime::Runtime, Server)> = std::sync::LazyLock::new(|| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let server = runtime.block_on(Server::start());
            (runtime, server)
        });
        let (runtime, server) = &*SERVER;
        let answer = runtime.block_on(server.post_raw(TAKES_A_BODY[at], None, bytes));
        prop_assert_eq!(answer.status, 400);
    }
}

/// A client that writes headers and body apart, as many do, must not lose its next request to a refusal.
#[tokio::test]
async fn a_refusal_before_the_body_was_read_leaves_the_connection_whole() {
    let server = Server::start().await;
    let address = server.public_url.strip_prefix("http://").unwrap().to_owned();
    for (path, status) in [
        ("POST /v1/remediation", "401"),
        ("POST /api/v1/actions/1/approve", "401"),
        ("POST /nothing", "404"),
        ("DELETE /v1/remediation", "405"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        for _ in 0..2 {
            let head = format!("{path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 1000\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            // The server has the headers alone for as long as it likes.
            tokio::task::yield_now().await;
            stream.write_all(&[b' '; 1000]).await.unwrap();
            let mut answer = Vec::new();
            while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{path}: the connection was closed");
            }
            let text = String::from_utf8_lossy(&answer).to_lowercase();
            assert!(text.starts_with(&format!("http/1.1 {status}")), "{path}: {text}");
            assert!(!text.contains("connection: close"), "{path}: {text}");
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let length: usize = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
            let mut rest = vec![0; length - body.len()];
            stream.read_exact(&mut rest).await.unwrap();
        }
    }
}
