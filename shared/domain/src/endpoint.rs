//! A tenant's webhook endpoints: where its events are sent, which of them, signed with what, and whether that works.

use crate::{
    Actor, Change, Entry, EntryClass, Listing, Outcome, Record, Subject, Tenant, Timestamp,
    callback_secret::SecretId,
    event::{EXHAUSTED, Event, EventName, InvalidEventName},
    key_ring::Sealed,
    rfc3339, seconds,
    text::{is_ulid, text_of, ulid},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::str::FromStr;

/// How many endpoints a tenant has at most.
pub const MAX_ENDPOINTS: usize = 50;
/// How many names a subscription has at most, unless it is to everything.
pub const MAX_NAMES: usize = 50;
/// The longest description of an endpoint, in characters.
pub const MAX_DESCRIPTION: usize = 300;
/// How many endpoints may wait for their deliveries to be cancelled before another one can be added, so that the record
/// stays small however fast somebody adds and deletes.
pub const MAX_CLOSING: usize = 1000;
/// How long a rotated secret signs along, in seconds.
pub const ROTATED_SECONDS: i64 = 24 * 60 * 60;

/// How long every attempt has to fail until an endpoint is disabled, in seconds.
const FAILING_SECONDS: i64 = 5 * 24 * 60 * 60;
// An endpoint that answers now and then would have its record rewritten at every attempt. These ages, in seconds, bound
// how often that is. An answer ends a row of failures at once, or the next failure a week later would end the endpoint;
// it is the next row that begins late.
const RECOVERED_AT_LEAST: i64 = 60;
const SLOW_AT_LEAST: i64 = 1;

/// An endpoint's id: `ep_<ULID>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EndpointId(String);

/// The text is not an endpoint's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be ep_ and a ULID: 26 of 0-9 A-Z without I L O U, the first at most 7")]
pub struct InvalidEndpointId;

impl EndpointId {
    /// The id with this ULID: 48 bits of Unix time in milliseconds, then 80 random ones.
    #[must_use]
    pub fn from_u128(number: u128) -> Self {
        Self(format!("ep_{}", ulid(number)))
    }
}

impl FromStr for EndpointId {
    type Err = InvalidEndpointId;

    fn from_str(id: &str) -> Result<Self, InvalidEndpointId> {
        let valid = id.strip_prefix("ep_").is_some_and(is_ulid);
        if valid { Ok(Self(id.to_owned())) } else { Err(InvalidEndpointId) }
    }
}

text_of! { EndpointId, InvalidEndpointId; }

/// All endpoints of a tenant; one record, since they are decided about together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Whose.
    pub tenant: Tenant,
    /// When the first one was added.
    pub created_at: Timestamp,
    /// The endpoints, oldest first.
    pub endpoints: Vec<Endpoint>,
    /// What was deleted or disabled and may still have deliveries that wait, each endpoint at most once.
    pub closing: Vec<Closing>,
}

/// An endpoint whose waiting deliveries are to be cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// The endpoint, which may be gone.
    pub endpoint: EndpointId,
    /// When it was deleted or disabled.
    pub at: Timestamp,
}

/// Where events are sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// The target.
    pub url: String,
    /// What is sent to it.
    pub events: Subscription,
    /// The agent of whose actions alone it is told; `None` for everything.
    pub agent: Option<String>,
    /// What its tenant says about it, at most [`MAX_DESCRIPTION`] characters.
    pub description: Option<String>,
    /// Whether anything is sent to it.
    pub status: Status,
    /// What signs.
    pub secret: Secret,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was last edited, rotated, enabled or disabled.
    pub updated_at: Timestamp,
    /// Since when every attempt has failed, or less than a minute later; `None` if the last one was answered.
    pub failing_since: Option<Timestamp>,
    /// When it last answered after failures.
    pub recovered_at: Option<Timestamp>,
    /// Since when it has not answered quickly; `None` if it does.
    pub slow_since: Option<Timestamp>,
}

/// Which events an endpoint is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub enum Subscription {
    /// All of them, `["*"]`.
    All,
    /// Those with these names, each once.
    Names(Vec<EventName>),
}

/// The list is not a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubscription {
    /// Too few or too many.
    #[error("must be [\"*\"] or 1 to {MAX_NAMES} names of events")]
    Count,
    /// One of them is unknown.
    #[error("each {0}; or the list must be [\"*\"]")]
    Name(#[from] InvalidEventName),
}

