//! When to commit what.
//!
//! Decides the pace (every [`INTERVAL`] or [`SETTLED_MAX`] settled records, at once for a slice
//! that waits to be handed back), that only changed lanes are committed, and that exactly one
//! commit is in flight: with several, an old frontier could land after a newer one
//! (librdkafka re-sends parked commits at the tail of its queue). Re-committing idle lanes, which
//! a lease will need, belongs here. Leaves sending to the shell.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

use postrider_domain::{Lane, Slice, Timestamp};

use crate::io::Epoch;

/// Longest time a settled record waits for its commit to be sent, so that a crash repeats little
/// (`docs/delivery-semantics.md`, "Duplicates").
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Settled records after which a commit is sent at once.
pub const SETTLED_MAX: u32 = 500;

/// Most lanes in one commit; all of them become one batch of `__consumer_offsets`.
pub const ENTRIES_MAX: usize = 500;

/// Most bytes of metadata in one commit, half of the broker's default batch limit.
pub const BYTES_MAX: usize = 512 << 10;

/// Pause after a refused commit.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A lane of an ownership.
pub(crate) type LaneKey = (Slice, Epoch, Lane);

/// One lane's part of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitEntry {
    /// The slice: partition of the lane's topic.
    pub slice: Slice,
    /// The lane: which topic.
    pub lane: Lane,
    /// The frontier.
    pub offset: i64,
    /// The commit map.
    pub metadata: String,
}

#[derive(Debug, Default)]
pub(crate) struct Commits {
    dirty: BTreeSet<LaneKey>,
    /// The last lane that was committed: the next commit goes on after it, so that every lane
    /// gets its turn when one commit does not hold them all.
    last: Option<LaneKey>,
    settled: u32,
    urgent: bool,
    in_flight: BTreeSet<LaneKey>,
    /// A commit was sent and not yet answered, whatever became of its lanes.
    awaiting: bool,
    /// No commit before this time; `None` until the first record settles.
    next_at: Option<Timestamp>,
    not_before: Timestamp,
}

impl Commits {
    /// A lane settled records.
    pub(crate) fn settled(&mut self, now: Timestamp, key: LaneKey, records: u32) {
        if self.dirty.is_empty() {
            self.next_at = Some(now + INTERVAL);
        }
        self.dirty.insert(key);
        self.settled = self.settled.saturating_add(records);
    }

    /// A slice waits for its last commit.
    pub(crate) const fn hurry(&mut self) {
        self.urgent = true;
    }

    /// Whether a lane of this slice has a change that no commit was accepted for.
    pub(crate) fn is_open(&self, slice: Slice) -> bool {
        self.dirty
            .iter()
            .chain(&self.in_flight)
            .any(|(of, _, _)| *of == slice)
    }

    /// The slice is not ours any more: none of its lanes is committed.
    pub(crate) fn forget(&mut self, slice: Slice) {
        self.dirty.retain(|(of, _, _)| *of != slice);
        self.in_flight.retain(|(of, _, _)| *of != slice);
    }

    /// When a commit should be sent; `None` = nothing to commit, or one is under way.
    pub(crate) fn due_at(&self) -> Option<Timestamp> {
        if self.dirty.is_empty() || self.awaiting {
            return None;
        }
        let at = if self.urgent || self.settled >= SETTLED_MAX {
            self.not_before
        } else {
            self.next_at?
        };
        Some(at.max(self.not_before))
    }

