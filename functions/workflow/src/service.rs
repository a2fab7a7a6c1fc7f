//! How the service is, which version of it this is, and what it goes by.

use crate::asking::Door;
use crate::document::{ConfigResponse, ErrorResponse, HealthResponse, VersionResponse};
use axum::Extension;
use axum::extract::State;
use countersign_api::{Answer, App, Envelope, Problem};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// How long the table has to answer before it counts as down.
const HEALTHY_WITHIN: Duration = Duration::from_secs(2);
/// What was not said when this was built.
const UNKNOWN: &str = "dev";

/// How the service is.
#[derive(Serialize, ToSchema)]
pub(crate) struct HealthPayload {
    #[schema(example = "UP")]
    status: &'static str,
}

/// What was built, and when; `dev` where that was not said.
#[derive(Serialize, ToSchema)]
pub(crate) struct VersionPayload {
    #[schema(example = "0.1.0")]
    service_version: &'static str,
    build_time: &'static str,
    git_commit: &'static str,
}

/// What the service goes by.
#[derive(Serialize, ToSchema)]
pub(crate) struct ConfigPayload {
    service_id: &'static str,
    api_version: &'static str,
    module: &'static str,
    webhook: WebhookConfig,
    sla: SlaConfig,
}

/// How callbacks are attempted.
#[derive(Serialize, ToSchema)]
struct WebhookConfig {
    max_attempts: usize,
    /// How long a failed attempt is waited after.
    backoff_seconds: Vec<i64>,
    timeout_seconds: i64,
}

/// How deadlines are looked for.
#[derive(Serialize, ToSchema)]
struct SlaConfig {
    check_interval_seconds: u64,
}

/// `GET /health`
#[utoipa::path(
    get,
    path = "/v1/awe/health",
    operation_id = "get_health",
    tag = "health",
    summary = "Ask how the service is",
    description = "Whether the table answers.",
    responses(
        (status = 200, description = "It is up", body = HealthResponse),
        (status = 503, description = "AWE-006: the table does not answer", body = ErrorResponse),
    ),
)]
pub(crate) async fn health(State(app): State<App>) -> Result<Answer, Problem> {
    app.store.ping(HEALTHY_WITHIN).await?;
    Ok(Answer::ok(&Envelope::new(HealthPayload { status: "UP" }, app.clock.now()))?)
}

/// `GET /version`
#[utoipa::path(
    get,
    path = "/v1/awe/version",
    operation_id = "get_version",
    tag = "health",
    summary = "Ask which version this is",
    description = "What was built, and when.",
    responses(
        (status = 200, description = "The version", body = VersionResponse),
    ),
)]
pub(crate) async fn version(State(app): State<App>) -> Result<Answer, Problem> {
    let payload = VersionPayload {
        service_version: env!("CARGO_PKG_VERSION"),
        build_time: option_env!("COUNTERSIGN_BUILD_TIME").unwrap_or(UNKNOWN),
        git_commit: option_env!("COUNTERSIGN_GIT_COMMIT").unwrap_or(UNKNOWN),
    };
    Ok(Answer::ok(&Envelope::new(payload, app.clock.now()))?)
}

/// `GET /config`; nothing that is secret.
#[utoipa::path(
    get,
    path = "/v1/awe/config",
    operation_id = "get_config",
    tag = "health",
    summary = "Ask what the service goes by",
    description = "Settings that are no secret.",
    responses(
        (status = 200, description = "The settings", body = ConfigResponse),
    ),
)]
pub(crate) async fn config(State(app): State<App>, Extension(door): Extension<Door>) -> Result<Answer, Problem> {
    let backoff: Vec<i64> = app.schedule.delays.iter().map(|delay| delay.as_secs()).collect();
    let payload = ConfigPayload {
        service_id: "openg2p.awe",
        api_version: "1.0",
        module: "default",
        webhook: WebhookConfig {
            max_attempts: backoff.len() + 1,
            backoff_seconds: backoff,
            timeout_seconds: app.schedule.timeout.as_secs(),
        },
        sla: SlaConfig { check_interval_seconds: door.sla_interval.as_secs() },
    };
    Ok(Answer::ok(&Envelope::new(payload, app.clock.now()))?)
}
