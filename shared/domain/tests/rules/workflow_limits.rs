//! Ids and pointers of tasks, what a rule asks for, and how much one step of a request can write.

use crate::workflow::{
    Course, Setting, admin, any, approvers, beside, crowd, hour, id, observed, stage, states, user, within,
};
use countersign_domain::workflow::policy::{OnBreach, Stage};
use countersign_domain::workflow::request::{
    Action, Answers, Asked, CLOSED, Decision, Question, Refusal, Request, RequestId, Status, TaskId, inbox,
};
use countersign_domain::workflow::{MAX_OPENED, MAX_STAGES, Mode};
use countersign_domain::{EntryClass, Pointer, Record};
use serde_json::json;
use uuid::Uuid;

/// What a transaction can hold, in items.
const MAX_WRITTEN: usize = 100;

/// The most that a record may take, in bytes as it is stored.
const MAX_STORED: usize = 350_000;

#[test]
fn a_tasks_id_says_which_request_it_is_of_and_where() {
    for random in [[0; 13], [255; 13], *b"thirteen byte"] {
        let request = RequestId::new(random);
        for (stage, number) in [(0, 1), (29, 200), (255, u16::MAX)] {
            let task = TaskId { stage, number };
            assert_eq!(TaskId::read(request.task(task)), (request, task));
        }
        assert_eq!(request.to_string().parse(), Ok(request));
        assert_eq!(request.to_string().len(), 36);
        assert!(request.to_string().ends_with("000000"));
        let uuid: Uuid = request.to_string().parse().unwrap();
        assert_eq!((uuid.get_version_num(), uuid.get_variant()), (8, uuid::Variant::RFC4122));
    }
    assert_ne!(RequestId::new([1; 13]), RequestId::new([2; 13]));
    assert!("request".parse::<RequestId>().is_err());
    // What is no id of ours is read all the same, and found nowhere.
    let (request, task) = TaskId::read(Uuid::from_u128(u128::MAX));
    assert_eq!(request.task(task), Uuid::from_u128(u128::MAX));
}

#[test]
fn tasks_are_numbered_in_the_order_in_which_they_were_opened() {
    let setting = Setting::of([(beside(1), observed(&["ann"], &["obs"])), (beside(2), approvers(&["bob"]))]);
    let mut course = Course::begin(&setting);
    course.reassign(course.task_of("ann"), "cid", &admin("adm")).unwrap();
    let ids = |stage: u8, number: u16| TaskId { stage, number };
    let expected = [(ids(0, 1), "ann"), (ids(0, 2), "obs"), (ids(0, 3), "cid"), (ids(1, 1), "bob")];
    let tasks = course.tasks();
    assert_eq!(tasks.iter().map(|(id, task)| (*id, task.assignee.as_str())).collect::<Vec<_>>(), expected);
    for (id, task) in &tasks {
        assert_eq!(course.request.task(*id), Some(task));
        assert_eq!(task.number, id.number);
    }
}

#[test]
fn a_task_is_in_its_assignees_inbox_as_it_stands() {
    let mut course = Course::begin(&Setting::of([(stage(1), observed(&["ann", "bob"], &["obs"]))]));
    let pointer = |course: &Course, name: &str| {
        let Pointer { inbox, created_at, state, .. } =
            course.pointers[&id().task(course.task_of(name)).to_string()].clone();
        (inbox, created_at, state)
    };
    let at = |name: &str, hours: i64, state: &str| (inbox(name), hour(hours), state.to_owned());
    assert_eq!(inbox("ann"), "task:ann");
    assert_eq!(pointer(&course, "ann"), at("ann", 0, "open"));
    assert_eq!(pointer(&course, "obs"), at("obs", 0, "open"));
    course.hours = 1;
    course.claim(course.task_of("ann"), &user("ann")).unwrap();
    assert_eq!(pointer(&course, "ann"), at("ann", 0, "claimed"));
    course.says("ann", Action::Approve).unwrap();
    assert_eq!(pointer(&course, "ann"), at("ann", 0, "completed"));
    assert_eq!(course.written, 4);
    course.reassign(course.task_of("bob"), "cid", &admin("adm")).unwrap();
    assert_eq!(pointer(&course, "bob"), at("bob", 0, "reassigned"));
    assert_eq!(pointer(&course, "cid"), at("cid", 1, "open"));
    assert_eq!(course.written, 5);
}

