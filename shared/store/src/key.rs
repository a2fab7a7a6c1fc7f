//! Primary keys: kind, tenant and id in one text that cannot be forged by any of its parts.

use crate::Fault;
use countersign_domain::{Record, Tenant, Work};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::marker::PhantomData;

const RESERVED: &AsciiSet = &CONTROLS.add(b'%').add(b'#');

/// A part of a key that others chose the text of.
pub(crate) fn part(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Kind, tenant and id of a partition key, each as it is written there: none of them contains a bare `#`.
pub(crate) fn parts(pk: &str) -> (&str, &str, &str) {
    let mut parts = pk.splitn(3, '#');
    let mut next = || parts.next().unwrap_or_default();
    (next(), next(), next())
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

    /// The key of a record that is looked up before its tenant is known; `_` is no tenant's name.
    #[must_use]
    pub fn before_tenant(id: &str) -> Self {
        Self { pk: format!("{}#_#{}", R::KIND, part(id)), kind: PhantomData }
    }

    /// The key of the record that the worker is told of.
    ///
    /// # Errors
    /// It is a record of another kind.
    pub fn of(work: &Work) -> Result<Self, Fault> {
        Self::read(&work.key).ok_or_else(|| Fault::Corrupt(format!("{} is no key of {}", work.key, R::KIND)))
    }

    /// Whose record it is.
    ///
    /// # Errors
    /// Its key names no tenant.
    pub fn tenant(&self) -> Result<Tenant, Fault> {
        parts(&self.pk).1.parse().map_err(|_| Fault::Corrupt(format!("{} names no tenant", self.pk)))
    }

    /// The key in this text, if it is one of this kind.
    pub(crate) fn read(pk: &str) -> Option<Self> {
        let id = pk.strip_prefix(R::KIND)?.strip_prefix('#')?;
        id.contains('#').then(|| Self { pk: pk.to_owned(), kind: PhantomData })
    }

    /// The key of another record of the same kind and tenant.
    pub(crate) fn sibling(&self, id: &str) -> Self {
        let (kind, tenant, _) = parts(&self.pk);
        Self { pk: format!("{kind}#{tenant}#{}", part(id)), kind: PhantomData }
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
