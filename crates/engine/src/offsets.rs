//! Which offsets of one partition are settled.
//!
//! Decides the frontier (everything below it is settled), what a record that is read means (new,
//! settled before, vanished), and when no more may be read. Leaves the form in which this is
//! committed to [`crate::commit_map`], and what settles a record to its caller.
//!
//! Offsets have gaps (transaction markers, compaction, aborted batches), so nothing here ever
//! assumes that the next record is at offset + 1: the next record read tells which offsets between
//! do not exist.

use std::collections::BTreeSet;

use crate::commit_map::CommitMap;

/// Most incomplete offsets of a partition; at this bound reading stops.
pub const HOLES_MAX: usize = 1_000;

/// Largest distance from the frontier to the position; at this bound reading stops.
pub const SPAN_MAX: i64 = 1 << 20;

/// Progress in one partition under completions out of order.
///
/// Rules, each held by a property test against a naive model:
/// - the frontier never passes an incomplete offset and never falls;
/// - at most [`HOLES_MAX`] offsets are incomplete, over a span of at most [`SPAN_MAX`];
/// - a tracker restored from a commit takes exactly the offsets that were incomplete, and
///   everything from the position on, for new.
#[derive(Clone, Debug)]
pub struct OffsetTracker {
    /// One past the highest offset that is accounted for; `None` = nothing was ever read or
    /// committed.
    position: Option<i64>,
    /// The offset that reading goes on at: behind `position` while a restored span is read again.
    read_to: Option<i64>,
    /// Read, or restored, and not yet settled.
    incomplete: BTreeSet<i64>,
}

/// What a record that was read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// To be worked on; [`OffsetTracker::settle`] ends it.
    New,
    /// Settled before a restart: skip it.
    Settled,
    /// Read before: skip it.
    Repeated,
}

impl OffsetTracker {
    /// Nothing was ever committed: reading starts at the beginning of the log.
    #[must_use]
    pub const fn unread() -> Self {
        Self {
            position: None,
            read_to: None,
            incomplete: BTreeSet::new(),
        }
    }

    /// From a committed offset and its map; without a map everything from the frontier on is new.
    #[must_use]
    pub fn restored(frontier: i64, map: Option<CommitMap>) -> Self {
        let map = map.unwrap_or_else(|| CommitMap::empty(frontier));
        Self {
            position: Some(map.position),
            read_to: Some(frontier),
            incomplete: map.holes.into_iter().collect(),
        }
    }

    /// Everything below is settled: the offset to commit. `None` before the first record.
    #[must_use]
    pub fn frontier(&self) -> Option<i64> {
        self.incomplete.first().copied().or(self.position)
    }

    /// Where reading goes on; `None` = at the beginning of the log.
    #[must_use]
    pub const fn read_to(&self) -> Option<i64> {
        self.read_to
    }

    /// Whether reading goes on that had stopped at a bound: with a part of it free, so that it does
    /// not stop and go with each record. A restored span is read again whatever it holds: only that
    /// empties it.
    #[must_use]
    pub fn may_go_on(&self) -> bool {
        self.read_to < self.position || self.would_go_on_with(self.incomplete.len())
    }

    /// Whether it went on with as many offsets incomplete, of those that are.
    #[must_use]
    pub fn would_go_on_with(&self, incomplete: usize) -> bool {
        incomplete <= HOLES_MAX / 4 * 3 && self.span() <= SPAN_MAX / 2
    }

    /// From the frontier to where reading goes on.
    #[must_use]
    pub fn span(&self) -> i64 {
        let read_to = self.read_to.unwrap_or(0);
        self.frontier().map_or(0, |frontier| read_to - frontier)
    }

    /// How many offsets are incomplete.
    #[must_use]
    pub fn incomplete(&self) -> usize {
        self.incomplete.len()
    }

    /// Whether a record at this offset fits the bounds; when not, reading stops before it.
    #[must_use]
    pub fn admits(&self, offset: i64) -> bool {
        let known = self.position.is_some_and(|position| offset < position);
        let Some(&first) = self.incomplete.first() else {
            return true;
        };
        known || (self.incomplete.len() < HOLES_MAX && offset - first < SPAN_MAX)
    }

    /// Takes note of a record that was read. The caller has asked [`Self::admits`].
    pub fn read(&mut self, offset: i64) -> Reading {
        if self.read_to.is_some_and(|read_to| offset < read_to) {
            return Reading::Repeated;
        }
        self.forget_vanished(offset);
        self.read_to = Some(offset + 1);
        if self.position.is_some_and(|position| offset < position) {
            return if self.incomplete.contains(&offset) {
                Reading::New
            } else {
                Reading::Settled
            };
        }
        self.incomplete.insert(offset);
        self.position = Some(offset + 1);
        Reading::New
    }

    /// Ends an offset; `false` when it was not incomplete.
    pub fn settle(&mut self, offset: i64) -> bool {
        self.incomplete.remove(&offset)
    }

    /// What to commit; `None` before the first record.
    #[must_use]
    pub fn commit_map(&self) -> Option<(i64, CommitMap)> {
        let frontier = self.frontier()?;
        let position = self.position?;
        Some((
            frontier,
            CommitMap {
                position,
                holes: self.incomplete.iter().copied().collect(),
            },
        ))
    }

