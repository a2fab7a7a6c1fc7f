//! The remediation: a plan for an incident, answered at most once before its deadline, then reported step by step.
//!
//! One record holds the remediation, its approval and how far its steps are. What is bulky lies beside it, written
//! once and in the transaction that it belongs to: the steps' descriptions in the item [`INPUT`] (see [`Input`]), and
//! their outputs in an item each (see [`Step::output_item`]).

use crate::{
    Actor, Change, Entry, EntryClass, Listing, Outcome, Record, Subject, Tenant, Timestamp, rfc3339, seconds,
    text::{is_ulid, text_of, ulid},
    whole_second,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::str::FromStr;

/// The longest title of a remediation or an incident, in characters; the shortest has 1.
pub const MAX_TITLE: usize = 300;
/// The most steps of a remediation; it has at least 1.
pub const MAX_STEPS: usize = 50;
/// The longest description of a step, in characters; the shortest has 1.
pub const MAX_DESCRIPTION: usize = 2000;
/// The longest time in which an approval can be answered, in minutes; the shortest is 1.
pub const MAX_TIMEOUT_MINUTES: i64 = 10_080;
/// The longest notes on an answer, in characters.
pub const MAX_NOTES: usize = 2000;
/// The longest output of one report, in characters.
pub const MAX_OUTPUT: usize = 10_000;

/// The name of the item beside the record that holds an [`Input`].
pub const INPUT: &str = "@input";

/// The ULID that a remediation and its approval share; the record is stored under it. Callers know it by its two
/// prefixed spellings only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RemediationId(String);

/// The text is not a ULID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a ULID: 26 of 0-9 A-Z without I L O U, the first at most 7")]
pub struct InvalidRemediationId;

impl RemediationId {
    /// The id with this ULID: 48 bits of Unix time in milliseconds, then 80 random ones.
    #[must_use]
    pub fn new(number: u128) -> Self {
        Self(ulid(number))
    }

    /// Reads `rem_<ULID>`; `None` for any other spelling.
    #[must_use]
    pub fn of_remediation(id: &str) -> Option<Self> {
        id.strip_prefix("rem_")?.parse().ok()
    }

    /// Reads `apr_<ULID>`; `None` for any other spelling.
    #[must_use]
    pub fn of_approval(id: &str) -> Option<Self> {
        id.strip_prefix("apr_")?.parse().ok()
    }

    /// The remediation's id, `rem_<ULID>`.
    #[must_use]
    pub fn remediation(&self) -> String {
        format!("rem_{self}")
    }

    /// The id of the remediation's approval, `apr_<ULID>`.
    #[must_use]
    pub fn approval(&self) -> String {
        format!("apr_{self}")
    }
}

/// Reads the bare ULID, as it is stored.
impl FromStr for RemediationId {
    type Err = InvalidRemediationId;

    fn from_str(ulid: &str) -> Result<Self, InvalidRemediationId> {
        if is_ulid(ulid) { Ok(Self(ulid.to_owned())) } else { Err(InvalidRemediationId) }
    }
}

/// The id of the incident that a remediation is for: 1 to 64 of `A-Z a-z 0-9 _ . : -`, compared as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IncidentId(String);

/// The text is not an incident's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 of A-Z a-z 0-9 _ . : -")]
pub struct InvalidIncidentId;

impl IncidentId {
    /// An id for an incident that came without one, `inc_<ULID>`.
    #[must_use]
    pub fn new(number: u128) -> Self {
        Self(format!("inc_{}", ulid(number)))
    }
}

impl FromStr for IncidentId {
    type Err = InvalidIncidentId;

    fn from_str(id: &str) -> Result<Self, InvalidIncidentId> {
        let valid = (1..=64).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'-'));
        if valid { Ok(Self(id.to_owned())) } else { Err(InvalidIncidentId) }
    }
}

text_of! { RemediationId, InvalidRemediationId; IncidentId, InvalidIncidentId; }

