//! The overrides door: one-time override tokens and co-signed decisions, on the management plane only.

mod decisions;
mod keys;
mod tokens;

use axum::Router;
use axum::routing::{get, post};
use countersign_api::App;

/// The door's URLs.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/overrides/{event_id}/decide", post(decisions::decide))
        .route("/overrides/verify", post(decisions::verify))
        .route("/tokens/override", post(tokens::mint))
        .route("/tokens/{jti}", get(tokens::show).delete(tokens::revoke))
        .route("/keys/signing", post(keys::create))
        .route("/keys/{id}/rotate", post(keys::rotate))
        .route("/keys/public/{customer_id}", get(keys::public))
}
