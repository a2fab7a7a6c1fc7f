//! Callbacks of approval requests: what they are told of each event, and the deliveries that tell them.

use crate::{at, changed, operator};
use countersign_domain::delivery::{CALLBACKS, CallbackId, Delivery, DeliveryId, First, New, Report, State, Target};
use countersign_domain::event::{EVENTS, Event, Source};
use countersign_domain::retry::Schedule;
use countersign_domain::workflow::Mode;
use countersign_domain::workflow::policy::{Definition, OnBreach, OnEmpty, Stage};
use countersign_domain::workflow::request::{
    Action, Answers, Approver, Asked, Bound, By, Callback, Decision, New as NewRequest, Request, RequestId, TaskId,
};
use countersign_domain::{Actor, Change, Entry, Listing, Logged, Record, Tenant, Timestamp, seconds};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use uuid::Uuid;

const EVENT: &str = "f4a5b6c7-d8e9-0123-f012-456789012cde";
const URL: &str = "https://hooks.example.com/in?key=s3cret";
const NOW: &str = "2026-11-21T03:38:50.12Z";
/// The documented keys, in their order.
const KEYS: [&str; 9] = [
    "event_id",
    "event_type",
    "request_id",
    "artifact_type",
    "artifact_id",
    "status",
    "stage_order",
    "actor",
    "occurred_at",
];

fn tenant() -> Tenant {
    "acme".parse().unwrap()
}

fn callback(secret: Option<&str>) -> Callback {
    Callback { url: URL.to_owned(), secret: secret.map(|id| id.parse().unwrap()) }
}

fn by(name: &str) -> By {
    let actor = Actor::User { issuer: "test".to_owned(), subject: name.to_owned() };
    By { actor, email: None, is_admin: true }
}

/// Stages 1, 2, … of these modes, each with two hours for `u-ann` and `u-bob`, and what happens when they are late.
fn definition(stages: &[(OnEmpty, OnBreach)]) -> Definition {
    let stage = |(order, (on_empty, on_breach)): (u32, &(OnEmpty, OnBreach))| Stage {
        id: Uuid::from_u128(order.into()),
        name: format!("Stage {order}"),
        order,
        mode: Mode::AnyN,
        mode_value: None,
        sla_hours: Some(2),
        skip_if: None,
        on_empty: *on_empty,
        parallel_group: None,
        on_breach: Some(*on_breach),
        escalation_rules: Vec::new(),
        rules: Vec::new(),
    };
    Definition {
        name: "Two stages".to_owned(),
        description: None,
        artifact_type: "change".to_owned(),
        forbid_self_approval: false,
        forbid_repeat_approvers: false,
        stages: (1..).zip(stages).map(stage).collect(),
    }
}

/// These approve in the stages, one after the other, and `u-eve` when they are late.
fn answers(definition: Definition, approvers: &[&[&str]]) -> Answers {
    let asked = |users: &[&str]| Asked {
        skipped: false,
        approvers: users.iter().map(|user| Approver { user: (*user).to_owned(), required: false }).collect(),
        observers: Vec::new(),
    };
    let groups = approvers.iter().enumerate().map(|(place, users)| (place, vec![asked(users)])).collect();
    let escalations = (0..approvers.len()).map(|place| (place, asked(&["u-eve"]))).collect();
    Answers { definition: Some(Arc::new(definition)), groups, escalations, delegates: HashMap::new() }
}

fn create(answers: &Answers) -> Change<Request> {
    let policy = Bound {
        key: "policy".to_owned(),
        version: 3,
        id: Uuid::from_u128(7),
        item: "version#3".to_owned(),
        forbid_self_approval: false,
        forbid_repeat_approvers: false,
    };
    let new = NewRequest {
        id: RequestId::new([1; 13]),
        policy,
        artifact_type: "change".to_owned(),
        artifact_id: "cr-1".to_owned(),
        source_service: "svc".to_owned(),
        requester: "u-req".to_owned(),
        context: json!({}),
        callback: Some(callback(None)),
    };
    Request::create(new, answers, &by("svc"), at(NOW)).unwrap()
}

fn task(stage: u8, number: u16) -> TaskId {
    TaskId { stage, number }
}

fn decide(request: &Request, task: TaskId, action: Action, answers: &Answers) -> Change<Request> {
    let decision = Decision { id: Uuid::from_u128(9), action, comment: None, attachments_ref: None };
    request.decide(task, &decision, answers, &by("u-bob"), at(NOW)).unwrap()
}

