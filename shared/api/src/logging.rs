//! Logs: one line per request on stderr, readable on a terminal and JSON otherwise.

use crate::traces::Traces;
use std::io::{self, IsTerminal};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::{Subscriber, set_global_default};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry, fmt};

/// Starts logging for this process; a second call changes nothing.
pub fn start() {
    // An error means that logging is started already.
    let _ = set_global_default(Registry::default().with(lines()));
}

/// The same beside traces.
pub(crate) fn start_beside(traces: Option<&Traces>) {
    match traces {
        None => start(),
        Some(traces) => {
            // The same as above.
            let _ = set_global_default(Registry::default().with(lines()).with(traces.layer()));
        }
    }
}

fn lines<S: Subscriber + for<'a> LookupSpan<'a>>() -> Box<dyn Layer<S> + Send + Sync> {
    let lines = fmt::layer().with_target(false).with_writer(io::stderr);
    if io::stderr().is_terminal() {
        lines.compact().with_filter(LevelFilter::INFO).boxed()
    } else {
        lines.json().flatten_event(true).with_span_list(false).with_filter(LevelFilter::INFO).boxed()
    }
}