impl Subscription {
    /// Reads `["*"]` or names of events; one that is repeated counts once.
    ///
    /// # Errors
    /// Says what is wrong with the list.
    pub fn of(names: &[String]) -> Result<Self, InvalidSubscription> {
        Self::read(names, str::parse)
    }

    /// Reads a list as the agents' SDK may send it, see [`EventName::of_sdk`].
    ///
    /// # Errors
    /// Says what is wrong with the list.
    pub fn of_sdk(names: &[String]) -> Result<Self, InvalidSubscription> {
        Self::read(names, EventName::of_sdk)
    }

    fn read(
        names: &[String],
        name: impl Fn(&str) -> Result<EventName, InvalidEventName>,
    ) -> Result<Self, InvalidSubscription> {
        if names == ["*"] {
            return Ok(Self::All);
        }
        if !(1..=MAX_NAMES).contains(&names.len()) {
            return Err(InvalidSubscription::Count);
        }
        let mut known = Vec::new();
        for text in names {
            let name = name(text)?;
            if !known.contains(&name) {
                known.push(name);
            }
        }
        Ok(Self::Names(known))
    }

    /// Whether events with this name are among them.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Names(names) => names.iter().any(|known| known.as_str() == name),
        }
    }
}

impl TryFrom<Vec<String>> for Subscription {
    type Error = InvalidSubscription;

    fn try_from(names: Vec<String>) -> Result<Self, InvalidSubscription> {
        Self::of_sdk(&names)
    }
}

impl From<Subscription> for Vec<String> {
    fn from(subscription: Subscription) -> Self {
        match subscription {
            Subscription::All => vec!["*".to_owned()],
            Subscription::Names(names) => names.iter().map(EventName::to_string).collect(),
        }
    }
}

/// Whether anything is sent to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Status {
    /// What it has subscribed to.
    Enabled,
    /// Nothing.
    Disabled {
        /// Since when.
        at: Timestamp,
        /// Why.
        why: Why,
    },
}

/// Why an endpoint is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Somebody asked for it.
    Asked,
    /// It answered 410.
    Gone,
    /// For five days nothing but failures.
    Failing,
}

impl Status {
    /// The documented word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled { .. } => "disabled",
        }
    }
}

/// What signs the deliveries to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Secret {
    /// Its own.
    Own {
        /// The bytes that sign, sealed.
        current: Sealed,
        /// What was rotated last.
        previous: Option<Rotated>,
    },
    /// One that is registered by id, see [`crate::callback_secret`].
    Named {
        /// The id.
        id: SecretId,
    },
}

/// A secret that was rotated and signs along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotated {
    /// The bytes that sign, sealed.
    pub secret: Sealed,
    /// From when on it no longer does.
    pub until: Timestamp,
}

impl Secret {
    /// The sealed secrets that sign at `now`, newest first. A named one's is not here but in its own record.
    #[must_use]
    pub fn signing(&self, now: Timestamp) -> Vec<&Sealed> {
        match self {
            Self::Named { .. } => Vec::new(),
            Self::Own { current, previous } => {
                let previous = previous.iter().filter(|rotated| now < rotated.until).map(|rotated| &rotated.secret);
                std::iter::once(current).chain(previous).collect()
            }
        }
    }

    /// What it becomes when `next` takes its place. A named secret goes on signing elsewhere, and here no longer.
    fn rotated(&self, next: Sealed, now: Timestamp) -> Self {
        let previous = match self {
            Self::Named { .. } => None,
            Self::Own { current, .. } => Some(Rotated {
                secret: current.clone(),
                until: now.saturating_add(seconds(ROTATED_SECONDS)).unwrap_or(Timestamp::MAX),
            }),
        };
        Self::Own { current: next, previous }
    }
}

/// Why the law says no; neither changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The tenant has no such endpoint.
    #[error("there is no webhook endpoint with this id")]
    NotFound,
    /// The tenant has as many as it can have.
    #[error(
        "a tenant has at most {MAX_ENDPOINTS} webhook endpoints; delete one, or wait a minute if you have just deleted many"
    )]
    TooMany,
}

