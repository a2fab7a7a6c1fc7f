//! Walks an expression over data, borrowing what it can, and gives up when the budget is used up.

use super::budget::{Budget, inside};
use super::{EvaluationError, Expression, MAX_DEPTH, number::Number, operator::Operator};
use serde_json::{Value, json};
use std::{array, borrow::Cow, cmp::Ordering, slice};

type Result<T> = std::result::Result<T, EvaluationError>;

/// What is not there.
static NULL: Value = Value::Null;
static ABSENT: Expression = Expression::Literal(Value::Null);

/// What `var` looks into.
#[derive(Clone, Copy)]
pub(super) enum Data<'v> {
    /// The context, or an element of a list.
    Value(&'v Value),
    /// A step of `reduce`, not made into an object unless an expression asks for all of it.
    Reduction { current: &'v Value, accumulator: &'v Value },
}

/// The arguments of an operator, with the data for them.
#[derive(Clone, Copy)]
struct Call<'v> {
    arguments: &'v [Expression],
    data: Data<'v>,
}

impl<'v> Call<'v> {
    /// An argument, null if it was not given.
    fn argument(self, index: usize) -> &'v Expression {
        self.arguments.get(index).unwrap_or(&ABSENT)
    }
}

/// One evaluation.
#[derive(Default)]
pub(super) struct Evaluator {
    budget: Budget,
}

impl Evaluator {
    /// Recursion is as deep as the expression, which was bounded when it was parsed.
    pub(super) fn evaluate<'v>(&mut self, expression: &'v Expression, data: Data<'v>) -> Result<Cow<'v, Value>> {
        self.budget.step()?;
        match expression {
            Expression::Literal(value) => Ok(Cow::Borrowed(value)),
            Expression::List(items) => {
                let mut list = vec![];
                for item in items {
                    let value = self.evaluate(item, data)?;
                    self.push(&mut list, value)?;
                }
                Ok(Cow::Owned(list.into()))
            }
            Expression::Call { operator, arguments, .. } => self.call(*operator, Call { arguments, data }),
        }
    }

    pub(super) fn test(&mut self, expression: &Expression, data: Data<'_>) -> Result<bool> {
        Ok(is_true(&*self.evaluate(expression, data)?))
    }

    /// The value, to be kept.
    pub(super) fn own(&mut self, value: Cow<'_, Value>) -> Result<Value> {
        if let Cow::Borrowed(value) = value {
            self.budget.copy(value)?;
        }
        Ok(value.into_owned())
    }

