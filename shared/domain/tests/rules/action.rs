//! The life of an action as tables: submitting, deciding, cancelling, reporting, expiring, and what is told of it.

use crate::actions_policy::rule;
use crate::{at, changed, microseconds};
use countersign_domain::action::{
    Action, ActionId, Approver, Decision, Doer, IDS, INPUT, REPORT, Refusal, Report, Reported, State, Status,
    Submission, UnknownStatus,
};
use countersign_domain::actions_policy::{ActionsPolicy, MAX_POINTS, MAX_RULES, Rule, Verdict};
use countersign_domain::risk::{Factor, RiskTable};
use countersign_domain::{
    Actor, Change, Entry, EntryClass, Listing, Logged, Outcome, Record, Timestamp, With, seconds,
};
use serde_json::{Map, Value, json};

const SUBMITTED: &str = "2026-01-20T14:35:00.25Z";
const EXPIRES: &str = "2026-01-21T14:35:00Z";
const EARLY: &str = "2026-01-20T14:36:00.5Z";
const CORRELATION: &str = "action_20260120_143500_0a1b2c3d";

fn fields(value: Value) -> Map<String, Value> {
    let Value::Object(fields) = value else { panic!("{value} is no object") };
    fields
}

/// An action that scores 45 + 15 = 60: medium, level 2.
pub(crate) fn submission() -> Submission {
    Submission {
        id: ActionId::new(12345).unwrap(),
        random: "0a1b2c3d".to_owned(),
        organization: "1".parse().unwrap(),
        agent_id: "agent-7".to_owned(),
        agent_name: Some("Ledger".to_owned()),
        action_type: "data_modification".to_owned(),
        resource: Some("accounts".to_owned()),
        resource_id: Some("acc-9".to_owned()),
        tool_name: Some("sql".to_owned()),
        description: Some("Close the account".to_owned()),
        action_details: fields(json!({ "rows": 1 })),
        context: fields(json!({ "ticket": "T-1" })),
        risk_indicators: fields(json!({ "pii_involved": true })),
        on_behalf_of: Some(8),
    }
}

pub(crate) fn key(owner: Option<u64>) -> Doer {
    Doer {
        actor: Actor::Key { id: "key_ab".to_owned() },
        user: owner,
        ip_address: Some("198.51.100.7".to_owned()),
        user_agent: Some("ascend-sdk/2.7.1".to_owned()),
    }
}

pub(crate) fn human(user: u64) -> Doer {
    Doer {
        actor: Actor::User { issuer: "https://login.example.com".to_owned(), subject: user.to_string() },
        user: Some(user),
        ip_address: Some("192.168.1.100".to_owned()),
        user_agent: Some("Mozilla/5.0".to_owned()),
    }
}

pub(crate) fn approver(user: u64, level: u8) -> Approver {
    Approver { user, level, doer: human(user) }
}

fn settings(rules: Vec<Rule>) -> ActionsPolicy {
    ActionsPolicy { rules, ..ActionsPolicy::default() }
}

/// Submitted by a key that user 7 owns, for user 8.
fn submit(policy: &ActionsPolicy) -> Change<Action> {
    Action::submit(&submission(), policy, &key(Some(7)), at(SUBMITTED))
}

fn pending() -> Action {
    submit(&ActionsPolicy::default()).record
}

fn decided(decision: Decision) -> Action {
    changed(pending().decide(decision, None, &approver(42, 4), at(EARLY)).unwrap()).record
}

fn ruled(then: Verdict) -> Action {
    submit(&settings(vec![rule("by rule", json!(true), then, None)])).record
}

fn cancelled() -> Action {
    changed(pending().cancel(&key(None), at(EARLY)).unwrap()).record
}

fn reported(result: Report) -> Action {
    let now = at(EARLY) + seconds(60);
    changed(decided(Decision::Approve).report(result, "{}", &key(None), now).unwrap()).record
}

fn timed_out() -> Action {
    changed(pending().tick(at(EXPIRES) + seconds(5))).record
}

/// One in each of the states, with the word for it in sentences, its listed status and its outcome.
fn each_state() -> [(&'static str, Status, Option<&'static str>, Action); 9] {
    [
        ("pending", Status::Pending, None, pending()),
        ("approved", Status::Approved, None, decided(Decision::Approve)),
        ("approved", Status::Approved, None, ruled(Verdict::Allow)),
        ("approved", Status::Approved, Some("completed"), reported(Report::Completed)),
        ("approved", Status::Approved, Some("failed"), reported(Report::Failed)),
        ("denied", Status::Denied, None, decided(Decision::Reject)),
        ("denied", Status::Denied, None, ruled(Verdict::Deny)),
        ("cancelled", Status::Denied, Some("cancelled"), cancelled()),
        ("timeout", Status::Timeout, None, timed_out()),
    ]
}

