//! Requests of random policies, whatever is done to them and by whom, held against a second opinion that was written
//! from their description alone.

mod naive;

use crate::workflow::{Course, Setting, admin, hour, stage, told, user};
use countersign_domain::workflow::policy::{Kind, OnBreach, OnEmpty, Stage};
use countersign_domain::workflow::request::{
    Action, Approver, Asked, DECIDED, Refusal, Status, TaskId, TaskState, inbox,
};
use countersign_domain::workflow::{Mode, SLA_MONITOR};
use countersign_domain::{Record, rfc3339_micros};
use naive::{Delegation, Event, Naive, Policy, Refused};
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Few, so that they meet again.
const PEOPLE: [&str; 6] = ["ann", "bob", "cid", "dot", "eve", "req"];

/// What is done to a request, as far as it does not depend on what has become of it.
#[derive(Clone, Debug)]
enum Command {
    Decide {
        task: Which,
        who: Who,
        action: Action,
    },
    Claim {
        task: Which,
        who: Who,
    },
    Reassign {
        task: Which,
        to: &'static str,
    },
    Cancel,
    Wait {
        hours: i64,
    },
    /// Time goes by, and the clock is late.
    WaitUnseen {
        hours: i64,
    },
}

#[derive(Clone, Debug)]
enum Which {
    Pending(Index),
    Any(Index),
    None,
}

