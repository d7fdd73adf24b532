//! P2: what was sent is sent again only where a memory was lost.
//!
//! Decides which repetitions are explained. A memory is lost with a crash, with an expulsion from
//! the group, or with a hand-over by force; it explains what its process touched and no stored
//! commit accounts for. A delivery that lies twice on a log (a write whose acknowledgement was
//! lost, a router that crashed) explains itself only where the slice has changed hands since:
//! within one ownership the second copy is known.

use postrider_domain::Slice;

use super::{Audit, Promise, Who};
use crate::clock::{MICROS, Micros};

impl Audit {
    /// A process lost what it knew, or it may be that others have its slices.
    pub(crate) fn memory_lost(&mut self, now: Micros, who: Who, why: &'static str) {
        self.counts.memories_lost += 1;
        self.disturb(now, 300 * MICROS);
        self.outcast.insert(who);
        self.claims.retain(|(of, _), _| *of != who);
        self.excuse(who, None, why);
        if why == "crash" {
            self.requests.retain(|(of, ..), _| *of != who);
            for facts in self.endpoints.values_mut() {
                facts.in_flight.retain(|(of, _), _| *of != who);
                facts.full_until = facts.full_until.min(now);
            }
        }
    }

    /// A slice was handed back before its work had ended.
    pub(crate) fn released_by_force(&mut self, now: Micros, slice: Slice, who: Who) {
        self.disturb(now, 120 * MICROS);
        self.excuse(who, Some(slice), "forced");
    }

    fn excuse(&mut self, who: Who, slice: Option<Slice>, why: &'static str) {
        for &item in &self.open {
            let entry = &mut self.items[item as usize];
            if entry.touched == Some(who) && slice.is_none_or(|slice| slice == entry.slice) {
                entry.excuse.get_or_insert(why);
            }
        }
    }

    /// A copy of it may be on a log twice.
    pub(crate) fn forked(&mut self, item: u32) {
        self.item(item).forked = true;
    }

    /// The router wrote it again.
    pub(crate) fn repeated_by_router(&mut self, item: u32) {
        self.forked(item);
    }

    /// An attempt starts: was it made before, or is there nothing left to attempt?
    pub(super) fn check_repeated(&mut self, now: Micros, who: Who, item: u32, attempt: u32) {
        let entry = &self.items[item as usize];
        let repeated = attempt <= entry.attempts || entry.success || entry.ended;
        if attempt > entry.attempts + 1 && !self.is_excused(item) {
            let made = self.items[item as usize].attempts;
            self.broken(now, Promise::TruthfulLog, || {
                format!(
                    "w{} starts attempt {attempt} of #{item} after {made}",
                    who.0
                )
            });
        }
        if !repeated {
            return;
        }
        let zombie = self.outcast.contains(&who) && !Promise::KEPT.contains(&Promise::SingleOwner);
        if zombie || self.is_excused(item) {
            self.counts.duplicates += 1;
            return;
        }
        let entry = &self.items[item as usize];
        let promise = if entry.forked {
            Promise::ForksKnown
        } else {
            Promise::BoundedDuplicates
        };
        let (made, success, ended) = (entry.attempts, entry.success, entry.ended);
        self.broken(now, promise, || {
            format!("w{} starts attempt {attempt} of #{item} again: {made} attempts were made, taken: {success}, ended: {ended}", who.0)
        });
    }

    /// A delivery ended before: may it end again?
    pub(super) fn check_second_end(&mut self, now: Micros, item: u32, how: &'static str) {
        if !self.is_excused(item) && !self.items[item as usize].forked {
            self.broken(now, Promise::NoLoss, || {
                format!("#{item} has ended before, now it is {how}")
            });
        }
    }

    pub(super) fn is_excused(&self, item: u32) -> bool {
        let entry = &self.items[item as usize];
        let outcast = entry.touched.is_some_and(|who| self.outcast.contains(&who));
        let moved = || {
            let times = self.acquisitions.get(&entry.slice);
            times.is_some_and(|times| times.iter().any(|at| *at > entry.made_at))
        };
        entry.excuse.is_some() || outcast || (entry.forked && moved())
    }
}
