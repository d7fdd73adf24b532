//! What settles a record: the acknowledgement of what was written for it.
//!
//! Decides that a record is settled when nothing written for it is open, what a failed write leads
//! to, and that what no topic takes is written with less in it. Leaves what is written to those who
//! decide the delivery's fate, pace and order of further tries to [`crate::failed_writes`].

use std::sync::Arc;

use postrider_domain::{DeadLetterReason, Delivery, EndpointId, Lane, Outcome, Rung, Timestamp};

use super::finish::Judged;
use super::{Purpose, SliceEngine};
use crate::entry::EntryState;
use crate::failed_writes::smaller;
use crate::io::{AttemptEntry, Content, Observation, Order, Write, WriteFailure, WriteId};
use crate::queue::EntryId;

impl SliceEngine {
    /// A write was acknowledged by all in-sync replicas, at this offset.
    pub(crate) fn handle_write_acked(&mut self, now: Timestamp, id: WriteId, offset: i64) {
        let Some(purpose) = self.end_write(id) else {
            self.observe(Observation::StaleInput);
            return;
        };
        match purpose {
            Purpose::Entry(id) => match self.entries.get_mut(&id) {
                Some(entry) => {
                    entry.write_ended();
                    self.settle_if_done(now, id);
                }
                None => self.departed_was_written(id),
            },
            Purpose::Spill(entry, endpoint, key) => {
                self.spilled(now, entry, &endpoint, key, offset);
            }
            Purpose::State(endpoint) => self.saved(now, id.number, &endpoint),
            // It holds when it is read back.
            Purpose::Fence => {}
        }
        self.steer(now);
        self.go_on_draining(now);
    }

    /// A write failed. What is too large is replaced by what fits; all else is tried again until
    /// it succeeds, and nothing starts meanwhile. What is too large at its smallest is tried again
    /// too, seldom, while all others go on.
    pub(crate) fn handle_write_failed(
        &mut self,
        now: Timestamp,
        id: WriteId,
        write: Write,
        failure: WriteFailure,
    ) {
        if id.claim != self.claim || !self.writes.contains_key(&id.number) {
            self.observe(Observation::StaleInput);
            return;
        }
        let mut closes = true;
        let write = match (failure, write) {
            (WriteFailure::TooLarge, Write::Retry { .. } | Write::Backlog { .. }) => {
                let entry = match self.end_write(id) {
                    Some(Purpose::Spill(entry, endpoint, key)) => {
                        self.spill_failed(now, &endpoint, key);
                        entry
                    }
                    Some(Purpose::Entry(entry)) => entry,
                    Some(Purpose::State(_) | Purpose::Fence) | None => {
                        unreachable!("copies of a delivery are for an entry")
                    }
                };
                self.entry(entry).write_ended();
                self.write_dead_letter(entry, DeadLetterReason::Oversized);
                return;
            }
            (WriteFailure::TooLarge, write) => match smaller(write) {
                Ok(write) => {
                    self.orders.push_back(Order::Write { id, write });
                    return;
                }
                // Nothing can be done here; nobody else shall wait for it.
                Err(write) => {
                    closes = false;
                    write
                }
            },
            (WriteFailure::Passing, write) => write,
        };
        if self.failed_writes.add(now, id, write, closes) {
            self.observe(Observation::AdmissionClosed);
        }
    }

    pub(super) fn write_attempt(
        &mut self,
        now: Timestamp,
        id: EntryId,
        judged: Option<Judged>,
        outcome: Outcome,
        next_attempt_at: Option<Timestamp>,
    ) {
        let epoch = self.epoch;
        let entry = self.entry(id);
        let (report, unmet) = judged.map(|judged| (judged.report, judged.unmet)).unzip();
        let attempt = AttemptEntry {
            delivery: entry.delivery(),
            attempt: entry.attempts,
            report,
            at: now,
            outcome,
            unmet: unmet.flatten(),
            next_attempt_at,
            lane: entry.lane,
            offset: entry.offset,
            epoch,
        };
        self.write(id, Write::Attempt(Box::new(attempt)));
    }

    pub(super) fn write_dead_letter(&mut self, id: EntryId, reason: DeadLetterReason) {
        self.clear_timer(id);
        let entry = self.entry(id);
        entry.state = EntryState::Settling;
        let write = Write::DeadLetter {
            delivery: entry.delivery(),
            attempts: entry.attempts,
            reason,
            last_status: entry.last_status,
            lane: entry.lane,
            offset: entry.offset,
            without_value: false,
        };
        self.write(id, write);
    }