fn items(change: &Change<Action>) -> Vec<(&str, &str)> {
    change
        .with
        .iter()
        .map(|with| match with {
            With::Item { name, body } => (name.as_str(), body.as_str()),
            With::Born { .. } | With::Pointer(_) => panic!("nothing else is written with a change of an action"),
        })
        .collect()
}

/// What the world and the audit log are told of a change.
#[derive(Clone)]
struct Told<'a> {
    event: &'a str,
    status: &'a str,
    outcome: Option<&'a str>,
    reason: &'a str,
    audit: &'a str,
    details: &'a str,
    by: &'a Doer,
    now: Timestamp,
    at: &'a str,
}

fn check_entry(entry: &Entry, name: &str, class: EntryClass, told: &Told<'_>, data: Value) {
    assert_eq!((entry.name.as_str(), entry.class), (name, class));
    assert_eq!((&entry.actor, entry.at), (&told.by.actor, told.now), "{name}");
    assert_eq!((entry.subject.kind.as_str(), entry.subject.id.as_str()), ("action", "12345"), "{name}");
    assert_eq!(entry.data, data, "{name}");
    assert_eq!(entry.state, None, "{name}");
}

/// Exactly one event and one line of the audit log, the line last; where a call came from is only in the line.
fn check_told(entries: &[Entry], told: &Told<'_>) {
    let [event, audit] = entries else { panic!("{entries:?}") };
    let public = json!({
        "action_id": 12345,
        "correlation_id": CORRELATION,
        "agent_id": "agent-7",
        "action_type": "data_modification",
        "resource": "accounts",
        "status": told.status,
        "outcome": told.outcome,
        "risk_score": 60,
        "reason": told.reason,
        "user_id": told.by.user,
        "at": told.at,
    });
    check_entry(event, told.event, EntryClass::Public, told, public);
    let kept = json!({
        "user_id": told.by.user,
        "details": told.details,
        "ip_address": told.by.ip_address,
        "user_agent": told.by.user_agent,
        "correlation_id": CORRELATION,
    });
    check_entry(audit, told.audit, EntryClass::Audit, told, kept);
    let by = told.by.user.map(|user| user.to_string());
    assert_eq!(Action::logged(audit), Some(Logged { name: told.audit.to_owned(), by }));
}

#[test]
fn an_id_is_a_whole_number_that_every_json_reader_holds() {
    assert_eq!(IDS, 9_007_199_254_740_992);
    for (number, valid) in [
        (i64::MIN, false),
        (-1, false),
        (0, false),
        (1, true),
        (12345, true),
        (9_007_199_254_740_991, true),
        (9_007_199_254_740_992, false),
        (i64::MAX, false),
    ] {
        let id = ActionId::new(number);
        assert_eq!(id.is_some(), valid, "{number}");
        if let Some(id) = id {
            assert_eq!((id.number(), id.to_string()), (number as u64, number.to_string()));
            assert_eq!(serde_json::to_value(id).unwrap(), json!(number));
            assert_eq!(serde_json::from_value::<ActionId>(json!(number)).unwrap(), id);
        }
    }
}

#[test]
fn an_id_of_random_bits_is_never_0_and_never_too_large() {
    for (bits, number) in [
        (0, 1),
        (1, 2),
        (IDS - 3, IDS - 2),
        (IDS - 2, IDS - 1),
        (IDS - 1, 1),
        (IDS, 2),
        // 2^64 - 1 is 2^11 times 2^53 - 1, and 2^11 - 1 more.
        (u64::MAX, 2048),
    ] {
        assert_eq!(ActionId::from_random(bits).number(), number, "{bits}");
    }
}

#[test]
fn ids_and_statuses_have_their_documented_words() {
    for (status, word) in [
        (Status::Pending, "pending"),
        (Status::Approved, "approved"),
        (Status::Denied, "denied"),
        (Status::Timeout, "timeout"),
    ] {
        assert_eq!((status.as_str(), word.parse()), (word, Ok(status)));
    }
    assert_eq!("pending_approval".parse(), Ok(Status::Pending));
    for word in ["", "Pending", "pending ", "cancelled", "completed", "failed", "timed_out", "rejected"] {
        assert_eq!(word.parse::<Status>(), Err(UnknownStatus), "{word}");
    }
    assert_eq!(UnknownStatus.to_string(), "must be pending, approved, denied or timeout");
    assert_eq!([Report::Completed, Report::Failed].map(Report::as_str), ["completed", "failed"]);
    assert_eq!(pending().approval_request_id(), "appr_12345");
    assert_eq!((INPUT, REPORT), ("@input", "report"));
}

