//! The request: something that goes through the stages of a policy until it is approved, rejected or cancelled.
//!
//! A request with its running stages and their tasks is one record. A stage that has ended is moved into an item of its
//! own, in the change that ends it. Who is asked in a stage is found out by the caller: a rule that needs to know it
//! answers with a [`Question`], and is applied again with the answer.

mod law;
mod step;

use crate::callback_secret::SecretId;
use crate::workflow::policy::{Definition, Kind, OnBreach};
use crate::workflow::stage::Count;
use crate::workflow::{MAX_OPENED, Mode, Verdict};
use crate::{Actor, Entry, EntryClass, Listing, Logged, Record, Subject, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_with::skip_serializing_none;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use uuid::Uuid;

/// The name of the item beside the record that holds the context, if there is one.
pub const INPUT: &str = "@input";

/// The most tasks that the stages of a group can have together, with those that were reassigned or have expired.
const MAX_TASKS: usize = 200;

/// A request's id: a UUID of version 8 whose last three bytes are 0. The ids of its tasks have their stage and number
/// there, so that a task is found by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(Uuid);

impl RequestId {
    /// The id with these bytes, of which six bits make room for the version and the variant; nobody else may have the
    /// others.
    #[must_use]
    pub fn new(unique: [u8; 13]) -> Self {
        let mut bytes = [0; 16];
        bytes[..13].copy_from_slice(&unique);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// The id of one of its tasks.
    #[must_use]
    pub fn task(self, id: TaskId) -> Uuid {
        let mut bytes = self.0.into_bytes();
        let [high, low] = id.number.to_be_bytes();
        bytes[13..].copy_from_slice(&[id.stage, high, low]);
        Uuid::from_bytes(bytes)
    }
}

/// A task of a request: the place of its stage in the policy, and its number among all tasks of that stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    /// The place of its stage in the policy; the first one's is 0.
    pub stage: u8,
    /// Its number in the stage; the first one's is 1.
    pub number: u16,
}

impl TaskId {
    /// The request that a task belongs to, and which of its tasks that is.
    #[must_use]
    pub fn read(id: Uuid) -> (RequestId, Self) {
        let mut bytes = id.into_bytes();
        let task = Self { stage: bytes[13], number: u16::from_be_bytes([bytes[14], bytes[15]]) };
        bytes[13..].fill(0);
        (RequestId(Uuid::from_bytes(bytes)), task)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RequestId {
    type Err = uuid::Error;

    fn from_str(id: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(id).map(Self)
    }
}

/// A request, without its context and the stages that have ended.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// The policy version that it is bound to.
    pub policy: Bound,
    /// The kind of thing that it is about.
    pub artifact_type: String,
    /// The thing.
    pub artifact_id: String,
    /// Who made it, by the token.
    pub source_service: String,
    /// In whose name.
    pub requester: String,
    /// Who is told of its events.
    pub callback: Option<Callback>,
    /// How far it is.
    pub status: Status,
    /// The smallest order of the stages that were started last.
    pub current_stage_order: u32,
    /// The stages that run now, in order; once the request has ended, those that ran then.
    pub running: Vec<Running>,
    /// The stages that ended before, in the order in which they did.
    pub ended: Vec<Ended>,
    /// The places in the policy at which the groups begin that have not begun.
    pub ahead: Vec<usize>,
    /// Who has approved in an earlier group, if the policy forbids to do so again.
    pub approvers: BTreeSet<String>,
    /// Who has approved in the group that runs, likewise.
    pub approving: BTreeSet<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
}

/// The version of a policy that a request is bound to, with what each step of it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The policy's key.
    pub key: String,
    /// The version's number.
    pub version: u32,
    /// The version's id.
    pub id: Uuid,
    /// The name of the item that holds what it says.
    pub item: String,
    /// Whether nobody approves what they asked for.
    pub forbid_self_approval: bool,
    /// Whether nobody approves in two groups of stages.
    pub forbid_repeat_approvers: bool,
}

/// Who is told of a request's events.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callback {
    /// The URL that is called.
    pub url: String,
    /// The registered secret that signs; `None` for the default one.
    pub secret: Option<SecretId>,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It has not begun; only inside the change that makes it.
    Pending,
    /// A stage waits for its approvers.
    InReview,
    /// Every stage was approved or skipped; for ever.
    Approved,
    /// A stage was rejected; for ever.
    Rejected,
    /// Somebody has called it off; for ever.
    Cancelled,
}

