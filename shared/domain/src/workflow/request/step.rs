//! A step of a request on its way: what happens in it, one thing after the other, until it is one change.

use super::{
    Action, Answers, Asked, CLOSED, DECIDED, Decision, Ended, MAX_TASKS, Question, Refusal, Request, Running, Status,
    Task, TaskId, TaskState, inbox,
};
use crate::workflow::policy::{Kind, OnBreach, OnEmpty, Stage};
use crate::workflow::stage::Count;
use crate::workflow::{MAX_OPENED, SLA_MONITOR, Verdict, needed};
use crate::{Actor, Change, Entry, EntryClass, Pointer, Timestamp, With, rfc3339_micros, seconds};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A stage of the group that is about to begin.
enum Opening {
    /// It is passed over.
    Skip(&'static str),
    /// Its tasks are opened.
    Start(Vec<Task>),
    /// It ends the request.
    Block(&'static str),
}

/// A change on its way.
pub(super) struct Step<'a> {
    pub(super) request: Request,
    entries: Vec<Entry>,
    with: Vec<With<Request>>,
    /// Tasks that were closed, as the pointers to them are to be.
    closed: Vec<Pointer>,
    /// The entry that the audit log is asked for.
    signed: Option<Entry>,
    answers: &'a Answers,
    actor: &'a Actor,
    now: Timestamp,
}

impl<'a> Step<'a> {
    pub(super) fn of(request: Request, answers: &'a Answers, actor: &'a Actor, now: Timestamp) -> Self {
        let request = Request { updated_at: now, ..request };
        let (entries, with, closed) = (Vec::new(), Vec::new(), Vec::new());
        Self { request, entries, with, closed, signed: None, answers, actor, now }
    }

    pub(super) fn change(mut self) -> Change<Request> {
        if !self.closed.is_empty() {
            let data = json!({ "pointers": self.closed });
            self.audit(CLOSED, data);
        }
        // The last one is what the change is found by.
        self.entries.extend(self.signed);
        Change { record: self.request, entries: self.entries, with: self.with }
    }

    /// Something that the world is told: `data`, and what every event of a request says.
    pub(super) fn event(&mut self, name: &str, stage_order: u32, mut data: Value) {
        let request = &self.request;
        data["request_id"] = json!(request.id);
        data["artifact_type"] = request.artifact_type.as_str().into();
        data["artifact_id"] = request.artifact_id.as_str().into();
        data["status"] = request.status.as_str().into();
        data["stage_order"] = stage_order.into();
        let event = request.entry(name, EntryClass::Public, self.actor, self.now, data);
        self.entries.push(event);
    }

    pub(super) fn audit(&mut self, name: &str, data: Value) {
        self.entries.push(self.request.entry(name, EntryClass::Audit, self.actor, self.now, data));
    }

    /// The same for what the audit log is asked for, once in a step.
    pub(super) fn sign(&mut self, name: &str, data: Value) {
        self.signed = Some(self.request.entry(name, EntryClass::Audit, self.actor, self.now, data));
    }

    fn stage_mut(&mut self, place: u8) -> Option<&mut Running> {
        self.request.running.iter_mut().find(|stage| stage.place == place)
    }

    pub(super) fn edit(&mut self, id: TaskId, edit: impl FnOnce(&mut Task)) {
        let place = usize::from(id.number).checked_sub(1);
        let stage = self.stage_mut(id.stage);
        if let Some(task) = stage.zip(place).and_then(|(stage, place)| stage.tasks.get_mut(place)) {
            edit(task);
        }
    }

    /// Puts a task into its assignee's inbox as it is now, or changes how it stands there.
    pub(super) fn point(&mut self, id: TaskId) {
        if let Some(task) = self.request.task(id) {
            self.with.push(With::Pointer(self.request.pointer(id, task)));
        }
    }

    /// How many more tasks the group that runs can have.
    pub(super) fn room(&self) -> usize {
        MAX_TASKS.saturating_sub(self.request.running.iter().map(|stage| stage.tasks.len()).sum())
    }

