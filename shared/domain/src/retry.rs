//! The schedule of attempts: how long a failed one is waited after, and when the clock looks for the next.

use crate::{Timestamp, seconds};
use jiff::SignedDuration;

/// How long a receiver can ask us at most to wait by its `Retry-After`, in seconds.
pub const MAX_RETRY_AFTER_SECONDS: i64 = 21_600;

/// When attempts are made, and who sees to it that they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// How long is waited before the second attempt, the third and so on.
    pub delays: Vec<SignedDuration>,
    /// By which part of itself a wait can be shorter or longer, 0 to 1.
    pub jitter: f64,
    /// How long one attempt can take.
    pub timeout: SignedDuration,
    /// Waits up to this travel with the queue's message; for longer ones the clock sends it.
    pub rides: SignedDuration,
    /// How long before the end of a long wait the clock looks.
    pub lead: SignedDuration,
    /// How long after a riding message was due the clock looks whether it was lost.
    pub slack: SignedDuration,
}

impl Schedule {
    /// The documented one: six attempts in 7 h 21 min, give or take a tenth.
    #[must_use]
    pub fn documented() -> Self {
        Self {
            delays: [60, 300, 900, 3_600, 21_600].map(seconds).to_vec(),
            jitter: 0.1,
            timeout: seconds(10),
            rides: seconds(900),
            lead: seconds(90),
            slack: seconds(60),
        }
    }

    /// How many attempts there are at most.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        u32::try_from(self.delays.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// How long is waited after `attempt`, the first being 1, has failed; `None` if it was the last one.
    ///
    /// `unit`, -1 to 1 and drawn by the caller, says where in the jitter the wait lies. What the receiver asked for by
    /// `Retry-After` counts where it is longer, up to [`MAX_RETRY_AFTER_SECONDS`].
    #[must_use]
    pub fn wait_after(&self, attempt: u32, unit: f64, retry_after: Option<SignedDuration>) -> Option<SignedDuration> {
        let nth = usize::try_from(attempt.checked_sub(1)?).ok()?;
        let delay = *self.delays.get(nth)?;
        let spread = delay.as_secs_f64() * 1_000.0 * self.jitter.clamp(0.0, 1.0) * unit.clamp(-1.0, 1.0);
        // Whole milliseconds, towards the delay itself; what is not a number is 0.
        let wait = delay.saturating_add(SignedDuration::from_millis(spread as i64));
        Some(retry_after.map_or(wait, |asked| wait.max(asked.min(seconds(MAX_RETRY_AFTER_SECONDS)))))
    }

    /// When the clock looks for an attempt that is due at `next`, after a wait.
    #[must_use]
    pub fn look_at(&self, next: Timestamp, wait: SignedDuration) -> Timestamp {
        if wait <= self.rides { later(next, self.slack) } else { earlier(next, self.lead) }
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self::documented()
    }
}

/// `wait` after `at`, or the end of time.
pub(crate) fn later(at: Timestamp, wait: SignedDuration) -> Timestamp {
    at.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

/// `lead` before `at`, or the beginning of time.
fn earlier(at: Timestamp, lead: SignedDuration) -> Timestamp {
    at.saturating_sub(lead).unwrap_or(Timestamp::MIN)
}
