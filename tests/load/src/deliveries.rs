//! Deliveries to endpoints that are well, to endpoints that were down, and how late retries are.

use crate::Failure;
use crate::endpoints::register;
use crate::overrides::Mint;
use crate::receiver::{Arrival, Manner, Receiver};
use crate::report::{mebibytes, milliseconds, quantile, rate, row};
use crate::server::Server;
use crate::{phase, usage};
use countersign_domain::Timestamp;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

/// What minting a token tells the world.
const CREATED: &str = "override.created";
/// How long is waited before each retry, in seconds.
const DELAYS: [u64; 5] = [1, 1, 2, 2, 3];

/// How fast deliveries went to endpoints that were well.
pub(crate) struct Throughput {
    deliveries: usize,
    endpoints: usize,
    events_rate: f64,
    elapsed: Duration,
    longest_gap: Duration,
    cpu: Option<Duration>,
    peak: Option<u64>,
}

/// How deliveries were worked off that had waited.
pub(crate) struct Backlog {
    deliveries: usize,
    endpoints: usize,
    /// Until each had been attempted.
    piled_up_after: Duration,
    /// In KiB, while all waited.
    resident: Option<u64>,
    /// From the recovery on.
    worked_off_after: Duration,
    /// From the first arrival after the recovery to the last.
    elapsed: Duration,
    peak: Option<u64>,
}

/// How late retries were, shortest first.
pub(crate) struct Lag {
    deliveries: usize,
    late: Vec<Duration>,
}

/// Events as fast as they can be made, and until all have arrived everywhere.
///
/// # Errors
/// The server does not answer as it should, or something does not arrive.
pub(crate) async fn throughput(
    deliveries: usize,
    endpoints: usize,
    connections: usize,
    data: &Path,
) -> Result<Throughput, Failure> {
    let receiver = Receiver::start()?;
    let (events, deliveries) = share(deliveries, endpoints);
    register_all(&receiver, Manner::Well, endpoints, data).await?;
    let server = Server::start(data).await?;
    let before = server.cpu();
    let events_rate = make(events, connections, &server).await?;
    receiver.taken(deliveries).await?;
    let cpu = usage::between(before, server.cpu());
    let mut times: Vec<_> = receiver.arrivals().into_iter().map(|arrival| arrival.at).collect();
    times.sort_unstable();
    let gaps = times.windows(2).map(|pair| since(pair[0], pair[1]));
    let longest_gap = gaps.max().unwrap_or_default();
    let elapsed = span(times.iter().copied());
    let peak = server.peak();
    server.stop().await?;
    Ok(Throughput { deliveries, endpoints, events_rate, elapsed, longest_gap, cpu, peak })
}

/// Lets deliveries pile up before endpoints that are down, which then recover.
///
/// # Errors
/// The server does not answer as it should, or something does not arrive.
pub(crate) async fn backlog(
    deliveries: usize,
    endpoints: usize,
    delay: &str,
    connections: usize,
    data: &Path,
) -> Result<Backlog, Failure> {
    let receiver = Receiver::start()?;
    let (events, deliveries) = share(deliveries, endpoints);
    register_all(&receiver, Manner::Down, endpoints, data).await?;
    let delays = [delay; 5].join(",");
    let variables = [("COUNTERSIGN_RETRY_DELAYS", &*delays), ("COUNTERSIGN_RETRY_JITTER", "0")];
    let server = Server::start_with(data, &variables).await?;
    let started = Instant::now();
    make(events, connections, &server).await?;
    receiver.came(deliveries).await?;
    let piled_up_after = started.elapsed();
    let resident = server.resident();
    eprintln!("{deliveries} wait after {:.0} s", piled_up_after.as_secs_f64());
    let (recovered, before) = (Instant::now(), receiver.arrivals().len());
    receiver.recover();
    receiver.taken(deliveries).await?;
    let worked_off_after = recovered.elapsed();
    let elapsed = span(receiver.arrivals().iter().skip(before).map(|arrival| arrival.at));
    let peak = server.peak();
    server.stop().await?;
    Ok(Backlog { deliveries, endpoints, piled_up_after, resident, worked_off_after, elapsed, peak })
}

