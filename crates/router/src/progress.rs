//! How far each source partition is written: which offset may be committed.
//!
//! Decides when an intake record is settled: when every record written because of it is
//! acknowledged; and that the answers of a partition which was revoked, lost or restarted change
//! nothing ([`Epoch`]). Leaves counting offsets to `engine`'s [`OffsetTracker`], and writing,
//! committing and handing back to the shell.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use postrider_engine::offsets::{OffsetTracker, Reading};

/// One assignment of one partition: never used twice, so that what belongs to an earlier
/// assignment of the same partition is recognised and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

/// The intake record that a written record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    epoch: Epoch,
    offset: i64,
}

/// What a record that was read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// To be routed. It counts as one open write until [`Progress::acknowledge`] ends it, so it
    /// cannot settle before its fan-out is complete.
    Open(Ticket),
    /// Its partition has as many open offsets as it may: offer it again later.
    Full,
    /// Of a partition that is not ours or is being handed back, or read before: skip it.
    Skip,
}

/// An offset to commit: everything below it is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontier {
    /// Full topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: i32,
    /// The next offset, exclusive as Kafka counts.
    pub offset: i64,
    /// The partition is to be handed back.
    pub draining: bool,
    epoch: Epoch,
}

/// Progress in every partition held.
#[derive(Debug, Default)]
pub struct Progress {
    held: BTreeMap<Epoch, Held>,
    by_name: HashMap<Arc<str>, BTreeMap<i32, Epoch>>,
    last_epoch: u64,
}

#[derive(Debug)]
struct Held {
    topic: Arc<str>,
    partition: i32,
    tracker: OffsetTracker,
    /// Open offsets and how many writes each waits for.
    open: BTreeMap<i64, u32>,
    committed: Option<i64>,
    draining: bool,
}

impl Progress {
    /// A partition is ours (again), or starts over: nothing of it is known.
    pub fn assign(&mut self, topic: &Arc<str>, partition: i32) {
        self.release(topic, partition);
        self.last_epoch += 1;
        let epoch = Epoch(self.last_epoch);
        self.by_name
            .entry(Arc::clone(topic))
            .or_default()
            .insert(partition, epoch);
        let held = Held {
            topic: Arc::clone(topic),
            partition,
            tracker: OffsetTracker::unread(),
            open: BTreeMap::new(),
            committed: None,
            draining: false,
        };
        self.held.insert(epoch, held);
    }

    /// Takes no more records of a partition: it is to be handed back once settled.
    pub fn drain(&mut self, topic: &str, partition: i32) {
        if let Some(held) = self
            .find(topic, partition)
            .and_then(|e| self.held.get_mut(&e))
        {
            held.draining = true;
        }
    }

    /// A partition is no longer ours.
    pub fn release(&mut self, topic: &str, partition: i32) {
        if let Some(partitions) = self.by_name.get_mut(topic)
            && let Some(epoch) = partitions.remove(&partition)
        {
            self.held.remove(&epoch);
        }
    }

    /// Releases every partition that drains, settled or not.
    pub fn release_drained(&mut self) {
        for (_, held) in self.held.extract_if(.., |_, held| held.draining) {
            if let Some(partitions) = self.by_name.get_mut(&held.topic) {
                partitions.remove(&held.partition);
            }
        }
    }

    /// Whether records of a partition are taken: it is ours and not to be handed back.
    #[must_use]
    pub fn takes(&self, topic: &str, partition: i32) -> bool {
        let held = self.find(topic, partition).and_then(|e| self.held.get(&e));
        held.is_some_and(|held| !held.draining)
    }

    /// Takes note of a record that was read.
    pub fn begin(&mut self, topic: &str, partition: i32, offset: i64) -> Begun {
        let Some(epoch) = self.find(topic, partition) else {
            return Begun::Skip;
        };
        let Some(held) = self.held.get_mut(&epoch).filter(|held| !held.draining) else {
            return Begun::Skip;
        };
        if !held.tracker.admits(offset) {
            return Begun::Full;
        }
        if held.tracker.read(offset) != Reading::New {
            return Begun::Skip;
        }
        held.open.insert(offset, 1);
        Begun::Open(Ticket { epoch, offset })
    }

