//! How often one caller may call one process.

use crate::problem::Problem;
use countersign_domain::{Actor, Tenant};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::StatusCode;
use std::num::NonZeroU32;

/// A token bucket per caller, or no limit.
#[derive(Debug)]
pub(crate) struct Rate(Option<DefaultKeyedRateLimiter<(Option<Tenant>, Actor)>>);

impl Rate {
    /// `per_second` calls, with a burst of twice as many; 0 is no limit.
    pub(crate) fn new(per_second: u32) -> Self {
        let burst = NonZeroU32::new(per_second.saturating_mul(2));
        let quota =
            NonZeroU32::new(per_second).zip(burst).map(|(rate, burst)| Quota::per_second(rate).allow_burst(burst));
        Self(quota.map(RateLimiter::keyed))
    }

    /// Lets a call through, or says when to come again.
    pub(crate) fn check(&self, tenant: Option<&Tenant>, caller: &Actor) -> Result<(), Problem> {
        let Some(limiter) = &self.0 else { return Ok(()) };
        limiter.check_key(&(tenant.cloned(), caller.clone())).map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "too many requests; slow down");
            Problem { retry_after: Some(seconds), ..problem }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator(principal: &str) -> Actor {
        Actor::Operator { principal: principal.to_owned() }
    }

    #[test]
    fn a_caller_over_its_rate_is_told_when_to_come_again_and_no_other_is() {
        let rate = Rate::new(1);
        let refused = (0..100).find_map(|_| rate.check(None, &operator("a")).err()).unwrap();
        assert_eq!((refused.status.as_u16(), refused.code), (429, "rate_limited"));
        assert!(refused.retry_after.unwrap() >= 1);
        assert!(rate.check(None, &operator("b")).is_ok());
    }

    #[test]
    fn two_callers_are_two_although_their_names_read_alike() {
        let user = |issuer: &str, subject: &str| Actor::User { issuer: issuer.to_owned(), subject: subject.to_owned() };
        let rate = Rate::new(1);
        let one = user("https://issuer.example", "8443:7");
        assert!((0..100).any(|_| rate.check(None, &one).is_err()));
        assert!(rate.check(None, &user("https://issuer.example:8443", "7")).is_ok());
    }

    #[test]
    fn the_same_subject_of_two_tenants_has_two_buckets() {
        let rate = Rate::new(1);
        let (one, two) = ("acme".parse().unwrap(), "other".parse().unwrap());
        assert!((0..100).any(|_| rate.check(Some(&one), &operator("a")).is_err()));
        assert!(rate.check(Some(&two), &operator("a")).is_ok());
    }

    #[test]
    fn zero_is_no_limit() {
        let rate = Rate::new(0);
        assert!((0..1000).all(|_| rate.check(None, &operator("a")).is_ok()));
    }
}
