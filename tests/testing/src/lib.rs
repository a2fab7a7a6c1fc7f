//! Test support: engines that fail on demand, and stand-ins for what AWS runs around a function.

pub mod aws;
pub mod event_bus;
pub mod fault;
pub mod hook;
pub mod issuer;
pub mod keycloak;
pub mod receiver;
pub mod runtime;
pub mod secrets_manager;
pub mod sqs;
pub mod tokens;
pub mod wire;
