//! Requests on their way through a policy, with all that a store keeps of them and a door knows about them.

use crate::at;
use countersign_domain::workflow::Editor;
use countersign_domain::workflow::Mode;
use countersign_domain::workflow::delegation::{self, Delegations};
use countersign_domain::workflow::policy::{Definition, OnBreach, OnEmpty, Stage};
use countersign_domain::workflow::request::{
    Action, Answers, Approver, Asked, Bound, By, CLOSED, Decision, New, Question, Refusal, Request, RequestId, Running,
    Task, TaskId,
};
use countersign_domain::{Actor, Change, Entry, EntryClass, Outcome, Pointer, Tenant, Timestamp, With, seconds};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use uuid::Uuid;

const BEGUN: &str = "2026-11-21T08:00:00Z";

/// So many hours after the beginning of everything.
pub(crate) fn hour(n: i64) -> Timestamp {
    at(BEGUN) + seconds(n * 3600)
}

pub(crate) fn user(name: &str) -> By {
    let actor = Actor::User { issuer: "https://login.example.com".to_owned(), subject: name.to_owned() };
    By { actor, email: Some(format!("{name}@example.com")), is_admin: false }
}

pub(crate) fn admin(name: &str) -> By {
    By { is_admin: true, ..user(name) }
}

pub(crate) fn id() -> RequestId {
    RequestId::new(*b"thirteen byte")
}

/// A stage that all have to approve, of nobody.
pub(crate) fn stage(order: u32) -> Stage {
    Stage {
        id: Uuid::from_u128(order.into()),
        name: format!("stage {order}"),
        order,
        mode: Mode::All,
        mode_value: None,
        sla_hours: None,
        skip_if: None,
        on_empty: OnEmpty::Block,
        parallel_group: None,
        on_breach: None,
        escalation_rules: vec![],
        rules: vec![],
    }
}

pub(crate) fn definition(stages: Vec<Stage>) -> Definition {
    Definition {
        name: "Purchases".to_owned(),
        description: None,
        artifact_type: "purchase".to_owned(),
        forbid_self_approval: false,
        forbid_repeat_approvers: false,
        stages,
    }
}

/// These are asked; whoever has a star behind their name is required.
pub(crate) fn approvers(names: &[&str]) -> Asked {
    let approver = |name: &&str| match name.strip_suffix('*') {
        Some(name) => Approver { user: name.to_owned(), required: true },
        None => Approver { user: (*name).to_owned(), required: false },
    };
    Asked { approvers: names.iter().map(approver).collect(), ..Asked::default() }
}

/// A policy, and who its rules say.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) definition: Definition,
    /// Of each stage.
    pub(crate) asked: Vec<Asked>,
    /// Of each stage, when its approvers are late.
    pub(crate) instead: Vec<Asked>,
    /// In the order in which they were made: from whom, to whom, from which hour, until before which.
    pub(crate) delegations: Vec<(String, String, i64, i64)>,
}

impl Setting {
    /// These stages, and who is asked in each.
    pub(crate) fn of(stages: impl IntoIterator<Item = (Stage, Asked)>) -> Self {
        let (stages, asked): (Vec<_>, Vec<_>) = stages.into_iter().unzip();
        let instead = vec![Asked::default(); stages.len()];
        Self { definition: definition(stages), asked, instead, delegations: vec![] }
    }

    pub(crate) fn with_delegation(mut self, from: &str, to: &str, hours: std::ops::Range<i64>) -> Self {
        self.delegations.push((from.to_owned(), to.to_owned(), hours.start, hours.end));
        self
    }

    pub(crate) fn without_self_approval(mut self) -> Self {
        self.definition.forbid_self_approval = true;
        self
    }

    pub(crate) fn without_repeated_approvers(mut self) -> Self {
        self.definition.forbid_repeat_approvers = true;
        self
    }

