//! How many attempts of an endpoint may start when: its rate limit, promise P4.
//!
//! Decides that at most [`RateLimit::attempts`] attempts start in any interval of the length
//! [`RateLimit::per`], whoever owns the slice; an interval is half open, so starts at t and at
//! t + `per` may both be. With `smooth` they are also spaced `per / attempts` apart.
//!
//! - **Real starts.** The engine decides at a time `now`, the request starts up to [`START_GRACE`]
//!   later or not at all ([`Limiter::give_back`]). Each start counts as if it came at the end of
//!   its grace, and the next is decided by `now`, so real starts are never closer than they count.
//! - **Clean hand-over.** [`Limiter::memory`] moves to the successor: nothing is lost or gained.
//! - **Crash.** Where the interval is longer than [`RESERVED_ABOVE`], attempts start only out of a
//!   reservation that is already written. A successor counts all of the last one written as
//!   started: what was unused of it is lost to the endpoint, the limit holds. Shorter intervals
//!   pass in the silence between a crashed owner's last attempt and its successor's first.
//!
//! Clocks of workers must agree: the limit is off by as much as they differ at a move.
//!
//! Leaves to others: which delivery gets the start, how memory is written, and that a write which
//! replaces a reservation carries it along ([`Limiter::snapshot`]).

mod window;

#[cfg(test)]
mod tests;

use std::time::Duration;

use postrider_domain::{LimiterMemory, RateLimit, Reserved, Timestamp};

use window::Window;

/// An attempt starts at most this long after the engine decided it, or not at all.
pub(crate) const START_GRACE: Duration = Duration::from_millis(25);

/// Longer intervals need reservations. A crashed owner is silent for at least this long, and
/// [`START_GRACE`], before its successor starts an attempt.
pub(crate) const RESERVED_ABOVE: Duration = Duration::from_secs(2);

/// A reservation is this part of the limit: what a crash loses, against the number of writes.
const QUANTA: u32 = 64;

/// A reservation holds for this part of the interval, and not less than [`RESERVED_MIN`].
const RESERVED_PART: u32 = 32;

/// Long enough for a slow acknowledgement. Longer costs nothing but a few unused attempts, which
/// a crash loses anyway, counted a little later.
const RESERVED_MIN: Duration = Duration::from_secs(5);

/// With `smooth`: a start that comes this late does not delay those after it, or the lateness of
/// each would add up; at 10 000 per second it is many times the space between two.
const LATE_MAX: Duration = Duration::from_millis(1);

/// Why an attempt may not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The limit is used up until then; earlier only after [`Limiter::give_back`] or
    /// [`Limiter::change`].
    Until(Timestamp),
    /// A reservation is needed first: write what [`Limiter::reserve`] gives.
    Unreserved,
    /// A reservation was asked for and is not acknowledged yet.
    Awaited,
}

/// The starts of one endpoint against its limit.
///
/// Times must not go back from call to call. Each start costs constant time, amortised, and
/// allocates nothing once the window has been full; memory is bounded, whatever the limit.
///
/// ```text
/// start ─► Ok
///       ─► Until(at): again at that time
///       ─► Unreserved: reserve ─► write ─► acknowledged: reserved, start again
///                                       └► failed: the same write again, or reserve again
/// ```
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: RateLimit,
    window: Window,
    /// With `smooth`: no start before it.
    next: Timestamp,
    reservation: Reservation,
}

/// What of the last reservation is left.
#[derive(Clone, Copy, Debug)]
enum Reservation {
    None,
    Asked(Reserved),
    Written(Reserved),
}

