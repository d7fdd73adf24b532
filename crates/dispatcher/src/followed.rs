//! Which claim an event of a table's partition is for.
//!
//! Decides that what comes before a removal is confirmed is of the earlier claim. Leaves reading to
//! `kafka`.

use std::collections::BTreeMap;

use postrider_domain::Slice;
use postrider_engine::io::Claim;

/// Which ownership an event of a partition belongs to.
///
/// A slice may be left and acquired again before the reader has heard of either; what comes until
/// it confirms that the partition was removed is of the earlier ownership.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    claims: BTreeMap<Slice, Claim>,
    /// Removals not yet confirmed.
    leaving: BTreeMap<Slice, u32>,
}

impl Followed {
    pub(crate) fn follow(&mut self, slice: Slice, claim: Claim) {
        self.claims.insert(slice, claim);
    }

    /// Whether it was followed.
    pub(crate) fn leave(&mut self, slice: Slice) -> bool {
        let was = self.claims.remove(&slice).is_some();
        if was {
            *self.leaving.entry(slice).or_default() += 1;
        }
        was
    }

    pub(crate) fn removed(&mut self, slice: Slice) {
        if let Some(count) = self.leaving.get_mut(&slice) {
            *count -= 1;
            if *count == 0 {
                self.leaving.remove(&slice);
            }
        }
    }

    /// The ownership that events of the slice are for; `None` = one that is over.
    pub(crate) fn current(&self, slice: Slice) -> Option<Claim> {
        if self.leaving.contains_key(&slice) {
            None
        } else {
            self.claims.get(&slice).copied()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE: Slice = Slice(3);

    #[test]
    fn what_comes_before_the_removal_is_of_the_earlier_ownership() {
        let mut followed = Followed::default();
        followed.follow(SLICE, Claim(1));
        assert_eq!(followed.current(SLICE), Some(Claim(1)));
        assert!(followed.leave(SLICE));
        followed.follow(SLICE, Claim(2));
        assert_eq!(followed.current(SLICE), None, "a late `Loaded` is not ours");
        followed.removed(SLICE);
        assert_eq!(followed.current(SLICE), Some(Claim(2)));
    }

    #[test]
    fn every_removal_is_waited_for() {
        let mut followed = Followed::default();
        for claim in 1..=3 {
            followed.follow(SLICE, Claim(claim));
            assert!(followed.leave(SLICE));
        }
        followed.follow(SLICE, Claim(4));
        followed.removed(SLICE);
        followed.removed(SLICE);
        assert_eq!(followed.current(SLICE), None);
        followed.removed(SLICE);
        assert_eq!(followed.current(SLICE), Some(Claim(4)));
    }

    #[test]
    fn a_slice_that_was_not_followed_is_not_left() {
        let mut followed = Followed::default();
        assert!(!followed.leave(SLICE));
        followed.follow(SLICE, Claim(1));
        assert_eq!(followed.current(SLICE), Some(Claim(1)));
    }
}
