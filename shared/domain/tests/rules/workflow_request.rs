//! The life of a request: what begins, what ends it, who may act on its tasks, and what the world is told.

use crate::workflow::{
    Course, Setting, admin, any, approvers, beside, crowd, hour, id, last_event, names, observed, passed_over, skipped,
    stage, states, told, user, within,
};
use countersign_domain::workflow::Mode;
use countersign_domain::workflow::policy::{OnBreach, OnEmpty, Stage};
use countersign_domain::workflow::request::{
    Action, CANCELLED, CLAIMED, DECIDED, INPUT, New, Refusal, Request, Status, TaskId, TaskState,
};
use countersign_domain::{EntryClass, Listing, Logged, Record};
use serde_json::{Value, json};
use uuid::Uuid;

#[test]
fn each_decision_has_one_word() {
    for (word, action) in [("approve", Action::Approve), ("reject", Action::Reject), ("abstain", Action::Abstain)] {
        assert_eq!((Action::named(word), action.as_str()), (Some(action), word));
    }
    for word in ["", "Approve", "approved", "reject ", "delegate"] {
        assert_eq!(Action::named(word), None, "{word:?}");
    }
}

#[test]
fn a_normal_approval_in_two_stages_tells_the_world_this() {
    let setting = Setting::of([(any(1, 1), observed(&["bob", "ann*"], &["obs"])), (stage(5), approvers(&["cid"]))]);
    let mut course = Course::begin(&setting);
    course.says("ann", Action::Approve).unwrap();
    course.says("cid", Action::Approve).unwrap();
    let every = |status: &str, order: u32, more: Value| {
        let mut data = json!({
            "request_id": "74686972-7465-856e-a062-797465000000",
            "artifact_type": "purchase",
            "artifact_id": "p-17",
            "status": status,
            "stage_order": order,
        });
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    };
    let started = json!({
        "name": "stage 1", "mode": "any-n", "mode_value": 1, "approvers": ["bob", "ann"], "observers": ["obs"],
        "required_approvers": ["ann"],
    });
    let second = json!({
        "name": "stage 5", "mode": "all", "mode_value": null, "approvers": ["cid"], "observers": [],
        "required_approvers": [],
    });
    let created = json!({ "policy_key": "purchases", "policy_version": 3 });
    let expected = [
        ("request.created", every("pending", 1, created)),
        ("stage.started", every("in_review", 1, started)),
        ("stage.completed", every("in_review", 1, json!({ "outcome": "approved" }))),
        ("stage.started", every("in_review", 5, second)),
        ("stage.completed", every("in_review", 5, json!({ "outcome": "approved" }))),
        ("request.approved", every("approved", 5, json!({ "actor": "cid" }))),
    ];
    let seen: Vec<_> = course.events().map(|event| (event.name.as_str(), event.data.clone())).collect();
    assert_eq!(seen, expected);
    assert!(course.events().all(|event| event.subject.kind == "request" && event.subject.id == id().to_string()));
}

#[test]
fn required_approvers_are_named_in_the_order_of_their_names() {
    let setting = Setting::of([(stage(1), approvers(&["dot*", "ann*", "cid", "bob*"]))]);
    let course = Course::begin(&setting.with_delegation("dot", "abe", 0..1));
    let data = last_event(&course);
    assert_eq!(data["required_approvers"], json!(["abe", "ann", "bob"]));
    assert_eq!(data["approvers"], json!(["abe", "ann", "cid", "bob"]));
}

#[test]
fn a_new_request_is_what_was_asked_for() {
    let setting = Setting::of([(stage(2), approvers(&["ann"]))]).without_self_approval();
    let course = Course::begin(&setting);
    let New { id, policy, artifact_type, artifact_id, source_service, requester, .. } = setting.new_request();
    let request = &course.request;
    assert_eq!((request.id, &request.policy), (id, &policy));
    assert_eq!((&request.artifact_type, &request.artifact_id), (&artifact_type, &artifact_id));
    assert_eq!((&request.source_service, &request.requester), (&source_service, &requester));
    assert_eq!((request.status, request.current_stage_order), (Status::InReview, 2));
    assert_eq!((request.created_at, request.updated_at, request.completed_at), (hour(0), hour(0), None));
    assert_eq!(course.entries[0].actor, user("shop").actor);
    let listing = Listing { state: Some("in_review"), subject: Some("p-17".to_owned()), ..Listing::at(hour(0)) };
    assert_eq!(request.listing(), listing);
}

