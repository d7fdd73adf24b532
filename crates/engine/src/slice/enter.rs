//! The way of a record into memory, to its endpoint's turn.
//!
//! Decides that a repeated copy is dropped, that a rung's record waits in its lane's room until its
//! time there is over and then goes down the ladder, waits in memory or takes its turn, and what
//! an endpoint has no room for goes to its backlog. Leaves how much room there is to
//! [`crate::admission`].

use std::sync::Arc;

use postrider_domain::{DeadLetterReason, EndpointId, Lane, Outcome, Rung, Timestamp};

use super::{DISCARD_GRACE, HOLD_MAX, Ordered, SAME_RUNG_MIN, SliceEngine};
use crate::entry::{Entry, EntryState};
use crate::flow::Flow;
use crate::io::{Content, LaneRecord, Observation, Write};
use crate::queue::EntryId;

impl SliceEngine {
    pub(super) fn take_in(&mut self, now: Timestamp, record: LaneRecord, ordered: Option<Ordered>) {
        let LaneRecord {
            reading,
            offset,
            appended_at,
            bytes,
            content,
        } = record;
        let (key, head) = ordered.map_or((None, None), |ordered| (ordered.key, ordered.head));
        let attempts = match &content {
            Content::Delivery(delivery) => {
                if reading.lane == Lane::Redeliveries {
                    // Another life: what the first one left is no copy of it.
                    self.recent.forget_all(delivery.id);
                }
                if !self
                    .recent
                    .insert(delivery.id, delivery.attempts, reading.lane)
                {
                    self.observe(Observation::DuplicateDropped);
                    let endpoint = delivery.endpoint.clone();
                    self.settle_offset(now, reading.lane, offset, Some(&endpoint));
                    return;
                }
                head.map_or(delivery.attempts, |head| head.attempts)
            }
            Content::Unreadable { .. } => 0,
        };
        let id = self.next_entry;
        self.next_entry += 1;
        let ahead = matches!(reading.lane, Lane::Backlog | Lane::Redeliveries);
        match reading.lane {
            Lane::Backlog => self.passes.enter(bytes),
            Lane::Redeliveries => self.lanes[reading.lane.index()].enter_look_ahead(bytes),
            Lane::Deliveries | Lane::Retry(_) => {
                self.held_bytes += bytes;
            }
        }
        let entry = Entry {
            lane: reading.lane,
            offset,
            content,
            bytes,
            attempts,
            last_status: None,
            state: EntryState::Settling,
            hold_until: now + HOLD_MAX,
            timer: None,
            unacked_writes: 0,
            started_at: now,
            unproven: false,
            sent_to: None,
            counted: false,
            key,
            heads_key: false,
            appended_at,
            ahead,
        };
        if let Content::Unreadable {
            record,
            reason,
            message,
        } = &entry.content
        {
            let (record, reason, message) = (Arc::clone(record), *reason, message.clone());
            self.entries.insert(id, entry);
            let without_value = false;
            self.write(
                id,
                Write::Unreadable {
                    record,
                    reason,
                    message,
                    without_value,
                },
            );
            return;
        }
        let delivery = entry.delivery();
        let due = delivery.due;
        self.entries.insert(id, entry);
        if delivery.test
            && let Some(reason) = self.refusal_of_test(now, &delivery.endpoint, appended_at)
        {
            return self.end_test(now, id, reason);
        }
        if key.is_none()
            && let Some(due) = head.and_then(|head| head.due)
            && due > now
        {
            // It waits for no other, only for its time.
            return self.write_retry(now, id, due);
        }
        match reading.lane {
            Lane::Retry(rung) => {
                let left = appended_at + rung.delay();
                self.wait_on_rung(now, id, due.map_or(left, |due| due.min(left)));
            }
            Lane::Deliveries | Lane::Backlog | Lane::Redeliveries => self.admit(now, id),
        }
    }

    pub(super) fn wait_on_rung(&mut self, now: Timestamp, id: EntryId, until: Timestamp) {
        if until <= now {
            self.admit(now, id);
            return;
        }
        let entry = self.entry(id);
        entry.ahead = true;
        let (lane, bytes) = (entry.lane, entry.bytes);
        // What waits for hours must not take the room of what is due now.
        self.held_bytes -= bytes;
        self.lanes[lane.index()].enter_look_ahead(bytes);
        self.wait(id, EntryState::OnRung, until);
    }

