//! How the slices share the worker's requests in flight.
//!
//! Decides that no more than [`super::Settings::in_flight_max`] are in flight, at most half of
//! them to endpoints that have not answered well since their last timeout, and a quarter more to
//! those that were never tried (P3, P8); that slices take turns
//! and replays come last, in the room that [`crate::spare`] leaves them; and that none starts while another process may own the slice or count for
//! its limits (P4). Leaves which attempt of a slice starts to `slice/start`, how long
//! attempts may start to [`crate::lease`].

use std::ops::Bound;

use postrider_domain::{AttemptReport, Slice, Timestamp};

use super::{Ownership, Worker};
use crate::io::{Observation, StartAttempt, Ticket};
use crate::turns::Room;

impl Worker {
    /// The next request to send, if there is room and any may start. Slices take turns; replays
    /// come when nothing else may start and there is room to spare.
    pub fn poll_attempt(&mut self, now: Timestamp) -> Option<StartAttempt> {
        let max = self.settings.in_flight_max;
        if self.in_flight >= max || self.quiet_until.is_some_and(|until| now < until) {
            return None;
        }
        let mut room = Room {
            lease: self.lease.term(),
            free: max - self.in_flight,
            unproven: self.unproven_in_flight < max.div_ceil(2),
            untried: self.unproven_in_flight < (3 * max).div_ceil(4),
            replays: false,
            lease_wanted: false,
            share_used: false,
        };
        let mut attempt = self.next_attempt(now, &mut room);
        if attempt.is_none() && self.spare.has_room(self.in_flight) {
            room.replays = true;
            attempt = self.next_attempt(now, &mut room);
        }
        if room.lease_wanted {
            self.want_lease(now);
        }
        self.share_used |= room.share_used;
        if let Some(StartAttempt { ticket, .. }) = &attempt {
            self.last_turn = ticket.slice;
            self.in_flight += 1;
            self.unproven_in_flight += usize::from(ticket.unproven);
            if ticket.replay {
                self.spare.replay_started(now);
            }
        }
        attempt
    }

    /// Something waits for the lease: a commit is sent soon.
    pub(super) fn want_lease(&mut self, now: Timestamp) {
        if self.lease_wanted {
            return;
        }
        self.lease_wanted = true;
        if self.lease.term().was_held() {
            self.observe(Observation::LeaseEnded);
        }
        self.commits.hurry_renewal(self.lease.renewal_at(now));
        self.commit_if_due(now);
    }

    fn next_attempt(&mut self, now: Timestamp, room: &mut Room) -> Option<StartAttempt> {
        let last = self.last_turn;
        let after = (Bound::Excluded(last), Bound::Unbounded);
        let found = first_attempt(self.slices.range_mut(after), now, room);
        let found = found.or_else(|| first_attempt(self.slices.range_mut(..=last), now, room));
        // Asking for attempts may lead to orders: a reservation that has to be written first.
        let asking = |(slice, ownership): (&Slice, &Ownership)| {
            matches!(ownership, Ownership::Active(engine) if engine.has_orders()).then_some(*slice)
        };
        for slice in self.slices.iter().filter_map(asking).collect::<Vec<_>>() {
            self.pump(now, slice);
        }
        found
    }

    /// An attempt was taken up by whoever carries it out. May be told at any time, or never; how long
    /// after the decision it was says whether the machine has more to do than it can.
    pub fn handle_taken_up(&mut self, now: Timestamp, ticket: Ticket, at: Timestamp) {
        let decided_at = ticket.decided_at;
        self.spare.taken_up(now, decided_at, at.since(decided_at));
    }

    /// An attempt ended.
    pub fn handle_report(&mut self, now: Timestamp, ticket: Ticket, report: AttemptReport) {
        self.end_attempt(now, ticket);
        match self.engine(ticket.slice) {
            Some(engine) => {
                engine.handle_report(now, ticket, report);
                self.pump(now, ticket.slice);
            }
            None => self.observe(Observation::StaleInput),
        }
    }

    /// An attempt was not started, as its time had passed; no request was made.
    pub fn handle_not_started(&mut self, now: Timestamp, ticket: Ticket) {
        self.end_attempt(now, ticket);
        self.observe(Observation::NotStarted);
        if let Some(engine) = self.engine(ticket.slice) {
            engine.handle_not_started(now, ticket);
            self.pump(now, ticket.slice);
        }
    }

    fn end_attempt(&mut self, now: Timestamp, ticket: Ticket) {
        if ticket.replay {
            self.spare.replay_ended(now);
        }
        let less = |count: usize, by: usize| count.checked_sub(by).expect("one end per attempt");
        self.in_flight = less(self.in_flight, 1);
        self.unproven_in_flight = less(self.unproven_in_flight, usize::from(ticket.unproven));
        // With three quarters free, far more than the half that one alone leaves: seldom.
        if self.share_used && self.in_flight <= self.settings.in_flight_max / 4 {
            self.share_used = false;
            self.wake_slices();
        }
    }

    pub(super) fn wake_slices(&mut self) {
        for ownership in self.slices.values_mut() {
            if let Ownership::Active(engine) = ownership {
                engine.wake_all();
            }
        }
    }
}

fn first_attempt<'a>(
    mut slices: impl Iterator<Item = (&'a Slice, &'a mut Ownership)>,
    now: Timestamp,
    room: &mut Room,
) -> Option<StartAttempt> {
    slices.find_map(|(_, ownership)| match ownership {
        Ownership::Active(engine) => engine.poll_attempt(now, room),
        Ownership::Claiming(_) | Ownership::Draining(..) => None,
    })
}
