//! A phase: many requests of one sort, spread over connections that are opened before the clock starts.

use crate::Failure;
use crate::connection::Connection;
use hyper::StatusCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// The requests of a phase.
pub(crate) trait Phase: Send + Sync + 'static {
    /// What is kept of an answer.
    type Read: Send;
    /// The status of a good answer.
    const EXPECTED: StatusCode;

    fn count(&self) -> usize;

    /// Path and body of a request, counted from 0.
    fn request(&self, number: usize) -> (String, String);

    /// The JWT that it is sent with, if with one.
    fn token(&self) -> Option<&str> {
        None
    }

    fn read(&self, number: usize, body: &[u8]) -> Result<Self::Read, Failure>;
}

/// When a good answer had come, from the start of the phase, and how long it took.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) done: Duration,
    pub(crate) took: Duration,
}

/// How a phase went.
pub(crate) struct Ran<T> {
    pub(crate) elapsed: Duration,
    pub(crate) samples: Vec<Sample>,
    /// What was kept of the good answers, in the order of their requests.
    pub(crate) read: Vec<T>,
    /// Answers with another status than expected.
    pub(crate) failures: Vec<String>,
}

impl<T> Ran<T> {
    /// Fails unless every answer was good.
    pub(crate) fn whole(&self) -> Result<(), Failure> {
        match self.failures.first() {
            None => Ok(()),
            Some(first) => Err(format!("{} requests failed, the first with {first}", self.failures.len()).into()),
        }
    }
}

/// What one connection has done of a phase.
struct Part<T> {
    samples: Vec<Sample>,
    /// With the numbers of the requests.
    read: Vec<(usize, T)>,
    failures: Vec<String>,
}

/// Sends every request of the phase once.
///
/// # Errors
/// A connection fails. Answers with the wrong status are reported, not errors.
pub(crate) async fn run<P: Phase>(address: &str, connections: usize, phase: P) -> Result<Ran<P::Read>, Failure> {
    let mut opened = Vec::new();
    for _ in 0..connections {
        opened.push(Connection::open(address).await?);
    }
    let shared = Arc::new((phase, AtomicUsize::new(0)));
    let started = Instant::now();
    let mut working: JoinSet<_> =
        opened.into_iter().map(|connection| work(Arc::clone(&shared), connection, started)).collect();
    let (mut samples, mut read, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(ended) = working.join_next().await {
        let part: Part<_> = ended??;
        samples.extend(part.samples);
        read.extend(part.read);
        failures.extend(part.failures);
    }
    let elapsed = started.elapsed();
    read.sort_unstable_by_key(|(number, _)| *number);
    Ok(Ran { elapsed, samples, read: read.into_iter().map(|(_, read)| read).collect(), failures })
}

async fn work<P: Phase>(
    shared: Arc<(P, AtomicUsize)>,
    mut connection: Connection,
    started: Instant,
) -> Result<Part<P::Read>, Failure> {
    let (phase, next) = &*shared;
    let mut part = Part { samples: Vec::new(), read: Vec::new(), failures: Vec::new() };
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= phase.count() {
            return Ok(part);
        }
        let (path, body) = phase.request(number);
        let asked = Instant::now();
        let (status, body) = connection.send(&path, Some(body), phase.token()).await?;
        if status == P::EXPECTED {
            part.samples.push(Sample { done: started.elapsed(), took: asked.elapsed() });
            part.read.push((number, phase.read(number, &body)?));
        } else {
            part.failures.push(format!("{status} {}", String::from_utf8_lossy(&body)));
        }
    }
}
