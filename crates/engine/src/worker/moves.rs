//! What is moved while another process may own the slice: nothing.
//!
//! Decides that copies to retry topics, the backlog and the dead letters wait for the lease, all of
//! them in their order, and are forgotten with their slice. A worker that was cut off from its group
//! may still reach the topics: what it read and moved there would live on beside what the new owner
//! makes of the same record, and be sent twice (P2). Attempt records wait for nothing, as they tell
//! what was; `endpoint-state` has its fence. Leaves how long a lease lasts to [`crate::lease`].

use std::collections::VecDeque;

use postrider_domain::Slice;

use crate::io::Order;

/// Copies that wait, oldest first. There are no more than records in memory.
#[derive(Debug, Default)]
pub(super) struct Moves(VecDeque<Order>);

impl Moves {
    /// On to `orders`, or, if it is a move and the lease is over, into the queue.
    pub(super) fn pass(&mut self, order: Order, holds: bool, orders: &mut VecDeque<Order>) {
        let is_move = matches!(&order, Order::Write { write, .. } if write.is_move());
        if is_move && !(holds && self.0.is_empty()) {
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

    /// The slice is not ours any more.
    pub(super) fn forget(&mut self, slice: Slice) {
        self.0.retain(|order| {
            let of = match order {
                Order::Write { id, .. } => Some(id.slice),
                _ => None,
            };
            of != Some(slice)
        });
    }
}
