//! The HTTP clients for addresses outside: those that the operator configured, and those that others chose.

mod address;
mod answer;
mod client;
mod operator;
mod place;
mod resolver;
mod target;

pub use address::{Allowed, InvalidNetworks};
pub use answer::{Attempted, retry_after};
pub use client::{Outbound, OutboundError, Unheard};
pub use operator::{FetchError, Fetched, Fetcher, InvalidOperatorUrl, OperatorUrl, UnfitPart};
pub use place::{InvalidPlaces, Place};
pub use resolver::Resolver;
pub use target::TargetRefused;
