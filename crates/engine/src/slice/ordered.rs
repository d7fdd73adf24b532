//! Ordered endpoints: a key waits for its head, in memory or in the log.
//!
//! Decides when a head leaves memory, with those that follow it, and when they are read again.
//! Leaves which records wait for which to [`crate::order`].

use postrider_catalog::Lookup;
use postrider_domain::{
    Delivery, EndpointId, Head, Lane, OnExhausted, Ordering, Outcome, Timestamp,
};

use super::save::SAVED_EVERY;
use super::{Ordered, SliceEngine};
use crate::entry::EntryState;
use crate::order::key_of;
use crate::queue::EntryId;
use crate::slice::HOLD_MAX;

impl SliceEngine {
    /// How the deliveries of an endpoint are ordered.
    pub(super) fn ordering(&self, id: &EndpointId) -> Ordering {
        match self.catalog.find(id) {
            Lookup::Known(endpoint) => endpoint.ordering,
            Lookup::Deleted | Lookup::Unknown => Ordering::None,
        }
    }

    /// What is known of a record of a backlog that waits for others, or did when it was attempted.
    pub(super) fn ordered(
        &self,
        id: &EndpointId,
        delivery: &Delivery,
        offset: i64,
    ) -> Option<Ordered> {
        let key = key_of(self.ordering(id), delivery);
        let backlog = self.flows.get(id)?.backlog.as_ref()?;
        let head = backlog.left.head(offset);
        (key.is_some() || head.is_some()).then_some(Ordered { key, head })
    }

    /// A head that waited in memory is due.
    pub(super) fn head_is_due(&mut self, now: Timestamp, id: EntryId) {
        let endpoint = self.entry(id).delivery().endpoint.clone();
        match self.ending(&endpoint) {
            Some(ending @ (Outcome::Discarded(_) | Outcome::DeadLettered(_))) => {
                self.end_without_attempt(now, id, ending);
            }
            _ => {
                self.put_back(id);
                self.wait(id, EntryState::Queued, now + HOLD_MAX);
                self.wake(&endpoint);
                // If its endpoint takes nothing now, it waits in the log.
                self.reconsider_backlog(now, &endpoint);
            }
        }
    }

    /// A failed head leaves memory until it is due (`None` = until it is released), and with it
    /// all that follow it: they stay where they are in the log.
    pub(super) fn block(&mut self, now: Timestamp, id: EntryId, due: Option<Timestamp>) {
        let endpoint = self.entry(id).delivery().endpoint.clone();
        self.leave_in_log(now, id, due);
        self.reconsider_backlog(now, &endpoint);
    }

    /// The same, for who looks at the endpoint's backlog anyway.
    pub(super) fn leave_in_log(&mut self, now: Timestamp, id: EntryId, due: Option<Timestamp>) {
        let entry = self.entry(id);
        let key = entry.key.expect("only ordered deliveries head a key");
        let (delivery, attempts, heads_key) = (entry.delivery(), entry.attempts, entry.heads_key);
        let (offset, appended_at) = (entry.offset, entry.appended_at);
        debug_assert_eq!(entry.lane, Lane::Backlog, "the order is the backlog's");
        let ends_at = self.window_end(&delivery, attempts, appended_at);
        let endpoint = delivery.endpoint.clone();
        for follower in self.flow(&endpoint).keys.followers(key) {
            // What another rule made a head of may have some ahead of it.
            if self.entry(follower).offset > offset {
                self.dequeue(follower);
                self.leave(follower);
            }
        }
        self.leave(id);
        let flow = self.flow(&endpoint);
        if heads_key {
            flow.keys.free(key);
        }
        if let Some(backlog) = &mut flow.backlog {
            backlog.left.block(Head {
                offset,
                key,
                attempts,
                due,
            });
            backlog.left.ends(offset, ends_at);
        }
        self.save_soon(now, &endpoint, SAVED_EVERY);
    }

    /// Takes an entry out of memory; it stays in the log.
    pub(super) fn leave(&mut self, id: EntryId) {
        let delivery = self.entry(id).delivery();
        self.recent
            .forget(delivery.id, delivery.attempts, Lane::Backlog);
        let (_, offset) = self.drop_entry(id);
        if let Some(backlog) = self.flow(&delivery.endpoint).backlog.as_mut() {
            backlog.leave(offset);
        }
    }

    /// Whether a delivery that failed and is given up waits at the head of its key instead.
    pub(super) fn stays_for_its_key(&self, id: EntryId) -> bool {
        let entry = &self.entries[&id];
        entry.key.is_some() && entry.attempts > 0 && self.blocks(&entry.delivery().endpoint)
    }

    /// Whether a delivery that is given up stays at the head of its key.
    pub(super) fn blocks(&self, endpoint: &EndpointId) -> bool {
        let found = self.catalog.find(endpoint);
        matches!(found, Lookup::Known(e) if e.on_exhausted == OnExhausted::Block)
    }

    /// One that ends without an attempt has its place in its key until that is written.
    pub(super) fn hold_key(&mut self, id: EntryId) {
        let entry = &self.entries[&id];
        if let Some(key) = entry.key
            && !entry.heads_key
        {
            let endpoint = entry.delivery().endpoint.clone();
            self.flow(&endpoint).keys.ends(key);
        }
    }

    /// A delivery of a key is settled: the next one follows.
    pub(super) fn follow_on(
        &mut self,
        now: Timestamp,
        endpoint: &EndpointId,
        key: u64,
        heads_key: bool,
    ) {
        let flow = self.flow(endpoint);
        if heads_key {
            flow.keys.free(key);
        } else {
            flow.keys.ended(key);
        }
        if flow.keys.len_of(key) == 0
            && let Some(backlog) = &mut flow.backlog
            && let Some(from) = backlog.left.follow_on(now, key)
        {
            backlog.rewind(from);
        }
        self.wake(endpoint);
        self.reconsider_backlog(now, endpoint);
    }

    /// The rule of an endpoint may have changed: who waits no longer is read again.
    pub(super) fn reorder(&mut self, now: Timestamp, id: &EndpointId) {
        let (ordering, on_exhausted) = match self.catalog.find(id) {
            Lookup::Known(endpoint) => (endpoint.ordering, endpoint.on_exhausted),
            Lookup::Deleted | Lookup::Unknown => (Ordering::None, OnExhausted::Continue),
        };
        let ending = self.ending(id).is_some();
        let Some(backlog) = self.flow(id).backlog.as_mut() else {
            return;
        };
        // How long it may go unread is another question now: reading one record answers it.
        backlog.expires = Timestamp::default();
        if on_exhausted == OnExhausted::Continue || ending {
            backlog.left.release(now);
        }
        if ordering == Ordering::None
            && let Some(from) = backlog.left.disband()
        {
            backlog.rewind(from);
        }
    }
}
