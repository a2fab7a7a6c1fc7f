//! What is sent, and what becomes of an attempt by what is answered.

use crate::receiver::{AMPLE, BRIEF, Receiver, Script, local_client, post};
use bytes::Bytes;
use countersign_outbound::{Attempted, retry_after};
use http::{HeaderMap, HeaderValue, header};
use std::process::Command;
use std::time::{Duration, SystemTime};

const NOT_HTTP: &str = "the answer is not HTTP/1.1, or its headers are longer than 16 KiB";
const LONG_HEAD: &str = "the headers of the answer are longer than 16 KiB";
const NO_ANSWER: &str = "the connection was closed before an answer came";
const BROKEN: &str = "the body of the answer broke off";
const LATE: &str = "no complete answer within 300 ms";

async fn answered(answer: impl Into<Vec<u8>>) -> Attempted {
    let receiver = Receiver::start(Script::Say(answer.into())).await;
    let attempted = post(&local_client(), &receiver.url(), AMPLE).await;
    assert_eq!(receiver.connections(), 1, "one attempt is one connection");
    attempted
}

async fn late(script: Script) -> Attempted {
    let receiver = Receiver::start(script).await;
    let attempted = post(&local_client(), &receiver.url(), BRIEF).await;
    assert!(attempted.timed_out && !attempted.succeeded());
    assert_eq!(attempted.error.as_deref(), Some(LATE));
    attempted
}

fn sized(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_request_says_what_it_was_told_and_who_sends_it() {
    let receiver = Receiver::saying(&sized("200 OK", "")).await;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-approval-event-id", HeaderValue::from_static("evt_1"));
    headers.insert(header::HOST, HeaderValue::from_static("internal.example"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("1"));
    headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    let url = format!("http://Hooks.example:{}//a/../b?c=%20{{d}}&e=@f", receiver.port());
    let attempted = local_client().post(&url, headers, Bytes::from_static(b"{\"a\":1}"), AMPLE).await;
    assert!(attempted.succeeded(), "{attempted:?}");
    let requests = receiver.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.lines().skip(1).collect();
    lines.sort_unstable();
    assert_eq!(head.lines().next(), Some("POST //a/../b?c=%20{d}&e=@f HTTP/1.1"));
    let host = format!("host: Hooks.example:{}", receiver.port());
    let agent = format!("user-agent: countersign/{}", env!("CARGO_PKG_VERSION"));
    let expected = [
        "connection: close",
        "content-length: 7",
        "content-type: application/json",
        &host,
        &agent,
        "x-approval-event-id: evt_1",
    ];
    assert_eq!(lines, expected);
    assert_eq!(body, "{\"a\":1}");
}

#[tokio::test]
async fn a_2xx_that_ends_succeeds_and_nothing_of_its_body_is_kept() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for answer in [
        sized("200 OK", "secret"),
        sized("201 Created", ""),
        sized("202 Accepted", "secret"),
        sized("299 Whatever", "secret"),
        "HTTP/1.1 204 No Content\r\n\r\n".into(),
        "HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n".into(),
        "HTTP/1.0 200 OK\r\n\r\nsecret".into(),
        "HTTP/1.1 200 OK\r\n\r\nuntil the end".into(),
        chunked.into(),
        format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n{}", sized("200 OK", "x")),
    ] {
        let attempted = answered(answer.clone()).await;
        assert!(attempted.succeeded(), "{answer}: {attempted:?}");
        assert!(attempted.status.is_some_and(|status| (200..300).contains(&status)));
        assert_eq!((attempted.error, attempted.excerpt, attempted.timed_out), (None, None, false));
    }
}

#[tokio::test]
async fn a_2xx_with_more_than_is_read_of_it_succeeds() {
    let line = vec![b'x'; 1000];
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n"] {
        let receiver = Receiver::start(Script::Repeat(head.into(), line.clone())).await;
        assert!(post(&local_client(), &receiver.url(), AMPLE).await.succeeded(), "{head}");
    }
    let exactly = Script::Hang(format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(4096)).into());
    let receiver = Receiver::start(exactly).await;
    assert!(post(&local_client(), &receiver.url(), AMPLE).await.succeeded());
    let one_less = Script::Hang(format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(4095)).into());
    assert_eq!(late(one_less).await.status, Some(200));
}

