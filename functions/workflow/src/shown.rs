//! What callers see: policies, requests, tasks, decisions and events, field by field as documented.

use crate::words::{
    ActionWord, KindWord, ModeWord, OnBreachWord, OnEmptyWord, RequestStatus, RuleTypeWord, TaskStatus, VersionStatus,
};
use countersign_domain::event::Source;
use countersign_domain::workflow::delegation::{Delegation, Delegations};
use countersign_domain::workflow::policy::{Definition, Policy, Rule, Stage};
use countersign_domain::workflow::request::{Request, Running, Task, TaskId, TaskState};
use countersign_domain::{Entry, Tenant, rfc3339_micros};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

/// A version of a policy.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PolicyOut<'a> {
    /// The version's id.
    id: Uuid,
    #[schema(example = "registry.change_request.v1")]
    policy_key: &'a str,
    /// From 1 on, by one for each version of the key.
    version: u32,
    name: &'a str,
    description: Option<&'a str>,
    #[schema(value_type = VersionStatus)]
    status: &'static str,
    /// What its requests are about; for people only, it is not compared with theirs.
    artifact_type: &'a str,
    /// Whether the requester may not approve.
    forbid_self_approval: bool,
    /// Whether nobody approves in more than one stage of a request.
    forbid_repeat_approvers: bool,
    /// Who wrote it last, by the `sub` of the token.
    #[schema(value_type = Option<String>)]
    created_by: &'a str,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    /// In their order.
    stages: Vec<StageOut<'a>>,
}

/// A stage of a policy.
#[derive(Debug, Serialize, ToSchema)]
struct StageOut<'a> {
    name: &'a str,
    #[schema(minimum = 1)]
    stage_order: u32,
    #[schema(value_type = ModeWord)]
    mode: &'static str,
    /// How many approvals `any-n` and `quorum` need, 1 if null; how many percent `percentage` needs, 100 if null.
    #[schema(minimum = 1)]
    mode_value: Option<u32>,
    /// How long its tasks may take; null is without end.
    #[schema(minimum = 1)]
    sla_hours: Option<u32>,
    /// JSONLogic about the context of a request: the stage is left out where it is true.
    #[schema(value_type = Option<Object>)]
    skip_if: Option<Value>,
    #[schema(value_type = OnEmptyWord)]
    on_empty: &'static str,
    /// Neighbours with the same number run at the same time.
    parallel_group: Option<i32>,
    #[schema(value_type = Option<OnBreachWord>)]
    on_breach: Option<&'static str>,
    /// Who is asked in addition when the stage is late and `on_breach` is `escalate`.
    escalation_rules: Vec<RuleOut<'a>>,
    /// Who is asked.
    rules: Vec<RuleOut<'a>>,
    id: Uuid,
}

/// A rule that says who is asked.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApproverRuleOut)]
struct RuleOut<'a> {
    #[schema(value_type = RuleTypeWord)]
    rule_type: &'static str,
    /// As it was written.
    #[schema(value_type = Object, example = json!({ "role": "district-officer" }))]
    rule_value: &'a Map<String, Value>,
    #[schema(value_type = KindWord)]
    kind: &'static str,
    /// Whether the stage needs the approval of each of these.
    required: bool,
    id: String,
}

impl<'a> PolicyOut<'a> {
    /// A version that the policy has.
    pub(crate) fn new(policy: &'a Policy, number: u32, definition: &'a Definition) -> Option<Self> {
        let version = policy.version(number)?;
        Some(Self {
            id: version.id,
            policy_key: &policy.key,
            version: number,
            name: &definition.name,
            description: definition.description.as_deref(),
            status: policy.status(number)?.as_str(),
            artifact_type: &definition.artifact_type,
            forbid_self_approval: definition.forbid_self_approval,
            forbid_repeat_approvers: definition.forbid_repeat_approvers,
            created_by: &version.created_by,
            created_at: rfc3339_micros(version.created_at),
            updated_at: rfc3339_micros(version.updated_at),
            stages: definition.stages.iter().map(StageOut::new).collect(),
        })
    }
}

