//! What an evaluation may cost: one budget for all of it, passed down and never renewed.

use super::{EvaluationError, MAX_DEPTH, MAX_OUTPUT, MAX_STEPS};
use serde_json::Value;

/// What a value takes in a list, without its text.
const PLACE: usize = 32;

/// What is left.
pub(super) struct Budget {
    steps: usize,
    output: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps: MAX_STEPS, output: MAX_OUTPUT }
    }
}

impl Budget {
    /// One step.
    pub(super) fn step(&mut self) -> Result<(), EvaluationError> {
        self.work(1)
    }

    /// The text, once its length is paid for.
    pub(super) fn read<'v>(&mut self, text: &'v str) -> Result<&'v str, EvaluationError> {
        self.work(text.len() / 1024)?;
        Ok(text)
    }

    fn work(&mut self, steps: usize) -> Result<(), EvaluationError> {
        self.steps = self.steps.checked_sub(steps).ok_or(EvaluationError::TooManySteps)?;
        Ok(())
    }

    /// A text of this length.
    pub(super) fn produce(&mut self, bytes: usize) -> Result<(), EvaluationError> {
        self.output = self.output.checked_sub(bytes).ok_or(EvaluationError::TooMuchOutput)?;
        Ok(())
    }

    /// A copy of a value, to be paid for before it is made.
    pub(super) fn copy(&mut self, value: &Value) -> Result<(), EvaluationError> {
        self.keep(value, MAX_DEPTH)
    }

    /// A value that goes into a list or an object.
    pub(super) fn element(&mut self, value: &Value) -> Result<(), EvaluationError> {
        self.keep(value, MAX_DEPTH - 1)
    }

    fn keep(&mut self, value: &Value, room: usize) -> Result<(), EvaluationError> {
        self.produce(PLACE)?;
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
            Value::String(text) => self.produce(text.len()),
            Value::Array(items) => {
                let room = inside(room)?;
                items.iter().try_for_each(|item| self.keep(item, room))
            }
            Value::Object(object) => {
                let room = inside(room)?;
                object.iter().try_for_each(|(key, value)| {
                    self.produce(key.len())?;
                    self.keep(value, room)
                })
            }
        }
    }
}

/// The levels that are left one level down.
pub(super) fn inside(room: usize) -> Result<usize, EvaluationError> {
    room.checked_sub(1).ok_or(EvaluationError::TooDeep)
}
