//! The table of what was measured.

use crate::Failure;
use crate::phase::{Ran, Sample};
use std::fmt;
use std::time::Duration;

/// How many decisions at the start are compared with as many at the end.
const ENDS: usize = 2000;
const KIB: f64 = 1024.0;

pub(crate) struct Report {
    pub(crate) connections: usize,
    pub(crate) first_start: Duration,
    pub(crate) second_start: Duration,
    /// How many were made per second of what is decided.
    pub(crate) make_rate: f64,
    pub(crate) decided: Ran<()>,
    pub(crate) server_cpu: Option<Duration>,
    /// Of this process.
    pub(crate) own_cpu: Option<Duration>,
    /// In KiB.
    pub(crate) resident: Option<u64>,
    /// In KiB.
    pub(crate) peak: Option<u64>,
    /// In bytes.
    pub(crate) on_disk: u64,
}

impl Report {
    /// Fails if a decision did.
    pub(crate) fn failure(&self) -> Result<(), Failure> {
        self.decided.whole()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ran { elapsed, samples, failures, .. } = &self.decided;
        let decisions = samples.len();
        let per_decision = |cpu: Option<Duration>| cpu.map(|cpu| milliseconds(cpu) / decisions as f64);
        let mut took: Vec<_> = samples.iter().map(|sample| sample.took).collect();
        took.sort_unstable();
        let (ends, first, last) = ends(samples);
        let on_disk = self.on_disk as f64;

        writeln!(f, "{decisions} decisions in {:.1} s, {} connections", elapsed.as_secs_f64(), self.connections)?;
        row(f, "start to ready, no data", Some(milliseconds(self.first_start)), 0, "ms")?;
        row(f, "start to ready, this data", Some(milliseconds(self.second_start)), 0, "ms")?;
        row(f, "make", Some(self.make_rate), 0, "/s")?;
        row(f, "decide", Some(rate(decisions, *elapsed)), 0, "decisions/s")?;
        row(f, &format!("  the first {ends}"), Some(first), 0, "decisions/s")?;
        row(f, &format!("  the last {ends}"), Some(last), 0, "decisions/s")?;
        for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)] {
            row(f, &format!("  latency {name}"), quantile(&took, share).map(milliseconds), 2, "ms")?;
        }
        row(f, "  failures", Some(failures.len() as f64), 0, "")?;
        row(f, "  server CPU", per_decision(self.server_cpu), 3, "ms/decision")?;
        row(f, "  load CPU", per_decision(self.own_cpu), 3, "ms/decision")?;
        row(f, "server memory, resident", mebibytes(self.resident), 1, "MiB")?;
        row(f, "server memory, peak", mebibytes(self.peak), 1, "MiB")?;
        row(f, "on disk", Some(on_disk / KIB / KIB), 1, "MiB")
    }
}

pub(crate) fn row(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    value: Option<f64>,
    digits: usize,
    unit: &str,
) -> fmt::Result {
    match value {
        Some(value) => writeln!(f, "{}", format!("{name:<28}{value:>10.digits$} {unit}").trim_end()),
        None => writeln!(f, "{name:<28}{:>10}", "n/a"),
    }
}

pub(crate) fn mebibytes(kibibytes: Option<u64>) -> Option<f64> {
    kibibytes.map(|kibibytes| kibibytes as f64 / KIB)
}

/// How many per second.
pub(crate) fn rate(count: usize, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The smallest value that this share of the values does not exceed.
pub(crate) fn quantile(sorted: &[Duration], share: f64) -> Option<Duration> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// How many decisions are compared, and the rates at which the first and the last of them were answered.
fn ends(samples: &[Sample]) -> (usize, f64, f64) {
    let mut done: Vec<_> = samples.iter().map(|sample| sample.done).collect();
    done.sort_unstable();
    let count = ENDS.min(done.len() / 2);
    let at = |number: usize| number.checked_sub(1).and_then(|last| done.get(last)).copied().unwrap_or_default();
    let before_last = at(done.len() - count);
    (count, rate(count, at(count)), rate(count, at(done.len()).saturating_sub(before_last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(values: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        values.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let hundred = milliseconds(1..=100);
        assert_eq!(quantile(&hundred, 0.5), Some(Duration::from_millis(50)));
        assert_eq!(quantile(&hundred, 0.99), Some(Duration::from_millis(99)));
        assert_eq!(quantile(&hundred, 1.0), Some(Duration::from_millis(100)));
        assert_eq!(quantile(&milliseconds([7]), 0.5), Some(Duration::from_millis(7)));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn the_ends_are_compared_in_the_order_in_which_answers_came() {
        let done = milliseconds([40, 10, 20, 60]);
        let samples: Vec<_> = done.into_iter().map(|done| Sample { done, took: Duration::ZERO }).collect();
        let (count, first, last) = ends(&samples);
        assert_eq!((count, first.round(), last.round()), (2, 100.0, 50.0));
    }
}
