//! Decisions on approval requests, and inboxes of tasks: whether a large one is listed as quickly as a small one.

use crate::Failure;
use crate::connection::Connection;
use crate::phase::{self, Phase};
use crate::report::{milliseconds, quantile};
use crate::server::Server;
use countersign::credentials::Token;
use countersign::data;
use countersign_api::config::Local;
use countersign_domain::Timestamp;
use hyper::StatusCode;
use serde_json::{Value, json};
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Who decides everything.
const APPROVER: &str = "u-approver";
/// The policy that all requests go by.
const POLICY: &str = "load";
/// How often a first page is asked for.
const ASKED: usize = 500;
/// How many tasks a small inbox has.
const SMALL: usize = 100;
/// Whose requests are decided.
const TENANT: &str = "load";
/// Whose inbox is small.
const OTHER: &str = "other";

/// A JWT of the local issuer, whose key is in this data directory.
fn token(data: &Path, tenant: &str, subject: &str, roles: &[&str]) -> Result<String, Failure> {
    let config = Local { data: data.to_owned(), ..Local::read(|_| None)? };
    let token = Token {
        tenant: tenant.parse()?,
        subject: subject.to_owned(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        claims: Vec::new(),
        ttl: 24 * 60 * 60,
    };
    Ok(data::secrets(&config)?.issuer.sign(&token.claims(Timestamp::now()))?)
}

/// Activates a policy of one stage that one of so many approvers decides, the approver among them.
///
/// # Errors
/// The server does not answer as it should.
pub(crate) async fn activate(server: &Server, data: &Path, approvers: usize) -> Result<(), Failure> {
    activate_for(server, data, TENANT, approvers).await
}

async fn activate_for(server: &Server, data: &Path, tenant: &str, approvers: usize) -> Result<(), Failure> {
    let admin = token(data, tenant, "u-admin", &["AWE_ADMIN"])?;
    let others = (1..approvers).map(|number| format!("u-{number}"));
    let rules: Vec<Value> = std::iter::once(APPROVER.to_owned())
        .chain(others)
        .map(|user| json!({ "rule_type": "user", "rule_value": { "user_id": user } }))
        .collect();
    let stage = json!({ "name": "only", "stage_order": 1, "mode": "any-n", "mode_value": 1, "rules": rules });
    let policy = json!({ "policy_key": POLICY, "name": "Load", "artifact_type": "t", "stages": [stage] });
    let mut connection = Connection::open(&server.public).await?;
    for (path, body, expected) in [
        ("/v1/awe/policies".to_owned(), policy.to_string(), StatusCode::CREATED),
        (format!("/v1/awe/policies/{POLICY}/versions/1/activate"), String::new(), StatusCode::OK),
    ] {
        let (status, answer) = connection.send(&path, Some(body), Some(&admin)).await?;
        if status != expected {
            return Err(format!("{path} was answered with {status} {}", String::from_utf8_lossy(&answer)).into());
        }
    }
    Ok(())
}

/// Makes requests; what is kept of each is the approver's task.
pub(crate) struct Ask {
    requests: usize,
    token: String,
}

impl Ask {
    /// So many of them, for the policy that was activated.
    ///
    /// # Errors
    /// The data directory has no issuer.
    pub(crate) fn new(requests: usize, data: &Path) -> Result<Self, Failure> {
        Self::of(requests, data, TENANT)
    }

    fn of(requests: usize, data: &Path, tenant: &str) -> Result<Self, Failure> {
        Ok(Self { requests, token: token(data, tenant, "u-service", &[])? })
    }
}

impl Phase for Ask {
    type Read = String;
    const EXPECTED: StatusCode = StatusCode::CREATED;

    fn count(&self) -> usize {
        self.requests
    }

    fn request(&self, number: usize) -> (String, String) {
        let body = format!(r#"{{"policy_key":"{POLICY}","artifact_type":"t","artifact_id":"a-{number}"}}"#);
        ("/v1/awe/requests".to_owned(), body)
    }

    fn token(&self) -> Option<&str> {
        Some(&self.token)
    }

    fn read(&self, _: usize, body: &[u8]) -> Result<String, Failure> {
        let made: Value = serde_json::from_slice(body)?;
        let tasks = made["tasks"].as_array().ok_or("a request has no tasks")?;
        let task = tasks.iter().find(|task| task["assignee"] == APPROVER).and_then(|task| task["id"].as_str());
        Ok(task.ok_or("a request has no task for the approver")?.to_owned())
    }
}

/// Approves these tasks.
pub(crate) struct Approve {
    tasks: Vec<String>,
    token: String,
}

impl Approve {
    /// By the approver.
    ///
    /// # Errors
    /// The data directory has no issuer.
    pub(crate) fn new(tasks: Vec<String>, data: &Path) -> Result<Self, Failure> {
        Ok(Self { tasks, token: token(data, TENANT, APPROVER, &[])? })
    }
}

impl Phase for Approve {
    type Read = ();
    const EXPECTED: StatusCode = StatusCode::CREATED;

    fn count(&self) -> usize {
        self.tasks.len()
    }

    fn request(&self, number: usize) -> (String, String) {
        (format!("/v1/awe/tasks/{}/decision", self.tasks[number]), r#"{"action":"approve"}"#.to_owned())
    }

    fn token(&self) -> Option<&str> {
        Some(&self.token)
    }

    fn read(&self, _: usize, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}

/// How long the first pages of a small inbox and of a large one take, shortest first.
pub(crate) struct Inbox {
    tasks: usize,
    listings: Vec<(&'static str, Vec<Duration>, Vec<Duration>)>,
}

/// Fills two inboxes with open tasks and lists their first pages in turn, in every way in which that is documented.
///
/// # Errors
/// The server does not answer as it should.
pub(crate) async fn inbox(tasks: usize, connections: usize, data: &Path) -> Result<Inbox, Failure> {
    let server = Server::start(data).await?;
    let mut tokens = Vec::new();
    for (tenant, tasks) in [(TENANT, tasks), (OTHER, SMALL)] {
        eprintln!("opening {tasks} tasks");
        activate_for(&server, data, tenant, 1).await?;
        phase::run(&server.public, connections, Ask::of(tasks, data, tenant)?).await?.whole()?;
        tokens.push(token(data, tenant, APPROVER, &["AWE_ADMIN"])?);
    }
    // What was told by then is noted.
    while server.is_busy(Duration::from_secs(3)).await {}
    let mut connection = Connection::open(&server.public).await?;
    let paths = [
        ("one's own, open", "/v1/awe/tasks?status=open"),
        ("one's own", "/v1/awe/tasks"),
        ("everyone's, open", "/v1/awe/tasks?assignee=*&status=open"),
        ("everyone's", "/v1/awe/tasks?assignee=*"),
    ];
    let mut listings = Vec::new();
    for (name, path) in paths {
        let mut took = [Vec::new(), Vec::new()];
        for _ in 0..ASKED {
            for (token, took) in tokens.iter().zip(&mut took) {
                let asked = Instant::now();
                let (status, page) = connection.send(path, None, Some(token)).await?;
                took.push(asked.elapsed());
                let rows = serde_json::from_slice::<Vec<Value>>(&page).map_or(0, |rows| rows.len());
                if status != StatusCode::OK || rows != SMALL {
                    return Err(format!("{path} was answered with {status} and {rows} rows").into());
                }
            }
        }
        took.iter_mut().for_each(|took| took.sort_unstable());
        let [large, small] = took;
        listings.push((name, small, large));
    }
    server.stop().await?;
    Ok(Inbox { tasks, listings })
}

impl fmt::Display for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "the first page of 100, asked for {ASKED} times each in turn, of {SMALL} open tasks and of {}",
            self.tasks
        )?;
        for (name, small, large) in &self.listings {
            let median = |took: &[Duration]| quantile(took, 0.5).map(milliseconds).unwrap_or_default();
            let (small, large) = (median(small), median(large));
            writeln!(f, "  {name:<18} p50 {small:>6.2} and {large:>6.2} ms, {:.2} times", large / small)?;
        }
        Ok(())
    }
}
