//! How many requests to one endpoint may be in flight at once, as far as experience tells.
//!
//! Decides the adaptive limit (slow start at [`FIRST_LIMIT`], one more per success, half after a
//! timeout), whether an endpoint is proven, and the form of a [`Ramp`] after a standstill. Leaves
//! the configured cap to the endpoint, the reasons for a ramp to [`crate::breaker`] and
//! [`crate::gate`], and the share of what is not proven to its caller.
//!
//! One round has one say: what started at or before the last decrease, and so was sent under the
//! old limit, neither lowers nor raises it.

use postrider_domain::Timestamp;

/// Where an endpoint nothing is known of starts.
pub(crate) const FIRST_LIMIT: u16 = 4;

/// How an attempt failed, as far as the health of its endpoint goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The deadline passed: the receiver hangs, or has too much to do.
    Timeout,
    /// No connection.
    Connect,
    /// Anything else: the receiver is there and answers, only not as it should.
    Other,
}

/// The adaptive limit of one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Concurrency {
    limit: u16,
    decreased_at: Option<Timestamp>,
    proven: bool,
}

impl Concurrency {
    /// Of an endpoint nothing is known of.
    pub(crate) const fn new() -> Self {
        Self {
            limit: FIRST_LIMIT,
            decreased_at: None,
            proven: false,
        }
    }

    /// Most requests in flight, at least 1; may be above the configured cap.
    pub(crate) const fn limit(&self) -> u16 {
        self.limit
    }

    /// Whether a timeout or a failed connection made it narrower.
    pub(crate) const fn has_failed(&self) -> bool {
        self.decreased_at.is_some()
    }

    /// Whether there was a success since the last timeout. Without any success it is not: an
    /// endpoint must show that it does not hang.
    pub(crate) const fn is_proven(&self) -> bool {
        self.proven
    }

    /// An attempt succeeded; `cap` is the configured bound.
    pub(crate) fn succeeded(&mut self, started_at: Timestamp, cap: u16) {
        self.proven = true;
        if !self.is_of_an_old_round(started_at) {
            self.limit = self.limit.saturating_add(1).min(cap).max(1);
        }
    }

    /// An attempt failed.
    pub(crate) fn failed(
        &mut self,
        now: Timestamp,
        started_at: Timestamp,
        failure: Failure,
        cap: u16,
    ) {
        if failure == Failure::Timeout {
            self.proven = false;
        }
        if failure != Failure::Other && !self.is_of_an_old_round(started_at) {
            self.limit = (self.limit.min(cap) / 2).max(1);
            self.decreased_at = Some(now);
        }
    }

    fn is_of_an_old_round(&self, started_at: Timestamp) -> bool {
        self.decreased_at.is_some_and(|at| started_at <= at)
    }
}

/// The way back from one request in flight to all: the width doubles with each full round of
/// successes, so that deliveries that gathered do not arrive all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ramp {
    width: u16,
    successes: u16,
}

impl Ramp {
    /// One in flight.
    pub(crate) const fn new() -> Self {
        Self {
            width: 1,
            successes: 0,
        }
    }

    /// Most in flight now.
    pub(crate) const fn width(&self) -> u16 {
        self.width
    }

    /// One succeeded; whether the ramp is complete: the next round would be as wide as `cap`.
    /// That takes one success for a cap of 1, and fewer than `2 * cap` for any.
    pub(crate) const fn succeeded(&mut self, cap: u16) -> bool {
        self.successes += 1;
        if self.successes < self.width {
            return false;
        }
        self.width = self.width.saturating_mul(2);
        self.successes = 0;
        self.width >= cap
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAP: u16 = 16;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn grown() -> Concurrency {
        let mut concurrency = Concurrency::new();
        for _ in 0..100 {
            concurrency.succeeded(at(1), CAP);
        }
        concurrency
    }

    #[test]
    fn it_starts_slowly_and_grows_with_each_success_up_to_the_cap() {
        let mut concurrency = Concurrency::new();
        assert_eq!(concurrency.limit(), 4);
        concurrency.succeeded(at(1), CAP);
        assert_eq!(concurrency.limit(), 5);
        assert_eq!(grown().limit(), CAP);
    }

    #[test]
    fn timeouts_of_one_round_halve_it_once() {
        let mut concurrency = grown();
        for second in 17..27 {
            concurrency.failed(at(second), at(17), Failure::Timeout, CAP);
        }
        assert_eq!(concurrency.limit(), 8);
        concurrency.succeeded(at(17), CAP);
        assert_eq!(concurrency.limit(), 8, "a success of the old round");
        concurrency.failed(at(33), at(18), Failure::Timeout, CAP);
        assert_eq!(concurrency.limit(), 4, "started after the decrease at 17");
    }

    #[test]
    fn it_never_falls_below_one() {
        let mut concurrency = grown();
        for second in 10..30 {
            concurrency.failed(at(second), at(second), Failure::Connect, CAP);
        }
        assert_eq!(concurrency.limit(), 1);
    }

    #[test]
    fn an_answer_of_any_kind_does_not_lower_it() {
        let mut concurrency = grown();
        concurrency.failed(at(3), at(2), Failure::Other, CAP);
        assert_eq!(concurrency.limit(), CAP);
        assert!(concurrency.is_proven());
    }

    #[test]
    fn a_lowered_cap_is_what_is_halved_and_what_growth_starts_from() {
        let mut concurrency = grown();
        concurrency.failed(at(3), at(2), Failure::Timeout, 6);
        assert_eq!(concurrency.limit(), 3);
        let mut concurrency = grown();
        concurrency.succeeded(at(2), 6);
        concurrency.succeeded(at(2), CAP);
        assert_eq!(concurrency.limit(), 7);
    }

    #[test]
    fn a_success_proves_an_endpoint_until_its_next_timeout() {
        let mut concurrency = Concurrency::new();
        assert!(!concurrency.is_proven(), "it may hang");
        concurrency.succeeded(at(2), CAP);
        assert!(concurrency.is_proven());
        concurrency.failed(at(4), at(3), Failure::Connect, CAP);
        assert!(concurrency.is_proven(), "a refusal takes no time");
        concurrency.failed(at(4), at(3), Failure::Timeout, CAP);
        assert!(!concurrency.is_proven());
        concurrency.succeeded(at(5), CAP);
        assert!(concurrency.is_proven());
    }

    #[test]
    fn a_ramp_doubles_with_each_full_round() {
        let mut ramp = Ramp::new();
        let mut widths = vec![ramp.width()];
        while !ramp.succeeded(CAP) {
            widths.push(ramp.width());
        }
        assert_eq!(widths, [1, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8, 8, 8, 8, 8]);
    }

    proptest! {
        #[test]
        fn a_ramp_is_over_after_fewer_than_two_caps_of_successes(cap in 1..=u16::MAX) {
            let mut ramp = Ramp::new();
            let mut successes = 1_u32;
            while !ramp.succeeded(cap) {
                successes += 1;
            }
            prop_assert!(successes < 2 * u32::from(cap), "{successes}");
        }
    }
}
