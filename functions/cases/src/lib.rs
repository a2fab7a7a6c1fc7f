//! The cases door: investigation cases, handed out once, and their verdicts.

mod caller;
mod cases;
mod feed;
mod history;
mod verdicts;

use axum::Router;
use axum::routing::{get, post};
use countersign_api::App;

/// The door's URLs.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/external/cases", post(cases::create).get(cases::list))
        .route("/api/v1/external/cases/feed", get(feed::take).head(feed::look))
        .route("/api/v1/external/cases/{case_id}", get(cases::show))
        .route("/api/v1/external/cases/{case_id}/verdict", post(verdicts::submit))
}
