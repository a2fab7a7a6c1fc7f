//! A door as a Lambda function behind API Gateway, by REST (v1) or HTTP (v2) events.

use crate::app::App;
use crate::chassis::{Plane, router};
use crate::config;
use crate::identity::install_crypto;
use crate::issuers::Issuers;
use crate::logging;
use crate::secrets::Secrets;
use aws_config::BehaviorVersion;
use axum::Router;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use crate::webhook::Outgoing;
use countersign_outbound::{Allowed, Resolver};
use countersign_queue::{Queue, SqsQueue};
use countersign_store::{Clock, Settings, Store};
use http::Uri;
pub use lambda_http::Error;
use lambda_http::lambda_runtime::{self, LambdaEvent, service_fn};
use lambda_http::request::LambdaRequest;
use lambda_http::tower::{Service, ServiceExt};
use lambda_http::{Adapter, Request, RequestExt};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// How long before it is stopped a scheduled function ends its work.
const BEFORE_THE_END: Duration = Duration::from_secs(10);

/// How long after its commit the clock looks at a change, if no message has arrived.
const FAN_OUT_AFTER: Duration = Duration::from_secs(30);

/// What a path as API Gateway gives it may contain although a URI may not.
const NOT_IN_A_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What a function needs beyond its table and the root key, to be found missing at its start rather than at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The secret that co-signs override decisions.
    OverrideSecret,
    /// The issuers of its callers' JWTs.
    Issuers,
    /// A queue of its own for slow targets.
    SlowQueue,
}

/// What a function works with, as its variables say.
async fn start(needs: &[Need]) -> Result<App, Error> {
    logging::start();
    install_crypto();
    // As text: the runtime shows a failed start by its Debug form.
    let config = config::Lambda::read(|name| std::env::var_os(name), needs).map_err(|error| error.to_string())?;
    let sdk = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let clock = Clock::System;
    let settings = Settings { table: config.table, clock: clock.clone(), fan_out_after: FAN_OUT_AFTER };
    let secrets = Secrets::manager(&sdk, config.override_secret_id, config.root_key_id, &clock);
    let issuers = config.config.issuers.as_deref().unwrap_or_default();
    let issuers = Issuers::configured(issuers, &secrets, &clock).map_err(|error| error.to_string())?;
    let queue = Queue::Sqs(SqsQueue::new(&sdk, config.queue_url, config.slow_queue_url));
    let own = std::env::var("AWS_LAMBDA_RUNTIME_API").ok().and_then(|address| address.parse().ok());
    let allowed = Allowed::new(config.config.webhooks.allow.clone(), own.into_iter().collect());
    let outgoing = Outgoing::new(allowed, Resolver::System);
    Ok(App::new(Store::remote(&sdk, settings), queue, outgoing, secrets, issuers, clock, &config.config))
}

/// Runs `work` whenever the schedule calls, until the environment is shut down. It is told when it must be done.
///
/// # Errors
/// A variable is missing or the runtime cannot be reached.
pub async fn on_schedule<F: Future<Output = ()>>(work: impl Fn(App, Instant) -> F) -> Result<(), Error> {
    let app = start(&[]).await?;
    lambda_runtime::run(service_fn(|event: LambdaEvent<serde_json::Value>| {
        let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
        let work = work(app.clone(), Instant::now() + left.saturating_sub(BEFORE_THE_END));
        async move {
            work.await;
            Ok::<_, Error>(())
        }
    }))
    .await
}

/// Serves a door's routes on the Lambda runtime until the environment is shut down.
///
/// # Errors
/// A variable is missing or the runtime cannot be reached.
pub async fn serve(plane: Plane, routes: Router<App>, needs: &[Need]) -> Result<(), Error> {
    let app = start(needs).await?;
    let door = Adapter::from(router(app, plane, routes).map_request(with_own_path));
    lambda_runtime::run(service_fn(move |mut event: LambdaEvent<LambdaRequest>| {
        normalise(&mut event.payload);
        let mut door = door.clone();
        async move { door.call(event).await }
    }))
    .await
}

/// Brings the path to what a local listener would see: without the stage, and well-formed whatever was decoded on the
/// way here. The host goes: nothing here depends on it, and a malformed one would not make a URI.
fn normalise(event: &mut LambdaRequest) {
    match event {
        LambdaRequest::ApiGatewayV1(request) => {
            // REST events give the path without the stage.
            request.request_context.stage = None;
            request.request_context.domain_name = None;
            request.headers.remove(http::header::HOST);
            // The last value of each header alone, which would win over all of them.
            if !request.multi_value_headers.is_empty() {
                request.headers.clear();
            }
            request.path = request.path.as_deref().map(well_formed);
            request.is_base64_encoded &= is_base64(request.body.as_deref());
        }
        LambdaRequest::ApiGatewayV2(request) => {
            // HTTP events give it with the stage, unless that is the default one.
            let stage = request.request_context.stage.take().filter(|stage| stage != "$default");
            let stage = stage.map(|stage| format!("/{stage}"));
            request.request_context.domain_name = None;
            request.headers.remove(http::header::HOST);
            let path = request.raw_path.as_deref().unwrap_or_default();
            let bare = stage.as_deref().and_then(|stage| path.strip_prefix(stage)).filter(|rest| rest.starts_with('/'));
            request.raw_path = Some(well_formed(bare.unwrap_or(path)));
            let query = request.raw_query_string.as_deref();
            request.raw_query_string = query.map(|query| utf8_percent_encode(query, NOT_IN_A_PATH).to_string());
            request.is_base64_encoded &= is_base64(request.body.as_deref());
        }
        _ => {}
    }
}

fn well_formed(path: &str) -> String {
    format!("/{}", utf8_percent_encode(path.strip_prefix('/').unwrap_or(path), NOT_IN_A_PATH))
}

/// What is not base64 although the event says so would be a panic; it is taken as it stands.
fn is_base64(body: Option<&str>) -> bool {
    body.is_some_and(|body| BASE64_STANDARD.decode(body).is_ok())
}

/// Gives the request the path that it came with: the URL parser on the way here follows dots, so that another route
/// would answer than the one that API Gateway let the caller in for.
fn with_own_path(mut request: Request) -> Request {
    let path = request.raw_http_path();
    let target = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    if let Ok(uri) = Uri::builder().path_and_query(target).build() {
        *request.uri_mut() = uri;
    }
    request
}
