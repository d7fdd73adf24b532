//! The state log: fences, state records, what readers accept, and how a claim is confirmed.

use crate::model::Protocol;
use crate::promises::FOREIGN_STATE;
use crate::state::{Claimant, Phase, Process, State, Write};

impl State {
    /// The claimant read the log to its end and writes a fence one higher.
    pub(crate) fn claim(&mut self, model: &Protocol, m: usize, slice: usize) -> bool {
        let highest = self.slices[slice].fence.0;
        let member = &mut self.members[m];
        let own = &mut member.slices[slice];
        let ready = own.phase == Phase::Fetched && own.write == Write::None;
        if member.process != Process::Running || !ready {
            return false;
        }
        own.epoch = highest + 1;
        own.wrote = false;
        own.write = Write::Fence(own.epoch, own.claim);
        own.phase = if model.rules.read_fence_back {
            Phase::Fencing
        } else {
            Phase::Owned
        };
        true
    }

    /// The claimant reads its fence back. Unless it is the first of the highest epoch, one of the
    /// two claimants is none any more: who, a commit tells.
    pub(crate) fn read_back(&mut self, m: usize, slice: usize) -> bool {
        let fence = self.slices[slice].fence;
        let member = &mut self.members[m];
        let own = &mut member.slices[slice];
        let written = own.phase == Phase::Fencing && own.write == Write::None;
        if member.process != Process::Running || !written {
            return false;
        }
        let ours = Claimant {
            member: m as u8,
            claim: own.claim,
        };
        own.phase = if fence == (own.epoch, ours) {
            Phase::Owned
        } else {
            Phase::Contested
        };
        true
    }

    /// The owner writes state, once per claim.
    pub(crate) fn write_state(&mut self, m: usize, slice: usize) -> bool {
        let member = &mut self.members[m];
        let own = &mut member.slices[slice];
        let owns = matches!(own.phase, Phase::Owned | Phase::Draining) && own.write == Write::None;
        if member.process != Process::Running || !owns || own.wrote {
            return false;
        }
        own.wrote = true;
        own.write = Write::State(own.epoch, own.claim);
        true
    }

    /// An owner meets a fence higher than its own.
    pub(crate) fn meet_fence(&mut self, model: &Protocol, m: usize, slice: usize) -> bool {
        let highest = self.slices[slice].fence.0;
        let member = &mut self.members[m];
        let own = &mut member.slices[slice];
        let met = own.phase == Phase::Owned && highest > own.epoch;
        if member.process != Process::Running || !met || !model.rules.claim_again {
            return false;
        }
        own.phase = Phase::Contested;
        true
    }

    /// A write to the state log arrives, whatever became of its writer.
    pub(crate) fn write_arrives(&mut self, model: &Protocol, m: usize, slice: usize) -> bool {
        let write = std::mem::take(&mut self.members[m].slices[slice].write);
        let durable = &mut self.slices[slice];
        let by = |claim| Claimant {
            member: m as u8,
            claim,
        };
        match write {
            Write::None => return false,
            Write::Fence(epoch, claim) => {
                if epoch > durable.fence.0 {
                    durable.fence = (epoch, by(claim));
                }
            }
            Write::State(epoch, claim) => {
                if epoch >= durable.fence.0 || !model.rules.readers_keep_to_fences {
                    durable.state_by = by(claim);
                    if durable.fence.1 != durable.state_by {
                        self.broken |= FOREIGN_STATE;
                    }
                }
            }
        }
        true
    }
}