    /// One more record is written because of this one.
    pub fn expect(&mut self, ticket: Ticket) {
        let held = self.held.get_mut(&ticket.epoch);
        if let Some(writes) = held.and_then(|held| held.open.get_mut(&ticket.offset)) {
            *writes += 1;
        }
    }

    /// A record written because of this one is acknowledged, or its fan-out is complete.
    pub fn acknowledge(&mut self, ticket: Ticket) {
        let Some(held) = self.held.get_mut(&ticket.epoch) else {
            return;
        };
        let Some(writes) = held.open.get_mut(&ticket.offset) else {
            debug_assert!(false, "offset {} was settled before", ticket.offset);
            return;
        };
        *writes -= 1;
        if *writes == 0 {
            held.open.remove(&ticket.offset);
            held.tracker.settle(ticket.offset);
        }
    }

    /// Whether an intake record waits for acknowledgements still.
    #[must_use]
    pub fn is_open(&self, ticket: Ticket) -> bool {
        let held = self.held.get(&ticket.epoch);
        held.is_some_and(|held| held.open.contains_key(&ticket.offset))
    }

    /// Whether everything that was read is settled in the partitions that drain.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.held
            .values()
            .all(|held| !held.draining || held.open.is_empty())
    }

    /// Whether everything that was read is settled.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.held.values().all(|held| held.open.is_empty())
    }

    /// The partitions that drain and are not settled: topic, partition, open offsets.
    pub fn unsettled(&self) -> impl Iterator<Item = (&str, i32, usize)> {
        let draining = self
            .held
            .values()
            .filter(|held| held.draining && !held.open.is_empty());
        draining.map(|held| (&*held.topic, held.partition, held.open.len()))
    }

    /// What moved since it was last committed, those that drain first.
    #[must_use]
    pub fn frontiers(&self) -> Vec<Frontier> {
        let moved = |(epoch, held): (&Epoch, &Held)| {
            let offset = held
                .tracker
                .frontier()
                .filter(|f| held.committed != Some(*f))?;
            Some(Frontier {
                topic: Arc::clone(&held.topic),
                partition: held.partition,
                offset,
                draining: held.draining,
                epoch: *epoch,
            })
        };
        let mut frontiers: Vec<Frontier> = self.held.iter().filter_map(moved).collect();
        frontiers.sort_by_key(|frontier| !frontier.draining);
        frontiers
    }

    /// The broker accepted these.
    pub fn committed(&mut self, frontiers: &[Frontier]) {
        for frontier in frontiers {
            if let Some(held) = self.held.get_mut(&frontier.epoch) {
                held.committed = Some(frontier.offset);
            }
        }
    }

    fn find(&self, topic: &str, partition: i32) -> Option<Epoch> {
        self.by_name.get(topic)?.get(&partition).copied()
    }
}

#[cfg(test)]
mod tests {
    use postrider_engine::offsets::HOLES_MAX;
    use proptest::prelude::*;

    use super::*;

    fn begin(progress: &mut Progress, offset: i64) -> Ticket {
        match progress.begin("t", 0, offset) {
            Begun::Open(ticket) => ticket,
            other => panic!("{other:?} at {offset}"),
        }
    }

    fn frontier(progress: &Progress) -> Option<i64> {
        progress.frontiers().first().map(|f| f.offset)
    }

    fn assigned() -> Progress {
        let mut progress = Progress::default();
        progress.assign(&"t".into(), 0);
        progress
    }

    #[test]
    fn a_record_settles_with_its_last_write() {
        let mut progress = assigned();
        let ticket = begin(&mut progress, 5);
        progress.expect(ticket);
        progress.expect(ticket);
        progress.acknowledge(ticket);
        progress.acknowledge(ticket);
        assert_eq!(frontier(&progress), Some(5), "its fan-out is not complete");
        progress.acknowledge(ticket);
        assert_eq!(frontier(&progress), Some(6));
        assert!(progress.is_settled());
    }

    #[test]
    fn what_is_committed_is_not_committed_again() {
        let mut progress = assigned();
        let ticket = begin(&mut progress, 0);
        progress.acknowledge(ticket);
        let frontiers = progress.frontiers();
        assert_eq!(frontiers.len(), 1);
        progress.committed(&frontiers);
        assert_eq!(progress.frontiers(), []);
    }

