//! The actions door: risk-tiered approval of what AI agents want to do.

use axum::Router;
use countersign_api::App;

/// The door's URLs.
pub fn routes() -> Router<App> {
    Router::new()
}
