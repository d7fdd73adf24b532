//! How many replays the worker sends at once.
//!
//! Decides that they have at most half of the worker's room, and less as soon as attempts are taken
//! up late: between the decision and that there is nothing but work for this machine, so it has more to
//! do than it can, and then replays are what waits. How much room that leaves is found out as on a
//! congested link (RFC 5681 §3.1, RFC 7661 §4.4): from a few on it grows by one with each replay that
//! ends, is halved when attempts are late, and grows by one with each eighth for a second after that;
//! only while more than half of it is used, and replays that come after a pause begin with a few again.
//! Leaves that replays come when nothing else may start to `worker/start`.

use std::time::Duration;

use postrider_domain::Timestamp;

/// Attempts that are taken up later than this after they were decided, on the average, wait for the
/// machine.
const LATE: Duration = Duration::from_micros(200);

/// The last so many make the average, about.
const AVERAGED: u32 = 8;

/// An attempt counts as late by this at most: one alone may be late for another reason.
const LATEST: Duration = Duration::from_millis(1);

/// After the room was halved it takes a while until it shows: what was decided before says nothing.
const PAUSE: Duration = Duration::from_millis(20);

/// Replays at once when nothing is known.
const FIRST: usize = 4;

/// After so long without a replay, or without attempts that are late, nothing is left of what was
/// known.
const KNOWN_FOR: Duration = Duration::from_secs(1);

/// Replays that end before there is room for one more, while it is known that attempts were late.
const WIDENED_AFTER: u8 = 8;

/// What is known of the room for replays.
#[derive(Debug)]
pub(crate) struct Spare {
    /// Requests of all kinds in flight beside which a replay starts.
    beside_max: usize,
    /// Replays that may be in flight.
    room: usize,
    in_flight: usize,
    /// When a replay started or ended last.
    used_at: Option<Timestamp>,
    /// How late attempts are taken up, on the average since the room was halved.
    lateness: Duration,
    halved_at: Option<Timestamp>,
    /// Replays that ended since the room was changed last.
    ended: u8,
}

impl Spare {
    /// Of a worker with room for so many requests in all.
    pub(crate) fn new(in_flight_max: usize) -> Self {
        let beside_max = in_flight_max / 2;
        Self {
            beside_max,
            room: FIRST.min(beside_max),
            in_flight: 0,
            used_at: None,
            lateness: Duration::ZERO,
            halved_at: None,
            ended: 0,
        }
    }

    /// Whether a replay may start beside so many requests of all kinds.
    pub(crate) const fn has_room(&self, in_flight: usize) -> bool {
        in_flight < self.beside_max && self.in_flight < self.room
    }

    /// A replay starts.
    pub(crate) fn replay_started(&mut self, now: Timestamp) {
        if self.in_flight == 0 && is_over(self.used_at, now) {
            let was_late = !is_over(self.halved_at, now);
            let most = if was_late { self.room } else { self.beside_max };
            self.room = FIRST.min(most);
        }
        self.used_at = Some(now);
        self.in_flight += 1;
    }

    /// A replay ended.
    pub(crate) fn replay_ended(&mut self, now: Timestamp) {
        let is_used = 2 * self.in_flight > self.room;
        self.in_flight = self.in_flight.checked_sub(1).expect("one end per replay");
        self.used_at = Some(now);
        if !is_used || self.is_unsettled(now) {
            return;
        }
        self.ended += 1;
        if self.ended >= WIDENED_AFTER || is_over(self.halved_at, now) {
            self.ended = 0;
            self.room = self.beside_max.min(self.room + 1);
        }
    }

    /// Whether the room was halved so short a time before that it does not show yet.
    fn is_unsettled(&self, at: Timestamp) -> bool {
        self.halved_at.is_some_and(|halved| at < halved + PAUSE)
    }

