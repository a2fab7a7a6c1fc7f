//! Approval requests in the worker's hands: time that passes for them, and the inboxes of those who were asked.

use crate::world::{World, acme, deadline};
use countersign_clock::sweep;
use countersign_domain::workflow::Mode;
use countersign_domain::workflow::policy::{Definition, OnBreach, OnEmpty, Stage};
use countersign_domain::workflow::request::{
    Action, Answers, Approver, Asked, Bound, By, Callback, Decision, New, Refusal, Request, RequestId, Status, TaskId,
};
use countersign_domain::{Actor, Change, Outcome, Timestamp, Work};
use countersign_queue::Lane;
use countersign_store::Key;
use countersign_testing::receiver::Receiver;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// Stages one after the other, in each of which all of these are asked, and what happens when they are late: after two
/// hours in the first stage, after four in the second.
pub(crate) fn answers(stages: &[OnBreach], approvers: &[&str]) -> Answers {
    let stage = |(order, on_breach): (u32, &OnBreach)| Stage {
        id: Uuid::from_u128(order.into()),
        name: format!("Stage {order}"),
        order,
        mode: Mode::AnyN,
        mode_value: None,
        sla_hours: Some(2 * order),
        skip_if: None,
        on_empty: OnEmpty::Block,
        parallel_group: None,
        on_breach: Some(*on_breach),
        escalation_rules: Vec::new(),
        rules: Vec::new(),
    };
    let definition = Definition {
        name: "Policy".to_owned(),
        description: None,
        artifact_type: "change".to_owned(),
        forbid_self_approval: false,
        forbid_repeat_approvers: false,
        stages: (1..).zip(stages).map(stage).collect(),
    };
    let approvers = approvers.iter().map(|user| Approver { user: (*user).to_owned(), required: false }).collect();
    let asked = Asked { skipped: false, approvers, observers: Vec::new() };
    Answers {
        definition: Some(Arc::new(definition)),
        groups: (0..stages.len()).map(|place| (place, vec![asked.clone()])).collect(),
        escalations: HashMap::new(),
        delegates: HashMap::new(),
    }
}

pub(crate) fn request_id(number: u8) -> RequestId {
    RequestId::new([number; 13])
}

pub(crate) fn request_key(number: u8) -> Key<Request> {
    Key::new(&acme(), &request_id(number).to_string())
}

pub(crate) fn admin() -> By {
    let actor = Actor::User { issuer: "test".to_owned(), subject: "u-adm".to_owned() };
    By { actor, email: None, is_admin: true }
}

impl World {
    /// Makes a request, which are events of its own and of its first stage; word of them.
    pub(crate) async fn request(&self, number: u8, callback: Option<Callback>, answers: &Answers) -> Vec<Work> {
        let policy = Bound {
            key: "policy".to_owned(),
            version: 1,
            id: Uuid::from_u128(7),
            item: "version#1".to_owned(),
            forbid_self_approval: false,
            forbid_repeat_approvers: false,
        };
        let new = New {
            id: request_id(number),
            policy,
            artifact_type: "change".to_owned(),
            artifact_id: format!("cr-{number}"),
            source_service: "svc".to_owned(),
            requester: "u-req".to_owned(),
            context: Value::Null,
            callback,
        };
        let rule = |_: Option<&Request>, now| Request::create(new.clone(), answers, &admin(), now).map(Outcome::Change);
        self.change(&request_key(number), rule).await
    }

    /// Changes a request by a rule that is not refused; word of what happened.
    pub(crate) async fn change_request(
        &self,
        number: u8,
        rule: impl Fn(&Request, Timestamp) -> Result<Change<Request>, Refusal>,
    ) -> Vec<Work> {
        let rule = |found: Option<&Request>, now| rule(found.unwrap(), now).map(Outcome::Change);
        self.change(&request_key(number), rule).await
    }

    /// Gives the task with this number in the first stage to somebody else, which is one event; word of it.
    pub(crate) async fn reassign(&self, number: u8, task: u16, to: &str) -> Vec<Work> {
        let task = TaskId { stage: 0, number: task };
        self.change_request(number, |request, now| request.reassign(task, to, None, &admin(), now)).await
    }