/// A plan for an incident, with its approval and how far its steps are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remediation {
    /// Its id, and its approval's.
    pub id: RemediationId,
    /// Whose it is.
    pub tenant: Tenant,
    /// The incident.
    pub incident_id: IncidentId,
    /// What the incident is called.
    pub incident_title: String,
    /// What the remediation is called.
    pub title: String,
    /// When it was proposed, in whole seconds.
    pub proposed_at: Timestamp,
    /// From when on its approval cannot be answered any more, in whole seconds. Without an approval nothing happens
    /// then; [`Remediation::deadline`] tells the two apart.
    pub expires_at: Timestamp,
    /// Its steps, in their order.
    pub steps: Vec<Step>,
    /// What has become of it.
    pub state: State,
}

/// What has become of a remediation. That a deadline has passed follows from the time as well; the clock records it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum State {
    /// Its approval waits for an answer.
    Proposed,
    /// Its steps are carried out and reported.
    Executing {
        /// The approval; `None` if none was needed.
        approval: Option<Answered>,
    },
    /// All of its steps were completed; for ever.
    Executed {
        /// The approval; `None` if none was needed.
        approval: Option<Answered>,
        /// When the last step was completed.
        at: Timestamp,
    },
    /// One of its steps failed; for ever.
    Failed {
        /// The approval; `None` if none was needed.
        approval: Option<Answered>,
        /// When the step failed.
        at: Timestamp,
    },
    /// It was rejected; for ever.
    Rejected(Answered),
    /// Nobody answered before the deadline; for ever.
    Expired {
        /// When the clock recorded it.
        at: Timestamp,
    },
}

/// How an approval was answered; which way is said by the state that it led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Who gave it.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub notes: Option<String>,
}

/// A step of a remediation, without its description and its outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its place in the order; the first step's is 1.
    pub number: u32,
    /// How far it is.
    pub state: StepState,
    /// The report that its present output came with; `None` if there is no output.
    pub output: Option<Progress>,
}

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum StepState {
    /// Nothing was reported.
    Pending,
    /// It has begun.
    Running,
    /// It is done.
    Completed {
        /// When that was reported.
        at: Timestamp,
    },
    /// It could not be done.
    Failed {
        /// When that was reported.
        at: Timestamp,
    },
}

/// What can be reported of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// It has begun.
    Running,
    /// It is done.
    Completed,
    /// It could not be done.
    Failed,
}

/// An answer to an approval, as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Carry the remediation out.
    Approve,
    /// Do not.
    Reject,
}

/// A remediation's status as callers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It waits for an answer.
    Proposed,
    /// Its steps are carried out.
    Executing,
    /// All steps completed.
    Executed,
    /// Rejected.
    Rejected,
    /// A step failed.
    Failed,
    /// Not answered in time.
    Expired,
}

/// The text is none of the words that are expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {}", .0.join(", "))]
pub struct UnknownWord(&'static [&'static str]);

macro_rules! words {
    ($($name:ident { $($variant:ident: $word:literal),+ })*) => { $(
        impl $name {
            /// The documented word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(UnknownWord(&[$($word),+])),
                }
            }
        }
    )* };
}
words! {
    Decision { Approve: "approve", Reject: "reject" }
    Progress { Running: "running", Completed: "completed", Failed: "failed" }
    Status {
        Proposed: "proposed", Executing: "executing", Executed: "executed",
        Rejected: "rejected", Failed: "failed", Expired: "expired"
    }
}

/// Why the law says no; none of these changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such remediation. No rule finds this; it is for whoever looks for the record.
    #[error("there is no remediation with this id")]
    NotFound,
    /// It goes ahead without an approval: there is nothing to answer.
    #[error("this remediation needs no approval")]
    NeedsNoApproval,
    /// The approval was answered.
    #[error("this approval has already been responded to")]
    AlreadyDecided,
    /// The deadline has passed.
    #[error("the deadline of this approval has passed; create a new remediation")]
    Expired,
    /// The remediation has no such step.
    #[error("this remediation has no step with this id")]
    StepNotFound,
    /// The remediation is not executing, or the step has already ended in another way.
    #[error("a step is reported running, then completed or failed, and only while its remediation is executing")]
    InvalidState,
}

