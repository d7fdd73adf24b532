//! What a successor must know of an endpoint, and when it is written to `endpoint-state`.
//!
//! Decides that one write per endpoint is under way at a time, with all that is to be known as of
//! then; that attempts which need a reservation, and records which need an open backlog, wait for
//! its acknowledgement; and that at a hand-over the last words are written when nothing happens
//! any more. Leaves what counts of these records to [`crate::fence`].

use std::time::Duration;

use postrider_domain::{EndpointId, Remembered, Timestamp};

use super::{Purpose, SliceEngine};
use crate::io::Write;

/// How long what is settled of a backlog, or the count of a failed head, is unknown to a successor,
/// at most: what a crash repeats.
pub(super) const SAVED_EVERY: Duration = Duration::from_secs(1);

impl SliceEngine {
    /// What is remembered of an endpoint changed: it is written within that time.
    pub(super) fn save_soon(&mut self, now: Timestamp, id: &EndpointId, within: Duration) {
        let flow = self.flow(id);
        flow.saving.dirty = true;
        let due = now + within;
        flow.saving.due = Some(flow.saving.due.map_or(due, |other| other.min(due)));
        self.save_if_due(now, id);
    }

    /// Attempts wait for a reservation.
    pub(super) fn save_reservation(&mut self, now: Timestamp, id: &EndpointId) {
        self.flow(id).saving.reserve = true;
        self.save_soon(now, id, Duration::ZERO);
    }

    pub(super) fn save_if_due(&mut self, now: Timestamp, id: &EndpointId) {
        if self.is_draining() || self.overtaken.is_some() {
            return;
        }
        let flow = self.flow(id);
        let Some(due) = flow.saving.due else { return };
        if flow.saving.write.is_some() {
            return;
        }
        if due > now {
            return self.look_again(id, due);
        }
        let mut remembered = flow.remembered(now);
        if std::mem::take(&mut flow.saving.reserve)
            && let Some(limiter) = &mut flow.limiter
            && let Some(memory) = limiter.reserve(now)
        {
            remembered.limiter = Some(memory);
            flow.saving.reserving = true;
        }
        self.save(id, remembered);
    }

    fn save(&mut self, id: &EndpointId, remembered: Remembered) {
        let epoch = self.epoch;
        let saving = &mut self.flow(id).saving;
        saving.epoch = epoch;
        saving.due = None;
        saving.dirty = false;
        saving.opening = remembered.backlog.is_some();
        saving.stored = !remembered.is_empty();
        let write = Write::State {
            endpoint: id.clone(),
            epoch,
            remembered,
        };
        let number = self.begin_write(Purpose::State(id.clone()), write);
        self.flow(id).saving.write = Some(number);
    }

    /// A write of it was acknowledged.
    pub(super) fn saved(&mut self, now: Timestamp, number: u64, id: &EndpointId) {
        let (epoch, is_overtaken) = (self.epoch, self.overtaken.is_some());
        let flow = self.flow(id);
        let saving = &mut flow.saving;
        if saving.write != Some(number) {
            return;
        }
        saving.write = None;
        if is_overtaken || saving.epoch != epoch {
            // It does not count: nothing may rest on it, and it is written again.
            saving.reserve |= std::mem::take(&mut saving.reserving);
            // What there is of it by a former owner's word must be written over, if only by nothing.
            saving.stored = true;
            return self.save_soon(now, id, Duration::ZERO);
        }
        if std::mem::take(&mut flow.saving.reserving)
            && let Some(limiter) = &mut flow.limiter
        {
            limiter.reserved();
        }
        if std::mem::take(&mut flow.saving.opening) && !self.is_draining() {
            self.open_backlog(id);
        }
        self.wake(id);
        self.save_if_due(now, id);
    }

    /// Everything that changed since it was written last, as nothing changes any more.
    pub(super) fn save_last_words(&mut self, now: Timestamp) {
        let changed: Vec<(EndpointId, Remembered)> = self
            .flows
            .iter()
            .map(|(id, flow)| (id, flow, flow.last_words(now)))
            .filter(|(_, flow, words)| {
                flow.saving.dirty && (flow.saving.stored || !words.is_empty())
            })
            .map(|(id, _, words)| (id.clone(), words))
            .collect();
        for (id, words) in changed {
            self.save(&id, words);
        }
    }
}