    /// Decides about the task with this number in the first stage; word of it.
    pub(crate) async fn decide(&self, number: u8, task: u16, action: Action, answers: &Answers) -> Vec<Work> {
        let task = TaskId { stage: 0, number: task };
        let decision = Decision { id: Uuid::from_u128(9), action, comment: None, attachments_ref: None };
        self.change_request(number, |request, now| request.decide(task, &decision, answers, &admin(), now)).await
    }

    /// Calls a request off, which is one event; word of it.
    pub(crate) async fn call_off(&self, number: u8) -> Vec<Work> {
        self.change_request(number, |request, now| request.cancel(None, &admin(), now)).await
    }

    pub(crate) async fn status_of(&self, number: u8) -> Status {
        self.app.store.load(&request_key(number), deadline()).await.unwrap().unwrap().record.status
    }

    /// The names of what happened to a request that the world is told.
    async fn told(&self, number: u8) -> Vec<String> {
        let entries = self.entries(&request_key(number)).await;
        let public = entries.into_iter().filter(|entry| entry.class == countersign_domain::EntryClass::Public);
        public.map(|entry| entry.name).collect()
    }

    /// How the tasks stand in the inboxes of those who were asked, by their names.
    async fn inboxes(&self) -> BTreeMap<String, String> {
        let dump: Value = serde_json::from_str(&self.table().dump("countersign").await).unwrap();
        let text = |item: &Value, name: &str| item[name]["S"].as_str().unwrap_or_default().to_owned();
        let items = dump["Items"].as_array().unwrap().iter();
        let task = |item: &Value| {
            let assignee = text(item, "pk").strip_prefix("inbox#acme#task:")?.to_owned();
            Some((assignee, text(item, "state_pk").strip_prefix("task#acme#")?.to_owned()))
        };
        items.filter_map(task).collect()
    }
}

fn states<const N: usize>(states: [(&str, &str); N]) -> BTreeMap<String, String> {
    states.into_iter().map(|(user, state)| (user.to_owned(), state.to_owned())).collect()
}

#[tokio::test]
async fn endpoints_hear_of_requests_as_of_everything_else() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    world.subscribe(1, &receiver.url("/all"), &["*"]).await;
    world.subscribe(2, &receiver.url("/stages"), &["stage.started"]).await;
    let work = world.request(1, None, &answers(&[OnBreach::Notify], &["u-ann"])).await;
    assert_eq!(world.worker.handle(Lane::Fast, &work).await, [0; 0]);
    let received = receiver.received();
    let mut told: Vec<_> =
        received.iter().map(|received| (received.path.clone(), received.json()["event_type"].to_string())).collect();
    told.sort_unstable();
    let all = ["request.created", "stage.started"].map(|name| ("/all".to_owned(), format!("{name:?}")));
    assert_eq!(told, [&all[..], &[("/stages".to_owned(), "\"stage.started\"".to_owned())]].concat());
    assert_eq!(received[0].json()["subject"]["id"], request_id(1).to_string());
}

#[tokio::test]
async fn tasks_that_were_closed_together_are_tidied_in_the_inboxes_however_often_it_is_asked_for() {
    let mut world = World::new().await;
    let all = answers(&[OnBreach::Notify], &["u-ann", "u-bob", "u-eve"]);
    world.app.tell(&world.request(1, None, &all).await).await;
    world.settle().await;
    let work = world.decide(1, 2, Action::Approve, &all).await;
    // Only the one who decided is up to date so far.
    assert_eq!(world.inboxes().await, states([("u-ann", "open"), ("u-bob", "completed"), ("u-eve", "open")]));
    let tidy = states([("u-ann", "skipped"), ("u-bob", "completed"), ("u-eve", "skipped")]);
    for _ in 0..2 {
        assert_eq!(world.worker.handle(Lane::Fast, &work).await, [0; 0]);
        assert_eq!(world.inboxes().await, tidy);
    }
    assert_eq!(world.due().await, []);
}

