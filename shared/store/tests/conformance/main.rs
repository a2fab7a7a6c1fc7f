//! One suite for every engine behind the store: the embedded one, the same on a bad day, and any emulator that
//! `COUNTERSIGN_CONFORMANCE_ENDPOINT` names.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod changes;
mod items;
mod listings;
mod once;
mod world;
