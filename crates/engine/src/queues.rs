//! Whose turn it is: deliveries that wait for a permit of their endpoint.
//!
//! Decides the order (first in, first out within an endpoint, round robin between endpoints) and
//! holds each endpoint to its concurrency. Rate limit, breaker and adaptive concurrency belong
//! here, as further reasons for an endpoint not to be ready. Leaves what an entry is to
//! [`crate::slice`].

use std::collections::{BTreeMap, VecDeque};

use postrider_domain::EndpointId;

/// Names an entry of the slice's table.
pub(crate) type EntryId = u64;

/// The waiting and running deliveries of every endpoint that has any.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    endpoints: BTreeMap<EndpointId, Queue>,
    /// Endpoints that may have a turn, each at most once.
    turns: VecDeque<EndpointId>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<EntryId>,
    in_flight: u16,
    has_turn: bool,
}

impl Queues {
    /// Appends an entry to its endpoint's queue.
    pub(crate) fn push(&mut self, endpoint: &EndpointId, entry: EntryId) {
        let queue = self.endpoints.entry(endpoint.clone()).or_default();
        queue.waiting.push_back(entry);
        Self::give_turn(&mut self.turns, endpoint, queue);
    }

    /// The next entry to attempt, its endpoint now one more in flight. `permits` says how many
    /// may be in flight at once; 0 = none may start (the endpoint then waits for [`Self::wake`]).
    pub(crate) fn pop(
        &mut self,
        permits: impl Fn(&EndpointId) -> u16,
    ) -> Option<(EndpointId, EntryId)> {
        while let Some(endpoint) = self.turns.pop_front() {
            let Some(queue) = self.endpoints.get_mut(&endpoint) else {
                continue;
            };
            queue.has_turn = false;
            if queue.in_flight >= permits(&endpoint) {
                continue;
            }
            let Some(entry) = queue.waiting.pop_front() else {
                self.forget_if_idle(&endpoint);
                continue;
            };
            queue.in_flight += 1;
            Self::give_turn(&mut self.turns, &endpoint, queue);
            return Some((endpoint, entry));
        }
        None
    }

    /// An attempt of the endpoint ended: its permit is free.
    pub(crate) fn release(&mut self, endpoint: &EndpointId) {
        if let Some(queue) = self.endpoints.get_mut(endpoint) {
            debug_assert!(queue.in_flight > 0, "a permit of {endpoint} returned twice");
            queue.in_flight = queue.in_flight.saturating_sub(1);
        }
        self.wake(endpoint);
    }

    /// Something about the endpoint changed: it may have a turn again.
    pub(crate) fn wake(&mut self, endpoint: &EndpointId) {
        let Some(queue) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        Self::give_turn(&mut self.turns, endpoint, queue);
        self.forget_if_idle(endpoint);
    }

    /// Takes one waiting entry out.
    pub(crate) fn remove(&mut self, endpoint: &EndpointId, entry: EntryId) {
        if let Some(queue) = self.endpoints.get_mut(endpoint)
            && let Some(at) = queue.waiting.iter().position(|waiting| *waiting == entry)
        {
            queue.waiting.remove(at);
        }
        self.forget_if_idle(endpoint);
    }

    /// Takes every waiting entry of an endpoint out.
    pub(crate) fn take_waiting(&mut self, endpoint: &EndpointId) -> VecDeque<EntryId> {
        let queue = self.endpoints.get_mut(endpoint);
        let waiting = queue
            .map(|queue| std::mem::take(&mut queue.waiting))
            .unwrap_or_default();
        self.forget_if_idle(endpoint);
        waiting
    }

    /// Drops everything that waits; what is in flight stays counted.
    pub(crate) fn clear_waiting(&mut self) {
        self.turns.clear();
        self.endpoints.retain(|_, queue| {
            queue.waiting.clear();
            queue.has_turn = false;
            queue.in_flight > 0
        });
    }

    /// Whether an endpoint may have a turn: false means [`Self::pop`] would find nothing.
    pub(crate) fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    fn give_turn(turns: &mut VecDeque<EndpointId>, endpoint: &EndpointId, queue: &mut Queue) {
        if !queue.has_turn && !queue.waiting.is_empty() {
            queue.has_turn = true;
            turns.push_back(endpoint.clone());
        }
    }

    /// A queue that still has a turn is forgotten when the turn comes, so that turns stay unique.
    fn forget_if_idle(&mut self, endpoint: &EndpointId) {
        let idle =
            |queue: &Queue| queue.in_flight == 0 && queue.waiting.is_empty() && !queue.has_turn;
        if self.endpoints.get(endpoint).is_some_and(idle) {
            self.endpoints.remove(endpoint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(name: &str) -> EndpointId {
        name.parse().unwrap()
    }

    #[test]
    fn endpoints_take_turns_within_their_permits() {
        let mut queues = Queues::default();
        let (a, b) = (endpoint("a"), endpoint("b"));
        for entry in 0..4 {
            queues.push(&a, entry);
        }
        queues.push(&b, 10);
        let mut order = Vec::new();
        while let Some((_, entry)) = queues.pop(|_| 2) {
            order.push(entry);
        }
        assert_eq!(order, [0, 10, 1], "a has two permits, b one delivery");
        queues.release(&a);
        assert_eq!(queues.pop(|_| 2), Some((a.clone(), 2)));
        assert_eq!(queues.pop(|_| 2), None);
    }

    #[test]
    fn an_endpoint_without_permits_waits_to_be_woken() {
        let mut queues = Queues::default();
        let a = endpoint("a");
        queues.push(&a, 1);
        assert_eq!(queues.pop(|_| 0), None);
        assert!(!queues.has_turns());
        queues.wake(&a);
        assert_eq!(queues.pop(|_| 1), Some((a, 1)));
    }

    #[test]
    fn nothing_is_kept_of_an_idle_endpoint() {
        let mut queues = Queues::default();
        let a = endpoint("a");
        queues.push(&a, 1);
        queues.push(&a, 2);
        queues.remove(&a, 1);
        assert_eq!(queues.pop(|_| 1), Some((a.clone(), 2)));
        queues.release(&a);
        assert!(queues.endpoints.is_empty());
        queues.push(&a, 3);
        assert_eq!(queues.take_waiting(&a).len(), 1);
        queues.push(&a, 4);
        assert_eq!(
            queues.turns.len(),
            1,
            "one turn, however often it comes and goes"
        );
        assert_eq!(queues.take_waiting(&a).len(), 1);
        assert_eq!(queues.pop(|_| 1), None);
        assert!(queues.endpoints.is_empty());
    }
}
