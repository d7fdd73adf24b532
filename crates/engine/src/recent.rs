//! Which deliveries a slice saw lately, so that a repeated copy is dropped.
//!
//! Decides that two records with the same delivery id and the same number of attempts are copies
//! of one: a router that crashed fans out again with the same ids, a dispatcher that crashed
//! between a retry copy and its commit forks a chain (ADR 0004). Dropping the second copy
//! is safe because the first one's offset stays incomplete until it is settled.
//! Leaves the few that fall out of the window to the receiver, who has the `webhook-id`.

use std::collections::{BTreeSet, VecDeque};

use postrider_domain::DeliveryId;

/// Copies remembered per slice; a copy is 32 bytes, twice.
pub const RECENT_MAX: usize = 8_192;

/// The last [`RECENT_MAX`] copies.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    order: VecDeque<(DeliveryId, u32)>,
    known: BTreeSet<(DeliveryId, u32)>,
}

impl Recent {
    /// Remembers a copy; `false` when it was seen already.
    pub(crate) fn insert(&mut self, id: DeliveryId, attempts: u32) -> bool {
        if !self.known.insert((id, attempts)) {
            return false;
        }
        self.order.push_back((id, attempts));
        if self.order.len() > RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }

    /// Forgets a copy that was moved to another topic unattempted and will be read again there.
    pub(crate) fn forget(&mut self, id: DeliveryId, attempts: u32) {
        self.known.remove(&(id, attempts));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_known_until_it_falls_out() {
        let mut recent = Recent::default();
        let id = |n: usize| DeliveryId::from_bytes((n as u128).to_be_bytes());
        assert!(recent.insert(id(0), 0));
        assert!(!recent.insert(id(0), 0));
        assert!(recent.insert(id(0), 1), "the next attempt is another copy");
        for n in 1..RECENT_MAX {
            recent.insert(id(n), 0);
        }
        assert!(recent.insert(id(0), 0), "it fell out");
        assert!(recent.known.len() <= RECENT_MAX && recent.order.len() <= RECENT_MAX);
    }

    #[test]
    fn a_forgotten_copy_is_new_again() {
        let mut recent = Recent::default();
        let id = DeliveryId::from_bytes([1; 16]);
        recent.insert(id, 0);
        recent.forget(id, 0);
        assert!(recent.insert(id, 0));
    }
}