#[test]
fn a_submission_becomes_an_action_with_its_score_and_whatever_was_submitted() {
    assert_eq!(
        pending(),
        Action {
            id: ActionId::new(12345).unwrap(),
            organization: "1".parse().unwrap(),
            correlation_id: CORRELATION.to_owned(),
            agent_id: "agent-7".to_owned(),
            agent_name: Some("Ledger".to_owned()),
            action_type: "data_modification".to_owned(),
            resource: Some("accounts".to_owned()),
            resource_id: Some("acc-9".to_owned()),
            tool_name: Some("sql".to_owned()),
            submitted_by: Some(7),
            on_behalf_of: Some(8),
            risk_score: 60,
            risk_factors: vec![
                Factor { factor: "action_type: data_modification".to_owned(), points: 45 },
                Factor { factor: "indicator: pii_involved".to_owned(), points: 15 },
            ],
            required_level: 2,
            ruling: "Risk score 60 is medium: approval of level 2 is required".to_owned(),
            forbid_self_approval: true,
            created_at: at(SUBMITTED),
            updated_at: at(SUBMITTED),
            state: State::Pending { expires_at: at(EXPIRES) },
        }
    );
}

#[test]
fn each_ruling_on_a_submission_is_told_with_its_reason() {
    let now = at(SUBMITTED);
    let by_rule = |then, level| settings(vec![rule("r", json!(true), then, level)]);
    let always = ActionsPolicy { auto_approve_below: 101, ..ActionsPolicy::default() };
    let approved = || State::Approved { by: None, at: now, reason: None, report: None };
    let waits = || State::Pending { expires_at: at(EXPIRES) };
    for (policy, event, status, level, reason, state) in [
        (
            ActionsPolicy::default(),
            "action.pending",
            "pending",
            2,
            "Risk score 60 is medium: approval of level 2 is required",
            waits(),
        ),
        (always, "action.approved", "approved", 2, "Risk score 60 is below 101: approved automatically", approved()),
        (by_rule(Verdict::Allow, None), "action.approved", "approved", 2, "Rule r: approved automatically", approved()),
        (
            by_rule(Verdict::RequireApproval, Some(5)),
            "action.pending",
            "pending",
            5,
            "Rule r: approval of level 5 is required",
            waits(),
        ),
        (
            by_rule(Verdict::Deny, None),
            "action.denied",
            "denied",
            2,
            "Rule r: denied",
            State::Denied { by: None, at: now, reason: None },
        ),
    ] {
        let change = submit(&policy);
        assert_eq!(change.record, Action { required_level: level, ruling: reason.to_owned(), state, ..pending() });
        assert_eq!(change.record.reason(now), reason);
        let details = format!("Action 12345 submitted by agent agent-7: {reason}");
        let told = Told {
            event,
            status,
            outcome: None,
            reason,
            audit: "action_submitted",
            details: &details,
            by: &key(Some(7)),
            now,
            at: "2026-01-20T14:35:00Z",
        };
        check_told(&change.entries, &told);
    }
}

#[test]
fn what_is_large_and_the_callers_own_lies_beside_the_record_and_is_told_to_nobody() {
    let change = submit(&ActionsPolicy::default());
    let [(name, body)] = items(&change)[..] else { panic!("{change:?}") };
    assert_eq!(name, "@input");
    let expected = json!({
        "description": "Close the account",
        "action_details": { "rows": 1 },
        "context": { "ticket": "T-1" },
        "risk_indicators": { "pii_involved": true },
    });
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), expected);
    for text in [serde_json::to_string(&change.record).unwrap(), serde_json::to_string(&change.entries).unwrap()] {
        for own in ["Close the account", "rows", "T-1"] {
            assert!(!text.contains(own), "{own} in {text}");
        }
    }
}

#[test]
fn settings_are_those_of_the_submission() {
    let policy = ActionsPolicy { forbid_self_approval: false, approval_ttl_minutes: 1, ..ActionsPolicy::default() };
    let action = submit(&policy).record;
    assert!(!action.forbid_self_approval);
    assert_eq!(action.due(), Some(at("2026-01-20T14:36:00Z")));
}

