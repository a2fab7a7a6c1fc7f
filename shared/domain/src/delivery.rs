//! The delivery: one event on its way to one target, attempt after attempt, until it has arrived or is given up.
//!
//! An attempt is claimed before it is made, so that of two workers one makes it. A claim that is never reported on is
//! over after a while, and the same attempt is made again: a receiver may see an event twice, but never misses one.

use crate::api_key::is_lower_hex;
use crate::callback_secret::SecretId;
use crate::endpoint::EndpointId;
use crate::event::{EXHAUSTED, Source};
use crate::retry::{Schedule, later};
use crate::text::text_of;
use crate::workflow::request::{Callback, Request};
use crate::{
    Actor, Change, Entry, EntryClass, Listing, Logged, Outcome, Record, Subject, Tenant, Timestamp, rfc3339_micros,
};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::str::FromStr;
use uuid::Uuid;

/// The entry of a delivery's birth.
pub const CREATED: &str = "delivery.created";
/// The entry of an attempt that is about to be made.
pub const CLAIMED: &str = "delivery.claimed";
/// The entry of an attempt of which the result is known; a delivery's log of attempts is made of these.
pub const ATTEMPTED: &str = "delivery.attempted";
/// The second entry of the attempt that succeeded.
pub const DELIVERED: &str = "delivery.delivered";
/// The entry of a delivery that will not be attempted again; the second one where an attempt was the reason.
pub const CANCELLED: &str = "delivery.cancelled";
/// The entry of a delivery that someone started anew.
pub const RETRIED: &str = "delivery.retried";
/// How the workflow door's audit log calls that.
pub const AUDITED: &str = "delivery.retry";

/// What the deliveries to callbacks of requests are listed as being about.
pub const CALLBACKS: &str = "callback";

/// The most that is remembered of why the latest attempt has failed, in characters.
const MAX_ERROR: usize = 500;

/// The inbox of an endpoint's deliveries that wait for their next attempt.
#[must_use]
pub fn inbox(endpoint: &EndpointId) -> String {
    format!("waiting:{endpoint}")
}

/// A delivery's id: `dlv_` and 32 hexadecimal digits, made of what is delivered where and in which run. So whoever
/// sends word of an event twice makes one delivery.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeliveryId(String);

/// The text is not a delivery's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be dlv_ and 32 of 0-9 a-f")]
pub struct InvalidDeliveryId;

impl DeliveryId {
    /// The id of the delivery of this event of `tenant` to `target`, in the replay `run` if it is one's.
    #[must_use]
    pub fn of(tenant: &Tenant, event_id: Uuid, target: &Target, run: Option<&str>) -> Self {
        let made_of = json!([tenant, event_id, target.parts(), run]).to_string();
        let hash = Sha256::digest(made_of);
        Self(format!("dlv_{}", hex::encode(&hash[..16])))
    }

    /// Its digits as a UUID: what an approval workflow calls it.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        // There are always 32 of them.
        self.0.strip_prefix("dlv_").and_then(|digits| Uuid::try_parse(digits).ok()).unwrap_or_default()
    }
}

impl From<Uuid> for DeliveryId {
    fn from(id: Uuid) -> Self {
        Self(format!("dlv_{}", id.simple()))
    }
}

impl FromStr for DeliveryId {
    type Err = InvalidDeliveryId;

    fn from_str(id: &str) -> Result<Self, InvalidDeliveryId> {
        match id.strip_prefix("dlv_") {
            Some(digits) if digits.len() == 32 && is_lower_hex(digits) => Ok(Self(id.to_owned())),
            Some(_) | None => Err(InvalidDeliveryId),
        }
    }
}

text_of! { DeliveryId, InvalidDeliveryId; }

/// Which callback: `cb_` and 32 hexadecimal digits, made of the tenant, the URL and what signs. So the URL, which may hold
/// what only its owner is to know, stands in no entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CallbackId(String);

/// The text does not say which callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be cb_ and 32 of 0-9 a-f")]
pub struct InvalidCallbackId;

impl CallbackId {
    /// The id of a callback of `tenant`.
    #[must_use]
    pub fn of(tenant: &Tenant, callback: &Callback) -> Self {
        let made_of = json!([tenant, callback.url, callback.secret]).to_string();
        Self(format!("cb_{}", hex::encode(&Sha256::digest(made_of)[..16])))
    }
}

