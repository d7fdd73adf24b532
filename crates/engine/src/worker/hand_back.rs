//! How slices stop being ours: revoked, lost, or at the end of the process.
//!
//! Decides that a revoked slice is drained and let go when its last commit was accepted, so that a
//! clean hand-over repeats nothing (P2); that revocations that come meanwhile are merged, as one
//! answer answers all that are open; and that a slice that was lost is dropped at once. Leaves what
//! draining means for the deliveries to `slice/drain`, the answer to the group to the shell.

use std::collections::BTreeSet;
use std::time::Duration;

use postrider_domain::{Slice, Timestamp};

use super::{Ownership, Worker};
use crate::io::Order;
use crate::limit::{RESERVED_ABOVE, START_GRACE};

/// Longest time a revoked slice is drained; past it, it is handed back as it is. Attempts end by
/// their own deadline of at most 60 s; the rest is for writes and the last commit.
pub const DRAIN_MAX: Duration = Duration::from_secs(75);

impl Worker {
    /// The group wants slices back. They are drained; further revocations that come meanwhile are
    /// merged, as one answer answers all that are open.
    pub fn handle_revoked(&mut self, now: Timestamp, slices: impl IntoIterator<Item = Slice>) {
        let slices: BTreeSet<Slice> = slices.into_iter().collect();
        for &slice in &slices {
            self.drain(now, slice);
        }
        self.revoked.get_or_insert_default().extend(slices);
        self.release_drained(now);
    }

    /// We are no member any more: every slice may have a new owner already. Nothing is committed,
    /// and nothing starts for as long as a short rate limit may count what started until now.
    pub fn handle_lost(&mut self, now: Timestamp) {
        let slices: Vec<Slice> = self.slices.keys().copied().collect();
        for slice in slices {
            self.release(slice);
        }
        self.lease.end();
        self.quiet_until = Some(now + RESERVED_ABOVE + START_GRACE);
        self.commits.lost();
        self.revoked = None;
        self.orders.push_back(Order::HandBack);
        self.leave_if_done();
    }

    /// The process shall end: everything is drained, then the group is left.
    pub fn handle_shutdown(&mut self, now: Timestamp) {
        self.leaving = true;
        let slices: Vec<Slice> = self.slices.keys().copied().collect();
        for slice in slices {
            self.drain(now, slice);
        }
        self.release_drained(now);
    }

    fn drain(&mut self, now: Timestamp, slice: Slice) {
        match self.slices.remove(&slice) {
            Some(Ownership::Active(mut engine)) => {
                engine.drain(now);
                self.slices
                    .insert(slice, Ownership::Draining(engine, now + DRAIN_MAX));
                self.pump(now, slice);
            }
            Some(Ownership::Claiming(_)) => self.orders.push_back(Order::Released(slice)),
            Some(draining @ Ownership::Draining(..)) => {
                self.slices.insert(slice, draining);
            }
            None => {}
        }
    }

    /// Lets go of every slice that is drained and whose last commit was accepted, and answers the
    /// group when none is left of what it asked for.
    pub(super) fn release_drained(&mut self, now: Timestamp) {
        let mut done = Vec::new();
        for (&slice, ownership) in &self.slices {
            let Ownership::Draining(engine, until) = ownership else {
                continue;
            };
            if *until <= now || (engine.is_drained() && !self.commits.is_open(slice)) {
                done.push(slice);
            } else if engine.is_drained() {
                self.commits.hurry();
            }
        }
        for slice in done {
            self.release(slice);
        }
        let open = |slice: &Slice| self.slices.contains_key(slice);
        if self
            .revoked
            .as_ref()
            .is_some_and(|revoked| !revoked.iter().any(open))
        {
            self.revoked = None;
            self.orders.push_back(Order::HandBack);
        }
        self.leave_if_done();
        self.commit_if_due(now);
    }

    fn release(&mut self, slice: Slice) {
        self.slices.remove(&slice);
        self.commits.forget(slice);
        self.moves.forget(slice, &mut self.orders);
        self.orders.push_back(Order::Released(slice));
    }

    fn leave_if_done(&mut self) {
        if self.leaving && !self.left && self.slices.is_empty() && self.revoked.is_none() {
            self.left = true;
            self.orders.push_back(Order::Leave);
        }
    }
}
