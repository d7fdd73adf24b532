//! Which attempt starts, and that it may.
//!
//! Decides the order in which an endpoint's next attempt is asked for: its state, its health, the
//! worker's room, the lease, its limit. The first that says no says also what it waits for, and
//! the endpoint has its next turn then.

use std::sync::Arc;
use std::time::Duration;

use postrider_catalog::Lookup;
use postrider_domain::{EndpointId, EndpointState, Lane, Timestamp};

use super::SliceEngine;
use crate::entry::EntryState;
use crate::io::{StartAttempt, Ticket};
use crate::limit::{Refusal, START_GRACE};
use crate::queue::EntryId;
use crate::turns::Room;

/// An endpoint whose limit is used up for longer takes no deliveries meanwhile: what it has goes
/// to its backlog, out of memory.
const LIMITED_LONG: Duration = Duration::from_secs(5);

/// An attempt that came too late to the network is decided again after this at the latest: what made
/// it late may be that too much is decided at once.
const AGAIN: Duration = Duration::from_millis(50);

impl SliceEngine {
    /// The next request to send, if any may start now.
    pub(crate) fn poll_attempt(&mut self, now: Timestamp, room: &mut Room) -> Option<StartAttempt> {
        if self.is_draining() || self.overtaken.is_some() || !self.failed_writes.is_empty() {
            return None;
        }
        loop {
            let endpoint = self.turns.next(room)?;
            let Some(flow) = self.flows.get_mut(&endpoint) else {
                continue;
            };
            if room.replays {
                flow.has_replay_turn = false;
            } else {
                flow.has_turn = false;
            }
            let started = self.try_start(now, &endpoint, room);
            if started.is_some() {
                return started;
            }
        }
    }

    fn try_start(
        &mut self,
        now: Timestamp,
        id: &EndpointId,
        room: &mut Room,
    ) -> Option<StartAttempt> {
        let Lookup::Known(endpoint) = self.catalog.find(id) else {
            return None;
        };
        let endpoint = Arc::clone(endpoint);
        if endpoint.state != EndpointState::Active || self.ending(id).is_some() {
            return None;
        }
        let cap = endpoint.concurrency.unwrap_or(self.defaults.concurrency);
        let flow = self.flows.get_mut(id)?;
        if room.replays && flow.has_attempts() {
            // It has something better to send; its replays have a turn after that.
            return None;
        }
        let Some(entry) = flow.next(room.replays) else {
            // What had this turn is gone, and while it waited replays gave way to it.
            if !flow.has_attempts() {
                self.wake(id);
            }
            return None;
        };
        let permits = flow.health.permits(now, cap);
        if flow.in_flight >= permits.in_flight {
            if let Some(at) = permits.not_before {
                self.look_again(id, at);
                self.make_room_of(now, id);
            }
            return None;
        }
        if usize::from(flow.in_flight) >= room.share() {
            // The end of one of them gives it a turn, or that of many others.
            room.share_used = true;
            return None;
        }
        let unproven = !flow.health.is_proven();
        let untried = flow.health.is_untried();
        if unproven && !self.turns.has_room(room, untried) {
            if room.replays {
                flow.has_replay_turn = true;
                self.turns.wait_with_replays(id.clone());
            } else {
                flow.has_turn = true;
                self.turns.wait_for_room(id.clone(), untried);
            }
            return None;
        }
        let asked = endpoint.timeout.unwrap_or(self.defaults.timeout);
        let timeout = room.lease.deadline(asked);
        let Some(lease_end) = room.lease.not_after(timeout).filter(|at| now <= *at) else {
            room.lease_wanted = true;
            return None;
        };
        let counted = flow.limiter.is_some();
        let not_after = match flow.limiter.as_mut().map(|limiter| limiter.start(now)) {
            None => lease_end,
            Some(Ok(())) => {
                flow.saving.dirty = true;
                lease_end.min(now + START_GRACE)
            }
            Some(Err(Refusal::Until(at))) => {
                if at > now + LIMITED_LONG {
                    flow.limited_until = at;
                    self.reconsider_backlog(now, id);
                    self.make_room_of(now, id);
                }
                self.look_again(id, at);
                return None;
            }
            Some(Err(Refusal::Unreserved)) => {
                self.save_reservation(now, id);
                return None;
            }
            Some(Err(Refusal::Awaited)) => return None,
        };
        flow.pop(room.replays);
        flow.in_flight += 1;
        flow.health.started(now, cap);
        let bytes = self.entry(entry).bytes;
        self.flow(id).queued_bytes -= bytes;
        if unproven {
            self.turns.unproven_started();
        }
        self.wake(id);
        self.clear_timer(entry);
        let started = self.entry(entry);
        started.state = EntryState::InFlight;
        started.started_at = now;
        started.unproven = unproven;
        started.sent_to = Some(Arc::clone(&endpoint));
        started.counted = counted;
        started.heads_key = started.key.is_some();
        let (delivery, attempt) = (started.delivery(), started.attempts + 1);
        Some(StartAttempt {
            ticket: self.ticket(entry),
            delivery,
            endpoint,
            attempt,
            timeout,
            not_after,
        })
    }

