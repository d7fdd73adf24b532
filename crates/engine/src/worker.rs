//! Which slices this worker owns, and what they share.
//!
//! Decides the life of an ownership (loading, active, draining, gone), when a revocation is
//! answered, what may be committed, and how the slices share the worker's requests in flight.
//! The broker fences commits by member and never by partition, so the rule "only what is owned or
//! draining is committed" holds here and nowhere else (ADR 0002). Lease and fence records will
//! belong here. Leaves the deliveries to [`crate::slice`], the group protocol to the shell.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use postrider_domain::{AttemptReport, Endpoint, EndpointId, Lane, Slice, Timestamp};

use crate::commits::Commits;
use crate::io::{
    Defaults, Epoch, LaneRecord, Observation, Order, Reading, StartAttempt, Ticket, Write,
    WriteFailure, WriteId,
};
use crate::lane::Committed;
use crate::slice::SliceEngine;

/// Longest time a revoked slice is drained; past it, it is handed back as it is. Attempts end by
/// their own deadline of at most 60 s; the rest is for writes and the last commit.
pub const DRAIN_MAX: Duration = Duration::from_secs(75);

/// What a worker is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Requests in flight over all slices.
    pub in_flight_max: usize,
    /// What endpoints get that do not say.
    pub defaults: Defaults,
    /// Fixes every random choice.
    pub seed: u64,
}

/// How a commit was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitAnswer {
    /// Every entry is stored.
    Accepted,
    /// None counts; it is tried again.
    Refused,
    /// This worker is no member any more: all its slices are lost.
    NotAMember,
}

/// All slices of one worker. Inputs by `handle_*`; after each, [`Worker::poll_order`] is drained
/// and then [`Worker::poll_attempt`]; [`Worker::next_deadline`] says when
/// [`Worker::handle_timeout`] is wanted.
#[derive(Debug)]
pub struct Worker {
    settings: Settings,
    slices: BTreeMap<Slice, Ownership>,
    /// Counts the acquisitions.
    epoch: u64,
    in_flight: usize,
    /// The slice whose turn was last.
    last_turn: Slice,
    commits: Commits,
    /// A revocation is open, of these slices.
    revoked: Option<BTreeSet<Slice>>,
    leaving: bool,
    left: bool,
    orders: VecDeque<Order>,
}

#[derive(Debug)]
enum Ownership {
    /// Offsets are being fetched.
    Loading(Epoch),
    /// The engine exists; until its endpoints are loaded it reads nothing.
    Active(Box<SliceEngine>),
    /// Revoked: drained until that time.
    Draining(Box<SliceEngine>, Timestamp),
}

