//! `cold`: measures how a function starts, from `exec` until it turns to the table to warm up, and until it asks the
//! runtime for its first event; in time, and in instructions where valgrind is installed.
//!
//! The table is a TLS endpoint on this machine with a certificate of its own, the runtime a plain one; neither is what a
//! function waits for in AWS, so the two figures are reported apart.

use clap::Parser;
use countersign_testing::runtime;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long a start may take, also under valgrind.
const WITHIN: Duration = Duration::from_secs(60);

/// Starts functions and says how long that took.
#[derive(Parser)]
struct Arguments {
    /// The functions, as they are deployed
    #[arg(required = true)]
    functions: Vec<PathBuf>,
    /// How often each is started
    #[arg(long, default_value_t = 21)]
    starts: usize,
    /// Count instructions until it turns to the table, too: needs valgrind
    #[arg(long)]
    count: bool,
}

/// What a function does that can be seen from outside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// It turns to the table.
    Table,
    /// It asks for its first event.
    Next,
}

/// One start, from exec on.
struct Start {
    /// Until the function turned to the table; one that has none did so when it asked for an event.
    ready: Duration,
    /// Until it asked for an event.
    next: Duration,
}

/// What AWS has around a function.
struct Surroundings {
    table: SocketAddr,
    runtime: SocketAddr,
    /// A file with the authorities that the function trusts.
    bundle: tempfile::NamedTempFile,
    seen: Receiver<(Sign, Instant)>,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cold: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let around = Surroundings::start()?;
    println!("{:<22}{:>12}{:>14}{:>16}", "", "ready, ms", "warm-up, ms", "instructions");
    for function in &arguments.functions {
        // A bare name would be looked for elsewhere.
        let function = &std::path::absolute(function)?;
        let mut starts = Vec::new();
        for _ in 0..arguments.starts {
            starts.push(around.time(function)?);
        }
        let name = function.file_name().unwrap_or_default().to_string_lossy();
        let ready = median(starts.iter().map(|start| start.ready));
        let warm = median(starts.iter().map(|start| start.next - start.ready));
        let count = if arguments.count { around.count(function)? } else { "not counted".to_owned() };
        println!("{name:<22}{:>12.2}{:>14.2}{count:>16}", ready.as_secs_f64() * 1e3, warm.as_secs_f64() * 1e3);
    }
    Ok(())
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

impl Surroundings {
    fn start() -> Result<Self, Failure> {
        let (sender, seen) = mpsc::channel();
        let certified = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()])?;
        let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key.into())?;
        let bundle = tempfile::NamedTempFile::new()?;
        std::fs::write(&bundle, certified.cert.pem())?;
        let tls = Arc::new(tls);
        let told = sender.clone();
        let table = listen(move |stream| {
            let _ = told.send((Sign::Table, Instant::now()));
            if let Ok(connection) = ServerConnection::new(Arc::clone(&tls)) {
                answer(StreamOwned::new(connection, stream), |_| Some("{}"));
            }
        })?;
        let runtime = listen(move |stream| {
            // Nobody who asks for an event is ever answered.
            answer(stream, |path| {
                if path.ends_with("/next") {
                    let _ = sender.send((Sign::Next, Instant::now()));
                    return None;
                }
                Some("")
            });
        })?;
        Ok(Self { table, runtime, bundle, seen })
    }

    fn command(&self, program: &Path) -> Command {
        let url = |name: &str| format!("http://127.0.0.1:1/0/{name}");
        let issuers = r#"[{"issuer":"https://id.example","audience":"countersign","jwks_url":"https://id.example/jwks","algorithms":["RS256"],"tenants":"*"}]"#;
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(runtime::variables(self.runtime, "countersign"))
            .env("AWS_SESSION_TOKEN", "not-a-token")
            .env("AWS_ENDPOINT_URL", format!("https://{}", self.table))
            .env("AWS_CA_BUNDLE", self.bundle.path())
            .env("COUNTERSIGN_TABLE", "countersign")
            .env("COUNTERSIGN_ROOT_KEY_ID", "root-key")
            .env("COUNTERSIGN_OVERRIDE_SECRET_ID", "override-secret")
            .env("COUNTERSIGN_ISSUERS", issuers)
            .env("COUNTERSIGN_QUEUE_URL", url("delivery"))
            .env("COUNTERSIGN_SLOW_QUEUE_URL", url("delivery-slow"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// One start, timed.
    fn time(&self, function: &Path) -> Result<Start, Failure> {
        let started = Instant::now();
        let mut process = self.command(function).spawn()?;
        let start = self.wait(started);
        end(&mut process);
        // Whatever it still did.
        while self.seen.try_recv().is_ok() {}
        start
    }

    fn wait(&self, started: Instant) -> Result<Start, Failure> {
        let (mut ready, until) = (None, started + WITHIN);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (sign, at) = self.seen.recv_timeout(left).map_err(|_| "a function does not start")?;
            match sign {
                Sign::Table => ready = ready.or(Some(at)),
                Sign::Next => {
                    return Ok(Start { ready: ready.unwrap_or(at) - started, next: at - started });
                }
            }
        }
    }

    /// Instructions in user space until the function turns to the table, or asks for an event: with the authorities that
    /// it brings along, as it need not get an answer.
    fn count(&self, function: &Path) -> Result<String, Failure> {
        let mut valgrind = self.command(Path::new("valgrind"));
        valgrind.env_remove("AWS_CA_BUNDLE");
        valgrind.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(function);
        let mut process = valgrind.stderr(Stdio::piped()).spawn().map_err(|error| format!("valgrind: {error}"))?;
        let seen = self.seen.recv_timeout(WITHIN);
        // Asked to end, it says how far it had come.
        let ended = Command::new("kill").arg(process.id().to_string()).status();
        let mut said = String::new();
        if let Some(stderr) = &mut process.stderr {
            stderr.read_to_string(&mut said)?;
        }
        end(&mut process);
        while self.seen.try_recv().is_ok() {}
        seen.map_err(|_| "a function does not start under valgrind")?;
        ended?;
        let collected = said.lines().find_map(|line| line.split_once("Collected :"));
        Ok(collected.ok_or("valgrind counted nothing")?.1.trim().to_owned())
    }
}

fn end(process: &mut Child) {
    // It may have ended by itself.
    let _ = process.kill();
    let _ = process.wait();
}

/// Serves each connection to a free port of this machine on a thread of its own.
fn listen(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Where it cannot be set, only the figure is worse.
            let _ = stream.set_nodelay(true);
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    Ok(address)
}

/// Answers requests without or with a body on one connection, for as long as `say` has an answer to their paths.
fn answer(stream: impl Read + Write, say: impl Fn(&str) -> Option<&'static str>) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if !matches!(stream.read_line(&mut first), Ok(1..)) {
            return;
        }
        loop {
            let mut line = String::new();
            match stream.read_line(&mut line) {
                Ok(1..) if line != "\r\n" => {}
                Ok(1..) => break,
                Ok(0) | Err(_) => return,
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        let path = first.split(' ').nth(1).unwrap_or_default();
        let Some(said) = stream.read_exact(&mut body).ok().and_then(|()| say(path)) else {
            // The connection stays open until the process ends.
            let _ = stream.read(&mut [0]);
            return;
        };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length:";
        // All of it at once: what comes in pieces waits for the other side to confirm each.
        let whole = format!("{head} {}\r\n\r\n{said}", said.len());
        if stream.get_mut().write_all(whole.as_bytes()).and_then(|()| stream.get_mut().flush()).is_err() {
            return;
        }
    }
}
