//! The settings of an organization as tables: what its rules and the score make of a submission, and how settings are
//! kept.

use crate::{at, changed, microseconds, operator};
use countersign_domain::actions_policy::{
    ActionsPolicy, FURTHEST_POINTS, KeptPolicy, MAX_POINTS, MAX_RULES, MAX_TTL_MINUTES, Rule, Ruling, Verdict,
};
use countersign_domain::logic::Logic;
use countersign_domain::risk::{Assessment, Factor, RiskTable};
use countersign_domain::{EntryClass, Listing, Outcome, Record, Tenant, Timestamp, With, seconds};
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: &str = "2026-11-21T03:38:50.123456Z";

const DENY: Verdict = Verdict::Deny;
const HUMAN: Verdict = Verdict::RequireApproval;
const ALLOW: Verdict = Verdict::Allow;

fn logic(json: Value) -> Logic {
    Logic::parse(json).unwrap()
}

pub(crate) fn rule(name: &str, when: Value, then: Verdict, level: Option<u8>) -> Rule {
    Rule { name: name.to_owned(), when: logic(when), then, level }
}

/// A rule that matches everything.
fn always(name: &str, then: Verdict, level: Option<u8>) -> Rule {
    rule(name, json!(true), then, level)
}

/// A rule that cannot be evaluated.
fn broken(name: &str, then: Verdict, level: Option<u8>) -> Rule {
    rule(name, json!({ "/": [1, 0] }), then, level)
}

/// How a broken rule is seen.
fn failure(name: &str) -> Factor {
    Factor { factor: format!("rule {name} failed: the expression divides by zero"), points: 0 }
}

fn settings(rules: Vec<Rule>) -> ActionsPolicy {
    ActionsPolicy { rules, ..ActionsPolicy::default() }
}

fn scored(score: i64) -> Assessment {
    Assessment { score, factors: vec![] }
}

fn ruled(rules: Vec<Rule>, score: i64) -> Ruling {
    settings(rules).rule(&json!({}), &scored(score))
}

fn ruling(verdict: Verdict, required_level: u8, reason: &str) -> Ruling {
    Ruling { verdict, required_level, reason: reason.to_owned(), failed: vec![] }
}

#[test]
fn an_organization_without_settings_has_the_documented_ones() {
    let expected = ActionsPolicy {
        auto_approve_below: 30,
        approval_ttl_minutes: 1440,
        forbid_self_approval: true,
        risk: RiskTable::default(),
        rules: vec![],
    };
    assert_eq!(ActionsPolicy::default(), expected);
}

#[test]
fn the_limits_of_settings_are_the_documented_ones() {
    assert_eq!((MAX_RULES, FURTHEST_POINTS), (100, 100));
    // Ours; the documentation names none.
    assert_eq!((MAX_POINTS, MAX_TTL_MINUTES), (200, 365 * 24 * 60));
}

#[test]
fn without_a_matching_rule_the_score_decides() {
    for (below, score, expected) in [
        (30, 0, ruling(ALLOW, 1, "Risk score 0 is below 30: approved automatically")),
        (30, 29, ruling(ALLOW, 1, "Risk score 29 is below 30: approved automatically")),
        (30, 30, ruling(HUMAN, 1, "Risk score 30 is low: approval of level 1 is required")),
        (30, 39, ruling(HUMAN, 1, "Risk score 39 is low: approval of level 1 is required")),
        (30, 40, ruling(HUMAN, 2, "Risk score 40 is medium: approval of level 2 is required")),
        (30, 69, ruling(HUMAN, 2, "Risk score 69 is medium: approval of level 2 is required")),
        (30, 70, ruling(HUMAN, 3, "Risk score 70 is high: approval of level 3 is required")),
        (30, 84, ruling(HUMAN, 3, "Risk score 84 is high: approval of level 3 is required")),
        (30, 85, ruling(HUMAN, 4, "Risk score 85 is critical: approval of level 4 is required")),
        (30, 100, ruling(HUMAN, 4, "Risk score 100 is critical: approval of level 4 is required")),
        (0, 0, ruling(HUMAN, 1, "Risk score 0 is low: approval of level 1 is required")),
        (1, 0, ruling(ALLOW, 1, "Risk score 0 is below 1: approved automatically")),
        (100, 100, ruling(HUMAN, 4, "Risk score 100 is critical: approval of level 4 is required")),
        (101, 100, ruling(ALLOW, 4, "Risk score 100 is below 101: approved automatically")),
    ] {
        for rules in [vec![], vec![rule("never", json!(false), DENY, None)]] {
            let policy = ActionsPolicy { auto_approve_below: below, ..settings(rules) };
            assert_eq!(policy.rule(&json!({}), &scored(score)), expected);
        }
    }
}

