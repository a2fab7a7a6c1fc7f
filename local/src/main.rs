//! The `countersign` command.

use clap::{Parser, Subcommand};
use countersign::credentials::{NewKey, Token};
use countersign::hints::FirstStart;
use countersign::{Runner, Table, data, demo, verify};
use countersign_api::config::Local;
use countersign_api::{install_crypto, logging, shut_down_signal};
use countersign_domain::Tenant;
use countersign_store::Clock;
use std::io::Write;
use std::process::ExitCode;
use tokio::sync::watch;

type Failure = Box<dyn std::error::Error>;

/// Decides things exactly once: overrides, approvals, agents' actions and cases, on this machine.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve both planes (the default)
    Serve,
    /// Play a decision through every door of a running server, or of one that is started for it, and explain each step
    Demo,
    /// Print a JWT from the local issuer
    Token(Token),
    /// Mint an API key and print it
    Key(NewKey),
    /// Check the audit chains of a tenant; fails and names the first broken entry if one is not whole
    Verify {
        /// The tenant: a customer's id, an organization's number, a key's domain
        #[arg(long)]
        tenant: Tenant,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    install_crypto();
    let done = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve().await,
        Command::Demo => run_demo().await,
        Command::Token(token) => print_token(&token),
        Command::Key(key) => mint_key(&key).await,
        Command::Verify { tenant } => check(&tenant).await,
    };
    done.unwrap_or_else(|error| {
        eprintln!("countersign: {error}");
        ExitCode::from(2)
    })
}

fn configured() -> Result<Local, Failure> {
    Ok(Local::read(|name| std::env::var_os(name))?)
}

async fn serve() -> Result<ExitCode, Failure> {
    let config = configured()?;
    logging::start();
    let clock = Clock::System;
    let table = Table::configured(&config, &clock, false).await?;
    let runner = Runner::start(&config, clock, table).await?;
    let ready = format!("ready public={} management={}", runner.public_url(), runner.management_url());
    if config.config.issuers.is_none() && data::is_first_start(&config.data)? {
        let (public, management) = (runner.public_url(), runner.management_url());
        let issuer = data::secrets(&config)?.issuer;
        let store = &runner.app().store;
        let first = FirstStart { data: &config.data, public: &public, management: &management, issuer: &issuer, store };
        eprintln!("{}", first.hints().await?);
    }
    let (stop, stopped) = watch::channel(false);
    let mut serving = tokio::spawn(runner.run(stopped));
    let mut stdout = std::io::stdout();
    // Whoever started us may not care to read it.
    let _ = writeln!(stdout, "{ready}").and_then(|()| stdout.flush());
    tokio::select! {
        asked = shut_down_signal() => asked?,
        // Only a failure ends it unasked.
        ended = &mut serving => return Ok(ended?.map(|()| ExitCode::SUCCESS)?),
    }
    stop.send_replace(true);
    serving.await??;
    Ok(ExitCode::SUCCESS)
}

async fn run_demo() -> Result<ExitCode, Failure> {
    demo::play(&configured()?).await?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a line; println! would panic where nobody takes it.
fn print(line: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

fn print_token(token: &Token) -> Result<ExitCode, Failure> {
    let config = configured()?;
    if config.config.issuers.is_some() {
        eprintln!("countersign: COUNTERSIGN_ISSUERS is set, so no server with it trusts this token");
    }
    print(&data::secrets(&config)?.issuer.sign(&token.claims(Clock::System.now()))?)?;
    Ok(ExitCode::SUCCESS)
}

async fn mint_key(key: &NewKey) -> Result<ExitCode, Failure> {
    let config = configured()?;
    let clock = Clock::System;
    let store = Table::configured(&config, &clock, false).await?.store(&clock).await?;
    print(&key.mint(&store).await?)?;
    Ok(ExitCode::SUCCESS)
}

async fn check(tenant: &Tenant) -> Result<ExitCode, Failure> {
    let config = configured()?;
    let clock = Clock::System;
    let store = Table::configured(&config, &clock, true).await?.store(&clock).await?;
    let verified = verify::tenant(&store, tenant).await?;
    match verified.broken {
        None => {
            print(&format!("whole: {} records with {} entries", verified.records, verified.entries))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(broken) => {
            print(&format!("broken: {broken}"))?;
            Ok(ExitCode::FAILURE)
        }
    }
}
