//! The end of an ownership, in order.
//!
//! Decides that what is in flight ends, what was attempted here is moved or remembered with its
//! count, all else is dropped to be read again, and that the last words to a successor are written
//! when nothing happens any more. Leaves when a slice is drained, and its last commit, to
//! [`crate::worker`].

use postrider_domain::{Lane, Timestamp};

use super::{Draining, SliceEngine};
use crate::entry::EntryState;
use crate::queue::EntryId;

impl SliceEngine {
    /// Stops reading and admission. What is in flight ends; what waits for another attempt is
    /// moved to a rung so that its count and due time survive; the rest is dropped here and read
    /// again by the next owner. Done when [`Self::is_drained`].
    pub(crate) fn drain(&mut self, now: Timestamp) {
        if self.draining != Draining::No {
            return;
        }
        self.draining = Draining::Entries;
        for lane in Lane::all() {
            self.stop_reading(lane);
        }
        self.turns.clear();
        for flow in self.flows.values_mut() {
            flow.has_turn = false;
            flow.has_replay_turn = false;
            flow.take_waiting();
            if let Some(backlog) = &mut flow.backlog {
                backlog.append_no_more();
            }
        }
        let idle = self.entries.iter().filter(|(_, entry)| {
            !matches!(entry.state, EntryState::InFlight | EntryState::Settling)
        });
        // On a rung in the order in which they are due, so that none waits behind a later one.
        let mut idle: Vec<(Option<Timestamp>, EntryId)> =
            idle.map(|(id, entry)| (entry.timer, *id)).collect();
        idle.sort_unstable();
        for (_, id) in idle {
            let entry = self.entry(id);
            let due = if entry.state == EntryState::Waiting {
                entry.timer
            } else {
                None
            };
            self.leave_to_successor(now, id, due.unwrap_or(now));
        }
        self.go_on_draining(now);
    }

    /// What was attempted here is moved with its count and due time, or remembered with them where
    /// it is; the rest is dropped, to be read again.
    pub(super) fn leave_to_successor(&mut self, now: Timestamp, id: EntryId, due: Timestamp) {
        let entry = self.entry(id);
        if entry.attempts == entry.attempts_read() {
            self.drop_entry(id);
        } else if entry.key.is_some() {
            self.block(now, id, Some(due));
        } else {
            self.write_retry(now, id, due);
        }
    }

    /// Once nothing happens here any more, a successor is told what it must know.
    pub(super) fn go_on_draining(&mut self, now: Timestamp) {
        // A write under way of what was to be known earlier must not overtake it.
        let quiet = self.entries.is_empty() && self.writes.is_empty() && self.overtaken.is_none();
        if self.draining == Draining::Entries && quiet {
            self.draining = Draining::State;
            self.save_last_words(now);
        }
    }

    /// Whether nothing is in flight and nothing waits for an acknowledgement.
    pub(crate) fn is_drained(&self) -> bool {
        self.draining == Draining::State && self.writes.is_empty()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining != Draining::No
    }
}
