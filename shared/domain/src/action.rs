//! An action that an AI agent wants to take: submitted, scored, decided by rule or by a human, and reported on.

use crate::actions_policy::{ActionsPolicy, Verdict};
use crate::risk::{Factor, RiskLevel};
use crate::{
    Actor, Change, Entry, EntryClass, Listing, Logged, Outcome, Record, Subject, Tenant, Timestamp, rfc3339,
    whole_second,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::fmt;

/// The name of the item beside an action that has what was submitted with it.
pub const INPUT: &str = "@input";
/// The name of the item that has its executor's report.
pub const REPORT: &str = "report";
/// Ids and users are below it.
pub const IDS: u64 = crate::text::EXACT_NUMBERS;

/// The id of an action: a whole number that every JSON reader holds exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActionId(u64);

impl ActionId {
    /// The id that some random bits make, never 0.
    #[must_use]
    pub fn from_random(bits: u64) -> Self {
        Self((bits % (IDS - 1)) + 1)
    }

    /// The id with this number, if there can be one.
    #[must_use]
    pub fn new(number: i64) -> Option<Self> {
        u64::try_from(number).ok().filter(|number| (1..IDS).contains(number)).map(Self)
    }

    /// The number itself.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An action with its approval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// Its id.
    pub id: ActionId,
    /// Whose agent.
    pub organization: Tenant,
    /// Finds it in the audit log.
    pub correlation_id: String,
    /// Who wants to act.
    pub agent_id: String,
    /// What the agent calls itself.
    pub agent_name: Option<String>,
    /// What kind of action.
    pub action_type: String,
    /// On what.
    pub resource: Option<String>,
    /// On which of these.
    pub resource_id: Option<String>,
    /// With what.
    pub tool_name: Option<String>,
    /// The user who submitted it, or who owns the key that did.
    pub submitted_by: Option<u64>,
    /// The user for whom it was submitted.
    pub on_behalf_of: Option<u64>,
    /// 0 to 100.
    pub risk_score: i64,
    /// What it is made of.
    pub risk_factors: Vec<Factor>,
    /// The approval level that deciding needs, 1 to 5.
    pub required_level: u8,
    /// Why it was approved, denied, or left to a human when it was submitted.
    pub ruling: String,
    /// Whether whoever asked is kept from deciding.
    pub forbid_self_approval: bool,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// What has become of it.
    pub state: State,
}

/// What has become of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum State {
    /// It waits for a human until then.
    Pending {
        /// From when on nobody can decide any more.
        expires_at: Timestamp,
    },
    /// The agent may act.
    Approved {
        /// The user who approved; nobody if it was a rule.
        by: Option<u64>,
        /// When.
        at: Timestamp,
        /// Why.
        reason: Option<String>,
        /// What its executor reported.
        report: Option<Reported>,
    },
    /// The agent must not act.
    Denied {
        /// The user who denied; nobody if it was a rule.
        by: Option<u64>,
        /// When.
        at: Timestamp,
        /// Why.
        reason: Option<String>,
    },
    /// It was taken back before anybody decided.
    Cancelled {
        /// When.
        at: Timestamp,
    },
    /// Nobody decided in time, and the clock saw it.
    TimedOut {
        /// When its time was over, however late the clock saw it.
        at: Timestamp,
    },
}

/// An executor's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// How it went.
    pub result: Report,
    /// When it was reported.
    pub at: Timestamp,
}

/// How an approved action went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// As it should.
    Completed,
    /// Not as it should.
    Failed,
}

impl Report {
    /// The documented word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// An action's status, as listings and details show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It waits for a human.
    Pending,
    /// The agent may act.
    Approved,
    /// The agent must not act: denied or cancelled.
    Denied,
    /// Nobody decided in time.
    Timeout,
}

impl Status {
    /// The documented word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Timeout => "timeout",
        }
    }
}

/// The word is no status of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be pending, approved, denied or timeout")]
pub struct UnknownStatus;

impl std::str::FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(word: &str) -> Result<Self, UnknownStatus> {
        match word {
            "pending" | "pending_approval" => Ok(Self::Pending),
            "approved" => Ok(Self::Approved),
            "denied" => Ok(Self::Denied),
            "timeout" => Ok(Self::Timeout),
            _ => Err(UnknownStatus),
        }
    }
}

/// What a human decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The agent may act.
    Approve,
    /// The agent must not act.
    Reject,
}

