//! The rules seen from outside: tables where the cases can be listed, properties where they cannot.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod action;
mod action_histories;
mod actions_policy;
mod api_key;
mod callback;
mod callback_secret;
mod case;
mod case_histories;
mod chain;
mod cosignature;
mod delivery;
mod delivery_histories;
mod endpoint;
mod endpoint_histories;
mod event;
mod grammars;
mod key_ring;
mod logic;
mod logic_budget;
mod logic_properties;
mod override_histories;
mod override_token;
mod plain_words;
mod remediation;
mod remediation_histories;
mod replay;
mod retry;
mod risk;
mod webhook_signature;
mod work;
mod workflow;
mod workflow_delegation;
mod workflow_duties;
mod workflow_interleavings;
mod workflow_limits;
mod workflow_oracle;
mod workflow_policy;
mod workflow_request;
mod workflow_sla;
mod workflow_stage;

use countersign_domain::{Actor, Change, Outcome, Timestamp};
use jiff::SignedDuration;

fn operator() -> Actor {
    Actor::Operator { principal: "arn:aws:iam::123456789012:role/remediation".to_owned() }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn microseconds(n: i64) -> SignedDuration {
    SignedDuration::from_micros(n)
}

fn changed<R>(outcome: Outcome<R>) -> Change<R> {
    match outcome {
        Outcome::Change(change) => change,
        Outcome::Keep => panic!("nothing was changed"),
    }
}
