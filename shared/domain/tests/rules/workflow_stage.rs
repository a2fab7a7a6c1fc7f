//! When a stage is decided, as tables: how many are needed, and what decisions one after the other come to.

use crate::workflow::{Course, Setting, admin, approvers, stage};
use countersign_domain::workflow::policy::Stage;
use countersign_domain::workflow::request::{Action, Asked, Status, Task, TaskId};
use countersign_domain::workflow::{Mode, Verdict, needed};

#[test]
fn so_many_approvals_are_needed() {
    use Mode::{All, AnyN, Percentage, Quorum};
    let table = [
        (Percentage, Some(60), 5, 3),
        (Percentage, Some(50), 3, 2),
        (Percentage, Some(66), 3, 2),
        (Percentage, Some(67), 3, 3),
        (Percentage, Some(34), 3, 2),
        (Percentage, Some(33), 3, 1),
        (Percentage, Some(1), 5, 1),
        (Percentage, Some(100), 4, 4),
        (Percentage, None, 4, 4),
        // Where a fraction that no double holds exactly would ask for one more.
        (Percentage, Some(28), 25, 7),
        (Percentage, Some(7), 100, 7),
        (Percentage, Some(55), 100, 55),
        (AnyN, None, 3, 1),
        (AnyN, Some(2), 3, 2),
        (AnyN, Some(4), 3, 4),
        (Quorum, None, 3, 1),
        (Quorum, Some(2), 3, 2),
        (All, None, 3, 3),
        (All, Some(1), 3, 3),
        (All, None, 0, 0),
    ];
    for (mode, value, approvers, expected) in table {
        assert_eq!(needed(mode, value, approvers), expected, "{mode:?} {value:?} of {approvers}");
    }
}

#[test]
fn a_percentage_is_the_smallest_number_that_is_not_below_it() {
    for percent in 1..=100_u32 {
        for approvers in 0..=200_usize {
            let needed = needed(Mode::Percentage, Some(percent), approvers);
            let part = usize::try_from(percent).unwrap() * approvers;
            assert!(needed * 100 >= part, "{percent} % of {approvers} are more than {needed}");
            assert!(needed == 0 || (needed - 1) * 100 < part, "{percent} % of {approvers} are less than {needed}");
        }
    }
}

#[test]
fn modes_are_read_without_regard_to_case_and_written_in_lower_case() {
    let table =
        [("All", "all"), ("ANY-N", "any-n"), ("any-n", "any-n"), ("Quorum", "quorum"), ("PERCENTAGE", "percentage")];
    for (word, expected) in table {
        assert_eq!(Mode::named(word).map(Mode::as_str), Some(expected));
        let mode = Mode::named(word).unwrap();
        assert_eq!(serde_json::to_value(mode).unwrap(), expected);
    }
    for word in ["", "any", "any_n", " all", "unanimous"] {
        assert_eq!(Mode::named(word), None, "{word:?}");
    }
}

fn of(mode: &str, mode_value: Option<u32>) -> Stage {
    Stage { mode: Mode::named(mode).unwrap(), mode_value, ..stage(1) }
}

fn action(sign: char) -> Action {
    match sign {
        '+' => Action::Approve,
        '-' => Action::Reject,
        '0' => Action::Abstain,
        sign => panic!("{sign} is no decision"),
    }
}

/// What the only stage of a request has come to.
fn verdict(course: &Course) -> Verdict {
    let completed = course.events().find(|event| event.name == "stage.completed").map(|event| &event.data["outcome"]);
    let verdict = match completed.map(|outcome| outcome.as_str().unwrap()) {
        None => Verdict::Open,
        Some("approved") => Verdict::Approved,
        Some("rejected") => Verdict::Rejected,
        Some(outcome) => panic!("{outcome} is no outcome"),
    };
    let (status, rest) = match verdict {
        Verdict::Open => (Status::InReview, "open"),
        Verdict::Approved => (Status::Approved, "skipped"),
        Verdict::Rejected => (Status::Rejected, "skipped"),
    };
    assert_eq!(course.request.status, status);
    for task in course.tasks().values().filter(|task| task.state.as_str() != "completed") {
        assert_eq!(task.state.as_str(), rest);
        assert_eq!(task.state.closed_at().is_some(), rest == "skipped");
    }
    verdict
}

fn sign(verdict: Verdict) -> char {
    match verdict {
        Verdict::Open => '.',
        Verdict::Approved => 'A',
        Verdict::Rejected => 'R',
    }
}