/// Who does something with an action, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doer {
    /// By whose credentials.
    pub actor: Actor,
    /// The user they stand for, if for one.
    pub user: Option<u64>,
    /// The address that the call came from.
    pub ip_address: Option<String>,
    /// What the client calls itself.
    pub user_agent: Option<String>,
}

/// A human with the right to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approver {
    /// Who they are.
    pub user: u64,
    /// Up to which level they may decide, 1 to 5.
    pub level: u8,
    /// Their credentials.
    pub doer: Doer,
}

/// What an action is submitted with.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    /// The new action's id.
    pub id: ActionId,
    /// Eight random hexadecimal digits.
    pub random: String,
    /// Whose agent.
    pub organization: Tenant,
    /// Who wants to act.
    pub agent_id: String,
    /// What the agent calls itself.
    pub agent_name: Option<String>,
    /// What kind of action.
    pub action_type: String,
    /// On what.
    pub resource: Option<String>,
    /// On which of these.
    pub resource_id: Option<String>,
    /// With what.
    pub tool_name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The caller's own, an object.
    pub action_details: Map<String, Value>,
    /// The caller's own, an object.
    pub context: Map<String, Value>,
    /// What the risk table looks at.
    pub risk_indicators: Map<String, Value>,
    /// The user for whom it is submitted.
    pub on_behalf_of: Option<u64>,
}

