//! The way of a delivery over its endpoint's backlog, there and back.
//!
//! Decides which deliveries take it: those of an endpoint that has no room for more in memory, all
//! that come while a part of its backlog is still ahead of them, so that they keep their order, all
//! of ordered endpoints, what is to be discarded, and what was held for too long; and what is read
//! there when: nothing of an endpoint that takes nothing, until a window ends, nor of one that may
//! come back. Leaves cursors, passes and the order of appends to [`crate::backlog`].

use std::time::Duration;

use postrider_catalog::Lookup;
use postrider_domain::{
    Delivery, DiscardReason, EndpointId, EndpointState, Lane, Ordering, Outcome, Timestamp,
};

use super::save::SAVED_EVERY;
use super::{DISCARD_GRACE, Ordered, Purpose, SliceEngine};
use crate::admission::{Admitting, Held, has_room};
use crate::backlog::{Backlog, Fate, Step, WINDOW};
use crate::entry::EntryState;
use crate::flow::Flow;
use crate::io::{Content, LaneRecord, Write};
use crate::order::key_of;
use crate::queue::EntryId;

/// What becomes of the records of a backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BacklogUse {
    /// They are taken into memory: to be attempted, or ended.
    Takes,
    /// They stay unread until their windows end.
    Waits,
    /// They stay unread for as long as their endpoint may come back, then they are discarded.
    Discards,
}

impl SliceEngine {
    /// Whether a delivery that comes now has to go to the backlog.
    pub(super) fn has_to_spill(&mut self, now: Timestamp, id: EntryId) -> bool {
        let entry = self.entry(id);
        let (endpoint, bytes, lane) = (entry.delivery().endpoint.clone(), entry.bytes, entry.lane);
        if lane == Lane::Backlog {
            return false;
        }
        let test = self.is_test(id);
        if self.ordering(&endpoint) != Ordering::None && !test {
            // Its backlog is its order.
            return true;
        }
        if lane == Lane::Redeliveries {
            // It has time, and its lane has room of its own.
            return false;
        }
        let held = Held {
            // The entry itself is among them; what is read ahead leaves with time.
            records: self.lanes[lane.index()].held() - 1,
            bytes: self.held_bytes - bytes,
        };
        let Some(admitting) = self.admitting(now, &endpoint) else {
            return false;
        };
        let flow = self.flow(&endpoint);
        if flow.backlog.as_deref().is_some_and(Backlog::is_ahead) && !test {
            return true;
        }
        !has_room(admitting, held, flow.queue.len(), flow.queued_bytes, bytes)
    }

    /// How the endpoint takes deliveries; `None` = it is not known.
    pub(super) fn admitting(&mut self, now: Timestamp, id: &EndpointId) -> Option<Admitting> {
        let Lookup::Known(endpoint) = self.catalog.find(id) else {
            return None;
        };
        let cap = endpoint.concurrency.unwrap_or(self.defaults.concurrency);
        let paused = endpoint.state != EndpointState::Active;
        let flow = self.flow(id);
        Some(if paused {
            Admitting::Paused
        } else if !flow.health.is_admitting(now) || now < flow.limited_until {
            Admitting::Closed
        } else if flow.in_flight < flow.health.permits(now, cap).in_flight {
            Admitting::Free
        } else {
            Admitting::Yes
        })
    }

    /// Moves an entry to the backlog, once a successor knows that there is one.
    pub(super) fn spill(&mut self, now: Timestamp, id: EntryId) {
        if self.is_test(id) {
            return self.end_test(now, id, DiscardReason::TestFailed);
        }
        self.clear_timer(id);
        let entry = self.entry(id);
        entry.state = EntryState::Spilling;
        let delivery = entry.delivery();
        let endpoint = delivery.endpoint.clone();
        let key = key_of(self.ordering(&endpoint), &delivery);
        let from = self.passes.end();
        let flow = self.flow(&endpoint);
        let backlog = flow
            .backlog
            .get_or_insert_with(|| Box::new(Backlog::new(from)));
        let opened = backlog.is_opened();
        backlog.will_append(id, key);
        if opened {
            self.append_pending(&endpoint);
        } else {
            self.save_soon(now, &endpoint, Duration::ZERO);
        }
    }

    /// Appends what waits for that.
    fn append_pending(&mut self, endpoint: &EndpointId) {
        let next = |flow: &mut Flow| flow.backlog.as_mut()?.append();
        while let Some((id, key)) = next(self.flow(endpoint)) {
            let (delivery, attempts) = self.move_out(id);
            self.entry(id).unacked_writes += 1;
            let write = Write::Backlog { delivery, attempts };
            self.begin_write(Purpose::Spill(id, endpoint.clone(), key), write);
        }
    }

    /// A successor knows now that there is a backlog.
    pub(super) fn open_backlog(&mut self, endpoint: &EndpointId) {
        let Some(backlog) = self.flow(endpoint).backlog.as_mut() else {
            return;
        };
        backlog.open();
        self.append_pending(endpoint);
    }

