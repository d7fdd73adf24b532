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
