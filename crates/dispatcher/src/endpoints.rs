//! The endpoints of the slices this worker owns, as the `endpoints` topic has them.
//!
//! Leaves which of the records count, and what becomes of an endpoint whose secrets cannot be
//! opened, to `wire`, folding them to `engine`.

use std::sync::Arc;

use postrider_domain::{Endpoint, EndpointId, Record, Slice, SliceCount};
use postrider_engine::io::Claim;
use postrider_kafka::{TableEvent, TableReader};
use postrider_signing::KeyRing;
use postrider_telemetry::{IgnoredEndpoint, Metrics};
use postrider_wire::endpoint::{self, Recorded, Unused};
use tracing::{error, warn};

use crate::faults;
use crate::followed::Followed;

/// What a table event means to the worker.
pub(crate) enum Known {
    /// An endpoint of an owned slice was created, changed or (`None`) deleted.
    Endpoint(Slice, EndpointId, Option<Box<Endpoint>>),
    /// A slice's endpoints are complete.
    Loaded(Slice, Claim),
}

/// Follows the partitions of owned slices.
pub(crate) struct Endpoints {
    reader: TableReader,
    slices: SliceCount,
    keys: Arc<KeyRing>,
    metrics: Metrics,
    followed: Followed,
}

impl Endpoints {
    pub(crate) fn new(
        reader: TableReader,
        slices: SliceCount,
        keys: Arc<KeyRing>,
        metrics: Metrics,
    ) -> Self {
        Self {
            reader,
            slices,
            keys,
            metrics,
            followed: Followed::default(),
        }
    }

    pub(crate) fn follow(&mut self, slice: Slice, claim: Claim) {
        self.followed.follow(slice, claim);
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
                    .map(|claim| Known::Loaded(slice, claim))
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
        match endpoint::of_record(record, self.slices, &self.keys) {
            Ok((id, recorded)) => {
                let endpoint = recorded.map(|recorded| Box::new(self.to_send(recorded)));
                Some(Known::Endpoint(slice, id, endpoint))
            }
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
    fn to_send(&self, recorded: Recorded) -> Endpoint {
        let (endpoint, unopened) = recorded.to_send();
        let endpoint = faults::endpoint(endpoint);
        if let Some(first) = unopened.first() {
            self.metrics.endpoint_secrets_unopened();
            error!(
                endpoint = %endpoint.id,
                version = endpoint.version,
                %first,
                secrets = unopened.len(),
                "alarm: secrets of an endpoint cannot be opened: its deliveries wait, nothing is \
                 sent to it; mend the key file and restart, or write the endpoint again"
            );
        }
        endpoint
    }
}