/// What an endpoint is added with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// The new endpoint's id.
    pub id: EndpointId,
    /// The target.
    pub url: String,
    /// What is sent to it.
    pub events: Subscription,
    /// The agent of whose actions alone it is told.
    pub agent: Option<String>,
    /// What its tenant says about it, at most [`MAX_DESCRIPTION`] characters.
    pub description: Option<String>,
    /// What signs.
    pub secret: Secret,
}

/// What is to be different about an endpoint; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// The target. What the one before did wrong is not held against it.
    pub url: Option<String>,
    /// What is sent to it.
    pub events: Option<Subscription>,
    /// What its tenant says about it, at most [`MAX_DESCRIPTION`] characters; `Some(None)` takes it away.
    pub description: Option<Option<String>>,
    /// Whether anything is sent to it.
    pub enabled: Option<bool>,
    /// What signs, alone and from now on.
    pub secret: Option<Sealed>,
}

/// How an attempt to deliver went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was answered with a 2xx.
    Answered {
        /// Within two seconds.
        quickly: bool,
    },
    /// It was not.
    Failed,
    /// Nothing was answered in time.
    TimedOut,
    /// It was answered with 410: never again.
    Gone,
}

/// What is to be told of an endpoint's change: the entry's name and its data.
type Told = Vec<(&'static str, Value)>;

impl Endpoints {
    /// Adds an endpoint, enabled.
    ///
    /// # Errors
    /// [`Refusal::TooMany`] if there is no room for one more.
    pub fn add(
        before: Option<&Self>,
        tenant: &Tenant,
        add: Add,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Outcome<Self>, Refusal> {
        let mut next = before.cloned().unwrap_or_else(|| Self {
            tenant: tenant.clone(),
            created_at: now,
            endpoints: Vec::new(),
            closing: Vec::new(),
        });
        if next.endpoints.len() >= MAX_ENDPOINTS || next.closing.len() >= MAX_CLOSING {
            return Err(Refusal::TooMany);
        }
        let endpoint = Endpoint::born(add, now);
        let entry = entry("endpoint.created", &endpoint.id, by, now, endpoint.details());
        next.endpoints.push(endpoint);
        Ok(Outcome::Change(Change::new(next, entry)))
    }

    /// Changes what differs; if nothing does, nothing happens. Enabling an endpoint forgets what it did wrong.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn edit(&self, id: &EndpointId, edit: &Edit, by: &Actor, now: Timestamp) -> Result<Outcome<Self>, Refusal> {
        let mut endpoint = self.get(id).ok_or(Refusal::NotFound)?.clone();
        let mut told = endpoint.edit(edit);
        match (edit.enabled, endpoint.status) {
            (Some(true), Status::Disabled { .. }) => told.push(endpoint.enable()),
            (Some(false), Status::Enabled) => told.push(endpoint.disable(Why::Asked, now)),
            (Some(true), Status::Enabled) | (Some(false), Status::Disabled { .. }) | (None, _) => {}
        }
        Ok(self.with(Endpoint { updated_at: now, ..endpoint }, told, by, now))
    }

    /// Deletes an endpoint.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn remove(&self, id: &EndpointId, by: &Actor, now: Timestamp) -> Result<Outcome<Self>, Refusal> {
        self.get(id).ok_or(Refusal::NotFound)?;
        let mut next = self.clone();
        next.endpoints.retain(|endpoint| endpoint.id != *id);
        next.close(id, now);
        let entry = entry("endpoint.deleted", id, by, now, json!({}));
        Ok(Outcome::Change(Change::new(next, entry)))
    }

    /// Gives an endpoint a new secret of its own; the one before signs along for [`ROTATED_SECONDS`], and one that was
    /// rotated earlier no longer does.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn rotate(
        &self,
        id: &EndpointId,
        secret: Sealed,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Outcome<Self>, Refusal> {
        let endpoint = self.get(id).ok_or(Refusal::NotFound)?;
        let secret = endpoint.secret.rotated(secret, now);
        let previous_until = match &secret {
            Secret::Own { previous, .. } => previous.as_ref().map(|rotated| rfc3339(rotated.until)),
            Secret::Named { .. } => None,
        };
        let told = vec![("endpoint.secret_rotated", json!({ "previous_until": previous_until }))];
        Ok(self.with(Endpoint { secret, updated_at: now, ..endpoint.clone() }, told, by, now))
    }

    /// Learns from attempts, one after the other.
    #[must_use]
    pub fn learned(&self, seen: &[(EndpointId, Seen)], now: Timestamp) -> Outcome<Self> {
        let mut all: Option<Change<Self>> = None;
        for (id, seen) in seen {
            let endpoints = all.as_ref().map_or(self, |change| &change.record);
            let Outcome::Change(next) = endpoints.attempted(id, *seen, now) else { continue };
            let mut entries = all.take().map_or_else(Vec::new, |change| change.entries);
            entries.extend(next.entries);
            all = Some(Change { entries, ..next });
        }
        all.map_or(Outcome::Keep, Outcome::Change)
    }

    /// Learns from an attempt: what answers 410, or nothing but failures for five days, is disabled. An endpoint that is
    /// disabled or gone by now has nothing more to learn from.
    #[must_use]
    pub fn attempted(&self, id: &EndpointId, seen: Seen, now: Timestamp) -> Outcome<Self> {
        let Some(endpoint) = self.get(id).filter(|endpoint| endpoint.status == Status::Enabled) else {
            return Outcome::Keep;
        };
        let mut endpoint = endpoint.clone();
        let told = match seen {
            Seen::Answered { quickly } => endpoint.answered(quickly, now),
            Seen::Failed => endpoint.failed(now),
            Seen::TimedOut => endpoint.timed_out(now),
            Seen::Gone => vec![endpoint.disable(Why::Gone, now)],
        };
        self.with(endpoint, told, &Actor::Clock, now)
    }

    /// Takes note that what waited for these was cancelled. One that was closed again since then stays.
    #[must_use]
    pub fn closed(&self, done: &[Closing], now: Timestamp) -> Outcome<Self> {
        let (closed, closing): (Vec<_>, Vec<_>) =
            self.closing.iter().cloned().partition(|closing| done.contains(closing));
        if closed.is_empty() {
            return Outcome::Keep;
        }
        let told = |closing: &Closing| entry("endpoint.closed", &closing.endpoint, &Actor::Clock, now, json!({}));
        let entries = closed.iter().map(told).collect();
        Outcome::Change(Change { record: Self { closing, ..self.clone() }, entries, with: Vec::new() })
    }

    /// The endpoint with this id.
    #[must_use]
    pub fn get(&self, id: &EndpointId) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.id == *id)
    }

    /// The endpoints that are told of `event`.
    pub fn targets(&self, event: &Event) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(move |endpoint| endpoint.wants(event))
    }

    /// The same endpoints with one as it is from now on; nothing happens if nothing is told of it.
    fn with(&self, changed: Endpoint, told: Told, by: &Actor, now: Timestamp) -> Outcome<Self> {
        if told.is_empty() {
            return Outcome::Keep;
        }
        let entries = told.into_iter().map(|(name, data)| entry(name, &changed.id, by, now, data)).collect();
        let mut record = self.clone();
        let was_enabled = self.get(&changed.id).is_some_and(|endpoint| endpoint.status == Status::Enabled);
        if was_enabled && changed.status != Status::Enabled {
            record.close(&changed.id, now);
        }
        for endpoint in &mut record.endpoints {
            if endpoint.id == changed.id {
                endpoint.clone_from(&changed);
            }
        }
        Outcome::Change(Change { record, entries, with: Vec::new() })
    }

    fn close(&mut self, id: &EndpointId, now: Timestamp) {
        self.closing.retain(|closing| closing.endpoint != *id);
        self.closing.push(Closing { endpoint: id.clone(), at: now });
    }
}