impl FromStr for CallbackId {
    type Err = InvalidCallbackId;

    fn from_str(id: &str) -> Result<Self, InvalidCallbackId> {
        match id.strip_prefix("cb_") {
            Some(digits) if digits.len() == 32 && is_lower_hex(digits) => Ok(Self(id.to_owned())),
            Some(_) | None => Err(InvalidCallbackId),
        }
    }
}

text_of! { CallbackId, InvalidCallbackId; }

/// Where an event is delivered to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Target {
    /// A webhook endpoint of the tenant.
    Endpoint {
        /// Its id.
        id: EndpointId,
    },
    /// An event bus of the operator.
    Bus {
        /// Its name.
        name: String,
    },
    /// Whoever is called back about a request. What is called is the delivery's URL.
    Callback {
        /// Which callback.
        id: CallbackId,
        /// The registered secret that signs; `None` for the default one.
        secret: Option<SecretId>,
    },
}

impl Target {
    /// The callback of a request of `tenant`.
    #[must_use]
    pub fn callback(tenant: &Tenant, callback: &Callback) -> Self {
        Self::Callback { id: CallbackId::of(tenant, callback), secret: callback.secret.clone() }
    }

    /// The endpoint, if it is one.
    #[must_use]
    pub fn endpoint(&self) -> Option<&EndpointId> {
        match self {
            Self::Endpoint { id } => Some(id),
            Self::Bus { .. } | Self::Callback { .. } => None,
        }
    }

    /// Whether it is the callback of a request.
    #[must_use]
    pub fn is_callback(&self) -> bool {
        match self {
            Self::Callback { .. } => true,
            Self::Endpoint { .. } | Self::Bus { .. } => false,
        }
    }

    /// What tells it from every other target; an array, since the order of an object's members is not ours.
    fn parts(&self) -> [&str; 2] {
        match self {
            Self::Endpoint { id } => ["endpoint", id.as_str()],
            Self::Bus { name } => ["bus", name],
            // Made of all that tells it apart.
            Self::Callback { id, .. } => ["callback", id.as_str()],
        }
    }
}

/// One event on its way to one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// The event's id.
    pub event_id: Uuid,
    /// The event's name.
    pub event: String,
    /// Where the event is found.
    pub source: Source,
    /// Where it goes.
    pub target: Target,
    /// The URL that was called last, or that is to be called; `None` where there is none to call.
    pub url: Option<String>,
    /// The replay that made it.
    pub run: Option<String>,
    /// How far it is.
    pub state: State,
    /// How many attempts were made before it was last started anew: before its present round.
    pub earlier: u32,
    /// What became of its latest attempt; only of a callback's, whose attempts are listed without their log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Last>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What became of the latest attempt of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// When it was claimed.
    pub at: Timestamp,
    /// The HTTP status that it was answered with; `None` also once the delivery was started anew.
    pub status_code: Option<u16>,
    /// Why it failed and how the answer began, at most 500 characters; `None` also once the delivery was started anew.
    pub error: Option<String>,
    /// Whether time ran out.
    pub timed_out: bool,
}

/// How far a delivery is. Attempts are numbered in its present round, the first being 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum State {
    /// It waits for its next attempt.
    Waiting {
        /// Which one that is.
        attempt: u32,
        /// When it is due.
        at: Timestamp,
        /// When the clock looks for it: later than it is due if word of it is on its way, earlier if not.
        look_at: Timestamp,
    },
    /// A worker makes an attempt.
    Claimed {
        /// Which one.
        attempt: u32,
        /// Since when.
        at: Timestamp,
        /// From when on the worker is not waited for, and the same attempt is made again.
        until: Timestamp,
    },
    /// It has arrived; for ever.
    Delivered {
        /// How many attempts were made.
        attempts: u32,
        /// When it was known to have arrived.
        at: Timestamp,
    },
    /// Its last attempt has failed; until someone starts it anew.
    Exhausted {
        /// How many attempts were made.
        attempts: u32,
        /// When the last one was known to have failed.
        at: Timestamp,
    },
    /// Its target is not to be called any more; until someone starts it anew.
    Cancelled {
        /// How many attempts were made.
        attempts: u32,
        /// When it was cancelled.
        at: Timestamp,
        /// Why.
        why: Cancelled,
    },
}

