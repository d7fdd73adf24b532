//! One lane of a slice: how far it is read and settled, and whether it is being read.
//!
//! Decides when reading goes on again (with a part of the bound free at which it stopped, so that it
//! does not stop and go with each record), and how far ahead of its delay a rung is read. Leaves
//! what a record is, and what makes room, to `slice`.

use crate::commit_map::CommitMap;
use crate::offsets::{HOLES_MAX, OffsetTracker, SPAN_MAX};

/// Records of a rung that are read before they are due, so that they are met on time.
pub const LOOK_AHEAD_MAX: usize = 256;

/// Bytes of such records.
pub const LOOK_AHEAD_BYTES_MAX: usize = 512 << 10;

/// A committed offset with its metadata; `None` = never committed.
pub type Committed = Option<(i64, String)>;

#[derive(Debug)]
pub(crate) struct LaneState {
    pub(crate) offsets: OffsetTracker,
    /// Offsets settled since they were last taken note of.
    pub(crate) settled: u32,
    /// Number of the reading under way, or of the last one.
    number: u32,
    reading: bool,
    /// Reading ended because a record did not fit its bounds.
    full: bool,
    /// Never read again in this ownership.
    stopped: bool,
    look_ahead: usize,
    look_ahead_bytes: usize,
}

/// The commit metadata could not be used: the lane is replayed from its frontier.
pub(crate) struct MapIgnored;

impl LaneState {
    /// Where the last owner left it.
    pub(crate) fn restored(committed: &Committed) -> (Self, Option<MapIgnored>) {
        let (offsets, ignored) = match committed {
            None => (OffsetTracker::unread(), None),
            Some((frontier, metadata)) => {
                let map = CommitMap::decode(*frontier, metadata).ok();
                let ignored = map.is_none().then_some(MapIgnored);
                (OffsetTracker::restored(*frontier, map), ignored)
            }
        };
        let lane = Self {
            offsets,
            settled: 0,
            number: 0,
            reading: false,
            full: false,
            stopped: false,
            look_ahead: 0,
            look_ahead_bytes: 0,
        };
        (lane, ignored)
    }

    /// Whether records of this reading are wanted; those of an earlier one are read again.
    pub(crate) const fn is_reading(&self, number: u32) -> bool {
        self.reading && self.number == number
    }

    /// Whether one more record may be read ahead. What is too many leaves with time.
    pub(crate) const fn has_room_ahead(&self, bytes: usize) -> bool {
        self.look_ahead == 0
            || (self.look_ahead < LOOK_AHEAD_MAX
                && self.look_ahead_bytes + bytes <= LOOK_AHEAD_BYTES_MAX)
    }

    /// A record did not fit its bounds.
    pub(crate) const fn was_full(&mut self) {
        self.full = true;
    }

    /// Whether it is not read because it has no room.
    pub(crate) fn is_full(&self) -> bool {
        self.full && !self.stopped && !self.offsets.may_go_on()
    }

    /// How many records wait or are under way, beside those that are read ahead.
    pub(crate) fn held(&self) -> usize {
        self.offsets.incomplete() - self.look_ahead
    }

    /// Whether half of its room is free; what is read ahead leaves with time.
    pub(crate) fn is_half_free(&self) -> bool {
        self.held() <= HOLES_MAX / 2 && self.offsets.span() <= SPAN_MAX / 2
    }

    /// Begins a reading if there is room for one and none under way; its number.
    pub(crate) fn start_reading(&mut self) -> Option<u32> {
        self.full &= !self.offsets.may_go_on();
        let free = self.look_ahead <= LOOK_AHEAD_MAX / 2
            && self.look_ahead_bytes <= LOOK_AHEAD_BYTES_MAX / 2;
        if self.reading || self.stopped || self.full || !free {
            return None;
        }
        self.reading = true;
        self.number += 1;
        Some(self.number)
    }

    /// Ends the reading under way; whether there was one.
    pub(crate) const fn stop_reading(&mut self) -> bool {
        std::mem::replace(&mut self.reading, false)
    }

    /// No reading is begun any more.
    pub(crate) const fn stop_for_good(&mut self) {
        self.stopped = true;
    }

    /// A record waits on its rung.
    pub(crate) const fn enter_look_ahead(&mut self, bytes: usize) {
        self.look_ahead += 1;
        self.look_ahead_bytes += bytes;
    }

    /// It waits no longer.
    pub(crate) const fn leave_look_ahead(&mut self, bytes: usize) {
        self.look_ahead -= 1;
        self.look_ahead_bytes -= bytes;
    }

    /// Offset and metadata to commit; `None` before the first record.
    pub(crate) fn commit_point(&self) -> Option<(i64, String)> {
        let (frontier, map) = self.offsets.commit_map()?;
        Some((frontier, map.encode(frontier)))
    }
}
