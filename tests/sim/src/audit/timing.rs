//! P6: never before it is due, and soon after.
//!
//! Decides against three clocks: the sender's own clock must have reached the due time of the copy
//! it read and the one it set itself; and by true time the shortest wait that any configuration of
//! the endpoint asked for must have passed since the last attempt ended, less what the clocks of
//! the installation differ by. Late is an attempt that starts more than [`LATE`] after it was due,
//! its endpoint and its worker had room, and nothing was wrong any more. An endpoint that failed has
//! room for one until its breaker opens for certain, and one that never did has room for four: it
//! learns how much the receiver bears. Half of a worker's room is for those that hang. What a limit
//! holds up, replays and repetitions of the router are not late. With endpoints beside it that are
//! dead, hang or ask to wait, this is also what isolation means.

use postrider_domain::Timestamp;

use super::{Audit, Promise, Who};
use crate::clock::{MICROS, Micros};
use crate::engine::StartAttempt;

/// Latest start after everything allows it: 5 s are promised, a second is for the model's latencies.
const LATE: Micros = 6 * MICROS;

impl Audit {
    pub(super) fn check_timing(
        &mut self,
        now: Micros,
        shows: Timestamp,
        who: Who,
        item: u32,
        start: &StartAttempt,
    ) {
        let attempt = start.attempt;
        let entry = &self.items[item as usize];
        let own = entry
            .next
            .filter(|(by, of, _)| *by == who && *of == attempt);
        let due = own.map(|(_, _, at)| at).max(start.delivery.due);
        if let Some(due) = due
            && shows < due
            && !self.is_repeat(item, start, shows)
        {
            let early = due.since(shows);
            let promise = self.early_promise(item);
            self.broken(now, promise, || {
                format!(
                    "w{} starts attempt {attempt} of #{item} {early:?} early",
                    who.0
                )
            });
        }
        let turn_since = self.has_its_turn_since(item);
        let entry = &self.items[item as usize];
        // A head that is released by hand has no time to wait for.
        let released = entry.key.is_some() && entry.next.is_none();
        let Some(facts) = self.endpoints.get(&start.endpoint.id) else {
            return;
        };
        let follows = attempt > 1 && attempt == entry.attempts + 1;
        let floor = if follows {
            facts.floors.get(attempt as usize - 2)
        } else {
            None
        };
        if let Some(floor) = floor
            && !released
            && now + self.clock_spread + 2_000 < entry.last_end + floor
            && !self.is_excused(item)
        {
            let waited = now.saturating_sub(entry.last_end);
            let promise = self.early_promise(item);
            self.broken(now, promise, || {
                format!("attempt {attempt} of #{item} starts {waited} µs after the last one ended")
            });
            return;
        }
        let due_ago = due.map_or(Micros::MAX, |due| shows.since(due).as_micros() as u64);
        let due_at = if attempt == 1 {
            entry.made_at
        } else if due.is_none() && entry.key.is_some() {
            // A predecessor's head: what it was told of it, the auditor is not.
            now
        } else {
            now.saturating_sub(due_ago)
        };
        let worker_full = self.full_until.get(&who).copied().unwrap_or(0);
        let admits = [
            due_at,
            facts.full_until,
            facts.unwell_until,
            worker_full,
            facts.changed_at + 60 * MICROS,
            turn_since.unwrap_or(0),
            self.disturbed_until,
        ];
        let admitted_at = admits.into_iter().max().unwrap_or(0);
        // A limit holds attempts up, and replays have time.
        // What was taken before is repeated whenever its copy is found.
        let entry = &self.items[item as usize];
        let repeated = entry.forked || entry.success;
        let ordered = !facts.order.is_none() && turn_since.is_none();
        let prompt =
            facts.active && !ordered && !facts.limits.ever() && !self.is_replay(item) && !repeated;
        if prompt && now > admitted_at.saturating_add(LATE + self.clock_spread) {
            let late = (now - admitted_at) as f64 / 1e6;
            self.broken(now, Promise::NotLate, || {
                format!("attempt {attempt} of #{item} starts {late:.3} s late")
            });
        }
    }
    /// Another copy of it may have set a later time; this one's own has come.
    fn is_repeat(&self, item: u32, start: &StartAttempt, shows: Timestamp) -> bool {
        self.is_excused(item) && start.delivery.due.is_none_or(|due| due <= shows)
    }

    fn early_promise(&self, item: u32) -> Promise {
        if self.items[item as usize].forked {
            Promise::ForksKnown
        } else {
            Promise::NeverEarly
        }
    }
}
