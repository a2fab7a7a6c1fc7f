//! The score of an action as tables: tiers, types, indicators and clamping, and a property over any table.

use countersign_domain::risk::{Assessment, Factor, MAX_SCORE, RiskLevel, RiskTable, UNKNOWN_TYPE_POINTS};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(fields) = value else { panic!("{value} is no object") };
    fields
}

fn points(lines: &[(&str, i64)]) -> BTreeMap<String, i64> {
    lines.iter().map(|(name, points)| ((*name).to_owned(), *points)).collect()
}

fn table(base: &[(&str, i64)], indicators: &[(&str, i64)]) -> RiskTable {
    RiskTable { base_points: points(base), indicator_points: points(indicators) }
}

fn factors(assessment: &Assessment) -> Vec<(&str, i64)> {
    assessment.factors.iter().map(|factor| (factor.factor.as_str(), factor.points)).collect()
}

#[test]
fn the_tiers_begin_and_end_where_documented() {
    for (score, tier, word, level) in [
        (i64::MIN, RiskLevel::Low, "low", 1),
        (-1, RiskLevel::Low, "low", 1),
        (0, RiskLevel::Low, "low", 1),
        (39, RiskLevel::Low, "low", 1),
        (40, RiskLevel::Medium, "medium", 2),
        (69, RiskLevel::Medium, "medium", 2),
        (70, RiskLevel::High, "high", 3),
        (84, RiskLevel::High, "high", 3),
        (85, RiskLevel::Critical, "critical", 4),
        (100, RiskLevel::Critical, "critical", 4),
        (i64::MAX, RiskLevel::Critical, "critical", 4),
    ] {
        let found = RiskLevel::of(score);
        assert_eq!((found, found.as_str(), found.approval_level()), (tier, word, level), "{score}");
    }
}

#[test]
fn every_tier_says_where_it_begins_the_lowest_first() {
    assert_eq!(RiskLevel::ALL.map(RiskLevel::least_score), [0, 40, 70, 85]);
    for tier in RiskLevel::ALL {
        assert_eq!(RiskLevel::of(tier.least_score()), tier);
    }
    for [tier, next] in [[0, 1], [1, 2], [2, 3]].map(|pair| pair.map(|n: usize| RiskLevel::ALL[n])) {
        assert_eq!(RiskLevel::of(next.least_score() - 1), tier);
    }
}

#[test]
fn the_table_of_an_organization_without_settings_is_this_one() {
    let default = json!({
        "base_points": {
            "query": 5,
            "recommendation": 5,
            "analysis": 10,
            "report_generation": 10,
            "data_access": 20,
            "communication": 30,
            "api_call": 35,
            "data_modification": 45,
            "transaction": 55,
            "system_operation": 60,
        },
        "indicator_points": {
            "amount_threshold": 10,
            "bulk_operation": 10,
            "destructive": 25,
            "external_transfer": 20,
            "financial_data": 15,
            "pii_involved": 15,
            "privileged": 15,
            "production": 15,
        },
    });
    assert_eq!(serde_json::to_value(RiskTable::default()).unwrap(), default);
    assert_eq!(serde_json::from_value::<RiskTable>(default).unwrap(), RiskTable::default());
}

#[test]
fn a_known_type_scores_its_points_and_an_unknown_one_the_middle() {
    let table = table(&[("query", 5), ("unknown", 7)], &[]);
    assert_eq!(UNKNOWN_TYPE_POINTS, 50);
    for (action_type, factor, score) in [
        ("query", "action_type: query", 5),
        ("unknown", "action_type: unknown", 7),
        ("Query", "action_type: unknown", 50),
        ("query ", "action_type: unknown", 50),
        ("quer", "action_type: unknown", 50),
        ("", "action_type: unknown", 50),
        ("pii_involved", "action_type: unknown", 50),
    ] {
        let found = table.assess(action_type, &Map::new());
        let expected = Assessment { score, factors: vec![Factor { factor: factor.to_owned(), points: score }] };
        assert_eq!(found, expected, "{action_type:?}");
    }
}

#[test]
fn an_organization_without_any_types_knows_none() {
    assert_eq!(table(&[], &[]).assess("query", &Map::new()).score, 50);
}

#[test]
fn an_indicator_scores_if_it_is_true_a_number_above_0_or_a_text() {
    let table = table(&[("query", 5)], &[("risky", 20)]);
    for (value, scores) in [
        (json!(true), true),
        (json!(false), false),
        (json!(1), true),
        (json!(u64::MAX), true),
        (json!(0.25), true),
        (json!(f64::MIN_POSITIVE), true),
        (json!(0), false),
        (json!(0.0), false),
        (json!(-0.0), false),
        (json!(-1), false),
        (json!(i64::MIN), false),
        (json!(-0.25), false),
        (json!("high"), true),
        (json!("false"), true),
        (json!("0"), true),
        (json!(" "), true),
        (json!(""), false),
        (json!(null), false),
        (json!([]), false),
        (json!([true]), false),
        (json!({}), false),
        (json!({ "risky": true }), false),
    ] {
        let found = table.assess("query", &object(json!({ "risky": value.clone() })));
        let mut expected = vec![("action_type: query", 5)];
        expected.extend(scores.then_some(("indicator: risky", 20)));
        assert_eq!(factors(&found), expected, "{value}");
        assert_eq!(found.score, if scores { 25 } else { 5 }, "{value}");
    }
}

