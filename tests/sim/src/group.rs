//! The coordinator of the workers' group, as KIP-848 has it.
//!
//! Decides who is a member, which slices each shall have (balanced, sticky), and when a slice
//! moves: only after its holder handed it back, left, or was not heard of for a session. Commits
//! are checked by member and epoch, never by partition. Leaves heartbeats' timing to `world`.

use std::collections::{BTreeMap, BTreeSet};

use postrider_domain::Slice;

/// Names a member for ever.
pub(crate) type MemberId = u32;

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) host: usize,
    pub(crate) life: u32,
    epoch: u32,
    target: BTreeSet<Slice>,
    /// Given to it and not yet handed back.
    holds: BTreeSet<Slice>,
    /// Of these, asked back.
    asked_back: BTreeSet<Slice>,
}

/// The group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    slices: u16,
    epoch: u32,
    next_member: MemberId,
    members: BTreeMap<MemberId, Member>,
    holders: BTreeMap<Slice, MemberId>,
}

/// The answer to a heartbeat.
#[derive(Debug)]
pub(crate) enum HeartbeatAnswer {
    /// Still a member: its epoch and what it shall have now.
    Assignment(u32, BTreeSet<Slice>),
    /// No member any more.
    Fenced,
}

/// Whether a commit is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    Passed,
    StaleEpoch,
    UnknownMember,
}

impl Group {
    pub(crate) fn new(slices: u16) -> Self {
        Self {
            slices,
            ..Self::default()
        }
    }

    /// Someone new, with nothing yet.
    pub(crate) fn join(&mut self, host: usize, life: u32) -> MemberId {
        self.next_member += 1;
        let member = Member {
            host,
            life,
            epoch: 0,
            target: BTreeSet::new(),
            holds: BTreeSet::new(),
            asked_back: BTreeSet::new(),
        };
        self.members.insert(self.next_member, member);
        self.rebalance();
        self.next_member
    }

    /// It left, or was not heard of: what it held is free. Whether it was a member.
    pub(crate) fn remove(&mut self, id: MemberId) -> bool {
        if self.members.remove(&id).is_none() {
            return false;
        }
        self.holders.retain(|_, holder| *holder != id);
        self.rebalance();
        true
    }

    /// A member reports what it holds and learns what it shall have.
    pub(crate) fn heartbeat(&mut self, id: MemberId, holds: &BTreeSet<Slice>) -> HeartbeatAnswer {
        let Some(member) = self.members.get_mut(&id) else {
            return HeartbeatAnswer::Fenced;
        };
        let handed_back: Vec<Slice> = member.asked_back.difference(holds).copied().collect();
        for slice in handed_back {
            member.asked_back.remove(&slice);
            member.holds.remove(&slice);
            self.holders.remove(&slice);
        }
        let unwanted: Vec<Slice> = member.holds.difference(&member.target).copied().collect();
        member.asked_back.extend(unwanted);
        if member.asked_back.is_empty() {
            member.epoch = self.epoch;
            for &slice in &member.target {
                if *self.holders.entry(slice).or_insert(id) == id {
                    member.holds.insert(slice);
                }
            }
        }
        let kept = member.holds.difference(&member.asked_back).copied();
        HeartbeatAnswer::Assignment(member.epoch, kept.collect())
    }

    /// Whether a heartbeat of this member would tell it, or us, something new.
    pub(crate) fn has_news(&self, id: MemberId) -> bool {
        self.members.get(&id).is_none_or(|member| {
            member.epoch != self.epoch
                || !member.asked_back.is_empty()
                || member.holds != member.target
        })
    }

    /// What the broker checks of a commit: nothing about the partition.
    pub(crate) fn fence(&self, id: Option<(MemberId, u32)>) -> Fence {
        match id {
            None if self.members.is_empty() => Fence::Passed,
            None => Fence::UnknownMember,
            Some((id, epoch)) => match self.members.get(&id) {
                None => Fence::UnknownMember,
                Some(member) if member.epoch != epoch => Fence::StaleEpoch,
                Some(_) => Fence::Passed,
            },
        }
    }

    /// The member that holds a slice.
    pub(crate) fn holder(&self, slice: Slice) -> Option<MemberId> {
        self.holders.get(&slice).copied()
    }

    /// A member.
    pub(crate) fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// Every member.
    pub(crate) fn members(&self) -> impl Iterator<Item = MemberId> + use<'_> {
        self.members.keys().copied()
    }

    /// Balanced within one, and what is where it may stay stays.
    fn rebalance(&mut self) {
        self.epoch += 1;
        let count = self.members.len();
        if count == 0 {
            return;
        }
        let slices = usize::from(self.slices);
        let mut free: BTreeSet<Slice> = (0..self.slices).map(Slice).collect();
        let mut extra = slices % count;
        for member in self.members.values_mut() {
            let mut kept = BTreeSet::new();
            let quota = slices / count;
            for &slice in &member.target {
                let room = kept.len() < quota || (kept.len() == quota && extra > 0);
                if room && free.contains(&slice) {
                    extra -= usize::from(kept.len() == quota);
                    free.remove(&slice);
                    kept.insert(slice);
                }
            }
            member.target = kept;
        }
        while let Some(slice) = free.pop_first() {
            let least = self
                .members
                .values_mut()
                .min_by_key(|member| member.target.len());
            if let Some(member) = least {
                member.target.insert(slice);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices(of: &[u16]) -> BTreeSet<Slice> {
        of.iter().copied().map(Slice).collect()
    }

    fn assigned(answer: HeartbeatAnswer) -> BTreeSet<Slice> {
        match answer {
            HeartbeatAnswer::Assignment(_, slices) => slices,
            HeartbeatAnswer::Fenced => panic!("fenced"),
        }
    }

    #[test]
    fn a_slice_moves_only_after_it_was_handed_back() {
        let mut group = Group::new(4);
        let a = group.join(0, 0);
        assert_eq!(assigned(group.heartbeat(a, &slices(&[]))).len(), 4);
        let b = group.join(1, 0);
        assert!(assigned(group.heartbeat(b, &slices(&[]))).is_empty());
        let kept = assigned(group.heartbeat(a, &slices(&[0, 1, 2, 3])));
        assert_eq!(kept.len(), 2);
        assert!(
            assigned(group.heartbeat(b, &slices(&[]))).is_empty(),
            "not handed back"
        );
        assert!(group.has_news(a) && group.has_news(b));
        assert_eq!(assigned(group.heartbeat(a, &kept)), kept);
        assert_eq!(assigned(group.heartbeat(b, &slices(&[]))).len(), 2);
        assert!(!group.has_news(a) && !group.has_news(b));
        assert!(group.remove(a));
        assert_eq!(group.fence(Some((a, 2))), Fence::UnknownMember);
        assert_eq!(group.fence(Some((b, 2))), Fence::Passed);
        let all = assigned(group.heartbeat(b, &slices(&[2, 3])));
        assert_eq!(all.len(), 4);
        assert_eq!(group.fence(Some((b, 2))), Fence::StaleEpoch);
    }
}
