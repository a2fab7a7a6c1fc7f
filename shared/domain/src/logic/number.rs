//! Numbers in expressions: JSON's integers and doubles as one type, exact for as long as it can be.

use super::EvaluationError;
use serde_json::Value;
use std::cmp::Ordering;

/// A double never holds what an integer can hold as well: there is one form for each number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Integer(i128),
    Double(f64),
}

use Number::{Double, Integer};

/// 2^127: integral doubles below it are integers.
const INTEGERS_END: f64 = -(i128::MIN as f64);

impl Number {
    pub(super) const ZERO: Self = Integer(0);
    pub(super) const ONE: Self = Integer(1);

    /// The number that a JSON number is.
    pub(super) fn of(json: &serde_json::Number) -> Result<Self, EvaluationError> {
        match json.as_i128() {
            Some(integer) => Ok(Integer(integer)),
            None => Self::double(json.as_f64().unwrap_or(f64::NAN)),
        }
    }

    /// The number that a text spells, blanks around it allowed.
    pub(super) fn spelled(text: &str) -> Option<Self> {
        let text = text.trim();
        text.parse().map(Integer).ok().or_else(|| Self::double(text.parse().ok()?).ok())
    }

    fn double(double: f64) -> Result<Self, EvaluationError> {
        if !double.is_finite() {
            Err(EvaluationError::NumberTooLarge)
        } else if double.fract() == 0.0 && double.abs() < INTEGERS_END {
            Ok(Integer(double as i128))
        } else {
            Ok(Double(double))
        }
    }

    pub(super) fn plus(self, other: Self) -> Result<Self, EvaluationError> {
        self.with(other, i128::checked_add, |a, b| a + b)
    }

    pub(super) fn minus(self, other: Self) -> Result<Self, EvaluationError> {
        self.with(other, i128::checked_sub, |a, b| a - b)
    }

    pub(super) fn times(self, other: Self) -> Result<Self, EvaluationError> {
        self.with(other, i128::checked_mul, |a, b| a * b)
    }

    pub(super) fn over(self, other: Self) -> Result<Self, EvaluationError> {
        let exact = |a: i128, b: i128| if a.checked_rem(b) == Some(0) { a.checked_div(b) } else { None };
        self.with(other.divisor()?, exact, |a, b| a / b)
    }

    pub(super) fn remainder(self, other: Self) -> Result<Self, EvaluationError> {
        self.with(other.divisor()?, i128::checked_rem, |a, b| a % b)
    }

    pub(super) fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Integer(a), Integer(b)) => a.cmp(&b),
            (Integer(_) | Double(_), Integer(_) | Double(_)) => self.to_double().total_cmp(&other.to_double()),
        }
    }

    /// The integer towards zero.
    pub(super) fn truncated(self) -> i128 {
        match self {
            Integer(integer) => integer,
            Double(double) => double as i128,
        }
    }

    fn with(
        self,
        other: Self,
        exact: impl Fn(i128, i128) -> Option<i128>,
        nearest: impl Fn(f64, f64) -> f64,
    ) -> Result<Self, EvaluationError> {
        let integer = match (self, other) {
            (Integer(a), Integer(b)) => exact(a, b),
            (Integer(_) | Double(_), Integer(_) | Double(_)) => None,
        };
        integer.map(Integer).map_or_else(|| Self::double(nearest(self.to_double(), other.to_double())), Ok)
    }

    fn divisor(self) -> Result<Self, EvaluationError> {
        if self.order(Self::ZERO).is_eq() { Err(EvaluationError::DivisionByZero) } else { Ok(self) }
    }

    fn to_double(self) -> f64 {
        match self {
            Integer(integer) => integer as f64,
            Double(double) => double,
        }
    }
}

impl From<bool> for Number {
    fn from(truth: bool) -> Self {
        Integer(truth.into())
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        let integer = match number {
            Integer(integer) => serde_json::Number::from_i128(integer),
            Double(_) => None,
        };
        integer.map_or_else(|| Self::from(number.to_double()), Self::Number)
    }
}