    /// A copy is in the backlog.
    pub(super) fn spilled(
        &mut self,
        now: Timestamp,
        id: EntryId,
        endpoint: &EndpointId,
        key: Option<u64>,
        offset: i64,
    ) {
        self.passes.appended(offset);
        if let Some(backlog) = self.flow(endpoint).backlog.as_mut() {
            backlog.appended(key, Some(offset));
        }
        self.entry(id).write_ended();
        self.settle_if_done(now, id);
        self.append_pending(endpoint);
        self.reconsider_backlog(now, endpoint);
    }

    /// A copy went elsewhere.
    pub(super) fn spill_failed(&mut self, now: Timestamp, endpoint: &EndpointId, key: Option<u64>) {
        if let Some(backlog) = self.flow(endpoint).backlog.as_mut() {
            backlog.appended(key, None);
        }
        self.append_pending(endpoint);
        self.reconsider_backlog(now, endpoint);
    }

    /// A record of the backlog was read, of whichever endpoint.
    pub(super) fn handle_backlog_record(&mut self, now: Timestamp, record: LaneRecord) {
        let offset = record.offset;
        let ordered = match &record.content {
            Content::Delivery(delivery) => self.ordered(&delivery.endpoint, delivery, offset),
            Content::Unreadable { .. } => None,
        };
        let taken = match &record.content {
            Content::Delivery(delivery) => {
                let fate = self.fate(now, &record, delivery, ordered);
                let flow = self.flows.get_mut(&delivery.endpoint);
                let backlog = flow.and_then(|flow| flow.backlog.as_deref_mut());
                let taken = self.passes.read(offset, backlog.map(|b| (b, fate)));
                if !taken {
                    let id = delivery.endpoint.clone();
                    self.reconsider_backlog(now, &id);
                }
                taken
            }
            // Only this engine writes here: what cannot be read is nobody's.
            Content::Unreadable { .. } => self.passes.read(offset, None),
        };
        for id in self.passes.take_finished() {
            self.reconsider_backlog(now, &id);
        }
        if taken {
            let Content::Delivery(delivery) = &record.content else {
                unreachable!("only deliveries are taken")
            };
            let endpoint = delivery.endpoint.clone();
            self.take_in(now, record, ordered);
            self.reconsider_backlog(now, &endpoint);
        }
        self.steer(now);
    }

    /// What is to become of a record of the backlog.
    fn fate(
        &mut self,
        now: Timestamp,
        record: &LaneRecord,
        delivery: &Delivery,
        ordered: Option<Ordered>,
    ) -> Fate {
        let id = &delivery.endpoint;
        let window = self.window(now, id);
        let attempts = ordered.and_then(|ordered| ordered.head);
        let attempts = attempts.map_or(delivery.attempts, |head| head.attempts);
        let stays_until = self.stays_unread_until(delivery, attempts, record.appended_at, now);
        let Some(flow) = self.flows.get_mut(id) else {
            return Fate::NoRoom;
        };
        let key = ordered.and_then(|ordered| ordered.key);
        let in_memory = key.map_or(0, |key| flow.keys.len_of(key));
        let Some(backlog) = &mut flow.backlog else {
            return Fate::NoRoom;
        };
        if !self.passes.wants(backlog, record.offset) {
            // Settled, in memory, or not in this pass: there is nothing to be decided.
            return Fate::Take;
        }
        if let Some(until) = stays_until {
            // The first that stays says when there is the next to be ended.
            backlog.expires = until;
            return Fate::NoRoom;
        }
        if !self.passes.has_room(backlog, window, record.bytes) {
            return Fate::NoRoom;
        }
        match key {
            Some(key) if backlog.left.leaves(now, record.offset, key, in_memory) => Fate::Leave,
            _ => Fate::Take,
        }
    }

    /// Until when a record stays where it is: its endpoint takes nothing, and it has time; or it is
    /// to be discarded, and its endpoint may come back.
    fn stays_unread_until(
        &mut self,
        delivery: &Delivery,
        attempts: u32,
        appended_at: Timestamp,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let until = match self.backlog_use(now, &delivery.endpoint) {
            BacklogUse::Takes => return None,
            BacklogUse::Discards => appended_at + DISCARD_GRACE,
            BacklogUse::Waits => self.window_end(delivery, attempts, appended_at),
        };
        (until >= now).then_some(until)
    }

    /// What becomes of the backlog of an endpoint now.
    fn backlog_use(&mut self, now: Timestamp, id: &EndpointId) -> BacklogUse {
        match self.ending(id) {
            Some(Outcome::Discarded(_)) => BacklogUse::Discards,
            Some(_) => BacklogUse::Takes,
            None => match self.admitting(now, id) {
                Some(Admitting::Closed | Admitting::Paused) => BacklogUse::Waits,
                Some(Admitting::Free | Admitting::Yes) | None => BacklogUse::Takes,
            },
        }
    }