#[test]
fn the_context_is_an_item_of_its_own_if_there_is_any() {
    let setting = Setting::of([(stage(1), approvers(&["ann"]))]);
    assert!(!Course::begin(&setting).items.contains_key(INPUT));
    let context = json!({"amount": 12.5, "tags": ["a"]});
    let course = Course::begin_at(&setting, New { context: context.clone(), ..setting.new_request() }, 0).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&course.items[INPUT]).unwrap(), context);
}

#[test]
fn a_policy_without_stages_approves_at_once() {
    let course = Course::begin(&Setting::of([]));
    assert_eq!(names(&course), ["request.created(1)", "request.approved(1)"]);
    assert_eq!(last_event(&course), json!({}));
    assert_eq!((course.request.status, course.request.completed_at), (Status::Approved, Some(hour(0))));
    assert_eq!(course.request.listing().state, Some("approved"));
}

#[test]
fn stages_that_are_all_skipped_approve_at_once_and_the_reason_is_told() {
    let course = Course::begin(&Setting::of([(stage(2), skipped()), (passed_over(4), approvers(&[]))]));
    let expected = ["request.created(1)", "stage.skipped(2)", "stage.skipped(4)", "request.approved(1)"];
    assert_eq!(names(&course), expected);
    let told: Vec<Value> = course.events().skip(1).map(told).collect();
    let reason = |reason: &str| json!({ "reason": reason });
    assert_eq!(told, [reason("skip_if"), reason("no_approvers"), reason("all_stages_skipped")]);
    assert_eq!((course.request.status, course.request.current_stage_order), (Status::Approved, 1));
}

#[test]
fn a_request_passes_over_stages_until_somebody_is_asked() {
    let setting = Setting::of([
        (stage(2), skipped()),
        (stage(3), approvers(&["ann"])),
        (passed_over(5), approvers(&[])),
        (stage(6), skipped()),
    ]);
    let mut course = Course::begin(&setting);
    assert_eq!(names(&course), ["request.created(1)", "stage.skipped(2)", "stage.started(3)"]);
    assert_eq!(course.request.current_stage_order, 3);
    course.says("ann", Action::Approve).unwrap();
    let expected = ["stage.completed(3)", "stage.skipped(5)", "stage.skipped(6)", "request.approved(3)"];
    assert_eq!(names(&course)[3..], expected);
    // A stage was started: it was not all skipped.
    assert_eq!(last_event(&course), json!({ "actor": "ann" }));
}

#[test]
fn a_stage_that_nobody_can_approve_ends_the_request() {
    for (asked, stage, reason) in [
        (approvers(&[]), stage(4), "no_approvers_resolved"),
        (observed(&[], &["obs"]), stage(4), "no_approvers_resolved"),
        (approvers(&["ann", "bob"]), any(3, 4), "quorum_unreachable"),
        (approvers(&["ann", "bob"]), Stage { on_empty: OnEmpty::Skip, ..any(3, 4) }, "quorum_unreachable"),
        (approvers(&["ann"]), Stage { mode: Mode::Quorum, ..any(2, 4) }, "quorum_unreachable"),
    ] {
        let course = Course::begin(&Setting::of([(stage.clone(), asked.clone())]));
        assert_eq!(names(&course), ["request.created(1)", "request.rejected(1)"]);
        assert_eq!(last_event(&course), json!({ "reason": reason }));
        assert_eq!((course.request.status, course.request.completed_at), (Status::Rejected, Some(hour(0))));
        assert!(course.tasks().is_empty() && course.pointers.is_empty());

        // The same later keeps the order of the stage before.
        let first = (crate::workflow::stage(2), approvers(&["cid"]));
        let mut course = Course::begin(&Setting::of([first, (stage, asked)]));
        course.says("cid", Action::Approve).unwrap();
        assert_eq!(names(&course)[2..], ["stage.completed(2)", "request.rejected(2)"]);
        assert_eq!(last_event(&course), json!({ "reason": reason }));
        assert_eq!(states(&course), ["cid completed"]);
    }
}