/// Why a delivery is not attempted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cancelled {
    /// Its endpoint was deleted.
    EndpointDeleted,
    /// Its endpoint was disabled.
    EndpointDisabled,
    /// Its endpoint has answered that it is gone (410).
    Gone,
}

/// How an attempt went, as the worker tells that has claimed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The delivery's [`Delivery::earlier`] as it was claimed: from another round the same number is another attempt.
    pub earlier: u32,
    /// Which attempt, as it was claimed.
    pub attempt: u32,
    /// When it was claimed.
    pub claimed_at: Timestamp,
    /// The HTTP status that it was answered with.
    pub status_code: Option<u16>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What went wrong, if it was not the answer; never a URL.
    pub error: Option<String>,
    /// How the answer of a failed attempt began.
    pub excerpt: Option<String>,
    /// What was called.
    pub url: Option<String>,
    /// Whether time ran out.
    pub timed_out: bool,
}

impl Report {
    /// The attempt's number among all attempts of its delivery.
    fn number(&self) -> u32 {
        self.earlier.saturating_add(self.attempt)
    }

    /// Why the attempt failed, in a few words.
    fn failure(&self) -> Option<String> {
        self.error.clone().or_else(|| self.status_code.map(|code| format!("HTTP {code}")))
    }

    /// The attempt as it is remembered; it has failed if the delivery has not arrived.
    fn as_last(&self, arrived: bool) -> Last {
        let error = self.failure().filter(|_| !arrived).map(|failure| {
            let whole = match &self.excerpt {
                Some(excerpt) => format!("{failure}: {excerpt}"),
                None => failure,
            };
            whole.chars().take(MAX_ERROR).collect()
        });
        Last { at: self.claimed_at, status_code: self.status_code, error, timed_out: self.timed_out }
    }
}

/// Why the law says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The tenant has no such delivery.
    #[error("there is no delivery with this id")]
    NotFound,
    /// It has arrived.
    #[error("this delivery was delivered already")]
    AlreadyDelivered,
    /// Its endpoint is not there or not enabled. No rule here can know; whoever applies one says it.
    #[error("the endpoint of this delivery was deleted or is disabled; enable it before you retry")]
    NoEndpoint,
}

/// What a delivery is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct New {
    /// Whose event it is.
    pub tenant: Tenant,
    /// The event's id.
    pub event_id: Uuid,
    /// The event's name.
    pub event: String,
    /// Where the event is found.
    pub source: Source,
    /// Where it goes.
    pub target: Target,
    /// The URL that is to be called, if there is one.
    pub url: Option<String>,
    /// The replay that makes it.
    pub run: Option<String>,
}

/// Who makes the first attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// Whoever makes the delivery, right away.
    Claimed,
    /// Whoever gets word of it.
    Waiting,
}

impl Delivery {
    /// Makes a delivery, its first attempt due now.
    #[must_use]
    pub fn create(new: New, first: First, schedule: &Schedule, now: Timestamp) -> Change<Self> {
        let waiting = Self {
            id: DeliveryId::of(&new.tenant, new.event_id, &new.target, new.run.as_deref()),
            event_id: new.event_id,
            event: new.event,
            source: new.source,
            target: new.target,
            url: new.url,
            run: new.run,
            state: due_now(schedule, now),
            earlier: 0,
            last: None,
            created_at: now,
            updated_at: now,
        };
        let created = waiting.created(now);
        match first {
            First::Waiting => Change::new(waiting, created),
            First::Claimed => {
                let mut change = waiting.claimed(1, schedule, now);
                change.entries.insert(0, created);
                change
            }
        }
    }

    /// Claims the attempt that is due, for the caller to make it: the next one, or the last one again if whoever has
    /// claimed it is not waited for any more. Kept, if there is nothing to do: someone else does it, it is too early,
    /// or the delivery is over.
    #[must_use]
    pub fn claim(&self, schedule: &Schedule, now: Timestamp) -> Outcome<Self> {
        match self.state {
            State::Waiting { attempt, at: due, .. } | State::Claimed { attempt, until: due, .. } if due <= now => {
                Outcome::Change(self.claimed(attempt, schedule, now))
            }
            State::Waiting { .. }
            | State::Claimed { .. }
            | State::Delivered { .. }
            | State::Exhausted { .. }
            | State::Cancelled { .. } => Outcome::Keep,
        }
    }

