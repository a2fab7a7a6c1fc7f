//! What a deployment is watched by: counts and times, which a function writes at the end of each call in the format that
//! CloudWatch reads metrics from. Anywhere else nobody collects them.

use ::metrics::{Unit, counter, describe_gauge, describe_histogram, gauge, histogram};
use countersign_domain::{Record, Timestamp};
use metrics_cloudwatch_embedded::{Builder, Collector};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all metrics of a deployment are found under.
const NAMESPACE: &str = "countersign";

/// The kinds of records that are decided about; nothing else is counted as a decision.
const DECIDED: [&str; 5] = ["override", "remediation", "action", "case", "request"];

/// How many times CloudWatch takes for one metric at once.
const MOST_TIMES: usize = 100;

/// What this process has counted since it last said so, if it counts at all.
static COUNTED: OnceLock<&Collector> = OnceLock::new();
/// How many times of attempts are in that.
static TIMES: AtomicUsize = AtomicUsize::new(0);

/// Begins to count, for the deployment of this name; once in a process.
///
/// # Errors
/// Somebody else counts already.
pub(crate) fn start(deployment: Option<&str>) -> Result<(), String> {
    let mut builder = Builder::new().cloudwatch_namespace(NAMESPACE);
    if let Some(deployment) = deployment {
        builder = builder.with_dimension("deployment", deployment.to_owned());
    }
    let collector = builder.init().map_err(|error| error.to_string())?;
    describe_histogram!("AttemptLag", Unit::Milliseconds, "how late attempts are made");
    describe_gauge!("DueLag", Unit::Milliseconds, "how late the clock has found what was due");
    COUNTED.set(collector).map_err(|_| "it counts already".to_owned())
}

/// Writes what was counted, a line for each set of dimensions.
pub(crate) fn flush() {
    TIMES.store(0, Ordering::Relaxed);
    if let Some(Err(error)) = COUNTED.get().map(|counted| counted.flush(io::stdout().lock())) {
        tracing::warn!(%error, "metrics were not written");
    }
}

/// Counts a change that was asked for, by its outcome: the state that the record is in then, or why there was none.
pub(crate) fn changed<R: Record>(outcome: &'static str) {
    if DECIDED.contains(&R::KIND) {
        counter!("Decisions", "kind" => R::KIND, "outcome" => outcome).increment(1);
    }
}

/// Counts a record that was changed by something else than its own changes.
pub(crate) fn found_broken_chain() {
    counter!("ChainsBroken").increment(1);
}

/// Counts an attempt of a delivery that was due then and made now.
pub fn attempted(succeeded: bool, due: Timestamp, now: Timestamp) {
    counter!("Deliveries", "result" => if succeeded { "delivered" } else { "failed" }).increment(1);
    histogram!("AttemptLag").record(milliseconds(due, now));
    if TIMES.fetch_add(1, Ordering::Relaxed) + 1 == MOST_TIMES {
        flush();
    }
}

/// Counts a delivery that is given up.
pub fn exhausted() {
    counter!("DeliveriesExhausted").increment(1);
}

/// Says when the thing was due that a sweep of the clock found latest.
pub fn swept(earliest_due: Option<Timestamp>, now: Timestamp) {
    gauge!("DueLag").set(earliest_due.map_or(0.0, |due| milliseconds(due, now)));
}

/// From then to now; none if that is still to come.
fn milliseconds(due: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(due).as_secs_f64().max(0.0) * 1e3
}
