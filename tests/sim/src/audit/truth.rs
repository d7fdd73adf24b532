//! P10: what `attempts` and `dead-letters` say is what happened.
//!
//! Decides which outcome a report can have, and which reasons an endpoint's configurations allow.

use postrider_domain::{AttemptReport, DeadLetterReason, DiscardReason, Outcome};

use super::requests::is_success;
use super::{Audit, Promise};
use crate::clock::{MINUTE, Micros};

impl Audit {
    /// An attempt record is on its log.
    pub(crate) fn attempt_logged(
        &mut self,
        now: Micros,
        item: u32,
        attempt: u32,
        report: Option<&AttemptReport>,
        outcome: Outcome,
        lost: bool,
    ) {
        let entry = &self.items[item as usize];
        let success = report.map(|report| is_success(&report.result));
        let truthful = match (success, outcome) {
            (Some(success), Outcome::Delivered) => success && entry.taken,
            (Some(success), _) => !success,
            (None, Outcome::Delivered | Outcome::Retry) => false,
            (None, _) => true,
        };
        if !truthful || (report.is_some() && attempt > entry.sent) {
            self.broken(now, Promise::TruthfulLog, || {
                format!("the log says attempt {attempt} of #{item} was {outcome:?}")
            });
        }
        self.check_reason(now, item, attempt, outcome);
        if matches!(outcome, Outcome::Delivered | Outcome::Discarded(_)) {
            self.end_item(now, item, outcome.as_str());
        }
        if lost {
            self.forked(item);
        }
    }

    fn check_reason(&mut self, now: Micros, item: u32, attempt: u32, outcome: Outcome) {
        let Some(endpoint) = &self.items[item as usize].endpoint else {
            return;
        };
        let Some(facts) = self.endpoints.get(endpoint) else {
            return;
        };
        let made_at = self.items[item as usize].made_at;
        let plausible = match outcome {
            Outcome::Discarded(DiscardReason::EndpointDeleted)
            | Outcome::DeadLettered(DeadLetterReason::EndpointUnknown) => facts.was_deleted,
            Outcome::Discarded(DiscardReason::EndpointDisabled) => facts.was_disabled,
            Outcome::DeadLettered(DeadLetterReason::AttemptsExhausted) => {
                let failures = self.items[item as usize].failures;
                attempt >= facts.attempts_min && failures >= facts.attempts_min
            }
            Outcome::DeadLettered(DeadLetterReason::WindowPassed) => {
                let next = now + facts.wait_max + facts.wait_max / 2 + self.clock_spread + MINUTE;
                next > made_at + facts.window_min
            }
            _ => true,
        };
        if !plausible {
            self.broken(now, Promise::TruthfulLog, || {
                format!("#{item} ended as {outcome:?} after {attempt} attempts, which no rule says")
            });
        }
    }

    /// A dead letter is on its log.
    pub(crate) fn dead_letter(
        &mut self,
        now: Micros,
        item: u32,
        attempts: u32,
        reason: DeadLetterReason,
        lost: bool,
    ) {
        self.check_reason(now, item, attempts, Outcome::DeadLettered(reason));
        self.check_may_be_given_up(now, item, attempts, reason);
        self.end_item(now, item, "dead_lettered");
        if lost {
            self.forked(item);
        }
    }

    /// A record that is no delivery is in `dead-letters`.
    pub(crate) fn garbage_buried(&mut self, now: Micros, item: u32, lost: bool) {
        self.end_item(now, item, "dead_lettered");
        if lost {
            self.forked(item);
        }
    }
}
