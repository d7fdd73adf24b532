//! How many replays the worker sends at once.
//!
//! Decides that they have at most half of the worker's room, and less as soon as attempts start late:
//! between the decision and the request there is nothing but work for this machine, so late starts
//! mean that it has more to do than it can, and then replays are what waits. How much room that leaves
//! is found out as on a congested link (RFC 5681 §3.1, RFC 7661 §4.4): from a few on it doubles until
//! starts are late, is halved then, and from where it was halved it grows little by little; only what is
//! used grows, and replays that come after a pause begin with a few again. Leaves that replays come
//! when nothing else may start to `worker/start`.

use std::time::Duration;

use postrider_domain::Timestamp;

/// Attempts that start later than this after they were decided, on the average, wait for the machine.
const LATE: Duration = Duration::from_micros(250);

/// The last so many make the average, about: one alone may be late for another reason.
const AVERAGED: u32 = 8;

/// An attempt counts as late by this at most.
const LATEST: Duration = Duration::from_millis(10);

/// The room is halved once in this time: attempts that were decided together are late together.
const PAUSE: Duration = Duration::from_millis(20);

/// Replays at once when nothing is known.
const FIRST: usize = 4;

/// After so long without a replay nothing is known.
const UNUSED: Duration = Duration::from_secs(1);

/// Replays in time after which there is room for one more, where starts were late before.
const WIDENED_AFTER: u8 = 8;

/// What is known of the room for replays.
#[derive(Debug)]
pub(crate) struct Spare {
    /// Requests of all kinds in flight beside which a replay starts.
    beside_max: usize,
    /// Replays that may be in flight.
    room: usize,
    /// Up to this many it doubles.
    doubles_to: usize,
    in_flight: usize,
    used_at: Option<Timestamp>,
    /// How late attempts start, on the average.
    lateness: Duration,
    halved_at: Option<Timestamp>,
    /// Since the room was widened last.
    in_time: u8,
}

impl Spare {
    /// Of a worker with room for so many requests in all.
    pub(crate) fn new(in_flight_max: usize) -> Self {
        let beside_max = in_flight_max / 2;
        Self {
            beside_max,
            room: FIRST.min(beside_max),
            doubles_to: beside_max,
            in_flight: 0,
            used_at: None,
            lateness: Duration::ZERO,
            halved_at: None,
            in_time: 0,
        }
    }

    /// Whether a replay may start beside so many requests of all kinds.
    pub(crate) const fn has_room(&self, in_flight: usize) -> bool {
        in_flight < self.beside_max && self.in_flight < self.room
    }

    /// A replay starts.
    pub(crate) fn replay_started(&mut self, now: Timestamp) {
        if self.in_flight == 0 && self.used_at.is_none_or(|at| at + UNUSED <= now) {
            self.room = self.room.min(FIRST);
        }
        self.used_at = Some(now);
        self.in_flight += 1;
    }

    /// An attempt ended that had started so long after it was decided.
    pub(crate) fn ended(&mut self, now: Timestamp, after: Duration, replay: bool) {
        let is_used = 2 * self.in_flight > self.room;
        if replay {
            self.in_flight = self.in_flight.checked_sub(1).expect("one end per replay");
        }
        self.lateness -= self.lateness / AVERAGED;
        self.lateness += after.min(LATEST) / AVERAGED;
        if self.lateness > LATE {
            self.narrow(now);
        } else if replay && is_used {
            self.widen();
        }
    }

    fn narrow(&mut self, now: Timestamp) {
        self.in_time = 0;
        if self.halved_at.is_none_or(|at| at + PAUSE <= now) {
            self.halved_at = Some(now);
            // One alone gets through, however busy the machine is.
            self.room = self.beside_max.min((self.room / 2).max(1));
            self.doubles_to = self.room;
        }
    }