impl Status {
    /// The documented word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InReview => "in_review",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing can happen any more.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Pending | Self::InReview => false,
            Self::Approved | Self::Rejected | Self::Cancelled => true,
        }
    }
}

/// A stage that waits for its approvers.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its place in the policy.
    pub place: u8,
    /// Its id in the policy.
    pub id: Uuid,
    /// Its order in the policy.
    pub order: u32,
    /// How many have to agree.
    pub mode: Mode,
    /// The number that goes with the mode.
    pub mode_value: Option<u32>,
    /// How long approvers have, in hours.
    pub sla_hours: Option<u32>,
    /// What happens when they are late.
    pub on_breach: OnBreach,
    /// Whether that has happened.
    pub breached: bool,
    /// Its tasks, in the order of their numbers.
    pub tasks: Vec<Task>,
}

/// A stage that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its place in the policy.
    pub place: u8,
    /// How many tasks it has had, which are in the item [`Ended::item`].
    pub tasks: u16,
}

impl Ended {
    /// The name of the item that holds the stage, a [`Running`], as it was when it ended.
    #[must_use]
    pub fn item(&self) -> String {
        format!("stage#{:02}", self.place)
    }
}

/// What somebody is asked in a stage.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its number in the stage.
    pub number: u16,
    /// Who is asked.
    pub assignee: String,
    /// For what.
    pub kind: Kind,
    /// Whether the stage cannot be approved without them.
    pub required: bool,
    /// Who was to be asked, and has delegated it.
    pub delegated_from: Option<String>,
    /// Who was asked before.
    pub reassigned_from: Option<String>,
    /// Until when they are to decide.
    pub due_at: Option<Timestamp>,
    /// Whether the world was told that they are late.
    pub late: bool,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When its assignee took it on.
    pub claimed_at: Option<Timestamp>,
    /// What has become of it.
    pub state: TaskState,
}

/// What has become of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum TaskState {
    /// It waits.
    Open,
    /// It waits, and its assignee has said that they are at it.
    Claimed,
    /// It was decided.
    Completed {
        /// The decision's id.
        decision: Uuid,
        /// What was decided.
        action: Action,
        /// When.
        at: Timestamp,
    },
    /// Its stage ended without it.
    Skipped {
        /// When.
        at: Timestamp,
    },
    /// Others were asked, because its assignee was late.
    Expired {
        /// When.
        at: Timestamp,
    },
    /// Somebody else was asked instead.
    Reassigned {
        /// When.
        at: Timestamp,
    },
}

impl TaskState {
    /// The documented word.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Claimed => "claimed",
            Self::Completed { .. } => "completed",
            Self::Skipped { .. } => "skipped",
            Self::Expired { .. } => "expired",
            Self::Reassigned { .. } => "reassigned",
        }
    }

    /// When it was closed.
    #[must_use]
    pub fn closed_at(&self) -> Option<Timestamp> {
        match self {
            Self::Open | Self::Claimed => None,
            Self::Completed { at, .. } | Self::Skipped { at } | Self::Expired { at } | Self::Reassigned { at } => {
                Some(*at)
            }
        }
    }
}

impl Task {
    /// Whether it waits to be decided.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        match self.state {
            TaskState::Open | TaskState::Claimed => true,
            TaskState::Completed { .. }
            | TaskState::Skipped { .. }
            | TaskState::Expired { .. }
            | TaskState::Reassigned { .. } => false,
        }
    }

    /// Whether nobody else was asked in its place.
    pub(super) fn counts(&self) -> bool {
        match self.state {
            TaskState::Open | TaskState::Claimed | TaskState::Completed { .. } | TaskState::Skipped { .. } => true,
            TaskState::Expired { .. } | TaskState::Reassigned { .. } => false,
        }
    }

    pub(super) fn is_approver(&self) -> bool {
        self.kind == Kind::Approver
    }

    fn is_overdue(&self, now: Timestamp) -> bool {
        self.is_approver() && self.is_pending() && self.due_at.is_some_and(|due| due <= now)
    }
}