#[derive(Clone, Copy, Debug)]
enum Who {
    Assignee,
    Other(&'static str),
    Admin(&'static str),
}

fn command() -> impl Strategy<Value = Command> {
    let which = || {
        prop_oneof![
            8 => any::<Index>().prop_map(Which::Pending),
            2 => any::<Index>().prop_map(Which::Any),
            1 => Just(Which::None),
        ]
    };
    let who = || {
        prop_oneof![
            8 => Just(Who::Assignee),
            1 => select(&PEOPLE[..]).prop_map(Who::Other),
            2 => select(&PEOPLE[..]).prop_map(Who::Admin),
            1 => Just(Who::Admin("adm")),
            1 => Just(Who::Other("zed")),
        ]
    };
    let action = prop_oneof![6 => Just(Action::Approve), 1 => Just(Action::Reject), 2 => Just(Action::Abstain)];
    let to = prop_oneof![4 => select(&PEOPLE[..]), 1 => Just("zed")];
    prop_oneof![
        24 => (which(), who(), action).prop_map(|(task, who, action)| Command::Decide { task, who, action }),
        3 => (which(), who()).prop_map(|(task, who)| Command::Claim { task, who }),
        6 => (which(), to).prop_map(|(task, to)| Command::Reassign { task, to }),
        1 => Just(Command::Cancel),
        6 => (0..6_i64).prop_map(|hours| Command::Wait { hours }),
        3 => (0..6_i64).prop_map(|hours| Command::WaitUnseen { hours }),
    ]
}

fn people(most: usize) -> impl Strategy<Value = Vec<(&'static str, bool)>> {
    let some = subsequence(&PEOPLE[..], 0..=most).prop_shuffle();
    some.prop_flat_map(|people| {
        let required = proptest::collection::vec(prop::bool::weighted(0.15), people.len());
        required.prop_map(move |required| people.iter().copied().zip(required).collect())
    })
}

fn plain_stage() -> impl Strategy<Value = naive::Stage> {
    let mode = select(vec![
        ("all", None),
        ("all", None),
        ("all", Some(1)),
        ("any-n", None),
        ("any-n", Some(1)),
        ("any-n", Some(2)),
        ("quorum", Some(2)),
        ("quorum", Some(3)),
        ("percentage", None),
        ("percentage", Some(34)),
        ("percentage", Some(50)),
        ("percentage", Some(60)),
        ("percentage", Some(67)),
    ]);
    let sla = prop_oneof![1 => Just(None), 3 => (1..6_i64).prop_map(Some)];
    let on_breach = select(vec![
        None,
        Some("notify"),
        Some("auto_approve"),
        Some("auto_reject"),
        Some("escalate"),
        Some("escalate"),
        Some("escalate"),
    ]);
    let on_empty = prop_oneof![3 => Just("skip"), 1 => Just("block")];
    let observers = subsequence(&PEOPLE[..], 0..=2);
    let group = select(vec![None, None, Some(1), Some(1), Some(2)]);
    let asked = (prop_oneof![1 => people(0), 9 => people(4)], observers, people(4));
    let skipped = prop::bool::weighted(0.15);
    (1..4_u32, mode, group, skipped, on_empty, sla, on_breach, asked).prop_map(
        |(order, (mode, value), parallel_group, skipped, on_empty, sla_hours, on_breach, asked)| {
            let (approvers, observers, escalation) = asked;
            naive::Stage {
                order,
                mode,
                value,
                parallel_group,
                skipped,
                on_empty,
                sla_hours,
                on_breach,
                approvers,
                observers,
                escalation,
            }
        },
    )
}

fn policy() -> impl Strategy<Value = Policy> {
    let delegation = (select(&PEOPLE[..]), select(&PEOPLE[..]), -5..20_i64, 1..20_i64)
        .prop_filter_map("nobody delegates to themselves", |(user, to, starts, hours)| {
            (user != to).then_some(Delegation { user, to, starts, ends: starts + hours })
        });
    let stages = proptest::collection::vec(plain_stage(), 0..=5);
    let delegations = proptest::collection::vec(delegation, 0..=3);
    (any::<bool>(), any::<bool>(), stages, delegations).prop_map(
        |(forbid_self_approval, forbid_repeat_approvers, mut stages, delegations)| {
            // What each stage has as its order is how far it is from the one before.
            let mut order = 0;
            let mut seen: Vec<i32> = vec![];
            let mut before = None;
            for stage in &mut stages {
                order += stage.order;
                stage.order = order;
                // The members of a group are neighbours.
                if stage.parallel_group != before && stage.parallel_group.is_some_and(|group| seen.contains(&group)) {
                    stage.parallel_group = None;
                }
                before = stage.parallel_group;
                seen.extend(before);
            }
            Policy { forbid_self_approval, forbid_repeat_approvers, stages, delegations }
        },
    )
}

/// The same policy, as the rules know it.
fn setting(policy: &Policy) -> Setting {
    let asked = |people: &[(&'static str, bool)]| {
        let approver = |(user, required): &(&str, bool)| Approver { user: (*user).to_owned(), required: *required };
        people.iter().map(approver).collect()
    };
    let stages = policy.stages.iter().map(|plain| {
        let on_breach = plain.on_breach.map(|word| OnBreach::named(word).unwrap());
        let stage = Stage {
            mode: Mode::named(plain.mode).unwrap(),
            mode_value: plain.value,
            parallel_group: plain.parallel_group,
            on_empty: OnEmpty::named(plain.on_empty).unwrap(),
            sla_hours: plain.sla_hours.map(|hours| hours.try_into().unwrap()),
            on_breach,
            ..stage(plain.order)
        };
        let observers = plain.observers.iter().map(|user| (*user).to_owned()).collect();
        (stage, Asked { skipped: plain.skipped, approvers: asked(&plain.approvers), observers })
    });
    let mut setting = Setting::of(stages);
    setting.definition.forbid_self_approval = policy.forbid_self_approval;
    setting.definition.forbid_repeat_approvers = policy.forbid_repeat_approvers;
    setting.definition.clone().ordered().unwrap();
    setting.instead =
        policy.stages.iter().map(|plain| Asked { approvers: asked(&plain.escalation), ..Asked::default() }).collect();
    policy.delegations.iter().fold(setting, |setting, Delegation { user, to, starts, ends }| {
        setting.with_delegation(user, to, *starts..*ends)
    })
}

fn task_id(stage: usize, number: usize) -> TaskId {
    TaskId { stage: stage.try_into().unwrap(), number: number.try_into().unwrap() }
}

/// How a caller learns of a refusal.
fn class(refusal: &Refusal) -> Refused {
    match refusal {
        Refusal::NotFound | Refusal::TaskNotFound => Refused::NotFound,
        Refusal::NotTheAssignee => Refused::NotTheirs,
        Refusal::Excluded(_) => Refused::Excluded,
        Refusal::AssigneeExcluded(_)
        | Refusal::Ended(_)
        | Refusal::TaskIs(_)
        | Refusal::SameAssignee(_)
        | Refusal::HasTask(_) => Refused::Conflict,
        Refusal::TooManyEver | Refusal::StageEnded(_) | Refusal::TooManyTasks { .. } | Refusal::Ask(_) => {
            panic!("{refusal:?} cannot come of these policies")
        }
    }
}

/// A request in both opinions.
struct Both {
    rules: Course,
    naive: Naive,
    /// How many events were compared.
    compared: usize,
}

impl Both {
    fn begin(policy: Policy) -> Self {
        let setting = setting(&policy);
        Self { rules: Course::begin(&setting), naive: Naive::create(policy, "req", 0), compared: 0 }
    }

    fn do_it(&mut self, command: &Command) -> Result<(), TestCaseError> {
        let now = self.rules.hours;
        match command {
            Command::Decide { task, who, action } => {
                let (task, name, is_admin) = self.choose(task, *who);
                let rules = self.rules.decide(task_id(task.0, task.1), *action, &by(name, is_admin));
                let naive = self.naive.decide(task, name, is_admin, action.as_str(), now);
                // Who may approve in a stage is not asked any more once it has been put away.
                let is_away = self.rules.request.ended.iter().any(|ended| usize::from(ended.place) == task.0);
                let naive = if is_away && naive == Err(Refused::Excluded) { Err(Refused::Conflict) } else { naive };
                prop_assert_eq!(rules.map_err(|refusal| class(&refusal)), naive);
            }
            Command::Claim { task, who } => {
                let (task, name, is_admin) = self.choose(task, *who);
                let rules = self.rules.claim(task_id(task.0, task.1), &by(name, is_admin));
                let naive = self.naive.claim(task, name, is_admin);
                prop_assert_eq!(rules.map_err(|refusal| class(&refusal)), naive);
            }
            Command::Reassign { task, to } => {
                let (task, ..) = self.choose(task, Who::Admin("adm"));
                let rules = self.rules.reassign(task_id(task.0, task.1), to, &admin("adm"));
                let naive = self.naive.reassign(task, to, "adm");
                prop_assert_eq!(rules.map_err(|refusal| class(&refusal)), naive);
            }
            Command::Cancel => {
                let rules = self.rules.cancel(&admin("adm")).map_err(|refusal| class(&refusal));
                prop_assert_eq!(rules, self.naive.cancel("adm"));
            }
            Command::Wait { hours } => {
                self.rules.hours += hours;
                self.tick()?;
            }
            Command::WaitUnseen { hours } => self.rules.hours += hours,
        }
        self.compare()
    }

    /// The clock looks until there is nothing more to do.
    fn tick(&mut self) -> Result<(), TestCaseError> {
        // Each time it tells of a stage's tasks, ends a stage or finds nothing.
        for _ in 0..self.naive.tasks.len() + 20 {
            let is_due = self.rules.request.due().is_some_and(|due| due <= self.rules.now());
            let rules = self.rules.tick().unwrap();
            prop_assert_eq!(rules, is_due, "what is due is done, and nothing else");
            prop_assert_eq!(rules, self.naive.tick(self.rules.hours));
            self.compare()?;
            if !rules {
                return Ok(());
            }
        }
        Err(TestCaseError::fail("the clock never finds an end"))
    }

    /// Whoever is asked approves: any request comes to an end.
    fn finish(&mut self) -> Result<(), TestCaseError> {
        self.tick()?;
        while !self.naive.is_terminal() {
            let pending = self.naive.tasks.iter().find(|task| task.is_pending() && task.kind == "approver").unwrap();
            let (stage, number, assignee) = (pending.stage, pending.number, pending.assignee);
            prop_assert_eq!(self.naive.decide((stage, number), assignee, false, "approve", self.rules.hours), Ok(()));
            let rules = self.rules.decide(task_id(stage, number), Action::Approve, &user(assignee));
            prop_assert_eq!(rules, Ok(()));
            self.compare()?;
        }
        Ok(())
    }

    /// What a command is about, and who gives it.
    fn choose(&self, which: &Which, who: Who) -> ((usize, usize), &'static str, bool) {
        let any: Vec<_> = self.naive.tasks.iter().collect();
        let pending: Vec<_> = any.iter().copied().filter(|task| task.is_pending()).collect();
        let task = match which {
            Which::Pending(index) if !pending.is_empty() => Some(*index.get(&pending)),
            Which::Pending(index) | Which::Any(index) if !any.is_empty() => Some(*index.get(&any)),
            Which::Pending(_) | Which::Any(_) | Which::None => None,
        };
        let (name, is_admin) = match who {
            Who::Assignee => (task.map_or("ann", |task| task.assignee), false),
            Who::Other(name) => (name, false),
            Who::Admin(name) => (name, true),
        };
        (task.map_or((7, 0), |task| (task.stage, task.number)), name, is_admin)
    }

    fn compare(&mut self) -> Result<(), TestCaseError> {
        let Self { rules, naive, .. } = &*self;
        prop_assert_eq!(rules.request.status.as_str(), naive.status);
        prop_assert_eq!(rules.request.current_stage_order, naive.current_stage_order);
        self.compare_tasks()?;
        self.compare_events()?;
        self.check_invariants()
    }

    fn compare_tasks(&self) -> Result<(), TestCaseError> {
        let tasks = self.rules.tasks();
        let decisions = self.decisions();
        prop_assert_eq!(tasks.len(), self.naive.tasks.len());
        for plain in &self.naive.tasks {
            let id = task_id(plain.stage, plain.number);
            let Some(task) = tasks.get(&id) else {
                return Err(TestCaseError::fail(format!("the rules have no {id:?}")));
            };
            let decided = decisions.get(&id).map(|(actor, action)| (actor.as_str(), action.as_str()));
            let seen = naive::Task {
                stage: id.stage.into(),
                number: id.number.into(),
                kind: task.kind.as_str(),
                assignee: known(&task.assignee),
                required: task.required,
                delegated_from: task.delegated_from.as_deref().map(known),
                reassigned_from: task.reassigned_from.as_deref().map(known),
                status: task.state.as_str(),
                due: task.due_at.map(|due| due.duration_since(hour(0)).as_hours()),
                decided: decided.map(|(actor, action)| (known(actor), Action::named(action).unwrap().as_str())),
                told: task.late,
            };
            prop_assert_eq!(&seen, plain);
            let pointer = &self.rules.pointers[&self.rules.request.id.task(id).to_string()];
            prop_assert_eq!(&pointer.inbox, &inbox(&task.assignee));
            prop_assert_eq!(&pointer.state, task.state.as_str());
            prop_assert_eq!(pointer.created_at, task.created_at);
        }
        Ok(())
    }

    /// Who has decided about which task, and what.
    fn decisions(&self) -> BTreeMap<TaskId, (String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let decided = self.rules.entries.iter().filter(|entry| entry.name == DECIDED);
        decided
            .map(|entry| {
                let (request, task) = TaskId::read(entry.data["task_id"].as_str().unwrap().parse().unwrap());
                assert_eq!(request, self.rules.request.id);
                (task, (text(&entry.data["actor"]), text(&entry.data["action"])))
            })
            .collect()
    }

    fn compare_events(&mut self) -> Result<(), TestCaseError> {
        let rules: Vec<Value> = self
            .rules
            .events()
            .skip(self.compared)
            .map(|entry| {
                let name = entry.name.replacen('.', "_", 1);
                json!([name, entry.data["status"], entry.data["stage_order"], told(entry)])
            })
            .collect();
        let naive: Vec<Value> = self.naive.events[self.compared..].iter().map(|event| self.spelled(event)).collect();
        prop_assert_eq!(rules, naive);
        self.compared = self.naive.events.len();
        Ok(())
    }

    /// An event of the second opinion with ids and times as the rules spell them.
    fn spelled(&self, Event { name, status, stage_order, more }: &Event) -> Value {
        let mut more = more.clone();
        for key in ["task_id", "new_task_id"] {
            if let Some(task) = more.get_mut(key) {
                let (stage, number) = task.as_str().unwrap().split_once('/').unwrap();
                let id = task_id(stage.parse().unwrap(), number.parse().unwrap());
                *task = json!(self.rules.request.id.task(id));
            }
        }
        if let Some(due) = more.get_mut("due_at") {
            *due = rfc3339_micros(hour(due.as_i64().unwrap())).into();
        }
        json!([name, status, stage_order, more])
    }

    fn check_invariants(&self) -> Result<(), TestCaseError> {
        let request = &self.rules.request;
        let tasks = self.rules.tasks();
        let pending = || tasks.values().filter(|task| task.is_pending());
        prop_assert!(request.status != Status::Pending);
        if request.status.is_terminal() {
            prop_assert_eq!(pending().count(), 0, "nothing waits in a request that has ended");
            prop_assert!(request.completed_at.is_some() && request.due().is_none());
        } else {
            let approver = pending().find(|task| task.kind == Kind::Approver);
            prop_assert!(approver.is_some(), "somebody is asked until a request has ended");
            prop_assert!(request.completed_at.is_none());
        }
        let counts = |state: &TaskState| !["reassigned", "expired"].contains(&state.as_str());
        let mut seats = BTreeSet::new();
        for (id, task) in tasks.iter().filter(|(_, task)| counts(&task.state)) {
            let seat = (id.stage, task.kind, &task.assignee);
            prop_assert!(seats.insert(seat), "{:?} is asked twice", seat);
            if request.status == Status::Approved && task.required {
                let approved = matches!(&task.state, TaskState::Completed { action: Action::Approve, .. });
                prop_assert!(approved, "{:?} was required and has not approved", id);
            }
        }
        self.check_duties()
    }

    /// Nobody has approved whom separation of duties excludes.
    fn check_duties(&self) -> Result<(), TestCaseError> {
        let tasks = self.rules.tasks();
        let policy = &self.naive.policy;
        let group = |stage: u8| {
            let group = policy.stages[usize::from(stage)].parallel_group;
            group.map_or(-1 - i64::from(stage), i64::from)
        };
        let mut approved: BTreeMap<String, i64> = BTreeMap::new();
        for (id, (actor, action)) in self.decisions() {
            if action != "approve" || tasks[&id].kind == Kind::Observer || actor == SLA_MONITOR {
                continue;
            }
            prop_assert!(!policy.forbid_self_approval || actor != self.naive.requester);
            let group = group(id.stage);
            let before = approved.insert(actor, group);
            prop_assert!(!policy.forbid_repeat_approvers || before.is_none_or(|before| before == group));
        }
        Ok(())
    }
}

fn by(name: &str, is_admin: bool) -> countersign_domain::workflow::request::By {
    if is_admin { admin(name) } else { user(name) }
}

/// The same name, for ever.
fn known(name: &str) -> &'static str {
    let others = ["adm", "zed", SLA_MONITOR];
    PEOPLE.into_iter().chain(others).find(|known| *known == name).unwrap()
}

proptest! {
    // Few policies have everything; a run is cheap.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(3000), ..ProptestConfig::default() })]

    #[test]
    fn the_rules_and_a_second_opinion_agree_about_every_step_of_every_request(
        policy in policy(),
        commands in proptest::collection::vec(command(), 0..30),
    ) {
        let mut both = Both::begin(policy);
        both.compare()?;
        for command in &commands {
            both.do_it(command)?;
        }
        both.finish()?;
    }
}
