//! Events that nobody well-meaning sends: each is answered, and the process goes on.

use crate::door::Answer;
use crate::events::{self, Request};
use crate::function::{AMPLE, Deployment, Function};
use countersign_testing::runtime::Failed;
use serde_json::{Value, json};
use uuid::Uuid;

struct Besieged {
    _deployment: Deployment,
    function: Function,
}

impl Besieged {
    async fn start() -> Self {
        let deployment = Deployment::start().await;
        let function = Function::start(&deployment).await;
        Self { _deployment: deployment, function }
    }

    async fn expect(&mut self, event: &Value, status: u64, code: &str) {
        let answer = self.function.try_invoke(event.clone(), AMPLE).await;
        let answer = answer.unwrap_or_else(|failed| panic!("{failed}\n{event:#}"));
        let answer = Answer::of_function(&answer);
        assert_eq!(answer.refusal(), (status, code.to_owned()), "{answer:?}\n{event:#}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{event:#}");
        self.goes_on().await;
    }

    async fn goes_on(&mut self) {
        let answer = self.function.invoke(events::rest(&Request::new("GET", "/health"), false)).await;
        assert_eq!(answer.status, 200);
        assert!(self.function.is_running());
        assert!(!self.function.log().contains("panic"), "{}", self.function.log());
    }
}

fn decide(path: &str) -> Request {
    let body = json!({ "override_jti": Uuid::nil(), "customer_id": Uuid::nil(), "decision": "approve" });
    Request::new("POST", path).json(&body)
}

fn show() -> Request {
    Request::new("GET", format!("/tokens/{}", Uuid::nil()))
}

/// The same request as every kind of event.
fn all(request: &Request) -> [Value; 3] {
    [events::rest(request, false), events::http(request, "$default", false), events::http(request, "prod", false)]
}

#[tokio::test]
async fn paths_of_any_text_are_answered() {
    let mut besieged = Besieged::start().await;
    let long = format!("/overrides/{}/decide", "é".repeat(5000));
    for path in [
        "/overrides//decide",
        "/overrides/a b/decide",
        "/overrides/ /decide",
        "/overrides/a%/decide",
        "/overrides/%zz/decide",
        "/overrides/%ff/decide",
        "/overrides/a%7Cb/decide",
        "/overrides/a%2Fb/decide",
        "/overrides/a|b/decide",
        "/overrides/a\0b/decide",
        "/overrides/a\tb\r\nc/decide",
        "/overrides/événement/decide",
        "/overrides/😀/decide",
        "/overrides/a\\b/decide",
        "/overrides/a\"<b>^`{c}/decide",
        "/overrides/a?b=c/decide",
        "/overrides/a#b/decide",
        long.as_str(),
    ] {
        for event in all(&decide(path)) {
            besieged.expect(&event, 400, "invalid_request").await;
        }
    }
    for path in [
        "/",
        "//",
        "//example.com/health",
        "/overrides/a/b/decide",
        "/overrides/%",
        "/é|",
        "/prod/health",
        "/$default/health",
    ] {
        for event in all(&decide(path)) {
            besieged.expect(&event, 404, "not_found").await;
        }
    }
    // Not as API Gateway gives them.
    for path in [Value::Null, "".into(), "nothing".into(), ":99999/x".into(), "@x/".into(), "*".into(), "?".into()] {
        let mut rest = events::rest(&Request::new("GET", "/"), false);
        rest["path"] = path.clone();
        besieged.expect(&rest, 404, "not_found").await;
        let mut http = events::http(&Request::new("GET", "/"), "$default", false);
        http["rawPath"] = path;
        besieged.expect(&http, 404, "not_found").await;
    }
}

#[tokio::test]
async fn dots_in_a_path_lead_nowhere_else() {
    let mut besieged = Besieged::start().await;
    for path in [
        "/overrides/../health",
        "/overrides/%2e%2e/health",
        "/overrides/x/../../health",
        "/overrides/../tokens/override",
        "/tokens/./override",
        "/tokens/%2E/override",
        "/tokens/override/..",
        "/overrides/evt/decide/.",
    ] {
        for request in [decide(path), Request::new("GET", path)] {
            for event in all(&request) {
                besieged.expect(&event, 404, "not_found").await;
            }
        }
    }
    // Two dots are an event id like any other.
    for event in all(&decide("/overrides/../decide")) {
        besieged.expect(&event, 404, "token_not_found").await;
    }
}