    /// Records that the receiver has taken the event. That is so whatever else has become of the delivery since the
    /// attempt was claimed.
    #[must_use]
    pub fn succeeded(&self, report: &Report, now: Timestamp) -> Outcome<Self> {
        match self.state {
            State::Delivered { .. } => Outcome::Keep,
            State::Waiting { .. } | State::Claimed { .. } | State::Exhausted { .. } | State::Cancelled { .. } => {
                let attempts = self.made().max(report.number().saturating_sub(self.earlier));
                let delivery = self.reported(report, State::Delivered { attempts, at: now }, now);
                let data = json!({ "attempts": delivery.attempts() });
                let delivered = delivery.entry(DELIVERED, &Actor::Clock, now, data);
                Outcome::Change(delivery.with_result(report, Some(delivered), now))
            }
        }
    }

    /// Records that the attempt has failed; there is another one after a wait (see [`Schedule::wait_after`]), or the
    /// delivery is exhausted. Kept, if the claim is not the reporter's any more.
    #[must_use]
    pub fn failed(
        &self,
        report: &Report,
        retry_after: Option<SignedDuration>,
        unit: f64,
        schedule: &Schedule,
        now: Timestamp,
    ) -> Outcome<Self> {
        if !self.is_claimed_by(report) {
            return Outcome::Keep;
        }
        let attempt = report.attempt;
        let change = match schedule.wait_after(attempt, unit, retry_after) {
            Some(wait) => {
                let at = later(now, wait);
                let state = State::Waiting { attempt: attempt + 1, at, look_at: schedule.look_at(at, wait) };
                self.reported(report, state, now).with_result(report, None, now)
            }
            None => {
                let delivery = self.reported(report, State::Exhausted { attempts: attempt, at: now }, now);
                let exhausted = delivery.exhausted(report, now);
                delivery.with_result(report, Some(exhausted), now)
            }
        };
        Outcome::Change(change)
    }

    /// Records that the endpoint has answered that it is gone. Kept, if the claim is not the reporter's any more.
    #[must_use]
    pub fn gone(&self, report: &Report, now: Timestamp) -> Outcome<Self> {
        if !self.is_claimed_by(report) {
            return Outcome::Keep;
        }
        let state = State::Cancelled { attempts: report.attempt, at: now, why: Cancelled::Gone };
        let delivery = self.reported(report, state, now);
        let cancelled = delivery.cancelled(Cancelled::Gone, now);
        Outcome::Change(delivery.with_result(report, Some(cancelled), now))
    }

    /// Sees to it that no further attempt is made. One that is being made is not stopped, and is counted; if it
    /// succeeds, the delivery has arrived after all.
    #[must_use]
    pub fn cancel(&self, why: Cancelled, now: Timestamp) -> Outcome<Self> {
        let attempts = match self.state {
            State::Waiting { .. } => self.made(),
            State::Claimed { attempt, .. } => attempt,
            State::Delivered { .. } | State::Exhausted { .. } | State::Cancelled { .. } => return Outcome::Keep,
        };
        let delivery = Self { state: State::Cancelled { attempts, at: now, why }, updated_at: now, ..self.clone() };
        let entry = delivery.cancelled(why, now);
        Outcome::Change(Change::new(delivery, entry))
    }

