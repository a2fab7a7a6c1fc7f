//! The audit log of an organization's actions: listed, exported, verified, and as the agents' SDK shows it.

use crate::caller::{Audit, AuditBySdk, Member};
use crate::follow::{FURTHEST, LARGEST_PAGE, PAGE};
use crate::words::{id_in_text, whole_number};
use axum::extract::State;
use countersign_api::{Answer, App, Call, Form, Problem, QueryText, Target};
use countersign_domain::action::{Action, ActionId, IDS};
use countersign_domain::{Actor, Entry, Record, Timestamp, rfc3339, seconds};
use countersign_store::{COUNTED, Fault, LogQuery, PAGE_BYTES, StoredChange};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const NAMES: [&str; 7] = [
    "action_submitted",
    "action_approved",
    "action_denied",
    "action_cancelled",
    "action_expired",
    "action_completed",
    "action_failed",
];

/// A line of the audit log.
#[derive(Serialize)]
struct Line {
    audit_id: u64,
    action_type: String,
    user_id: Option<u64>,
    organization_id: u64,
    timestamp: String,
    details: String,
    ip_address: Option<String>,
    user_agent: Option<String>,
    correlation_id: String,
    #[serde(skip)]
    actor: Actor,
    #[serde(skip)]
    action: String,
}

/// A page of the audit log.
#[derive(Serialize)]
struct Logs {
    total: usize,
    limit: usize,
    offset: usize,
    logs: Vec<Box<RawValue>>,
}

/// A page of it as the agents' SDK reads it.
#[derive(Serialize)]
struct Events {
    events: Vec<Box<RawValue>>,
    total: usize,
    page: usize,
    page_size: usize,
}

/// Rows of a page, as the JSON that they are sent as.
#[derive(Default)]
struct Rows {
    rows: Vec<Box<RawValue>>,
    bytes: usize,
}

impl Rows {
    /// Takes one more, unless the page would become too large.
    fn take(&mut self, row: &impl Serialize) -> Result<bool, Fault> {
        let row = to_raw_value(row).map_err(unwritable)?;
        self.bytes += row.get().len();
        let taken = self.bytes <= PAGE_BYTES || self.rows.is_empty();
        if taken {
            self.rows.push(row);
        }
        Ok(taken)
    }
}

/// Where the rest of a log is after `taken` lines from `offset` on, if more were found.
fn rest(target: &Target, offset: usize, taken: usize, found: usize) -> Option<String> {
    let next = offset + taken;
    (taken > 0 && next < found && next <= FURTHEST).then(|| target.with_offset(next))
}

/// The id of a line: it follows from which change of which action it is, so that nothing has to count.
fn audit_id(organization: u64, action: &str, version: u64) -> u64 {
    let hash = Sha256::digest(format!("{organization}/{action}/{version}"));
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)) % (IDS - 1) + 1
}

impl Line {
    fn new(organization: u64, change: &StoredChange) -> Option<Self> {
        let Entry { name, at, data, actor, .. } = change.body.entries.last()?;
        let text = |name: &str| data[name].as_str().map(str::to_owned);
        Some(Self {
            audit_id: audit_id(organization, &change.id, change.body.version),
            action_type: name.clone(),
            user_id: data["user_id"].as_u64(),
            organization_id: organization,
            timestamp: rfc3339(*at),
            details: text("details").unwrap_or_default(),
            ip_address: text("ip_address"),
            user_agent: text("user_agent"),
            correlation_id: text("correlation_id").unwrap_or_default(),
            actor: actor.clone(),
            action: change.id.clone(),
        })
    }
}

/// What happened to one action, as its details show it.
pub(crate) fn trail<R>(caller: &Member<R>, history: &[StoredChange]) -> Vec<Value> {
    let lines = history.iter().filter_map(|change| Line::new(caller.organization, change));
    lines
        .map(|line| {
            json!({
                "audit_id": line.audit_id,
                "action_type": line.action_type,
                "user_id": line.user_id,
                "timestamp": line.timestamp,
                "details": line.details,
            })
        })
        .collect()
}

/// Which lines are asked for.
struct Filter {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    name: Option<String>,
    user: Option<String>,
    action: Option<Option<ActionId>>,
}

impl Filter {
    fn read(form: &mut Form) -> Self {
        let since = form.optional("start_date", |value| day_or_time(value, false));
        let until = form.optional("end_date", |value| day_or_time(value, true));
        let name = form.optional("action_type", |value| {
            let name = value.as_str().filter(|name| NAMES.contains(name)).map(str::to_owned);
            name.ok_or_else(|| format!("must be one of {}", NAMES.join(", ")))
        });
        let user = form.optional("user_id", |value| {
            let user = whole_number(value)?;
            Ok(user.map_or_else(|| value.to_string(), |user| user.to_string()))
        });
        let action = form.optional("action_id", id_in_text);
        Self { since, until, name, user, action }
    }

