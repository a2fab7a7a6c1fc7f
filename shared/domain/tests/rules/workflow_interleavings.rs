//! Small races, every interleaving of them: each actor reads the request, judges by what was read, and writes only if
//! nobody has written since; else it reads again.

use crate::workflow::{Course, Setting, admin, any, approvers, hour, stage, user};
use countersign_domain::EntryClass;
use countersign_domain::workflow::policy::{OnBreach, Stage};
use countersign_domain::workflow::request::{Action, DECIDED, Refusal, Status, TaskId};
use sha2::{Digest, Sha256};
use std::collections::HashSet;

/// Something that an actor does.
#[derive(Clone, Debug)]
enum Step {
    Claim(&'static str),
    Decide(&'static str, Action),
    /// An administrator decides for somebody.
    DecideFor(&'static str, Action),
    Reassign(&'static str, &'static str),
    Cancel,
    Tick,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Refused,
}

#[derive(Clone)]
struct Actor {
    steps: Vec<Step>,
    ends: Vec<End>,
    /// What it is about to write, and over which version.
    writing: Option<(u32, Course)>,
}

/// A moment in a race.
#[derive(Clone)]
struct Moment {
    course: Course,
    version: u32,
    actors: Vec<Actor>,
}

impl Step {
    /// What comes of it, judged by what was read; `None` if there is nothing to write.
    fn judge(&self, read: &Course) -> Result<Option<Course>, Refusal> {
        let mut course = read.clone();
        let changed = match self {
            Self::Claim(name) => course.claim(first_task(read, name), &user(name)).map(|()| true),
            Self::Decide(name, action) => course.decide(first_task(read, name), *action, &user(name)).map(|()| true),
            Self::DecideFor(name, action) => {
                course.decide(first_task(read, name), *action, &admin("adm")).map(|()| true)
            }
            Self::Reassign(name, to) => course.reassign(first_task(read, name), to, &admin("adm")).map(|()| true),
            Self::Cancel => course.cancel(&admin("adm")).map(|()| true),
            Self::Tick => course.tick(),
        };
        changed.map(|changed| changed.then_some(course))
    }
}

/// The task that somebody was given first.
fn first_task(course: &Course, assignee: &str) -> TaskId {
    *course.tasks().iter().find(|(_, task)| task.assignee == assignee).unwrap().0
}

impl Moment {
    /// Lets an actor go one step further: read and judge, or write.
    fn after(&self, place: usize) -> Self {
        let mut next = self.clone();
        let actor = &mut next.actors[place];
        match actor.writing.take() {
            Some((version, course)) if version == self.version => {
                actor.ends.push(End::Done);
                next.course = course;
                next.version += 1;
            }
            // Overtaken: it reads again.
            Some(_) => {}
            None => match actor.steps[actor.ends.len()].judge(&self.course) {
                Ok(Some(course)) => actor.writing = Some((self.version, course)),
                Ok(None) => actor.ends.push(End::Done),
                Err(_) => actor.ends.push(End::Refused),
            },
        }
        next
    }

    fn moves(&self) -> impl Iterator<Item = usize> {
        self.actors.iter().enumerate().filter(|(_, actor)| actor.ends.len() < actor.steps.len()).map(|(place, _)| place)
    }

    /// What tells this moment from all others: whatever comes next is the same.
    fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut add = |course: &Course| {
            let said = course.entries.iter().map(|entry| (&entry.name, &entry.data["task_id"])).collect::<Vec<_>>();
            hash.update(serde_json::to_string(&(&course.request, said)).unwrap());
        };
        add(&self.course);
        for actor in &self.actors {
            if let Some((_, course)) = &actor.writing {
                add(course);
            }
        }
        for actor in &self.actors {
            let writing = actor.writing.as_ref().map(|(version, _)| *version == self.version);
            hash.update(format!("{:?} {writing:?};", actor.ends));
        }
        hash.finalize().into()
    }
}

/// Plays a race in every way in which it can go; how many ends it has. Whatever happens, the request is whole.
fn race(begun: &Course, actors: &[&[Step]], check: impl Fn(&Course, &[Vec<End>])) -> usize {
    let actors: Vec<_> =
        actors.iter().map(|steps| Actor { steps: steps.to_vec(), ends: vec![], writing: None }).collect();
    let mut open = vec![Moment { course: begun.clone(), version: 0, actors }];
    let (mut seen, mut ends) = (HashSet::new(), 0);
    while let Some(moment) = open.pop() {
        if !seen.insert(moment.fingerprint()) {
            continue;
        }
        assert_whole(&moment.course);
        let next: Vec<_> = moment.moves().map(|place| moment.after(place)).collect();
        if next.is_empty() {
            ends += 1;
            check(&moment.course, &moment.actors.iter().map(|actor| actor.ends.clone()).collect::<Vec<_>>());
        }
        open.extend(next);
    }
    ends
}

fn assert_whole(course: &Course) {
    let request = &course.request;
    let is_over = request.status.is_terminal();
    assert_eq!(request.pending_tasks().any(|(_, task)| task.is_pending()), !is_over, "{request:?}");
    let told = |name: &str| course.entries.iter().filter(|entry| entry.name == name).count();
    let public = course.entries.iter().filter(|entry| entry.class == EntryClass::Public);
    assert_eq!(public.filter(|entry| entry.name == "request.created").count(), 1);
    let outcomes = ["request.approved", "request.rejected", "request.cancelled"].map(told);
    assert_eq!(outcomes.iter().sum::<usize>(), usize::from(is_over), "{request:?}");
    // Every decision that was recorded is that of one task.
    let mut decided: Vec<_> = course
        .entries
        .iter()
        .filter(|entry| entry.name == DECIDED)
        .map(|entry| entry.data["task_id"].to_string())
        .collect();
    let count = decided.len();
    decided.sort_unstable();
    decided.dedup();
    assert_eq!(decided.len(), count);
}

fn done(ends: &[Vec<End>]) -> Vec<usize> {
    ends.iter().map(|ends| ends.iter().filter(|end| **end == End::Done).count()).collect()
}

#[test]
fn two_approvals_of_an_any_two_stage_end_approved() {
    let course = Course::begin(&Setting::of([(any(2, 1), approvers(&["ann", "bob", "cid"]))]));
    let (ann, bob) = ([Step::Decide("ann", Action::Approve)], [Step::Decide("bob", Action::Approve)]);
    let ends = race(&course, &[&ann, &bob], |course, ends| {
        assert_eq!((course.request.status, done(ends)), (Status::Approved, vec![1, 1]));
    });
    assert!(ends > 1, "either can be the one that decides");
}

#[test]
fn approve_and_reject_of_the_last_task_decide_it_one_way() {
    let course = Course::begin(&Setting::of([(stage(1), approvers(&["ann"]))]));
    let approve = [Step::Decide("ann", Action::Approve)];
    let reject = [Step::DecideFor("ann", Action::Reject)];
    race(&course, &[&approve, &reject], |course, ends| match done(ends)[..] {
        [1, 0] => assert_eq!(course.request.status, Status::Approved),
        [0, 1] => assert_eq!(course.request.status, Status::Rejected),
        _ => panic!("{ends:?}"),
    });
}

#[test]
fn of_four_who_decide_one_task_one_does() {
    let course = Course::begin(&Setting::of([(stage(1), approvers(&["ann"]))]));
    let steps = [Action::Approve, Action::Reject, Action::Abstain, Action::Approve]
        .map(|action| [Step::DecideFor("ann", action)]);
    let actors: Vec<&[Step]> = steps.iter().map(<[Step; 1]>::as_slice).collect();
    race(&course, &actors, |course, ends| {
        assert_eq!(done(ends).iter().sum::<usize>(), 1, "{ends:?}");
        assert!(course.request.status.is_terminal());
    });
}

/// A stage that is late by an hour.
fn late(on_breach: OnBreach) -> Course {
    let stage = Stage { sla_hours: Some(1), on_breach: Some(on_breach), ..stage(1) };
    let mut setting = Setting::of([(stage, approvers(&["ann", "bob"]))]);
    setting.instead = vec![approvers(&["eve"])];
    let mut course = Course::begin(&setting);
    course.hours = 2;
    assert_eq!(course.now(), hour(2));
    course
}

#[test]
fn a_breach_and_decisions_come_one_after_the_other() {
    let (ann, bob) = ([Step::Decide("ann", Action::Approve)], [Step::Decide("bob", Action::Approve)]);
    let clock = [Step::Tick, Step::Tick];
    let other_clock = [Step::Tick];
    for on_breach in [OnBreach::Notify, OnBreach::AutoApprove, OnBreach::AutoReject, OnBreach::Escalate] {
        race(&late(on_breach), &[&ann, &bob, &clock, &other_clock], |course, ends| {
            let done = done(ends);
            let told = |name: &str| course.entries.iter().filter(|entry| entry.name == name).count();
            assert!(told("stage.completed") <= 1 && told("stage.escalated") <= 1);
            match on_breach {
                OnBreach::Notify => assert_eq!((course.request.status, &done[..2]), (Status::Approved, &[1, 1][..])),
                OnBreach::AutoApprove => assert_eq!(course.request.status, Status::Approved),
                OnBreach::AutoReject if done[..2] == [1, 1] => assert_eq!(course.request.status, Status::Approved),
                OnBreach::AutoReject => assert_eq!(course.request.status, Status::Rejected),
                // Whoever was replaced cannot decide any more; whoever came instead has not yet.
                OnBreach::Escalate => assert_ne!(course.request.status, Status::Rejected),
            }
        });
    }
}

#[test]
fn cancelling_reassigning_and_deciding_leave_no_task_behind() {
    let setting = Setting::of([(stage(1), approvers(&["ann", "bob"])), (stage(2), approvers(&["cid"]))]);
    let actors: [&[Step]; 4] = [
        &[Step::Claim("ann"), Step::Decide("ann", Action::Approve)],
        &[Step::Decide("bob", Action::Approve)],
        &[Step::Reassign("bob", "dot")],
        &[Step::Cancel],
    ];
    race(&Course::begin(&setting), &actors, |course, ends| {
        assert_eq!(course.request.status, Status::Cancelled);
        // Bob decides, or his task goes to somebody else.
        assert!(done(ends)[1] + done(ends)[2] <= 1, "{ends:?}");
    });
}

#[test]
fn four_actors_with_three_steps_each_end_in_an_order_of_their_steps() {
    let setting = Setting::of([(any(2, 1), approvers(&["ann", "bob", "cid"])), (stage(2), approvers(&["dot"]))]);
    let actors: [&[Step]; 4] = [
        &[Step::Claim("ann"), Step::Decide("ann", Action::Approve), Step::Decide("ann", Action::Reject)],
        &[Step::Claim("bob"), Step::Decide("bob", Action::Reject), Step::Claim("bob")],
        &[Step::Tick, Step::Decide("cid", Action::Approve), Step::Tick],
        &[
            Step::DecideFor("bob", Action::Approve),
            Step::Reassign("ann", "eve"),
            Step::DecideFor("cid", Action::Abstain),
        ],
    ];
    let ends = race(&Course::begin(&setting), &actors, |course, ends| {
        // Nobody has decided about the second stage: it waits, or was never reached.
        assert!(matches!(course.request.status, Status::InReview | Status::Rejected), "{ends:?}");
        assert!(done(ends)[0] <= 2, "no task is decided twice");
    });
    assert!(ends > 10, "{ends}");
}