    /// The entries of the next commit, in flight from here on. `point` gives a lane's offset and
    /// metadata, or `None` when it is not ours any more.
    pub(crate) fn start(
        &mut self,
        now: Timestamp,
        mut point: impl FnMut(LaneKey) -> Option<(i64, String)>,
    ) -> Vec<CommitEntry> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        while entries.len() < ENTRIES_MAX && bytes < BYTES_MAX {
            let Some(key) = self.take_next() else {
                break;
            };
            let Some((offset, metadata)) = point(key) else {
                continue;
            };
            bytes += metadata.len();
            self.in_flight.insert(key);
            entries.push(CommitEntry {
                slice: key.0,
                lane: key.2,
                offset,
                metadata,
            });
        }
        self.awaiting = !entries.is_empty();
        self.settled = 0;
        self.next_at = Some(now + INTERVAL);
        self.urgent &= !self.dirty.is_empty();
        entries
    }

    fn take_next(&mut self) -> Option<LaneKey> {
        let after = self.last.and_then(|last| {
            let later = (Bound::Excluded(last), Bound::Unbounded);
            self.dirty.range(later).next().copied()
        });
        let key = after.or_else(|| self.dirty.first().copied())?;
        self.dirty.remove(&key);
        self.last = Some(key);
        Some(key)
    }

    /// The commit in flight was answered. A refusal refuses every entry of it: librdkafka spreads
    /// one partition's error over all.
    pub(crate) fn finish(&mut self, now: Timestamp, accepted: bool) {
        self.awaiting = false;
        let answered = std::mem::take(&mut self.in_flight);
        if !accepted {
            self.dirty.extend(answered);
            self.not_before = now + RETRY_AFTER;
            self.urgent = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: LaneKey = (Slice(3), Epoch(1), Lane::Deliveries);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_settled_record_is_committed_within_the_interval() {
        let mut commits = Commits::default();
        commits.settled(at(100), KEY, 1);
        commits.settled(at(900), KEY, 1);
        assert_eq!(commits.due_at(), Some(at(1_100)));
        let entries = commits.start(at(1_100), |_| Some((7, String::new())));
        assert_eq!(entries.len(), 1);
        assert_eq!(commits.due_at(), None);
        commits.settled(at(1_150), KEY, 1);
        assert_eq!(commits.due_at(), None, "one in flight");
        commits.finish(at(1_200), true);
        assert_eq!(commits.due_at(), Some(at(2_150)));
        assert!(commits.is_open(Slice(3)) && !commits.is_open(Slice(4)));
    }

    #[test]
    fn many_settled_records_do_not_wait() {
        let mut commits = Commits::default();
        commits.settled(at(100), KEY, SETTLED_MAX);
        assert!(commits.due_at() <= Some(at(100)));
    }

    #[test]
    fn a_refused_commit_is_sent_again_with_current_values() {
        let mut commits = Commits::default();
        commits.settled(at(0), KEY, 1);
        commits.start(at(1_000), |_| Some((7, String::new())));
        commits.finish(at(1_010), false);
        assert_eq!(commits.due_at(), Some(at(1_110)));
        let entries = commits.start(at(1_110), |_| Some((9, String::new())));
        assert_eq!(entries[0].offset, 9);
    }

    #[test]
    fn a_commit_is_bounded_and_the_rest_follows_at_once() {
        let mut commits = Commits::default();
        for slice in 0..ENTRIES_MAX as u16 + 10 {
            commits.settled(at(0), (Slice(slice), Epoch(1), Lane::Deliveries), 1);
        }
        commits.hurry();
        assert_eq!(
            commits.start(at(5), |_| Some((1, String::new()))).len(),
            ENTRIES_MAX
        );
        commits.finish(at(6), true);
        assert!(commits.due_at() <= Some(at(6)));
        assert_eq!(
            commits.start(at(6), |_| Some((1, "x".repeat(4_000)))).len(),
            10
        );
    }

    #[test]
    fn a_slice_that_is_gone_is_not_committed() {
        let mut commits = Commits::default();
        commits.settled(at(0), KEY, 1);
        commits.start(at(1_000), |_| Some((7, String::new())));
        commits.forget(Slice(3));
        commits.settled(
            at(1_001),
            (Slice(4), Epoch(2), Lane::Deliveries),
            SETTLED_MAX,
        );
        assert_eq!(
            commits.due_at(),
            None,
            "one in flight, even of a lost slice"
        );
        commits.finish(at(1_010), false);
        let entries = commits.start(at(1_110), |_| Some((1, String::new())));
        assert_eq!(
            entries.iter().map(|e| e.slice).collect::<Vec<_>>(),
            [Slice(4)]
        );
    }

    #[test]
    fn every_lane_gets_into_a_commit() {
        let mut commits = Commits::default();
        let key = |slice: u16| (Slice(slice), Epoch(1), Lane::Deliveries);
        let last = ENTRIES_MAX as u16;
        commits.settled(at(0), key(last), 1);
        let mut rounds = 0;
        loop {
            rounds += 1;
            assert!(rounds < 3, "lanes that are always dirty keep another out");
            for slice in 0..last {
                commits.settled(at(rounds), key(slice), SETTLED_MAX);
            }
            let sent = commits.start(at(rounds), |_| Some((1, String::new())));
            commits.finish(at(rounds), true);
            if sent.iter().any(|entry| entry.slice == Slice(last)) {
                break;
            }
        }
    }

    #[test]
    fn a_commit_is_bounded_in_bytes() {
        let mut commits = Commits::default();
        for slice in 0..ENTRIES_MAX as u16 {
            commits.settled(at(0), (Slice(slice), Epoch(1), Lane::Deliveries), 1);
        }
        let sent = commits.start(at(5), |_| Some((1, "x".repeat(4_000))));
        let bytes: usize = sent.iter().map(|entry| entry.metadata.len()).sum();
        assert!(bytes < BYTES_MAX + 4_000, "{bytes}");
        assert!(sent.len() < ENTRIES_MAX);
    }
}