/// What can be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// To agree.
    Approve,
    /// To disagree.
    Reject,
    /// Neither.
    Abstain,
}

impl Action {
    /// Reads the documented word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        [Self::Approve, Self::Reject, Self::Abstain].into_iter().find(|action| action.as_str() == word)
    }

    /// The documented word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Abstain => "abstain",
        }
    }
}

/// What a rule has to know that is not in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// Who is asked in the group of stages that begins at this place of the policy.
    Group(usize),
    /// Who is asked when approvers of the stage at this place are late.
    Escalation(usize),
}

/// What was found out for a rule.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// What the request's policy version says.
    pub definition: Option<Arc<Definition>>,
    /// Who is asked in groups of stages, by the place where each begins: for each stage of it, in order.
    pub groups: HashMap<usize, Vec<Asked>>,
    /// Who is asked when approvers of a stage are late, by its place.
    pub escalations: HashMap<usize, Asked>,
    /// To whom the new tasks of those who are asked go, where not to themselves.
    pub delegates: HashMap<String, String>,
}

/// Who is asked in a stage, before anyone is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Whether the stage is skipped, for this context.
    pub skipped: bool,
    /// Who is to decide, in the order of the rules; nobody twice.
    pub approvers: Vec<Approver>,
    /// Who is to take note, in the order of the rules; nobody twice.
    pub observers: Vec<String>,
}

/// Somebody who is to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approver {
    /// Who.
    pub user: String,
    /// Whether the stage cannot be approved without them.
    pub required: bool,
}

/// What a request is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct New {
    /// Its id.
    pub id: RequestId,
    /// The policy version that it is bound to.
    pub policy: Bound,
    /// The kind of thing that it is about.
    pub artifact_type: String,
    /// The thing.
    pub artifact_id: String,
    /// Who makes it.
    pub source_service: String,
    /// In whose name.
    pub requester: String,
    /// What its rules may look at, a JSON object.
    pub context: Value,
    /// Who is told of its events.
    pub callback: Option<Callback>,
}

/// A decision about a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Its id.
    pub id: Uuid,
    /// What is decided.
    pub action: Action,
    /// Why.
    pub comment: Option<String>,
    /// Where what goes with it is found.
    pub attachments_ref: Option<String>,
}

/// Who does something to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// As entries name them; the name is compared with those of assignees.
    pub actor: Actor,
    /// As they are shown in the audit log.
    pub email: Option<String>,
    /// Whether they may act for others.
    pub is_admin: bool,
}

/// Why the law says no, or what it has to know first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The tenant has no such request.
    #[error("there is no request with this id")]
    NotFound,
    /// The request has no such task.
    #[error("there is no task with this id")]
    TaskNotFound,
    /// The task is somebody else's.
    #[error("this task is assigned to somebody else")]
    NotTheAssignee,
    /// The policy forbids the one who acts to approve here.
    #[error("the policy's separation of duties excludes {0} from this stage")]
    Excluded(String),
    /// The policy forbids the one who is to have the task to approve here.
    #[error("the policy's separation of duties excludes {0} from this stage")]
    AssigneeExcluded(String),
    /// The request has ended.
    #[error("the request is {}", .0.as_str())]
    Ended(Status),
    /// The task is closed, or not open where it has to be.
    #[error("the task is {0}")]
    TaskIs(&'static str),
    /// It would stay where it is.
    #[error("the task is assigned to {0} already")]
    SameAssignee(String),
    /// Nobody has two votes.
    #[error("{0} has a task of this stage already")]
    HasTask(String),
    /// Tasks have gone through too many hands.
    #[error("the stages of a group can have at most {MAX_TASKS} tasks together")]
    TooManyEver,
    /// The stage has ended, and what has become of the task stands in its item.
    #[error("the stage has ended")]
    StageEnded(Ended),
    /// They could not be written in one transaction.
    #[error("stage {stage:?} would open {tasks} tasks, and one step can open at most {MAX_OPENED}")]
    TooManyTasks {
        /// The stage, or the first one of its group.
        stage: String,
        /// How many, all stages of a group together.
        tasks: usize,
    },
    /// The rule is to be applied again with the answer to this.
    #[error("who is asked is not known yet")]
    Ask(Question),
}

