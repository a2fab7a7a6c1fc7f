//! How risky an agent's action is: a transparent sum of points, never what the agent says of itself.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Points of an action type that the table does not know: the middle, never low.
pub const UNKNOWN_TYPE_POINTS: i64 = 50;
/// The highest score; the lowest is 0.
pub const MAX_SCORE: i64 = 100;

/// What the types of action score of themselves, unless an organization says otherwise.
const BASE_POINTS: [(&str, i64); 10] = [
    ("query", 5),
    ("recommendation", 5),
    ("analysis", 10),
    ("report_generation", 10),
    ("data_access", 20),
    ("communication", 30),
    ("api_call", 35),
    ("data_modification", 45),
    ("transaction", 55),
    ("system_operation", 60),
];

/// What indicators add, unless an organization says otherwise.
const INDICATOR_POINTS: [(&str, i64); 8] = [
    ("amount_threshold", 10),
    ("bulk_operation", 10),
    ("destructive", 25),
    ("external_transfer", 20),
    ("financial_data", 15),
    ("pii_involved", 15),
    ("privileged", 15),
    ("production", 15),
];

/// Points by action type and by indicator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RiskTable {
    /// By action type.
    pub base_points: BTreeMap<String, i64>,
    /// By indicator.
    pub indicator_points: BTreeMap<String, i64>,
}

impl Default for RiskTable {
    fn default() -> Self {
        let table =
            |points: &[(&str, i64)]| points.iter().map(|(name, points)| ((*name).to_owned(), *points)).collect();
        Self { base_points: table(&BASE_POINTS), indicator_points: table(&INDICATOR_POINTS) }
    }
}

/// One reason for a score.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Factor {
    /// What it is, e.g. `action_type: query` or `indicator: pii_involved`.
    pub factor: String,
    /// What it adds to the score, or takes from it.
    pub points: i64,
}

/// A score with the reasons for it, whose points sum up to it before it is clamped to 0 to [`MAX_SCORE`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assessment {
    /// 0 to [`MAX_SCORE`].
    pub score: i64,
    /// Why.
    pub factors: Vec<Factor>,
}

/// How a score is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RiskLevel {
    /// 0 to 39.
    Low,
    /// 40 to 69.
    Medium,
    /// 70 to 84.
    High,
    /// 85 to 100.
    Critical,
}

impl RiskLevel {
    /// Every level, the lowest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The level of a score.
    #[must_use]
    pub fn of(score: i64) -> Self {
        match score {
            ..40 => Self::Low,
            40..70 => Self::Medium,
            70..85 => Self::High,
            85.. => Self::Critical,
        }
    }

    /// The documented word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The lowest score of this level.
    #[must_use]
    pub fn least_score(self) -> i64 {
        match self {
            Self::Low => 0,
            Self::Medium => 40,
            Self::High => 70,
            Self::Critical => 85,
        }
    }

    /// The approval level that an action of this risk needs, 1 to 4.
    #[must_use]
    pub fn approval_level(self) -> u8 {
        match self {
            Self::Low => 1,
            Self::Medium => 2,
            Self::High => 3,
            Self::Critical => 4,
        }
    }
}

impl RiskTable {
    /// Scores an action by its type and its indicators. What is unknown never scores low: no indicator takes anything
    /// from an unknown type's points.
    #[must_use]
    pub fn assess(&self, action_type: &str, indicators: &Map<String, Value>) -> Assessment {
        let (base, least) = match self.base_points.get(action_type) {
            Some(points) => (Factor { factor: format!("action_type: {action_type}"), points: *points }, i64::MIN),
            None => (Factor { factor: "action_type: unknown".to_owned(), points: UNKNOWN_TYPE_POINTS }, 0),
        };
        let raised = self.indicator_points.iter().filter(|(name, _)| indicators.get(*name).is_some_and(is_raised));
        let raised =
            raised.map(|(name, points)| Factor { factor: format!("indicator: {name}"), points: *points.max(&least) });
        let factors: Vec<_> = std::iter::once(base).chain(raised).collect();
        let sum: i64 = factors.iter().map(|factor| factor.points).sum();
        Assessment { score: sum.clamp(0, MAX_SCORE), factors }
    }
}

/// Whether an indicator scores: true, a number above 0, or a text that is not empty.
fn is_raised(value: &Value) -> bool {
    match value {
        Value::Bool(raised) => *raised,
        Value::Number(number) => number.as_f64().is_some_and(|number| number > 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}