    #[test]
    fn answers_of_an_earlier_assignment_change_nothing() {
        let mut progress = assigned();
        let late = begin(&mut progress, 7);
        let stale = progress.frontiers();
        progress.assign(&"t".into(), 0);
        let ticket = begin(&mut progress, 7);
        progress.acknowledge(late);
        assert_eq!(frontier(&progress), Some(7), "7 is open in the new epoch");
        progress.committed(&stale);
        assert_eq!(
            progress.frontiers().len(),
            1,
            "that commit was of the old epoch"
        );
        progress.acknowledge(ticket);
        assert_eq!(frontier(&progress), Some(8));
        progress.release("t", 0);
        progress.acknowledge(ticket);
        assert_eq!(progress.begin("t", 0, 8), Begun::Skip);
    }

    #[test]
    fn a_draining_partition_takes_nothing_more() {
        let mut progress = assigned();
        progress.assign(&"t".into(), 1);
        let ticket = begin(&mut progress, 0);
        assert!(progress.takes("t", 0));
        progress.drain("t", 0);
        assert!(!progress.takes("t", 0) && progress.takes("t", 1));
        assert_eq!(progress.begin("t", 0, 1), Begun::Skip);
        assert!(matches!(progress.begin("t", 1, 0), Begun::Open(_)));
        assert!(!progress.is_drained());
        assert_eq!(progress.unsettled().collect::<Vec<_>>(), [("t", 0, 1)]);
        progress.acknowledge(ticket);
        assert!(progress.is_drained() && !progress.is_settled());
        assert_eq!(frontier(&progress), Some(1), "the draining one first");
        progress.release_drained();
        assert_eq!(progress.begin("t", 0, 1), Begun::Skip);
        assert!(matches!(progress.begin("t", 1, 1), Begun::Open(_)));
    }

    #[test]
    fn a_partition_with_too_many_open_offsets_is_full() {
        let mut progress = assigned();
        let first = begin(&mut progress, 0);
        for offset in 1..HOLES_MAX as i64 {
            begin(&mut progress, offset);
        }
        assert_eq!(progress.begin("t", 0, HOLES_MAX as i64), Begun::Full);
        progress.acknowledge(first);
        assert!(matches!(
            progress.begin("t", 0, HOLES_MAX as i64),
            Begun::Open(_)
        ));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Read { gap: i64, writes: u32 },
        Acknowledge { nth: usize },
        Reassign,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..3_i64, 0..5_u32).prop_map(|(gap, writes)| Step::Read { gap, writes }),
            9 => (0..1_000_usize).prop_map(|nth| Step::Acknowledge { nth }),
            1 => Just(Step::Reassign),
        ]
    }

    proptest! {
        /// Whatever the order of acknowledgements, late ones of earlier assignments among them:
        /// the frontier is the lowest offset of this assignment with an unacknowledged write.
        #[test]
        fn the_frontier_never_passes_an_unacknowledged_write(
            steps in prop::collection::vec(step(), 1..300),
        ) {
            let mut progress = assigned();
            let mut assignment = 0;
            let mut next = 0;
            let mut read = false;
            // Writes on their way: (assignment, ticket).
            let mut flying: Vec<(u32, Ticket)> = Vec::new();
            for step in steps {
                match step {
                    Step::Read { gap, writes } => {
                        let offset = next + gap;
                        if let Begun::Open(ticket) = progress.begin("t", 0, offset) {
                            (next, read) = (offset + 1, true);
                            for _ in 0..writes {
                                progress.expect(ticket);
                                flying.push((assignment, ticket));
                            }
                            progress.acknowledge(ticket);
                        }
                    }
                    Step::Acknowledge { nth } if !flying.is_empty() => {
                        let (_, ticket) = flying.swap_remove(nth % flying.len());
                        progress.acknowledge(ticket);
                    }
                    Step::Acknowledge { .. } => {}
                    Step::Reassign => {
                        // The new assignment reads on from what the old one could commit.
                        next = frontier(&progress).unwrap_or(next);
                        progress.assign(&"t".into(), 0);
                        assignment += 1;
                        read = false;
                    }
                }
                let open = flying.iter().filter(|(of, _)| *of == assignment);
                let lowest = open.map(|(_, ticket)| ticket.offset).min();
                let expected = read.then(|| lowest.unwrap_or(next));
                prop_assert_eq!(frontier(&progress), expected);
                prop_assert_eq!(progress.is_settled(), lowest.is_none());
            }
        }
    }
}