    fn widen(&mut self) {
        self.in_time += 1;
        if self.room < self.doubles_to || self.in_time >= WIDENED_AFTER {
            self.in_time = 0;
            self.room = self.beside_max.min(self.room + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many of these in a row are late on the average, one alone is not.
    const SLOW: Duration = Duration::from_micros(1_500);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    /// As many replays as there is room for start and end, all of them so late.
    fn round(spare: &mut Spare, now: Timestamp, after: Duration) -> usize {
        let mut count = 0;
        while spare.has_room(count) {
            spare.replay_started(now);
            count += 1;
        }
        for _ in 0..count {
            spare.ended(now, after, true);
        }
        count
    }

    #[test]
    fn from_a_few_on_the_room_grows_with_its_use_up_to_half_of_the_workers() {
        let mut spare = Spare::new(100);
        let rounds: Vec<usize> = (0..9)
            .map(|n| round(&mut spare, at(100 * n), LATE))
            .collect();
        // in a round only what ends while more than half of it is used
        assert_eq!(rounds, [4, 6, 8, 11, 15, 20, 27, 36, 48]);
        for n in 9..12 {
            assert_eq!(round(&mut spare, at(100 * n), LATE), 50);
        }
    }

    #[test]
    fn half_of_the_room_is_for_all_that_is_in_flight() {
        let spare = Spare::new(100);
        assert!(spare.has_room(49) && !spare.has_room(50));
    }

    #[test]
    fn where_attempts_start_late_one_replay_at_a_time_goes() {
        let mut spare = Spare::new(100);
        for n in 0..100 {
            spare.ended(at(n), SLOW, false);
        }
        assert_eq!(round(&mut spare, at(100), SLOW), 1);
    }

    #[test]
    fn what_is_late_together_counts_once() {
        let mut spare = wide();
        for n in 0..20 {
            spare.ended(at(900 + n), SLOW, false);
        }
        assert_eq!(spare.room, 25);
        spare.ended(at(922), SLOW, false);
        assert_eq!(spare.room, 12, "it is late still");
    }

    #[test]
    fn one_alone_that_is_late_says_nothing() {
        let mut spare = wide();
        spare.ended(at(900), SLOW, false);
        assert_eq!(spare.room, 50);
    }

    #[test]
    fn one_alone_says_nothing_however_late_it_is_unless_it_is_very_late() {
        let mut spare = wide();
        spare.ended(at(900), Duration::from_secs(3600), false);
        assert_eq!(spare.room, 25);
        // and it is soon forgotten
        for _ in 0..24 {
            spare.ended(at(901), Duration::ZERO, false);
        }
        assert!(spare.lateness <= LATE);
    }

    #[test]
    fn after_late_starts_the_room_comes_back_little_by_little() {
        let mut spare = wide();
        while spare.room == 50 {
            spare.ended(at(900), SLOW, false);
        }
        for _ in 0..50 {
            spare.ended(at(900), Duration::ZERO, false);
        }
        assert_eq!(spare.room, 25, "replays that do not come need none");
        let rounds: Vec<usize> = (0..9)
            .map(|n| round(&mut spare, at(910 + n), Duration::ZERO))
            .collect();
        assert!(rounds.is_sorted() && rounds[0] == 25, "{rounds:?}");
        assert!((26..=40).contains(&rounds[8]), "{rounds:?}");
    }

    #[test]
    fn after_a_pause_replays_begin_with_a_few() {
        let mut spare = wide();
        assert_eq!(round(&mut spare, at(1_400), Duration::ZERO), 50);
        assert_eq!(round(&mut spare, at(2_400), Duration::ZERO), 4);
    }

    #[test]
    fn a_worker_with_room_for_one_request_has_none_for_replays() {
        let mut spare = Spare::new(1);
        assert!(!spare.has_room(0));
        spare.ended(at(0), SLOW, false);
        assert!(!spare.has_room(0));
    }

    /// With all the room there is, used last at 500 ms.
    fn wide() -> Spare {
        let mut spare = Spare::new(100);
        for n in 0..11 {
            round(&mut spare, at(50 * n), Duration::ZERO);
        }
        assert_eq!(spare.room, 50);
        spare
    }
}
