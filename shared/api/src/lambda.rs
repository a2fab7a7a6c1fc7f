//! A door as a Lambda function behind API Gateway, by REST (v1) or HTTP (v2) events.

use crate::app::App;
use crate::aws;
use crate::chassis::{Plane, around, router};
use crate::config;
use crate::identity::install_crypto;
use crate::issuers::Issuers;
use crate::logging;
use crate::metrics;
use crate::secrets::Secrets;
use crate::traces::Traces;
use crate::webhook::Outgoing;
use aws_config::SdkConfig;
use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use axum::Router;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use countersign_domain::Work;
use countersign_outbound::{Allowed, Resolver};
use countersign_queue::{Lane, Queue, SqsQueue};
use countersign_store::{Clock, Settings, Store};
use http::Uri;
pub use lambda_http::Error;
use lambda_http::lambda_runtime::{self, LambdaEvent, service_fn};
use lambda_http::request::LambdaRequest;
use lambda_http::tower::{Service, ServiceExt};
use lambda_http::{Adapter, Request, RequestExt};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use tracing::Instrument;

/// How long before it is stopped a scheduled function ends its work.
const BEFORE_THE_END: Duration = Duration::from_secs(10);

/// How long after its commit the clock looks at a change, if no message has arrived.
const FAN_OUT_AFTER: Duration = Duration::from_secs(30);

/// How long the table may take at a function's start.
const WARM_WITHIN: Duration = Duration::from_millis(500);

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

/// A message that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The queue's name for it.
    pub id: String,
    /// What it says, if that can be read.
    pub work: Option<Work>,
}

/// What a function works with, as its variables say.
#[derive(Debug)]
pub struct Function {
    /// What every function works with.
    pub app: App,
    /// The variables.
    pub config: config::Lambda,
    /// Where AWS is, and who we are there.
    pub sdk: SdkConfig,
    /// The address of the runtime that calls this function, which nothing else may call.
    pub own: Option<SocketAddr>,
    traces: Option<Traces>,
}

/// To be called at the end of each call: nothing runs in a function between two.
fn flush(traces: Option<&Traces>) {
    metrics::flush();
    if let Some(traces) = traces {
        traces.flush();
    }
}

/// Reads the variables, puts together what a function works with, and opens the way to the table: a function that starts
/// has a processor of its own for it, and whoever calls first finds connection and credentials there.
///
/// # Errors
/// A variable is missing or makes no sense.
pub async fn start(needs: &[Need]) -> Result<Function, Error> {
    install_crypto();
    let traces = Traces::start()?;
    logging::start_beside(traces.as_ref());
    // As text: the runtime shows a failed start by its Debug form.
    let config = config::Lambda::read(|name| std::env::var_os(name), needs).map_err(|error| error.to_string())?;
    metrics::start(config.deployment.as_deref())?;
    let bundle = std::env::var_os("AWS_CA_BUNDLE");
    let sdk = aws::config(bundle.as_deref()).await.map_err(|error| error.to_string())?;
    let clock = Clock::System;
    let settings = Settings { table: config.table.clone(), clock: clock.clone(), fan_out_after: FAN_OUT_AFTER };
    let ids = (config.override_secret_id.clone(), config.callback_secret_id.clone(), config.root_key_id.clone());
    let secrets = Secrets::manager(&sdk, ids.0, ids.1, ids.2, &clock);
    let issuers = config.config.issuers.as_deref().unwrap_or_default();
    let issuers = Issuers::configured(issuers, &secrets, &clock).map_err(|error| error.to_string())?;
    let queue = Queue::Sqs(SqsQueue::new(&sdk, config.queue_url.clone(), config.slow_queue_url.clone()));
    let own: Option<SocketAddr> = std::env::var("AWS_LAMBDA_RUNTIME_API").ok().and_then(|address| address.parse().ok());
    let allowed = Allowed::new(config.config.webhooks.allow.clone(), own.into_iter().collect());
    let outgoing = Outgoing::new(allowed, Resolver::System);
    let app = App::new(Store::remote(&sdk, settings), queue, outgoing, secrets, issuers, clock, &config.config);
    let prepare = async {
        app.queue.prepare();
        app.secrets.prepare();
    };
    // In this order: the other clients are made while the table is waited for.
    let (warm, ()) = futures_util::join!(app.store.ping(WARM_WITHIN), prepare);
    if let Err(fault) = warm {
        // Those who call will see for themselves.
        tracing::warn!(%fault, "the table did not answer at the start");
    }
    Ok(Function { app, config, sdk, own, traces })
}