#[test]
fn it_waits_from_the_current_whole_second_so_that_its_end_is_shown_exactly() {
    for now in ["2026-01-20T14:35:00Z", "2026-01-20T14:35:00.000001Z", "2026-01-20T14:35:00.999999Z"] {
        let action = Action::submit(&submission(), &ActionsPolicy::default(), &human(7), at(now)).record;
        assert_eq!((action.created_at, action.due()), (at(now), Some(at(EXPIRES))));
        assert_eq!(action.correlation_id, CORRELATION);
    }
}

#[test]
fn whose_action_it_is_follows_from_who_submitted_it() {
    for (by, submitted_by) in [(key(None), None), (key(Some(7)), Some(7)), (human(9), Some(9))] {
        for on_behalf_of in [None, Some(8)] {
            let submission = Submission { on_behalf_of, ..submission() };
            let action = Action::submit(&submission, &ActionsPolicy::default(), &by, at(SUBMITTED)).record;
            assert_eq!((action.submitted_by, action.on_behalf_of), (submitted_by, on_behalf_of));
        }
    }
}

#[test]
fn rules_see_the_whole_submission_with_its_score() {
    for (path, value) in [
        ("agent_id", json!("agent-7")),
        ("agent_name", json!("Ledger")),
        ("action_type", json!("data_modification")),
        ("resource", json!("accounts")),
        ("resource_id", json!("acc-9")),
        ("tool_name", json!("sql")),
        ("description", json!("Close the account")),
        ("action_details.rows", json!(1)),
        ("context.ticket", json!("T-1")),
        ("risk_indicators.pii_involved", json!(true)),
        ("on_behalf_of", json!(8)),
        ("risk_score", json!(60)),
        ("risk_level", json!("medium")),
    ] {
        let when = json!({ "===": [{ "var": path }, value] });
        let action = submit(&settings(vec![rule("seen", when, Verdict::Deny, None)])).record;
        assert_eq!(action.ruling, "Rule seen: denied", "{path}");
    }
}

#[test]
fn to_rules_what_was_not_submitted_is_missing() {
    let texts = ["agent_name", "resource", "resource_id", "tool_name", "description", "on_behalf_of"];
    let bare = Submission {
        agent_name: None,
        resource: None,
        resource_id: None,
        tool_name: None,
        description: None,
        on_behalf_of: None,
        action_details: Map::new(),
        context: Map::new(),
        risk_indicators: Map::new(),
        ..submission()
    };
    for name in texts {
        let when = json!({ "===": [{ "var": [name, "nothing"] }, "nothing"] });
        let policy = settings(vec![rule("absent", when, Verdict::Deny, None)]);
        let of = |submission| Action::submit(submission, &policy, &key(None), at(SUBMITTED)).record.status(at(EARLY));
        assert_eq!((of(&bare), of(&submission())), (Status::Denied, Status::Pending), "{name}");
    }
    let empty = json!({ "and": [
        { "===": [{ "var": "action_details" }, {}] },
        { "===": [{ "var": "context" }, {}] },
        { "===": [{ "var": "risk_indicators" }, {}] },
    ] });
    let policy = settings(vec![rule("empty", empty, Verdict::Deny, None)]);
    let denied = Action::submit(&bare, &policy, &key(None), at(SUBMITTED)).record;
    assert_eq!(denied.status(at(EARLY)), Status::Denied);
}

#[test]
fn what_an_agent_says_of_its_own_score_counts_for_nothing() {
    let own = fields(json!({ "risk_score": 1, "risk_level": "low" }));
    let submission =
        Submission { action_details: own.clone(), context: own.clone(), risk_indicators: own, ..submission() };
    let when = json!({ "<": [{ "var": "risk_score" }, 45] });
    let policy = settings(vec![rule("low", when, Verdict::Allow, None)]);
    let action = Action::submit(&submission, &policy, &key(None), at(SUBMITTED)).record;
    assert_eq!((action.risk_score, action.status(at(EARLY))), (45, Status::Pending));
}

#[test]
fn a_rule_that_cannot_be_evaluated_is_a_factor_for_all_to_see() {
    let rules = vec![rule("no drops", json!({ "+": [{ "var": "agent_id" }, 1] }), Verdict::Deny, None)];
    let policy = ActionsPolicy { auto_approve_below: 101, ..settings(rules) };
    let action = submit(&policy).record;
    let seen = Factor { factor: "rule no drops failed: a text is not a number".to_owned(), points: 0 };
    assert_eq!(action.risk_factors, [pending().risk_factors, vec![seen]].concat());
    assert_eq!(action.ruling, "Rule no drops could not be evaluated: approval of level 2 is required");
    assert_eq!((action.risk_score, action.status(at(EARLY))), (60, Status::Pending));
}