/// Retries of an endpoint that stays down, each of them against when it was due.
///
/// # Errors
/// The server does not answer as it should, or something does not arrive.
pub(crate) async fn lag(deliveries: usize, connections: usize, data: &Path) -> Result<Lag, Failure> {
    let receiver = Receiver::start()?;
    register_all(&receiver, Manner::Down, 1, data).await?;
    let delays = DELAYS.map(|delay| format!("{delay}s")).join(",");
    let variables = [("COUNTERSIGN_RETRY_DELAYS", &*delays), ("COUNTERSIGN_RETRY_JITTER", "0")];
    let server = Server::start_with(data, &variables).await?;
    make(deliveries, connections, &server).await?;
    receiver.came(deliveries * (DELAYS.len() + 1)).await?;
    server.stop().await?;
    let mut attempts: HashMap<String, Vec<Arrival>> = HashMap::new();
    for arrival in receiver.arrivals() {
        attempts.entry(arrival.event.clone()).or_default().push(arrival);
    }
    let late = attempts.into_values().flat_map(|attempts| {
        // An attempt is refused at once, and the wait begins when that is recorded.
        let retries = attempts.windows(2).zip(DELAYS);
        let late =
            retries.map(|(pair, delay)| since(pair[0].at, pair[1].at).saturating_sub(Duration::from_secs(delay)));
        late.collect::<Vec<_>>()
    });
    let mut late: Vec<_> = late.collect();
    late.sort_unstable();
    Ok(Lag { deliveries, late })
}

/// How many events that makes, and how many deliveries exactly.
fn share(deliveries: usize, endpoints: usize) -> (usize, usize) {
    let events = deliveries.div_ceil(endpoints);
    (events, events * endpoints)
}

async fn register_all(receiver: &Receiver, manner: Manner, endpoints: usize, data: &Path) -> Result<(), Failure> {
    let endpoints: Vec<_> = (0..endpoints).map(|number| (receiver.url(manner, number), CREATED)).collect();
    register(data, &endpoints).await
}

/// Makes events; how many a second.
async fn make(events: usize, connections: usize, server: &Server) -> Result<f64, Failure> {
    eprintln!("making {events} events");
    let minted = phase::run(&server.address, connections, Mint { tokens: events, customers: 1 }).await?;
    minted.whole()?;
    Ok(rate(events, minted.elapsed))
}

/// From one moment to a later one.
pub(crate) fn since(before: Timestamp, after: Timestamp) -> Duration {
    Duration::try_from(after.duration_since(before)).unwrap_or_default()
}

fn span(mut times: impl Iterator<Item = Timestamp>) -> Duration {
    let Some(first) = times.next() else { return Duration::ZERO };
    since(first, times.last().unwrap_or(first))
}

impl fmt::Display for Throughput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpu = self.cpu.map(|cpu| milliseconds(cpu) / self.deliveries as f64);
        writeln!(f, "{} deliveries, {} for each event", self.deliveries, self.endpoints)?;
        row(f, "events made", Some(self.events_rate), 0, "events/s")?;
        row(f, "delivered", Some(rate(self.deliveries, self.elapsed)), 0, "deliveries/s")?;
        row(f, "  longest gap", Some(milliseconds(self.longest_gap)), 0, "ms")?;
        row(f, "  server CPU", cpu, 3, "ms/delivery")?;
        row(f, "server memory, peak", mebibytes(self.peak), 1, "MiB")
    }
}

impl fmt::Display for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} deliveries to {} endpoints that are down", self.deliveries, self.endpoints)?;
        row(f, "each attempted after", Some(self.piled_up_after.as_secs_f64()), 1, "s")?;
        row(f, "memory while all wait", mebibytes(self.resident), 1, "MiB")?;
        row(f, "recovered, all there after", Some(self.worked_off_after.as_secs_f64()), 1, "s")?;
        row(f, "  from the first that came", Some(rate(self.deliveries, self.elapsed)), 0, "deliveries/s")?;
        row(f, "server memory, peak", mebibytes(self.peak), 1, "MiB")
    }
}

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} retries of {} deliveries that fail", self.late.len(), self.deliveries)?;
        for (name, share) in [("late p50", 0.5), ("late p99", 0.99), ("late max", 1.0)] {
            row(f, name, quantile(&self.late, share).map(milliseconds), 0, "ms")?;
        }
        Ok(())
    }
}