/// Runs `work` whenever the schedule calls, until the environment is shut down. It is told when it must be done.
///
/// # Errors
/// A variable is missing or the runtime cannot be reached.
pub async fn on_schedule<F: Future<Output = ()>>(work: impl Fn(App, Instant) -> F) -> Result<(), Error> {
    let Function { app, traces, .. } = start(&[]).await?;
    let traces = traces.as_ref();
    lambda_runtime::run(service_fn(|event: LambdaEvent<serde_json::Value>| {
        let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
        let work = work(app.clone(), Instant::now() + left.saturating_sub(BEFORE_THE_END));
        async move {
            work.instrument(tracing::debug_span!("sweep")).await;
            flush(traces);
            Ok::<_, Error>(())
        }
    }))
    .await
}

/// Hands over the work in each batch of messages, until the environment is shut down; `handle` gives the places of what
/// the queue is to deliver again.
///
/// # Errors
/// The runtime cannot be reached.
pub async fn on_queues<F: Future<Output = Vec<usize>>>(
    function: &Function,
    handle: impl Fn(Lane, Vec<Work>) -> F,
) -> Result<(), Error> {
    let slow = queue_name(&function.config.slow_queue_url);
    let traces = function.traces.as_ref();
    lambda_runtime::run(service_fn(|event: LambdaEvent<SqsEvent>| {
        let messages = event.payload.records;
        let arn = messages.first().and_then(|message| message.event_source_arn.as_deref()).unwrap_or_default();
        let lane = if arn.rsplit(':').next() == Some(slow) { Lane::Slow } else { Lane::Fast };
        let (ids, work): (Vec<_>, Vec<_>) = messages.iter().filter_map(read_work).unzip();
        // What cannot be read is never handled: the queue gives it up after a few times, and that raises the alarm.
        let mut failed: Vec<String> = messages.iter().filter(|message| read_work(message).is_none()).map(id).collect();
        let span = tracing::debug_span!("batch", otel.kind = "consumer", ?lane, messages = messages.len());
        let handled = handle(lane, work).instrument(span);
        async move {
            failed.extend(handled.await.into_iter().filter_map(|place| ids.get(place).cloned()));
            flush(traces);
            let failures = failed.into_iter().map(|id| serde_json::json!({ "itemIdentifier": id }));
            Ok::<_, Error>(serde_json::json!({ "batchItemFailures": failures.collect::<Vec<_>>() }))
        }
    }))
    .await
}

/// Hands over the messages that were given up, until the environment is shut down.
///
/// # Errors
/// The runtime cannot be reached.
pub async fn on_dead_letters(raise: impl Fn(DeadLetter)) -> Result<(), Error> {
    logging::start();
    lambda_runtime::run(service_fn(|event: LambdaEvent<SqsEvent>| {
        let letters = event.payload.records.iter();
        letters
            .for_each(|message| raise(DeadLetter { id: id(message), work: read_work(message).map(|(_, work)| work) }));
        async { Ok::<_, Error>(()) }
    }))
    .await
}

fn id(message: &SqsMessage) -> String {
    message.message_id.clone().unwrap_or_default()
}

fn read_work(message: &SqsMessage) -> Option<(String, Work)> {
    let work = serde_json::from_str(message.body.as_deref()?).ok()?;
    Some((id(message), work))
}

/// The last part of a queue's URL, and of its ARN.
fn queue_name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}

/// Serves a door's routes on the Lambda runtime until the environment is shut down.
///
/// # Errors
/// A variable is missing or the runtime cannot be reached.
pub async fn serve(plane: Plane, routes: Router<App>, needs: &[Need]) -> Result<(), Error> {
    serve_by(start(needs).await?, plane, routes).await
}

/// The same with a function that was started already, for a door that works with more.
///
/// # Errors
/// The runtime cannot be reached.
pub async fn serve_by(function: Function, plane: Plane, routes: Router<App>) -> Result<(), Error> {
    let traces = function.traces.as_ref();
    run(router(function.app, plane, routes), || flush(traces)).await
}

/// Serves public routes that work with nothing: no variable is needed, and no role.
///
/// # Errors
/// The runtime cannot be reached.
pub async fn serve_pages(routes: Router) -> Result<(), Error> {
    logging::start();
    run(around(Plane::Public, Clock::System, routes), || ()).await
}

async fn run(routes: Router, after_each: impl Fn() + Copy) -> Result<(), Error> {
    let door = Adapter::from(routes.map_request(with_own_path));
    lambda_runtime::run(service_fn(move |mut event: LambdaEvent<LambdaRequest>| {
        normalise(&mut event.payload);
        let mut door = door.clone();
        async move {
            let answer = door.call(event).await;
            after_each();
            answer
        }
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