    /// It is its lane's no longer: it takes the slice's room.
    pub(super) fn leave_look_ahead(&mut self, id: EntryId) {
        let entry = self.entry(id);
        if !std::mem::replace(&mut entry.ahead, false) {
            return;
        }
        let (lane, bytes) = (entry.lane, entry.bytes);
        self.lanes[lane.index()].leave_look_ahead(bytes);
        self.held_bytes += bytes;
        self.reconsider_reading(lane);
    }

    /// Its time on the lane is over: it goes down the ladder, waits in memory, or takes its turn.
    pub(super) fn admit(&mut self, now: Timestamp, id: EntryId) {
        let entry = self.entry(id);
        let read_at = entry.hold_until - HOLD_MAX;
        let (lane, due) = (entry.lane, entry.delivery().due.filter(|due| *due > now));
        let from_rung = matches!(lane, Lane::Retry(_));
        let shortest = (self.short && from_rung).then_some(Rung::SHORTEST);
        let rung = due.and_then(|due| Rung::for_wait(due.since(now)).or(shortest));
        if let (Some(rung), Lane::Retry(of), Some(due)) = (rung, lane, due)
            && of <= rung
            && now < read_at + SAME_RUNG_MIN
        {
            // The broker's clock is behind ours: a copy would come back at once.
            return self.wait_on_rung(now, id, due.min(read_at + SAME_RUNG_MIN));
        }
        let entry = self.entry(id);
        entry.hold_until = now + HOLD_MAX;
        match due {
            Some(due) if rung.is_some() => self.write_retry(now, id, due),
            Some(due) => self.wait(id, EntryState::Waiting, due),
            None => self.enqueue(now, id),
        }
    }

    /// It takes its turn, or, when its endpoint has no room for it, goes to the backlog; what gets
    /// no turn in time is ended or moved by [`Self::give_up_hold`].
    pub(super) fn enqueue(&mut self, now: Timestamp, id: EntryId) {
        let entry = self.entry(id);
        let (lane, bytes, class, key) = (entry.lane, entry.bytes, entry.class(), entry.key);
        let (endpoint, mut until) = (entry.delivery().endpoint.clone(), entry.hold_until);
        if let Some(ending) = self.ending(&endpoint) {
            let is_gone = matches!(ending, Outcome::DeadLettered(_));
            if is_gone || lane == Lane::Backlog {
                return self.end_without_attempt(now, id, ending);
            }
            if lane != Lane::Redeliveries {
                // It waits there, where it takes no room and keeps its place.
                return self.spill(now, id);
            }
            until = until.min(now + DISCARD_GRACE);
        } else if lane == Lane::Backlog && self.is_past_window(now, id) {
            return self.give_up(now, id, DeadLetterReason::WindowPassed);
        } else if key.is_some() && self.is_exhausted(id) {
            return self.give_up(now, id, DeadLetterReason::AttemptsExhausted);
        } else if self.has_to_spill(now, id) {
            return self.spill(now, id);
        }
        let offset = self.entry(id).offset;
        let left = |flow: &Flow| {
            flow.backlog
                .as_ref()
                .zip(key)
                .is_some_and(|(backlog, key)| backlog.left.is_behind(key, offset))
        };
        if left(self.flow(&endpoint)) {
            // One ahead of it stays in the log, as another rule has it now.
            return self.leave(id);
        }
        self.wait(id, EntryState::Queued, until);
        let flow = self.flow(&endpoint);
        flow.queued_bytes += bytes;
        match key {
            Some(key) => flow.keys.push(key, id),
            None => flow.queue.push(class, id),
        }
        self.wake(&endpoint);
    }

    /// The endpoint's rule changed: what waits is looked at anew.
    pub(super) fn requeue(&mut self, now: Timestamp, endpoint: &EndpointId) {
        let waiting = match self.flows.get_mut(endpoint) {
            Some(flow) => flow.take_waiting(),
            None => return,
        };
        for id in waiting {
            self.enqueue(now, id);
        }
    }

    /// Takes an entry out of its endpoint's queue.
    pub(super) fn dequeue(&mut self, id: EntryId) {
        let entry = self.entry(id);
        let (endpoint, bytes) = (entry.delivery().endpoint.clone(), entry.bytes);
        let key = entry.key;
        let flow = self.flow(&endpoint);
        match key {
            Some(key) => flow.keys.remove(key, id),
            None => flow.queue.remove(id),
        }
        flow.queued_bytes -= bytes;
    }
}
