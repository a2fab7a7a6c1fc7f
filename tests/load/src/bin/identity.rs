//! `identity`: measures how long a process takes to believe a token, the first time and then again, and how long not to,
//! for each class of hostile ones.

use countersign::{Runner, Table};
use countersign_api::config::Local;
use countersign_api::{Credentials, Denied, RootKey, install_crypto};
use countersign_embedded::Engine;
use countersign_store::Clock;
use countersign_testing::issuer::JwksAddress;
use countersign_testing::tokens::{Case, Kit, SECRET_ID};
use serde_json::json;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How often each token is judged by one process, and by how many.
const TIMES: usize = 40;
const ROUNDS: usize = 25;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    install_crypto();
    match measure().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("identity: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure() -> Result<(), Failure> {
    let kit = Kit::generate();
    let (issuer, narrow) = (JwksAddress::start(&kit.jwks()).await?, JwksAddress::start(&kit.narrow_jwks()).await?);
    let directory = tempfile::tempdir()?;
    write_secrets(directory.path(), &kit)?;
    let issuers = Kit::configuration(&issuer.url(), &narrow.url());
    let config = Local::read(|name| match name {
        "COUNTERSIGN_LISTEN" | "COUNTERSIGN_MANAGEMENT_LISTEN" => Some("127.0.0.1:0".into()),
        "COUNTERSIGN_DATA" => Some(directory.path().into()),
        "COUNTERSIGN_ISSUERS" => Some(issuers.clone().into()),
        _ => None,
    })?;
    // It stands still: nothing expires meanwhile, and no key is fetched twice.
    let clock = Clock::manual(Clock::System.now());
    let now = clock.now().as_second();
    let mut believed: Vec<_> = kit.believed(now).into_iter().map(Measured::new).collect();
    let mut hostile: Vec<_> = kit.hostile(now).into_iter().map(Measured::new).collect();
    for _ in 0..ROUNDS {
        let runner = Runner::start(&config, clock.clone(), Table::Embedded(Engine::memory()?)).await?;
        // The hostile ones first: they have the keys fetched.
        for measured in hostile.iter_mut().chain(&mut believed) {
            measured.take(runner.app()).await?;
        }
    }
    if let Some(wrong) = believed.iter().find(|measured| measured.denied).or(hostile.iter().find(|m| !m.denied)) {
        return Err(format!("judged wrongly: {}", wrong.name).into());
    }
    report("believed", &believed);
    report("hostile", &hostile);
    Ok(())
}

/// A data directory whose secrets have the one that tokens are signed with.
fn write_secrets(directory: &Path, kit: &Kit) -> Result<(), Failure> {
    let random = |_| "the system gives no random numbers";
    let secrets = json!({
        "override_secret": RootKey::generate().map_err(random)?.to_text(),
        "root_key": RootKey::generate().map_err(random)?.to_text(),
        "issuer_secrets": { SECRET_ID: kit.secret_text() },
    });
    // A temporary file is the owner's alone, as it must be.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(secrets.to_string().as_bytes())?;
    file.persist(directory.join("secrets.json"))?;
    Ok(())
}

struct Measured {
    name: String,
    token: String,
    denied: bool,
    /// What the first judgement of each process took.
    first: Vec<Duration>,
    /// What the others took.
    again: Vec<Duration>,
}

impl Measured {
    fn new(case: Case) -> Self {
        Self { name: case.name, token: case.token, denied: false, first: Vec::new(), again: Vec::new() }
    }

    async fn take(&mut self, app: &countersign_api::App) -> Result<(), Failure> {
        for time in 0..TIMES {
            let credentials = Credentials { token: Some(&self.token), key: None };
            let started = Instant::now();
            let judged = credentials.check(app).await;
            let took = if time == 0 { &mut self.first } else { &mut self.again };
            took.push(started.elapsed());
            self.denied = match judged {
                Ok(_) => false,
                Err(Denied::Token | Denied::Expired) => true,
                Err(Denied::Missing | Denied::Key | Denied::Unavailable(_)) => return Err("not judged".into()),
            };
        }
        Ok(())
    }
}

/// In microseconds.
fn median(took: &[Duration]) -> f64 {
    let mut took = took.to_vec();
    took.sort_unstable();
    took.get(took.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1e6
}

/// All of them, the slowest first.
fn report(title: &str, all: &[Measured]) {
    let medians = all.iter().map(|measured| (median(&measured.first), median(&measured.again), measured));
    let mut rows: Vec<_> = medians.collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    println!("{title}: medians of {ROUNDS} first times and of {} others, in microseconds; bytes", (TIMES - 1) * ROUNDS);
    for (first, again, measured) in rows {
        println!("{first:>9.1} {again:>9.1} {:>6}  {}", measured.token.len(), measured.name);
    }
}
