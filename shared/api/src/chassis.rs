//! What every request goes through, on every door: request id, log line, panics, unknown paths and methods, health.

use crate::app::App;
use crate::body::Rest;
use crate::dialect::{Dialect, Outcome};
use crate::guard;
use crate::problem::Problem;
use crate::traces;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use countersign_store::Clock;
use http::{HeaderName, HeaderValue, StatusCode, header};
use opentelemetry::trace::Status;
use serde_json::json;
use std::time::{Duration, Instant};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{Instrument, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How long the table has to answer before it counts as down.
const HEALTHY_WITHIN: Duration = Duration::from_secs(2);

/// Which network a router's callers come from; a constant of the binary, never deduced from a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// Anyone.
    Public,
    /// Only the operator's own network; in AWS placement sees to that.
    Management,
    /// The same on a laptop, where the listener on this port refuses what a browser or a webhook could send.
    LocalManagement {
        /// The listener's own port.
        port: u16,
    },
}

/// The routes of one or several doors, with everything around them.
pub fn router(app: App, plane: Plane, routes: Router<App>) -> Router {
    let clock = app.clock.clone();
    around(plane, clock, routes.route("/health", routing::get(health)).with_state(app))
}

/// Routes with everything around them, for a door that works with nothing.
pub(crate) fn around(plane: Plane, clock: Clock, routes: Router) -> Router {
    routes
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || {
            let message = "this path does not take this method; see Allow";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        })
        .layer(CatchPanicLayer::custom(answer_panic))
        .layer(middleware::from_fn_with_state((plane, clock), outermost))
}

/// Gives the request its id, turns away what does not belong on this plane, and writes the one log line.
async fn outermost(State((plane, clock)): State<(Plane, Clock)>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&request);
    // The path's pattern, not the path: some paths hold the id of a token that can still be used.
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let door = door(route);
    // For traces alone: it has the name, the kind and the caller that they know a request by.
    let traced =
        tracing::debug_span!("call", otel.name = format!("{} {route}", request.method()), otel.kind = "server");
    if !traced.is_disabled() {
        // An error means that nobody exports this span.
        let _ = traced.set_parent(traces::parent(request.headers()));
    }
    let span = tracing::info_span!(parent: &traced, "request", id = %id.to_str().unwrap_or_default(), method = %request.method(), door, route, tenant = field::Empty);
    let (guarded, dialect) = match plane {
        Plane::Public => (Ok(()), Dialect::of(request.uri().path())),
        Plane::Management => (Ok(()), Dialect::Standard),
        Plane::LocalManagement { port } => (guard::check(request.uri(), request.headers(), port), Dialect::Standard),
    };
    let (request, rest) = Rest::of(request);
    let response = match guarded {
        Ok(()) => next.run(request).instrument(span.clone()).await,
        Err(problem) => problem.into_response(),
    };
    let mut response = dialect.word(response, clock.now());
    if let Some(rest) = rest
        && !rest.drain().await
    {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.headers_mut().insert(REQUEST_ID, id);
    traced.set_attribute("http.response.status_code", i64::from(response.status().as_u16()));
    if response.status().is_server_error() {
        traced.set_status(Status::error(""));
    }
    let _entered = span.enter();
    tracing::info!(
        status = response.status().as_u16(),
        outcome = response.extensions().get::<Outcome>().map_or("ok", |outcome| outcome.0),
        micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        "answered"
    );
    response
}

/// The door that has this route.
fn door(route: &str) -> &'static str {
    match Dialect::of(route) {
        Dialect::Approvals => "approvals",
        // In the words of the actions door, whose clients call it.
        Dialect::Actions if route.starts_with("/api/webhooks") => "webhooks",
        Dialect::Actions => "actions",
        Dialect::Cases => "cases",
        Dialect::Workflow => "workflow",
        Dialect::Standard => match route.split('/').nth(1).unwrap_or_default() {
            "overrides" | "tokens" | "keys" => "overrides",
            "webhooks" => "webhooks",
            "api-keys" | "organizations" | "secrets" => "management",
            _ => "none",
        },
    }
}

/// The caller's own id if it is one, else a fresh one.
fn request_id(request: &Request) -> HeaderValue {
    let valid = |id: &&HeaderValue| {
        (1..=128).contains(&id.len())
            && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    let fresh = || HeaderValue::try_from(Uuid::new_v4().to_string()).unwrap_or(HeaderValue::from_static("none"));
    request.headers().get(&REQUEST_ID).filter(valid).cloned().unwrap_or_else(fresh)
}

fn answer_panic(panic: Box<dyn std::any::Any + Send>) -> Response {
    let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    tracing::error!(panic = message, "panic");
    Problem::internal().into_response()
}

/// `GET /health`: whether the table answers.
async fn health(State(app): State<App>) -> Response {
    let (status, word) = match app.store.ping(HEALTHY_WITHIN).await {
        Ok(()) => (StatusCode::OK, "healthy"),
        Err(fault) => {
            tracing::warn!(%fault, "unhealthy");
            (StatusCode::SERVICE_UNAVAILABLE, "unhealthy")
        }
    };
    (status, Json(json!({ "status": word, "service": "countersign" }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_names_the_door_of_its_route() {
        for (route, expected) in [
            ("/overrides/{event_id}/decide", "overrides"),
            ("/tokens/{jti}", "overrides"),
            ("/keys/signing", "overrides"),
            ("/v1/remediation", "approvals"),
            ("/v1/notifications/approvals/{id}/respond", "approvals"),
            ("/v1/awe/requests", "workflow"),
            ("/api/v1/actions/submit", "actions"),
            ("/api/v1/external/cases", "cases"),
            ("/audit/logs", "actions"),
            ("/api/webhooks", "webhooks"),
            ("/webhooks/deliveries/{id}", "webhooks"),
            ("/api-keys", "management"),
            ("/health", "none"),
            ("none", "none"),
        ] {
            assert_eq!(door(route), expected, "{route}");
        }
    }
}
