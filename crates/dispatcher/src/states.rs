//! What owners remember of the endpoints of the slices this worker claims, as `endpoint-state` has
//! it.
//!
//! Leaves what counts of it to `engine`.

use postrider_domain::Slice;
use postrider_engine::io::{Claim, Epoch, StateEntry};
use postrider_kafka::{TableEvent, TableReader};
use postrider_wire::endpoint_state::{self, Entry};
use tracing::error;

use crate::followed::Followed;

/// What a table event means to the worker.
pub(crate) enum Read {
    /// A record.
    Entry(Slice, Claim, StateEntry),
    /// All that was there when it was asked for has been read.
    Loaded(Slice, Claim),
}

/// Follows the partitions of claimed slices.
pub(crate) struct States {
    reader: TableReader,
    followed: Followed,
}

impl States {
    pub(crate) fn new(reader: TableReader) -> Self {
        Self {
            reader,
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

    /// `None` when the event says nothing about a slice that is being claimed.
    pub(crate) fn take(&mut self, event: TableEvent) -> Option<Read> {
        let slice = |partition| u16::try_from(partition).ok().map(Slice);
        match event {
            TableEvent::Record(record) => {
                let slice = slice(record.origin.partition)?;
                let claim = self.followed.current(slice)?;
                match endpoint_state::decode(&record) {
                    Ok(entry) => Some(Read::Entry(slice, claim, known(entry))),
                    Err(unreadable) => {
                        error!(origin = %record.origin, %unreadable, "endpoint-state record not used");
                        None
                    }
                }
            }
            TableEvent::Loaded { partition } => {
                let slice = slice(partition)?;
                let claim = self.followed.current(slice)?;
                Some(Read::Loaded(slice, claim))
            }
            TableEvent::Removed { partition } => {
                self.followed.removed(slice(partition)?);
                None
            }
        }
    }
}

fn known(entry: Entry) -> StateEntry {
    match entry {
        Entry::Fence { epoch, claimant } => StateEntry::Fence {
            epoch: Epoch(epoch),
            claimant,
        },
        Entry::Endpoint {
            id,
            epoch,
            remembered,
        } => StateEntry::Endpoint {
            id,
            epoch: Epoch(epoch),
            remembered,
        },
    }
}
