//! The webhooks door: where a tenant's events are sent, what became of them, and sending them once more.

mod caller;
mod deliveries;
mod endpoints;
mod manage;
mod replay;
mod sdk;

use axum::Router;
use axum::routing::{get, post, put};
use caller::{Admin, Manager};
use countersign_api::{App, Operator};

/// The door's URLs on the public plane, where everyone sees to their own tenant's; below `/api` as the agents' SDK calls
/// them.
pub fn public() -> Router<App> {
    on_both_planes::<Admin>()
        .route("/api/webhooks", get(sdk::list))
        .route("/api/webhooks/configure", post(sdk::configure))
        .route("/api/webhooks/{id}", put(sdk::update).delete(sdk::remove))
        .route("/api/webhooks/{id}/test", post(sdk::test))
}

/// The door's URLs on the management plane, where an operator sees to those of any tenant.
pub fn management() -> Router<App> {
    on_both_planes::<Operator>()
}

fn on_both_planes<C: Manager>() -> Router<App> {
    Router::new()
        .route("/webhooks/endpoints", post(endpoints::create::<C>).get(endpoints::list::<C>))
        .route(
            "/webhooks/endpoints/{id}",
            get(endpoints::show::<C>).patch(endpoints::edit::<C>).delete(endpoints::remove::<C>),
        )
        .route("/webhooks/endpoints/{id}/rotate-secret", post(endpoints::rotate::<C>))
        .route("/webhooks/endpoints/{id}/test", post(endpoints::test::<C>))
        .route("/webhooks/endpoints/{id}/replay", post(replay::start::<C>))
        .route("/webhooks/deliveries", get(deliveries::list::<C>))
        .route("/webhooks/deliveries/{id}", get(deliveries::show::<C>))
        .route("/webhooks/deliveries/{id}/retry", post(deliveries::retry::<C>))
}
