//! Calls whose answer is needed: all of it, or an error that repeats nothing of it.

use crate::receiver::{AMPLE, BRIEF, Receiver, Script, local_client};
use bytes::Bytes;
use http::HeaderMap;
use std::time::Duration;

/// The body of the answer, if it has at most 10 bytes.
async fn ask(receiver: &Receiver, within: Duration) -> Result<Bytes, String> {
    let body = Bytes::from_static(b"{}");
    let answer = local_client().ask(&receiver.url(), HeaderMap::new(), body, within, 10).await;
    answer.map_err(|unheard| unheard.to_string())
}

async fn asked(answer: &str) -> Result<Bytes, String> {
    ask(&Receiver::saying(answer).await, AMPLE).await
}

#[tokio::test]
async fn an_answer_is_read_to_its_end() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789",
        "HTTP/1.1 201 Created\r\n\r\n0123456789",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n",
    ] {
        assert_eq!(asked(answer).await.as_deref(), Ok(&b"0123456789"[..]), "{answer}");
    }
    assert_eq!(asked("HTTP/1.1 204 No Content\r\n\r\n").await, Ok(Bytes::new()));
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_an_error_and_not_read_to_its_end() {
    let error = Err("the answer has more than 10 bytes".to_owned());
    assert_eq!(asked("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n0123456789a").await, error);
    let endless = Script::Repeat(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), b"secret".to_vec());
    assert_eq!(ask(&Receiver::start(endless).await, AMPLE).await, error);
}

#[tokio::test]
async fn what_is_no_success_is_an_error_without_what_was_said() {
    for (answer, said) in [
        ("HTTP/1.1 500 Oops\r\n\r\nsecret", "HTTP 500"),
        ("HTTP/1.1 404 Not Found\r\n\r\nsecret", "HTTP 404"),
        ("HTTP/1.1 302 Found\r\nlocation: /secret\r\n\r\n", "HTTP 302: redirects are not followed"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsecret", "the body of the answer broke off"),
        ("secret", "the answer is not HTTP/1.1, or its headers are longer than 16 KiB"),
    ] {
        assert_eq!(asked(answer).await, Err(said.to_owned()), "{answer}");
    }
    let silent = Receiver::start(Script::Leave).await;
    assert!(ask(&silent, AMPLE).await.is_err());
}

#[tokio::test]
async fn an_answer_that_drags_is_given_up() {
    for said in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsecret"] {
        let receiver = Receiver::start(Script::Hang(said.into())).await;
        assert_eq!(ask(&receiver, BRIEF).await, Err("no complete answer within 300 ms".to_owned()), "{said}");
    }
}
