//! The function that holds the pages, as it is deployed: its own process, without any variable of ours, API Gateway's events.
#![expect(clippy::unwrap_used, reason = "the harness fails a test by panicking")]

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use countersign_testing::runtime::Runtime;
use serde_json::{Map, Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// What API Gateway waits at most.
const AMPLE: Duration = Duration::from_secs(29);

const PAGES: [&str; 2] = ["/v1/awe/docs", "/v1/awe/redoc"];
const ASSETS: [(&str, &str); 6] = [
    ("/v1/awe/openapi.json", "application/json"),
    ("/v1/awe/docs/start.js", "text/javascript; charset=utf-8"),
    ("/v1/awe/docs/swagger-ui.css", "text/css; charset=utf-8"),
    ("/v1/awe/docs/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    ("/v1/awe/redoc/redoc.css", "text/css; charset=utf-8"),
    ("/v1/awe/redoc/redoc.js", "text/javascript; charset=utf-8"),
];

struct Function {
    runtime: Runtime,
    _process: Child,
}

struct Answer {
    status: u64,
    headers: Map<String, Value>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Function {
    async fn start() -> Self {
        let runtime = Runtime::start().await.unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_workflow-docs"));
        command
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", runtime.address().to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "countersign-workflow-docs")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        Self { runtime, _process: command.spawn().unwrap() }
    }

    async fn send(&self, method: &str, path: &str, headers: Value) -> Answer {
        let http = json!({ "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "t" });
        let event = json!({
            "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "", "headers": headers,
            "isBase64Encoded": false,
            "requestContext": {
                "accountId": "123456789012", "apiId": "a1b2c3d4e5", "requestId": "r", "routeKey": "$default",
                "stage": "$default", "time": "21/Nov/2026:12:00:00 +0000", "timeEpoch": 1_795_262_400_000_u64, "http": http,
            },
        });
        let answer = self.runtime.invoke(event, AMPLE).await.unwrap();
        let body = answer["body"].as_str().unwrap_or_default();
        let is_base64 = answer["isBase64Encoded"] == true;
        let body = if is_base64 { BASE64_STANDARD.decode(body).unwrap() } else { body.as_bytes().to_vec() };
        Answer {
            status: answer["statusCode"].as_u64().unwrap(),
            headers: answer["headers"].as_object().unwrap().clone(),
            body,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, json!({})).await
    }
}

#[tokio::test]
async fn the_document_is_the_one_that_the_code_makes() {
    let function = Function::start().await;
    let served: Value = serde_json::from_slice(&function.get("/v1/awe/openapi.json").await.body).unwrap();
    let made: Value = serde_json::from_str(&countersign_workflow::document().to_json().unwrap()).unwrap();
    assert_eq!(served, made);
}

#[tokio::test]
async fn pages_load_nothing_from_elsewhere_and_stand_in_no_other_page() {
    let function = Function::start().await;
    for page in PAGES {
        let answer = function.get(page).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "text/html; charset=utf-8"), "{page}");
        let policy = answer.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "connect-src 'self'",
            "img-src 'self' data:",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.split("; ").any(|said| said == part), "{page}: {policy}");
        }
        assert!(!policy.contains("http") && !answer.text().contains("http"), "{page}");
        assert!(!answer.text().contains("<style") && !answer.text().contains("<script>"), "{page}");
    }
    let redoc = function.get("/v1/awe/redoc/redoc.js").await;
    assert!(redoc.text().contains("Redoc.init(\"openapi.json\""));
    assert!(!redoc.text().contains("cdn.redoc.ly"));
}

#[tokio::test]
async fn everything_is_what_it_says_and_is_asked_for_again_by_its_tag() {
    let function = Function::start().await;
    let pages = PAGES.map(|page| (page, "text/html; charset=utf-8"));
    for (path, content_type) in ASSETS.into_iter().chain(pages) {
        let answer = function.get(path).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, content_type), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cache-control"), "no-cache", "{path}");
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'; "), "{path}");
        assert!(!answer.body.is_empty(), "{path}");
        // What is compressed says so.
        assert_eq!(answer.header("content-encoding") == "gzip", answer.body.starts_with(&[0x1f, 0x8b]), "{path}");
        let tag = answer.header("etag");
        for known in [tag, &format!("W/{tag}"), &format!("\"another\", {tag}"), "*"] {
            let again = function.send("GET", path, json!({ "if-none-match": known })).await;
            assert_eq!((again.status, again.header("etag")), (304, tag), "{path}");
            assert!(again.body.is_empty(), "{path}");
        }
        let other = function.send("GET", path, json!({ "if-none-match": "\"another\"" })).await;
        assert_eq!((other.status, &other.body), (200, &answer.body), "{path}");
    }
}

#[tokio::test]
async fn there_is_nothing_else() {
    let function = Function::start().await;
    for path in ["/", "/v1/awe/health", "/v1/awe/docs/", "/v1/awe/docs/index.html", "/v1/awe/docs/swagger-ui.js"] {
        assert_eq!(function.get(path).await.status, 404, "{path}");
    }
    assert_eq!(function.send("POST", "/v1/awe/docs", json!({})).await.status, 405);
}
