//! Whether a healthy endpoint hears as soon beside endpoints that hang, and beside one with much waiting, as alone.

use crate::Failure;
use crate::deliveries::since;
use crate::endpoints::register;
use crate::overrides::{Decide, Mint};
use crate::phase;
use crate::receiver::{Manner, Receiver};
use crate::report::{milliseconds, quantile};
use crate::server::Server;
use countersign_domain::Timestamp;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// As many as a tenant may have beside the healthy one.
const HANGING: usize = 49;
/// Decisions that are not measured.
const WARM_UP: usize = 10;
/// How much time there is for each event.
const EVERY: Duration = Duration::from_millis(200);
/// How long the server is left alone before it is measured.
const SETTLE: Duration = Duration::from_secs(3);
/// The only thing that a healthy endpoint hears of.
const DECIDED: &str = "override.decided";
const CREATED: &str = "override.created";

#[derive(Clone, Copy)]
enum Beside {
    Nobody,
    Hanging,
    Waiting,
}

/// How long it took from the answer to a decision to its arrival, in each of the settings, shortest first.
pub(crate) struct Isolation {
    settings: [(Beside, Vec<Duration>); 3],
    waiting: usize,
}

/// Measures each setting on a server of its own, in turn, so that noise meets all of them.
///
/// # Errors
/// The server does not answer as it should, or something does not arrive.
pub(crate) async fn run(
    events: usize,
    rounds: usize,
    waiting: usize,
    connections: usize,
    data: &Path,
) -> Result<Isolation, Failure> {
    let mut settings = [Beside::Nobody, Beside::Hanging, Beside::Waiting].map(|beside| (beside, Vec::new()));
    for round in 0..rounds {
        for (beside, took) in &mut settings {
            eprintln!("round {}: {}", round + 1, beside.name());
            let data = data.join(format!("{round}-{}", beside.name()));
            took.extend(measure(*beside, events, waiting, connections, &data).await?);
        }
    }
    for (_, took) in &mut settings {
        took.sort_unstable();
    }
    Ok(Isolation { settings, waiting })
}

async fn measure(
    beside: Beside,
    events: usize,
    waiting: usize,
    connections: usize,
    data: &Path,
) -> Result<Vec<Duration>, Failure> {
    let receiver = Receiver::start()?;
    let mut endpoints = vec![(receiver.url(Manner::Well, 0), DECIDED)];
    let hanging = |number| receiver.url(Manner::Hanging, number);
    match beside {
        Beside::Nobody => {}
        Beside::Hanging => endpoints.extend((0..HANGING).map(|number| (hanging(number), DECIDED))),
        Beside::Waiting => endpoints.push((hanging(0), CREATED)),
    }
    register(data, &endpoints).await?;
    // What has failed does not come back while this is measured.
    let server = Server::start_with(data, &[("COUNTERSIGN_RETRY_DELAYS", "1h,1h,1h,1h,1h")]).await?;
    let minted = match beside {
        Beside::Waiting => waiting,
        Beside::Nobody | Beside::Hanging => 0,
    };
    let minted = Mint { tokens: minted.max(events + WARM_UP), customers: 1 };
    let minted = phase::run(&server.address, connections, minted).await?;
    minted.whole()?;
    // What was told by then is made into deliveries.
    while server.is_busy(SETTLE).await {}

    let mut tokens = minted.read;
    tokens.truncate(events + WARM_UP);
    let mut interval = tokio::time::interval(EVERY);
    let mut answered = Vec::new();
    for token in tokens {
        interval.tick().await;
        phase::run(&server.address, 1, Decide(vec![token])).await?.whole()?;
        answered.push(Timestamp::now());
    }
    receiver.taken(events + WARM_UP).await?;
    let mut arrivals = receiver.arrivals();
    arrivals.retain(|arrival| arrival.endpoint.starts_with(Manner::Well.path()));
    let took = answered.into_iter().zip(arrivals).map(|(answered, arrival)| since(answered, arrival.at));
    Ok(took.skip(WARM_UP).collect())
}

impl Beside {
    fn name(self) -> &'static str {
        match self {
            Self::Nobody => "alone",
            Self::Hanging => "hanging",
            Self::Waiting => "waiting",
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(_, alone), ..] = &self.settings;
        let of = |took: &[Duration], share| quantile(took, share).map(milliseconds).unwrap_or_default();
        writeln!(
            f,
            "{} events to a healthy endpoint: alone, beside {HANGING} that hang, beside one with {} waiting",
            alone.len(),
            self.waiting
        )?;
        for (beside, took) in &self.settings {
            for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
                let (took, alone) = (of(took, share), of(alone, share));
                writeln!(f, "  {:<8} {name} {took:>8.2} ms, {:.2} times alone", beside.name(), took / alone)?;
            }
        }
        Ok(())
    }
}
