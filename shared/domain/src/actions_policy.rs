//! An organization's settings for its agents' actions: what is allowed at once, what asks a human, and what is denied.

use crate::logic::Logic;
use crate::risk::{Assessment, Factor, RiskLevel, RiskTable};
use crate::{Actor, Change, Entry, EntryClass, Listing, Outcome, Record, Subject, Tenant, Timestamp, seconds};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::convert::Infallible;

/// How many rules an organization can have.
pub const MAX_RULES: usize = 100;
/// How many lines each table of points can have.
pub const MAX_POINTS: usize = 200;
/// How far from 0 the points of one line may be.
pub const FURTHEST_POINTS: i64 = 100;
/// The longest time that an action can wait for a human, in minutes.
pub const MAX_TTL_MINUTES: i64 = 525_600;

/// The settings of an organization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionsPolicy {
    /// Scores below it are approved at once, 0 to 101.
    pub auto_approve_below: i64,
    /// How long an action waits for a human, in minutes, 1 to [`MAX_TTL_MINUTES`].
    pub approval_ttl_minutes: i64,
    /// Whether whoever asked is kept from deciding.
    pub forbid_self_approval: bool,
    /// What scores how much.
    #[serde(flatten)]
    pub risk: RiskTable,
    /// What is decided by rule, at most [`MAX_RULES`].
    pub rules: Vec<Rule>,
}

/// A rule about the submissions that its expression matches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// What the organization calls it.
    pub name: String,
    /// An expression over the submission.
    pub when: Logic,
    /// What then.
    pub then: Verdict,
    /// The approval level that is needed at least, 1 to 5; only if the rule requires approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<u8>,
}

/// What a rule says. The later is the stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Approved at once, whatever the score.
    Allow,
    /// A human decides, whatever the score.
    RequireApproval,
    /// Denied.
    Deny,
}

/// What becomes of a submission, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// What becomes of it.
    pub verdict: Verdict,
    /// The approval level that deciding about it needs, 1 to 5.
    pub required_level: u8,
    /// Why, as a sentence.
    pub reason: String,
    /// Rules that could not be evaluated, as factors without points, for all to see.
    pub failed: Vec<Factor>,
}

impl Default for ActionsPolicy {
    fn default() -> Self {
        Self {
            auto_approve_below: 30,
            approval_ttl_minutes: 1440,
            forbid_self_approval: true,
            risk: RiskTable::default(),
            rules: Vec::new(),
        }
    }
}

impl ActionsPolicy {
    /// Rules on a submission: every matching rule counts and the strictest wins; without one, the score decides. A
    /// rule that cannot be evaluated does not match; but unless it would only have allowed, a human decides.
    #[must_use]
    pub fn rule(&self, submission: &Value, assessment: &Assessment) -> Ruling {
        let mut failed = Vec::new();
        let mut said = Vec::new();
        for rule in &self.rules {
            let level = rule.level.unwrap_or(0);
            match rule.when.matches(submission) {
                Ok(true) => said.push((rule.then, level, format!("Rule {}", rule.name))),
                Ok(false) => {}
                Err(error) => {
                    failed.push(Factor { factor: format!("rule {} failed: {error}", rule.name), points: 0 });
                    // The agent writes the data: it must not get past a rule by making it fail.
                    if rule.then > Verdict::Allow {
                        let reason = format!("Rule {} could not be evaluated", rule.name);
                        said.push((Verdict::RequireApproval, level, reason));
                    }
                }
            }
        }
        let tier = RiskLevel::of(assessment.score);
        let by_score = || {
            if assessment.score < self.auto_approve_below {
                let reason = format!("Risk score {} is below {}", assessment.score, self.auto_approve_below);
                return (Verdict::Allow, 0, reason);
            }
            (Verdict::RequireApproval, 0, format!("Risk score {} is {}", assessment.score, tier.as_str()))
        };
        // Of equally strict rules the first is named.
        let strictest = said.into_iter().rev().max_by_key(|(verdict, level, _)| (*verdict, *level));
        let (verdict, level, reason) = strictest.unwrap_or_else(by_score);
        let required_level = level.max(tier.approval_level());
        let reason = match verdict {
            Verdict::Allow => format!("{reason}: approved automatically"),
            Verdict::RequireApproval => format!("{reason}: approval of level {required_level} is required"),
            Verdict::Deny => format!("{reason}: denied"),
        };
        Ruling { verdict, required_level, reason, failed }
    }

    /// When an action that is submitted at `now` has waited long enough.
    #[must_use]
    pub fn expires_at(&self, now: Timestamp) -> Timestamp {
        now.saturating_add(seconds(self.approval_ttl_minutes * 60)).unwrap_or(Timestamp::MAX)
    }
}

/// The settings as they are kept, with every version that there was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptPolicy {
    /// Whose.
    pub organization: Tenant,
    /// When they were first set.
    pub created_at: Timestamp,
    /// How often they were set.
    pub revision: u32,
    /// As they are now.
    pub policy: ActionsPolicy,
}

impl KeptPolicy {
    /// Sets an organization's settings; setting them as they are changes nothing. Each revision is kept beside the
    /// record, as the `text` that was sent.
    #[must_use]
    pub fn set(
        before: Option<&Self>,
        organization: &Tenant,
        (policy, text): (ActionsPolicy, String),
        by: &Actor,
        now: Timestamp,
    ) -> Outcome<Self> {
        if before.is_some_and(|before| before.policy == policy) {
            return Outcome::Keep;
        }
        let (created_at, revision) = before.map_or((now, 1), |before| (before.created_at, before.revision + 1));
        let kept = Self { organization: organization.clone(), created_at, revision, policy };
        let entry = Entry {
            name: "actions_policy.set".to_owned(),
            class: EntryClass::Audit,
            actor: by.clone(),
            at: now,
            subject: Subject { kind: "actions_policy".to_owned(), id: organization.to_string() },
            data: json!({ "revision": revision }),
            state: None,
        };
        Outcome::Change(Change::new(kept, entry).with_item(format!("policy#{revision:010}"), text))
    }
}

impl Record for KeptPolicy {
    const KIND: &'static str = "actionspolicy";
    const SCHEMA: u32 = 1;
    type Refusal = Infallible;

    fn upgrade(_schema: u32, _body: Value) -> Option<Value> {
        None
    }

    fn listing(&self) -> Listing {
        Listing::at(self.created_at)
    }
}