#[test]
fn tasks_that_are_closed_together_are_named_for_whoever_tidies_their_pointers() {
    let pointer = |course: &Course, name: &str, state: &str| {
        let task = id().task(course.task_of(name));
        json!({ "inbox": inbox(name), "id": task, "created_at": hour(0), "state": state })
    };
    let mut course = Course::begin(&Setting::of([(any(1, 1), observed(&["ann", "bob", "cid"], &["obs"]))]));
    course.says("ann", Action::Approve).unwrap();
    let entry = course.entries.last().unwrap();
    assert_eq!((entry.name.as_str(), entry.class), (CLOSED, EntryClass::Audit));
    let closed = ["bob", "cid", "obs"].map(|name| pointer(&course, name, "skipped"));
    assert_eq!(entry.data, json!({ "pointers": closed }));
    // The one that was decided was written, and no other.
    assert_eq!(course.written, 4);

    // What was called off is found by its last entry.
    let mut course = Course::begin(&Setting::of([(stage(1), approvers(&["ann"]))]));
    course.cancel(&admin("adm")).unwrap();
    let names: Vec<&str> = course.entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names[2..], ["request.cancelled", CLOSED, "request.cancel"]);

    for (on_breach, state) in [(OnBreach::AutoApprove, "completed"), (OnBreach::Escalate, "expired")] {
        let mut setting = Setting::of([(within(1, on_breach, stage(1)), approvers(&["ann"]))]);
        setting.instead = vec![approvers(&["bob"])];
        let mut course = Course::begin(&setting);
        course.hours = 1;
        course.tick().unwrap();
        assert_eq!(course.entries.last().unwrap().data, json!({ "pointers": [pointer(&course, "ann", state)] }));
    }
}

#[test]
fn a_stage_that_has_ended_is_put_away_as_it_was_then() {
    let setting = Setting::of([(any(1, 1), observed(&["ann", "bob"], &["obs"])), (stage(2), approvers(&["cid"]))]);
    let mut course = Course::begin(&setting);
    course.says("ann", Action::Approve).unwrap();
    assert_eq!(states(&course), ["ann completed", "bob skipped", "obs skipped", "cid open"]);
    assert_eq!(course.request.running.len(), 1);
    // The last one stays where it is.
    course.says("cid", Action::Approve).unwrap();
    assert_eq!((course.items.len(), course.request.running.len()), (1, 1));
}

#[test]
fn a_rule_asks_for_what_it_needs_before_it_changes_anything() {
    let setting = Setting::of([(stage(1), approvers(&["ann"])), (beside(2), approvers(&["bob"]))]);
    let by = user("shop");
    let create = |answers: &Answers| Request::create(setting.new_request(), answers, &by, hour(0));
    assert_eq!(create(&Answers::default()), Err(Refusal::Ask(Question::Group(0))));
    let mut answers = Answers::default();
    setting.answer(Question::Group(0), &mut answers, hour(0));
    let without_people = Answers { definition: answers.definition.clone(), ..Answers::default() };
    assert_eq!(create(&without_people), Err(Refusal::Ask(Question::Group(0))));
    let request = create(&answers).unwrap().record;
    let decision = Decision { id: Uuid::from_u128(1), action: Action::Approve, comment: None, attachments_ref: None };
    let task = TaskId { stage: 0, number: 1 };
    let decided = |answers: &Answers| request.decide(task, &decision, answers, &user("ann"), hour(0));
    for answers in [&Answers::default(), &answers, &without_people] {
        assert_eq!(decided(answers), Err(Refusal::Ask(Question::Group(1))));
    }
    setting.answer(Question::Group(1), &mut answers, hour(0));
    assert_eq!(decided(&answers).unwrap().record.current_stage_order, 2);
}