/// Why the law says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such action in this organization.
    #[error("Action not found")]
    NotFound,
    /// There is one with this id already; another id is to be drawn.
    #[error("Action exists")]
    Exists,
    /// The approver's level is too low.
    #[error("Approval level {needed} is required for this action; yours is {held}")]
    InsufficientLevel {
        /// What is needed.
        needed: u8,
        /// What the approver has.
        held: u8,
    },
    /// Whoever asked cannot decide.
    #[error("You cannot decide on an action that you submitted or that was submitted on your behalf")]
    SelfApproval,
    /// It is not, or no longer, waiting for a decision.
    #[error("Action is not pending approval (current status: {0})")]
    NotPending(&'static str),
    /// Only what was approved can be carried out, once.
    #[error("Action is not awaiting a report (current status: {0})")]
    NotExecutable(&'static str),
}

impl Submission {
    /// What rules see of it. What was not submitted is absent, so that `var` has its default and `missing` finds it.
    fn as_context(&self, score: i64) -> Value {
        let mut context = json!({
            "agent_id": self.agent_id,
            "agent_name": self.agent_name,
            "action_type": self.action_type,
            "resource": self.resource,
            "resource_id": self.resource_id,
            "tool_name": self.tool_name,
            "description": self.description,
            "action_details": self.action_details,
            "context": self.context,
            "risk_indicators": self.risk_indicators,
            "on_behalf_of": self.on_behalf_of,
            "risk_score": score,
            "risk_level": RiskLevel::of(score).as_str(),
        });
        if let Some(fields) = context.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        context
    }

    /// What is kept beside the record.
    fn input(&self) -> String {
        json!({
            "description": self.description,
            "action_details": self.action_details,
            "context": self.context,
            "risk_indicators": self.risk_indicators,
        })
        .to_string()
    }
}

impl Action {
    /// Submits an action: scored, and approved, denied or left to a human by the organization's settings.
    #[must_use]
    pub fn submit(submission: &Submission, policy: &ActionsPolicy, by: &Doer, now: Timestamp) -> Change<Self> {
        let assessment = policy.risk.assess(&submission.action_type, &submission.risk_indicators);
        let ruling = policy.rule(&submission.as_context(assessment.score), &assessment);
        let (event, state) = match ruling.verdict {
            Verdict::Allow => ("action.approved", State::Approved { by: None, at: now, reason: None, report: None }),
            Verdict::Deny => ("action.denied", State::Denied { by: None, at: now, reason: None }),
            Verdict::RequireApproval => {
                ("action.pending", State::Pending { expires_at: policy.expires_at(whole_second(now)) })
            }
        };
        let mut risk_factors = assessment.factors;
        risk_factors.extend(ruling.failed);
        let action = Self {
            id: submission.id,
            organization: submission.organization.clone(),
            correlation_id: format!("action_{}_{}", now.strftime("%Y%m%d_%H%M%S"), submission.random),
            agent_id: submission.agent_id.clone(),
            agent_name: submission.agent_name.clone(),
            action_type: submission.action_type.clone(),
            resource: submission.resource.clone(),
            resource_id: submission.resource_id.clone(),
            tool_name: submission.tool_name.clone(),
            submitted_by: by.user,
            on_behalf_of: submission.on_behalf_of,
            risk_score: assessment.score,
            risk_factors,
            required_level: ruling.required_level,
            ruling: ruling.reason,
            forbid_self_approval: policy.forbid_self_approval,
            created_at: now,
            updated_at: now,
            state,
        };
        let done = format!("submitted by agent {}: {}", action.agent_id, action.ruling);
        action.change(event, "action_submitted", &done, by, now).with_item(INPUT, submission.input())
    }

    /// Records a human's decision.
    ///
    /// # Errors
    /// Refusals are found in the documented order: level too low, own action, not pending.
    pub fn decide(
        &self,
        decision: Decision,
        reason: Option<String>,
        by: &Approver,
        now: Timestamp,
    ) -> Result<Outcome<Self>, Refusal> {
        if by.level < self.required_level {
            return Err(Refusal::InsufficientLevel { needed: self.required_level, held: by.level });
        }
        if self.forbid_self_approval && [self.submitted_by, self.on_behalf_of].contains(&Some(by.user)) {
            return Err(Refusal::SelfApproval);
        }
        self.must_be_pending(now)?;
        let (event, audit, word, state) = match decision {
            Decision::Approve => {
                let state = State::Approved { by: Some(by.user), at: now, reason, report: None };
                ("action.approved", "action_approved", "approved", state)
            }
            Decision::Reject => {
                let state = State::Denied { by: Some(by.user), at: now, reason };
                ("action.denied", "action_denied", "denied", state)
            }
        };
        let done = format!("{word} by user {}", by.user);
        let doer = Doer { user: Some(by.user), ..by.doer.clone() };
        Ok(Outcome::Change(self.next(state, now).change(event, audit, &done, &doer, now)))
    }

    /// Takes it back before anybody decided.
    ///
    /// # Errors
    /// [`Refusal::NotPending`].
    pub fn cancel(&self, by: &Doer, now: Timestamp) -> Result<Outcome<Self>, Refusal> {
        self.must_be_pending(now)?;
        let done = format!("cancelled by {}", by.name());
        let next = self.next(State::Cancelled { at: now }, now);
        Ok(Outcome::Change(next.change("action.denied", "action_cancelled", &done, by, now)))
    }

    /// Records what its executor reports; `details` are kept beside it. The same report again changes nothing.
    ///
    /// # Errors
    /// [`Refusal::NotExecutable`] unless it is approved, and once another report was made.
    pub fn report(&self, result: Report, details: &str, by: &Doer, now: Timestamp) -> Result<Outcome<Self>, Refusal> {
        let State::Approved { by: approver, at, reason, report } = &self.state else {
            return Err(Refusal::NotExecutable(self.word(now)));
        };
        match report {
            Some(before) if before.result == result => return Ok(Outcome::Keep),
            Some(before) => return Err(Refusal::NotExecutable(before.result.as_str())),
            None => {}
        }
        let report = Some(Reported { result, at: now });
        let state = State::Approved { by: *approver, at: *at, reason: reason.clone(), report };
        let (event, audit) = match result {
            Report::Completed => ("action.completed", "action_completed"),
            Report::Failed => ("action.failed", "action_failed"),
        };
        let done = format!("reported {} by {}", result.as_str(), by.name());
        let change = self.next(state, now).change(event, audit, &done, by, now);
        Ok(Outcome::Change(change.with_item(REPORT, details.to_owned())))
    }

    /// What callers are told at `now`: an action whose time is over has timed out, whether or not the clock saw it.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> Status {
        if self.overdue(now) { Status::Timeout } else { self.state.status() }
    }

    /// How it ended otherwise: completed, failed or cancelled.
    #[must_use]
    pub fn outcome(&self) -> Option<&'static str> {
        match &self.state {
            State::Approved { report, .. } => report.map(|report| report.result.as_str()),
            State::Cancelled { .. } => Some("cancelled"),
            State::Pending { .. } | State::Denied { .. } | State::TimedOut { .. } => None,
        }
    }

    /// Why it is as it is, as a sentence.
    #[must_use]
    pub fn reason(&self, now: Timestamp) -> String {
        match &self.state {
            State::Approved { by: None, .. } | State::Denied { by: None, .. } => self.ruling.clone(),
            State::Pending { .. } if !self.overdue(now) => self.ruling.clone(),
            State::Pending { .. } | State::TimedOut { .. } => "Timed out: nobody decided in time".to_owned(),
            State::Approved { reason: Some(reason), .. } | State::Denied { reason: Some(reason), .. } => reason.clone(),
            State::Approved { by: Some(user), reason: None, .. } => format!("Approved by user {user}"),
            State::Denied { by: Some(user), reason: None, .. } => format!("Denied by user {user}"),
            State::Cancelled { .. } => "Cancelled before anybody decided".to_owned(),
        }
    }

    /// The id under which agents ask about its approval.
    #[must_use]
    pub fn approval_request_id(&self) -> String {
        format!("appr_{}", self.id)
    }

    /// Whether nobody decided and nobody can any more.
    fn overdue(&self, now: Timestamp) -> bool {
        self.due().is_some_and(|deadline| now >= deadline)
    }

    fn must_be_pending(&self, now: Timestamp) -> Result<(), Refusal> {
        match self.status(now) {
            Status::Pending => Ok(()),
            Status::Approved | Status::Denied | Status::Timeout => Err(Refusal::NotPending(self.word(now))),
        }
    }

    /// The current status as sentences name it.
    fn word(&self, now: Timestamp) -> &'static str {
        match self.state {
            State::Cancelled { .. } => "cancelled",
            State::Pending { .. } | State::Approved { .. } | State::Denied { .. } | State::TimedOut { .. } => {
                self.status(now).as_str()
            }
        }
    }

    fn next(&self, state: State, now: Timestamp) -> Self {
        Self { state, updated_at: now, ..self.clone() }
    }

    /// The change that makes this action: an event for the world, and what the audit log says.
    fn change(self, event: &str, audit: &str, done: &str, by: &Doer, now: Timestamp) -> Change<Self> {
        let entry = |name: &str, class, data| Entry {
            name: name.to_owned(),
            class,
            actor: by.actor.clone(),
            at: now,
            subject: Subject { kind: "action".to_owned(), id: self.id.to_string() },
            data,
            state: None,
        };
        let told = json!({
            "action_id": self.id,
            "correlation_id": self.correlation_id,
            "agent_id": self.agent_id,
            "action_type": self.action_type,
            "resource": self.resource,
            "status": self.status(now).as_str(),
            "outcome": self.outcome(),
            "risk_score": self.risk_score,
            "reason": self.reason(now),
            "user_id": by.user,
            "at": rfc3339(now),
        });
        let kept = json!({
            "user_id": by.user,
            "details": format!("Action {} {done}", self.id),
            "ip_address": by.ip_address,
            "user_agent": by.user_agent,
            "correlation_id": self.correlation_id,
        });
        let entries = vec![entry(event, EntryClass::Public, told), entry(audit, EntryClass::Audit, kept)];
        Change { record: self, entries, with: Vec::new() }
    }
}

