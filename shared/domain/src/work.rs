//! What the worker is told to look at: a change that the world is to hear of, or a record that is due.

use crate::override_token::OverrideToken;
use crate::{Record, Timestamp};
use serde::{Deserialize, Serialize};

/// Word for the worker. Only that: what there is to do stands in the table, and word that is lost, late or said twice
/// does no harm.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Work {
    /// The record, by its partition key.
    pub key: String,
    /// The version that the change made, if it is about a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<u64>,
    /// Not to be looked at before.
    pub at: Timestamp,
}

impl Work {
    /// The kind of the record.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.key.split('#').next().unwrap_or_default()
    }

    /// The record, for a log: without its id where whoever knows that can decide.
    #[must_use]
    pub fn shown(&self) -> &str {
        match self.kind() {
            OverrideToken::KIND => self.key.rsplit_once('#').map_or("", |(front, _)| front),
            _ => &self.key,
        }
    }
}