#[test]
fn every_raised_indicator_of_the_table_counts_once_and_no_other() {
    let indicators = object(json!({
        "production": true,
        "pii_involved": "yes",
        "amount_threshold": 0,
        "Destructive": true,
        "data_modification": true,
        "risk_score": 1,
        "nested": { "destructive": true },
    }));
    let found = RiskTable::default().assess("data_modification", &indicators);
    let expected =
        [("action_type: data_modification", 45), ("indicator: pii_involved", 15), ("indicator: production", 15)];
    assert_eq!(factors(&found), expected);
    assert_eq!(found.score, 75);
}

#[test]
fn a_sum_beyond_0_or_100_is_clamped_and_its_factors_are_not() {
    assert_eq!(MAX_SCORE, 100);
    for (base, indicator, score) in [
        (0, 0, 0),
        (5, -5, 0),
        (5, -6, 0),
        (-100, -100, 0),
        (-1, 0, 0),
        (-50, 100, 50),
        (99, 1, 100),
        (100, 1, 100),
        (100, 100, 100),
        (99, 0, 99),
        (100, -1, 99),
        (1, 0, 1),
    ] {
        let found = table(&[("t", base)], &[("i", indicator)]).assess("t", &object(json!({ "i": true })));
        assert_eq!(factors(&found), [("action_type: t", base), ("indicator: i", indicator)]);
        assert_eq!(found.score, score, "{base} and {indicator}");
    }
}

#[test]
fn negative_points_lower_the_score_of_a_known_type_and_never_that_of_an_unknown_one() {
    let table = table(&[("known", 50)], &[("dry_run", -30), ("production", 15), ("reviewed", -100)]);
    let indicators = object(json!({ "dry_run": true, "production": true, "reviewed": true }));
    assert_eq!(table.assess("known", &object(json!({ "dry_run": true, "production": true }))).score, 35);
    assert_eq!(table.assess("known", &indicators).score, 0);
    let found = table.assess("unheard_of", &indicators);
    let expected = [
        ("action_type: unknown", 50),
        ("indicator: dry_run", 0),
        ("indicator: production", 15),
        ("indicator: reviewed", 0),
    ];
    assert_eq!(factors(&found), expected);
    assert_eq!(found.score, 65);
}

#[test]
fn the_largest_table_with_everything_raised_stays_within_the_scale() {
    let names: Vec<_> = (0..200).map(|n| format!("indicator {n}")).collect();
    let raised: Map<_, _> = names.iter().map(|name| (name.clone(), json!(true))).collect();
    for (points, known, unknown) in [(100, 100, 100), (-100, 0, 50), (0, 100, 50)] {
        let table = RiskTable {
            base_points: BTreeMap::from([("t".to_owned(), if points == 0 { 100 } else { points })]),
            indicator_points: names.iter().map(|name| (name.clone(), points)).collect(),
        };
        assert_eq!(table.assess("t", &raised).factors.len(), 201);
        assert_eq!((table.assess("t", &raised).score, table.assess("?", &raised).score), (known, unknown), "{points}");
    }
}

#[test]
fn an_assessment_is_stored_and_shown_as_documented() {
    let assessment = table(&[("t", 5)], &[("i", 10)]).assess("t", &object(json!({ "i": 1 })));
    let shown = json!({
        "score": 15,
        "factors": [{ "factor": "action_type: t", "points": 5 }, { "factor": "indicator: i", "points": 10 }],
    });
    assert_eq!(serde_json::to_value(&assessment).unwrap(), shown);
    assert_eq!(serde_json::from_value::<Assessment>(shown).unwrap(), assessment);
}

fn lines() -> impl Strategy<Value = BTreeMap<String, i64>> {
    proptest::collection::btree_map("[a-d]", -100..=100_i64, 0..4)
}

proptest! {
    #[test]
    fn the_factors_sum_up_to_the_score_and_more_raised_risks_never_lower_it(
        base_points in lines(),
        indicator_points in lines(),
        action_type in "[a-d]",
        raised in proptest::collection::btree_set("[a-d]", 0..4),
    ) {
        let table = RiskTable { base_points: base_points.clone(), indicator_points: indicator_points.clone() };
        let indicators = raised.iter().map(|name| (name.clone(), json!(true))).collect();
        let found = table.assess(&action_type, &indicators);
        let sum: i64 = found.factors.iter().map(|factor| factor.points).sum();
        prop_assert_eq!(found.score, sum.clamp(0, 100));

        let without = table.assess(&action_type, &Map::new()).score;
        let counted: Vec<i64> = raised.iter().filter_map(|name| indicator_points.get(name).copied()).collect();
        prop_assert_eq!(found.factors.len(), 1 + counted.len());
        match base_points.get(&action_type) {
            Some(base) => prop_assert_eq!(sum, base + counted.iter().sum::<i64>()),
            None => prop_assert!(found.score >= 50 && found.score >= without),
        }
        if counted.iter().all(|points| *points >= 0) {
            prop_assert!(found.score >= without);
        }
    }
}