/// What a remediation is proposed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Propose {
    /// The new remediation's id.
    pub id: RemediationId,
    /// Whose it will be.
    pub tenant: Tenant,
    /// The incident.
    pub incident_id: IncidentId,
    /// What the incident is called, 1 to [`MAX_TITLE`] characters.
    pub incident_title: String,
    /// What the remediation is called, 1 to [`MAX_TITLE`] characters.
    pub title: String,
    /// The descriptions of its steps, 1 to [`MAX_STEPS`] of 1 to [`MAX_DESCRIPTION`] characters.
    pub steps: Vec<String>,
    /// How long its approval can be answered, 1 to [`MAX_TIMEOUT_MINUTES`].
    pub timeout_minutes: i64,
    /// Whether it waits for an approval.
    pub requires_approval: bool,
}

/// The item [`INPUT`]: what a remediation was proposed with and no rule looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The descriptions of the steps, in their order.
    pub steps: Vec<String>,
}

/// An answer on its way to an approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// The answer.
    pub decision: Decision,
    /// Why, at most [`MAX_NOTES`] characters; kept in the record and told with the decision.
    pub notes: Option<String>,
}

/// A report about a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The step, by its id.
    pub step_id: String,
    /// What is reported.
    pub progress: Progress,
    /// What the step has given out so far, at most [`MAX_OUTPUT`] characters; replaces an earlier output.
    pub output: Option<String>,
}

impl Remediation {
    /// Proposes a remediation, as of the current whole second. One that needs no approval is executing at once; that
    /// it was proposed is all that is told then.
    #[must_use]
    pub fn propose(propose: Propose, by: &Actor, now: Timestamp) -> Change<Self> {
        let proposed_at = whole_second(now);
        let timeout = seconds(propose.timeout_minutes * 60);
        let input = json!({ "steps": propose.steps });
        let pending = |(number, _)| Step { number, state: StepState::Pending, output: None };
        let remediation = Self {
            id: propose.id,
            tenant: propose.tenant,
            incident_id: propose.incident_id,
            incident_title: propose.incident_title,
            title: propose.title,
            proposed_at,
            expires_at: proposed_at.saturating_add(timeout).unwrap_or(Timestamp::MAX),
            steps: (1..).zip(propose.steps).map(pending).collect(),
            state: if propose.requires_approval { State::Proposed } else { State::Executing { approval: None } },
        };
        let data = json!({
            "incidentTitle": remediation.incident_title,
            "title": remediation.title,
            "stepCount": remediation.steps.len(),
            "requiresApproval": remediation.requires_approval(),
            "proposedAt": rfc3339(remediation.proposed_at),
            "expiresAt": remediation.deadline().map(rfc3339),
        });
        let entry = remediation.event("remediation.proposed", by, now, data);
        Change::new(remediation, entry).with_item(INPUT, input.to_string())
    }

    /// Records the one answer to the approval.
    ///
    /// # Errors
    /// [`Refusal::NeedsNoApproval`] if there is nothing to answer; otherwise refusals are found in the documented
    /// order: decided, expired.
    pub fn respond(&self, respond: &Respond, by: &Actor, now: Timestamp) -> Result<Outcome<Self>, Refusal> {
        if !self.requires_approval() {
            return Err(Refusal::NeedsNoApproval);
        }
        if self.answered().is_some() {
            return Err(Refusal::AlreadyDecided);
        }
        if self.status(now) == Status::Expired {
            return Err(Refusal::Expired);
        }
        let answered = Answered { by: by.clone(), at: now, notes: respond.notes.clone() };
        let data = json!({
            "decision": respond.decision.as_str(),
            "decidedBy": answered.by.name(),
            "decidedAt": rfc3339(answered.at),
            "notes": answered.notes,
        });
        let (state, name) = match respond.decision {
            Decision::Approve => (State::Executing { approval: Some(answered) }, "remediation.approved"),
            Decision::Reject => (State::Rejected(answered), "remediation.rejected"),
        };
        let entry = self.event(name, by, now, data);
        Ok(Outcome::Change(Change::new(Self { state, ..self.clone() }, entry)))
    }