#[test]
fn each_decision_is_recorded_with_who_took_it_when_and_why() {
    let now = at(EARLY);
    for (decision, event, status, audit, details, without_reason) in [
        (
            Decision::Approve,
            "action.approved",
            "approved",
            "action_approved",
            "Action 12345 approved by user 42",
            "Approved by user 42",
        ),
        (
            Decision::Reject,
            "action.denied",
            "denied",
            "action_denied",
            "Action 12345 denied by user 42",
            "Denied by user 42",
        ),
    ] {
        for given in [None, Some("Q1 migration")] {
            let reason = given.map(str::to_owned);
            let by = approver(42, 2);
            let change = changed(pending().decide(decision, reason.clone(), &by, now).unwrap());
            let state = match decision {
                Decision::Approve => State::Approved { by: Some(42), at: now, reason, report: None },
                Decision::Reject => State::Denied { by: Some(42), at: now, reason },
            };
            assert_eq!(change.record, Action { state, updated_at: now, ..pending() });
            let reason = given.unwrap_or(without_reason);
            assert_eq!(change.record.reason(now), reason);
            assert_eq!(items(&change), []);
            let at = "2026-01-20T14:36:00Z";
            let told = Told { event, status, outcome: None, reason, audit, details, by: &by.doer, now, at };
            check_told(&change.entries, &told);
        }
    }
}

#[test]
fn the_audit_log_names_the_approver_whatever_their_credentials_say() {
    let by = Approver { user: 42, level: 5, doer: Doer { user: None, ..human(42) } };
    let change = changed(pending().decide(Decision::Approve, None, &by, at(EARLY)).unwrap());
    for entry in &change.entries {
        assert_eq!(entry.data["user_id"], 42, "{entry:?}");
    }
}

#[test]
fn deciding_either_way_needs_the_level_of_the_action() {
    for needed in 1..=5 {
        let action = Action { required_level: needed, ..pending() };
        for held in 0..=5 {
            let refusal = (held < needed).then_some(Refusal::InsufficientLevel { needed, held });
            for decision in [Decision::Approve, Decision::Reject] {
                let found = action.decide(decision, None, &approver(42, held), at(EARLY));
                assert_eq!(found.err(), refusal, "{needed} {held}");
            }
        }
    }
    let sentence = Refusal::InsufficientLevel { needed: 4, held: 1 }.to_string();
    assert_eq!(sentence, "Approval level 4 is required for this action; yours is 1");
}

#[test]
fn whoever_asked_cannot_decide_unless_the_organization_lets_them() {
    for (submitted_by, on_behalf_of, own) in [
        (None, None, false),
        (Some(42), None, true),
        (None, Some(42), true),
        (Some(42), Some(42), true),
        (Some(42), Some(8), true),
        (Some(7), Some(42), true),
        (Some(7), Some(8), false),
        (Some(0), Some(420), false),
    ] {
        for forbid_self_approval in [true, false] {
            let action = Action { submitted_by, on_behalf_of, forbid_self_approval, ..pending() };
            let refusal = (own && forbid_self_approval).then_some(Refusal::SelfApproval);
            for decision in [Decision::Approve, Decision::Reject] {
                let found = action.decide(decision, None, &approver(42, 5), at(EARLY));
                assert_eq!(found.err(), refusal, "{submitted_by:?} {on_behalf_of:?} {forbid_self_approval}");
            }
        }
    }
    // The owner of the key that submitted, and the user for whom it did.
    for user in [7, 8] {
        let found = pending().decide(Decision::Approve, None, &approver(user, 5), at(EARLY));
        assert_eq!(found, Err(Refusal::SelfApproval));
    }
    let sentence = "You cannot decide on an action that you submitted or that was submitted on your behalf";
    assert_eq!(Refusal::SelfApproval.to_string(), sentence);
}

#[test]
fn of_everything_that_is_wrong_with_a_decision_the_first_in_the_documented_order_is_told() {
    let late = at(EXPIRES) + seconds(3600);
    for (word, _, _, action) in each_state() {
        for (now, word) in [(at(EARLY), word), (late, if word == "pending" { "timeout" } else { word })] {
            for decision in [Decision::Approve, Decision::Reject] {
                let decide = |user, level| action.decide(decision, None, &approver(user, level), now).err();
                let low = Refusal::InsufficientLevel { needed: 2, held: 1 };
                assert_eq!(decide(7, 1), Some(low.clone()), "{word}");
                assert_eq!(decide(42, 1), Some(low), "{word}");
                assert_eq!(decide(7, 2), Some(Refusal::SelfApproval), "{word}");
                let open = word == "pending";
                assert_eq!(decide(42, 2), (!open).then_some(Refusal::NotPending(word)), "{word}");
            }
        }
    }
}

