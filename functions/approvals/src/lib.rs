//! The approvals door: remediations that wait for a human's answer, their steps, and their audit log.

use axum::Router;
use countersign_api::App;

/// The door's URLs.
pub fn routes() -> Router<App> {
    Router::new()
}
