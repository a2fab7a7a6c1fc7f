//! Listing many pending approvals page by page: whether a page takes longer the further in it is.

use crate::Failure;
use crate::connection::Connection;
use crate::phase::{self, Phase};
use crate::server::Server;
use countersign::credentials::Token;
use countersign::data;
use countersign_api::config::Local;
use countersign_domain::Timestamp;
use hyper::StatusCode;
use serde_json::Value;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How many pages are one figure: a single one is too short to compare.
const WINDOW: usize = 50;

struct Propose {
    records: usize,
    token: String,
}

impl Phase for Propose {
    type Read = ();
    const EXPECTED: StatusCode = StatusCode::CREATED;

    fn count(&self) -> usize {
        self.records
    }

    fn request(&self, number: usize) -> (String, String) {
        let body = format!(
            r#"{{"incidentTitle":"i","title":"t-{number}","steps":[{{"description":"d"}}],"timeoutMinutes":10080}}"#
        );
        ("/v1/remediation".to_owned(), body)
    }

    fn token(&self) -> Option<&str> {
        Some(&self.token)
    }

    fn read(&self, _: usize, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}

/// How long pages took, the first windows against the others.
pub(crate) struct Pages {
    records: usize,
    pages: usize,
    propose_rate: f64,
    /// The median of each window of pages.
    windows: Vec<Duration>,
}

/// Proposes `records` remediations, and follows the cursors through all that are pending.
///
/// # Errors
/// The server does not answer as it should.
pub(crate) async fn run(records: usize, connections: usize, data: &Path) -> Result<Pages, Failure> {
    let server = Server::start(data).await?;
    let config = Local { data: data.to_owned(), ..Local::read(|_| None)? };
    let token = Token {
        tenant: "1".parse()?,
        subject: "42".to_owned(),
        roles: vec!["admin".to_owned()],
        claims: Vec::new(),
        ttl: 24 * 60 * 60,
    };
    let token = data::secrets(&config)?.issuer.sign(&token.claims(Timestamp::now()))?;

    eprintln!("proposing {records} remediations");
    let proposed = phase::run(&server.public, connections, Propose { records, token: token.clone() }).await?;
    proposed.whole()?;
    let propose_rate = crate::report::rate(records, proposed.elapsed);

    eprintln!("listing them");
    let mut connection = Connection::open(&server.public).await?;
    let (mut took, mut listed, mut cursor) = (Vec::new(), 0, None::<String>);
    loop {
        let page = match &cursor {
            None => "/v1/notifications/approvals/pending".to_owned(),
            Some(cursor) => format!("/v1/notifications/approvals/pending?cursor={cursor}"),
        };
        let asked = Instant::now();
        let (status, body) = connection.send(&page, None, Some(&token)).await?;
        took.push(asked.elapsed());
        if status != StatusCode::OK {
            return Err(format!("a page was answered with {status}").into());
        }
        let page: Value = serde_json::from_slice(&body)?;
        listed += page["items"].as_array().map_or(0, Vec::len);
        match page["cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    if listed != records {
        return Err(format!("{listed} of {records} were listed").into());
    }
    server.stop().await?;
    let windows = took.chunks(WINDOW).filter(|window| window.len() == WINDOW).map(median).collect();
    Ok(Pages { records, pages: took.len(), propose_rate, windows })
}

fn median(window: &[Duration]) -> Duration {
    let mut sorted = window.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        writeln!(f, "{} pending approvals, proposed at {:.0}/s", self.records, self.propose_rate)?;
        let (Some(first), Some(slowest)) = (self.windows.first(), self.windows.iter().max()) else {
            return write!(f, "{} pages are too few to compare", self.pages);
        };
        let last = self.windows.last().unwrap_or(first);
        writeln!(f, "{} pages of 50; medians of {WINDOW} pages:", self.pages)?;
        writeln!(f, "  first    {:.2} ms", millis(*first))?;
        writeln!(f, "  last     {:.2} ms", millis(*last))?;
        write!(f, "  slowest  {:.2} ms, {:.2} times the first", millis(*slowest), millis(*slowest) / millis(*first))
    }
}
