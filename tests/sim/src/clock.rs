//! True time, and the clocks that differ from it.
//!
//! Decides how a worker's clock shows true time: an offset and a rate, fixed for the life of a
//! process, so that its time never goes back (the dispatcher reads the wall clock once and then
//! counts on the monotonic clock).

use postrider_domain::Timestamp;

/// True time in microseconds since the Unix epoch. What a clock shows is a [`Timestamp`], so that
/// the two are not mixed up.
pub(crate) type Micros = u64;

/// A second.
pub(crate) const MICROS: Micros = 1_000_000;
/// A minute.
pub(crate) const MINUTE: Micros = 60 * MICROS;
/// An hour.
pub(crate) const HOUR: Micros = 60 * MINUTE;
/// When every run begins.
pub(crate) const BEGIN: Micros = 1_700_000_000 * MICROS;

/// A clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// What it is ahead of true time at [`BEGIN`].
    offset: i64,
    /// How much faster it runs, in millionths.
    rate: i64,
}

impl Clock {
    /// A clock that differs by at most so much, either way.
    pub(crate) fn drawn(rng: &mut fastrand::Rng, offset_max: Micros, rate_max: u32) -> Self {
        let (offset_max, rate_max) = (offset_max as i64, i64::from(rate_max));
        Self {
            offset: rng.i64(-offset_max..=offset_max),
            rate: rng.i64(-rate_max..=rate_max),
        }
    }

    /// What it shows.
    pub(crate) const fn shows(self, at: Micros) -> Timestamp {
        let elapsed = (at - BEGIN) as i64;
        let shown = at as i64 + self.offset + elapsed / 1_000 * self.rate / 1_000;
        Timestamp::from_micros(shown as u64)
    }

    /// The first true time, from `now` on, at which it shows `time` or later.
    pub(crate) fn reaches(self, time: Timestamp, now: Micros) -> Micros {
        if self.shows(now) >= time {
            return now;
        }
        if time == Timestamp::MAX {
            return Micros::MAX;
        }
        // Rates are below a thousandth, so the answer is within that of the distance.
        let distance = time.as_micros() - self.shows(now).as_micros();
        let (mut before, mut at) = (now, now + distance + distance / 1_000 + MICROS);
        while at - before > 1 {
            let middle = before + (at - before) / 2;
            if self.shows(middle) < time {
                before = middle;
            } else {
                at = middle;
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_asked_for_the_first_time_it_shows_something() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..2_000 {
            let clock = Clock::drawn(&mut rng, 30 * MICROS, 100);
            let now = BEGIN + rng.u64(..HOUR * 24 * 30);
            let time = Timestamp::from_micros(clock.shows(now).as_micros() + rng.u64(1..HOUR * 30));
            let at = clock.reaches(time, now);
            assert!(clock.shows(at) >= time && clock.shows(at - 1) < time);
        }
    }
}
