//! What attempts have shown of a tenant's endpoints, remembered together: those that hang are known to at the same
//! moment, and all endpoints of a tenant are one record.

use crate::lock;
use countersign_domain::Tenant;
use countersign_domain::endpoint::{EndpointId, Seen};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// What is to be remembered of each tenant's endpoints, while somebody sees to it.
#[derive(Debug, Default)]
pub(crate) struct Lessons(Mutex<HashMap<Tenant, Arc<Lesson>>>);

/// What is to be remembered of one tenant's endpoints.
#[derive(Debug, Default)]
pub(crate) struct Lesson {
    seen: Mutex<Vec<(EndpointId, Seen)>>,
    /// Whoever has it remembers all that was noted by then.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

impl Lessons {
    /// Notes what was seen, for whoever has the turn next.
    pub(crate) fn note(&self, tenant: &Tenant, endpoint: &EndpointId, seen: Seen) -> Arc<Lesson> {
        let mut lessons = lock(&self.0);
        // Nobody is about to remember anything of these.
        lessons.retain(|_, lesson| Arc::strong_count(lesson) > 1);
        let lesson = Arc::clone(lessons.entry(tenant.clone()).or_default());
        lock(&lesson.seen).push((endpoint.clone(), seen));
        lesson
    }
}

impl Lesson {
    /// All that was noted and that nobody has taken yet.
    pub(crate) fn take(&self) -> Vec<(EndpointId, Seen)> {
        std::mem::take(&mut *lock(&self.seen))
    }
}
