//! Whose turn it is: the endpoints of a slice that have something to send.
//!
//! Decides that they take turns, one attempt each, so that none starves another; and that
//! endpoints which have not answered well since their last timeout ("unproven") share half of the
//! room, so that many that hang leave the rest to those that do not. Those that were never tried
//! come before them, and have another quarter. Leaves whether an
//! endpoint's attempt may start to [`crate::slice`], which asks its limit and its health.

use std::collections::VecDeque;

use postrider_domain::EndpointId;

use crate::lease::Term;

/// Most attempts of unproven endpoints in flight in one slice: a quarter of what its lanes may
/// hold open.
pub(crate) const UNPROVEN_MAX: usize = crate::offsets::HOLES_MAX / 4;

/// Most of them together with those that were never tried: half as many more.
pub(crate) const UNTRIED_MAX: usize = UNPROVEN_MAX + UNPROVEN_MAX / 2;

/// What the worker has room for.
#[derive(Debug)]
pub(crate) struct Room {
    /// Attempts start only under it.
    pub(crate) lease: Term,
    /// Requests that could start beside those in flight.
    pub(crate) free: usize,
    /// One more attempt of an unproven endpoint.
    pub(crate) unproven: bool,
    /// One more attempt of an endpoint that was never tried.
    pub(crate) untried: bool,
    /// Replays, and only those.
    pub(crate) replays: bool,
    /// Set when an attempt could not start for want of a lease.
    pub(crate) lease_wanted: bool,
    /// Set when an endpoint had its share.
    pub(crate) share_used: bool,
}

impl Room {
    /// Most requests of one endpoint in flight: as many as are free. One alone may have half of
    /// them, and there is room for one that was idle while fewer answer slowly than there are
    /// requests.
    pub(crate) fn share(&self) -> usize {
        self.free.max(1)
    }
}

/// The order of turns. An endpoint is in at most one of the lists, and in one of those of replays; its
/// flow says so.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    ready: VecDeque<EndpointId>,
    /// Wait until there is room for endpoints that were never tried.
    untried: VecDeque<EndpointId>,
    /// Wait until there is room for unproven endpoints.
    unproven: VecDeque<EndpointId>,
    /// Have replays to send, and nothing else.
    replays: VecDeque<EndpointId>,
    /// Those of them that wait until there is room for unproven endpoints.
    unproven_replays: VecDeque<EndpointId>,
    unproven_in_flight: usize,
}

impl Turns {
    /// The endpoint has something to send.
    pub(crate) fn give(&mut self, endpoint: EndpointId) {
        self.ready.push_back(endpoint);
    }

    /// It has only replays to send.
    pub(crate) fn give_replay(&mut self, endpoint: EndpointId) {
        self.replays.push_back(endpoint);
    }

    /// Its turn came when there was no room for unproven endpoints.
    pub(crate) fn wait_for_room(&mut self, endpoint: EndpointId, untried: bool) {
        if untried {
            self.untried.push_back(endpoint);
        } else {
            self.unproven.push_back(endpoint);
        }
    }

    /// Its replays' turn came when there was no room for unproven endpoints.
    pub(crate) fn wait_with_replays(&mut self, endpoint: EndpointId) {
        self.unproven_replays.push_back(endpoint);
    }

    /// An endpoint answered well: it waits for that room no longer.
    pub(crate) fn proved(&mut self, endpoint: &EndpointId) {
        let mut replays = self.unproven_replays.iter();
        if let Some(at) = replays.position(|waiting| waiting == endpoint) {
            self.replays.extend(self.unproven_replays.remove(at));
        }
        for list in [&mut self.untried, &mut self.unproven] {
            if let Some(at) = list.iter().position(|waiting| waiting == endpoint) {
                list.remove(at);
                self.ready.push_back(endpoint.clone());
                return;
            }
        }
    }

    /// The next endpoint.
    pub(crate) fn next(&mut self, room: &Room) -> Option<EndpointId> {
        if room.replays {
            let unproven = if self.has_room(room, false) {
                self.unproven_replays.pop_front()
            } else {
                None
            };
            return unproven.or_else(|| self.replays.pop_front());
        }
        if self.has_room(room, true)
            && let Some(endpoint) = self.untried.pop_front()
        {
            return Some(endpoint);
        }
        if self.has_room(room, false)
            && let Some(endpoint) = self.unproven.pop_front()
        {
            return Some(endpoint);
        }
        self.ready.pop_front()
    }

    /// Whether an unproven endpoint may start one more.
    pub(crate) const fn has_room(&self, room: &Room, untried: bool) -> bool {
        if untried {
            room.untried && self.unproven_in_flight < UNTRIED_MAX
        } else {
            room.unproven && self.unproven_in_flight < UNPROVEN_MAX
        }
    }

    /// An attempt of an unproven endpoint started.
    pub(crate) const fn unproven_started(&mut self) {
        self.unproven_in_flight += 1;
    }

    /// It ended.
    pub(crate) fn unproven_ended(&mut self) {
        let left = self.unproven_in_flight.checked_sub(1);
        self.unproven_in_flight = left.expect("one end per attempt");
    }

    #[cfg(test)]
    pub(crate) fn replays_listed(&self) -> usize {
        self.replays.len()
    }

    /// Nobody has a turn any more.
    pub(crate) fn clear(&mut self) {
        self.ready.clear();
        self.untried.clear();
        self.unproven.clear();
        self.replays.clear();
        self.unproven_replays.clear();
    }
}