#[test]
fn what_begins_nothing_asks_nothing() {
    let setting = Setting::of([(stage(1), approvers(&["ann", "bob"])), (stage(2), approvers(&["cid"]))]);
    let request = Course::begin(&setting).request;
    let by = user("ann");
    for action in [Action::Approve, Action::Abstain, Action::Reject] {
        let decision = Decision { id: Uuid::from_u128(1), action, comment: None, attachments_ref: None };
        let task = TaskId { stage: 0, number: 1 };
        assert!(request.decide(task, &decision, &Answers::default(), &by, hour(0)).is_ok());
    }
}

fn too_many(stage: &str, tasks: usize) -> Refusal {
    Refusal::TooManyTasks { stage: stage.to_owned(), tasks }
}

#[test]
fn so_many_tasks_are_opened_in_one_step_and_not_one_more() {
    let with_observers = |approvers: usize, observers: usize| Asked {
        observers: (0..observers).map(|n| format!("o{n}")).collect(),
        ..crowd(approvers)
    };
    for (approvers, observers) in [(MAX_OPENED, 0), (1, MAX_OPENED - 1)] {
        let setting = Setting::of([(stage(4), with_observers(approvers, observers))]);
        let course = Course::begin(&setting);
        assert_eq!(course.tasks().len(), MAX_OPENED);
        assert!(course.written <= MAX_WRITTEN, "{} items", course.written);
        let setting = Setting::of([(stage(4), with_observers(approvers, observers + 1))]);
        let refused = Course::begin_at(&setting, setting.new_request(), 0).unwrap_err();
        assert_eq!(refused, too_many("stage 4", MAX_OPENED + 1));
        assert_eq!(refused.to_string(), "stage \"stage 4\" would open 81 tasks, and one step can open at most 80");
    }
}

#[test]
fn the_tasks_of_all_stages_of_a_group_are_opened_together() {
    let half = MAX_OPENED / 2;
    let setting = Setting::of([(beside(1), crowd(half)), (beside(2), crowd(half))]);
    let course = Course::begin(&setting);
    assert_eq!(course.tasks().len(), MAX_OPENED);
    assert!(course.written <= MAX_WRITTEN);
    let setting = Setting::of([(beside(1), crowd(half)), (beside(2), crowd(half + 1))]);
    let refused = Course::begin_at(&setting, setting.new_request(), 0);
    assert_eq!(refused.unwrap_err(), too_many("stage 1", MAX_OPENED + 1));
    // What opens no task is not too much.
    let blocked = [(beside(1), crowd(half)), (beside(2), crowd(half + 1)), (beside(3), approvers(&[]))];
    assert_eq!(Course::begin(&Setting::of(blocked)).request.status, Status::Rejected);
}

#[test]
fn a_decision_that_would_open_too_many_tasks_leaves_its_own_open() {
    let setting = Setting::of([(stage(1), approvers(&["ann"])), (stage(2), crowd(MAX_OPENED + 1))]);
    let mut course = Course::begin(&setting);
    let before = course.request.clone();
    assert_eq!(course.says("ann", Action::Approve), Err(too_many("stage 2", MAX_OPENED + 1)));
    assert_eq!(course.request, before);
}

#[test]
fn a_decision_that_ends_a_large_stage_and_begins_another_fits_into_one_step() {
    let large = || Stage { mode: Mode::Percentage, mode_value: Some(1), ..stage(1) };
    let setting = Setting::of([(large(), crowd(MAX_OPENED)), (Stage { order: 2, ..large() }, crowd(MAX_OPENED))]);
    let mut course = Course::begin(&setting);
    course.says("u0", Action::Approve).unwrap();
    assert_eq!(course.request.pending_tasks().count(), MAX_OPENED);
    assert_eq!(course.written, MAX_OPENED + 5);
    assert!(course.written <= MAX_WRITTEN);
}

