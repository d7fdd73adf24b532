//! What is committed, and what an answer leads to.
//!
//! Decides that only lanes of slices that are active or draining, under the claim they were settled
//! under, are committed. The broker fences commits by member and never by partition, so this rule
//! holds here and nowhere else (P1, P2; ADR 0002). Leaves the pace to [`crate::commits`], what an
//! accepted commit allows to [`crate::lease`].

use std::collections::BTreeMap;
use std::ops::Bound;

use postrider_domain::{Lane, Slice, Timestamp};

use super::{CommitAnswer, Ownership, Worker};
use crate::commits::LaneKey;
use crate::io::{Observation, Order};

impl Worker {
    /// The commit in flight was answered.
    pub fn handle_commit_finished(&mut self, now: Timestamp, answer: CommitAnswer) {
        let finished = self.commits.finish(now, answer);
        if let (CommitAnswer::Accepted, Some(sent_at)) = (answer, finished.sent_at) {
            if self.lease.accept(sent_at, now) && std::mem::take(&mut self.lease_wanted) {
                if self.lease.term().holds(now) {
                    self.moves.go_on(&mut self.orders);
                } else if !self.moves.is_empty() {
                    self.want_lease(now);
                }
                self.wake_slices();
            }
            if self.lease_wanted {
                self.commits.hurry_renewal(self.lease.renewal_at(now));
            }
            self.fence_again(now, sent_at);
        }
        if let Some((slice, claim, lane)) = finished.unknown {
            self.observe(Observation::LaneUnknown(slice, lane));
            if let Some(engine) = self.engine(slice)
                && engine.claim() == claim
            {
                engine.stop_lane(lane);
                self.pump(now, slice);
            }
        }
        if answer == CommitAnswer::NotAMember && finished.sent_at.is_some() {
            self.handle_lost(now);
        }
        self.release_drained(now);
    }

    pub(super) fn commit_if_due(&mut self, now: Timestamp) {
        if self.commits.due_at().is_none_or(|at| at > now) {
            return;
        }
        let slices = &self.slices;
        if self.commits.renewal_is_due(now) {
            let next = next_lane(slices, self.commits.last_renewed());
            self.commits.renew(now, next);
        }
        let entries = self.commits.start(now, |(slice, claim, lane)| {
            let engine = slices.get(&slice)?.engine()?;
            (engine.claim() == claim).then(|| engine.commit_point(lane))?
        });
        if !entries.is_empty() {
            self.orders.push_back(Order::Commit(entries));
        }
    }
}

/// The next lane, in turn, that has something to commit.
fn next_lane(slices: &BTreeMap<Slice, Ownership>, last: Option<LaneKey>) -> Option<LaneKey> {
    let start = last.map_or(Slice(0), |(slice, _, _)| slice);
    let after = last.map(|(slice, _, lane)| (slice, lane));
    let lanes = |range: (Bound<Slice>, Bound<Slice>)| {
        slices.range(range).flat_map(|(slice, ownership)| {
            ownership.engine().into_iter().flat_map(move |engine| {
                let lanes = Lane::all().filter(|lane| engine.has_commit_point(*lane));
                lanes.map(move |lane| (*slice, engine.claim(), lane))
            })
        })
    };
    let later = lanes((Bound::Included(start), Bound::Unbounded))
        .find(|(slice, _, lane)| after.is_none_or(|after| (*slice, *lane) > after));
    later.or_else(|| lanes((Bound::Unbounded, Bound::Included(start))).next())
}