    fn call<'v>(&mut self, operator: Operator, call: Call<'v>) -> Result<Cow<'v, Value>> {
        let value: Value = match operator {
            Operator::Var => return self.var(call),
            Operator::If | Operator::Ternary => return self.choose(call),
            Operator::And => return self.decide(false, call),
            Operator::Or => return self.decide(true, call),
            Operator::Log => return self.evaluate(call.argument(0), call.data),
            Operator::Not => (!self.test(call.argument(0), call.data)?).into(),
            Operator::Truth => self.test(call.argument(0), call.data)?.into(),
            Operator::Equal => self.equal(call)?.into(),
            Operator::NotEqual => (!self.equal(call)?).into(),
            Operator::Same => self.identical(call)?.into(),
            Operator::NotSame => (!self.identical(call)?).into(),
            Operator::Less => self.ordered(Ordering::is_lt, call)?.into(),
            Operator::LessOrEqual => self.ordered(Ordering::is_le, call)?.into(),
            Operator::Greater => self.ordered(Ordering::is_gt, call)?.into(),
            Operator::GreaterOrEqual => self.ordered(Ordering::is_ge, call)?.into(),
            Operator::Add => self.fold(Number::ZERO, Number::plus, call)?.into(),
            Operator::Subtract if call.arguments.len() == 1 => self.fold(Number::ZERO, Number::minus, call)?.into(),
            Operator::Subtract => self.pair(Number::minus, call)?.into(),
            Operator::Multiply => self.fold(Number::ONE, Number::times, call)?.into(),
            Operator::Divide => self.pair(Number::over, call)?.into(),
            Operator::Remainder => self.pair(Number::remainder, call)?.into(),
            Operator::Minimum => self.extreme(Ordering::is_lt, call)?,
            Operator::Maximum => self.extreme(Ordering::is_gt, call)?,
            Operator::Concatenate => self.concatenate(call)?.into(),
            Operator::Substring => self.substring(call)?.into(),
            Operator::In => self.contains(call)?.into(),
            Operator::Missing => self.missing(call)?.into(),
            Operator::MissingSome => self.missing_some(call)?.into(),
            Operator::Merge => self.merge(call)?.into(),
            Operator::Count => self.count(call)?.into(),
            Operator::Map => self.map(call)?.into(),
            Operator::Filter => self.filter(call)?.into(),
            Operator::Reduce => self.reduce(call)?,
            Operator::All => self.all(call)?.into(),
            Operator::Some => self.some(call)?.into(),
            Operator::None => (!self.some(call)?).into(),
        };
        Ok(Cow::Owned(value))
    }

    /// The values of the first `N` arguments.
    fn first<'v, const N: usize>(&mut self, call: Call<'v>) -> Result<[Cow<'v, Value>; N]> {
        let mut values = array::from_fn(|_| Cow::Borrowed(&NULL));
        for (value, argument) in values.iter_mut().zip(call.arguments) {
            *value = self.evaluate(argument, call.data)?;
        }
        Ok(values)
    }

    fn values<'v>(&mut self, call: Call<'v>) -> Result<Vec<Cow<'v, Value>>> {
        call.arguments.iter().map(|argument| self.evaluate(argument, call.data)).collect()
    }
}

/// Deciding.
impl Evaluator {
    fn choose<'v>(&mut self, mut call: Call<'v>) -> Result<Cow<'v, Value>> {
        while let [condition, then, otherwise @ ..] = call.arguments {
            if self.test(condition, call.data)? {
                return self.evaluate(then, call.data);
            }
            call.arguments = otherwise;
        }
        self.evaluate(call.argument(0), call.data)
    }

    /// The first value whose truth is `truth`, or else the last one.
    fn decide<'v>(&mut self, truth: bool, call: Call<'v>) -> Result<Cow<'v, Value>> {
        let mut value = Cow::Owned(Value::Bool(false));
        for argument in call.arguments {
            value = self.evaluate(argument, call.data)?;
            if is_true(&value) == truth {
                break;
            }
        }
        Ok(value)
    }
}

/// Comparing.
impl Evaluator {
    fn equal(&mut self, call: Call<'_>) -> Result<bool> {
        let [a, b] = self.first(call)?;
        if a.is_string() || b.is_string() {
            Ok(self.text(&a)? == self.text(&b)?)
        } else if a.is_boolean() || b.is_boolean() {
            Ok(is_true(&a) == is_true(&b))
        } else {
            self.same(&a, &b, MAX_DEPTH)
        }
    }

    fn identical(&mut self, call: Call<'_>) -> Result<bool> {
        let [a, b] = self.first(call)?;
        self.same(&a, &b, MAX_DEPTH)
    }

