//! Whose task it is: separation of duties, delegation, and tasks that are given to somebody else.

use crate::workflow::{
    Course, Setting, admin, any, approvers, beside, hour, id, last_event, observed, stage, states, told, user, within,
};
use countersign_domain::workflow::SLA_MONITOR;
use countersign_domain::workflow::policy::{OnBreach, Stage};
use countersign_domain::workflow::request::{Action, REASSIGNED, Refusal, Request, Status, TaskId, TaskState};
use countersign_domain::{EntryClass, Logged, Record};
use serde_json::json;

#[test]
fn a_requester_is_not_asked_to_approve_what_they_asked_for() {
    let asked = || observed(&["req", "ann"], &["req"]);
    let course = Course::begin(&Setting::of([(stage(1), asked())]).without_self_approval());
    assert_eq!(states(&course), ["ann open", "req open"]);
    assert_eq!(course.tasks()[&course.task_of("req")].kind.as_str(), "observer");
    let course = Course::begin(&Setting::of([(stage(1), asked())]));
    assert_eq!(states(&course), ["req open", "ann open", "req open"]);
    let course = Course::begin(&Setting::of([(stage(1), approvers(&["req"]))]).without_self_approval());
    assert_eq!(last_event(&course), json!({ "reason": "no_approvers_resolved" }));
}

#[test]
fn a_delegate_who_is_excluded_leaves_the_task_where_it_was() {
    let setting = Setting::of([(stage(1), observed(&["ann"], &["bob"]))])
        .with_delegation("ann", "req", 0..1)
        .with_delegation("bob", "req", 0..1);
    let course = Course::begin(&setting.clone().without_self_approval());
    // Whoever only takes note is not excluded.
    assert_eq!(states(&course), ["ann open", "req open"]);
    assert_eq!(states(&Course::begin(&setting)), ["req open", "req open"]);
    // Nor does the delegate get the task of somebody who is.
    let setting = Setting::of([(stage(1), approvers(&["req", "bob"]))]).with_delegation("req", "ann", 0..1);
    assert_eq!(states(&Course::begin(&setting.without_self_approval())), ["bob open"]);
}

#[test]
fn nothing_is_reassigned_to_whom_duties_are_separated_from() {
    let setting = Setting::of([(stage(1), observed(&["ann"], &["obs"]))]).without_self_approval();
    let mut course = Course::begin(&setting);
    let excluded = Err(Refusal::AssigneeExcluded("req".to_owned()));
    assert_eq!(course.reassign(course.task_of("ann"), "req", &admin("adm")), excluded);
    course.reassign(course.task_of("obs"), "req", &admin("adm")).unwrap();
}

#[test]
fn a_requester_decides_nothing_not_even_as_an_administrator() {
    let setting = Setting::of([(stage(1), observed(&["ann"], &["obs"]))]);
    for action in [Action::Approve, Action::Reject, Action::Abstain] {
        let mut course = Course::begin(&setting.clone().without_self_approval());
        let excluded = Err(Refusal::Excluded("req".to_owned()));
        assert_eq!(course.decide(course.task_of("ann"), action, &admin("req")), excluded);
        course.decide(course.task_of("obs"), action, &admin("req")).unwrap();
        let mut course = Course::begin(&setting);
        course.decide(course.task_of("ann"), action, &admin("req")).unwrap();
    }
}

#[test]
fn whoever_has_approved_is_not_asked_in_a_later_group() {
    let setting = Setting::of([
        (any(1, 1), approvers(&["ann", "bob"])),
        (stage(2), approvers(&["ann", "bob"])),
        (stage(3), approvers(&["ann", "bob", "cid"])),
    ]);
    let mut course = Course::begin(&setting.clone().without_repeated_approvers());
    course.says("ann", Action::Approve).unwrap();
    let asked: Vec<&str> = course.request.pending_tasks().map(|(_, task)| task.assignee.as_str()).collect();
    assert_eq!(asked, ["bob"]);
    course.says("bob", Action::Approve).unwrap();
    let asked: Vec<&str> = course.request.pending_tasks().map(|(_, task)| task.assignee.as_str()).collect();
    assert_eq!(asked, ["cid"]);
    let task = course.task_of("cid");
    let excluded = Err(Refusal::AssigneeExcluded("ann".to_owned()));
    assert_eq!(course.reassign(task, "ann", &admin("adm")), excluded);
    assert_eq!(course.decide(task, Action::Approve, &admin("bob")), Err(Refusal::Excluded("bob".to_owned())));

    let mut course = Course::begin(&setting);
    course.says("ann", Action::Approve).unwrap();
    assert_eq!(course.request.pending_tasks().count(), 2);
}

