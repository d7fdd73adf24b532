//! Records of others behind our fence.
//!
//! Decides that a record of a former owner, which does not count, is followed by ours, as compaction
//! keeps the last one of a key; and that a fence above ours stops attempts and state records until
//! ours is the last again. Whoever wrote it may be the owner (then we hear of that) or may have
//! woken up late: a commit of ours that was sent afterwards and is accepted tells us apart, and only
//! then the next fence is written, so that two do not outbid each other.

use std::time::Duration;

use postrider_domain::{EndpointId, Timestamp};

use super::{Draining, Purpose, SliceEngine};
use crate::io::{Epoch, Observation, StateEntry, Write};

/// A fence above ours was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Overtaken {
    since: Timestamp,
    /// Of the highest fence.
    highest: Epoch,
    /// The fence we answered with.
    proposed: Option<Epoch>,
}

impl SliceEngine {
    /// A record of `endpoint-state` was read, ours included.
    pub(crate) fn handle_state(&mut self, now: Timestamp, entry: &StateEntry) {
        let highest = self
            .overtaken
            .map_or(self.epoch, |overtaken| overtaken.highest);
        match entry {
            StateEntry::Fence { epoch, claimant } if *epoch > highest => {
                let proposed = self.overtaken.and_then(|overtaken| overtaken.proposed);
                if *claimant == self.claimant && proposed == Some(*epoch) {
                    self.hold_again(now, *epoch);
                } else {
                    self.overtake(now, *epoch);
                }
            }
            StateEntry::Endpoint { epoch, .. } if *epoch > highest => self.overtake(now, *epoch),
            StateEntry::Endpoint { id, epoch, .. } if *epoch < self.epoch => {
                self.observe(Observation::FormerOwner(self.slice));
                if self.opened {
                    self.save_soon(now, id, Duration::ZERO);
                } else {
                    self.overwritten.insert(id.clone());
                }
            }
            StateEntry::Fence { .. } | StateEntry::Endpoint { .. } => {}
        }
    }

    fn overtake(&mut self, now: Timestamp, highest: Epoch) {
        self.observe(Observation::FormerOwner(self.slice));
        self.overtaken = Some(Overtaken {
            since: now,
            highest,
            proposed: None,
        });
        if self.draining == Draining::State {
            // The last words do not count.
            self.draining = Draining::Entries;
        }
    }

    /// A commit sent then was accepted.
    pub(crate) fn fence_again(&mut self, sent_at: Timestamp) {
        let Some(overtaken) = &mut self.overtaken else {
            return;
        };
        if overtaken.proposed.is_some() || sent_at <= overtaken.since {
            return;
        }
        let epoch = Epoch(overtaken.highest.0 + 1);
        overtaken.proposed = Some(epoch);
        let claimant = self.claimant;
        self.begin_write(Purpose::Fence, Write::Fence { epoch, claimant });
    }

    /// Our fence is the last: what we remember is written under it, and attempts go on.
    fn hold_again(&mut self, now: Timestamp, epoch: Epoch) {
        self.overtaken = None;
        self.epoch = epoch;
        let unopened = self.remembered.keys().filter(|_| !self.opened);
        self.overwritten.extend(unopened.cloned());
        let known: Vec<EndpointId> = self
            .flows
            .iter()
            .filter(|(_, flow)| flow.saving.stored || flow.saving.dirty)
            .map(|(id, _)| id.clone())
            .collect();
        for id in known {
            self.save_soon(now, &id, Duration::ZERO);
        }
        self.wake_all();
        if self.draining == Draining::Entries {
            self.go_on_draining(now);
        }
    }
}
