//! The workflow door: policies with stages, requests that go through them, the tasks of those who are asked, and what an
//! administrator sees of it.

mod admin;
mod asking;
mod caller;
mod definition;
mod delegations;
mod document;
mod pages;
mod policies;
mod requests;
mod service;
mod shown;
mod tasks;
mod words;

pub use asking::Door;
pub use document::document;
pub use pages::pages;

use axum::routing::{delete, get, patch, post, put};
use axum::{Extension, Router};
use countersign_api::App;

/// The door's URLs.
pub fn routes(door: Door) -> Router<App> {
    let routes = Router::new()
        .route("/health", get(service::health))
        .route("/version", get(service::version))
        .route("/config", get(service::config))
        .route("/policies", post(policies::create).get(policies::list))
        .route("/policies/{policy_key}", put(policies::add_version))
        .route("/policies/{policy_key}/versions", get(policies::versions))
        .route("/policies/{policy_key}/versions/{version}", patch(policies::edit).get(policies::show))
        .route("/policies/{policy_key}/versions/{version}/activate", post(policies::activate))
        .route("/policies/{policy_key}/versions/{version}/deactivate", post(policies::deactivate))
        .route("/policies/{policy_key}/versions/{version}/simulate", post(policies::simulate))
        .route("/requests", post(requests::create).get(requests::list))
        .route("/requests/{request_id}", get(requests::show))
        .route("/requests/{request_id}/cancel", post(requests::cancel))
        .route("/requests/{request_id}/events", get(requests::events))
        .route("/tasks", get(tasks::list))
        .route("/tasks/{task_id}/claim", post(tasks::claim))
        .route("/tasks/{task_id}/decision", post(tasks::decide))
        .route("/tasks/{task_id}/reassign", post(tasks::reassign))
        .route("/delegations", post(delegations::create).get(delegations::list))
        .route("/delegations/{delegation_id}", delete(delegations::delete))
        .route("/admin/deliveries", get(admin::deliveries))
        .route("/admin/deliveries/{delivery_id}/retry", post(admin::retry))
        .route("/admin/audit", get(admin::audit));
    Router::new().nest("/v1/awe", routes).layer(Extension(door))
}
