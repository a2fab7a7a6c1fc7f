//! The actions door: risk-tiered approval of what AI agents want to do.

mod audit;
mod bulk;
mod caller;
mod decisions;
mod executor;
mod follow;
mod submit;
mod words;

use axum::Router;
use axum::routing::{get, post};
use countersign_api::App;

/// The door's URLs.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/actions/submit", post(submit::submit))
        .route("/api/v1/actions", get(follow::list))
        .route("/api/v1/actions/{id}", get(follow::details))
        .route("/api/v1/actions/{id}/status", get(follow::status))
        .route("/api/v1/actions/{id}/approve", post(decisions::approve))
        .route("/api/v1/actions/{id}/reject", post(decisions::reject))
        .route("/api/v1/actions/{id}/cancel", post(executor::cancel))
        .route("/api/v1/actions/bulk-approve", post(bulk::approve))
        .route("/api/v1/actions/bulk-reject", post(bulk::reject))
        .route("/api/agent-activity", get(follow::activity))
        .route("/api/agent-action/{id}/complete", post(executor::complete))
        .route("/api/agent-action/{id}/fail", post(executor::fail))
        .route("/api/sdk/approval/{id}", get(follow::approval))
        .route("/api/admin/audit-logs", get(audit::list))
        .route("/api/admin/audit-logs/export", get(audit::export))
        .route("/api/admin/audit-logs/verify", get(audit::verify))
        .route("/audit/logs", get(audit::for_sdk))
        .route("/api/deployment-info", get(follow::deployment))
}