    pub(crate) fn new_request(&self) -> New {
        New {
            id: id(),
            policy: Bound {
                key: "purchases".to_owned(),
                version: 3,
                id: Uuid::from_u128(3),
                item: "version#0003.0000000000".to_owned(),
                forbid_self_approval: self.definition.forbid_self_approval,
                forbid_repeat_approvers: self.definition.forbid_repeat_approvers,
            },
            artifact_type: "purchase".to_owned(),
            artifact_id: "p-17".to_owned(),
            source_service: "shop".to_owned(),
            requester: "req".to_owned(),
            context: json!({}),
            callback: None,
        }
    }

    /// Finds out what a rule has asked.
    pub(crate) fn answer(&self, question: Question, answers: &mut Answers, now: Timestamp) {
        answers.definition = Some(Arc::new(self.definition.clone()));
        let asked = match question {
            Question::Group(first) => {
                let group = self.definition.group(first).map_or(0, <[Stage]>::len);
                let asked = self.asked[first..first + group].to_vec();
                let before = answers.groups.insert(first, asked.clone());
                assert!(before.is_none(), "{question:?} was asked again");
                asked
            }
            Question::Escalation(place) => {
                let before = answers.escalations.insert(place, self.instead[place].clone());
                assert!(before.is_none(), "{question:?} was asked again");
                vec![self.instead[place].clone()]
            }
        };
        for Asked { approvers, observers, .. } in asked {
            for user in approvers.into_iter().map(|approver| approver.user).chain(observers) {
                if let Some(delegate) = self.delegations_of(&user).and_then(|all| all.delegate(now).map(str::to_owned))
                {
                    answers.delegates.insert(user, delegate);
                }
            }
        }
    }

    fn delegations_of(&self, user: &str) -> Option<Delegations> {
        let tenant: Tenant = "acme".parse().unwrap();
        let theirs = self.delegations.iter().filter(|(from, ..)| from == user);
        theirs.fold(None, |all, (from, to, starts, ends)| {
            let new = delegation::New {
                user: from.clone(),
                delegate_to: to.clone(),
                starts_at: hour(*starts),
                ends_at: hour(*ends),
                reason: None,
            };
            let by = Editor { actor: admin("adm").actor, email: None };
            Some(Delegations::add(all.as_ref(), &tenant, new, &by, hour(0)).unwrap().record)
        })
    }
}

/// A request and everything that was ever written about it.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    pub(crate) setting: Setting,
    pub(crate) request: Request,
    pub(crate) entries: Vec<Entry>,
    /// The items beside the record, by their names.
    pub(crate) items: BTreeMap<String, String>,
    /// Those of them that are stages, by their places.
    ended: BTreeMap<u8, Running>,
    /// How the tasks stand in the inboxes, by their ids.
    pub(crate) pointers: HashMap<String, Pointer>,
    /// How many items the last step wrote, with that of the record, of the change and of an idempotency key.
    pub(crate) written: usize,
    /// Which hour it is.
    pub(crate) hours: i64,
    decisions: u128,
}

impl Course {
    pub(crate) fn begin(setting: &Setting) -> Self {
        Self::begin_at(setting, setting.new_request(), 0).unwrap()
    }

    pub(crate) fn begin_at(setting: &Setting, new: New, hours: i64) -> Result<Self, Refusal> {
        let by = user("shop");
        let create = |answers: &Answers| Request::create(new.clone(), answers, &by, hour(hours));
        let Outcome::Change(change) =
            ask_until_known(setting, hour(hours), |answers| create(answers).map(Outcome::Change))?
        else {
            panic!("nothing was made")
        };
        let mut course = Self {
            setting: setting.clone(),
            request: change.record.clone(),
            entries: vec![],
            items: BTreeMap::new(),
            ended: BTreeMap::new(),
            pointers: HashMap::new(),
            written: 0,
            hours,
            decisions: 0,
        };
        course.keep(change);
        Ok(course)
    }

