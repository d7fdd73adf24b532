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
use crate::entry::{Entry, EntryState};
use crate::queue::EntryId;

impl SliceEngine {
    /// Whether a delivery may wait in memory for its next attempt. It keeps its lane's frontier and
    /// the slice's bytes: half of every room is for what is due.
    pub(super) fn has_room_to_wait(&self, lane: Lane) -> bool {
        let half_free = || self.lanes[lane.index()].is_half_free();
        lane == Lane::Backlog || (self.held_bytes <= HELD_BYTES_MAX / 2 && half_free())
    }

    /// A record did not fit beside what the slice holds: until half of that is free none of its
    /// lanes is read, so that it becomes free whoever holds it, and nothing more begins to wait.
    pub(super) fn was_short_of_room(&mut self, now: Timestamp) {
        self.short = true;
        for lane in Lane::all().filter(|lane| *lane != Lane::Backlog) {
            self.stop_reading(lane);
        }
        self.make_room(now);
    }

    /// A lane is full, or the slice is short of room: what cannot start makes some.
    pub(super) fn make_room(&mut self, now: Timestamp) {
        let endpoints: Vec<EndpointId> = self.flows.keys().cloned().collect();
        for endpoint in endpoints {
            self.make_room_of(now, &endpoint);
        }
        let mut going_round = self.longest_waits();
        // In the order in which they are due, so that none waits behind a later one.
        going_round.sort_unstable();
        for (due, id) in going_round {
            self.write_retry(now, id, due);
        }
    }

    /// What waits for its next attempt and must make room, as little of it as will do: what is due
    /// last is late by least, when it waits on a rung once more.
    fn longest_waits(&self) -> Vec<(Timestamp, EntryId)> {
        let waits = |entry: &Entry| entry.state == EntryState::Waiting && entry.key.is_none();
        let leaves =
            |entry: &Entry| matches!(entry.state, EntryState::Settling | EntryState::Spilling);
        let mut waiting = Vec::new();
        let mut stay = [0_usize; Lane::COUNT];
        let mut bytes = self.held_bytes;
        for (id, entry) in &self.entries {
            if leaves(entry) {
                let held = reads(entry.lane) && !entry.ahead;
                bytes -= if held { entry.bytes } else { 0 };
                continue;
            }
            stay[entry.lane.index()] += 1;
            if let Some(due) = entry.timer
                && waits(entry)
                && self.is_in_the_way(entry.lane)
            {
                waiting.push((due, *id));
            }
        }
        // More than must be: what comes off its rung meanwhile takes room, too.
        let room = if self.short {
            HELD_BYTES_MAX / 4
        } else {
            usize::MAX
        };
        waiting.sort_unstable_by(|a, b| b.cmp(a));
        waiting.retain(|(_, id)| {
            let entry = &self.entries[id];
            let of_lane = &mut stay[entry.lane.index()];
            let offsets = &self.lanes[entry.lane.index()].offsets;
            let goes = !offsets.would_go_on_with(*of_lane) || bytes > room;
            if goes {
                *of_lane -= 1;
                bytes -= entry.bytes;
            }
            goes
        });
        waiting
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
        if self.is_draining() || !reads(lane) {
            return false;
        }
        self.short || self.lanes[lane.index()].is_full()
    }
}

/// Whether a lane's frontier waits for what is in memory.
const fn reads(lane: Lane) -> bool {
    matches!(lane, Lane::Deliveries | Lane::Retry(_))
}
