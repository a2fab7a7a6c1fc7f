//! When a stage is decided: its tasks counted by its mode.

use crate::workflow::request::{Action, Task, TaskState};
use serde::{Deserialize, Serialize};

/// How many of a stage's approvers have to agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Everybody who does not abstain; one reject is a veto.
    All,
    /// So many; `quorum` is another word for it.
    AnyN,
    /// See [`Mode::AnyN`].
    Quorum,
    /// So many of a hundred, rounded up.
    Percentage,
}

impl Mode {
    /// Reads the documented word, without regard to case.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        [Self::All, Self::AnyN, Self::Quorum, Self::Percentage]
            .into_iter()
            .find(|mode| mode.as_str().eq_ignore_ascii_case(word))
    }

    /// The documented word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::AnyN => "any-n",
            Self::Quorum => "quorum",
            Self::Percentage => "percentage",
        }
    }
}

/// How many approvals a stage of so many approvers needs; for [`Mode::All`] if nobody abstains.
#[must_use]
pub fn needed(mode: Mode, value: Option<u32>, approvers: usize) -> usize {
    let value = value.map(|value| usize::try_from(value).unwrap_or(usize::MAX));
    match mode {
        Mode::All => approvers,
        Mode::AnyN | Mode::Quorum => value.unwrap_or(1),
        Mode::Percentage => value.unwrap_or(100).saturating_mul(approvers).div_ceil(100),
    }
}

/// What the decisions so far make of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It waits for more.
    Open,
    /// It is approved.
    Approved,
    /// It cannot be approved any more.
    Rejected,
}

/// The approvers' tasks that count: those that were neither reassigned nor replaced by an escalation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    all: usize,
    approved: usize,
    rejected: usize,
    pending: usize,
    required_pending: bool,
    required_missed: bool,
}

impl Count {
    pub(super) fn of<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> Self {
        let mut count = Self::default();
        for task in tasks.into_iter().filter(|task| task.is_approver() && task.counts()) {
            count.all += 1;
            match &task.state {
                TaskState::Open | TaskState::Claimed => {
                    count.pending += 1;
                    count.required_pending |= task.required;
                }
                TaskState::Completed { action, .. } => {
                    count.approved += usize::from(*action == Action::Approve);
                    count.rejected += usize::from(*action == Action::Reject);
                    count.required_missed |= task.required && *action != Action::Approve;
                }
                TaskState::Skipped { .. } | TaskState::Expired { .. } | TaskState::Reassigned { .. } => {}
            }
        }
        count
    }

    /// What comes of it.
    pub(super) fn verdict(self, mode: Mode, value: Option<u32>) -> Verdict {
        if self.required_missed || !self.is_possible(mode, value) {
            return Verdict::Rejected;
        }
        let enough = match mode {
            Mode::All => self.pending == 0,
            Mode::AnyN | Mode::Quorum | Mode::Percentage => self.approved >= needed(mode, value, self.all),
        };
        if enough && !self.required_pending { Verdict::Approved } else { Verdict::Open }
    }

    /// Whether those who have not decided could still approve it.
    pub(super) fn is_possible(self, mode: Mode, value: Option<u32>) -> bool {
        let possible = self.approved + self.pending;
        match mode {
            Mode::All => self.rejected == 0 && possible > 0,
            Mode::AnyN | Mode::Quorum | Mode::Percentage => possible >= needed(mode, value, self.all),
        }
    }
}
