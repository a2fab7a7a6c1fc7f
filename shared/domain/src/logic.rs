//! JSONLogic: conditions over a request's data that a tenant writes; checked when written, bounded when evaluated.
//!
//! The operators are those of json-logic.com and `count`. Where its description leaves something open:
//!
//! - Truth: `false`, `null`, `0`, `""`, `[]` and `{}` are false, all else is true, `"0"` too.
//! - Numbers: integers and doubles are one type. Texts that spell a number and truth values (1 and 0) count as numbers
//!   in sums and comparisons; what is no number is an error. Integers are exact in 64 bits and go on as doubles;
//!   what no double can hold, and a division by zero, are errors. `%` has the sign of its first number.
//! - Texts: the text of a number or truth value is its JSON spelling (`1.0` is `1`), that of a list or object its
//!   compact JSON. `null` has none: it equals no text, and `cat` passes over it. `substr` counts Unicode scalar values,
//!   and takes a null start or length for one that is not given.
//! - `==` compares as texts if one side is a text, else as truth values if one side is one; `===`, and `in` for the
//!   elements of a list, never convert. Lists and objects are equal if all they hold is, without conversion.
//! - `<` and its kin: `null` on a side is false, two texts compare by their scalar values, all else as numbers.
//! - `var` finds keys of objects and indexes of lists; the empty path is all data. What is there and `null` is found.
//!   Within `map`, `filter`, `all`, `none` and `some` the data is the element, within `reduce` it is `current` and
//!   `accumulator`. What is no list counts as an empty one, and `all` of an empty list is false.
//! - `and` and `or` without arguments are false; `min` and `max` of nothing are `null`; `count` is how many of its
//!   arguments are true; `log` answers its argument and writes nothing.

mod budget;
mod evaluator;
mod number;
mod operator;

use evaluator::{Data, Evaluator};
use operator::Operator;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ops::RangeInclusive;

/// How many steps an evaluation may take: one for each expression evaluated, each element or name looked at, and each
/// KiB of text read.
pub const MAX_STEPS: usize = 10_000;

/// How much an evaluation may produce, in bytes: texts, and each value put into a list or copied, at 32 bytes and its text.
pub const MAX_OUTPUT: usize = 1 << 20;

/// How deep operators and lists may be nested in each other, in an expression and in what it makes.
pub const MAX_DEPTH: usize = 64;

/// An expression that can be evaluated: every operator is known and has as many arguments as it takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Logic(Expression);

/// Why a JSON value is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLogic {
    /// No operator has this name (at most its first 64 characters).
    #[error("there is no operator {0:?}")]
    UnknownOperator(String),
    /// An object is an operator with its arguments, hence has one key. Data cannot be written as an object.
    #[error("an operator object has exactly one key, not {0}")]
    SeveralKeys(usize),
    /// The operator does not take this many arguments.
    #[error("{operator:?} takes {}, not {given}", counted(takes))]
    WrongArguments {
        /// Its name.
        operator: &'static str,
        /// How many it takes.
        takes: RangeInclusive<usize>,
        /// How many there are.
        given: usize,
    },
    /// It is nested too deep.
    #[error("operators and lists can be nested {MAX_DEPTH} deep at most")]
    TooDeep,
}

/// Why an evaluation was given up. None of these repeats what the data holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// [`MAX_STEPS`] were not enough.
    #[error("the expression takes more than {MAX_STEPS} steps")]
    TooManySteps,
    /// [`MAX_OUTPUT`] was not enough.
    #[error("the expression produces more than {MAX_OUTPUT} bytes")]
    TooMuchOutput,
    /// A value is deeper than [`MAX_DEPTH`].
    #[error("the expression makes, copies or compares a value that is nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// A number is needed, and this is none.
    #[error("{0} is not a number")]
    NotANumber(&'static str),
    /// A division by zero, or its remainder.
    #[error("the expression divides by zero")]
    DivisionByZero,
    /// A result beyond what a double can hold.
    #[error("a number is too large")]
    NumberTooLarge,
}

/// What is evaluated, in its three forms.
#[derive(Clone, Debug, PartialEq)]
enum Expression {
    /// Stands for itself: a scalar, `{}`, or a list of such.
    Literal(Value),
    /// A list of which at least one element is to be evaluated.
    List(Vec<Self>),
    /// An operator and its arguments.
    Call { operator: Operator, arguments: Vec<Self>, bare: bool },
}