#[test]
fn what_is_not_pending_says_what_it_is_instead() {
    for (word, sentence) in [
        ("approved", "Action is not pending approval (current status: approved)"),
        ("denied", "Action is not pending approval (current status: denied)"),
        ("cancelled", "Action is not pending approval (current status: cancelled)"),
        ("timeout", "Action is not pending approval (current status: timeout)"),
    ] {
        let of_word = each_state().into_iter().filter(|state| state.0 == word);
        let actions: Vec<_> = of_word.map(|(.., action)| action).collect();
        assert!(!actions.is_empty(), "{word}");
        for action in actions {
            let refused = action.decide(Decision::Reject, None, &approver(42, 5), at(EARLY)).unwrap_err();
            assert_eq!(refused.to_string(), sentence);
            assert_eq!(action.cancel(&key(None), at(EARLY)).unwrap_err().to_string(), sentence);
        }
    }
    let late = pending().cancel(&key(None), at(EXPIRES)).unwrap_err();
    assert_eq!(late.to_string(), "Action is not pending approval (current status: timeout)");
}

#[test]
fn the_other_refusals_are_sentences_too() {
    assert_eq!(Refusal::NotFound.to_string(), "Action not found");
    assert_eq!(Refusal::Exists.to_string(), "Action exists");
}

#[test]
fn a_decision_is_in_time_until_the_last_microsecond_before_the_deadline() {
    let deadline = at(EXPIRES);
    for (now, in_time) in [
        // The clocks of two machines differ; a decision is not refused for being early.
        (at(SUBMITTED) - microseconds(1), true),
        (at(SUBMITTED), true),
        (deadline - microseconds(1), true),
        (deadline, false),
        (deadline + microseconds(1), false),
        (Timestamp::MAX, false),
    ] {
        let refusal = (!in_time).then_some(Refusal::NotPending("timeout"));
        for decision in [Decision::Approve, Decision::Reject] {
            assert_eq!(pending().decide(decision, None, &approver(42, 2), now).err(), refusal, "{now}");
        }
        assert_eq!(pending().cancel(&key(None), now).err(), refusal, "{now}");
        assert_eq!(pending().status(now), if in_time { Status::Pending } else { Status::Timeout }, "{now}");
        assert_eq!(pending().tick(now) == Outcome::Keep, in_time, "{now}");
        let reason = if in_time { pending().ruling } else { "Timed out: nobody decided in time".to_owned() };
        assert_eq!(pending().reason(now), reason, "{now}");
    }
}

#[test]
fn whoever_may_submit_can_take_a_pending_action_back() {
    let now = at(EARLY);
    for (by, details) in [
        (key(None), "Action 12345 cancelled by key:key_ab"),
        (key(Some(7)), "Action 12345 cancelled by user 7"),
        (human(42), "Action 12345 cancelled by user 42"),
    ] {
        let change = changed(pending().cancel(&by, now).unwrap());
        assert_eq!(change.record, Action { state: State::Cancelled { at: now }, updated_at: now, ..pending() });
        assert_eq!(items(&change), []);
        let told = Told {
            event: "action.denied",
            status: "denied",
            outcome: Some("cancelled"),
            reason: "Cancelled before anybody decided",
            audit: "action_cancelled",
            details,
            by: &by,
            now,
            at: "2026-01-20T14:36:00Z",
        };
        check_told(&change.entries, &told);
    }
}

#[test]
fn an_approved_action_is_reported_on_whoever_or_whatever_approved_it() {
    let now = at(EARLY) + microseconds(1);
    for (action, ruling) in [
        (decided(Decision::Approve), "Approved by user 42"),
        (ruled(Verdict::Allow), "Rule by rule: approved automatically"),
    ] {
        for (result, event, audit, word) in [
            (Report::Completed, "action.completed", "action_completed", "completed"),
            (Report::Failed, "action.failed", "action_failed", "failed"),
        ] {
            let change = changed(action.report(result, "{\"took\":3}", &key(None), now).unwrap());
            let State::Approved { by, at, reason, report: None } = action.state.clone() else { panic!("{action:?}") };
            let state = State::Approved { by, at, reason, report: Some(Reported { result, at: now }) };
            assert_eq!(change.record, Action { state, updated_at: now, ..action.clone() });
            assert_eq!(items(&change), [("report", "{\"took\":3}")]);
            let told = Told {
                event,
                status: "approved",
                outcome: Some(word),
                reason: ruling,
                audit,
                details: &format!("Action 12345 reported {word} by key:key_ab"),
                by: &key(None),
                now,
                at: "2026-01-20T14:36:00Z",
            };
            check_told(&change.entries, &told);
        }
    }
}

