//! Reads the fields of a request one by one and collects everything that is wrong with them.

use crate::problem::{Detail, Problem};
use countersign_domain::text;
use serde_json::{Map, Value};
use std::fmt::Display;
use std::str::FromStr;
use uuid::Uuid;

/// The fields of a JSON object or of a query string.
#[derive(Debug)]
pub struct Form {
    fields: Map<String, Value>,
    details: Vec<Detail>,
}

/// How the text or number of a field is read.
pub trait Read<T>: FnOnce(&Value) -> Result<T, String> {}
impl<T, F: FnOnce(&Value) -> Result<T, String>> Read<T> for F {}

impl Form {
    /// The fields of a body. Fields that nobody asks for are ignored.
    ///
    /// # Errors
    /// The body is not an object.
    pub fn json(body: Value) -> Result<Self, Problem> {
        match body {
            Value::Object(fields) => Ok(Self { fields, details: Vec::new() }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(Problem::invalid_body("must be a JSON object"))
            }
        }
    }

    /// The parameters of a query string, each a text. One that comes twice is an error.
    #[must_use]
    pub fn query(query: &str) -> Self {
        let mut form = Self { fields: Map::new(), details: Vec::new() };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let again = form.fields.insert(name.to_string(), value.into()).is_some();
            if again && form.details.iter().all(|detail| detail.field != name) {
                form.details.push(Detail::new(name, "must be given once"));
            }
        }
        form
    }

    /// A part of the path.
    pub fn path<T>(&mut self, name: &str, value: &str, read: impl Read<T>) -> Option<T> {
        self.note(name, read(&value.into()))
    }

    /// A field that must be there.
    pub fn required<T>(&mut self, name: &str, read: impl Read<T>) -> Option<T> {
        match self.fields.get(name) {
            None => self.note(name, Err("is required".to_owned())),
            Some(value) => {
                let value = read(value);
                self.note(name, value)
            }
        }
    }

    /// A field that may be absent or `null`.
    pub fn optional<T>(&mut self, name: &str, read: impl Read<T>) -> Option<T> {
        match self.fields.get(name) {
            None | Some(Value::Null) => None,
            Some(value) => {
                let value = read(value);
                self.note(name, value)
            }
        }
    }

    fn note<T>(&mut self, name: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|message| self.details.push(Detail::new(name, message))).ok()
    }

    /// The request that `build` puts together from the fields.
    ///
    /// # Errors
    /// Everything that was wrong with any field.
    pub fn finish<T>(self, build: impl FnOnce() -> Option<T>) -> Result<T, Problem> {
        match build() {
            Some(request) if self.details.is_empty() => Ok(request),
            _ => Err(Problem::invalid(self.details)),
        }
    }

    /// Reads text of at most `limit` characters.
    pub fn text(limit: usize) -> impl Read<String> {
        move |value| {
            let value = value.as_str().ok_or("must be text")?;
            text::check(value, limit)?;
            Ok(value.to_owned())
        }
    }

    /// Reads a UUID in either case.
    ///
    /// # Errors
    /// It is something else.
    pub fn uuid(value: &Value) -> Result<Uuid, String> {
        value.as_str().and_then(text::uuid).ok_or_else(|| "must be a UUID".to_owned())
    }

    /// Reads text with a grammar of its own.
    ///
    /// # Errors
    /// What the grammar says of it.
    pub fn parsed<T: FromStr<Err: Display>>(value: &Value) -> Result<T, String> {
        value.as_str().ok_or("must be text")?.parse().map_err(|error: T::Err| error.to_string())
    }

    /// Reads a whole number from `least` to `most`.
    pub fn integer(least: i64, most: i64) -> impl Read<i64> {
        move |value| {
            // JSON has one kind of number: 5.0 is as whole as 5.
            let number = value.as_f64().filter(|number| number.fract() == 0.0).map(|number| number as i64);
            number
                .filter(|number| (least..=most).contains(number))
                .ok_or_else(|| format!("must be a whole number from {least} to {most}"))
        }
    }

    /// Reads a list of `least` to `most` distinct texts, each with a grammar of its own.
    pub fn distinct<T: FromStr<Err: Display> + PartialEq>(least: usize, most: usize) -> impl Read<Vec<T>> {
        move |value| {
            let wrong = || format!("must be a list of {least} to {most} distinct texts");
            let values = value.as_array().ok_or_else(wrong)?;
            if !(least..=most).contains(&values.len()) {
                return Err(wrong());
            }
            let mut list = Vec::with_capacity(values.len());
            for value in values {
                let value = Self::parsed(value).map_err(|error| format!("has an element that {error}"))?;
                if list.contains(&value) {
                    return Err(wrong());
                }
                list.push(value);
            }
            Ok(list)
        }
    }
}