    /// Equality without conversion.
    fn same(&mut self, a: &Value, b: &Value, room: usize) -> Result<bool> {
        self.budget.step()?;
        match (a, b) {
            (Value::Number(a), Value::Number(b)) => Ok(Number::of(a)?.order(Number::of(b)?).is_eq()),
            (Value::String(a), Value::String(b)) => Ok(self.budget.read(a)? == b),
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                let room = inside(room)?;
                all(a.iter().zip(b), |(a, b)| self.same(a, b, room))
            }
            (Value::Object(a), Value::Object(b)) if a.len() == b.len() => {
                let room = inside(room)?;
                all(a, |(key, a)| b.get(key).map_or(Ok(false), |b| self.same(a, b, room)))
            }
            // Null and truth values, or what differs in kind or length.
            _ => Ok(a == b),
        }
    }

    fn ordered(&mut self, holds: fn(Ordering) -> bool, call: Call<'_>) -> Result<bool> {
        let values = self.values(call)?;
        all(values.iter().zip(values.iter().skip(1)), |(a, b)| Ok(self.order(a, b)?.is_some_and(holds)))
    }

    fn order(&mut self, a: &Value, b: &Value) -> Result<Option<Ordering>> {
        match (a, b) {
            (Value::Null, _) | (_, Value::Null) => Ok(None),
            (Value::String(a), Value::String(b)) => Ok(Some(self.budget.read(a)?.cmp(b))),
            _ => Ok(Some(self.number(a)?.order(self.number(b)?))),
        }
    }
}

/// Calculating.
impl Evaluator {
    fn number(&mut self, value: &Value) -> Result<Number> {
        match value {
            Value::Number(number) => Number::of(number),
            Value::Bool(truth) => Ok(Number::from(*truth)),
            Value::String(text) => {
                Number::spelled(self.budget.read(text)?).ok_or(EvaluationError::NotANumber("a text"))
            }
            Value::Null => Err(EvaluationError::NotANumber("null")),
            Value::Array(_) => Err(EvaluationError::NotANumber("a list")),
            Value::Object(_) => Err(EvaluationError::NotANumber("an object")),
        }
    }

    fn numbers(&mut self, call: Call<'_>) -> Result<Vec<Number>> {
        let values = self.values(call)?;
        values.iter().map(|value| self.number(value)).collect()
    }

    fn fold(&mut self, start: Number, with: fn(Number, Number) -> Result<Number>, call: Call<'_>) -> Result<Number> {
        self.numbers(call)?.into_iter().try_fold(start, with)
    }

    fn pair(&mut self, with: fn(Number, Number) -> Result<Number>, call: Call<'_>) -> Result<Number> {
        let [a, b] = self.first(call)?;
        with(self.number(&a)?, self.number(&b)?)
    }

    fn extreme(&mut self, beats: fn(Ordering) -> bool, call: Call<'_>) -> Result<Value> {
        let numbers = self.numbers(call)?.into_iter();
        let best = numbers.reduce(|best, number| if beats(number.order(best)) { number } else { best });
        Ok(best.map_or(Value::Null, Value::from))
    }
}