#[test]
fn only_an_approved_action_is_reported_on_and_once() {
    for (word, _, outcome, action) in each_state() {
        for result in [Report::Completed, Report::Failed] {
            let found = action.report(result, "{}", &key(None), at(EARLY));
            match (word, outcome) {
                ("approved", None) => assert!(matches!(found, Ok(Outcome::Change(_))), "{word}"),
                ("approved", Some(before)) if before == result.as_str() => assert_eq!(found, Ok(Outcome::Keep)),
                ("approved", Some(before)) => assert_eq!(found, Err(Refusal::NotExecutable(before))),
                _ => assert_eq!(found, Err(Refusal::NotExecutable(word))),
            }
        }
    }
    let late = pending().report(Report::Failed, "{}", &key(None), at(EXPIRES)).unwrap_err();
    assert_eq!(late.to_string(), "Action is not awaiting a report (current status: timeout)");
}

#[test]
fn an_approval_does_not_expire() {
    let late = at(EXPIRES) + seconds(1_000_000);
    let approved = decided(Decision::Approve);
    assert_eq!(approved.status(late), Status::Approved);
    assert!(approved.report(Report::Completed, "{}", &key(None), late).is_ok());
}

#[test]
fn the_clock_records_that_nobody_decided_as_of_the_deadline() {
    let clock = Doer { actor: Actor::Clock, user: None, ip_address: None, user_agent: None };
    for (now, shown) in [
        (at(EXPIRES), EXPIRES),
        (at(EXPIRES) + microseconds(1), EXPIRES),
        (at(EXPIRES) + seconds(7), "2026-01-21T14:35:07Z"),
    ] {
        let change = changed(pending().tick(now));
        let state = State::TimedOut { at: at(EXPIRES) };
        assert_eq!(change.record, Action { state, updated_at: now, ..pending() });
        assert_eq!(items(&change), []);
        let told = Told {
            event: "action.denied",
            status: "timeout",
            outcome: None,
            reason: "Timed out: nobody decided in time",
            audit: "action_expired",
            details: "Action 12345 expired: nobody decided in time",
            by: &clock,
            now,
            at: shown,
        };
        check_told(&change.entries, &told);
    }
}

#[test]
fn the_clock_looks_only_at_what_waits_and_changes_nothing_else() {
    for (word, _, _, action) in each_state() {
        let waits = word == "pending";
        assert_eq!(action.due(), waits.then(|| at(EXPIRES)), "{word}");
        for now in [at(EXPIRES), Timestamp::MAX] {
            assert_eq!(action.tick(now) != Outcome::Keep, waits, "{word}");
        }
    }
}

#[test]
fn status_and_outcome_are_the_documented_ones_at_any_time() {
    for (word, status, outcome, action) in each_state() {
        assert_eq!((action.status(at(EARLY)), action.outcome()), (status, outcome), "{word}");
        let late = if word == "pending" { Status::Timeout } else { status };
        assert_eq!((action.status(Timestamp::MAX), action.outcome()), (late, outcome), "{word}");
    }
}

#[test]
fn every_state_says_why_it_is_so() {
    let pending_reason = "Risk score 60 is medium: approval of level 2 is required";
    let expected = [
        pending_reason,
        "Approved by user 42",
        "Rule by rule: approved automatically",
        "Approved by user 42",
        "Approved by user 42",
        "Denied by user 42",
        "Rule by rule: denied",
        "Cancelled before anybody decided",
        "Timed out: nobody decided in time",
    ];
    for ((word, .., action), reason) in each_state().into_iter().zip(expected) {
        assert_eq!(action.reason(at(EARLY)), reason, "{word}");
        let late = if word == "pending" { "Timed out: nobody decided in time" } else { reason };
        assert_eq!(action.reason(at(EXPIRES)), late, "{word}");
    }
}

#[test]
fn an_action_is_listed_by_its_stored_status_and_its_agent() {
    for (word, status, _, action) in each_state() {
        let listing = Listing {
            created_at: at(SUBMITTED),
            state: Some(status.as_str()),
            subject: Some("agent-7".to_owned()),
            inbox: None,
            tenant: None,
        };
        assert_eq!(action.listing(), listing, "{word}");
    }
}

