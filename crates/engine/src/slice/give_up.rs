//! Deliveries that end without an attempt, or get none in time.
//!
//! Decides which rule ends them: the endpoint was deleted or disabled, is gone or unknown, the
//! window passed; and that all others are moved or stay. Leaves what a spent schedule is to
//! [`crate::schedule`].

use postrider_catalog::Lookup;
use postrider_domain::{
    DeadLetterReason, Delivery, DiscardReason, EndpointId, EndpointState, Lane, Outcome,
    RetryPolicy, Timestamp,
};

use super::{HOLD_MAX, SliceEngine};
use crate::entry::EntryState;
use crate::io::Observation;
use crate::queue::EntryId;

impl SliceEngine {
    /// Which rule ends the deliveries of an endpoint without an attempt, if one does.
    pub(super) fn ending(&self, id: &EndpointId) -> Option<Outcome> {
        let discarded = |reason| Some(Outcome::Discarded(reason));
        match self.catalog.find(id) {
            Lookup::Deleted => discarded(DiscardReason::EndpointDeleted),
            Lookup::Known(e) if e.state == EndpointState::Disabled => {
                discarded(DiscardReason::EndpointDisabled)
            }
            Lookup::Known(e) => {
                let gone = self.flows.get(id)?.gone.confirmed == Some(e.version);
                gone.then_some(Outcome::DeadLettered(DeadLetterReason::EndpointGone))
            }
            Lookup::Unknown => None,
        }
    }

    pub(super) fn is_active(&self, id: &EndpointId) -> bool {
        let found = self.catalog.find(id);
        matches!(found, Lookup::Known(e) if e.state == EndpointState::Active)
    }

    pub(super) fn end_without_attempt(&mut self, now: Timestamp, id: EntryId, ending: Outcome) {
        match ending {
            Outcome::DeadLettered(reason) => self.give_up(now, id, reason),
            Outcome::Discarded(_) | Outcome::Delivered | Outcome::Retry => {
                self.clear_timer(id);
                self.entry(id).state = EntryState::Settling;
                self.hold_key(id);
                self.write_attempt(now, id, None, ending, None);
            }
        }
    }

    /// It could not be attempted in time.
    pub(super) fn give_up_hold(&mut self, now: Timestamp, id: EntryId) {
        let entry = self.entry(id);
        let (endpoint, hold_until) = (entry.delivery().endpoint.clone(), entry.hold_until);
        if let Some(ending) = self.ending(&endpoint) {
            self.dequeue(id);
            self.end_without_attempt(now, id, ending);
        } else if now < hold_until {
            // The endpoint came back within the grace.
            self.wait(id, EntryState::Queued, hold_until);
        } else if self.may_stay(now, id) {
            self.wait(id, EntryState::Queued, now + HOLD_MAX);
        } else {
            self.dequeue(id);
            self.give_up_turn(now, id);
        }
    }

    /// Whether nothing waits for it, as it is where it would be moved to.
    pub(super) fn may_stay(&mut self, now: Timestamp, id: EntryId) -> bool {
        let entry = self.entry(id);
        let moved = entry.attempts == entry.attempts_read() || entry.key.is_some();
        let known = entry.delivery().endpoint.clone();
        let lane = entry.lane;
        // For replays nothing waits either: they have a lane of their own.
        (lane == Lane::Redeliveries || (lane == Lane::Backlog && moved))
            && matches!(self.catalog.find(&known), Lookup::Known(_))
            && !self.is_past_window(now, id)
    }

    /// Unknown and overdue deliveries end, the others are moved.
    pub(super) fn give_up_turn(&mut self, now: Timestamp, id: EntryId) {
        let delivery = self.entry(id).delivery();
        if !matches!(self.catalog.find(&delivery.endpoint), Lookup::Known(_)) {
            return self.give_up(now, id, DeadLetterReason::EndpointUnknown);
        }
        if self.is_past_window(now, id) {
            return self.give_up(now, id, DeadLetterReason::WindowPassed);
        }
        self.observe(Observation::HoldExceeded);
        self.spill(now, id);
    }

    /// Whether no attempt is made any more.
    pub(super) fn is_past_window(&mut self, now: Timestamp, id: EntryId) -> bool {
        let entry = self.entry(id);
        let (delivery, attempts, appended_at) =
            (entry.delivery(), entry.attempts, entry.appended_at);
        now > self.window_end(&delivery, attempts, appended_at)
    }

    /// When no attempt is made any more. What was never attempted has its window from when it was
    /// written to where it is: a mirrored event may be old, a producer's clock may be ahead.
    pub(super) fn window_end(
        &self,
        delivery: &Delivery,
        attempts: u32,
        appended_at: Timestamp,
    ) -> Timestamp {
        let since = if attempts == 0 {
            appended_at
        } else {
            delivery.event.accepted_at.min(appended_at)
        };
        since + self.retry_policy(&delivery.endpoint).window
    }

    /// Whether its schedule is spent: a head that was blocked and is released.
    pub(super) fn is_exhausted(&mut self, id: EntryId) -> bool {
        let entry = self.entry(id);
        let (endpoint, attempts) = (entry.delivery().endpoint.clone(), entry.attempts);
        attempts as usize > self.retry_policy(&endpoint).schedule.len()
    }

    pub(super) fn retry_policy(&self, endpoint: &EndpointId) -> &RetryPolicy {
        let policy = match self.catalog.find(endpoint) {
            Lookup::Known(endpoint) => endpoint.retry.as_ref(),
            Lookup::Deleted | Lookup::Unknown => None,
        };
        policy.unwrap_or(&self.defaults.retry)
    }

    pub(super) fn give_up(&mut self, now: Timestamp, id: EntryId, reason: DeadLetterReason) {
        if self.is_test(id) {
            return self.end_test(now, id, DiscardReason::TestFailed);
        }
        let spent = matches!(
            reason,
            DeadLetterReason::AttemptsExhausted | DeadLetterReason::WindowPassed
        );
        if spent && self.stays_for_its_key(id) {
            return self.block(now, id, None);
        }
        self.hold_key(id);
        self.write_attempt(now, id, None, Outcome::DeadLettered(reason), None);
        self.write_dead_letter(id, reason);
    }
}
