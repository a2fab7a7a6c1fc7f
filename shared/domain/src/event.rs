//! What the world is told: the public entries of all records, as webhook endpoints get them.

use crate::action::Action;
use crate::case::Case;
use crate::delivery::Delivery;
use crate::override_token::OverrideToken;
use crate::remediation::Remediation;
use crate::workflow::request::Request;
use crate::{Actor, Entry, EntryClass, Record, Subject, Tenant, Timestamp, rfc3339, rfc3339_micros};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// The name of every event that is sent.
pub const EVENTS: [&str; 29] = [
    "override.created",
    "override.decided",
    "override.revoked",
    "remediation.proposed",
    "remediation.approved",
    "remediation.rejected",
    "remediation.executed",
    "remediation.failed",
    "remediation.expired",
    "action.pending",
    "action.approved",
    "action.denied",
    "action.completed",
    "action.failed",
    "case.created",
    "case.verdict_submitted",
    "case.resolved",
    "case.escalated",
    "request.created",
    "request.approved",
    "request.rejected",
    "request.cancelled",
    "stage.started",
    "stage.completed",
    "stage.skipped",
    "stage.escalated",
    "task.expired",
    "task.reassigned",
    EXHAUSTED,
];

/// The kinds of record that have events, as they are in keys. A replay that is under way has noted how far it is by
/// their places here: a new one comes last.
pub const KINDS: [&str; 6] =
    [OverrideToken::KIND, Remediation::KIND, Action::KIND, Case::KIND, Delivery::KIND, Request::KIND];

/// Names that the agents' SDK lets people subscribe to and that are never sent.
pub const NEVER_SENT: [&str; 2] = ["policy.violation", "agent.trust_changed"];

/// The event that a delivery was given up.
pub const EXHAUSTED: &str = "delivery.exhausted";

/// The name that a test ping carries; nobody can subscribe to it.
pub const TEST: &str = "webhook.test";

/// The name of an event that one can subscribe to. Parsing takes the [`EVENTS`]; deserializing, which is for what is
/// stored, takes those that are [`NEVER_SENT`] as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct EventName(&'static str);

/// The text is not the name of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {}", EVENTS.join(", "))]
pub struct InvalidEventName;

impl EventName {
    /// Reads a name as the agents' SDK may send it: also one that is [`NEVER_SENT`].
    ///
    /// # Errors
    /// It is neither.
    pub fn of_sdk(name: &str) -> Result<Self, InvalidEventName> {
        let known = EVENTS.into_iter().chain(NEVER_SENT).find(|known| *known == name);
        known.map(Self).ok_or(InvalidEventName)
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        self.0
    }
}

impl FromStr for EventName {
    type Err = InvalidEventName;

    fn from_str(name: &str) -> Result<Self, InvalidEventName> {
        EVENTS.into_iter().find(|known| *known == name).map(Self).ok_or(InvalidEventName)
    }
}

impl<'de> Deserialize<'de> for EventName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of_sdk(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Where an event comes from: an entry of the change that made a version of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Source {
    /// The record's kind.
    pub kind: String,
    /// The record's id, as it is in the record's key.
    pub id: String,
    /// The version that the change made.
    pub version: u64,
    /// The entry's place among all entries of the change, public or not; the first one's is 0.
    pub entry: u32,
}

impl Source {
    /// The id of the event that comes from here, a UUID of version 8. Whoever computes it, however often, gets the
    /// same one, so that receivers can drop what they already have.
    #[must_use]
    pub fn event_id(&self, tenant: &Tenant) -> Uuid {
        let canonical = json!([tenant, self.kind, self.id, self.version, self.entry]);
        let hash: [u8; 32] = Sha256::digest(canonical.to_string()).into();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

/// Something that the world is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its id, the same in every delivery of it.
    pub id: Uuid,
    /// What happened, one of [`EVENTS`], or [`TEST`].
    pub name: String,
    /// Whose it is.
    pub tenant: Tenant,
    /// When it happened.
    pub at: Timestamp,
    /// Who did it.
    pub actor: Actor,
    /// What it is about, as outsiders know it.
    pub subject: Subject,
    /// The facts.
    pub data: Value,
}

/// The body that subscribers get.
#[derive(Serialize)]
struct Body<'a> {
    event_id: Uuid,
    event_type: &'a str,
    tenant: &'a Tenant,
    occurred_at: String,
    subject: &'a Subject,
    actor: &'a str,
    data: &'a Value,
}

/// The body of a `remediation.*` event, as the approvals' bus documents it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    event: &'a str,
    timestamp: String,
    tenant_id: &'a Tenant,
    data: &'a Value,
}

/// The body that the callback of a request gets, whatever has happened to it: details are asked for.
#[derive(Serialize)]
struct CallbackBody<'a> {
    event_id: Uuid,
    event_type: String,
    request_id: &'a Value,
    artifact_type: &'a Value,
    artifact_id: &'a Value,
    status: &'a Value,
    stage_order: &'a Value,
    actor: &'a Value,
    occurred_at: String,
}

impl Event {
    /// What the world is told of `entry`, which comes from `source`; `None` if it is nobody's business.
    #[must_use]
    pub fn of(tenant: &Tenant, source: &Source, entry: &Entry) -> Option<Self> {
        match entry.class {
            EntryClass::Audit => None,
            EntryClass::Public => Some(Self {
                id: source.event_id(tenant),
                name: entry.name.clone(),
                tenant: tenant.clone(),
                at: entry.at,
                actor: entry.actor.clone(),
                subject: entry.subject.clone(),
                data: entry.data.clone(),
            }),
        }
    }

    /// The bytes that are signed and sent: compact JSON with times in whole seconds.
    #[must_use]
    pub fn body(&self) -> String {
        let body = if self.name.starts_with("remediation.") {
            serde_json::to_string(&Envelope {
                event: &self.name,
                timestamp: rfc3339(self.at),
                tenant_id: &self.tenant,
                data: &self.data,
            })
        } else {
            serde_json::to_string(&Body {
                event_id: self.id,
                event_type: &self.name,
                tenant: &self.tenant,
                occurred_at: rfc3339(self.at),
                subject: &self.subject,
                actor: self.actor.name(),
                data: &self.data,
            })
        };
        written(body)
    }

    /// The bytes that are signed and sent to the callback of the request that this is an event of: compact JSON with nine
    /// keys, all of them as they were when it happened, and its time in microseconds.
    #[must_use]
    pub fn callback_body(&self) -> String {
        let data = &self.data;
        written(serde_json::to_string(&CallbackBody {
            event_id: self.id,
            event_type: self.name.replacen('.', "_", 1),
            request_id: &data["request_id"],
            artifact_type: &data["artifact_type"],
            artifact_id: &data["artifact_id"],
            status: &data["status"],
            stage_order: &data["stage_order"],
            actor: &data["actor"],
            occurred_at: rfc3339_micros(self.at),
        }))
    }
}

fn written(body: serde_json::Result<String>) -> String {
    match body {
        Ok(body) => body,
        Err(_) => unreachable!("texts and JSON values can always be written"),
    }
}