#[test]
fn an_action_is_stored_as_it_is_and_read_back() {
    assert_eq!((Action::KIND, Action::SCHEMA), ("action", 1));
    for schema in [0, 1, 2] {
        assert_eq!(Action::upgrade(schema, json!({})), None);
    }
    for (word, .., action) in each_state() {
        let stored = serde_json::to_string(&action).unwrap();
        assert_eq!(serde_json::from_str::<Action>(&stored).unwrap(), action, "{word}");
    }
    let stored = |action: Action| serde_json::to_value(action).unwrap()["state"].clone();
    assert_eq!(stored(pending()), json!({ "is": "pending", "expires_at": EXPIRES }));
    let report = json!({ "result": "failed", "at": "2026-01-20T14:37:00.5Z" });
    let approved = json!({ "is": "approved", "by": 42, "at": EARLY, "reason": null, "report": report });
    assert_eq!(stored(reported(Report::Failed)), approved);
    assert_eq!(stored(decided(Decision::Reject)), json!({ "is": "denied", "by": 42, "at": EARLY, "reason": null }));
    assert_eq!(stored(cancelled()), json!({ "is": "cancelled", "at": EARLY }));
    assert_eq!(stored(timed_out()), json!({ "is": "timed_out", "at": EXPIRES }));
}

#[test]
fn an_entry_without_a_user_is_logged_without_one() {
    let change = changed(pending().cancel(&key(None), at(EARLY)).unwrap());
    let logged = Action::logged(&change.entries[1]).unwrap();
    assert_eq!(logged, Logged { name: "action_cancelled".to_owned(), by: None });
}

/// The largest action that can be: all texts at their limits in `letter`, every indicator raised, every rule failing.
fn largest(letter: char) -> Action {
    let text = |n| Some(letter.to_string().repeat(n));
    let name = |n: usize| format!("{n:03}{}", letter.to_string().repeat(97));
    let names: Vec<_> = (0..MAX_POINTS).map(name).collect();
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    // Of all evaluation errors this one has the longest sentence.
    let fails = json!({ "===": [{ "var": "context.deep" }, { "var": "context.deep" }] });
    let policy = ActionsPolicy {
        risk: RiskTable {
            base_points: Default::default(),
            indicator_points: names.iter().map(|name| (name.clone(), -100)).collect(),
        },
        ..settings((0..MAX_RULES).map(|n| rule(&name(n), fails.clone(), Verdict::Deny, None)).collect())
    };
    let submission = Submission {
        agent_id: text(500).unwrap(),
        agent_name: text(500),
        action_type: text(500).unwrap(),
        resource: text(500),
        resource_id: text(500),
        tool_name: text(500),
        description: text(5000),
        context: fields(json!({ "deep": deep })),
        risk_indicators: names.into_iter().map(|name| (name, json!(true))).collect(),
        ..submission()
    };
    let action = Action::submit(&submission, &policy, &human(7), at(SUBMITTED)).record;
    assert_eq!(action.risk_factors.len(), 1 + MAX_POINTS + MAX_RULES);
    let approved = changed(action.decide(Decision::Approve, text(2000), &approver(42, 5), at(EARLY)).unwrap()).record;
    changed(approved.report(Report::Failed, "{}", &key(None), at(EARLY)).unwrap()).record
}

#[test]
fn the_largest_action_there_can_be_fits_its_item() {
    // A stored item has at most 400 KB. Only an organization's own names can get beyond 64 KB: hundreds of indicators
    // and failing rules, each named in 100 characters of several bytes.
    let size = |letter| serde_json::to_string(&largest(letter)).unwrap().len();
    assert!((40_000..64_000).contains(&size('x')), "{}", size('x'));
    assert!((64_000..200_000).contains(&size('\u{10ffff}')), "{}", size('\u{10ffff}'));
}

#[test]
fn with_the_table_that_there_is_without_settings_an_action_stays_small() {
    let text = || Some("\u{10ffff}".repeat(500));
    let raised = RiskTable::default().indicator_points.into_keys().map(|name| (name, json!(true))).collect();
    let submission = Submission {
        agent_id: "\u{10ffff}".repeat(500),
        agent_name: text(),
        action_type: "\u{10ffff}".repeat(500),
        resource: text(),
        resource_id: text(),
        tool_name: text(),
        risk_indicators: raised,
        ..submission()
    };
    let action = Action::submit(&submission, &ActionsPolicy::default(), &human(7), at(SUBMITTED)).record;
    assert!(serde_json::to_string(&action).unwrap().len() < 16_000);
}
