//! What the end of an attempt leads to.
//!
//! Decides what a verdict does to the delivery (settled, tried again at its schedule, given up) and
//! to its endpoint (health, gate, gone). A receiver that asks for a pause uses up no attempt of the
//! schedule: the same attempt is made again when its gate opens. One that says it is gone (410) is
//! believed when it says so [`GONE_TIMES`] times in a row over [`GONE_FOR`]; then its deliveries
//! are dead letters until its configuration changes. Leaves what a response means to
//! [`crate::verdict`], the time of the next attempt to [`crate::schedule`].

use std::time::Duration;

use postrider_catalog::Lookup;
use postrider_domain::{
    AttemptReport, AttemptResult, DeadLetterReason, DiscardReason, EndpointId, Lane, Ordering,
    Outcome, Rung, Timestamp, Unmet,
};

use super::{Draining, SliceEngine};
use crate::concurrency::Failure;
use crate::entry::EntryState;
use crate::flow::Gone;
use crate::io::{Observation, Ticket};
use crate::queue::EntryId;
use crate::schedule::next_due;
use crate::verdict::{FailureKind, Verdict, judge};

/// How often in a row a receiver must say that it is gone.
pub(crate) const GONE_TIMES: u32 = 3;

/// Over how long.
pub(crate) const GONE_FOR: Duration = Duration::from_secs(60);

/// A report, and what of the endpoint's own rule of success its response did not meet.
pub(super) struct Judged {
    pub(super) report: AttemptReport,
    pub(super) unmet: Option<Unmet>,
}

impl SliceEngine {
    /// An attempt ended.
    pub(crate) fn handle_report(&mut self, now: Timestamp, ticket: Ticket, report: AttemptReport) {
        let Some((id, endpoint)) = self.end_flight(ticket) else {
            self.observe(Observation::StaleInput);
            return;
        };
        // The rule may have changed since: the answer is that of the endpoint it was sent to.
        let sent_to = self.entry(id).sent_to.take();
        let success = sent_to
            .as_ref()
            .and_then(|sent_to| sent_to.success.as_ref());
        let (verdict, unmet) = judge(&report.result, success, now);
        self.learn(now, &endpoint, self.entries[&id].started_at, verdict);
        let entry = self.entry(id);
        if let AttemptResult::Response(response) = &report.result {
            entry.last_status = Some(response.status);
        }
        let judged = Judged { report, unmet };
        match verdict {
            Verdict::Delivered => self.end(now, id, judged, Outcome::Delivered),
            _ if self.is_test(id) => {
                let outcome = Outcome::Discarded(DiscardReason::TestFailed);
                self.end(now, id, judged, outcome);
            }
            Verdict::Asked { .. } => self.ask_again(now, id, &endpoint, judged),
            Verdict::Hopeless(DeadLetterReason::Unrenderable)
                if self.keeps_order(id, &endpoint) =>
            {
                self.keep(now, id, &endpoint, judged);
            }
            Verdict::Hopeless(reason) => {
                self.end(now, id, judged, Outcome::DeadLettered(reason));
            }
            Verdict::Failed { .. } | Verdict::Gone => self.fail(now, id, &endpoint, judged),
        }
        self.wake(&endpoint);
        self.reconsider_backlog(now, &endpoint);
        self.steer(now);
        if self.draining == Draining::Entries {
            self.go_on_draining(now);
        }
    }

    /// What the endpoint's state is from now on.
    fn learn(&mut self, now: Timestamp, id: &EndpointId, started_at: Timestamp, verdict: Verdict) {
        let draw = self.rng.f64();
        let flow = self.flow(id);
        let said_gone = flow.gone.said.take();
        let before = flow.health.state(now);
        let was_proven = flow.health.is_proven();
        match verdict {
            Verdict::Delivered => flow.health.succeeded(now, started_at),
            Verdict::Asked { until } => flow.health.asked(now, started_at, until),
            // It is there and answers, only not to this request.
            Verdict::Failed {
                likely_permanent: true,
                ..
            } => flow.health.not_started(started_at),
            Verdict::Failed { kind, .. } => match failure(kind) {
                Some(failure) => flow.health.failed(now, started_at, failure, draw),
                None => flow.health.not_started(started_at),
            },
            Verdict::Gone => {
                flow.health.failed(now, started_at, Failure::Other, draw);
                let (since, times) = said_gone.unwrap_or((now, 0));
                flow.gone.said = Some((since, times + 1));
                if times + 1 >= GONE_TIMES && since + GONE_FOR <= now {
                    self.confirm_gone(now, id);
                }
            }
            Verdict::Hopeless(_) => flow.health.not_started(started_at),
        }
        let health = &self.flow(id).health;
        let (after, is_proven) = (health.state(now), health.is_proven());
        if is_proven && !was_proven {
            self.turns.proved(id);
        }
        if before != after {
            self.observe(Observation::Breaker(after));
        }
    }