    /// Adds a task to a stage, and to its assignee's inbox.
    pub(super) fn open(&mut self, place: u8, task: Task) -> TaskId {
        let mut id = TaskId { stage: place, number: 0 };
        if let Some(stage) = self.stage_mut(place) {
            id.number = u16::try_from(stage.tasks.len() + 1).unwrap_or(u16::MAX);
            stage.tasks.push(Task { number: id.number, ..task });
        }
        self.point(id);
        id
    }

    /// Records a decision about a task.
    pub(super) fn decide(&mut self, id: TaskId, decision: &Decision, name: &str, email: Option<&str>) {
        let (now, action) = (self.now, decision.action);
        self.edit(id, |task| task.state = TaskState::Completed { decision: decision.id, action, at: now });
        let is_approver = self.request.task(id).is_some_and(Task::is_approver);
        let order = self.request.stage_at(id.stage).map(|stage| stage.order);
        // Nobody has approved what was approved because it was late.
        let by_somebody = *self.actor != Actor::Clock;
        if self.request.policy.forbid_repeat_approvers && is_approver && by_somebody && action == Action::Approve {
            self.request.approving.insert(name.to_owned());
        }
        let data = json!({
            "task_id": self.request.id.task(id),
            "decision_id": decision.id,
            "stage_order": order,
            "actor": name,
            "actor_email": email,
            "action": action,
            "comment": decision.comment,
            "attachments_ref": decision.attachments_ref,
        });
        self.audit(DECIDED, data);
    }

    /// Sees whether a stage is decided, and goes on if it is.
    pub(super) fn settle(&mut self, place: u8, actor: &str) -> Result<(), Refusal> {
        match self.request.stage_at(place).map(Running::verdict) {
            None | Some(Verdict::Open) => Ok(()),
            Some(Verdict::Rejected) => {
                self.complete(place, "rejected");
                self.end(Status::Rejected);
                self.event("request.rejected", self.request.current_stage_order, json!({ "actor": actor }));
                Ok(())
            }
            Some(Verdict::Approved) => {
                self.complete(place, "approved");
                let is_last = self.request.running.len() == 1;
                if is_last {
                    let before = self.request.approvers.clone();
                    let approving = std::mem::take(&mut self.request.approving);
                    self.request.approvers.extend(approving);
                    self.go_on(Some(actor))?;
                    if self.request.status.is_terminal() {
                        // They are kept from what comes after this group, and nothing does.
                        self.request.approvers = before;
                    }
                }
                // What the request ended with stays in the record.
                if !self.request.status.is_terminal() {
                    self.put_away(place);
                }
                Ok(())
            }
        }
    }

    /// Closes what waits in a stage and says what it came to.
    fn complete(&mut self, place: u8, outcome: &str) {
        self.close(|stage, _| stage.place == place, |at| TaskState::Skipped { at });
        let order = self.request.stage_at(place).map_or(0, |stage| stage.order);
        self.event("stage.completed", order, json!({ "outcome": outcome }));
    }

    /// Closes the pending tasks that `which` names.
    fn close(&mut self, which: impl Fn(&Running, &Task) -> bool, state: impl Fn(Timestamp) -> TaskState) {
        let closing: Vec<TaskId> = self
            .request
            .pending_tasks()
            .filter(|(stage, task)| which(stage, task))
            .map(|(stage, task)| stage.id_of(task))
            .collect();
        let now = self.now;
        for id in closing {
            self.edit(id, |task| task.state = state(now));
            self.note_closed(id);
        }
    }

    fn note_closed(&mut self, id: TaskId) {
        if let Some(task) = self.request.task(id) {
            self.closed.push(self.request.pointer(id, task));
        }
    }