/// What becomes of a request in all kinds of lives, change by change.
fn lives() -> Vec<Vec<Change<Request>>> {
    let late = at(NOW) + seconds(7200);
    let one = |on_breach| answers(definition(&[(OnEmpty::Block, on_breach)]), &[&["u-ann", "u-bob"]]);
    let two = answers(
        definition(&[(OnEmpty::Skip, OnBreach::Notify), (OnEmpty::Block, OnBreach::Notify)]),
        &[&[], &["u-ann", "u-bob"]],
    );
    let (approved, escalating) = (create(&two), create(&one(OnBreach::Escalate)));
    let (first, second) = (approved.record.clone(), escalating.record.clone());
    let approve = decide(&first, task(1, 2), Action::Approve, &two);
    let reject = decide(&second, task(0, 1), Action::Reject, &one(OnBreach::Escalate));
    let reject = [reject.clone(), decide(&reject.record, task(0, 2), Action::Reject, &one(OnBreach::Escalate))];
    let reassigned = second.reassign(task(0, 1), "u-tom", Some("away"), &by("u-adm"), at(NOW)).unwrap();
    let cancelled = reassigned.record.cancel(Some("no more"), &by("u-adm"), at(NOW)).unwrap();
    let escalated = changed(second.tick(&one(OnBreach::Escalate), late).unwrap());
    vec![
        vec![approved, approve],
        [vec![escalating], reject.to_vec()].concat(),
        vec![reassigned, cancelled],
        vec![escalated],
        vec![create(&answers(definition(&[(OnEmpty::Block, OnBreach::Notify)]), &[&[]]))],
        vec![create(&answers(definition(&[]), &[]))],
    ]
}

/// The events of a change that made this version.
fn events(version: u64, change: &Change<Request>) -> Vec<Event> {
    let source = |entry| Source { kind: "request".to_owned(), id: change.record.id.to_string(), version, entry };
    let entries = (0..).zip(&change.entries);
    entries.filter_map(|(place, entry)| Event::of(&tenant(), &source(place), entry)).collect()
}

