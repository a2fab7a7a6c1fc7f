//! The local runner: the same functions as in Lambda, in one process on an embedded table.

pub mod credentials;
pub mod data;
pub mod demo;
pub mod hints;
mod runner;
pub mod verify;
mod work;

pub use runner::{Runner, StartError, Table};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