    fn confirm_gone(&mut self, now: Timestamp, id: &EndpointId) {
        let Lookup::Known(endpoint) = self.catalog.find(id) else {
            return;
        };
        let version = endpoint.version;
        self.flow(id).gone.confirmed = Some(version);
        self.observe(Observation::EndpointGone(id.clone()));
        self.reorder(now, id);
        self.save_soon(now, id, Duration::ZERO);
        self.requeue(now, id);
    }

    /// A change of the configuration is a new beginning.
    pub(super) fn forget_gone_if_changed(&mut self, now: Timestamp, id: &EndpointId) {
        let version = match self.catalog.find(id) {
            Lookup::Known(endpoint) => Some(endpoint.version),
            Lookup::Deleted | Lookup::Unknown => None,
        };
        let flow = self.flow(id);
        if flow.gone.confirmed.is_some() && flow.gone.confirmed != version {
            flow.gone = Gone::default();
            self.save_soon(now, id, Duration::ZERO);
        }
    }

    /// It came to an end.
    fn end(&mut self, now: Timestamp, id: EntryId, judged: Judged, outcome: Outcome) {
        let entry = self.entry(id);
        entry.attempts += 1;
        entry.state = EntryState::Settling;
        self.write_attempt(now, id, Some(judged), outcome, None);
        if let Outcome::DeadLettered(reason) = outcome {
            self.write_dead_letter(id, reason);
        }
    }

    /// Whether nothing may pass it before its endpoint says so. Where order does not hold any more
    /// nothing waits for it, and nobody would release it.
    fn keeps_order(&self, id: EntryId, endpoint: &EndpointId) -> bool {
        let orders = self.ordering(endpoint) != Ordering::None;
        self.entries[&id].key.is_some() && orders && self.blocks(endpoint)
    }

    /// It stays at the head of its key; when it is released it is tried with what its endpoint
    /// says by then. No request was made, so that its schedule has not gone on.
    fn keep(&mut self, now: Timestamp, id: EntryId, endpoint: &EndpointId, judged: Judged) {
        if let Some(ending) = self.ending(endpoint) {
            return self.end(now, id, judged, ending);
        }
        self.entry(id).attempts += 1;
        self.write_attempt(now, id, Some(judged), Outcome::Retry, None);
        self.entry(id).attempts -= 1;
        self.block(now, id, None);
    }

    /// It is tried again at its schedule, if that goes on.
    fn fail(&mut self, now: Timestamp, id: EntryId, endpoint: &EndpointId, judged: Judged) {
        let draw = self.rng.f64();
        let entry = &self.entries[&id];
        let (delivery, attempts) = (entry.delivery(), entry.attempts + 1);
        let accepted_at = delivery.event.accepted_at;
        if let Some(ending) = self.ending(endpoint) {
            return self.end(now, id, judged, ending);
        }
        let ordered = entry.key.is_some();
        let policy = self.retry_policy(endpoint);
        let due = match next_due(policy, attempts, accepted_at, now, draw) {
            Err(reason) if !self.keeps_order(id, endpoint) => {
                return self.end(now, id, judged, Outcome::DeadLettered(reason));
            }
            due => due.ok(),
        };
        let entry = self.entry(id);
        entry.attempts = attempts;
        let (hold_until, lane) = (entry.hold_until, entry.lane);
        let lane_has_room = self.has_room_to_wait(lane);
        self.write_attempt(now, id, Some(judged), Outcome::Retry, due);
        let soon = due.filter(|due| Rung::for_wait(due.since(now)).is_none());
        match (soon, due) {
            (Some(due), _)
                if !self.is_draining() && (ordered || (lane_has_room && due <= hold_until)) =>
            {
                self.wait(id, EntryState::Waiting, due);
            }
            (_, due) if ordered => self.block(now, id, due),
            (_, due) => self.write_retry(now, id, due.unwrap_or(now)),
        }
    }

    /// The receiver asked for a pause: it is at the head of its queue again.
    fn ask_again(&mut self, now: Timestamp, id: EntryId, endpoint: &EndpointId, judged: Judged) {
        let flow = self.flow(endpoint);
        let until = flow.health.permits(now, u16::MAX).not_before;
        self.entry(id).attempts += 1;
        self.write_attempt(now, id, Some(judged), Outcome::Retry, until);
        let draining = self.is_draining();
        let entry = self.entry(id);
        entry.attempts -= 1;
        let (hold_until, lane, ordered) = (entry.hold_until, entry.lane, entry.key.is_some());
        if draining && ordered {
            self.block(now, id, until);
        } else if draining && self.may_stay(now, id) {
            // It is where it waits.
            self.drop_entry(id);
        } else if draining {
            self.write_retry(now, id, until.unwrap_or(now));
        } else if hold_until <= now && lane != Lane::Backlog {
            self.spill(now, id);
        } else {
            self.put_back(id);
            self.wait(id, EntryState::Queued, hold_until.max(now));
        }
    }
}

/// `None` = nothing about the endpoint.
const fn failure(kind: FailureKind) -> Option<Failure> {
    match kind {
        FailureKind::Timeout => Some(Failure::Timeout),
        FailureKind::Connect => Some(Failure::Connect),
        FailureKind::Other => Some(Failure::Other),
        FailureKind::Internal => None,
    }
}