#[tokio::test]
async fn a_malformed_host_changes_nothing() {
    let mut besieged = Besieged::start().await;
    for host in ["", ":", "exa mple|.com", "[::1", "a:b:c", "événement.example", "host:99999999", "%", "@", "/"] {
        for mut event in all(&Request::new("GET", "/nothing")) {
            for name in ["Host", "host"] {
                if event["headers"].get(name).is_some() {
                    event["headers"][name] = host.into();
                }
            }
            if event["multiValueHeaders"].is_object() {
                event["multiValueHeaders"]["Host"] = json!([host]);
            }
            event["requestContext"]["domainName"] = host.into();
            besieged.expect(&event, 404, "not_found").await;
        }
    }
}

#[tokio::test]
async fn headers_of_any_text_are_answered() {
    let mut besieged = Besieged::start().await;
    for (name, value, status, code) in [
        ("X-Forwarded-Proto", "ht tp:é", 404, "not_found"),
        ("X-Note", "décision 😀", 404, "not_found"),
        ("X-Request-Id", "é", 404, "not_found"),
        ("Cookie", "a=é; b", 404, "not_found"),
        ("X-Amzn-Trace-Id", "", 404, "not_found"),
        ("Content-Length", "-1", 404, "not_found"),
    ] {
        for event in all(&Request::new("GET", "/nothing").header(name, value)) {
            besieged.expect(&event, status, code).await;
        }
    }
    for (name, value, status, code) in [
        ("Content-Type", "é", 415, "unsupported_media_type"),
        ("Content-Type", "application/json; charset=é", 415, "unsupported_media_type"),
        ("Content-Encoding", "é", 415, "unsupported_media_type"),
        ("Idempotency-Key", "é", 400, "invalid_request"),
        ("Idempotency-Key", "", 400, "invalid_request"),
    ] {
        let mut request = decide("/overrides/evt/decide");
        request.headers.retain(|(other, _)| *other != name);
        for event in all(&request.header(name, value)) {
            besieged.expect(&event, status, code).await;
        }
    }
    let mut event = events::http(&Request::new("GET", "/nothing"), "$default", false);
    event["cookies"] = json!(["a=é", "b=\0"]);
    besieged.expect(&event, 404, "not_found").await;
    for method in ["BREW", "connect", "TRACE"] {
        for event in all(&Request::new(method, "/health")) {
            besieged.expect(&event, 405, "method_not_allowed").await;
        }
    }
}

#[tokio::test]
async fn query_strings_of_any_text_are_answered() {
    let mut besieged = Besieged::start().await;
    for values in [
        json!({ "customer_id": [""] }),
        json!({ "": [""] }),
        json!({ "customer_id": ["%"] }),
        json!({ "customer_id": ["\0|é &=#?+%ff"] }),
        json!({ "é|\0": ["x"] }),
        json!({ "customer_id": [Uuid::nil(), Uuid::nil()] }),
        json!({}),
        Value::Null,
    ] {
        let mut event = events::rest(&show(), false);
        if let Some(values) = values.as_object() {
            let last = values.iter().map(|(name, values)| (name.clone(), values[0].clone()));
            event["queryStringParameters"] = Value::Object(last.collect());
        }
        event["multiValueQueryStringParameters"] = values;
        besieged.expect(&event, 400, "invalid_request").await;
    }
    for query in [
        "",
        "customer_id",
        "&&&",
        "=",
        "customer_id=%",
        "customer_id=%ff",
        "customer_id=a b|é\0#x",
        "?customer_id=x",
        "customer_id=00000000-0000-0000-0000-000000000000#x",
        "customer_id[]=x&\\^`{}<>\"",
    ] {
        for stage in ["$default", "prod"] {
            let mut event = events::http(&show(), stage, false);
            event["rawQueryString"] = query.into();
            besieged.expect(&event, 400, "invalid_request").await;
        }
    }
}

#[tokio::test]
async fn bodies_of_any_bytes_are_answered() {
    let mut besieged = Besieged::start().await;
    for (body, base64) in [
        (Value::Null, false),
        (Value::Null, true),
        ("".into(), false),
        ("".into(), true),
        ("\0".into(), false),
        ("not base64 |é".into(), true),
        ("e30".into(), true),
        ("e30=\n".into(), true),
        ("/////w==".into(), true),
        ("[".repeat(100_000).into(), false),
    ] {
        for mut event in all(&decide("/overrides/evt/decide")) {
            event["body"] = body.clone();
            event["isBase64Encoded"] = base64.into();
            besieged.expect(&event, 400, "invalid_request").await;
        }
    }
}

#[tokio::test]
async fn an_event_of_another_kind_is_reported_as_an_error_and_the_process_goes_on() {
    let mut besieged = Besieged::start().await;
    for event in [json!({}), Value::Null, json!("text"), json!({ "Records": [{ "eventSource": "aws:sqs" }] })] {
        let answer = besieged.function.try_invoke(event.clone(), AMPLE).await;
        assert!(matches!(answer, Err(Failed::Function(_))), "{event}: {answer:?}");
        besieged.goes_on().await;
    }
}