    fn keep(&mut self, change: Change<Request>) {
        self.written = change.with.len() + 3;
        // Every step meets the request as it was stored.
        let stored = serde_json::to_string(&change.record).unwrap();
        self.request = serde_json::from_str(&stored).unwrap();
        assert_eq!(self.request, change.record);
        for with in change.with {
            match with {
                With::Item { name, body } => {
                    if let Some(ended) = self.request.ended.iter().find(|ended| ended.item() == name) {
                        let stage: Running = serde_json::from_str(&body).unwrap();
                        assert_eq!((stage.place, stage.tasks.len()), (ended.place, usize::from(ended.tasks)));
                        self.ended.insert(stage.place, stage);
                    }
                    let before = self.items.insert(name, body);
                    assert_eq!(before, None, "an item is written once");
                }
                With::Pointer(pointer) => {
                    self.pointers.insert(pointer.id.clone(), pointer);
                }
                With::Born { .. } => panic!("a request has no children"),
            }
        }
        for entry in &change.entries {
            if entry.name == CLOSED {
                let closed: Vec<Pointer> = serde_json::from_value(entry.data["pointers"].clone()).unwrap();
                self.pointers.extend(closed.into_iter().map(|pointer| (pointer.id.clone(), pointer)));
            }
        }
        self.entries.extend(change.entries);
    }

    pub(crate) fn now(&self) -> Timestamp {
        hour(self.hours)
    }

    /// Applies a rule as a door does: until it has asked for all it wants to know. Whether anything has changed.
    fn apply(
        &mut self,
        rule: impl Fn(&Request, &Answers) -> Result<Outcome<Request>, Refusal>,
    ) -> Result<bool, Refusal> {
        match ask_until_known(&self.setting, self.now(), |answers| rule(&self.request, answers))? {
            Outcome::Keep => Ok(false),
            Outcome::Change(change) => {
                self.keep(change);
                Ok(true)
            }
        }
    }

    /// The same for something that somebody does to a task, which may be in a stage that has ended.
    fn act(
        &mut self,
        task: TaskId,
        by: &By,
        rule: impl Fn(&Request, &Answers) -> Result<Change<Request>, Refusal>,
    ) -> Result<(), Refusal> {
        let result = self.apply(|request, answers| rule(request, answers).map(Outcome::Change));
        if let Err(Refusal::StageEnded(ended)) = result {
            let task = self.ended[&ended.place].task(task.number).unwrap();
            task.check_assignee(by)?;
            return Err(Refusal::TaskIs(task.state.as_str()));
        }
        result.map(|_| ())
    }

    pub(crate) fn decide(&mut self, task: TaskId, action: Action, by: &By) -> Result<(), Refusal> {
        self.decisions += 1;
        let decision = Decision {
            id: Uuid::from_u128(self.decisions),
            action,
            comment: Some("looks so".to_owned()),
            attachments_ref: Some("s3://b/1".to_owned()),
        };
        let now = self.now();
        self.act(task, by, |request, answers| request.decide(task, &decision, answers, by, now))
    }

    pub(crate) fn claim(&mut self, task: TaskId, by: &By) -> Result<(), Refusal> {
        let now = self.now();
        self.act(task, by, |request, _| request.claim(task, by, now))
    }

    pub(crate) fn reassign(&mut self, task: TaskId, to: &str, by: &By) -> Result<(), Refusal> {
        let now = self.now();
        self.act(task, by, |request, _| request.reassign(task, to, Some("why"), by, now))
    }

    pub(crate) fn cancel(&mut self, by: &By) -> Result<(), Refusal> {
        let now = self.now();
        self.apply(|request, _| request.cancel(Some("why"), by, now).map(Outcome::Change)).map(|_| ())
    }

    /// Whether there was anything to do for the clock.
    pub(crate) fn tick(&mut self) -> Result<bool, Refusal> {
        let now = self.now();
        self.apply(|request, answers| request.tick(answers, now))
    }