#[test]
fn a_matching_rule_comes_before_the_score() {
    for (then, score, expected) in [
        (ALLOW, 100, ruling(ALLOW, 4, "Rule x: approved automatically")),
        (ALLOW, 0, ruling(ALLOW, 1, "Rule x: approved automatically")),
        (HUMAN, 0, ruling(HUMAN, 1, "Rule x: approval of level 1 is required")),
        (HUMAN, 100, ruling(HUMAN, 4, "Rule x: approval of level 4 is required")),
        (DENY, 0, ruling(DENY, 1, "Rule x: denied")),
        (DENY, 100, ruling(DENY, 4, "Rule x: denied")),
    ] {
        assert_eq!(ruled(vec![always("x", then, None)], score), expected);
    }
}

#[test]
fn a_rules_level_raises_what_the_score_requires_and_never_lowers_it() {
    for (score, of_tier) in [(0, 1), (39, 1), (40, 2), (70, 3), (85, 4), (100, 4)] {
        for level in 1..=5 {
            let needed = of_tier.max(level);
            let reason = format!("Rule x: approval of level {needed} is required");
            let found = ruled(vec![always("x", HUMAN, Some(level))], score);
            assert_eq!(found, ruling(HUMAN, needed, &reason), "{score} {level}");
        }
    }
}

/// All orders of some rules.
fn orders(rules: &[Rule]) -> Vec<Vec<Rule>> {
    let [] = rules else {
        let each = (0..rules.len()).flat_map(|first| {
            let mut others = rules.to_vec();
            let first = others.remove(first);
            orders(&others).into_iter().map(move |order| [vec![first.clone()], order].concat())
        });
        return each.collect();
    };
    vec![vec![]]
}

#[test]
fn the_strictest_of_the_matching_rules_wins_in_every_order() {
    let (allow, human, deny) = (always("a", ALLOW, None), always("h", HUMAN, None), always("d", DENY, None));
    let (second, fifth) = (always("h2", HUMAN, Some(2)), always("h5", HUMAN, Some(5)));
    let never = rule("n", json!(false), DENY, None);
    for (rules, expected) in [
        (vec![&allow, &human], ruling(HUMAN, 1, "Rule h: approval of level 1 is required")),
        (vec![&allow, &deny], ruling(DENY, 1, "Rule d: denied")),
        (vec![&human, &deny], ruling(DENY, 1, "Rule d: denied")),
        (vec![&fifth, &deny, &allow], ruling(DENY, 1, "Rule d: denied")),
        (vec![&human, &second], ruling(HUMAN, 2, "Rule h2: approval of level 2 is required")),
        (vec![&allow, &human, &second, &fifth], ruling(HUMAN, 5, "Rule h5: approval of level 5 is required")),
        (vec![&allow, &human, &second, &fifth, &deny], ruling(DENY, 1, "Rule d: denied")),
        (vec![&allow, &never], ruling(ALLOW, 1, "Rule a: approved automatically")),
    ] {
        for order in orders(&rules.into_iter().cloned().collect::<Vec<_>>()) {
            assert_eq!(ruled(order.clone(), 10), expected, "{order:?}");
        }
    }
}

#[test]
fn of_equally_strict_rules_the_first_is_named() {
    for (then, level) in [(ALLOW, None), (HUMAN, None), (HUMAN, Some(3)), (DENY, None)] {
        let found = ruled(["first", "second", "third"].map(|name| always(name, then, level)).to_vec(), 10);
        assert!(found.reason.starts_with("Rule first: "), "{}", found.reason);
    }
}