    fn matches(&self, line: &Line, at: Timestamp) -> bool {
        self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at < until)
            && self.name.as_ref().is_none_or(|name| *name == line.action_type)
            && self.user.as_ref().is_none_or(|user| line.user_id.is_some_and(|id| id.to_string() == *user))
    }
}

/// A time, or a day in UTC; as an end it is included, with all of its second or day.
fn day_or_time(value: &Value, end: bool) -> Result<Timestamp, String> {
    let text = value.as_str().unwrap_or_default();
    let (start, length) = match text.parse::<Timestamp>() {
        Ok(time) => (time, seconds(1)),
        Err(_) => {
            let midnight = match (text.len(), text) {
                // The usual "no end", although it is beyond the calendar's last whole day.
                (10, "9999-12-31") => Some(Timestamp::MAX),
                (10, _) => format!("{text}T00:00:00Z").parse().ok(),
                _ => None,
            };
            let wrong = "must be a time as in 2026-11-21T12:00:00Z or a day as in 2026-11-21";
            (midnight.ok_or(wrong)?, seconds(24 * 60 * 60))
        }
    };
    Ok(if end { start.saturating_add(length).unwrap_or(Timestamp::MAX) } else { start })
}

/// Some lines of a log, newest first, with how many were found.
async fn lines(
    app: &App,
    call: &Call<Member<impl crate::caller::Right>>,
    filter: &Filter,
    offset: usize,
    limit: usize,
    mut take: impl FnMut(Line) -> Result<bool, Fault>,
) -> Result<usize, Problem> {
    let organization = call.caller.organization;
    if let Some(action) = filter.action {
        let Some(action) = action else { return Ok(0) };
        let history = app.store.history(&call.caller.key(action), call.deadline()).await?;
        let matching: Vec<_> = history
            .iter()
            .rev()
            .filter_map(|change| Some((Line::new(organization, change)?, change.body.entries.last()?.at)))
            .filter_map(|(line, at)| filter.matches(&line, at).then_some(line))
            .collect();
        let total = matching.len();
        for line in matching.into_iter().skip(offset).take(limit) {
            if !take(line)? {
                break;
            }
        }
        return Ok(total);
    }
    let query = LogQuery {
        tenant: call.caller.tenant_of(),
        by: filter.user.as_deref(),
        name: filter.name.as_deref(),
        since: filter.since,
        until: filter.until,
    };
    // As many as are counted, and one line beyond the page.
    let look_for = COUNTED.max(offset + limit) + 1;
    let log = app.store.log::<Action>(query, look_for, call.deadline()).await?;
    let mut failed = None;
    let each = |change: StoredChange| match Line::new(organization, &change).map(&mut take) {
        Some(Ok(more)) => more,
        Some(Err(fault)) => {
            failed = Some(fault);
            false
        }
        None => true,
    };
    app.store.read_log(&log, offset, limit, call.deadline(), each).await?;
    match failed {
        Some(fault) => Err(fault.into()),
        None => Ok(log.found()),
    }
}

/// `GET /api/admin/audit-logs`
pub(crate) async fn list(State(app): State<App>, call: Call<Member<Audit>>, target: Target) -> Result<Answer, Problem> {
    let mut form = Form::query(&target.query);
    let limit = form.optional("limit", Form::digits(1, LARGEST_PAGE)).unwrap_or(PAGE);
    let offset = form.optional("offset", Form::digits(0, FURTHEST)).unwrap_or(0);
    let filter = Filter::read(&mut form);
    form.finish(|| Some(()))?;
    let mut rows = Rows::default();
    let found = lines(&app, &call, &filter, offset, limit, |line| rows.take(&line)).await?;
    let next = rest(&target, offset, rows.rows.len(), found);
    Ok(Answer::ok(&Logs { total: found.min(COUNTED), limit, offset, logs: rows.rows })?.with_next(next))
}

/// `GET /api/admin/audit-logs/export`
pub(crate) async fn export(
    State(app): State<App>,
    call: Call<Member<Audit>>,
    target: Target,
) -> Result<Answer, Problem> {
    let mut form = Form::query(&target.query);
    let format: Option<Format> = form.required("format", Format::read);
    let limit = form.optional("limit", Form::digits(1, COUNTED)).unwrap_or(COUNTED);
    let offset = form.optional("offset", Form::digits(0, FURTHEST)).unwrap_or(0);
    let filter = Filter::read(&mut form);
    let format = form.finish(|| format)?;
    let mut document = format.head();
    let mut rows = 0;
    let found = lines(&app, &call, &filter, offset, limit, |line| {
        let row = format.row(&line)?;
        if rows > 0 && document.len() + row.len() > PAGE_BYTES {
            return Ok(false);
        }
        document.push_str(&row);
        rows += 1;
        Ok(true)
    });
    let found = found.await?;
    let next = rest(&target, offset, rows, found);
    Ok(Answer::document(format.content_type(), document).with_next(next))
}

