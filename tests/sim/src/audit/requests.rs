//! Requests, from the kernel's hands to the sender's engine.
//!
//! Decides who may send one, and how many are in flight at once (P8). Leaves when one may start to
//! `timing` and `limits`, whether it was made before to `duplicates`.

use postrider_domain::{AttemptResult, Timestamp};

use super::{Audit, Promise, Who};
use crate::clock::{MICROS, Micros};
use crate::engine::{StartAttempt, Ticket, claim_of};

impl Audit {
    /// A request is handed to the kernel.
    pub(crate) fn started(
        &mut self,
        now: Micros,
        shows: Timestamp,
        who: Who,
        start: &StartAttempt,
        polled_at: Micros,
        running: u32,
    ) {
        let item = self.item_of(start.delivery.id);
        let ticket = start.ticket;
        self.counts.requests += 1;
        if running > self.in_flight_max {
            let most = self.in_flight_max;
            self.broken(now, Promise::Bounds, || {
                format!(
                    "w{} has {running} requests in flight, {most} at most",
                    who.0
                )
            });
        }
        // Endpoints that hang, and those nothing is known of, share half of it.
        if running >= self.in_flight_max.div_ceil(2) {
            self.full_until.insert(who, Micros::MAX);
        }
        if let Some((owner, since)) = self.owners.get(&ticket.slice).copied()
            && owner != who
        {
            let ago = (now - since) as f64 / 1e6;
            self.broken(now, Promise::SingleOwner, || {
                format!(
                    "w{} starts #{item} of slice {}, which w{} was given {ago:.3} s ago",
                    who.0, ticket.slice, owner.0
                )
            });
        }
        self.check_concurrency(now, who, item, start);
        self.check_timing(now, shows, who, item, start);
        self.check_repeated(now, who, item, start.attempt);
        self.check_limit(now, who, start);
        self.check_asked(now, shows, who, start, polled_at);
        let current = self.claims.get(&(who, ticket.slice)) == Some(&claim_of(ticket));
        let entry = self.item(item);
        if !current {
            // It was on its way out when its ownership was lost.
            entry.excuse.get_or_insert("late");
        }
        entry.touched = Some(who);
        entry.requests += 1;
        entry.attempts = entry.attempts.max(start.attempt);
        entry.sent = entry.sent.max(start.attempt);
        let key = (who, ticket.slice, claim_of(ticket), ticket);
        let ends_by = now + start.timeout.as_micros() as u64;
        self.requests.insert(key, (item, start.attempt, ends_by));
    }

    fn check_concurrency(&mut self, now: Micros, who: Who, item: u32, start: &StartAttempt) {
        let Some(facts) = self.endpoints.get_mut(&start.endpoint.id) else {
            return self.broken(now, Promise::TruthfulLog, || {
                format!("#{item} is sent to nobody")
            });
        };
        let claim = claim_of(start.ticket);
        let running = facts.in_flight.entry((who, claim)).or_default();
        *running += 1;
        let (running, most) = (*running, facts.concurrency_max);
        // It begins small, and anew after a failure.
        let sure = if facts.always_well { 4 } else { 1 };
        if running >= u32::from(facts.concurrency).min(sure) {
            facts.full_until = Micros::MAX;
        }
        if running > u32::from(most) {
            let id = &start.endpoint.id;
            self.broken(now, Promise::Bounds, || {
                format!("{id} has {running} requests in flight, {most} at most")
            });
        }
    }

    /// A report reaches the sender's engine; what it was about.
    pub(crate) fn reported(
        &mut self,
        now: Micros,
        shows: Timestamp,
        who: Who,
        ticket: Ticket,
        result: &AttemptResult,
    ) -> Option<(u32, u32)> {
        let key = (who, ticket.slice, claim_of(ticket), ticket);
        let (item, attempt, _) = self.requests.remove(&key)?;
        self.full_until.insert(who, now);
        self.leaves_its_key(who, claim_of(ticket), item);
        let entry = self.item(item);
        if is_ask(result) {
            // It uses up no attempt.
            entry.attempts = entry.attempts.min(attempt - 1);
        } else {
            entry.last_end = now;
            entry.failures += u32::from(!is_success(result));
        }
        entry.success |= is_success(result);
        let endpoint = entry.endpoint.clone()?;
        let facts = self.endpoints.get_mut(&endpoint)?;
        facts.full_until = facts.full_until.min(now);
        facts.always_well &= is_success(result);
        if !is_success(result) {
            // Its breaker opens for no longer, its gate for as long as was asked.
            let asked = wait_asked_for(result).map_or(0, |wait| wait.as_micros() as u64);
            facts.unwell_until = facts.unwell_until.max(now + asked + 75 * MICROS);
        }
        if let Some(wait) = wait_asked_for(result) {
            let until = facts.asked.entry((who, claim_of(ticket))).or_default();
            *until = (now, until.1.max(shows + wait));
        }
        if let Some(running) = facts.in_flight.get_mut(&(who, claim_of(ticket))) {
            *running = running.saturating_sub(1);
        }
        Some((item, attempt))
    }
}

/// Whether the receiver asks for a pause, which is no failure.
fn is_ask(result: &AttemptResult) -> bool {
    let AttemptResult::Response(response) = result else {
        return false;
    };
    let names_a_time = !response.headers.is_empty();
    response.status == 429 || (response.status == 503 && names_a_time)
}

/// The pause that the receiver asks for by name.
fn wait_asked_for(result: &AttemptResult) -> Option<std::time::Duration> {
    let AttemptResult::Response(response) = result else {
        return None;
    };
    let (_, value) = response.headers.iter().next().filter(|_| is_ask(result))?;
    value.parse().ok().map(std::time::Duration::from_secs)
}

pub(super) fn is_success(result: &AttemptResult) -> bool {
    matches!(result, AttemptResult::Response(response) if matches!(response.status, 200..=299))
}