/// Texts.
impl Evaluator {
    fn text<'v>(&mut self, value: &'v Value) -> Result<Option<Cow<'v, str>>> {
        let text = match value {
            Value::Null => return Ok(None),
            Value::String(text) => return Ok(Some(Cow::Borrowed(self.budget.read(text)?))),
            Value::Number(number) => Value::from(Number::of(number)?).to_string(),
            Value::Bool(truth) => truth.to_string(),
            Value::Array(_) | Value::Object(_) => {
                self.budget.copy(value)?;
                value.to_string()
            }
        };
        self.budget.produce(text.len())?;
        Ok(Some(Cow::Owned(text)))
    }

    /// A text as it is, and of a list the text of each true element.
    pub(super) fn texts(&mut self, value: &Value) -> Result<Vec<String>> {
        let texts = match value {
            Value::String(_) => slice::from_ref(value),
            Value::Array(items) => items,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => &[],
        };
        let mut found = Vec::new();
        for text in texts.iter().filter(|text| value.is_string() || is_true(text)) {
            self.budget.step()?;
            found.extend(self.text(text)?.map(Cow::into_owned));
        }
        Ok(found)
    }

    fn concatenate(&mut self, call: Call<'_>) -> Result<String> {
        let mut whole = String::new();
        for argument in call.arguments {
            let value = self.evaluate(argument, call.data)?;
            let text = self.text(&value)?.unwrap_or_default();
            self.budget.produce(text.len())?;
            whole.push_str(&text);
        }
        Ok(whole)
    }

    /// A negative start or length counts from the end.
    fn substring(&mut self, call: Call<'_>) -> Result<String> {
        let [value, start, length] = self.first(call)?;
        let text = self.text(&value)?.unwrap_or_default();
        let end = text.chars().count() as i128;
        let start = self.position(&start, 0)?;
        let from = if start < 0 { end.saturating_add(start).max(0) } else { start.min(end) };
        let length = self.position(&length, end)?;
        let to = if length < 0 { end } else { from }.saturating_add(length).clamp(from, end);
        let part: String = text.chars().skip(from as usize).take((to - from) as usize).collect();
        self.budget.produce(part.len())?;
        Ok(part)
    }

    fn position(&mut self, value: &Value, default: i128) -> Result<i128> {
        if value.is_null() { Ok(default) } else { Ok(self.number(value)?.truncated()) }
    }

    fn contains(&mut self, call: Call<'_>) -> Result<bool> {
        let [wanted, place] = self.first(call)?;
        match &*place {
            Value::String(text) => {
                let text = self.budget.read(text)?;
                Ok(self.text(&wanted)?.is_some_and(|wanted| text.contains(&*wanted)))
            }
            Value::Array(items) => any(items, |item| self.same(&wanted, item, MAX_DEPTH)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Ok(false),
        }
    }
}

/// Looking into the data.
impl Evaluator {
    fn var<'v>(&mut self, call: Call<'v>) -> Result<Cow<'v, Value>> {
        let [path, default] = self.first(call)?;
        Ok(self.find(&path, call.data)?.unwrap_or(default))
    }

    fn find<'v>(&mut self, path: &Value, data: Data<'v>) -> Result<Option<Cow<'v, Value>>> {
        match self.text(path)?.filter(|path| !path.is_empty()) {
            Some(path) => Ok(data.at(&path).map(Cow::Borrowed)),
            None => self.whole(data).map(Some),
        }
    }

    fn whole<'v>(&mut self, data: Data<'v>) -> Result<Cow<'v, Value>> {
        match data {
            Data::Value(value) => Ok(Cow::Borrowed(value)),
            Data::Reduction { current, accumulator } => {
                self.budget.element(current)?;
                self.budget.element(accumulator)?;
                Ok(Cow::Owned(json!({ "current": current, "accumulator": accumulator })))
            }
        }
    }

    /// The paths are the arguments, or the elements of the first if it is a list.
    fn missing(&mut self, call: Call<'_>) -> Result<Vec<Value>> {
        let values = self.values(call)?;
        match values.first().and_then(|first| first.as_array()) {
            Some(paths) => self.absent(paths, call.data),
            None => self.absent(values.iter().map(AsRef::as_ref), call.data),
        }
    }

    /// Nothing is missing if at least as many as needed are there.
    fn missing_some(&mut self, call: Call<'_>) -> Result<Vec<Value>> {
        let [needed, paths] = self.first(call)?;
        let needed = self.number(&needed)?;
        let paths = paths.as_array().map_or(slice::from_ref(&*paths), Vec::as_slice);
        let absent = self.absent(paths, call.data)?;
        let found = Number::Integer((paths.len() - absent.len()) as i128);
        Ok(if found.order(needed).is_lt() { absent } else { vec![] })
    }

    /// The paths at which there is nothing, null or an empty text.
    fn absent<'p>(&mut self, paths: impl IntoIterator<Item = &'p Value>, data: Data<'_>) -> Result<Vec<Value>> {
        let mut absent = vec![];
        for path in paths {
            self.budget.step()?;
            if self.find(path, data)?.is_none_or(|value| value.is_null() || value.as_str() == Some("")) {
                self.push(&mut absent, Cow::Borrowed(path))?;
            }
        }
        Ok(absent)
    }
}