    /// Moves a stage that has ended out of the record.
    fn put_away(&mut self, place: u8) {
        let (ended, running) =
            std::mem::take(&mut self.request.running).into_iter().partition(|stage| stage.place == place);
        self.request.running = running;
        let ended: Vec<Running> = ended;
        for stage in ended {
            let ended = Ended { place, tasks: u16::try_from(stage.tasks.len()).unwrap_or(u16::MAX) };
            let body = serde_json::to_string(&stage);
            let Ok(body) = body else { unreachable!("texts and numbers can always be written") };
            self.with.push(With::Item { name: ended.item(), body });
            self.request.ended.push(ended);
        }
    }

    /// Ends the request: nothing waits any more.
    pub(super) fn end(&mut self, status: Status) {
        self.close(|_, _| true, |at| TaskState::Skipped { at });
        self.request.status = status;
        self.request.completed_at = Some(self.now);
        self.request.ahead.clear();
    }

    /// Begins group after group until one has tasks, or the request has ended.
    pub(super) fn go_on(&mut self, actor: Option<&str>) -> Result<(), Refusal> {
        let is_empty = actor.is_none() && self.request.ahead.is_empty();
        while !self.request.ahead.is_empty() {
            let place = self.request.ahead.remove(0);
            if self.begin(place)? {
                return Ok(());
            }
        }
        self.end(Status::Approved);
        let data = match actor {
            Some(actor) => json!({ "actor": actor }),
            None if is_empty => json!({}),
            None => json!({ "reason": "all_stages_skipped" }),
        };
        self.event("request.approved", self.request.current_stage_order, data);
        Ok(())
    }

    /// Begins the group of stages at this place of the policy. Whether that is all for now.
    fn begin(&mut self, first: usize) -> Result<bool, Refusal> {
        let answers = self.answers;
        let ask = || Refusal::Ask(Question::Group(first));
        let group = answers.definition.as_ref().and_then(|definition| definition.group(first)).ok_or_else(ask)?;
        let asked = answers.groups.get(&first).ok_or_else(ask)?;
        let openings: Vec<(&Stage, Opening)> =
            group.iter().zip(asked).map(|(stage, asked)| (stage, self.opening(stage, asked))).collect();

        let blocked = openings.iter().position(|(_, opening)| matches!(opening, Opening::Block(_)));
        let opened = |opening: &Opening| if let Opening::Start(tasks) = opening { tasks.len() } else { 0 };
        let tasks = openings.iter().map(|(_, opening)| opened(opening)).sum();
        if blocked.is_none() && tasks > MAX_OPENED {
            return Err(Refusal::TooManyTasks { stage: group[0].name.clone(), tasks });
        }
        let starts = openings.iter().filter(|(_, opening)| matches!(opening, Opening::Start(_)));
        let lowest = starts.map(|(stage, _)| stage.order).min();
        if let (None, Some(lowest)) = (blocked, lowest) {
            self.request.status = Status::InReview;
            self.request.current_stage_order = lowest;
        }
        for (index, (stage, opening)) in openings.into_iter().enumerate() {
            match opening {
                Opening::Skip(reason) => self.event("stage.skipped", stage.order, json!({ "reason": reason })),
                Opening::Start(tasks) if blocked.is_none() => self.start(first + index, stage, tasks),
                // A stage after it stops the group before this one's tasks are opened.
                Opening::Start(_) => {}
                Opening::Block(reason) => {
                    self.end(Status::Rejected);
                    self.event("request.rejected", self.request.current_stage_order, json!({ "reason": reason }));
                    return Ok(true);
                }
            }
        }
        Ok(lowest.is_some())
    }