/// How the log is exported.
#[derive(Clone, Copy)]
enum Format {
    Csv,
    Ndjson,
}

const COLUMNS: [&str; 9] = [
    "audit_id",
    "action_type",
    "user_id",
    "organization_id",
    "timestamp",
    "details",
    "ip_address",
    "user_agent",
    "correlation_id",
];

impl Format {
    fn read(value: &Value) -> Result<Self, String> {
        match value.as_str() {
            Some("csv") => Ok(Self::Csv),
            Some("ndjson") => Ok(Self::Ndjson),
            Some(_) | None => Err("must be csv or ndjson".to_owned()),
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    fn head(self) -> String {
        match self {
            Self::Csv => format!("{}\r\n", COLUMNS.join(",")),
            Self::Ndjson => String::new(),
        }
    }

    fn row(self, line: &Line) -> Result<String, Fault> {
        match self {
            Self::Ndjson => Ok(serde_json::to_string(line).map_err(unwritable)? + "\n"),
            Self::Csv => csv_row(line),
        }
    }
}

fn unwritable(error: impl std::fmt::Display) -> Fault {
    Fault::Corrupt(format!("a line of the audit log cannot be written: {error}"))
}

/// A row as RFC 4180 has it, in which no spreadsheet finds a formula.
fn csv_row(line: &Line) -> Result<String, Fault> {
    let fields = serde_json::to_value(line).map_err(unwritable)?;
    let cells = COLUMNS.map(|column| match &fields[column] {
        Value::Null => String::new(),
        Value::String(text) => without_formula(text),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
    });
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(cells).map_err(unwritable)?;
    String::from_utf8(writer.into_inner().map_err(unwritable)?).map_err(unwritable)
}

/// What a spreadsheet would take for a formula gets a leading apostrophe.
fn without_formula(text: &str) -> String {
    let risky = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    if risky { format!("'{text}") } else { text.to_owned() }
}

/// `GET /api/admin/audit-logs/verify`
pub(crate) async fn verify(
    State(app): State<App>,
    call: Call<Member<Audit>>,
    QueryText(query): QueryText,
) -> Result<Answer, Problem> {
    let (verified, next) = app.verify(&call, Action::KIND, call.caller.tenant_of(), &query).await?;
    let broken = verified.broken.as_ref();
    let broken = broken.map(|record| audit_id(call.caller.organization, record.id(), record.broken.look_at()));
    let mut body = json!({ "valid": broken.is_none(), "entries": verified.entries, "firstBroken": broken });
    if let Some(next) = next {
        body["cursor"] = next.into();
    }
    Ok(Answer::ok(&body)?)
}

/// `GET /audit/logs`
pub(crate) async fn for_sdk(
    State(app): State<App>,
    call: Call<Member<AuditBySdk>>,
    target: Target,
) -> Result<Answer, Problem> {
    let mut form = Form::query(&target.query);
    let limit = form.optional("limit", Form::digits(1, LARGEST_PAGE)).unwrap_or(PAGE);
    let offset = form.optional("offset", Form::digits(0, FURTHEST)).unwrap_or(0);
    form.finish(|| Some(()))?;
    let all = Filter { since: None, until: None, name: None, user: None, action: None };
    let mut rows = Rows::default();
    let found = lines(&app, &call, &all, offset, limit, |line| rows.take(&event(&line))).await?;
    let next = rest(&target, offset, rows.rows.len(), found);
    let events = Events { events: rows.rows, total: found.min(COUNTED), page: offset / limit + 1, page_size: limit };
    Ok(Answer::ok(&events)?.with_next(next))
}

/// A line as the agents' SDK reads it.
fn event(line: &Line) -> Value {
    json!({
        "event_id": line.audit_id.to_string(),
        "event_type": line.action_type,
        "timestamp": line.timestamp,
        "actor": line.user_id.map_or_else(|| line.actor.to_string(), |user| user.to_string()),
        "resource": format!("action/{}", line.action),
        "action": line.action_type.trim_start_matches("action_"),
        "outcome": "recorded",
        "details": {
            "text": line.details,
            "correlation_id": line.correlation_id,
            "ip_address": line.ip_address,
            "user_agent": line.user_agent,
        },
    })
}