/// Lists.
impl Evaluator {
    fn items<'v>(&mut self, call: Call<'v>) -> Result<Cow<'v, [Value]>> {
        Ok(match self.evaluate(call.argument(0), call.data)? {
            Cow::Borrowed(list) => Cow::Borrowed(list.as_array().map_or(&[], Vec::as_slice)),
            Cow::Owned(Value::Array(items)) => Cow::Owned(items),
            Cow::Owned(_) => Cow::Borrowed(&[]),
        })
    }

    fn map(&mut self, call: Call<'_>) -> Result<Vec<Value>> {
        let mut mapped = vec![];
        for item in &*self.items(call)? {
            let value = self.evaluate(call.argument(1), Data::Value(item))?;
            self.push(&mut mapped, value)?;
        }
        Ok(mapped)
    }

    fn filter(&mut self, call: Call<'_>) -> Result<Vec<Value>> {
        let mut passed = vec![];
        for item in &*self.items(call)? {
            if self.test(call.argument(1), Data::Value(item))? {
                self.push(&mut passed, Cow::Borrowed(item))?;
            }
        }
        Ok(passed)
    }

    fn reduce(&mut self, call: Call<'_>) -> Result<Value> {
        let items = self.items(call)?;
        let start = self.evaluate(call.argument(2), call.data)?;
        let mut accumulator = self.own(start)?;
        for current in &*items {
            let next = self.evaluate(call.argument(1), Data::Reduction { current, accumulator: &accumulator })?;
            accumulator = self.own(next)?;
        }
        Ok(accumulator)
    }

    fn all(&mut self, call: Call<'_>) -> Result<bool> {
        let items = self.items(call)?;
        Ok(!items.is_empty() && all(&*items, |item| self.test(call.argument(1), Data::Value(item)))?)
    }

    fn some(&mut self, call: Call<'_>) -> Result<bool> {
        any(&*self.items(call)?, |item| self.test(call.argument(1), Data::Value(item)))
    }

    fn merge(&mut self, call: Call<'_>) -> Result<Vec<Value>> {
        let mut merged = vec![];
        for argument in call.arguments {
            let value = self.evaluate(argument, call.data)?;
            match value.as_array() {
                Some(items) => items.iter().try_for_each(|item| self.push(&mut merged, Cow::Borrowed(item)))?,
                None => self.push(&mut merged, value)?,
            }
        }
        Ok(merged)
    }

    fn count(&mut self, call: Call<'_>) -> Result<usize> {
        let values = self.values(call)?;
        Ok(values.iter().filter(|value| is_true(value)).count())
    }

    fn push(&mut self, list: &mut Vec<Value>, value: Cow<'_, Value>) -> Result<()> {
        self.budget.element(&value)?;
        list.push(value.into_owned());
        Ok(())
    }
}

impl<'v> Data<'v> {
    /// What is at a path of keys and indexes with dots between them.
    fn at(self, path: &str) -> Option<&'v Value> {
        let mut keys = path.split('.');
        let start = match self {
            Self::Value(value) => value,
            Self::Reduction { current, accumulator } => match keys.next()? {
                "current" => current,
                "accumulator" => accumulator,
                _ => return None,
            },
        };
        keys.try_fold(start, |value, key| match value {
            Value::Object(object) => object.get(key),
            Value::Array(items) => items.get(key.parse::<usize>().ok()?),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        })
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(object) => !object.is_empty(),
    }
}

fn any<T>(items: impl IntoIterator<Item = T>, mut test: impl FnMut(T) -> Result<bool>) -> Result<bool> {
    for item in items {
        if test(item)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn all<T>(items: impl IntoIterator<Item = T>, mut test: impl FnMut(T) -> Result<bool>) -> Result<bool> {
    any(items, |item| test(item).map(|truth| !truth)).map(|fails| !fails)
}
