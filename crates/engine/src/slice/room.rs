//! Room for those who can start, at the expense of those who cannot.
//!
//! Decides what may wait in memory, and what leaves it when a lane stands at a bound: deliveries
//! that wait for their next attempt go to a rung, those of an endpoint that takes none now to its
//! backlog. Else an endpoint that fails, or asks to wait, would keep the lane from all others for
//! as long as it is held. Leaves which bounds there are to [`crate::offsets`] and [`super`], and
//! what has a turn coming, is in flight or is being written where it is: that ends by itself.

use postrider_domain::{EndpointId, Lane, Timestamp};

use super::{HELD_BYTES_MAX, SliceEngine};
use crate::admission::Admitting;
use crate::entry::EntryState;
use crate::queue::EntryId;

impl SliceEngine {
    /// Whether a delivery may wait in memory for its next attempt. It keeps its lane's frontier and
    /// the slice's bytes: half of every room is for what is due.
    pub(super) fn has_room_to_wait(&self, lane: Lane) -> bool {
        let half_free = || self.lanes[lane.index()].offsets.is_half_free();
        lane == Lane::Backlog || (self.held_bytes <= HELD_BYTES_MAX / 2 && half_free())
    }

    /// A lane was stopped: what only waits makes room.
    pub(super) fn make_room(&mut self, now: Timestamp) {
        let waiting = self.entries.iter().filter(|(_, entry)| {
            let waits = entry.state == EntryState::Waiting && entry.key.is_none();
            waits && self.is_in_the_way(entry.lane)
        });
        // In the order in which they are due, so that none waits behind a later one.
        let mut waiting: Vec<(Timestamp, EntryId)> = waiting
            .filter_map(|(id, entry)| Some((entry.timer?, *id)))
            .collect();
        waiting.sort_unstable();
        for (due, id) in waiting {
            self.write_retry(now, id, due);
        }
        let endpoints: Vec<EndpointId> = self.flows.keys().cloned().collect();
        for endpoint in endpoints {
            self.make_room_of(now, &endpoint);
        }
    }

    /// An endpoint takes nothing now, or a lane was stopped: if both, what it has leaves memory.
    pub(super) fn make_room_of(&mut self, now: Timestamp, endpoint: &EndpointId) {
        let Some(flow) = self.flows.get(endpoint) else {
            return;
        };
        let queued = flow.queue.iter();
        let queued: Vec<EntryId> = queued
            .filter(|id| self.is_in_the_way(self.entries[id].lane))
            .collect();
        if queued.is_empty() || self.admitting(now, endpoint) != Some(Admitting::Closed) {
            return;
        }
        for id in queued {
            self.dequeue(id);
            self.spill(now, id);
        }
    }

    /// Whether what is held of a lane keeps it, or another, from being read.
    fn is_in_the_way(&self, lane: Lane) -> bool {
        let reads = |lane: &Lane| matches!(lane, Lane::Deliveries | Lane::Retry(_));
        if self.is_draining() || !reads(&lane) {
            return false;
        }
        let state = &self.lanes[lane.index()];
        let at_bound = state.stands() && !state.offsets.has_half_free();
        let stands = |lane: Lane| self.lanes[lane.index()].stands();
        let full = self.held_bytes > HELD_BYTES_MAX / 2;
        at_bound || (full && Lane::all().filter(reads).any(stands))
    }
}