impl Limiter {
    /// Of an endpoint nothing is remembered of: the whole limit is free.
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            window: Window::new(&limit),
            next: Timestamp::default(),
            reservation: Reservation::None,
        }
    }

    /// As a predecessor left it, which starts nothing after `now`: its starts go on counting, and
    /// all that it had reserved counts as started.
    pub(crate) fn restored(limit: RateLimit, memory: &LimiterMemory, now: Timestamp) -> Self {
        let mut limiter = Self::new(limit);
        // Nothing started after now: a predecessor's fast clock must not close the limit for long.
        let latest = now + START_GRACE;
        let reserved = memory.reserved.iter();
        let reserved = reserved.map(|rest| (rest.until + START_GRACE, rest.attempts));
        for (at, count) in memory.starts.iter().copied().chain(reserved) {
            limiter.window.push(at.min(latest), count);
            limiter.window.expire(now);
        }
        limiter.next = limiter.spaced_from_last();
        limiter
    }

    /// From now on another limit.
    ///
    /// Starts so far go on counting, as far as they still counted: a longer interval does not
    /// bring back those the shorter one had let go. So a limit holds in every interval that
    /// begins after it came ([`START_GRACE`] after, as starts may be under way).
    pub(crate) fn change(&mut self, limit: RateLimit) {
        if limit == self.limit {
            return;
        }
        self.limit = limit;
        self.window.resize(&limit);
        self.next = self.spaced_from_last();
        if !self.reserves() {
            self.reservation = Reservation::None;
        }
    }

    /// Counts an attempt that starts between `now` and `now` + [`START_GRACE`].
    pub(crate) fn start(&mut self, now: Timestamp) -> Result<(), Refusal> {
        self.window.expire(now);
        if let Some(at) = self.closed_until(now) {
            return Err(Refusal::Until(at));
        }
        if self.reserves() {
            match &mut self.reservation {
                Reservation::Written(left) if left.attempts > 0 && now <= left.until => {
                    left.attempts -= 1;
                }
                Reservation::Asked(_) => return Err(Refusal::Awaited),
                Reservation::Written(_) | Reservation::None => return Err(Refusal::Unreserved),
            }
        }
        self.window.push(now + START_GRACE, 1);
        if self.limit.smooth {
            self.next = self.next.max(now - LATE_MAX) + self.spacing();
        }
        Ok(())
    }

    /// An attempt did not start after all; `decided` is the `now` of its [`Self::start`].
    ///
    /// It must be that one: another's place, given back for it, could be free too early. What it
    /// took of a reservation stays taken.
    pub(crate) fn give_back(&mut self, decided: Timestamp) {
        let at = decided + START_GRACE;
        let was_last = self.window.last() == Some(at);
        self.window.remove(at);
        if was_last && self.limit.smooth {
            self.next = self.next - self.spacing();
        }
    }

    /// Asks for a reservation: what must be written, and acknowledged ([`Self::reserved`]), before
    /// attempts start. Until then none does. It replaces the former, whose rest is free again.
    ///
    /// `None` when none is needed, or none could be used before the time that [`Self::start`]
    /// names. May be repeated when a write failed; then only the last counts.
    pub(crate) fn reserve(&mut self, now: Timestamp) -> Option<LimiterMemory> {
        self.window.expire(now);
        if !self.reserves() || self.closed_until(now).is_some() {
            // Nobody waits for the one that was asked for before.
            self.reservation = match self.reservation {
                Reservation::Asked(_) => Reservation::None,
                other => other,
            };
            return None;
        }
        self.reservation = Reservation::Asked(Reserved {
            attempts: self.limit.attempts.div_ceil(QUANTA),
            until: now + (self.limit.per / RESERVED_PART).max(RESERVED_MIN),
        });
        self.snapshot(now)
    }

    /// The last reservation asked for is written.
    pub(crate) fn reserved(&mut self) {
        if let Reservation::Asked(reserved) = self.reservation {
            self.reservation = Reservation::Written(reserved);
        }
    }

    /// What a successor must know when nothing starts here any more; `None` = nothing counts.
    pub(crate) fn memory(&self, now: Timestamp) -> Option<LimiterMemory> {
        self.remembered(now, None)
    }

    /// What a successor must know while attempts may go on starting here: for a record that is
    /// written for another reason and replaces the one with the reservation; `None` = nothing
    /// counts and nothing is reserved.
    pub(crate) fn snapshot(&self, now: Timestamp) -> Option<LimiterMemory> {
        self.remembered(now, self.usable(now))
    }

    /// Whether nothing counts and nothing is reserved, so that it may be forgotten.
    pub(crate) fn is_idle(&self, now: Timestamp) -> bool {
        self.window.counting(now).next().is_none() && self.usable(now).is_none()
    }

    fn remembered(&self, now: Timestamp, reserved: Option<Reserved>) -> Option<LimiterMemory> {
        let starts: Vec<_> = self.window.counting(now).collect();
        (!starts.is_empty() || reserved.is_some()).then_some(LimiterMemory { starts, reserved })
    }

    /// What may still start out of the reservation, acknowledged or about to be.
    fn usable(&self, now: Timestamp) -> Option<Reserved> {
        match self.reservation {
            Reservation::Asked(left) | Reservation::Written(left) => {
                (left.attempts > 0 && now <= left.until).then_some(left)
            }
            Reservation::None => None,
        }
    }

    fn reserves(&self) -> bool {
        self.limit.per > RESERVED_ABOVE
    }

    /// When the next attempt may start, if that is later than now. The window has been brought up
    /// to now.
    fn closed_until(&self, now: Timestamp) -> Option<Timestamp> {
        let free = self.window.free_at(self.limit.attempts);
        free.max(Some(self.next)).filter(|at| *at > now)
    }

    /// Rounded up to whole microseconds: nearer is never allowed.
    fn spacing(&self) -> Duration {
        let per = u64::try_from(self.limit.per.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(per.div_ceil(u64::from(self.limit.attempts)))
    }

    fn spaced_from_last(&self) -> Timestamp {
        match self.window.last() {
            Some(at) if self.limit.smooth => at - START_GRACE + self.spacing(),
            _ => Timestamp::default(),
        }
    }
}