#[test]
fn only_an_approval_of_an_approver_keeps_from_approving_again() {
    // An abstention, a reject that was not the end, and what an observer says do not; an administrator's approval does.
    let setting = Setting::of([
        (any(1, 1), observed(&["ann", "bob", "cid"], &["obs"])),
        (stage(2), approvers(&["ann", "bob", "cid", "obs", "adm"])),
    ]);
    let mut course = Course::begin(&setting.without_repeated_approvers());
    course.says("ann", Action::Abstain).unwrap();
    course.says("bob", Action::Reject).unwrap();
    course.says("obs", Action::Approve).unwrap();
    course.decide(course.task_of("cid"), Action::Approve, &admin("adm")).unwrap();
    let asked: Vec<&str> = course.request.pending_tasks().map(|(_, task)| task.assignee.as_str()).collect();
    assert_eq!(asked, ["ann", "bob", "cid", "obs"]);
}

#[test]
fn stages_of_the_same_group_do_not_exclude_each_other() {
    let setting = Setting::of([
        (beside(1), approvers(&["ann"])),
        (beside(2), approvers(&["ann", "bob"])),
        (stage(3), approvers(&["ann", "bob", "cid"])),
    ]);
    let mut course = Course::begin(&setting.without_repeated_approvers());
    for stage in [0, 1] {
        course.decide(TaskId { stage, number: 1 }, Action::Approve, &user("ann")).unwrap();
    }
    course.decide(TaskId { stage: 1, number: 2 }, Action::Approve, &user("bob")).unwrap();
    let asked: Vec<&str> = course.request.pending_tasks().map(|(_, task)| task.assignee.as_str()).collect();
    assert_eq!(asked, ["cid"]);
}

#[test]
fn what_was_approved_because_it_was_late_was_approved_by_nobody() {
    let setting = Setting::of([
        (within(1, OnBreach::AutoApprove, stage(1)), approvers(&["ann", SLA_MONITOR])),
        (stage(2), approvers(&["ann", SLA_MONITOR])),
    ]);
    let mut course = Course::begin(&setting.without_repeated_approvers());
    course.hours = 1;
    course.tick().unwrap();
    assert_eq!(course.request.pending_tasks().count(), 2);
}

#[test]
fn whoever_has_approved_the_last_stage_is_told_that_it_has_ended() {
    // They are excluded from what comes after it, and not from it.
    let mut course = Course::begin(&Setting::of([(stage(1), approvers(&["ann"]))]).without_repeated_approvers());
    course.says("ann", Action::Approve).unwrap();
    assert_eq!(course.says("ann", Action::Approve), Err(Refusal::Ended(Status::Approved)));
}

#[test]
fn a_delegated_task_says_who_has_delegated_it() {
    let setting = Setting::of([(stage(1), observed(&["ann", "bob"], &["obs"])), (stage(2), approvers(&["ann"]))])
        .with_delegation("ann", "dot", 0..2)
        .with_delegation("obs", "eve", 0..2)
        // Not from one delegate to the next.
        .with_delegation("dot", "far", 0..2);
    let mut course = Course::begin(&setting);
    let from: Vec<_> = course
        .request
        .pending_tasks()
        .map(|(_, task)| (task.assignee.as_str(), task.delegated_from.as_deref()))
        .collect();
    assert_eq!(from, [("dot", Some("ann")), ("bob", None), ("eve", Some("obs"))]);
    assert_eq!(course.says("dot", Action::Approve), Ok(()));
    // It is looked up when a task is opened, and never again.
    course.hours = 2;
    course.says("bob", Action::Approve).unwrap();
    assert_eq!(course.request.pending_tasks().next().unwrap().1.assignee, "ann");
}

#[test]
fn a_delegated_task_that_is_reassigned_is_nobodys_delegation_any_more() {
    let setting = Setting::of([(stage(1), approvers(&["ann"]))]).with_delegation("ann", "dot", 0..1);
    let mut course = Course::begin(&setting);
    course.reassign(course.task_of("dot"), "eve", &admin("adm")).unwrap();
    let tasks = course.tasks();
    let of = |name: &str| {
        let task = &tasks[&course.task_of(name)];
        (task.delegated_from.as_deref(), task.reassigned_from.as_deref())
    };
    assert_eq!((of("dot"), of("eve")), ((Some("ann"), None), (None, Some("dot"))));
}

#[test]
fn whoever_takes_note_for_two_has_one_task() {
    let setting = Setting::of([(stage(1), observed(&["ann"], &["obs", "eve", "ann"]))])
        .with_delegation("obs", "dot", 0..1)
        .with_delegation("eve", "dot", 0..1);
    let course = Course::begin(&setting);
    assert_eq!(states(&course), ["ann open", "dot open", "ann open"]);
    let task = &course.tasks()[&course.task_of("dot")];
    assert_eq!(task.delegated_from.as_deref(), Some("obs"));
}

#[test]
fn a_delegator_has_given_the_task_away() {
    let setting = Setting::of([(stage(1), approvers(&["ann"]))]).with_delegation("ann", "dot", 0..2);
    let mut course = Course::begin(&setting);
    let task = course.task_of("dot");
    assert_eq!(course.decide(task, Action::Approve, &user("ann")), Err(Refusal::NotTheAssignee));
}

