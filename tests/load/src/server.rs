//! The server that is measured: what `countersign serve` does, in a child process of this same executable.

use crate::{Failure, usage};
use countersign::{Runner, Table};
use countersign_api::config::Local;
use countersign_api::logging;
use countersign_store::Clock;
use std::io::{self, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// How long the server may take to start, and again to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves until standard input ends, which it also does when the process that measures is gone.
///
/// # Errors
/// The server cannot start, or a socket fails.
pub(crate) async fn serve() -> Result<(), Failure> {
    let config = Local::read(|name| std::env::var_os(name))?;
    logging::start();
    let clock = Clock::System;
    let table = Table::configured(&config, &clock, false).await?;
    let runner = Runner::start(&config, clock, table).await?;
    let ready = format!("ready public={} management={}", runner.public_url(), runner.management_url());
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(runner.run(stopped));
    let mut stdout = io::stdout();
    writeln!(stdout, "{ready}").and_then(|()| stdout.flush())?;
    tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink())).await??;
    stop.send_replace(true);
    Ok(serving.await??)
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    id: u32,
    /// Where its management plane listens.
    pub(crate) address: String,
    /// Where its public doors listen.
    pub(crate) public: String,
    /// From the start of the process to its ready line.
    pub(crate) ready_after: Duration,
}

impl Server {
    /// Starts a server on this data directory, on ports that are free.
    ///
    /// # Errors
    /// It says something else than that it is ready.
    pub(crate) async fn start(data: &Path) -> Result<Self, Failure> {
        Self::start_with(data, &[]).await
    }

    /// The same with these variables set.
    ///
    /// # Errors
    /// It says something else than that it is ready.
    pub(crate) async fn start_with(data: &Path, variables: &[(&str, &str)]) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        // A measurement does not depend on how this shell is set up.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("COUNTERSIGN_")) {
            command.env_remove(name);
        }
        command
            .arg("serve")
            .env("COUNTERSIGN_DATA", data)
            .env("COUNTERSIGN_LISTEN", "127.0.0.1:0")
            .env("COUNTERSIGN_MANAGEMENT_LISTEN", "127.0.0.1:0")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let started = Instant::now();
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().ok_or("the server has no output")?;
        let mut ready = String::new();
        tokio::time::timeout(PATIENCE, BufReader::new(stdout).read_line(&mut ready)).await??;
        let ready_after = started.elapsed();
        let addresses = ready.trim_end().strip_prefix("ready public=http://");
        let addresses = addresses.and_then(|addresses| addresses.split_once(" management=http://"));
        let (public, address) = addresses.ok_or_else(|| format!("the server does not start: {ready}"))?;
        let id = child.id().ok_or("the server has ended")?;
        Ok(Self { id, address: address.to_owned(), public: public.to_owned(), ready_after, child })
    }

    /// Processor time so far.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        usage::cpu(self.id)
    }

    /// Whether it works on more than a little within `time`, which passes.
    pub(crate) async fn is_busy(&self, time: Duration) -> bool {
        let before = self.cpu();
        tokio::time::sleep(time).await;
        usage::between(before, self.cpu()).is_some_and(|worked| worked > time / 10)
    }

    /// Memory in use now, in KiB.
    pub(crate) fn resident(&self) -> Option<u64> {
        usage::memory(self.id, "VmRSS:")
    }

    /// The most memory that was ever in use, in KiB.
    pub(crate) fn peak(&self) -> Option<u64> {
        usage::memory(self.id, "VmHWM:")
    }

    /// Lets it finish and waits for its end.
    ///
    /// # Errors
    /// It ends badly or not at all; in the latter case it is killed.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        drop(self.child.stdin.take());
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(ended) => match ended? {
                status if status.success() => Ok(()),
                status => Err(format!("the server ended with {status}").into()),
            },
            Err(_elapsed) => {
                self.child.kill().await?;
                Err("the server did not stop and was killed".into())
            }
        }
    }
}