    /// The task that somebody has been given last.
    pub(crate) fn task_of(&self, assignee: &str) -> TaskId {
        let tasks = self.tasks();
        let theirs = tasks.iter().rfind(|(_, task)| task.assignee == assignee);
        *theirs.unwrap_or_else(|| panic!("{assignee} has no task")).0
    }

    /// Somebody decides about the task that they were given last.
    pub(crate) fn says(&mut self, assignee: &str, action: Action) -> Result<(), Refusal> {
        self.decide(self.task_of(assignee), action, &user(assignee))
    }

    /// Every task that there has ever been, by its id.
    pub(crate) fn tasks(&self) -> BTreeMap<TaskId, Task> {
        let stages = self.ended.values().chain(&self.request.running);
        stages
            .flat_map(|stage| {
                let place = stage.place;
                stage.tasks.iter().map(move |task| (TaskId { stage: place, number: task.number }, task.clone()))
            })
            .collect()
    }

    /// What the world was told.
    pub(crate) fn events(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.class == EntryClass::Public)
    }
}

/// Applies a rule again and again, each time with the answer to what it has asked.
pub(crate) fn ask_until_known(
    setting: &Setting,
    now: Timestamp,
    rule: impl Fn(&Answers) -> Result<Outcome<Request>, Refusal>,
) -> Result<Outcome<Request>, Refusal> {
    let mut answers = Answers::default();
    loop {
        match rule(&answers) {
            Err(Refusal::Ask(question)) => setting.answer(question, &mut answers, now),
            result => return result,
        }
    }
}

/// What an event says beside what every event says.
pub(crate) fn told(entry: &Entry) -> Value {
    let Value::Object(mut data) = entry.data.clone() else { panic!("{entry:?} says nothing") };
    for key in ["request_id", "artifact_type", "artifact_id", "status", "stage_order"] {
        assert!(data.remove(key).is_some(), "{entry:?} has no {key}");
    }
    Value::Object(data)
}

pub(crate) fn skipped() -> Asked {
    Asked { skipped: true, ..approvers(&["nobody"]) }
}

pub(crate) fn passed_over(order: u32) -> Stage {
    Stage { on_empty: OnEmpty::Skip, ..stage(order) }
}

pub(crate) fn any(n: u32, order: u32) -> Stage {
    Stage { mode: Mode::AnyN, mode_value: Some(n), ..stage(order) }
}

/// A stage that is decided together with its neighbours.
pub(crate) fn beside(order: u32) -> Stage {
    Stage { parallel_group: Some(7), ..stage(order) }
}

pub(crate) fn within(hours: u32, on_breach: OnBreach, stage: Stage) -> Stage {
    Stage { sla_hours: Some(hours), on_breach: Some(on_breach), ..stage }
}

pub(crate) fn observed(people: &[&str], observers: &[&str]) -> Asked {
    Asked { observers: observers.iter().map(|name| (*name).to_owned()).collect(), ..approvers(people) }
}

/// The events, by their names and the order of the stage that they are about.
pub(crate) fn names(course: &Course) -> Vec<String> {
    course.events().map(|event| format!("{}({})", event.name, event.data["stage_order"])).collect()
}

pub(crate) fn last_event(course: &Course) -> Value {
    told(course.events().last().unwrap())
}

/// How every task of a request stands, in the order of stages and numbers.
pub(crate) fn states(course: &Course) -> Vec<String> {
    course.tasks().values().map(|task| format!("{} {}", task.assignee, task.state.as_str())).collect()
}

/// So many people, u0 and so on.
pub(crate) fn crowd(count: usize) -> Asked {
    let people: Vec<String> = (0..count).map(|n| format!("u{n}")).collect();
    approvers(&people.iter().map(String::as_str).collect::<Vec<_>>())
}
