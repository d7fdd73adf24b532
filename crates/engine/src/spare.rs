//! How much of the worker's room replays may use.
//!
//! Decides that they get at most half of it, and less as soon as attempts start late: between the
//! decision and the request there is nothing but work for this machine, so a late start means that
//! it has more to do than it can, and then replays are what waits. As with a congested link, the
//! room is halved at once and widened one by one (AIMD, RFC 5681 §3.1). Leaves that replays come
//! when nothing else may start to `worker/start`.

use std::time::Duration;

use postrider_domain::Timestamp;

/// An attempt that starts later than this after it was decided waited for the machine.
const LATE: Duration = Duration::from_millis(2);

/// The room is halved once in this time: attempts that were decided together are late together.
const PAUSE: Duration = Duration::from_millis(20);

/// Attempts in time after which there is room for one more.
const WIDENED_AFTER: u8 = 8;

/// Requests that may be in flight for a replay to start.
#[derive(Debug)]
pub(crate) struct Spare {
    max: usize,
    room: usize,
    /// Since the room was changed last.
    in_time: u8,
    halved_at: Option<Timestamp>,
}

impl Spare {
    /// Of a worker with room for so many requests in all.
    pub(crate) const fn new(in_flight_max: usize) -> Self {
        let max = in_flight_max / 2;
        Self {
            max,
            room: max,
            in_time: 0,
            halved_at: None,
        }
    }

    /// Whether a replay may start beside so many in flight.
    pub(crate) const fn has_room(&self, in_flight: usize) -> bool {
        in_flight < self.room
    }

    /// An attempt started so long after it was decided.
    pub(crate) fn started(&mut self, now: Timestamp, after: Duration) {
        if after <= LATE {
            self.in_time += 1;
            if self.in_time >= WIDENED_AFTER {
                self.in_time = 0;
                self.room = self.max.min(self.room + 1);
            }
            return;
        }
        self.in_time = 0;
        if self.halved_at.is_none_or(|at| at + PAUSE <= now) {
            self.halved_at = Some(now);
            // One alone gets through, however busy the machine is.
            self.room = self.max.min((self.room / 2).max(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_millis(3);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn replays_have_half_of_the_room_while_attempts_start_in_time() {
        let mut spare = Spare::new(100);
        for n in 0..1_000 {
            spare.started(at(n), LATE);
        }
        assert!(spare.has_room(49) && !spare.has_room(50));
    }

    #[test]
    fn where_attempts_start_late_there_is_room_for_one() {
        let mut spare = Spare::new(100);
        for n in 0..6 {
            spare.started(at(20 * n), SLOW);
        }
        assert!(spare.has_room(0) && !spare.has_room(1));
    }

    #[test]
    fn what_is_late_together_counts_once() {
        let mut spare = Spare::new(100);
        for n in 0..20 {
            spare.started(at(n), SLOW);
        }
        assert!(spare.has_room(24) && !spare.has_room(25));
        spare.started(at(20), SLOW);
        assert!(!spare.has_room(24), "it is late still");
    }

    #[test]
    fn the_room_comes_back_little_by_little() {
        let mut spare = Spare::new(100);
        spare.started(at(0), SLOW);
        for n in 0..u64::from(WIDENED_AFTER) {
            assert!(!spare.has_room(25));
            spare.started(at(n), Duration::ZERO);
        }
        assert!(spare.has_room(25) && !spare.has_room(26));
    }

    #[test]
    fn a_worker_with_room_for_one_request_has_none_for_replays() {
        let mut spare = Spare::new(1);
        assert!(!spare.has_room(0));
        spare.started(at(0), SLOW);
        assert!(!spare.has_room(0));
    }
}