    /// An attempt was not started, as its time had passed.
    pub(crate) fn handle_not_started(&mut self, now: Timestamp, ticket: Ticket) {
        let Some((id, endpoint)) = self.end_flight(ticket) else {
            return;
        };
        let entry = self.entry(id);
        entry.sent_to = None;
        let (started_at, counted) = (entry.started_at, entry.counted);
        let (hold_until, lane) = (entry.hold_until, entry.lane);
        let flow = self.flow(&endpoint);
        flow.health.not_started(started_at);
        if let Some(limiter) = &mut flow.limiter
            && counted
        {
            limiter.give_back(started_at);
        }
        if self.is_draining() {
            // Nothing happened: the next owner reads it again.
            self.put_back_for_successor(now, id);
            self.go_on_draining(now);
            return;
        }
        self.put_back(id);
        self.wait(id, EntryState::Queued, hold_until.max(now));
        self.look_again(&endpoint, now + AGAIN);
        if lane == Lane::Backlog {
            self.reconsider_backlog(now, &endpoint);
        }
    }

    /// An attempt is over: its room is free. `None` when it is one of another claim.
    pub(super) fn end_flight(&mut self, ticket: Ticket) -> Option<(EntryId, EndpointId)> {
        if ticket.claim != self.claim {
            return None;
        }
        let entry = self.entries.get(&ticket.entry)?;
        if entry.state != EntryState::InFlight {
            return None;
        }
        let endpoint = entry.delivery().endpoint.clone();
        if ticket.unproven {
            self.turns.unproven_ended();
        }
        let flow = self.flow(&endpoint);
        flow.in_flight -= 1;
        Some((ticket.entry, endpoint))
    }

    /// It is the next of its endpoint, or of its key, again.
    pub(super) fn put_back(&mut self, id: EntryId) {
        let entry = self.entry(id);
        let (class, key, bytes) = (entry.class(), entry.key, entry.bytes);
        entry.heads_key = false;
        let endpoint = entry.delivery().endpoint.clone();
        let flow = self.flow(&endpoint);
        flow.queued_bytes += bytes;
        match key {
            Some(key) => flow.keys.put_back(key, id),
            None => flow.queue.push_front(class, id),
        }
    }

    /// What ends unattempted while the slice is drained: dropped if that loses nothing.
    pub(super) fn put_back_for_successor(&mut self, now: Timestamp, id: EntryId) {
        self.leave_to_successor(now, id, now);
    }

    /// The endpoint may have a turn: something came, ended or changed.
    pub(super) fn wake(&mut self, id: &EndpointId) {
        if self.is_draining() {
            return;
        }
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        if flow.has_attempts() && !flow.has_turn {
            flow.has_turn = true;
            self.turns.give(id.clone());
        } else if flow.queue.has_replays() && !flow.has_replay_turn {
            flow.has_replay_turn = true;
            self.turns.give_replay(id.clone());
        }
    }
}
