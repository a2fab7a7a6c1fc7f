//! Primary keys: kind, tenant and id in one text that cannot be forged by any of its parts.

use countersign_domain::{Record, Tenant};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::marker::PhantomData;

const RESERVED: &AsciiSet = &CONTROLS.add(b'%').add(b'#');

/// A part of a key that others chose the text of.
pub(crate) fn part(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Where a record of kind `R` is, always inside one tenant.
#[derive(Debug)]
pub struct Key<R> {
    pk: String,
    kind: PhantomData<fn() -> R>,
}

impl<R: Record> Key<R> {
    /// The key of the record with this id.
    #[must_use]
    pub fn new(tenant: &Tenant, id: &str) -> Self {
        Self { pk: format!("{}#{}#{}", R::KIND, part(tenant.as_str()), part(id)), kind: PhantomData }
    }

    /// The partition key: what a secret inside the record is bound to.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.pk
    }

    pub(crate) fn pk(&self) -> String {
        self.pk.clone()
    }
}

impl<R> Clone for Key<R> {
    fn clone(&self) -> Self {
        Self { pk: self.pk.clone(), kind: PhantomData }
    }
}
