//! The cases door: investigation cases, handed out once, and their verdicts.

use axum::Router;
use countersign_api::App;

/// The door's URLs.
pub fn routes() -> Router<App> {
    Router::new()
}
