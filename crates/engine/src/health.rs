//! The health of one endpoint: how many requests to it may be in flight, and from when on.
//!
//! Decides how the rules that say so go together: [`crate::breaker`] (it fails),
//! [`crate::gate`] (it asked), [`crate::concurrency`] (how much it bears). The narrowest counts.
//! Leaves turns and the count of what is in flight to `turns` and `flow`, the rate limit, what a response
//! means and which answers are asks to others; it knows no endpoint, only results.
//!
//! What the caller keeps to:
//! - Time never goes back. `started_at` is the time that [`Health::started`] was given for that
//!   attempt.
//! - Each start has exactly one end: succeeded, failed, asked or not started. Attempts have a
//!   deadline of at most 60 s, so a probe that never reports holds up the next for no longer;
//!   one that was not sent is given back at once.
//! - At [`Permits::not_before`] it looks again; before, and unless an input comes, nothing
//!   changes by itself.

use std::time::Duration;

use postrider_domain::Timestamp;

use crate::breaker::{Breaker, BreakerState};
use crate::concurrency::{Concurrency, Failure};
use crate::gate::Gate;

/// An endpoint not heard of for this long is as good as a new one: what was learnt is out of date.
pub(crate) const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);

/// What may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Permits {
    /// Most requests in flight at once, those under way included; 0 = none may start.
    pub(crate) in_flight: u16,
    /// When that may be more than 0 again; `None` = now, or (with a cap of 0) not by itself.
    pub(crate) not_before: Option<Timestamp>,
}

/// What is known of one endpoint's health; at most 192 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    breaker: Breaker,
    gate: Gate,
    concurrency: Concurrency,
    /// The configured bound as of the last start.
    cap: u16,
    /// The last input.
    heard_at: Option<Timestamp>,
}

impl Health {
    /// Of an endpoint nothing is known of.
    pub(crate) fn new() -> Self {
        Self {
            breaker: Breaker::new(),
            gate: Gate::default(),
            concurrency: Concurrency::new(),
            cap: 1,
            heard_at: None,
        }
    }

    /// How many may be in flight, never more than `cap`, the endpoint's configured bound.
    ///
    /// Old attempts, which started before the breaker opened last, leave room for a probe within
    /// the cap; they count fully against the gate, as the receiver that asked has them still.
    pub(crate) fn permits(&self, now: Timestamp, cap: u16) -> Permits {
        let breaker = self.breaker.refuses_until(now);
        let not_before = breaker.max(self.gate.refuses_until(now));
        if not_before.is_some() {
            return Permits {
                in_flight: 0,
                not_before,
            };
        }
        let new = self.breaker.width().min(self.concurrency.limit());
        let all = self.breaker.old_in_flight().saturating_add(new);
        Permits {
            in_flight: all.min(self.gate.width()).min(cap),
            not_before: None,
        }
    }

    /// An attempt started, under this configured bound.
    pub(crate) const fn started(&mut self, now: Timestamp, cap: u16) {
        self.breaker.started();
        self.cap = cap;
        self.heard_at = Some(now);
    }

    /// It did not start after all: no request was made.
    pub(crate) fn not_started(&mut self, started_at: Timestamp) {
        self.breaker.ended(started_at);
    }

    /// It succeeded.
    pub(crate) fn succeeded(&mut self, now: Timestamp, started_at: Timestamp) {
        self.breaker.succeeded(now, started_at, self.cap);
        self.gate.succeeded(started_at, self.cap);
        self.concurrency.succeeded(started_at, self.cap);
        self.heard_at = Some(now);
    }

    /// It failed; `draw` in 0..1 places the time the breaker opens for, if it does, within its
    /// jitter.
    pub(crate) fn failed(
        &mut self,
        now: Timestamp,
        started_at: Timestamp,
        failure: Failure,
        draw: f64,
    ) {
        self.breaker.failed(now, started_at, draw);
        self.concurrency.failed(now, started_at, failure, self.cap);
        self.heard_at = Some(now);
    }

    /// The receiver asked to wait, until that time if it named one (clamped by the caller). That
    /// is neither a success nor a failure.
    pub(crate) fn asked(
        &mut self,
        now: Timestamp,
        started_at: Timestamp,
        until: Option<Timestamp>,
    ) {
        self.breaker.ended(started_at);
        self.gate.asked(now, started_at, until);
        self.heard_at = Some(now);
    }

    /// Whether new deliveries may take their turn; when not (breaker open, gate closed) none
    /// would come soon. Half open admits: what comes is the probe.
    pub(crate) fn is_admitting(&self, now: Timestamp) -> bool {
        self.breaker.refuses_until(now).is_none() && self.gate.refuses_until(now).is_none()
    }

    /// Whether it succeeded since its last timeout: it does not hang.
    pub(crate) const fn is_proven(&self) -> bool {
        self.concurrency.is_proven()
    }

    /// Whether it has neither succeeded, nor timed out, nor refused a connection yet.
    pub(crate) const fn is_untried(&self) -> bool {
        !self.is_proven() && !self.concurrency.has_failed()
    }

    /// What the breaker does, for metrics.
    pub(crate) fn state(&self, now: Timestamp) -> BreakerState {
        self.breaker.state(now)
    }

    /// Whether a new [`Health`] may take its place: nothing is in flight, no ask is open, and
    /// there was no input for [`FORGOTTEN_AFTER`].
    pub(crate) fn may_be_forgotten(&self, now: Timestamp) -> bool {
        let silent = self
            .heard_at
            .is_none_or(|heard| heard + FORGOTTEN_AFTER <= now);
        silent && self.breaker.is_idle() && self.gate.refuses_until(now).is_none()
    }
}

#[cfg(test)]
mod tests;