#[test]
fn a_rule_that_cannot_be_evaluated_neither_allows_nor_denies_and_is_seen() {
    for (rules, score, expected) in [
        // To allow it would have to match.
        (vec![broken("b", ALLOW, None)], 10, ruling(ALLOW, 1, "Risk score 10 is below 30: approved automatically")),
        (
            vec![broken("b", ALLOW, None)],
            50,
            ruling(HUMAN, 2, "Risk score 50 is medium: approval of level 2 is required"),
        ),
        (
            vec![broken("b", DENY, None)],
            10,
            ruling(HUMAN, 1, "Rule b could not be evaluated: approval of level 1 is required"),
        ),
        (
            vec![broken("b", DENY, None)],
            90,
            ruling(HUMAN, 4, "Rule b could not be evaluated: approval of level 4 is required"),
        ),
        (
            vec![broken("b", HUMAN, None)],
            10,
            ruling(HUMAN, 1, "Rule b could not be evaluated: approval of level 1 is required"),
        ),
        (
            vec![broken("b", HUMAN, Some(5))],
            10,
            ruling(HUMAN, 5, "Rule b could not be evaluated: approval of level 5 is required"),
        ),
        (
            vec![broken("b", HUMAN, Some(1))],
            90,
            ruling(HUMAN, 4, "Rule b could not be evaluated: approval of level 4 is required"),
        ),
        (
            vec![broken("b", DENY, None), always("a", ALLOW, None)],
            10,
            ruling(HUMAN, 1, "Rule b could not be evaluated: approval of level 1 is required"),
        ),
        (vec![broken("b", DENY, None), always("d", DENY, None)], 10, ruling(DENY, 1, "Rule d: denied")),
        (
            vec![broken("b", DENY, None), always("h", HUMAN, Some(3))],
            10,
            ruling(HUMAN, 3, "Rule h: approval of level 3 is required"),
        ),
        (
            vec![broken("b", ALLOW, None), always("a", ALLOW, None)],
            90,
            ruling(ALLOW, 4, "Rule a: approved automatically"),
        ),
    ] {
        for order in orders(&rules) {
            let expected = Ruling { failed: vec![failure("b")], ..expected.clone() };
            assert_eq!(ruled(order.clone(), score), expected, "{order:?}");
        }
    }
}

#[test]
fn every_rule_that_cannot_be_evaluated_is_named_in_the_order_of_the_settings() {
    let rules = vec![broken("z", DENY, None), always("m", HUMAN, None), broken("a", ALLOW, None)];
    assert_eq!(ruled(rules, 10).failed, [failure("z"), failure("a")]);
}

#[test]
fn what_makes_a_rule_too_costly_does_not_get_past_it() {
    let forbidden = json!({ "in": ["drop", { "map": [{ "var": "context.words" }, { "var": "" }] }] });
    let policy = settings(vec![rule("no drops", forbidden, DENY, None)]);
    for (words, verdict) in [
        (vec!["select"], ALLOW),
        (vec!["select", "drop"], DENY),
        ([vec!["select"; 20_000], vec!["drop"]].concat(), HUMAN),
    ] {
        let found = policy.rule(&json!({ "context": { "words": words } }), &scored(0));
        assert_eq!(found.verdict, verdict);
        assert_eq!(found.failed.len(), usize::from(verdict == HUMAN));
    }
}

/// What matters of a rule about one submission.
#[derive(Clone, Copy, Debug)]
struct Said {
    matches: Option<bool>,
    then: Verdict,
    level: Option<u8>,
}

fn said() -> impl Strategy<Value = Said> {
    let matches = prop_oneof![3 => Just(Some(true)), 2 => Just(Some(false)), 1 => Just(None)];
    let then = prop_oneof![
        2 => Just((ALLOW, None)),
        2 => proptest::option::of(1..=5_u8).prop_map(|level| (HUMAN, level)),
        1 => Just((DENY, None)),
    ];
    (matches, then).prop_map(|(matches, (then, level))| Said { matches, then, level })
}