#[test]
fn a_look_at_a_large_stage_fits_into_one_step_whatever_happens() {
    for on_breach in [OnBreach::Notify, OnBreach::AutoApprove, OnBreach::AutoReject, OnBreach::Escalate] {
        let mut setting =
            Setting::of([(within(1, on_breach, any(1, 1)), crowd(MAX_OPENED)), (stage(2), crowd(MAX_OPENED))]);
        let others: Vec<String> = (0..MAX_OPENED).map(|n| format!("e{n}")).collect();
        setting.instead[0] = approvers(&others.iter().map(String::as_str).collect::<Vec<_>>());
        let mut course = Course::begin(&setting);
        course.hours = 1;
        assert_eq!(course.tick(), Ok(true), "{on_breach:?}");
        assert!(course.written <= MAX_WRITTEN, "{on_breach:?} writes {} items", course.written);
        let stored = serde_json::to_string(&course.request).unwrap().len();
        assert!(stored <= MAX_STORED, "{on_breach:?} stores {stored} bytes");
        let told = course.events().filter(|event| event.name == "task.expired").count();
        assert_eq!(told, MAX_OPENED);
    }
}

#[test]
fn an_escalation_opens_so_many_tasks_and_not_one_more() {
    let mut setting = Setting::of([(within(1, OnBreach::Escalate, stage(4)), approvers(&["ann"]))]);
    setting.instead[0] = crowd(MAX_OPENED + 1);
    let mut course = Course::begin(&setting);
    course.hours = 1;
    assert_eq!(course.tick(), Err(too_many("stage 4", MAX_OPENED + 1)));
    assert_eq!(states(&course), ["ann open"]);
    // Whoever is asked already opens none.
    course.reassign(course.task_of("ann"), "u7", &admin("adm")).unwrap();
    assert_eq!(course.tick(), Ok(true));
    assert_eq!(course.request.pending_tasks().count(), MAX_OPENED);
}

#[test]
fn an_escalation_for_which_there_is_no_room_is_left_out() {
    let mut setting = Setting::of([(within(9, OnBreach::Escalate, stage(1)), approvers(&["ann"]))]);
    setting.instead[0] = crowd(2);
    for (hands, room) in [(197, true), (198, false)] {
        let mut course = Course::begin(&setting);
        for hand in 0..hands {
            let (from, to) = if hand % 2 == 0 { ("ann", "eve") } else { ("eve", "ann") };
            course.reassign(course.task_of(from), to, &admin("adm")).unwrap();
        }
        course.hours = 9;
        assert_eq!(course.tick(), Ok(true));
        let last = course.events().last().unwrap().name.clone();
        assert_eq!(last, if room { "stage.escalated" } else { "task.expired" });
    }
}

#[test]
fn a_group_of_all_stages_that_a_policy_can_have_goes_its_way() {
    let order = |n: usize| u32::try_from(n + 1).unwrap();
    let stages = (0..MAX_STAGES).map(|n| (beside(order(n)), approvers(&["ann", "bob"])));
    let mut course = Course::begin(&Setting::of(stages));
    assert!(course.written <= MAX_WRITTEN);
    for stage in 0..u8::try_from(MAX_STAGES).unwrap() {
        for (number, name) in [(1, "ann"), (2, "bob")] {
            course.decide(TaskId { stage, number }, Action::Approve, &user(name)).unwrap();
            assert!(course.written <= 5, "{} items", course.written);
        }
    }
    assert_eq!(course.request.status, Status::Approved);
    assert_eq!(course.request.ended.len(), MAX_STAGES - 1);
}

#[test]
fn as_many_stages_as_a_policy_can_have_are_passed_over_in_one_step() {
    let order = |n: usize| u32::try_from(n + 1).unwrap();
    let stages = (0..MAX_STAGES).map(|n| (stage(order(n)), Asked { skipped: n > 0, ..approvers(&["ann"]) }));
    let mut course = Course::begin(&Setting::of(stages));
    course.says("ann", Action::Approve).unwrap();
    assert_eq!(course.request.status, Status::Approved);
    assert!(course.written <= 5, "{} items", course.written);
    let passed = course.events().filter(|event| event.name == "stage.skipped").count();
    assert_eq!(passed, MAX_STAGES - 1);
}

#[test]
fn no_body_is_of_an_older_schema() {
    assert_eq!(Request::upgrade(0, json!({})), None);
    assert_eq!((Request::KIND, Request::SCHEMA), ("request", 1));
}