#[tokio::test]
async fn another_status_fails_with_an_excerpt() {
    for status in [101, 400, 401, 404, 410, 413, 429, 500, 502, 503, 599, 600, 999] {
        // An upgrade has no body.
        let excerpt = (status != 101).then(|| "too bad".to_owned());
        let attempted = answered(sized(&format!("{status} X"), "too bad")).await;
        assert!(!attempted.succeeded() && !attempted.timed_out);
        assert_eq!(attempted.status, Some(status));
        assert_eq!(attempted.error, Some(format!("HTTP {status}")));
        assert_eq!(attempted.excerpt, excerpt, "{status}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Receiver::saying(&sized("200 OK", "")).await;
    for status in [300, 301, 302, 303, 304, 305, 307, 308] {
        for location in
            [elsewhere.url(), "/again".into(), "http://169.254.169.254/".into(), "file:///etc/passwd".into()]
        {
            let answer = format!("HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
            let attempted = answered(answer).await;
            assert_eq!(attempted.status, Some(status));
            assert_eq!(attempted.error, Some(format!("HTTP {status}: redirects are not followed")));
        }
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn what_is_no_complete_answer_fails_in_a_sentence_of_its_own() {
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    for (answer, error) in [
        ("", NO_ANSWER),
        ("HTTP/1.1 200", NO_ANSWER),
        ("HTTP/1.1 200 OK\r\ncontent-le", NO_ANSWER),
        ("HTTP/1.1 100 Continue\r\n\r\n", NO_ANSWER),
        ("SSH-2.0-OpenSSH_9.6\r\n", NOT_HTTP),
        ("\u{0}\u{1}\u{2}\u{3}\r\n\r\n", NOT_HTTP),
        ("+PONG\r\n", NOT_HTTP),
        ("220 mail.example ESMTP\r\n\r\n", NOT_HTTP),
        ("HTTP/2 200\r\n\r\n", NOT_HTTP),
        ("HTTP/1.1 99 X\r\n\r\n", NOT_HTTP),
        ("HTTP/1.1 099 X\r\n\r\n", NOT_HTTP),
        ("HTTP/1.1 abc X\r\n\r\n", NOT_HTTP),
        ("HTTP/1.1 2000 X\r\n\r\n", NOT_HTTP),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", NOT_HTTP),
        ("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", NOT_HTTP),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", NOT_HTTP),
        (&format!("HTTP/1.1 200 OK\r\n{many}\r\n"), NOT_HTTP),
    ] {
        let attempted = answered(answer).await;
        assert_eq!(attempted.error.as_deref(), Some(error), "{answer:?}");
        assert_eq!((attempted.status, attempted.excerpt, attempted.timed_out), (None, None, false), "{answer:?}");
    }
    let receiver = Receiver::start(Script::Leave).await;
    let error = post(&local_client(), &receiver.url(), AMPLE).await.error.unwrap();
    assert!([NO_ANSWER, "the connection was reset"].contains(&error.as_str()), "{error}");
}

#[tokio::test]
async fn a_body_that_breaks_off_fails_whatever_the_status_promised() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nsecret",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let attempted = answered(answer).await;
        assert_eq!(attempted.error.as_deref(), Some(BROKEN), "{answer:?}");
        assert_eq!((attempted.status, attempted.excerpt), (Some(200), None), "{answer:?}");
    }
    let attempted = answered("HTTP/1.1 500 X\r\ncontent-length: 10\r\n\r\nbroken").await;
    assert_eq!(attempted.error.as_deref(), Some("HTTP 500"));
    assert_eq!(attempted.excerpt.as_deref(), Some("broken"));
}

#[tokio::test]
async fn a_receiver_that_does_not_come_to_an_end_runs_out_of_time() {
    for (words, status) in [
        ("", None),
        ("HTTP/1.1 2", None),
        ("HTTP/1.1 200 OK\r\ncontent-le", None),
        ("HTTP/1.1 100 Continue\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n", Some(200)),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nsecret", Some(200)),
        ("HTTP/1.1 200 OK\r\n\r\nsecret", Some(200)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", Some(200)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", Some(200)),
    ] {
        let attempted = late(Script::Hang(words.into())).await;
        assert_eq!((attempted.status, attempted.excerpt), (status, None), "{words:?}");
    }
    let attempted = late(Script::Hang("HTTP/1.1 410 Gone\r\ncontent-length: 10\r\n\r\ngone".into())).await;
    assert_eq!((attempted.status, attempted.excerpt.as_deref()), (Some(410), Some("gone")));
    let endless = Script::Repeat(Vec::new(), "HTTP/1.1 102 Processing\r\n\r\n".into());
    assert_eq!(late(endless).await.status, None);
}

#[tokio::test]
async fn headers_beyond_16_kib_fail_however_they_are_made_up() {
    let line = format!("x-long: {}\r\n", "y".repeat(500));
    for again in [line.as_str(), "y", "x: y\r\n"] {
        let receiver = Receiver::start(Script::Repeat("HTTP/1.1 200 OK\r\nx-a: b".into(), again.into())).await;
        let attempted = post(&local_client(), &receiver.url(), AMPLE).await;
        assert_eq!((attempted.status, attempted.error.as_deref()), (None, Some(NOT_HTTP)), "{again}");
    }
    let head = |length: usize| {
        let frame = "HTTP/1.1 200 \r\nx-long: \r\ncontent-length: 0\r\n\r\n".len();
        format!("HTTP/1.1 200 \r\nx-long: {}\r\ncontent-length: 0\r\n\r\n", "y".repeat(length - frame))
    };
    assert!(answered(head(16 * 1024)).await.succeeded());
    let error = answered(head(16 * 1024 + 1)).await.error.unwrap();
    assert!([LONG_HEAD, NOT_HTTP].contains(&error.as_str()), "{error}");
    let reason = format!("HTTP/1.1 200 {}\r\n\r\n", "y".repeat(16 * 1024));
    let error = answered(reason).await.error.unwrap();
    assert!([LONG_HEAD, NOT_HTTP].contains(&error.as_str()), "{error}");
}

#[tokio::test]
async fn nobody_there_is_a_refused_connection() {
    let receiver = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", receiver.local_addr().unwrap());
    drop(receiver);
    let attempted = post(&local_client(), &url, AMPLE).await;
    assert_eq!(attempted.error.as_deref(), Some("the connection was refused"));
    assert_eq!((attempted.status, attempted.timed_out), (None, false));
}

#[tokio::test]
async fn an_error_says_nothing_of_the_path_or_the_query() {
    let urls =
        ["http://127.0.0.1:1/path?token=hidden", "https://10.0.0.1/path?token=hidden", "https://x/path?token=hidden#"];
    for url in urls {
        let error = post(&local_client(), url, AMPLE).await.error.unwrap();
        assert!(!error.contains("hidden") && !error.contains("path"), "{error}");
    }
}

#[tokio::test]
async fn an_excerpt_is_200_characters_on_one_line() {
    let long = "\u{e9}".repeat(300);
    for (body, expected) in [
        (b"".to_vec(), None),
        (b"plain <b>text</b>".to_vec(), Some("plain <b>text</b>".to_owned())),
        (b"a\r\nb\tc\0d\x1b[31me\x7ff".to_vec(), Some("a  b c d [31me f".to_owned())),
        ("a\u{85}b\u{202e}c\u{2066}d\u{2028}e\u{200f}f".into(), Some("a b c d e f".to_owned())),
        (b"a\xffb\xc3".to_vec(), Some("a\u{fffd}b\u{fffd}".to_owned())),
        (long.clone().into(), Some("\u{e9}".repeat(200))),
        ("\u{1f600}".repeat(2000).into(), Some("\u{1f600}".repeat(200))),
    ] {
        let mut answer = format!("HTTP/1.1 500 X\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
        answer.extend(&body);
        assert_eq!(answered(answer).await.excerpt, expected, "{body:?}");
    }
    let endless = Script::Repeat("HTTP/1.1 500 X\r\n\r\n".into(), "\0secret ".into());
    let receiver = Receiver::start(endless).await;
    let attempted = post(&local_client(), &receiver.url(), AMPLE).await;
    assert_eq!(attempted.excerpt, Some(" secret ".repeat(25)));
    assert!(format!("{attempted:?}").len() < 500, "nothing beyond the excerpt is kept: {attempted:?}");
}

#[test]
fn retry_after_is_read_in_seconds_and_as_a_date() {
    // 1994-11-06T08:49:37Z, as in RFC 9110.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (value, expected) in [
        ("1", seconds(1)),
        ("120", seconds(120)),
        (" 0120 ", seconds(120)),
        ("999999999", seconds(999_999_999)),
        ("Sun, 06 Nov 1994 08:49:38 GMT", seconds(1)),
        ("Sunday, 06-Nov-94 09:49:37 GMT", seconds(3600)),
        ("Sun Nov  6 08:50:37 1994", seconds(60)),
        ("0", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:36 GMT", None),
        ("", None),
        (" ", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1s", None),
        ("99999999999999999999999", None),
        ("soon", None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
    ] {
        assert_eq!(retry_after(value, now), expected, "{value:?}");
    }
}

#[tokio::test]
async fn an_answer_may_ask_for_time() {
    let attempted = answered("HTTP/1.1 503 X\r\nretry-after: 120\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(attempted.retry_after, Some(Duration::from_secs(120)));
    let attempted = answered("HTTP/1.1 503 X\r\nretry-after: \u{ff}\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(attempted.retry_after, None);
}

#[tokio::test]
async fn a_plain_attempt_succeeds() {
    assert!(answered(sized("200 OK", "")).await.succeeded());
}

#[test]
fn a_proxy_in_the_environment_is_ignored() {
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "answers::a_plain_attempt_succeeds"]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        again.env(name, "http://127.0.0.1:1");
    }
    let output = again.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}");
}
