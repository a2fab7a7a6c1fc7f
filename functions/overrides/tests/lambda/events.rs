//! The events that API Gateway makes of a request, complete, as its documentation shows them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

const DOMAIN: &str = "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com";
/// The caller that IAM proved.
pub(crate) const PRINCIPAL: &str = "arn:aws:sts::123456789012:assumed-role/soc-automation/session-1";

/// A request as a client sends it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<String>,
}

impl Request {
    pub(crate) fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: Vec::new(), headers: Vec::new(), body: None }
    }

    pub(crate) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn text(mut self, body: impl Into<String>) -> Self {
        self.body = Some(body.into());
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json").text(body.to_string())
    }

    /// The query string; what the tests put into it needs no escapes.
    pub(crate) fn query_string(&self) -> String {
        let pairs: Vec<_> = self.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("&")
    }

    fn event_body(&self, base64: bool) -> Value {
        match &self.body {
            Some(body) if base64 => BASE64_STANDARD.encode(body).into(),
            Some(body) => body.as_str().into(),
            None => Value::Null,
        }
    }
}

fn groups(pairs: impl Iterator<Item = (String, String)>) -> Map<String, Value> {
    let mut groups = Map::new();
    for (name, value) in pairs {
        if let Some(values) = groups.entry(name).or_insert_with(|| json!([])).as_array_mut() {
            values.push(value.into());
        }
    }
    groups
}

/// The last value of each name, as REST events give single values; `null` for none at all.
fn last(groups: &Map<String, Value>) -> Value {
    if groups.is_empty() {
        return Value::Null;
    }
    groups.iter().map(|(name, values)| (name.clone(), values.as_array().unwrap().last().unwrap().clone())).collect()
}

/// The event of a REST API's Lambda proxy integration (payload 1.0), behind IAM.
pub(crate) fn rest(request: &Request, base64: bool) -> Value {
    let sent = request.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    let added = [
        ("Accept", "*/*"),
        ("Host", DOMAIN),
        ("User-Agent", "soc-automation/1.4"),
        ("X-Amzn-Trace-Id", "Root=1-5e66d96f-7491f09xmpl79d18acf3d050"),
        ("X-Forwarded-For", "10.0.12.7"),
        ("X-Forwarded-Port", "443"),
        ("X-Forwarded-Proto", "https"),
        ("x-amzn-vpce-id", "vpce-0a1b2c3d4e5f67890"),
    ];
    let added = added.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let headers = groups(sent.chain(added));
    let query = groups(request.query.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    let many = if query.is_empty() { Value::Null } else { query.clone().into() };
    json!({
        "resource": "/{proxy+}",
        "path": request.path,
        "httpMethod": request.method,
        "headers": last(&headers),
        "multiValueHeaders": headers,
        "queryStringParameters": last(&query),
        "multiValueQueryStringParameters": many,
        "pathParameters": { "proxy": request.path.trim_start_matches('/') },
        "stageVariables": null,
        "requestContext": {
            "resourceId": "2gxmpl",
            "resourcePath": "/{proxy+}",
            "httpMethod": request.method,
            "extendedRequestId": "JJbxmplHYosFVYQ=",
            "requestTime": "10/Mar/2026:00:03:59 +0000",
            "path": format!("/prod{}", request.path),
            "accountId": "123456789012",
            "protocol": "HTTP/1.1",
            "stage": "prod",
            "domainPrefix": "a1b2c3d4e5",
            "requestTimeEpoch": 1_773_100_239_123_i64,
            "requestId": "77375676-xmpl-4b79-853a-f982474efe18",
            "identity": {
                "cognitoIdentityPoolId": null,
                "accountId": "123456789012",
                "cognitoIdentityId": null,
                "caller": "AROAXMPLEXAMPLE:session-1",
                "sourceIp": "10.0.12.7",
                "vpcId": "vpc-0a1b2c3d4e5f67890",
                "vpceId": "vpce-0a1b2c3d4e5f67890",
                "principalOrgId": "o-exampleorg",
                "accessKey": "ASIAXMPLEXAMPLE",
                "cognitoAuthenticationType": null,
                "cognitoAuthenticationProvider": null,
                "userArn": PRINCIPAL,
                "userAgent": "soc-automation/1.4",
                "user": "AROAXMPLEXAMPLE:session-1"
            },
            "domainName": DOMAIN,
            "deploymentId": "d1e2p3",
            "apiId": "a1b2c3d4e5"
        },
        "body": request.event_body(base64),
        "isBase64Encoded": base64 && request.body.is_some()
    })
}

/// The event of an HTTP API's Lambda proxy integration (payload 2.0), behind IAM.
pub(crate) fn http(request: &Request, stage: &str, base64: bool) -> Value {
    let path = if stage == "$default" { request.path.clone() } else { format!("/{stage}{}", request.path) };
    let mut headers: Map<String, Value> = [
        ("accept", "*/*"),
        ("host", DOMAIN),
        ("user-agent", "soc-automation/1.4"),
        ("x-amzn-trace-id", "Root=1-5e6722a7-cc56xmpl46db7ae02d4da47e"),
        ("x-forwarded-for", "10.0.12.7"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-proto", "https"),
    ]
    .map(|(name, value)| (name.to_owned(), value.into()))
    .into_iter()
    .collect();
    for (name, value) in &request.headers {
        headers.insert(name.to_ascii_lowercase(), value.as_str().into());
    }
    if let Some(body) = &request.body {
        headers.insert("content-length".to_owned(), body.len().to_string().into());
    }
    let mut event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": request.query_string(),
        "headers": headers,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "f6g7h8i9j0",
            "authorizer": {
                "iam": {
                    "accessKey": "ASIAXMPLEXAMPLE",
                    "accountId": "123456789012",
                    "callerId": "AROAXMPLEXAMPLE:session-1",
                    "cognitoIdentity": null,
                    "principalOrgId": "o-exampleorg",
                    "userArn": PRINCIPAL,
                    "userId": "AROAXMPLEXAMPLE:session-1"
                }
            },
            "domainName": "f6g7h8i9j0.execute-api.eu-central-1.amazonaws.com",
            "domainPrefix": "f6g7h8i9j0",
            "http": {
                "method": request.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "10.0.12.7",
                "userAgent": "soc-automation/1.4"
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "$default",
            "stage": stage,
            "time": "10/Mar/2026:05:16:23 +0000",
            "timeEpoch": 1_773_119_783_000_i64
        },
        "isBase64Encoded": base64 && request.body.is_some()
    });
    // An HTTP API leaves out what there is not.
    if request.body.is_some() {
        event["body"] = request.event_body(base64);
    }
    if !request.query.is_empty() {
        let query = request.query.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into()));
        event["queryStringParameters"] = Value::Object(query.collect());
    }
    event
}
