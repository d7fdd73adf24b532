//! When to commit what.
//!
//! Decides the pace (every [`INTERVAL`] or [`SETTLED_MAX`] settled records, at once for a slice
//! that waits to be handed back), that only changed lanes are committed and one unchanged one, in
//! turn, as often as the lease has to be renewed (which also keeps offsets of idle lanes from
//! expiring), that exactly one commit is in flight: with several, an old frontier could land
//! after a newer one (librdkafka re-sends parked commits at the tail of its queue); and that one
//! that was not heard of is committed over, as the broker may store it late all the same (ADR
//! 0040). Leaves sending to the shell, what an accepted commit allows to [`mod@crate::lease`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use postrider_domain::{Lane, Slice, Timestamp};

use crate::io::Claim;
use crate::worker::CommitAnswer;

/// Longest time a settled record waits for its commit to be sent, so that a crash repeats little
/// (`docs/delivery.md`, "Duplicates").
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Settled records after which a commit is sent at once.
pub const SETTLED_MAX: u32 = 500;

/// Most lanes in one commit; all of them become one batch of `__consumer_offsets`.
pub const ENTRIES_MAX: usize = 500;

/// Most bytes of metadata in one commit, half of the broker's default batch limit.
pub const BYTES_MAX: usize = 512 << 10;

/// Pause after a refused commit, doubled with each that is refused after it, up to
/// [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Longer than the second (`retry.backoff.max.ms`) for which librdkafka puts its next heartbeat off
/// with each commit that is refused, once heartbeats have failed for long: who commits more often
/// never hears why (ADR 0042).
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The pause after this many commits were refused in a row.
#[must_use]
pub fn pause_after(refused: u32) -> Duration {
    let doubled = 1 << refused.saturating_sub(1).min(16);
    PAUSE_MAX.min(PAUSE_MIN * doubled)
}

/// After a commit without an answer, when its lanes are committed once more, whatever was accepted
/// meanwhile: a broker that has it, and no successor of ours, stores it within
/// `offsets.commit.timeout.ms` (5 s) or never.
const DOUBT: Duration = Duration::from_secs(6);

/// How often in a row the broker must not know a lane before that is believed.
const UNKNOWN_TIMES: u8 = 5;

/// A lane of an ownership.
pub(crate) type LaneKey = (Slice, Claim, Lane);

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
    /// How many lanes the commit in flight was sent with.
    sent: usize,
    /// A commit was sent and not yet answered, whatever became of its lanes.
    awaiting: bool,
    /// No commit before this time; `None` until the first record settles.
    next_at: Option<Timestamp>,
    not_before: Timestamp,
    /// How many in a row were refused.
    refused: u32,
    sent_at: Option<Timestamp>,
    /// How often a commit is sent although nothing changed.
    renewal: Duration,
    /// `None` = no slice was owned yet.
    renewal_at: Option<Timestamp>,
    /// The last unchanged lane that was committed.
    last_renewed: Option<LaneKey>,
    /// How often in a row the broker did not know a lane that was committed alone.
    unknown: BTreeMap<LaneKey, u8>,
    /// Lanes of a commit that named one the broker does not know: each is committed alone.
    alone: BTreeSet<LaneKey>,
    /// Lanes of refused commits: an older offset may be stored over the one that was accepted since.
    doubtful: BTreeSet<LaneKey>,
    /// Until then.
    doubt_ends: Timestamp,
}

/// What became of a commit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Finished {
    /// When it was sent; `None` = under an earlier membership.
    pub(crate) sent_at: Option<Timestamp>,
    /// The lane that the broker does not know.
    pub(crate) unknown: Option<LaneKey>,
}

impl Commits {
    /// `renewal`: how often at least a commit is to be accepted.
    pub(crate) fn new(renewal: Duration) -> Self {
        Self {
            renewal,
            ..Self::default()
        }
    }

    /// A slice was acquired, or an attempt waits for the lease: a commit is to be sent then.
    pub(crate) fn hurry_renewal(&mut self, at: Timestamp) {
        let sooner = self.renewal_at.map_or(at, |other| other.min(at));
        self.renewal_at = Some(sooner);
    }

    /// Whether an unchanged lane is to be committed too.
    pub(crate) fn renewal_is_due(&self, now: Timestamp) -> bool {
        !self.awaiting && self.renewal_at.is_some_and(|at| at <= now)
    }

    /// The lane that was committed last although nothing had changed.
    pub(crate) const fn last_renewed(&self) -> Option<LaneKey> {
        self.last_renewed
    }

