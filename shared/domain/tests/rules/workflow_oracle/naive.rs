//! A second opinion on requests: written from their description alone, in the most obvious way. It keeps every task in
//! one flat list, derives nothing ahead of time and recounts everything at every step.

use serde_json::{Value, json};

/// A policy with everything about its stages that is looked up elsewhere already in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy {
    pub(super) forbid_self_approval: bool,
    pub(super) forbid_repeat_approvers: bool,
    /// In their order.
    pub(super) stages: Vec<Stage>,
    /// In the order in which they were made.
    pub(super) delegations: Vec<Delegation>,
}

#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) order: u32,
    pub(super) mode: &'static str,
    pub(super) value: Option<u32>,
    pub(super) parallel_group: Option<i32>,
    pub(super) skipped: bool,
    pub(super) on_empty: &'static str,
    pub(super) sla_hours: Option<i64>,
    pub(super) on_breach: Option<&'static str>,
    /// Each with whether they are required.
    pub(super) approvers: Vec<(&'static str, bool)>,
    pub(super) observers: Vec<&'static str>,
    pub(super) escalation: Vec<(&'static str, bool)>,
}

/// From the hour of its start until before the hour of its end.
#[derive(Clone, Debug)]
pub(super) struct Delegation {
    pub(super) user: &'static str,
    pub(super) to: &'static str,
    pub(super) starts: i64,
    pub(super) ends: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Task {
    /// The place of its stage among the stages, from 0.
    pub(super) stage: usize,
    /// Its place among the stage's tasks, from 1.
    pub(super) number: usize,
    pub(super) kind: &'static str,
    pub(super) assignee: &'static str,
    pub(super) required: bool,
    pub(super) delegated_from: Option<&'static str>,
    pub(super) reassigned_from: Option<&'static str>,
    pub(super) status: &'static str,
    pub(super) due: Option<i64>,
    /// Who decided, and what.
    pub(super) decided: Option<(&'static str, &'static str)>,
    /// Whether it was told that it is late.
    pub(super) told: bool,
}

impl Task {
    pub(super) fn is_pending(&self) -> bool {
        self.status == "open" || self.status == "claimed"
    }

    /// Whether it counts, or did until it was closed: not if another has taken its place.
    fn is_live(&self) -> bool {
        self.status != "reassigned" && self.status != "expired"
    }

    fn was(&self, action: &str) -> bool {
        self.decided.is_some_and(|(_, decided)| decided == action)
    }

    fn name(&self) -> String {
        format!("{}/{}", self.stage, self.number)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    pub(super) name: &'static str,
    pub(super) status: &'static str,
    pub(super) stage_order: u32,
    /// Tasks by stage and number, times in hours.
    pub(super) more: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    NotFound,
    NotTheirs,
    /// By separation of duties.
    Excluded,
    Conflict,
}

/// What becomes of a stage when its group begins.
enum Plan {
    Skip(&'static str),
    Block(&'static str),
    Start { approvers: Vec<Asked>, observers: Vec<Asked> },
}

#[derive(Clone)]
struct Asked {
    user: &'static str,
    required: bool,
    delegated_from: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub(super) struct Naive {
    pub(super) policy: Policy,
    pub(super) requester: &'static str,
    pub(super) status: &'static str,
    pub(super) current_stage_order: u32,
    pub(super) tasks: Vec<Task>,
    pub(super) events: Vec<Event>,
    /// Of each stage: skipped, approved, rejected, or none yet.
    outcomes: Vec<Option<&'static str>>,
    /// Of each stage: whether what happens once when its approvers are late has happened.
    breached: Vec<bool>,
}

impl Naive {
    pub(super) fn create(policy: Policy, requester: &'static str, now: i64) -> Self {
        let stages = policy.stages.len();
        let mut request = Self {
            policy,
            requester,
            status: "pending",
            current_stage_order: 1,
            tasks: vec![],
            events: vec![],
            outcomes: vec![None; stages],
            breached: vec![false; stages],
        };
        request.tell_of_request("request_created", json!({"policy_key": "purchases", "policy_version": 3}));
        request.go_on(now, None);
        request
    }

    pub(super) fn is_terminal(&self) -> bool {
        ["approved", "rejected", "cancelled"].contains(&self.status)
    }

    pub(super) fn decide(
        &mut self,
        task: (usize, usize),
        actor: &'static str,
        is_admin: bool,
        action: &'static str,
        now: i64,
    ) -> Result<(), Refused> {
        let at = self.find(task).ok_or(Refused::NotFound)?;
        let Task { stage, kind, assignee, .. } = self.tasks[at];
        if actor != assignee && !is_admin {
            return Err(Refused::NotTheirs);
        }
        if kind == "approver" && self.is_excluded(stage, actor) {
            return Err(Refused::Excluded);
        }
        if self.is_terminal() || !self.tasks[at].is_pending() {
            return Err(Refused::Conflict);
        }
        self.tasks[at].status = "completed";
        self.tasks[at].decided = Some((actor, action));
        if kind == "approver" {
            self.settle(stage, now, actor);
        }
        Ok(())
    }

    pub(super) fn claim(&mut self, task: (usize, usize), actor: &str, is_admin: bool) -> Result<(), Refused> {
        let at = self.find(task).ok_or(Refused::NotFound)?;
        if actor != self.tasks[at].assignee && !is_admin {
            return Err(Refused::NotTheirs);
        }
        if self.tasks[at].status != "open" {
            return Err(Refused::Conflict);
        }
        self.tasks[at].status = "claimed";
        Ok(())
    }

    pub(super) fn reassign(&mut self, task: (usize, usize), to: &'static str, actor: &str) -> Result<(), Refused> {
        let at = self.find(task).ok_or(Refused::NotFound)?;
        let old = self.tasks[at].clone();
        if self.is_terminal() || !old.is_pending() || to == old.assignee {
            return Err(Refused::Conflict);
        }
        if old.kind == "approver" && self.is_excluded(old.stage, to) {
            return Err(Refused::Conflict);
        }
        let of_stage = self.tasks.iter().filter(|task| task.stage == old.stage);
        if of_stage.filter(|task| task.is_live()).any(|task| task.kind == old.kind && task.assignee == to) {
            return Err(Refused::Conflict);
        }
        self.tasks[at].status = "reassigned";
        let asked = Asked { user: to, required: old.required, delegated_from: None };
        let new = self.open(old.stage, old.kind, &asked, old.due);
        self.tasks[new].reassigned_from = Some(old.assignee);
        let (old_name, new_name) = (old.name(), self.tasks[new].name());
        self.tell(
            "task_reassigned",
            old.stage,
            json!({"task_id": old_name, "new_task_id": new_name, "from": old.assignee, "to": to, "actor": actor,
                "reason": "why"}),
        );
        Ok(())
    }

    pub(super) fn cancel(&mut self, actor: &str) -> Result<(), Refused> {
        if self.is_terminal() {
            return Err(Refused::Conflict);
        }
        self.status = "cancelled";
        self.skip_pending(None);
        self.tell_of_request("request_cancelled", json!({"actor": actor, "reason": "why"}));
        Ok(())
    }

    /// Whether there was anything to do; if so, perhaps there is more.
    pub(super) fn tick(&mut self, now: i64) -> bool {
        if self.is_terminal() {
            return false;
        }
        let has_tasks = |stage: usize| self.tasks.iter().any(|task| task.stage == stage);
        let running: Vec<usize> =
            (0..self.outcomes.len()).filter(|stage| self.outcomes[*stage].is_none() && has_tasks(*stage)).collect();
        // An escalation may have left a stage that is decided.
        if let Some(stage) = running.iter().find(|stage| self.verdict(**stage) != "open") {
            self.settle(*stage, now, "sla-monitor");
            return true;
        }
        running.into_iter().any(|stage| self.breach(stage, now))
    }

    fn breach(&mut self, stage: usize, now: i64) -> bool {
        let late = |task: &Task| {
            task.stage == stage
                && task.kind == "approver"
                && task.is_pending()
                && task.due.is_some_and(|due| due <= now)
        };
        let untold: Vec<usize> =
            (0..self.tasks.len()).filter(|at| late(&self.tasks[*at]) && !self.tasks[*at].told).collect();
        if untold.is_empty() {
            return false;
        }
        for at in untold {
            self.tasks[at].told = true;
            let Task { assignee, due, .. } = self.tasks[at];
            let name = self.tasks[at].name();
            self.tell("task_expired", stage, json!({"task_id": name, "assignee": assignee, "due_at": due}));
        }
        if self.breached[stage] {
            return true;
        }
        self.breached[stage] = true;
        match self.policy.stages[stage].on_breach {
            None | Some("notify") => {}
            Some("auto_approve") => self.decide_all(stage, "approve", now),
            Some("auto_reject") => self.decide_all(stage, "reject", now),
            _ => self.escalate(stage, now, late),
        }
        true
    }

    fn decide_all(&mut self, stage: usize, action: &'static str, now: i64) {
        for task in &mut self.tasks {
            if task.stage == stage && task.kind == "approver" && task.is_pending() {
                task.status = "completed";
                task.decided = Some(("sla-monitor", action));
            }
        }
        self.settle(stage, now, "sla-monitor");
    }

    fn escalate(&mut self, stage: usize, now: i64, late: impl Fn(&Task) -> bool) {
        let Stage { escalation, sla_hours, .. } = self.policy.stages[stage].clone();
        let mut added = self.asked(stage, &escalation, now);
        added.retain(|asked| {
            let theirs = |task: &Task| task.stage == stage && task.kind == "approver" && task.assignee == asked.user;
            !self.tasks.iter().any(|task| theirs(task) && task.is_live())
        });
        if added.is_empty() {
            return;
        }
        let leaving: Vec<usize> =
            (0..self.tasks.len()).filter(|at| late(&self.tasks[*at]) && !self.tasks[*at].required).collect();
        for asked in &added {
            self.open(stage, "approver", asked, sla_hours.map(|hours| now + hours));
        }
        let before = self.tasks.clone();
        for at in leaving {
            self.tasks[at].status = "expired";
        }
        if !self.can_be_approved(stage) {
            self.tasks = before;
        }
        let users: Vec<_> = added.iter().map(|asked| asked.user).collect();
        self.tell("stage_escalated", stage, json!({"added_approvers": users, "actor": "sla-monitor"}));
    }

    /// Begins the next stages, and those after them as long as all are skipped.
    fn go_on(&mut self, now: i64, actor: Option<&str>) {
        while let Some(first) = self.outcomes.iter().position(Option::is_none) {
            let group = self.group_of(first);
            let plans: Vec<(usize, Plan)> = group.into_iter().map(|stage| (stage, self.plan(stage, now))).collect();
            if plans.iter().any(|(_, plan)| matches!(plan, Plan::Block(_))) {
                for (stage, plan) in &plans {
                    match plan {
                        Plan::Skip(reason) => self.tell("stage_skipped", *stage, json!({"reason": reason})),
                        Plan::Start { .. } => {}
                        Plan::Block(reason) => {
                            self.status = "rejected";
                            self.tell_of_request("request_rejected", json!({"reason": reason}));
                            return;
                        }
                    }
                }
            }
            let starts = |(_, plan): &&(usize, Plan)| matches!(plan, Plan::Start { .. });
            let started = plans.iter().find(starts).map(|(stage, _)| *stage);
            if let Some(stage) = started {
                self.status = "in_review";
                self.current_stage_order = self.policy.stages[stage].order;
            }
            for (stage, plan) in plans {
                match plan {
                    Plan::Skip(reason) => {
                        self.outcomes[stage] = Some("skipped");
                        self.tell("stage_skipped", stage, json!({"reason": reason}));
                    }
                    Plan::Start { approvers, observers } => self.start(stage, &approvers, &observers, now),
                    Plan::Block(_) => panic!("a blocked group was ended above"),
                }
            }
            if started.is_some() {
                return;
            }
        }
        self.status = "approved";
        let more = match actor {
            Some(actor) => json!({"actor": actor}),
            None if self.policy.stages.is_empty() => json!({}),
            None => json!({"reason": "all_stages_skipped"}),
        };
        self.tell_of_request("request_approved", more);
    }

    fn start(&mut self, stage: usize, approvers: &[Asked], observers: &[Asked], now: i64) {
        let Stage { order, sla_hours, mode, value, .. } = self.policy.stages[stage];
        for asked in approvers {
            self.open(stage, "approver", asked, sla_hours.map(|hours| now + hours));
        }
        for asked in observers {
            self.open(stage, "observer", asked, None);
        }
        let users = |asked: &[Asked]| asked.iter().map(|asked| asked.user).collect::<Vec<_>>();
        let mut required: Vec<_> = approvers.iter().filter(|asked| asked.required).map(|asked| asked.user).collect();
        required.sort_unstable();
        self.tell(
            "stage_started",
            stage,
            json!({"name": format!("stage {order}"), "mode": mode, "mode_value": value, "approvers": users(approvers),
                "observers": users(observers), "required_approvers": required}),
        );
    }

    fn open(&mut self, stage: usize, kind: &'static str, asked: &Asked, due: Option<i64>) -> usize {
        let number = self.tasks.iter().filter(|task| task.stage == stage).count() + 1;
        self.tasks.push(Task {
            stage,
            number,
            kind,
            assignee: asked.user,
            required: asked.required,
            delegated_from: asked.delegated_from,
            reassigned_from: None,
            status: "open",
            due,
            decided: None,
            told: false,
        });
        self.tasks.len() - 1
    }

    fn plan(&self, stage: usize, now: i64) -> Plan {
        let Stage { skipped, on_empty, approvers, observers, .. } = &self.policy.stages[stage];
        if *skipped {
            return Plan::Skip("skip_if");
        }
        let approvers = self.asked(stage, approvers, now);
        let mut noted: Vec<Asked> = vec![];
        for user in observers {
            let asked = match self.delegate(user, now) {
                Some(to) => Asked { user: to, required: false, delegated_from: Some(*user) },
                None => Asked { user, required: false, delegated_from: None },
            };
            if !noted.iter().any(|before| before.user == asked.user) {
                noted.push(asked);
            }
        }
        if approvers.is_empty() {
            return if *on_empty == "skip" { Plan::Skip("no_approvers") } else { Plan::Block("no_approvers_resolved") };
        }
        if self.needed(stage, approvers.len()) > approvers.len() {
            return Plan::Block("quorum_unreachable");
        }
        Plan::Start { approvers, observers: noted }
    }

    /// Who of these is asked to approve in a stage, or for whom somebody else is.
    fn asked(&self, stage: usize, users: &[(&'static str, bool)], now: i64) -> Vec<Asked> {
        let mut all: Vec<Asked> = vec![];
        for (user, required) in users {
            if self.is_excluded(stage, user) {
                continue;
            }
            let asked = match self.delegate(user, now) {
                Some(to) if !self.is_excluded(stage, to) => {
                    Asked { user: to, required: *required, delegated_from: Some(*user) }
                }
                _ => Asked { user, required: *required, delegated_from: None },
            };
            match all.iter_mut().find(|before| before.user == asked.user) {
                Some(before) => before.required |= asked.required,
                None => all.push(asked),
            }
        }
        all
    }

    fn delegate(&self, user: &str, now: i64) -> Option<&'static str> {
        let open =
            |delegation: &&Delegation| delegation.user == user && delegation.starts <= now && now < delegation.ends;
        self.policy.delegations.iter().rfind(open).map(|delegation| delegation.to)
    }

    /// Whether duties are separated from this user's in a stage.
    fn is_excluded(&self, stage: usize, user: &str) -> bool {
        if self.policy.forbid_self_approval && user == self.requester {
            return true;
        }
        let first = self.group_of(stage)[0];
        let before = self.tasks.iter().filter(|task| task.stage < first && task.kind == "approver");
        self.policy.forbid_repeat_approvers
            && before
                .filter(|task| task.was("approve"))
                .any(|task| task.decided.is_some_and(|(actor, _)| actor == user))
    }

    /// The stages that begin together with this one, itself included.
    fn group_of(&self, stage: usize) -> Vec<usize> {
        let group = |stage: usize| self.policy.stages[stage].parallel_group;
        if group(stage).is_none() {
            return vec![stage];
        }
        let mut first = stage;
        while first > 0 && group(first - 1) == group(stage) {
            first -= 1;
        }
        let mut last = stage;
        while last + 1 < self.policy.stages.len() && group(last + 1) == group(stage) {
            last += 1;
        }
        (first..=last).collect()
    }

    /// Ends a stage if it is decided, and with it what ends with it.
    fn settle(&mut self, stage: usize, now: i64, actor: &str) {
        let verdict = self.verdict(stage);
        if verdict == "open" {
            return;
        }
        self.outcomes[stage] = Some(verdict);
        self.skip_pending(Some(stage));
        self.tell("stage_completed", stage, json!({"outcome": verdict}));
        if verdict == "rejected" {
            self.status = "rejected";
            self.skip_pending(None);
            self.tell_of_request("request_rejected", json!({"actor": actor}));
        } else if self.group_of(stage).into_iter().all(|member| self.outcomes[member].is_some()) {
            self.go_on(now, Some(actor));
        }
    }

    fn skip_pending(&mut self, stage: Option<usize>) {
        for task in &mut self.tasks {
            if task.is_pending() && stage.is_none_or(|stage| task.stage == stage) {
                task.status = "skipped";
            }
        }
    }

    /// The tasks that count in a stage.
    fn counting(&self, stage: usize) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(move |task| task.stage == stage && task.kind == "approver" && task.is_live())
    }

    fn needed(&self, stage: usize, tasks: usize) -> usize {
        let Stage { mode, value, .. } = self.policy.stages[stage];
        match mode {
            "any-n" | "quorum" => value.unwrap_or(1) as usize,
            "percentage" => (value.unwrap_or(100) as usize * tasks).div_ceil(100),
            _ => 1,
        }
    }

    fn verdict(&self, stage: usize) -> &'static str {
        let all = self.counting(stage).count();
        let approved = self.counting(stage).filter(|task| task.was("approve")).count();
        let rejected = self.counting(stage).filter(|task| task.was("reject")).count();
        let abstained = self.counting(stage).filter(|task| task.was("abstain")).count();
        let pending = self.counting(stage).filter(|task| task.is_pending()).count();
        let counted = if self.policy.stages[stage].mode == "all" {
            if rejected >= 1 || (pending == 0 && approved == 0) {
                "rejected"
            } else if pending == 0 && approved + abstained == all {
                "approved"
            } else {
                "open"
            }
        } else {
            let needed = self.needed(stage, all);
            if approved >= needed {
                "approved"
            } else if approved + pending < needed {
                "rejected"
            } else {
                "open"
            }
        };
        let required = || self.counting(stage).filter(|task| task.required);
        if required().any(|task| !task.is_pending() && !task.was("approve")) {
            "rejected"
        } else if counted == "approved" && required().any(Task::is_pending) {
            "open"
        } else {
            counted
        }
    }

    /// Whether a stage would be approved if everybody who still can did approve.
    fn can_be_approved(&self, stage: usize) -> bool {
        let mut then = self.clone();
        for task in &mut then.tasks {
            if task.stage == stage && task.kind == "approver" && task.is_pending() {
                task.decided = Some(("somebody", "approve"));
                task.status = "completed";
            }
        }
        then.verdict(stage) == "approved"
    }

    fn find(&self, (stage, number): (usize, usize)) -> Option<usize> {
        self.tasks.iter().position(|task| task.stage == stage && task.number == number)
    }

    /// Of a stage.
    fn tell(&mut self, name: &'static str, stage: usize, more: Value) {
        let stage_order = self.policy.stages[stage].order;
        self.events.push(Event { name, status: self.status, stage_order, more });
    }

    fn tell_of_request(&mut self, name: &'static str, more: Value) {
        self.events.push(Event { name, status: self.status, stage_order: self.current_stage_order, more });
    }
}
