//! Logs: one line per request on stderr, readable on a terminal and JSON otherwise.

use std::io::{self, IsTerminal};
use tracing::Level;
use tracing_subscriber::fmt;

/// Starts logging for this process; a second call changes nothing.
pub fn start() {
    let lines = fmt().with_max_level(Level::INFO).with_target(false).with_writer(io::stderr);
    // An error means that logging is started already.
    let _ = if io::stderr().is_terminal() {
        tracing::subscriber::set_global_default(lines.compact().finish())
    } else {
        tracing::subscriber::set_global_default(lines.json().flatten_event(true).with_span_list(false).finish())
    };
}