impl Worker {
    /// A worker that owns nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            slices: BTreeMap::new(),
            epoch: 0,
            in_flight: 0,
            last_turn: Slice(0),
            commits: Commits::default(),
            revoked: None,
            leaving: false,
            left: false,
            orders: VecDeque::new(),
        }
    }

    /// The group gave us slices.
    pub fn handle_assigned(&mut self, slices: impl IntoIterator<Item = Slice>) {
        for slice in slices {
            if self.leaving || self.slices.contains_key(&slice) {
                continue;
            }
            self.epoch += 1;
            let epoch = Epoch(self.epoch);
            self.slices.insert(slice, Ownership::Loading(epoch));
            self.orders.push_back(Order::FetchOffsets { slice, epoch });
        }
    }

    /// The group wants slices back. They are drained; further revocations that come meanwhile are
    /// merged, as one answer answers all that are open.
    pub fn handle_revoked(&mut self, now: Timestamp, slices: impl IntoIterator<Item = Slice>) {
        let slices: BTreeSet<Slice> = slices.into_iter().collect();
        for &slice in &slices {
            self.drain(now, slice);
        }
        self.revoked.get_or_insert_default().extend(slices);
        self.release_drained(now);
    }

    /// We are no member any more: every slice may have a new owner already. Nothing is committed.
    pub fn handle_lost(&mut self) {
        let slices: Vec<Slice> = self.slices.keys().copied().collect();
        for slice in slices {
            self.release(slice);
        }
        self.revoked = None;
        self.orders.push_back(Order::HandBack);
        self.leave_if_done();
    }

    /// The process shall end: everything is drained, then the group is left.
    pub fn handle_shutdown(&mut self, now: Timestamp) {
        self.leaving = true;
        let slices: Vec<Slice> = self.slices.keys().copied().collect();
        for slice in slices {
            self.drain(now, slice);
        }
        self.release_drained(now);
    }

    /// Committed offsets and metadata of a slice's lanes arrived.
    pub fn handle_offsets(
        &mut self,
        now: Timestamp,
        slice: Slice,
        epoch: Epoch,
        committed: &[Committed; Lane::COUNT],
    ) {
        match self.slices.get_mut(&slice) {
            Some(ownership @ Ownership::Loading(_)) if ownership.epoch() == epoch => {
                let Settings { seed, defaults, .. } = &self.settings;
                let engine = SliceEngine::new(slice, epoch, *seed, defaults.clone(), committed);
                *ownership = Ownership::Active(Box::new(engine));
                self.orders.push_back(Order::LoadEndpoints { slice, epoch });
                self.pump(now, slice);
            }
            _ => self
                .orders
                .push_back(Order::Observe(Observation::StaleInput)),
        }
    }

    /// An endpoint was created, changed or (`None`) deleted.
    pub fn handle_endpoint(
        &mut self,
        now: Timestamp,
        slice: Slice,
        id: EndpointId,
        endpoint: Option<Endpoint>,
    ) {
        if let Some(engine) = self.engine(slice) {
            engine.handle_endpoint(now, id, endpoint);
            self.pump(now, slice);
        }
    }

    /// All endpoints that were there when [`Order::LoadEndpoints`] was given are known.
    pub fn handle_endpoints_loaded(&mut self, now: Timestamp, slice: Slice, epoch: Epoch) {
        if let Some(engine) = self.engine(slice)
            && engine.epoch() == epoch
        {
            engine.open();
            self.pump(now, slice);
        }
    }

    /// A record was read.
    pub fn handle_record(&mut self, now: Timestamp, record: LaneRecord) {
        let Reading { slice, epoch, .. } = record.reading;
        match self.engine(slice) {
            Some(engine) if engine.epoch() == epoch => engine.handle_record(now, record),
            _ => return,
        }
        self.pump(now, slice);
    }

    /// A lane cannot be read: it stands still, with an alarm, until the slice is acquired anew.
    pub fn handle_lane_lost(&mut self, now: Timestamp, reading: Reading) {
        match self.engine(reading.slice) {
            Some(engine) if engine.epoch() == reading.epoch => engine.handle_lane_lost(reading),
            _ => return,
        }
        self.pump(now, reading.slice);
    }

    /// An attempt ended.
    pub fn handle_report(&mut self, now: Timestamp, ticket: Ticket, report: AttemptReport) {
        self.in_flight = self
            .in_flight
            .checked_sub(1)
            .expect("one report per attempt");
        match self.engine(ticket.slice) {
            Some(engine) => {
                engine.handle_report(now, ticket, report);
                self.pump(now, ticket.slice);
            }
            None => self
                .orders
                .push_back(Order::Observe(Observation::StaleInput)),
        }
    }

    /// A write was acknowledged.
    pub fn handle_write_acked(&mut self, now: Timestamp, id: WriteId) {
        match self.engine(id.ticket.slice) {
            Some(engine) => {
                engine.handle_write_acked(id);
                self.pump(now, id.ticket.slice);
            }
            None => self
                .orders
                .push_back(Order::Observe(Observation::StaleInput)),
        }
    }

    /// A write failed.
    pub fn handle_write_failed(
        &mut self,
        now: Timestamp,
        id: WriteId,
        write: Write,
        failure: WriteFailure,
    ) {
        if let Some(engine) = self.engine(id.ticket.slice) {
            engine.handle_write_failed(now, id, write, failure);
            self.pump(now, id.ticket.slice);
        }
    }

    /// The commit in flight was answered.
    pub fn handle_commit_finished(&mut self, now: Timestamp, answer: CommitAnswer) {
        self.commits.finish(now, answer == CommitAnswer::Accepted);
        if answer == CommitAnswer::NotAMember {
            self.handle_lost();
        }
        self.release_drained(now);
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let slices: Vec<Slice> = self.slices.keys().copied().collect();
        for slice in slices {
            if let Some(engine) = self.engine(slice)
                && engine.next_deadline().is_some_and(|at| at <= now)
            {
                engine.handle_timeout(now);
                self.pump(now, slice);
            }
        }
        self.release_drained(now);
        self.commit_if_due(now);
    }

    /// The next request to send, if there is room and any may start. Slices take turns.
    pub fn poll_attempt(&mut self) -> Option<StartAttempt> {
        if self.in_flight >= self.settings.in_flight_max {
            return None;
        }
        let last = self.last_turn;
        let after = self
            .slices
            .range_mut((std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded));
        let attempt =
            first_attempt(after).or_else(|| first_attempt(self.slices.range_mut(..=last)));
        if let Some(attempt) = &attempt {
            self.last_turn = attempt.ticket.slice;
            self.in_flight += 1;
        }
        attempt
    }

    /// The next thing to do.
    pub fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// When [`Self::handle_timeout`] is wanted.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let slices = self
            .slices
            .values()
            .filter_map(|ownership| match ownership {
                Ownership::Loading(_) => None,
                Ownership::Active(engine) => engine.next_deadline(),
                Ownership::Draining(engine, until) => {
                    Some(engine.next_deadline().map_or(*until, |at| at.min(*until)))
                }
            });
        slices.chain(self.commits.due_at()).min()
    }

    /// Slices owned, those that load or drain included.
    pub fn owned(&self) -> impl Iterator<Item = Slice> {
        self.slices.keys().copied()
    }

    /// Requests in flight.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn engine(&mut self, slice: Slice) -> Option<&mut SliceEngine> {
        match self.slices.get_mut(&slice)? {
            Ownership::Loading(_) => None,
            Ownership::Active(engine) | Ownership::Draining(engine, _) => Some(engine),
        }
    }

    /// Passes on what the engine of a slice asks for.
    fn pump(&mut self, now: Timestamp, slice: Slice) {
        let Some(Ownership::Active(engine) | Ownership::Draining(engine, _)) =
            self.slices.get_mut(&slice)
        else {
            return;
        };
        while let Some(order) = engine.poll_order() {
            self.orders.push_back(order);
        }
        let epoch = engine.epoch();
        for (lane, records) in engine.take_settled() {
            self.commits.settled(now, (slice, epoch, lane), records);
        }
        if matches!(self.slices.get(&slice), Some(Ownership::Draining(..))) {
            self.release_drained(now);
        }
        self.commit_if_due(now);
    }

    fn drain(&mut self, now: Timestamp, slice: Slice) {
        match self.slices.remove(&slice) {
            Some(Ownership::Active(mut engine)) => {
                engine.drain(now);
                self.slices
                    .insert(slice, Ownership::Draining(engine, now + DRAIN_MAX));
                self.pump(now, slice);
            }
            Some(Ownership::Loading(_)) => self.orders.push_back(Order::Released(slice)),
            Some(draining @ Ownership::Draining(..)) => {
                self.slices.insert(slice, draining);
            }
            None => {}
        }
    }

    /// Lets go of every slice that is drained and whose last commit was accepted, and answers the
    /// group when none is left of what it asked for.
    fn release_drained(&mut self, now: Timestamp) {
        let mut done = Vec::new();
        for (&slice, ownership) in &self.slices {
            let Ownership::Draining(engine, until) = ownership else {
                continue;
            };
            if *until <= now || (engine.is_drained() && !self.commits.is_open(slice)) {
                done.push(slice);
            } else if engine.is_drained() {
                self.commits.hurry();
            }
        }
        for slice in done {
            self.release(slice);
        }
        let open = |slice: &Slice| self.slices.contains_key(slice);
        if self
            .revoked
            .as_ref()
            .is_some_and(|revoked| !revoked.iter().any(open))
        {
            self.revoked = None;
            self.orders.push_back(Order::HandBack);
        }
        self.leave_if_done();
        self.commit_if_due(now);
    }

    fn release(&mut self, slice: Slice) {
        self.slices.remove(&slice);
        self.commits.forget(slice);
        self.orders.push_back(Order::Released(slice));
    }

    fn leave_if_done(&mut self) {
        if self.leaving && !self.left && self.slices.is_empty() && self.revoked.is_none() {
            self.left = true;
            self.orders.push_back(Order::Leave);
        }
    }

    fn commit_if_due(&mut self, now: Timestamp) {
        if self.commits.due_at().is_none_or(|at| at > now) {
            return;
        }
        let slices = &self.slices;
        let entries = self
            .commits
            .start(now, |(slice, epoch, lane)| match slices.get(&slice)? {
                Ownership::Active(engine) | Ownership::Draining(engine, _)
                    if engine.epoch() == epoch =>
                {
                    engine.commit_point(lane)
                }
                _ => None,
            });
        if !entries.is_empty() {
            self.orders.push_back(Order::Commit(entries));
        }
    }
}

impl Ownership {
    const fn epoch(&self) -> Epoch {
        match self {
            Self::Loading(epoch) => *epoch,
            Self::Active(engine) | Self::Draining(engine, _) => engine.epoch(),
        }
    }
}

fn first_attempt<'a>(
    slices: impl Iterator<Item = (&'a Slice, &'a mut Ownership)>,
) -> Option<StartAttempt> {
    let mut slices = slices;
    slices.find_map(|(_, ownership)| match ownership {
        Ownership::Active(engine) => engine.poll_attempt(),
        Ownership::Loading(_) | Ownership::Draining(..) => None,
    })
}