    /// A delivery that came over the backlog is settled.
    pub(super) fn settle_backlog(&mut self, now: Timestamp, endpoint: &EndpointId, offset: i64) {
        let flow = self.flow(endpoint);
        let Some(backlog) = &mut flow.backlog else {
            return;
        };
        let settled = backlog.settle(offset);
        debug_assert!(settled, "backlog offset {offset} was settled twice");
        self.save_soon(now, endpoint, SAVED_EVERY);
        self.reconsider_backlog(now, endpoint);
    }

    /// Takes what waits of an endpoint's backlog out of memory: it is read again when the endpoint
    /// takes deliveries. Heads that failed are remembered with their count; what failed and heads
    /// no key is copied when it was held long enough.
    fn unload_backlog(&mut self, now: Timestamp, endpoint: &EndpointId) {
        let flow = self.flow(endpoint);
        let waiting: Vec<EntryId> = flow.queue.iter().chain(flow.keys.iter()).collect();
        for id in waiting {
            let Some(entry) = self.entries.get(&id) else {
                // It left with its head.
                continue;
            };
            if entry.lane != Lane::Backlog {
                continue;
            }
            if entry.attempts > entry.attempts_read() {
                if entry.key.is_some() {
                    self.dequeue(id);
                    self.leave_in_log(now, id, Some(now));
                }
                continue;
            }
            let (delivery, attempts) = (entry.delivery(), entry.attempts);
            self.dequeue(id);
            let (_, offset) = self.drop_entry(id);
            self.recent.forget(delivery.id, attempts, Lane::Backlog);
            if let Some(backlog) = self.flow(endpoint).backlog.as_mut() {
                backlog.unload(offset);
            }
        }
    }

    /// Something changed that may make an endpoint want its backlog read, or no longer.
    pub(super) fn reconsider_backlog(&mut self, now: Timestamp, id: &EndpointId) {
        if self.flows.get(id).is_none_or(|flow| flow.backlog.is_none()) {
            return;
        }
        let waiting = self.backlog_use(now, id);
        if waiting == BacklogUse::Waits && !self.is_draining() {
            self.unload_backlog(now, id);
        }
        if self.admitting(now, id) == Some(Admitting::Closed) {
            let flow = self.flow(id);
            let not_before = flow.health.permits(now, u16::MAX).not_before;
            let at = not_before.max(Some(flow.limited_until));
            self.look_again(id, at.expect("one of them closed it"));
        }
        let window = self.window(now, id);
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let Some(backlog) = &mut flow.backlog else {
            return;
        };
        self.passes.catch_up(backlog);
        if backlog.left.has_overdue(now) {
            backlog.expires = Timestamp::default();
        }
        let expires = backlog.expires;
        let takes = waiting == BacklogUse::Takes || expires < now;
        if takes && let Some(from) = backlog.left.take_due(now) {
            backlog.rewind(from);
        }
        let (head_due, head_end) = (backlog.left.next_due(), backlog.left.next_end(now));
        if backlog.is_done() {
            flow.backlog = None;
            self.passes.want(now, id, None, window);
            self.save_soon(now, id, SAVED_EVERY);
        } else {
            let unread = backlog.is_unread() && !backlog.stands();
            self.passes
                .want(now, id, (unread && takes).then_some(backlog), window);
            let next = if takes {
                head_due
            } else {
                let ends = unread.then_some(expires).into_iter().chain(head_end).min();
                ends.map(|at| at + Duration::from_millis(1))
            };
            if let Some(at) = next {
                self.look_again(id, at);
            }
        }
    }

    /// How much of an endpoint's backlog is in memory at once: little while it is tried whether
    /// the endpoint is well again.
    fn window(&mut self, now: Timestamp, id: &EndpointId) -> usize {
        let permits = match self.flows.get(id) {
            Some(flow) => flow.health.permits(now, u16::MAX).in_flight,
            None => 0,
        };
        (usize::from(permits) * 8).clamp(8, WINDOW)
    }

    /// Begins, goes on with or ends the pass over the backlog.
    pub(super) fn steer(&mut self, now: Timestamp) {
        if self.is_draining() {
            return;
        }
        for id in self.passes.take_starved(now) {
            if let Some(backlog) = self.flow(&id).backlog.as_mut() {
                backlog.try_again();
            }
            self.reconsider_backlog(now, &id);
        }
        match self.passes.step(now) {
            Step::Keep => {}
            Step::Stop => self.stop_reading(Lane::Backlog),
            Step::Read(from) => {
                for id in self.passes.following().collect::<Vec<_>>() {
                    if let Some(backlog) = self.flows.get_mut(&id).and_then(|f| f.backlog.as_mut())
                    {
                        self.passes.begun(backlog);
                    }
                }
                self.stop_reading(Lane::Backlog);
                self.read_lane(Lane::Backlog, Some(from));
            }
        }
    }
}
