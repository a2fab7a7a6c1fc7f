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
mod workflow;

use clap::{Parser, Subcommand};
use overrides::{Decide, Mint};
use phase::Phase;
use report::Report;
use server::Server;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use tokio::runtime;
use usage::cpu;
use workflow::{Approve, Ask};

/// How many customers decide.
const CUSTOMERS: usize = 100;
/// How many decisions are taken before measuring.
const WARM_UP: usize = 1000;

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
    #[arg(long, default_value_t = WARM_UP)]
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
    /// Decide on approval requests, or list the tasks of a large inbox
    Workflow {
        #[command(subcommand)]
        of: Workflow,
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

#[derive(Subcommand)]
enum Workflow {
    /// How many requests are decided a second, each by one of its approvers
    Decisions {
        /// How many
        #[arg(long, default_value = "20000")]
        decisions: NonZeroUsize,
        /// How many approvers a request has, up to 80
        #[arg(long, default_value = "1")]
        approvers: NonZeroUsize,
    },
    /// Whether the first page of a large inbox takes as long as that of a small one
    Inbox {
        /// How many open tasks
        #[arg(long, default_value = "100000")]
        tasks: NonZeroUsize,
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
        Some(Role::Workflow { of: Workflow::Inbox { tasks } }) => {
            let connections = arguments.connections.get();
            measure(async |data| workflow::inbox(tasks.get(), connections, data).await).map(|inbox| print!("{inbox}"))
        }
        Some(Role::Workflow { of: Workflow::Decisions { decisions, approvers } }) => {
            let count =
                Count { connections: arguments.connections.get(), decisions: decisions.get(), warm_up: WARM_UP };
            measure(async |data| run(count, &Requests { approvers: approvers.get() }, data).await).and_then(shown)
        }
        None => {
            let (connections, decisions) = (arguments.connections.get(), arguments.decisions.get());
            let count = Count { connections, decisions, warm_up: arguments.warm_up };
            measure(async |data| run(count, &Overrides, data).await).and_then(shown)
        }
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

fn shown(report: Report) -> Result<(), Failure> {
    println!("{report}");
    report.failure()
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Count {
    connections: usize,
    decisions: usize,
    warm_up: usize,
}

/// Something that is made first and decided afterwards.
trait Decided {
    type Make: Phase;
    type Decide: Phase<Read = ()>;

    /// Where it is decided.
    fn address<'a>(&self, server: &'a Server) -> &'a str;
    /// What is to be there before.
    async fn prepare(&self, server: &Server, data: &Path) -> Result<(), Failure>;
    fn make(&self, count: usize, data: &Path) -> Result<Self::Make, Failure>;
    fn decide(&self, made: Vec<<Self::Make as Phase>::Read>, data: &Path) -> Result<Self::Decide, Failure>;
}

struct Overrides;

impl Decided for Overrides {
    type Make = Mint;
    type Decide = Decide;

    fn address<'a>(&self, server: &'a Server) -> &'a str {
        &server.address
    }

    async fn prepare(&self, _: &Server, _: &Path) -> Result<(), Failure> {
        Ok(())
    }

    fn make(&self, count: usize, _: &Path) -> Result<Mint, Failure> {
        Ok(Mint { tokens: count, customers: CUSTOMERS })
    }

    fn decide(&self, made: Vec<overrides::Token>, _: &Path) -> Result<Decide, Failure> {
        Ok(Decide(made))
    }
}

struct Requests {
    approvers: usize,
}

impl Decided for Requests {
    type Make = Ask;
    type Decide = Approve;

    fn address<'a>(&self, server: &'a Server) -> &'a str {
        &server.public
    }

    async fn prepare(&self, server: &Server, data: &Path) -> Result<(), Failure> {
        workflow::activate(server, data, self.approvers).await
    }

    fn make(&self, count: usize, data: &Path) -> Result<Ask, Failure> {
        Ask::new(count, data)
    }

    fn decide(&self, made: Vec<String>, data: &Path) -> Result<Approve, Failure> {
        Approve::new(made, data)
    }
}

async fn run<D: Decided>(count: Count, decided: &D, data: &Path) -> Result<Report, Failure> {
    let Count { connections, decisions, warm_up } = count;
    let server = Server::start(data).await?;
    decided.prepare(&server, data).await?;
    let address = decided.address(&server);
    eprintln!("making {} to decide", warm_up + decisions);
    let made = phase::run(address, connections, decided.make(warm_up + decisions, data)?).await?;
    made.whole()?;
    let make_rate = report::rate(warm_up + decisions, made.elapsed);
    let mut made = made.read;
    let first = made.split_off(decisions);

    eprintln!("deciding {warm_up} to warm up, then {decisions}");
    phase::run(address, connections, decided.decide(first, data)?).await?.whole()?;
    let before = (server.cpu(), cpu(std::process::id()));
    let ran = phase::run(address, connections, decided.decide(made, data)?).await?;
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
        make_rate,
        decided: ran,
        server_cpu: usage::between(before.0, after.0),
        own_cpu: usage::between(before.1, after.1),
        resident,
        peak,
        on_disk,
    })
}
