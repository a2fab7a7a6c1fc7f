//! What happens when approvers are late.

use crate::microseconds;
use crate::workflow::{
    Course, Setting, admin, any, approvers, beside, hour, id, names, observed, stage, states, told, user, within,
};
use countersign_domain::workflow::policy::{OnBreach, Stage};
use countersign_domain::workflow::request::{Action, Answers, Asked, DECIDED, Question, Refusal, Status, TaskId};
use countersign_domain::workflow::{Mode, SLA_MONITOR};
use countersign_domain::{Actor, Outcome, Record};
use serde_json::{Value, json};
use std::collections::HashSet;

/// A stage whose approvers have four hours, and who is asked when they are late.
fn escalating(stage: Stage, asked: Asked, instead: &[&str]) -> Setting {
    let mut setting = Setting::of([(within(4, OnBreach::Escalate, stage), asked)]);
    setting.instead = vec![approvers(instead)];
    setting
}

/// The clock looks until it finds nothing.
fn ticks(course: &mut Course) -> usize {
    (0..20).take_while(|_| course.tick().unwrap()).count()
}

fn late(hours: i64, setting: &Setting) -> Course {
    let mut course = Course::begin(setting);
    course.hours = hours;
    ticks(&mut course);
    course
}

#[test]
fn approvers_are_late_from_the_very_moment_on() {
    let setting = Setting::of([(within(4, OnBreach::Notify, stage(1)), observed(&["ann"], &["obs"]))]);
    let mut course = Course::begin(&setting);
    assert_eq!(course.request.due(), Some(hour(4)));
    let just_before = hour(4) - microseconds(1);
    assert_eq!(course.request.tick(&Answers::default(), just_before), Ok(Outcome::Keep));
    course.hours = 4;
    assert_eq!(course.tick(), Ok(true));
    assert_eq!(names(&course)[2..], ["task.expired(1)"]);
    let event = course.events().last().unwrap();
    let task = id().task(TaskId { stage: 0, number: 1 });
    let expected = json!({ "task_id": task, "assignee": "ann", "due_at": "2026-11-21T12:00:00.000000Z" });
    assert_eq!((told(event), &event.data["status"], &event.actor), (expected, &json!("in_review"), &Actor::Clock));
}

#[test]
fn whoever_is_late_is_told_of_once_and_can_still_decide() {
    for on_breach in [None, Some(OnBreach::Notify)] {
        let late_stage = Stage { on_breach, ..within(4, OnBreach::Notify, stage(1)) };
        let mut course = Course::begin(&Setting::of([(late_stage, approvers(&["ann", "bob"]))]));
        course.says("bob", Action::Approve).unwrap();
        course.hours = 4;
        assert_eq!((course.tick(), course.tick()), (Ok(true), Ok(false)));
        assert_eq!(
            (course.request.due(), states(&course)),
            (None, vec!["ann open".to_owned(), "bob completed".to_owned()])
        );
        course.hours = 9;
        assert_eq!(course.tick(), Ok(false));
        course.says("ann", Action::Approve).unwrap();
        assert_eq!(course.request.status, Status::Approved);
        let told = names(&course).iter().filter(|name| name.starts_with("task.expired")).count();
        assert_eq!(told, 1);
    }
}

#[test]
fn who_has_no_deadline_is_never_late() {
    let course = Course::begin(&Setting::of([(stage(1), approvers(&["ann"]))]));
    assert_eq!(course.request.due(), None);
    assert_eq!(late(100_000, &course.setting).request, course.request);
    let mut course =
        Course::begin(&Setting::of([(within(4, OnBreach::Notify, stage(1)), observed(&["ann", "bob"], &["obs"]))]));
    let (observer, approver) = (course.task_of("obs"), course.task_of("ann"));
    assert_eq!(course.tasks()[&observer].due_at, None);
    course.decide(approver, Action::Approve, &user("ann")).unwrap();
    course.hours = 4;
    assert_eq!(ticks(&mut course), 1);
    let expired: Vec<Value> = course.events().filter(|event| event.name == "task.expired").map(told).collect();
    assert_eq!(expired.len(), 1);
    assert_eq!(expired[0]["assignee"], "bob");
}

#[test]
fn the_longest_deadline_is_a_time_too() {
    let setting = Setting::of([(within(i32::MAX.unsigned_abs(), OnBreach::Notify, stage(1)), approvers(&["ann"]))]);
    let due = Course::begin(&setting).request.due().unwrap();
    assert!(due > hour(24 * 365 * 7000));
}

