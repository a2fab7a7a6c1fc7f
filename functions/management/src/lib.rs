//! The management plane's own calls: API keys, registered secrets and organizations' settings.

mod keys;
mod policies;
mod secrets;

use axum::Router;
use axum::routing::{delete, get, post, put};
use countersign_api::App;

/// The door's URLs.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api-keys", post(keys::mint).get(keys::list))
        .route("/api-keys/{id}", delete(keys::revoke))
        .route("/api-keys/{id}/rotate", post(keys::rotate))
        .route("/organizations/{id}/actions-policy", get(policies::show).put(policies::set))
        .route("/secrets/{id}", put(secrets::set))
}
