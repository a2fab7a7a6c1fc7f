//! Policies: which stages a request goes through, in versions of which at most one is active.
//!
//! The record of a policy names its versions and says which one is active. What a version says is an item beside it,
//! written once for each edit; so a request that is bound to a version always finds what it was bound to.

use crate::logic::Logic;
use crate::workflow::{Editor, MAX_OPENED, MAX_STAGES, Mode};
use crate::{Change, Entry, EntryClass, Listing, Logged, Outcome, Record, Subject, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// The most versions of a policy.
pub const MAX_VERSIONS: usize = 1000;
/// The most that they may take together, in bytes as the policy is stored.
const MAX_BYTES: usize = 300_000;

/// A policy: its versions, oldest first, without what they say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Its key, by which requests name it.
    pub key: String,
    /// When its first version was made.
    pub created_at: Timestamp,
    /// Its versions; the first one's number is 1.
    pub versions: Vec<Version>,
    /// The number of the active one.
    pub active: Option<u32>,
}

/// A version of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its id.
    pub id: Uuid,
    /// Whether it was ever active: then it is never edited.
    pub released: bool,
    /// How often it was edited.
    pub edits: u32,
    /// Who wrote what it says now.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was edited, activated or archived last.
    pub updated_at: Timestamp,
}

/// Where a version is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// It can be edited, and no request is bound to it.
    Draft,
    /// New requests are bound to it.
    Active,
    /// It was active before.
    Archived,
}

impl Status {
    /// The documented word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Active => "active",
            Self::Archived => "archived",
        }
    }
}

/// What a version says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Which kind of thing it is meant for; requests about others may name it, too.
    pub artifact_type: String,
    /// Whether nobody approves what they asked for.
    pub forbid_self_approval: bool,
    /// Whether nobody approves in two groups of stages.
    pub forbid_repeat_approvers: bool,
    /// Its stages, in their order.
    pub stages: Vec<Stage>,
}

/// A stage of a policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Its id.
    pub id: Uuid,
    /// What it is called.
    pub name: String,
    /// Its place, not necessarily the next one after the stage before.
    pub order: u32,
    /// How many have to agree.
    pub mode: Mode,
    /// The number that goes with the mode.
    pub mode_value: Option<u32>,
    /// How long its approvers have, in hours.
    pub sla_hours: Option<u32>,
    /// When it is skipped; as written, also the empty object that never is true.
    pub skip_if: Option<Logic>,
    /// What happens if nobody can approve it.
    pub on_empty: OnEmpty,
    /// Neighbours with the same number are decided at the same time.
    pub parallel_group: Option<i32>,
    /// What happens when its approvers are late.
    pub on_breach: Option<OnBreach>,
    /// Who is asked then, if that is to escalate.
    pub escalation_rules: Vec<Rule>,
    /// Who is asked.
    pub rules: Vec<Rule>,
}

/// What happens if nobody can approve a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnEmpty {
    /// The stage is passed over.
    Skip,
    /// The request is rejected.
    Block,
}

/// What happens when approvers are late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBreach {
    /// The world is told; they can still decide.
    Notify,
    /// Whoever has not decided approves.
    AutoApprove,
    /// Whoever has not decided rejects.
    AutoReject,
    /// Others are asked.
    Escalate,
}

macro_rules! words {
    ($($name:ident { $($variant:ident => $word:literal),* })*) => { $(
        impl $name {
            /// Reads the documented word.
            #[must_use]
            pub fn named(word: &str) -> Option<Self> {
                [$(Self::$variant),*].into_iter().find(|value| value.as_str() == word)
            }

            /// The documented word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
    )* };
}
words! {
    OnEmpty { Skip => "skip", Block => "block" }
    OnBreach {
        Notify => "notify", AutoApprove => "auto_approve", AutoReject => "auto_reject", Escalate => "escalate"
    }
    Kind { Approver => "approver", Observer => "observer" }
    RuleType { User => "user", Role => "role", Group => "group", Expression => "expression", Http => "http" }
}

/// What somebody is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// To decide.
    Approver,
    /// To take note.
    Observer,
}

/// A way to say who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleType {
    /// By name.
    User,
    /// Whoever has a role.
    Role,
    /// Whoever is in a group.
    Group,
    /// Whoever the request's context says.
    Expression,
    /// Whoever a service says.
    Http,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Rule {
    /// Its id.
    pub id: Uuid,
    /// For what.
    pub kind: Kind,
    /// Whether each of them has to approve.
    pub required: bool,
    /// Who, as it was written.
    pub value: Map<String, Value>,
    /// Who.
    pub who: Who,
}