#[test]
fn a_new_holder_of_a_late_task_is_late_at_once() {
    let setting = Setting::of([(within(4, OnBreach::Notify, stage(1)), approvers(&["ann"]))]);
    let mut course = late(4, &setting);
    course.hours = 5;
    course.reassign(course.task_of("ann"), "bob", &admin("adm")).unwrap();
    assert_eq!(course.request.due(), Some(hour(4)));
    assert_eq!(ticks(&mut course), 1);
    assert_eq!(names(&course)[2..], ["task.expired(1)", "task.reassigned(1)", "task.expired(1)"]);
}

#[test]
fn stages_that_are_late_at_the_same_time_have_a_change_each() {
    let setting = Setting::of([
        (within(4, OnBreach::Notify, beside(1)), approvers(&["ann", "bob"])),
        (within(3, OnBreach::Notify, beside(2)), approvers(&["cid"])),
    ]);
    let mut course = Course::begin(&setting);
    assert_eq!(course.request.due(), Some(hour(3)));
    course.hours = 4;
    course.tick().unwrap();
    assert_eq!(names(&course)[3..], ["task.expired(1)", "task.expired(1)"]);
    assert_eq!(course.request.due(), Some(hour(3)));
    course.tick().unwrap();
    assert_eq!(names(&course)[5..], ["task.expired(2)"]);
    assert_eq!((course.tick(), course.request.due()), (Ok(false), None));
}

#[test]
fn a_stage_that_approves_itself_always_ends_approved() {
    for stage in [stage(1), any(1, 1), any(2, 1), Stage { mode: Mode::Percentage, mode_value: Some(67), ..stage(1) }] {
        for said in [None, Some(Action::Approve), Some(Action::Abstain)] {
            let late_stage = within(4, OnBreach::AutoApprove, stage.clone());
            let setting = Setting::of([
                (late_stage, observed(&["ann*", "bob", "cid", "dot"], &["obs"])),
                (crate::workflow::stage(2), approvers(&["eve"])),
            ]);
            let mut course = Course::begin(&setting);
            if let Some(said) = said {
                course.says("bob", said).unwrap();
            }
            course.hours = 4;
            assert_eq!(ticks(&mut course), 1);
            let told = names(&course);
            assert_eq!(told[told.len() - 2..], ["stage.completed(1)", "stage.started(2)"]);
            assert!(
                course
                    .tasks()
                    .values()
                    .all(|task| task.kind.as_str() == "observer" || task.state.as_str() != "skipped")
            );
        }
    }
}

#[test]
fn a_stage_that_rejects_itself_always_ends_rejected() {
    for stage in [stage(1), any(1, 1), any(2, 1), Stage { mode: Mode::Percentage, mode_value: Some(34), ..stage(1) }] {
        let late_stage = within(4, OnBreach::AutoReject, stage);
        let mut course = Course::begin(&Setting::of([(late_stage, observed(&["ann*", "bob", "cid"], &["obs"]))]));
        course.says("bob", Action::Approve).unwrap();
        course.hours = 4;
        assert_eq!(ticks(&mut course), 1);
        assert_eq!(names(&course)[4..], ["stage.completed(1)", "request.rejected(1)"]);
        assert_eq!(course.events().last().map(told), Some(json!({ "actor": SLA_MONITOR })));
        assert_eq!((course.request.status, course.request.completed_at), (Status::Rejected, Some(hour(4))));
    }
}

#[test]
fn decisions_that_nobody_took_are_kept_like_others() {
    for (on_breach, action) in [(OnBreach::AutoApprove, "approve"), (OnBreach::AutoReject, "reject")] {
        let setting = Setting::of([(within(4, on_breach, stage(2)), observed(&["ann", "bob"], &["obs"]))]);
        let course = late(4, &setting);
        let decided: Vec<_> = course.entries.iter().filter(|entry| entry.name == DECIDED).collect();
        let mut ids = HashSet::new();
        for (entry, number) in decided.iter().zip(1..) {
            let mut data = entry.data.clone();
            let decision = data.as_object_mut().unwrap().remove("decision_id").unwrap();
            assert!(ids.insert(decision.as_str().unwrap().to_owned()), "each decision has its own id");
            let expected = json!({
                "task_id": id().task(TaskId { stage: 0, number }), "stage_order": 2, "actor": "sla-monitor",
                "actor_email": null, "action": action, "comment": format!("SLA breach auto-{action}"),
                "attachments_ref": null,
            });
            assert_eq!((data, &entry.actor), (expected, &Actor::Clock));
        }
        assert_eq!(decided.len(), 2);
        assert_eq!(states(&course), ["ann completed", "bob completed", "obs skipped"]);
        assert_eq!(course.events().last().map(told), Some(json!({ "actor": "sla-monitor" })));
    }
}