    /// Adds an unchanged lane, if there is any that can be committed.
    pub(crate) fn renew(&mut self, now: Timestamp, key: Option<LaneKey>) {
        self.renewal_at = Some(now + self.renewal);
        if let Some(key) = key {
            self.last_renewed = Some(key);
            self.dirty.insert(key);
        }
    }

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

    /// We are no member any more: the answer that is awaited says nothing of the next membership.
    pub(crate) const fn lost(&mut self) {
        self.sent_at = None;
        self.refused = 0;
    }

    /// The slice is not ours any more: none of its lanes is committed.
    pub(crate) fn forget(&mut self, slice: Slice) {
        self.dirty.retain(|(of, _, _)| *of != slice);
        self.alone.retain(|(of, _, _)| *of != slice);
        self.doubtful.retain(|(of, _, _)| *of != slice);
        self.unknown.retain(|(of, _, _), _| *of != slice);
        self.in_flight.retain(|(of, _, _)| *of != slice);
    }

    /// When a commit should be sent; `None` = nothing to commit, or one is under way.
    pub(crate) fn due_at(&self) -> Option<Timestamp> {
        if self.awaiting {
            return None;
        }
        let doubt = (!self.doubtful.is_empty()).then_some(self.doubt_ends);
        let unchanged = self.renewal_at.into_iter().chain(doubt).min();
        let unchanged = unchanged.map(|at| at.max(self.not_before));
        if self.dirty.is_empty() {
            return unchanged;
        }
        let at = if self.urgent || self.settled >= SETTLED_MAX {
            self.not_before
        } else {
            self.next_at?
        };
        unchanged.into_iter().chain([at.max(self.not_before)]).min()
    }