/// Who is asked, in the five ways to say it.
#[derive(Clone, Debug, PartialEq)]
pub enum Who {
    /// A user.
    User(String),
    /// The members of a role.
    Role {
        /// The role.
        role: String,
        /// The client that it is a role of; `None` if it is one of the realm's.
        client: Option<String>,
    },
    /// The members of the group with this path.
    Group(String),
    /// Those that the expression names for the request's context.
    Expression(Logic),
    /// Those that the service at this URL names for the request's context.
    Http(String),
}

/// Why a rule says nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidRule {
    /// The key of the rule's value that is wrong.
    pub key: &'static str,
    /// How.
    pub message: String,
}

impl Rule {
    /// Reads what a rule says.
    ///
    /// # Errors
    /// What its type needs is missing or ill-formed.
    pub fn new(
        id: Uuid,
        rule_type: RuleType,
        value: Map<String, Value>,
        kind: Kind,
        required: bool,
    ) -> Result<Self, InvalidRule> {
        let wrong = |key, message: &str| InvalidRule { key, message: message.to_owned() };
        let text = |key: &'static str| match value.get(key) {
            None => Err(wrong(key, "is required")),
            Some(Value::String(text)) if !text.is_empty() && !text.contains('\0') => Ok(text.clone()),
            Some(_) => Err(wrong(key, "must be text that is not empty")),
        };
        let who = match rule_type {
            RuleType::User => {
                let user = text("user_id")?;
                if user.chars().count() > crate::workflow::MAX_NAME {
                    return Err(wrong("user_id", "must have at most 128 characters"));
                }
                Who::User(user)
            }
            RuleType::Role => {
                let client = match value.get("client") {
                    None | Some(Value::Null) => None,
                    Some(_) => Some(text("client")?),
                };
                Who::Role { role: text("role")?, client }
            }
            RuleType::Group => Who::Group(text("group")?),
            RuleType::Expression => {
                let logic = value.get("logic").ok_or_else(|| wrong("logic", "is required"))?;
                let logic = Logic::parse(logic.clone());
                Who::Expression(logic.map_err(|error| wrong("logic", &format!("cannot be evaluated: {error}")))?)
            }
            RuleType::Http => Who::Http(text("url")?),
        };
        Ok(Self { id, kind, required: required && kind == Kind::Approver, value, who })
    }

    /// In which way it says who.
    #[must_use]
    pub fn rule_type(&self) -> RuleType {
        match self.who {
            Who::User(_) => RuleType::User,
            Who::Role { .. } => RuleType::Role,
            Who::Group(_) => RuleType::Group,
            Who::Expression(_) => RuleType::Expression,
            Who::Http(_) => RuleType::Http,
        }
    }
}

/// A rule as it is stored.
#[derive(Serialize, Deserialize)]
struct Written {
    id: Uuid,
    rule_type: RuleType,
    value: Map<String, Value>,
    kind: Kind,
    required: bool,
}

impl TryFrom<Written> for Rule {
    type Error = InvalidRule;

    fn try_from(written: Written) -> Result<Self, InvalidRule> {
        Self::new(written.id, written.rule_type, written.value, written.kind, written.required)
    }
}

impl From<Rule> for Written {
    fn from(rule: Rule) -> Self {
        let rule_type = rule.rule_type();
        Self { id: rule.id, rule_type, value: rule.value, kind: rule.kind, required: rule.required }
    }
}

/// Why stages make no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDefinition {
    /// Two stages are at the same place.
    #[error("two stages have the stage_order {0}")]
    SameOrder(u32),
    /// Stages that are to be decided at the same time are not next to each other.
    #[error("the stages of parallel_group {0} are not neighbours")]
    Apart(i32),
    /// There are too many.
    #[error("a policy has at most {MAX_STAGES} stages")]
    TooMany,
}

impl Definition {
    /// Puts the stages in order.
    ///
    /// # Errors
    /// They make no policy.
    pub fn ordered(mut self) -> Result<Self, InvalidDefinition> {
        if self.stages.len() > MAX_STAGES {
            return Err(InvalidDefinition::TooMany);
        }
        self.stages.sort_by_key(|stage| stage.order);
        if let Some(pair) = self.stages.windows(2).find(|pair| pair[0].order == pair[1].order) {
            return Err(InvalidDefinition::SameOrder(pair[0].order));
        }
        let numbers: Vec<i32> = self.groups().filter_map(|(_, group)| group.first()?.parallel_group).collect();
        let repeated = numbers.iter().enumerate().find(|(place, number)| numbers[..*place].contains(number));
        match repeated {
            Some((_, number)) => Err(InvalidDefinition::Apart(*number)),
            None => Ok(self),
        }
    }

