//! What is moved while another process may own the slice: nothing.
//!
//! Decides that copies to retry topics, the backlog and the dead letters wait for the lease, all of
//! them in their order, and are forgotten with their slice. A worker that was cut off from its group
//! may still reach the topics: what it read and moved there would live on beside what the new owner
//! makes of the same record, and be sent twice (P2). So do records of deliveries that ended without a
//! request, which are decisions; those of requests wait for nothing, as they tell what was, and
//! `endpoint-state` has its fence. Leaves how long a lease lasts to [`crate::lease`].

use std::collections::VecDeque;

use postrider_domain::Slice;

use crate::io::Order;

/// What waits, oldest first: of each record in memory one copy and one attempt record.
#[derive(Debug, Default)]
pub(super) struct Moves(VecDeque<Order>);

impl Moves {
    /// On to `orders`, or, if it is a move and the lease is over, into the queue.
    pub(super) fn pass(&mut self, order: Order, holds: bool, orders: &mut VecDeque<Order>) {
        if moved(&order).is_some() && !(holds && self.0.is_empty()) {
            self.0.push_back(order);
        } else {
            orders.push_back(order);
        }
    }

    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The slices are ours still.
    pub(super) fn go_on(&mut self, orders: &mut VecDeque<Order>) {
        orders.append(&mut self.0);
    }

    /// The slice is not ours any more. What was let go and nobody has taken yet is forgotten too.
    pub(super) fn forget(&mut self, slice: Slice, orders: &mut VecDeque<Order>) {
        for waiting in [&mut self.0, orders] {
            waiting.retain(|order| moved(order) != Some(slice));
        }
    }
}

/// The slice of which it moves something.
fn moved(order: &Order) -> Option<Slice> {
    match order {
        Order::Write { id, write } if write.is_move() => Some(id.slice),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use postrider_domain::{DeadLetterReason, Origin, Record, Timestamp};

    use super::*;
    use crate::io::{Claim, Epoch, Write, WriteId};

    fn order(slice: u16, write: Write) -> Order {
        let id = WriteId {
            slice: Slice(slice),
            claim: Claim(1),
            number: 1,
        };
        Order::Write { id, write }
    }

    fn letter(slice: u16) -> Order {
        let record = Arc::new(Record {
            origin: Origin {
                topic: "deliveries".into(),
                partition: slice.into(),
                offset: 7,
            },
            timestamp: Timestamp::default(),
            key: None,
            value: None,
            headers: Vec::new(),
        });
        let write = Write::Unreadable {
            record,
            reason: DeadLetterReason::Undecodable,
            message: "no delivery".into(),
            without_value: false,
        };
        order(slice, write)
    }

    fn fence(slice: u16) -> Order {
        let (epoch, claimant) = (Epoch(1), 7);
        order(slice, Write::Fence { epoch, claimant })
    }

    /// A commit may be accepted, and with it the moves let go, in the very turn in which its slice
    /// is given back undrained: what was not committed is the next owner's.
    #[test]
    fn what_was_let_go_and_not_taken_yet_is_forgotten_with_its_slice() {
        let (mut moves, mut orders) = (Moves::default(), VecDeque::new());
        for order in [letter(1), letter(2), fence(1)] {
            moves.pass(order, false, &mut orders);
        }
        assert_eq!(orders.len(), 1, "a fence waits for nothing");
        moves.pass(letter(1), true, &mut orders);
        assert_eq!(orders.len(), 1, "behind those that wait");
        moves.go_on(&mut orders);
        assert!(moves.is_empty());
        moves.pass(letter(1), false, &mut orders);
        moves.forget(Slice(1), &mut orders);
        assert!(moves.is_empty());
        let left: Vec<Option<Slice>> = orders.iter().map(moved).collect();
        assert_eq!(left, [None, Some(Slice(2))]);
    }
}