#[test]
fn an_escalation_asks_others_and_the_late_ones_leave() {
    let mut setting = escalating(stage(3), observed(&["ann", "bob"], &["obs"]), &["cid*", "dot"]);
    setting.instead[0].observers = vec!["not asked".to_owned()];
    let mut course = Course::begin(&setting);
    course.claim(course.task_of("ann"), &user("ann")).unwrap();
    course.says("bob", Action::Abstain).unwrap();
    course.hours = 5;
    assert_eq!(course.tick(), Ok(true));
    assert_eq!(names(&course)[2..], ["task.expired(3)", "stage.escalated(3)"]);
    let expected = json!({ "added_approvers": ["cid", "dot"], "actor": "sla-monitor" });
    let event = course.events().last().unwrap();
    assert_eq!((told(event), &event.data["status"]), (expected, &json!("in_review")));
    assert_eq!(states(&course), ["ann expired", "bob completed", "obs open", "cid open", "dot open"]);
    let tasks = course.tasks();
    let new = &tasks[&course.task_of("cid")];
    assert_eq!(
        (new.due_at, new.created_at, new.required, new.kind.as_str()),
        (Some(hour(9)), hour(5), true, "approver")
    );
    assert_eq!(course.request.due(), Some(hour(9)));
    assert_eq!(course.says("ann", Action::Approve), Err(Refusal::TaskIs("expired")));
    course.says("dot", Action::Approve).unwrap();
    course.says("cid", Action::Approve).unwrap();
    assert_eq!(course.request.status, Status::Approved);
}

#[test]
fn a_stage_is_escalated_once_and_after_that_the_world_is_only_told() {
    let mut course = late(4, &escalating(stage(1), approvers(&["ann"]), &["bob"]));
    course.hours = 8;
    assert_eq!((course.tick(), course.tick()), (Ok(true), Ok(false)));
    assert_eq!(names(&course)[2..], ["task.expired(1)", "stage.escalated(1)", "task.expired(1)"]);
    assert_eq!(states(&course), ["ann expired", "bob open"]);
    // Not even where there is somebody whom it could ask again.
    course.reassign(course.task_of("bob"), "cid", &admin("adm")).unwrap();
    assert_eq!(ticks(&mut course), 1);
    assert_eq!(names(&course)[5..], ["task.reassigned(1)", "task.expired(1)"]);
    course.says("cid", Action::Approve).unwrap();
    assert_eq!(course.request.status, Status::Approved);
}

#[test]
fn an_escalation_to_nobody_new_leaves_everything_as_it_was() {
    // Nobody, someone who has a task, someone who has decided.
    for instead in [&[][..], &["ann"], &["bob", "ann"]] {
        let mut course = Course::begin(&escalating(stage(1), approvers(&["ann", "bob"]), instead));
        course.says("bob", Action::Approve).unwrap();
        course.hours = 4;
        assert_eq!(ticks(&mut course), 1);
        assert_eq!(names(&course)[2..], ["task.expired(1)"]);
        assert_eq!(states(&course), ["ann open", "bob completed"]);
        course.says("ann", Action::Approve).unwrap();
        assert_eq!(course.request.status, Status::Approved);
    }
}

#[test]
fn whoever_takes_note_of_a_stage_can_be_asked_to_approve_it() {
    let course = late(4, &escalating(stage(1), observed(&["ann"], &["obs"]), &["obs"]));
    assert_eq!(states(&course), ["ann expired", "obs open", "obs open"]);
}

#[test]
fn separation_of_duties_and_delegation_hold_for_an_escalation() {
    let setting = escalating(stage(1), approvers(&["ann", "bob"]), &["req", "cid", "dot", "eve", "fay"])
        .with_delegation("cid", "far", 4..5)
        .with_delegation("dot", "req", 4..5)
        .with_delegation("eve", "ann", 4..5)
        .with_delegation("fay", "far", 0..4)
        .without_self_approval();
    let mut course = late(4, &setting);
    let event = course.events().last().unwrap();
    assert_eq!(told(event)["added_approvers"], json!(["far", "dot", "fay"]));
    let task = course.task_of("far");
    assert_eq!(course.tasks()[&task].delegated_from.as_deref(), Some("cid"));
    let excluded = Err(Refusal::AssigneeExcluded("req".to_owned()));
    assert_eq!(course.reassign(task, "req", &admin("adm")), excluded);
}