#[test]
fn nobody_at_all_is_for_on_empty_even_where_many_are_needed() {
    let course = Course::begin(&Setting::of([(Stage { on_empty: OnEmpty::Skip, ..any(3, 1) }, approvers(&[]))]));
    assert_eq!(course.request.status, Status::Approved);
}

#[test]
fn people_who_become_one_by_delegation_can_be_too_few() {
    let setting = Setting::of([(any(2, 1), approvers(&["ann", "bob"]))]).with_delegation("bob", "ann", 0..1);
    assert_eq!(last_event(&Course::begin(&setting)), json!({ "reason": "quorum_unreachable" }));
}

#[test]
fn a_rejected_stage_rejects_the_request_and_closes_what_waits() {
    let mut course =
        Course::begin(&Setting::of([(stage(1), observed(&["ann", "bob", "cid"], &["obs"])), (stage(2), crowd(1))]));
    course.claim(course.task_of("cid"), &user("cid")).unwrap();
    course.says("ann", Action::Approve).unwrap();
    course.hours = 2;
    course.says("bob", Action::Reject).unwrap();
    assert_eq!(names(&course)[2..], ["stage.completed(1)", "request.rejected(1)"]);
    let [.., completed, rejected] = course.events().collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!((told(completed), &completed.data["status"]), (json!({ "outcome": "rejected" }), &json!("in_review")));
    assert_eq!((told(rejected), &rejected.data["status"]), (json!({ "actor": "bob" }), &json!("rejected")));
    assert_eq!(states(&course), ["ann completed", "bob completed", "cid skipped", "obs skipped"]);
    let closed = course.tasks()[&course.task_of("cid")].clone();
    assert_eq!((closed.state.closed_at(), closed.claimed_at), (Some(hour(2)), Some(hour(0))));
    assert_eq!((course.request.status, course.request.completed_at), (Status::Rejected, Some(hour(2))));
    assert_eq!((course.request.due(), course.request.listing().state), (None, Some("rejected")));
    assert_eq!(course.request.ahead, [0; 0]);
}

#[test]
fn nothing_can_be_done_to_a_request_that_has_ended() {
    let setting = Setting::of([(within(1, OnBreach::Notify, any(1, 1)), approvers(&["ann", "bob"]))])
        .without_repeated_approvers();
    for status in [Status::Approved, Status::Rejected, Status::Cancelled] {
        let mut course = Course::begin(&setting);
        match status {
            Status::Approved => course.says("ann", Action::Approve).unwrap(),
            Status::Rejected => {
                course.says("ann", Action::Reject).unwrap();
                course.says("bob", Action::Reject).unwrap();
            }
            Status::Cancelled => course.cancel(&admin("adm")).unwrap(),
            Status::Pending | Status::InReview => panic!("not an end"),
        }
        assert_eq!(course.request.status, status);
        let before = course.clone();
        course.hours = 5;
        let ended = Err(Refusal::Ended(status));
        for name in ["ann", "bob"] {
            let task = course.task_of(name);
            assert_eq!(course.says(name, Action::Approve), ended, "{name} {status:?}");
            assert_eq!(course.claim(task, &user(name)), ended);
            assert_eq!(course.reassign(task, "cid", &admin("adm")), ended);
        }
        assert_eq!(course.cancel(&admin("adm")), ended);
        assert_eq!(course.tick(), Ok(false));
        assert_eq!((course.request, course.entries), (before.request, before.entries));
    }
}

