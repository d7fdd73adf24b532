//! The endpoints of the slices this worker owns, as the `endpoints` topic has them.
//!
//! Decides which records belong to which ownership. Leaves which of them count to `wire`, folding
//! them to `engine`.

use std::collections::BTreeMap;

use postrider_domain::{Endpoint, EndpointId, Record, Slice, SliceCount};
use postrider_engine::io::Epoch;
use postrider_kafka::{TableEvent, TableReader};
use postrider_telemetry::{IgnoredEndpoint, Metrics};
use postrider_wire::endpoint::{self, Unused};
use tracing::warn;

/// What a table event means to the worker.
pub(crate) enum Known {
    /// An endpoint of an owned slice was created, changed or (`None`) deleted.
    Endpoint(Slice, EndpointId, Option<Box<Endpoint>>),
    /// A slice's endpoints are complete.
    Loaded(Slice, Epoch),
}

/// Follows the partitions of owned slices.
pub(crate) struct Endpoints {
    reader: TableReader,
    slices: SliceCount,
    metrics: Metrics,
    followed: Followed,
}

/// Which ownership an event of a partition belongs to.
///
/// A slice may be left and acquired again before the reader has heard of either; what comes until
/// it confirms that the partition was removed is of the earlier ownership.
#[derive(Debug, Default)]
struct Followed {
    epochs: BTreeMap<Slice, Epoch>,
    /// Removals not yet confirmed.
    leaving: BTreeMap<Slice, u32>,
}

impl Followed {
    fn follow(&mut self, slice: Slice, epoch: Epoch) {
        self.epochs.insert(slice, epoch);
    }

    /// Whether it was followed.
    fn leave(&mut self, slice: Slice) -> bool {
        let was = self.epochs.remove(&slice).is_some();
        if was {
            *self.leaving.entry(slice).or_default() += 1;
        }
        was
    }

    fn removed(&mut self, slice: Slice) {
        if let Some(count) = self.leaving.get_mut(&slice) {
            *count -= 1;
            if *count == 0 {
                self.leaving.remove(&slice);
            }
        }
    }

    /// The ownership that events of the slice are for; `None` = one that is over.
    fn current(&self, slice: Slice) -> Option<Epoch> {
        if self.leaving.contains_key(&slice) {
            None
        } else {
            self.epochs.get(&slice).copied()
        }
    }
}

impl Endpoints {
    pub(crate) fn new(reader: TableReader, slices: SliceCount, metrics: Metrics) -> Self {
        Self {
            reader,
            slices,
            metrics,
            followed: Followed::default(),
        }
    }

    pub(crate) fn follow(&mut self, slice: Slice, epoch: Epoch) {
        self.followed.follow(slice, epoch);
        self.reader.add(&[i32::from(slice.0)]);
    }

    pub(crate) fn leave(&mut self, slice: Slice) {
        if self.followed.leave(slice) {
            self.reader.remove(&[i32::from(slice.0)]);
        }
    }

    /// `None` when the event says nothing about a slice that is followed.
    pub(crate) fn take(&mut self, event: TableEvent) -> Option<Known> {
        let slice = |partition| u16::try_from(partition).ok().map(Slice);
        match event {
            TableEvent::Record(record) => self.endpoint(&record),
            TableEvent::Loaded { partition } => {
                let slice = slice(partition)?;
                self.followed
                    .current(slice)
                    .map(|epoch| Known::Loaded(slice, epoch))
            }
            TableEvent::Removed { partition } => {
                self.followed.removed(slice(partition)?);
                None
            }
        }
    }

    fn endpoint(&self, record: &Record) -> Option<Known> {
        let slice = Slice(u16::try_from(record.origin.partition).ok()?);
        self.followed.current(slice)?;
        match endpoint::of_record(record, self.slices) {
            Ok((id, endpoint)) => Some(Known::Endpoint(slice, id, endpoint.map(Box::new))),
            Err(unused) => {
                self.metrics.endpoint_record_ignored(match unused {
                    Unused::Elsewhere { .. } => IgnoredEndpoint::WrongPartition,
                    Unused::Key(_) | Unused::Value(_) => IgnoredEndpoint::Unreadable,
                });
                warn!(origin = %record.origin, %unused, "endpoint record not used");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE: Slice = Slice(3);

    #[test]
    fn what_comes_before_the_removal_is_of_the_earlier_ownership() {
        let mut followed = Followed::default();
        followed.follow(SLICE, Epoch(1));
        assert_eq!(followed.current(SLICE), Some(Epoch(1)));
        assert!(followed.leave(SLICE));
        followed.follow(SLICE, Epoch(2));
        assert_eq!(followed.current(SLICE), None, "a late `Loaded` is not ours");
        followed.removed(SLICE);
        assert_eq!(followed.current(SLICE), Some(Epoch(2)));
    }

    #[test]
    fn every_removal_is_waited_for() {
        let mut followed = Followed::default();
        for epoch in 1..=3 {
            followed.follow(SLICE, Epoch(epoch));
            assert!(followed.leave(SLICE));
        }
        followed.follow(SLICE, Epoch(4));
        followed.removed(SLICE);
        followed.removed(SLICE);
        assert_eq!(followed.current(SLICE), None);
        followed.removed(SLICE);
        assert_eq!(followed.current(SLICE), Some(Epoch(4)));
    }

    #[test]
    fn a_slice_that_was_not_followed_is_not_left() {
        let mut followed = Followed::default();
        assert!(!followed.leave(SLICE));
        followed.follow(SLICE, Epoch(1));
        assert_eq!(followed.current(SLICE), Some(Epoch(1)));
    }
}
