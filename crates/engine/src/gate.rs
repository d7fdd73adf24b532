//! "The receiver asked": no request starts before the time it named.
//!
//! Decides until when an ask (429, or 503 with `Retry-After`, RFC 9110 §10.2.3) keeps an endpoint
//! closed, how long a 429 that names no time does, and that the endpoint comes back with one
//! request in flight and a [`Ramp`]. An ask is no failure: it is kept apart from
//! [`crate::breaker`]. Leaves reading and clamping the time to its caller.
//!
//! Which ask counts: the latest end wins, whoever brings it. What started at or before the last
//! closing belongs to the round that was asked to wait already: its success opens nothing and is
//! no step of the ramp, its 429 without a time adds nothing.

use std::time::Duration;

use postrider_domain::Timestamp;

use crate::concurrency::Ramp;

/// First wait after a 429 that names no time.
pub(crate) const WAIT_FIRST: Duration = Duration::from_secs(1);

/// Longest such wait; they double while nothing succeeds between them.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

/// What the receiver asked for; by default nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    closing: Option<Closing>,
}

#[derive(Clone, Debug)]
struct Closing {
    /// When it was asked for last.
    at: Timestamp,
    until: Timestamp,
    /// Goes on once `until` is reached.
    ramp: Ramp,
    /// The wait after the next 429 that names no time.
    next_wait: Duration,
}

impl Gate {
    /// Until when nothing may start; `None` = the gate is open.
    pub(crate) fn refuses_until(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.closing.as_ref()?.until;
        (now < until).then_some(until)
    }

    /// Most requests in flight while the gate is open, those counted that started before it
    /// closed: the receiver has them still.
    pub(crate) fn width(&self) -> u16 {
        let ramp = self.closing.as_ref().map(|closing| closing.ramp);
        ramp.map_or(u16::MAX, |ramp| ramp.width())
    }

    /// An attempt was answered by an ask. `until` is the time it names; a time that is not ahead
    /// is as good as none, so that `Retry-After: 0` makes no busy loop.
    pub(crate) fn asked(
        &mut self,
        now: Timestamp,
        started_at: Timestamp,
        until: Option<Timestamp>,
    ) {
        let known = self.knows(started_at);
        let (before, next_wait) = self.closing.as_ref().map_or((now, WAIT_FIRST), |closing| {
            (closing.until, closing.next_wait)
        });
        let (until, next_wait) = match until.filter(|until| *until > now) {
            Some(until) => (until, next_wait),
            None if known => return,
            None => (now + next_wait, (next_wait * 2).min(WAIT_MAX)),
        };
        self.closing = Some(Closing {
            at: now,
            until: until.max(before),
            ramp: Ramp::new(),
            next_wait,
        });
    }

    /// An attempt succeeded; `cap` is the configured bound.
    pub(crate) fn succeeded(&mut self, started_at: Timestamp, cap: u16) {
        if self.knows(started_at) {
            return;
        }
        if let Some(closing) = &mut self.closing {
            closing.next_wait = WAIT_FIRST;
            if closing.ramp.succeeded(cap) {
                self.closing = None;
            }
        }
    }

    /// Whether an attempt belongs to the round that was asked to wait.
    fn knows(&self, started_at: Timestamp) -> bool {
        self.closing
            .as_ref()
            .is_some_and(|closing| started_at <= closing.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: u16 = 4;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn asked(now: u64, started_at: u64, until: u64) -> Gate {
        let mut gate = Gate::default();
        gate.asked(at(now), at(started_at), Some(at(until)));
        gate
    }

    #[test]
    fn nothing_starts_before_the_time_it_named() {
        let gate = asked(10, 9, 40);
        assert_eq!(gate.refuses_until(at(39)), Some(at(40)));
        assert_eq!(gate.refuses_until(at(40)), None);
    }

    #[test]
    fn the_latest_end_wins() {
        let mut gate = asked(10, 9, 40);
        gate.asked(at(11), at(9), Some(at(30)));
        assert_eq!(gate.refuses_until(at(12)), Some(at(40)));
        gate.asked(at(12), at(9), Some(at(50)));
        assert_eq!(gate.refuses_until(at(12)), Some(at(50)));
        gate.asked(at(13), at(9), None);
        assert_eq!(gate.refuses_until(at(13)), Some(at(50)));
    }

    #[test]
    fn a_success_from_before_does_not_open_it() {
        let mut gate = asked(10, 9, 40);
        for _ in 0..100 {
            gate.succeeded(at(9), CAP);
            gate.succeeded(at(10), CAP);
        }
        assert_eq!(gate.refuses_until(at(11)), Some(at(40)));
        assert_eq!(gate.width(), 1, "nor is it a step of the ramp");
    }

    #[test]
    fn it_comes_back_with_one_in_flight_and_ramps() {
        let mut gate = asked(10, 9, 40);
        assert_eq!(gate.width(), 1);
        gate.succeeded(at(40), CAP);
        assert_eq!(gate.width(), 2);
        gate.succeeded(at(41), CAP);
        assert_eq!(gate.width(), 2);
        gate.succeeded(at(41), CAP);
        assert_eq!(gate.width(), u16::MAX, "complete");
    }

    #[test]
    fn an_ask_in_the_ramp_starts_it_anew() {
        let mut gate = asked(10, 9, 40);
        gate.succeeded(at(40), CAP);
        gate.asked(at(42), at(41), Some(at(50)));
        assert_eq!(gate.refuses_until(at(42)), Some(at(50)));
        assert_eq!(gate.width(), 1);
    }

    #[test]
    fn a_late_ask_of_the_old_round_closes_it_again_if_it_names_a_time() {
        let mut gate = asked(10, 9, 40);
        gate.succeeded(at(40), CAP);
        gate.asked(at(45), at(9), None);
        assert_eq!(gate.refuses_until(at(45)), None);
        assert_eq!(gate.width(), 2);
        gate.asked(at(45), at(9), Some(at(60)));
        assert_eq!(gate.refuses_until(at(45)), Some(at(60)));
    }

    #[test]
    fn asks_that_name_no_time_wait_longer_and_longer() {
        let mut gate = Gate::default();
        let mut now = at(10);
        let mut waits = Vec::new();
        for _ in 0..8 {
            gate.asked(now, now, None);
            let until = gate.refuses_until(now).unwrap();
            waits.push(until.since(now).as_secs());
            now = until;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        gate.succeeded(now, CAP);
        gate.asked(now, now, None);
        assert_eq!(
            gate.refuses_until(now),
            Some(now + WAIT_FIRST),
            "a success between them ends the row"
        );
    }

    #[test]
    fn asks_of_one_round_that_name_no_time_count_once() {
        let mut gate = Gate::default();
        for _ in 0..16 {
            gate.asked(at(10), at(9), None);
        }
        assert_eq!(gate.refuses_until(at(10)), Some(at(11)));
        gate.asked(at(12), at(11), None);
        assert_eq!(gate.refuses_until(at(12)), Some(at(14)));
    }

    #[test]
    fn a_time_that_is_not_ahead_is_as_good_as_none() {
        for until in [0, 9, 10] {
            let gate = asked(10, 9, until);
            assert_eq!(gate.refuses_until(at(10)), Some(at(11)));
        }
    }
}