    /// What becomes of a stage that is about to begin, when these are asked.
    fn opening(&self, stage: &Stage, asked: &Asked) -> Opening {
        if asked.skipped {
            return Opening::Skip("skip_if");
        }
        let mut tasks = self.tasks_for(asked, stage.sla_hours);
        let approvers = tasks.len();
        if approvers == 0 {
            return match stage.on_empty {
                OnEmpty::Skip => Opening::Skip("no_approvers"),
                OnEmpty::Block => Opening::Block("no_approvers_resolved"),
            };
        }
        if needed(stage.mode, stage.mode_value, approvers) > approvers {
            return Opening::Block("quorum_unreachable");
        }
        for observer in &asked.observers {
            let (assignee, delegated_from) = self.delegated(observer, |_| false);
            if !tasks[approvers..].iter().any(|task| task.assignee == assignee) {
                tasks.push(self.new_task(assignee, delegated_from, Kind::Observer));
            }
        }
        Opening::Start(tasks)
    }

    /// The tasks of those who are asked to decide, without those whom separation of duties excludes.
    fn tasks_for(&self, asked: &Asked, sla_hours: Option<u32>) -> Vec<Task> {
        let due_at =
            sla_hours.map(|hours| self.now.saturating_add(seconds(i64::from(hours) * 3600)).unwrap_or(Timestamp::MAX));
        let mut tasks: Vec<Task> = Vec::new();
        for approver in asked.approvers.iter().filter(|approver| !self.request.excludes(&approver.user)) {
            let (assignee, delegated_from) = self.delegated(&approver.user, |user| self.request.excludes(user));
            // Whoever is asked by two rules has one task; that they have to approve is not lost.
            match tasks.iter_mut().find(|task| task.assignee == assignee) {
                Some(task) => task.required |= approver.required,
                None => {
                    let task = self.new_task(assignee, delegated_from, Kind::Approver);
                    tasks.push(Task { required: approver.required, due_at, ..task });
                }
            }
        }
        tasks
    }

    /// Who gets the task of this user, and from whom if it is delegated.
    fn delegated(&self, user: &str, is_excluded: impl Fn(&str) -> bool) -> (String, Option<String>) {
        match self.answers.delegates.get(user).filter(|delegate| !is_excluded(delegate)) {
            Some(delegate) => (delegate.clone(), Some(user.to_owned())),
            None => (user.to_owned(), None),
        }
    }

    fn new_task(&self, assignee: String, delegated_from: Option<String>, kind: Kind) -> Task {
        Task {
            number: 0,
            assignee,
            kind,
            required: false,
            delegated_from,
            reassigned_from: None,
            due_at: None,
            late: false,
            created_at: self.now,
            claimed_at: None,
            state: TaskState::Open,
        }
    }

    /// Opens the tasks of a stage.
    fn start(&mut self, place: usize, stage: &Stage, tasks: Vec<Task>) {
        let of = |kind| tasks.iter().filter(move |task| task.kind == kind).map(|task| task.assignee.as_str());
        let approvers: Vec<&str> = of(Kind::Approver).collect();
        let observers: Vec<&str> = of(Kind::Observer).collect();
        let mut required: Vec<&str> =
            tasks.iter().filter(|task| task.required).map(|task| task.assignee.as_str()).collect();
        required.sort_unstable();
        let data = json!({
            "name": stage.name,
            "mode": stage.mode.as_str(),
            "mode_value": stage.mode_value,
            "approvers": approvers,
            "observers": observers,
            "required_approvers": required,
        });
        let place = u8::try_from(place).unwrap_or(u8::MAX);
        self.request.running.push(Running {
            place,
            id: stage.id,
            order: stage.order,
            mode: stage.mode,
            mode_value: stage.mode_value,
            sla_hours: stage.sla_hours,
            on_breach: stage.on_breach.unwrap_or(OnBreach::Notify),
            breached: false,
            tasks: Vec::new(),
        });
        for task in tasks {
            self.open(place, task);
        }
        self.event("stage.started", stage.order, data);
    }

