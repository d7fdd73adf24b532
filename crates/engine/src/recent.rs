//! Which deliveries a slice saw lately, so that a repeated copy is dropped.
//!
//! Decides that two records of one lane with the same delivery id and the same number of attempts
//! are copies of one: a router that crashed fans out again with the same ids, a dispatcher that crashed
//! between a retry copy and its commit forks a chain (ADR 0004). Dropping the second copy
//! is safe because the first one's offset stays incomplete until it is settled.
//! Leaves the few that fall out of the window to the receiver, who has the `webhook-id`.

use std::collections::{BTreeMap, VecDeque};

use postrider_domain::{DeliveryId, Lane, Rung};

/// Copies remembered per slice; a copy is 32 bytes, twice.
pub const RECENT_MAX: usize = 8_192;

/// In the order of lanes.
const LAST_LANE: Lane = Lane::Retry(Rung::LONGEST);

type Copy = (DeliveryId, u32, Lane);

/// The last [`RECENT_MAX`] copies.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    order: VecDeque<(Copy, u64)>,
    /// With the number of their place in the order: one that was forgotten and came again has two.
    known: BTreeMap<Copy, u64>,
    places: u64,
}

impl Recent {
    /// Remembers a copy; `false` when it was seen already.
    pub(crate) fn insert(&mut self, id: DeliveryId, attempts: u32, lane: Lane) -> bool {
        let copy = (id, attempts, lane);
        if self.known.contains_key(&copy) {
            return false;
        }
        self.places += 1;
        self.known.insert(copy, self.places);
        self.order.push_back((copy, self.places));
        if self.order.len() > RECENT_MAX
            && let Some((oldest, place)) = self.order.pop_front()
            && self.known.get(&oldest) == Some(&place)
        {
            self.known.remove(&oldest);
        }
        true
    }

    /// Forgets all copies of a delivery.
    pub(crate) fn forget_all(&mut self, id: DeliveryId) {
        let of = (id, 0, Lane::Deliveries)..=(id, u32::MAX, LAST_LANE);
        while let Some((&copy, _)) = self.known.range(of.clone()).next() {
            self.known.remove(&copy);
        }
    }

    /// Forgets a copy that is out of memory, unsettled, and will be read again.
    pub(crate) fn forget(&mut self, id: DeliveryId, attempts: u32, lane: Lane) {
        self.known.remove(&(id, attempts, lane));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: Lane = Lane::Deliveries;

    #[test]
    fn a_copy_is_known_until_it_falls_out() {
        let mut recent = Recent::default();
        let id = |n: usize| DeliveryId::from_bytes((n as u128).to_be_bytes());
        assert!(recent.insert(id(0), 0, LANE));
        assert!(!recent.insert(id(0), 0, LANE));
        assert!(
            recent.insert(id(0), 1, LANE),
            "the next attempt is another copy"
        );
        assert!(
            recent.insert(id(0), 0, Lane::Backlog),
            "so is one that was moved"
        );
        for n in 1..RECENT_MAX {
            recent.insert(id(n), 0, LANE);
        }
        assert!(recent.insert(id(0), 0, LANE), "it fell out");
        assert!(recent.known.len() <= RECENT_MAX && recent.order.len() <= RECENT_MAX);
    }

    #[test]
    fn a_forgotten_copy_is_new_again() {
        let mut recent = Recent::default();
        let id = DeliveryId::from_bytes([1; 16]);
        recent.insert(id, 0, LANE);
        recent.forget(id, 0, LANE);
        assert!(recent.insert(id, 0, LANE));
    }
}