proptest! {
    #[test]
    fn any_rules_and_any_score_make_what_the_documentation_says(
        rules in proptest::collection::vec(said(), 0..6),
        score in 0..=100_i64,
        below in 0..=101_i64,
    ) {
        let when = |matches: Option<bool>| matches.map_or_else(|| json!({ "+": [[]] }), Value::from);
        let written = rules.iter().map(|said| rule("r", when(said.matches), said.then, said.level)).collect();
        let policy = ActionsPolicy { auto_approve_below: below, ..settings(written) };
        let found = policy.rule(&json!({}), &scored(score));

        let matching = |then| rules.iter().any(|said| said.matches == Some(true) && said.then == then);
        let unsure = rules.iter().any(|said| said.matches.is_none() && said.then != ALLOW);
        let expected = if matching(DENY) {
            DENY
        } else if matching(HUMAN) || unsure {
            HUMAN
        } else if matching(ALLOW) || score < below {
            ALLOW
        } else {
            HUMAN
        };
        prop_assert_eq!(found.verdict, expected);
        prop_assert_eq!(found.failed.len(), rules.iter().filter(|said| said.matches.is_none()).count());

        let tier = match score { 0..=39 => 1, 40..=69 => 2, 70..=84 => 3, _ => 4 };
        if expected == HUMAN {
            let asked = rules.iter().filter(|said| said.matches != Some(false)).filter_map(|said| said.level);
            prop_assert_eq!(found.required_level, asked.max().unwrap_or(0).max(tier));
        } else {
            prop_assert_eq!(found.required_level, tier);
        }
    }
}

#[test]
fn an_action_waits_as_many_minutes_as_the_settings_say() {
    for (approval_ttl_minutes, expires_at) in
        [(1, "2026-11-21T03:39:50Z"), (1440, "2026-11-22T03:38:50Z"), (MAX_TTL_MINUTES, "2027-11-21T03:38:50Z")]
    {
        let policy = ActionsPolicy { approval_ttl_minutes, ..ActionsPolicy::default() };
        assert_eq!(policy.expires_at(at("2026-11-21T03:38:50Z")), at(expires_at));
        assert_eq!(policy.expires_at(Timestamp::MAX), Timestamp::MAX);
    }
}

fn acme() -> Tenant {
    "42".parse().unwrap()
}

fn own_settings() -> ActionsPolicy {
    ActionsPolicy {
        auto_approve_below: 20,
        approval_ttl_minutes: 60,
        forbid_self_approval: false,
        risk: serde_json::from_value(json!({
            "base_points": { "query": 1, "wire": -100 },
            "indicator_points": { "big": 100 },
        }))
        .unwrap(),
        rules: vec![
            rule("no wires", json!({ "==": [{ "var": "action_type" }, "wire"] }), DENY, None),
            rule("big", json!({ ">": [{ "var": ["risk_indicators.big", 0] }, 1.5] }), HUMAN, Some(5)),
            rule("mine", json!({ "in": [{ "var": "agent_id" }, ["a", "b"]] }), ALLOW, None),
        ],
    }
}

fn own_settings_as_json() -> Value {
    json!({
        "auto_approve_below": 20,
        "approval_ttl_minutes": 60,
        "forbid_self_approval": false,
        "base_points": { "query": 1, "wire": -100 },
        "indicator_points": { "big": 100 },
        "rules": [
            { "name": "no wires", "when": { "==": [{ "var": "action_type" }, "wire"] }, "then": "deny" },
            {
                "name": "big", "when": { ">": [{ "var": ["risk_indicators.big", 0] }, 1.5] },
                "then": "require_approval", "level": 5,
            },
            { "name": "mine", "when": { "in": [{ "var": "agent_id" }, ["a", "b"]] }, "then": "allow" },
        ],
    })
}

#[test]
fn settings_are_stored_and_shown_as_documented() {
    assert_eq!(serde_json::to_value(own_settings()).unwrap(), own_settings_as_json());
    let text = serde_json::to_string(&own_settings()).unwrap();
    assert_eq!(serde_json::from_str::<ActionsPolicy>(&text).unwrap(), own_settings());
}