impl Logic {
    /// Checks an expression.
    ///
    /// # Errors
    /// What makes it one that cannot be evaluated, whatever the data.
    pub fn parse(json: Value) -> Result<Self, InvalidLogic> {
        Expression::parse(json, MAX_DEPTH).map(Self)
    }

    /// The value of the expression for the data in `context`.
    ///
    /// # Errors
    /// It has no value for this data, or costs too much.
    pub fn evaluate(&self, context: &Value) -> Result<Value, EvaluationError> {
        let mut evaluator = Evaluator::default();
        let value = evaluator.evaluate(&self.0, Data::Value(context))?;
        evaluator.own(value)
    }

    /// The texts that the expression names for the data in `context`: its value if that is one, those of the true elements
    /// if it is a list, otherwise none.
    ///
    /// # Errors
    /// As for [`Logic::evaluate`].
    pub fn texts(&self, context: &Value) -> Result<Vec<String>, EvaluationError> {
        let mut evaluator = Evaluator::default();
        let value = evaluator.evaluate(&self.0, Data::Value(context))?;
        evaluator.texts(&value)
    }

    /// Whether the value of the expression is true for the data in `context`.
    ///
    /// # Errors
    /// As for [`Logic::evaluate`]; the caller takes an error for the answer that permits less.
    pub fn matches(&self, context: &Value) -> Result<bool, EvaluationError> {
        Evaluator::default().test(&self.0, Data::Value(context))
    }
}

impl TryFrom<Value> for Logic {
    type Error = InvalidLogic;

    fn try_from(json: Value) -> Result<Self, InvalidLogic> {
        Self::parse(json)
    }
}

impl From<Logic> for Value {
    fn from(logic: Logic) -> Self {
        logic.0.into()
    }
}

impl Expression {
    fn parse(json: Value, room: usize) -> Result<Self, InvalidLogic> {
        match json {
            Value::Array(items) => Ok(Self::list(Self::parse_all(items, inside(room)?)?)),
            Value::Object(object) if !object.is_empty() => {
                let keys = object.len();
                let only = object.into_iter().next().filter(|_| keys == 1);
                let (name, arguments) = only.ok_or(InvalidLogic::SeveralKeys(keys))?;
                Self::call(&name, arguments, inside(room)?)
            }
            Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                Ok(Self::Literal(json))
            }
        }
    }

    fn parse_all(items: Vec<Value>, room: usize) -> Result<Vec<Self>, InvalidLogic> {
        items.into_iter().map(|item| Self::parse(item, room)).collect()
    }

    fn call(name: &str, json: Value, room: usize) -> Result<Self, InvalidLogic> {
        let operator =
            Operator::named(name).ok_or_else(|| InvalidLogic::UnknownOperator(name.chars().take(64).collect()))?;
        let (arguments, bare) = match json {
            Value::Array(arguments) => (Self::parse_all(arguments, room)?, false),
            Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                (vec![Self::parse(json, room)?], true)
            }
        };
        let (takes, given) = (operator.takes(), arguments.len());
        if takes.contains(&given) {
            Ok(Self::Call { operator, arguments, bare })
        } else {
            Err(InvalidLogic::WrongArguments { operator: operator.name(), takes, given })
        }
    }

    /// A list of literals is a literal, so that it is looked at where it stands and not made anew.
    fn list(items: Vec<Self>) -> Self {
        if items.iter().all(|item| matches!(item, Self::Literal(_))) {
            Self::Literal(items.into_iter().map(Value::from).collect())
        } else {
            Self::List(items)
        }
    }
}

impl From<Expression> for Value {
    fn from(expression: Expression) -> Self {
        match expression {
            Expression::Literal(value) => value,
            Expression::List(items) => items.into_iter().map(Self::from).collect(),
            Expression::Call { operator, arguments, bare } => {
                let mut arguments = arguments.into_iter().map(Self::from);
                let given = if bare { arguments.next().unwrap_or_default() } else { arguments.collect() };
                Self::from_iter([(operator.name(), given)])
            }
        }
    }
}

fn inside(room: usize) -> Result<usize, InvalidLogic> {
    room.checked_sub(1).ok_or(InvalidLogic::TooDeep)
}

fn counted(takes: &RangeInclusive<usize>) -> String {
    match (*takes.start(), *takes.end()) {
        (1, 1) => "one argument".to_owned(),
        (least, most) if least == most => format!("{least} arguments"),
        (least, most) => format!("{least} to {most} arguments"),
    }
}