#[tokio::test]
async fn what_was_closed_is_tidied_by_the_next_process_if_one_dies_before_it_is_done() {
    let world = World::new().await;
    world.request(1, None, &answers(&[OnBreach::Notify], &["u-ann", "u-bob"])).await;
    let work = world.call_off(1).await;
    // It has told everybody, and is gone.
    drop(world.worker.plan(Lane::Fast, &work).await);
    assert_eq!(world.inboxes().await, states([("u-ann", "open"), ("u-bob", "open")]));
    let mut next = world.beside(&[]).await;
    next.pass(MINUTE).await;
    assert_eq!(world.inboxes().await, states([("u-ann", "skipped"), ("u-bob", "skipped")]));
    assert_eq!(world.due().await, []);
}

#[tokio::test]
async fn when_nobody_has_decided_in_time_what_the_policy_says_happens() {
    for (on_breach, ends, told) in [
        (OnBreach::Notify, Status::InReview, &["task.expired", "task.expired"][..]),
        (
            OnBreach::AutoApprove,
            Status::Approved,
            &["task.expired", "task.expired", "stage.completed", "request.approved"],
        ),
        (
            OnBreach::AutoReject,
            Status::Rejected,
            &["task.expired", "task.expired", "stage.completed", "request.rejected"],
        ),
    ] {
        let mut world = World::new().await;
        world.app.tell(&world.request(1, None, &answers(&[on_breach], &["u-ann", "u-bob"])).await).await;
        world.settle().await;
        world.pass(2 * HOUR - Duration::from_micros(1)).await;
        assert_eq!(world.told(1).await, ["request.created", "stage.started"], "not before");
        world.pass(Duration::from_micros(1)).await;
        assert_eq!(world.told(1).await[2..], *told, "{on_breach:?}");
        assert_eq!(world.status_of(1).await, ends);
        world.pass(24 * HOUR).await;
        assert_eq!(world.told(1).await.len(), 2 + told.len(), "and only once");
        assert_eq!(world.due().await, []);
    }
}

#[tokio::test]
async fn late_stages_are_looked_at_one_after_the_other_until_none_is_left() {
    let mut world = World::new().await;
    let mut both = answers(&[OnBreach::Notify, OnBreach::AutoApprove], &["u-ann"]);
    // Decided at the same time.
    let mut definition = Definition::clone(both.definition.as_ref().unwrap());
    definition.stages.iter_mut().for_each(|stage| stage.parallel_group = Some(1));
    both.definition = Some(Arc::new(definition));
    let asked = both.groups[&0][0].clone();
    both.groups = HashMap::from([(0, vec![asked.clone(), asked])]);
    world.app.tell(&world.request(1, None, &both).await).await;
    // The clock stood still, and all of them are late.
    world.lose_word();
    world.pass(5 * HOUR).await;
    let told = world.told(1).await;
    assert_eq!(told.iter().filter(|name| *name == "task.expired").count(), 2);
    assert_eq!(told.last().unwrap(), "stage.completed");
    assert_eq!((world.status_of(1).await, world.due().await), (Status::InReview, Vec::new()));
}

#[tokio::test]
async fn a_request_of_which_somebody_has_to_be_asked_is_put_off_and_holds_up_no_other() {
    let mut world = World::new().await;
    for (number, on_breach) in [(1, OnBreach::Escalate), (2, OnBreach::AutoApprove)] {
        world.app.tell(&world.request(number, None, &answers(&[on_breach], &["u-ann"])).await).await;
    }
    world.settle().await;
    world.pass(2 * HOUR).await;
    assert_eq!((world.status_of(1).await, world.status_of(2).await), (Status::InReview, Status::Approved));
    // It is looked at again after a minute, then after two.
    for minutes in [1, 2] {
        let [due] = &world.due().await[..] else { panic!("it is due, and nothing else") };
        assert_eq!((due.kind(), due.at), ("request", world.clock.now() + minutes * MINUTE));
        world.pass(minutes * MINUTE - Duration::from_micros(1)).await;
        sweep(&world.app, Duration::ZERO, deadline()).await;
        assert_eq!(world.lose_word(), 0);
        world.pass(Duration::from_micros(1)).await;
    }
    assert_eq!(world.told(1).await, ["request.created", "stage.started"]);
}
