//! Reads the fields of a request one by one and collects everything that is wrong with them.

use crate::problem::{Detail, Place, Problem};
use countersign_domain::{Timestamp, text};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::fmt::Display;
use std::str::FromStr;
use uuid::Uuid;

/// Whether a time has the form of RFC 3339; the parser takes more (ISO 8601), and judges the numbers.
fn is_rfc3339(text: &str) -> bool {
    let fits = |text: &str, form: &str| {
        text.len() == form.len()
            && text.bytes().zip(form.bytes()).all(|(b, f)| if f == b'0' { b.is_ascii_digit() } else { b == f })
    };
    let Some((time, rest)) = text.split_at_checked("0000-00-00T00:00:00".len()) else { return false };
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if zone.len() == fraction.len() {
                return false;
            }
            zone
        }
        None => rest,
    };
    fits(time, "0000-00-00T00:00:00") && (zone == "Z" || fits(zone, "+00:00") || fits(zone, "-00:00"))
}

/// The largest object of a caller's own that is kept, in bytes as it is written; an item has at most 400 KB.
const LARGEST_OBJECT: usize = 300_000;

/// The fields of a JSON object or of a query string.
#[derive(Debug)]
pub struct Form {
    place: Place,
    /// The way to an object that stands in a body: `stages.0.`.
    within: String,
    fields: Map<String, Value>,
    /// The names of parameters that were given more than once.
    repeated: HashSet<String>,
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
            Value::Object(fields) => Ok(Self::of(Place::Body, String::new(), fields)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(Problem::invalid_body("must be a JSON object"))
            }
        }
    }

    fn of(place: Place, within: String, fields: Map<String, Value>) -> Self {
        Self { place, within, fields, repeated: HashSet::new(), details: Vec::new() }
    }

    /// The fields of a body that may be missing as a whole.
    ///
    /// # Errors
    /// There is a body, and it is not an object.
    pub fn optional_json(body: Value) -> Result<Self, Problem> {
        if body.is_null() { Self::json(Value::Object(Map::new())) } else { Self::json(body) }
    }

    /// The parameters of a query string, each a text. One that is read and comes twice is an error.
    #[must_use]
    pub fn query(query: &str) -> Self {
        let mut form = Self::of(Place::Query, String::new(), Map::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if form.fields.insert(name.to_string(), value.into()).is_some() {
                form.repeated.insert(name.into_owned());
            }
        }
        form
    }

    /// A part of the path.
    pub fn path<T>(&mut self, name: &str, value: &str, read: impl Read<T>) -> Option<T> {
        self.note(Place::Path, name, read(&value.into()))
    }

    /// A field that must be there.
    pub fn required<T>(&mut self, name: &str, read: impl Read<T>) -> Option<T> {
        match self.fields.get(name) {
            None => self.note(self.place, name, Err("is required".to_owned())),
            Some(_) if self.repeated.contains(name) => {
                self.note(self.place, name, Err("must be given once".to_owned()))
            }
            Some(value) => {
                let value = read(value);
                self.note(self.place, name, value)
            }
        }
    }

    /// A field that may be absent or `null`.
    pub fn optional<T>(&mut self, name: &str, read: impl Read<T>) -> Option<T> {
        match self.fields.get(name) {
            None | Some(Value::Null) => None,
            Some(_) => self.required(name, read),
        }
    }

    /// A field that may be absent, but not `null`.
    pub fn given<T>(&mut self, name: &str, read: impl Read<T>) -> Option<T> {
        if self.fields.contains_key(name) { self.required(name, read) } else { None }
    }

    /// A field whose name has another spelling that is also taken, if the first is absent.
    pub fn required_as<T>(&mut self, name: &str, alias: &str, read: impl Read<T>) -> Option<T> {
        let given = if self.fields.contains_key(name) || !self.fields.contains_key(alias) { name } else { alias };
        self.required(given, read)
    }

    /// A list of objects, each read by `read`; an absent one is empty. What is wrong in an object is said with the way to
    /// it: `stages.0.name`.
    pub fn objects<T>(&mut self, name: &str, most: usize, read: impl Fn(&mut Self) -> Option<T>) -> Vec<T> {
        let Some(list) = self.fields.get(name) else { return Vec::new() };
        let Some(values) = list.as_array().filter(|values| values.len() <= most).cloned() else {
            self.refuse(name, format!("must be a list of at most {most} objects"));
            return Vec::new();
        };
        let mut objects = Vec::with_capacity(values.len());
        for (place, value) in values.into_iter().enumerate() {
            let Value::Object(fields) = value else {
                self.refuse(&format!("{name}.{place}"), "must be an object");
                continue;
            };
            let mut form = Self::of(self.place, format!("{}{name}.{place}.", self.within), fields);
            objects.extend(read(&mut form));
            self.details.append(&mut form.details);
        }
        objects
    }

    /// Says that something else is wrong with a field.
    pub fn refuse(&mut self, name: &str, message: impl Into<String>) {
        self.details.push(Detail::at(self.place, format!("{}{name}", self.within), message));
    }

    fn note<T>(&mut self, place: Place, name: &str, value: Result<T, String>) -> Option<T> {
        let name = format!("{}{name}", self.within);
        value.map_err(|message| self.details.push(Detail::at(place, name, message))).ok()
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

    /// Reads text of `least` to `most` characters.
    pub fn text_of(least: usize, most: usize) -> impl Read<String> {
        move |value| {
            let text = Self::text(most)(value)?;
            if text.chars().take(least).count() < least {
                return Err(format!("must have at least {least} characters"));
            }
            Ok(text)
        }
    }

    /// Reads `true` or `false`.
    ///
    /// # Errors
    /// It is something else.
    pub fn boolean(value: &Value) -> Result<bool, String> {
        value.as_bool().ok_or_else(|| "must be true or false".to_owned())
    }

    /// Reads an object whose content is the caller's own.
    ///
    /// # Errors
    /// It is something else, or too large to be kept.
    pub fn object(value: &Value) -> Result<Value, String> {
        if !value.is_object() {
            return Err("must be an object".to_owned());
        }
        // A number may be written longer than it was sent: 1e9 as 1000000000.0.
        if value.to_string().len() > LARGEST_OBJECT {
            return Err(format!("must have at most {LARGEST_OBJECT} bytes as JSON"));
        }
        Ok(value.clone())
    }

    /// Reads a time, RFC 3339.
    ///
    /// # Errors
    /// It is something else.
    pub fn time(value: &Value) -> Result<Timestamp, String> {
        let time = value.as_str().filter(|text| is_rfc3339(text)).and_then(|text| text.parse().ok());
        time.ok_or_else(|| "must be a time as in 2026-11-21T12:00:00Z, before 9999-12-30".to_owned())
    }

    /// Reads a whole number from `least` to `most` as a query string has it.
    pub fn digits(least: usize, most: usize) -> impl Read<usize> {
        move |value| {
            let digits = value.as_str().filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
            let number = digits.and_then(|digits| digits.parse().ok());
            number
                .filter(|number| (least..=most).contains(number))
                .ok_or_else(|| format!("must be a whole number from {least} to {most}"))
        }
    }

    /// Reads a list of `least` to `most` values.
    pub fn list<T>(least: usize, most: usize, read: impl Fn(&Value) -> Result<T, String>) -> impl Read<Vec<T>> {
        move |value| {
            let wrong = || format!("must be a list of {least} to {most} values");
            let values = value.as_array().filter(|values| (least..=most).contains(&values.len())).ok_or_else(wrong)?;
            values.iter().map(|value| read(value).map_err(|error| format!("has an element that {error}"))).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rfc_3339_and_nothing_else() {
        for text in ["2026-11-21T12:00:00Z", "2026-11-21T12:00:00.123456Z", "2026-11-21T14:00:00+02:00"] {
            assert!(Form::time(&text.into()).is_ok(), "{text}");
        }
        for text in [
            "",
            "2026-11-21",
            "2026-11-21T12:00Z",
            "20261121T120000Z",
            "2026-11-21T12Z",
            "2026-11-21 12:00:00Z",
            "2026-11-21T12:00:00",
            "2026-11-21T12:00:00.Z",
            "2026-11-21T12:00:00+02",
            "2026-11-21T12:00:00+02:00[Europe/Berlin]",
            "+002026-11-21T12:00:00Z",
            "2026-02-30T12:00:00Z",
            "2026-11-21T25:00:00Z",
            "2026-11-21T12:00:00é",
        ] {
            assert!(Form::time(&text.into()).is_err(), "{text}");
        }
    }
}
