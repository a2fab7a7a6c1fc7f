//! The two phases: minting override tokens, and deciding with each of them.

use crate::Failure;
use crate::phase::Phase;
use hyper::StatusCode;
use serde_json::Value;

pub(crate) struct Mint {
    pub(crate) tokens: usize,
    /// Over how many customers they are spread.
    pub(crate) customers: usize,
}

pub(crate) struct Decide(pub(crate) Vec<Token>);

pub(crate) struct Token {
    number: usize,
    customer: String,
    jti: String,
}

/// A customer's id, which is a tenant, too.
pub(crate) fn customer(number: usize) -> String {
    format!("{number:08x}-0000-4000-8000-000000000000")
}

impl Phase for Mint {
    type Read = Token;
    const EXPECTED: StatusCode = StatusCode::CREATED;

    fn count(&self) -> usize {
        self.tokens
    }

    fn request(&self, number: usize) -> (String, String) {
        let customer = customer(number % self.customers);
        let body = format!(r#"{{"customer_id":"{customer}","event_id":"evt-{number}","ttl_minutes":1440}}"#);
        ("/tokens/override".to_owned(), body)
    }

    fn read(&self, number: usize, body: &[u8]) -> Result<Token, Failure> {
        let minted: Value = serde_json::from_slice(body)?;
        let jti = minted["jti"].as_str().ok_or("a minted token has no jti")?.to_owned();
        Ok(Token { number, customer: customer(number % self.customers), jti })
    }
}

impl Phase for Decide {
    type Read = ();
    const EXPECTED: StatusCode = StatusCode::OK;

    fn count(&self) -> usize {
        self.0.len()
    }

    fn request(&self, number: usize) -> (String, String) {
        let Token { number, customer, jti } = &self.0[number];
        let body = format!(r#"{{"override_jti":"{jti}","customer_id":"{customer}","decision":"approve"}}"#);
        (format!("/overrides/evt-{number}/decide"), body)
    }

    fn read(&self, _: usize, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}
