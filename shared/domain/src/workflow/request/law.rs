//! What can be done to a request, and by whom.

use super::step::Step;
use super::{
    Answers, By, CANCELLED, CLAIMED, Decision, INPUT, New, Question, REASSIGNED, Refusal, Request, Status, Task,
    TaskId, TaskState,
};
use crate::{Actor, Change, Outcome, Timestamp};
use serde_json::json;
use std::collections::BTreeSet;

impl Request {
    /// Makes a request and begins with its first group of stages.
    ///
    /// # Errors
    /// Somebody has to be asked first, or too many would be asked.
    pub fn create(new: New, answers: &Answers, by: &By, now: Timestamp) -> Result<Change<Self>, Refusal> {
        let definition = answers.definition.as_ref().ok_or(Refusal::Ask(Question::Group(0)))?;
        let request = Self {
            id: new.id,
            policy: new.policy,
            artifact_type: new.artifact_type,
            artifact_id: new.artifact_id,
            source_service: new.source_service,
            requester: new.requester,
            callback: new.callback,
            status: Status::Pending,
            current_stage_order: 1,
            running: Vec::new(),
            ended: Vec::new(),
            ahead: definition.groups().map(|(place, _)| place).collect(),
            approvers: BTreeSet::new(),
            approving: BTreeSet::new(),
            created_at: now,
            updated_at: now,
            completed_at: None,
        };
        let mut step = Step::of(request, answers, &by.actor, now);
        let (key, version) = (&step.request.policy.key, step.request.policy.version);
        let data = json!({ "policy_key": key, "policy_version": version });
        step.event("request.created", 1, data);
        step.go_on(None)?;
        let change = step.change();
        let has_context = new.context.as_object().is_some_and(|context| !context.is_empty());
        Ok(if has_context { change.with_item(INPUT, new.context.to_string()) } else { change })
    }

    /// Decides about a task.
    ///
    /// # Errors
    /// There is no such task, it is not theirs to decide or not pending, or somebody has to be asked first.
    pub fn decide(
        &self,
        task: TaskId,
        decision: &Decision,
        answers: &Answers,
        by: &By,
        now: Timestamp,
    ) -> Result<Change<Self>, Refusal> {
        let found = self.actionable(task, by)?;
        let name = by.actor.name();
        if found.is_approver() && self.excludes(name) {
            return Err(Refusal::Excluded(name.to_owned()));
        }
        self.pending(found)?;
        let counts = found.is_approver();
        let mut step = Step::of(self.clone(), answers, &by.actor, now);
        step.decide(task, decision, name, by.email.as_deref());
        step.point(task);
        if counts {
            step.settle(task.stage, name)?;
        }
        Ok(step.change())
    }

    /// Takes a task on. It is no more than a mark.
    ///
    /// # Errors
    /// There is no such task, or it is not theirs, or not open.
    pub fn claim(&self, task: TaskId, by: &By, now: Timestamp) -> Result<Change<Self>, Refusal> {
        let found = self.actionable(task, by)?;
        self.pending(found)?;
        if found.state != TaskState::Open {
            return Err(Refusal::TaskIs(found.state.as_str()));
        }
        let answers = Answers::default();
        let mut step = Step::of(self.clone(), &answers, &by.actor, now);
        step.edit(task, |task| {
            task.state = TaskState::Claimed;
            task.claimed_at = Some(now);
        });
        step.audit(CLAIMED, json!({ "task_id": self.id.task(task) }));
        step.point(task);
        Ok(step.change())
    }

    /// Calls it off.
    ///
    /// # Errors
    /// It has ended.
    pub fn cancel(&self, reason: Option<&str>, by: &By, now: Timestamp) -> Result<Change<Self>, Refusal> {
        if self.status.is_terminal() {
            return Err(Refusal::Ended(self.status));
        }
        let answers = Answers::default();
        let mut step = Step::of(self.clone(), &answers, &by.actor, now);
        step.end(Status::Cancelled);
        let data = json!({ "actor": by.actor.name(), "reason": reason });
        step.event("request.cancelled", self.current_stage_order, data);
        let data = json!({
            "actor_email": by.email,
            "before": { "status": self.status.as_str() },
            "after": { "status": Status::Cancelled.as_str() },
            "metadata": { "reason": reason },
        });
        step.sign(CANCELLED, data);
        Ok(step.change())
    }

