//! How a slice becomes ours: the claim on it, until it is active.
//!
//! Decides that a slice is active once its offsets are known and our fence is read back, that a
//! fence that failed is written again, and that one that was outbid is written again only when a
//! commit of ours that was sent afterwards is accepted: until then whoever outbid us may be the
//! owner (ADR 0015). Leaves which state records count to [`crate::fence`], fences of others behind
//! ours to [`crate::slice`].

use std::time::Duration;

use postrider_domain::{Lane, Slice, Timestamp};

use super::{Ownership, Settings, Worker};
use crate::fence::{Claimed, Claiming};
use crate::io::{Claim, Epoch, Observation, Order, StateEntry, Write, WriteId};
use crate::lane::Committed;
use crate::slice::{Acquired, SliceEngine};

/// Pause before a fence that could not be written is written again.
const FENCE_BACKOFF: Duration = Duration::from_secs(1);

/// What is known of a slice that is being claimed.
#[derive(Debug)]
pub(super) struct Acquiring {
    claim: Claim,
    state: Claiming,
    claimed: Option<Claimed>,
    /// Records behind our fence.
    later: Vec<StateEntry>,
    committed: Option<([Committed; Lane::COUNT], i64, Vec<Lane>)>,
    /// Counts the fences written.
    fences: u64,
    /// A fence to be written again, and when.
    refence: Option<(Timestamp, Epoch)>,
    /// When another claim was found in the place of ours.
    outbid: Option<Timestamp>,
}

impl Acquiring {
    /// When its fence is to be written again.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.refence.map(|(at, _)| at)
    }
}

impl Worker {
    /// The group gave us slices.
    pub fn handle_assigned(&mut self, slices: impl IntoIterator<Item = Slice>) {
        for slice in slices {
            if self.leaving || self.slices.contains_key(&slice) {
                continue;
            }
            self.claims += 1;
            let claim = Claim(self.claims);
            let acquiring = Acquiring {
                claim,
                state: Claiming::new(self.settings.claimant),
                claimed: None,
                later: Vec::new(),
                committed: None,
                fences: 0,
                refence: None,
                outbid: None,
            };
            self.slices
                .insert(slice, Ownership::Claiming(Box::new(acquiring)));
            self.orders.push_back(Order::FetchOffsets { slice, claim });
            self.orders.push_back(Order::LoadState { slice, claim });
        }
    }

    /// Committed offsets and metadata of a slice's lanes arrived, the end of its backlog, and which
    /// lanes cannot be read on from there (their log does not exist or does not hold the offset):
    /// those stand still, with an alarm, until the slice is acquired anew.
    pub fn handle_offsets(
        &mut self,
        now: Timestamp,
        slice: Slice,
        claim: Claim,
        committed: [Committed; Lane::COUNT],
        backlog_end: i64,
        faulty: &[Lane],
    ) {
        match self.acquiring(slice, claim) {
            Some(acquiring) => {
                acquiring.committed = Some((committed, backlog_end, faulty.to_vec()));
            }
            None => return self.observe(Observation::StaleInput),
        }
        self.activate(now, slice);
    }

    /// The end of the slice's `endpoint-state`, as it was when it was asked for, is reached.
    pub fn handle_state_loaded(&mut self, slice: Slice, claim: Claim) {
        if let Some(acquiring) = self.acquiring(slice, claim)
            && acquiring.fences == 0
        {
            let epoch = acquiring.state.propose();
            self.write_fence(slice, claim, epoch);
        }
    }

    /// A record of the slice's `endpoint-state` was read.
    pub fn handle_state(&mut self, now: Timestamp, slice: Slice, claim: Claim, entry: StateEntry) {
        let session = self.settings.session;
        if let Some(engine) = self.engine(slice)
            && engine.claim() == claim
        {
            engine.handle_state(now, &entry);
            return self.pump(now, slice);
        }
        let Some(acquiring) = self.acquiring(slice, claim) else {
            return;
        };
        if acquiring.claimed.is_some() {
            acquiring.later.push(entry);
            return;
        }
        match acquiring.state.read(entry) {
            None => {}
            Some(Ok(claimed)) => {
                acquiring.claimed = Some(claimed);
                self.activate(now, slice);
            }
            // Another process claims it too. If it is its owner, we hear of that; if it woke up
            // late, a commit of ours that is accepted from now on tells us apart.
            Some(Err(epoch)) => {
                acquiring.outbid = Some(now);
                acquiring.refence = Some((now + session, epoch));
            }
        }
    }