    /// Starts the delivery anew, with all attempts of the schedule and the first of them due now. Kept, if that is
    /// so already, or while an attempt is being made.
    ///
    /// # Errors
    /// [`Refusal::AlreadyDelivered`] if it has arrived.
    pub fn retry(&self, by: &Actor, schedule: &Schedule, now: Timestamp) -> Result<Outcome<Self>, Refusal> {
        match self.state {
            State::Delivered { .. } => Err(Refusal::AlreadyDelivered),
            State::Claimed { until, .. } if now < until => Ok(Outcome::Keep),
            State::Waiting { attempt: 1, at, .. } if at <= now => Ok(Outcome::Keep),
            State::Waiting { .. } | State::Claimed { .. } | State::Exhausted { .. } | State::Cancelled { .. } => {
                let earlier = self.attempts();
                let state = due_now(schedule, now);
                let last = self.last.clone().map(|last| Last { status_code: None, error: None, ..last });
                let delivery = Self { state, earlier, last, updated_at: now, ..self.clone() };
                let data = match delivery.request_id() {
                    None => json!({ "attempts": earlier }),
                    Some(request) => {
                        json!({ "attempts": earlier, "request_id": request, "resource_id": delivery.id.uuid() })
                    }
                };
                let entry = delivery.entry(RETRIED, by, now, data);
                Ok(Outcome::Change(Change::new(delivery, entry)))
            }
        }
    }

    /// How many attempts were made in all, the one that is being made not among them.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.earlier.saturating_add(self.made())
    }

    /// How many attempts were made since it was last started anew, the one that is being made not among them.
    #[must_use]
    pub fn attempts_of_round(&self) -> u32 {
        self.made()
    }

    /// Whether no attempt of it has ended yet.
    #[must_use]
    pub fn is_at_first_attempt(&self) -> bool {
        match self.state {
            State::Waiting { attempt, .. } | State::Claimed { attempt, .. } => self.earlier == 0 && attempt == 1,
            State::Delivered { .. } | State::Exhausted { .. } | State::Cancelled { .. } => false,
        }
    }

    /// The request that its callback is called about, if it is to one.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        (self.target.is_callback() && self.source.kind == Request::KIND).then_some(&self.source.id)
    }

    /// What callers are told of its state.
    #[must_use]
    pub fn status(&self) -> &'static str {
        match self.state {
            State::Waiting { .. } | State::Claimed { .. } => "pending",
            State::Delivered { .. } => "delivered",
            State::Exhausted { .. } => "exhausted",
            State::Cancelled { .. } => "cancelled",
        }
    }

    /// When its next attempt is due, if it waits for one.
    #[must_use]
    pub fn next_attempt_at(&self) -> Option<Timestamp> {
        match self.state {
            State::Waiting { at, .. } => Some(at),
            State::Claimed { .. } | State::Delivered { .. } | State::Exhausted { .. } | State::Cancelled { .. } => None,
        }
    }

    /// How many attempts were made in its present round.
    fn made(&self) -> u32 {
        match self.state {
            State::Waiting { attempt, .. } | State::Claimed { attempt, .. } => attempt.saturating_sub(1),
            State::Delivered { attempts, .. }
            | State::Exhausted { attempts, .. }
            | State::Cancelled { attempts, .. } => attempts,
        }
    }

    /// Whether the claim that is reported on is the present one.
    fn is_claimed_by(&self, report: &Report) -> bool {
        match self.state {
            State::Claimed { attempt, at, .. } => {
                (self.earlier, attempt, at) == (report.earlier, report.attempt, report.claimed_at)
            }
            State::Waiting { .. } | State::Delivered { .. } | State::Exhausted { .. } | State::Cancelled { .. } => {
                false
            }
        }
    }

    fn claimed(&self, attempt: u32, schedule: &Schedule, now: Timestamp) -> Change<Self> {
        let until = later(now, schedule.timeout.saturating_mul(2));
        let state = State::Claimed { attempt, at: now, until };
        let delivery = Self { state, updated_at: now, ..self.clone() };
        let number = self.earlier.saturating_add(attempt);
        let entry = delivery.entry(CLAIMED, &Actor::Clock, now, json!({ "attempt": number }));
        Change::new(delivery, entry)
    }

    fn reported(&self, report: &Report, state: State, now: Timestamp) -> Self {
        let url = report.url.clone().or_else(|| self.url.clone());
        let arrived = matches!(state, State::Delivered { .. });
        let last = self.target.is_callback().then(|| report.as_last(arrived));
        Self { url, state, last, updated_at: now, ..self.clone() }
    }

    /// The change to this delivery by what was reported, and by what that led to if the delivery is over.
    fn with_result(self, report: &Report, end: Option<Entry>, now: Timestamp) -> Change<Self> {
        let data = json!({
            "n": report.number(),
            "at": rfc3339_micros(report.claimed_at),
            "status_code": report.status_code,
            "duration_ms": report.duration_ms,
            "error": report.error,
            "excerpt": report.excerpt,
        });
        let mut change = Change::new(self.clone(), self.entry(ATTEMPTED, &Actor::Clock, now, data));
        change.entries.extend(end);
        change
    }

    fn created(&self, now: Timestamp) -> Entry {
        let data = json!({
            "event_id": self.event_id,
            "event_type": self.event,
            "source": self.source,
            "target": self.target,
            "run": self.run,
        });
        self.entry(CREATED, &Actor::Clock, now, data)
    }

    fn cancelled(&self, why: Cancelled, now: Timestamp) -> Entry {
        self.entry(CANCELLED, &Actor::Clock, now, json!({ "attempts": self.attempts(), "why": why }))
    }

    fn exhausted(&self, report: &Report, now: Timestamp) -> Entry {
        let data = json!({
            "delivery_id": self.id,
            "endpoint": self.target.endpoint(),
            "event_id": self.event_id,
            "event_type": self.event,
            "attempts": self.attempts(),
            "last_error": report.failure(),
        });
        // That word of a failure fails is no news: it would never end.
        let class = if self.event == EXHAUSTED { EntryClass::Audit } else { EntryClass::Public };
        Entry { class, ..self.entry(EXHAUSTED, &Actor::Clock, now, data) }
    }

    fn entry(&self, name: &str, by: &Actor, at: Timestamp, data: Value) -> Entry {
        Entry {
            name: name.to_owned(),
            class: EntryClass::Audit,
            actor: by.clone(),
            at,
            subject: Subject { kind: "delivery".to_owned(), id: self.id.to_string() },
            data,
            state: None,
        }
    }
}