    /// Asks somebody else instead; the answer is the new task.
    ///
    /// # Errors
    /// There is no such task, it is not pending, or the other one cannot have it.
    pub fn reassign(
        &self,
        task: TaskId,
        to: &str,
        reason: Option<&str>,
        by: &By,
        now: Timestamp,
    ) -> Result<Change<Self>, Refusal> {
        let found = self.actionable(task, by)?;
        self.pending(found)?;
        if found.assignee == to {
            return Err(Refusal::SameAssignee(to.to_owned()));
        }
        if found.is_approver() && self.excludes(to) {
            return Err(Refusal::AssigneeExcluded(to.to_owned()));
        }
        let stage = self.stage_at(task.stage).ok_or(Refusal::TaskNotFound)?;
        if stage.tasks.iter().any(|other| other.kind == found.kind && other.counts() && other.assignee == to) {
            return Err(Refusal::HasTask(to.to_owned()));
        }
        let new = Task {
            assignee: to.to_owned(),
            delegated_from: None,
            reassigned_from: Some(found.assignee.clone()),
            late: false,
            created_at: now,
            claimed_at: None,
            state: TaskState::Open,
            ..found.clone()
        };
        let answers = Answers::default();
        let mut step = Step::of(self.clone(), &answers, &by.actor, now);
        if step.room() == 0 {
            return Err(Refusal::TooManyEver);
        }
        step.edit(task, |task| task.state = TaskState::Reassigned { at: now });
        let replacement = step.open(task.stage, new);
        step.point(task);
        let (before, after) = (self.id.task(task), self.id.task(replacement));
        let data = json!({
            "task_id": before,
            "new_task_id": after,
            "from": found.assignee,
            "to": to,
            "actor": by.actor.name(),
            "reason": reason,
        });
        step.event("task.reassigned", stage.order, data);
        let data = json!({
            "actor_email": by.email,
            "resource_id": before,
            "before": { "assignee": found.assignee },
            "after": { "assignee": to, "task_id": after },
            "metadata": { "request_id": self.id, "reason": reason },
        });
        step.sign(REASSIGNED, data);
        Ok(step.change())
    }

    /// What has become of it by `now` without anyone's doing: approvers who are late, one stage at a time.
    ///
    /// # Errors
    /// Somebody has to be asked first, or too many would be asked.
    pub fn tick(&self, answers: &Answers, now: Timestamp) -> Result<Outcome<Self>, Refusal> {
        if self.status.is_terminal() {
            return Ok(Outcome::Keep);
        }
        let mut step = Step::of(self.clone(), answers, &Actor::Clock, now);
        let late = |task: &Task| !task.late && task.is_overdue(now);
        if let Some(stage) = self.decided_stage() {
            step.settle(stage.place, crate::workflow::SLA_MONITOR)?;
        } else if let Some(stage) = self.running.iter().find(|stage| stage.tasks.iter().any(late)) {
            step.breach(stage.place)?;
        } else {
            return Ok(Outcome::Keep);
        }
        Ok(Outcome::Change(step.change()))
    }

    /// The task, if it is theirs; that of a stage which has ended stands elsewhere.
    fn actionable(&self, id: TaskId, by: &By) -> Result<&Task, Refusal> {
        if let Some(ended) = self.ended.iter().find(|stage| stage.place == id.stage) {
            let is_there = (1..=ended.tasks).contains(&id.number);
            return Err(if is_there { Refusal::StageEnded(*ended) } else { Refusal::TaskNotFound });
        }
        let task = self.task(id).ok_or(Refusal::TaskNotFound)?;
        task.check_assignee(by)?;
        Ok(task)
    }

    fn pending(&self, task: &Task) -> Result<(), Refusal> {
        if self.status.is_terminal() {
            return Err(Refusal::Ended(self.status));
        }
        if task.is_pending() { Ok(()) } else { Err(Refusal::TaskIs(task.state.as_str())) }
    }
}

impl Task {
    /// Whether somebody may act on it: its assignee, or an administrator.
    ///
    /// # Errors
    /// They may not.
    pub fn check_assignee(&self, by: &By) -> Result<(), Refusal> {
        if by.is_admin || self.assignee == by.actor.name() { Ok(()) } else { Err(Refusal::NotTheAssignee) }
    }
}
