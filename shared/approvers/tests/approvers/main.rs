//! Who is asked in a stage, with real directories and services on loopback ports, and delegations in a real table.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod delegations;
mod keycloak;
mod rules;
mod services;
mod table;
mod together;
mod world;
