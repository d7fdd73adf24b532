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
    followed: BTreeMap<Slice, Epoch>,
    /// Removals not yet confirmed: until then events are of an earlier ownership.
    leaving: BTreeMap<Slice, u32>,
}

impl Endpoints {
    pub(crate) const fn new(reader: TableReader, slices: SliceCount, metrics: Metrics) -> Self {
        Self {
            reader,
            slices,
            metrics,
            followed: BTreeMap::new(),
            leaving: BTreeMap::new(),
        }
    }

    pub(crate) fn follow(&mut self, slice: Slice, epoch: Epoch) {
        self.followed.insert(slice, epoch);
        self.reader.add(&[i32::from(slice.0)]);
    }

    pub(crate) fn leave(&mut self, slice: Slice) {
        if self.followed.remove(&slice).is_some() {
            *self.leaving.entry(slice).or_default() += 1;
            self.reader.remove(&[i32::from(slice.0)]);
        }
    }

    /// `None` when the event says nothing about a slice that is followed.
    pub(crate) fn take(&mut self, event: TableEvent) -> Option<Known> {
        let (TableEvent::Loaded { partition } | TableEvent::Removed { partition }) = event else {
            let TableEvent::Record(record) = event else {
                return None;
            };
            return self.endpoint(&record);
        };
        let slice = Slice(u16::try_from(partition).ok()?);
        if let TableEvent::Removed { .. } = event {
            if let Some(count) = self.leaving.get_mut(&slice) {
                *count -= 1;
                if *count == 0 {
                    self.leaving.remove(&slice);
                }
            }
            return None;
        }
        self.current(slice).map(|epoch| Known::Loaded(slice, epoch))
    }

    fn current(&self, slice: Slice) -> Option<Epoch> {
        if self.leaving.contains_key(&slice) {
            None
        } else {
            self.followed.get(&slice).copied()
        }
    }

    fn endpoint(&self, record: &Record) -> Option<Known> {
        let slice = Slice(u16::try_from(record.origin.partition).ok()?);
        self.current(slice)?;
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