#[test]
fn stored_settings_with_an_unknown_operator_or_verdict_are_not_read() {
    for (pointer, wrong) in [
        ("/rules/0/when", json!({ "exec": ["rm"] })),
        ("/rules/0/then", json!("permit")),
        ("/rules/1/level", json!(256)),
        ("/base_points/query", json!("1")),
    ] {
        let mut stored = own_settings_as_json();
        *stored.pointer_mut(pointer).unwrap() = wrong;
        assert!(serde_json::from_value::<ActionsPolicy>(stored).is_err(), "{pointer}");
    }
}

fn set(before: Option<&KeptPolicy>, policy: ActionsPolicy, text: &str, now: Timestamp) -> Outcome<KeptPolicy> {
    KeptPolicy::set(before, &acme(), (policy, text.to_owned()), &operator(), now)
}

#[test]
fn settings_are_kept_with_their_revision_and_the_text_that_was_sent() {
    let first = changed(set(None, own_settings(), "sent first", at(NOW)));
    let later = at(NOW) + seconds(60);
    let second = changed(set(Some(&first.record), ActionsPolicy::default(), "sent second", later));
    // What was set before can be set again.
    let third = changed(set(Some(&second.record), own_settings(), "sent third", later + microseconds(1)));
    for (change, now, revision, policy, item, text) in [
        (first, at(NOW), 1, own_settings(), "policy#0000000001", "sent first"),
        (second, later, 2, ActionsPolicy::default(), "policy#0000000002", "sent second"),
        (third, later + microseconds(1), 3, own_settings(), "policy#0000000003", "sent third"),
    ] {
        let kept = KeptPolicy { organization: acme(), created_at: at(NOW), revision, policy };
        assert_eq!(change.record, kept);
        let [entry] = &change.entries[..] else { panic!("{:?}", change.entries) };
        assert_eq!((entry.name.as_str(), entry.class), ("actions_policy.set", EntryClass::Audit));
        assert_eq!((&entry.actor, entry.at), (&operator(), now));
        assert_eq!((entry.subject.kind.as_str(), entry.subject.id.as_str()), ("actions_policy", "42"));
        assert_eq!((&entry.data, &entry.state), (&json!({ "revision": revision }), &None));
        assert_eq!(change.with, [With::Item { name: item.to_owned(), body: text.to_owned() }]);
    }
}

#[test]
fn setting_the_settings_as_they_are_changes_nothing() {
    let first = changed(set(None, own_settings(), "{}", at(NOW))).record;
    assert_eq!(set(Some(&first), own_settings(), "{ }", at(NOW) + seconds(1)), Outcome::Keep);
    // Not even the default ones are kept before they are set.
    assert_ne!(set(None, ActionsPolicy::default(), "{}", at(NOW)), Outcome::Keep);
}

#[test]
fn any_difference_in_settings_makes_a_revision() {
    let first = changed(set(None, own_settings(), "{}", at(NOW))).record;
    let mut reordered = own_settings();
    reordered.rules.reverse();
    let mut renamed = own_settings();
    renamed.rules[0].name.push('!');
    for policy in [
        ActionsPolicy { auto_approve_below: 21, ..own_settings() },
        ActionsPolicy { approval_ttl_minutes: 61, ..own_settings() },
        ActionsPolicy { forbid_self_approval: true, ..own_settings() },
        ActionsPolicy { risk: RiskTable::default(), ..own_settings() },
        reordered,
        renamed,
    ] {
        assert_eq!(changed(set(Some(&first), policy.clone(), "{}", at(NOW))).record.policy, policy);
    }
}

#[test]
fn kept_settings_are_a_record_that_the_clock_leaves_alone() {
    assert_eq!((KeptPolicy::KIND, KeptPolicy::SCHEMA), ("actionspolicy", 1));
    for schema in [0, 1, 2] {
        assert_eq!(KeptPolicy::upgrade(schema, json!({})), None);
    }
    let change = changed(set(None, own_settings(), "{}", at(NOW)));
    assert_eq!(change.record.listing(), Listing::at(at(NOW)));
    assert_eq!(change.record.due(), None);
    assert_eq!(change.record.tick(Timestamp::MAX), Outcome::Keep);
    assert_eq!(KeptPolicy::logged(&change.entries[0]), None);
    let stored = serde_json::to_string(&change.record).unwrap();
    assert_eq!(serde_json::from_str::<KeptPolicy>(&stored).unwrap(), change.record);
}
