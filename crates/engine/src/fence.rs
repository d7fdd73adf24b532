//! Who may write to a slice's `endpoint-state`, and what counts of what is written there.
//!
//! Decides the claim: a new owner appends a fence record with a higher epoch than any before it
//! and reads the log up to that record. What was written under a lower epoch and lies behind the
//! fence does not count: a former owner that wakes can overwrite nothing. Two claims with the same
//! epoch are told apart by their place: the first one in the log holds, the other tries again.
//! HTTP requests cannot be fenced; that is what [`crate::lease`] is for (ADR 0014).

use std::collections::{BTreeMap, BTreeSet};

use postrider_domain::{EndpointId, Remembered};

use crate::io::{Epoch, StateEntry};

/// A slice's `endpoint-state` while it is claimed.
#[derive(Debug)]
pub(crate) struct Claiming {
    /// Names this process.
    claimant: u64,
    /// Highest epoch read, of a fence or of any record: a record implies its fence, which
    /// compaction may have removed.
    highest: Epoch,
    /// Who wrote the fence of that epoch first; `None` = it was compacted away.
    holder: Option<u64>,
    /// The fence that is being written.
    proposed: Option<Epoch>,
    remembered: BTreeMap<EndpointId, Remembered>,
    /// Endpoints of which a record was ignored. Compaction may keep that one and not ours, so
    /// ours is written anew.
    overwritten: BTreeSet<EndpointId>,
}

/// What a slice's new owner has to know.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) epoch: Epoch,
    pub(crate) remembered: BTreeMap<EndpointId, Remembered>,
    pub(crate) overwritten: BTreeSet<EndpointId>,
}

impl Claiming {
    /// `claimant` is a number that no other process has.
    pub(crate) const fn new(claimant: u64) -> Self {
        Self {
            claimant,
            highest: Epoch(0),
            holder: None,
            proposed: None,
            remembered: BTreeMap::new(),
            overwritten: BTreeSet::new(),
        }
    }

    /// A record was read; what is claimed with it, or the fence to be written next.
    pub(crate) fn read(&mut self, entry: StateEntry) -> Option<Result<Claimed, Epoch>> {
        match entry {
            StateEntry::Fence { epoch, claimant } => {
                if epoch > self.highest {
                    self.highest = epoch;
                    self.holder = Some(claimant);
                }
                if claimant != self.claimant || self.proposed != Some(epoch) {
                    return None;
                }
                if self.highest == epoch && self.holder == Some(claimant) {
                    return Some(Ok(Claimed {
                        epoch,
                        remembered: std::mem::take(&mut self.remembered),
                        overwritten: std::mem::take(&mut self.overwritten),
                    }));
                }
                Some(Err(self.propose()))
            }
            StateEntry::Endpoint {
                id,
                epoch,
                remembered,
            } => {
                if epoch < self.highest {
                    self.overwritten.insert(id);
                    return None;
                }
                if epoch > self.highest {
                    self.highest = epoch;
                    self.holder = None;
                }
                if remembered.is_empty() {
                    self.remembered.remove(&id);
                } else {
                    self.remembered.insert(id, remembered);
                }
                None
            }
        }
    }

    /// The fence to be written, once the end of the log is reached.
    pub(crate) fn propose(&mut self) -> Epoch {
        let epoch = Epoch(self.highest.0 + 1);
        self.proposed = Some(epoch);
        epoch
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::LimiterMemory;

    use super::*;

    const OURS: u64 = 7;

    fn fence(epoch: u64, claimant: u64) -> StateEntry {
        StateEntry::Fence {
            epoch: Epoch(epoch),
            claimant,
        }
    }

    fn of(id: &str, epoch: u64, gone: u64) -> StateEntry {
        let remembered = Remembered {
            gone: Some(gone),
            ..Remembered::default()
        };
        StateEntry::Endpoint {
            id: id.parse().unwrap(),
            epoch: Epoch(epoch),
            remembered,
        }
    }

    /// Reads a log to its end, then our fence.
    fn claim(log: impl IntoIterator<Item = StateEntry>) -> Claimed {
        let mut claiming = Claiming::new(OURS);
        for entry in log {
            assert!(claiming.read(entry).is_none(), "nothing is proposed yet");
        }
        let epoch = claiming.propose();
        let claimed = claiming.read(fence(epoch.0, OURS));
        claimed.expect("our fence").expect("it holds")
    }

    fn gone(claimed: &Claimed, id: &str) -> Option<u64> {
        claimed.remembered.get(&id.parse().unwrap())?.gone
    }

    #[test]
    fn the_first_claim_of_a_log_is_epoch_one() {
        let claimed = claim([]);
        assert_eq!(claimed.epoch, Epoch(1));
        assert!(claimed.remembered.is_empty());
    }

    #[test]
    fn what_a_former_owner_writes_behind_a_fence_does_not_count() {
        let log = [
            fence(1, 3),
            of("a", 1, 10),
            fence(2, 4),
            of("a", 2, 20),
            of("a", 1, 11),
        ];
        let claimed = claim(log);
        assert_eq!(claimed.epoch, Epoch(3));
        assert_eq!(gone(&claimed, "a"), Some(20));
        assert!(
            claimed.overwritten.contains(&"a".parse().unwrap()),
            "compaction would keep the one that does not count"
        );
    }

    #[test]
    fn a_fence_that_was_compacted_away_is_implied_by_its_records() {
        let claimed = claim([of("a", 4, 40), of("b", 3, 30), of("a", 3, 31)]);
        assert_eq!(claimed.epoch, Epoch(5));
        assert_eq!(gone(&claimed, "a"), Some(40));
        assert_eq!(gone(&claimed, "b"), None);
    }

    #[test]
    fn of_two_claims_with_one_epoch_the_first_in_the_log_holds() {
        let mut claiming = Claiming::new(OURS);
        assert_eq!(claiming.propose(), Epoch(1));
        assert!(claiming.read(fence(1, 3)).is_none());
        assert_eq!(claiming.read(fence(1, OURS)), Some(Err(Epoch(2))));
        let claimed = claiming.read(fence(2, OURS));
        assert!(matches!(
            claimed,
            Some(Ok(Claimed {
                epoch: Epoch(2),
                ..
            }))
        ));
    }

    #[test]
    fn a_claim_that_was_overtaken_is_made_again() {
        let mut claiming = Claiming::new(OURS);
        claiming.propose();
        claiming.read(fence(5, 3));
        assert_eq!(claiming.read(fence(1, OURS)), Some(Err(Epoch(6))));
    }

    #[test]
    fn an_old_fence_of_ours_is_not_taken_for_the_new_one() {
        let claimed = claim([fence(1, OURS), of("a", 1, 10)]);
        assert_eq!((claimed.epoch, gone(&claimed, "a")), (Epoch(2), Some(10)));
    }

    #[test]
    fn a_tombstone_forgets() {
        let tombstone = StateEntry::Endpoint {
            id: "a".parse().unwrap(),
            epoch: Epoch(1),
            remembered: Remembered::default(),
        };
        let claimed = claim([fence(1, 3), of("a", 1, 10), tombstone]);
        assert!(claimed.remembered.is_empty());
        assert!(
            !Remembered {
                limiter: Some(LimiterMemory::default()),
                ..Remembered::default()
            }
            .is_empty()
        );
    }
}
