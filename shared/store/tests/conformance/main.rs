//! One suite for every engine behind the store: the embedded one, the same on a bad day, and any emulator that
//! `COUNTERSIGN_CONFORMANCE_ENDPOINT` names.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod beside;
mod changes;
mod due;
mod items;
mod job;
mod listings;
mod log;
mod once;
mod pointers;
mod tampering;
mod world;