#[test]
fn whoever_has_approved_before_is_not_asked_by_an_escalation() {
    let mut setting = Setting::of([
        (any(1, 1), approvers(&["ann", "bob"])),
        (within(4, OnBreach::Escalate, stage(2)), approvers(&["cid"])),
    ])
    .without_repeated_approvers();
    setting.instead[1] = approvers(&["ann", "bob"]);
    let mut course = Course::begin(&setting);
    course.says("ann", Action::Approve).unwrap();
    course.hours = 4;
    course.tick().unwrap();
    assert_eq!(course.events().last().map(|event| told(event)["added_approvers"].clone()), Some(json!(["bob"])));
}

#[test]
fn a_late_task_that_is_required_stays() {
    let mut course = late(4, &escalating(any(1, 1), approvers(&["ann*", "bob"]), &["cid"]));
    assert_eq!(states(&course), ["ann open", "bob expired", "cid open"]);
    course.says("cid", Action::Approve).unwrap();
    assert_eq!(course.request.status, Status::InReview);
    course.says("ann", Action::Approve).unwrap();
    assert_eq!(course.request.status, Status::Approved);
}

#[test]
fn late_tasks_without_which_a_stage_could_not_be_approved_all_stay() {
    let mut course = Course::begin(&escalating(any(3, 1), approvers(&["ann", "bob", "cid"]), &["dot"]));
    course.says("cid", Action::Approve).unwrap();
    course.hours = 4;
    assert_eq!(ticks(&mut course), 1);
    assert_eq!(names(&course)[2..], ["task.expired(1)", "task.expired(1)", "stage.escalated(1)"]);
    assert_eq!(states(&course), ["ann open", "bob open", "cid completed", "dot open"]);
    for name in ["ann", "dot"] {
        course.says(name, Action::Approve).unwrap();
    }
    assert_eq!(course.request.status, Status::Approved);
    // With one more it could.
    let mut course = Course::begin(&escalating(any(3, 1), approvers(&["ann", "bob", "cid"]), &["dot", "eve"]));
    course.says("cid", Action::Approve).unwrap();
    course.hours = 4;
    ticks(&mut course);
    assert_eq!(states(&course), ["ann expired", "bob expired", "cid completed", "dot open", "eve open"]);
}

#[test]
fn an_escalation_that_leaves_enough_approvals_is_settled_by_the_next_look() {
    let half = Stage { mode: Mode::Percentage, mode_value: Some(50), ..stage(1) };
    let setting = escalating(half, approvers(&["ann", "bob", "cid", "dot"]), &["eve"]);
    let mut course = Course::begin(&setting);
    course.says("ann", Action::Approve).unwrap();
    course.hours = 4;
    assert_eq!(course.tick(), Ok(true));
    assert_eq!(states(&course), ["ann completed", "bob expired", "cid expired", "dot expired", "eve open"]);
    assert_eq!((course.request.status, course.request.due()), (Status::InReview, Some(hour(4))));
    assert_eq!(course.tick(), Ok(true));
    assert_eq!((course.request.status, course.request.due()), (Status::Approved, None));
    let told: Vec<Value> = course.events().skip(6).map(told).collect();
    assert_eq!(told, [json!({ "outcome": "approved" }), json!({ "actor": "sla-monitor" })]);
}

#[test]
fn a_look_at_an_escalation_asks_whom_to_ask_and_changes_nothing_before_it_knows() {
    let course = Course::begin(&escalating(stage(1), approvers(&["ann"]), &["bob"]));
    let asked = course.request.tick(&Answers::default(), hour(4));
    assert_eq!(asked, Err(Refusal::Ask(Question::Escalation(0))));
}

#[test]
fn a_look_that_begins_the_next_group_asks_whom_to_ask() {
    let setting = Setting::of([
        (within(4, OnBreach::AutoApprove, stage(1)), approvers(&["ann"])),
        (stage(2), approvers(&["bob"])),
    ]);
    let course = Course::begin(&setting);
    let asked = course.request.tick(&Answers::default(), hour(4));
    assert_eq!(asked, Err(Refusal::Ask(Question::Group(1))));
}