impl Doer {
    fn name(&self) -> String {
        match self.user {
            Some(user) => format!("user {user}"),
            None => self.actor.to_string(),
        }
    }
}

impl State {
    /// The status as it is stored, whatever the time.
    fn status(&self) -> Status {
        match self {
            Self::Pending { .. } => Status::Pending,
            Self::Approved { .. } => Status::Approved,
            Self::Denied { .. } | Self::Cancelled { .. } => Status::Denied,
            Self::TimedOut { .. } => Status::Timeout,
        }
    }
}

impl Record for Action {
    const KIND: &'static str = "action";
    const SCHEMA: u32 = 1;
    type Refusal = Refusal;

    fn upgrade(_schema: u32, _body: Value) -> Option<Value> {
        None
    }

    fn listing(&self) -> Listing {
        let state = Some(self.state.status().as_str());
        Listing { state, subject: Some(self.agent_id.clone()), ..Listing::at(self.created_at) }
    }

    fn due(&self) -> Option<Timestamp> {
        match self.state {
            State::Pending { expires_at } => Some(expires_at),
            State::Approved { .. } | State::Denied { .. } | State::Cancelled { .. } | State::TimedOut { .. } => None,
        }
    }

    fn tick(&self, now: Timestamp) -> Outcome<Self> {
        match self.state {
            State::Pending { expires_at } if now >= expires_at => {
                let clock = Doer { actor: Actor::Clock, user: None, ip_address: None, user_agent: None };
                let next = self.next(State::TimedOut { at: expires_at }, now);
                let done = "expired: nobody decided in time";
                Outcome::Change(next.change("action.denied", "action_expired", done, &clock, now))
            }
            State::Pending { .. }
            | State::Approved { .. }
            | State::Denied { .. }
            | State::Cancelled { .. }
            | State::TimedOut { .. } => Outcome::Keep,
        }
    }

    fn logged(entry: &Entry) -> Option<Logged> {
        let by = entry.data["user_id"].as_u64().map(|user| user.to_string());
        Some(Logged { name: entry.name.clone(), by })
    }
}
