//! `countersign-load`: measures durable override decisions over HTTP, against a server in a process of its own.

mod connection;
mod overrides;
mod pages;
mod phase;
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
    /// Be the server that is measured
    #[command(hide = true)]
    Serve,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let measured = match arguments.role {
        Some(Role::Serve) => return serve(),
        Some(Role::Pages { records }) => {
            let connections = arguments.connections.get();
            measure(async |data| pages::run(records.get(), connections, data).await).map(|pages| println!("{pages}"))
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

async fn run(arguments: &Arguments, data: &Path) -> Result<Report, Failure> {
    let connections = arguments.connections.get();
    let server = Server::start(data).await?;
    let tokens = arguments.warm_up + arguments.decisions.get();
    eprintln!("minting {tokens} tokens");
    let minted = phase::run(&server.address, connections, Mint { tokens }).await?;
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