    /// Tells of the late tasks of a stage, and does what the policy says about the first of them.
    pub(super) fn breach(&mut self, place: u8) -> Result<(), Refusal> {
        let Some(stage) = self.request.stage_at(place).cloned() else { return Ok(()) };
        let now = self.now;
        for task in stage.tasks.iter().filter(|task| !task.late && task.is_overdue(now)) {
            let id = stage.id_of(task);
            self.edit(id, |task| task.late = true);
            let task_id = self.request.id.task(id);
            let due_at = task.due_at.map(rfc3339_micros);
            let data = json!({ "task_id": task_id, "assignee": task.assignee, "due_at": due_at });
            self.event("task.expired", stage.order, data);
        }
        if stage.breached {
            return Ok(());
        }
        if let Some(stage) = self.stage_mut(place) {
            stage.breached = true;
        }
        match stage.on_breach {
            OnBreach::Notify => Ok(()),
            OnBreach::AutoApprove => self.decide_all(&stage, Action::Approve, "SLA breach auto-approve"),
            OnBreach::AutoReject => self.decide_all(&stage, Action::Reject, "SLA breach auto-reject"),
            OnBreach::Escalate => self.escalate(&stage),
        }
    }

    /// Decides for everybody who has not decided yet.
    fn decide_all(&mut self, stage: &Running, action: Action, comment: &str) -> Result<(), Refusal> {
        for task in stage.tasks.iter().filter(|task| task.is_approver() && task.is_pending()) {
            let id = stage.id_of(task);
            let decision = Decision {
                id: unattended(self.request.id.task(id)),
                action,
                comment: Some(comment.to_owned()),
                attachments_ref: None,
            };
            self.decide(id, &decision, SLA_MONITOR, None);
            self.note_closed(id);
        }
        self.settle(stage.place, SLA_MONITOR)
    }

    /// Asks others instead of those who are late, as far as the stage can do without these.
    fn escalate(&mut self, stage: &Running) -> Result<(), Refusal> {
        let question = Question::Escalation(usize::from(stage.place));
        let asked = self.answers.escalations.get(&usize::from(stage.place)).ok_or(Refusal::Ask(question))?;
        let mut added = self.tasks_for(asked, stage.sla_hours);
        // Nobody has two votes, not even one after the other.
        let has_task =
            |user: &str| stage.tasks.iter().any(|task| task.is_approver() && task.counts() && task.assignee == user);
        added.retain(|task| !has_task(&task.assignee));
        if added.is_empty() || added.len() > self.room() {
            return Ok(());
        }
        if added.len() > MAX_OPENED {
            let definition = self.answers.definition.as_ref();
            let name = definition.and_then(|definition| definition.stages.get(usize::from(stage.place)));
            let stage = name.map_or_else(String::new, |stage| stage.name.clone());
            return Err(Refusal::TooManyTasks { stage, tasks: added.len() });
        }
        let names: Vec<String> = added.iter().map(|task| task.assignee.clone()).collect();
        for task in added {
            self.open(stage.place, task);
        }
        let now = self.now;
        let is_replaced = |task: &Task| task.is_overdue(now) && !task.required;
        let left = self
            .request
            .stage_at(stage.place)
            .map(|stage| Count::of(stage.tasks.iter().filter(|task| !is_replaced(task))));
        if left.is_some_and(|left| left.is_possible(stage.mode, stage.mode_value)) {
            self.close(|at, task| at.place == stage.place && is_replaced(task), |at| TaskState::Expired { at });
        }
        let data = json!({ "added_approvers": names, "actor": SLA_MONITOR });
        self.event("stage.escalated", stage.order, data);
        Ok(())
    }
}

impl Request {
    fn pointer(&self, id: TaskId, task: &Task) -> Pointer {
        Pointer {
            inbox: inbox(&task.assignee),
            id: self.id.task(id).to_string(),
            created_at: task.created_at,
            state: task.state.as_str().to_owned(),
        }
    }
}

impl Running {
    pub(super) fn id_of(&self, task: &Task) -> TaskId {
        TaskId { stage: self.place, number: task.number }
    }
}

/// The id of the decision about a task that nobody took.
fn unattended(task: Uuid) -> Uuid {
    let hash: [u8; 32] = Sha256::digest(json!([SLA_MONITOR, task]).to_string()).into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
