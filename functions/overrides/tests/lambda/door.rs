//! One request, by every way that leads to the door.

use crate::events::{self, Request};
use crate::function::{AMPLE, Function, SECRET};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use countersign::{Runner, Table};
use countersign_api::config::Local;
use countersign_embedded::Engine;
use countersign_store::Clock;
use serde_json::Value;
use std::collections::BTreeMap;
use tempfile::TempDir;
use tokio::sync::watch;

/// A way to the door.
pub(crate) enum Door<'a> {
    Rest { function: &'a Function, base64: bool },
    Http { function: &'a Function, stage: &'static str, base64: bool },
    Local(&'a LocalServer),
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u64,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Door<'_> {
    pub(crate) async fn send(&self, request: &Request) -> Answer {
        match self {
            Self::Rest { function, base64 } => function.invoke(events::rest(request, *base64)).await,
            Self::Http { function, stage, base64 } => function.invoke(events::http(request, stage, *base64)).await,
            Self::Local(server) => server.send(request).await,
        }
    }
}

impl Answer {
    /// Reads an integration response, either format.
    pub(crate) fn of_function(response: &Value) -> Self {
        let text = response["body"].as_str().unwrap_or_default();
        let body = if response["isBase64Encoded"] == true {
            String::from_utf8(BASE64_STANDARD.decode(text).unwrap()).unwrap()
        } else {
            text.to_owned()
        };
        let single = response["headers"].as_object().into_iter().flatten();
        let single = single.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
        let many = response["multiValueHeaders"].as_object().into_iter().flatten();
        let many = many.map(|(name, values)| {
            let values: Vec<_> = values.as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect();
            (name.clone(), values.join(", "))
        });
        Self { status: response["statusCode"].as_u64().unwrap(), headers: single.chain(many).collect(), body }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The body, or `null` if there is none.
    pub(crate) fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status and error code, as a table of the contract names a refusal.
    pub(crate) fn refusal(&self) -> (u64, String) {
        (self.status, self.json()["error"].as_str().unwrap_or_default().to_owned())
    }
}

/// The local runner, in this process.
pub(crate) struct LocalServer {
    url: String,
    client: reqwest::Client,
    _stop: watch::Sender<bool>,
    _data: TempDir,
}

impl LocalServer {
    pub(crate) async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let directory = data.path().to_str().unwrap().to_owned();
        let config = Local::read(|name| match name {
            "COUNTERSIGN_LISTEN" | "COUNTERSIGN_MANAGEMENT_LISTEN" => Some("127.0.0.1:0".into()),
            "COUNTERSIGN_DATA" => Some(directory.clone().into()),
            "COUNTERSIGN_OVERRIDE_SECRET" => Some(SECRET.into()),
            _ => None,
        });
        let table = Table::Embedded(Engine::memory().unwrap());
        let runner = Runner::start(&config.unwrap(), Clock::System, table).await.unwrap();
        let url = runner.management_url();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(runner.run(stopped));
        // The machine's proxy knows nothing of a loopback port.
        let client = reqwest::Client::builder().no_proxy().timeout(AMPLE).build().unwrap();
        Self { url, client, _stop: stop, _data: data }
    }

    async fn send(&self, request: &Request) -> Answer {
        let query = request.query_string();
        let mark = if query.is_empty() { "" } else { "?" };
        let url = format!("{}{}{mark}{query}", self.url, request.path);
        let mut sent = self.client.request(request.method.parse().unwrap(), url);
        for (name, value) in &request.headers {
            sent = sent.header(*name, value);
        }
        if let Some(body) = &request.body {
            sent = sent.body(body.clone());
        }
        let answer = sent.send().await.unwrap();
        let headers =
            answer.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        Answer {
            status: answer.status().as_u16().into(),
            headers: headers.collect(),
            body: answer.text().await.unwrap(),
        }
    }
}