    pub(super) fn acquiring(&mut self, slice: Slice, claim: Claim) -> Option<&mut Acquiring> {
        match self.slices.get_mut(&slice)? {
            Ownership::Claiming(acquiring) if acquiring.claim == claim => Some(acquiring),
            _ => None,
        }
    }

    /// Starts the engine of a slice once its offsets are known and its fence holds.
    fn activate(&mut self, now: Timestamp, slice: Slice) {
        let Some(ownership @ Ownership::Claiming(_)) = self.slices.get_mut(&slice) else {
            return;
        };
        let Ownership::Claiming(acquiring) = ownership else {
            unreachable!("just matched")
        };
        if acquiring.committed.is_none() || acquiring.claimed.is_none() {
            return;
        }
        let claim = acquiring.claim;
        let (committed, backlog_end, faulty) = acquiring.committed.take().expect("just looked");
        let claimed = acquiring.claimed.take().expect("just looked");
        let later = std::mem::take(&mut acquiring.later);
        let Settings {
            seed,
            defaults,
            claimant,
            ..
        } = &self.settings;
        let acquired = Acquired {
            slice,
            claim,
            claimant: *claimant,
            committed,
            backlog_end,
            faulty,
            claimed,
        };
        let mut engine = SliceEngine::new(now, acquired, *seed, defaults.clone());
        for entry in later {
            engine.handle_state(now, &entry);
        }
        *ownership = Ownership::Active(Box::new(engine));
        self.commits.hurry_renewal(now);
        self.orders.push_back(Order::LoadEndpoints { slice, claim });
        self.pump(now, slice);
    }

    fn write_fence(&mut self, slice: Slice, claim: Claim, epoch: Epoch) {
        let claimant = self.settings.claimant;
        let Some(acquiring) = self.acquiring(slice, claim) else {
            return;
        };
        acquiring.fences += 1;
        let id = WriteId {
            slice,
            claim,
            // Far from the numbers of the engine that follows under the same claim.
            number: u64::MAX - acquiring.fences,
        };
        let write = Write::Fence { epoch, claimant };
        self.orders.push_back(Order::Write { id, write });
    }

    pub(super) fn fence_failed(&mut self, now: Timestamp, id: WriteId, epoch: Epoch) {
        if let Some(acquiring) = self.acquiring(id.slice, id.claim) {
            acquiring.refence = Some((now + FENCE_BACKOFF, epoch));
        }
    }

    pub(super) fn refence_if_due(&mut self, now: Timestamp, slice: Slice) {
        if let Some(Ownership::Claiming(acquiring)) = self.slices.get_mut(&slice)
            && let Some((_, epoch)) = acquiring.refence.take_if(|(at, _)| *at <= now)
        {
            let claim = acquiring.claim;
            self.write_fence(slice, claim, epoch);
        }
    }

    /// A commit sent then was accepted, so we own what we think we own: claims that were outbid
    /// before it are made again.
    pub(super) fn fence_again(&mut self, now: Timestamp, sent_at: Timestamp) {
        let slices: Vec<Slice> = self.slices.keys().copied().collect();
        for slice in slices {
            match self.slices.get_mut(&slice) {
                Some(Ownership::Claiming(acquiring)) => {
                    if acquiring.outbid.take_if(|at| *at < sent_at).is_some()
                        && let Some((at, _)) = &mut acquiring.refence
                    {
                        *at = sent_at;
                    }
                }
                Some(Ownership::Active(engine) | Ownership::Draining(engine, _)) => {
                    engine.fence_again(sent_at);
                    self.pump(now, slice);
                }
                None => {}
            }
        }
    }
}