    /// Whether a record at this offset was read before, by us or a predecessor.
    #[must_use]
    pub fn is_known(&self, offset: i64) -> bool {
        self.position.is_some_and(|position| offset < position)
    }

    /// Whether a record at this offset was read and is not settled.
    #[must_use]
    pub fn is_open(&self, offset: i64) -> bool {
        self.incomplete.contains(&offset)
    }

    /// Nothing exists between what was read and this offset.
    pub fn skip_to(&mut self, offset: i64) {
        self.forget_vanished(offset);
        self.read_to = self.read_to.max(Some(offset));
        self.position = self.position.max(Some(offset));
    }

    /// Reads again from this offset on: what is settled stays settled.
    pub fn rewind(&mut self, offset: i64) {
        self.read_to = self.read_to.min(Some(offset));
    }

    /// Restored holes between the last record read and this one are no longer in the log.
    fn forget_vanished(&mut self, offset: i64) {
        let Some(read_to) = self.read_to else { return };
        while let Some(&hole) = self.incomplete.range(read_to..offset).next() {
            self.incomplete.remove(&hole);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_frontier_waits_for_the_lowest_incomplete_offset() {
        let mut tracker = OffsetTracker::unread();
        assert_eq!(tracker.frontier(), None);
        for offset in [7, 8, 11] {
            assert_eq!(tracker.read(offset), Reading::New);
        }
        assert_eq!(tracker.frontier(), Some(7));
        assert!(tracker.settle(8));
        assert_eq!(tracker.frontier(), Some(7));
        assert!(tracker.settle(7));
        assert_eq!(tracker.frontier(), Some(11), "9 and 10 do not exist");
        assert!(tracker.settle(11));
        assert_eq!(tracker.frontier(), Some(12));
        assert!(!tracker.settle(11), "settled once");
    }

    #[test]
    fn a_restored_hole_that_left_the_log_is_not_waited_for() {
        let map = CommitMap {
            position: 10,
            holes: vec![4, 6],
        };
        let mut tracker = OffsetTracker::restored(4, Some(map));
        assert_eq!(tracker.read(6), Reading::New);
        assert_eq!(tracker.frontier(), Some(6), "4 was deleted by retention");
    }

    #[test]
    fn a_stuck_head_stops_reading_at_the_span() {
        let mut tracker = OffsetTracker::unread();
        tracker.read(0);
        assert!(tracker.admits(SPAN_MAX - 1));
        assert!(!tracker.admits(SPAN_MAX));
        tracker.settle(0);
        assert!(tracker.admits(SPAN_MAX));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Read { gap: i64 },
        Settle { nth: usize },
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..4_i64).prop_map(|gap| Step::Read { gap }),
            3 => (0..64_usize).prop_map(|nth| Step::Settle { nth }),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// The model keeps one flag per offset that exists; the tracker must agree after each step,
        /// and after a restart from what it would have committed.
        #[test]
        fn agrees_with_a_flag_per_offset(
            first in 0..1_000_i64,
            steps in prop::collection::vec(step(), 1..400),
        ) {
            let mut model: BTreeMap<i64, bool> = BTreeMap::new();
            let mut log: Vec<i64> = Vec::new();
            let mut tracker = OffsetTracker::unread();
            let mut last_frontier = None;
            for step in steps {
                match step {
                    Step::Read { gap } => {
                        // The log is fixed once written: read again what a restart rewound.
                        let next = tracker.read_to().unwrap_or(first);
                        let offset = match log.iter().find(|o| **o >= next) {
                            Some(offset) => *offset,
                            None => {
                                let offset = log.last().map_or(first, |last| last + 1) + gap;
                                log.push(offset);
                                offset
                            }
                        };
                        let before = model.get(&offset).copied();
                        let reading = tracker.read(offset);
                        let expected =
                            if before == Some(true) { Reading::Settled } else { Reading::New };
                        prop_assert_eq!(reading, expected, "offset {}", offset);
                        model.entry(offset).or_insert(false);
                    }
                    Step::Settle { nth } => {
                        let open: Vec<i64> =
                            model.iter().filter(|(_, done)| !**done).map(|(o, _)| *o).collect();
                        if let Some(offset) = open.get(nth % open.len().max(1)) {
                            prop_assert!(tracker.settle(*offset));
                            model.insert(*offset, true);
                        }
                    }
                    Step::Restart => {
                        if let Some((frontier, map)) = tracker.commit_map() {
                            let text = map.encode(frontier);
                            let map = CommitMap::decode(frontier, &text).expect("decodes");
                            tracker = OffsetTracker::restored(frontier, Some(map));
                        }
                    }
                }
                let lowest_open = model.iter().find(|(_, done)| !**done).map(|(o, _)| *o);
                let end = model.last_key_value().map(|(o, _)| o + 1);
                prop_assert_eq!(tracker.frontier(), lowest_open.or(end));
                prop_assert!(tracker.frontier() >= last_frontier, "the frontier fell");
                last_frontier = tracker.frontier();
            }
        }
    }
}