#[test]
fn decisions_one_after_the_other_come_to_this() {
    // Of so many approvers the first ones approve (+), reject (-) or abstain (0); after each, the stage is open (.),
    // approved (A) or rejected (R).
    let table = [
        ("percentage", Some(60), 5, "++-+", "...A"),
        ("percentage", Some(60), 5, "---", "..R"),
        ("percentage", Some(60), 5, "00++0", "....R"),
        ("percentage", Some(60), 5, "+++", "..A"),
        ("percentage", Some(100), 2, "++", ".A"),
        ("percentage", Some(100), 2, "+0", ".R"),
        ("percentage", None, 2, "++", ".A"),
        ("percentage", None, 2, "-", "R"),
        ("percentage", Some(1), 5, "----+", "....A"),
        ("percentage", Some(28), 25, "+++++++", "......A"),
        ("any-n", Some(2), 3, "-++", "..A"),
        ("any-n", Some(2), 3, "--", ".R"),
        ("any-n", Some(2), 3, "0-", ".R"),
        ("any-n", Some(2), 3, "++", ".A"),
        ("any-n", Some(2), 3, "+0+", "..A"),
        ("any-n", None, 3, "+", "A"),
        ("any-n", None, 3, "--+", "..A"),
        ("any-n", None, 3, "-0-", "..R"),
        ("any-n", Some(1), 1, "-", "R"),
        ("quorum", Some(2), 3, "-++", "..A"),
        ("quorum", None, 2, "+", "A"),
        ("all", None, 3, "+++", "..A"),
        ("all", None, 3, "+-", ".R"),
        ("all", None, 3, "-", "R"),
        ("all", None, 3, "+0+", "..A"),
        ("all", None, 3, "00+", "..A"),
        ("all", None, 3, "++0", "..A"),
        ("all", None, 3, "000", "..R"),
        ("all", None, 3, "0-", ".R"),
        ("all", None, 1, "+", "A"),
        ("all", None, 1, "0", "R"),
        // What goes with another mode.
        ("all", Some(1), 2, "+", "."),
    ];
    for (mode, value, people, signs, expected) in table {
        let names: Vec<String> = (1..=people).map(|n| format!("u{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut course = Course::begin(&Setting::of([(of(mode, value), approvers(&names))]));
        let mut seen = String::new();
        for (name, decision) in names.iter().zip(signs.chars()) {
            course.says(name, action(decision)).unwrap();
            seen.push(sign(verdict(&course)));
        }
        assert_eq!(seen, expected, "{mode} {value:?} of {people}: {signs}");
    }
}

#[test]
fn a_stage_is_not_approved_without_those_who_are_required() {
    // The first letter of a decision is whose it is; a star marks who is required.
    let table = [
        ("any-n", Some(1), "a* b c", "b+ c+ a+", "..A"),
        ("any-n", Some(1), "a* b c", "a+", "A"),
        ("any-n", Some(1), "a* b c", "a-", "R"),
        ("any-n", Some(1), "a* b c", "a0", "R"),
        ("any-n", Some(1), "a* b c", "b+ a-", ".R"),
        ("any-n", Some(1), "a* b c", "b+ a0", ".R"),
        ("any-n", Some(2), "a* b c", "a+ b- c+", "..A"),
        ("any-n", Some(2), "a* b c", "b- c-", ".R"),
        ("any-n", None, "a* b*", "a+ b+", ".A"),
        ("quorum", Some(1), "a b*", "a+ b+", ".A"),
        ("percentage", Some(50), "a* b c d", "b+ c+ d+ a+", "...A"),
        ("percentage", Some(50), "a* b c d", "b+ c+ d+ a-", "...R"),
        ("all", None, "a* b", "a0", "R"),
        ("all", None, "a* b", "b0 a+", ".A"),
        ("all", None, "a* b", "a+ b0", ".A"),
    ];
    for (mode, value, people, decisions, expected) in table {
        let mut course =
            Course::begin(&Setting::of([(of(mode, value), approvers(&people.split(' ').collect::<Vec<_>>()))]));
        let mut seen = String::new();
        for decision in decisions.split(' ') {
            let (name, decision) = decision.split_at(1);
            course.says(name, action(decision.chars().next().unwrap())).unwrap();
            seen.push(sign(verdict(&course)));
        }
        assert_eq!(seen, expected, "{mode} {value:?} of {people}: {decisions}");
    }
}

fn with_observers(people: &[&str], observers: &[&str]) -> Asked {
    Asked { observers: observers.iter().map(|name| (*name).to_owned()).collect(), ..approvers(people) }
}

#[test]
fn an_observer_has_no_vote_whatever_they_say() {
    for (mode, decision) in
        ["all", "any-n", "percentage"].into_iter().flat_map(|mode| "+-0".chars().map(move |c| (mode, c)))
    {
        let setting = Setting::of([(of(mode, None), with_observers(&["a", "b"], &["o", "p"]))]);
        let mut course = Course::begin(&setting);
        course.says("o", action(decision)).unwrap();
        assert_eq!(verdict(&course), Verdict::Open, "{mode} {decision}");
        let task = course.task_of("o");
        assert_eq!(course.tasks()[&task].state.as_str(), "completed");
        let decided: Vec<&str> = course.entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(decided, ["request.created", "stage.started", "task.decided"]);
    }
}

#[test]
fn an_observer_who_has_said_nothing_holds_up_nobody() {
    let mut course = Course::begin(&Setting::of([(of("all", None), with_observers(&["a"], &["o"]))]));
    course.says("a", Action::Approve).unwrap();
    assert_eq!(verdict(&course), Verdict::Approved);
}

#[test]
fn somebody_may_approve_and_observe_at_once_and_has_a_task_for_each() {
    let mut course = Course::begin(&Setting::of([(of("all", None), with_observers(&["a"], &["a"]))]));
    let tasks: Vec<&str> = course.request.pending_tasks().map(|(_, task)| task.kind.as_str()).collect();
    assert_eq!(tasks, ["approver", "observer"]);
    course.decide(TaskId { stage: 0, number: 2 }, Action::Reject, &admin("a")).unwrap();
    assert_eq!(verdict(&course), Verdict::Open);
    course.decide(TaskId { stage: 0, number: 1 }, Action::Approve, &admin("a")).unwrap();
    assert_eq!(verdict(&course), Verdict::Approved);
}

#[test]
fn an_administrator_who_decides_for_somebody_required_is_as_good_as_they() {
    let mut course = Course::begin(&Setting::of([(of("any-n", None), approvers(&["a*", "b"]))]));
    course.decide(course.task_of("a"), Action::Approve, &admin("adm")).unwrap();
    assert_eq!(verdict(&course), Verdict::Approved);
}

#[test]
fn that_somebody_is_required_goes_with_the_task() {
    let mut course = Course::begin(&Setting::of([(of("any-n", None), approvers(&["a*", "b"]))]));
    course.reassign(course.task_of("a"), "c", &admin("adm")).unwrap();
    course.says("b", Action::Approve).unwrap();
    assert_eq!(course.request.status, Status::InReview);
    course.says("c", Action::Approve).unwrap();
    assert_eq!(course.request.status, Status::Approved);

    let setting = Setting::of([(of("any-n", None), approvers(&["a*", "b"]))]).with_delegation("a", "d", 0..1);
    let mut course = Course::begin(&setting);
    course.says("b", Action::Approve).unwrap();
    assert_eq!(verdict(&course), Verdict::Open);
    course.says("d", Action::Reject).unwrap();
    assert_eq!(verdict(&course), Verdict::Rejected);
}

#[test]
fn whoever_is_asked_twice_has_one_vote_and_is_required_if_they_are_once() {
    let people = ["a", "b*"];
    let setting = Setting::of([(of("percentage", Some(50)), approvers(&people))]).with_delegation("b", "a", 0..1);
    let course = Course::begin(&setting);
    let tasks: Vec<Task> = course.tasks().into_values().collect();
    assert_eq!(tasks.len(), 1);
    assert_eq!((tasks[0].assignee.as_str(), tasks[0].required, &tasks[0].delegated_from), ("a", true, &None));
}

#[test]
fn a_task_that_was_reassigned_counts_once() {
    for mode in ["all", "percentage"] {
        let mut course = Course::begin(&Setting::of([(of(mode, None), approvers(&["a", "b"]))]));
        course.reassign(course.task_of("a"), "c", &admin("adm")).unwrap();
        course.says("b", Action::Approve).unwrap();
        assert_eq!(course.request.status, Status::InReview, "{mode}");
        course.says("c", Action::Approve).unwrap();
        assert_eq!(course.request.status, Status::Approved, "{mode}");
    }
}