    /// The entries of the next commit, in flight from here on. `point` gives a lane's offset and
    /// metadata, or `None` when it is not ours any more.
    pub(crate) fn start(
        &mut self,
        now: Timestamp,
        mut point: impl FnMut(LaneKey) -> Option<(i64, String)>,
    ) -> Vec<CommitEntry> {
        if self.doubt_ends <= now {
            self.dirty.append(&mut self.doubtful);
        }
        let mut entries = Vec::new();
        let mut bytes = 0;
        let entries_max = if self.alone.is_empty() {
            ENTRIES_MAX
        } else {
            1
        };
        while entries.len() < entries_max && bytes < BYTES_MAX {
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
        self.sent_at = Some(now);
        self.sent = entries.len();
        self.settled = 0;
        self.next_at = Some(now + INTERVAL);
        self.urgent &= !self.dirty.is_empty() && self.alone.is_empty();
        self.urgent |= !self.alone.is_empty();
        entries
    }

    fn take_next(&mut self) -> Option<LaneKey> {
        if let Some(key) = self.alone.pop_first() {
            self.dirty.remove(&key);
            return Some(key);
        }
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
    pub(crate) fn finish(&mut self, now: Timestamp, answer: CommitAnswer) -> Finished {
        self.awaiting = false;
        let answered = std::mem::take(&mut self.in_flight);
        let mut finished = Finished {
            sent_at: self.sent_at.take(),
            unknown: None,
        };
        match answer {
            CommitAnswer::Accepted => {
                self.refused = 0;
                self.unknown.retain(|key, _| !answered.contains(key));
            }
            CommitAnswer::UnknownLane if self.sent == 1 => {
                let Some(key) = answered.into_iter().next() else {
                    return finished;
                };
                let times = self.unknown.entry(key).or_default();
                *times += 1;
                if *times >= UNKNOWN_TIMES {
                    self.unknown.remove(&key);
                    finished.unknown = Some(key);
                } else {
                    // It may be a broker that has not heard of the topic yet.
                    self.dirty.insert(key);
                    self.alone.insert(key);
                    self.not_before = now + PAUSE_MIN;
                }
            }
            CommitAnswer::UnknownLane => {
                self.dirty.extend(&answered);
                self.alone.extend(answered);
                self.urgent = true;
            }
            CommitAnswer::Refused | CommitAnswer::NotAMember => {
                self.dirty.extend(&answered);
                self.doubtful.extend(answered);
                self.doubt_ends = now + DOUBT;
                self.refused = self.refused.saturating_add(1);
                self.not_before = now + pause_after(self.refused);
                self.urgent = true;
            }
        }
        finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: LaneKey = (Slice(3), Claim(1), Lane::Deliveries);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_settled_record_is_committed_within_the_interval() {
        let mut commits = Commits::new(Duration::from_secs(3_600));
        commits.settled(at(100), KEY, 1);
        commits.settled(at(900), KEY, 1);
        assert_eq!(commits.due_at(), Some(at(1_100)));
        let entries = commits.start(at(1_100), |_| Some((7, String::new())));
        assert_eq!(entries.len(), 1);
        assert_eq!(commits.due_at(), None);
        commits.settled(at(1_150), KEY, 1);
        assert_eq!(commits.due_at(), None, "one in flight");
        commits.finish(at(1_200), CommitAnswer::Accepted);
        assert_eq!(commits.due_at(), Some(at(2_150)));
        assert!(commits.is_open(Slice(3)) && !commits.is_open(Slice(4)));
    }

    #[test]
    fn many_settled_records_do_not_wait() {
        let mut commits = Commits::new(Duration::from_secs(3_600));
        commits.settled(at(100), KEY, SETTLED_MAX);
        assert!(commits.due_at() <= Some(at(100)));
    }

    #[test]
    fn a_refused_commit_is_sent_again_with_current_values() {
        let mut commits = Commits::new(Duration::from_secs(3_600));
        commits.settled(at(0), KEY, 1);
        commits.start(at(1_000), |_| Some((7, String::new())));
        commits.finish(at(1_010), CommitAnswer::Refused);
        assert_eq!(commits.due_at(), Some(at(1_110)));
        let entries = commits.start(at(1_110), |_| Some((9, String::new())));
        assert_eq!(entries[0].offset, 9);
    }

    #[test]
    fn the_pause_grows_with_each_that_is_refused_until_one_is_accepted() {
        let point = |_| Some((7, String::new()));
        let mut commits = Commits::new(Duration::from_secs(3_600));
        commits.settled(at(0), KEY, 1);
        let mut now = at(1_000);
        for pause in [100, 200, 400, 800, 1_600, 2_000, 2_000] {
            assert_eq!(commits.start(now, point).len(), 1);
            commits.finish(now, CommitAnswer::Refused);
            let next = now + Duration::from_millis(pause);
            assert_eq!(commits.due_at(), Some(next));
            now = next;
        }
        commits.start(now, point);
        commits.finish(now, CommitAnswer::Accepted);
        commits.settled(now, KEY, SETTLED_MAX);
        commits.start(now, point);
        commits.finish(now, CommitAnswer::Refused);
        assert_eq!(commits.due_at(), Some(now + PAUSE_MIN));
        commits.start(now + PAUSE_MIN, point);
        commits.lost();
        commits.finish(now, CommitAnswer::Refused);
        assert_eq!(
            commits.due_at(),
            Some(now + PAUSE_MIN),
            "another membership"
        );
        assert_eq!(pause_after(u32::MAX), PAUSE_MAX);
    }

    /// It was sent, the connection was cut, and the broker stored it after the next one.
    #[test]
    fn a_commit_that_may_be_stored_late_is_committed_over() {
        let point = |_| Some((9, String::new()));
        let mut commits = Commits::new(Duration::from_secs(3_600));
        commits.settled(at(0), KEY, 1);
        commits.start(at(1_000), |_| Some((7, String::new())));
        commits.finish(at(4_000), CommitAnswer::Refused);
        assert_eq!(commits.start(at(4_100), point)[0].offset, 9);
        commits.finish(at(4_110), CommitAnswer::Accepted);
        let end = at(4_000) + DOUBT;
        assert_eq!(commits.due_at(), Some(end));
        assert_eq!(commits.start(end, point).len(), 1);
        assert_eq!(commits.due_at(), None, "one in flight");
        commits.finish(end + Duration::from_millis(10), CommitAnswer::Accepted);
        assert_eq!(commits.due_at(), None, "once is enough");
        commits.settled(end, KEY, 1);
        commits.start(end + INTERVAL, point);
        commits.finish(end + INTERVAL, CommitAnswer::Refused);
        commits.forget(KEY.0);
        assert_eq!(commits.due_at(), None, "what is gone is not committed");
    }

    #[test]
    fn a_commit_is_bounded_and_the_rest_follows_at_once() {
        let mut commits = Commits::new(Duration::from_secs(3_600));
        for slice in 0..ENTRIES_MAX as u16 + 10 {
            commits.settled(at(0), (Slice(slice), Claim(1), Lane::Deliveries), 1);
        }
        commits.hurry();
        assert_eq!(
            commits.start(at(5), |_| Some((1, String::new()))).len(),
            ENTRIES_MAX
        );
        commits.finish(at(6), CommitAnswer::Accepted);
        assert!(commits.due_at() <= Some(at(6)));
        assert_eq!(
            commits.start(at(6), |_| Some((1, "x".repeat(4_000)))).len(),
            10
        );
    }

    #[test]
    fn a_slice_that_is_gone_is_not_committed() {
        let mut commits = Commits::new(Duration::from_secs(3_600));
        commits.settled(at(0), KEY, 1);
        commits.start(at(1_000), |_| Some((7, String::new())));
        commits.forget(Slice(3));
        commits.settled(
            at(1_001),
            (Slice(4), Claim(2), Lane::Deliveries),
            SETTLED_MAX,
        );
        assert_eq!(
            commits.due_at(),
            None,
            "one in flight, even of a lost slice"
        );
        commits.finish(at(1_010), CommitAnswer::Refused);
        let entries = commits.start(at(1_110), |_| Some((1, String::new())));
        assert_eq!(
            entries.iter().map(|e| e.slice).collect::<Vec<_>>(),
            [Slice(4)]
        );
    }

    #[test]
    fn an_unchanged_lane_is_committed_as_often_as_the_lease_asks() {
        let mut commits = Commits::new(Duration::from_secs(3));
        assert_eq!(commits.due_at(), None, "nothing is owned");
        commits.hurry_renewal(at(0));
        assert!(commits.due_at() <= Some(at(0)) && commits.renewal_is_due(at(0)));
        commits.renew(at(0), Some(KEY));
        assert_eq!(commits.start(at(0), |_| Some((7, String::new()))).len(), 1);
        assert_eq!(commits.due_at(), None, "one in flight");
        let finished = commits.finish(at(5), CommitAnswer::Accepted);
        assert_eq!(finished.sent_at, Some(at(0)), "the lease counts from there");
        assert_eq!(commits.due_at(), Some(at(3_000)));
    }

    #[test]
    fn a_lane_the_broker_does_not_know_is_found_and_refuses_no_other() {
        let mut commits = Commits::new(Duration::from_secs(3));
        let key = |slice: u16| (Slice(slice), Claim(1), Lane::Deliveries);
        for slice in 0..4 {
            commits.settled(at(0), key(slice), SETTLED_MAX);
        }
        assert_eq!(commits.start(at(1), |_| Some((7, String::new()))).len(), 4);
        commits.finish(at(2), CommitAnswer::UnknownLane);
        let (mut accepted, mut unknown) = (Vec::new(), Vec::new());
        let mut now = 3;
        while let Some(due) = commits.due_at() {
            now = now.max(due.as_millis());
            let entries = commits.start(at(now), |_| Some((7, String::new())));
            assert_eq!(entries.len(), 1, "one by one");
            let known = entries[0].slice != Slice(2);
            let answer = if known {
                CommitAnswer::Accepted
            } else {
                CommitAnswer::UnknownLane
            };
            unknown.extend(commits.finish(at(now), answer).unknown);
            accepted.extend(known.then_some(entries[0].slice));
        }
        assert_eq!(unknown, [key(2)]);
        assert!(now < 1_000, "soon: {now}");
        assert_eq!(accepted, [Slice(0), Slice(1), Slice(3)]);
        assert_eq!(commits.due_at(), None, "the bad one is not tried again");
    }

    #[test]
    fn a_lane_is_not_blamed_for_one_that_was_let_go_meanwhile() {
        let mut commits = Commits::new(Duration::from_secs(3));
        let key = |slice: u16| (Slice(slice), Claim(1), Lane::Deliveries);
        for slice in 0..2 {
            commits.settled(at(0), key(slice), SETTLED_MAX);
        }
        assert_eq!(commits.start(at(1), |_| Some((7, String::new()))).len(), 2);
        commits.forget(Slice(1));
        let finished = commits.finish(at(2), CommitAnswer::UnknownLane);
        assert_eq!(finished.unknown, None, "it may be the other one");
    }

    #[test]
    fn every_lane_gets_into_a_commit() {
        let mut commits = Commits::new(Duration::from_secs(3_600));
        let key = |slice: u16| (Slice(slice), Claim(1), Lane::Deliveries);
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
            commits.finish(at(rounds), CommitAnswer::Accepted);
            if sent.iter().any(|entry| entry.slice == Slice(last)) {
                break;
            }
        }
    }

    #[test]
    fn a_commit_is_bounded_in_bytes() {
        let mut commits = Commits::new(Duration::from_secs(3_600));
        for slice in 0..ENTRIES_MAX as u16 {
            commits.settled(at(0), (Slice(slice), Claim(1), Lane::Deliveries), 1);
        }
        let sent = commits.start(at(5), |_| Some((1, "x".repeat(4_000))));
        let bytes: usize = sent.iter().map(|entry| entry.metadata.len()).sum();
        assert!(bytes < BYTES_MAX + 4_000, "{bytes}");
        assert!(sent.len() < ENTRIES_MAX);
    }
}