    /// The stages that are decided at the same time, each group with the place of its first stage.
    pub fn groups(&self) -> impl Iterator<Item = (usize, &[Stage])> {
        let together =
            |one: &Stage, next: &Stage| one.parallel_group.is_some() && one.parallel_group == next.parallel_group;
        self.stages.chunk_by(together).scan(0, |place, group| {
            let first = *place;
            *place += group.len();
            Some((first, group))
        })
    }

    /// The group that begins at this place.
    #[must_use]
    pub fn group(&self, first: usize) -> Option<&[Stage]> {
        self.groups().find(|(place, _)| *place == first).map(|(_, group)| group)
    }
}

/// Why the law says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The tenant has no such policy, or it has no such version.
    #[error("there is no such policy version")]
    NotFound,
    /// There is a policy with this key.
    #[error("a policy with this key exists already; add a version to it")]
    Exists,
    /// Only drafts are edited.
    #[error("this version is {}, and only drafts can be edited", .0.as_str())]
    NotDraft(Status),
    /// Only what is active is deactivated.
    #[error("this version is {}, not active", .0.as_str())]
    NotActive(Status),
    /// There are too many versions.
    #[error("a policy has at most {MAX_VERSIONS} versions, and fewer with long names of their editors")]
    TooManyVersions,
}

impl Policy {
    /// Makes a policy with its first version, a draft.
    ///
    /// # Errors
    /// There is one with this key.
    pub fn create(
        found: Option<&Self>,
        key: &str,
        id: Uuid,
        definition: &Definition,
        by: &Editor,
        now: Timestamp,
    ) -> Result<Change<Self>, Refusal> {
        if found.is_some() {
            return Err(Refusal::Exists);
        }
        let policy = Self { key: key.to_owned(), created_at: now, versions: Vec::new(), active: None };
        policy.with_version(CREATED, id, definition, by, now)
    }

    /// Adds a version, a draft.
    ///
    /// # Errors
    /// There are too many.
    pub fn add_version(
        &self,
        id: Uuid,
        definition: &Definition,
        by: &Editor,
        now: Timestamp,
    ) -> Result<Change<Self>, Refusal> {
        self.clone().with_version(ADDED, id, definition, by, now)
    }

    fn with_version(
        mut self,
        name: &str,
        id: Uuid,
        definition: &Definition,
        by: &Editor,
        now: Timestamp,
    ) -> Result<Change<Self>, Refusal> {
        self.versions.push(Version {
            id,
            released: false,
            edits: 0,
            created_by: by.actor.name().to_owned(),
            created_at: now,
            updated_at: now,
        });
        let fits = serde_json::to_string(&self).is_ok_and(|text| text.len() <= MAX_BYTES);
        if self.versions.len() > MAX_VERSIONS || !fits {
            return Err(Refusal::TooManyVersions);
        }
        let number = self.newest();
        Ok(self.written(name, number, None, definition, by, now))
    }

    /// Replaces what a draft says.
    ///
    /// # Errors
    /// There is no such version, or it is no draft.
    pub fn edit(
        &self,
        number: u32,
        definition: &Definition,
        by: &Editor,
        now: Timestamp,
    ) -> Result<Change<Self>, Refusal> {
        match self.status(number).ok_or(Refusal::NotFound)? {
            Status::Draft => {}
            status @ (Status::Active | Status::Archived) => return Err(Refusal::NotDraft(status)),
        }
        let mut policy = self.clone();
        policy.touch(number, now, |version| {
            version.edits += 1;
            by.actor.name().clone_into(&mut version.created_by);
        });
        Ok(policy.written(EDITED, number, Some(Status::Draft), definition, by, now))
    }

    /// Binds new requests to a version; the one before is archived.
    ///
    /// # Errors
    /// There is no such version.
    pub fn activate(&self, number: u32, by: &Editor, now: Timestamp) -> Result<Outcome<Self>, Refusal> {
        let status = match self.status(number).ok_or(Refusal::NotFound)? {
            Status::Active => return Ok(Outcome::Keep),
            status @ (Status::Draft | Status::Archived) => status,
        };
        let mut policy = self.clone();
        if let Some(before) = self.active {
            policy.touch(before, now, |_| {});
        }
        policy.touch(number, now, |version| version.released = true);
        policy.active = Some(number);
        let replaced = json!({ "replaces_version": self.active });
        let entry = policy.entry(ACTIVATED, number, Some(status), by, now, replaced);
        Ok(Outcome::Change(Change::new(policy, entry)))
    }