#[test]
fn a_reassigned_task_is_replaced_by_a_new_one() {
    let setting = Setting::of([(within(8, OnBreach::Notify, stage(3)), observed(&["ann*", "bob"], &["obs"]))])
        .with_delegation("cid", "dot", 0..9);
    let mut course = Course::begin(&setting);
    course.hours = 1;
    let old = course.task_of("ann");
    course.claim(old, &user("ann")).unwrap();
    // The new holder's delegation is for what is asked by the policy.
    course.reassign(old, "cid", &admin("adm")).unwrap();
    let new = course.task_of("cid");
    assert_eq!(new, TaskId { stage: 0, number: 4 });
    let tasks = course.tasks();
    assert_eq!(tasks[&old].state, TaskState::Reassigned { at: hour(1) });
    let task = &tasks[&new];
    assert_eq!((task.required, task.due_at, task.created_at), (true, Some(hour(8)), hour(1)));
    assert_eq!((&task.state, task.claimed_at, task.late), (&TaskState::Open, None, false));
    assert_eq!((task.reassigned_from.as_deref(), &task.delegated_from), (Some("ann"), &None));
    let event = course.events().last().unwrap();
    assert_eq!((event.name.as_str(), &event.data["stage_order"]), ("task.reassigned", &json!(3)));
    let expected = json!({
        "task_id": id().task(old), "new_task_id": id().task(new), "from": "ann", "to": "cid", "actor": "adm",
        "reason": "why",
    });
    assert_eq!(told(event), expected);
    let last = course.entries.last().unwrap();
    let expected = json!({
        "actor_email": "adm@example.com", "resource_id": id().task(old), "before": { "assignee": "ann" },
        "after": { "assignee": "cid", "task_id": id().task(new) },
        "metadata": { "request_id": id(), "reason": "why" },
    });
    assert_eq!((last.name.as_str(), last.class, &last.data), (REASSIGNED, EntryClass::Audit, &expected));
    let logged = Logged { name: REASSIGNED.to_owned(), by: Some("adm".to_owned()) };
    assert_eq!(Request::logged(last), Some(logged));

    assert_eq!(course.decide(old, Action::Approve, &user("ann")), Err(Refusal::TaskIs("reassigned")));
    course.says("bob", Action::Approve).unwrap();
    course.says("cid", Action::Approve).unwrap();
    assert_eq!(course.request.status, Status::Approved);
    assert_eq!(states(&course), ["ann reassigned", "bob completed", "obs skipped", "cid completed"]);
}

#[test]
fn nobody_is_given_a_second_task_of_the_same_kind() {
    let mut course = Course::begin(&Setting::of([
        (Stage { parallel_group: Some(7), ..any(2, 1) }, observed(&["ann", "bob", "cid"], &["obs"])),
        (beside(2), approvers(&["dot"])),
    ]));
    let task = course.task_of("ann");
    let reassign = |course: &mut Course, to: &str| course.reassign(task, to, &admin("adm"));
    let has_task = |name: &str| Err(Refusal::HasTask(name.to_owned()));
    assert_eq!(reassign(&mut course, "ann"), Err(Refusal::SameAssignee("ann".to_owned())));
    assert_eq!(reassign(&mut course, "bob"), has_task("bob"));
    course.says("bob", Action::Reject).unwrap();
    assert_eq!(reassign(&mut course, "bob"), has_task("bob"));
    // One of another kind, or of another stage, is none.
    assert_eq!(reassign(&mut course.clone(), "dot"), Ok(()));
    assert_eq!(reassign(&mut course, "obs"), Ok(()));
    let task = course.task_of("cid");
    course.reassign(task, "eve", &admin("adm")).unwrap();
    // What went through somebody's hands is not theirs any more.
    assert_eq!(course.reassign(course.task_of("eve"), "cid", &admin("adm")), Ok(()));
    let taken = course.request.pending_tasks().filter(|(_, task)| task.assignee == "cid").count();
    assert_eq!(taken, 1);
}

#[test]
fn tasks_do_not_go_through_hands_for_ever() {
    let mut course = Course::begin(&Setting::of([
        (Stage { parallel_group: Some(7), ..any(2, 1) }, approvers(&["ann", "bob"])),
        (beside(2), approvers(&["cid"])),
    ]));
    let mut hands = 0;
    let refusal = loop {
        let (from, to) = if hands % 2 == 0 { ("ann", "eve") } else { ("eve", "ann") };
        match course.reassign(course.task_of(from), to, &admin("adm")) {
            Ok(()) => hands += 1,
            Err(refusal) => break refusal,
        }
    };
    assert_eq!((refusal, hands), (Refusal::TooManyEver, 197));
    course.says("bob", Action::Approve).unwrap();
    course.says("eve", Action::Approve).unwrap();
    course.says("cid", Action::Approve).unwrap();
    assert_eq!(course.request.status, Status::Approved);
}