#[test]
fn an_abstention_does_not_hold_up_a_request_for_ever() {
    let mut course = Course::begin(&Setting::of([(stage(1), approvers(&["ann", "bob"]))]));
    course.says("ann", Action::Abstain).unwrap();
    course.says("bob", Action::Approve).unwrap();
    assert_eq!(course.request.status, Status::Approved);
}

#[test]
fn stages_of_a_group_begin_together_and_the_next_one_waits_for_all() {
    let setting = Setting::of([
        (stage(1), skipped()),
        (beside(3), observed(&["ann"], &["obs"])),
        (beside(4), skipped()),
        (beside(9), approvers(&["bob", "cid"])),
        (stage(10), approvers(&["dot"])),
    ]);
    let mut course = Course::begin(&setting);
    let begun = ["request.created(1)", "stage.skipped(1)", "stage.started(3)", "stage.skipped(4)", "stage.started(9)"];
    assert_eq!(names(&course), begun);
    let statuses: Vec<&str> = course.events().map(|event| event.data["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["pending", "pending", "in_review", "in_review", "in_review"]);
    assert_eq!(course.request.current_stage_order, 3);
    assert_eq!(course.request.pending_tasks().count(), 4);

    course.says("bob", Action::Approve).unwrap();
    course.says("cid", Action::Approve).unwrap();
    assert_eq!(names(&course)[5..], ["stage.completed(9)"]);
    assert_eq!(course.request.current_stage_order, 3);
    course.says("ann", Action::Approve).unwrap();
    assert_eq!(names(&course)[6..], ["stage.completed(3)", "stage.started(10)"]);
    assert_eq!(course.request.current_stage_order, 10);
    course.says("dot", Action::Approve).unwrap();
    assert_eq!(names(&course)[8..], ["stage.completed(10)", "request.approved(10)"]);
    let expected = ["ann completed", "obs skipped", "bob completed", "cid completed", "dot completed"];
    assert_eq!(states(&course), expected);
    assert_eq!(course.items.keys().collect::<Vec<_>>(), ["stage#01", "stage#03"]);
}

#[test]
fn the_order_of_a_group_is_that_of_its_first_stage_which_is_not_skipped() {
    let course = Course::begin(&Setting::of([(beside(3), skipped()), (beside(4), approvers(&["ann"]))]));
    assert_eq!(course.request.current_stage_order, 4);
    let statuses: Vec<&str> = course.events().map(|event| event.data["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["pending", "in_review", "in_review"]);
}

#[test]
fn a_stage_of_a_group_that_is_rejected_closes_the_others() {
    let setting = Setting::of([
        (beside(1), approvers(&["ann"])),
        (beside(2), observed(&["bob"], &["obs"])),
        (stage(3), crowd(1)),
    ]);
    let mut course = Course::begin(&setting);
    course.says("ann", Action::Reject).unwrap();
    assert_eq!(names(&course)[3..], ["stage.completed(1)", "request.rejected(1)"]);
    assert_eq!(states(&course), ["ann completed", "bob skipped", "obs skipped"]);
}

#[test]
fn a_group_that_holds_a_stage_without_approvers_opens_no_task() {
    let setting = Setting::of([
        (beside(1), skipped()),
        (beside(2), approvers(&["ann"])),
        (beside(3), approvers(&[])),
        (beside(4), skipped()),
    ]);
    let course = Course::begin(&setting);
    assert_eq!(names(&course), ["request.created(1)", "stage.skipped(1)", "request.rejected(1)"]);
    let statuses: Vec<&str> = course.events().map(|event| event.data["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["pending", "pending", "rejected"]);
    assert_eq!((course.tasks().len(), course.pointers.len()), (0, 0));
}

#[test]
fn an_abstention_does_not_end_a_stage_of_a_group() {
    let mut course =
        Course::begin(&Setting::of([(beside(1), approvers(&["ann"])), (beside(2), approvers(&["bob", "cid"]))]));
    course.says("bob", Action::Abstain).unwrap();
    course.says("ann", Action::Approve).unwrap();
    assert_eq!(course.request.status, Status::InReview);
    course.says("cid", Action::Abstain).unwrap();
    assert_eq!(course.request.status, Status::Rejected);
}

#[test]
fn only_the_assignee_or_an_administrator_may_act_on_a_task() {
    let course = Course::begin(&Setting::of([(stage(1), observed(&["ann", "bob"], &["obs"]))]));
    for name in ["ann", "obs"] {
        let task = course.task_of(name);
        for (by, expected) in [
            (user(name), Ok(())),
            (admin("adm"), Ok(())),
            (user("bob"), Err(Refusal::NotTheAssignee)),
            (user("req"), Err(Refusal::NotTheAssignee)),
        ] {
            assert_eq!(course.clone().decide(task, Action::Approve, &by), expected);
            assert_eq!(course.clone().claim(task, &by), expected);
        }
    }
}

#[test]
fn a_task_that_is_not_there_is_not_found() {
    let setting = Setting::of([(stage(1), approvers(&["ann"])), (stage(2), approvers(&["bob"]))]);
    let mut course = Course::begin(&setting);
    course.says("ann", Action::Approve).unwrap();
    // Also in the stage that has ended, and in one that there is not.
    for (stage, number) in [(0, 0), (0, 2), (1, 0), (1, 2), (2, 1), (255, 1), (1, u16::MAX)] {
        let task = TaskId { stage, number };
        for by in [user("ann"), admin("adm")] {
            assert_eq!(course.decide(task, Action::Approve, &by), Err(Refusal::TaskNotFound), "{task:?}");
            assert_eq!(course.claim(task, &by), Err(Refusal::TaskNotFound));
            assert_eq!(course.reassign(task, "cid", &by), Err(Refusal::TaskNotFound));
        }
        assert_eq!(course.request.task(task), None);
    }
}

#[test]
fn a_task_of_a_stage_that_has_ended_is_told_by_its_item() {
    let setting = Setting::of([(any(1, 1), approvers(&["ann", "bob"])), (stage(2), approvers(&["cid"]))]);
    let mut course = Course::begin(&setting);
    let tasks = [course.task_of("ann"), course.task_of("bob")];
    course.says("ann", Action::Approve).unwrap();
    let ended = course.request.ended[0];
    assert_eq!((ended.place, ended.tasks, ended.item().as_str()), (0, 2, "stage#00"));
    assert_eq!(course.request.claim(tasks[1], &user("bob"), hour(0)), Err(Refusal::StageEnded(ended)));
    assert_eq!(course.says("ann", Action::Approve), Err(Refusal::TaskIs("completed")));
    assert_eq!(course.says("bob", Action::Approve), Err(Refusal::TaskIs("skipped")));
    assert_eq!(course.decide(tasks[1], Action::Approve, &user("ann")), Err(Refusal::NotTheAssignee));
    assert_eq!(course.reassign(tasks[1], "dot", &admin("adm")), Err(Refusal::TaskIs("skipped")));
}

#[test]
fn a_task_is_decided_once() {
    let mut course = Course::begin(&Setting::of([(stage(1), observed(&["ann", "bob"], &["obs"]))]));
    for name in ["ann", "obs"] {
        course.says(name, Action::Approve).unwrap();
        let before = course.clone();
        for action in [Action::Approve, Action::Reject] {
            assert_eq!(course.says(name, action), Err(Refusal::TaskIs("completed")));
        }
        assert_eq!(course.claim(course.task_of(name), &user(name)), Err(Refusal::TaskIs("completed")));
        assert_eq!(course.reassign(course.task_of(name), "cid", &admin("adm")), Err(Refusal::TaskIs("completed")));
        assert_eq!((course.request, &course.entries), (before.request.clone(), &before.entries));
        course.request = before.request;
    }
}

#[test]
fn a_decision_is_kept_with_all_that_belongs_to_it() {
    let mut course = Course::begin(&Setting::of([(stage(4), approvers(&["ann", "bob"]))]));
    course.hours = 1;
    let task = course.task_of("ann");
    course.decide(task, Action::Abstain, &admin("adm")).unwrap();
    let entry = course.entries.last().unwrap();
    let expected = json!({
        "task_id": id().task(task), "decision_id": Uuid::from_u128(1), "stage_order": 4, "actor": "adm",
        "actor_email": "adm@example.com", "action": "abstain", "comment": "looks so", "attachments_ref": "s3://b/1",
    });
    assert_eq!((entry.name.as_str(), entry.class, &entry.data), (DECIDED, EntryClass::Audit, &expected));
    assert_eq!(entry.actor, admin("adm").actor);
    let expected = TaskState::Completed { decision: Uuid::from_u128(1), action: Action::Abstain, at: hour(1) };
    assert_eq!(course.request.task(task).unwrap().state, expected);
    assert_eq!(course.request.updated_at, hour(1));
}

#[test]
fn a_claim_is_a_mark_and_takes_nothing_from_others() {
    let mut course = Course::begin(&Setting::of([(any(1, 1), observed(&["ann", "bob"], &["obs"]))]));
    course.hours = 1;
    let task = course.task_of("ann");
    course.claim(task, &user("ann")).unwrap();
    let found = course.request.task(task).unwrap();
    assert_eq!((&found.state, found.claimed_at, found.is_pending()), (&TaskState::Claimed, Some(hour(1)), true));
    let entry = course.entries.last().unwrap();
    assert_eq!((entry.name.as_str(), entry.class), (CLAIMED, EntryClass::Audit));
    assert_eq!(entry.data, json!({ "task_id": id().task(task) }));
    assert_eq!(course.claim(task, &user("ann")), Err(Refusal::TaskIs("claimed")));
    assert_eq!(course.claim(task, &admin("adm")), Err(Refusal::TaskIs("claimed")));
    course.claim(course.task_of("obs"), &user("obs")).unwrap();
    let mut other = course.clone();
    other.says("bob", Action::Approve).unwrap();
    assert_eq!(other.request.status, Status::Approved);
    course.says("ann", Action::Approve).unwrap();
    assert_eq!(course.request.status, Status::Approved);
    assert_eq!(course.tasks()[&task].claimed_at, Some(hour(1)));
}

#[test]
fn a_request_that_is_called_off_closes_its_tasks_and_says_why() {
    let mut course = Course::begin(&Setting::of([(stage(3), observed(&["ann"], &["obs"])), (stage(4), crowd(1))]));
    course.hours = 1;
    course.cancel(&admin("adm")).unwrap();
    assert_eq!(states(&course), ["ann skipped", "obs skipped"]);
    let event = course.events().last().unwrap();
    assert_eq!((event.name.as_str(), &event.data["status"]), ("request.cancelled", &json!("cancelled")));
    assert_eq!(event.data["stage_order"], 3);
    assert_eq!(told(event), json!({ "actor": "adm", "reason": "why" }));
    assert_eq!((course.request.status, course.request.completed_at), (Status::Cancelled, Some(hour(1))));
    let last = course.entries.last().unwrap();
    let data = json!({
        "actor_email": "adm@example.com",
        "before": { "status": "in_review" },
        "after": { "status": "cancelled" },
        "metadata": { "reason": "why" },
    });
    assert_eq!((last.name.as_str(), last.class, &last.data), (CANCELLED, EntryClass::Audit, &data));
    let logged = Logged { name: CANCELLED.to_owned(), by: Some("adm".to_owned()) };
    assert_eq!(Request::logged(last), Some(logged));
}

#[test]
fn only_what_an_administrator_does_is_in_the_log() {
    let mut course = Course::begin(&Setting::of([(stage(1), observed(&["ann"], &["obs"]))]));
    course.claim(course.task_of("ann"), &user("ann")).unwrap();
    course.says("obs", Action::Approve).unwrap();
    course.says("ann", Action::Approve).unwrap();
    assert!(course.entries.iter().all(|entry| Request::logged(entry).is_none()));
}