    /// Archives the active version; no request can be made until one is activated.
    ///
    /// # Errors
    /// There is no such version, or it is not active.
    pub fn deactivate(&self, number: u32, by: &Editor, now: Timestamp) -> Result<Change<Self>, Refusal> {
        match self.status(number).ok_or(Refusal::NotFound)? {
            Status::Active => {}
            status @ (Status::Draft | Status::Archived) => return Err(Refusal::NotActive(status)),
        }
        let mut policy = self.clone();
        policy.touch(number, now, |_| {});
        policy.active = None;
        let entry = policy.entry(DEACTIVATED, number, Some(Status::Active), by, now, Value::Null);
        Ok(Change::new(policy, entry))
    }

    /// The number of its newest version.
    #[must_use]
    pub fn newest(&self) -> u32 {
        u32::try_from(self.versions.len()).unwrap_or(u32::MAX)
    }

    /// A version, by its number.
    #[must_use]
    pub fn version(&self, number: u32) -> Option<&Version> {
        self.versions.get(place(number)?)
    }

    /// Where a version is in its life.
    #[must_use]
    pub fn status(&self, number: u32) -> Option<Status> {
        let version = self.version(number)?;
        Some(match version.released {
            _ if self.active == Some(number) => Status::Active,
            true => Status::Archived,
            false => Status::Draft,
        })
    }

    /// The name of the item that holds what a version says, a [`Definition`].
    #[must_use]
    pub fn item(&self, number: u32) -> Option<String> {
        let version = self.version(number)?;
        Some(format!("version#{number:04}.{:010}", version.edits))
    }

    fn touch(&mut self, number: u32, now: Timestamp, edit: impl FnOnce(&mut Version)) {
        if let Some(version) = place(number).and_then(|place| self.versions.get_mut(place)) {
            edit(version);
            version.updated_at = now;
        }
    }

    fn written(
        self,
        name: &str,
        number: u32,
        before: Option<Status>,
        definition: &Definition,
        by: &Editor,
        now: Timestamp,
    ) -> Change<Self> {
        let body = serde_json::to_string(definition);
        let Ok(body) = body else { unreachable!("texts, numbers and JSON values can always be written") };
        let item = self.item(number).unwrap_or_default();
        let content = json!({ "name": definition.name, "stages": definition.stages.len() });
        let entry = self.entry(name, number, before, by, now, content);
        Change::new(self, entry).with_item(item, body)
    }

    fn entry(
        &self,
        name: &str,
        number: u32,
        before: Option<Status>,
        by: &Editor,
        at: Timestamp,
        metadata: Value,
    ) -> Entry {
        let shown = |status: Option<Status>| status.map(|status| json!({ "status": status.as_str() }));
        Entry {
            name: name.to_owned(),
            class: EntryClass::Audit,
            actor: by.actor.clone(),
            at,
            subject: Subject { kind: Self::KIND.to_owned(), id: format!("{}:v{number}", self.key) },
            data: json!({
                "actor_email": by.email,
                "before": shown(before),
                "after": shown(self.status(number)),
                "metadata": metadata,
            }),
            state: None,
        }
    }
}

/// The entry of a policy's first version.
pub const CREATED: &str = "policy.create";
/// The entry of another version.
pub const ADDED: &str = "policy.add_version";
/// The entry of a draft's new content.
pub const EDITED: &str = "policy.update";
/// The entry of a version that new requests are bound to.
pub const ACTIVATED: &str = "policy.activate";
/// The entry of a version that they are no longer bound to.
pub const DEACTIVATED: &str = "policy.deactivate";

fn place(number: u32) -> Option<usize> {
    usize::try_from(number.checked_sub(1)?).ok()
}

impl Record for Policy {
    const KIND: &'static str = "policy";
    const SCHEMA: u32 = 1;
    type Refusal = Refusal;

    fn upgrade(_schema: u32, _body: Value) -> Option<Value> {
        None
    }

    fn listing(&self) -> Listing {
        Listing::at(self.created_at)
    }

    fn logged(entry: &Entry) -> Option<Logged> {
        Some(Logged { name: entry.name.clone(), by: Some(entry.actor.name().to_owned()) })
    }
}

const _: () = assert!(MAX_STAGES <= MAX_OPENED, "a group of stages with one approver each fits into one step");
