//! The approvals door: remediations that wait for a human's answer, their steps, and their audit log.

mod approvals;
mod audit;
mod caller;
mod remediations;
mod shown;
mod steps;

use axum::Router;
use axum::routing::{get, post};
use countersign_api::App;

/// The door's URLs.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/v1/notifications/approvals/{approval_id}/respond", post(approvals::respond))
        .route("/v1/notifications/approvals/pending", get(approvals::pending))
        .route("/v1/remediation", post(remediations::propose).get(remediations::list))
        .route("/v1/remediation/{id}", get(remediations::show))
        .route("/v1/remediation/{id}/approve", post(approvals::approve))
        .route("/v1/remediation/{id}/reject", post(approvals::reject))
        .route("/v1/remediation/{id}/steps/{step_id}", post(steps::report))
        .route("/v1/audit", get(audit::list))
        .route("/v1/audit/verify", get(audit::verify))
}