impl Endpoint {
    fn born(add: Add, now: Timestamp) -> Self {
        Self {
            id: add.id,
            url: add.url,
            events: add.events,
            agent: add.agent,
            description: add.description,
            status: Status::Enabled,
            secret: add.secret,
            created_at: now,
            updated_at: now,
            failing_since: None,
            recovered_at: None,
            slow_since: None,
        }
    }

    /// Whether it is told of `event`. It is never told that a delivery to itself was given up: it would not get that
    /// either.
    #[must_use]
    pub fn wants(&self, event: &Event) -> bool {
        let of_its_agent = |agent: &String| event.name.starts_with("action.") && event.data["agent_id"] == *agent;
        let about_itself = event.name == EXHAUSTED && event.data["endpoint"] == *self.id.as_str();
        self.status == Status::Enabled
            && self.events.contains(&event.name)
            && self.agent.as_ref().is_none_or(of_its_agent)
            && !about_itself
    }

    /// Takes over what differs, but for whether it is enabled.
    fn edit(&mut self, edit: &Edit) -> Told {
        let mut changed = Vec::new();
        if replace(&mut self.url, edit.url.as_ref()) {
            (self.failing_since, self.slow_since) = (None, None);
            changed.push("url");
        }
        if replace(&mut self.events, edit.events.as_ref()) {
            changed.push("events");
        }
        if replace(&mut self.description, edit.description.as_ref()) {
            changed.push("description");
        }
        let secret = edit.secret.clone().map(|current| Secret::Own { current, previous: None });
        if replace(&mut self.secret, secret.as_ref()) {
            changed.push("secret");
        }
        if changed.is_empty() {
            return Vec::new();
        }
        let mut data = self.details();
        data["changed"] = json!(changed);
        vec![("endpoint.changed", data)]
    }