#[test]
fn a_callback_is_told_nine_things_in_the_documented_order_and_spelling() {
    let change = create(&answers(definition(&[]), &[]));
    let [created, approved] = &events(1, &change)[..] else { panic!("{change:?}") };
    let id = change.record.id;
    for (event, word, status) in [(created, "request_created", "pending"), (approved, "request_approved", "approved")] {
        let expected = format!(
            r#"{{"event_id":"{}","event_type":"{word}","request_id":"{id}","artifact_type":"change","#,
            event.id
        ) + &format!(r#""artifact_id":"cr-1","status":"{status}","stage_order":1,"actor":null,"#)
            + r#""occurred_at":"2026-11-21T03:38:50.120000Z"}"#;
        assert_eq!(event.callback_body(), expected);
    }
}

#[test]
fn every_event_of_a_request_is_told_as_it_was_and_with_nothing_more() {
    let mut told = BTreeSet::new();
    for event in lives().iter().flatten().flat_map(|change| events(1, change)) {
        assert!(EVENTS.contains(&event.name.as_str()), "{}", event.name);
        let body = event.callback_body();
        let read: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(read.as_object().unwrap().len(), KEYS.len(), "{body}");
        let places: Vec<_> = KEYS.iter().map(|key| body.find(&format!("\"{key}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{body}");
        for key in ["request_id", "artifact_type", "artifact_id", "status", "stage_order"] {
            assert!(!read[key].is_null(), "{body}");
        }
        for key in ["request_id", "artifact_type", "artifact_id", "status", "stage_order", "actor"] {
            assert_eq!(read[key], event.data[key], "{body}");
        }
        told.insert((event.name.clone(), read["event_type"].to_string(), read["actor"].to_string()));
    }
    let told: Vec<_> = told.iter().map(|(name, word, actor)| [name.as_str(), word, actor]).collect();
    assert_eq!(
        told,
        [
            ["request.approved", r#""request_approved""#, r#""u-bob""#],
            ["request.approved", r#""request_approved""#, "null"],
            ["request.cancelled", r#""request_cancelled""#, r#""u-adm""#],
            ["request.created", r#""request_created""#, "null"],
            ["request.rejected", r#""request_rejected""#, r#""u-bob""#],
            ["request.rejected", r#""request_rejected""#, "null"],
            ["stage.completed", r#""stage_completed""#, "null"],
            ["stage.escalated", r#""stage_escalated""#, r#""sla-monitor""#],
            ["stage.skipped", r#""stage_skipped""#, "null"],
            ["stage.started", r#""stage_started""#, "null"],
            ["task.expired", r#""task_expired""#, "null"],
            ["task.reassigned", r#""task_reassigned""#, r#""u-adm""#],
        ]
    );
}

#[test]
fn what_is_not_known_is_null() {
    let change = create(&answers(definition(&[]), &[]));
    let event = Event { data: json!({ "actor": 7 }), ..events(1, &change)[0].clone() };
    let read: Value = serde_json::from_str(&event.callback_body()).unwrap();
    assert_eq!((&read["request_id"], &read["stage_order"]), (&Value::Null, &Value::Null));
}

/// Computed with Python's hashlib: they must never change.
#[test]
fn a_callback_is_told_from_every_other_by_tenant_url_and_secret_and_its_url_stays_unknown() {
    let id = |tenant: &str, url: &str, secret: Option<&str>| {
        let secret = secret.map(|id| id.parse().unwrap());
        CallbackId::of(&tenant.parse().unwrap(), &Callback { url: url.to_owned(), secret })
    };
    let of = id("acme", URL, None);
    assert_eq!(of.as_str(), "cb_b48b3dc9fe40bad5ba29799960dfdcbf");
    assert_eq!(id("acme", URL, Some("billing")).as_str(), "cb_53a2c6ef5b18b75334a835f400702214");
    let others =
        [id("beta", URL, None), id("acme", "https://hooks.example.com/", None), id("acme", URL, Some("default"))];
    let distinct: BTreeSet<_> = others.iter().chain([&of]).collect();
    assert_eq!(distinct.len(), 4);
    let target = Target::callback(&tenant(), &callback(None));
    assert_eq!(
        DeliveryId::of(&tenant(), EVENT.parse().unwrap(), &target, None).as_str(),
        "dlv_05e89302fd8cac642bc164d96745bc53"
    );
    assert_eq!((target.endpoint(), target.is_callback()), (None, true));
    assert!(!format!("{:?}", created(First::Claimed).entries).contains("s3cret"));
    for text in ["", "cb_", "cb_B48b3dc9fe40bad5ba29799960dfdcbf", "b48b3dc9fe40bad5ba29799960dfdcbf", "cb_0"] {
        assert!(serde_json::from_value::<CallbackId>(json!(text)).is_err(), "{text:?}");
    }
}

fn schedule() -> Schedule {
    Schedule { jitter: 0.0, ..Schedule::documented() }
}

fn created(first: First) -> Change<Delivery> {
    let new = New {
        tenant: tenant(),
        event_id: EVENT.parse().unwrap(),
        event: "request.created".to_owned(),
        source: Source { kind: "request".to_owned(), id: "r-1".to_owned(), version: 1, entry: 0 },
        target: Target::callback(&tenant(), &callback(Some("billing"))),
        url: Some(URL.to_owned()),
        run: None,
    };
    Delivery::create(new, first, &schedule(), at(NOW))
}

fn report(delivery: &Delivery) -> Report {
    let State::Claimed { attempt, at, .. } = delivery.state else { panic!("{:?}", delivery.state) };
    Report {
        earlier: delivery.earlier,
        attempt,
        claimed_at: at,
        status_code: Some(503),
        duration_ms: 17,
        error: Some("HTTP 503".to_owned()),
        excerpt: Some("later".to_owned()),
        url: None,
        timed_out: false,
    }
}

fn fail(delivery: &Delivery, report: &Report, now: Timestamp) -> Delivery {
    changed(delivery.failed(report, None, 0.0, &schedule(), now)).record
}

fn last(delivery: &Delivery) -> (Option<u16>, Option<&str>, bool) {
    let last = delivery.last.as_ref().unwrap();
    assert_eq!(last.at, at(NOW));
    (last.status_code, last.error.as_deref(), last.timed_out)
}

#[test]
fn of_a_callback_is_remembered_what_became_of_the_latest_attempt() {
    let claimed = created(First::Claimed).record;
    assert_eq!(claimed.last, None);
    let own = report(&claimed);
    for (report, expected) in [
        (own.clone(), (Some(503), Some("HTTP 503: later"), false)),
        (Report { excerpt: None, ..own.clone() }, (Some(503), Some("HTTP 503"), false)),
        (Report { error: None, excerpt: None, ..own.clone() }, (Some(503), Some("HTTP 503"), false)),
        (
            Report {
                status_code: None,
                error: Some("no answer".to_owned()),
                excerpt: None,
                timed_out: true,
                ..own.clone()
            },
            (None, Some("no answer"), true),
        ),
    ] {
        assert_eq!(last(&fail(&claimed, &report, at(NOW))), expected);
    }
    let long = Report { error: Some("ü".repeat(495)), ..own.clone() };
    let kept = fail(&claimed, &long, at(NOW)).last.unwrap().error.unwrap();
    assert_eq!((kept.chars().count(), kept.ends_with("ü: lat")), (500, true));
    let arrived = Report { status_code: Some(204), error: None, excerpt: None, ..own };
    let delivered = changed(claimed.succeeded(&arrived, at(NOW))).record;
    assert_eq!(last(&delivered), (Some(204), None, false));
}

#[test]
fn a_delivery_that_is_started_anew_forgets_why_it_failed_but_not_when() {
    let claimed = created(First::Claimed).record;
    let waiting = fail(&claimed, &Report { timed_out: true, ..report(&claimed) }, at(NOW));
    let anew = changed(waiting.retry(&operator(), &schedule(), at(NOW) + seconds(1)).unwrap()).record;
    assert_eq!(last(&anew), (None, None, true));
    assert_eq!((anew.attempts(), anew.attempts_of_round(), waiting.attempts_of_round()), (1, 0, 1));
}

#[test]
fn a_callback_that_is_started_anew_is_in_the_log_of_its_workflow_and_nothing_else_of_it_is() {
    let created = created(First::Claimed);
    let failed = fail(&created.record, &report(&created.record), at(NOW));
    let anew = changed(failed.retry(&operator(), &schedule(), at(NOW) + seconds(1)).unwrap());
    let entry = &anew.entries[0];
    assert_eq!(
        entry.data,
        json!({ "attempts": 1, "request_id": failed.request_id(), "resource_id": failed.id.uuid() })
    );
    let by = Some(operator().name().to_owned());
    assert_eq!(Delivery::logged(entry), Some(Logged { name: "delivery.retry".to_owned(), by }));
    assert!(created.entries.iter().all(|other| Delivery::logged(other).is_none()));
    // That of an endpoint has no request.
    let of_endpoint = Entry { data: json!({ "attempts": 1 }), ..entry.clone() };
    assert_eq!(Delivery::logged(&of_endpoint), None);
}

#[test]
fn a_first_attempt_is_one_that_no_other_went_before() {
    let (waiting, claimed) = (created(First::Waiting).record, created(First::Claimed).record);
    let failed = fail(&claimed, &report(&claimed), at(NOW));
    let anew = changed(failed.retry(&operator(), &schedule(), at(NOW)).unwrap()).record;
    let delivered = changed(claimed.succeeded(&report(&claimed), at(NOW))).record;
    for (delivery, is_first) in [(waiting, true), (claimed, true), (failed, false), (anew, false), (delivered, false)] {
        assert_eq!(delivery.is_at_first_attempt(), is_first, "{:?}", delivery.state);
    }
}

#[test]
fn deliveries_to_callbacks_are_listed_together_and_know_their_request() {
    let delivery = created(First::Waiting).record;
    let expected =
        Listing { state: Some("pending"), subject: Some(CALLBACKS.to_owned()), ..Listing::at(delivery.created_at) };
    assert_eq!(delivery.listing(), expected);
    assert_eq!(delivery.request_id(), Some("r-1"));
    let to_endpoint = Target::Endpoint { id: "ep_01KAHX8Z1QJ5V3WQ4T6Y8B2D0G".parse().unwrap() };
    assert_eq!(Delivery { target: to_endpoint, ..delivery }.request_id(), None);
}

#[test]
fn an_exhausted_callback_is_told_to_endpoints_without_its_url() {
    let mut delivery = created(First::Claimed).record;
    let exhausted = loop {
        let now = delivery.updated_at;
        let change = changed(delivery.failed(&report(&delivery), None, 0.0, &schedule(), now));
        match change.record.next_attempt_at() {
            Some(due) => delivery = changed(change.record.claim(&schedule(), due)).record,
            None => break change,
        }
    };
    let [_, told] = &exhausted.entries[..] else { panic!("{exhausted:?}") };
    assert_eq!((told.name.as_str(), &told.data["endpoint"]), ("delivery.exhausted", &Value::Null));
    assert_eq!((told.data["attempts"].as_u64(), exhausted.record.status()), (Some(6), "exhausted"));
    assert!(!told.data.to_string().contains("s3cret"));
}

#[test]
fn a_delivery_to_a_callback_is_stored_in_this_shape() {
    let claimed = created(First::Claimed).record;
    let delivered = changed(claimed.succeeded(&report(&claimed), at(NOW))).record;
    let stored = json!({
        "id": delivered.id,
        "event_id": EVENT,
        "event": "request.created",
        "source": { "kind": "request", "id": "r-1", "version": 1, "entry": 0 },
        "target": { "is": "callback", "id": "cb_53a2c6ef5b18b75334a835f400702214", "secret": "billing" },
        "url": URL,
        "run": null,
        "state": { "is": "delivered", "attempts": 1, "at": NOW },
        "earlier": 0,
        "last": { "at": NOW, "status_code": 503, "error": null, "timed_out": false },
        "created_at": NOW,
        "updated_at": NOW,
    });
    assert_eq!(serde_json::to_value(&delivered).unwrap(), stored);
    assert_eq!(serde_json::from_value::<Delivery>(stored).unwrap(), delivered);
    // What is not known of a callback is left out of its record, as it is of all others.
    assert_eq!(serde_json::to_value(&claimed).unwrap().get("last"), None);
    let body = serde_json::to_value(&claimed).unwrap();
    assert_eq!(Delivery::upgrade(1, body.clone()), Some(body));
}