impl<'a> StageOut<'a> {
    fn new(stage: &'a Stage) -> Self {
        let escalation = |(place, rule)| RuleOut::new(rule, format!("esc-{}-{place}", stage.id));
        Self {
            name: &stage.name,
            stage_order: stage.order,
            mode: stage.mode.as_str(),
            mode_value: stage.mode_value,
            sla_hours: stage.sla_hours,
            skip_if: stage.skip_if.clone().map(Value::from),
            on_empty: stage.on_empty.as_str(),
            parallel_group: stage.parallel_group,
            on_breach: stage.on_breach.map(|on_breach| on_breach.as_str()),
            escalation_rules: stage.escalation_rules.iter().enumerate().map(escalation).collect(),
            rules: stage.rules.iter().map(|rule| RuleOut::new(rule, rule.id.to_string())).collect(),
            id: stage.id,
        }
    }
}

impl<'a> RuleOut<'a> {
    fn new(rule: &'a Rule, id: String) -> Self {
        Self {
            rule_type: rule.rule_type().as_str(),
            rule_value: &rule.value,
            kind: rule.kind.as_str(),
            required: rule.required,
            id,
        }
    }
}

/// A version of a policy, without what it says.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PolicyVersionOut<'a> {
    /// The version's id.
    id: Uuid,
    policy_key: &'a str,
    version: u32,
    #[schema(value_type = VersionStatus)]
    status: &'static str,
    #[schema(format = DateTime)]
    created_at: String,
}

impl<'a> PolicyVersionOut<'a> {
    /// All versions of a policy, newest first.
    pub(crate) fn all(policy: &'a Policy) -> Vec<Self> {
        let one = |number| {
            let version = policy.version(number)?;
            Some(Self {
                id: version.id,
                policy_key: &policy.key,
                version: number,
                status: policy.status(number)?.as_str(),
                created_at: rfc3339_micros(version.created_at),
            })
        };
        (1..=policy.newest()).rev().filter_map(one).collect()
    }
}

/// A request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RequestOut<'a> {
    #[schema(format = Uuid)]
    id: String,
    /// The id of the version that it goes through, to its end.
    policy_id: Uuid,
    policy_key: &'a str,
    policy_version: u32,
    artifact_type: &'a str,
    artifact_id: &'a str,
    /// Who made it, by the `sub` of the token.
    source_service: &'a str,
    /// For whom.
    #[schema(value_type = Option<String>)]
    requester: &'a str,
    /// What its stages and rules look at; it never changes.
    #[schema(value_type = Object)]
    context: &'a Value,
    #[schema(value_type = RequestStatus)]
    status: &'static str,
    /// The lowest order of the stages that run; at the end, of those that ran last.
    current_stage_order: u32,
    callback_url: Option<&'a str>,
    #[schema(format = DateTime)]
    completed_at: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

impl<'a> RequestOut<'a> {
    pub(crate) fn new(request: &'a Request, context: &'a Value) -> Self {
        Self {
            id: request.id.to_string(),
            policy_id: request.policy.id,
            policy_key: &request.policy.key,
            policy_version: request.policy.version,
            artifact_type: &request.artifact_type,
            artifact_id: &request.artifact_id,
            source_service: &request.source_service,
            requester: &request.requester,
            context,
            status: request.status.as_str(),
            current_stage_order: request.current_stage_order,
            callback_url: request.callback.as_ref().map(|callback| callback.url.as_str()),
            completed_at: request.completed_at.map(rfc3339_micros),
            created_at: rfc3339_micros(request.created_at),
            updated_at: rfc3339_micros(request.updated_at),
        }
    }
}

/// What the maker of a request is told.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreateRequestOut<'a> {
    #[schema(format = Uuid)]
    request_id: String,
    /// What has become of it already: `in_review`, or `approved` or `rejected` if nobody has to be asked or can be.
    #[schema(value_type = RequestStatus)]
    status: &'static str,
    current_stage_order: u32,
    /// All that wait.
    tasks: Vec<TaskOut<'a>>,
}

impl<'a> CreateRequestOut<'a> {
    pub(crate) fn new(request: &'a Request) -> Self {
        Self {
            request_id: request.id.to_string(),
            status: request.status.as_str(),
            current_stage_order: request.current_stage_order,
            tasks: request.pending_tasks().map(|(stage, task)| TaskOut::new(request, stage, task)).collect(),
        }
    }
}

