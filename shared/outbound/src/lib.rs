//! The HTTP clients for addresses outside: those that the operator configured, and those that others chose.

mod address;
mod answer;
mod client;
mod operator;
mod resolver;
mod target;

pub use address::{Allowed, InvalidNetworks};
pub use answer::{Attempted, retry_after};
pub use client::{Outbound, OutboundError};
pub use operator::{FetchError, Fetcher, InvalidOperatorUrl, OperatorUrl};
pub use resolver::Resolver;
pub use target::TargetRefused;