/// The state of a delivery whose first attempt is due at once.
fn due_now(schedule: &Schedule, now: Timestamp) -> State {
    // Where nothing rides, word that would have to be sent before now is sent now.
    let look_at = schedule.look_at(now, SignedDuration::ZERO).max(now);
    State::Waiting { attempt: 1, at: now, look_at }
}

impl Record for Delivery {
    const KIND: &'static str = "delivery";
    /// 2: also to callbacks of requests, with their latest attempt.
    const SCHEMA: u32 = 2;
    type Refusal = Refusal;

    fn upgrade(schema: u32, body: Value) -> Option<Value> {
        (schema == 1).then_some(body)
    }

    fn listing(&self) -> Listing {
        let endpoint = self.target.endpoint();
        let waiting = self.next_attempt_at().and(endpoint);
        Listing {
            state: Some(self.status()),
            subject: Some(match &self.target {
                Target::Endpoint { id } => id.to_string(),
                Target::Bus { .. } => "bus".to_owned(),
                Target::Callback { .. } => CALLBACKS.to_owned(),
            }),
            inbox: waiting.map(|id| inbox(id).into()),
            ..Listing::at(self.created_at)
        }
    }

    /// Of what happens to a delivery, its log has what an administrator did about a request's callback.
    fn logged(entry: &Entry) -> Option<Logged> {
        let is_logged = entry.name == RETRIED && entry.data["request_id"].is_string();
        is_logged.then(|| Logged { name: AUDITED.to_owned(), by: Some(entry.actor.name().to_owned()) })
    }

    /// When word is to arrive: that rode along with a message, or was lost with it, not before the clock looks.
    fn due(&self) -> Option<Timestamp> {
        match self.state {
            State::Waiting { at, look_at, .. } => Some(at.max(look_at)),
            State::Claimed { until, .. } => Some(until),
            State::Delivered { .. } | State::Exhausted { .. } | State::Cancelled { .. } => None,
        }
    }

    fn is_ready(&self, now: Timestamp) -> bool {
        match self.state {
            State::Waiting { at: due, .. } | State::Claimed { until: due, .. } => due <= now,
            State::Delivered { .. } | State::Exhausted { .. } | State::Cancelled { .. } => false,
        }
    }

    fn look_at(&self) -> Option<Timestamp> {
        match self.state {
            State::Waiting { look_at, .. } => Some(look_at),
            State::Claimed { until, .. } => Some(until),
            State::Delivered { .. } | State::Exhausted { .. } | State::Cancelled { .. } => None,
        }
    }
}