/// A task.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskOut<'a> {
    id: Uuid,
    #[schema(format = Uuid)]
    request_id: String,
    stage_id: Uuid,
    stage_order: u32,
    /// Who is asked, by the `sub` of their tokens.
    assignee: &'a str,
    #[schema(value_type = KindWord)]
    kind: &'static str,
    /// Whose delegation it came by.
    delegated_from: Option<&'a str>,
    /// Who had it before an administrator gave it to the assignee.
    reassigned_from: Option<&'a str>,
    #[schema(value_type = TaskStatus)]
    status: &'static str,
    #[schema(format = DateTime)]
    claimed_at: Option<String>,
    /// When it was closed, in whichever way.
    #[schema(format = DateTime)]
    completed_at: Option<String>,
    #[schema(format = DateTime)]
    due_at: Option<String>,
    decision_id: Option<Uuid>,
    #[schema(format = DateTime)]
    created_at: String,
}

impl<'a> TaskOut<'a> {
    /// A task of a stage of a request, which may have ended.
    pub(crate) fn new(request: &Request, stage: &Running, task: &'a Task) -> Self {
        let decision_id = match task.state {
            TaskState::Completed { decision, .. } => Some(decision),
            TaskState::Open
            | TaskState::Claimed
            | TaskState::Skipped { .. }
            | TaskState::Expired { .. }
            | TaskState::Reassigned { .. } => None,
        };
        Self {
            id: request.id.task(TaskId { stage: stage.place, number: task.number }),
            request_id: request.id.to_string(),
            stage_id: stage.id,
            stage_order: stage.order,
            assignee: &task.assignee,
            kind: task.kind.as_str(),
            delegated_from: task.delegated_from.as_deref(),
            reassigned_from: task.reassigned_from.as_deref(),
            status: task.state.as_str(),
            claimed_at: task.claimed_at.map(rfc3339_micros),
            completed_at: task.state.closed_at().map(rfc3339_micros),
            due_at: task.due_at.map(rfc3339_micros),
            decision_id,
            created_at: rfc3339_micros(task.created_at),
        }
    }
}

/// A decision about a task.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DecisionOut<'a> {
    pub(crate) id: Uuid,
    #[schema(format = Uuid)]
    pub(crate) request_id: String,
    pub(crate) task_id: Uuid,
    pub(crate) stage_order: u32,
    /// Who decided, by the `sub` of the token.
    pub(crate) actor: &'a str,
    #[schema(value_type = ActionWord)]
    pub(crate) action: &'static str,
    pub(crate) comment: Option<&'a str>,
    pub(crate) attachments_ref: Option<&'a str>,
    #[schema(format = DateTime)]
    pub(crate) created_at: String,
}

/// Something that happened to a request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventOut<'a> {
    id: Uuid,
    #[schema(value_type = String, format = Uuid)]
    request_id: &'a Value,
    #[schema(example = "stage_started")]
    event_type: String,
    /// `request_id`, `artifact_type`, `artifact_id`, `status` and `stage_order` as they were then, and what is the event's own.
    #[schema(value_type = Object)]
    payload: &'a Value,
    #[schema(format = DateTime)]
    created_at: String,
}

impl<'a> EventOut<'a> {
    pub(crate) fn new(tenant: &Tenant, source: &Source, entry: &'a Entry) -> Self {
        Self {
            id: source.event_id(tenant),
            request_id: &entry.data["request_id"],
            // `request.created` is `request_created` here.
            event_type: entry.name.replacen('.', "_", 1),
            payload: &entry.data,
            created_at: rfc3339_micros(entry.at),
        }
    }
}

/// A delegation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DelegationOut<'a> {
    id: Uuid,
    /// Whose new tasks go to somebody else.
    user_id: &'a str,
    delegate_to: &'a str,
    #[schema(format = DateTime)]
    starts_at: String,
    #[schema(format = DateTime)]
    ends_at: String,
    reason: Option<&'a str>,
    #[schema(value_type = Option<String>)]
    created_by: &'a str,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

impl<'a> DelegationOut<'a> {
    pub(crate) fn new(delegations: &'a Delegations, delegation: &'a Delegation) -> Self {
        let created_at = rfc3339_micros(delegation.created_at);
        Self {
            id: delegation.id,
            user_id: &delegations.user,
            delegate_to: &delegation.delegate_to,
            starts_at: rfc3339_micros(delegation.starts_at),
            ends_at: rfc3339_micros(delegation.ends_at),
            reason: delegation.reason.as_deref(),
            created_by: &delegation.created_by,
            updated_at: created_at.clone(),
            created_at,
        }
    }
}