    /// Records how far a step is. What was last reported of it may be reported again at any time and changes nothing,
    /// its output neither. The completion of the last step, and the first failure, end the remediation.
    ///
    /// # Errors
    /// [`Refusal::StepNotFound`], then [`Refusal::InvalidState`].
    pub fn report(&self, report: &Report, by: &Actor, now: Timestamp) -> Result<Outcome<Self>, Refusal> {
        let found = self.steps.iter().position(|step| step.id() == report.step_id);
        let index = found.ok_or(Refusal::StepNotFound)?;
        let step = self.steps[index];
        if step.state.reported() == Some(report.progress) {
            return Ok(Outcome::Keep);
        }
        let State::Executing { approval } = &self.state else { return Err(Refusal::InvalidState) };
        let reported = Step {
            number: step.number,
            state: step.state.next(report.progress, now).ok_or(Refusal::InvalidState)?,
            output: report.output.as_ref().map(|_| report.progress).or(step.output),
        };
        let mut record = self.clone();
        record.steps[index] = reported;

        let mut change = Change::new(record, self.step_entry(report, by, now));
        if let Some(output) = &report.output {
            change = change.with_item(output_item(reported.number, report.progress), output.clone());
        }
        if let Some((ended, entry)) = change.record.end(report, approval.as_ref(), by, now) {
            change.record.state = ended;
            change.entries.push(entry);
        }
        Ok(Outcome::Change(change))
    }

    /// The end to which a report about a step has brought an executing remediation, if it has.
    fn end(&self, report: &Report, approval: Option<&Answered>, by: &Actor, now: Timestamp) -> Option<(State, Entry)> {
        let approval = approval.cloned();
        if report.progress == Progress::Failed {
            let data = json!({ "stepId": report.step_id, "failedAt": rfc3339(now) });
            return Some((State::Failed { approval, at: now }, self.event("remediation.failed", by, now, data)));
        }
        let executed = self.steps.iter().all(|step| matches!(step.state, StepState::Completed { .. }));
        executed.then(|| {
            let data = json!({ "executedAt": rfc3339(now) });
            (State::Executed { approval, at: now }, self.event("remediation.executed", by, now, data))
        })
    }

    /// What a caller is told at `now`: one whose deadline has passed is expired, also before the clock records it.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> Status {
        if self.overdue(now) { Status::Expired } else { self.state.status() }
    }

    /// Whether it waits, or waited, for an approval.
    #[must_use]
    pub fn requires_approval(&self) -> bool {
        match &self.state {
            State::Proposed | State::Rejected(_) | State::Expired { .. } => true,
            State::Executing { approval } | State::Executed { approval, .. } | State::Failed { approval, .. } => {
                approval.is_some()
            }
        }
    }

    /// The id of its approval; `None` if it needs none.
    #[must_use]
    pub fn approval_id(&self) -> Option<String> {
        self.requires_approval().then(|| self.id.approval())
    }

    /// From when on its approval cannot be answered; `None` if it needs none.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.requires_approval().then_some(self.expires_at)
    }

    /// What its approval was answered; `None` if it was not.
    #[must_use]
    pub fn answered(&self) -> Option<(Decision, &Answered)> {
        match &self.state {
            State::Proposed | State::Expired { .. } => None,
            State::Executing { approval } | State::Executed { approval, .. } | State::Failed { approval, .. } => {
                Some((Decision::Approve, approval.as_ref()?))
            }
            State::Rejected(answered) => Some((Decision::Reject, answered)),
        }
    }

    /// When its last step was completed; `None` if it is not executed.
    #[must_use]
    pub fn executed_at(&self) -> Option<Timestamp> {
        match &self.state {
            State::Executed { at, .. } => Some(*at),
            State::Proposed
            | State::Executing { .. }
            | State::Failed { .. }
            | State::Rejected(_)
            | State::Expired { .. } => None,
        }
    }

    /// Whether nobody answered and nobody can any more.
    fn overdue(&self, now: Timestamp) -> bool {
        self.due().is_some_and(|deadline| now >= deadline)
    }

    fn step_entry(&self, report: &Report, by: &Actor, now: Timestamp) -> Entry {
        let name = match report.progress {
            Progress::Running => "remediation.step_running",
            Progress::Completed => "remediation.step_completed",
            Progress::Failed => "remediation.step_failed",
        };
        let data = json!({ "stepId": report.step_id, "hasOutput": report.output.is_some() });
        Entry { class: EntryClass::Audit, ..self.event(name, by, now, data) }
    }

    /// A public entry; `data` goes with the ids by which everybody knows the remediation.
    fn event(&self, name: &str, by: &Actor, at: Timestamp, mut data: Value) -> Entry {
        data["approvalId"] = self.approval_id().into();
        data["remediationId"] = self.id.remediation().into();
        data["incidentId"] = self.incident_id.as_str().into();
        Entry {
            name: name.to_owned(),
            class: EntryClass::Public,
            actor: by.clone(),
            at,
            subject: Subject { kind: Self::KIND.to_owned(), id: self.id.remediation() },
            data,
            state: None,
        }
    }
}

