//! `countersign-load`: measures durable override decisions over HTTP, lists, and deliveries, against a server in a
//! process of its own.

mod connection;
mod deliveries;
mod endpoints;
mod isolation;
mod overrides;
mod pages;
mod phase;
mod receiver;
mod report;
mod server;
mod usage;

use clap::{Parser, Subcommand};
use overrides::{Decide, Mint};
use report::Report;
use server::Server;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use tokio::runtime;
use usage::cpu;

/// How many customers decide.
const CUSTOMERS: usize = 100;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Mints override tokens, decides each of them once, and reports how fast that went and what it took.
#[derive(Parser)]
#[command(name = "countersign-load", args_conflicts_with_subcommands = true)]
struct Arguments {
    /// How many decisions to measure
    #[arg(long, default_value = "20000")]
    decisions: NonZeroUsize,
    /// How many connections decide at the same time, each one decision after the other
    #[arg(long, default_value = "16")]
    connections: NonZeroUsize,
    /// How many decisions to take before measuring
    #[arg(long, default_value_t = 1000)]
    warm_up: usize,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// List many pending approvals page by page
    Pages {
        /// How many
        #[arg(long, default_value = "100000")]
        records: NonZeroUsize,
    },
    /// Deliver events to endpoints: fast ones, dead ones, and those beside one that hangs
    Deliveries {
        #[command(subcommand)]
        of: Deliveries,
    },
    /// Be the server that is measured
    #[command(hide = true)]
    Serve,
}

#[derive(Subcommand)]
enum Deliveries {
    /// How many arrive a second where everyone is well
    Throughput {
        /// How many
        #[arg(long, default_value = "20000")]
        deliveries: NonZeroUsize,
        /// How many endpoints hear of each event, up to 50
        #[arg(long, default_value = "1")]
        endpoints: NonZeroUsize,
    },
    /// How soon all have arrived that waited for endpoints which were down
    Backlog {
        /// How many
        #[arg(long, default_value = "100000")]
        deliveries: NonZeroUsize,
        /// How many endpoints hear of each event, up to 50
        #[arg(long, default_value = "10")]
        endpoints: NonZeroUsize,
        /// How long they are down after an attempt: longer than all first attempts together take
        #[arg(long, default_value = "4m")]
        delay: String,
    },
    /// How soon a healthy endpoint hears alone, beside endpoints that hang, and beside one with much waiting
    Isolation {
        /// How many events in each of these
        #[arg(long, default_value = "100")]
        events: NonZeroUsize,
        /// How often each of these, in turn
        #[arg(long, default_value = "3")]
        rounds: NonZeroUsize,
        /// How many deliveries wait
        #[arg(long, default_value = "10000")]
        waiting: NonZeroUsize,
    },
    /// How late retries are
    Lag {
        /// How many deliveries, each tried six times
        #[arg(long, default_value = "300")]
        deliveries: NonZeroUsize,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let measured = match arguments.role {
        Some(Role::Serve) => return serve(),
        Some(Role::Pages { records }) => {
            let connections = arguments.connections.get();
            measure(async |data| pages::run(records.get(), connections, data).await).map(|pages| println!("{pages}"))
        }
        Some(Role::Deliveries { ref of }) => {
            let connections = arguments.connections.get();
            measure(async |data| deliver(of, connections, data).await).map(|report| print!("{report}"))
        }
        None => measure(async |data| run(&arguments, data).await).and_then(|report| {
            println!("{report}");
            report.failure()
        }),
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("countersign-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> ExitCode {
    // As many threads as `countersign serve` has.
    let served = runtime::Runtime::new().map_err(Failure::from).and_then(|runtime| runtime.block_on(server::serve()));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where the ready line would be: it is what the other process reads.
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures against a data directory that is gone afterwards.
fn measure<T>(measurement: impl AsyncFnOnce(&Path) -> Result<T, Failure>) -> Result<T, Failure> {
    // One thread, to leave the server the rest of the machine.
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let executable = std::env::current_exe()?;
    // Next to the executable rather than with the system's temporary files, which may be in memory.
    let beside = executable.parent().unwrap_or(Path::new("."));
    let directory = tempfile::Builder::new().prefix("countersign-load-").tempdir_in(beside)?;
    let data = directory.path().join("data");
    runtime.block_on(async {
        tokio::select! {
            measured = measurement(&data) => measured,
            // Handled, so that the server and the directory do not stay behind.
            _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        }
    })
}

async fn deliver(of: &Deliveries, connections: usize, data: &Path) -> Result<String, Failure> {
    Ok(match of {
        Deliveries::Throughput { deliveries, endpoints } => {
            deliveries::throughput(deliveries.get(), endpoints.get(), connections, data).await?.to_string()
        }
        Deliveries::Backlog { deliveries, endpoints, delay } => {
            deliveries::backlog(deliveries.get(), endpoints.get(), delay, connections, data).await?.to_string()
        }
        Deliveries::Isolation { events, rounds, waiting } => {
            isolation::run(events.get(), rounds.get(), waiting.get(), connections, data).await?.to_string()
        }
        Deliveries::Lag { deliveries } => deliveries::lag(deliveries.get(), connections, data).await?.to_string(),
    })
}

async fn run(arguments: &Arguments, data: &Path) -> Result<Report, Failure> {
    let connections = arguments.connections.get();
    let server = Server::start(data).await?;
    let tokens = arguments.warm_up + arguments.decisions.get();
    eprintln!("minting {tokens} tokens");
    let minted = phase::run(&server.address, connections, Mint { tokens, customers: CUSTOMERS }).await?;
    minted.whole()?;
    let mint_rate = report::rate(tokens, minted.elapsed);
    let mut tokens = minted.read;
    let warm_up = tokens.split_off(arguments.decisions.get());

    eprintln!("deciding {} to warm up, then {}", warm_up.len(), tokens.len());
    phase::run(&server.address, connections, Decide(warm_up)).await?.whole()?;
    let before = (server.cpu(), cpu(std::process::id()));
    let decided = phase::run(&server.address, connections, Decide(tokens)).await?;
    let after = (server.cpu(), cpu(std::process::id()));
    let (resident, peak, on_disk) = (server.resident(), server.peak(), usage::on_disk(data)?);
    let first_start = server.ready_after;
    server.stop().await?;

    let again = Server::start(data).await?;
    let second_start = again.ready_after;
    again.stop().await?;
    Ok(Report {
        connections,
        first_start,
        second_start,
        mint_rate,
        decided,
        server_cpu: usage::between(before.0, after.0),
        own_cpu: usage::between(before.1, after.1),
        resident,
        peak,
        on_disk,
    })
}