    fn enable(&mut self) -> (&'static str, Value) {
        self.status = Status::Enabled;
        (self.failing_since, self.slow_since) = (None, None);
        ("endpoint.enabled", json!({}))
    }

    fn disable(&mut self, why: Why, now: Timestamp) -> (&'static str, Value) {
        self.status = Status::Disabled { at: now, why };
        self.updated_at = now;
        ("endpoint.disabled", json!({ "why": why }))
    }

    fn answered(&mut self, quickly: bool, now: Timestamp) -> Told {
        let mut from = Vec::new();
        if self.failing_since.take().is_some() {
            self.recovered_at = Some(now);
            from.push("failing");
        }
        if quickly && self.slow_since.is_some_and(|since| passed(SLOW_AT_LEAST, since, now)) {
            self.slow_since = None;
            from.push("slow");
        }
        if from.is_empty() { Vec::new() } else { vec![("endpoint.recovered", json!({ "from": from }))] }
    }

    fn failed(&mut self, now: Timestamp) -> Told {
        match self.failing_since {
            None if self.recovered_at.is_none_or(|recovered| passed(RECOVERED_AT_LEAST, recovered, now)) => {
                self.failing_since = Some(now);
                vec![("endpoint.failing", json!({}))]
            }
            Some(since) if passed(FAILING_SECONDS, since, now) => vec![self.disable(Why::Failing, now)],
            None | Some(_) => Vec::new(),
        }
    }

    fn timed_out(&mut self, now: Timestamp) -> Told {
        let mut told = Vec::new();
        if self.slow_since.is_none() {
            self.slow_since = Some(now);
            told.push(("endpoint.slow", json!({})));
        }
        told.extend(self.failed(now));
        told
    }

    /// What the audit log holds of it.
    fn details(&self) -> Value {
        let secret_id = match &self.secret {
            Secret::Own { .. } => None,
            Secret::Named { id } => Some(id),
        };
        json!({
            // A query may hold what only the receiver is to know.
            "url": self.url.split(['?', '#']).next(),
            "events": self.events,
            "agent": self.agent,
            "description": self.description,
            "secret_id": secret_id,
        })
    }
}

/// Replaces `value` by `next`, if there is one and it differs; whether it did.
fn replace<T: Clone + PartialEq>(value: &mut T, next: Option<&T>) -> bool {
    let differs = next.filter(|next| *next != value).cloned();
    differs.map(|next| *value = next).is_some()
}

fn passed(at_least: i64, since: Timestamp, now: Timestamp) -> bool {
    now.duration_since(since) >= seconds(at_least)
}

fn entry(name: &str, id: &EndpointId, by: &Actor, at: Timestamp, data: Value) -> Entry {
    Entry {
        name: name.to_owned(),
        class: EntryClass::Audit,
        actor: by.clone(),
        at,
        subject: Subject { kind: "webhook_endpoint".to_owned(), id: id.to_string() },
        data,
        state: None,
    }
}

impl Record for Endpoints {
    const KIND: &'static str = "endpoints";
    const SCHEMA: u32 = 1;
    type Refusal = Refusal;

    fn upgrade(_schema: u32, _body: Value) -> Option<Value> {
        None
    }

    fn listing(&self) -> Listing {
        Listing::at(self.created_at)
    }

    /// At once, as long as deliveries are to be cancelled.
    fn due(&self) -> Option<Timestamp> {
        self.closing.iter().map(|closing| closing.at).min()
    }
}