/// The assignees' inbox of tasks, of this one.
#[must_use]
pub fn inbox(assignee: &str) -> String {
    format!("task:{assignee}")
}

impl Request {
    /// A task of a stage in the record.
    #[must_use]
    pub fn task(&self, id: TaskId) -> Option<&Task> {
        self.stage_at(id.stage)?.task(id.number)
    }

    /// The tasks that wait, in the order of their stages.
    pub fn pending_tasks(&self) -> impl Iterator<Item = (&Running, &Task)> {
        let tasks = self.running.iter().flat_map(|stage| stage.tasks.iter().map(move |task| (stage, task)));
        tasks.filter(|(_, task)| task.is_pending())
    }

    fn stage_at(&self, place: u8) -> Option<&Running> {
        self.running.iter().find(|stage| stage.place == place)
    }

    /// Whether separation of duties keeps this person from approving in the group of stages that runs.
    fn excludes(&self, user: &str) -> bool {
        (self.policy.forbid_self_approval && user == self.requester) || self.approvers.contains(user)
    }

    /// A stage that is decided, though the request has not gone on: others were asked, and there are enough approvals
    /// without those that were late.
    fn decided_stage(&self) -> Option<&Running> {
        self.running.iter().find(|stage| stage.verdict() != Verdict::Open)
    }

    fn entry(&self, name: &str, class: EntryClass, actor: &Actor, at: Timestamp, data: Value) -> Entry {
        let subject = Subject { kind: Self::KIND.to_owned(), id: self.id.to_string() };
        Entry { name: name.to_owned(), class, actor: actor.clone(), at, subject, data, state: None }
    }
}

impl Running {
    /// A task of this stage.
    #[must_use]
    pub fn task(&self, number: u16) -> Option<&Task> {
        self.tasks.get(usize::from(number).checked_sub(1)?)
    }

    /// What its decisions have come to.
    fn verdict(&self) -> Verdict {
        Count::of(&self.tasks).verdict(self.mode, self.mode_value)
    }
}

/// The entry of a decision about a task.
pub const DECIDED: &str = "task.decided";
/// The entry of a task that its assignee took on.
pub const CLAIMED: &str = "task.claimed";
/// The entry of tasks that were closed together; whoever tells the world tidies their pointers.
pub const CLOSED: &str = "tasks.closed";
/// The entry of a request that was called off, with who did so.
pub const CANCELLED: &str = "request.cancel";
/// The entry of a task that somebody else was given, with who did so.
pub const REASSIGNED: &str = "task.reassign";

impl Record for Request {
    const KIND: &'static str = "request";
    const SCHEMA: u32 = 1;
    type Refusal = Refusal;

    fn upgrade(_schema: u32, _body: Value) -> Option<Value> {
        None
    }

    fn listing(&self) -> Listing {
        let subject = Some(self.artifact_id.clone());
        Listing { state: Some(self.status.as_str()), subject, ..Listing::at(self.created_at) }
    }

    fn due(&self) -> Option<Timestamp> {
        if self.status.is_terminal() {
            return None;
        }
        let late = self.pending_tasks().filter(|(_, task)| task.is_approver() && !task.late);
        let late = late.filter_map(|(_, task)| task.due_at).min();
        if self.decided_stage().is_some() { Some(self.updated_at) } else { late }
    }

    fn logged(entry: &Entry) -> Option<Logged> {
        let by = || Some(entry.actor.name().to_owned());
        [CANCELLED, REASSIGNED].contains(&entry.name.as_str()).then(|| Logged { name: entry.name.clone(), by: by() })
    }
}
