//! Test support: engines that fail on demand, and stand-ins for what AWS runs around a function.

pub mod fault;
pub mod hook;
pub mod issuer;
pub mod receiver;
pub mod runtime;
pub mod secrets_manager;
pub mod tokens;
pub mod wire;