    /// Moves an entry to the rung its remaining wait calls for. A wait that is too short for any
    /// goes to the shortest, whose records are read ahead of their delay.
    pub(super) fn write_retry(&mut self, now: Timestamp, id: EntryId, due: Timestamp) {
        let rung = Rung::for_wait(due.since(now)).unwrap_or(Rung::SHORTEST);
        let (delivery, attempts) = self.move_out(id);
        if self.entry(id).lane == Lane::Retry(rung) && attempts == delivery.attempts {
            // To where it came from: the copy is no repetition.
            self.recent.forget(delivery.id, attempts, Lane::Retry(rung));
        }
        let write = Write::Retry {
            delivery,
            attempts,
            due,
            rung,
        };
        self.write(id, write);
    }

    /// A copy of an entry takes its place.
    pub(super) fn move_out(&mut self, id: EntryId) -> (Arc<Delivery>, u32) {
        self.clear_timer(id);
        let entry = self.entry(id);
        entry.state = EntryState::Settling;
        (entry.delivery(), entry.attempts)
    }

    pub(super) fn write(&mut self, entry: EntryId, write: Write) {
        self.entry(entry).unacked_writes += 1;
        self.begin_write(Purpose::Entry(entry), write);
    }

    pub(super) fn begin_write(&mut self, purpose: Purpose, write: Write) -> u64 {
        let number = self.next_write;
        self.next_write += 1;
        self.writes.insert(number, purpose);
        let id = WriteId {
            slice: self.slice,
            claim: self.claim,
            number,
        };
        self.orders.push_back(Order::Write { id, write });
        number
    }

    pub(super) fn end_write(&mut self, id: WriteId) -> Option<Purpose> {
        if id.claim != self.claim {
            return None;
        }
        let purpose = self.writes.remove(&id.number)?;
        if self.failed_writes.remove(id) {
            self.observe(Observation::AdmissionOpened);
        }
        Some(purpose)
    }

    pub(super) fn settle_if_done(&mut self, now: Timestamp, id: EntryId) {
        let done = self
            .entries
            .get(&id)
            .is_some_and(|e| e.state == EntryState::Settling && e.unacked_writes == 0);
        if done {
            let endpoint = match &self.entry(id).content {
                Content::Delivery(delivery) => Some(delivery.endpoint.clone()),
                Content::Unreadable { .. } => None,
            };
            let (key, heads_key) = (self.entry(id).key, self.entry(id).heads_key);
            let (lane, offset) = self.drop_entry(id);
            self.settle_offset(now, lane, offset, endpoint.as_ref());
            if let (Some(key), Some(endpoint)) = (key, &endpoint) {
                self.follow_on(now, endpoint, key, heads_key);
            }
        }
    }

    pub(super) fn settle_offset(
        &mut self,
        now: Timestamp,
        lane: Lane,
        offset: i64,
        endpoint: Option<&EndpointId>,
    ) {
        if lane == Lane::Backlog {
            if let Some(endpoint) = endpoint {
                self.settle_backlog(now, endpoint, offset);
            }
            return;
        }
        let state = &mut self.lanes[lane.index()];
        let settled = state.offsets.settle(offset);
        debug_assert!(settled, "{lane} offset {offset} was settled twice");
        state.settled += 1;
        for lane in Lane::all() {
            self.reconsider_reading(lane);
        }
    }

    pub(super) fn drop_entry(&mut self, id: EntryId) -> (Lane, i64) {
        self.clear_timer(id);
        let entry = self.entries.remove(&id).expect("a known entry");
        let (lane, bytes) = (entry.lane, entry.bytes);
        match lane {
            // What is being written refers to it.
            Lane::Backlog if entry.unacked_writes > 0 => {
                self.departed.insert(id, (entry.unacked_writes, bytes));
            }
            Lane::Backlog => self.passes.leave(bytes),
            _ if entry.ahead => self.lanes[lane.index()].leave_look_ahead(bytes),
            _ => {
                self.held_bytes -= bytes;
            }
        }
        self.reconsider_reading(lane);
        (lane, entry.offset)
    }

    /// A write of an entry ended that left memory before, to be read again: with the last one its
    /// room is free.
    fn departed_was_written(&mut self, id: EntryId) {
        let Some((unacked_writes, bytes)) = self.departed.get_mut(&id) else {
            return;
        };
        *unacked_writes -= 1;
        if *unacked_writes == 0 {
            let bytes = *bytes;
            self.departed.remove(&id);
            self.passes.leave(bytes);
        }
    }
}