impl State {
    fn status(&self) -> Status {
        match self {
            Self::Proposed => Status::Proposed,
            Self::Executing { .. } => Status::Executing,
            Self::Executed { .. } => Status::Executed,
            Self::Failed { .. } => Status::Failed,
            Self::Rejected(_) => Status::Rejected,
            Self::Expired { .. } => Status::Expired,
        }
    }
}

impl Step {
    /// Its id, e.g. `step_7`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("step_{}", self.number)
    }

    /// The name of the item that holds its present output, if it has one: `output#07`, or `output#07.running` if it
    /// came with the report that the step had begun. Each is written once, so that no report overwrites an output.
    #[must_use]
    pub fn output_item(&self) -> Option<String> {
        self.output.map(|progress| output_item(self.number, progress))
    }
}

fn output_item(number: u32, progress: Progress) -> String {
    match progress {
        Progress::Running => format!("output#{number:02}.running"),
        Progress::Completed | Progress::Failed => format!("output#{number:02}"),
    }
}

impl StepState {
    /// The documented word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.reported().map_or("pending", Progress::as_str)
    }

    /// The report that led to it.
    fn reported(self) -> Option<Progress> {
        match self {
            Self::Pending => None,
            Self::Running => Some(Progress::Running),
            Self::Completed { .. } => Some(Progress::Completed),
            Self::Failed { .. } => Some(Progress::Failed),
        }
    }

    /// What it becomes by a report; `None` if that cannot come next.
    fn next(self, progress: Progress, now: Timestamp) -> Option<Self> {
        match (self, progress) {
            (Self::Pending, Progress::Running) => Some(Self::Running),
            (Self::Pending | Self::Running, Progress::Completed) => Some(Self::Completed { at: now }),
            (Self::Pending | Self::Running, Progress::Failed) => Some(Self::Failed { at: now }),
            (Self::Running, Progress::Running)
            | (
                Self::Completed { .. } | Self::Failed { .. },
                Progress::Running | Progress::Completed | Progress::Failed,
            ) => None,
        }
    }
}

impl Record for Remediation {
    const KIND: &'static str = "remediation";
    const SCHEMA: u32 = 1;
    type Refusal = Refusal;

    fn upgrade(_schema: u32, _body: Value) -> Option<Value> {
        None
    }

    fn listing(&self) -> Listing {
        Listing {
            state: Some(self.state.status().as_str()),
            subject: Some(self.incident_id.to_string()),
            ..Listing::at(self.proposed_at)
        }
    }

    fn due(&self) -> Option<Timestamp> {
        (self.state == State::Proposed).then_some(self.expires_at)
    }

    fn tick(&self, now: Timestamp) -> Outcome<Self> {
        if !self.overdue(now) {
            return Outcome::Keep;
        }
        let data = json!({ "expiresAt": rfc3339(self.expires_at) });
        let entry = self.event("remediation.expired", &Actor::Clock, now, data);
        Outcome::Change(Change::new(Self { state: State::Expired { at: now }, ..self.clone() }, entry))
    }
}