    /// An attempt of any kind was taken up so long after it was decided.
    pub(crate) fn taken_up(&mut self, now: Timestamp, decided_at: Timestamp, after: Duration) {
        if self.is_unsettled(decided_at) {
            return;
        }
        self.lateness -= self.lateness / AVERAGED;
        self.lateness += after.min(LATEST) / AVERAGED;
        if self.lateness > LATE {
            self.halved_at = Some(now);
            self.lateness = Duration::ZERO;
            self.ended = 0;
            // One alone gets through, however busy the machine is.
            self.room = self.beside_max.min((self.room / 2).max(1));
        }
    }
}

/// Whether nothing is left of what was known then.
fn is_over(at: Option<Timestamp>, now: Timestamp) -> bool {
    at.is_none_or(|at| at + KNOWN_FOR <= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two of these are late on the average, one alone is not.
    const SLOW: Duration = Duration::from_millis(1);
    /// As on a machine that has not much to do.
    const QUICK: Duration = Duration::from_micros(80);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    /// So many attempts that are taken up so late, one after the other.
    fn attempts(spare: &mut Spare, count: usize, millis: u64, after: Duration) {
        for _ in 0..count {
            spare.taken_up(at(millis), at(millis), after);
        }
    }

    /// As many replays as there is room for start, are taken up so late, and end a millisecond later.
    fn round(spare: &mut Spare, millis: u64, after: Duration) -> usize {
        let mut count = 0;
        while spare.has_room(count) {
            spare.replay_started(at(millis));
            count += 1;
        }
        for _ in 0..count {
            spare.taken_up(at(millis + 1), at(millis), after);
            spare.replay_ended(at(millis + 1));
        }
        count
    }

    fn rounds(spare: &mut Spare, first: u64, count: u64, after: Duration) -> Vec<usize> {
        (0..count)
            .map(|n| round(spare, first + 30 * n, after))
            .collect()
    }

    /// With all the room there is, used last at 331 ms.
    fn wide() -> Spare {
        let mut spare = Spare::new(100);
        rounds(&mut spare, 0, 12, QUICK);
        assert_eq!(spare.room, 50);
        spare
    }

    #[test]
    fn from_a_few_on_the_room_grows_with_its_use_up_to_half_of_the_workers() {
        let mut spare = Spare::new(100);
        let sizes = rounds(&mut spare, 0, 12, LATE);
        // in a round only what ends while more than half of it is used
        assert_eq!(sizes, [4, 6, 8, 11, 15, 20, 27, 36, 48, 50, 50, 50]);
    }

    #[test]
    fn half_of_the_room_is_for_all_that_is_in_flight() {
        let mut spare = wide();
        for _ in 0..10 {
            spare.replay_started(at(400));
        }
        assert!(spare.has_room(49) && !spare.has_room(50));
    }

    #[test]
    fn where_attempts_are_late_one_replay_at_a_time_goes() {
        let mut spare = wide();
        let sizes = rounds(&mut spare, 400, 20, SLOW);
        assert_eq!(sizes[19], 1, "{sizes:?}");
    }

    #[test]
    fn what_is_late_together_counts_once() {
        let mut spare = wide();
        attempts(&mut spare, 100, 400, SLOW);
        assert_eq!(spare.room, 25);
        attempts(&mut spare, 100, 419, SLOW);
        assert_eq!(spare.room, 25, "decided before it could show");
        attempts(&mut spare, 100, 420, SLOW);
        assert_eq!(spare.room, 12, "late still");
    }

    #[test]
    fn nothing_grows_before_it_shows_that_the_room_was_halved() {
        let mut spare = wide();
        attempts(&mut spare, 100, 400, SLOW);
        for n in 1..19 {
            assert_eq!(round(&mut spare, 400 + n, QUICK), 25);
        }
        round(&mut spare, 419, QUICK);
        assert!(round(&mut spare, 420, QUICK) > 25);
    }

    #[test]
    fn what_was_decided_before_the_room_was_halved_says_nothing_however_late_it_is_told() {
        let mut spare = wide();
        attempts(&mut spare, 100, 400, SLOW);
        for second in 1..10 {
            let now = at(1_000 * second);
            (0..100).for_each(|_| spare.taken_up(now, at(399), SLOW));
        }
        assert_eq!(spare.room, 25);
    }

    #[test]
    fn one_alone_that_is_late_says_nothing_however_late_it_is() {
        let mut spare = wide();
        for n in 0..100 {
            attempts(&mut spare, 1, 4_000 * n, Duration::from_secs(3_600));
            for m in 1..40 {
                attempts(&mut spare, 1, 4_000 * n + 50 * m, QUICK);
            }
        }
        assert_eq!(spare.room, 50);
        attempts(&mut spare, 2, 500_000, Duration::from_secs(3_600));
        assert_eq!(spare.room, 25, "two in a row do");
    }

    #[test]
    fn what_is_late_halves_once_however_long_it_takes_to_be_forgotten() {
        let mut spare = wide();
        attempts(&mut spare, 2, 400, Duration::from_secs(3_600));
        for n in 1..100 {
            attempts(&mut spare, 1, 400 + 50 * n, QUICK);
        }
        assert_eq!(spare.room, 25);
    }

    #[test]
    fn after_late_attempts_the_room_comes_back_little_by_little() {
        let mut spare = wide();
        attempts(&mut spare, 10, 400, SLOW);
        attempts(&mut spare, 500, 430, QUICK);
        assert_eq!(spare.room, 25, "replays that do not come need none");
        let sizes = rounds(&mut spare, 460, 9, QUICK);
        assert_eq!(sizes, [25, 26, 28, 29, 31, 33, 35, 37, 39]);
        let sizes = rounds(&mut spare, 1_400, 2, QUICK);
        assert_eq!(sizes, [42, 50], "a second later it doubles again");
    }

    #[test]
    fn after_a_pause_replays_begin_with_a_few() {
        let mut spare = wide();
        assert_eq!(round(&mut spare, 1_330, QUICK), 50);
        assert_eq!(round(&mut spare, 2_331, QUICK), 4);
    }

    #[test]
    fn replays_that_take_longer_than_a_pause_are_none() {
        let mut spare = wide();
        for _ in 0..49 {
            spare.replay_started(at(400));
        }
        spare.replay_started(at(5_000));
        for _ in 0..50 {
            spare.replay_ended(at(10_400));
        }
        assert_eq!(round(&mut spare, 10_401, QUICK), 50);
    }

    #[test]
    fn after_a_pause_nothing_is_left_of_what_was_late_long_ago() {
        let mut spare = wide();
        rounds(&mut spare, 400, 20, SLOW);
        assert_eq!(spare.room, 1);
        let sizes = rounds(&mut spare, 5_000, 3, QUICK);
        assert_eq!(sizes, [4, 6, 8]);
        // while attempts are late there is less
        attempts(&mut spare, 10, 8_000, SLOW);
        attempts(&mut spare, 10, 8_100, SLOW);
        let left = spare.room;
        assert!(left < FIRST);
        assert_eq!(round(&mut spare, 8_101, QUICK), left);
    }

    #[test]
    fn one_late_moment_in_a_while_leaves_more_than_one_replay_to_slow_receivers() {
        let mut spare = wide();
        let mut most = 0;
        for n in 1..100 {
            let began = 10_000 * n;
            while spare.has_room(0) {
                spare.replay_started(at(began));
            }
            if n % 3 == 0 {
                attempts(&mut spare, 2, began + 5_000, SLOW);
            }
            most = 0;
            while spare.in_flight > 0 {
                spare.replay_ended(at(began + 9_999));
                most += 1;
            }
        }
        assert!(most >= 25, "{most}");
    }

    #[test]
    fn a_worker_with_room_for_one_request_has_none_for_replays() {
        let mut spare = Spare::new(1);
        assert!(!spare.has_room(0));
        attempts(&mut spare, 10, 0, SLOW);
        assert!(!spare.has_room(0));
    }
}
